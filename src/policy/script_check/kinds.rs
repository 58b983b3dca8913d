//! What the static check knows of a value: enough to see a misspelt field and a comparison that never holds.
//!
//! Not a type system: what it doesn't know is `Unknown`, about which nothing is ever said.

use crate::policy::fields::{self, FieldType};

/// What a value is, as far as reading the script tells.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Kind {
    Unknown,
    /// `message`, `channel`, `channel.history`.
    Object(Object),
    /// A field of one of them.
    Field(FieldFacts),
    Text,
    Number,
    Bool,
    List,
    Verdict,
    /// `()`.
    Missing,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Object {
    Message,
    Channel,
    History,
}

/// A field without its getter.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct FieldFacts {
    pub object: Object,
    pub name: &'static str,
    pub kind: FieldType,
    pub may_be_missing: bool,
}

impl FieldFacts {
    /// `message.priority`.
    pub fn path(&self) -> String {
        format!("{}.{}", self.object.path(), self.name)
    }
}

impl Object {
    pub fn path(self) -> &'static str {
        match self {
            Object::Message => "message",
            Object::Channel => "channel",
            Object::History => "channel.history",
        }
    }

    /// In a sentence.
    pub fn noun(self) -> &'static str {
        match self {
            Object::Message => "a message",
            Object::Channel => "a channel",
            Object::History => "a channel's history",
        }
    }

    pub fn fields(self) -> Vec<FieldFacts> {
        let facts = |name, kind, may_be_missing| FieldFacts { object: self, name, kind, may_be_missing };
        match self {
            Object::Message => {
                fields::MESSAGE.iter().map(|f| facts(f.name, f.kind, f.may_be_missing)).collect()
            }
            Object::Channel => {
                fields::CHANNEL.iter().map(|f| facts(f.name, f.kind, f.may_be_missing)).collect()
            }
            Object::History => {
                fields::HISTORY.iter().map(|f| facts(f.name, f.kind, f.may_be_missing)).collect()
            }
        }
    }

    pub fn field(self, name: &str) -> Option<FieldFacts> {
        self.fields().into_iter().find(|f| f.name == name)
    }
}

/// The families within which a comparison can hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    Text,
    Number,
    Bool,
    List,
    Object,
    Verdict,
    Missing,
}

impl Family {
    pub fn noun(self) -> &'static str {
        match self {
            Family::Text => "a text",
            Family::Number => "a number",
            Family::Bool => "true or false",
            Family::List => "a list of texts",
            Family::Object => "an object",
            Family::Verdict => "a verdict",
            Family::Missing => "`()`",
        }
    }
}

impl Kind {
    pub fn family(self) -> Option<Family> {
        Some(match self {
            Kind::Unknown => return None,
            Kind::Object(_) => Family::Object,
            Kind::Text => Family::Text,
            Kind::Number => Family::Number,
            Kind::Bool => Family::Bool,
            Kind::List => Family::List,
            Kind::Verdict => Family::Verdict,
            Kind::Missing => Family::Missing,
            Kind::Field(field) => match field.kind {
                FieldType::Word(_) | FieldType::Text => Family::Text,
                FieldType::Integer | FieldType::Float => Family::Number,
                FieldType::Bool => Family::Bool,
                FieldType::Texts => Family::List,
                FieldType::History => Family::Object,
            },
        })
    }

    /// What a value is that is either this or that.
    pub fn join(self, other: Self) -> Self {
        if self == other { self } else { Kind::Unknown }
    }

    /// The field, where it is one.
    pub fn field(self) -> Option<FieldFacts> {
        match self {
            Kind::Field(field) => Some(field),
            _ => None,
        }
    }
}
