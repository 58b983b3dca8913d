//! What is checked anew right before an attempt: the deadline, `sendAt`, quiet hours, France's window, and what the
//! tenant's policy says now (reliability.md P7).
//!
//! Pure. Suppressions, budgets and caps are not here: they are read in the transaction that records the intent; only
//! what follows where a budget is used up is said here.

use chrono::{DateTime, Utc};

use super::{
    machine::{ATTEMPTS_MAX, ATTEMPTS_PER_HOP_MAX, Standing, later_hop, stopped, without_attempt},
    terms::AttemptTerms,
};
use crate::domain::{
    delivery::{Hop, Next, Plan, Status},
    time::{Hold, hold_at, next_period, parse_time_zone},
};

/// What keeps the attempt from being made now; `None` lets it go.
pub fn before_attempt(standing: &Standing<'_>, now: DateTime<Utc>) -> Option<Next> {
    let plan = standing.plan;
    let Some(hop) = standing.current() else {
        let reason = format!("its plan has no hop {}", standing.hop);
        return Some(Next::End { status: Status::Quarantined, reason });
    };
    if standing.past_deadline(now) {
        return Some(stopped(standing, Status::Expired, "the deadline has passed"));
    }
    if standing.attempts >= ATTEMPTS_MAX || standing.attempts_on_hop >= ATTEMPTS_PER_HOP_MAX {
        return Some(stopped(standing, Status::Failed, "no attempt is left"));
    }
    if let Some(at) = plan.not_before.filter(|at| *at > now) {
        if at > plan.deadline {
            let reason = "it may not be sent before its deadline";
            return Some(stopped(standing, Status::Expired, reason));
        }
        let reason = plan.held_reason.clone().unwrap_or_else(|| "not to be sent yet".into());
        return Some(Next::HoldUntil { at, reason });
    }
    let Hold { until, reason } = hold(hop, plan, now)?;
    if until <= plan.deadline {
        return Some(Next::HoldUntil { at: until, reason });
    }
    let reason = format!("{reason}: longer than the message may wait");
    Some(match later_hop(standing, |hop| hold(hop, plan, now).is_none()) {
        Some(hop) => Next::FallBackTo { hop, at: now, reason },
        None => stopped(standing, Status::Expired, &reason),
    })
}

/// What holds this hop now: the same rule that decided it.
fn hold(hop: &Hop, plan: &Plan, now: DateTime<Utc>) -> Option<Hold> {
    let zone = parse_time_zone(&plan.time_zone).unwrap_or(chrono_tz::UTC);
    hold_at(now, zone, hop.quiet_hours, hop.french_legal_window)
}

/// What the tenant's policy, or an operator, has against the attempt now; `None` lets it go. A paused message is looked
/// at again at `paused_until`, and not held over its deadline.
pub fn before_terms(
    standing: &Standing<'_>,
    terms: &AttemptTerms,
    paused_until: DateTime<Utc>,
    now: DateTime<Utc>,
) -> Option<Next> {
    if let Some(why) = &terms.paused {
        return Some(held_by_pause(standing, why.clone(), paused_until));
    }
    let why = terms.refused.as_ref()?;
    Some(without_attempt(standing, now, why.clone(), Status::Skipped))
}

/// A pause in force: looked at once more when the deadline is over, and then it expires.
pub fn held_by_pause(standing: &Standing<'_>, reason: String, paused_until: DateTime<Utc>) -> Next {
    Next::HoldUntil { at: paused_until.min(standing.plan.deadline + chrono::TimeDelta::seconds(1)), reason }
}

/// What follows where a budget is used up: a wait for the tenant's next day or month where the policy wants that and
/// the message can, else the next channel.
pub fn at_budget_limit(
    standing: &Standing<'_>,
    reason: String,
    monthly: bool,
    waits: bool,
    now: DateTime<Utc>,
) -> Next {
    let zone = parse_time_zone(&standing.plan.budget_time_zone).unwrap_or(chrono_tz::UTC);
    let at = next_period(now, zone, monthly);
    if waits && at <= standing.plan.deadline {
        return Next::HoldUntil { at, reason };
    }
    without_attempt(standing, now, reason, Status::Skipped)
}
