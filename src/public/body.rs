//! A callback's body: read whole within its size and time, as raw bytes.
//!
//! It parses nothing. All bodies together are bounded, byte by byte as they come.

use axum::{body::Body, http::StatusCode};
use http_body_util::BodyExt;
use tokio::sync::SemaphorePermit;

use super::Public;

/// The bytes, and their share of what may be held.
pub(super) struct Received<'p> {
    pub bytes: Vec<u8>,
    _held: Option<SemaphorePermit<'p>>,
}

/// Reads at most `limit` bytes, or says with which status the request is turned away.
pub(super) async fn receive(public: &Public, body: Body, limit: usize) -> Result<Received<'_>, StatusCode> {
    let reading = read(public, body, limit);
    tokio::time::timeout(public.parts.settings.pace.body, reading)
        .await
        .map_err(|_| StatusCode::REQUEST_TIMEOUT)?
}

async fn read(public: &Public, mut body: Body, limit: usize) -> Result<Received<'_>, StatusCode> {
    let mut bytes = Vec::new();
    let mut held: Option<SemaphorePermit<'_>> = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| StatusCode::BAD_REQUEST)?;
        // What is no data is trailers, which nobody reads.
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(StatusCode::PAYLOAD_TOO_LARGE);
        }
        let more = length.div_ceil(1024) - bytes.len().div_ceil(1024);
        if more > 0 {
            let more = u32::try_from(more).unwrap_or(u32::MAX);
            let taken = public.held.try_acquire_many(more).map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
            match &mut held {
                Some(held) => held.merge(taken),
                None => held = Some(taken),
            }
        }
        bytes.extend_from_slice(&data);
    }
    Ok(Received { bytes, _held: held })
}
