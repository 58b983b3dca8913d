//! The TCP stream under an SMTP conversation that may turn to TLS.
//!
//! Until TLS begins it hands out one byte a read. The SMTP client keeps what it has read ahead, also over
//! STARTTLS, so that an answer which somebody on the way added in the clear would be taken for one that came
//! through TLS; with nothing read ahead such bytes reach TLS, which refuses them.
//!
//! Its gate holds back what is written once the body has been: the SMTP client writes body and final dot in one
//! go, and between the two the intent to send is recorded (reliability.md section 5.2). It lies below TLS, so that
//! what is held back has certainly not left. Whoever speaks while it holds, or hangs up, spoke too early: that is no
//! answer to the dot.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    task::{Context, Poll},
};

use lettre::transport::smtp::client::{AsyncTokioStream, TlsParameters};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_util::compat::{Compat, FuturesAsyncReadCompatExt as _};

use crate::failpoint;

/// First byte of a TLS handshake record (RFC 8446 section 5.1); no SMTP command begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

/// Between the body and the final dot.
#[derive(Debug, Default)]
pub struct Gate {
    stands: AtomicU8,
    /// The other side said something, or hung up, while it held.
    early: AtomicBool,
}

impl Gate {
    const SHUT: u8 = 1;
    /// Something waits before it.
    const REACHED: u8 = 2;
    const OPENED: u8 = 3;
    const PASSED: u8 = 4;

    /// From now on nothing is written.
    pub fn shut(&self) {
        self.stands.store(Self::SHUT, Ordering::SeqCst);
    }

    /// Whether everything before it has been written, and something waits to be.
    pub fn reached(&self) -> bool {
        self.stands.load(Ordering::SeqCst) == Self::REACHED
    }

    /// Lets it through. Wakes nobody: whoever opens it then polls what waits.
    pub fn open(&self) {
        self.stands.store(Self::OPENED, Ordering::SeqCst);
    }

    /// Whether a single byte has gone through since it was opened. If not, the dot has not left.
    pub fn passed(&self) -> bool {
        self.stands.load(Ordering::SeqCst) == Self::PASSED
    }

    /// Whether the other side said something, or hung up, before it was to.
    pub fn spoke_early(&self) -> bool {
        self.early.load(Ordering::SeqCst)
    }

    /// Whether a write has to wait.
    fn holds(&self) -> bool {
        let shut =
            self.stands.compare_exchange(Self::SHUT, Self::REACHED, Ordering::SeqCst, Ordering::SeqCst);
        shut.is_ok() || self.reached()
    }

    fn let_through(&self) {
        let first =
            self.stands.compare_exchange(Self::OPENED, Self::PASSED, Ordering::SeqCst, Ordering::SeqCst);
        if first.is_ok() {
            failpoint::hit("send.last_byte");
        }
    }
}

/// The stream.
#[derive(Debug)]
pub struct Wire {
    tcp: TcpStream,
    tls: bool,
    gate: Arc<Gate>,
}

impl Wire {
    pub fn new(tcp: TcpStream, gate: Arc<Gate>) -> Self {
        Self { tcp, tls: false, gate }
    }

    /// TLS from the first byte.
    pub async fn encrypted(
        self,
        parameters: TlsParameters,
    ) -> Result<Encrypted, lettre::transport::smtp::Error> {
        #[expect(deprecated, reason = "the one way to TLS over a stream of our own before the greeting")]
        let mut stream =
            lettre::transport::smtp::client::AsyncNetworkStream::use_existing_tokio1(Box::new(self));
        stream.upgrade_tls(parameters).await?;
        Ok(Encrypted(stream.compat()))
    }
}

impl AsyncTokioStream for Wire {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.tls || buf.remaining() == 0 {
            return Pin::new(&mut self.tcp).poll_read(cx, buf);
        }
        let mut byte = [0; 1];
        let mut one = ReadBuf::new(&mut byte);
        std::task::ready!(Pin::new(&mut self.tcp).poll_read(cx, &mut one))?;
        buf.put_slice(one.filled());
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        if self.gate.holds() {
            let mut byte = [0; 1];
            if self.tcp.poll_peek(cx, &mut ReadBuf::new(&mut byte)).is_ready() {
                self.gate.early.store(true, Ordering::SeqCst);
            }
            return Poll::Pending;
        }
        self.tls |= bytes.first() == Some(&TLS_HANDSHAKE);
        let written = std::task::ready!(Pin::new(&mut self.tcp).poll_write(cx, bytes))?;
        if written > 0 {
            self.gate.let_through();
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}

/// A stream that was encrypted before the relay said a word.
#[derive(Debug)]
#[expect(deprecated, reason = "as above")]
pub struct Encrypted(Compat<lettre::transport::smtp::client::AsyncNetworkStream>);

impl AsyncTokioStream for Encrypted {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().peer_addr()
    }
}

impl AsyncRead for Encrypted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, buf)
    }
}

impl AsyncWrite for Encrypted {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
