//! Every field that a script may read: the one list behind the getters, the static check, the reference in the
//! README and the schema.
//!
//! Knows no Rhai: a field is read into a plain `Value`, and `engine` turns that into what scripts hold.

use std::{borrow::Cow, fmt::Write as _};

use super::view::{ChannelView, HistoryView, MessageView};
use crate::domain::{
    channel::Channel,
    message::{MessageKind, Origin, Priority},
};

/// What a field holds, for the static check and the reference.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldType {
    /// One of a closed set of words.
    Word(&'static [&'static str]),
    Text,
    Integer,
    Float,
    Bool,
    /// A list of texts.
    Texts,
    /// `channel.history`, an object of its own.
    History,
}

impl FieldType {
    /// The words that it can be; none where it is no closed set.
    pub fn words(self) -> Option<&'static [&'static str]> {
        match self {
            FieldType::Word(words) => Some(words),
            _ => None,
        }
    }

    /// In the words of the reference.
    pub fn describe(self) -> &'static str {
        match self {
            FieldType::Word(_) | FieldType::Text => "text",
            FieldType::Integer => "whole number",
            FieldType::Float => "number",
            FieldType::Bool => "true or false",
            FieldType::Texts => "list of texts",
            FieldType::History => "see below",
        }
    }
}

use FieldType::{Bool, Float, History, Integer, Text, Texts};

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Value<'a> {
    Text(&'a str),
    Integer(i64),
    Float(f64),
    Bool(bool),
    Texts(&'a [String]),
    History,
    Missing,
}

/// One field of a view `V`.
#[derive(Clone, Copy, Debug)]
pub struct Field<V: 'static> {
    pub name: &'static str,
    pub kind: FieldType,
    /// It may be `()`.
    pub may_be_missing: bool,
    /// One line, for the reference.
    pub doc: &'static str,
    pub read: for<'a> fn(&'a V) -> Value<'a>,
}

const fn field<V>(
    name: &'static str,
    kind: FieldType,
    doc: &'static str,
    read: for<'a> fn(&'a V) -> Value<'a>,
) -> Field<V> {
    Field { name, kind, may_be_missing: false, doc, read }
}

const fn may_be_missing<V>(field: Field<V>) -> Field<V> {
    Field { may_be_missing: true, ..field }
}

/// The words of a closed set, in its order.
macro_rules! words {
    ($set:ty) => {{
        const COUNT: usize = <$set>::ALL.len();
        const WORDS: [&str; COUNT] = {
            let mut words = [""; COUNT];
            let mut at = 0;
            while at < COUNT {
                words[at] = <$set>::ALL[at].as_str();
                at += 1;
            }
            words
        };
        FieldType::Word(&WORDS)
    }};
}

/// `message`.
pub const MESSAGE: &[Field<MessageView<'static>>] = &[
    may_be_missing(field("type", words!(MessageKind), "what the message is about", |m| {
        m.kind.map_or(Value::Missing, |kind| Value::Text(kind.as_str()))
    })),
    field("priority", words!(Priority), "how soon it matters", |m| Value::Text(m.priority.as_str())),
    may_be_missing(field("template", Text, "the template's id", |m| optional_text(&m.template))),
    field("tags", Texts, "the caller's tags", |m| Value::Texts(&m.tags)),
    field("origin", words!(Origin), "what made the message", |m| Value::Text(m.origin.as_str())),
    field("locale", Text, "the recipient's language, such as \"fr\"", |m| Value::Text(&m.locale)),
    field(
        "length",
        Integer,
        "characters of the body, or of a template's SMS form; html does not count",
        |m| Value::Integer(m.length),
    ),
    field("segments", Integer, "SMS that the body, or a template's SMS form, takes", |m| {
        Value::Integer(m.segments)
    }),
    field("has_html", Bool, "there is an html body, or a template has one and no SMS form", |m| {
        Value::Bool(m.has_html)
    }),
    field("has_attachments", Bool, "there are attachments", |m| Value::Bool(m.has_attachments)),
    field("attachment_bytes", Integer, "bytes of all attachments", |m| Value::Integer(m.attachment_bytes)),
    field("quiet", Bool, "it is in the recipient's quiet hours now", |m| Value::Bool(m.quiet)),
    field("local_hour", Integer, "the recipient's hour, 0 to 23", |m| Value::Integer(m.local_hour)),
    field("local_minute", Integer, "the recipient's minute, 0 to 59", |m| Value::Integer(m.local_minute)),
    field("weekday", Integer, "the recipient's day, 1 (Monday) to 7 (Sunday)", |m| Value::Integer(m.weekday)),
    may_be_missing(field(
        "minutes_to_event",
        Integer,
        "whole minutes until the event; negative once it is past",
        |m| optional_integer(m.minutes_to_event),
    )),
    may_be_missing(field("send_within", Integer, "minutes within which it must have been sent", |m| {
        optional_integer(m.send_within)
    })),
    field("allow_sms_in_quiet_hours", Bool, "the recipient accepts SMS in quiet hours", |m| {
        Value::Bool(m.allow_sms_in_quiet_hours)
    }),
];

