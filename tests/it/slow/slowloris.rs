//! Eight thousand connections that are never finished, on the built daemon's public listener (reliability.md T20, F51,
//! F52): all of them closed within six seconds, and whoever asks rightly meanwhile is answered. And who sends, or reads,
//! a byte a second: on the local socket, because the public listener's answers are too short to wait for a reader.

use std::{
    net::SocketAddr,
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::{TcpStream, UnixStream},
    sync::Semaphore,
    task::JoinSet,
    time::timeout,
};

use crate::support::{
    daemon::Daemon,
    http_provider::secret,
    provider::{ACCOUNT, AUTH_TOKEN},
};

const HALF_OPEN: usize = 8_000;
/// More than there may be callbacks at a time.
const DRIPPING: usize = 600;
const CALLBACK: &str = "/callbacks/twilio/acme";
const SIPPING: usize = 200;
/// Header 5 s, and a second to do it in (reliability.md T20); a body, and an answer, 10 s.
const HEADER_WITHIN: Duration = Duration::from_secs(6);
const BODY_WITHIN: Duration = Duration::from_millis(11_500);
/// Who is cut off sooner was not cut off for that.
const BODY_BORNE: Duration = Duration::from_secs(5);
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
    let head = format!("POST {CALLBACK} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n");
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

/// How long somebody was borne who asks for long answers and reads a byte of them a second.
async fn borne_sipping(socket: PathBuf) -> Duration {
    let (mut reading, mut writing) = UnixStream::connect(&socket).await.unwrap().into_split();
    let since = Instant::now();
    let sips = tokio::spawn(async move {
        while reading.read_u8().await.is_ok() {
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    });
    // More than the buffers between both hold. What was answered can be read after the end as well: it shows in that
    // nothing more is taken.
    let asks = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    let asking = async { while writing.write_all(asks.as_bytes()).await.is_ok() {} };
    let ended = timeout(Duration::from_secs(60), asking).await;
    sips.abort();
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
    let settings = format!(
        "public_listen = \"127.0.0.1:0\"\npublic_url = \"https://msg.example.com\"\n\
         trusted_proxies = [\"127.0.0.0/8\"]\n[limits]\nconnections = 9000\n\
         [drivers.twilio]\nkind = \"twilio\"\naccount_sid = \"{ACCOUNT}\"\nauth_token = \"{}\"\n\
         from = \"+33700000000\"\nbase_url = \"http://127.0.0.1:9\"\n",
        secret(folder.path(), "twilio", AUTH_TOKEN)
    );
    let mut daemon = Daemon::prepare(folder.path(), "", &settings);
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
    let (_, longest) = shortest_and_longest(std::mem::take(&mut peers)).await;
    println!(
        "{HALF_OPEN} half open: the last one closed after {longest:.1?}; answers p99 {idle:.1?} idle, {meanwhile:.1?} meanwhile"
    );
    assert!(longest <= HEADER_WITHIN, "{longest:?}");
    assert!(meanwhile <= (idle * 2).max(Duration::from_secs(1)), "{meanwhile:?}, idle {idle:?}");

    for _ in 0..DRIPPING {
        peers.spawn(borne_dripping(address));
    }
    // Whoever calls back meanwhile is heard, and turned away for want of a signature alone.
    let call =
        format!("POST {CALLBACK} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx");
    for _ in 0..20 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(call.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.expect("an answer").unwrap();
        assert!(answer.starts_with(b"HTTP/1.1 403"), "{}", String::from_utf8_lossy(&answer));
    }
    let (shortest, longest) = shortest_and_longest(peers).await;
    println!("{DRIPPING} who send a byte a second: closed after {shortest:.1?} to {longest:.1?}");
    assert!(shortest >= BODY_BORNE, "nobody waits for a body: {shortest:?}");
    assert!(longest <= BODY_WITHIN, "{longest:?}");
    asked(address).await;
    assert_eq!(daemon.terminate(), Some(0));
}

async fn shortest_and_longest(mut peers: JoinSet<Duration>) -> (Duration, Duration) {
    let (mut shortest, mut longest) = (Duration::MAX, Duration::ZERO);
    while let Some(borne) = peers.join_next().await {
        let borne = borne.unwrap();
        (shortest, longest) = (shortest.min(borne), longest.max(borne));
    }
    (shortest, longest)
}

/// F52: closed within 10 s, and who asks rightly meanwhile is answered.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_byte_a_second_is_cut_off_and_others_are_answered() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(folder.path(), "", "");
    daemon.start();
    let socket = folder.path().join("state/orchestrator.sock");
    let mut peers = JoinSet::new();
    for _ in 0..SIPPING {
        peers.spawn(borne_sipping(socket.clone()));
    }
    assert_eq!(daemon.call("GET", "/healthz", &[], "").map(|answer| answer.status), Some(200));
    let (shortest, longest) = shortest_and_longest(peers).await;
    println!("{SIPPING} who read a byte a second: closed after {shortest:.1?} to {longest:.1?}");
    assert!(longest <= BODY_WITHIN, "{longest:?}");
    assert_eq!(daemon.call("GET", "/healthz", &[], "").map(|answer| answer.status), Some(200));
    assert_eq!(daemon.terminate(), Some(0));
}
