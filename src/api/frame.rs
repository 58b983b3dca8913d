//! What surrounds every request: its id, the guard of the TCP door, panics, problems, counts and one log line.
//!
//! It reads no body and knows no route. The log line names the route's pattern, never its parameters: those may
//! be personal.

use std::{
    borrow::Cow,
    cell::Cell,
    hash::{BuildHasher, RandomState},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{
    Api,
    listen::Door,
    problem::{Kind, MEDIA_TYPE, Problem},
};
use crate::domain::time::Clock;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_CHARACTERS_MAX: usize = 64;
const FEW_HEADERS: usize = 8;

/// The outermost layer.
pub async fn frame(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or(Cow::Borrowed("unmatched"), |m| Cow::Owned(m.as_str().to_owned()));
    let instance = request.uri().path().to_owned();
    let frame = Frame::open(&api, request.method(), request.headers(), route, instance.into());
    let door = request.extensions().get().copied().unwrap_or(Door::Tcp);
    let response = match guard(&api, door, request.headers(), request.uri()) {
        Ok(()) => guarded(next.run(request)).await,
        Err(problem) => problem.into_response(),
    };
    frame.close(&api, response)
}

/// What is kept of a request until its answer leaves.
pub struct Frame {
    started: Instant,
    method: Method,
    /// The route's pattern.
    route: Cow<'static, str>,
    /// The path that was asked for.
    instance: Cow<'static, str>,
    id: HeaderValue,
}

impl Frame {
    pub fn open(
        api: &Api,
        method: &Method,
        headers: &HeaderMap,
        route: Cow<'static, str>,
        instance: Cow<'static, str>,
    ) -> Self {
        let started = Instant::now();
        let id = given_id(headers).unwrap_or_else(|| new_id(millis(&*api.orchestrator.clock, started)));
        Self { started, method: method.clone(), route, instance, id }
    }

    /// Makes the answer whole, and counts it.
    pub fn close(self, api: &Api, response: Response) -> Response {
        let mut response = as_problem(response, &self.instance);
        self.seal(api, response.status(), response.headers_mut());
        response
    }

    /// Counts an answer that is whole, and gives it the request's id.
    pub fn seal(self, api: &Api, status: StatusCode, headers: &mut HeaderMap) {
        let took = self.started.elapsed();
        api.metrics.http(&self.method, &self.route, status, took);
        tracing::debug!(
            request_id = %self.id.to_str().unwrap_or_default(), method = %self.method, route = %self.route,
            status = status.as_u16(), took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "request"
        );
        headers.insert(REQUEST_ID, self.id);
    }
}

/// The first header of a name. Most requests have few: to look at each takes less than to reckon out where one would be.
pub(super) fn header<'h>(headers: &'h HeaderMap, name: &HeaderName) -> Option<&'h HeaderValue> {
    if headers.len() > FEW_HEADERS {
        return headers.get(name);
    }
    headers.iter().find(|(own, _)| *own == name).map(|(_, value)| value)
}

/// The caller's own id, where it is harmless.
fn given_id(headers: &HeaderMap) -> Option<HeaderValue> {
    let harmless = |value: &&HeaderValue| {
        (1..=REQUEST_ID_CHARACTERS_MAX).contains(&value.len())
            && value.as_bytes().iter().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(b))
    };
    header(headers, &REQUEST_ID).filter(harmless).cloned()
}

/// The milliseconds of the epoch at `now`, for an id: the clock is asked once a second and thread, and reckoned on from.
fn millis(clock: &dyn Clock, now: Instant) -> u64 {
    thread_local! {
        static ASKED: Cell<Option<(Instant, u64)>> = const { Cell::new(None) };
    }
    if let Some((then, told)) = ASKED.get()
        && let Some(since) = now.checked_duration_since(then)
        && since.as_secs() == 0
    {
        return told + u64::from(since.subsec_millis());
    }
    let told = u64::try_from(clock.now().timestamp_millis()).unwrap_or_default();
    ASKED.set(Some((now, told)));
    told
}

