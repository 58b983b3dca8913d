//! One value behind one key: read as its shape says, or refused with what was expected.
//!
//! Knows no key and no place; who calls knows both. Text from the environment is read by the same rules.

use toml::de::DeValue;

use super::keys::{Shape, TextKind};
use crate::{
    domain::{address::Region, channel::Channel, message::Priority, money::MicroEuros, time},
    policy::{diagnostic::nearest, settings::StrategyRule},
};

/// A value that fits its key. Words, zones and times stay texts: they have been checked and are read again
/// where the policy is built.
#[derive(Clone, Debug, PartialEq)]
pub enum Value {
    /// `"none"`.
    Nothing,
    Bool(bool),
    Whole(i64),
    Number(f64),
    Text(String),
    Texts(Vec<String>),
    Wholes(Vec<i64>),
    /// Shares by variant, in the order of the names.
    Split(Vec<Share>),
    Strategies(Vec<StrategyEntry>),
}

/// One variant's share of the recipients, with the bytes of its name in its file.
#[derive(Clone, Debug, PartialEq)]
pub struct Share {
    pub name: String,
    pub percent: f64,
    pub at: std::ops::Range<usize>,
}

/// One `[[strategies]]` entry with the places that later faults point at (bytes of its file).
#[derive(Clone, Debug, PartialEq)]
pub struct StrategyEntry {
    pub rule: StrategyRule,
    pub enabled: bool,
    pub name_at: std::ops::Range<usize>,
    pub when_at: std::ops::Range<usize>,
}

/// Why a value does not fit.
#[derive(Debug)]
pub struct Misfit {
    pub code: &'static str,
    pub expected: String,
    pub hint: Option<String>,
}

impl Misfit {
    pub fn new(code: &'static str, expected: impl Into<String>) -> Self {
        Self { code, expected: expected.into(), hint: None }
    }

    fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }
}

/// Reads a value that is no table of its own.
pub fn read(shape: &Shape, value: &DeValue<'_>) -> Result<Value, Misfit> {
    match shape {
        Shape::Bool => read_bool(value),
        Shape::Whole { min, max, none } => read_whole(value, *min, *max, *none),
        Shape::Number { min, max } => read_number(value, *min, *max),
        Shape::Money { none } => read_money(value, *none),
        Shape::Word(words) => read_word(value, words),
        Shape::Text { kind, none } => match value.as_str() {
            Some("none") if *none => Ok(Value::Nothing),
            Some(text) => read_text(*kind, text).map(|()| Value::Text(text.to_owned())),
            None => Err(not_a_text(*kind, value)),
        },
        Shape::Channels { empty } => read_channels(value, *empty),
        Shape::Drivers => read_drivers(value),
        Shape::Hosts => read_hosts(value),
        Shape::Delays => read_delays(value),
        Shape::ByPriority(inner) => read(inner, value),
        Shape::Section(_) | Shape::Named(..) | Shape::Split => {
            Err(Misfit::new("wrong-type", "a section with keys of its own"))
        }
        Shape::Strategies => Err(Misfit::new("wrong-type", "sections written [[strategies]]")),
    }
}

/// What a value is, for a message: `the text "x"`, `the number 5`.
pub fn describe(value: &DeValue<'_>) -> String {
    match value {
        DeValue::String(text) => format!("the text {:?}", short(text)),
        DeValue::Integer(number) => format!("the number {}", short(number.as_str())),
        DeValue::Float(number) => format!("the number {}", short(number.as_str())),
        DeValue::Boolean(yes) => yes.to_string(),
        DeValue::Datetime(at) => format!("the time {at} without quotes"),
        DeValue::Array(items) if items.is_empty() => "an empty list".to_owned(),
        DeValue::Array(items) if items.len() <= 6 => {
            let items: Vec<String> = items.iter().map(|item| bare(item.get_ref())).collect();
            format!("[{}]", items.join(", "))
        }
        DeValue::Array(items) => format!("a list of {}", items.len()),
        DeValue::Table(_) => "a section".to_owned(),
    }
}

