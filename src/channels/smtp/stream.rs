//! The TCP stream under an SMTP conversation that may turn to TLS.
//!
//! Until TLS begins it hands out one byte a read. The SMTP client keeps what it has read ahead, also over
//! STARTTLS, so that an answer which somebody on the way added in the clear would be taken for one that came
//! through TLS; with nothing read ahead such bytes reach TLS, which refuses them.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    task::{Context, Poll},
};

use lettre::transport::smtp::client::AsyncTokioStream;
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

/// First byte of a TLS handshake record (RFC 8446 section 5.1); no SMTP command begins with it.
const TLS_HANDSHAKE: u8 = 0x16;

#[derive(Debug)]
pub struct NoReadAhead {
    tcp: TcpStream,
    tls: bool,
}

impl NoReadAhead {
    pub fn new(tcp: TcpStream) -> Self {
        Self { tcp, tls: false }
    }
}

impl AsyncTokioStream for NoReadAhead {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.tcp.peer_addr()
    }
}

impl AsyncRead for NoReadAhead {
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

impl AsyncWrite for NoReadAhead {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.tls |= bytes.first() == Some(&TLS_HANDSHAKE);
        Pin::new(&mut self.tcp).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tcp).poll_shutdown(cx)
    }
}
