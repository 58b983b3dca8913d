//! Where the daemon listens, and how much of anyone's slowness it bears.
//!
//! Values only; `config` fills them, `listen` obeys them. Every number has a limit's reason beside it.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

/// The listeners and their limits.
#[derive(Clone, Debug)]
pub struct ApiSettings {
    /// The Unix socket; none: no Unix socket.
    pub socket: Option<PathBuf>,
    /// TCP, with keys; none unless it is asked for.
    pub listen: Option<SocketAddr>,
    /// Names beside localhost, 127.0.0.1 and ::1 that a `Host` header on TCP may carry, without a port.
    pub hosts: Vec<String>,
    /// There is a public URL, so that providers can call back and mails tell of opens and clicks; where there is none,
    /// those figures are null.
    pub hears: bool,
    pub pace: Pace,
    pub connections: ConnectionLimits,
    pub bodies: BodyLimits,
    /// How long connections that are busy when the daemon stops may finish.
    pub drain: Duration,
}

/// How long a peer may take (reliability.md T20, F52).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// From the connection's start, or from a later request's first byte, to the end of its header.
    pub header: Duration,
    /// For the whole body.
    pub body: Duration,
    /// From the first byte that could not be written to the last one that could.
    pub write: Duration,
    /// Between two requests on one connection.
    pub idle: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnectionLimits {
    /// On each listener.
    pub most: usize,
    /// By TCP address (IPv6: by /64); proxies need more.
    pub most_per_address: usize,
    pub headers: usize,
    pub header_bytes: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BodyLimits {
    /// One decision's body, in bytes (details.md section 2).
    pub decision_bytes: usize,
    /// One message's body, attachments included, in bytes.
    pub message_bytes: usize,
    /// All bodies held at one moment, in bytes: above it the answer is 503 (reliability.md P11).
    pub held_bytes: usize,
}

impl Default for ApiSettings {
    fn default() -> Self {
        Self {
            socket: None,
            listen: None,
            hosts: Vec::new(),
            hears: true,
            pace: Pace::default(),
            connections: ConnectionLimits::default(),
            bodies: BodyLimits::default(),
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            header: Duration::from_secs(5),
            body: Duration::from_secs(10),
            write: Duration::from_secs(10),
            idle: Duration::from_secs(15),
        }
    }
}

impl Default for ConnectionLimits {
    fn default() -> Self {
        Self { most: 1024, most_per_address: 256, headers: 64, header_bytes: 16 << 10 }
    }
}

impl Default for BodyLimits {
    fn default() -> Self {
        Self { decision_bytes: 1 << 20, message_bytes: 16 << 20, held_bytes: 256 << 20 }
    }
}
