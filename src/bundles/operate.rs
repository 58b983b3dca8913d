//! What an operator does by hand: drop a tenant, put an earlier version back, look at what was.
//!
//! Each act takes its turn with the loads, and is one pointer store like them.

use std::sync::Arc;

use super::{
    core::Core,
    counters::Cause,
    history::{FileDiff, HistoryEntry, diff},
    last_good::Manifest,
    reload::Policies,
    standing::Active,
    status::{BundleSource, TenantDetail, TenantStatus, origins, templates},
};
use crate::domain::ids::TenantId;

/// Why an operator's act was not done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OperateError {
    #[error("no tenant {0}: neither a file nor a kept policy")]
    UnknownTenant(TenantId),
    #[error("tenants/{0}.toml is still in the policies folder: remove it first")]
    StillThere(TenantId),
    #[error("no kept version {wanted} of {tenant} (kept: {})", known.join(", "))]
    UnknownVersion { tenant: TenantId, wanted: String, known: Vec<String> },
    #[error("{wanted} could be several versions of {tenant}: {}", known.join(", "))]
    Ambiguous { tenant: TenantId, wanted: String, known: Vec<String> },
    /// The kept version cannot be used any more; nothing was changed.
    #[error("{0}")]
    Unusable(String),
}

impl Policies {
    /// Drops a tenant whose file is gone: its bundle, its last good and its history.
    ///
    /// # Errors
    /// `UnknownTenant`; `StillThere` while its file exists; `Unusable` where the state directory refuses.
    pub async fn forget(&self, tenant: &TenantId) -> Result<(), OperateError> {
        let forget = || {
            let tenant = tenant.clone();
            self.in_turn(move |core| core.forget(&tenant))
        };
        let done = forget().await;
        if !matches!(done, Err(OperateError::StillThere(_))) {
            return done;
        }
        // It may just have been removed, and nobody looked since.
        self.core.counters.looked(Cause::Request);
        self.settle_and_load(Cause::Request, true, false).await;
        forget().await
    }

    /// One tenant's status, with where each value in force came from.
    pub fn tenant_detail(&self, tenant: &TenantId) -> Option<TenantDetail> {
        let state = self.core.state();
        let standing = state.standings.get(tenant)?;
        let active = standing.active.as_ref();
        let origins = active.map(|active| origins(&active.bundle)).unwrap_or_default();
        let templates = active.map(|active| templates(&active.bundle)).unwrap_or_default();
        Some(TenantDetail { status: standing.status(tenant), origins, templates })
    }

    /// Puts an earlier version in force until the tenant's files change. `version` may be the first digits.
    ///
    /// # Errors
    /// `UnknownTenant`, `UnknownVersion`, `Ambiguous`; `Unusable` where it cannot be read or compiled any more.
    pub async fn rollback(&self, tenant: &TenantId, version: &str) -> Result<TenantStatus, OperateError> {
        let (tenant, version) = (tenant.clone(), version.to_owned());
        self.in_turn(move |core| core.rollback(&tenant, &version)).await
    }

    /// The versions that a tenant's policy had, newest first. Reads the state directory.
    ///
    /// # Errors
    /// `UnknownTenant`.
    pub fn history(&self, tenant: &TenantId) -> Result<Vec<HistoryEntry>, OperateError> {
        let active = self.core.active_version(tenant)?;
        self.core.keeper.settle();
        let versions = self.core.archive.versions(tenant);
        let entry = |manifest: Manifest| HistoryEntry {
            active: active.as_ref() == Some(&manifest.version),
            version: manifest.version,
            since: manifest.since,
        };
        Ok(versions.into_iter().map(entry).collect())
    }

    /// How the texts of two versions differ.
    ///
    /// # Errors
    /// As `rollback`.
    pub fn diff(&self, tenant: &TenantId, from: &str, to: &str) -> Result<Vec<FileDiff>, OperateError> {
        self.core.active_version(tenant)?;
        let texts = |version: &str| {
            let manifest = self.core.find(tenant, version)?;
            self.core.archive.sources(&manifest).map_err(OperateError::Unusable)
        };
        Ok(diff(&texts(from)?, &texts(to)?))
    }

    async fn in_turn<T: Send + 'static>(
        &self,
        act: impl FnOnce(&Core) -> Result<T, OperateError> + Send + 'static,
    ) -> Result<T, OperateError> {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        let core = Arc::clone(&self.core);
        let done = tokio::task::spawn_blocking(move || {
            let done = act(&core);
            core.told(0);
            drop(turn);
            done
        });
        done.await.unwrap_or_else(|error| Err(OperateError::Unusable(error.to_string())))
    }
}

impl Core {
    /// The version in force; none: the tenant has nothing in force.
    fn active_version(&self, tenant: &TenantId) -> Result<Option<String>, OperateError> {
        let state = self.state();
        let standing =
            state.standings.get(tenant).ok_or_else(|| OperateError::UnknownTenant(tenant.clone()))?;
        Ok(standing.active.as_ref().map(|active| active.bundle.version().to_string()))
    }

    /// The one kept version that these digits begin.
    fn find(&self, tenant: &TenantId, version: &str) -> Result<Manifest, OperateError> {
        self.keeper.settle();
        let kept = self.archive.versions(tenant);
        let short = |m: &Manifest| m.version.chars().take(12).collect::<String>();
        let fits: Vec<&Manifest> =
            kept.iter().filter(|m| !version.is_empty() && m.version.starts_with(version)).collect();
        let (tenant, wanted) = (tenant.clone(), version.to_owned());
        match fits.as_slice() {
            [one] => Ok((*one).clone()),
            [] => {
                Err(OperateError::UnknownVersion { tenant, wanted, known: kept.iter().map(short).collect() })
            }
            several => {
                let known = several.iter().map(|m| short(m)).collect();
                Err(OperateError::Ambiguous { tenant, wanted, known })
            }
        }
    }

    fn forget(&self, tenant: &TenantId) -> Result<(), OperateError> {
        match self.state().standings.get(tenant) {
            None => return Err(OperateError::UnknownTenant(tenant.clone())),
            Some(standing) if standing.judgement.is_some() => {
                return Err(OperateError::StillThere(tenant.clone()));
            }
            Some(_) => {}
        }
        self.keeper.forget(tenant).map_err(|error| {
            OperateError::Unusable(format!("what is kept of {tenant} could not be removed: {error}"))
        })?;
        let mut state = self.state();
        state.remove(tenant);
        self.swap(&state, std::slice::from_ref(tenant));
        tracing::info!(tenant = tenant.as_str(), "policy dropped on request");
        Ok(())
    }

    fn rollback(&self, tenant: &TenantId, version: &str) -> Result<TenantStatus, OperateError> {
        self.active_version(tenant)?;
        let mut manifest = self.find(tenant, version)?;
        manifest.since = self.clock.now();
        let restored = self.restored(&manifest).map_err(OperateError::Unusable)?;
        let mut state = self.state();
        let (kept, status) = state.with(tenant, |standing| {
            standing.active = Some(Active { source: BundleSource::Rollback, ..restored });
            standing.pinned = standing.judgement.as_ref().map(|judgement| judgement.source_hash.clone());
            if standing.judgement.is_some() {
                standing.candidate = None;
            }
            (standing.kept(), standing.status(tenant))
        });
        self.swap(&state, std::slice::from_ref(tenant));
        drop(state);
        self.keeper.keep(kept.into_iter().collect());
        self.keeper.settle();
        tracing::warn!(
            tenant = tenant.as_str(),
            version,
            "an earlier policy was put in force; the files in the folder differ and wait until they change"
        );
        Ok(status)
    }
}
