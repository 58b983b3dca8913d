//! Sockets and connections: accepted, counted, paced, drained.
//!
//! hyper's connections are built by hand, because what `axum::serve` makes has no time-outs and no limits. It
//! knows no route; who may call what is `auth`'s affair.

use std::{
    collections::HashMap,
    convert::Infallible,
    io::{self, Write},
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    path::Path,
    pin::pin,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use axum::{
    Router,
    body::Body,
    http::{HeaderValue, StatusCode, header},
};
use bytes::Bytes;
use hyper::{Request, Response, body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::{TcpListener, TcpStream, UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::{
    pace::{Answering, Content, Paced, Progress},
    settings::{ApiSettings, ConnectionLimits, Pace},
    socket::{self, SocketError, SocketFile},
};

/// What answers the requests of a listener.
pub(crate) trait Answers: Clone + Send + Sync + 'static {
    fn answer(
        &self,
        door: Door,
        request: Request<Incoming>,
    ) -> impl Future<Output = Response<Content>> + Send;
}

impl Answers for Router {
    async fn answer(&self, door: Door, request: Request<Incoming>) -> Response<Content> {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(door);
        match self.clone().oneshot(request).await {
            Ok(response) => response.map(Content::Other),
            Err(never) => match never {},
        }
    }
}

/// Where a request came in. One that carries none counts as TCP, which trusts nobody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Unix,
    Tcp,
}

/// Said to whom there is no room for.
const NO_ROOM: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/problem+json\r\n\
Retry-After: 2\r\nConnection: close\r\nContent-Length: 180\r\n\r\n\
{\"type\":\"/problems/unavailable\",\"title\":\"The daemon cannot take this now\",\"status\":503,\
\"detail\":\"too many connections are open: reuse them, or try again\",\"instance\":\"\",\"errors\":[]}";

/// The headers that hyper takes where it is told no other number.
const HYPER_HEADERS: usize = 100;

/// How long accepting rests when the system has no descriptors left.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// Why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ListenError {
    #[error(transparent)]
    Socket(#[from] SocketError),
    #[error("cannot listen on {address}: {source}")]
    Tcp { address: SocketAddr, source: io::Error },
    #[error("nothing to listen on: neither a socket nor a TCP address is set")]
    Nowhere,
}

/// How long and how many, on one listener.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub pace: Pace,
    pub connections: ConnectionLimits,
    pub drain: Duration,
}

impl From<&ApiSettings> for Limits {
    fn from(settings: &ApiSettings) -> Self {
        Self { pace: settings.pace, connections: settings.connections, drain: settings.drain }
    }
}

/// Bound, and not yet accepting.
#[derive(Debug)]
pub struct Listeners {
    unix: Option<(UnixListener, SocketFile)>,
    tcp: Option<TcpListener>,
}

impl Listeners {
    /// Binds what the settings name.
    pub async fn bind(settings: &ApiSettings) -> Result<Self, ListenError> {
        if settings.socket.is_none() && settings.listen.is_none() {
            return Err(ListenError::Nowhere);
        }
        let unix = match &settings.socket {
            Some(path) => Some(socket::bind(path).await?),
            None => None,
        };
        let tcp = match settings.listen {
            Some(address) => Some(
                TcpListener::bind(address).await.map_err(|source| ListenError::Tcp { address, source })?,
            ),
            None => None,
        };
        Ok(Self { unix, tcp })
    }

    pub fn socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(_, file)| file.path())
    }

    /// The TCP address, with the port that the system chose where it was 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|tcp| tcp.local_addr().ok())
    }
}

/// Serves until `shutdown`, then lets busy connections finish for at most `settings.drain`.
pub(super) async fn serve(
    listeners: Listeners,
    answers: impl Answers,
    settings: &ApiSettings,
    shutdown: CancellationToken,
) {
    let Listeners { unix, tcp } = listeners;
    let limits = Limits::from(settings);
    let unix = async {
        if let Some((listener, _file)) = unix {
            accept(&listener, answers.clone(), limits, &shutdown).await;
        }
    };
    let tcp = async {
        if let Some(listener) = tcp {
            accept(&listener, answers.clone(), limits, &shutdown).await;
        }
    };
    tokio::join!(unix, tcp);
}

