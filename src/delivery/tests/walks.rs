//! Walks through the machine: whatever providers do, every message ends, and is accepted no more often than P4 allows.

use proptest::{prelude::*, test_runner::RngSeed};

use super::*;
use crate::delivery::machine::{ATTEMPTS_MAX, ATTEMPTS_PER_HOP_MAX, after_poll, after_receipt};

/// What the world does with one attempt.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Accepted,
    Refused,
    Busy,
    /// 429, asking for so many seconds.
    Flood(u32),
    Unreachable,
    WrongCredential,
    /// The answer is lost; whether the provider had taken it, and after how many look-ups it shows that, if ever.
    Lost {
        taken: bool,
        shown_at: Option<u16>,
    },
    /// Accepted, and then reported as undelivered.
    Bounced,
}

fn fate() -> impl Strategy<Value = Fate> {
    prop_oneof![
        2 => Just(Fate::Accepted),
        3 => Just(Fate::Refused),
        3 => Just(Fate::Busy),
        1 => (0..7_200_u32).prop_map(Fate::Flood),
        3 => Just(Fate::Unreachable),
        1 => Just(Fate::WrongCredential),
        4 => (any::<bool>(), proptest::option::of(1..=3_u16))
            .prop_map(|(taken, shown)| Fate::Lost { taken, shown_at: shown.filter(|_| taken) }),
        1 => Just(Fate::Bounced),
    ]
}

/// What came of a walk.
#[derive(Debug, Default)]
struct Walked {
    /// Acceptances that no receipt took back before the next attempt.
    accepted: u32,
    /// Attempts that ended unknown, and those of them that nothing settled.
    unknown: u32,
    unsettled: u32,
    resends: u32,
    /// Attempts that count, by hop, with the seconds at which they were made.
    tried: Vec<(u16, i64)>,
    end: Option<String>,
}

fn outcome(fate: Fate) -> Outcome {
    match fate {
        Fate::Accepted | Fate::Bounced => Outcome::Accepted { provider_message_id: None, cost: None },
        Fate::Refused => failed(ErrorClass::Permanent),
        Fate::Busy => failed(ErrorClass::Temporary),
        Fate::Flood(seconds) => Outcome::Failed {
            error: AttemptError { class: ErrorClass::Temporary, code: None, detail: "429".into() },
            retry_after_seconds: Some(seconds),
        },
        Fate::Unreachable => failed(ErrorClass::NotSent),
        Fate::WrongCredential => failed(ErrorClass::Misconfigured),
        Fate::Lost { .. } => failed(ErrorClass::Unknown),
    }
}

/// Follows a message until its end, as the worker would.
fn walk(plan: &Plan, start: DateTime<Utc>, fates: &[Fate], jitter: f64) -> Walked {
    let (mut now, mut at_hop, mut walked) = (start, standing(plan), Walked::default());
    let mut fates = fates.iter().copied().chain(std::iter::repeat(Fate::Refused));
    for step in 0.. {
        assert!(step < 2_000, "does not end: {walked:?}");
        if let Some(next) = before_attempt(&at_hop, now) {
            if let Next::HoldUntil { at, .. } = next {
                now = at;
                continue;
            }
            if !follow(&mut at_hop, &mut now, &mut walked, &next) {
                return walked;
            }
            continue;
        }
        let Some(fate) = fates.next() else { unreachable!() };
        let mut next = after_attempt(&at_hop, &outcome(fate), now, jitter);
        if !matches!(next, Next::WaitUntil { .. }) {
            walked.tried.push((at_hop.hop, (now - start).num_seconds()));
            at_hop.attempts += 1;
            at_hop.attempts_on_hop += 1;
        }
        at_hop.last = Some(AttemptStatus::RefusedTemporary);
        walked.accepted += u32::from(matches!(fate, Fate::Accepted | Fate::Lost { taken: true, .. }));
        if let Fate::Lost { shown_at, .. } = fate {
            walked.unknown += 1;
            at_hop.last = Some(AttemptStatus::Unknown);
            next = settle(&at_hop, &mut now, shown_at, next);
            walked.unsettled += u32::from(next != Next::Sent);
        }
        if matches!(fate, Fate::Bounced) && now <= plan.deadline {
            at_hop.last = Some(AttemptStatus::Accepted);
            next = after_receipt(&at_hop, Status::Sent, None, now).unwrap_or(Next::Sent);
        }
        if !follow(&mut at_hop, &mut now, &mut walked, &next) {
            return walked;
        }
    }
    walked
}

