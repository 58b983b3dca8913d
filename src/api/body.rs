//! Request bodies: read whole within their limits of size and time, and parsed.
//!
//! What is held of them at one moment is bounded for the daemon as a whole, byte by byte as they come, so that
//! nobody holds room by announcing. No body is ever logged.

use std::{sync::Arc, time::Duration};

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
};
use http_body_util::BodyExt;
use serde::de::DeserializeOwned;
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
/// Bodies that are no requests hold a word or two.
const JSON_BYTES_MAX: usize = 64 << 10;

/// The bytes of all bodies that are held now.
#[derive(Clone, Debug)]
pub struct Held(Arc<Semaphore>);

/// A parsed request, and its share of what may be held.
pub struct Received {
    pub asked: Asked,
    _held: Option<OwnedSemaphorePermit>,
}

impl Held {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Semaphore::new((bytes / UNIT).min(Semaphore::MAX_PERMITS))))
    }

    /// Room for `more` units beside those that `permit` has.
    fn extend(&self, permit: &mut Option<OwnedSemaphorePermit>, more: usize) -> Result<(), Problem> {
        let more = u32::try_from(more).unwrap_or(u32::MAX);
        let taken = self.0.clone().try_acquire_many_owned(more).map_err(|_| {
            Problem::new(Kind::Unavailable, "too many large requests are being read: try again in a moment")
        })?;
        match permit {
            Some(permit) => permit.merge(taken),
            None => *permit = Some(taken),
        }
        Ok(())
    }
}

/// A body that is refused unread is passed over up to this many times the route's limit.
const PASSED_OVER: usize = 2;

/// Reads and parses one request.
pub async fn receive(api: &Api, request: Request, purpose: Purpose) -> Result<Received, Problem> {
    let limit = match purpose {
        Purpose::Message => api.settings.bodies.message_bytes,
        Purpose::Decision | Purpose::Explain => api.settings.bodies.decision_bytes,
    };
    let (bytes, held) = receive_bytes(api, request, limit, Taken::Json).await?;
    let asked = if bytes.len() <= PARSE_INLINE_BYTES {
        request::parse(&bytes, purpose)
    } else {
        let parsed = tokio::task::spawn_blocking(move || request::parse(&bytes, purpose)).await;
        parsed.map_err(|_| Problem::internal())?
    };
    Ok(Received { asked: asked?, _held: held })
}

