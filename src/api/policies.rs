//! `/v1/policies`: what is in force, since when, and why the files are not; and reading them again.
//!
//! It loads nothing itself: that is `bundles`'.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, State},
};

use serde::Serialize;
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    problem::{Kind, Problem, ProblemBody},
};
use crate::{
    bundles::{
        counters::Cause,
        status::{PoliciesStatus, TenantDetail},
    },
    domain::ids::TenantId,
};

/// What is in force after a reload.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Reloaded {
    #[serde(flatten)]
    pub status: PoliciesStatus,
    /// The tenants whose policy is another than before.
    pub changed: Vec<String>,
}

/// What one caller may see of it: a key sees its tenant, and no fault of others'.
fn seen_by(caller: &Caller, mut status: PoliciesStatus) -> PoliciesStatus {
    let Some(only) = caller.only() else { return status };
    status.tenants.retain(|t| t.tenant == only.as_str());
    status.problems.clear();
    status.ok = status.tenants.iter().all(|t| t.candidate.is_none());
    status
}

/// What is in force for every tenant, and why the files as they stand are not.
#[utoipa::path(
    get, path = "/v1/policies", tag = "policies",
    responses((status = 200, description = "Every tenant that the caller may see", body = PoliciesStatus)),
)]
pub async fn list(State(api): State<Arc<Api>>, caller: Caller) -> Json<PoliciesStatus> {
    Json(seen_by(&caller, api.policies.status()))
}

/// The same for one tenant, with where each of its values came from.
#[utoipa::path(
    get, path = "/v1/policies/{tenant}", tag = "policies",
    params(("tenant" = String, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "The tenant's policy", body = TenantDetail),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Json<TenantDetail>, Problem> {
    let id = tenant_of(&caller, &tenant)?;
    api.policies.tenant_detail(&id).map(Json).ok_or_else(|| Problem::unknown_tenant(&id))
}

/// The tenant that is named like the route which reloads.
pub async fn show_reload(api: State<Arc<Api>>, caller: Caller) -> Result<Json<TenantDetail>, Problem> {
    show(api, caller, Path("reload".to_owned())).await
}

/// The tenant of a path, if this caller may see it.
pub fn tenant_of(caller: &Caller, tenant: &str) -> Result<TenantId, Problem> {
    let Ok(id) = TenantId::parse(tenant) else {
        let shown: String = tenant.chars().take(80).collect();
        return Err(Problem::not_found(&format!("tenant {shown:?}")));
    };
    if caller.may_see(&id) { Ok(id) } else { Err(Problem::unknown_tenant(&id)) }
}

/// Read the folder now, and answer once what is good of it is in force.
#[utoipa::path(
    post, path = "/v1/policies/reload", tag = "policies",
    responses(
        (status = 200, description = "Everything is in force as the files stand", body = Reloaded),
        (status = 422, description = "Some files have faults; `policies` names them all, and what was good stays", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn reload(State(api): State<Arc<Api>>, caller: Caller) -> Result<Json<Reloaded>, Problem> {
    let report = api.policies.reload(Cause::Request).await;
    let mut changed = report.changed;
    let status = seen_by(&caller, report.status);
    if let Some(only) = caller.only() {
        changed.retain(|tenant| tenant == only.as_str());
    }
    if status.ok {
        return Ok(Json(Reloaded { status, changed }));
    }
    let of_tenants = status.tenants.iter().filter_map(|t| t.candidate.as_ref()).flat_map(|c| &c.errors);
    let all: Vec<String> = status.problems.iter().chain(of_tenants).map(ToString::to_string).collect();
    let detail = match all.as_slice() {
        [] => "some tenants' files are not in force; `policies` says which".to_owned(),
        [one] => one.clone(),
        [first, rest @ ..] => format!("{first} (and {} more in `policies`)", rest.len()),
    };
    Err(Problem::new(Kind::PoliciesRejected, detail).with(|p| p.policies = Some(Box::new(status))))
}
