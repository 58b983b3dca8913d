//! The JSON of a request, field by field, under the brief's names.
//!
//! Shapes only: every field is optional here, so that what is missing is told together with what is wrong.
//! The OpenAPI document is made from these types.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::shapes;
use crate::domain::{
    channel::Channel,
    message::{MessageKind, Origin, Priority},
};

/// What to say, to whom, and what only some routes take beside it.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Request {
    #[schema(required, nullable = false)]
    #[serde(default, deserialize_with = "shapes::object")]
    pub context: Option<Context>,
    #[serde(default, deserialize_with = "shapes::object")]
    pub content: Option<Content>,
    /// Decide as if it were this instant (RFC 3339). Decisions only.
    #[schema(example = "2025-11-14T23:00:00+01:00")]
    pub at: Option<String>,
    /// Answer with the full explanation. Decisions only.
    pub explain: Option<bool>,
    /// Decide under this variant of the tenant's policy.
    pub variant: Option<String>,
    /// Not before this instant (RFC 3339).
    pub send_at: Option<String>,
    /// Not after this instant (RFC 3339).
    pub deadline: Option<String>,
    /// Messages of one key are handed off one at a time, in order.
    pub ordering_key: Option<String>,
    /// What is known beyond the request: `--explain` and policy tests only.
    #[schema(ignore)]
    pub facts: Option<Facts>,
}

/// Who is written to, and what about.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Context {
    #[schema(required, nullable = false, example = "tenant_123")]
    pub tenant_id: Option<String>,
    #[schema(required, nullable = false, example = "prospect_456")]
    pub prospect_id: Option<String>,
    pub prospect_name: Option<String>,
    /// Any written form; national forms are read with the tenant's region.
    #[schema(example = "+33612345678")]
    pub prospect_phone: Option<String>,
    #[schema(example = "marie.dupont@example.com")]
    pub prospect_email: Option<String>,
    pub prospect_whats_app: Option<String>,
    /// A chat id, or `@name`.
    pub prospect_telegram: Option<String>,
    pub message_type: Option<MessageKind>,
    #[serde(default, deserialize_with = "shapes::object")]
    pub priority: Option<PriorityField>,
    #[serde(default, deserialize_with = "shapes::object")]
    pub preferences: Option<Preferences>,
    /// An IANA zone; the tenant's where it is missing.
    #[schema(example = "Europe/Paris")]
    pub timezone: Option<String>,
    #[schema(example = "fr")]
    pub locale: Option<String>,
    /// The appointment or other moment that the message is about (RFC 3339).
    pub event_at: Option<String>,
    pub tags: Option<Vec<String>>,
    /// Who made the message; budgets are kept apart by it.
    pub origin: Option<Origin>,
    /// Whether the person agreed to marketing, as far as you know.
    pub consent: Option<bool>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct PriorityField {
    pub level: Option<Priority>,
    /// Minutes.
    pub send_within: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Preferences {
    pub preferred_channels: Option<Vec<Channel>>,
    pub fallback_channels: Option<Vec<Channel>>,
    pub disabled_channels: Option<Vec<Channel>>,
    /// `HH:MM`.
    #[schema(example = "22:00")]
    pub quiet_hours_start: Option<String>,
    #[schema(example = "08:00")]
    pub quiet_hours_end: Option<String>,
    #[serde(rename = "allowSMSDuringQuietHours")]
    pub allow_sms_during_quiet_hours: Option<bool>,
}

/// What is said. A message needs a body, html or a templateId.
#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Content {
    pub subject: Option<String>,
    pub body: Option<String>,
    pub html: Option<String>,
    #[schema(example = "APPOINTMENT_REMINDER_24H")]
    pub template_id: Option<String>,
    /// Values for the template.
    #[schema(value_type = Option<Object>)]
    pub data: Option<serde_json::Map<String, serde_json::Value>>,
    #[serde(default, deserialize_with = "shapes::objects")]
    pub attachments: Option<Vec<Attachment>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Attachment {
    #[schema(required, nullable = false, example = "brochure.pdf")]
    pub filename: Option<String>,
    /// Base64.
    #[schema(required, nullable = false)]
    pub content: Option<String>,
    #[schema(example = "application/pdf")]
    pub content_type: Option<String>,
}

/// What is known beyond the request, given by hand so that every rule can be tried.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Facts {
    pub history: Option<BTreeMap<Channel, History>>,
    /// Why an address must not be written to, by channel.
    pub suppressions: Option<BTreeMap<Channel, String>>,
    pub opted_in: Option<BTreeMap<Channel, bool>>,
    /// Whether the person wrote within 24 hours, by channel whose drivers take free text only then.
    pub in_service_window: Option<BTreeMap<Channel, bool>>,
    pub spend: Option<Spend>,
    pub sent_lately: Option<SentLately>,
    pub drivers: Option<BTreeMap<Channel, Driver>>,
}

/// Messages that this person has had within 24 hours and 7 days; of the request's type alone in `type...`.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct SentLately {
    pub day: Option<u32>,
    pub week: Option<u32>,
    pub type_day: Option<u32>,
    pub type_week: Option<u32>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct History {
    pub received: Option<u32>,
    pub engaged: Option<u32>,
    /// The tenant's own rate on that channel, 0 to 1.
    pub average: Option<f64>,
}

/// Euros spent so far.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Spend {
    pub today: Option<f64>,
    pub this_month: Option<f64>,
    pub origin_today: Option<f64>,
    pub origin_this_month: Option<f64>,
    pub channels_today: Option<BTreeMap<Channel, f64>>,
}

#[derive(Clone, Debug, Default, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Driver {
    pub configured: Option<bool>,
    pub healthy: Option<bool>,
    pub detail: Option<String>,
}
