//! `/v1/messages`: send, look, list, cancel.
//!
//! A message of another tenant is answered like one that does not exist, byte for byte.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, Request, State},
    http::{HeaderMap, HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};

use super::{
    Api,
    answers::{MessageAnswer, MessageDetail, MessageList, MessageSummary},
    auth::Caller,
    body,
    problem::{Kind, Problem, ProblemBody},
};
use crate::{
    domain::{
        delivery::{MessageRecord, Status},
        ids::{IdempotencyKey, MessageId, RecipientId, TenantId},
    },
    failpoint,
    orchestrator::SubmitError,
    request::{Fault, Purpose, wire},
    store::{Cancelled, Search},
};

/// How long an answer waits for an outcome where the caller says nothing.
const WAIT_DEFAULT: Duration = Duration::from_secs(5);
const WAIT_SECONDS_MAX: u64 = 30;
const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;

/// Send a message: decide, keep, and wait a while for the outcome.
#[utoipa::path(
    post, path = "/v1/messages", tag = "messages",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe for 7 days: 1 to 255 visible ASCII characters"),
        ("Prefer" = Option<String>, Header, description = "`wait=N` (0 to 30 seconds, 5 unless said otherwise) or `respond-async`"),
    ),
    request_body(content = wire::Request, description = "Who and what; `at` and `explain` are for decisions"),
    responses(
        (status = 200, description = "The outcome: handed to a provider, or refused by all", body = MessageAnswer),
        (status = 202, description = "Kept, and its outcome still to come: held, queued, sending, retrying", body = MessageAnswer),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "More than 16 MiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Faults in the request, no channel left (kept as skipped), or a key used before for another body", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Nothing was done, or it is unknown: repeat with the same key", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn send(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let key = idempotency_key(request.headers())?;
    let prefer = Prefer::read(request.headers());
    let received = body::receive(&api, request, Purpose::Message).await?;
    failpoint::hit("accept.parsed");
    let tenant = received.asked.request.tenant.clone();
    if !caller.may_see(&tenant) {
        return Err(Problem::unknown_tenant(&tenant));
    }
    let submitted =
        api.orchestrator.submit_until(received.asked, key, prefer.wait(), &api.closing).await.inspect_err(
            |error| {
                if let SubmitError::NoChannel { record, replayed: false } = error {
                    api.note_accepted(record);
                }
            },
        )?;
    if !submitted.replayed {
        api.note_accepted(&submitted.record);
    }
    let answer = MessageAnswer::new(&submitted.record);
    let location = format!("/v1/messages/{}", answer.message_id);
    let mut response = (answer.status_code(), Json(answer)).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&location) {
        headers.insert(header::LOCATION, location);
    }
    if submitted.replayed {
        headers.insert(HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
    }
    failpoint::hit("accept.pre_reply");
    if let Some(applied) = prefer.applied().and_then(|words| HeaderValue::from_str(&words).ok()) {
        headers.insert(HeaderName::from_static("preference-applied"), applied);
    }
    Ok(response)
}

impl Api {
    /// Counts a message that was kept now, under the status that it was kept with.
    fn note_accepted(&self, record: &MessageRecord) {
        self.metrics.decided(&record.decision, None);
        let held =
            record.plan.as_ref().is_some_and(|p| p.not_before.is_some_and(|at| at > record.accepted_at));
        let first = match (&record.plan, held) {
            (None, _) => record.status,
            (Some(_), true) => Status::Held,
            (Some(_), false) => Status::Queued,
        };
        self.metrics.accepted(&record.request.tenant, first);
    }
}

