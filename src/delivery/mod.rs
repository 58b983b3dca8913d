//! Claim, send, settle: what takes a message from the queue to its end.
//!
//! What follows what is `machine`'s and `gates`' affair, both pure; `worker` finds what is due, `attempt` makes
//! one attempt. Nothing here decides which channel is best, knows SQL, or holds a transaction open while a
//! provider is spoken to.

mod attempt;
mod dress;
pub mod gates;
pub mod machine;
#[cfg(test)]
mod tests;
pub mod worker;

pub use dress::Dressing;
