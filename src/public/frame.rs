//! What surrounds every public request: its time, its headers, panics, and one line of the log.
//!
//! It reads no body and knows no route. The log names the route's pattern, never what stands in it: tokens are
//! secrets.

use std::{sync::Arc, time::Instant};

use axum::{
    extract::{MatchedPath, Request, State},
    http::{HeaderName, HeaderValue, StatusCode, header},
    middleware::Next,
    response::{IntoResponse, Response},
};

use super::{Public, page};
use crate::api::frame::guarded;

/// Laid over every answer.
const HEADERS: [(&str, &str); 4] = [
    ("x-content-type-options", "nosniff"),
    ("referrer-policy", "no-referrer"),
    ("cache-control", "no-store"),
    ("x-robots-tag", "noindex"),
];

/// The outermost layer.
pub(super) async fn frame(State(public): State<Arc<Public>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let route = request
        .extensions()
        .get::<MatchedPath>()
        .map_or_else(|| "public, unmatched".to_owned(), |matched| matched.as_str().to_owned());
    let answering = async {
        // The length of what comes is said beforehand, or nothing comes: two ways to say it are two ways for a
        // proxy and us to disagree where the next request begins (reliability.md T21).
        if request.headers().contains_key(header::TRANSFER_ENCODING) {
            return turned_away(StatusCode::LENGTH_REQUIRED);
        }
        guarded(next.run(request)).await
    };
    let total = public.parts.settings.total;
    let mut response = tokio::time::timeout(total, answering)
        .await
        .unwrap_or_else(|_| turned_away(StatusCode::SERVICE_UNAVAILABLE));
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    headers.insert(header::CONTENT_SECURITY_POLICY, page::POLICY.clone());
    let took = started.elapsed();
    public.parts.metrics.http(&method, &route, response.status(), took);
    tracing::debug!(
        %method, %route, status = response.status().as_u16(),
        took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX), "public request"
    );
    response
}

/// Nothing of that path, or nothing that takes this method: the same words for both.
pub(super) async fn nothing() -> Response {
    not_found()
}

pub(super) fn not_found() -> Response {
    (StatusCode::NOT_FOUND, "not found\n").into_response()
}

/// A status and nothing else. What was not read of the request makes its connection useless.
pub(super) fn turned_away(status: StatusCode) -> Response {
    let mut response = status.into_response();
    let unread = [StatusCode::REQUEST_TIMEOUT, StatusCode::PAYLOAD_TOO_LARGE, StatusCode::LENGTH_REQUIRED];
    if unread.contains(&status) {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

/// No room, or no database: to be repeated.
pub(super) fn later() -> Response {
    let mut response = turned_away(StatusCode::SERVICE_UNAVAILABLE);
    response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("5"));
    response
}
