//! The JSON Schema of policy files, for editors that complete and check TOML (taplo, Even Better TOML).
//!
//! Made from the one list of keys (`document::keys`), draft 7 because editors lag behind. It cannot say all that
//! `check` says: which scripts there are, and what must add up, is known only with the whole folder.

use serde_json::{Map, Value, json};

use super::document::keys::{self, Key, Names, Presence, Shape, TextKind};

/// The schema of default.toml and of every tenant's file.
pub fn json_schema() -> Value {
    let mut schema = section(keys::POLICY);
    let about = "Every key of default.toml. A tenant's file holds only those that differ.";
    if let Value::Object(map) = &mut schema {
        map.insert("$schema".into(), json!("http://json-schema.org/draft-07/schema#"));
        map.insert("title".into(), json!("Channel Orchestrator policy"));
        map.insert("description".into(), json!(about));
    }
    schema
}

fn section(keys: &[Key]) -> Value {
    let properties: Map<String, Value> =
        keys.iter().map(|key| (key.name.to_owned(), property(key))).collect();
    let required: Vec<&str> =
        keys.iter().filter(|key| key.presence == Presence::Required).map(|key| key.name).collect();
    let mut schema = json!({ "type": "object", "properties": properties, "additionalProperties": false });
    if !required.is_empty() {
        schema["required"] = json!(required);
    }
    schema
}

fn property(key: &Key) -> Value {
    let mut schema = shape(&key.shape);
    schema["description"] = json!(key.about);
    schema
}

fn shape(of: &Shape) -> Value {
    match of {
        Shape::Bool => json!({ "type": "boolean" }),
        Shape::Whole { min, max, none } => {
            or_none(json!({ "type": "integer", "minimum": min, "maximum": max }), *none)
        }
        Shape::Number { min, max } => json!({ "type": "number", "minimum": min, "maximum": max }),
        Shape::Money { none } => or_none(json!({ "type": "number", "minimum": 0, "maximum": 1e9 }), *none),
        Shape::Word(words) => json!({ "type": "string", "enum": words }),
        Shape::Text { kind, none } => or_none(text(*kind), *none),
        Shape::Channels { empty } => json!({
            "type": "array",
            "items": { "type": "string", "enum": keys::CHANNELS },
            "uniqueItems": true,
            "minItems": if *empty { 0 } else { 1 },
        }),
        Shape::Drivers => {
            json!({ "type": "array", "maxItems": 8, "items": { "type": "string", "pattern": NAME } })
        }
        Shape::Hosts => {
            json!({ "type": "array", "maxItems": 100, "items": { "type": "string", "pattern": HOST } })
        }
        Shape::Delays => json!({
            "type": "array",
            "maxItems": 10,
            "items": { "type": "integer", "minimum": 0, "maximum": 86_400 },
        }),
        Shape::ByPriority(inner) => json!({ "anyOf": [shape(inner), names(keys::PRIORITIES, inner)] }),
        Shape::Section(keys) => section(keys),
        Shape::Named(Names::Channels, inner) => names(keys::CHANNELS, inner),
        Shape::Named(Names::Origins, inner) => names(keys::ORIGINS, inner),
        Shape::Named(Names::Criteria, inner) => pattern("^[a-z][a-z0-9_]{0,62}$", shape(inner)),
        Shape::Named(Names::Variants, inner) => pattern(NAME, shape(inner)),
        Shape::Split => pattern(NAME, json!({ "type": "number", "minimum": 0, "maximum": 100 })),
        Shape::Strategies => json!({ "type": "array", "maxItems": 100, "items": section(keys::STRATEGY) }),
    }
}

const NAME: &str = "^[a-z][a-z0-9_-]{0,62}$";
const HOST: &str = "^[A-Za-z0-9-]+(\\.[A-Za-z0-9-]+)*$";

fn or_none(schema: Value, none: bool) -> Value {
    if none { json!({ "anyOf": [schema, { "type": "string", "const": "none" }] }) } else { schema }
}

/// A table whose keys are among some names.
fn names(names: &[&str], inner: &Shape) -> Value {
    let properties: Map<String, Value> = names.iter().map(|n| ((*n).to_owned(), shape(inner))).collect();
    json!({ "type": "object", "properties": properties, "additionalProperties": false })
}

/// A table whose keys are the author's own.
fn pattern(name: &str, inner: Value) -> Value {
    json!({ "type": "object", "patternProperties": { name: inner }, "additionalProperties": false })
}

fn text(kind: TextKind) -> Value {
    let pattern = match kind {
        TextKind::Plain | TextKind::TimeZone => {
            return json!({ "type": "string", "minLength": 1, "maxLength": 254 });
        }
        TextKind::Condition => return json!({ "type": "string", "minLength": 1, "maxLength": 4096 }),
        TextKind::TimeOfDay => "^([01][0-9]|2[0-3]):[0-5][0-9]$",
        TextKind::Region => "^[A-Z]{2}$",
        TextKind::Locale => "^[a-z]{2,3}(-[A-Z]{2})?$",
        TextKind::Mailbox => "^[^@ ]+@[^@ ]+\\.[^@ ]+$",
        TextKind::Variant => NAME,
        TextKind::Duration => "^[0-9]+[mhd]$",
        TextKind::Event => "^[a-z][a-z0-9_]{0,62}$",
    };
    json!({ "type": "string", "pattern": pattern })
}
