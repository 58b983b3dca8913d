//! What a script may see of a message and of one channel: plain values, gathered before any script runs.
//!
//! A view holds no address and no content, so that no script can leak one. The list of fields that scripts,
//! the static check, the README and the schema share is `fields`.

use std::borrow::Cow;

use crate::domain::{
    channel::Channel,
    message::{MessageKind, Origin, Priority},
};

/// `message` in a script. What may be missing is `()` there and `None` here. Texts are borrowed from the request and
/// the policy for as long as no interpreter needs them.
#[derive(Clone, Debug, PartialEq)]
pub struct MessageView<'a> {
    pub kind: Option<MessageKind>,
    pub priority: Priority,
    pub template: Option<Cow<'a, str>>,
    pub tags: Cow<'a, [String]>,
    pub origin: Origin,
    pub locale: Cow<'a, str>,
    /// Unicode scalar values of the body; of the SMS form where a template has one.
    pub length: i64,
    pub segments: i64,
    pub has_html: bool,
    pub has_attachments: bool,
    pub attachment_bytes: i64,
    /// In quiet hours now, in the recipient's zone.
    pub quiet: bool,
    /// 0 to 23.
    pub local_hour: i64,
    /// 0 to 59.
    pub local_minute: i64,
    /// 1 (Monday) to 7 (Sunday).
    pub weekday: i64,
    /// Whole minutes until `eventAt`, negative once it is past.
    pub minutes_to_event: Option<i64>,
    /// Minutes.
    pub send_within: Option<i64>,
    pub allow_sms_in_quiet_hours: bool,
}

impl MessageView<'_> {
    /// With texts of its own: what an interpreter is given.
    pub fn into_owned(self) -> MessageView<'static> {
        MessageView {
            template: self.template.map(|text| Cow::Owned(text.into_owned())),
            tags: Cow::Owned(self.tags.into_owned()),
            locale: Cow::Owned(self.locale.into_owned()),
            kind: self.kind,
            priority: self.priority,
            origin: self.origin,
            length: self.length,
            segments: self.segments,
            has_html: self.has_html,
            has_attachments: self.has_attachments,
            attachment_bytes: self.attachment_bytes,
            quiet: self.quiet,
            local_hour: self.local_hour,
            local_minute: self.local_minute,
            weekday: self.weekday,
            minutes_to_event: self.minutes_to_event,
            send_within: self.send_within,
            allow_sms_in_quiet_hours: self.allow_sms_in_quiet_hours,
        }
    }
}

/// `channel` in a script.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct ChannelView {
    pub channel: Channel,
    pub preferred: bool,
    pub disabled: bool,
    /// The address is there and can be read.
    pub available: bool,
    pub opted_in: bool,
    pub healthy: bool,
    /// Euros for this message, segments counted.
    pub cost: f64,
    pub delivery_seconds: i64,
    /// 0 to 1, the channel's usual rate.
    pub open_rate: f64,
    pub rich_media: bool,
    pub takes_attachments: bool,
    /// Characters; none: unlimited.
    pub max_length: Option<i64>,
    pub history: HistoryView,
}

/// `channel.history` in a script (spec.md section 9).
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct HistoryView {
    pub received: i64,
    pub engaged: i64,
    /// Engagement, 0 to 1, drawn towards the average by four imagined messages.
    pub rate: f64,
    /// The tenant's own rate on that channel, 0 to 1.
    pub average: f64,
    /// Enough is known to say anything: at least three messages, on a channel that can report.
    pub known: bool,
}