/// `channel`.
pub const CHANNEL: &[Field<ChannelView>] = &[
    field("name", words!(Channel), "which channel this is", |c| Value::Text(c.channel.as_str())),
    field("preferred", Bool, "among the recipient's preferred channels", |c| Value::Bool(c.preferred)),
    field("disabled", Bool, "the recipient disabled it", |c| Value::Bool(c.disabled)),
    field("available", Bool, "the recipient's address is there and can be read", |c| {
        Value::Bool(c.available)
    }),
    field("opted_in", Bool, "the recipient opted in to it", |c| Value::Bool(c.opted_in)),
    field("healthy", Bool, "one of its drivers works", |c| Value::Bool(c.healthy)),
    field("cost", Float, "euros for this message, all its segments", |c| Value::Float(c.cost)),
    field("delivery_seconds", Integer, "seconds until it usually arrives", |c| {
        Value::Integer(c.delivery_seconds)
    }),
    field("open_rate", Float, "share of messages usually opened, 0 to 1", |c| Value::Float(c.open_rate)),
    field("rich_media", Bool, "it shows images and layout", |c| Value::Bool(c.rich_media)),
    field("takes_attachments", Bool, "it carries attachments", |c| Value::Bool(c.takes_attachments)),
    may_be_missing(field("max_length", Integer, "characters that it takes; missing: no limit", |c| {
        optional_integer(c.max_length)
    })),
    field("history", History, "what this recipient did with earlier messages on it", |_| Value::History),
];

/// `channel.history`.
pub const HISTORY: &[Field<HistoryView>] = &[
    field("received", Integer, "messages received in the last 180 days", |h| Value::Integer(h.received)),
    field("engaged", Integer, "of those, opened, clicked or answered by a person", |h| {
        Value::Integer(h.engaged)
    }),
    field("rate", Float, "the recipient's rate, drawn towards the average, 0 to 1", |h| Value::Float(h.rate)),
    field("average", Float, "the tenant's average rate on this channel, 0 to 1", |h| Value::Float(h.average)),
    field("known", Bool, "there is enough history to go by", |h| Value::Bool(h.known)),
];

fn optional_text<'a>(text: &'a Option<Cow<'static, str>>) -> Value<'a> {
    text.as_deref().map_or(Value::Missing, Value::Text)
}

fn optional_integer<'a>(number: Option<i64>) -> Value<'a> {
    number.map_or(Value::Missing, Value::Integer)
}

/// The reference in the README: one table for each object.
pub fn reference_markdown() -> String {
    let mut out = String::new();
    table(&mut out, "message", MESSAGE);
    table(&mut out, "channel", CHANNEL);
    table(&mut out, "channel.history", HISTORY);
    out
}

fn table<V>(out: &mut String, object: &str, fields: &[Field<V>]) {
    let _ = writeln!(out, "| `{object}.` | holds | meaning |\n|---|---|---|");
    for field in fields {
        let mut holds = field.kind.describe().to_owned();
        if let Some(words) = field.kind.words() {
            let quoted: Vec<String> = words.iter().map(|word| format!("`\"{word}\"`")).collect();
            holds = quoted.join(", ");
        }
        if field.may_be_missing {
            holds.push_str(", or `()`");
        }
        let _ = writeln!(out, "| `{}` | {holds} | {} |", field.name, field.doc);
    }
    out.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reference_names_every_field() {
        let reference = reference_markdown();
        for name in MESSAGE.iter().map(|f| f.name).chain(CHANNEL.iter().map(|f| f.name)) {
            assert!(reference.contains(&format!("| `{name}` |")), "{name}");
        }
        assert!(
            reference.contains(
                "| `priority` | `\"low\"`, `\"normal\"`, `\"high\"`, `\"urgent\"` | how soon it matters |"
            ),
            "{reference}"
        );
        assert!(reference.contains("| `max_length` | whole number, or `()` |"));
    }
}
