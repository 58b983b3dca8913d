//! The public socket: slow and half-open peers, too many from one network, two ways to say a length, draining.
//!
//! Limits are made small; a test waits for the close itself, never for a time.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use channel_orchestrator::{
    api::settings::{ConnectionLimits, Pace},
    domain::ids::MessageId,
    public::{PublicSettings, bind, serve, settings::Network},
    store::Links,
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinHandle,
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use super::lobby::{Lobby, Told, URL, path, signature};

/// More than any limit here, less than anyone's patience.
const LONG: Duration = Duration::from_secs(20);
const QUICK: Duration = Duration::from_millis(80);
/// Out of reach, so that the limit under test is the one that acts.
const NEVER: Duration = Duration::from_secs(600);
const PATIENT: Pace = Pace { header: NEVER, body: NEVER, write: NEVER, idle: NEVER };

struct Served {
    lobby: Lobby,
    address: SocketAddr,
    closing: CancellationToken,
    task: JoinHandle<()>,
}

impl Served {
    async fn new(change: impl FnOnce(&mut PublicSettings)) -> Self {
        let mut settings = PublicSettings { pace: PATIENT, total: NEVER, ..PublicSettings::default() };
        change(&mut settings);
        let listener = bind(&settings).await.unwrap();
        let address = listener.address().unwrap();
        let lobby = Lobby::with(settings).await;
        let closing = CancellationToken::new();
        let task = tokio::spawn(serve(listener, Arc::clone(&lobby.public), closing.clone()));
        Self { lobby, address, closing, task }
    }

    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }

    /// Writes, and reads what comes until the other side closes.
    async fn say(&self, text: &str) -> String {
        let mut stream = self.connect().await;
        // The other side may have closed before all of it was taken.
        let _ = stream.write_all(text.as_bytes()).await;
        rest(&mut stream).await
    }
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is a close too.
    let _ = timeout(LONG, stream.read_to_end(&mut bytes)).await.expect("the connection is closed");
    String::from_utf8_lossy(&bytes).into_owned()
}

const ASK: &str = "GET /u/x HTTP/1.1\r\nHost: x\r\n\r\n";
const ASK_AND_LEAVE: &str = "GET /u/x HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[tokio::test]
async fn a_slow_header_and_silence_are_cut_off() {
    let served = Served::new(|s| s.pace.header = QUICK).await;
    let mut peers = Vec::new();
    for text in ["", "G", "GET /o/x HTTP/1.1\r\nHost: x\r\nX: "].iter().cycle().take(120) {
        let mut stream = served.connect().await;
        stream.write_all(text.as_bytes()).await.unwrap();
        peers.push(stream);
    }
    // Half open, all of them, and who asks rightly meanwhile is answered.
    assert!(served.say(ASK_AND_LEAVE).await.starts_with("HTTP/1.1 404"));
    for mut stream in peers {
        assert_eq!(rest(&mut stream).await, "");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let served = Served::new(|s| s.pace.idle = QUICK).await;
    assert!(served.say(ASK).await.starts_with("HTTP/1.1 404"));
}

#[tokio::test]
async fn a_slow_body_is_turned_away() {
    let head = "POST /callbacks/signing/acme HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\nrec";
    let served = Served::new(|s| s.pace.body = QUICK).await;
    assert!(served.say(head).await.starts_with("HTTP/1.1 408"));
    // And so is a request that is slow as a whole, whatever its parts do.
    let served = Served::new(|s| {
        s.total = QUICK;
        s.pace.idle = QUICK * 4;
    })
    .await;
    assert!(served.say(head).await.starts_with("HTTP/1.1 503"));
}

#[tokio::test]
async fn one_network_has_its_share_and_a_proxy_speaks_for_many() {
    let limits = ConnectionLimits { most: 5, most_per_address: 2, ..ConnectionLimits::default() };
    let served = Served::new(|s| s.connections = limits).await;
    let mut kept = Vec::new();
    for _ in 0..2 {
        let mut stream = served.connect().await;
        stream.write_all(ASK.as_bytes()).await.unwrap();
        let mut byte = [0; 12];
        stream.read_exact(&mut byte).await.unwrap();
        kept.push(stream);
    }
    assert!(served.say("").await.starts_with("HTTP/1.1 503"), "the third of its network");
    let served = Served::new(|s| {
        s.connections = limits;
        s.proxies = vec![Network::parse("127.0.0.0/8").unwrap()];
    })
    .await;
    for _ in 0..5 {
        let mut stream = served.connect().await;
        stream.write_all(ASK.as_bytes()).await.unwrap();
        let mut byte = [0; 12];
        stream.read_exact(&mut byte).await.unwrap();
        assert_eq!(&byte, b"HTTP/1.1 404");
        kept.push(stream);
    }
    assert!(served.say("").await.starts_with("HTTP/1.1 503"), "the sixth of all");
}

#[tokio::test]
async fn what_a_proxy_and_we_could_read_differently_is_refused() {
    let served = Served::new(|s| s.pace.idle = QUICK * 4).await;
    let head = "POST /callbacks/signing/acme HTTP/1.1\r\nHost: x\r\n";
    for (headers, status) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
        ("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\n", "411"),
        ("Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "411"),
        ("Transfer-Encoding: chunked, identity\r\n\r\n", "400"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "400"),
        ("Content-Length: +5\r\n\r\nhello", "400"),
        ("Content-Length: 5, 5\r\n\r\nhello", "400"),
        (&format!("{}\r\n", "X: y\r\n".repeat(70)), "431"),
        (&format!("X: {}\r\n\r\n", "y".repeat(20 << 10)), "431"),
    ] {
        let said = served.say(&format!("{head}{headers}")).await;
        assert!(said.starts_with(&format!("HTTP/1.1 {status}")), "{headers:.60}: {said}");
        assert_eq!(said.matches("HTTP/1.1 ").count(), 1, "one answer, and the connection is closed: {said}");
    }
    // Another protocol, or none.
    for text in ["PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "\x16\x03\x01\x02\x00\x01\x00", "\r\n\r\n\0"] {
        let said = served.say(text).await;
        assert!(said.is_empty() || said.starts_with("HTTP/1.1 400"), "{said}");
    }
    assert_eq!(served.lobby.receiver.told(), []);
}

/// Who is being answered is answered, and clicks that still waited are told.
#[tokio::test]
async fn stopping_loses_nothing() {
    let served = Served::new(|_| {}).await;
    let message = MessageId::new();
    served.lobby.store.put_links(message, &["https://a.example/".to_owned()]).await.unwrap();
    let url = served.lobby.tracker.click_url(message, 0, served.lobby.now());
    let click = format!("GET {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path(&url));
    assert!(served.say(&click).await.contains("location: https://a.example/"));
    let body = "receipts SM1";
    let to = "/callbacks/signing/acme";
    let signed = signature("POST", &format!("{URL}{to}"), body.as_bytes());
    let call = format!(
        "POST {to} HTTP/1.1\r\nHost: x\r\nX-Signature: {signed}\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = served.connect().await;
    stream.write_all(call.as_bytes()).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(&status, b"HTTP/1.1 200");
    served.closing.cancel();
    timeout(LONG, served.task).await.expect("it stops").unwrap();
    let told = served.lobby.receiver.told();
    assert!(
        matches!(&told[..], [Told::Events { .. }, Told::Engaged(click)] if click.name == "clicked"),
        "{told:?}"
    );
}
