//! `POST /v1/decisions` over the Unix socket, beside a bare hyper server that echoes the same bytes.
//!
//!     cargo bench --bench http
//!
//! Both servers are processes of their own; one thread of this one keeps 32 connections busy, one request at a
//! time on each, on the one and on the other in turn. The ratio is the figure to quote.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{UnixListener, UnixStream},
};

#[allow(dead_code)]
#[path = "../tests/it/support/mod.rs"]
mod support;

const CONNECTIONS: usize = 32;
const ROUNDS: usize = 5;
const ROUND: Duration = Duration::from_secs(2);

fn main() {
    let mut arguments = std::env::args().skip_while(|argument| argument != "--echo");
    if arguments.next().is_some() {
        let socket = PathBuf::from(arguments.next().expect("--echo SOCKET"));
        let server = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
        server.block_on(echo(&socket));
        return;
    }
    let folder = tempfile::tempdir().expect("a temporary folder");
    let mut daemon = support::daemon::Daemon::prepare(folder.path(), "", "");
    daemon.start();
    let echo_socket = folder.path().join("echo.sock");
    let mut echo = start_echo(&echo_socket);
    let load = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    load.block_on(compare(&folder.path().join("state/orchestrator.sock"), &echo_socket));
    echo.kill().expect("the echo server is ours to stop");
    echo.wait().expect("stopped");
}

fn start_echo(socket: &Path) -> Child {
    let child = Command::new(std::env::current_exe().expect("this program"))
        .arg("--echo")
        .arg(socket)
        .stdin(Stdio::null())
        .spawn()
        .expect("the echo server starts");
    assert!(support::daemon::eventually(|| socket.exists()), "no echo server");
    child
}

/// The least that an HTTP server can do: read the whole body, answer with it.
async fn echo(socket: &Path) {
    let listener = UnixListener::bind(socket).expect("a free path");
    while let Ok((stream, _)) = listener.accept().await {
        tokio::spawn(async move {
            let answer = |request: Request<Incoming>| async {
                let body = request.into_body().collect().await.map(http_body_util::Collected::to_bytes);
                Ok::<_, Infallible>(Response::new(Full::new(body.unwrap_or_default())))
            };
            // A connection that its client drops ends here, and nothing else.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), service_fn(answer))
                .await;
        });
    }
}

async fn compare(daemon: &Path, echo: &Path) {
    let body = json!({
        "context": {
            "tenantId": "acme", "prospectId": "prospect_456", "prospectName": "Marie Dupont",
            "prospectPhone": "+33612345678", "prospectEmail": "marie.dupont@example.com",
            "messageType": "appointment", "priority": { "level": "urgent", "sendWithin": 10 },
            "preferences": { "preferredChannels": ["sms", "email"], "fallbackChannels": ["email"] }
        },
        "content": { "subject": "Rappel RDV", "body": "Bonjour Marie, rappel de votre RDV demain à 15h." }
    })
    .to_string();
    let request = format!(
        "POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    );
    for socket in [daemon, echo] {
        run(socket, &request, Duration::from_millis(500)).await;
    }
    let (mut decisions, mut echoes) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        decisions.push(run(daemon, &request, ROUND).await);
        echoes.push(run(echo, &request, ROUND).await);
    }
    let show = |name: &str, rounds: &[Round]| {
        let (rate, median, worst) = summary(rounds);
        println!("{name:<28} {rate:>10.0} requests/s   p50 {median:>7.0} us   p99 {worst:>7.0} us");
        rate
    };
    let decided = show("POST /v1/decisions", &decisions);
    let echoed = show("bare hyper echo, same bytes", &echoes);
    println!(
        "ratio {:.2} ({CONNECTIONS} connections, {} bytes, median of {ROUNDS} rounds)",
        decided / echoed,
        body.len()
    );
}

/// What one round saw: requests a second, and each request's microseconds.
struct Round {
    rate: f64,
    micros: Vec<f64>,
}

fn summary(rounds: &[Round]) -> (f64, f64, f64) {
    let mut rates: Vec<f64> = rounds.iter().map(|round| round.rate).collect();
    rates.sort_by(f64::total_cmp);
    let mut micros: Vec<f64> = rounds.iter().flat_map(|round| round.micros.iter().copied()).collect();
    micros.sort_by(f64::total_cmp);
    (rates[rates.len() / 2], micros[micros.len() / 2], micros[micros.len() * 99 / 100])
}

async fn run(socket: &Path, request: &str, how_long: Duration) -> Round {
    let started = Instant::now();
    let tasks: Vec<_> = (0..CONNECTIONS)
        .map(|_| tokio::spawn(keep_busy(socket.to_owned(), request.to_owned(), started + how_long)))
        .collect();
    let mut micros = Vec::new();
    for task in tasks {
        micros.extend(task.await.expect("no connection fails"));
    }
    Round { rate: micros.len() as f64 / started.elapsed().as_secs_f64(), micros }
}

async fn keep_busy(socket: PathBuf, request: String, until: Instant) -> Vec<f64> {
    let mut stream = UnixStream::connect(socket).await.expect("the server listens");
    let mut buffer = vec![0; 64 * 1024];
    let mut micros = Vec::new();
    while Instant::now() < until {
        let asked = Instant::now();
        stream.write_all(request.as_bytes()).await.expect("the server reads");
        let mut filled = 0;
        while !complete(&buffer[..filled]) {
            let read = stream.read(&mut buffer[filled..]).await.expect("the server answers");
            assert!(read > 0, "the server closed: {}", String::from_utf8_lossy(&buffer[..filled]));
            filled += read;
        }
        assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..filled]));
        micros.push(asked.elapsed().as_secs_f64() * 1e6);
    }
    micros
}

/// Whether an answer has come whole: its head, and as many bytes as it announces.
fn complete(answer: &[u8]) -> bool {
    let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") else { return false };
    let head = String::from_utf8_lossy(&answer[..end]).to_ascii_lowercase();
    let length = head
        .split("\r\n")
        .find_map(|line| line.strip_prefix("content-length:"))
        .and_then(|length| length.trim().parse::<usize>().ok());
    length.is_some_and(|length| answer.len() >= end + 4 + length)
}
