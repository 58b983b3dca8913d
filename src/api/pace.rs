//! A stream that does not wait for ever: slow headers and slow readers are cut off.
//!
//! hyper's own timer covers the wait for a request as a whole, and so it is the idle limit; this covers the time
//! from a header's first byte to its last, and writing. Slow bodies are `body`'s affair, because their senders
//! deserve an answer. Nothing here knows HTTP: the connection says when a request begins and ends.

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
    header: Option<Header>,
    /// Until when what is buffered must be written.
    write: Option<Pin<Box<Sleep>>>,
}

/// A header that is being read.
struct Header {
    /// How many were whole when it began.
    begun: u64,
    /// Until when it must be whole.
    until: Instant,
    /// Made once it is waited for: most headers come in one piece.
    timer: Option<Pin<Box<Sleep>>>,
}

impl<S> Paced<S> {
    /// A new connection's first header is on the clock at once.
    pub fn new(stream: S, pace: Pace, progress: Arc<Progress>) -> Self {
        let header = Some(Header { begun: 0, until: Instant::now() + pace.header, timer: None });
        Self { stream, pace, progress, header, write: None }
    }

    /// Whether the header that is being read took too long.
    fn header_is_late(&mut self, cx: &mut Context<'_>) -> bool {
        let begun = self.progress.begun.load(Ordering::Relaxed);
        match &mut self.header {
            Some(header) if header.begun == begun => {
                let timer = header.timer.get_or_insert_with(|| Box::pin(sleep_until(header.until)));
                timer.as_mut().poll(cx).is_ready()
            }
            header => {
                *header = None;
                false
            }
        }
    }

    /// Bytes came: outside of a request they begin a header.
    fn bytes_came(&mut self) {
        let begun = self.progress.begun.load(Ordering::Relaxed);
        let counted = self.header.as_ref().is_some_and(|header| header.begun == begun);
        if !counted && !self.progress.answering.load(Ordering::Relaxed) {
            self.header = Some(Header { begun, until: Instant::now() + self.pace.header, timer: None });
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
        match Pin::new(&mut this.stream).poll_read(cx, buf) {
            Poll::Ready(Ok(())) => {
                if buf.filled().len() > before {
                    this.bytes_came();
                }
                Poll::Ready(Ok(()))
            }
            Poll::Pending if this.header_is_late(cx) => {
                Poll::Ready(Err(late("the request's header came too slowly")))
            }
            other => other,
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
                ready
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

/// An answer's body; when hyper lets go of it the request is over.
pub struct Answering {
    body: Body,
    progress: Arc<Progress>,
}

impl Answering {
    pub fn new(body: Body, progress: Arc<Progress>) -> Self {
        Self { body, progress }
    }
}

impl hyper::body::Body for Answering {
    type Data = bytes::Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Self::Data>, Self::Error>>> {
        Pin::new(&mut self.body).poll_frame(cx)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> hyper::body::SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        self.progress.end();
    }
}
