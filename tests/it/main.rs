//! The one integration-test binary: what each suite covers is said at its head.
mod delivery;
mod drivers;
mod points;

mod store;
