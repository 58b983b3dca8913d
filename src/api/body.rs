//! Request bodies: read whole within their limits of size and time, and parsed.
//!
//! What is held of them at one moment is bounded for the daemon as a whole, byte by byte as they come, so that
//! nobody holds room by announcing. No body is ever logged.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::Poll,
    time::Duration,
};

use axum::{
    extract::Request,
    http::{HeaderMap, HeaderValue, header},
};
use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::Body;
use serde::de::DeserializeOwned;

use super::{
    Api, frame,
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
pub struct Held(Arc<Room>);

#[derive(Debug)]
struct Room {
    /// In units.
    most: usize,
    taken: AtomicUsize,
}

/// A body's share of it; given back when it is dropped.
#[derive(Debug)]
pub struct Share {
    of: Held,
    units: usize,
}

impl Drop for Share {
    fn drop(&mut self) {
        self.of.0.taken.fetch_sub(self.units, Ordering::Relaxed);
    }
}

/// A parsed request, and its share of what may be held.
pub struct Received {
    pub asked: Asked,
    _held: Option<Share>,
}

/// What a body is said to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Media {
    Json,
    /// A JSON value on each line.
    Lines,
    Mail,
}

impl Held {
    pub fn new(bytes: usize) -> Self {
        Self(Arc::new(Room { most: bytes / UNIT, taken: AtomicUsize::new(0) }))
    }

    /// Room for a body of which there were `before` bytes and now are `now`, beside what `share` has.
    pub fn extend(&self, share: &mut Option<Share>, before: usize, now: usize) -> Result<(), Problem> {
        let more = now.div_ceil(UNIT) - before.div_ceil(UNIT);
        if more == 0 {
            return Ok(());
        }
        let Room { most, taken } = &*self.0;
        // Taken first and looked at afterwards: two at once are refused rather than let through, and nothing waits.
        let before = taken.fetch_add(more, Ordering::Relaxed);
        if before.saturating_add(more) > *most {
            taken.fetch_sub(more, Ordering::Relaxed);
            let detail = "too many large requests are being read: try again in a moment";
            return Err(Problem::new(Kind::Unavailable, detail));
        }
        match share {
            Some(share) => share.units += more,
            None => *share = Some(Share { of: self.clone(), units: more }),
        }
        Ok(())
    }
}

/// What bodies of lines are called; the first is the one that we say.
const LINES_TYPES: [&str; 4] =
    ["application/x-ndjson", "application/ndjson", "application/jsonl", "application/x-jsonlines"];

/// A body that is refused unread is passed over up to this many times the route's limit.
const PASSED_OVER: usize = 2;

/// Reads and parses one request.
pub async fn receive(api: &Api, request: Request, purpose: Purpose) -> Result<Received, Problem> {
    let limit = match purpose {
        Purpose::Message => api.settings.bodies.message_bytes,
        Purpose::Decision | Purpose::Explain => api.settings.bodies.decision_bytes,
    };
    let (parts, body) = request.into_parts();
    let (bytes, held) = receive_bytes(api, &parts.headers, body, limit).await?;
    Ok(Received { asked: parse(&bytes, purpose).await?, _held: held })
}

/// Parses one request, where it keeps nobody waiting.
pub async fn parse(bytes: &[u8], purpose: Purpose) -> Result<Asked, Problem> {
    if bytes.len() <= PARSE_INLINE_BYTES {
        return Ok(request::parse(bytes, purpose)?);
    }
    let bytes = bytes.to_vec();
    let parsed = tokio::task::spawn_blocking(move || request::parse(&bytes, purpose)).await;
    Ok(parsed.map_err(|_| Problem::internal())??)
}

/// Reads a broadcast: JSON as large as a message may be, not looked at but for how deeply it is nested.
pub async fn receive_value(
    api: &Api,
    request: Request,
) -> Result<(serde_json::Value, Option<Share>), Problem> {
    let (parts, body) = request.into_parts();
    let (bytes, held) = receive_bytes(api, &parts.headers, body, api.settings.bodies.message_bytes).await?;
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
    let (parts, body) = request.into_parts();
    let (bytes, _held) = receive_bytes(api, &parts.headers, body, JSON_BYTES_MAX).await?;
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
) -> Result<(Bytes, Option<Share>), Problem> {
    let (parts, body) = request.into_parts();
    receive_media(api, &parts.headers, body, limit, Media::Mail).await
}

/// Reads a whole body of JSON.
pub async fn receive_bytes<B>(
    api: &Api,
    headers: &HeaderMap,
    body: B,
    limit: usize,
) -> Result<(Bytes, Option<Share>), Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    receive_media(api, headers, body, limit, Media::Json).await
}

async fn receive_media<B>(
    api: &Api,
    headers: &HeaderMap,
    body: B,
    limit: usize,
    media: Media,
) -> Result<(Bytes, Option<Share>), Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let within = api.settings.pace.body;
    let refused = match check_media_type(headers, media) {
        Ok(()) => announced_length(headers).filter(|length| *length > limit).map(|_| too_large(limit)),
        Err(wrong) => Some(wrong),
    };
    if let Some(problem) = refused {
        Box::pin(pass_over(headers, body, limit.saturating_mul(PASSED_OVER), within)).await;
        return Err(problem);
    }
    let mut reading = pin!(read(body, limit, &api.held));
    // Most bodies are there with their header: a clock is only for those that are waited for.
    match poll_fn(|cx| Poll::Ready(reading.as_mut().poll(cx))).await {
        Poll::Ready(read) => read,
        Poll::Pending => {
            Box::pin(tokio::time::timeout(within, reading)).await.map_err(|_| too_slow(within))?
        }
    }
}

