//! Unsubscribing: a page that asks, and a POST that acts (RFC 8058).
//!
//! A GET never acts, whoever sends it: scanners follow every link of a mail (reliability.md T24). No cookie, no
//! redirect, no login, and no question why.

use std::sync::Arc;

use axum::{
    extract::{Path, Request, State, rejection::PathRejection},
    response::Response,
};

use super::{Public, body, frame, page};

/// RFC 8058's body has 26 bytes.
const BODY_BYTES_MAX: usize = 16 << 10;

type Token = Result<Path<String>, PathRejection>;

/// Asks. The database is not looked at: whether the link is ours is in its signature.
pub(super) async fn ask(State(public): State<Arc<Public>>, token: Token, request: Request) -> Response {
    let Ok(_room) = public.visits.try_acquire() else { return frame::later() };
    let language = page::Language::of(request.headers());
    match token.ok().and_then(|Path(token)| public.parts.tracker.read_unsubscribe(&token)) {
        Some(_) => page::ask(language),
        None => page::unknown(language),
    }
}

/// Acts, whatever the body says: whoever posts here means it, be it a mail program or the page's own button.
pub(super) async fn act(State(public): State<Arc<Public>>, token: Token, request: Request) -> Response {
    // A refusal counts among what is shed last.
    let Ok(_room) = public.callbacks.try_acquire() else { return frame::later() };
    let language = page::Language::of(request.headers());
    let message = token.ok().and_then(|Path(token)| public.parts.tracker.read_unsubscribe(&token));
    let Some(message) = message else { return page::unknown(language) };
    if let Err(status) = body::receive(&public, request.into_body(), BODY_BYTES_MAX).await {
        return frame::turned_away(status);
    }
    match public.parts.receiver.unsubscribe(message).await {
        Ok(true) => {
            public.parts.metrics.engaged("unsubscribed", false);
            page::done(language)
        }
        Ok(false) => page::unknown(language),
        Err(error) => {
            tracing::error!(%error, "an unsubscription is not kept");
            page::later(language)
        }
    }
}
