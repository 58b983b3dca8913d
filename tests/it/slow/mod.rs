//! The slow tier: the built daemon as its operator meets it, killed and started again.

mod bench;
mod bits;
mod disk;
mod kill;
mod matrix;
mod points;
mod power;
mod replicas;
mod room;
mod server;
mod soak;
mod stops;
mod upgrade;
