//! The slow tier: the built daemon as its operator meets it, killed and started again.

mod kill;
