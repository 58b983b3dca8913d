//! What only a daemon apart from this process can show: single files bind-mounted over its policies (cases 4 and
//! 5), an overflowing event queue (6), exhausted inotify limits (23), files that its user may not read.
//!
//! Mounts and limits are made in namespaces of the daemon's own; nothing outside changes. Where the system has
//! no such namespaces the test says so and is passed over, unless every test is to be run.

use std::{fs, path::Path, process::Command};

use rustix::process::Signal;
use serde_json::Value;

use crate::support::{
    daemon::{Daemon, eventually},
    namespace::{not_run, under, unshare},
};

fn cost(weight: u32) -> String {
    super::fixture::cost(weight)
}

/// The weight of `cost` that is in force.
fn cost_of(daemon: &Daemon, tenant: &str) -> Option<f64> {
    let status = daemon.call("GET", &format!("/v1/policies/{tenant}"), &[], "")?.body;
    let criteria = status["active"]["criteria"].as_array()?;
    criteria.iter().find(|criterion| criterion["name"] == "cost")?["weight"].as_f64()
}

#[track_caller]
fn until_cost(daemon: &Daemon, tenant: &str, weight: u32) {
    let live = eventually(|| cost_of(daemon, tenant) == Some(f64::from(weight)));
    assert!(live, "{tenant} has no cost = {weight}; {:#}\n{}", status(daemon), daemon.log());
}

fn status(daemon: &Daemon) -> Value {
    daemon.call("GET", "/v1/policies", &[], "").map_or(Value::Null, |answer| answer.body)
}

/// What is remarked on a file that belongs to the folder as a whole.
fn problem(daemon: &Daemon, code: &str) -> Option<Value> {
    let problems = status(daemon)["problems"].as_array()?.clone();
    problems.into_iter().find(|problem| problem["code"] == code)
}

fn save(path: &Path, text: &str) {
    let beside = path.with_extension("new");
    fs::write(&beside, text).unwrap();
    fs::rename(beside, path).unwrap();
}

