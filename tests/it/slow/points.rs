//! The named points of reliability.md section 4.1: what brings a daemon to each, what may be left there, and the proof
//! that the list is the code's.

use std::{collections::BTreeSet, fs, path::Path};

use super::bench::Channel::{self, Email, Sms, Telegram, WhatsApp};

/// What brings a daemon to a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trigger {
    /// A message is sent.
    Send,
    /// The provider keeps the message and its answer is lost.
    LostAnswer,
    /// Both are lost.
    LostMessage,
    /// The provider tells what became of it.
    Receipts,
    /// It does so before it answers.
    EarlyReceipts,
    /// A person writes STOP.
    Stop,
    /// A policy is saved.
    Reload,
    /// The operator stops the daemon.
    Drain,
}

/// What a death there may leave (section 5.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Leaves {
    /// Nothing of which it is unknown whether it was sent, but for other messages whose attempts had begun.
    Certainty,
    /// An attempt that has to be looked for.
    Doubt,
}

#[derive(Clone, Copy, Debug)]
pub struct Point {
    pub name: &'static str,
    pub trigger: Trigger,
    pub leaves: Leaves,
    pub channels: &'static [Channel],
    /// The first hit that is worth a death: the others come before anybody can have sent anything.
    pub first_hit: u32,
    /// How many hits there are in one life, as far as the full matrix asks.
    pub hits: u32,
}

const ALL: &[Channel] = &[Sms, Email, WhatsApp, Telegram];
const HTTP: &[Channel] = &[Sms, WhatsApp, Telegram];

const fn at(name: &'static str, trigger: Trigger, leaves: Leaves, channels: &'static [Channel]) -> Point {
    Point { name, trigger, leaves, channels, first_hit: 1, hits: 3 }
}

const fn send(name: &'static str, leaves: Leaves) -> Point {
    at(name, Trigger::Send, leaves, ALL)
}

const fn later(mut point: Point, first_hit: u32) -> Point {
    point.first_hit = first_hit;
    point
}

/// A daemon stops once.
const fn once(mut point: Point) -> Point {
    point.hits = 1;
    point
}

use Leaves::{Certainty, Doubt};

/// Every point in the code.
pub const POINTS: &[Point] = &[
    send("accept.parsed", Certainty),
    send("accept.pre_begin", Certainty),
    send("accept.idem", Certainty),
    send("accept.row", Certainty),
    send("accept.timer", Certainty),
    send("accept.pre_commit", Certainty),
    send("accept.post_commit", Certainty),
    send("accept.pre_reply", Certainty),
    send("route.loaded", Certainty),
    send("route.eval_start", Certainty),
    send("route.eval_end", Certainty),
    // A daemon that starts claims once before it is spoken to. It claims every two seconds, so that on a busy machine
    // another message is under way meanwhile; what it claims has not begun, and is certain.
    later(send("claim.pre", Certainty), 3),
    later(send("claim.locked", Certainty), 3),
    later(send("claim.pre_commit", Certainty), 3),
    later(send("claim.post_commit", Certainty), 3),
    send("claim.intent_row", Certainty),
    send("intent.pre_commit", Certainty),
    send("intent.post_commit", Doubt),
    at("send.dns", Trigger::Send, Certainty, HTTP),
    send("send.connected", Certainty),
    send("send.tls", Certainty),
    send("send.prepared", Certainty),
    // Before the intent over SMTP, whose body cannot deliver; after it over HTTP.
    at("send.first_byte", Trigger::Send, Doubt, ALL),
    at("send.mid_body", Trigger::Send, Certainty, &[Email]),
    send("send.last_byte", Doubt),
    at("send.resp_head", Trigger::Send, Doubt, HTTP),
    at("send.resp_body", Trigger::Send, Doubt, HTTP),
    send("send.parsed", Doubt),
    send("outcome.pre_begin", Doubt),
    send("outcome.row", Doubt),
    send("outcome.next_timer", Doubt),
    send("outcome.pre_commit", Doubt),
    send("outcome.post_commit", Certainty),
    at("recon.start", Trigger::LostAnswer, Doubt, ALL),
    at("recon.query", Trigger::LostAnswer, Doubt, ALL),
    at("recon.found", Trigger::LostAnswer, Doubt, &[Sms]),
    at("recon.absent", Trigger::LostMessage, Doubt, &[Sms]),
    at("recon.pre_commit", Trigger::LostAnswer, Doubt, ALL),
    at("recon.post_commit", Trigger::LostAnswer, Doubt, ALL),
    at("receipt.verified", Trigger::Receipts, Doubt, &[Sms]),
    at("receipt.dedup", Trigger::Receipts, Doubt, &[Sms]),
    at("receipt.orphan", Trigger::EarlyReceipts, Doubt, &[Sms]),
    at("receipt.pre_commit", Trigger::Receipts, Doubt, &[Sms]),
    at("receipt.post_commit", Trigger::Receipts, Doubt, &[Sms]),
    at("receipt.pre_200", Trigger::Receipts, Doubt, &[Sms]),
    at("stop.verified", Trigger::Stop, Certainty, &[Sms]),
    at("stop.row", Trigger::Stop, Certainty, &[Sms]),
    at("stop.pre_commit", Trigger::Stop, Certainty, &[Sms]),
    at("stop.post_commit", Trigger::Stop, Certainty, &[Sms]),
    // The first of each is passed while the daemon starts.
    later(at("reload.read", Trigger::Reload, Certainty, &[Sms]), 2),
    later(at("reload.selftest", Trigger::Reload, Certainty, &[Sms]), 2),
    later(at("reload.compiled", Trigger::Reload, Certainty, &[Sms]), 2),
    later(at("reload.pre_swap", Trigger::Reload, Certainty, &[Sms]), 2),
    later(at("reload.post_swap", Trigger::Reload, Certainty, &[Sms]), 2),
    later(at("reload.pre_save", Trigger::Reload, Certainty, &[Sms]), 2),
    later(at("reload.saved", Trigger::Reload, Certainty, &[Sms]), 2),
    // It dies before it was ever ready.
    at("migrate.statement", Trigger::Send, Certainty, &[Sms]),
    once(at("drain.start", Trigger::Drain, Certainty, &[Sms])),
    once(at("drain.exit", Trigger::Drain, Certainty, &[Sms])),
];

