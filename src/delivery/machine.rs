//! What happens to a message after an attempt, after a settling window, or when a hop cannot be tried: one
//! pure function each (reliability.md 5.2, P4 to P6).
//!
//! Unknown never falls back, marketing is never resent, nothing starts after the deadline, and every path
//! ends: at most 4 attempts a channel, 12 a message, one resend.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{
        delivery::{AttemptStatus, ErrorClass, Hop, Next, OnUnknown, Outcome, Plan, Status},
        message::MessageClass,
    },
    store::Claimed,
};

/// Attempts on one channel, the first included (P6).
pub const ATTEMPTS_PER_HOP_MAX: u16 = 4;
/// Attempts at one message over all channels (P6).
pub const ATTEMPTS_MAX: u16 = 12;
/// How long an unknown outcome may still settle itself by a receipt or a list (P4), in seconds.
pub const SETTLE_SECONDS: u32 = 300;
/// A `Retry-After` is believed up to this, in seconds.
const RETRY_AFTER_MAX: u32 = 3600;
/// An operator needs at least this long to mend a credential, in seconds.
const MISCONFIGURED_WAIT: u32 = 60;
/// The share by which a delay is lengthened at most, so that retries do not come in step.
const JITTER: f64 = 0.2;

/// Where a message stands, as far as its next step depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub plan: &'a Plan,
    /// Index into the plan's hops.
    pub hop: u16,
    /// Attempts that came before the one in hand, over all hops and on this hop.
    pub attempts: u16,
    pub attempts_on_hop: u16,
    pub resend_used: bool,
    /// How the attempt before the one in hand ended.
    pub last: Option<AttemptStatus>,
}

impl<'a> Standing<'a> {
    pub fn of(claimed: &'a Claimed) -> Self {
        Self {
            plan: &claimed.plan,
            hop: claimed.hop,
            attempts: claimed.attempts,
            attempts_on_hop: claimed.attempts_on_hop,
            resend_used: claimed.resend_used,
            last: claimed.last_attempt.as_ref().map(|attempt| attempt.status),
        }
    }

    pub fn current(&self) -> Option<&'a Hop> {
        self.plan.hops.get(usize::from(self.hop))
    }

    pub fn past_deadline(&self, now: DateTime<Utc>) -> bool {
        now > self.plan.deadline
    }

    /// An attempt may have been taken, and nothing has said otherwise since.
    fn may_have_arrived(&self) -> bool {
        self.last == Some(AttemptStatus::Unknown)
    }
}

/// What follows an attempt that ended as `outcome`. `jitter` is a fresh number from 0 to 1.
pub fn after_attempt(standing: &Standing<'_>, outcome: &Outcome, now: DateTime<Utc>, jitter: f64) -> Next {
    let Outcome::Failed { error, retry_after_seconds } = outcome else { return Next::Sent };
    let reason = match &error.code {
        Some(code) if !error.detail.starts_with(code.as_str()) => format!("{code}: {}", error.detail),
        _ => error.detail.clone(),
    };
    let least = match error.class {
        ErrorClass::Unknown => {
            let at = now + TimeDelta::seconds(i64::from(SETTLE_SECONDS));
            return Next::SettleAt { at, reason };
        }
        ErrorClass::Permanent => return fall_back(standing, now, reason, Status::Failed),
        ErrorClass::Temporary | ErrorClass::NotSent => 0,
        ErrorClass::Misconfigured => MISCONFIGURED_WAIT,
    };
    let Some(delay) = retry_delay(standing) else {
        let wanted = standing.current().and_then(|hop| hop.after_retries);
        let reason = format!("{reason} (no retry left)");
        return fall_back_to(standing, wanted, now, reason, Status::Failed);
    };
    let told = retry_after_seconds.map_or(0, |seconds| seconds.clamp(1, RETRY_AFTER_MAX));
    let lengthened = f64::from(delay) * (1.0 + JITTER * jitter.clamp(0.0, 1.0));
    let wait = lengthened.max(f64::from(told.max(least)));
    let at = now + TimeDelta::milliseconds((wait * 1000.0).round() as i64);
    if at > standing.plan.deadline {
        let reason = format!("{reason} (a retry would come after the deadline)");
        return fall_back(standing, now, reason, Status::Failed);
    }
    Next::RetryAt { at, reason }
}

