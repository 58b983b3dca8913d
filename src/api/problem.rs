//! What went wrong, as RFC 9457 problem+json: one table of kinds, and one table from our errors to them.
//!
//! Every 4xx and 5xx of every listener is one of these. A problem says what was found and what to do; it never
//! shows internals, another tenant's data, or an address.

use axum::{
    http::{HeaderValue, StatusCode, header},
    response::{IntoResponse, Response},
};
use serde::Serialize;

use super::health::Check;
use crate::{
    bundles::status::PoliciesStatus,
    decide::explanation::Explanation,
    domain::{channel::Channel, decision::Decision, ids::TenantId},
    orchestrator::SubmitError,
    request::{Fault, RequestError},
    store::StoreError,
};

/// The media type of every problem.
pub const MEDIA_TYPE: &str = "application/problem+json";

/// Seconds after which a refusal for want of capacity or database may be tried again.
const RETRY_AFTER_SECONDS: u32 = 2;

macro_rules! kinds {
    ($($(#[$doc:meta])* $variant:ident = $name:literal, $status:ident, $title:literal;)+) => {
        /// The kinds of problem. Names and statuses are part of the interface and never change.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Kind { $($(#[$doc])* $variant),+ }

        impl Kind {
            pub const ALL: &'static [Kind] = &[$(Kind::$variant),+];
            /// The last part of the problem's `type`.
            pub const fn name(self) -> &'static str {
                match self { $(Kind::$variant => $name),+ }
            }
            pub const fn status(self) -> StatusCode {
                match self { $(Kind::$variant => StatusCode::$status),+ }
            }
            pub const fn title(self) -> &'static str {
                match self { $(Kind::$variant => $title),+ }
            }
        }
    };
}

kinds! {
    BadSyntax = "bad-syntax", BAD_REQUEST, "The body is not JSON";
    BadRequest = "bad-request", BAD_REQUEST, "The request cannot be read";
    InvalidRequest = "invalid-request", UNPROCESSABLE_ENTITY, "The request has faults";
    Unauthorized = "unauthorized", UNAUTHORIZED, "A valid key is needed";
    Forbidden = "forbidden", FORBIDDEN, "Not allowed";
    NotFound = "not-found", NOT_FOUND, "There is no such thing";
    MethodNotAllowed = "method-not-allowed", METHOD_NOT_ALLOWED, "The route does not take this method";
    Timeout = "request-timeout", REQUEST_TIMEOUT, "The request came too slowly";
    TooLate = "too-late", CONFLICT, "The message cannot be cancelled any more";
    NotNow = "not-now", CONFLICT, "The message does not stand where this can be done";
    TooLarge = "body-too-large", PAYLOAD_TOO_LARGE, "The body is too large";
    MediaType = "media-type", UNSUPPORTED_MEDIA_TYPE, "The body is of another type";
    NoChannel = "no-channel", UNPROCESSABLE_ENTITY, "No channel may be used";
    KeyReused = "idempotency-key-reused", UNPROCESSABLE_ENTITY, "The Idempotency-Key belongs to another request";
    TenantStillThere = "tenant-still-there", CONFLICT, "The tenant's file is still there";
    VersionUnusable = "version-unusable", CONFLICT, "What is kept of the policy cannot be used";
    PoliciesRejected = "policies-rejected", UNPROCESSABLE_ENTITY, "The policy files have faults";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong in the daemon";
    /// Nothing was done.
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "The daemon cannot take this now";
    /// It may or may not have been done.
    OutcomeUnknown = "outcome-unknown", SERVICE_UNAVAILABLE, "Whether this was done is unknown";
}

/// One problem, on its way out. `instance` is filled in where the answer leaves (`frame`).
#[derive(Clone, Debug)]
pub struct Problem(Box<ProblemBody>);

