//! The link under one exchange, which counts how far the request has come.
//!
//! Only bytes that the link has taken count, so that a request called "not whole" was certainly not heard whole.
//! It does not buffer: whatever is counted has been handed on.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::failpoint;

/// What a provider is spoken to over.
pub trait Link: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Link for T {}

const HEAD_END: &[u8; 4] = b"\r\n\r\n";
/// No end of the head yet.
const OPEN: u64 = u64::MAX;

/// How much of a request has been written: its head ends where HTTP says, and its body is as long as we know.
#[derive(Debug)]
pub struct Meter {
    body_bytes: u64,
    written: AtomicU64,
    head_bytes: AtomicU64,
}

impl Meter {
    pub fn new(body_bytes: usize) -> Arc<Self> {
        Arc::new(Self {
            body_bytes: body_bytes as u64,
            written: AtomicU64::new(0),
            head_bytes: AtomicU64::new(OPEN),
        })
    }

    /// Whether the last byte of the request may have left.
    pub fn is_whole(&self) -> bool {
        let head = self.head_bytes.load(Ordering::SeqCst);
        head != OPEN && self.written.load(Ordering::SeqCst) >= head + self.body_bytes
    }
}

/// A link with its meter.
pub struct Metered<L> {
    link: L,
    meter: Arc<Meter>,
    /// How many bytes of the head's end were the last ones.
    matched: usize,
}

impl<L> Metered<L> {
    pub fn new(link: L, meter: Arc<Meter>) -> Self {
        Self { link, meter, matched: 0 }
    }

    fn count(&mut self, bytes: &[u8]) {
        let before = self.meter.written.load(Ordering::SeqCst);
        if self.meter.head_bytes.load(Ordering::SeqCst) == OPEN {
            for (at, byte) in bytes.iter().enumerate() {
                self.matched = match *byte == HEAD_END[self.matched] {
                    true => self.matched + 1,
                    false => usize::from(*byte == HEAD_END[0]),
                };
                if self.matched == HEAD_END.len() {
                    self.meter.head_bytes.store(before + at as u64 + 1, Ordering::SeqCst);
                    break;
                }
            }
        }
        self.meter.written.store(before + bytes.len() as u64, Ordering::SeqCst);
        failpoint::hit(if self.meter.is_whole() { "send.last_byte" } else { "send.mid_body" });
    }
}

impl<L: Link> AsyncRead for Metered<L> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_read(cx, buf)
    }
}

/// Writes one piece at a time: of several at once it could not be said how far they came.
impl<L: Link> AsyncWrite for Metered<L> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.meter.written.load(Ordering::SeqCst) == 0 {
            failpoint::hit("send.first_byte");
        }
        let taken = ready!(Pin::new(&mut self.link).poll_write(cx, bytes))?;
        self.count(&bytes[..taken.min(bytes.len())]);
        Poll::Ready(Ok(taken))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.link).poll_shutdown(cx)
    }
}
