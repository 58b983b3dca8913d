//! kill -9 in a loop while messages with keys are sent through a mail server with a ledger.
//!
//! Nothing acknowledged is lost; nothing is accepted twice, but for an attempt whose outcome is recorded as
//! unknown (reliability.md P1, P3, P4); the same key always names the same message.

use std::{
    collections::BTreeMap,
    process::Command,
    sync::{
        Mutex,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Value, json};

use crate::support::{
    daemon::{Daemon, eventually},
    ledger,
};

const CALLERS: usize = 4;

fn kills() -> usize {
    if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() { 500 } else { 25 }
}

#[test]
fn killed_in_a_loop_nothing_is_lost_and_nothing_is_sent_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (port, ledger) = ledger::serve();
    let settings = format!(
        "[drivers.relay]\nkind = \"smtp\"\nhost = \"127.0.0.1\"\nport = {port}\ntls = \"none\"\n\
         from = \"rdv@example.com\"\n"
    );
    let mut daemon = Daemon::prepare(folder.path(), "", &settings);
    daemon.start();

    let acknowledged: Mutex<BTreeMap<String, String>> = Mutex::default();
    let (count, stop) = (AtomicUsize::new(0), AtomicBool::new(false));
    thread::scope(|scope| {
        for caller in 0..CALLERS {
            let (folder, acknowledged, count, stop) = (folder.path(), &acknowledged, &count, &stop);
            scope.spawn(move || send_until_stopped(caller, folder, acknowledged, count, stop));
        }
        // Each kill comes after a different number of further acknowledgements, so at different moments.
        let mut seed = 7_usize;
        for _ in 0..kills() {
            seed = seed.wrapping_mul(1_103_515_245).wrapping_add(12_345) % (1 << 31);
            let target = count.load(Ordering::SeqCst) + 1 + seed % 40;
            assert!(eventually(|| count.load(Ordering::SeqCst) >= target), "callers make no progress");
            daemon.kill();
            daemon.start();
        }
        stop.store(true, Ordering::SeqCst);
    });

    let acknowledged = acknowledged.into_inner().unwrap();
    let audit = Command::new(env!("CARGO_BIN_EXE_orchestrator"))
        .args(["audit", "--config", "orchestrator.toml"])
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(audit.status.success(), "{}", String::from_utf8_lossy(&audit.stdout));
    assert!(acknowledged.len() > kills(), "{} messages only", acknowledged.len());
    let mut unknown = 0;
    for (key, id) in &acknowledged {
        let record = settled(&daemon, id);
        let recorded_unknown = has_unknown_attempt(&record);
        unknown += usize::from(recorded_unknown);
        let times = ledger.count(id);
        assert!(times <= 1 + u32::from(recorded_unknown), "{key} {id} was accepted {times} times: {record}");
        // An unknown outcome is settled after five minutes, by sending once more: then twice is allowed and shown.
        if record["status"] == "sent" {
            assert!(times >= 1, "{key} {id} is said to be sent, and never was: {record}");
        }
    }
    println!(
        "{} kills, {} messages acknowledged, {} of them with an unknown outcome recorded",
        kills(),
        acknowledged.len(),
        unknown
    );
}

fn request(caller: usize, number: usize) -> String {
    json!({
        "context": {
            "tenantId": "acme", "prospectId": format!("p{caller}-{number}"),
            "prospectEmail": format!("p{number}@example.com"), "messageType": "notification"
        },
        "content": { "subject": "Essai", "body": format!("Message {caller}/{number}") }
    })
    .to_string()
}

/// Sends one message after another; what is not acknowledged is sent again under the same key.
fn send_until_stopped(
    caller: usize,
    folder: &std::path::Path,
    acknowledged: &Mutex<BTreeMap<String, String>>,
    count: &AtomicUsize,
    stop: &AtomicBool,
) {
    let client = Daemon::on(folder);
    let mut number = 0;
    while !stop.load(Ordering::SeqCst) {
        let key = format!("k-{caller}-{number}");
        let headers = [("idempotency-key", key.as_str()), ("prefer", "respond-async")];
        let Some(answer) = client.call("POST", "/v1/messages", &headers, &request(caller, number)) else {
            thread::park_timeout(Duration::from_millis(2));
            continue;
        };
        if answer.status == 503 {
            continue;
        }
        assert!(matches!(answer.status, 200 | 202), "{answer:?}");
        let id = answer.body["messageId"].as_str().unwrap().to_owned();
        // Asked once more with the same key, the same message answers.
        if number % 5 == 0
            && let Some(again) = client.call("POST", "/v1/messages", &headers, &request(caller, number))
            && again.status < 300
        {
            assert_eq!(again.body["messageId"], json!(id), "{key}");
        }
        acknowledged.lock().unwrap().insert(key, id);
        count.fetch_add(1, Ordering::SeqCst);
        number += 1;
    }
}

/// The record once nothing is in motion any more; an unknown outcome is settled minutes later, and stays so here.
fn settled(daemon: &Daemon, id: &str) -> Value {
    let mut record = Value::Null;
    let found = eventually(|| {
        let Some(answer) = daemon.call("GET", &format!("/v1/messages/{id}"), &[], "") else { return false };
        assert_eq!(answer.status, 200, "{id} was acknowledged and is lost: {answer:?}");
        record = answer.body;
        matches!(record["status"].as_str(), Some("sent" | "unknown" | "unresolved" | "failed"))
    });
    assert!(found, "{id} is still in motion: {record}\n{}", daemon.log());
    record
}

fn has_unknown_attempt(record: &Value) -> bool {
    record["attempts"].as_array().is_some_and(|attempts| {
        attempts
            .iter()
            .any(|attempt| attempt["status"] == "unknown" || attempt["error"]["class"] == "unknown")
    })
}
