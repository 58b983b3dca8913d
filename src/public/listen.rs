//! The public socket: TCP, counted by network.
//!
//! What a connection may do and for how long is `api::listen`'s affair, with this listener's own limits.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use tokio::net::{TcpListener, TcpStream};

use super::settings::{Network, counted_network};
use crate::api::listen::{Accept, Door};

/// Bound, and not yet accepting.
#[derive(Debug)]
pub struct PublicListener {
    tcp: TcpListener,
    proxies: Vec<Network>,
}

impl PublicListener {
    pub(super) fn new(tcp: TcpListener, proxies: Vec<Network>) -> Self {
        Self { tcp, proxies }
    }

    /// With the port that the system chose where it was 0.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.local_addr().ok()
    }
}

impl Accept for PublicListener {
    const DOOR: Door = Door::Tcp;
    type Stream = TcpStream;

    async fn next(&self) -> io::Result<(TcpStream, Option<IpAddr>)> {
        let (stream, peer) = self.tcp.accept().await?;
        // Answers are written whole: waiting to fill a packet only delays them.
        let _ = stream.set_nodelay(true);
        let proxy = self.proxies.iter().any(|network| network.contains(peer.ip()));
        Ok((stream, (!proxy).then(|| counted_network(peer.ip()))))
    }
}
