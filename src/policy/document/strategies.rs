//! `[[strategies]]` and `[split]` of one file, read with their places.
//!
//! Conditions are not compiled here: that takes the engine, and is done once the layers are merged.

use toml::de::{DeArray, DeTable, DeValue};

use super::{
    keys,
    layer::{Leaves, Reader},
    source::SourceText,
    values::{self, Misfit, Share, StrategyEntry, Value},
};
use crate::{
    domain::{channel::Channel, message::Priority},
    policy::{
        diagnostic::Diagnostic,
        settings::{Escalation, StrategyRule},
    },
};

/// The most strategies in one file.
const STRATEGIES_MAX: usize = 100;

/// Every entry that could be read.
pub(super) fn read_entries(reader: &mut Reader<'_>, entries: &DeArray<'_>) -> Vec<StrategyEntry> {
    let mut found: Vec<StrategyEntry> = Vec::new();
    for (at, entry) in entries.iter().enumerate() {
        let span = entry.span();
        if at == STRATEGIES_MAX {
            reader.fault(|source| {
                let message = format!("a file has at most {STRATEGIES_MAX} strategies");
                source.fault("too-many", span, message)
            });
            break;
        }
        let DeValue::Table(table) = entry.get_ref() else {
            reader.misfit("strategies", entry, Misfit::new("wrong-type", "a section [[strategies]]"));
            continue;
        };
        let mut leaves = Leaves::new();
        reader.walk(keys::STRATEGY, table, "strategies", &mut leaves);
        if !reader.require(keys::STRATEGY, table, "this strategy", span) {
            continue;
        }
        if let Some(entry) = entry_of(reader, &leaves) {
            if found.iter().any(|other| other.rule.name == entry.rule.name) {
                let (name, at) = (entry.rule.name.clone(), entry.name_at.clone());
                reader.fault(|source| {
                    source
                        .fault("duplicate-strategy", at, format!("two strategies are called {name:?}"))
                        .hint("give each a name of its own: it shows in explanations")
                });
            }
            found.push(entry);
        }
    }
    found
}

fn text<'a>(leaves: &'a Leaves, key: &str) -> Option<&'a str> {
    match leaves.get(&format!("strategies.{key}")).map(|leaf| &leaf.value) {
        Some(Value::Text(text)) => Some(text),
        _ => None,
    }
}

fn channels(leaves: &Leaves, key: &str) -> Option<Vec<Channel>> {
    match leaves.get(&format!("strategies.{key}")).map(|leaf| &leaf.value) {
        Some(Value::Texts(names)) => Some(names.iter().filter_map(|n| Channel::parse(n)).collect()),
        _ => None,
    }
}

/// The entry, unless a part that it cannot do without was refused.
fn entry_of(reader: &mut Reader<'_>, leaves: &Leaves) -> Option<StrategyEntry> {
    let allowed = channels(leaves, "channels");
    let prefer = channels(leaves, "prefer").unwrap_or_default();
    if let (Some(allowed), Some(leaf)) = (&allowed, leaves.get("strategies.prefer")) {
        for channel in prefer.iter().filter(|c| !allowed.contains(c)) {
            reader.fault(|source| outside(source, leaf.span.clone(), "prefer", *channel));
        }
    }
    let escalate = escalation(leaves);
    if let (Some(allowed), Some(escalate)) = (&allowed, &escalate)
        && !allowed.contains(&escalate.to)
        && let Some(leaf) = leaves.get("strategies.escalate.to")
    {
        reader.fault(|source| outside(source, leaf.span.clone(), "escalate", escalate.to));
    }
    let enabled = leaves.get("strategies.enabled").is_none_or(|leaf| leaf.value != Value::Bool(false));
    Some(StrategyEntry {
        rule: StrategyRule {
            name: text(leaves, "name")?.to_owned(),
            when: text(leaves, "when")?.to_owned(),
            channels: allowed,
            prefer,
            priority: text(leaves, "priority").and_then(Priority::parse),
            escalate,
        },
        enabled,
        name_at: leaves.get("strategies.name")?.span.clone(),
        when_at: leaves.get("strategies.when")?.span.clone(),
    })
}

fn outside(source: &SourceText, at: std::ops::Range<usize>, key: &str, channel: Channel) -> Diagnostic {
    source
        .fault("outside-channels", at, format!("{key}: \"{channel}\" is not among the strategy's channels"))
        .hint(format!("add \"{channel}\" to channels, or leave it out of {key}"))
}

fn escalation(leaves: &Leaves) -> Option<Escalation> {
    Some(Escalation {
        to: Channel::parse(text(leaves, "escalate.to")?)?,
        after_seconds: values::duration_seconds(text(leaves, "escalate.after")?)?,
        unless: text(leaves, "escalate.unless")?.to_owned(),
    })
}

/// The shares of `[split]`, in the order of the names. Which variants there are is not known yet.
pub(super) fn read_split(reader: &mut Reader<'_>, table: &DeTable<'_>) -> Vec<Share> {
    let percent = keys::Shape::Number { min: 0.0, max: 100.0 };
    let mut shares = Vec::new();
    for (name, value) in table.iter() {
        match values::read(&percent, value.get_ref()) {
            Ok(Value::Number(percent)) => {
                shares.push(Share { name: name.get_ref().to_string(), percent, at: name.span() });
            }
            Ok(_) => {}
            Err(misfit) => reader.misfit(&format!("split.{}", name.get_ref()), value, misfit),
        }
    }
    shares
}
