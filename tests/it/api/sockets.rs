//! The listeners themselves: the Unix socket's file, a second daemon, slow and too many peers, draining.
//!
//! Limits are made small; a test waits for the close itself, never for a time.

use std::{
    fs,
    os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use channel_orchestrator::api::{
    ApiSettings, ListenError, Listeners, serve,
    settings::{ConnectionLimits, Pace},
    socket::SocketError,
};
use serde_json::json;
use tempfile::TempDir;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt},
    net::{TcpStream, UnixListener, UnixStream},
    task::JoinHandle,
    time::timeout,
};

use super::house::{House, example};

/// More than any limit here, less than anyone's patience.
pub(super) const LONG: Duration = Duration::from_secs(20);
pub(super) const QUICK: Pace = Pace {
    header: Duration::from_millis(80),
    body: Duration::from_millis(80),
    write: Duration::from_millis(80),
    idle: Duration::from_millis(200),
};
/// Out of reach, so that the limit under test is the one that acts.
const NEVER: Duration = Duration::from_secs(600);
pub(super) const PATIENT: Pace = Pace { header: NEVER, body: NEVER, write: NEVER, idle: NEVER };

pub(super) struct Served {
    pub house: House,
    socket: PathBuf,
    pub tcp: Option<std::net::SocketAddr>,
    task: JoinHandle<()>,
    _dir: TempDir,
}

impl Served {
    pub async fn new(change: impl FnOnce(&mut ApiSettings)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let socket = dir.path().join("run/o.sock");
        let mut settings = ApiSettings { socket: Some(socket.clone()), ..ApiSettings::default() };
        change(&mut settings);
        let listeners = Listeners::bind(&settings).await.unwrap();
        let tcp = listeners.address();
        let house = House::idle(settings).await;
        let task = tokio::spawn(serve(listeners, house.api.clone(), house.closing.clone()));
        Self { house, socket, tcp, task, _dir: dir }
    }

    pub async fn connect(&self) -> UnixStream {
        UnixStream::connect(&self.socket).await.unwrap()
    }

    pub async fn stop(&mut self) {
        self.house.closing.cancel();
        timeout(LONG, &mut self.task).await.expect("it stops").unwrap();
    }
}

/// Everything that comes until the other side closes.
pub(super) async fn rest(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut bytes = Vec::new();
    // A reset is a close too.
    let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

/// One answer on a connection that stays open.
pub(super) async fn answer(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    loop {
        let mut byte = [0; 1];
        timeout(LONG, stream.read_exact(&mut byte)).await.unwrap().unwrap();
        text.push(char::from(byte[0]));
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            let length = head
                .lines()
                .find_map(|l| l.to_ascii_lowercase().strip_prefix("content-length: ").map(str::to_owned));
            if body.len() >= length.expect("a length").parse::<usize>().unwrap() {
                return text;
            }
        }
    }
}

/// An answer that comes in chunks, on a connection that stays open.
pub(super) async fn until_the_last_chunk(stream: &mut (impl AsyncRead + Unpin)) -> String {
    let mut text = String::new();
    while !text.ends_with("0\r\n\r\n") {
        let mut byte = [0; 1];
        timeout(LONG, stream.read_exact(&mut byte)).await.unwrap().unwrap();
        text.push(char::from(byte[0]));
    }
    text
}

pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), text: &str) {
    stream.write_all(text.as_bytes()).await.unwrap();
}

const HEALTH: &str = "GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n";

