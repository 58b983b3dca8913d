//! The facts that scripts see, gathered once for each decision.
//!
//! Nothing here judges: gates and criteria do.

use std::borrow::Cow;

use chrono::{Datelike, Timelike};

use super::{DecisionInput, timing::Timing};
use crate::{
    domain::{
        address::Reach,
        channel::{Channel, ChannelSet},
        message::Priority,
        money::MicroEuros,
        question::Question,
    },
    policy::{
        settings::TenantPolicy,
        view::{ChannelView, HistoryView, MessageView},
    },
};

/// Messages that the tenant's average is worth when a recipient's own rate is drawn towards it (spec.md 9).
const PRIOR_MESSAGES: f64 = 4.0;
/// Fewer received messages than this say nothing.
const HISTORY_MIN: u32 = 3;

/// The channels that the request names.
#[derive(Clone, Copy, Debug)]
pub struct Named {
    preferred: ChannelSet,
    disabled: ChannelSet,
}

impl Named {
    pub fn by(question: &Question<'_>) -> Self {
        let Question { preferred, disabled, .. } = question;
        Self { preferred: ChannelSet::of(preferred), disabled: ChannelSet::of(disabled) }
    }
}

pub fn message<'a>(
    policy: &'a TenantPolicy,
    input: &DecisionInput<'a>,
    timing: &Timing,
    priority: Priority,
) -> MessageView<'a> {
    let (question, profile) = (&input.question, input.words.message);
    MessageView {
        kind: question.kind,
        priority,
        template: question.template.map(Cow::Borrowed),
        tags: Cow::Borrowed(question.tags),
        origin: question.origin,
        locale: Cow::Borrowed(question.locale.unwrap_or(&policy.locale)),
        length: i64::from(profile.characters),
        segments: i64::from(profile.segments),
        has_html: profile.has_html,
        has_attachments: profile.attachments > 0,
        attachment_bytes: i64::try_from(profile.attachment_bytes).unwrap_or(i64::MAX),
        quiet: timing.quiet,
        local_hour: i64::from(timing.local.hour()),
        local_minute: i64::from(timing.local.minute()),
        weekday: i64::from(timing.local.weekday().number_from_monday()),
        minutes_to_event: question
            .event_at
            .map(|event| (event - timing.goes_at).num_seconds().div_euclid(60)),
        send_within: question.send_within.map(i64::from),
        allow_sms_in_quiet_hours: question.allow_sms_in_quiet_hours,
    }
}

pub fn channel(
    policy: &TenantPolicy,
    input: &DecisionInput<'_>,
    channel: Channel,
    priority: Priority,
    named: Named,
) -> ChannelView {
    let terms = &policy.channels[channel];
    ChannelView {
        channel,
        preferred: named.preferred.contains(channel),
        disabled: named.disabled.contains(channel),
        available: input.reach[channel] == Reach::Known,
        opted_in: opted_in(policy, input, channel),
        healthy: input.facts.drivers[channel].configured && input.facts.drivers[channel].healthy,
        cost: cost(policy, input, channel).euros(),
        delivery_seconds: i64::from(delivery_seconds(policy, channel, priority)),
        open_rate: terms.open_rate,
        rich_media: terms.rich_media,
        takes_attachments: terms.attachments,
        max_length: terms.max_length.map(i64::from),
        history: history(policy, input, channel),
    }
}

/// What the message costs on a channel: for SMS by the segment.
#[inline]
pub fn cost(policy: &TenantPolicy, input: &DecisionInput<'_>, channel: Channel) -> MicroEuros {
    let each = policy.channels[channel].cost;
    if channel == Channel::Sms {
        each.times(input.words.channels[Channel::Sms].segments.max(1))
    } else {
        each
    }
}

/// Seconds until it is usually delivered.
#[inline]
pub fn delivery_seconds(policy: &TenantPolicy, channel: Channel, priority: Priority) -> u32 {
    policy.channels[channel].delivery_seconds.get(priority).copied().unwrap_or(0)
}

/// Whether the person agreed to be written to on a channel that needs it: a caller who passes their address
/// asserts it, unless the tenant wants it recorded (spec.md section 3).
pub fn opted_in(policy: &TenantPolicy, input: &DecisionInput<'_>, channel: Channel) -> bool {
    !policy.channels[channel].opt_in
        || input.facts.opted_in[channel].unwrap_or(!policy.consent.opt_in_recorded)
}

/// A recipient's engagement, drawn towards the tenant's average (spec.md section 9).
fn history(policy: &TenantPolicy, input: &DecisionInput<'_>, channel: Channel) -> HistoryView {
    let Some(past) = input.facts.history[channel] else { return HistoryView::default() };
    let (received, engaged) = (f64::from(past.received), f64::from(past.engaged));
    HistoryView {
        received: i64::from(past.received),
        engaged: i64::from(past.engaged),
        rate: (engaged + PRIOR_MESSAGES * past.average) / (received + PRIOR_MESSAGES),
        average: past.average,
        known: past.received >= HISTORY_MIN && policy.channels[channel].tracking,
    }
}
