//! Callbacks: found, verified over what came, and handed on before the provider hears 200.
//!
//! Nothing is parsed before its driver has verified it (reliability.md T13). Whoever is turned away learns the
//! status; why, is in the log. It never answers 200 for what is not durable (F50).

use std::sync::Arc;

use axum::{
    body::Body,
    extract::{Path, Request, State, rejection::PathRejection},
    http::{HeaderMap, HeaderValue, StatusCode, header, request},
    response::{IntoResponse, Response},
};

use super::{
    Public,
    body::{self, Received},
    frame,
};
use crate::{
    api::metrics::CallbackResult,
    channels::{
        Driver,
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest},
    },
    domain::{
        ids::{AttemptId, TenantId},
        receipt::ProviderEvent,
    },
    failpoint,
};

/// Larger bodies are verified and read on a thread of their own.
const INLINE_BYTES: usize = 256 << 10;
/// Meta's challenge is ten digits; nothing longer or other is ever echoed (T18).
const CHALLENGE_DIGITS_MAX: usize = 32;

/// One verified callback.
struct Verified {
    driver: Arc<dyn Driver>,
    tenant: TenantId,
    answer: CallbackAnswer,
}

pub(super) async fn callback(
    State(public): State<Arc<Public>>,
    path: Result<Path<(String, String)>, PathRejection>,
    request: Request,
) -> Response {
    let found = path.ok().and_then(|Path((driver, tenant))| public.find(&driver, &tenant));
    let Some((driver, tenant)) = found else {
        public.count("none", CallbackResult::Unknown);
        return frame::not_found();
    };
    let (head, body) = request.into_parts();
    let received = match public.receive(&*driver, body).await {
        Ok(received) => received,
        Err(response) => return response,
    };
    // Not before: whoever sends a body slowly, signed by nobody, would hold the room of the others meanwhile.
    let Ok(_room) = public.callbacks.try_acquire() else {
        public.count("any", CallbackResult::Shed);
        return frame::later();
    };
    match public.verify(driver, tenant, &head, received).await {
        Ok(verified) => public.act(&head, verified).await,
        Err(response) => response,
    }
}

impl Public {
    fn count(&self, driver: &str, result: CallbackResult) {
        self.parts.metrics.callback(driver, result);
    }

    /// The driver, where it takes callbacks, and the tenant.
    fn find(&self, driver: &str, tenant: &str) -> Option<(Arc<dyn Driver>, TenantId)> {
        let driver = self.parts.drivers.get(driver).filter(|driver| driver.callbacks().is_some())?;
        let tenant = TenantId::parse(tenant).ok().filter(|tenant| (self.parts.knows_tenant)(tenant))?;
        Some((Arc::clone(driver), tenant))
    }

