//! What a provider calls us with, and the face that its driver shows to the public listener.
//!
//! Verified over the raw bytes and the configured public URL before anything is parsed (reliability.md T13). It
//! stores nothing and follows nothing.

use chrono::{DateTime, Utc};

use crate::domain::receipt::ProviderEvent;

/// A request as it came, for its signature is over exactly that.
#[derive(Clone, Copy, Debug)]
pub struct CallbackRequest<'a> {
    /// `GET` or `POST`.
    pub method: &'a str,
    /// The configured public URL with the path and query as they came: never made of `Host` or `X-Forwarded-*`.
    pub url: &'a str,
    /// What stands behind the `?`, as it came; empty without.
    pub query: &'a str,
    /// Names in lower case, values as text; a header whose value is not text is left out.
    pub headers: &'a [(String, String)],
    pub body: &'a [u8],
    pub now: DateTime<Utc>,
}

impl<'a> CallbackRequest<'a> {
    /// The first header of that name.
    pub fn header(&self, name: &str) -> Option<&'a str> {
        self.headers.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
    }
}

/// What a verified callback is answered with.
#[derive(Clone, Debug, PartialEq)]
pub enum CallbackAnswer {
    /// To be kept before the provider hears 200.
    Events(Vec<ProviderEvent>),
    /// Meta's handshake: these digits, as plain text.
    Challenge(String),
}

/// Why a callback is turned away. The caller learns nothing but the status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallbackRefused {
    /// No signature, or one of nobody we know: 403.
    NotVerified,
    /// Verified, and not of the shape that the provider documents: 400, told in the log.
    Unreadable(&'static str),
}

/// Verifies and reads one provider's callbacks.
pub trait Callbacks: Send + Sync {
    /// The largest body that this provider sends, in bytes.
    fn body_bytes_max(&self) -> usize {
        256 << 10
    }
    fn read(&self, request: &CallbackRequest<'_>) -> Result<CallbackAnswer, CallbackRefused>;
}