/// A stream of either kind.
pub(crate) trait Peer: AsyncRead + AsyncWrite + Unpin + Send + 'static {
    fn close_with(self, words: &[u8]);
}

/// A listener of either kind.
pub(crate) trait Accept: Sync {
    const DOOR: Door;
    type Stream: Peer;
    /// The next connection, with the address that it counts against.
    fn next(&self) -> impl Future<Output = io::Result<(Self::Stream, Option<IpAddr>)>> + Send;
}

/// Written without waiting: a new connection's buffer is empty.
fn say(stream: impl Into<OwnedFd>, words: &[u8]) {
    // Whoever is refused may have gone already.
    let _ = std::fs::File::from(stream.into()).write(words);
}

impl Peer for TcpStream {
    fn close_with(self, words: &[u8]) {
        if let Ok(stream) = self.into_std() {
            say(stream, words);
        }
    }
}

impl Peer for UnixStream {
    fn close_with(self, words: &[u8]) {
        if let Ok(stream) = self.into_std() {
            say(stream, words);
        }
    }
}

impl Accept for UnixListener {
    const DOOR: Door = Door::Unix;
    type Stream = UnixStream;
    async fn next(&self) -> io::Result<(UnixStream, Option<IpAddr>)> {
        self.accept().await.map(|(stream, _)| (stream, None))
    }
}

impl Accept for TcpListener {
    const DOOR: Door = Door::Tcp;
    type Stream = TcpStream;
    async fn next(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, peer) = self.accept().await?;
        // Answers are written whole: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        Ok((stream, Some(counted_address(peer.ip()))))
    }
}

/// One customer's IPv6 addresses are a /64 at least, so that is what counts.
fn counted_address(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V6(v6) => IpAddr::V6((v6.to_bits() >> 64 << 64).into()),
        v4 => v4,
    }
}

/// Serves one listener until `shutdown`, and drains.
pub(crate) async fn accept<L: Accept>(
    listener: &L,
    answers: impl Answers,
    limits: Limits,
    shutdown: &CancellationToken,
) {
    let ending = Arc::new(Ending::default());
    let mut connections = JoinSet::new();
    let room = Arc::new(Room::new(limits.connections));
    let builder = builder(limits);
    loop {
        let next = tokio::select! {
            next = listener.next() => next,
            () = shutdown.cancelled() => break,
        };
        while connections.try_join_next().is_some() {}
        let (stream, address) = match next {
            Ok(accepted) => accepted,
            Err(error) => {
                rest(&error).await;
                continue;
            }
        };
        let Some(seat) = room.take(address) else {
            stream.close_with(NO_ROOM);
            continue;
        };
        let served = serve_one(builder.clone(), stream, L::DOOR, answers.clone(), limits, ending.clone());
        connections.spawn(async move {
            let _seat = seat;
            served.await;
        });
    }
    ending.begin();
    let drained = async { while connections.join_next().await.is_some() {} };
    if tokio::time::timeout(limits.drain, drained).await.is_err() {
        tracing::warn!(connections = connections.len(), "connections cut off: they did not finish in time");
    }
    connections.shutdown().await;
}

fn builder(limits: Limits) -> http1::Builder {
    let mut builder = http1::Builder::new();
    // Up to hyper's own limit ours is looked at here (`too_many`): to be told one costs it a list for each request.
    if limits.connections.headers > HYPER_HEADERS {
        builder.max_headers(limits.connections.headers);
    }
    builder
        // How long a header is waited for is the stream's affair (`Paced`).
        .header_read_timeout(None)
        // An answer is short: one copy more costs less than to hand over two pieces.
        .writev(false)
        .max_header_size(limits.connections.header_bytes)
        .max_buf_size(limits.connections.header_bytes.max(64 << 10));
    builder
}

/// Said to a request with more headers than are allowed.
fn too_many_headers() -> Response<Content> {
    let mut response = Response::new(Content::Whole(Bytes::new()));
    *response.status_mut() = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
    response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    response
}