/// Asks the provider until it shows the attempt, or until it was asked often enough.
fn settle(standing: &Standing<'_>, now: &mut DateTime<Utc>, shown_at: Option<u16>, first: Next) -> Next {
    let (ended, mut next) = (*now, first);
    for made in 1.. {
        let Next::SettleAt { at, .. } = next else { return next };
        *now = at;
        if shown_at == Some(made) {
            return Next::Sent;
        }
        next = after_poll(standing, ended, made, "it is not there", *now);
    }
    next
}

/// Takes the step; false at the end.
fn follow(standing: &mut Standing<'_>, now: &mut DateTime<Utc>, walked: &mut Walked, next: &Next) -> bool {
    match next {
        Next::RetryAt { at, .. } | Next::HoldUntil { at, .. } => *now = *at,
        // A wrong credential is waited for until its probe.
        Next::WaitUntil { at, .. } => *now = (*at).max(*now + TimeDelta::seconds(60)),
        Next::ResendAt { at, .. } => {
            *now = *at;
            standing.resend_used = true;
            walked.resends += 1;
        }
        Next::FallBackTo { hop, at, .. } => {
            *now = *at;
            (standing.hop, standing.attempts_on_hop) = (*hop, 0);
        }
        ends => {
            walked.end = Some(shape(ends, *now));
            return false;
        }
    }
    true
}

fn three_channels(start: DateTime<Utc>, class: MessageClass, on_unknown: OnUnknown) -> Plan {
    let mut plan = Plan { class, ..plan(start) };
    plan.hops.push(hop(Channel::WhatsApp));
    for hop in &mut plan.hops {
        hop.on_unknown = on_unknown;
    }
    plan
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 4_000,
        rng_seed: RngSeed::Fixed(20_251_114),
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn every_walk_ends_within_the_bounds(
        fates in proptest::collection::vec(fate(), 0..14),
        marketing: bool,
        hold: bool,
        jitter in 0.0..=1.0_f64,
        deadline in 60..200_000_i64,
    ) {
        let start = at(NOON);
        let class = if marketing { MessageClass::Marketing } else { MessageClass::Transactional };
        let on_unknown = if hold { OnUnknown::Hold } else { OnUnknown::ResendOnce };
        let mut plan = three_channels(start, class, on_unknown);
        plan.deadline = start + TimeDelta::seconds(deadline);
        let walked = walk(&plan, start, &fates, jitter);
        prop_assert!(walked.end.is_some());
        // P4.
        let most = if marketing || hold || walked.unsettled == 0 { 1 } else { 2 };
        prop_assert!(walked.accepted <= most, "{walked:?}");
        prop_assert!(walked.resends <= u32::from(!marketing && !hold), "{walked:?}");
        prop_assert!(walked.unknown <= 1 + walked.resends + u32::from(walked.unsettled < walked.unknown), "{walked:?}");
        // P6.
        prop_assert!(walked.tried.len() <= usize::from(ATTEMPTS_MAX));
        for hop in 0..3 {
            let on_hop = walked.tried.iter().filter(|(at, _)| *at == hop).count();
            prop_assert!(on_hop <= usize::from(ATTEMPTS_PER_HOP_MAX), "{walked:?}");
        }
        prop_assert!(walked.tried.iter().all(|(_, at)| *at <= deadline), "{walked:?}");
    }

    /// The schedule as the spec has it: each delay in its turn, lengthened by a fifth at most, never over the deadline.
    #[test]
    fn retries_come_when_the_policy_says(
        delays in proptest::collection::vec(1..5_000_u32, 0..=3),
        jitter in 0.0..=1.0_f64,
        deadline in 1..20_000_i64,
    ) {
        let start = at(NOON);
        let mut plan = plan(start);
        plan.hops.truncate(1);
        plan.hops[0].retry_delays = delays.clone();
        plan.deadline = start + TimeDelta::seconds(deadline);
        let walked = walk(&plan, start, &[Fate::Busy; 14], jitter);
        let (mut at_millis, mut expected) = (0_i64, vec![0]);
        for delay in delays {
            at_millis += (f64::from(delay) * (1.0 + 0.2 * jitter) * 1000.0).round() as i64;
            if at_millis > deadline * 1000 {
                break;
            }
            expected.push(at_millis / 1000);
        }
        let tried: Vec<i64> = walked.tried.iter().map(|(_, at)| *at).collect();
        prop_assert_eq!(tried, expected);
        prop_assert_eq!(walked.end.as_deref(), Some("end failed"));
    }
}
