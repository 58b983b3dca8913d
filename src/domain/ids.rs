//! Identifiers, each its own type, parsed once at the edge.
//!
//! A tenant id is never joined to a path as text and never trusted before `TenantId::parse` took it
//! (reliability.md T27). No identifier here says anything about the person written to.

use std::{borrow::Borrow, fmt, sync::Arc};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::octets;

/// Why a text is not the identifier it was given as; the words are for the person who gave it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidId(pub String);

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                let text = String::deserialize(from)?;
                Self::parse(&text).map_err(serde::de::Error::custom)
            }
        }
    };
}

text_id! {
    /// Whose policy and data: `^[a-z0-9][a-z0-9_-]{0,62}$`, so that two ids never differ by case alone and an
    /// id is always safe as a file name.
    TenantId
}

impl TenantId {
    /// Whether a text is a well-formed id.
    pub fn fits(text: &str) -> bool {
        let shaped = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_' || b == b'-';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit());
        starts && text.len() <= 63 && text.bytes().all(shaped)
    }

    /// Takes a well-formed id, or says what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if Self::fits(text) {
            return Ok(Self(text.into()));
        }
        Err(InvalidId(format!(
            "{:?} is not a tenant id: 1 to 63 of a-z, 0-9, _ and -, starting with a letter or a digit",
            text.chars().take(80).collect::<String>()
        )))
    }
}

text_id! {
    /// The caller's own name for the person written to (`prospectId`): opaque, 1 to 256 characters.
    RecipientId
}

impl RecipientId {
    /// Whether a text has 1 to 256 characters and no control characters.
    pub fn fits(text: &str) -> bool {
        let most = |count: usize| (1..=256).contains(&count);
        if octets::any(text.as_bytes(), b' ', |byte| !(b' '..=b'~').contains(&byte)) {
            most(text.chars().count()) && !text.chars().any(char::is_control)
        } else {
            most(text.len())
        }
    }

    /// Takes any text of 1 to 256 characters without control characters.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if Self::fits(text) {
            return Ok(Self(text.into()));
        }
        Err(InvalidId("expected 1 to 256 characters, none of them a control character".into()))
    }
}

text_id! {
    /// The caller's name for one intent (header `Idempotency-Key`): 1 to 255 visible ASCII characters.
    IdempotencyKey
}

impl IdempotencyKey {
    /// Takes a key of 1 to 255 visible ASCII characters.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if (1..=255).contains(&text.len()) && text.chars().all(|c| c.is_ascii_graphic()) {
            return Ok(Self(text.into()));
        }
        Err(InvalidId("an Idempotency-Key is 1 to 255 visible ASCII characters without spaces".into()))
    }
}

text_id! {
    /// A criterion's name: the stem of its script's file.
    CriterionName
}

impl CriterionName {
    /// The nine shipped criteria, in the order in which reasons are joined (spec.md section 2).
    pub const SHIPPED: [&'static str; 9] = [
        "preferences",
        "urgency",
        "content",
        "length",
        "cost",
        "quiet_hours",
        "message_type",
        "history",
        "availability",
    ];

    /// Takes a snake_case name of at most 63 characters.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        let shaped = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        let starts = text.starts_with(|c: char| c.is_ascii_lowercase());
        if starts && text.len() <= 63 && text.chars().all(shaped) {
            return Ok(Self(text.into()));
        }
        Err(InvalidId(format!(
            "{text:?} is not a criterion's name: a-z, 0-9 and _, starting with a letter, at most 63 characters"
        )))
    }

    /// The key that criteria are sorted by: the shipped nine in their order, then the others by name.
    pub fn order(&self) -> (usize, &str) {
        let at = Self::SHIPPED.iter().position(|n| *n == self.as_str()).unwrap_or(Self::SHIPPED.len());
        (at, self.as_str())
    }
}

text_id! {
    /// A bundle's content hash: 64 lower-case hex digits of SHA-256. Decisions record it.
    PolicyVersion
}

impl PolicyVersion {
    /// Takes 64 lower-case hex digits.
    pub fn parse(text: &str) -> Result<Self, InvalidId> {
        if text.len() == 64 && text.chars().all(|c| c.is_ascii_digit() || ('a'..='f').contains(&c)) {
            return Ok(Self(text.into()));
        }
        Err(InvalidId(format!("{text:?} is not a policy version: 64 hex digits")))
    }

