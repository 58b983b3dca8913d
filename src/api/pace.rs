//! A stream that does not wait for ever: idle connections, slow headers and slow readers are cut off.
//!
//! Three limits: between two requests, from a header's first byte to its last, and for writing. Slow bodies are `body`'s
//! affair, because their senders deserve an answer. Nothing here knows HTTP: the connection says when a request begins and
//! ends. hyper has a timer of its own for the wait for a header; a request costs it one armed and one disarmed, where here
//! a connection keeps one, which is looked at when it rings.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
};

use axum::body::Body;
use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep_until},
};

use super::settings::Pace;

/// What the connection tells its stream.
#[derive(Debug, Default)]
pub struct Progress {
    /// Requests whose header was read whole.
    begun: AtomicU64,
    /// A request is being answered: what is read meanwhile is its body.
    answering: AtomicBool,
}

impl Progress {
    /// A header was read whole.
    pub fn begin(&self) {
        self.begun.fetch_add(1, Ordering::Relaxed);
        self.answering.store(true, Ordering::Relaxed);
    }

    fn end(&self) {
        self.answering.store(false, Ordering::Relaxed);
    }
}

/// The stream, with its limits.
pub struct Paced<S> {
    stream: S,
    pace: Pace,
    progress: Arc<Progress>,
    /// Bytes of a header came: how many were whole before it.
    coming: Option<u64>,
    awaited: Option<Awaited>,
    /// There was nothing more to be read, and nobody has asked since.
    blocked: bool,
    /// Rings when something awaited may be late; made once anything is waited for, and then kept.
    read: Option<Pin<Box<Sleep>>>,
    /// Until when what is buffered must be written.
    write: Option<Pin<Box<Sleep>>>,
}

/// What a connection waits to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// The first byte of a request.
    Request,
    /// The rest of its header.
    Header,
}

impl What {
    fn is_late(self) -> io::Error {
        late(match self {
            What::Request => "no request came for a while",
            What::Header => "the request's header came too slowly",
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Awaited {
    what: What,
    /// How many headers were whole when the wait began: with the next one it is over.
    begun: u64,
    until: Instant,
}

impl<S> Paced<S> {
    /// A new connection's first header is on the clock at once.
    pub fn new(stream: S, pace: Pace, progress: Arc<Progress>) -> Self {
        let awaited = Awaited { what: What::Header, begun: 0, until: Instant::now() + pace.header };
        Self {
            stream,
            pace,
            progress,
            coming: Some(0),
            awaited: Some(awaited),
            blocked: false,
            read: None,
            write: None,
        }
    }

    /// Nothing can be read now: whether what is waited for is late. A body is not waited for here.
    fn read_waits(&mut self, cx: &mut Context<'_>) -> Option<What> {
        if self.progress.answering.load(Ordering::Relaxed) {
            return None;
        }
        let begun = self.progress.begun.load(Ordering::Relaxed);
        let what = if self.coming == Some(begun) { What::Header } else { What::Request };
        let until = match self.awaited {
            Some(awaited) if awaited.begun == begun && awaited.what == what => awaited.until,
            _ => {
                let most = if what == What::Header { self.pace.header } else { self.pace.idle };
                let until = Instant::now() + most;
                self.awaited = Some(Awaited { what, begun, until });
                until
            }
        };
        self.rings(until, cx).then_some(what)
    }

    /// Whether `until` has come; if not, the task is woken then, or earlier, to look again.
    fn rings(&mut self, until: Instant, cx: &mut Context<'_>) -> bool {
        let mut timer = match self.read.take() {
            None => Box::pin(sleep_until(until)),
            Some(timer) if timer.deadline() <= until && !timer.is_elapsed() => {
                // It is armed, for this task, from an earlier wait.
                self.read = Some(timer);
                return false;
            }
            Some(mut timer) => {
                timer.as_mut().reset(until);
                timer
            }
        };
        let late = timer.as_mut().poll(cx).is_ready();
        self.read = Some(timer);
        late
    }

    /// Bytes came: outside of a request they are a header's.
    fn bytes_came(&mut self) {
        if !self.progress.answering.load(Ordering::Relaxed) {
            self.coming = Some(self.progress.begun.load(Ordering::Relaxed));
        }
    }

    /// Nothing more can be written now: the first such moment starts the clock.
    fn write_waits<T>(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<T>> {
        let until = Instant::now() + self.pace.write;
        let timer = self.write.get_or_insert_with(|| Box::pin(sleep_until(until)));
        timer.as_mut().poll(cx).map(|()| Err(late("the peer reads too slowly")))
    }
}

fn late(why: &str) -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, why)
}

impl<S: AsyncRead + Unpin> AsyncRead for Paced<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        this.blocked = false;
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() > before {
                    this.bytes_came();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending => {
                this.blocked = true;
                this.read_waits(cx).map_or(Poll::Pending, |what| Poll::Ready(Err(what.is_late())))
            }
            failed => failed,
        }
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Paced<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write(cx, bytes) {
            Poll::Pending => this.write_waits(cx),
            ready => ready,
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_write_vectored(cx, bytes) {
            Poll::Pending => this.write_waits(cx),
            ready => ready,
        }
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    /// Reached once all is written: the clock stops here and not at each byte, else a reader of one byte a
    /// second would never be late.
    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_flush(cx) {
            Poll::Pending => this.write_waits(cx),
            ready => {
                this.write = None;
                // After an answer that took its time hyper does not read again: it knows that there is nothing yet.
                match this.blocked.then(|| this.read_waits(cx)).flatten() {
                    Some(what) => Poll::Ready(Err(what.is_late())),
                    None => ready,
                }
            }
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        match Pin::new(&mut this.stream).poll_shutdown(cx) {
            Poll::Pending => this.write_waits(cx),
            ready => ready,
        }
    }
}

/// An answer's body.
pub enum Content {
    /// All of it, in one piece.
    Whole(Bytes),
    /// What the router makes.
    Other(Body),
}

/// The same on its way; when hyper lets go of it the request is over.
pub struct Answering {
    content: Content,
    progress: Arc<Progress>,
}

impl Answering {
    pub fn new(content: Content, progress: Arc<Progress>) -> Self {
        Self { content, progress }
    }
}

impl hyper::body::Body for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        match &mut self.content {
            Content::Whole(bytes) if bytes.is_empty() => Poll::Ready(None),
            Content::Whole(bytes) => Poll::Ready(Some(Ok(hyper::body::Frame::data(std::mem::take(bytes))))),
            Content::Other(body) => Pin::new(body).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match &self.content {
            Content::Whole(bytes) => bytes.is_empty(),
            Content::Other(body) => body.is_end_stream(),
        }
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        match &self.content {
            Content::Whole(bytes) => hyper::body::SizeHint::with_exact(bytes.len() as u64),
            Content::Other(body) => body.size_hint(),
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.progress.end();
    }
}
