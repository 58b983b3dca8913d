//! Many decisions in one request: order, lines that are wrong, readers that are slow or leave, memory, and the end.

use std::{
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use axum::{body::Body, http::Request};
use channel_orchestrator::api::{
    ApiSettings,
    auth::Scope,
    settings::{BodyLimits, Pace},
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    time::timeout,
};

use super::{
    front::whole,
    house::{Answer, House, example, with},
    sockets::{LONG, PATIENT, QUICK, Served, rest, write},
};
use crate::support::daemon::Daemon;

const PATH: &str = "/v1/decisions:batch";
const HEAD: &str = "POST /v1/decisions:batch HTTP/1.1\r\nhost: x\r\ncontent-type: application/x-ndjson\r\n\
                    transfer-encoding: chunked\r\n\r\n";

fn lines(body: impl Into<Body>) -> Request<Body> {
    Request::post(PATH).header("content-type", "application/x-ndjson").body(body.into()).unwrap()
}

fn answers(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/x-ndjson; charset=utf-8"));
    assert!(answer.text.is_empty() || answer.text.ends_with('\n'));
    answer.text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// One request that nobody else has: its answer holds `n` seconds of waiting.
fn numbered(n: u32) -> String {
    let mut request = example("urgent");
    request["sendAt"] = json!(format!("2030-01-01T{:02}:{:02}:{:02}Z", n / 3600, n / 60 % 60, n % 60));
    request.to_string()
}

fn number(answer: &Value) -> u32 {
    let at = answer["heldUntil"].as_str().unwrap_or_else(|| panic!("{answer}"));
    let part = |from: usize| at[from..from + 2].parse::<u32>().unwrap();
    part(11) * 3600 + part(14) * 60 + part(17)
}

/// A chunk of a body without a length.
fn chunk(text: &str) -> String {
    format!("{:x}\r\n{text}\r\n", text.len())
}

#[tokio::test]
async fn every_line_is_answered_as_the_single_route_answers_it_and_in_order() {
    let house = House::idle(ApiSettings::default()).await;
    let names = ["urgent", "marketing", "quiet_hours", "appointment", "fallback"];
    let mut explained = example("quiet_hours");
    explained["explain"] = true.into();
    let requests: Vec<Value> = names.into_iter().map(example).chain([explained]).collect();
    let body: String = requests.iter().map(|request| format!("{request}\n")).collect();
    let found = house.ask(lines(body)).await;
    let found = answers(&found);
    assert_eq!(found.len(), requests.len());
    for (request, mut found) in requests.iter().zip(found) {
        let mut single = house.post("/v1/decisions", request).await.json();
        for answer in [&mut single, &mut found] {
            if let Some(took) = answer.pointer_mut("/explanation/tookMicros") {
                *took = 0.into();
            }
        }
        assert_eq!(found, single);
    }
    let body: String = (0..500).map(|n| format!("{}\n", numbered(n))).collect();
    let found = answers(&house.ask(lines(body)).await);
    assert!(found.iter().map(number).eq(0..500));
}

#[tokio::test]
async fn a_wrong_line_is_told_by_its_number_and_stops_no_other() {
    let limits = BodyLimits { decision_bytes: 2_000, ..BodyLimits::default() };
    let house = House::idle(ApiSettings { bodies: limits, ..ApiSettings::default() }).await;
    let mut nobody = example("urgent");
    nobody["context"]["tenantId"] = "nobody".into();
    let mut nowhere = example("urgent");
    nowhere["context"]["preferences"] = json!({ "disabledChannels": ["sms", "email"] });
    let long = format!("{{\"x\":\"{}\"}}", "y".repeat(3_000));
    let body = [
        numbered(1),
        "no JSON".into(),
        String::new(),
        "  \t\r".into(),
        nobody.to_string(),
        json!({ "context": { "prospectId": "p", "tenantId": "acme", "x": 1 } }).to_string(),
        long,
        nowhere.to_string(),
        format!("{}\r", numbered(2)),
        numbered(3),
    ]
    .join("\n");
    let found = answers(&house.ask(lines(body)).await);
    let told: Vec<(u64, &str)> = found
        .iter()
        .filter_map(|answer| Some((answer["line"].as_u64()?, answer["type"].as_str().unwrap())))
        .collect();
    let expected = [
        (2, "/problems/bad-syntax"),
        (5, "/problems/not-found"),
        (6, "/problems/invalid-request"),
        (7, "/problems/body-too-large"),
        (8, "/problems/no-channel"),
    ];
    assert_eq!(told, expected);
    assert_eq!(found[3]["errors"][0]["pointer"], "/context/x");
    assert!(found.iter().filter(|answer| answer["line"].is_u64()).all(|p| p["instance"] == PATH));
    let decided: Vec<u32> = [0, 6, 7].map(|at| number(&found[at])).to_vec();
    assert_eq!((found.len(), decided), (8, vec![1, 2, 3]));
    let metrics = house.get("/metrics").await.text;
    assert!(metrics.contains("decisions_total{tenant=\"acme\",channel=\"sms\"} 3"), "{metrics}");
    assert!(metrics.contains("decisions_total{tenant=\"acme\",channel=\"none\"} 1"), "{metrics}");
}

#[tokio::test]
async fn a_key_decides_for_its_tenant_only() {
    let house = House::idle(ApiSettings::default()).await;
    let key = house.key("acme", &[Scope::Read]).await;
    let mut theirs = example("urgent");
    theirs["context"]["tenantId"] = "globex".into();
    let mut nobodys = theirs.clone();
    nobodys["context"]["tenantId"] = "initech".into();
    let body = format!("{theirs}\n{}\n{nobodys}\n", example("urgent"));
    let asked = with(lines(body), "authorization", &format!("Bearer {key}"));
    let found = answers(&house.ask_tcp(asked).await);
    assert_eq!(found[1]["channel"], "sms");
    let words = |answer: &Value, tenant: &str| answer["detail"].as_str().unwrap().replace(tenant, "…");
    assert_eq!(words(&found[0], "globex"), words(&found[2], "initech"));
    assert_eq!((&found[0]["type"], &found[0]["line"]), (&json!("/problems/not-found"), &json!(1)));
}

/// Answers come while requests are still to be written: a conversation, if somebody wants one.
#[tokio::test]
async fn a_line_is_answered_before_the_next_one_is_written() {
    let served = Served::new(|s| s.pace = PATIENT).await;
    let mut stream = served.connect().await;
    write(&mut stream, HEAD).await;
    let mut seen = String::new();
    for n in 0..3 {
        // In two pieces: a line may come in any.
        let line = format!("{}\n", numbered(n));
        let (first, second) = line.split_at(100);
        write(&mut stream, &format!("{}{}", chunk(first), chunk(second))).await;
        while seen.matches("\"heldUntil\"").count() <= n as usize {
            let mut bytes = [0; 4096];
            let read = timeout(LONG, stream.read(&mut bytes)).await.expect("an answer").unwrap();
            assert!(read > 0, "{seen}");
            seen.push_str(std::str::from_utf8(&bytes[..read]).unwrap());
        }
    }
    write(&mut stream, "0\r\n\r\n").await;
    seen.push_str(&super::sockets::until_the_last_chunk(&mut stream).await);
    assert!(seen.ends_with("0\r\n\r\n"), "{seen}");
}

/// Resident memory of a process, in bytes.
fn resident(pid: u32) -> usize {
    let pages = std::fs::read_to_string(format!("/proc/{pid}/statm")).unwrap();
    pages.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4096
}

/// A hundred thousand lines pass through a few hundred kilobytes, and a reader that takes its time holds them up
/// instead of making the daemon remember them. The daemon is a process of its own: nobody else's memory is counted.
#[test]
fn many_lines_take_no_more_memory_than_few() {
    const LINES: usize = 100_000;
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(folder.path(), "", "");
    daemon.start();
    let pid = daemon.pid().unwrap();
    let mut reading = UnixStream::connect(folder.path().join("state/orchestrator.sock")).unwrap();
    reading.set_read_timeout(Some(LONG)).unwrap();
    let mut writing = reading.try_clone().unwrap();
    let written = Arc::new(AtomicUsize::new(0));
    let counting = written.clone();
    let writer = std::thread::spawn(move || {
        writing.write_all(HEAD.as_bytes()).unwrap();
        // Wrong from its first byte on: what is measured here is the way, not the deciding.
        let hundred = chunk(&format!("]{}\n", "x".repeat(700)).repeat(100));
        for _ in 0..LINES / 100 {
            writing.write_all(hundred.as_bytes()).unwrap();
            counting.fetch_add(100, Ordering::SeqCst);
        }
        writing.write_all(b"0\r\n\r\n").unwrap();
    });
    // Nobody reads: the writer comes to a stand, long before its end.
    let (mut before, mut still) = (0, 0);
    while still < 20 {
        std::thread::park_timeout(Duration::from_millis(20));
        let now = written.load(Ordering::SeqCst);
        still = if now == before && now > 0 { still + 1 } else { 0 };
        before = now;
    }
    assert!(before < LINES / 10, "{before} lines were taken and no answer read");
    let held = resident(pid);
    let (mut found, mut bytes, mut most, mut tail) = (0, vec![0; 64 << 10], 0, Vec::new());
    while !tail.ends_with(b"\r\n0\r\n\r\n") {
        let read = reading.read(&mut bytes).unwrap();
        assert!(read > 0, "{found} answers");
        found += bytes[..read].iter().filter(|byte| **byte == b'}').count();
        tail.extend_from_slice(&bytes[..read]);
        tail.drain(..tail.len().saturating_sub(8));
        most = most.max(resident(pid));
    }
    writer.join().unwrap();
    assert_eq!(found, LINES);
    // The requests alone are 70 MB.
    assert!(most < held + (16 << 20), "{held} bytes, then {most}");
}

#[tokio::test]
async fn a_reader_that_never_reads_is_let_go() {
    let served = Served::new(|s| s.pace = Pace { write: QUICK.write, ..PATIENT }).await;
    let mut stream = served.connect().await;
    write(&mut stream, HEAD).await;
    let line = chunk(&format!("{}\n", example("urgent")));
    let refused = async { while stream.write_all(line.as_bytes()).await.is_ok() {} };
    timeout(LONG, refused).await.expect("the daemon lets go of it");
}

#[tokio::test]
async fn a_writer_that_leaves_or_falls_silent_ends_it() {
    let served = Served::new(|s| s.pace = Pace { body: QUICK.body, ..PATIENT }).await;
    let mut stream = served.connect().await;
    write(&mut stream, &format!("{HEAD}{}", chunk(&format!("{}\n{{\"con", numbered(7))))).await;
    let said = rest(&mut stream).await;
    let (_, body) = said.split_once("\r\n\r\n").unwrap();
    let told: Vec<Value> = whole(body).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(number(&told[0]), 7);
    assert_eq!((&told[1]["type"], &told[1]["line"]), (&json!("/problems/request-timeout"), &json!(2)));

    let served = Served::new(|s| s.pace = PATIENT).await;
    for _ in 0..3 {
        let mut stream = served.connect().await;
        write(&mut stream, &format!("{HEAD}{}", chunk(&format!("{}\n", numbered(1)).repeat(50)))).await;
        let mut some = [0; 100];
        stream.read_exact(&mut some).await.unwrap();
        drop(stream);
    }
    // Whoever left leaves nothing behind: a daemon that waited for them would not stop.
    let mut served = served;
    served.stop().await;
}

/// What came before the end is answered, and what comes after it is told by its line.
#[tokio::test]
async fn a_daemon_that_stops_says_from_which_line_on_nothing_was_decided() {
    let mut served = Served::new(|s| s.pace = PATIENT).await;
    let mut stream = served.connect().await;
    write(&mut stream, &format!("{HEAD}{}", chunk(&format!("{}\n{}\n", numbered(1), numbered(2))))).await;
    let mut begun = vec![0; 100];
    stream.read_exact(&mut begun).await.unwrap();
    served.stop().await;
    let said = format!("{}{}", String::from_utf8(begun).unwrap(), rest(&mut stream).await);
    let (_, body) = said.split_once("\r\n\r\n").unwrap();
    let told: Vec<Value> = whole(body).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(told[..2].iter().map(number).collect::<Vec<_>>(), [1, 2]);
    assert_eq!(
        (&told[2]["type"], &told[2]["line"]),
        (&json!("/problems/unavailable"), &json!(3)),
        "{told:?}"
    );
}

/// Lines that are being read count as bodies do: where there is no room left for one, it alone is refused.
#[tokio::test]
async fn lines_share_the_room_that_bodies_have() {
    let limits = BodyLimits { decision_bytes: 64 << 10, held_bytes: 8 << 10, ..BodyLimits::default() };
    let served = Served::new(|s| {
        s.bodies = limits;
        s.pace = PATIENT;
    })
    .await;
    let mut stream = served.connect().await;
    let long = json!({ "context": { "tenantId": "acme", "prospectId": "p" }, "content": { "body": "x".repeat(20_000) } });
    let long = long.to_string();
    let (first, second) = long.split_at(12_000);
    let body = [chunk(first), chunk(&format!("{second}\n{}\n", numbered(5)))];
    write(&mut stream, HEAD).await;
    for part in body {
        write(&mut stream, &part).await;
        // So that the line comes in two.
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    write(&mut stream, "0\r\n\r\n").await;
    let said = super::sockets::until_the_last_chunk(&mut stream).await;
    let (_, body) = said.split_once("\r\n\r\n").unwrap();
    let told: Vec<Value> = whole(body).lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(
        (&told[0]["type"], &told[0]["line"]),
        (&json!("/problems/unavailable"), &json!(1)),
        "{told:?}"
    );
    assert_eq!(number(&told[1]), 5);
}
