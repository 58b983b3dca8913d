//! The tables of what follows what: every row of reliability.md 5.2 that a worker can meet, and P4 to P6.

mod later;
mod walks;

use chrono::{DateTime, NaiveTime, TimeDelta, Utc};

use super::{
    gates::before_attempt,
    machine::{Standing, after_attempt, after_settle_window, without_attempt},
};
use crate::domain::{
    address::Address,
    channel::Channel,
    delivery::{
        AttemptError, AttemptStatus, ErrorClass, Hop, Next, OnUnknown, Outcome, Plan, Status, TrackingTerms,
    },
    message::MessageClass,
    money::MicroEuros,
    time::QuietHours,
};

/// A Friday, 15:00 in Paris.
const NOON: &str = "2025-11-14T14:00:00Z";
/// The same day, 23:00 in Paris.
const NIGHT: &str = "2025-11-14T22:00:00Z";

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn hop(channel: Channel) -> Hop {
    Hop {
        channel,
        address: Address::Phone("+33612345678".into()),
        drivers: Vec::new(),
        from: None,
        from_name: None,
        reply_to: None,
        cost: MicroEuros(50_000),
        quiet_hours: None,
        french_legal_window: false,
        retry_delays: vec![60, 300, 900],
        after_retries: None,
        on_unknown: OnUnknown::ResendOnce,
        rendered: None,
    }
}

/// SMS, then email, for a day.
fn plan(now: DateTime<Utc>) -> Plan {
    Plan {
        hops: vec![hop(Channel::Sms), hop(Channel::Email)],
        not_before: None,
        held_reason: None,
        deadline: now + TimeDelta::hours(24),
        class: MessageClass::Transactional,
        time_zone: "Europe/Paris".into(),
        budget_time_zone: "Europe/Paris".into(),
        escalation: None,
        tracking: TrackingTerms::default(),
        priority: None,
    }
}

fn standing(plan: &Plan) -> Standing<'_> {
    Standing {
        plan,
        hop: 0,
        attempts: 0,
        attempts_on_hop: 0,
        resend_used: false,
        last: None,
        escalated: false,
    }
}

fn failed(class: ErrorClass) -> Outcome {
    Outcome::failed(class, "so it was")
}

/// The step without its reason: `retry 60`, `fallback 1`, `hold 32400`, `end failed`.
fn shape(next: &Next, now: DateTime<Utc>) -> String {
    let seconds = |at: &DateTime<Utc>| (*at - now).as_seconds_f64();
    match next {
        Next::Sent => "sent".into(),
        Next::RetryAt { at, .. } => format!("retry {}", seconds(at)),
        Next::WaitUntil { at, .. } => format!("wait {}", seconds(at)),
        Next::Escalate { hop, at, .. } => format!("escalate {hop} in {}", seconds(at)),
        Next::Stays { .. } => "stays".into(),
        Next::FallBackTo { hop, at, .. } => format!("fallback {hop} in {}", seconds(at)),
        Next::SettleAt { at, .. } => format!("settle {}", seconds(at)),
        Next::ResendAt { at, .. } => format!("resend {}", seconds(at)),
        Next::HoldUntil { at, .. } => format!("hold {}", seconds(at)),
        Next::End { status, .. } => format!("end {status}"),
    }
}

