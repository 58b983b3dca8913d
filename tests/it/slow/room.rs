//! A disk that is full, and one that becomes read-only, under the running daemon (reliability.md F9, F15): what was
//! begun is written down, nothing is begun, callers and providers are told to come again, and nothing is lost.
//!
//! The database's folder is a small file system in a mount namespace of the daemon's own.

use std::{
    fs::{self, File},
    io::Write,
    process::Command,
    time::{Duration, Instant},
};

use super::bench::{Bench, Channel, Mood, SENDER, in_time, is_built_for_it, mark, request};
use crate::support::{
    daemon::Answer,
    namespace::{not_run, under, unshare},
    provider::phone,
};

/// Messages that are under way when the disk fills up.
const UNDER_WAY: usize = 24;
/// How long the provider takes to answer: longer than it takes to fill the disk.
const ANSWERS_AFTER: Duration = Duration::from_secs(4);
/// The promise of F9.
const RESUMES_WITHIN: Duration = Duration::from_secs(5);
const BALLAST: u64 = 8 << 20;

/// A daemon whose database is in a folder of its own, to be mounted over.
fn bench(mood: Mood) -> Bench {
    let mut bench = Bench::new(Channel::Sms, mood, false).unwrap();
    fs::create_dir(bench.folder.path().join("db")).unwrap();
    let ballast = BALLAST >> 20;
    bench.set_up("database = \"sqlite:db/store.db\"\n", &format!("[limits]\nballast_mib = {ballast}\n"));
    bench
}

fn offer(bench: &Bench, n: usize) -> Answer {
    let key = format!("key-{n}");
    let headers = [("idempotency-key", key.as_str()), ("prefer", "respond-async")];
    let body = request(Channel::Sms, n, "notification");
    bench
        .daemon
        .call("POST", "/v1/messages", &headers, &body)
        .unwrap_or_else(|| panic!("no answer\n{}", bench.daemon.log()))
}

/// Writes until nothing more fits, not even a byte.
fn fill(file: &mut File) {
    for size in [1 << 20, 64 << 10, 4 << 10, 1] {
        let piece = vec![7; size];
        while file.write(&piece).is_ok_and(|count| count > 0) {}
    }
}

fn readiness(bench: &Bench) -> Answer {
    bench.daemon.call("GET", "/readyz", &[], "").expect("an answer")
}

#[test]
fn on_a_full_disk_what_was_begun_is_written_down_and_nothing_is_begun() {
    if !is_built_for_it() {
        return;
    }
    let Some(wrapper) = unshare("a full disk", &["--mount", "--propagation", "private"]) else { return };
    let mut bench = bench(Mood::Slow(ANSWERS_AFTER));
    bench.daemon.start_under(&under(&wrapper, "mount -t tmpfs -o size=40m,mode=700 none db"));
    let ballast = bench.daemon.sees("db/store.db.ballast");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), BALLAST);

    for n in 0..UNDER_WAY {
        assert_eq!(offer(&bench, n).status, 202);
    }
    assert!(in_time(|| bench.ledger.entries().len() == UNDER_WAY), "{}", bench.daemon.log());
    let mut filler = File::create(bench.daemon.sees("db/filler")).unwrap();
    fill(&mut filler);

    // What fits into the log that is there is still taken; then nothing is, and it is said why.
    let mut taken = UNDER_WAY;
    let refusal = loop {
        let answer = offer(&bench, taken);
        if answer.status == 503 {
            break answer;
        }
        assert_eq!(answer.status, 202, "{answer:?}");
        taken += 1;
        assert!(taken < 20_000, "it is never full");
    };
    assert!(refusal.text.contains("nothing was done"), "{refusal:?}");
    let ready = readiness(&bench);
    assert!(ready.status == 503 && ready.text.contains("the disk is full"), "{ready:?}");
    assert!(!ballast.exists(), "the ballast is not freed");

    // Every open attempt's outcome is on the disk: as a daemon that dies now would leave it.
    for n in 0..UNDER_WAY {
        let key = format!("key-{n}");
        let recorded = in_time(|| status_of(&bench, &key) == "sent");
        assert!(recorded, "{n} is {}\n{}", status_of(&bench, &key), bench.daemon.log());
    }
    assert_eq!(offer(&bench, taken).status, 503, "it is still full");
    assert!(bench.daemon.has_ended().is_none());

    drop(filler);
    fs::remove_file(bench.daemon.sees("db/filler")).unwrap();
    let room_since = Instant::now();
    assert!(in_time(|| offer(&bench, taken).status == 202), "{}", bench.daemon.log());
    let took = room_since.elapsed();
    assert!(took <= RESUMES_WITHIN, "it took {took:?} to go on");
    assert_eq!(fs::metadata(&ballast).unwrap().len(), BALLAST, "the ballast is made again");
    assert_eq!(readiness(&bench).status, 200);
    for n in 0..=taken {
        bench.submit(n);
    }
    bench.judge(true);
    println!(
        "{} were under way, {} more fitted in, refused, and on after {took:?}",
        UNDER_WAY,
        taken - UNDER_WAY
    );
    bench.end();
}

/// The status of a message by its key, which is sent again: what is known answers even on a full disk.
fn status_of(bench: &Bench, key: &str) -> String {
    let n: usize = key.trim_start_matches("key-").parse().unwrap();
    offer(bench, n).body["status"].as_str().unwrap_or_default().to_owned()
}