/// At most 60 characters of a text.
fn short(text: &str) -> String {
    let more = if text.chars().nth(60).is_some() { "…" } else { "" };
    text.chars().take(60).collect::<String>() + more
}

/// An item of a list, as short as it can be told.
fn bare(item: &DeValue<'_>) -> String {
    match item {
        DeValue::String(text) if text.chars().count() <= 30 => format!("{text:?}"),
        DeValue::Integer(number) if number.as_str().len() <= 20 => number.to_string(),
        DeValue::Boolean(yes) => yes.to_string(),
        _ => "…".to_owned(),
    }
}

fn read_bool(value: &DeValue<'_>) -> Result<Value, Misfit> {
    let misfit = Misfit::new("wrong-type", "true or false");
    match value {
        DeValue::Boolean(yes) => Ok(Value::Bool(*yes)),
        DeValue::String(text) => Err(match text.to_lowercase().as_str() {
            "true" | "yes" | "oui" | "on" | "1" => misfit.hint("write true, without quotes"),
            "false" | "no" | "non" | "off" | "0" => misfit.hint("write false, without quotes"),
            _ => misfit,
        }),
        _ => Err(misfit),
    }
}

fn whole(value: &DeValue<'_>) -> Option<i64> {
    let number = value.as_integer()?;
    i64::from_str_radix(number.as_str(), number.radix()).ok()
}

fn number(value: &DeValue<'_>) -> Option<f64> {
    match value {
        DeValue::Integer(_) => whole(value).map(|n| n as f64),
        DeValue::Float(number) => number.as_str().parse().ok(),
        _ => None,
    }
}

fn or_none(none: bool) -> &'static str {
    if none { ", or \"none\"" } else { "" }
}

/// A fault of type where a number was wanted; says so if quotes or a comma are all that is wrong.
fn not_a_number(value: &DeValue<'_>, expected: String) -> Misfit {
    let misfit = Misfit::new("wrong-type", expected);
    let Some(text) = value.as_str() else { return misfit };
    let pointed = text.trim().replace(',', ".");
    if matches!(
        text,
        "unlimited" | "infinite" | "" | "no" | "null" | "aucun" | "aucune" | "sans" | "illimité"
    ) && misfit.expected.contains("none")
    {
        return misfit.hint("no limit is written \"none\"");
    }
    match pointed.parse::<f64>() {
        Ok(_) => misfit.hint(format!("write {pointed}, without quotes")),
        Err(_) => misfit,
    }
}

fn read_whole(value: &DeValue<'_>, min: i64, max: i64, none: bool) -> Result<Value, Misfit> {
    if none && value.as_str() == Some("none") {
        return Ok(Value::Nothing);
    }
    let expected = format!("a whole number from {min} to {max}{}", or_none(none));
    match whole(value) {
        Some(n) if (min..=max).contains(&n) => Ok(Value::Whole(n)),
        Some(_) => Err(Misfit::new("out-of-range", expected)),
        None if value.is_integer() => Err(Misfit::new("out-of-range", expected)),
        None => Err(not_a_number(value, expected)),
    }
}

fn read_number(value: &DeValue<'_>, min: f64, max: f64) -> Result<Value, Misfit> {
    let expected = format!("a number from {min} to {max}");
    match number(value) {
        Some(n) if n.is_finite() && (min..=max).contains(&n) => Ok(Value::Number(n)),
        Some(n) => {
            let misfit = Misfit::new("out-of-range", expected);
            let percent = max == 1.0 && n > 1.0 && n <= 100.0;
            Err(if percent { misfit.hint(format!("{n} % is written {}", n / 100.0)) } else { misfit })
        }
        None => Err(not_a_number(value, expected)),
    }
}

