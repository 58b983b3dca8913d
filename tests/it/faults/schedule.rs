//! When a message is tried again: by its schedule, lengthened by chance, as the provider asks, and never after its
//! deadline (reliability.md P6, F32, F34). The times are those at which the provider was asked.

use channel_orchestrator::domain::delivery::{AttemptStatus, NewMessage, Status};

use super::desk::{Desk, only};
use crate::{
    store::fixture::at,
    support::{
        ledger::AtDot,
        provider::{Act, Says},
    },
};

const LATER: AtDot = AtDot::Say("451 4.3.0 not now");

fn with_delays(email: bool, delays: &[u32]) -> NewMessage {
    let mut message = only(email);
    message.plan.as_mut().unwrap().hops[0].retry_delays = delays.to_vec();
    message
}

#[tokio::test]
async fn twenty_one_random_schedules_are_kept_to_the_second() {
    // Numerical Recipes' generator: the same schedules in every run.
    let mut seed = 21_u32;
    let mut next = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 8) % below
    };
    let jitters: [(fn() -> f64, f64); 3] = [(|| 0.0, 1.0), (|| 0.5, 1.1), (|| 1.0, 1.2)];
    for round in 0..21 {
        let delays: Vec<u32> = (0..=next(4)).map(|_| 10 + 10 * next(90)).collect();
        let (jitter, factor) = jitters[round % 3];
        let mut desk = Desk::mail(|_| LATER).await;
        desk.worker.jitter = jitter;
        let message = with_delays(true, &delays);
        desk.accept(&message).await;
        let record = desk.to_the_end(&message).await;
        // At most four attempts, however many delays there are.
        let mut expected = vec![0];
        for delay in delays.iter().take(3) {
            expected.push(expected.last().unwrap() + (f64::from(*delay) * factor).round() as i64);
        }
        assert_eq!(desk.tried(), expected, "{delays:?} times {factor}");
        assert_eq!((record.status, desk.ledger.entries().len()), (Status::Failed, 0));
        desk.end().await;
    }
}

#[tokio::test]
async fn nothing_starts_after_the_deadline() {
    for (deadline, expected) in
        [(59, vec![0]), (60, vec![0, 60]), (600, vec![0, 60, 360]), (1_260, vec![0, 60, 360, 1_260])]
    {
        let desk = Desk::mail(|_| LATER).await;
        let mut message = only(true);
        message.plan.as_mut().unwrap().deadline = at(deadline);
        desk.accept(&message).await;
        desk.to_the_end(&message).await;
        assert_eq!(desk.tried(), expected, "within {deadline} s");
        desk.end().await;
    }
}

#[tokio::test]
async fn what_cannot_be_reached_is_tried_four_times() {
    let desk = Desk::unreachable().await;
    let message = only(false);
    desk.accept(&message).await;
    let record = desk.to_the_end(&message).await;
    let tried: Vec<i64> = record.attempts.iter().map(|a| (a.started_at - at(0)).num_seconds()).collect();
    assert_eq!(tried, [0, 60, 360, 1_260]);
    assert!(record.attempts.iter().all(|attempt| attempt.status == AttemptStatus::NotSent));
    assert_eq!(record.status, Status::Failed);
    desk.end().await;
}

#[tokio::test]
async fn a_provider_that_asks_for_patience_gets_it_and_costs_no_attempt() {
    // The schedule's 60 s are the least; an hour is the most that is believed.
    for (asked, wait) in [
        (None, 60),
        (Some("0"), 60),
        (Some("-1"), 60),
        (Some("soon"), 60),
        (Some("90"), 90),
        (Some("1000000000"), 3_600),
        (Some("Sat, 15 Nov 2025 09:05:00 GMT"), 300),
        (Some("Sat, 15 Nov 2025 08:00:00 GMT"), 60),
        (Some("Sun, 16 Nov 2025 09:00:00 GMT"), 3_600),
    ] {
        let desk = Desk::sms(move |n| {
            let headers = asked.map(|text| ("Retry-After", text.to_owned())).into_iter().collect();
            let says = Says::Answer { status: 429, headers, body: r#"{"code":20429}"#.into() };
            if n == 0 { Act { keeps: false, says } } else { Act::ACCEPT }
        })
        .await;
        let message = only(false);
        desk.accept(&message).await;
        let record = desk.to_the_end(&message).await;
        assert_eq!(desk.tried(), [0, wait], "{asked:?}");
        assert_eq!((record.status, desk.ledger.entries().len()), (Status::Sent, 1), "{asked:?}");
        desk.end().await;
    }
}
