//! PostgreSQL goes away, and a replica sleeps through its leases (reliability.md F8, F19): nothing is lost, nothing is
//! sent twice.

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use rustix::process::Signal;
use serde_json::Value;

use super::{
    bench::{Bench, Channel, Mood, SPEED, in_runtime, in_time, is_built_for_it, mark, request},
    soak::{self, soak},
};
use crate::{store::fixture::Base, support::daemon::Daemon};

fn full() -> bool {
    std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some()
}

/// A server of the test's own, which nobody else misses.
struct Server(PathBuf);

impl Server {
    fn start(folder: &Path) -> (Self, String) {
        let server = Self(folder.join("postgres"));
        let url = server.run(&["start"], &[]);
        (server, url)
    }

    fn run(&self, action: &[&str], more: &[&str]) -> String {
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/peers/postgres");
        let output = Command::new(script).args(action).arg(&self.0).args(more).output().unwrap();
        assert!(output.status.success(), "{action:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).trim().to_owned()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.run(&["stop"], &[]);
    }
}

#[test]
fn when_the_database_server_goes_away_again_and_again_nothing_is_lost_or_doubled() {
    // Where there is a server for the other tests, there is one to be started.
    if !is_built_for_it() || in_runtime(Base::postgres()).is_none() {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let (server, url) = Server::start(folder.path());
    let base = in_runtime(Base::on_server(url.clone()));
    let mut bench = Bench::on(Some(base), Channel::Sms, Mood::Rough, soak::SPEED);
    bench.may_stop = true;
    let mut turn = 0;
    soak(bench, if full() { 100 } else { 9 }, "times without a server or a connection", |_| {
        turn += 1;
        match turn % 3 {
            0 => drop(server.run(&["restart"], &["fast"])),
            1 => drop(server.run(&["restart"], &["immediate"])),
            _ => {
                let all = "SELECT pg_terminate_backend(pid)::text FROM pg_stat_activity \
                           WHERE pid <> pg_backend_pid() AND backend_type = 'client backend'";
                let other = Base::Postgres { server: url.clone(), schema: "public".into() };
                in_runtime(other.texts(all));
            }
        }
    });
}

#[test]
fn a_replica_that_sleeps_through_its_leases_sends_nothing_a_second_time() {
    const MESSAGES: usize = 40;
    let (rounds, slow) = (if full() { 20 } else { 1 }, Mood::Slow(Duration::from_millis(300)));
    let Some(mut bench) = Bench::with_speed(Channel::Sms, slow, true, SPEED) else { return };
    // It may be frozen in a transaction that the server gives up.
    bench.may_stop = true;
    bench.daemon.start();
    let folder = tempfile::tempdir().unwrap();
    let mut other = bench.replica(folder.path());
    other.start();
    let mut overtaken = 0;
    for round in 0..rounds {
        let numbers = round * MESSAGES..(round + 1) * MESSAGES;
        let ids: Vec<String> = numbers.clone().map(|n| submit(&bench.daemon, n)).collect();
        // Some of it is under way in either of them, at a moment that nobody chose.
        assert!(in_time(|| bench.ledger.entries().len() > round * MESSAGES));
        thread::park_timeout(Duration::from_millis(7 * u64::try_from(round % 40).unwrap()));
        bench.daemon.signal(Signal::STOP);
        let taken_over = in_time(|| ids.iter().all(|id| record(&other, id)["status"] != "sending"));
        assert!(taken_over, "{}", other.log());
        bench.daemon.signal(Signal::CONT);
        for (n, id) in numbers.zip(&ids) {
            bench.note([(n, id.clone())].into());
            let record = bench.settled(n);
            overtaken += usize::from(record["timeline"].to_string().contains("its worker ended"));
            assert_eq!(
                bench.ledger.count(&mark(n)),
                1,
                "{n}: {record}\n{}\n{}",
                bench.daemon.log(),
                other.log()
            );
        }
    }
    assert!(overtaken > 0, "the other one never took anything over");
    bench.judge(false);
    println!("{rounds} stops beyond the lease, {overtaken} messages taken over: sent once each");
    bench.end();
}

/// A daemon that is frozen in the middle of a transaction says nothing to the server, and TCP does not tell: for as long
/// as it held the rows that it was at, the others waited (found by the test above in one run of many).
#[test]
fn a_replica_frozen_in_a_transaction_holds_nobody_up() {
    for point in ["intent.pre_commit", "outcome.pre_commit"] {
        let Some(mut bench) = Bench::with_speed(Channel::Sms, Mood::Well, true, SPEED) else { return };
        bench.daemon.set("ORCHESTRATOR_FAILPOINT", Some(point.to_owned()));
        // Whether its commit was done is more than it can know when it wakes up: it stops, to be started again.
        bench.may_stop = true;
        bench.daemon.set("ORCHESTRATOR_FAILPOINT_FREEZES", Some("1".to_owned()));
        bench.daemon.start();
        let id = submit(&bench.daemon, 0);
        assert!(in_time(|| bench.daemon.is_frozen()), "{point}: {}", bench.daemon.log());
        let folder = tempfile::tempdir().unwrap();
        let mut other = bench.replica(folder.path());
        other.start();
        let taken_over = in_time(|| record(&other, &id)["status"] == "sent");
        assert!(taken_over, "{point}: {}\n{}", record(&other, &id), other.log());
        bench.daemon.signal(Signal::CONT);
        bench.note([(0, id)].into());
        bench.judge(false);
        bench.end();
    }
}

fn submit(daemon: &Daemon, n: usize) -> String {
    let (key, body) = (format!("key-{n}"), request(Channel::Sms, n, "notification"));
    let headers = [("idempotency-key", key.as_str()), ("prefer", "respond-async")];
    let answer = daemon.call("POST", "/v1/messages", &headers, &body).expect("an answer");
    assert_eq!(answer.status, 202, "{answer:?}");
    answer.body["messageId"].as_str().unwrap().to_owned()
}

fn record(daemon: &Daemon, id: &str) -> Value {
    daemon.call("GET", &format!("/v1/messages/{id}"), &[], "").map_or(Value::Null, |answer| answer.body)
}
