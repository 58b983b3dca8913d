//! What surrounds every request: its id, the guard of the TCP door, panics, problems, counts and one log line.
//!
//! It reads no body and knows no route. The log line names the route's pattern, never its parameters: those may
//! be personal.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    task::Poll,
    time::Instant,
};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, Method, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};
use uuid::Uuid;

use super::{
    Api,
    listen::Door,
    problem::{Kind, MEDIA_TYPE, Problem},
};

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_ID_CHARACTERS_MAX: usize = 64;

/// The outermost layer.
pub async fn frame(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let instance = request.uri().path().to_owned();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "unmatched".into(), |m| m.as_str().to_owned());
    let id = request_id(&request);
    let response = match guard(&api, &request) {
        Ok(()) => guarded(next.run(request)).await,
        Err(problem) => problem.into_response(),
    };
    let mut response = as_problem(response, &instance);
    if let Ok(value) = HeaderValue::from_str(&id) {
        response.headers_mut().insert(REQUEST_ID, value);
    }
    let took = started.elapsed();
    api.metrics.http(&method, &route, response.status(), took);
    tracing::debug!(
        request_id = %id, %method, %route, status = response.status().as_u16(),
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "request"
    );
    response
}

/// The caller's own id where it is harmless, else a new one.
fn request_id(request: &Request) -> String {
    let given = request.headers().get(REQUEST_ID).and_then(|v| v.to_str().ok()).filter(|text| {
        (1..=REQUEST_ID_CHARACTERS_MAX).contains(&text.len())
            && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.:".contains(&b))
    });
    given.map_or_else(|| Uuid::now_v7().simple().to_string(), str::to_owned)
}

/// On TCP no browser gets in: not by a page's own request (`Origin`), not by a name that an attacker points at
/// this address (`Host`) (reliability.md T6). No CORS header is ever sent.
fn guard(api: &Api, request: &Request) -> Result<(), Problem> {
    if request.extensions().get() == Some(&Door::Unix) {
        return Ok(());
    }
    if request.headers().contains_key(header::ORIGIN) {
        let detail = "requests from web pages (with an Origin header) are not taken";
        return Err(Problem::new(Kind::Forbidden, detail));
    }
    let named = request.headers().get(header::HOST).and_then(|v| v.to_str().ok());
    let target = request.uri().authority().map(axum::http::uri::Authority::as_str);
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
    let mut inner = std::pin::pin!(inner);
    std::future::poll_fn(|cx| {
        match catch_unwind(AssertUnwindSafe(|| inner.as_mut().poll(cx))) {
            Ok(poll) => poll,
            Err(_) => {
                // The panic hook has logged where; what it said may hold personal data and stays there.
                tracing::error!("a request made the daemon panic");
                Poll::Ready(Problem::internal().into_response())
            }
        }
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
    use super::host_of;

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
