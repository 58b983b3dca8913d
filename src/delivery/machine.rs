//! What happens to a message after an attempt, after a look-up, after silence, after a receipt, or when a hop cannot
//! be tried: one pure function each (reliability.md 5.2, P4 to P6).
//!
//! Unknown never falls back, marketing is never resent, nothing starts after the deadline, and every path
//! ends: at most 4 attempts a channel, 12 a message, one resend. What the provider asked to wait for, and what our own
//! credential spoiled, is no attempt; such waits are bounded by the deadline.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{
        delivery::{
            Attempt, AttemptError, AttemptStatus, ErrorClass, Hop, Next, OnUnknown, Outcome, Plan, Status,
        },
        message::MessageClass,
    },
    store::Claimed,
};

/// Attempts on one channel, the first included (P6).
pub const ATTEMPTS_PER_HOP_MAX: u16 = 4;
/// Attempts at one message over all channels (P6).
pub const ATTEMPTS_MAX: u16 = 12;
/// When the provider is asked what became of an attempt whose outcome is unknown, in seconds after its end (P4).
pub const POLL_SECONDS: [u32; 3] = [15, 60, 300];
/// A `Retry-After` is believed up to this, in seconds.
const RETRY_AFTER_MAX: u32 = 3600;
/// The wait where a hop's own delays say nothing, in seconds.
const DELAY_SECONDS: u32 = 60;
/// The share by which a delay is lengthened at most, so that retries do not come in step.
const JITTER: f64 = 0.2;

/// Where a message stands, as far as its next step depends on it.
#[derive(Clone, Copy, Debug)]
pub struct Standing<'a> {
    pub plan: &'a Plan,
    /// Index into the plan's hops.
    pub hop: u16,
    /// Attempts that count and came before the one in hand, over all hops and on this hop.
    pub attempts: u16,
    pub attempts_on_hop: u16,
    pub resend_used: bool,
    /// How the attempt before the one in hand ended.
    pub last: Option<AttemptStatus>,
    /// It was sent already, and this hop is its escalation: a failure here undoes nothing.
    pub escalated: bool,
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
            escalated: claimed.escalated,
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

    /// The end, or, where the message was sent before, what it comes back to.
    fn end(&self, status: Status, reason: String) -> Next {
        if self.escalated && matches!(status, Status::Failed | Status::Expired | Status::Skipped) {
            return Next::Stays { reason: Some(format!("the escalation was not sent: {reason}")) };
        }
        Next::End { status, reason }
    }
}

/// What follows an attempt that ended as `outcome`. `jitter` is a fresh number from 0 to 1.
pub fn after_attempt(standing: &Standing<'_>, outcome: &Outcome, now: DateTime<Utc>, jitter: f64) -> Next {
    let Outcome::Failed { error, retry_after_seconds } = outcome else { return Next::Sent };
    let reason = words(error);
    match error.class {
        ErrorClass::Unknown => Next::SettleAt { at: poll_at(now, 0).unwrap_or(now), reason },
        // The person said no to this sender's marketing, not to this channel (F44).
        ErrorClass::Permanent if error.says_opted_out() && standing.plan.class == MessageClass::Marketing => {
            standing.end(Status::Skipped, reason)
        }
        ErrorClass::Permanent => fall_back(standing, now, reason, Status::Failed),
        // The credential is shut by now: another driver is tried at once, or that one when it is open again.
        ErrorClass::Misconfigured => Next::WaitUntil { at: now, reason },
        ErrorClass::Temporary | ErrorClass::NotSent => {
            retry(standing, *retry_after_seconds, reason, now, jitter)
        }
    }
}

fn words(error: &AttemptError) -> String {
    match &error.code {
        Some(code) if !error.detail.starts_with(code.as_str()) => format!("{code}: {}", error.detail),
        _ => error.detail.clone(),
    }
}