/// A problem's JSON.
#[derive(Clone, Debug, Serialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
#[schema(as = Problem)]
pub struct ProblemBody {
    /// `/problems/` and the kind's name; stable.
    #[serde(rename = "type")]
    #[schema(example = "/problems/invalid-request")]
    pub kind: String,
    #[schema(example = "The request has faults")]
    pub title: String,
    /// The HTTP status again.
    #[schema(example = 422)]
    pub status: u16,
    /// What was found, and what to do about it.
    pub detail: String,
    /// The path that was asked for.
    pub instance: String,
    /// Every fault, each with its place: a JSON pointer into the body, `?name` for a query parameter.
    pub errors: Vec<Fault>,
    /// `no-channel` only: why each channel is out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub channels: Option<Vec<ExcludedChannel>>,
    /// The message that was kept, or that the key belongs to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// `policies-rejected` only: the state of every tenant's files.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policies: Option<Box<PoliciesStatus>>,
    /// `/v1/decisions:batch` only: the line that it is about, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<u64>,
    /// `no-channel` on decisions, where an explanation was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Box<Explanation>>,
    /// `/readyz` only: what was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub checks: Option<Vec<Check>>,
    #[serde(skip)]
    headers: Vec<(header::HeaderName, HeaderValue)>,
}

/// Why one channel may not be used.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, utoipa::ToSchema)]
pub struct ExcludedChannel {
    pub channel: Channel,
    /// The reasons of its gates and vetoes, joined by "; ".
    pub reason: String,
}

impl Problem {
    pub fn new(kind: Kind, detail: impl Into<String>) -> Self {
        let problem = Self(Box::new(ProblemBody {
            kind: format!("/problems/{}", kind.name()),
            title: kind.title().to_owned(),
            status: kind.status().as_u16(),
            detail: detail.into(),
            instance: String::new(),
            errors: Vec::new(),
            channels: None,
            message_id: None,
            policies: None,
            line: None,
            explanation: None,
            checks: None,
            headers: Vec::new(),
        }));
        if matches!(kind, Kind::Unavailable | Kind::OutcomeUnknown) {
            return problem.header(header::RETRY_AFTER, RETRY_AFTER_SECONDS.into());
        }
        problem
    }

    /// The same with more said.
    pub fn with(mut self, say: impl FnOnce(&mut ProblemBody)) -> Self {
        say(&mut self.0);
        self
    }

    pub fn body(&self) -> &ProblemBody {
        &self.0
    }

    /// The same words for what does not exist and for what belongs to another tenant.
    pub fn not_found(what: &str) -> Self {
        Self::new(Kind::NotFound, format!("no {what}"))
    }

    pub fn unknown_tenant(tenant: &TenantId) -> Self {
        SubmitError::UnknownTenant(tenant.clone()).into()
    }

    pub fn internal() -> Self {
        let detail = "the fault is in the daemon and its log says more; the request may be repeated with the \
                      same Idempotency-Key";
        Self::new(Kind::Internal, detail)
    }

    pub fn faults(errors: Vec<Fault>) -> Self {
        let detail = match errors.as_slice() {
            [one] => format!("{}: {}", shown(&one.pointer), one.detail),
            many => format!("{} faults in the request; each is named in `errors`", many.len()),
        };
        Self::new(Kind::InvalidRequest, detail).with(|p| p.errors = errors)
    }

    pub fn fault(pointer: &str, detail: impl Into<String>, hint: Option<String>) -> Self {
        Self::faults(vec![Fault { pointer: pointer.to_owned(), detail: detail.into(), hint }])
    }

    /// Each channel with the gates that keep it out.
    pub fn no_channel(decision: &Decision) -> Self {
        let channels: Vec<ExcludedChannel> = decision
            .channels
            .iter()
            .map(|c| {
                let reasons: Vec<&str> = c.gates.iter().map(|g| g.reason.as_str()).collect();
                ExcludedChannel { channel: c.channel, reason: reasons.join("; ") }
            })
            .collect();
        let detail = "every channel is out; `channels` says why each of them is";
        Self::new(Kind::NoChannel, detail).with(|p| p.channels = Some(channels))
    }

