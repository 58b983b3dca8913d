//! Layers over each other: which value counts for a key, and whose it is.
//!
//! Takes no decision of its own beyond "the highest layer that says something"; strategies are the one list
//! that is joined.

use std::collections::BTreeSet;

use super::{
    layer::{Layer, LayerKind, Leaf},
    values::{StrategyEntry, Value},
};

/// The layers of one tenant, lowest first.
#[derive(Clone, Copy, Debug)]
pub struct Merged<'a> {
    layers: [&'a Layer; 4],
}

/// A strategy in force, and the layer that its text is from.
pub type Placed<'a> = (&'a StrategyEntry, &'a Layer);

impl<'a> Merged<'a> {
    pub fn new(built_in: &'a Layer, default: &'a Layer, environment: &'a Layer, tenant: &'a Layer) -> Self {
        Self { layers: [built_in, default, environment, tenant] }
    }

    /// The value in force for a dotted key, with its layer.
    pub fn leaf(&self, path: &str) -> Option<(&'a Leaf, &'a Layer)> {
        self.layers.iter().rev().find_map(|layer| layer.leaves.get(path).map(|leaf| (leaf, *layer)))
    }

    /// Every dotted key under `prefix.` that any layer sets.
    pub fn paths_under(&self, prefix: &str) -> BTreeSet<&'a str> {
        let dotted = format!("{prefix}.");
        let within = |layer: &&'a Layer| {
            let from = dotted.clone();
            let dotted = dotted.clone();
            let keys = layer.leaves.range(from..).map(|(path, _)| path.as_str());
            keys.take_while(move |path| path.starts_with(&dotted)).collect::<Vec<_>>()
        };
        self.layers.iter().flat_map(within).collect()
    }

    /// Every dotted key that any layer sets.
    pub fn paths(&self) -> BTreeSet<&'a str> {
        self.layers.iter().flat_map(|layer| layer.leaves.keys().map(String::as_str)).collect()
    }

    /// The strategies in force, in the order in which they are tried: the tenant's own, then those of
    /// default.toml (else of the built-in copy) that the tenant has not written anew under the same name.
    pub fn strategies(&self) -> Vec<Placed<'a>> {
        let of = |layer: &'a Layer| match layer.leaves.get("strategies").map(|leaf| &leaf.value) {
            Some(Value::Strategies(entries)) => entries.as_slice(),
            _ => &[],
        };
        let [built_in, default, _, tenant] = self.layers;
        let mut found: Vec<Placed<'a>> = of(tenant).iter().map(|entry| (entry, tenant)).collect();
        let inherit =
            self.leaf("inherit_strategies").is_none_or(|(leaf, _)| leaf.value != Value::Bool(false));
        if inherit {
            let base = if default.leaves.contains_key("strategies") { default } else { built_in };
            for entry in of(base) {
                if !found.iter().any(|(own, _)| own.rule.name == entry.rule.name) {
                    found.push((entry, base));
                }
            }
        }
        found.retain(|(entry, _)| entry.enabled);
        found
    }

    /// The tenant's layer.
    pub fn tenant(&self) -> &'a Layer {
        self.layers[LayerKind::Tenant as usize]
    }

    /// Every fault of reading, of every layer but the built-in one (which a test reads).
    pub fn faults(&self) -> impl Iterator<Item = &'a super::super::diagnostic::Diagnostic> {
        self.layers[1..].iter().flat_map(|layer| layer.faults.iter())
    }
}
