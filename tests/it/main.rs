//! The one integration-test binary: what each suite covers is said at its head.
mod cli;
mod decisions;
mod documents;
mod drivers;
mod points;
mod slow;
mod store;
mod support;