fn read_money(value: &DeValue<'_>, none: bool) -> Result<Value, Misfit> {
    if none && value.as_str() == Some("none") {
        return Ok(Value::Nothing);
    }
    let expected = format!("an amount in euros, 0 or more, such as 0.05{}", or_none(none));
    match number(value) {
        Some(n) if MicroEuros::from_euros(n).is_some() => Ok(Value::Number(n)),
        Some(_) => Err(Misfit::new("out-of-range", expected)),
        None => {
            let euro = value.as_str().is_some_and(|t| t.contains('€') || t.to_lowercase().contains("eur"));
            let misfit = not_a_number(value, expected);
            Err(if euro {
                misfit.hint("write the number alone: no quotes, no currency, a point")
            } else {
                misfit
            })
        }
    }
}

fn quoted(words: &[&str]) -> String {
    words.iter().map(|w| format!("{w:?}")).collect::<Vec<_>>().join(", ")
}

fn read_word(value: &DeValue<'_>, words: &[&str]) -> Result<Value, Misfit> {
    let expected = format!("one of {}", quoted(words));
    match value.as_str() {
        Some(text) if words.contains(&text) => Ok(Value::Text(text.to_owned())),
        Some(text) => {
            let misfit = Misfit::new("unknown-value", expected);
            Err(match nearest(text, words.iter().copied()) {
                Some(near) => misfit.hint(format!("did you mean {near:?}?")),
                None => misfit,
            })
        }
        None => Err(Misfit::new("wrong-type", expected)),
    }
}

fn expected_text(kind: TextKind) -> &'static str {
    match kind {
        TextKind::Plain => "a text of 1 to 254 characters",
        TextKind::TimeOfDay => "a time of day in quotes, from \"00:00\" to \"23:59\"",
        TextKind::TimeZone => "a time zone such as \"Europe/Paris\"",
        TextKind::Region => "a country as two capital letters, such as \"FR\"",
        TextKind::Locale => "a language such as \"fr\" or \"fr-BE\"",
        TextKind::Mailbox => "an email address such as \"contact@example.com\"",
        TextKind::Variant => "a variant's name: a-z, 0-9, _ and -, at most 63 characters",
        TextKind::Duration => "a duration such as \"30m\", \"6h\" or \"2d\", at most 30 days",
        TextKind::Event => "opened, delivered, clicked, replied, or an event's name of a-z, 0-9 and _",
        TextKind::Condition => "a condition such as 'message.priority == \"urgent\"'",
    }
}

fn not_a_text(kind: TextKind, value: &DeValue<'_>) -> Misfit {
    let misfit = Misfit::new("wrong-type", expected_text(kind));
    match (kind, value) {
        (TextKind::TimeOfDay, DeValue::Datetime(at)) => {
            let at = at.to_string();
            misfit.hint(format!("put it in quotes: {:?}", at.chars().take(5).collect::<String>()))
        }
        (TextKind::Condition, DeValue::Boolean(_)) => misfit.hint("put it in quotes: \"true\""),
        _ => misfit,
    }
}

/// A name of `a-z`, then `a-z 0-9 _ -`, at most 63 characters.
pub fn is_name(text: &str) -> bool {
    text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-')
}

/// Seconds of `"30m"`, `"6h"`, `"2d"`; at most 30 days, at least a minute.
pub fn duration_seconds(text: &str) -> Option<u32> {
    let unit = match text.chars().last()? {
        'm' => 60,
        'h' => 3_600,
        'd' => 86_400,
        _ => return None,
    };
    let digits = &text[..text.len() - 1];
    if digits.is_empty() || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let seconds = digits.parse::<u32>().ok()?.checked_mul(unit)?;
    (60..=30 * 86_400).contains(&seconds).then_some(seconds)
}

