//! `/v1/broadcasts`: one content to many people, each row a message like any other (spec.md section 11).
//!
//! A row that has faults refuses itself and nothing else. Rows go through the same way into the queue as single
//! messages; many are under way at once, so that one flush of the disk serves many of them. It holds the body
//! and a few rows at a time, never all messages.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use axum::{
    Json,
    extract::{Path, Query, Request, State},
    http::{HeaderName, HeaderValue, header},
    response::{IntoResponse, Response},
};
use chrono::{DateTime, Utc};
use serde::Serialize;
use tokio::task::JoinSet;
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    body,
    messages::{Prefer, idempotency_key},
    problem::{Kind, Problem, ProblemBody},
    rows::{BroadcastRequest, Row, RowAnswer, Rows},
};
use crate::{
    domain::{
        ids::{BroadcastId, MessageId, TenantId},
        money::MicroEuros,
    },
    orchestrator::RowOutcome,
    request::Fault,
    store::{Begun, BroadcastRecord, NewBroadcast, RowNote},
};

/// Rows under way at one moment, and the bytes that they may hold together.
const AT_ONCE: usize = 64;
const BYTES_AT_ONCE: usize = 64 << 20;
/// How often the store is asked whether everything is settled.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const LIMIT_DEFAULT: u32 = 100;
const LIMIT_MAX: u32 = 1000;

/// What became of a broadcast's rows.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BroadcastAnswer {
    /// Null for a dry run: nothing was kept.
    #[schema(example = "bc_0198c0de000070008000000000000000")]
    pub broadcast_id: Option<String>,
    pub tenant_id: String,
    pub dry_run: bool,
    pub rows: usize,
    pub summary: Summary,
    /// One for each context, in order.
    pub results: Vec<RowAnswer>,
}

#[derive(Clone, Debug, Default, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Summary {
    /// Rows that are messages, made now or by an earlier use of their key.
    pub accepted: usize,
    /// Rows that are none: each result says why.
    pub refused: usize,
    /// Rows whose message had been made before.
    pub repeated: usize,
    pub by_status: BTreeMap<String, usize>,
    /// By the channel that was chosen.
    pub by_channel: BTreeMap<String, usize>,
    /// Euros: estimated for a dry run, else committed so far.
    pub cost: f64,
}

impl Summary {
    fn of(results: &[RowAnswer]) -> Self {
        let mut summary = Summary::default();
        let mut cost = MicroEuros::ZERO;
        for result in results {
            match (&result.message_id, result.channel) {
                (Some(_), _) => summary.accepted += 1,
                // A dry run makes no messages.
                (None, Some(_)) => summary.accepted += 1,
                (None, None) => summary.refused += 1,
            }
            summary.repeated += usize::from(result.repeated);
            if let Some(status) = result.status {
                *summary.by_status.entry(status.to_string()).or_default() += 1;
            }
            if let Some(channel) = result.channel {
                *summary.by_channel.entry(channel.to_string()).or_default() += 1;
            }
            cost = cost + result.euros();
        }
        summary.cost = cost.euros();
        summary
    }
}

