//! The shipped files: they load without a remark, say what spec.md section 2 says, and every key of the list has a
//! value, a comment and a place in the schema.

use std::path::Path;

use channel_orchestrator::{
    domain::{channel::Channel, message::Priority, money::MicroEuros},
    policy::{
        document::keys::{self, Key, Presence, Shape},
        schema,
        settings::{QuietAction, StrategyRule},
    },
};
use serde_json::{Value, json};

use super::{assembled, shipped_file};

fn text(path: &str) -> String {
    String::from_utf8(shipped_file(path).bytes.clone()).unwrap()
}

#[test]
fn the_shipped_policy_loads_without_a_remark() {
    for own in [String::new(), text("tenants/tenant_123.toml")] {
        let assembled = assembled(&own);
        assert!(assembled.warnings.is_empty(), "{:?}", assembled.warnings);
    }
}

#[test]
fn the_shipped_values_are_the_briefs() {
    let assembled = assembled("");
    let p = assembled.bundle.policy();
    let rows = [
        (Channel::Sms, 50_000, 0.98, 10, Some(160), false, false),
        (Channel::Email, 600, 0.25, 60, None, true, false),
        (Channel::WhatsApp, 10_000, 0.90, 30, Some(4096), true, true),
        (Channel::Telegram, 0, 0.85, 5, Some(4096), true, true),
    ];
    for (channel, cost, open_rate, seconds, max_length, rich, opt_in) in rows {
        let terms = &p.channels[channel];
        assert_eq!(terms.cost, MicroEuros(cost), "{channel}");
        assert_eq!(terms.open_rate, open_rate, "{channel}");
        assert_eq!(terms.delivery_seconds.get(Priority::Normal), Some(&seconds), "{channel}");
        assert_eq!(terms.max_length, max_length, "{channel}");
        assert_eq!((terms.rich_media, terms.attachments, terms.interactive), (rich, rich, rich), "{channel}");
        assert_eq!((terms.tracking, terms.opt_in), (true, opt_in), "{channel}");
    }
    let email = &p.channels[Channel::Email].delivery_seconds;
    assert_eq!(
        [Priority::Urgent, Priority::High, Priority::Low].map(|p| email.get(p).copied()),
        [Some(300), Some(60), Some(120)]
    );
    let weights: Vec<(&str, f64)> = p.weights.iter().map(|(name, weight)| (name.as_str(), *weight)).collect();
    let expected = [
        ("availability", 0.0),
        ("content", 25.0),
        ("cost", 20.0),
        ("history", 20.0),
        ("length", 20.0),
        ("message_type", 20.0),
        ("preferences", 30.0),
        ("quiet_hours", 30.0),
        ("urgency", 25.0),
    ];
    assert_eq!(weights, expected);
    assert_eq!(p.quiet_hours.action, QuietAction::Hold);
    assert_eq!(p.retry[Channel::Sms].delays_seconds, [60, 300, 900]);
    assert_eq!(p.retry[Channel::Sms].fallback_after_retries, Some(Channel::Email));
    assert_eq!(p.fallback.max_fallbacks, 2);
    assert_eq!(p.budget.max_cost_per_message.get(Priority::Urgent), Some(&MicroEuros(300_000)));
    assert_eq!(p.budget.max_cost_per_message.get(Priority::Normal), Some(&MicroEuros(100_000)));
    assert_eq!(p.budget.targets.get(Priority::Low), Some(&MicroEuros(1_000)));
    assert!(!p.consent.marketing_required && !p.consent.opt_in_recorded);
}

