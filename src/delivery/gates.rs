//! The gates of time, checked anew right before an attempt: the deadline, `sendAt`, quiet hours, France's
//! window (reliability.md P7).
//!
//! Pure. Suppressions are not here: they are read in the transaction that records the intent.

use chrono::{DateTime, Utc};

use super::machine::{ATTEMPTS_MAX, ATTEMPTS_PER_HOP_MAX, Standing, later_hop, stopped};
use crate::domain::{
    delivery::{Hop, Next, Plan, Status},
    time::{french_marketing_sms_allowed_from, parse_time_zone},
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
    let (until, why) = held_until(hop, plan, now)?;
    if until <= plan.deadline {
        return Some(Next::HoldUntil { at: until, reason: why.into() });
    }
    let reason = format!("{why} last longer than the message may wait");
    Some(match later_hop(standing, |hop| held_until(hop, plan, now).is_none()) {
        Some(hop) => Next::FallBackTo { hop, at: now, reason },
        None => stopped(standing, Status::Expired, &reason),
    })
}

/// Until when the hours hold this hop, and which; `None` when it may go now.
pub fn held_until(hop: &Hop, plan: &Plan, now: DateTime<Utc>) -> Option<(DateTime<Utc>, &'static str)> {
    let zone = parse_time_zone(&plan.time_zone).unwrap_or(chrono_tz::UTC);
    let mut held: Option<(DateTime<Utc>, &'static str)> = None;
    // One rule's end may fall into the other's hours: looked at again until neither holds. Each turn moves
    // forward, and a week of turns is more than Sundays and holidays can make.
    for _ in 0..14 {
        let at = held.map_or(now, |(until, _)| until);
        let quiet = hop.quiet_hours.and_then(|hours| hours.end_after(at, zone)).filter(|end| *end > at);
        let legal = if hop.french_legal_window { french_marketing_sms_allowed_from(at, zone) } else { None };
        held = match (quiet, legal) {
            (None, None) => break,
            (Some(end), _) => Some((end, held.map_or("quiet hours", |(_, why)| why))),
            (None, Some(end)) => Some((end, held.map_or("the legal hours of marketing SMS", |(_, why)| why))),
        };
    }
    held
}
