//! Time as one decision sees it: the zone, the local hour, quiet hours, the deadline.
//!
//! Everything is reckoned for the moment when the message would go: `at`, or `sendAt` where that is later.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::DecisionInput;
use crate::{
    domain::{
        channel::Channel,
        message::{MessageClass, MessageRequest, Priority},
        time::{Hold, QuietHours, hold_at},
    },
    policy::settings::{QuietAction, TenantPolicy},
};

pub struct Timing {
    pub zone: Tz,
    /// When it would go, holds aside.
    pub goes_at: DateTime<Utc>,
    pub local: NaiveDateTime,
    /// The recipient's quiet hours, else the tenant's.
    pub quiet_hours: QuietHours,
    pub quiet: bool,
    /// No attempt may start after this moment.
    pub deadline: DateTime<Utc>,
}

impl Timing {
    pub fn of(policy: &TenantPolicy, input: &DecisionInput<'_>) -> Self {
        let request = input.request;
        let zone = request.time_zone.unwrap_or(policy.time_zone);
        let goes_at = request.send_at.map_or(input.at, |send_at| send_at.max(input.at));
        let local = goes_at.with_timezone(&zone).naive_local();
        let own = &request.preferences;
        let quiet_hours = QuietHours {
            start: own.quiet_start.unwrap_or(policy.quiet_hours.hours.start),
            end: own.quiet_end.unwrap_or(policy.quiet_hours.hours.end),
        };
        let quiet = quiet_hours.contains(local.time());
        let deadline = deadline(policy, request, goes_at);
        Self { zone, goes_at, local, quiet_hours, quiet, deadline }
    }

    /// What makes a channel wait now.
    pub fn hold(
        &self,
        policy: &TenantPolicy,
        request: &MessageRequest,
        priority: Priority,
        channel: Channel,
    ) -> Option<Hold> {
        let quiet = self.binding_quiet_hours(policy, request, priority, channel);
        hold_at(self.goes_at, self.zone, quiet, french_window(policy, request, channel))
    }

    /// The quiet hours that hold this message on this channel; none where it rings nobody, is urgent or is let
    /// through (details.md section 4, "Hold").
    pub fn binding_quiet_hours(
        &self,
        policy: &TenantPolicy,
        request: &MessageRequest,
        priority: Priority,
        channel: Channel,
    ) -> Option<QuietHours> {
        let binds =
            policy.quiet_hours.action == QuietAction::Hold && rings(policy, request, priority, channel);
        binds.then_some(self.quiet_hours)
    }
}

/// Whether quiet hours concern this message on this channel at all.
pub fn rings(policy: &TenantPolicy, request: &MessageRequest, priority: Priority, channel: Channel) -> bool {
    let let_through = channel == Channel::Sms && request.preferences.allow_sms_in_quiet_hours;
    policy.quiet_hours.channels.contains(&channel) && priority != Priority::Urgent && !let_through
}

/// Whether France's window for marketing SMS binds this message on this channel; no urgency lifts it.
pub fn french_window(policy: &TenantPolicy, request: &MessageRequest, channel: Channel) -> bool {
    policy.quiet_hours.french_legal_window
        && channel == Channel::Sms
        && request.class() == MessageClass::Marketing
}

/// The earliest of the request's deadline, its `sendWithin` and the tenant's own; every message has one.
fn deadline(policy: &TenantPolicy, request: &MessageRequest, goes_at: DateTime<Utc>) -> DateTime<Utc> {
    let hours = match request.class() {
        MessageClass::Transactional => policy.deadline.transactional_hours,
        MessageClass::Marketing => policy.deadline.marketing_hours,
    };
    let within = request.send_within.map(|minutes| goes_at + TimeDelta::minutes(i64::from(minutes)));
    let own = request.deadline.unwrap_or(goes_at + TimeDelta::hours(i64::from(hours)));
    within.map_or(own, |within| within.min(own))
}