#[tokio::test]
async fn the_socket_is_for_owner_and_group_and_leaves_with_the_daemon() {
    let mut served = Served::new(|_| {}).await;
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&served.socket), 0o660);
    assert_eq!(mode(served.socket.parent().unwrap()), 0o700, "a folder that was made for it is private");
    assert!(fs::metadata(&served.socket).unwrap().file_type().is_socket());
    let mut stream = served.connect().await;
    write(&mut stream, HEALTH).await;
    assert!(answer(&mut stream).await.ends_with("{\"status\":\"ok\"}"));
    // On the socket nobody needs a key.
    let body = example("urgent").to_string();
    let request = format!(
        "POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    write(&mut stream, &request).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
    drop(stream);
    let left: Vec<_> =
        fs::read_dir(served.socket.parent().unwrap()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert_eq!(left.len(), 2, "the socket and its lock, nothing else: {left:?}");
    served.stop().await;
    assert!(!served.socket.exists());
}

#[tokio::test]
async fn a_second_daemon_is_refused_and_the_first_unharmed() {
    let served = Served::new(|_| {}).await;
    let before = fs::metadata(&served.socket).unwrap().ino();
    let settings = ApiSettings { socket: Some(served.socket.clone()), ..ApiSettings::default() };
    let refused = Listeners::bind(&settings).await.unwrap_err();
    assert!(matches!(refused, ListenError::Socket(SocketError::InUse(_))), "{refused}");
    assert!(refused.to_string().contains("ORCHESTRATOR_SOCKET"), "{refused}");
    assert_eq!(fs::metadata(&served.socket).unwrap().ino(), before);
    let mut stream = served.connect().await;
    write(&mut stream, HEALTH).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_stale_socket_is_replaced_a_living_stranger_and_a_file_are_not() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| folder.path().join(name);
    let bind = |path: PathBuf| async {
        Listeners::bind(&ApiSettings { socket: Some(path), ..ApiSettings::default() }).await
    };
    // A socket whose owner died: the file stays, nobody listens.
    drop(std::os::unix::net::UnixListener::bind(at("stale")).unwrap());
    assert!(at("stale").exists());
    let bound = bind(at("stale")).await.unwrap();
    assert_eq!(bound.socket(), Some(at("stale").as_path()));

    let _living = UnixListener::bind(at("living")).unwrap();
    let refused = bind(at("living")).await.unwrap_err();
    assert!(matches!(refused, ListenError::Socket(SocketError::InUse(_))), "{refused}");

    fs::write(at("file"), "precious").unwrap();
    let refused = bind(at("file")).await.unwrap_err();
    assert!(matches!(refused, ListenError::Socket(SocketError::NotASocket(_))), "{refused}");
    assert_eq!(fs::read_to_string(at("file")).unwrap(), "precious");

    let refused = bind(at(&"x".repeat(120))).await.unwrap_err();
    assert!(refused.to_string().contains("too long"), "{refused}");
    let refused = Listeners::bind(&ApiSettings::default()).await.unwrap_err();
    assert!(matches!(refused, ListenError::Nowhere));
}

#[tokio::test]
async fn a_socket_that_another_took_over_is_left_alone() {
    let mut served = Served::new(|_| {}).await;
    let socket = served.socket.clone();
    fs::remove_file(&socket).unwrap();
    let _other = UnixListener::bind(&socket).unwrap();
    served.stop().await;
    assert!(socket.exists(), "it is not ours any more");
}

#[tokio::test]
async fn a_slow_header_is_cut_off_and_so_is_silence() {
    let served = Served::new(|s| s.pace = Pace { header: QUICK.header, ..PATIENT }).await;
    // Nothing at all, a part of a header, and a part of the second request's header.
    let mut silent = served.connect().await;
    assert_eq!(rest(&mut silent).await, "");
    let mut half = served.connect().await;
    write(&mut half, "GET /healthz HT").await;
    assert_eq!(rest(&mut half).await, "");
    let mut second = served.connect().await;
    write(&mut second, HEALTH).await;
    answer(&mut second).await;
    write(&mut second, "GET /he").await;
    assert_eq!(rest(&mut second).await, "");
}

#[tokio::test]
async fn an_idle_connection_outlives_the_header_limit_and_not_the_idle_one() {
    let served = Served::new(|s| s.pace = Pace { idle: Duration::from_millis(400), ..PATIENT }).await;
    let mut stream = served.connect().await;
    write(&mut stream, HEALTH).await;
    answer(&mut stream).await;
    rest(&mut stream).await;

    // The header's clock does not run between requests.
    let served = Served::new(|s| s.pace = Pace { header: QUICK.header, ..PATIENT }).await;
    let mut stream = served.connect().await;
    write(&mut stream, HEALTH).await;
    answer(&mut stream).await;
    let mut byte = [0; 1];
    let idle = timeout(QUICK.header * 3, stream.read(&mut byte)).await;
    assert!(idle.is_err(), "it was closed: {idle:?}");
    write(&mut stream, HEALTH).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
}

#[tokio::test]
async fn a_slow_body_is_answered_and_cut_off() {
    let served = Served::new(|s| s.pace = Pace { body: QUICK.body, ..PATIENT }).await;
    let mut stream = served.connect().await;
    write(&mut stream, "POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").await;
    let said = rest(&mut stream).await;
    assert!(said.starts_with("HTTP/1.1 408"), "{said}");
    assert!(said.contains("/problems/request-timeout"), "{said}");
}

#[tokio::test]
async fn a_body_that_is_refused_unread_may_still_be_written() {
    let served = Served::new(|settings| settings.bodies.decision_bytes = 200_000).await;
    for (head, length, status) in
        [("content-type: text/plain", 200_000, 415), ("content-type: application/json", 390_000, 413)]
    {
        let mut stream = served.connect().await;
        let head =
            format!("POST /v1/decisions HTTP/1.1\r\nhost: o\r\n{head}\r\ncontent-length: {length}\r\n\r\n");
        write(&mut stream, &head).await;
        // More than the socket holds unread: it would block, or break, if nobody took it.
        write(&mut stream, &"x".repeat(length)).await;
        assert!(answer(&mut stream).await.starts_with(&format!("HTTP/1.1 {status} ")));
    }
}

#[tokio::test]
async fn a_reader_that_does_not_read_is_cut_off() {
    let served = Served::new(|s| s.pace = Pace { write: QUICK.write, ..PATIENT }).await;
    let mut stream = served.connect().await;
    // Answers asked for and none read: the buffers fill, the daemon waits for room and asks are not taken any
    // more; then it gives up, and writing fails.
    let asks = "GET /openapi.json HTTP/1.1\r\nHost: x\r\n\r\n".repeat(20);
    let refused = async { while stream.write_all(asks.as_bytes()).await.is_ok() {} };
    timeout(LONG, refused).await.expect("the daemon lets go of a reader that does not read");
}

#[tokio::test]
async fn too_many_connections_are_refused_in_words_and_room_is_given_back() {
    let served = Served::new(|s| {
        s.listen = Some("127.0.0.1:0".parse().unwrap());
        s.connections = ConnectionLimits { most: 3, most_per_address: 2, ..ConnectionLimits::default() };
    })
    .await;
    let tcp = served.tcp.unwrap();
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        write(&mut stream, HEALTH).await;
        answer(&mut stream).await;
        kept.push(stream);
    }
    let mut third = TcpStream::connect(tcp).await.unwrap();
    let said = rest(&mut third).await;
    assert!(said.starts_with("HTTP/1.1 503") && said.contains("too many connections"), "{said}");

    drop(kept);
    // The daemon sees the close in its own time.
    let mut tries = 0;
    loop {
        let mut stream = TcpStream::connect(tcp).await.unwrap();
        if stream.write_all(HEALTH.as_bytes()).await.is_ok() {
            let mut first = [0; 12];
            if stream.read_exact(&mut first).await.is_ok() && &first == b"HTTP/1.1 200" {
                break;
            }
        }
        tries += 1;
        assert!(tries < 10_000, "no room is given back");
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn headers_are_limited_in_number_and_size() {
    let served = Served::new(|_| {}).await;
    let many: String = (0..70).map(|n| format!("x-{n}: 1\r\n")).collect();
    let large = format!("x: {}\r\n", "y".repeat(20 << 10));
    for headers in [many, large] {
        let mut stream = served.connect().await;
        write(&mut stream, &format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{headers}\r\n")).await;
        let said = rest(&mut stream).await;
        assert!(said.starts_with("HTTP/1.1 431"), "{said}");
    }
}

#[tokio::test]
async fn tcp_asks_for_a_key_and_for_its_own_name() {
    let served = Served::new(|s| s.listen = Some("127.0.0.1:0".parse().unwrap())).await;
    let mut stream = TcpStream::connect(served.tcp.unwrap()).await.unwrap();
    write(&mut stream, "GET /v1/messages HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 401"));
    write(&mut stream, "GET /healthz HTTP/1.1\r\nHost: evil.example\r\n\r\n").await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 403"));
    write(&mut stream, HEALTH).await;
    assert!(answer(&mut stream).await.starts_with("HTTP/1.1 200"));
}

/// Who is being answered is answered; who is idle is let go at once.
#[tokio::test]
async fn stopping_finishes_what_was_begun() {
    let mut served = Served::new(|s| s.pace = PATIENT).await;
    let mut idle = served.connect().await;
    write(&mut idle, HEALTH).await;
    answer(&mut idle).await;
    let mut busy = served.connect().await;
    let body = example("urgent").to_string();
    let head = format!(
        "POST /v1/messages HTTP/1.1\r\nHost: x\r\nPrefer: wait=30\r\nContent-Length: {}\r\n\r\n",
        body.len()
    );
    write(&mut busy, &format!("{head}{body}")).await;
    // It is kept: from here on it only waits for its outcome.
    let mut looks = 0;
    while served.house.get("/v1/messages").await.json()["messages"] == json!([]) {
        looks += 1;
        assert!(looks < 10_000);
        tokio::task::yield_now().await;
    }
    served.stop().await;
    let said = rest(&mut busy).await;
    assert!(said.starts_with("HTTP/1.1 202") && said.contains("\"status\":\"queued\""), "{said}");
    assert_eq!(rest(&mut idle).await, "");
    assert!(UnixStream::connect(&served.socket).await.is_err());
}

/// A connection that will not end is cut off when the time to drain is over.
#[tokio::test]
async fn draining_has_an_end() {
    let mut served = Served::new(|s| {
        s.pace = PATIENT;
        s.drain = Duration::from_millis(50);
    })
    .await;
    let mut stuck = served.connect().await;
    write(&mut stuck, "POST /v1/decisions HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{").await;
    served.stop().await;
    assert_eq!(rest(&mut stuck).await, "");
}