#[test]
fn cases_4_and_5_a_file_that_is_mounted_on_its_own_is_told_with_what_to_do() {
    let Some(wrapper) = unshare("cases 4 and 5", &["--mount", "--propagation", "private"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(dir.path(), &cost(1), "");
    let outside = dir.path().join("acme on the host.toml");
    fs::write(&outside, cost(2)).unwrap();
    fs::write(dir.path().join("policies/tenants/beta.toml"), cost(1)).unwrap();
    daemon.start_under(&under(&wrapper, "mount --bind 'acme on the host.toml' policies/tenants/acme.toml"));
    assert_eq!(cost_of(&daemon, "acme"), Some(2.0));
    let remark = problem(&daemon, "mounted-file").unwrap();
    assert_eq!((&remark["file"], &remark["severity"]), (&"tenants/acme.toml".into(), &"warning".into()));
    assert!(remark["hint"].as_str().unwrap().contains("mount the folder"), "{remark}");
    assert!(daemon.log().contains("tenants/acme.toml: this file is mounted on its own"), "{}", daemon.log());
    assert_eq!(status(&daemon)["ok"], true);

    // Case 5: written in place, it is the same file; no event tells it here, the regular look finds it.
    fs::write(&outside, cost(3)).unwrap();
    until_cost(&daemon, "acme", 3);

    // Case 4: another file takes its place, as `subPath` and editors have it. Told, because nothing else works.
    save(&outside, &cost(4));
    let told = eventually(|| problem(&daemon, "mounted-file-replaced").is_some());
    assert!(told, "{:#}", status(&daemon));
    assert!(daemon.log().contains("another file has been put in its place"), "{}", daemon.log());
    assert_eq!(cost_of(&daemon, "acme"), Some(3.0));
    save(&dir.path().join("policies/tenants/beta.toml"), &cost(5));
    until_cost(&daemon, "beta", 5);

    // A restart, which makes the mount anew, mends it.
    daemon.kill();
    daemon.start_under(&under(&wrapper, "mount --bind 'acme on the host.toml' policies/tenants/acme.toml"));
    until_cost(&daemon, "acme", 4);
}

#[test]
fn case_5_a_mounted_folder_is_no_reason_for_a_remark() {
    let Some(wrapper) = unshare("case 5", &["--mount", "--propagation", "private"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(dir.path(), &cost(1), "");
    let outside = dir.path().join("host");
    fs::create_dir(&outside).unwrap();
    fs::write(outside.join("acme.toml"), cost(2)).unwrap();
    daemon.start_under(&under(&wrapper, "mount --bind host policies/tenants"));
    for weight in [3, 4] {
        save(&outside.join("acme.toml"), &cost(weight));
        until_cost(&daemon, "acme", weight);
    }
    assert!(!status(&daemon).to_string().contains("mounted"), "{:#}", status(&daemon));
}

/// Looks at the folder for this cause, so far.
fn looks(daemon: &Daemon, cause: &str) -> f64 {
    let metrics = daemon.call("GET", "/metrics", &[], "").unwrap().text;
    let label = format!("cause=\"{cause}\"");
    let line = metrics.lines().find(|line| line.contains("policy_looks") && line.contains(&label));
    line.and_then(|line| line.rsplit(' ').next()?.parse().ok()).unwrap_or_else(|| panic!("{metrics}"))
}

#[test]
fn case_6_an_overflowing_queue_of_events_loses_no_change() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(dir.path(), &cost(1), "");
    daemon.start();
    let tenants = dir.path().join("policies/tenants");
    let most: usize =
        fs::read_to_string("/proc/sys/fs/inotify/max_queued_events").unwrap().trim().parse().unwrap();

    // Stopped, it takes no event out of the queue, and a rename is two that cannot be joined.
    daemon.signal(Signal::STOP);
    let process = format!("/proc/{}/stat", daemon.pid().unwrap());
    let state = || fs::read_to_string(&process).unwrap().rsplit(") ").next().unwrap().chars().next();
    assert!(eventually(|| state() == Some('T')));
    let (here, there) = (tenants.join(".one"), tenants.join(".other"));
    fs::write(&here, "").unwrap();
    for _ in 0..=most / 4 {
        fs::rename(&here, &there).unwrap();
        fs::rename(&there, &here).unwrap();
    }
    fs::remove_file(&here).unwrap();
    // None of these raises an event that is ever read: the queue is full.
    save(&tenants.join("acme.toml"), &cost(7));
    fs::create_dir_all(tenants.join("late/criteria")).unwrap();
    fs::write(tenants.join("late/criteria/cost.rhai"), super::fixture::script("0.5")).unwrap();
    fs::write(tenants.join("late.toml"), cost(8)).unwrap();
    daemon.signal(Signal::CONT);
    until_cost(&daemon, "acme", 7);
    until_cost(&daemon, "late", 8);
    // One look for the watch that was made at the start, and one for the loss.
    assert!(eventually(|| looks(&daemon, "overflow") >= 2.0), "{}", looks(&daemon, "overflow"));
}

/// Starts under a limit of inotify; the watch cannot be made, is told once, and saves go live all the same.
fn case_23(limit: &str, says: &str) {
    let Some(wrapper) = unshare("case 23", &["--user", "--map-root-user"]) else { return };
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(dir.path(), &cost(1), "");
    daemon.start_under(&under(&wrapper, limit));
    assert!(eventually(|| status(&daemon)["watch"]["mode"] == "rescan"), "{:#}", status(&daemon));
    // Long enough that the watch was tried again, and failed again.
    for weight in 2..5 {
        save(&dir.path().join("policies/tenants/acme.toml"), &cost(weight));
        until_cost(&daemon, "acme", weight);
    }
    assert_eq!(status(&daemon)["watch"]["mode"], "rescan");
    let log = daemon.log();
    assert_eq!(log.matches("the policies folder cannot be watched").count(), 1, "{log}");
    assert!(log.contains(says), "{log}");
}

#[test]
fn case_23_without_watches_the_regular_look_goes_on() {
    case_23("echo 2 > /proc/sys/user/max_inotify_watches", "fs.inotify.max_user_watches");
}

#[test]
fn case_23_without_an_inotify_instance_the_regular_look_goes_on() {
    case_23("echo 0 > /proc/sys/user/max_inotify_instances", "fs.inotify.max_user_instances");
}

/// Runs as a user who owns nothing, whatever the way to the program lets him see: it is handed over open.
const AS_NOBODY: &str = "exec 3< \"$2\"; shift 2; set -- sh setpriv --reuid 65534 --regid 65534 --clear-groups \
                         /proc/self/fd/3 \"$@\"";

#[test]
fn a_file_that_the_daemon_may_not_read_is_refused_until_it_may() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(dir.path(), &cost(1), "");
    let tenants = dir.path().join("policies/tenants");
    fs::write(tenants.join("beta.toml"), cost(1)).unwrap();
    let chmod = |mode: &str, path: &Path| {
        assert!(Command::new("chmod").arg(mode).arg(path).status().unwrap().success());
    };
    if rustix::process::geteuid().is_root() {
        // Root reads whatever the mode says.
        let given = Command::new("chown").args(["-R", "65534:65534"]).arg(dir.path()).status().unwrap();
        if !given.success() || Command::new("setpriv").arg("--version").output().is_err() {
            return not_run("chmod 000", "files cannot be given to another user, or there is no setpriv");
        }
        daemon.start_under(&under(&[], AS_NOBODY));
    } else {
        daemon.start();
    }
    let acme = tenants.join("acme.toml");
    save(&acme, &cost(2));
    chmod("000", &acme);
    let candidate = |tenant: &str| -> Value {
        let status = daemon.call("GET", &format!("/v1/policies/{tenant}"), &[], "");
        status.map_or(Value::Null, |answer| answer.body["candidate"].clone())
    };
    let refused = || candidate("acme")["errors"][0]["code"] == "unreadable";
    assert!(eventually(refused), "{:#}\n{}", status(&daemon), daemon.log());
    let error = &candidate("acme")["errors"][0];
    assert_eq!(error["file"], "tenants/acme.toml");
    assert!(error["hint"].as_str().unwrap().contains("the daemon's user"), "{error}");
    assert_eq!(cost_of(&daemon, "acme"), Some(1.0));
    // Another tenant is not held up, and what may be read again comes in force.
    save(&tenants.join("beta.toml"), &cost(3));
    until_cost(&daemon, "beta", 3);
    chmod("644", &acme);
    until_cost(&daemon, "acme", 2);

    // The whole directory: what was good stays, for every tenant, and comes back.
    chmod("000", &tenants);
    let closed = || status(&daemon)["ok"] == false;
    assert!(eventually(closed), "{:#}", status(&daemon));
    assert_eq!((cost_of(&daemon, "acme"), cost_of(&daemon, "beta")), (Some(2.0), Some(3.0)));
    chmod("755", &tenants);
    assert!(eventually(|| status(&daemon)["ok"] == true), "{:#}", status(&daemon));
}

#[test]
fn a_criterion_that_fails_in_its_trial_run_is_named_in_the_log_with_the_reason() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(dir.path(), "", "");
    let script = "fn score(message, channel) {\n    award(message.minutes_to_event / 60.0, \"soon\")\n}\n";
    fs::write(dir.path().join("policies/criteria/length.rhai"), script).unwrap();
    daemon.start();
    // The log is JSON; what `serve` prints at its start stands between.
    let log = daemon.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains("\"level\":\"WARN\"")).collect();
    let told: Vec<&&str> = lines.iter().filter(|line| line.contains("fails-on-trial")).collect();
    // Once, although two tenants have it.
    let [line] = told[..] else { panic!("{log}") };
    assert!(line.contains("the criterion length fails in a trial run"), "{line}");
    assert!(line.contains("criteria/length.rhai:2:") && line.contains("minutes_to_event"), "{line}");
}