    async fn receive(&self, driver: &dyn Driver, body: Body) -> Result<Received<'_>, Response> {
        let limit = driver.callbacks().map_or(0, |callbacks| callbacks.body_bytes_max());
        body::receive(self, body, limit).await.map_err(|status| {
            self.count(driver.name(), CallbackResult::Refused);
            frame::turned_away(status)
        })
    }

    async fn verify(
        &self,
        driver: Arc<dyn Driver>,
        tenant: TenantId,
        head: &request::Parts,
        received: Received<'_>,
    ) -> Result<Verified, Response> {
        let as_it_came = head.uri.path_and_query().map_or("/", |path| path.as_str());
        let call = Call {
            method: head.method.to_string(),
            url: format!("{}{as_it_came}", self.parts.tracker.public_url()),
            query: head.uri.query().unwrap_or_default().to_owned(),
            headers: texts(&head.headers),
            now: self.parts.clock.now(),
        };
        let answer = if received.bytes.len() <= INLINE_BYTES {
            call.read(&*driver, &received.bytes)
        } else {
            let (reader, bytes) = (Arc::clone(&driver), received.bytes);
            let reading = tokio::task::spawn_blocking(move || call.read(&*reader, &bytes));
            reading.await.map_err(|_| frame::turned_away(StatusCode::INTERNAL_SERVER_ERROR))?
        };
        match answer {
            Ok(answer) => Ok(Verified { driver, tenant, answer }),
            Err(CallbackRefused::NotVerified) => {
                tracing::warn!(driver = driver.name(), %tenant, "a callback is not signed as it should be");
                self.count(driver.name(), CallbackResult::NotVerified);
                Err(frame::turned_away(StatusCode::FORBIDDEN))
            }
            Err(CallbackRefused::Unreadable(why)) => {
                tracing::warn!(driver = driver.name(), %tenant, why, "a signed callback cannot be read");
                self.count(driver.name(), CallbackResult::Unreadable);
                Err(frame::turned_away(StatusCode::BAD_REQUEST))
            }
        }
    }

    async fn act(&self, head: &request::Parts, verified: Verified) -> Response {
        let Verified { driver, tenant, answer } = verified;
        let events = match answer {
            CallbackAnswer::Events(events) => events,
            CallbackAnswer::Challenge(digits) => return self.challenge(driver.name(), digits),
        };
        let attempt = match self.attempt(head, &tenant) {
            Ok(attempt) => attempt,
            Err(()) => {
                tracing::warn!(driver = driver.name(), %tenant, "a callback names an attempt that is not the tenant's");
                self.count(driver.name(), CallbackResult::NotVerified);
                return frame::turned_away(StatusCode::FORBIDDEN);
            }
        };
        self.hand_on(&*driver, &tenant, attempt, events).await
    }

    /// The attempt that our token in the address names, where there is a token; it must be this tenant's.
    fn attempt(&self, head: &request::Parts, tenant: &TenantId) -> Result<Option<AttemptId>, ()> {
        let mut tokens = head.uri.query().unwrap_or_default().split('&').filter_map(|p| p.strip_prefix("a="));
        match (tokens.next(), tokens.next()) {
            (None, _) => Ok(None),
            (Some(token), None) => self.parts.tracker.read_attempt(token, tenant).map(Some).ok_or(()),
            (Some(_), Some(_)) => Err(()),
        }
    }

    async fn hand_on(
        &self,
        driver: &dyn Driver,
        tenant: &TenantId,
        attempt: Option<AttemptId>,
        events: Vec<ProviderEvent>,
    ) -> Response {
        let name = driver.name();
        if !events.is_empty()
            && let Err(error) = self.parts.receiver.provider_events(driver, tenant, attempt, events).await
        {
            tracing::error!(driver = name, %tenant, %error, "a callback is not kept: its provider has to repeat it");
            self.count(name, CallbackResult::Unavailable);
            return frame::later();
        }
        failpoint::hit("receipt.pre_200");
        self.count(name, CallbackResult::Taken);
        StatusCode::OK.into_response()
    }

    fn challenge(&self, driver: &str, digits: String) -> Response {
        let plain =
            (1..=CHALLENGE_DIGITS_MAX).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        if !plain {
            self.count(driver, CallbackResult::NotVerified);
            return frame::turned_away(StatusCode::FORBIDDEN);
        }
        self.count(driver, CallbackResult::Challenge);
        let mut response = digits.into_response();
        response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain"));
        response
    }
}

/// A request without its body, owned, so that it may be read on another thread.
struct Call {
    method: String,
    url: String,
    query: String,
    headers: Vec<(String, String)>,
    now: chrono::DateTime<chrono::Utc>,
}

impl Call {
    fn read(&self, driver: &dyn Driver, body: &[u8]) -> Result<CallbackAnswer, CallbackRefused> {
        let callbacks = driver.callbacks().ok_or(CallbackRefused::NotVerified)?;
        callbacks.read(&CallbackRequest {
            method: &self.method,
            url: &self.url,
            query: &self.query,
            headers: &self.headers,
            body,
            now: self.now,
        })
    }
}

fn texts(headers: &HeaderMap) -> Vec<(String, String)> {
    let text = |value: &HeaderValue| value.to_str().ok().map(str::to_owned);
    headers.iter().filter_map(|(name, value)| Some((name.as_str().to_owned(), text(value)?))).collect()
}
