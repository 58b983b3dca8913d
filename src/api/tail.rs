//! `GET /v1/tail`: decisions and outcomes as they happen, a line of JSON each, until the reader leaves or the daemon stops.
//!
//! Ids, channels, states, codes and money; no address, no name, no text. It is of this daemon alone and since the
//! beginning of the request. A reader that does not keep up is told how many changes it missed; nobody waits for it.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use axum::{
    body::{Body, Bytes},
    extract::{Query, State},
    http::{HeaderValue, header},
    response::Response,
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::{broadcast::error::RecvError, mpsc};
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    problem::{Kind, Problem, ProblemBody},
};
use crate::{
    domain::{
        delivery::MessageRecord,
        ids::{MessageId, TenantId},
    },
    store::StoreError,
};

/// Readers at once: each costs a look at the message for every change.
const READERS_MAX: usize = 8;
/// Lines that may wait for a slow reader.
const LINES_MAX: usize = 256;
/// Messages of which it is remembered how far they were told.
const REMEMBERED_MAX: usize = 10_000;

/// Something that happened to a message.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct TailLine {
    pub at: DateTime<Utc>,
    /// As on the message's timeline: `accepted`, `held`, `sent`, `fallback`, `failed` and so on.
    #[schema(example = "sent")]
    pub event: String,
    pub message_id: String,
    pub tenant_id: String,
    /// The message's own, now.
    pub status: String,
    /// The one that was chosen, or that was tried last.
    pub channel: Option<String>,
    /// How sure the decision was, 0 to 0.95.
    pub confidence: f64,
    pub strategy: Option<String>,
    /// The driver, the state and the code of the last attempt.
    pub driver: Option<String>,
    pub attempt: Option<String>,
    pub code: Option<String>,
    /// Euros, all attempts together.
    pub cost: f64,
}

/// Changes that a slow reader missed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Missed {
    missed: u64,
}

/// What happens, as it happens.
#[utoipa::path(
    get, path = "/v1/tail", tag = "operations", operation_id = "tail",
    params(("tenant" = Option<String>, Query, description = "One tenant's only; with a key it is always its own")),
    responses(
        (status = 200, description = "A line of JSON for each change, without end; `{\"missed\": N}` where the reader was too slow", body = TailLine, content_type = "application/x-ndjson"),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter has a fault", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Too many readers", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn tail(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Response, Problem> {
    let mut only = caller.only().cloned();
    for (name, value) in &query {
        if name != "tenant" {
            let name: String = name.chars().take(80).collect();
            return Err(Problem::fault(&format!("?{name}"), "unknown parameter; expected tenant", None));
        }
        only = Some(super::policies::tenant_of(&caller, value)?);
    }
    let Some(changes) = api.orchestrator.bell.watch(READERS_MAX) else {
        return Err(Problem::new(Kind::Unavailable, format!("{READERS_MAX} readers are the most at once")));
    };
    let (lines, body) = mpsc::channel(LINES_MAX);
    let since = api.orchestrator.clock.now();
    tokio::spawn(Telling { api, only, since, told: HashMap::new(), lines }.run(changes));
    let mut response = Response::new(Body::new(Lines(body)));
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson; charset=utf-8"));
    Ok(response)
}

/// Lines on their way to one reader.
struct Lines(mpsc::Receiver<Bytes>);

impl hyper::body::Body for Lines {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        self.0.poll_recv(cx).map(|line| line.map(|line| Ok(hyper::body::Frame::data(line))))
    }
}

/// Looks at what changed, for one reader.
struct Telling {
    api: Arc<Api>,
    only: Option<TenantId>,
    since: DateTime<Utc>,
    /// How many events of a message's timeline were told.
    told: HashMap<MessageId, usize>,
    lines: mpsc::Sender<Bytes>,
}

impl Telling {
    async fn run(mut self, mut changes: tokio::sync::broadcast::Receiver<MessageId>) {
        loop {
            let next = tokio::select! {
                next = changes.recv() => next,
                () = self.api.closing.cancelled() => return,
                () = self.lines.closed() => return,
            };
            let lines = match next {
                Ok(id) => match self.look(id).await {
                    Ok(lines) => lines,
                    // The database is away: what is missed is seen on the message itself.
                    Err(_) => continue,
                },
                Err(RecvError::Lagged(missed)) => vec![line(&Missed { missed })],
                Err(RecvError::Closed) => return,
            };
            for line in lines {
                tokio::select! {
                    sent = self.lines.send(line) => if sent.is_err() { return },
                    () = self.api.closing.cancelled() => return,
                }
            }
        }
    }

    async fn look(&mut self, id: MessageId) -> Result<Vec<Bytes>, StoreError> {
        let store = &self.api.orchestrator.store;
        let found = match &self.only {
            Some(tenant) => store.message(tenant, id).await?,
            None => store.message_of_any_tenant(id).await?,
        };
        let Some(record) = found else { return Ok(Vec::new()) };
        let before = record.timeline.iter().take_while(|event| event.at < self.since).count();
        if self.told.len() >= REMEMBERED_MAX {
            self.told.clear();
        }
        let told = self.told.entry(id).or_insert(before);
        let new = record.timeline.get(*told..).unwrap_or_default();
        let lines = new.iter().map(|event| line(&told_of(&record, &event.event, event.at))).collect();
        *told = record.timeline.len();
        Ok(lines)
    }
}

fn told_of(record: &MessageRecord, event: &str, at: DateTime<Utc>) -> TailLine {
    let decision = &record.decision;
    let last = record.attempts.last();
    let chosen = decision.chosen.map(|channel| decision.channel(channel));
    let word = |value: Option<serde_json::Value>| value.and_then(|v| v.as_str().map(str::to_owned));
    TailLine {
        at,
        event: event.to_owned(),
        message_id: record.id.to_string(),
        tenant_id: record.request.tenant.to_string(),
        status: record.status.as_str().to_owned(),
        channel: last.map(|last| last.channel).or(decision.chosen).map(|channel| channel.to_string()),
        confidence: chosen.map_or(0.0, |chosen| chosen.confidence),
        strategy: decision.strategy.clone(),
        driver: last.map(|last| last.driver.clone()),
        attempt: word(last.and_then(|last| serde_json::to_value(last.status).ok())),
        code: last.and_then(|last| last.error.as_ref()).and_then(|error| error.code.clone()),
        cost: record
            .attempts
            .iter()
            .fold(crate::domain::money::MicroEuros::ZERO, |sum, a| sum + a.cost)
            .euros(),
    }
}

fn line(value: &impl Serialize) -> Bytes {
    let mut text = serde_json::to_vec(value).unwrap_or_default();
    text.push(b'\n');
    Bytes::from(text)
}
