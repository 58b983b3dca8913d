//! A broadcast of many rows through the daemon itself, from the first call until the last message is settled on the
//! sandbox: how long it takes, how much memory the daemon needs at most, and what a message costs beside few and beside
//! many stored ones (performance.md G8).
//!
//! Calls of 1,000 rows over the Unix socket, a few at once, each repeated with its key where the daemon asks for patience.
//! The first and the last rows are measured by themselves, when nothing else is under way: the cost of a message is the
//! daemon's processor time, which other work moves little. Nothing is extrapolated: a million takes a million rows.

use std::{
    fmt::Write as _,
    fs,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use crate::{
    PLACES,
    load::{cpu_seconds, figure},
    support::daemon::Daemon,
};

const ROWS_A_CALL: usize = 1_000;
const CALLS_AT_ONCE: usize = 4;
/// Rows of the whole, and of the first and of the last part.
const MILLION: (usize, usize) = (1_000_000, 20_000);
const QUICK: (usize, usize) = (20_000, 5_000);
/// Rows that come before, so that nothing is done for the first time.
const WARM: usize = 1_000;
const LOOK_EVERY: Duration = Duration::from_millis(50);
const AGAIN_AFTER: Duration = Duration::from_millis(200);
/// Nothing is settled for so long: it stands still.
const STANDSTILL: Duration = Duration::from_secs(60);

pub fn run(quick: bool) {
    let (all, part) = if quick { QUICK } else { MILLION };
    let folder = super::folder();
    let mut daemon = Daemon::prepare(folder.path(), "", &format!("[limits]\nconcurrency = {PLACES}\n"));
    daemon.start();
    let house = House { pid: daemon.pid().expect("it runs"), daemon: &daemon };
    house.broadcast(0..WARM);
    let begun = Instant::now();
    let few = house.cost(WARM..WARM + part);
    house.broadcast(WARM + part..all - part);
    let many = house.cost(all - part..all);
    let took = begun.elapsed().as_secs_f64();
    let peak = house.peak();
    assert_eq!(daemon.terminate(), Some(0), "it did not stop in order:\n{}", daemon.log());
    println!(
        "broadcast: {all} rows in {took:.1} s, at most {peak:.0} MiB; a message costs {few:.0} us of processor at \
         first and {many:.0} us beside {} stored",
        all - part
    );
    if quick {
        println!("missing: broadcast.million only a run without --quick sends a million");
    } else {
        figure("broadcast.million", took, "s");
    }
    figure("broadcast.peak", peak, "MiB");
    figure("broadcast.flat", many / few, "x");
}

struct House<'d> {
    daemon: &'d Daemon,
    pid: u32,
}

impl House<'_> {
    /// Sends these rows and waits until they are settled; microseconds of processor each.
    fn cost(&self, rows: std::ops::Range<usize>) -> f64 {
        let (used, count) = (cpu_seconds(self.pid), rows.len());
        self.broadcast(rows);
        (cpu_seconds(self.pid) - used) * 1e6 / count as f64
    }

    fn broadcast(&self, rows: std::ops::Range<usize>) {
        let (next, end) = (AtomicUsize::new(rows.start), rows.end);
        thread::scope(|scope| {
            for _ in 0..CALLS_AT_ONCE {
                scope.spawn(|| {
                    loop {
                        let first = next.fetch_add(ROWS_A_CALL, Ordering::Relaxed);
                        if first >= end {
                            break;
                        }
                        self.call(first..end.min(first + ROWS_A_CALL));
                    }
                });
            }
        });
        self.wait_for(end);
    }

    fn call(&self, rows: std::ops::Range<usize>) {
        let key = format!("call-{}", rows.start);
        let body = body(rows);
        let headers = [("prefer", "respond-async"), ("idempotency-key", key.as_str())];
        loop {
            let answer = self.daemon.call("POST", "/v1/broadcasts", &headers, &body).expect("an answer");
            match answer.status {
                200 | 202 => return,
                503 => thread::sleep(AGAIN_AFTER),
                other => panic!("{other}: {}", answer.text),
            }
        }
    }

    /// Until so many messages were sent.
    fn wait_for(&self, messages: usize) {
        let (mut last, mut since) = (0, Instant::now());
        loop {
            let sent = self.sent();
            if sent >= messages {
                return;
            }
            if sent > last {
                (last, since) = (sent, Instant::now());
            }
            assert!(since.elapsed() < STANDSTILL, "{sent} of {messages} were sent, and no more");
            thread::sleep(LOOK_EVERY);
        }
    }

    fn sent(&self) -> usize {
        let answer = self.daemon.call("GET", "/v1/tenants/acme/stats", &[], "").expect("an answer");
        let channels = answer.body["channels"].as_array().expect("the channels").iter();
        channels.map(|channel| channel["sent"].as_u64().unwrap_or(0) as usize).sum()
    }

    /// The most memory that it had so far, in MiB.
    fn peak(&self) -> f64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid)).expect("Linux");
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).expect("the kernel tells it");
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<f64>().ok()).expect("a number of kB")
            / 1024.0
    }
}

/// One content to these people, at any hour of the day.
fn body(rows: std::ops::Range<usize>) -> String {
    let mut body = String::from(r#"{"contexts": ["#);
    for row in rows.clone() {
        let comma = if row == rows.start { "" } else { "," };
        let _ = write!(
            body,
            r#"{comma}{{"tenantId": "acme", "prospectId": "person-{row}", "prospectName": "Zoé Martin",
            "prospectPhone": "+336{row:08}", "messageType": "notification", "priority": {{"level": "high"}},
            "preferences": {{"preferredChannels": ["sms"], "allowSMSDuringQuietHours": true}}}}"#
        );
    }
    body.push_str(r#"], "content": {"body": "Bonjour, l'agence est fermée lundi. À mardi !"}}"#);
    body
}