    pub fn header(mut self, name: header::HeaderName, value: HeaderValue) -> Self {
        self.0.headers.push((name, value));
        self
    }

    /// The finished answer.
    pub fn render(self, instance: &str) -> Response {
        let mut body = self.0;
        instance.clone_into(&mut body.instance);
        let text = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (body.status_code(), text).into_response();
        let out = response.headers_mut();
        out.insert(header::CONTENT_TYPE, HeaderValue::from_static(MEDIA_TYPE));
        out.extend(body.headers);
        response
    }
}

impl ProblemBody {
    fn status_code(&self) -> StatusCode {
        StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
    }
}

fn shown(pointer: &str) -> &str {
    if pointer.is_empty() { "the body" } else { pointer }
}

/// The problem travels in the extensions: `frame` knows the path and writes the body.
impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.0.status_code().into_response();
        response.extensions_mut().insert(self);
        response
    }
}

impl From<RequestError> for Problem {
    fn from(error: RequestError) -> Self {
        match error {
            RequestError::Syntax(words) => Self::new(Kind::BadSyntax, words),
            RequestError::Faults(faults) => Self::faults(faults),
        }
    }
}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        match error {
            StoreError::Unavailable(_) => {
                tracing::error!(%error, "the database is unavailable");
                Self::new(Kind::Unavailable, "the database cannot take this now; nothing was done: try again")
            }
            StoreError::OutcomeUnknown(_) => {
                tracing::error!(%error, "the outcome of a commit is unknown");
                let detail = "the database may or may not have kept this: repeat it with the same \
                              Idempotency-Key, which makes that safe";
                Self::new(Kind::OutcomeUnknown, detail)
            }
            StoreError::LeaseLost(_) | StoreError::Corrupt(_) | StoreError::Unusable(_) => {
                tracing::error!(%error, "the store failed");
                Self::internal()
            }
        }
    }
}

impl From<SubmitError> for Problem {
    fn from(error: SubmitError) -> Self {
        match error {
            SubmitError::UnknownTenant(_) => Self::new(Kind::NotFound, error.to_string()),
            SubmitError::UnknownVariant { ref known, .. } => {
                let hint = format!("one of {}, or leave it out", known.join(", "));
                Self::fault("/variant", error.to_string(), Some(hint))
            }
            SubmitError::Content(faults) => Self::faults(faults),
            SubmitError::NoChannel { record, replayed } => {
                let id = record.id.to_string();
                let mut problem = Self::no_channel(&record.decision).with(|p| p.message_id = Some(id));
                if replayed {
                    let name = header::HeaderName::from_static("idempotency-replayed");
                    problem = problem.header(name, HeaderValue::from_static("true"));
                }
                problem
            }
            SubmitError::KeyReused(id) => {
                let detail = format!("{error}, whose body was another: use a new key for a new message");
                Self::new(Kind::KeyReused, detail).with(|p| p.message_id = Some(id.to_string()))
            }
            SubmitError::Store(error) => error.into(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_an_error_status() {
        for (at, kind) in Kind::ALL.iter().enumerate() {
            assert!(kind.status().is_client_error() || kind.status().is_server_error(), "{kind:?}");
            assert!(Kind::ALL[..at].iter().all(|other| other.name() != kind.name()), "{kind:?}");
        }
    }

    #[test]
    fn a_refusal_for_want_of_the_database_says_when_to_try_again_and_not_why() {
        let problem = Problem::from(StoreError::Unavailable("postgres://user:secret@host".into()));
        let response = problem.clone().render("/v1/messages");
        assert_eq!(response.status(), StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(response.headers()[header::RETRY_AFTER], "2");
        assert!(!serde_json::to_string(problem.body()).unwrap().contains("secret"));
    }
}
