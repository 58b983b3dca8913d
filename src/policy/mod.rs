//! What the criteria say, and what each tenant makes of it: scripts, TOML and templates, compiled and checked
//! into bundles.
//!
//! Takes texts, gives bundles or every fault at once. It reads no folder (`bundles` does) and decides nothing
//! (`decide` does). The only place that knows Rhai and minijinja.

pub mod assemble;
pub mod bundle;
pub mod compile;
pub mod criterion;
pub mod diagnostic;
pub mod document;
pub mod engine;
pub mod environment;
pub mod failure;
pub mod fields;
pub mod schema;
pub mod scorecard;
pub mod script_check;
pub mod settings;
pub mod shipped;
pub mod strategy;
pub mod template;
pub mod verdict;
pub mod view;
