//! Claim, send, settle: what takes a message from the queue to its end.
//!
//! What follows what is `machine`'s and `gates`' affair, both pure; `worker` finds what is due, `attempt` makes
//! one attempt, `settling` looks for one whose outcome is unknown, `breaker` knows which providers are down,
//! `receipts` takes what comes back, `returns` mail that does. Nothing here decides which channel is best, knows SQL, or holds a transaction
//! open while a provider is spoken to.

mod allowance;
mod attempt;
pub mod breaker;
pub mod gates;
mod lanes;
pub mod machine;
mod outbound;
pub mod receipts;
pub mod returns;
mod settling;
pub mod terms;
#[cfg(test)]
mod tests;
mod window;
pub mod worker;
mod writing;
