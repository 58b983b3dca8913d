//! kill -9 at random moments under load, over an SMS provider that loses answers, sends receipts while the daemon is
//! dead, and hears STOP (reliability.md F2, P4, P7): nothing lost, nothing twice but what is told to be a possible
//! duplicate, nothing to whoever was told that their STOP is heard.

use std::{
    collections::BTreeMap,
    path::Path,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use super::bench::{Bench, Channel, Mood, SENDER, in_time, mark, request, verdict};
use crate::support::{
    daemon::Daemon,
    provider::{Provider, phone},
};

const CALLERS: usize = 4;
/// Messages of one caller have numbers of their own; one in this many is followed by a STOP.
const SPAN: usize = 20_000;
const STOPS: usize = 11;
/// Slow enough that messages claimed together look so to the daemon.
pub const SPEED: i64 = 20;
/// What may still be on the wire when a STOP is taken.
const ON_THE_WIRE: Duration = Duration::from_secs(1);

fn kills() -> usize {
    if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() { 500 } else { 15 }
}

#[derive(Default)]
struct Seen {
    acknowledged: Mutex<BTreeMap<usize, String>>,
    /// Who said STOP, and when that was taken.
    stopped: Mutex<BTreeMap<usize, Instant>>,
    count: AtomicUsize,
    over: AtomicBool,
}

#[test]
fn killed_while_receipts_and_opt_outs_come_in_nothing_is_lost_doubled_or_sent_after_stop() {
    let Some(bench) = Bench::with_speed(Channel::Sms, Mood::Rough, false, SPEED) else { return };
    soak(bench, kills(), "kills", |bench| {
        bench.daemon.kill();
        bench.daemon.start();
    });
}

/// Disturbs a daemon under load so many times, each after a different number of further acknowledgements, so at
/// different moments, and asks at the end what was lost, doubled, or sent against somebody's word.
pub fn soak(mut bench: Bench, times: usize, what: &str, mut disturb: impl FnMut(&mut Bench)) {
    bench.daemon.start();
    let (seen, folder) = (Seen::default(), bench.folder.path().to_owned());
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (folder, provider, seen) = (&folder, bench.provider.clone(), &seen);
            scope.spawn(move || send_until_over(caller, folder, &provider, seen));
        }
        // Whatever fails here, the callers come to their end.
        let _over = Over(&seen.over);
        let mut seed = 11_usize;
        for done in 1..=times {
            seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
            let target = seen.count.load(Ordering::SeqCst) + 1 + (seed >> 8) % 40;
            let progress = in_time(|| {
                bench.revive();
                seen.count.load(Ordering::SeqCst) >= target
            });
            assert!(progress, "callers make no progress\n{}", bench.daemon.log());
            disturb(&mut bench);
            if done.is_multiple_of(50) {
                println!("{done} of {times} {what}, {} acknowledged", seen.count.load(Ordering::SeqCst));
            }
        }
    });
    let (acknowledged, stopped) =
        (seen.acknowledged.into_inner().unwrap(), seen.stopped.into_inner().unwrap());
    bench.note(acknowledged.clone());
    let (unknown, resent) = judge(&mut bench, &acknowledged, &stopped);
    assert!(in_time(|| bench.provider.is_quiet()), "callbacks are not taken");
    assert_eq!(bench.provider.refused(), Vec::<String>::new(), "{}", bench.daemon.log());
    let (clean, said) = bench.daemon.command(&["audit"]);
    assert!(clean, "{said}");
    assert!(!stopped.is_empty() && acknowledged.len() > times);
    println!(
        "{times} {what}, {} messages acknowledged, {} STOPs: lost 0, doubled 0, after STOP 0; {unknown} outcomes \
         unknown at some time, {resent} resent",
        acknowledged.len(),
        stopped.len()
    );
    bench.end();
}

/// Says that it is over, however that comes.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::SeqCst);
    }
}

/// How many outcomes were unknown at some time, and how many messages were sent again for it; a message that was lost,
/// doubled, or sent after a STOP that was taken ends the test.
fn judge(
    bench: &mut Bench,
    acknowledged: &BTreeMap<usize, String>,
    stopped: &BTreeMap<usize, Instant>,
) -> (usize, usize) {
    let (mut unknown, mut resent) = (0, 0);
    for n in acknowledged.keys() {
        let record = bench.settled(*n);
        unknown += usize::from(record.to_string().contains("\"unknown\""));
        resent += usize::from(record["possibleDuplicate"] == true);
        let times = bench.ledger.count(&mark(*n));
        match stopped.get(n) {
            // What was still to be tried again is not: the person said no.
            Some(_) => assert!(times <= 1 + u32::from(record["possibleDuplicate"] == true), "{n}: {record}"),
            None => assert_eq!(verdict(&record, times, Channel::Sms, false), Ok(()), "{n}: {record}"),
        }
    }
    for (n, taken) in stopped {
        let entries = bench.ledger.entries();
        let late = entries.iter().filter(|entry| entry.to == phone(*n) && entry.at > *taken + ON_THE_WIRE);
        assert_eq!(late.count(), 0, "{n} was written to after STOP");
        assert_eq!(bench.ledger.count(&after_stop(*n)), 0, "{n} was written to after STOP");
    }
    (unknown, resent)
}

fn after_stop(n: usize) -> String {
    format!("after-stop-{n}.")
}

/// One message after another, each under its key until it is acknowledged; some people say STOP, and are then written
/// to once more.
fn send_until_over(caller: usize, folder: &Path, provider: &Provider, seen: &Seen) {
    let client = Daemon::on(folder);
    for n in caller * SPAN.. {
        if seen.over.load(Ordering::SeqCst) {
            return;
        }
        let body = request(Channel::Sms, n, "notification");
        let Some(answer) = submit(&client, &format!("key-{n}"), &body, seen) else { return };
        let id = answer["messageId"].as_str().expect("an id").to_owned();
        seen.acknowledged.lock().unwrap().insert(n, id);
        seen.count.fetch_add(1, Ordering::SeqCst);
        if n % STOPS == 3 && provider.hear(&phone(n), SENDER, "STOP") {
            seen.stopped.lock().unwrap().insert(n, Instant::now());
            let again = body.replace(&mark(n), &after_stop(n));
            submit(&client, &format!("again-{n}"), &again, seen);
        }
    }
}

/// The answer, once there is one; none where it is over meanwhile and nothing answers.
fn submit(client: &Daemon, key: &str, body: &str, seen: &Seen) -> Option<Value> {
    let headers = [("idempotency-key", key), ("prefer", "respond-async")];
    let mut found = None;
    let answered = in_time(|| {
        let Some(answer) = client.call("POST", "/v1/messages", &headers, body) else { return false };
        if answer.status != 503 {
            assert!(matches!(answer.status, 200 | 202 | 422), "{answer:?}");
            found = Some(answer.body);
        }
        found.is_some()
    });
    assert!(answered || seen.over.load(Ordering::SeqCst), "{key} is never acknowledged");
    found
}
