//! What follows later: when an unknown outcome was looked for, when nobody answered, when a receipt came, when a
//! driver is down, when money is used up.

use super::*;
use crate::{
    delivery::{
        gates::{at_budget_limit, before_terms},
        machine::{after_evidence, after_poll, after_receipt, after_silence, poll_at, when_down},
        terms::AttemptTerms,
    },
    domain::{
        delivery::{Attempt, PlannedEscalation},
        ids::AttemptId,
    },
};

/// SMS, email, and WhatsApp to escalate to.
fn escalating(now: DateTime<Utc>, unless: &str) -> Plan {
    let mut plan = plan(now);
    plan.hops.push(hop(Channel::WhatsApp));
    plan.escalation = Some(PlannedEscalation { hop: 2, after_seconds: 21_600, unless: unless.into() });
    plan
}

#[test]
fn the_provider_is_asked_after_15_60_and_300_seconds() {
    let (ended, plan) = (at(NOON), plan(at(NOON)));
    let made: Vec<_> = (0..4).map(|made| poll_at(ended, made).map(|at| (at - ended).num_seconds())).collect();
    assert_eq!(made, [Some(15), Some(60), Some(300), None]);
    let unknown =
        Standing { attempts: 1, attempts_on_hop: 1, last: Some(AttemptStatus::Unknown), ..standing(&plan) };
    // (look-ups made, seconds since the attempt ended, what follows, seen from then)
    for (made, passed, expected) in [
        (1, 15, "settle 45"),
        (2, 60, "settle 240"),
        (3, 300, "resend 0"),
        // After a long stop the next question comes at once, and none is left out.
        (1, 4_000, "settle 0"),
        (2, 4_000, "settle 0"),
        (3, 4_000, "resend 0"),
    ] {
        let now = ended + TimeDelta::seconds(passed);
        let next = after_poll(&unknown, ended, made, "the list does not show it", now);
        assert_eq!(shape(&next, now), expected, "{made} {passed}");
    }
}

#[test]
fn what_came_to_light_meanwhile_wins_over_the_schedule() {
    let now = at(NOON);
    let plan = plan(now);
    let counted = Standing { attempts: 1, attempts_on_hop: 1, ..standing(&plan) };
    for (status, expected) in [
        (AttemptStatus::Accepted, "sent"),
        (AttemptStatus::RefusedPermanent, "fallback 1 in 0"),
        (AttemptStatus::RefusedTemporary, "retry 60"),
        (AttemptStatus::NotSent, "retry 60"),
    ] {
        let attempt = Attempt {
            id: AttemptId::new(),
            number: 1,
            hop: 0,
            channel: Channel::Sms,
            driver: "t".into(),
            status,
            started_at: now,
            finished_at: Some(now),
            provider_message_id: None,
            error: None,
            cost: MicroEuros::ZERO,
        };
        assert_eq!(shape(&after_evidence(&counted, &attempt, now, 0.0), now), expected, "{status:?}");
    }
}

#[test]
fn an_escalation_is_counted_from_the_sending_and_has_its_turn_once() {
    let now = at(NOON);
    let mut plan = escalating(now, "opened");
    let after = |plan: &Plan, hop| plan.escalation_at(hop, now).map(|at| (at - now).num_seconds());
    assert_eq!(after(&plan, 0), Some(21_600));
    assert_eq!(after(&plan, 1), Some(21_600), "after a fallback as well");
    assert_eq!(after(&plan, 2), None, "not of itself");
    plan.deadline = now + TimeDelta::seconds(21_599);
    assert_eq!(after(&plan, 0), None, "not after the deadline");
    let mut same = escalating(now, "opened");
    same.hops[1].channel = Channel::WhatsApp;
    assert_eq!(
        (after(&same, 0), after(&same, 1)),
        (Some(21_600), None),
        "not to a channel that had its turn"
    );
}

#[test]
fn silence_escalates_and_an_answer_of_a_person_does_not() {
    let now = at(NOON);
    for (unless, echoes, expected) in [
        ("opened", &[][..], "escalate 2 in 0"),
        ("opened", &["delivered"], "escalate 2 in 0"),
        ("opened", &["opened"], "stays"),
        ("opened", &["clicked"], "stays"),
        ("opened", &["replied"], "stays"),
        ("delivered", &["read"], "stays"),
        ("clicked", &["opened", "delivered"], "escalate 2 in 0"),
        ("clicked", &["replied"], "escalate 2 in 0"),
        ("replied", &["replied"], "stays"),
        ("confirmed", &["opened", "clicked"], "escalate 2 in 0"),
        ("confirmed", &["confirmed"], "stays"),
    ] {
        let plan = escalating(now, unless);
        let sent = Standing { attempts: 1, last: Some(AttemptStatus::Accepted), ..standing(&plan) };
        let echoes: Vec<String> = echoes.iter().map(|e| (*e).to_owned()).collect();
        assert_eq!(shape(&after_silence(&sent, &echoes, now), now), expected, "{unless} {echoes:?}");
        let late = now + TimeDelta::hours(25);
        assert_eq!(shape(&after_silence(&sent, &echoes, late), late), "stays", "the deadline has passed");
        let twice = Standing { escalated: true, ..sent };
        assert_eq!(shape(&after_silence(&twice, &echoes, now), now), "stays");
    }
}

