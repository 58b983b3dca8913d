//! `/v1/policies/{tenant}/...`: what a tenant's policy was, put back, and dropped.
//!
//! Each act is `bundles`'; what a tenant's key may not see of another is left out here. It reads no file on the
//! threads that serve requests.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Path, Query, Request, State},
};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    body,
    policies::tenant_of,
    problem::{Kind, Problem, ProblemBody},
};
use crate::{
    bundles::{
        Policies,
        history::{FileDiff, HistoryEntry},
        operate::OperateError,
        status::TenantStatus,
    },
    domain::ids::TenantId,
};

/// The versions that one tenant's policy had.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct History {
    pub tenant: String,
    /// Newest first; the last twenty.
    pub versions: Vec<HistoryEntry>,
}

/// How two versions of one tenant's policy differ.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Difference {
    pub tenant: String,
    pub from: String,
    pub to: String,
    /// In path order; what is the same in both is left out.
    pub files: Vec<FileDiff>,
}

/// Which version to put back.
#[derive(Clone, Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// The version, or as many of its first digits as it takes to tell it from the others.
    #[schema(example = "e46176885dfa")]
    pub version: String,
}

/// A tenant that is dropped.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Forgotten {
    pub tenant: String,
    pub forgotten: bool,
}

/// The versions that a tenant's policy had, newest first.
#[utoipa::path(
    get, path = "/v1/policies/{tenant}/history", tag = "policies",
    params(("tenant" = String, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "The last twenty at most", body = History),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn history(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Json<History>, Problem> {
    let id = tenant_of(&caller, &tenant)?;
    let versions = reading(&api, &id, |policies, id| policies.history(id)).await?;
    let versions = versions.map_err(|error| refused(error, ""))?;
    Ok(Json(History { tenant: id.to_string(), versions }))
}

/// How the files of two versions differ, line by line.
#[utoipa::path(
    get, path = "/v1/policies/{tenant}/diff", tag = "policies",
    params(
        ("tenant" = String, Path, description = "The tenant's id"),
        ("from" = Option<String>, Query, description = "A version, or its first digits; unless said otherwise the newest beside `to`"),
        ("to" = Option<String>, Query, description = "A version, or its first digits; unless said otherwise the one in force"),
    ),
    responses(
        (status = 200, description = "Each file that differs; with a key, policy tests are left out, which may be of several tenants", body = Difference),
        (status = 404, description = "No such tenant, or no such version of it", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "A kept text cannot be read any more", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter has a fault, or could be several versions", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn diff(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<Difference>, Problem> {
    let id = tenant_of(&caller, &tenant)?;
    let (mut from, mut to) = (None, None);
    for (name, value) in query {
        let place = match name.as_str() {
            "from" => &mut from,
            "to" => &mut to,
            _ => return Err(Problem::fault(&format!("?{name}"), "there is no such parameter", None)),
        };
        *place = Some(value);
    }
    let versions = reading(&api, &id, |policies, id| policies.history(id)).await?;
    let versions = versions.map_err(|error| refused(error, ""))?;
    let to = to.or_else(|| versions.iter().find(|entry| entry.active).map(|entry| entry.version.clone()));
    let Some(to) = to else {
        return Err(Problem::not_found(&format!("version of {id} is in force: name one with ?to=")));
    };
    let before = || versions.iter().find(|e| !e.version.starts_with(&to)).map(|e| e.version.clone());
    let Some(from) = from.or_else(before) else {
        return Err(Problem::not_found(&format!("other version of {id} to compare with: it had one only")));
    };
    let (a, b) = (from.clone(), to.clone());
    let files = reading(&api, &id, move |policies, id| policies.diff(id, &a, &b)).await?;
    let mut files = files.map_err(|error| {
        let of_to = matches!(&error, OperateError::Ambiguous { wanted, .. } if *wanted == to);
        refused(error, if of_to { "?to" } else { "?from" })
    })?;
    if caller.only().is_some() {
        files.retain(|file| !file.file.starts_with("tests/"));
    }
    Ok(Json(Difference { tenant: id.to_string(), from, to, files }))
}

/// Put an earlier version in force, until the tenant's files change.
#[utoipa::path(
    post, path = "/v1/policies/{tenant}/rollback", tag = "policies",
    params(("tenant" = String, Path, description = "The tenant's id")),
    request_body = Rollback,
    responses(
        (status = 200, description = "It is in force; the files differ and wait until they change", body = TenantStatus),
        (status = 404, description = "No such tenant, or no such version of it", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "The kept version cannot be used any more; nothing was changed", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "The body has a fault, or the digits could be several versions", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn rollback(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
    request: Request,
) -> Result<Json<TenantStatus>, Problem> {
    let id = tenant_of(&caller, &tenant)?;
    let expected = "{\"version\": \"...\"}, one that GET /v1/policies/{tenant}/history lists";
    let wanted: Rollback = body::receive_json(&api, request, expected).await?;
    let done = api.policies.rollback(&id, &wanted.version).await;
    done.map(Json).map_err(|error| refused(error, "/version"))
}

/// Drop a tenant whose file is gone: its policy, its last good, its history. Its messages stay.
#[utoipa::path(
    post, path = "/v1/policies/{tenant}/forget", tag = "policies",
    params(("tenant" = String, Path, description = "The tenant's id")),
    responses(
        (status = 200, description = "Dropped", body = Forgotten),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 409, description = "Its file is still there: remove it first", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn forget(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
) -> Result<Json<Forgotten>, Problem> {
    let id = tenant_of(&caller, &tenant)?;
    api.policies.forget(&id).await.map_err(|error| refused(error, ""))?;
    Ok(Json(Forgotten { tenant: id.to_string(), forgotten: true }))
}

/// Reads what is kept on a thread that may wait for the disk.
async fn reading<T: Send + 'static>(
    api: &Api,
    tenant: &TenantId,
    read: impl FnOnce(&Policies, &TenantId) -> T + Send + 'static,
) -> Result<T, Problem> {
    let (policies, tenant) = (Arc::clone(&api.policies), tenant.clone());
    tokio::task::spawn_blocking(move || read(&policies, &tenant)).await.map_err(|_| Problem::internal())
}

/// `place` is where the request names the version.
fn refused(error: OperateError, place: &str) -> Problem {
    let told = error.to_string();
    match error {
        OperateError::UnknownTenant(tenant) => Problem::unknown_tenant(&tenant),
        OperateError::UnknownVersion { .. } => Problem::new(Kind::NotFound, told),
        OperateError::Ambiguous { .. } => {
            Problem::fault(place, told, Some("give more of its digits".to_owned()))
        }
        OperateError::StillThere(_) => Problem::new(Kind::TenantStillThere, told),
        OperateError::Unusable(_) => Problem::new(Kind::VersionUnusable, told),
    }
}