/// One message: where it stands, its attempts, its timeline and why it went where it went.
#[utoipa::path(
    get, path = "/v1/messages/{id}", tag = "messages", operation_id = "showMessage",
    params(("id" = String, Path, description = "`msg_` and 32 hex digits")),
    responses(
        (status = 200, description = "The message", body = MessageDetail),
        (status = 404, description = "No such message", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<MessageDetail>, Problem> {
    let record = find(&api, &caller, &id).await?;
    Ok(Json(MessageDetail::new(&record)))
}

/// Messages, newest first.
#[utoipa::path(
    get, path = "/v1/messages", tag = "messages", operation_id = "listMessages",
    params(
        ("tenant" = Option<String>, Query, description = "One tenant's only; with a key, its own"),
        ("recipient" = Option<String>, Query, description = "One prospectId's only"),
        ("status" = Option<Status>, Query, description = "Those that have this status now"),
        ("cursor" = Option<String>, Query, description = "The `next` of the answer before"),
        ("limit" = Option<u32>, Query, description = "1 to 200; 50 unless said otherwise"),
    ),
    responses(
        (status = 200, description = "At most `limit` messages", body = MessageList),
        (status = 404, description = "Not your tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<MessageList>, Problem> {
    let mut search = read_search(&query)?;
    match (caller.only(), &search.tenant) {
        (Some(own), Some(asked)) if own != asked => return Err(Problem::unknown_tenant(asked)),
        (Some(own), None) => search.tenant = Some(own.clone()),
        _ => {}
    }
    let limit = search.limit as usize;
    let records = api.orchestrator.store.search(&search).await?;
    let next = records.last().filter(|_| records.len() == limit).map(|last| last.id.to_string());
    Ok(Json(MessageList { messages: records.iter().map(MessageSummary::new).collect(), next }))
}

/// Cancel a message that is not in flight.
#[utoipa::path(
    post, path = "/v1/messages/{id}/cancel", tag = "messages",
    params(("id" = String, Path, description = "`msg_` and 32 hex digits")),
    responses(
        (status = 200, description = "Cancelled; it will not be sent", body = MessageAnswer),
        (status = 404, description = "No such message", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Too late: in flight, or at an end", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<MessageAnswer>, Problem> {
    let record = find(&api, &caller, &id).await?;
    let (tenant, store) = (&record.request.tenant, &api.orchestrator.store);
    match store.cancel(tenant, record.id, api.orchestrator.clock.now()).await? {
        None => Err(unknown_message(&id)),
        Some(Cancelled::TooLate(status)) => {
            let detail =
                format!("the message is {status}: only what is not in flight and not at its end can be");
            Err(Problem::new(Kind::TooLate, detail).with(|p| p.message_id = Some(record.id.to_string())))
        }
        Some(Cancelled::Done) => {
            api.orchestrator.bell.ring_outcome(record.id);
            let record = store.message(tenant, record.id).await?.ok_or_else(|| unknown_message(&id))?;
            Ok(Json(MessageAnswer::new(&record)))
        }
    }
}

pub(super) async fn find(api: &Api, caller: &Caller, id: &str) -> Result<MessageRecord, Problem> {
    let unknown = || unknown_message(id);
    let parsed = MessageId::parse(id).map_err(|_| unknown())?;
    let store = &api.orchestrator.store;
    let found = match caller.only() {
        Some(tenant) => store.message(tenant, parsed).await?,
        None => store.message_of_any_tenant(parsed).await?,
    };
    found.ok_or_else(unknown)
}

pub(super) fn unknown_message(id: &str) -> Problem {
    let shown: String = id.chars().take(80).collect();
    Problem::not_found(&format!("message {shown:?}"))
}

pub fn idempotency_key(headers: &HeaderMap) -> Result<Option<IdempotencyKey>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    if values.next().is_some() {
        return Err(Problem::new(Kind::BadRequest, "one Idempotency-Key at most"));
    }
    let parsed = IdempotencyKey::parse(value.to_str().unwrap_or_default());
    parsed.map(Some).map_err(|wrong| Problem::new(Kind::BadRequest, wrong.to_string()))
}

/// What the caller prefers (RFC 7240). What cannot be read is ignored, as that RFC wants it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Prefer {
    Nothing,
    Wait(u64),
    RespondAsync,
}

impl Prefer {
    pub fn read(headers: &HeaderMap) -> Self {
        let all = headers.get_all("prefer").iter().filter_map(|v| v.to_str().ok());
        let mut found = Prefer::Nothing;
        for preference in all.flat_map(|line| line.split(',')) {
            let named = preference.split(';').next().unwrap_or_default().trim().to_ascii_lowercase();
            if named == "respond-async" {
                return Prefer::RespondAsync;
            }
            let seconds = named
                .split_once('=')
                .filter(|(name, _)| name.trim() == "wait")
                .and_then(|(_, value)| value.trim().trim_matches('"').parse::<u64>().ok());
            if let (Some(seconds), Prefer::Nothing) = (seconds, found) {
                found = Prefer::Wait(seconds.min(WAIT_SECONDS_MAX));
            }
        }
        found
    }

    pub fn wait(self) -> Duration {
        match self {
            Prefer::Nothing => WAIT_DEFAULT,
            Prefer::Wait(seconds) => Duration::from_secs(seconds),
            Prefer::RespondAsync => Duration::ZERO,
        }
    }

    pub fn applied(self) -> Option<String> {
        match self {
            Prefer::Nothing => None,
            Prefer::Wait(seconds) => Some(format!("wait={seconds}")),
            Prefer::RespondAsync => Some("respond-async".to_owned()),
        }
    }
}

/// Reads a search, or names everything that is wrong with it.
fn read_search(query: &[(String, String)]) -> Result<Search, Problem> {
    let mut search = Search { limit: LIMIT_DEFAULT, ..Search::default() };
    let mut faults = Vec::new();
    for (name, value) in query {
        let taken = match name.as_str() {
            "tenant" => TenantId::parse(value).map(|t| search.tenant = Some(t)).map_err(|e| e.to_string()),
            "recipient" => RecipientId::parse(value)
                .map(|r| search.recipient = Some(r.to_string()))
                .map_err(|e| e.to_string()),
            "status" => Status::parse(value).map(|s| search.status = Some(s)).ok_or_else(|| {
                let words: Vec<&str> = Status::ALL.iter().map(|s| s.as_str()).collect();
                format!("expected one of {}", words.join(", "))
            }),
            "cursor" => MessageId::parse(value)
                .map(|id| search.before = Some(id))
                .map_err(|_| "expected the `next` of an earlier answer".to_owned()),
            "limit" => match value.parse() {
                Ok(limit) if (1..=LIMIT_MAX).contains(&limit) => {
                    search.limit = limit;
                    Ok(())
                }
                _ => Err(format!("expected a whole number, 1 to {LIMIT_MAX}")),
            },
            _ => Err("unknown parameter; expected tenant, recipient, status, cursor or limit".to_owned()),
        };
        if let Err(detail) = taken {
            let name: String = name.chars().take(80).collect();
            faults.push(Fault { pointer: format!("?{name}"), detail, hint: None });
        }
    }
    if faults.is_empty() { Ok(search) } else { Err(Problem::faults(faults)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preferences_are_read_as_rfc_7240_has_them() {
        for (value, expected) in [
            ("wait=3", Prefer::Wait(3)),
            ("wait = \"3\" ; foo=1", Prefer::Wait(3)),
            ("wait=100", Prefer::Wait(30)),
            ("respond-async, wait=10", Prefer::RespondAsync),
            ("wait=10, respond-async", Prefer::RespondAsync),
            ("handling=lenient, Wait=0", Prefer::Wait(0)),
            ("wait=1, wait=2", Prefer::Wait(1)),
            ("wait=soon", Prefer::Nothing),
            ("", Prefer::Nothing),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert("prefer", HeaderValue::from_static(value));
            assert_eq!(Prefer::read(&headers), expected, "{value}");
        }
    }

    #[test]
    fn every_fault_of_a_search_is_named() {
        let query = [("limit", "0"), ("status", "gone"), ("colour", "red"), ("cursor", "x"), ("tenant", "T")];
        let query: Vec<(String, String)> = query.map(|(a, b)| (a.to_owned(), b.to_owned())).into();
        let problem = read_search(&query).unwrap_err();
        let pointers: Vec<&str> = problem.body().errors.iter().map(|f| f.pointer.as_str()).collect();
        assert_eq!(pointers, ["?limit", "?status", "?colour", "?cursor", "?tenant"]);
    }
}