fn read_text(kind: TextKind, text: &str) -> Result<(), Misfit> {
    let length = text.chars().count();
    let (good, code) = match kind {
        TextKind::Plain => {
            ((1..=254).contains(&length) && !text.chars().any(char::is_control), "out-of-range")
        }
        TextKind::TimeOfDay => (time::parse_time_of_day(text).is_some(), "bad-time"),
        TextKind::TimeZone => (time::parse_time_zone(text).is_some(), "unknown-zone"),
        TextKind::Region => {
            let capitals = text.bytes().all(|b| b.is_ascii_uppercase());
            (capitals && Region::parse(text).is_some(), "unknown-region")
        }
        TextKind::Locale => (is_locale(text), "bad-locale"),
        TextKind::Mailbox => (is_mailbox(text), "bad-mailbox"),
        TextKind::Variant => (is_name(text), "bad-name"),
        TextKind::Duration => (duration_seconds(text).is_some(), "bad-duration"),
        TextKind::Event => (is_name(text) && !text.contains('-'), "bad-name"),
        TextKind::Condition => (!text.trim().is_empty() && text.len() <= 4096, "out-of-range"),
    };
    if good {
        return Ok(());
    }
    let misfit = Misfit::new(code, expected_text(kind));
    Err(match text_hint(kind, text) {
        Some(hint) => misfit.hint(hint),
        None => misfit,
    })
}

fn text_hint(kind: TextKind, text: &str) -> Option<String> {
    match kind {
        TextKind::TimeZone => near_zone(text).map(|zone| format!("did you mean {zone:?}?")),
        TextKind::Region => {
            let upper = text.to_uppercase();
            Region::parse(&upper).map(|_| format!("write {upper:?}"))
        }
        TextKind::TimeOfDay => {
            let tidy = text.to_lowercase().replace(['h', '.'], ":");
            let (hour, minute) = tidy.split_once(':')?;
            let minute = if minute.is_empty() { "00" } else { minute };
            let padded = format!("{hour:0>2}:{minute:0>2}");
            time::parse_time_of_day(&padded).map(|_| format!("write {padded:?}"))
        }
        TextKind::Locale => Some("two small letters, then perhaps a country: \"fr\", \"fr-BE\"".to_owned()),
        TextKind::Condition => Some("true and false are conditions too".to_owned()),
        _ => None,
    }
}

fn near_zone(text: &str) -> Option<&'static str> {
    let city = format!("/{}", text.replace(' ', "_").to_lowercase());
    let names = || chrono_tz::TZ_VARIANTS.iter().map(|zone| zone.name());
    names().find(|name| name.to_lowercase().ends_with(&city)).or_else(|| nearest(text, names()))
}

fn is_locale(text: &str) -> bool {
    let (language, country) = text.split_once('-').unwrap_or((text, "FR"));
    (2..=3).contains(&language.len())
        && language.bytes().all(|b| b.is_ascii_lowercase())
        && country.len() == 2
        && country.bytes().all(|b| b.is_ascii_uppercase())
}

pub(super) fn is_mailbox(text: &str) -> bool {
    text.len() <= 254
        && !text.chars().any(|c| c.is_control() || c.is_whitespace() || "<>,;\"".contains(c))
        && text.rsplit_once('@').is_some_and(|(local, domain)| !local.is_empty() && domain.contains('.'))
}

fn read_channels(value: &DeValue<'_>, empty: bool) -> Result<Value, Misfit> {
    let names: Vec<&str> = Channel::ALL.iter().map(|c| c.as_str()).collect();
    let expected = format!("a list of channels ({})", quoted(&names));
    let Some(items) = value.as_array() else {
        let misfit = Misfit::new("wrong-type", expected);
        return Err(match value.as_str().and_then(|t| nearest(t, names.iter().copied())) {
            Some(near) => misfit.hint(format!("write [{near:?}]")),
            None => misfit,
        });
    };
    let mut found: Vec<String> = Vec::new();
    for item in items.iter() {
        let Some(text) = item.get_ref().as_str() else {
            return Err(Misfit::new("wrong-type", expected));
        };
        if Channel::parse(text).is_none() {
            let misfit = Misfit::new("unknown-channel", expected.clone());
            return Err(match nearest(text, names.iter().copied()) {
                Some(near) => misfit.hint(format!("did you mean {near:?}?")),
                None => misfit,
            });
        }
        if found.iter().any(|f| f == text) {
            return Err(Misfit::new("repeated", format!("each channel once; {text:?} stands twice")));
        }
        found.push(text.to_owned());
    }
    if found.is_empty() && !empty {
        return Err(Misfit::new("empty-list", "at least one channel")
            .hint("leave the line out to allow every channel"));
    }
    Ok(Value::Texts(found))
}

