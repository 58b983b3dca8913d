//! Everything that a decision reads of a request, borrowed: made from a whole `MessageRequest`, or straight from
//! the bytes of one that is only asked about.
//!
//! Holds no address; whoever makes one has measured the content already. It is a few words wide and copied about
//! freely: a question with one thing changed is how flip points are looked for.

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;

use super::{
    channel::Channel,
    message::{MessageClass, MessageKind, MessageRequest, Origin, Priority},
};

/// What is asked.
#[derive(Clone, Copy, Debug)]
pub struct Question<'a> {
    pub kind: Option<MessageKind>,
    /// None: the tenant's default priority.
    pub priority: Option<Priority>,
    /// Minutes within which it must have been sent.
    pub send_within: Option<u32>,
    pub preferred: &'a [Channel],
    pub disabled: &'a [Channel],
    /// The recipient's own quiet hours, each over the tenant's.
    pub quiet_start: Option<NaiveTime>,
    pub quiet_end: Option<NaiveTime>,
    pub allow_sms_in_quiet_hours: bool,
    pub time_zone: Option<Tz>,
    pub locale: Option<&'a str>,
    pub event_at: Option<DateTime<Utc>>,
    pub tags: &'a [String],
    pub origin: Origin,
    pub consent: Option<bool>,
    /// The template's id.
    pub template: Option<&'a str>,
    pub send_at: Option<DateTime<Utc>>,
    pub deadline: Option<DateTime<Utc>>,
    /// The caller's own words, for flip points alone: they try what a shorter or longer text would change. Empty where
    /// nobody asks for an explanation.
    pub body: &'a str,
}

impl<'a> Question<'a> {
    /// The question that a whole request asks.
    pub fn of(request: &'a MessageRequest) -> Self {
        Self {
            kind: request.kind,
            priority: request.priority,
            send_within: request.send_within,
            preferred: &request.preferences.preferred,
            disabled: &request.preferences.disabled,
            quiet_start: request.preferences.quiet_start,
            quiet_end: request.preferences.quiet_end,
            allow_sms_in_quiet_hours: request.preferences.allow_sms_in_quiet_hours,
            time_zone: request.time_zone,
            locale: request.locale.as_deref(),
            event_at: request.event_at,
            tags: &request.tags,
            origin: request.origin,
            consent: request.consent,
            template: request.content.template.as_deref(),
            send_at: request.send_at,
            deadline: request.deadline,
            body: &request.content.body,
        }
    }

    pub fn class(&self) -> MessageClass {
        MessageKind::class(self.kind)
    }
}
