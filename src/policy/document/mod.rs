//! TOML policies as checked values: default.toml, the environment and a tenant's file, merged key by key.
//!
//! Parses and merges texts and tells every fault at once, with its place and its mend. It compiles no script
//! and reads no folder. A missing key keeps the value of the layer below (built in < default.toml <
//! environment < tenant's file); lists replace; a tenant's strategies come before default.toml's.

use std::sync::{Arc, OnceLock};

pub mod checks;
pub mod keys;
pub mod layer;
pub mod merge;
pub mod origin;
pub mod place;
pub mod policy;
pub mod remarks;
pub mod source;
mod strategies;
pub mod values;

use super::shipped;
use layer::{Layer, LayerKind};

/// default.toml as it was when the program was built, read once: what a key falls back to that the folder's
/// file lacks.
pub fn built_in() -> &'static Arc<Layer> {
    static LAYER: OnceLock<Arc<Layer>> = OnceLock::new();
    LAYER.get_or_init(|| Arc::new(Layer::read(LayerKind::BuiltIn, &shipped::default())))
}
