//! Opened mails and followed links: answered at once, and told as far as a person or a machine did it.
//!
//! A link leads where the database says and nowhere else: no address is ever taken from the request
//! (reliability.md T22). Visits tell nothing of where they came from: no address of a visitor is kept.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, Method, StatusCode, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};

use super::{
    Public,
    clicks::{Click, engagement},
    frame, page,
};
use crate::tracking::{may_redirect_to, robots::Visit};

/// One transparent pixel.
const GIF: &[u8; 43] =
    b"GIF89a\x01\x00\x01\x00\x80\x00\x00\x00\x00\x00\xff\xff\xff\x21\xf9\x04\x01\x00\x00\x00\
\x00\x2c\x00\x00\x00\x00\x01\x00\x01\x00\x00\x02\x02\x44\x01\x00\x3b";

type Token = Result<Path<String>, PathRejection>;

pub(super) async fn open(State(public): State<Arc<Public>>, token: Token, request: Request) -> Response {
    let Ok(_room) = public.visits.try_acquire() else { return frame::later() };
    let opened = token.ok().and_then(|Path(token)| public.parts.tracker.read_open(&token));
    let Some(opened) = opened else { return frame::not_found() };
    let now = public.parts.clock.now();
    let machine = visit(&request, now, opened.made_at).is_machine();
    public.parts.metrics.engaged("opened", machine);
    let event = engagement("opened", opened.message, now, machine, None);
    if let Err(error) = public.parts.receiver.engaged(event.clone()).await {
        tracing::warn!(%error, "an open waits to be written");
        public.clicks.give_back(event);
    }
    let mut response = GIF.into_response();
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("image/gif"));
    response
}

pub(super) async fn click(State(public): State<Arc<Public>>, token: Token, request: Request) -> Response {
    let Ok(_room) = public.visits.try_acquire() else { return frame::later() };
    let language = page::Language::of(request.headers());
    let clicked = token.ok().and_then(|Path(token)| public.parts.tracker.read_click(&token));
    let Some(clicked) = clicked else { return page::unknown(language) };
    let link = match public.parts.links.link(clicked.message, clicked.link).await {
        Ok(Some(link)) => link,
        Ok(None) => return page::unknown(language),
        Err(error) => {
            tracing::error!(%error, "a link cannot be looked up");
            return page::later(language);
        }
    };
    let Some(to) = HeaderValue::from_str(&link.url).ok().filter(|_| may_redirect_to(&link.url)) else {
        return page::unknown(language);
    };
    let now = public.parts.clock.now();
    let machine = visit(&request, now, clicked.made_at).is_machine();
    public.parts.metrics.engaged("clicked", machine);
    public.clicks.take(Click { message: clicked.message, link: clicked.link, of: link.of, at: now, machine });
    (StatusCode::FOUND, [(header::LOCATION, to)]).into_response()
}

fn visit(request: &Request, now: DateTime<Utc>, made_at: DateTime<Utc>) -> Visit<'_> {
    let text = |name: &str| text(request.headers(), name);
    let ahead = |name: &str| text(name).is_some_and(|v| v.to_ascii_lowercase().contains("prefetch"));
    Visit {
        head: request.method() == Method::HEAD,
        user_agent: text("user-agent"),
        prefetch: ahead("sec-purpose")
            || ahead("purpose")
            || ahead("x-moz")
            || text("x-purpose").is_some_and(|v| v.eq_ignore_ascii_case("preview")),
        after: now - made_at,
    }
}

fn text<'r>(headers: &'r HeaderMap, name: &str) -> Option<&'r str> {
    headers.get(name)?.to_str().ok()
}
