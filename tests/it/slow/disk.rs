//! The disk fails under the running daemon (reliability.md F9 to F11): the kernel's answer to the N-th write or sync is
//! replaced by strace. What cannot be trusted ends the daemon with exit code 75; started again, and asked with the same
//! keys, it has lost nothing and doubled nothing.

use std::{
    fs,
    process::{Child, Command, Stdio},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use super::bench::{Bench, Channel, Mood, in_time, is_built_for_it, request};

/// Messages of a case: more than enough to come to the last position.
const MESSAGES: usize = 12;
const AT_ONCE: usize = 4;
/// Whichever SQLite was built to call.
const SYNC: &str = "fsync,fdatasync";

#[derive(Clone, Copy, Debug)]
struct Fault {
    call: &'static str,
    error: &'static str,
    /// The first call of a thread that fails, counted from 1.
    at: usize,
    /// Every later one fails as well.
    forever: bool,
}

fn faults() -> Vec<Fault> {
    let positions: Vec<usize> = if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() {
        (1..=50).collect()
    } else {
        vec![1, 2, 3, 5, 8]
    };
    let mut faults = Vec::new();
    for at in positions {
        for forever in [false, true] {
            faults.push(Fault { call: SYNC, error: "EIO", at, forever });
            faults.push(Fault { call: "pwrite64", error: "EIO", at, forever });
        }
        faults.push(Fault { call: "pwrite64", error: "ENOSPC", at, forever: false });
    }
    faults
}

/// Whether strace is there and may look into processes here. A tool can be installed, and fails where everything
/// is to be run; a right cannot.
pub fn is_possible() -> bool {
    let tried = Command::new("strace").args(["-q", "-o", "/dev/null", "true"]).stderr(Stdio::null()).status();
    let all = std::env::var("ORCHESTRATOR_TEST_REQUIRE_ALL").is_ok_and(|value| value == "1");
    assert!(tried.is_ok() || !all, "strace is missing, but every test is to be run");
    tried.is_ok_and(|status| status.success())
}

#[test]
fn when_the_disk_fails_the_daemon_stops_and_nothing_is_lost_or_doubled() {
    if !is_built_for_it() {
        return;
    }
    if !is_possible() {
        println!("not run: strace is missing, or may not trace here");
        return;
    }
    let faults = faults();
    let (next, failed) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    let (stopped, unknown) = (AtomicUsize::new(0), AtomicUsize::new(0));
    thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some(fault) = faults.get(next.fetch_add(1, Ordering::SeqCst)) {
                    let run = std::panic::AssertUnwindSafe(|| run(*fault, &stopped, &unknown));
                    if std::panic::catch_unwind(run).is_err() {
                        failed.lock().unwrap().push(*fault);
                    }
                }
            });
        }
    });
    let failed = failed.into_inner().unwrap();
    assert!(failed.is_empty(), "{} of {} cases: {failed:#?}", failed.len(), faults.len());
    let (stopped, unknown) = (stopped.into_inner(), unknown.into_inner());
    println!("{} faults, {stopped} stops, {unknown} answers of unknown outcome", faults.len());
    assert!(stopped >= faults.len() / 2, "{stopped} of {} stopped it", faults.len());
    assert!(unknown > 0, "no failed commit was told to a caller");
}

fn run(fault: Fault, stopped: &AtomicUsize, unknown: &AtomicUsize) {
    let mut bench = Bench::new(Channel::Sms, Mood::Well, false).unwrap();
    bench.may_stop = true;
    bench.daemon.start();
    let mut tracer = attach(bench.daemon.pid().unwrap(), fault);
    for n in 0..MESSAGES {
        let (key, body) = (format!("key-{n}"), request(Channel::Sms, n, "notification"));
        let headers = [("idempotency-key", key.as_str()), ("prefer", "wait=1")];
        // Once each: what is not acknowledged is asked again when it is all over.
        match bench.daemon.call("POST", "/v1/messages", &headers, &body) {
            Some(answer) if answer.status == 503 => {
                unknown.fetch_add(usize::from(answer.text.contains("outcome-unknown")), Ordering::SeqCst);
            }
            Some(answer) => assert!(matches!(answer.status, 200 | 202), "{answer:?}"),
            None => {}
        }
        if bench.daemon.has_ended().is_some() {
            break;
        }
    }
    if fault.error == "EIO" {
        // The last of the calls may still be under way.
        let over = in_time(|| bench.daemon.has_ended().is_some());
        assert!(over, "{fault:?}: it goes on\n{}", bench.daemon.log());
    }
    // It lets go of a daemon that goes on.
    let _ = tracer.kill();
    tracer.wait().unwrap();
    stopped.fetch_add(usize::from(bench.revive()), Ordering::SeqCst);
    for n in 0..MESSAGES {
        bench.submit(n);
    }
    bench.judge(false);
    bench.end();
}

/// Replaces the kernel's answers in every thread of a process; returns once it does.
fn attach(pid: u32, fault: Fault) -> Child {
    let Fault { call, error, at, forever } = fault;
    let when = if forever { format!("{at}+") } else { at.to_string() };
    let inject = format!("inject={call}:error={error}:when={when}");
    let tracer = Command::new("strace")
        .args(["-f", "-q", "-o", "/dev/null", "-e", &format!("trace={call}"), "-e", &inject, "-p"])
        .arg(pid.to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let is_traced = |status: &str| {
        let tracer = status.lines().find_map(|line| line.strip_prefix("TracerPid:"));
        tracer.is_some_and(|pid| pid.trim() != "0")
    };
    let attached = in_time(|| {
        let tasks = fs::read_dir(format!("/proc/{pid}/task")).unwrap().flatten();
        let mut states = tasks.filter_map(|task| fs::read_to_string(task.path().join("status")).ok());
        states.all(|status| is_traced(&status))
    });
    assert!(attached, "strace does not attach to {pid}");
    // It sets up its last thread.
    thread::park_timeout(Duration::from_millis(20));
    tracer
}
