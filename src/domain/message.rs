//! What a caller asked to have said, to whom, and how it looks.
//!
//! Values only: the JSON they come from is `request`'s affair, what they are worth is policy's.

use std::fmt;

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};

use super::{
    address::RawContacts,
    channel::Channel,
    ids::{RecipientId, TenantId},
    segments,
};

macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[derive(utoipa::ToSchema, schemars::JsonSchema)]
        pub enum $name {
            $(#[serde(rename = $word)] $variant),+
        }
        impl $name {
            /// Every value, in order.
            pub const ALL: &'static [$name] = &[$($name::$variant),+];
            /// The word in JSON, TOML, SQL, scripts and logs.
            pub const fn as_str(self) -> &'static str {
                match self { $($name::$variant => $word),+ }
            }
            /// The value of that name.
            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some($name::$variant),)+ _ => None }
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}

words! {
    /// What a message is about (`messageType`).
    MessageKind {
        Appointment = "appointment",
        Notification = "notification",
        Marketing = "marketing",
        Survey = "survey",
        Document = "document",
        General = "general",
    }
}

words! {
    /// How soon it matters (`priority.level`).
    Priority { Low = "low", Normal = "normal", High = "high", Urgent = "urgent" }
}

words! {
    /// What made the message: budgets are kept apart by it, so that a flood through a public form can never
    /// silence the reminders.
    Origin { Api = "api", Public = "public", Campaign = "campaign", Broadcast = "broadcast" }
}

words! {
    /// Which promise binds (reliability.md P4): marketing is sent at most once, whatever happens.
    MessageClass { Transactional = "transactional", Marketing = "marketing" }
}

impl MessageKind {
    /// Marketing is the one kind that needs consent; no kind counts as transactional.
    pub fn class(kind: Option<Self>) -> MessageClass {
        match kind {
            Some(MessageKind::Marketing) => MessageClass::Marketing,
            _ => MessageClass::Transactional,
        }
    }
}

/// One message, parsed. Addresses are still as the caller wrote them: reading them takes the tenant's region.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessageRequest {
    pub tenant: TenantId,
    pub recipient: RecipientId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipient_name: Option<String>,
    pub contacts: RawContacts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kind: Option<MessageKind>,
    /// None: the tenant's default priority.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// Minutes within which it must have been sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_within: Option<u32>,
    pub preferences: Preferences,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub time_zone: Option<Tz>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub locale: Option<String>,
    /// The appointment or other moment that the message is about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event_at: Option<DateTime<Utc>>,
    pub tags: Vec<String>,
    pub origin: Origin,
    /// Marketing consent, as the caller knows it; none: unknown.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<bool>,
    pub content: Content,
    /// Not before this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub send_at: Option<DateTime<Utc>>,
    /// Not after this moment.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deadline: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
}

impl MessageRequest {
    pub fn class(&self) -> MessageClass {
        MessageKind::class(self.kind)
    }
}

/// What the recipient asked for, as far as the caller knows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Preferences {
    pub preferred: Vec<Channel>,
    pub fallback: Vec<Channel>,
    pub disabled: Vec<Channel>,
    /// Start and end of the recipient's own quiet hours, each over the tenant's.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_start: Option<NaiveTime>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_end: Option<NaiveTime>,
    pub allow_sms_in_quiet_hours: bool,
}

/// The words to send. `Debug` shows sizes only: content is personal data.
#[derive(Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Content {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub template: Option<String>,
    pub data: serde_json::Map<String, serde_json::Value>,
    pub attachments: Vec<Attachment>,
}

impl fmt::Debug for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Content({} bytes, {} attachments)", self.body.len(), self.attachments.len())
    }
}

/// A file that goes with the message, held in full: nothing is ever fetched by URL (reliability.md T12).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attachment {
    pub file_name: String,
    pub content_type: String,
    #[serde(with = "base64_bytes")]
    pub bytes: Vec<u8>,
}

impl fmt::Debug for Attachment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Attachment({} bytes of {})", self.bytes.len(), self.content_type)
    }
}

/// What gates and criteria know of the content, without the content itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContentProfile {
    /// Unicode scalar values of the body; html does not count (details.md section 1).
    pub characters: u32,
    pub segments: u32,
    pub has_html: bool,
    pub attachments: u32,
    pub attachment_bytes: u64,
}

impl Content {
    /// Measures the content once, so that nothing later has to read it.
    pub fn profile(&self) -> ContentProfile {
        let measure = segments::measure(&self.body);
        ContentProfile {
            characters: measure.characters,
            segments: measure.segments,
            has_html: self.html.is_some(),
            attachments: u32::try_from(self.attachments.len()).unwrap_or(u32::MAX),
            attachment_bytes: self.attachments.iter().map(|a| a.bytes.len() as u64).sum(),
        }
    }
}

mod base64_bytes {
    use base64::{Engine, engine::general_purpose::STANDARD};
    use serde::{Deserialize, Deserializer, Serializer};

    pub fn serialize<S: Serializer>(bytes: &[u8], to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&STANDARD.encode(bytes))
    }
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(from)?).map_err(serde::de::Error::custom)
    }
}