/// The next try on the same hop, where it has one left and it would come in time. A wait that the provider asked
/// for uses no attempt (F32).
fn retry(
    standing: &Standing<'_>,
    asked: Option<u32>,
    reason: String,
    now: DateTime<Utc>,
    jitter: f64,
) -> Next {
    let delay = match (retry_delay(standing), asked) {
        (Some(delay), _) => delay,
        (None, Some(_)) => {
            standing.current().and_then(|hop| hop.retry_delays.last().copied()).unwrap_or(DELAY_SECONDS)
        }
        (None, None) => {
            let wanted = standing.current().and_then(|hop| hop.after_retries);
            let reason = format!("{reason} (no retry left)");
            return fall_back_to(standing, wanted, now, reason, Status::Failed);
        }
    };
    let told = asked.map_or(0, |seconds| seconds.clamp(1, RETRY_AFTER_MAX));
    let lengthened = f64::from(delay) * (1.0 + JITTER * jitter.clamp(0.0, 1.0));
    let wait = lengthened.max(f64::from(told));
    let at = now + TimeDelta::milliseconds((wait * 1000.0).round() as i64);
    if at > standing.plan.deadline {
        let reason = format!("{reason} (a retry would come after the deadline)");
        return fall_back(standing, now, reason, Status::Failed);
    }
    match asked {
        Some(_) => Next::WaitUntil { at, reason },
        None => Next::RetryAt { at, reason },
    }
}

/// The wait before the next retry on this hop, in seconds; `None` when its retries are used up.
fn retry_delay(standing: &Standing<'_>) -> Option<u32> {
    let made = standing.attempts_on_hop;
    if made + 1 >= ATTEMPTS_PER_HOP_MAX || standing.attempts + 1 >= ATTEMPTS_MAX {
        return None;
    }
    standing.current()?.retry_delays.get(usize::from(made)).copied()
}

/// What follows when no driver of the hop may be used before `at`: a wait that uses no attempt, or, where it would
/// be too long, the next channel.
pub fn when_down(standing: &Standing<'_>, at: DateTime<Utc>, reason: String, now: DateTime<Utc>) -> Next {
    if at <= standing.plan.deadline {
        return Next::WaitUntil { at, reason };
    }
    without_attempt(standing, now, format!("{reason} (longer than the message may wait)"), Status::Failed)
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
    if usize::from(hop) >= standing.plan.fallback_hops() || standing.attempts + 1 >= ATTEMPTS_MAX {
        return standing.end(end, reason);
    }
    if standing.past_deadline(now) {
        return standing.end(Status::Expired, format!("{reason}; the deadline has passed"));
    }
    Next::FallBackTo { hop, at: now, reason }
}

/// When the provider is asked next about an attempt that ended at `ended`, after it was asked `made` times; `None`
/// when it was asked often enough.
pub fn poll_at(ended: DateTime<Utc>, made: u16) -> Option<DateTime<Utc>> {
    let after = POLL_SECONDS.get(usize::from(made))?;
    Some(ended + TimeDelta::seconds(i64::from(*after)))
}

/// What follows when the provider was asked for the `made`th time and did not show the attempt.
pub fn after_poll(
    standing: &Standing<'_>,
    ended: DateTime<Utc>,
    made: u16,
    why: &str,
    now: DateTime<Utc>,
) -> Next {
    match poll_at(ended, made) {
        Some(at) => Next::SettleAt { at: at.max(now), reason: format!("its outcome is unknown; {why}") },
        None => after_settle_window(standing, now),
    }
}