/// Send one content to up to 1,000 people.
#[utoipa::path(
    post, path = "/v1/broadcasts", tag = "broadcasts", operation_id = "sendBroadcast",
    params(
        ("Idempotency-Key" = Option<String>, Header, description = "Makes a repeat safe for 7 days; a row without an `idempotencyKey` of its own has KEY/index"),
        ("Prefer" = Option<String>, Header, description = "`wait=N` (0 to 30 seconds for all rows together, 5 unless said otherwise) or `respond-async`"),
    ),
    request_body(content = BroadcastRequest, description = "Whom, and what"),
    responses(
        (status = 200, description = "One result for each row, in order", body = BroadcastAnswer),
        (status = 400, description = "Not JSON", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 413, description = "More than 16 MiB", body = ProblemBody, content_type = "application/problem+json"),
        (status = 415, description = "Not `application/json`", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "Faults in what all rows share, or a key used before for another body", body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "Some rows may have been kept: repeat with the same key", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn send(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let key = idempotency_key(request.headers())?;
    let prefer = Prefer::read(request.headers());
    let (value, _held) = body::receive_value(&api, request).await?;
    let (rows, body_hash) = Rows::read(value, key.as_ref())?;
    if !caller.may_see(&rows.tenant) || api.orchestrator.policies.current().tenant(&rows.tenant).is_none() {
        return Err(Problem::unknown_tenant(&rows.tenant));
    }
    let until = tokio::time::Instant::now() + prefer.wait();
    if rows.dry_run {
        let rows = Arc::new(rows);
        let results = preview_all(&api, Arc::clone(&rows)).await?;
        return Ok(Json(answer(None, &rows.tenant, results)).into_response());
    }
    let new = NewBroadcast {
        id: BroadcastId::new(),
        tenant: rows.tenant.clone(),
        key: rows.key.clone(),
        body_hash,
        rows: u32::try_from(rows.len()).unwrap_or(u32::MAX),
        created_at: api.orchestrator.clock.now(),
    };
    let (fresh, store, tenant) = (new.id, &api.orchestrator.store, rows.tenant.clone());
    let (id, replayed) = match store.begin_broadcast(new).await? {
        Begun::New => (fresh, false),
        Begun::Again(id) => (id, true),
        Begun::KeyReused(id) => {
            let detail =
                format!("the Idempotency-Key belongs to another broadcast, {id}, whose body was another");
            return Err(Problem::new(Kind::KeyReused, detail));
        }
    };
    // A repeat of what was looked at whole is answered from what is kept.
    let complete = replayed && store.broadcast(id).await?.is_some_and(|b| b.accepted_at.is_some());
    if !complete {
        submit_all(&api, id, rows).await?;
    }
    settle(&api, id, until).await?;
    let kept = store.broadcast_rows(id, None, LIMIT_MAX).await?;
    let results = kept.iter().map(RowAnswer::new).collect();
    let mut response = Json(answer(Some(id), &tenant, results)).into_response();
    let headers = response.headers_mut();
    if let Ok(location) = HeaderValue::from_str(&format!("/v1/broadcasts/{id}")) {
        headers.insert(header::LOCATION, location);
    }
    if replayed {
        headers.insert(HeaderName::from_static("idempotency-replayed"), HeaderValue::from_static("true"));
    }
    if let Some(applied) = prefer.applied().and_then(|words| HeaderValue::from_str(&words).ok()) {
        headers.insert(HeaderName::from_static("preference-applied"), applied);
    }
    Ok(response)
}

fn answer(id: Option<BroadcastId>, tenant: &TenantId, results: Vec<RowAnswer>) -> BroadcastAnswer {
    BroadcastAnswer {
        broadcast_id: id.map(|id| id.to_string()),
        tenant_id: tenant.to_string(),
        dry_run: id.is_none(),
        rows: results.len(),
        summary: Summary::of(&results),
        results,
    }
}

/// How many rows may be under way: fewer where each carries much.
fn at_once(rows: &Rows) -> usize {
    (BYTES_AT_ONCE / rows.content_bytes().max(1)).clamp(1, AT_ONCE)
}

/// Every row into the queue; what the messages will not say of themselves is kept beside them.
async fn submit_all(api: &Arc<Api>, id: BroadcastId, rows: Rows) -> Result<(), Problem> {
    let most = at_once(&rows);
    let rows = Arc::new(rows);
    let (mut under_way, mut notes, mut next) = (JoinSet::new(), Vec::new(), 0);
    let mut lost = None;
    loop {
        while under_way.len() < most && next < rows.len() && lost.is_none() {
            under_way.spawn(submit(Arc::clone(api), Arc::clone(&rows), next, id));
            next += 1;
        }
        match under_way.join_next().await {
            None => break,
            Some(Ok(Ok(note))) => notes.extend(note),
            Some(Ok(Err(problem))) => lost = Some(problem),
            Some(Err(_)) => lost = Some(Problem::internal()),
        }
    }
    // The database is away: what was kept stays kept, and the same key takes it up again.
    if let Some(problem) = lost {
        return Err(problem);
    }
    let o = &api.orchestrator;
    if o.store.finish_broadcast(id, notes, o.clock.now()).await? {
        cancel_all(api, id).await?;
    }
    Ok(())
}

/// One row. Only what keeps every row from being looked at is an error.
async fn submit(
    api: Arc<Api>,
    rows: Arc<Rows>,
    at: usize,
    id: BroadcastId,
) -> Result<Option<RowNote>, Problem> {
    let row = u32::try_from(at).unwrap_or(u32::MAX);
    let refused = |problem: &Problem, message: Option<MessageId>| {
        Ok(Some(RowNote { row, message, problem: Some(rows.in_json(problem, at)) }))
    };
    let Row { asked, key } = match rows.row(at) {
        Ok(row) => row,
        Err(faults) => return refused(&Problem::faults(faults), None),
    };
    let tenant = asked.request.tenant.clone();
    match api.orchestrator.submit_row(asked, key, (id, row)).await {
        Ok(RowOutcome::Kept { status, decision, .. }) => {
            api.metrics.decided(&decision, None);
            api.metrics.accepted(&tenant, status);
            let none = decision.chosen.is_none().then(|| Problem::no_channel(&decision));
            Ok(none.map(|problem| RowNote { row, message: None, problem: Some(rows.in_json(&problem, at)) }))
        }
        // Made by this broadcast before a crash, or by another: the store tells them apart.
        Ok(RowOutcome::Repeated(message)) => Ok(Some(RowNote { row, message: Some(message), problem: None })),
        Err(crate::orchestrator::SubmitError::Store(error)) => Err(error.into()),
        Err(error) => refused(&Problem::from(error), None),
    }
}

/// What each row would do, with what is known now; nothing is kept. Each is looked at by itself: money that an
/// earlier row would spend is not counted.
async fn preview_all(api: &Arc<Api>, rows: Arc<Rows>) -> Result<Vec<RowAnswer>, Problem> {
    let most = at_once(&rows);
    let (mut under_way, mut found, mut next) = (JoinSet::new(), BTreeMap::new(), 0);
    loop {
        while under_way.len() < most && next < rows.len() {
            let (api, rows, at) = (Arc::clone(api), Arc::clone(&rows), next);
            under_way.spawn(async move { (at, preview(&api, &rows, at).await) });
            next += 1;
        }
        match under_way.join_next().await {
            None => return Ok(found.into_values().collect()),
            Some(Ok((at, row))) => {
                found.insert(at, row?);
            }
            Some(Err(_)) => return Err(Problem::internal()),
        }
    }
}

async fn preview(api: &Api, rows: &Rows, at: usize) -> Result<RowAnswer, Problem> {
    let refused = |problem: &Problem| Ok(RowAnswer::refused(at, rows.in_json(problem, at)));
    let asked = match rows.row(at) {
        Ok(row) => row.asked,
        Err(faults) => return refused(&Problem::faults(faults)),
    };
    match api.orchestrator.preview(&asked).await {
        Ok(preview) if preview.decision.chosen.is_some() => Ok(RowAnswer::preview(at, &preview.decision)),
        Ok(preview) => refused(&Problem::no_channel(&preview.decision)),
        Err(crate::orchestrator::SubmitError::Store(error)) => Err(error.into()),
        Err(error) => refused(&Problem::from(error)),
    }
}

/// Waits until nothing is on its way any more, or the patience is over.
async fn settle(api: &Api, id: BroadcastId, until: tokio::time::Instant) -> Result<(), Problem> {
    while tokio::time::Instant::now() < until && !api.closing.is_cancelled() {
        if api.orchestrator.store.broadcast_unsettled(id).await? == 0 {
            break;
        }
        let look_at = until.min(tokio::time::Instant::now() + LOOK_EVERY);
        tokio::select! {
            () = tokio::time::sleep_until(look_at) => {}
            () = api.closing.cancelled() => {}
        }
    }
    Ok(())
}

/// A broadcast, and where its messages stand now.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BroadcastDetail {
    pub broadcast_id: String,
    pub tenant_id: String,
    pub rows: u32,
    /// Rows that made no message.
    pub refused: u32,
    /// Rows whose message had been made before.
    pub repeated: u32,
    pub created_at: DateTime<Utc>,
    /// When every row had been looked at; null after a crash, until it is sent again with the same key.
    pub accepted_at: Option<DateTime<Utc>>,
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Its own messages, by the status that they have now.
    pub by_status: BTreeMap<String, u64>,
}

impl BroadcastDetail {
    fn new(record: &BroadcastRecord) -> Self {
        Self {
            broadcast_id: record.id.to_string(),
            tenant_id: record.tenant.to_string(),
            rows: record.rows,
            refused: record.refused,
            repeated: record.repeated,
            created_at: record.created_at,
            accepted_at: record.accepted_at,
            cancelled_at: record.cancelled_at,
            by_status: record.by_status.iter().map(|(status, n)| (status.to_string(), *n)).collect(),
        }
    }
}

/// One broadcast, and where its messages stand.
#[utoipa::path(
    get, path = "/v1/broadcasts/{id}", tag = "broadcasts", operation_id = "showBroadcast",
    params(("id" = String, Path, description = "`bc_` and 32 hex digits")),
    responses(
        (status = 200, description = "The broadcast", body = BroadcastDetail),
        (status = 404, description = "No such broadcast", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BroadcastDetail>, Problem> {
    Ok(Json(BroadcastDetail::new(&find(&api, &caller, &id).await?)))
}

/// Rows of a broadcast, in order.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct RowList {
    pub results: Vec<RowAnswer>,
    /// Ask again with `cursor` set to this for what follows; null at the end.
    pub next: Option<String>,
}

/// A broadcast's rows as they stand now, in order.
#[utoipa::path(
    get, path = "/v1/broadcasts/{id}/results", tag = "broadcasts", operation_id = "listBroadcastResults",
    params(
        ("id" = String, Path, description = "`bc_` and 32 hex digits"),
        ("cursor" = Option<String>, Query, description = "The `next` of the answer before"),
        ("limit" = Option<u32>, Query, description = "1 to 1000; 100 unless said otherwise"),
    ),
    responses(
        (status = 200, description = "At most `limit` rows", body = RowList),
        (status = 404, description = "No such broadcast", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn results(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<RowList>, Problem> {
    let record = find(&api, &caller, &id).await?;
    let (mut after, mut limit, mut faults) = (None, LIMIT_DEFAULT, Vec::new());
    for (name, value) in &query {
        let detail = match (name.as_str(), value.parse::<u32>()) {
            ("cursor", Ok(row)) => {
                after = Some(row);
                continue;
            }
            ("limit", Ok(asked)) if (1..=LIMIT_MAX).contains(&asked) => {
                limit = asked;
                continue;
            }
            ("cursor", _) => "expected the `next` of an earlier answer".to_owned(),
            ("limit", _) => format!("expected a whole number, 1 to {LIMIT_MAX}"),
            _ => "unknown parameter; expected cursor or limit".to_owned(),
        };
        let name: String = name.chars().take(80).collect();
        faults.push(Fault { pointer: format!("?{name}"), detail, hint: None });
    }
    if !faults.is_empty() {
        return Err(Problem::faults(faults));
    }
    let found = api.orchestrator.store.broadcast_rows(record.id, after, limit).await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| last.row.to_string());
    Ok(Json(RowList { results: found.iter().map(RowAnswer::new).collect(), next }))
}

/// Cancel what of a broadcast is not in flight and not at its end.
#[utoipa::path(
    post, path = "/v1/broadcasts/{id}/cancel", tag = "broadcasts", operation_id = "cancelBroadcast",
    params(("id" = String, Path, description = "`bc_` and 32 hex digits")),
    responses(
        (status = 200, description = "Where its messages stand now", body = BroadcastDetail),
        (status = 404, description = "No such broadcast", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn cancel(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<BroadcastDetail>, Problem> {
    let record = find(&api, &caller, &id).await?;
    cancel_all(&api, record.id).await?;
    Ok(Json(BroadcastDetail::new(&find(&api, &caller, &id).await?)))
}

async fn cancel_all(api: &Api, id: BroadcastId) -> Result<(), Problem> {
    let o = &api.orchestrator;
    for message in o.store.cancel_broadcast(id, o.clock.now()).await? {
        o.bell.ring_outcome(message);
    }
    Ok(())
}

async fn find(api: &Api, caller: &Caller, id: &str) -> Result<BroadcastRecord, Problem> {
    let unknown = || {
        let shown: String = id.chars().take(80).collect();
        Problem::not_found(&format!("broadcast {shown:?}"))
    };
    let parsed = BroadcastId::parse(id).map_err(|_| unknown())?;
    let found = api.orchestrator.store.broadcast(parsed).await?;
    found.filter(|record| caller.may_see(&record.tenant)).ok_or_else(unknown)
}
