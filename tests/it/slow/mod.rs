//! The slow tier: the built daemon as its operator meets it, killed and started again; and whatever takes thousands of
//! messages, callbacks or connections.

pub mod bench;
mod bits;
mod disk;
mod flood;
mod herd;
mod kernel;
mod kill;
mod log;
mod matrix;
mod points;
mod power;
mod replay;
mod replicas;
mod room;
mod server;
mod slowloris;
mod soak;
mod stops;
mod upgrade;