/// What follows where something settled the unknown attempt meanwhile: a late answer, a receipt. `standing` counts
/// the attempt.
pub fn after_evidence(standing: &Standing<'_>, attempt: &Attempt, now: DateTime<Utc>, jitter: f64) -> Next {
    if attempt.status == AttemptStatus::Accepted {
        return Next::Sent;
    }
    let class = match attempt.status {
        AttemptStatus::RefusedPermanent => ErrorClass::Permanent,
        AttemptStatus::RefusedTemporary => ErrorClass::Temporary,
        AttemptStatus::NotSent => ErrorClass::NotSent,
        AttemptStatus::Accepted | AttemptStatus::Intent | AttemptStatus::Unknown => {
            return after_settle_window(standing, now);
        }
    };
    let error = match &attempt.error {
        Some(known) => AttemptError { class, ..known.clone() },
        None => AttemptError { class, code: None, detail: "it turned out not to have been sent".into() },
    };
    let before = Standing {
        attempts: standing.attempts.saturating_sub(1),
        attempts_on_hop: standing.attempts_on_hop.saturating_sub(1),
        ..*standing
    };
    after_attempt(&before, &Outcome::Failed { error, retry_after_seconds: None }, now, jitter)
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

/// What follows when a message was sent and its time to be answered is over. `echoes` are what people did with it and
/// what receipts said, by name; what machines did is not among them.
pub fn after_silence(standing: &Standing<'_>, echoes: &[String], now: DateTime<Utc>) -> Next {
    let stays = |reason: Option<&str>| Next::Stays { reason: reason.map(str::to_owned) };
    let Some(escalation) = &standing.plan.escalation else { return stays(None) };
    if standing.escalated || echoes.iter().any(|echo| implies(echo, &escalation.unless)) {
        return stays(None);
    }
    if standing.past_deadline(now) {
        return stays(Some("the escalation was not sent: the deadline has passed"));
    }
    if standing.attempts >= ATTEMPTS_MAX {
        return stays(Some("the escalation was not sent: no attempt is left"));
    }
    let (minutes, unless) = (escalation.after_seconds / 60, &escalation.unless);
    let after = if minutes % 60 == 0 { format!("{} h", minutes / 60) } else { format!("{minutes} min") };
    Next::Escalate { hop: escalation.hop, at: now, reason: format!("not {unless} within {after}") }
}

/// Who clicked or answered has opened, and what was opened was delivered.
fn implies(echo: &str, wanted: &str) -> bool {
    let known = |name: &str| match name {
        "delivered" => Some(0),
        "opened" | "read" => Some(1),
        "clicked" | "replied" => Some(2),
        _ => None,
    };
    echo == wanted
        || known(wanted).zip(known(echo)).is_some_and(|(wanted, echo)| wanted < 2 && echo >= wanted)
}

/// What follows a verified receipt that says that what the current hop sent will not arrive; `None` where nothing
/// does: the message is not `sent` any more, or this was its escalation. `standing` counts that attempt, and the
/// caller makes sure that it is the message's last one.
pub fn after_receipt(
    standing: &Standing<'_>,
    status: Status,
    error: Option<&AttemptError>,
    now: DateTime<Utc>,
) -> Option<Next> {
    if status != Status::Sent || standing.escalated {
        return None;
    }
    let reason = error.map_or_else(|| "reported as not delivered".to_owned(), words);
    let failed = Next::End { status: Status::Failed, reason: reason.clone() };
    let refused =
        standing.plan.class == MessageClass::Marketing && error.is_some_and(AttemptError::says_opted_out);
    if refused || standing.past_deadline(now) {
        return Some(failed);
    }
    let before = Standing { attempts: standing.attempts.saturating_sub(1), ..*standing };
    Some(fall_back(&before, now, reason, Status::Failed))
}

/// What follows when the hop at hand cannot be tried at all: its recipient refused this sender, or no driver
/// is there. Where an earlier attempt may have arrived, a person decides.
pub fn without_attempt(standing: &Standing<'_>, now: DateTime<Utc>, reason: String, end: Status) -> Next {
    if standing.may_have_arrived() {
        let reason = format!("{reason}; an earlier attempt may have arrived");
        return Next::End { status: Status::Unresolved, reason };
    }
    let hop = standing.hop.saturating_add(1);
    if usize::from(hop) >= standing.plan.fallback_hops() {
        return standing.end(end, reason);
    }
    Next::FallBackTo { hop, at: now, reason }
}

/// The end of a message that ran out of time or of attempts before this attempt could begin.
pub(super) fn stopped(standing: &Standing<'_>, status: Status, reason: &str) -> Next {
    if standing.may_have_arrived() {
        let reason = format!("{reason}; an earlier attempt may have arrived");
        return Next::End { status: Status::Unresolved, reason };
    }
    standing.end(status, reason.to_owned())
}

/// The first later hop that satisfies `may`, unless an earlier attempt may have arrived (P5).
pub(super) fn later_hop(standing: &Standing<'_>, may: impl Fn(&Hop) -> bool) -> Option<u16> {
    if standing.may_have_arrived() {
        return None;
    }
    let (from, to) = (usize::from(standing.hop) + 1, standing.plan.fallback_hops());
    let found = standing.plan.hops.iter().take(to).skip(from).position(may)?;
    u16::try_from(from + found).ok()
}
