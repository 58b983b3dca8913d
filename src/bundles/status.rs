//! What is in force, since when, and why the files are not: the answer of every policies route and command.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::policy::{bundle::Bundle, diagnostic::Diagnostic};

/// All tenants, and how the folder is watched.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct PoliciesStatus {
    pub generation: u64,
    /// The folder as it was named.
    pub folder: String,
    pub watch: WatchStatus,
    /// Whether every tenant's files are in force.
    pub ok: bool,
    /// Faults that belong to no tenant (an unreadable folder, a file that is no policy).
    pub problems: Vec<Diagnostic>,
    pub tenants: Vec<TenantStatus>,
}

/// The same in short, for whoever asks often.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Summary {
    pub generation: u64,
    /// Whether every tenant's files are in force.
    pub ok: bool,
    /// How many tenants' files are not.
    pub not_in_force: usize,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct WatchStatus {
    /// `events+rescan`, `rescan` (no events to be had), or `off` (offline commands).
    pub mode: String,
    pub last_scan: Option<DateTime<Utc>>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct TenantStatus {
    pub tenant: String,
    /// None: nothing of this tenant was ever good.
    pub active: Option<ActiveBundle>,
    /// Why the files as they stand are not in force; none where they are.
    pub candidate: Option<RejectedBundle>,
    /// Remarks on what is in force.
    pub warnings: Vec<Diagnostic>,
}

/// One tenant, looked at closely.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TenantDetail {
    #[serde(flatten)]
    pub status: TenantStatus,
    /// Where each value in force came from, by dotted key: `tenants/acme.toml:4`, the name of an environment
    /// variable, or `built in`.
    pub origins: BTreeMap<String, String>,
    /// The templates in force, by id.
    pub templates: Vec<ActiveTemplate>,
}

/// A template that requests may name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ActiveTemplate {
    pub id: String,
    pub file: String,
    pub locales: Vec<String>,
    /// What `content.data` must have.
    pub variables: Vec<String>,
    /// What it may have.
    pub optional: Vec<String>,
}

/// The templates of a bundle, by id.
pub fn templates(bundle: &Bundle) -> Vec<ActiveTemplate> {
    let shown = bundle.templates().values().map(|template| ActiveTemplate {
        id: template.id().to_owned(),
        file: template.file().to_owned(),
        locales: template.locales().map(str::to_owned).collect(),
        variables: template.required().to_vec(),
        optional: template.optional().to_vec(),
    });
    shown.collect()
}

/// Where each value of a policy came from, by dotted key.
pub fn origins(bundle: &Bundle) -> BTreeMap<String, String> {
    bundle.origins().map(|(key, origin)| (key.to_owned(), origin.to_string())).collect()
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct ActiveBundle {
    pub version: String,
    pub since: DateTime<Utc>,
    pub source: BundleSource,
    pub tests: TestTally,
    pub criteria: Vec<ActiveCriterion>,
    pub variants: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(utoipa::ToSchema)]
pub enum BundleSource {
    /// As the files stand.
    Files,
    /// The files are broken or gone: the last that was good.
    LastGood,
    /// An operator put an earlier one back; the files differ.
    Rollback,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct ActiveCriterion {
    pub name: String,
    pub weight: f64,
    pub file: String,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct TestTally {
    pub passed: u32,
    pub failed: u32,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct RejectedBundle {
    pub state: CandidateState,
    pub first_seen: DateTime<Utc>,
    pub errors: Vec<Diagnostic>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(utoipa::ToSchema)]
pub enum CandidateState {
    /// The files have faults, or a test fails.
    Rejected,
    /// The tenant's file is gone; `orchestrator policies forget` drops the tenant.
    Vanished,
}
