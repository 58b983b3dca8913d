//! `POST /v1/decisions` over the Unix socket, beside a bare hyper server that echoes the same bytes, and beside Node's
//! `http` with the same rules in JavaScript where `node` is at hand.
//!
//!     cargo bench --bench http [-- --quick]
//!
//! Every server is a process of its own on one core, the load is one thread on the other; 32 connections, one request
//! at a time on each, each server in its turn. The load never sleeps: to wake it would be charged to the server. Quote
//! the ratios: of requests a second, and of the time that a server takes of a processor for each request, which holds on
//! a busy machine too.

use std::{
    convert::Infallible,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use http_body_util::{BodyExt, Full};
use hyper::{Request, Response, body::Incoming, service::service_fn};
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::UnixListener;

#[allow(dead_code)]
mod load;
#[allow(dead_code)]
#[path = "../tests/it/support/mod.rs"]
mod support;

use load::{Round, Rounds, Summary, figure, on_core};

const CONNECTIONS: usize = 32;

/// One of those that are compared.
struct Server {
    name: &'static str,
    figure: &'static str,
    socket: PathBuf,
    pid: u32,
    rounds: Vec<Round>,
}

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
    daemon.start_under(&on_core("0"));
    let mut servers = vec![Server {
        name: "POST /v1/decisions",
        figure: "http.decide",
        socket: folder.path().join("state/orchestrator.sock"),
        pid: daemon.pid().expect("it runs"),
        rounds: Vec::new(),
    }];
    let own = std::env::current_exe().expect("this program");
    let mut echo = Helper::start(&own, &["--echo"], &folder.path().join("echo.sock"));
    servers.push(echo.server("bare hyper echo, same bytes", "http.echo"));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/rivals/node_http.mjs");
    let mut node = match Command::new("node").arg("--version").output() {
        Ok(found) if found.status.success() => {
            let script = script.to_str().expect("a path in UTF-8");
            Some(Helper::start(Path::new("node"), &[script], &folder.path().join("node.sock")))
        }
        _ => None,
    };
    match &node {
        Some(node) => servers.push(node.server("Node http, rules in JavaScript", "http.node")),
        None => println!("missing: http.node there is no node on the PATH"),
    }
    // After the servers, which would be kept to this core with it.
    load::stay_on_core("1");
    compare(&mut servers);
    echo.stop();
    node.iter_mut().for_each(Helper::stop);
}

/// A server beside the daemon.
struct Helper {
    child: Child,
    socket: PathBuf,
}

impl Helper {
    /// Starts a program, which is given its socket as the last argument, on the servers' core.
    fn start(program: &Path, arguments: &[&str], socket: &Path) -> Self {
        let mut words: Vec<std::ffi::OsString> = on_core("0").into_iter().map(Into::into).collect();
        words.push(program.into());
        words.extend(arguments.iter().map(Into::into));
        words.push(socket.into());
        let child = Command::new(&words[0])
            .args(&words[1..])
            .stdin(Stdio::null())
            .spawn()
            .expect("the server starts");
        assert!(support::daemon::eventually(|| socket.exists()), "{} does not listen", program.display());
        Self { child, socket: socket.to_owned() }
    }

    fn server(&self, name: &'static str, figure: &'static str) -> Server {
        Server { name, figure, socket: self.socket.clone(), pid: self.child.id(), rounds: Vec::new() }
    }

    fn stop(&mut self) {
        self.child.kill().expect("the server is ours to stop");
        self.child.wait().expect("stopped");
    }
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

/// The brief's first request.
fn request() -> Vec<u8> {
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
    let length = body.len();
    let head = "POST /v1/decisions HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json";
    format!("{head}\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

fn compare(servers: &mut [Server]) {
    let (request, rounds) = (request(), Rounds::asked());
    for server in servers.iter() {
        load::run(&server.socket, server.pid, &request, CONNECTIONS, rounds.each / 2);
    }
    for _ in 0..rounds.count {
        for server in servers.iter_mut() {
            let round = load::run(&server.socket, server.pid, &request, CONNECTIONS, rounds.each);
            server.rounds.push(round);
        }
    }
    let found: Vec<(&Server, Summary)> = servers.iter().map(|s| (s, Summary::of(&s.rounds))).collect();
    println!("{CONNECTIONS} connections, {} bytes, median of {} rounds", request.len(), rounds.count);
    for (server, Summary { rate, cpu, p50, p99 }) in &found {
        println!(
            "{:<31} {rate:>9.0} requests/s   {cpu:>6.2} us of a core each   p50 {p50:>6.0} us   p99 {p99:>6.0} us",
            server.name
        );
    }
    let (_, own) = &found[0];
    for (server, other) in &found[1..] {
        let (rate, cpu) = (own.rate / other.rate, other.cpu / own.cpu);
        println!("x {:<29} {rate:>9.2} by requests/s {cpu:>6.2} by time of a core", server.name);
    }
    for (server, summary) in &found {
        figure(server.figure, summary.rate, "/s");
        figure(&format!("{}_cpu", server.figure), summary.cpu, "us");
    }
    figure("http.decide_p99", own.p99, "us");
}
