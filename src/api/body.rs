//! Request bodies: read whole within their limits of size and time, and parsed.
//!
//! What may be held of them at one moment is bounded for the daemon as a whole, and the refusal comes before
//! anything is read. No body is ever logged.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, header},
};
use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{
    Api,
    problem::{Kind, Problem},
};
use crate::request::{self, Asked, Purpose};

/// Bodies are counted in units of this many bytes.
const UNIT: usize = 1024;
/// Above this a body is parsed on a thread of its own, so that other requests do not wait for it.
const PARSE_INLINE_BYTES: usize = 256 << 10;

/// The bytes of all bodies that are held now.
#[derive(Clone, Debug)]
pub struct Held(Arc<Semaphore>);

/// A parsed request, and its share of what may be held.
pub struct Received {
    pub asked: Asked,
    _held: OwnedSemaphorePermit,
}

impl Held {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    fn take(&self, bytes: usize) -> Result<OwnedSemaphorePermit, Problem> {
        let units = u32::try_from(bytes.div_ceil(UNIT)).unwrap_or(u32::MAX);
        self.0.clone().try_acquire_many_owned(units).map_err(|_| {
            Problem::new(Kind::Unavailable, "too many large requests are being read: try again in a moment")
        })
    }
}

/// Reads and parses one request.
pub async fn receive(api: &Api, request: Request, purpose: Purpose) -> Result<Received, Problem> {
    let limit = match purpose {
        Purpose::Message => api.settings.bodies.message_bytes,
        Purpose::Decision | Purpose::Explain => api.settings.bodies.decision_bytes,
    };
    check_media_type(request.headers())?;
    let announced = announced_length(request.headers());
    if announced.is_some_and(|length| length > limit) {
        return Err(too_large(limit));
    }
    let held = api.held.take(announced.unwrap_or(limit))?;
    let bytes = read(request.into_body(), limit, api.settings.pace.body).await?;
    let asked = if bytes.len() <= PARSE_INLINE_BYTES {
        request::parse(&bytes, purpose)
    } else {
        let parsed = tokio::task::spawn_blocking(move || request::parse(&bytes, purpose)).await;
        parsed.map_err(|_| Problem::internal())?
    };
    Ok(Received { asked: asked?, _held: held })
}

async fn read(body: Body, limit: usize, within: std::time::Duration) -> Result<Bytes, Problem> {
    let slow = |_| {
        let detail = format!("the body did not arrive within {} s", within.as_secs_f32());
        // The rest of the body may still come: the connection is of no more use.
        Problem::new(Kind::Timeout, detail)
            .header(header::CONNECTION, header::HeaderValue::from_static("close"))
    };
    match tokio::time::timeout(within, Limited::new(body, limit).collect()).await.map_err(slow)? {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<http_body_util::LengthLimitError>() => Err(too_large(limit)),
        Err(_) => Err(Problem::new(Kind::BadRequest, "the body ended before it was whole")),
    }
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        Kind::TooLarge,
        format!("a body of this route is at most {} MiB", limit as f64 / f64::from(1 << 20)),
    )
    .header(header::CONNECTION, header::HeaderValue::from_static("close"))
}

/// JSON, plain. No type at all is taken as JSON; a wrong one is a mistake that is better told.
fn check_media_type(headers: &HeaderMap) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|v: &header::HeaderValue| v.to_str().unwrap_or_default());
    if let Some(coding) = text(header::CONTENT_ENCODING).filter(|c| !c.eq_ignore_ascii_case("identity")) {
        let detail = format!("Content-Encoding {coding:?} is not taken: send the JSON as it is");
        return Err(Problem::new(Kind::MediaType, detail));
    }
    let Some(kind) = text(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    if essence == "application/json" || essence.ends_with("+json") {
        return Ok(());
    }
    let detail = format!("the body's type is {essence:?}: send `Content-Type: application/json`");
    Err(Problem::new(Kind::MediaType, detail))
}