/// Refuses what is no body of lines, as a body of JSON would be refused.
pub async fn check_lines<B>(api: &Api, headers: &HeaderMap, body: B) -> Result<B, Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let Err(problem) = check_media_type(headers, Media::Lines) else { return Ok(body) };
    let most = api.settings.bodies.decision_bytes.saturating_mul(PASSED_OVER);
    pass_over(headers, body, most, api.settings.pace.body).await;
    Err(problem)
}

/// Lets a refused body come and keeps none of it: a caller who is still writing when the connection closes sees
/// a broken pipe and never the reason. Who asked first (`Expect: 100-continue`) sends nothing.
async fn pass_over<B>(headers: &HeaderMap, mut body: B, most: usize, within: Duration)
where
    B: Body<Data = Bytes> + Unpin,
{
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let reading = async {
        let mut passed = 0;
        while let Some(Ok(frame)) = body.frame().await {
            passed += frame.data_ref().map_or(0, Bytes::len);
            if passed > most {
                return;
            }
        }
    };
    // Late or never: the answer is the same.
    let _ = tokio::time::timeout(within, reading).await;
}

/// Most bodies come in one piece, which is then not copied.
async fn read<B>(mut body: B, limit: usize, room: &Held) -> Result<(Bytes, Option<Share>), Problem>
where
    B: Body<Data = Bytes> + Unpin,
{
    let (mut first, mut bytes, mut held) = (Bytes::new(), Vec::new(), None);
    while let Some(frame) = body.frame().await {
        let frame =
            frame.map_err(|_| Problem::new(Kind::BadRequest, "the body ended before it was whole"))?;
        // What is no data is trailers, which nobody reads.
        let Ok(data) = frame.into_data() else { continue };
        let before = first.len() + bytes.len();
        let length = before + data.len();
        if length > limit {
            return Err(too_large(limit));
        }
        room.extend(&mut held, before, length)?;
        if before == 0 {
            first = data;
        } else {
            bytes.extend_from_slice(&std::mem::take(&mut first));
            bytes.extend_from_slice(&data);
        }
    }
    Ok((if bytes.is_empty() { first } else { bytes.into() }, held))
}

/// The rest of the body may still come: the connection is of no more use.
fn too_slow(within: Duration) -> Problem {
    Problem::new(Kind::Timeout, format!("the body did not arrive within {} s", within.as_secs_f32()))
        .header(header::CONNECTION, HeaderValue::from_static("close"))
}

fn announced_length(headers: &HeaderMap) -> Option<usize> {
    frame::header(headers, &header::CONTENT_LENGTH)?.to_str().ok()?.parse().ok()
}

fn too_large(limit: usize) -> Problem {
    let detail = format!("a body of this route is at most {}", mebibytes(limit));
    Problem::new(Kind::TooLarge, detail).header(header::CONNECTION, HeaderValue::from_static("close"))
}

pub fn mebibytes(bytes: usize) -> String {
    format!("{} MiB", bytes as f64 / f64::from(1 << 20))
}

/// The body plain, and of the right type. No type at all is taken; a wrong one is a mistake that is better told.
fn check_media_type(headers: &HeaderMap, media: Media) -> Result<(), Problem> {
    let text = |name| frame::header(headers, name).map(|v| v.to_str().unwrap_or_default());
    if let Some(coding) = text(&header::CONTENT_ENCODING).filter(|c| !c.eq_ignore_ascii_case("identity")) {
        let what = if media == Media::Mail { "mail" } else { "JSON" };
        let detail = format!("Content-Encoding {coding:?} is not taken: send the {what} as it is");
        return Err(Problem::new(Kind::MediaType, detail));
    }
    let Some(kind) = text(&header::CONTENT_TYPE) else { return Ok(()) };
    if kind == "application/json" && media == Media::Json {
        return Ok(());
    }
    let essence = kind.split(';').next().unwrap_or_default().trim();
    let is = |name: &str| essence.eq_ignore_ascii_case(name);
    let ends_so = |end: &str| {
        let from = essence.len().checked_sub(end.len());
        from.and_then(|from| essence.get(from..)).is_some_and(|last| last.eq_ignore_ascii_case(end))
    };
    let (right, wanted) = match media {
        Media::Json => (is("application/json") || ends_so("+json"), "application/json"),
        Media::Mail => (is("message/rfc822"), "message/rfc822"),
        Media::Lines => (LINES_TYPES.iter().any(|name| is(name)), LINES_TYPES[0]),
    };
    if right {
        return Ok(());
    }
    let essence = essence.to_ascii_lowercase();
    Err(Problem::new(
        Kind::MediaType,
        format!("the body's type is {essence:?}: send `Content-Type: {wanted}`"),
    ))
}