/// A UUIDv7 in hex. It tells requests apart and keeps no secret: the system is asked for randomness once a thread, not
/// once a request.
fn new_id(millis: u64) -> HeaderValue {
    thread_local! {
        static DRAWN: Cell<u64> = Cell::new(RandomState::new().hash_one("request ids"));
    }
    // SplitMix64: a walk through all 2^64 values, scrambled.
    let draw = || {
        let drawn = DRAWN.get().wrapping_add(0x9e37_79b9_7f4a_7c15);
        DRAWN.set(drawn);
        let mixed = (drawn ^ (drawn >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    };
    let mut random = [0; 10];
    random[..8].copy_from_slice(&draw().to_le_bytes());
    random[8..].copy_from_slice(&draw().to_le_bytes()[..2]);
    let mut digits = [0; uuid::fmt::Simple::LENGTH];
    let id = uuid::Builder::from_unix_timestamp_millis(millis, &random).into_uuid();
    let text: &str = id.simple().encode_lower(&mut digits);
    HeaderValue::from_str(text).expect("hex digits can stand in a header")
}

/// On TCP no browser gets in: not by a page's own request (`Origin`), not by a name that an attacker points at
/// this address (`Host`) (reliability.md T6). No CORS header is ever sent.
pub fn guard(api: &Api, door: Door, headers: &HeaderMap, uri: &Uri) -> Result<(), Problem> {
    if door == Door::Unix {
        return Ok(());
    }
    if headers.contains_key(header::ORIGIN) {
        let detail = "requests from web pages (with an Origin header) are not taken";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let named = headers.get(header::HOST).and_then(|v| v.to_str().ok());
    let target = uri.authority().map(axum::http::uri::Authority::as_str);
    let known = |authority: &str| api.hosts.iter().any(|host| *host == host_of(authority));
    if named.is_some_and(known) && target.is_none_or(known) {
        return Ok(());
    }
    let detail = "the Host header names no host that this daemon answers for; add it to `allowed_hosts` in \
                  orchestrator.toml if it is right";
    Err(Problem::new(Kind::Forbidden, detail))
}

/// The host of `host:port`, `[v6]:port` or either without a port, in lower case and without a final dot.
fn host_of(authority: &str) -> String {
    let host = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((v6, _)) => v6,
        None => authority.rsplit_once(':').map_or(authority, |(host, _)| host),
    };
    host.trim_end_matches('.').to_ascii_lowercase()
}

/// Runs what is within and makes a panic an answer: one request's fault is not another's.
pub(crate) async fn guarded(inner: impl Future<Output = Response>) -> Response {
    caught(inner).await.unwrap_or_else(IntoResponse::into_response)
}

/// The same for what waits for nothing.
pub(crate) fn caught_at_once<T>(inner: impl FnOnce() -> T) -> Result<T, Problem> {
    catch_unwind(AssertUnwindSafe(inner)).map_err(|_| panicked())
}

/// The panic hook has logged where; what it said may hold personal data and stays there.
fn panicked() -> Problem {
    tracing::error!("a request made the daemon panic");
    Problem::internal()
}

/// The same for a part of an answer.
pub(crate) async fn caught<T>(inner: impl Future<Output = T>) -> Result<T, Problem> {
    let mut inner = std::pin::pin!(inner);
    std::future::poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| inner.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Ok),
        Err(_) => Poll::Ready(Err(panicked())),
    })
    .await
}

/// Writes the problem that a handler left, and makes one of any other error answer.
fn as_problem(mut response: Response, instance: &str) -> Response {
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let mut rendered = problem.render(instance);
        for (name, value) in response.headers() {
            if !rendered.headers().contains_key(name) && *name != header::CONTENT_LENGTH {
                rendered.headers_mut().insert(name, value.clone());
            }
        }
        return rendered;
    }
    let status = response.status();
    let is_error = status.is_client_error() || status.is_server_error();
    let is_problem = response.headers().get(header::CONTENT_TYPE).is_some_and(|t| t == MEDIA_TYPE);
    if !is_error || is_problem {
        return response;
    }
    generic(status, instance)
}

/// For what the router refused by itself.
fn generic(status: StatusCode, instance: &str) -> Response {
    let problem = match status {
        StatusCode::NOT_FOUND => Problem::not_found("such route"),
        s if s.is_server_error() => Problem::internal(),
        _ => Problem::new(Kind::BadRequest, "the request's path or headers cannot be read")
            .with(|p| p.status = status.as_u16()),
    };
    problem.render(instance)
}

/// No route of that path.
pub async fn no_route() -> Problem {
    Problem::not_found("such route; /openapi.json lists them all")
}

/// A route, but not for this method. The router adds `Allow`.
pub async fn no_method(method: Method) -> Problem {
    Problem::new(Kind::MethodNotAllowed, format!("{method} is not for this route; `Allow` says what is"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::{host_of, new_id};

    /// On one thread and on several, within one millisecond.
    #[test]
    fn no_two_requests_have_the_same_id() {
        let threads: Vec<_> = (0..4)
            .map(|_| {
                std::thread::spawn(|| {
                    (0..2_000).map(|_| new_id(0).to_str().unwrap().to_owned()).collect::<Vec<_>>()
                })
            })
            .collect();
        let all: BTreeSet<String> = threads.into_iter().flat_map(|made| made.join().unwrap()).collect();
        assert_eq!(all.len(), 8_000);
        for id in all {
            let id = uuid::Uuid::parse_str(&id).unwrap();
            assert_eq!((id.get_version_num(), id.get_variant()), (7, uuid::Variant::RFC4122));
        }
    }

    #[test]
    fn a_host_is_read_with_and_without_a_port() {
        for (authority, host) in [
            ("localhost:8080", "localhost"),
            ("LOCALHOST.", "localhost"),
            ("127.0.0.1:80", "127.0.0.1"),
            ("[::1]:80", "::1"),
            ("[::1]", "::1"),
            ("evil.example:80", "evil.example"),
        ] {
            assert_eq!(host_of(authority), host);
        }
    }
}