/// One connection, to its end.
async fn serve_one<S: Peer>(
    builder: http1::Builder,
    stream: S,
    door: Door,
    answers: impl Answers,
    limits: Limits,
    ending: Arc<Ending>,
) {
    let (pace, headers_max) = (limits.pace, limits.connections.headers);
    let progress = Arc::new(Progress::default());
    let paced = Paced::new(stream, pace, progress.clone());
    let (answers, progress) = (&answers, &progress);
    let answer = service_fn(move |request: Request<Incoming>| {
        progress.begin();
        let progress = progress.clone();
        async move {
            let response = match request.headers().len() > headers_max {
                true => too_many_headers(),
                false => answers.answer(door, request).await,
            };
            Ok::<_, Infallible>(response.map(|content| Answering::new(content, progress)))
        }
    });
    let mut connection = pin!(builder.serve_connection(TokioIo::new(paced), answer));
    let (mut ended, mut told, mut heard) = (pin!(ending.token.cancelled()), false, false);
    let served = std::future::poll_fn(|cx| {
        // Listened for once: the end wakes the connection, which then finds it begun. To ask at every turn costs a lock
        // that all connections share.
        if !heard || (!told && ending.begun.load(Ordering::Acquire)) {
            heard = true;
            if ended.as_mut().poll(cx).is_ready() {
                told = true;
                connection.as_mut().graceful_shutdown();
            }
        }
        connection.as_mut().poll(cx)
    });
    if let Err(error) = served.await {
        tracing::debug!(%error, "a connection ended early");
    }
}

/// That a listener ends: connections take no further request.
#[derive(Debug, Default)]
struct Ending {
    /// Set before the token is cancelled.
    begun: AtomicBool,
    token: CancellationToken,
}

impl Ending {
    fn begin(&self) {
        self.begun.store(true, Ordering::Release);
        self.token.cancel();
    }
}

/// A failed accept is a peer that left, or a system without descriptors: then it rests, so as not to spin.
async fn rest(error: &io::Error) {
    if matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset) {
        return;
    }
    tracing::warn!(%error, "cannot accept connections for a moment");
    tokio::time::sleep(ACCEPT_REST).await;
}

/// How many connections are open, in all and by address.
#[derive(Debug)]
struct Room {
    limits: ConnectionLimits,
    taken: Mutex<Taken>,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_address: HashMap<IpAddr, usize>,
}

/// One connection's place; dropped with it.
struct Seat {
    room: Arc<Room>,
    address: Option<IpAddr>,
}

impl Room {
    fn new(limits: ConnectionLimits) -> Self {
        Self { limits, taken: Mutex::default() }
    }

    fn take(self: &Arc<Self>, address: Option<IpAddr>) -> Option<Seat> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.limits.most {
            return None;
        }
        if let Some(address) = address {
            let count = taken.by_address.entry(address).or_default();
            if *count >= self.limits.most_per_address {
                return None;
            }
            *count += 1;
        }
        taken.all += 1;
        Some(Seat { room: self.clone(), address })
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(address) = self.address
            && let Some(count) = taken.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                taken.by_address.remove(&address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_says_its_own_length() {
        let text = std::str::from_utf8(NO_ROOM).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        assert!(head.contains(&format!("Content-Length: {}", body.len())), "{}", body.len());
    }

    #[test]
    fn an_address_has_its_share_and_gives_it_back() {
        let limits = ConnectionLimits { most: 3, most_per_address: 1, ..ConnectionLimits::default() };
        let room = Arc::new(Room::new(limits));
        let one = Some(IpAddr::from([10, 0, 0, 1]));
        let first = room.take(one);
        assert!(first.is_some());
        assert!(room.take(one).is_none());
        drop(first);
        let held: Vec<_> = [one, None, None].into_iter().filter_map(|a| room.take(a)).collect();
        assert_eq!(held.len(), 3);
        assert!(room.take(None).is_none());
    }

    #[test]
    fn ipv6_counts_by_customer_and_mapped_ipv4_as_ipv4() {
        let of = |text: &str| counted_address(text.parse().unwrap()).to_string();
        assert_eq!(of("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::");
        assert_eq!(of("::ffff:10.0.0.1"), "10.0.0.1");
    }
}
