//! The part of the environment that lies between default.toml and the tenants' files.
//!
//! Each variable is one key of a policy, read by that key's own rules. Variables of the daemon itself
//! (sockets, database) are `config`'s affair and are passed over.

use std::sync::Arc;

use toml::{Spanned, de::DeValue};

use super::{
    assemble::PolicyEnvironment,
    diagnostic::Diagnostic,
    document::{
        keys::{self, Key, Shape},
        layer::{Layer, LayerKind, Leaf, Leaves, join},
        source::SourceText,
        values,
    },
};

/// Each variable with the dotted key that it sets.
pub const VARIABLES: &[(&str, &str)] = &[
    ("ORCHESTRATOR_DEFAULT_PRIORITY", "default_priority"),
    ("ORCHESTRATOR_QUIET_HOURS_START", "quiet_hours.start"),
    ("ORCHESTRATOR_QUIET_HOURS_END", "quiet_hours.end"),
    ("ORCHESTRATOR_ENABLE_FALLBACK", "fallback.enabled"),
    ("ORCHESTRATOR_MAX_FALLBACK_ATTEMPTS", "fallback.max_fallbacks"),
    ("ORCHESTRATOR_MAX_COST_PER_MESSAGE", "budget.max_cost_per_message"),
    ("ORCHESTRATOR_BUDGET_ALERT_THRESHOLD", "budget.alert_threshold"),
    ("ORCHESTRATOR_ENABLE_ANALYTICS", "learning.analytics"),
    ("ORCHESTRATOR_TRACK_ENGAGEMENT", "learning.track_engagement"),
];

impl PolicyEnvironment {
    /// The variables that policies know, out of all there are; empty ones count as unset.
    pub fn from_variables(all: impl IntoIterator<Item = (String, String)>) -> Self {
        let known = |name: &str| VARIABLES.iter().any(|(variable, _)| *variable == name);
        let mut found: Vec<_> =
            all.into_iter().filter(|(name, value)| known(name) && !value.trim().is_empty()).collect();
        found.sort();
        Self(found)
    }
}

/// The environment as a layer; its "file" is called `environment` and has a line for each variable.
pub(super) fn layer(environment: &PolicyEnvironment) -> Layer {
    let mut text = String::new();
    let mut leaves = Leaves::new();
    let mut faults: Vec<Diagnostic> = Vec::new();
    for (variable, value) in &environment.0 {
        let start = text.len();
        let shown: String = value.trim().chars().take(200).filter(|c| !c.is_control()).collect();
        text.push_str(&format!("{variable}={shown}\n"));
        let span = start + variable.len() + 1..text.len() - 1;
        let Some((_, path)) = VARIABLES.iter().find(|(known, _)| known == variable) else { continue };
        let Some(shape) = shape_of(keys::POLICY, path) else { continue };
        let read = toml_value(shape, &shown);
        match values::read(shape, &read) {
            Ok(value) => {
                let leaf = Leaf { value, span, key: start..start + variable.len() };
                let by_priority = matches!(shape, Shape::ByPriority(_));
                let paths = values::priorities().map(|priority| join(path, priority));
                let paths = if by_priority { paths.collect() } else { vec![(*path).to_owned()] };
                leaves.extend(paths.into_iter().map(|path| (path, leaf.clone())));
            }
            Err(misfit) => {
                let found = values::describe(&read);
                let message = format!("{variable}: expected {}, found {found}", misfit.expected);
                let fault = Diagnostic::error(misfit.code, "environment", message);
                faults.push(fault.hint(misfit.hint.map_or_else(
                    || format!("mend the environment variable {variable}, or unset it"),
                    |hint| format!("{hint}, in the environment variable {variable}"),
                )));
            }
        }
    }
    let source = Arc::new(SourceText { file: "environment".to_owned(), text });
    Layer { kind: LayerKind::Environment, source, leaves, faults }
}

/// A variable's text as the TOML value that it stands for: texts need no quotes there.
fn toml_value<'a>(shape: &Shape, text: &'a str) -> DeValue<'a> {
    match shape {
        Shape::Text { .. } | Shape::Word(_) => DeValue::String(text.into()),
        _ => DeValue::parse(text).map_or_else(|_| DeValue::String(text.into()), Spanned::into_inner),
    }
}

fn shape_of(keys: &'static [Key], path: &str) -> Option<&'static Shape> {
    let (name, rest) = path.split_once('.').map_or((path, None), |(name, rest)| (name, Some(rest)));
    let key = keys.iter().find(|key| key.name == name)?;
    match (rest, &key.shape) {
        (None, shape) => Some(shape),
        (Some(rest), Shape::Section(inner)) => shape_of(inner, rest),
        _ => None,
    }
}