    /// The version that a SHA-256 digest is.
    pub fn of_digest(digest: [u8; 32]) -> Self {
        let digits = b"0123456789abcdef";
        let hex = digest.iter().flat_map(|byte| [byte >> 4, byte & 15]);
        Self(hex.map(|digit| char::from(digits[usize::from(digit)])).collect::<String>().into())
    }

    /// The first 12 digits: enough for people.
    pub fn short(&self) -> &str {
        &self.0[..12]
    }
}

macro_rules! uuid_id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Uuid);

        impl $name {
            /// A new identifier; identifiers sort by the time they were made.
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
            /// Its 16 bytes, for what is signed.
            pub fn to_bytes(self) -> [u8; 16] {
                self.0.into_bytes()
            }
            /// The identifier of these bytes; only for what `to_bytes` gave and a signature covers.
            pub fn from_bytes(bytes: [u8; 16]) -> Self {
                Self(Uuid::from_bytes(bytes))
            }
            /// Takes the prefix followed by 32 hex digits.
            pub fn parse(text: &str) -> Result<Self, InvalidId> {
                text.strip_prefix($prefix)
                    .filter(|hex| hex.len() == 32)
                    .and_then(|hex| Uuid::try_parse(hex).ok())
                    .map(Self)
                    .ok_or_else(|| InvalidId(format!("{text:?} is not an id of the form {}…", $prefix)))
            }
        }
        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}{}", $prefix, self.0.simple())
            }
        }
        impl Serialize for $name {
            fn serialize<S: serde::Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                to.collect_str(self)
            }
        }
        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(from)?).map_err(serde::de::Error::custom)
            }
        }
    };
}

uuid_id! {
    /// One message: `msg_` and a UUIDv7 in hex.
    MessageId, "msg_"
}
uuid_id! {
    /// One attempt at one provider: `att_` and a UUIDv7 in hex.
    AttemptId, "att_"
}
uuid_id! {
    /// One broadcast: `bc_` and a UUIDv7 in hex.
    BroadcastId, "bc_"
}

uuid_id! {
    /// One act of an operator: `act_` and a UUIDv7 in hex.
    ActId, "act_"
}

impl MessageId {
    /// Not above any id made at that moment or later, and above every one made in an earlier millisecond: a bound
    /// for ids by age.
    pub fn first_of(at: DateTime<Utc>) -> Self {
        let millis = u128::try_from(at.timestamp_millis()).unwrap_or_default();
        Self(Uuid::from_u128(millis << 80))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_id_is_safe_as_a_file_name() {
        for good in ["tenant_123", "a", "0-x", &"a".repeat(63)] {
            assert!(TenantId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "../x", "A", "é", "a/b", "a\0", "-a", "_a", ".hidden", "a b", &"a".repeat(64)] {
            assert!(TenantId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_recipient_is_named_by_characters_and_not_by_bytes() {
        for good in ["p", "prospect 456", "né·e", &"a".repeat(256), &"é".repeat(256)] {
            assert!(RecipientId::parse(good).is_ok(), "{good}");
        }
        for bad in ["", "a\n", "a\u{7f}", "\u{85}", &"a".repeat(257), &"é".repeat(257)] {
            assert!(RecipientId::parse(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn message_ids_round_trip_and_sort_by_time() {
        let (first, second) = (MessageId::new(), MessageId::new());
        assert_eq!(MessageId::parse(&first.to_string()), Ok(first));
        assert!(first.to_string() < second.to_string());
        for bad in ["msg_", "msg_12", "att_0198c0de000070008000000000000000", ""] {
            assert!(MessageId::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn criteria_sort_shipped_first_then_by_name() {
        let mut names: Vec<_> =
            ["zeal", "cost", "age", "preferences"].iter().map(|n| CriterionName::parse(n).unwrap()).collect();
        names.sort_by(|a, b| a.order().cmp(&b.order()));
        let names: Vec<_> = names.iter().map(CriterionName::as_str).collect();
        assert_eq!(names, ["preferences", "cost", "age", "zeal"]);
    }
}
