//! Time as one decision sees it: the zone, the local hour, quiet hours, the deadline.
//!
//! Everything is reckoned for the moment when the message would go: `at`, or `sendAt` where that is later.

use std::cell::OnceCell;

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::DecisionInput;
use crate::{
    domain::{
        channel::Channel,
        message::{MessageClass, Priority},
        question::Question,
        time::{Moment, QuietHours, Wait, wait_at},
    },
    policy::settings::{QuietAction, TenantPolicy},
};

pub struct Timing {
    pub zone: Tz,
    /// When it would go, holds aside.
    pub goes_at: DateTime<Utc>,
    /// What clocks in the zone show then.
    pub local: NaiveDateTime,
    /// The recipient's quiet hours, else the tenant's.
    pub quiet_hours: QuietHours,
    pub quiet: bool,
    /// No attempt may start after this moment.
    pub deadline: DateTime<Utc>,
    /// The end of the quiet hours, once a channel has asked for it: it is the same for every channel.
    quiet_end: OnceCell<Option<Wait>>,
}

impl Timing {
    pub fn of(policy: &TenantPolicy, input: &DecisionInput<'_>) -> Self {
        let question = &input.question;
        let zone = question.time_zone.unwrap_or(policy.time_zone);
        let goes_at = question.send_at.map_or(input.at, |send_at| send_at.max(input.at));
        let local = Moment::of(goes_at, zone).local;
        let quiet_hours = QuietHours {
            start: question.quiet_start.unwrap_or(policy.quiet_hours.hours.start),
            end: question.quiet_end.unwrap_or(policy.quiet_hours.hours.end),
        };
        let quiet = quiet_hours.contains(local.time());
        let deadline = deadline(policy, question, goes_at);
        Self { zone, goes_at, local, quiet_hours, quiet, deadline, quiet_end: OnceCell::new() }
    }

    /// When it would go, with what clocks show then.
    pub fn moment(&self) -> Moment {
        Moment { at: self.goes_at, local: self.local }
    }

    /// What makes a channel wait now.
    pub fn wait(
        &self,
        policy: &TenantPolicy,
        question: &Question<'_>,
        priority: Priority,
        channel: Channel,
    ) -> Option<Wait> {
        let binding = self.binding_quiet_hours(policy, question, priority, channel);
        if french_window(policy, question, channel) {
            return wait_at(self.moment(), self.zone, binding, true);
        }
        let hours = binding.filter(|_| self.quiet)?;
        *self.quiet_end.get_or_init(|| wait_at(self.moment(), self.zone, Some(hours), false))
    }

    /// The quiet hours that hold this message on this channel; none where it rings nobody, is urgent or is let
    /// through (details.md section 4, "Hold").
    pub fn binding_quiet_hours(
        &self,
        policy: &TenantPolicy,
        question: &Question<'_>,
        priority: Priority,
        channel: Channel,
    ) -> Option<QuietHours> {
        let binds =
            policy.quiet_hours.action == QuietAction::Hold && rings(policy, question, priority, channel);
        binds.then_some(self.quiet_hours)
    }
}

/// Whether quiet hours concern this message on this channel at all.
pub fn rings(policy: &TenantPolicy, question: &Question<'_>, priority: Priority, channel: Channel) -> bool {
    let let_through = channel == Channel::Sms && question.allow_sms_in_quiet_hours;
    policy.quiet_hours.channels.contains(channel) && priority != Priority::Urgent && !let_through
}

/// Whether France's window for marketing SMS binds this message on this channel; no urgency lifts it.
pub fn french_window(policy: &TenantPolicy, question: &Question<'_>, channel: Channel) -> bool {
    policy.quiet_hours.french_legal_window
        && channel == Channel::Sms
        && question.class() == MessageClass::Marketing
}

/// The earliest of the request's deadline, its `sendWithin` and the tenant's own; every message has one.
fn deadline(policy: &TenantPolicy, question: &Question<'_>, goes_at: DateTime<Utc>) -> DateTime<Utc> {
    let hours = match question.class() {
        MessageClass::Transactional => policy.deadline.transactional_hours,
        MessageClass::Marketing => policy.deadline.marketing_hours,
    };
    let within = question.send_within.map(|minutes| goes_at + TimeDelta::minutes(i64::from(minutes)));
    let own = question.deadline.unwrap_or(goes_at + TimeDelta::hours(i64::from(hours)));
    within.map_or(own, |within| within.min(own))
}