/// The wait before the next retry on this hop, in seconds; `None` when its retries are used up.
fn retry_delay(standing: &Standing<'_>) -> Option<u32> {
    let made = standing.attempts_on_hop;
    if made + 1 >= ATTEMPTS_PER_HOP_MAX || standing.attempts + 1 >= ATTEMPTS_MAX {
        return None;
    }
    standing.current()?.retry_delays.get(usize::from(made)).copied()
}

/// The next hop at once, where the plan has one and the time and the count allow it; else the end.
fn fall_back(standing: &Standing<'_>, now: DateTime<Utc>, reason: String, end: Status) -> Next {
    fall_back_to(standing, None, now, reason, end)
}

/// The wanted hop, where it lies ahead; else the next one.
fn fall_back_to(
    standing: &Standing<'_>,
    wanted: Option<u16>,
    now: DateTime<Utc>,
    reason: String,
    end: Status,
) -> Next {
    let next = standing.hop.saturating_add(1);
    let hop = wanted.filter(|wanted| *wanted > next).unwrap_or(next);
    if usize::from(hop) >= standing.plan.hops.len() || standing.attempts + 1 >= ATTEMPTS_MAX {
        return Next::End { status: end, reason };
    }
    if standing.past_deadline(now) {
        return Next::End { status: Status::Expired, reason: format!("{reason}; the deadline has passed") };
    }
    Next::FallBackTo { hop, at: now, reason }
}

/// What follows when the settling window of an unknown outcome is over and nothing has settled it.
pub fn after_settle_window(standing: &Standing<'_>, now: DateTime<Utc>) -> Next {
    let unresolved = |why: &str| Next::End {
        status: Status::Unresolved,
        reason: format!("the outcome of the last attempt is unknown, and {why}"),
    };
    if standing.plan.class == MessageClass::Marketing {
        return unresolved("marketing is sent at most once");
    }
    if standing.current().is_none_or(|hop| hop.on_unknown == OnUnknown::Hold) {
        return unresolved("the policy leaves it to a person (on_unknown = \"hold\")");
    }
    if standing.resend_used {
        return unresolved("it was resent once already");
    }
    if standing.past_deadline(now) {
        return unresolved("the deadline has passed");
    }
    if standing.attempts_on_hop >= ATTEMPTS_PER_HOP_MAX || standing.attempts >= ATTEMPTS_MAX {
        return unresolved("no attempt is left");
    }
    Next::ResendAt { at: now, reason: "nothing told what became of the last attempt: sent once more".into() }
}

/// What follows when the hop at hand cannot be tried at all: its recipient refused this sender, or no driver
/// is there. Where an earlier attempt may have arrived, a person decides.
pub fn without_attempt(standing: &Standing<'_>, now: DateTime<Utc>, reason: String, end: Status) -> Next {
    if standing.may_have_arrived() {
        let reason = format!("{reason}; an earlier attempt may have arrived");
        return Next::End { status: Status::Unresolved, reason };
    }
    let hop = standing.hop.saturating_add(1);
    if usize::from(hop) >= standing.plan.hops.len() {
        return Next::End { status: end, reason };
    }
    Next::FallBackTo { hop, at: now, reason }
}

/// The end of a message that ran out of time or of attempts before this attempt could begin.
pub(super) fn stopped(standing: &Standing<'_>, status: Status, reason: &str) -> Next {
    if standing.may_have_arrived() {
        let reason = format!("{reason}; an earlier attempt may have arrived");
        return Next::End { status: Status::Unresolved, reason };
    }
    Next::End { status, reason: reason.to_owned() }
}

/// The first later hop that satisfies `may`, unless an earlier attempt may have arrived (P5).
pub(super) fn later_hop(standing: &Standing<'_>, may: impl Fn(&Hop) -> bool) -> Option<u16> {
    if standing.may_have_arrived() {
        return None;
    }
    let from = usize::from(standing.hop) + 1;
    let found = standing.plan.hops.iter().skip(from).position(may)?;
    u16::try_from(from + found).ok()
}
