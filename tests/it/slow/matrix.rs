//! Death at every named point (reliability.md F1, section 5.4), one point a case: the daemon is killed there, started
//! again, and asked what became of three messages.
//!
//! The short matrix takes each point once, on SQLite; the full one takes every channel, three hits and both databases.

use std::{
    any::Any,
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Instant,
};

use super::{
    bench::{Bench, Channel, Mood, SPEED, UNHURRIED, in_time},
    points::{Leaves, POINTS, Point, Trigger},
};
use crate::support::provider::phone;

/// Messages of a case.
const MESSAGES: usize = 3;
/// Cases at a time: they wait more than they work.
const AT_ONCE: usize = 6;

#[derive(Clone, Copy, Debug)]
struct Case {
    point: Point,
    channel: Channel,
    hit: u32,
    postgres: bool,
}

fn cases() -> Vec<Case> {
    let full = std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some();
    let mut cases = Vec::new();
    for (n, point) in POINTS.iter().enumerate() {
        if !full {
            // SMS and email take turns where a point is on the way of both.
            let turn = [Channel::Sms, Channel::Email][n % 2];
            let channel = if point.channels.contains(&turn) { turn } else { point.channels[0] };
            cases.push(Case { point: *point, channel, hit: point.first_hit, postgres: false });
            continue;
        }
        for &channel in point.channels {
            for hit in point.first_hit..point.first_hit + point.hits {
                for postgres in [false, true] {
                    cases.push(Case { point: *point, channel, hit, postgres });
                }
            }
        }
    }
    // One at a time, by name, for whoever looks for a fault.
    if let Ok(only) = std::env::var("ORCHESTRATOR_TEST_POINT") {
        cases.retain(|case| case.point.name == only);
    }
    cases
}

/// What the failures are, by the first word of theirs that says so.
const KINDS: [&str; 4] = ["lost", "doubled", "violation", "wrong"];

#[test]
fn killed_at_every_named_point_nothing_is_lost_and_nothing_is_sent_twice() {
    let (cases, began) = (cases(), Instant::now());
    let (next, done, failed) = (AtomicUsize::new(0), AtomicUsize::new(0), Mutex::new(Vec::new()));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(case) = cases.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let run = std::panic::AssertUnwindSafe(|| run(case));
                    if let Err(panic) = std::panic::catch_unwind(run) {
                        let Case { point, channel, hit, postgres } = case;
                        let store = if *postgres { "PostgreSQL" } else { "SQLite" };
                        let case = format!("{}={hit} {channel:?} {store}", point.name);
                        failed.lock().unwrap().push((case, words(&*panic)));
                    }
                    let done = done.fetch_add(1, Ordering::SeqCst) + 1;
                    if done.is_multiple_of(25) {
                        let failed = failed.lock().unwrap().len();
                        let seconds = began.elapsed().as_secs();
                        println!("{done} of {} cases after {seconds} s, {failed} failed", cases.len());
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    let mut kinds: BTreeMap<&str, usize> = KINDS.iter().map(|kind| (*kind, 0)).collect();
    for (case, words) in &failed {
        let kind = KINDS.into_iter().find(|kind| words.contains(&format!("{kind}: ")));
        *kinds.entry(kind.unwrap_or("else")).or_default() += 1;
        println!("{case}: {words}\n");
    }
    println!("{} deaths at {} points: {kinds:?}", cases.len(), POINTS.len());
    let failed: Vec<_> = failed.into_iter().map(|(case, _)| case).collect();
    assert!(failed.is_empty(), "{} of {} cases: {failed:#?}", failed.len(), cases.len());
}

/// What a panic said.
fn words(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned())).unwrap_or_default()
}

fn run(case: &Case) {
    let Case { point, channel, hit, postgres } = *case;
    let mood = match point.trigger {
        Trigger::LostAnswer => Mood::LosesAnswers,
        Trigger::LostMessage => Mood::LosesMessages,
        Trigger::EarlyReceipts => Mood::ReceiptsFirst,
        _ => Mood::Well,
    };
    // Where nothing may be in doubt, nothing is waited for either.
    let speed = if point.leaves == Leaves::Certainty { UNHURRIED } else { SPEED };
    let Some(mut bench) = Bench::with_speed(channel, mood, postgres, speed) else { return };
    bench.start_to_die(point.name, hit);
    for n in 0..MESSAGES {
        bench.submit(n);
    }
    match point.trigger {
        Trigger::Stop => stop(&mut bench, hit),
        Trigger::Drain => {
            for n in 0..MESSAGES {
                bench.settled(n);
            }
            bench.daemon.signal(rustix::process::Signal::TERM);
        }
        _ => {}
    }
    let mut saves = 0;
    let died = in_time(|| {
        if point.trigger == Trigger::Reload && bench.deaths == 0 && saves % 25 == 0 {
            bench.save_policy(saves / 25);
        }
        saves += 1;
        bench.revive();
        bench.deaths > 0
    });
    assert!(died, "it never came to {}", point.name);
    // A daemon that died is as good as new: it takes one more.
    bench.submit(MESSAGES);
    bench.judge(point.leaves == Leaves::Certainty);
    assert_eq!(bench.deaths, 1, "{}", bench.daemon.log());
    bench.end();
}

/// People write STOP while the daemon dies of it; whoever was told that it is heard gets nothing more.
fn stop(bench: &mut Bench, times: u32) {
    for n in 0..MESSAGES {
        bench.settled(n);
    }
    let people: Vec<usize> = (0..usize::try_from(times).unwrap()).collect();
    let provider = bench.provider.clone();
    let heard = thread::spawn({
        let people = people.clone();
        move || people.iter().all(|n| provider.hear(&phone(*n), super::bench::SENDER, "STOP"))
    });
    assert!(in_time(|| {
        bench.revive();
        heard.is_finished()
    }));
    assert!(heard.join().unwrap(), "{:?}\n{}", bench.provider.refused(), bench.daemon.log());
    for n in people {
        bench.submit_refused(n);
    }
}