/// The families that reliability.md section 4.1 names.
const ASKED_FOR: &[(&str, &[&str])] = &[
    ("accept", &["parsed", "pre_begin", "row", "idem", "timer", "pre_commit", "post_commit", "pre_reply"]),
    ("route", &["loaded", "eval_start", "eval_end", "pre_commit", "post_commit"]),
    ("claim", &["pre", "locked", "intent_row", "pre_commit", "post_commit"]),
    (
        "send",
        &[
            "dns",
            "connected",
            "tls",
            "first_byte",
            "mid_body",
            "last_byte",
            "resp_head",
            "resp_body",
            "parsed",
        ],
    ),
    ("outcome", &["pre_begin", "row", "next_timer", "pre_commit", "post_commit"]),
    ("recon", &["start", "query", "found", "absent", "pre_commit", "post_commit"]),
    ("receipt", &["verified", "dedup", "orphan", "pre_commit", "post_commit", "pre_200"]),
    ("stop", &["verified", "row", "post_commit"]),
    ("reload", &["read", "compiled", "selftest", "pre_swap", "post_swap", "saved"]),
    ("drain", &["start", "leases", "exit"]),
];

/// What section 4.1 names and the code has not, and why.
const EXCEPTIONS: &[(&str, &str)] = &[
    ("route.pre_commit", "a decision is pure and has no transaction: it is kept by accept.pre_commit"),
    ("route.post_commit", "a decision is pure and has no transaction: it is kept by accept.post_commit"),
    (
        "drain.leases",
        "no lease is given back at the end: what is in flight ends, or is found at the next start",
    ),
];

/// The names in the source: literals handed to `hit`, and the families of the writer's operations.
fn in_the_code() -> BTreeSet<String> {
    fn read(folder: &Path, sources: &mut Vec<String>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                read(&path, sources);
            } else if path.extension().is_some_and(|end| end == "rs") {
                sources.push(fs::read_to_string(path).unwrap());
            }
        }
    }
    let mut sources = Vec::new();
    read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"), &mut sources);
    let mut names = BTreeSet::new();
    // New messages are the one operation without a name of its own.
    let mut families = BTreeSet::from(["accept".to_owned()]);
    for source in &sources {
        for line in source.lines().filter(|line| line.contains("failpoint::hit(")) {
            names.extend(line.split('"').skip(1).step_by(2).filter(|t| !t.contains('{')).map(str::to_owned));
        }
        for (at, _) in source.match_indices("fn name(&self) -> &'static str {") {
            let body = source[at..].split_once("\n    }").map_or("", |(body, _)| body);
            families.extend(body.split('"').skip(1).step_by(2).filter(|t| !t.is_empty()).map(str::to_owned));
        }
    }
    for family in families.iter().filter(|family| !family.contains(' ')) {
        names.insert(format!("{family}.pre_commit"));
        names.insert(format!("{family}.post_commit"));
    }
    names
}

#[test]
fn every_point_of_the_code_is_in_the_matrix_and_every_one_that_is_asked_for_is_in_the_code() {
    let listed: BTreeSet<String> = POINTS.iter().map(|point| point.name.to_owned()).collect();
    assert_eq!(listed.len(), POINTS.len(), "a point is listed twice");
    assert_eq!(in_the_code(), listed, "the code's points (left) and the matrix (right)");
    for (family, names) in ASKED_FOR {
        for name in *names {
            let name = format!("{family}.{name}");
            let excepted = EXCEPTIONS.iter().any(|(excepted, _)| *excepted == name);
            assert!(listed.contains(&name) != excepted, "{name}: in the code, or an exception, not both");
        }
    }
}
