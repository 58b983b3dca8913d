//! The one integration-test binary: what each suite covers is said at its head.
mod points;
