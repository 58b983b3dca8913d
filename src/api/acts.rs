//! What operators do: to one message, to a tenant, to a driver, for a person who wants to be forgotten.
//!
//! Every act names who and why, and stands in the log. A key acts within its tenant; drivers are the operator's alone,
//! because tenants share them.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State},
};
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    answers::MessageAnswer,
    auth::Caller,
    body,
    messages::{find, unknown_message},
    policies::tenant_of,
    problem::{Kind, Problem, ProblemBody},
};
use crate::{
    domain::ids::{ActId, RecipientId, TenantId},
    policy::shipped,
    request::Fault,
    store::{Act, ActRecord, Acted, By, Pause, PauseKind},
};

const EXPECTED: &str = "{\"reason\": \"the provider was down\", \"by\": \"zoe\"}";
const REASON_MAX: usize = 200;
const BY_MAX: usize = 100;
const LIMIT_DEFAULT: u32 = 50;
const LIMIT_MAX: u32 = 200;

/// Who does it, and why.
#[derive(Clone, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct ActRequest {
    #[schema(example = "the provider confirmed by telephone that it never arrived")]
    pub reason: String,
    /// The person who does it.
    #[schema(example = "zoe")]
    pub by: String,
    /// To settle a message only: what became of it, `sent` or `failed`.
    pub outcome: Option<SettledAs>,
}

/// What a person found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SettledAs {
    Sent,
    Failed,
}

/// Whether messages wait.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Paused {
    /// `tenant` or `driver`.
    pub kind: String,
    pub name: String,
    pub paused: bool,
    /// False: it was so already, and nothing was changed.
    pub changed: bool,
}

/// A pause in force.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct PauseAnswer {
    /// `tenant` or `driver`.
    pub kind: String,
    pub name: String,
    pub since: DateTime<Utc>,
    pub by: String,
    pub reason: String,
}

/// What operators did, and what is paused now.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ActList {
    /// Newest first.
    pub acts: Vec<ActAnswer>,
    pub paused: Vec<PauseAnswer>,
    /// Ask again with `before` set to this for older ones; null at the end.
    pub next: Option<String>,
}

/// One act.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ActAnswer {
    pub id: String,
    pub at: DateTime<Utc>,
    /// `resend`, `mark_sent`, `mark_failed`, `release`, `cancel`, `pause_tenant`, `resume_tenant`, `pause_driver`,
    /// `resume_driver`, `erase`.
    pub act: String,
    /// The message, the tenant or the driver; of a person that was erased, the name that stands for theirs.
    pub target: String,
    /// Null for drivers.
    pub tenant_id: Option<String>,
    pub by: String,
    pub reason: String,
}

/// What an erasure came to.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ErasedAnswer {
    pub tenant_id: String,
    /// Messages that waited and are not sent any more.
    pub cancelled: u64,
    /// Messages that hold no word and no address of the person any more, those included.
    pub erased: u64,
    /// Messages that are with a provider now: erased by the daemon as soon as their outcome is known.
    pub in_flight: u64,
}

impl From<ActRecord> for ActAnswer {
    fn from(record: ActRecord) -> Self {
        Self {
            id: record.id.to_string(),
            at: record.at,
            act: record.act,
            target: record.target,
            tenant_id: record.tenant.map(|tenant| tenant.to_string()),
            by: record.who,
            reason: record.reason,
        }
    }
}

impl From<&Pause> for PauseAnswer {
    fn from(pause: &Pause) -> Self {
        Self {
            kind: pause.kind.as_str().to_owned(),
            name: pause.name.clone(),
            since: pause.since,
            by: pause.who.clone(),
            reason: pause.reason.clone(),
        }
    }
}