#[test]
fn a_failure_never_takes_the_escalation_for_a_fallback_and_its_own_undoes_nothing() {
    let now = at(NOON);
    let plan = escalating(now, "opened");
    let last_fallback = Standing { hop: 1, ..standing(&plan) };
    let refused = after_attempt(&last_fallback, &failed(ErrorClass::Permanent), now, 0.0);
    assert_eq!(shape(&refused, now), "end failed");
    let skipped = without_attempt(&last_fallback, now, "STOP".into(), Status::Skipped);
    assert_eq!(shape(&skipped, now), "end skipped");
    let escalated = Standing {
        hop: 2,
        attempts: 1,
        escalated: true,
        last: Some(AttemptStatus::Accepted),
        ..standing(&plan)
    };
    let refused = after_attempt(&escalated, &failed(ErrorClass::Permanent), now, 0.0);
    assert_eq!(shape(&refused, now), "stays");
    let stopped = without_attempt(&escalated, now, "STOP".into(), Status::Skipped);
    assert_eq!(shape(&stopped, now), "stays");
    let late = now + TimeDelta::hours(25);
    assert_eq!(shape(&before_attempt(&escalated, late).unwrap(), late), "stays");
    // Nobody knows whether the escalation arrived: that is said.
    let unknown = Standing { last: Some(AttemptStatus::Unknown), resend_used: true, ..escalated };
    assert_eq!(shape(&after_settle_window(&unknown, now), now), "end unresolved");
}

#[test]
fn a_receipt_of_non_delivery_takes_the_next_channel() {
    let now = at(NOON);
    let error =
        AttemptError { class: ErrorClass::Permanent, code: Some("30003".into()), detail: "off".into() };
    let refused = AttemptError { code: Some("131050".into()), ..error.clone() };
    let (transactional, marketing) = (MessageClass::Transactional, MessageClass::Marketing);
    // (class, status, hop, escalated, error, seconds to the deadline, what follows)
    for (class, status, hop, escalated, error, deadline, expected) in [
        (transactional, Status::Sent, 0, false, Some(&error), 3_600, Some("fallback 1 in 0")),
        (transactional, Status::Sent, 0, false, None, 3_600, Some("fallback 1 in 0")),
        (marketing, Status::Sent, 0, false, Some(&error), 3_600, Some("fallback 1 in 0")),
        (marketing, Status::Sent, 0, false, Some(&refused), 3_600, Some("end failed")),
        (transactional, Status::Sent, 1, false, Some(&error), 3_600, Some("end failed")),
        (transactional, Status::Sent, 0, false, Some(&error), -1, Some("end failed")),
        // Delivered is never taken back, and what is on its way anew is not touched.
        (transactional, Status::Delivered, 0, false, Some(&error), 3_600, None),
        (transactional, Status::Retrying, 0, false, Some(&error), 3_600, None),
        (transactional, Status::Sending, 0, false, Some(&error), 3_600, None),
        (transactional, Status::Unresolved, 0, false, Some(&error), 3_600, None),
        (transactional, Status::Sent, 2, true, Some(&error), 3_600, None),
    ] {
        let mut plan = Plan { class, ..escalating(now, "opened") };
        plan.deadline = now + TimeDelta::seconds(deadline);
        let sent = Standing {
            hop,
            attempts: 1,
            attempts_on_hop: 1,
            escalated,
            last: Some(AttemptStatus::Accepted),
            ..standing(&plan)
        };
        let next = after_receipt(&sent, status, error, now).map(|next| shape(&next, now));
        assert_eq!(next.as_deref(), expected, "{class:?} {status} {hop} {deadline}");
    }
}

#[test]
fn a_driver_that_is_down_is_waited_for_within_the_deadline() {
    let now = at(NOON);
    let plan = Plan { deadline: now + TimeDelta::seconds(100), ..plan(now) };
    let shut = |standing: &Standing<'_>, seconds| {
        shape(&when_down(standing, now + TimeDelta::seconds(seconds), "down".into(), now), now)
    };
    assert_eq!(shut(&standing(&plan), 100), "wait 100");
    assert_eq!(shut(&standing(&plan), 101), "fallback 1 in 0");
    assert_eq!(shut(&Standing { hop: 1, ..standing(&plan) }, 101), "end failed");
}

#[test]
fn used_up_money_is_waited_for_or_goes_by_another_channel() {
    // 15:00 in Paris on the 14th: the next day begins in 9 hours, the next month in 16 days and 9 hours.
    let now = at(NOON);
    let limit = |hours: i64, monthly, waits, hop| {
        let plan = Plan { deadline: now + TimeDelta::hours(hours), ..plan(now) };
        let standing = Standing { hop, ..standing(&plan) };
        shape(&at_budget_limit(&standing, "used up".into(), monthly, waits, now), now)
    };
    assert_eq!(limit(24, false, true, 0), "hold 32400");
    assert_eq!(limit(8, false, true, 0), "fallback 1 in 0");
    assert_eq!(limit(24, false, false, 0), "fallback 1 in 0");
    assert_eq!(limit(24, false, false, 1), "end skipped");
    assert_eq!(limit(24 * 30, true, true, 0), "hold 1414800");
    assert_eq!(limit(24, true, true, 0), "fallback 1 in 0");
}

#[test]
fn a_pause_holds_and_a_refusal_of_the_policy_gives_way() {
    let now = at(NOON);
    let plan = plan(now);
    let soon = now + TimeDelta::seconds(30);
    let judged =
        |terms: &AttemptTerms| before_terms(&standing(&plan), terms, soon, now).map(|n| shape(&n, now));
    assert_eq!(judged(&AttemptTerms::default()), None);
    let paused = AttemptTerms { paused: Some("audit".into()), ..AttemptTerms::default() };
    assert_eq!(judged(&paused).as_deref(), Some("hold 30"));
    let refused = AttemptTerms { refused: Some("no consent".into()), ..AttemptTerms::default() };
    assert_eq!(judged(&refused).as_deref(), Some("fallback 1 in 0"));
}