/// Reads a broadcast: JSON as large as a message may be, not looked at but for how deeply it is nested.
pub async fn receive_value(
    api: &Api,
    request: Request,
) -> Result<(serde_json::Value, Option<OwnedSemaphorePermit>), Problem> {
    let (bytes, held) = receive_bytes(api, request, api.settings.bodies.message_bytes, Taken::Json).await?;
    let read = move || {
        // A row stands two levels deeper than a message's context.
        request::check_depth(&bytes, request::DEPTH_MAX + 2)
            .and_then(|()| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
    };
    let value = tokio::task::spawn_blocking(read).await.map_err(|_| Problem::internal())?;
    let value =
        value.map_err(|words| Problem::new(Kind::BadSyntax, format!("the body is not JSON: {words}")))?;
    Ok((value, held))
}

/// Reads a small JSON body of another shape. `expected` says what it should look like.
pub async fn receive_json<T: DeserializeOwned>(
    api: &Api,
    request: Request,
    expected: &str,
) -> Result<T, Problem> {
    let (bytes, _held) = receive_bytes(api, request, JSON_BYTES_MAX, Taken::Json).await?;
    serde_json::from_slice(&bytes).map_err(|error| {
        if error.is_data() {
            return Problem::fault("", error.to_string(), Some(format!("expected {expected}")));
        }
        Problem::new(Kind::BadSyntax, format!("not JSON: {error}; expected {expected}"))
    })
}

/// Reads a mail as it came.
pub async fn receive_mail(
    api: &Api,
    request: Request,
    limit: usize,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Problem> {
    receive_bytes(api, request, limit, Taken::Mail).await
}

/// What a route takes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Taken {
    Json,
    Mail,
}

async fn receive_bytes(
    api: &Api,
    request: Request,
    limit: usize,
    taken: Taken,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Problem> {
    let within = api.settings.pace.body;
    let announced = announced_length(request.headers()).filter(|length| *length > limit);
    let refused = match check_media_type(request.headers(), taken) {
        Ok(()) => announced.map(|_| too_large(limit)),
        Err(wrong) => Some(wrong),
    };
    if let Some(problem) = refused {
        pass_over(request, limit.saturating_mul(PASSED_OVER), within).await;
        return Err(problem);
    }
    tokio::time::timeout(within, read(request.into_body(), limit, &api.held))
        .await
        .map_err(|_| too_slow(within))?
}

/// Lets a refused body come and keeps none of it: a caller who is still writing when the connection closes sees
/// a broken pipe and never the reason. Who asked first (`Expect: 100-continue`) sends nothing.
async fn pass_over(request: Request, most: usize, within: Duration) {
    if request.headers().contains_key(header::EXPECT) {
        return;
    }
    let mut body = request.into_body();
    let reading = async {
        let mut passed = 0;
        while let Some(Ok(frame)) = body.frame().await {
            passed += frame.data_ref().map_or(0, |data| data.len());
            if passed > most {
                return;
            }
        }
    };
    // Late or never: the answer is the same.
    let _ = tokio::time::timeout(within, reading).await;
}

async fn read(
    mut body: Body,
    limit: usize,
    room: &Held,
) -> Result<(Vec<u8>, Option<OwnedSemaphorePermit>), Problem> {
    let (mut bytes, mut held) = (Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::new(Kind::BadRequest, "the body ended before it was whole"))?;
        // What is no data is trailers, which nobody reads.
        let Ok(data) = frame.into_data() else { continue };
        let length = bytes.len() + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        let more = length.div_ceil(UNIT) - bytes.len().div_ceil(UNIT);
        if more > 0 {
            room.extend(&mut held, more)?;
        }
        bytes.extend_from_slice(&data);
    }
    Ok((bytes, held))
}

/// The rest of the body may still come: the connection is of no more use.
fn too_slow(within: Duration) -> Problem {
    Problem::new(Kind::Timeout, format!("the body did not arrive within {} s", within.as_secs_f32()))
        .header(header::CONNECTION, HeaderValue::from_static("close"))
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    headers.get(header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> Problem {
    Problem::new(
        Kind::TooLarge,
        format!("a body of this route is at most {} MiB", limit as f64 / f64::from(1 << 20)),
    )
    .header(header::CONNECTION, HeaderValue::from_static("close"))
}

/// Plain, and of the route's type. No type at all is taken for it; a wrong one is a mistake that is better told.
fn check_media_type(headers: &HeaderMap, taken: Taken) -> Result<(), Problem> {
    let text = |name| headers.get(name).map(|v: &HeaderValue| v.to_str().unwrap_or_default());
    if let Some(coding) = text(header::CONTENT_ENCODING).filter(|c| !c.eq_ignore_ascii_case("identity")) {
        let what = if taken == Taken::Json { "JSON" } else { "mail" };
        let detail = format!("Content-Encoding {coding:?} is not taken: send the {what} as it is");
        return Err(Problem::new(Kind::MediaType, detail));
    }
    let Some(kind) = text(header::CONTENT_TYPE) else { return Ok(()) };
    let essence = kind.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
    let (right, expected) = match taken {
        Taken::Json => (essence == "application/json" || essence.ends_with("+json"), "application/json"),
        Taken::Mail => (essence == "message/rfc822", "message/rfc822"),
    };
    if right {
        return Ok(());
    }
    let detail = format!("the body's type is {essence:?}: send `Content-Type: {expected}`");
    Err(Problem::new(Kind::MediaType, detail))
}
