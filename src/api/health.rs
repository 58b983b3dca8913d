//! Whether the daemon lives, whether it can work, what it counted, and what it offers.
//!
//! `/healthz` looks at nothing: a daemon whose database is away must not be restarted for it.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    problem::{Kind, Problem, ProblemBody},
};
use crate::policy::compile::differences;

/// A database that takes longer to answer is not ready.
const STORE_PATIENCE: Duration = Duration::from_secs(2);
const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Health {
    #[schema(example = "ok")]
    pub status: &'static str,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Readiness {
    pub ready: bool,
    pub checks: Vec<Check>,
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
pub struct Check {
    /// `store`, `policies`, `last_reload`, `shutdown`.
    pub name: &'static str,
    pub ok: bool,
    /// Not ready unless this is ok.
    pub required: bool,
    pub detail: String,
}

/// The process lives.
#[utoipa::path(
    get, path = "/healthz", tag = "operations", security(()),
    responses((status = 200, description = "Alive", body = Health)),
)]
pub async fn healthz() -> Json<Health> {
    Json(Health { status: "ok" })
}

/// The daemon can take messages: the store answers and policies are in force.
#[utoipa::path(
    get, path = "/readyz", tag = "operations", security(()),
    responses(
        (status = 200, description = "Ready", body = Readiness),
        (status = 503, description = "Not ready; `checks` says why", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn readyz(State(api): State<Arc<Api>>) -> Result<Json<Readiness>, Problem> {
    let checks = vec![store(&api).await, policies(&api), last_reload(&api), shutdown(&api)];
    let failed: Vec<&str> =
        checks.iter().filter(|c| c.required && !c.ok).map(|c| c.detail.as_str()).collect();
    if failed.is_empty() {
        return Ok(Json(Readiness { ready: true, checks }));
    }
    let problem = Problem::new(Kind::Unavailable, failed.join("; "));
    Err(problem.with(|p| p.checks = Some(checks)))
}

async fn store(api: &Api) -> Check {
    let asked = tokio::time::timeout(STORE_PATIENCE, api.orchestrator.store.next_due()).await;
    let detail = match &asked {
        Ok(Ok(_)) => "the store answers",
        // What exactly failed is for the log: this answer needs no key.
        Ok(Err(_)) => "the store does not answer; the log says why",
        Err(_) => "the store takes too long to answer",
    };
    let (ok, detail) = match api.orchestrator.store.refuses() {
        Some(why) => (false, why),
        None => (matches!(asked, Ok(Ok(_))), detail),
    };
    Check { name: "store", ok, required: true, detail: detail.into() }
}

fn policies(api: &Api) -> Check {
    let generation = api.orchestrator.policies.current();
    let tenants = generation.bundles.len();
    let detail = match tenants {
        0 => "no tenant has a policy in force: add one as policies/tenants/<id>.toml".to_owned(),
        1 => "1 tenant's policy in force".to_owned(),
        n => format!("{n} tenants' policies in force"),
    };
    Check { name: "policies", ok: tenants > 0, required: true, detail }
}

/// A failed reload leaves the last good policies in force: worth knowing, and no reason to take no messages.
fn last_reload(api: &Api) -> Check {
    let status = api.policies.summary();
    let detail = match (status.ok, status.not_in_force) {
        (true, _) => "every tenant's files are in force as they stand".to_owned(),
        (false, 0) => "some policy files have faults; `orchestrator policies` names them".to_owned(),
        (false, n) => format!("the files of {n} tenant(s) have faults; `orchestrator policies` names them"),
    };
    Check { name: "last_reload", ok: status.ok, required: false, detail }
}

fn shutdown(api: &Api) -> Check {
    let closing = api.closing.is_cancelled();
    let detail = if closing { "the daemon is stopping" } else { "the daemon is not stopping" };
    Check { name: "shutdown", ok: !closing, required: true, detail: detail.into() }
}

/// Everything that is counted, as OpenMetrics. With a key, other tenants' lines are left out.
#[utoipa::path(
    get, path = "/metrics", tag = "operations",
    responses((status = 200, description = "OpenMetrics", body = String, content_type = "application/openmetrics-text")),
)]
pub async fn metrics(State(api): State<Arc<Api>>, caller: Caller) -> Response {
    let status = api.policies.summary();
    api.metrics.set_policies(&status, &api.policies.counters().counts());
    api.metrics.set_scripts_differing(differences());
    api.metrics.set_credentials(&api.orchestrator.drivers.shut());
    // Without the store the rest is still worth having.
    if let Ok(Ok(counts)) =
        tokio::time::timeout(STORE_PATIENCE, api.orchestrator.store.count_by_status()).await
    {
        api.metrics.set_messages(&counts);
    }
    if let Ok(Ok(untold)) = tokio::time::timeout(STORE_PATIENCE, api.orchestrator.store.untold()).await {
        api.metrics.set_status_webhooks(untold);
    }
    ([(header::CONTENT_TYPE, OPEN_METRICS)], api.metrics.text(caller.only())).into_response()
}

/// This document.
#[utoipa::path(
    get, path = "/openapi.json", tag = "operations", security(()),
    responses((status = 200, description = "OpenAPI 3.1", body = Object)),
)]
pub async fn openapi() -> Response {
    ([(header::CONTENT_TYPE, "application/json")], super::openapi::text()).into_response()
}
