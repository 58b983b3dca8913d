//! Three daemons race for one PostgreSQL database's messages, and one of them is killed at a moment that nobody chose
//! (reliability.md F59): every message is sent, none twice.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::bench::{Bench, Channel, Mood, in_time, mark, request};
use crate::support::daemon::Daemon;

const REPLICAS: usize = 3;
const CALLERS: usize = 6;

fn messages() -> usize {
    if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() { 2_000 } else { 600 }
}

#[test]
fn three_daemons_on_one_database_send_everything_once_though_one_is_killed() {
    let Some(mut bench) = Bench::new(Channel::Sms, Mood::Well, true) else { return };
    bench.daemon.start();
    let folders: Vec<_> = (1..REPLICAS).map(|_| tempfile::tempdir().unwrap()).collect();
    let mut others: Vec<Daemon> = folders.iter().map(|folder| bench.replica(folder.path())).collect();
    others.iter_mut().for_each(Daemon::start);

    let sockets: Vec<_> = folders.iter().map(|f| f.path()).chain([bench.folder.path()]).collect();
    let (next, done) = (AtomicUsize::new(0), AtomicBool::new(false));
    let acknowledged: Mutex<BTreeMap<usize, String>> = Mutex::default();
    thread::scope(|scope| {
        for _ in 0..CALLERS {
            scope.spawn(|| {
                loop {
                    let n = next.fetch_add(1, Ordering::SeqCst);
                    if n >= messages() || done.load(Ordering::SeqCst) {
                        return;
                    }
                    let id = submit(&sockets, n);
                    acknowledged.lock().unwrap().insert(n, id);
                }
            });
        }
        // Somewhere in the second half, by what this run's process is called.
        let at = messages() / 2 + usize::try_from(std::process::id()).unwrap() % (messages() / 4);
        let reached = in_time(|| acknowledged.lock().unwrap().len() >= at);
        if !reached {
            done.store(true, Ordering::SeqCst);
        }
        assert!(reached, "{} are acknowledged", acknowledged.lock().unwrap().len());
        others[0].kill();
    });
    let acknowledged = acknowledged.into_inner().unwrap();
    assert_eq!(acknowledged.len(), messages());
    bench.note(acknowledged);
    let mut unknown = 0;
    for n in 0..messages() {
        let record = bench.settled(n);
        let times = bench.ledger.count(&mark(n));
        // A list shows what is unknown, so that nothing needs to go twice.
        assert_eq!(times, 1, "{n}: {record}");
        assert!(matches!(record["status"].as_str(), Some("sent" | "delivered")), "{n}: {record}");
        unknown += usize::from(record.to_string().contains("\"unknown\""));
    }
    let (clean, said) = bench.daemon.command(&["audit"]);
    assert!(clean, "{said}");
    println!("{} messages by {REPLICAS} daemons, one killed, {unknown} outcomes looked for", messages());
    drop(others);
    bench.end();
}

/// By whichever daemon answers, beginning with the message's own.
fn submit(sockets: &[&std::path::Path], n: usize) -> String {
    let (key, body) = (format!("key-{n}"), request(Channel::Sms, n, "notification"));
    let headers = [("idempotency-key", key.as_str()), ("prefer", "respond-async")];
    let (mut turn, mut id) = (n, None);
    let acknowledged = in_time(|| {
        turn += 1;
        let daemon = Daemon::on(sockets[turn % sockets.len()]);
        let Some(answer) = daemon.call("POST", "/v1/messages", &headers, &body) else { return false };
        if answer.status == 503 {
            thread::park_timeout(Duration::from_millis(5));
            return false;
        }
        assert!(matches!(answer.status, 200 | 202), "{n}: {answer:?}");
        id = answer.body["messageId"].as_str().map(str::to_owned);
        id.is_some()
    });
    assert!(acknowledged, "{n} is never acknowledged");
    id.unwrap()
}
