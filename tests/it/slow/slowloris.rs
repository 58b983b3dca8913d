//! Eight thousand connections that are never finished, on the built daemon's public listener (reliability.md T20, F51,
//! F52): all of them closed within six seconds, and whoever asks rightly meanwhile is answered.

use std::{
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::support::daemon::Daemon;

const HALF_OPEN: usize = 8_000;
const DRIPPING: usize = 500;
/// Header 5 s, and a second to do it in (reliability.md T20); body 10 s.
const HEADER_WITHIN: Duration = Duration::from_secs(6);
const BODY_WITHIN: Duration = Duration::from_millis(11_500);
/// The limit is counted from when a connection was accepted, and that takes its turn.
const DESCRIPTORS: u64 = 20_000;

/// Room for so many connections, in this process and in the daemon that it starts; false where the machine refuses.
fn enough_descriptors() -> bool {
    let now = getrlimit(Resource::Nofile);
    if now.current.is_none_or(|limit| limit >= DESCRIPTORS) {
        return true;
    }
    let maximum = now.maximum.map(|limit| limit.max(DESCRIPTORS));
    [now.maximum, maximum].into_iter().any(|maximum| {
        maximum.is_none_or(|limit| limit >= DESCRIPTORS)
            && setrlimit(Resource::Nofile, Rlimit { current: Some(DESCRIPTORS), maximum }).is_ok()
    })
}

/// Where the public listener is, as the daemon said.
fn public_address(daemon: &Daemon) -> SocketAddr {
    let log = daemon.log();
    let line = log.lines().find(|line| line.contains("reached as")).expect("the public line");
    line.split_whitespace().nth(1).unwrap().trim_end_matches(',').parse().unwrap()
}

/// How long the other side bore a connection that said this much and no more.
async fn borne(address: SocketAddr, text: &'static str) -> Duration {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let since = Instant::now();
    let _ = stream.write_all(text.as_bytes()).await;
    let mut rest = Vec::new();
    // A reset is an end as well.
    let ended = timeout(Duration::from_secs(60), stream.read_to_end(&mut rest)).await;
    assert!(ended.is_ok(), "a connection was never closed");
    since.elapsed()
}

/// The same with a body that comes a byte a second.
async fn borne_dripping(address: SocketAddr) -> Duration {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = "POST /u/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n";
    let since = Instant::now();
    stream.write_all(head.as_bytes()).await.unwrap();
    let (mut reading, mut writing) = stream.into_split();
    let writer = tokio::spawn(async move {
        while writing.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    let ended = timeout(Duration::from_secs(60), reading.read_to_end(&mut Vec::new())).await;
    writer.abort();
    assert!(ended.is_ok(), "a connection was never closed");
    since.elapsed()
}

/// A right request and how long its answer took.
async fn asked(address: SocketAddr) -> Duration {
    let since = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(b"GET /u/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await;
    let mut answer = Vec::new();
    timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("it is answered").unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 404"), "{}", String::from_utf8_lossy(&answer));
    since.elapsed()
}

fn worst_of_a_hundred(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() * 99 / 100]
}

async fn several(address: SocketAddr, times: usize) -> Vec<Duration> {
    let mut taken = Vec::new();
    for _ in 0..times {
        taken.push(asked(address).await);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    taken
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn eight_thousand_half_open_connections_are_closed_and_others_answered() {
    if !enough_descriptors() {
        println!("not run: this machine allows no {DESCRIPTORS} open files");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // One machine plays everybody: as a proxy it is not held to one network's share.
    let settings = "public_listen = \"127.0.0.1:0\"\npublic_url = \"https://msg.example.com\"\n\
                    trusted_proxies = [\"127.0.0.0/8\"]\n[limits]\nconnections = 9000\n";
    let mut daemon = Daemon::prepare(folder.path(), "", settings);
    daemon.start();
    let address = public_address(&daemon);
    let idle = worst_of_a_hundred(several(address, 100).await);

    // No faster than the listener lets them in: what overflows its queue is dropped by the system, unseen by both.
    let (room, mut peers) = (Arc::new(Semaphore::new(HALF_OPEN)), JoinSet::new());
    let texts = ["", "G", "GET /o/x HTTP/1.1\r\nHost: x\r\nX: ", "GET /u/x HTTP/1.1\r\n"];
    for n in 0..HALF_OPEN {
        let seat = Arc::clone(&room).acquire_owned().await.unwrap();
        peers.spawn(async move {
            let _seat = seat;
            borne(address, texts[n % texts.len()]).await
        });
        if n % 50 == 49 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    let meanwhile = worst_of_a_hundred(several(address, 100).await);
    let mut longest = Duration::ZERO;
    while let Some(borne) = peers.join_next().await {
        longest = longest.max(borne.unwrap());
    }
    println!(
        "{HALF_OPEN} half open: the last one closed after {longest:.1?}; answers p99 {idle:.1?} idle, {meanwhile:.1?} meanwhile"
    );
    assert!(longest <= HEADER_WITHIN, "{longest:?}");
    assert!(meanwhile <= (idle * 2).max(Duration::from_secs(1)), "{meanwhile:?}, idle {idle:?}");

    for _ in 0..DRIPPING {
        peers.spawn(borne_dripping(address));
    }
    let mut longest = Duration::ZERO;
    while let Some(borne) = peers.join_next().await {
        longest = longest.max(borne.unwrap());
    }
    assert!(longest <= BODY_WITHIN, "{longest:?}");
    asked(address).await;
    assert_eq!(daemon.terminate(), Some(0));
}
