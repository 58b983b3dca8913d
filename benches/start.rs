//! From exec to ready with 1,000 tenants on the shipped policies, and the memory of a daemon that idles (performance.md
//! G9).
//!
//!     cargo bench --bench start
//!
//! Ready is the first 200 of `/readyz`, asked over the Unix socket every millisecond, with all tenants in force. Each
//! start finds the state that the one before it left, as after an upgrade; the very first, which makes the database,
//! is told beside them. Memory is what the kernel counts as resident five seconds after the last start, the binary's
//! own pages included.

use std::{
    fmt::Write as _,
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/it/support/mod.rs"]
mod support;

use support::daemon::Daemon;

const TENANTS: usize = 1_000;
const STARTS: usize = 9;
const STARTS_QUICK: usize = 3;
const IDLE: Duration = Duration::from_secs(5);
const PATIENCE: Duration = Duration::from_secs(60);
const ASK_EVERY: Duration = Duration::from_millis(1);

fn main() {
    let starts = if std::env::args().any(|word| word == "--quick") { STARTS_QUICK } else { STARTS };
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut daemon = Daemon::prepare(folder.path(), "", "");
    lay_out_tenants(&folder.path().join("policies/tenants"));
    let first = start(&mut daemon);
    stop(&mut daemon);
    let mut millis = Vec::new();
    for at in 0..starts {
        millis.push(start(&mut daemon));
        // The last one stays, to be looked at.
        if at + 1 < starts {
            stop(&mut daemon);
        }
    }
    thread::sleep(IDLE);
    let memory = memory(daemon.pid().expect("it runs"));
    stop(&mut daemon);
    millis.sort_by(f64::total_cmp);
    let (least, median, most) = (millis[0], millis[starts / 2], millis[starts - 1]);
    println!("exec to ready, {TENANTS} tenants: median of {starts} {median:.0} ms ({least:.0} to {most:.0})");
    println!("the very first start, which makes the database: {first:.0} ms");
    println!(
        "idle for {} s: {:.1} MiB resident, {:.1} of them its own (the rest is the binary)",
        IDLE.as_secs(),
        memory.resident,
        memory.own
    );
    println!("figure: start.ready {median:.1} ms");
    println!("figure: start.first {first:.1} ms");
    println!("figure: start.idle {:.1} MiB", memory.resident);
    println!("figure: start.idle_own {:.1} MiB", memory.own);
}

/// The tenants that `Daemon::prepare` and the shipped folder do not have yet. Each has a name and hours of its own;
/// a third has weights, a fifth a variant, as tenants have.
fn lay_out_tenants(folder: &Path) {
    let there = fs::read_dir(folder).expect("a folder of tenants").count();
    for at in there..TENANTS {
        let mut own = format!("[quiet_hours]\nend = \"0{}:30\"\n\n", 7 + at % 3);
        let _ = write!(own, "[channels.email]\nfrom_name = \"Agence {at}\"\n\n");
        let _ = write!(own, "[budget]\nmonthly = {}\n", 100 + at);
        if at % 3 == 0 {
            let _ = write!(own, "\n[weights]\ncost = {}\n", 10 + at % 20);
        }
        if at % 5 == 0 {
            let _ = write!(own, "\n[variants.frugal.weights]\nlength = {}\n", 20 + at % 10);
        }
        fs::write(folder.join(format!("tenant_{at:05}.toml")), own).expect("room for a tenant's file");
    }
}

/// Starts it; milliseconds until it is ready.
fn start(daemon: &mut Daemon) -> f64 {
    let at = Instant::now();
    daemon.launch(&[]);
    while at.elapsed() < PATIENCE {
        if let Some(answer) = daemon.call("GET", "/readyz", &[], "").filter(|answer| answer.status == 200) {
            let millis = at.elapsed().as_secs_f64() * 1e3;
            let all = format!("{TENANTS} tenants' policies in force");
            assert!(answer.text.contains(&all), "ready without all tenants: {}", answer.text);
            return millis;
        }
        assert!(daemon.has_ended().is_none(), "it ended:\n{}", daemon.log());
        thread::sleep(ASK_EVERY);
    }
    panic!("not ready within {PATIENCE:?}:\n{}", daemon.log());
}

fn stop(daemon: &mut Daemon) {
    assert_eq!(daemon.terminate(), Some(0), "it did not stop in order:\n{}", daemon.log());
}

/// MiB, by the kernel's count.
struct Memory {
    resident: f64,
    /// Of these, what is not a file's.
    own: f64,
}

fn memory(pid: u32) -> Memory {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).expect("Linux");
    let mib = |name: &str| {
        let line = status.lines().find(|line| line.starts_with(name)).expect("the kernel tells it");
        let kib: f64 =
            line.split_whitespace().nth(1).and_then(|kib| kib.parse().ok()).expect("a number of kB");
        kib / 1024.0
    };
    Memory { resident: mib("VmRSS:"), own: mib("RssAnon:") }
}