#[test]
fn the_shipped_strategies_are_the_briefs_use_cases() {
    use Channel::{Email, Sms, WhatsApp};
    let assembled = assembled("");
    let shape = |rule: &StrategyRule| (rule.name.clone(), rule.channels.clone(), rule.prefer.clone());
    let found: Vec<_> = assembled.bundle.policy().strategies.iter().map(shape).collect();
    let row = |name: &str, channels: Option<Vec<Channel>>, prefer: Vec<Channel>| {
        (name.to_owned(), channels, prefer)
    };
    assert_eq!(
        found,
        [
            row("appointment_reminder_30_minutes", Some(vec![Sms]), vec![]),
            row("appointment_reminder_2_hours", Some(vec![Sms, WhatsApp]), vec![Sms, WhatsApp]),
            row("appointment_reminder_24_hours", Some(vec![Email, Sms]), vec![Email]),
            row("urgent_property_alert", None, vec![Sms]),
            row("property_alert", Some(vec![Email, Sms]), vec![Email]),
            row("newsletter", Some(vec![Email]), vec![]),
            row("post_appointment_survey", Some(vec![Sms, Email]), vec![Sms]),
            row("nps_survey", Some(vec![Email]), vec![]),
            row("contract", Some(vec![Email]), vec![]),
            row("brochure", Some(vec![Email]), vec![]),
        ]
    );
    let strategies = &assembled.bundle.policy().strategies;
    assert_eq!(strategies[0].priority, Some(Priority::Urgent));
    let escalate = strategies[2].escalate.as_ref().unwrap();
    assert_eq!((escalate.to, escalate.after_seconds, escalate.unless.as_str()), (Sms, 21_600, "opened"));
}

#[test]
fn the_example_tenant_overrides_a_few_things() {
    let assembled = assembled(&text("tenants/tenant_123.toml"));
    let p = assembled.bundle.policy();
    assert_eq!(p.split, [("control".to_owned(), 50.0), ("frugal".to_owned(), 50.0)]);
    assert_eq!(p.variants["frugal"]["cost"], 25.0);
    assert_eq!(p.strategies.len(), 11);
    assert_eq!(p.budget.monthly, Some(MicroEuros(250_000_000)));
}

/// The dotted keys that default.toml must have.
fn always(keys: &[Key], prefix: &str, found: &mut Vec<String>) {
    for key in keys.iter().filter(|key| key.presence == Presence::Always) {
        let path = format!("{prefix}{}", key.name);
        match &key.shape {
            Shape::Section(inner) => always(inner, &format!("{path}."), found),
            Shape::Named(keys::Names::Channels | keys::Names::Origins, inner) => {
                let channels = ["sms", "email", "whatsapp", "telegram"];
                let is_channels = matches!(&key.shape, Shape::Named(keys::Names::Channels, _));
                let names = if is_channels { channels } else { ["api", "public", "campaign", "broadcast"] };
                for name in names {
                    match inner {
                        Shape::Section(keys) => always(keys, &format!("{path}.{name}."), found),
                        _ => found.push(format!("{path}.{name}")),
                    }
                }
            }
            Shape::Named(..) => {}
            _ => found.push(path),
        }
    }
}

#[test]
fn default_toml_sets_every_key_with_a_comment() {
    let default = text("default.toml");
    assert!(default.starts_with("#:schema "), "editors find the schema by the first line");
    let tree: toml::Table = default.parse().unwrap();
    let mut expected = Vec::new();
    always(keys::POLICY, "", &mut expected);
    assert!(expected.len() > 90, "the list lost keys: {}", expected.len());
    for path in expected {
        let mut at = Some(&toml::Value::Table(tree.clone())).cloned();
        for part in path.split('.') {
            at = at.and_then(|value| value.get(part).cloned());
        }
        assert!(at.is_some(), "default.toml has no {path}");
    }
    // Each key is explained where it first stands: the line before it is a comment, or another key of the same kind.
    let mut explained = std::collections::BTreeSet::new();
    let mut comment = false;
    for line in default.lines() {
        let name = line.split_once(" = ").map(|(name, _)| name).filter(|name| !name.starts_with('#'));
        match name {
            Some(name) if comment => {
                explained.insert(name.to_owned());
            }
            Some(_) => {}
            None => comment = line.starts_with('#') || (comment && line.starts_with('[')),
        }
    }
    for key in keys::POLICY.iter().filter(|key| !matches!(key.shape, Shape::Section(_) | Shape::Named(..))) {
        let named = explained.contains(key.name) || default.contains(&format!("[{}]", key.name));
        assert!(named, "{} has no comment", key.name);
    }
}

