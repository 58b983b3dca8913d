//! The one integration-test binary: what each suite covers is said at its head.
mod api;
mod cli;
mod compiled;
mod decisions;
mod delivery;
mod documents;
mod drivers;
mod escalation;
mod faults;
mod flips;
mod points;
mod public;
mod sandbox;
mod service_window;
mod static_check;

mod policy_tests;
mod reload;
mod slow;
mod store;
mod support;
mod templates;