fn read_drivers(value: &DeValue<'_>) -> Result<Value, Misfit> {
    let expected = "a list of at most 8 drivers' names, such as [\"twilio_main\"]";
    let Some(items) = value.as_array() else {
        let misfit = Misfit::new("wrong-type", expected);
        return Err(match value.as_str().filter(|name| is_name(name)) {
            Some(name) => misfit.hint(format!("write [{name:?}]")),
            None => misfit,
        });
    };
    let names: Option<Vec<String>> = items.iter().map(|i| i.get_ref().as_str().map(str::to_owned)).collect();
    match names {
        Some(names) if names.len() <= 8 && names.iter().all(|n| is_name(n)) => Ok(Value::Texts(names)),
        Some(_) => {
            Err(Misfit::new("bad-name", expected)
                .hint("a name is a-z, 0-9, _ and -, as in orchestrator.toml"))
        }
        None => Err(Misfit::new("wrong-type", expected)),
    }
}

fn read_hosts(value: &DeValue<'_>) -> Result<Value, Misfit> {
    let expected = "a list of at most 100 hosts' names, such as [\"www.example.com\"]";
    let wrong = || Misfit::new("wrong-type", expected);
    let items = value.as_array().ok_or_else(wrong)?;
    let names: Option<Vec<&str>> = items.iter().map(|item| item.get_ref().as_str()).collect();
    let names = names.ok_or_else(wrong)?;
    let label = |l: &str| !l.is_empty() && l.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    if names.len() > 100 || !names.iter().all(|name| name.len() <= 253 && name.split('.').all(label)) {
        return Err(Misfit::new("bad-name", expected).hint("without https://, port or path"));
    }
    Ok(Value::Texts(names.into_iter().map(str::to_ascii_lowercase).collect()))
}

fn read_delays(value: &DeValue<'_>) -> Result<Value, Misfit> {
    let expected = "a list of at most 10 whole numbers of seconds, 0 to 86400, such as [60, 300, 900]";
    let Some(items) = value.as_array() else { return Err(Misfit::new("wrong-type", expected)) };
    let seconds: Option<Vec<i64>> = items.iter().map(|i| whole(i.get_ref())).collect();
    match seconds {
        Some(list) if list.len() <= 10 && list.iter().all(|s| (0..=86_400).contains(s)) => {
            Ok(Value::Wholes(list))
        }
        Some(_) => Err(Misfit::new("out-of-range", expected)),
        None => Err(Misfit::new("wrong-type", expected)),
    }
}

/// The priorities a `ByPriority` table may name.
pub fn priorities() -> impl Iterator<Item = &'static str> {
    Priority::ALL.iter().map(|p| p.as_str())
}

/// TOML as the JSON that a caller would have written.
pub fn json(value: &DeValue<'_>) -> serde_json::Value {
    use serde_json::Value as Json;

    match value {
        DeValue::String(text) => Json::String(text.to_string()),
        DeValue::Boolean(yes) => Json::Bool(*yes),
        DeValue::Datetime(at) => Json::String(at.to_string()),
        DeValue::Integer(number) => i64::from_str_radix(number.as_str(), number.radix())
            .map_or_else(|_| Json::String(number.to_string()), Json::from),
        DeValue::Float(number) => number
            .as_str()
            .parse::<f64>()
            .ok()
            .and_then(serde_json::Number::from_f64)
            .map_or_else(|| Json::String(number.to_string()), Json::Number),
        DeValue::Array(items) => Json::Array(items.iter().map(|item| json(item.get_ref())).collect()),
        DeValue::Table(table) => Json::Object(
            table.iter().map(|(key, value)| (key.get_ref().to_string(), json(value.get_ref()))).collect(),
        ),
    }
}
