//! `POST /v1/decisions:batch` over the Unix socket: decisions for each second that the daemon takes of a core, beside
//! parsing the same lines alone.
//!
//!     cargo bench --bench batch [-- --quick]
//!
//! The requests differ in all that a decision reads; 4 connections, each writing lines as fast as they are taken and
//! reading answers on a thread of its own. What counts is the time of a core, which holds on a busy machine too.

use std::{
    fmt::Write as _,
    hint::black_box,
    io::{Read, Write},
    os::unix::net::UnixStream,
    path::Path,
    thread,
    time::Instant,
};

use channel_orchestrator::request::{self, Purpose, lean};
use serde_json::{Value, json};

#[allow(dead_code)]
mod load;
#[allow(dead_code)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use load::{Rounds, cpu_seconds, figure, median, on_core};

const CONNECTIONS: usize = 4;
const REQUESTS: usize = 4_000;

fn main() {
    let (rounds, lines) = (Rounds::asked(), lines());
    let bytes = lines.iter().map(String::len).sum::<usize>() / lines.len();
    println!("{REQUESTS} different requests of {bytes} bytes, median of {} rounds", rounds.count);
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut daemon = support::daemon::Daemon::prepare(folder.path(), "", "");
    daemon.start_under(&on_core("0"));
    let (socket, pid) = (folder.path().join("state/orchestrator.sock"), daemon.pid().expect("it runs"));
    batch(&socket, pid, &lines, rounds);
    let (mut core, mut wall, mut alone, mut whole) = (Vec::new(), Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds.count {
        let (by_core, by_clock) = batch(&socket, pid, &lines, rounds);
        core.push(by_core);
        wall.push(by_clock);
        alone.push(alone_rate(&lines, |line| drop(black_box(lean::parse(line)))));
        whole.push(alone_rate(&lines, |line| drop(black_box(request::parse(line, Purpose::Decision)))));
    }
    let [core, wall, alone, whole] = [core, wall, alone, whole].map(|rates| median(rates.into_iter()));
    println!(
        "decisions by the line            {core:>10.0} for each second of a core, {wall:>10.0}/s by the clock"
    );
    println!("reading the same lines alone     {alone:>10.0} for each second of a core");
    println!("  by the reader of every request {whole:>10.0}");
    println!("x of reading alone               {:>10.2}", core / alone);
    figure("batch.core", core, "/s");
    figure("batch.parse_core", alone, "/s");
    figure("batch.parse_whole_core", whole, "/s");
    figure("batch.clock", wall, "/s");
}

/// A fixed stream of varied requests: a linear congruential generator, so that every run has the same.
fn lines() -> Vec<String> {
    let mut state = 42_u64;
    let mut draw = |below: usize| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize % below
    };
    let kinds = ["appointment", "notification", "marketing", "survey", "document"];
    let levels = ["low", "normal", "high", "urgent"];
    let channels = ["sms", "email", "whatsapp", "telegram"];
    let words = [
        "Bonjour ",
        "votre ",
        "rendez-vous ",
        "demain ",
        "à ",
        "15h ",
        "est confirmé. ",
        "Merci ",
        "et à bientôt. ",
    ];
    let line = |at: usize| {
        let mut context = json!({
            "tenantId": "acme", "prospectId": format!("prospect_{at}"), "prospectName": "Marie Dupont",
            "prospectPhone": format!("+336{:08}", 12_000_000 + at), "prospectEmail": format!("marie{at}@example.com"),
            "messageType": kinds[draw(5)], "priority": { "level": levels[draw(4)] }, "consent": true,
            "preferences": {
                "preferredChannels": [channels[draw(4)], channels[draw(4)]], "quietHoursStart": "22:00",
                "quietHoursEnd": "07:30",
            },
            "timezone": "Europe/Paris", "locale": "fr",
        });
        if draw(3) == 0 {
            context["prospectWhatsApp"] = context["prospectPhone"].clone();
        }
        let mut body = String::new();
        for _ in 0..5 + draw(40) {
            body.push_str(words[draw(words.len())]);
        }
        let mut content = json!({ "subject": "Rappel de rendez-vous", "body": body });
        if draw(4) == 0 {
            content["html"] = Value::from("<p>Bonjour</p>");
        }
        json!({ "context": context, "content": content }).to_string()
    };
    (0..REQUESTS).map(line).collect()
}

/// Decisions for each second of a core, and by the clock.
fn batch(socket: &Path, pid: u32, lines: &[String], rounds: Rounds) -> (f64, f64) {
    let mut body = String::new();
    for line in lines {
        let _ = writeln!(body, "{line}");
    }
    let piece = format!("{:x}\r\n{body}\r\n", body.len()).into_bytes();
    let (cpu, started) = (cpu_seconds(pid), Instant::now());
    let until = started + rounds.each;
    let answered: usize = thread::scope(|threads| {
        let all: Vec<_> = (0..CONNECTIONS)
            .map(|_| {
                let mut writing = UnixStream::connect(socket).expect("the daemon listens");
                let reading = writing.try_clone().expect("a second handle");
                let head = "POST /v1/decisions:batch HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\
                            content-type: application/x-ndjson\r\ntransfer-encoding: chunked\r\n\r\n";
                let piece = &piece;
                threads.spawn(move || {
                    writing.write_all(head.as_bytes()).expect("the daemon reads");
                    while Instant::now() < until {
                        writing.write_all(piece).expect("the daemon reads");
                    }
                    writing.write_all(b"0\r\n\r\n").expect("the daemon reads");
                });
                threads.spawn(move || answers(reading))
            })
            .collect();
        all.into_iter().map(|reader| reader.join().expect("no answer is missing")).sum()
    });
    let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds(pid) - cpu);
    assert!(answered > 0 && answered.is_multiple_of(lines.len()), "{answered} answers");
    (answered as f64 / cpu, answered as f64 / took)
}

/// How many answers came, each of them a decision.
fn answers(mut stream: UnixStream) -> usize {
    let (mut bytes, mut found, mut first, mut last) = (vec![0; 256 << 10], 0, true, 0);
    loop {
        let read = stream.read(&mut bytes).expect("the daemon answers");
        if read == 0 {
            return found;
        }
        if std::mem::take(&mut first) {
            let shown = String::from_utf8_lossy(&bytes[..read.min(2_000)]);
            assert!(shown.starts_with("HTTP/1.1 200") && !shown.contains("/problems/"), "{shown}");
        }
        // What ends with both is not an answer's: a header, or a chunk.
        for byte in &bytes[..read] {
            found += usize::from(*byte == b'\n' && last != b'\r');
            last = *byte;
        }
    }
}

/// Lines for each second of a core, read on this thread.
fn alone_rate(lines: &[String], read: impl Fn(&[u8])) -> f64 {
    let own = || {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux");
        text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).expect("nanoseconds") / 1e9
    };
    let (before, times) = (own(), 25);
    for _ in 0..times {
        lines.iter().for_each(|line| read(line.as_bytes()));
    }
    (times * lines.len()) as f64 / (own() - before)
}