/// (how the attempt ended, hop, attempts before it on the hop, seconds to the deadline, what follows)
type AttemptCase = (ErrorClass, u16, u16, i64, &'static str);

const AFTER_ATTEMPT: &[AttemptCase] = &[
    (ErrorClass::Permanent, 0, 0, 86_400, "fallback 1 in 0"),
    (ErrorClass::Permanent, 0, 3, 86_400, "fallback 1 in 0"),
    (ErrorClass::Permanent, 1, 0, 86_400, "end failed"),
    (ErrorClass::Permanent, 0, 0, -1, "end expired"),
    (ErrorClass::Temporary, 0, 0, 86_400, "retry 60"),
    (ErrorClass::Temporary, 0, 1, 86_400, "retry 300"),
    (ErrorClass::Temporary, 0, 2, 86_400, "retry 900"),
    (ErrorClass::Temporary, 0, 3, 86_400, "fallback 1 in 0"),
    (ErrorClass::Temporary, 1, 3, 86_400, "end failed"),
    // `sendWithin: 10` and the third retry: a fallback now, not a retry too late (P6).
    (ErrorClass::Temporary, 0, 2, 899, "fallback 1 in 0"),
    (ErrorClass::Temporary, 0, 2, 900, "retry 900"),
    (ErrorClass::Temporary, 1, 2, 899, "end failed"),
    (ErrorClass::NotSent, 0, 0, 86_400, "retry 60"),
    (ErrorClass::NotSent, 0, 3, 86_400, "fallback 1 in 0"),
    // The credential is paused, not the message: it uses no attempt, and goes by the next driver at once.
    (ErrorClass::Misconfigured, 0, 0, 86_400, "wait 0"),
    (ErrorClass::Misconfigured, 0, 3, 86_400, "wait 0"),
    (ErrorClass::Misconfigured, 1, 3, -1, "wait 0"),
    // Unknown never falls back, not even past the deadline or on the last hop.
    (ErrorClass::Unknown, 0, 0, 86_400, "settle 15"),
    (ErrorClass::Unknown, 0, 3, 86_400, "settle 15"),
    (ErrorClass::Unknown, 1, 0, -1, "settle 15"),
];

#[test]
fn used_up_retries_go_where_the_tenant_said_and_a_refusal_goes_to_the_next() {
    let now = at(NOON);
    let mut plan = plan(now);
    plan.hops.push(hop(Channel::WhatsApp));
    plan.hops[0].after_retries = Some(2);
    let used_up = Standing { attempts_on_hop: 3, ..standing(&plan) };
    let after =
        |standing: &Standing<'_>, class| shape(&after_attempt(standing, &failed(class), now, 0.0), now);
    assert_eq!(after(&used_up, ErrorClass::Temporary), "fallback 2 in 0");
    assert_eq!(after(&used_up, ErrorClass::Permanent), "fallback 1 in 0");
}

#[test]
fn after_an_attempt() {
    let now = at(NOON);
    for (class, hop, on_hop, deadline, expected) in AFTER_ATTEMPT {
        let plan = Plan { deadline: now + TimeDelta::seconds(*deadline), ..plan(now) };
        let standing = Standing { hop: *hop, attempts: *on_hop, attempts_on_hop: *on_hop, ..standing(&plan) };
        let next = after_attempt(&standing, &failed(*class), now, 0.0);
        assert_eq!(shape(&next, now), *expected, "{class:?} hop {hop} attempt {on_hop} deadline {deadline}");
    }
    let accepted = Outcome::Accepted { provider_message_id: None, cost: None };
    assert_eq!(after_attempt(&standing(&plan(now)), &accepted, now, 0.0), Next::Sent);
}

#[test]
fn a_delay_is_lengthened_by_at_most_a_fifth() {
    let now = at(NOON);
    let plan = plan(now);
    for (jitter, expected) in [(0.0, "retry 60"), (0.5, "retry 66"), (1.0, "retry 72"), (9.0, "retry 72")] {
        let next = after_attempt(&standing(&plan), &failed(ErrorClass::Temporary), now, jitter);
        assert_eq!(shape(&next, now), expected);
    }
}

/// (what the provider asks for, attempts before it on the hop, seconds to the deadline, what follows)
#[test]
fn what_the_provider_asks_for_wins_where_it_is_longer_and_uses_no_attempt() {
    let now = at(NOON);
    for (asked, on_hop, deadline, expected) in [
        (Some(0), 0, 86_400, "wait 60"),
        (Some(30), 0, 86_400, "wait 60"),
        (Some(120), 0, 86_400, "wait 120"),
        (Some(120), 1, 86_400, "wait 300"),
        // The last attempt on the hop asks for patience: it is still the last one afterwards.
        (Some(120), 3, 86_400, "wait 900"),
        (Some(100_000), 0, 86_400, "wait 3600"),
        (Some(120), 0, 100, "fallback 1 in 0"),
        (None, 0, 86_400, "retry 60"),
        (None, 3, 86_400, "fallback 1 in 0"),
    ] {
        let plan = Plan { deadline: now + TimeDelta::seconds(deadline), ..plan(now) };
        let standing = Standing { attempts: on_hop, attempts_on_hop: on_hop, ..standing(&plan) };
        let error = AttemptError { class: ErrorClass::Temporary, code: None, detail: "wait".into() };
        let outcome = Outcome::Failed { error, retry_after_seconds: asked };
        let next = after_attempt(&standing, &outcome, now, 0.0);
        assert_eq!(shape(&next, now), expected, "{asked:?} {on_hop} {deadline}");
    }
}

#[test]
fn marketing_does_not_change_channels_to_reach_who_refused_it() {
    let now = at(NOON);
    for (class, code, expected) in [
        (MessageClass::Marketing, "21610", "end skipped"),
        (MessageClass::Marketing, "131050", "end skipped"),
        (MessageClass::Marketing, "21211", "fallback 1 in 0"),
        (MessageClass::Transactional, "21610", "fallback 1 in 0"),
    ] {
        let plan = Plan { class, ..plan(now) };
        let error = AttemptError {
            class: ErrorClass::Permanent,
            code: Some(code.into()),
            detail: "unsubscribed".into(),
        };
        let outcome = Outcome::Failed { error, retry_after_seconds: None };
        let next = after_attempt(&standing(&plan), &outcome, now, 0.0);
        assert_eq!(shape(&next, now), expected, "{class:?} {code}");
    }
}

#[test]
fn no_message_outlives_twelve_attempts_nor_a_channel_four() {
    let now = at(NOON);
    let mut plan = plan(now);
    plan.hops[0].retry_delays = vec![1; 20];
    let at_the_end = Standing { attempts: 11, attempts_on_hop: 1, ..standing(&plan) };
    for class in [ErrorClass::Temporary, ErrorClass::Permanent] {
        let next = after_attempt(&at_the_end, &failed(class), now, 0.0);
        assert_eq!(shape(&next, now), "end failed", "{class:?}");
    }
    let fourth = Standing { attempts: 3, attempts_on_hop: 3, ..standing(&plan) };
    let next = after_attempt(&fourth, &failed(ErrorClass::Temporary), now, 0.0);
    assert_eq!(shape(&next, now), "fallback 1 in 0");
    let over = Standing { attempts: 4, attempts_on_hop: 4, ..standing(&plan) };
    assert_eq!(before_attempt(&over, now).map(|n| shape(&n, now)).as_deref(), Some("end failed"));
}

#[test]
fn the_provider_code_leads_the_reason() {
    let now = at(NOON);
    let plan = plan(now);
    let error = AttemptError {
        class: ErrorClass::Permanent,
        code: Some("21211".into()),
        detail: "the number is invalid".into(),
    };
    let next =
        after_attempt(&standing(&plan), &Outcome::Failed { error, retry_after_seconds: None }, now, 0.0);
    let Next::FallBackTo { reason, .. } = next else { panic!("{next:?}") };
    assert_eq!(reason, "21211: the number is invalid");
}

/// (class, what the policy says, resent already, attempts on the hop, deadline passed, what follows)
type SettleCase = (MessageClass, OnUnknown, bool, u16, bool, &'static str);

const AFTER_WINDOW: &[SettleCase] = &[
    (MessageClass::Transactional, OnUnknown::ResendOnce, false, 1, false, "resend 0"),
    (MessageClass::Transactional, OnUnknown::ResendOnce, true, 2, false, "end unresolved"),
    (MessageClass::Transactional, OnUnknown::Hold, false, 1, false, "end unresolved"),
    (MessageClass::Transactional, OnUnknown::ResendOnce, false, 1, true, "end unresolved"),
    (MessageClass::Transactional, OnUnknown::ResendOnce, false, 4, false, "end unresolved"),
    (MessageClass::Marketing, OnUnknown::ResendOnce, false, 1, false, "end unresolved"),
    (MessageClass::Marketing, OnUnknown::Hold, false, 1, false, "end unresolved"),
];

#[test]
fn after_the_settling_window() {
    let now = at(NOON);
    for (class, on_unknown, resend_used, on_hop, late, expected) in AFTER_WINDOW {
        let mut plan = Plan { class: *class, ..plan(now) };
        plan.hops[0].on_unknown = *on_unknown;
        if *late {
            plan.deadline = now - TimeDelta::seconds(1);
        }
        let standing = Standing {
            attempts: *on_hop,
            attempts_on_hop: *on_hop,
            resend_used: *resend_used,
            last: Some(AttemptStatus::Unknown),
            ..standing(&plan)
        };
        let next = after_settle_window(&standing, now);
        assert_eq!(shape(&next, now), *expected, "{class:?} {on_unknown:?} {resend_used} {on_hop} {late}");
    }
}

fn night() -> Option<QuietHours> {
    let hour = |hour| NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
    Some(QuietHours { start: hour(22), end: hour(8) })
}

#[test]
fn quiet_hours_that_came_since_hold_the_message() {
    let (noon, late) = (at(NOON), at(NIGHT));
    let mut plan = plan(noon);
    plan.hops[0].quiet_hours = night();
    assert_eq!(before_attempt(&standing(&plan), noon), None);
    let next = before_attempt(&standing(&plan), late).unwrap();
    assert_eq!(shape(&next, late), "hold 32400");
    // Past the deadline by then: the next channel that may go now, else the end.
    plan.deadline = late + TimeDelta::hours(8);
    let next = before_attempt(&standing(&plan), late).unwrap();
    assert_eq!(shape(&next, late), "fallback 1 in 0");
    plan.hops[1].quiet_hours = night();
    let next = before_attempt(&standing(&plan), late).unwrap();
    assert_eq!(shape(&next, late), "end expired");
}

#[test]
fn the_legal_window_and_quiet_hours_hold_together() {
    // Saturday 22:30: the legal window opens on Monday at 8:00, this recipient's day at 9:00.
    let saturday = at("2025-11-15T21:30:00Z");
    let mut plan = plan(saturday);
    plan.deadline = saturday + TimeDelta::hours(72);
    plan.hops[0].french_legal_window = true;
    let next = before_attempt(&standing(&plan), saturday).unwrap();
    assert_eq!(shape(&next, saturday), format!("hold {}", (33 * 60 + 30) * 60));
    let hour = |hour| NaiveTime::from_hms_opt(hour, 0, 0).unwrap();
    plan.hops[0].quiet_hours = Some(QuietHours { start: hour(21), end: hour(9) });
    let next = before_attempt(&standing(&plan), saturday).unwrap();
    assert_eq!(shape(&next, saturday), format!("hold {}", (34 * 60 + 30) * 60));
}

#[test]
fn nothing_starts_before_its_time_or_after_its_deadline() {
    let now = at(NOON);
    let plan_until =
        |seconds| Plan { deadline: now + TimeDelta::seconds(seconds), not_before: None, ..plan(now) };
    assert_eq!(before_attempt(&standing(&plan_until(0)), now), None);
    let late = plan_until(-1);
    assert_eq!(before_attempt(&standing(&late), now).map(|n| shape(&n, now)).as_deref(), Some("end expired"));
    let early = Plan { not_before: Some(now + TimeDelta::hours(1)), ..plan(now) };
    assert_eq!(before_attempt(&standing(&early), now).map(|n| shape(&n, now)).as_deref(), Some("hold 3600"));
    let never = Plan { not_before: Some(now + TimeDelta::hours(25)), ..plan(now) };
    assert_eq!(
        before_attempt(&standing(&never), now).map(|n| shape(&n, now)).as_deref(),
        Some("end expired")
    );
}

#[test]
fn what_may_have_arrived_is_never_tried_on_another_channel() {
    let late = at(NIGHT);
    let mut plan = plan(late);
    plan.deadline = late + TimeDelta::hours(8);
    plan.hops[0].quiet_hours = night();
    let unknown = Standing {
        attempts: 1,
        attempts_on_hop: 1,
        resend_used: true,
        last: Some(AttemptStatus::Unknown),
        ..standing(&plan)
    };
    let next = before_attempt(&unknown, late).unwrap();
    assert_eq!(shape(&next, late), "end unresolved");
    let after = late + TimeDelta::hours(9);
    assert_eq!(shape(&before_attempt(&unknown, after).unwrap(), after), "end unresolved");
    for status in [Status::Skipped, Status::Failed] {
        let next = without_attempt(&unknown, late, "refused".into(), status);
        assert_eq!(shape(&next, late), "end unresolved");
    }
}

#[test]
fn a_hop_that_cannot_be_tried_gives_way_to_the_next() {
    let now = at(NOON);
    let plan = plan(now);
    let first = without_attempt(&standing(&plan), now, "STOP".into(), Status::Skipped);
    assert_eq!(shape(&first, now), "fallback 1 in 0");
    let last = Standing { hop: 1, ..standing(&plan) };
    assert_eq!(shape(&without_attempt(&last, now, "STOP".into(), Status::Skipped), now), "end skipped");
    let none = Standing { hop: 2, ..standing(&plan) };
    assert_eq!(shape(&before_attempt(&none, now).unwrap(), now), "end quarantined");
}