/// Send an `unresolved` message once more, although it may have arrived.
#[utoipa::path(
    post, path = "/v1/messages/{id}/resend", tag = "operations", operation_id = "resendMessage",
    params(("id" = String, Path, description = "`msg_` and 32 hex digits")),
    request_body = ActRequest,
    responses(
        (status = 200, description = "It is queued, and shown as a possible duplicate", body = MessageAnswer),
        (status = 404, description = "No such message", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is not unresolved, or no attempt is left", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn resend(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<MessageAnswer>, Problem> {
    let (by, _) = read(&api, request, false).await?;
    act(&api, &caller, &id, Act::Resend, &by).await
}

/// Say what became of an `unresolved` message.
#[utoipa::path(
    post, path = "/v1/messages/{id}/settle", tag = "operations", operation_id = "settleMessage",
    params(("id" = String, Path, description = "`msg_` and 32 hex digits")),
    request_body(content = ActRequest, description = "With `outcome`"),
    responses(
        (status = 200, description = "It counts as sent, or as failed", body = MessageAnswer),
        (status = 404, description = "No such message", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is not unresolved", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn settle(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<MessageAnswer>, Problem> {
    let (by, outcome) = read(&api, request, true).await?;
    let done = if outcome == Some(SettledAs::Sent) { Act::MarkSent } else { Act::MarkFailed };
    act(&api, &caller, &id, done, &by).await
}

/// Let a `quarantined` message go on where it stood.
#[utoipa::path(
    post, path = "/v1/messages/{id}/release", tag = "operations", operation_id = "releaseMessage",
    params(("id" = String, Path, description = "`msg_` and 32 hex digits")),
    request_body = ActRequest,
    responses(
        (status = 200, description = "It goes on", body = MessageAnswer),
        (status = 404, description = "No such message", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "It is not quarantined", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn release(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(id): Path<String>,
    request: Request,
) -> Result<Json<MessageAnswer>, Problem> {
    let (by, _) = read(&api, request, false).await?;
    act(&api, &caller, &id, Act::Release, &by).await
}

async fn act(
    api: &Api,
    caller: &Caller,
    id: &str,
    act: Act,
    by: &By,
) -> Result<Json<MessageAnswer>, Problem> {
    let record = find(api, caller, id).await?;
    let (tenant, store) = (&record.request.tenant, &api.orchestrator.store);
    let not_now = |detail: String| {
        Err(Problem::new(Kind::NotNow, detail).with(|p| p.message_id = Some(record.id.to_string())))
    };
    match store.act(Some(tenant), record.id, act, by, api.orchestrator.clock.now()).await? {
        Acted::NotFound => Err(unknown_message(id)),
        Acted::NotNow(status) => {
            let wanted = if act == Act::Release { "quarantined" } else { "unresolved" };
            not_now(format!("the message is {status}: only one that is {wanted} can be"))
        }
        Acted::NoAttemptLeft => {
            not_now("all attempts on its channel are used up: it can be settled, not sent again".to_owned())
        }
        Acted::Done => {
            api.orchestrator.bell.ring_due();
            api.orchestrator.bell.ring_outcome(record.id);
            let record = store.message(tenant, record.id).await?.ok_or_else(|| unknown_message(id))?;
            Ok(Json(MessageAnswer::new(&record)))
        }
    }
}

/// Have a tenant's messages wait: nothing of it is sent until it is resumed, and deadlines go on counting.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/pause", tag = "operations", operation_id = "pauseTenant",
    params(("tenant" = String, Path, description = "The tenant's id")),
    request_body = ActRequest,
    responses(
        (status = 200, description = "It is paused; what is with a provider already is not called back", body = Paused),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn pause_tenant(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
    request: Request,
) -> Result<Json<Paused>, Problem> {
    let tenant = known_tenant(&api, &caller, &tenant)?;
    let (by, _) = read(&api, request, false).await?;
    change(&api, PauseKind::Tenant, tenant.as_str(), true, &by).await
}

/// Let a tenant's messages go on.
#[utoipa::path(
    post, path = "/v1/tenants/{tenant}/resume", tag = "operations", operation_id = "resumeTenant",
    params(("tenant" = String, Path, description = "The tenant's id")),
    request_body = ActRequest,
    responses(
        (status = 200, description = "It goes on", body = Paused),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn resume_tenant(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
    request: Request,
) -> Result<Json<Paused>, Problem> {
    let tenant = known_tenant(&api, &caller, &tenant)?;
    let (by, _) = read(&api, request, false).await?;
    change(&api, PauseKind::Tenant, tenant.as_str(), false, &by).await
}

/// Have what goes by a driver wait, or take another driver of its channel. Unix socket only.
#[utoipa::path(
    post, path = "/v1/drivers/{name}/pause", tag = "operations", operation_id = "pauseDriver",
    params(("name" = String, Path, description = "As in `[drivers.NAME]`")),
    request_body = ActRequest,
    responses(
        (status = 200, description = "It is paused; calls that are under way are not broken off", body = Paused),
        (status = 403, description = "Drivers are the operator's: ask on the Unix socket", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such driver", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn pause_driver(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Paused>, Problem> {
    let name = known_driver(&api, &caller, &name)?;
    let (by, _) = read(&api, request, false).await?;
    change(&api, PauseKind::Driver, &name, true, &by).await
}

/// Let a driver be used again. Unix socket only.
#[utoipa::path(
    post, path = "/v1/drivers/{name}/resume", tag = "operations", operation_id = "resumeDriver",
    params(("name" = String, Path, description = "As in `[drivers.NAME]`")),
    request_body = ActRequest,
    responses(
        (status = 200, description = "It is used again", body = Paused),
        (status = 403, description = "Drivers are the operator's: ask on the Unix socket", body = ProblemBody, content_type = "application/problem+json"),
        (status = 404, description = "No such driver", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn resume_driver(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(name): Path<String>,
    request: Request,
) -> Result<Json<Paused>, Problem> {
    let name = known_driver(&api, &caller, &name)?;
    let (by, _) = read(&api, request, false).await?;
    change(&api, PauseKind::Driver, &name, false, &by).await
}

async fn change(
    api: &Api,
    kind: PauseKind,
    name: &str,
    stops: bool,
    by: &By,
) -> Result<Json<Paused>, Problem> {
    let (store, now) = (&api.orchestrator.store, api.orchestrator.clock.now());
    let changed = if stops {
        store.pause(kind, name, by, now).await?
    } else {
        let changed = store.resume(kind, name, by, now).await?;
        api.orchestrator.bell.ring_due();
        changed
    };
    if kind == PauseKind::Driver {
        // The next decision knows it; other processes learn of it within a second.
        api.orchestrator.drivers.set_paused(store.pauses().await?.of_drivers());
    }
    Ok(Json(Paused { kind: kind.as_str().to_owned(), name: name.to_owned(), paused: stops, changed }))
}

/// What operators did, and what is paused.
#[utoipa::path(
    get, path = "/v1/acts", tag = "operations", operation_id = "listActs",
    params(
        ("before" = Option<String>, Query, description = "The `next` of the answer before"),
        ("limit" = Option<u32>, Query, description = "1 to 200; 50 unless said otherwise"),
    ),
    responses(
        (status = 200, description = "Newest first; with a key, those of its tenant", body = ActList),
        (status = 422, description = "A parameter has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn list(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<ActList>, Problem> {
    let (mut before, mut limit) = (None, LIMIT_DEFAULT);
    for (name, value) in &query {
        match (name.as_str(), value.parse::<u32>(), ActId::parse(value)) {
            ("limit", Ok(asked), _) if (1..=LIMIT_MAX).contains(&asked) => limit = asked,
            ("before", _, Ok(id)) => before = Some(id),
            _ => {
                let name: String = name.chars().take(80).collect();
                let expected = format!("expected before=act_... or limit=1 to {LIMIT_MAX}");
                return Err(Problem::fault(&format!("?{name}"), expected, None));
            }
        }
    }
    let store = &api.orchestrator.store;
    let found = store.acts(caller.only(), before, limit).await?;
    let next = found.last().filter(|_| found.len() == limit as usize).map(|last| last.id.to_string());
    let pauses = store.pauses().await?;
    let seen = |pause: &&Pause| {
        caller.only().is_none_or(|own| pause.kind == PauseKind::Tenant && pause.name == own.as_str())
    };
    let paused = pauses.iter().filter(seen).map(PauseAnswer::from).collect();
    Ok(Json(ActList { acts: found.into_iter().map(ActAnswer::from).collect(), paused, next }))
}

/// Erase a person: words, addresses and name now; what waits is cancelled; refusals stay, as a hash.
#[utoipa::path(
    delete, path = "/v1/tenants/{tenant}/recipients/{recipient}", tag = "operations", operation_id = "eraseRecipient",
    params(
        ("tenant" = String, Path, description = "The tenant's id"),
        ("recipient" = String, Path, description = "The `prospectId` of the person"),
    ),
    request_body = ActRequest,
    responses(
        (status = 200, description = "Done, but for what is with a provider: that follows by itself", body = ErasedAnswer),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn erase(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path((tenant, recipient)): Path<(String, String)>,
    request: Request,
) -> Result<Json<ErasedAnswer>, Problem> {
    // A tenant without a policy may still have messages.
    let tenant = tenant_of(&caller, &tenant)?;
    let recipient = RecipientId::parse(&recipient).map_err(|_| Problem::not_found("such recipient"))?;
    let (by, _) = read(&api, request, false).await?;
    let generation = api.orchestrator.policies.current();
    let policy = generation.tenant(&tenant).map(|bundle| bundle.policy());
    let region = policy.map_or_else(shipped::region, |policy| Some(policy.region));
    let (store, now) = (&api.orchestrator.store, api.orchestrator.clock.now());
    store.ask_erasure(&tenant, &recipient, &by, now).await?;
    let done = store.erase(&tenant, &recipient, region, now).await?;
    let (cancelled, erased, in_flight) = (done.cancelled, done.erased, done.in_flight);
    tracing::info!(%tenant, cancelled, erased, in_flight, "a person was erased");
    Ok(Json(ErasedAnswer { tenant_id: tenant.to_string(), cancelled, erased, in_flight }))
}

fn known_tenant(api: &Api, caller: &Caller, tenant: &str) -> Result<TenantId, Problem> {
    let tenant = tenant_of(caller, tenant)?;
    match api.orchestrator.policies.current().tenant(&tenant) {
        Some(_) => Ok(tenant),
        None => Err(Problem::unknown_tenant(&tenant)),
    }
}

fn known_driver(api: &Api, caller: &Caller, name: &str) -> Result<String, Problem> {
    if caller.only().is_some() {
        return Err(Problem::new(
            Kind::Forbidden,
            "drivers are shared by the tenants, so only the operator may do this: ask on the Unix socket",
        ));
    }
    if api.orchestrator.drivers.get(name).is_some() {
        return Ok(name.to_owned());
    }
    let known: Vec<&str> = api.orchestrator.drivers.iter().map(|driver| driver.name()).collect();
    let shown: String = name.chars().take(80).collect();
    Err(Problem::not_found(&format!("driver {shown:?}; there are {}", known.join(", "))))
}

/// Who and why, or everything that is wrong with it.
async fn read(api: &Api, request: Request, settles: bool) -> Result<(By, Option<SettledAs>), Problem> {
    let asked: ActRequest = body::receive_json(api, request, EXPECTED).await?;
    let mut faults = Vec::new();
    for (pointer, text, most) in [("/reason", &asked.reason, REASON_MAX), ("/by", &asked.by, BY_MAX)] {
        let length = text.trim().chars().count();
        if !(1..=most).contains(&length) || text.chars().any(char::is_control) {
            let detail = format!("expected 1 to {most} characters, none of them a control character");
            faults.push(Fault { pointer: pointer.to_owned(), detail, hint: None });
        }
    }
    if settles != asked.outcome.is_some() {
        let detail = if settles { "expected \"sent\" or \"failed\"" } else { "not taken here" };
        faults.push(Fault { pointer: "/outcome".to_owned(), detail: detail.to_owned(), hint: None });
    }
    if !faults.is_empty() {
        return Err(Problem::faults(faults));
    }
    Ok((By { who: asked.by.trim().to_owned(), why: asked.reason.trim().to_owned() }, asked.outcome))
}