#[test]
fn a_start_on_a_full_disk_frees_the_ballast_and_goes_on() {
    if !is_built_for_it() {
        return;
    }
    let Some(wrapper) = unshare("a start on a full disk", &["--mount", "--propagation", "private"]) else {
        return;
    };
    let mut bench = bench(Mood::Well);
    // The first life leaves a message, its death leaves a log, and somebody fills the disk before the second.
    let script = "mount -t tmpfs -o size=24m,mode=700 none db; \
                  (shift; exec \"$@\") & until [ -e enough ]; do sleep 0.1; done; kill -9 $!; wait || true; \
                  dd if=/dev/zero of=db/filler bs=4k 2>/dev/null || true; touch full";
    bench.daemon.launch(&under(&wrapper, script));
    assert!(bench.daemon.becomes_ready(), "{}", bench.daemon.log());
    assert_eq!(offer(&bench, 0).status, 202);
    fs::write(bench.folder.path().join("enough"), "").unwrap();
    assert!(in_time(|| bench.folder.path().join("full").exists()));
    assert!(in_time(|| bench.daemon.call("GET", "/readyz", &[], "").is_some()), "{}", bench.daemon.log());
    let ready = readiness(&bench);
    assert!(ready.status == 503 && ready.text.contains("the disk is full"), "{ready:?}");
    assert_eq!(offer(&bench, 1).status, 503);
    fs::remove_file(bench.daemon.sees("db/filler")).unwrap();
    assert!(in_time(|| offer(&bench, 1).status == 202), "{}", bench.daemon.log());
    bench.submit(0);
    bench.submit(1);
    bench.judge(false);
    bench.end();
}

#[test]
fn on_a_disk_that_becomes_read_only_everybody_is_told_to_come_again() {
    if !is_built_for_it() {
        return;
    }
    let test = "a read-only disk";
    let Some(wrapper) = unshare(test, &["--mount", "--propagation", "private"]) else { return };
    let mut bench = bench(Mood::Well);
    bench.may_stop = true;
    let folder = bench.folder.path().to_owned();
    let image = folder.join("image");
    File::create(&image).unwrap().set_len(96 << 20).unwrap();
    let made = Command::new("mkfs.ext4").args(["-q", "-F"]).arg(&image).status();
    if !made.is_ok_and(|status| status.success()) {
        return not_run(test, "there is no mkfs.ext4");
    }
    let mount = "mount -o loop,errors=remount-ro image db; findmnt -no SOURCE db >device";
    let tried =
        Command::new(wrapper[0]).args(&wrapper[1..]).args(["sh", "-ec", mount]).current_dir(&folder).output();
    match tried {
        Ok(output) if output.status.success() => {}
        other => return not_run(test, &format!("no loop device can be mounted: {other:?}")),
    }
    bench.daemon.start_under(&under(&wrapper, mount));
    for n in 0..4 {
        bench.submit(n);
        bench.settled(n);
    }

    // What is being written at that very moment nobody can know of, and the daemon stops then: nothing is.
    assert!(in_time(|| bench.provider.is_quiet()), "callbacks are not taken");
    // As the kernel does once it meets damage.
    let device = fs::read_to_string(folder.join("device")).unwrap();
    let trigger = format!("/sys/fs/ext4/{}/trigger_fs_error", device.trim().trim_start_matches("/dev/"));
    if let Err(error) = fs::write(&trigger, "1") {
        return not_run(test, &format!("{trigger}: {error}"));
    }
    let heard = std::thread::spawn({
        let provider = bench.provider.clone();
        move || provider.hear(&phone(1), SENDER, "STOP")
    });
    let refused = in_time(|| offer(&bench, 4).status == 503 || bench.daemon.has_ended().is_some());
    assert!(refused, "{}", bench.daemon.log());
    assert!(bench.daemon.has_ended().is_none(), "it ended\n{}", bench.daemon.log());
    for n in 5..30 {
        assert_eq!(offer(&bench, n).status, 503, "{}", bench.daemon.log());
    }
    let ready = readiness(&bench);
    assert!(ready.status == 503 && ready.text.contains("read-only"), "{ready:?}");
    assert!(!heard.is_finished(), "a STOP was taken that cannot have been kept");

    // Started on it, it says what is wrong; on a disk that was looked after, it goes on and hears the STOP.
    bench.daemon.kill();
    bench.daemon.launch(&under(&wrapper, "mount -o loop,ro,noload image db || mount -o loop,ro image db"));
    assert!(in_time(|| bench.daemon.has_ended().is_some()));
    let log = bench.daemon.log();
    assert!(log.contains("db/store.db") && log.contains("Read-only file system"), "{log}");
    bench.daemon.start_under(&under(&wrapper, "e2fsck -fy image >fsck 2>&1 || true; mount -o loop image db"));
    assert!(heard.join().unwrap(), "{:?}\n{}", bench.provider.refused(), bench.daemon.log());
    bench.submit_refused(1);
    for n in [0, 2, 3, 4, 5] {
        bench.submit(n);
        assert_eq!(bench.settled(n)["attempts"].as_array().map(Vec::len), Some(1));
        assert_eq!(bench.ledger.count(&mark(n)), 1);
    }
    let (clean, said) = bench.daemon.command(&["audit"]);
    assert!(clean, "{said}");
    bench.end();
}
