//! Where a value came from: for `policies` and explain, so that nobody has to guess which file to edit.

use std::{collections::BTreeMap, sync::Arc};

use serde::Serialize;

use super::{
    layer::{Layer, LayerKind},
    merge::Merged,
};

/// The place of the value in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "layer", rename_all = "camelCase")]
pub enum Origin {
    /// The program's own copy of default.toml: the folder's file lacks the key.
    BuiltIn,
    /// default.toml, line from 1.
    Default { file: String, line: usize },
    /// An environment variable, by name.
    Environment { variable: String },
    /// The tenant's file, line from 1.
    Tenant { file: String, line: usize },
}

impl std::fmt::Display for Origin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Origin::BuiltIn => f.write_str("built in"),
            Origin::Default { file, line } | Origin::Tenant { file, line } => write!(f, "{file}:{line}"),
            Origin::Environment { variable } => f.write_str(variable),
        }
    }
}

/// The origins of one policy's values by dotted key. What tenants inherit is shared between them.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    base: Arc<BTreeMap<String, Origin>>,
    /// In the order of the keys. A tenant has few: a map's first node alone would take more than all of them.
    own: Box<[(String, Origin)]>,
}

impl Origins {
    /// What every tenant inherits.
    pub fn base(built_in: &Layer, default: &Layer, environment: &Layer) -> Arc<BTreeMap<String, Origin>> {
        let mut found = BTreeMap::new();
        for layer in [built_in, default, environment] {
            found.extend(of_layer(layer));
        }
        Arc::new(found)
    }

    pub fn new(base: Arc<BTreeMap<String, Origin>>, merged: &Merged<'_>) -> Self {
        Self { base, own: of_layer(merged.tenant()).collect() }
    }

    /// Where the value of a dotted key (`quiet_hours.start`, `channels.sms.cost`) came from. For a key with
    /// values by priority, and for a section, the answer is there if all its values have one origin.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        let exact = |key: &str| self.own(key).or_else(|| self.base.get(key));
        if let Some(found) = exact(key) {
            return Some(found);
        }
        let dotted = format!("{key}.");
        let inherited = self.base.range(dotted.clone()..).map(|(path, _)| path);
        let inherited = inherited.take_while(|path| path.starts_with(&dotted));
        let own = self.own.iter().map(|(path, _)| path).filter(|path| path.starts_with(&dotted));
        let paths: Vec<&String> = inherited.chain(own).collect();
        let mut origins = paths.iter().filter_map(|path| exact(path));
        let first = origins.next()?;
        origins.all(|origin| origin == first).then_some(first)
    }

    /// Every dotted key with its origin.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &Origin)> {
        let inherited = self.base.iter().filter(|(key, _)| self.own(key).is_none());
        let own = self.own.iter().map(|(key, origin)| (key, origin));
        inherited.chain(own).map(|(key, origin)| (key.as_str(), origin))
    }

    fn own(&self, key: &str) -> Option<&Origin> {
        let at = self.own.binary_search_by(|(own, _)| own.as_str().cmp(key)).ok()?;
        Some(&self.own[at].1)
    }
}

fn of_layer(layer: &Layer) -> impl Iterator<Item = (String, Origin)> {
    layer.leaves.iter().map(|(path, leaf)| {
        let file = layer.source.file.clone();
        let origin = match layer.kind {
            LayerKind::BuiltIn => Origin::BuiltIn,
            LayerKind::Default => Origin::Default { file, line: layer.source.line(leaf.key.start) },
            LayerKind::Environment => Origin::Environment { variable: layer.variable_of(leaf) },
            LayerKind::Tenant => Origin::Tenant { file, line: layer.source.line(leaf.key.start) },
        };
        (path.clone(), origin)
    })
}