/// What of `value` a schema refuses: the few words of JSON Schema that ours is made of.
fn refusals(schema: &Value, value: &Value, at: &str, found: &mut Vec<String>) {
    if let Some(any) = schema["anyOf"].as_array() {
        let fits = |one: &Value| {
            let mut refused = Vec::new();
            refusals(one, value, at, &mut refused);
            refused.is_empty()
        };
        if !any.iter().any(fits) {
            found.push(format!("{at}: {value} fits none of {any:?}"));
        }
        return;
    }
    let right = match schema["type"].as_str() {
        Some("object") => value.is_object(),
        Some("array") => value.is_array(),
        Some("string") => value.is_string(),
        Some("boolean") => value.is_boolean(),
        Some("integer") => value.is_i64(),
        Some("number") => value.is_number(),
        other => panic!("{at}: the schema has the type {other:?}"),
    };
    let listed = schema["enum"].as_array().is_none_or(|words| words.contains(value));
    let constant = schema.get("const").is_none_or(|only| only == value);
    let number = value.as_f64().unwrap_or(0.0);
    let low = schema["minimum"].as_f64().is_none_or(|least| number >= least);
    let high = schema["maximum"].as_f64().is_none_or(|most| number <= most);
    if !(right && listed && constant && low && high) {
        found.push(format!("{at}: {value} is not {schema}"));
    }
    for (name, inner) in value.as_object().into_iter().flatten() {
        let patterned = schema["patternProperties"].as_object().and_then(|map| map.values().next());
        match schema["properties"].get(name).or(patterned) {
            Some(schema) => refusals(schema, inner, &format!("{at}.{name}"), found),
            None => found.push(format!("{at}: {name} is not in the schema")),
        }
    }
    for inner in value.as_array().into_iter().flatten() {
        refusals(&schema["items"], inner, &format!("{at}[]"), found);
    }
}

fn refused(text: &str) -> Vec<String> {
    let value = serde_json::to_value(text.parse::<toml::Table>().unwrap()).unwrap();
    let mut found = Vec::new();
    refusals(&schema::json_schema(), &value, "", &mut found);
    found
}

#[test]
fn the_shipped_files_conform_to_the_schema_and_bad_ones_do_not() {
    assert_eq!(refused(&text("default.toml")), Vec::<String>::new());
    assert_eq!(refused(&text("tenants/tenant_123.toml")), Vec::<String>::new());
    for bad in [
        "timezon = \"Europe/Paris\"",
        "[weights]\ncost = \"20\"",
        "[weights]\ncost = 1001",
        "[quiet_hours]\naction = \"hodl\"",
        "[channels.smss]\ncost = 1",
        "[budget]\ndaily = \"unlimited\"",
        "[budget]\ntargets = { urgnt = 1 }",
        "[[strategies]]\nnam = \"x\"",
    ] {
        assert!(!refused(bad).is_empty(), "the schema takes {bad}");
    }
}

#[test]
fn the_schema_explains_every_key() {
    fn walk(schema: &Value, at: &str) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let explained = property["description"].as_str().is_some_and(|about| about.len() > 5);
            let a_name = [keys::CHANNELS, keys::ORIGINS, keys::PRIORITIES].concat().contains(&name.as_str());
            assert!(explained || a_name, "{at}.{name} has no description");
            walk(property, &format!("{at}.{name}"));
        }
    }
    let schema = schema::json_schema();
    assert_eq!(schema["$schema"], json!("http://json-schema.org/draft-07/schema#"));
    walk(&schema, "");
}

/// The file that `#:schema` points at is the schema, so that editors check without running anything.
/// `orchestrator schema > policies/schema/policy.schema.json` writes it anew.
#[test]
fn the_schema_file_beside_the_policies_is_the_schema() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/schema/policy.schema.json");
    let kept = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    assert_eq!(
        kept,
        format!("{:#}\n", schema::json_schema()),
        "run: orchestrator schema > {}",
        path.display()
    );
}
