//! Ends that are asked for, and one that is brought on (reliability.md F5 to F7): SIGTERM while providers are slow, or
//! never answer, and a message that kills whoever takes it up.

use std::time::{Duration, Instant};

use super::bench::{Bench, Channel, Mood, UNHURRIED, in_time, mark, request};

const MESSAGES: usize = 30;
/// The longest that a daemon may take to end (P12).
const ENDS_WITHIN: Duration = Duration::from_secs(30);

fn full() -> bool {
    std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some()
}

/// Acknowledged, and nothing waited for.
fn submit(bench: &mut Bench, n: usize) {
    let (key, body) = (format!("key-{n}"), request(Channel::Sms, n, "notification"));
    let headers = [("idempotency-key", key.as_str()), ("prefer", "respond-async")];
    let answer = bench.daemon.call("POST", "/v1/messages", &headers, &body).expect("an answer");
    assert_eq!(answer.status, 202, "{answer:?}");
    bench.note([(n, answer.body["messageId"].as_str().unwrap().to_owned())].into());
}

fn ends(bench: &mut Bench) -> Duration {
    let began = Instant::now();
    assert_eq!(bench.daemon.terminate(), Some(0), "{}", bench.daemon.log());
    began.elapsed()
}

#[test]
fn told_to_stop_under_load_it_lets_slow_providers_answer_and_leaves_nothing_unknown() {
    let (rounds, mut longest) = (if full() { 20 } else { 3 }, Duration::ZERO);
    let slow = Mood::Slow(Duration::from_secs(1));
    let Some(mut bench) = Bench::with_speed(Channel::Sms, slow, false, UNHURRIED) else { return };
    bench.daemon.start();
    for round in 0..rounds {
        let numbers = round * MESSAGES..(round + 1) * MESSAGES;
        for n in numbers.clone() {
            submit(&mut bench, n);
        }
        let before = bench.ledger.entries().len();
        assert!(in_time(|| bench.ledger.entries().len() > before || before > round * MESSAGES));
        longest = longest.max(ends(&mut bench));
        bench.daemon.start();
        for n in numbers {
            let record = bench.settled(n);
            assert!(!record.to_string().contains("\"unknown\""), "{n}: {record}\n{}", bench.daemon.log());
            assert_eq!(bench.ledger.count(&mark(n)), 1, "{n}: {record}");
        }
    }
    assert!(longest < ENDS_WITHIN, "{longest:?}");
    bench.judge(true);
    println!("{rounds} stops, the longest took {longest:?}");
    bench.end();
}

#[test]
fn told_to_stop_while_a_provider_hangs_it_ends_in_time_and_only_what_hung_is_unknown() {
    const HANGING: usize = 5;
    let Some(mut bench) = Bench::with_speed(Channel::Sms, Mood::Hangs(HANGING), false, UNHURRIED) else {
        return;
    };
    bench.set_up("", "[limits]\ndrain_seconds = 4\n");
    bench.daemon.start();
    for n in 0..HANGING {
        submit(&mut bench, n);
    }
    assert!(in_time(|| bench.ledger.entries().len() == HANGING));
    for n in HANGING..MESSAGES {
        submit(&mut bench, n);
    }
    let took = ends(&mut bench);
    assert!(took >= Duration::from_secs(4) && took < ENDS_WITHIN, "{took:?}");
    assert!(
        bench.daemon.log().contains("attempts were still in flight at the end"),
        "{}",
        bench.daemon.log()
    );
    bench.daemon.start();
    let mut unknown = 0;
    for n in 0..MESSAGES {
        let record = bench.settled(n);
        let timeline = record["timeline"].as_array().unwrap();
        let lost = timeline.iter().any(|event| event["event"] == "unknown");
        assert!(!lost || n < HANGING, "{n}: {record}");
        unknown += usize::from(lost);
        // Its provider's list, or a receipt, shows what hung.
        assert_eq!(bench.ledger.count(&mark(n)), 1, "{n}: {record}");
    }
    // A receipt that came before the end settles an attempt whose answer hangs.
    assert!(unknown <= HANGING, "{unknown}");
    bench.judge(false);
    println!("{HANGING} hung, {unknown} were unknown at the next start; it ended after {took:?}");
    bench.end();
}

#[test]
fn a_message_that_kills_whoever_takes_it_up_is_set_aside_and_the_others_flow() {
    let Some(mut bench) = Bench::with_speed(Channel::Sms, Mood::Well, false, UNHURRIED) else { return };
    // The recipient of message 0.
    bench.daemon.set("ORCHESTRATOR_TEST_POISON", Some("p0".into()));
    bench.daemon.start();
    submit(&mut bench, 0);
    for n in 1..6 {
        let acknowledged = in_time(|| {
            bench.revive();
            let (key, body) = (format!("key-{n}"), request(Channel::Sms, n, "notification"));
            let headers = [("idempotency-key", key.as_str()), ("prefer", "respond-async")];
            let answer = bench.daemon.call("POST", "/v1/messages", &headers, &body);
            let Some(answer) = answer.filter(|answer| matches!(answer.status, 200 | 202)) else {
                return false;
            };
            bench.note([(n, answer.body["messageId"].as_str().unwrap().to_owned())].into());
            true
        });
        assert!(acknowledged, "{}", bench.daemon.log());
    }
    let record = bench.settled(0);
    let set_aside = Instant::now();
    assert_eq!(record["status"], "quarantined", "{record}");
    for n in 1..6 {
        let record = bench.settled(n);
        assert_eq!(bench.ledger.count(&mark(n)), 1, "{n}: {record}");
    }
    let flowed = set_aside.elapsed();
    assert!(flowed < Duration::from_secs(10), "the others took {flowed:?}");
    assert_eq!(bench.ledger.count(&mark(0)), 0);
    assert!((3..=5).contains(&bench.deaths), "{} deaths", bench.deaths);
    let (clean, said) = bench.daemon.command(&["audit"]);
    assert!(clean, "{said}");
    println!("set aside after {} deaths; the others were sent {flowed:?} later", bench.deaths);
    bench.end();
}
