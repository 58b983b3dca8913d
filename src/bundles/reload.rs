//! The policies of a running daemon: opened once, reloaded on demand, asked for their status.
//!
//! One reload at a time, and each caller gets the true answer: applied, or refused and why. It decides nothing
//! and sends nothing.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    PolicyHandle,
    core::{Applied, Core, Progress},
    counters::{Cause, ReloadCounters},
    folder::Listing,
    last_good::{Archive, Manifest},
    loader::{Judgement, Loader},
    standing::{Active, Standing},
    status::{BundleSource, PoliciesStatus, TenantStatus},
};
use crate::{
    domain::{ids::TenantId, time::Clock},
    policy::assemble::PolicyEnvironment,
};

/// Nothing is loaded until the folder has been still for this long (details.md section 4).
pub const SETTLE: Duration = Duration::from_millis(250);
/// Under continuous writing, what is there is taken after this long.
pub const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Between two looks while the folder settles.
const SETTLE_STEP: Duration = Duration::from_millis(25);

/// What `Policies` is made of.
pub struct Options {
    /// The policies folder, by the path that is looked up anew each time.
    pub folder: PathBuf,
    /// Where the last good bundles are kept: never inside `folder`.
    pub state_dir: PathBuf,
    pub environment: PolicyEnvironment,
    /// The names of the operator's drivers, for a remark where a policy names another. None: not known.
    pub drivers: Option<Vec<String>>,
    pub clock: Arc<dyn Clock>,
}

/// Why there are no policies to start with.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error(
        "there is no policies folder {}, and no last good policies are kept in {}; make the folder with a file \
         tenants/<tenantId>.toml in it, or name another one with ORCHESTRATOR_POLICIES",
        folder.display(), state_dir.display()
    )]
    NoFolder { folder: PathBuf, state_dir: PathBuf },
    #[error(
        "the state directory {} lies inside the policies folder {}: every save would look like a change; \
         put it elsewhere with ORCHESTRATOR_STATE_DIR",
        state_dir.display(), folder.display()
    )]
    StateInside { folder: PathBuf, state_dir: PathBuf },
}

/// What a reload came to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ReloadReport {
    /// Every tenant's files are in force. False: see the tenants' `candidate` and the `problems`.
    pub ok: bool,
    /// The tenants whose bundle is another than before.
    pub changed: Vec<String>,
    pub status: PoliciesStatus,
}

/// The policies folder of a running daemon.
pub struct Policies {
    pub(super) core: Arc<Core>,
    /// Whose turn it is to load: one at a time.
    pub(super) turn: Arc<tokio::sync::Mutex<()>>,
}

impl Policies {
    /// Loads the folder for the first time. A tenant whose files are broken or gone stands on its last good
    /// bundle.
    ///
    /// # Errors
    /// Only where there is nothing to stand on at all: no folder and nothing kept.
    pub fn open(options: Options) -> Result<Self, OpenError> {
        let Options { folder, state_dir, environment, drivers, clock } = options;
        if let (Ok(inside), Ok(outside)) = (state_dir.canonicalize(), folder.canonicalize())
            && inside.starts_with(outside)
        {
            return Err(OpenError::StateInside { folder, state_dir });
        }
        let core = Core::new(folder, clock, Loader::knowing(environment, drivers), Archive::new(&state_dir));
        wait_for_writers(&core);
        core.archive.sweep();
        let (kept, faults) = core.archive.last_good();
        core.counters.looked(Cause::Start);
        if Listing::of(&core.folder).root().is_none() && kept.is_empty() {
            return Err(OpenError::NoFolder { folder: core.folder, state_dir });
        }
        core.start(&kept);
        for fault in &faults {
            tracing::warn!("policies: {fault}");
        }
        core.state().problems.extend(faults);
        Ok(Self { core: Arc::new(core), turn: Arc::default() })
    }

    /// The generation in force, for whoever decides.
    pub fn handle(&self) -> PolicyHandle {
        self.core.handle.clone()
    }

    /// Reads the folder now and waits until what is there is applied or refused. What was refused before is
    /// tried again.
    pub async fn reload(&self, cause: Cause) -> ReloadReport {
        self.core.counters.looked(cause);
        let applied = self.settle_and_load(cause, true).await;
        let changed = applied.changed.iter().map(ToString::to_string).collect();
        ReloadReport { ok: applied.ok, changed, status: self.status() }
    }

    /// Waits until the folder is still, then loads it, in turn with every other load.
    pub(super) async fn settle_and_load(&self, cause: Cause, force: bool) -> Applied {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        settle(&self.core).await;
        let core = Arc::clone(&self.core);
        // The turn goes with the work: a caller that hangs up must not let a second load in beside it.
        let load = tokio::task::spawn_blocking(move || {
            let applied = core.load(cause, force);
            drop(turn);
            applied
        });
        match load.await {
            Ok(applied) => applied,
            // Judging contains its own panics; what is left is the runtime going down.
            Err(_) => Applied { changed: Vec::new(), ok: false },
        }
    }

    /// All tenants, and how the folder is watched.
    pub fn status(&self) -> PoliciesStatus {
        self.core.status()
    }

    /// One tenant, if there is one of that name.
    pub fn tenant_status(&self, tenant: &TenantId) -> Option<TenantStatus> {
        self.core.state().standings.get(tenant).map(|standing| standing.status(tenant))
    }

    pub fn counters(&self) -> &ReloadCounters {
        &self.core.counters
    }

    /// Rings after each look, each load, and each act of an operator.
    pub fn progress(&self) -> watch::Receiver<Progress> {
        self.core.progress.subscribe()
    }
}

/// Waits until two listings of `SETTLE` apart are the same and nothing changed between; `SETTLE_MAX` at most.
async fn settle(core: &Arc<Core>) {
    let list = || {
        let core = Arc::clone(core);
        async move { tokio::task::spawn_blocking(move || Listing::of(&core.folder)).await.unwrap_or_default() }
    };
    let started = Instant::now();
    let (mut listing, mut still_since) = (list().await, Instant::now());
    while still_since.elapsed() < SETTLE && started.elapsed() < SETTLE_MAX {
        // A folder that takes long to list is listed less often: never more than a fifth of the time.
        let listing_took = Instant::now();
        let next = list().await;
        let pause = SETTLE_STEP.max(listing_took.elapsed() * 4).min(SETTLE);
        if next != listing {
            (listing, still_since) = (next, Instant::now());
        }
        tokio::time::sleep(pause.min(SETTLE.saturating_sub(still_since.elapsed()))).await;
    }
}

/// At the start nothing is in force yet that could stay: wait for a writer that is just at it.
fn wait_for_writers(core: &Core) {
    let started = Instant::now();
    while started.elapsed() < SETTLE_MAX {
        let newest = Listing::of(&core.folder).newest();
        let at =
            newest.and_then(|(s, ns)| DateTime::<Utc>::from_timestamp(s, u32::try_from(ns).unwrap_or(0)));
        let age = at.and_then(|at| (core.clock.now() - at).to_std().ok());
        match age.filter(|age| *age < SETTLE) {
            Some(age) => std::thread::sleep((SETTLE - age).min(SETTLE)),
            None => return,
        }
    }
}

impl Core {
    /// The first load: files where they are good, the last good where they are not.
    fn start(&self, kept: &[Manifest]) {
        {
            let mut state = self.state();
            for manifest in kept {
                // In the table already, so that the first load finds them vanished rather than unheard of.
                state
                    .standings
                    .entry(manifest.tenant.clone())
                    .or_default()
                    .pinned
                    .clone_from(&manifest.pinned);
            }
        }
        let snapshot = super::folder::Snapshot::read(&self.folder);
        let loaded = self.loader.load(&snapshot, &std::collections::BTreeMap::new(), false);
        for manifest in kept {
            let judgement = loaded.tenants.get(&manifest.tenant);
            if let Some(active) = self.stand_in(manifest, judgement) {
                self.state().standings.entry(manifest.tenant.clone()).or_default().active = Some(active);
            }
        }
        let applied = self.apply_first(&snapshot, loaded);
        self.counters.loaded(applied.ok, true, self.clock.now());
        self.told(1);
    }

    /// The bundle that a tenant starts on when its files do not give it one, or give the same one.
    fn stand_in(&self, manifest: &Manifest, judgement: Option<&Arc<Judgement>>) -> Option<Active> {
        let pinned = manifest.pinned.is_some() && manifest.pinned == judgement.map(|j| j.source_hash.clone());
        let accepted = judgement.and_then(|judgement| Some((judgement.accepted()?, judgement)));
        match accepted {
            // The same as before the restart: it has been in force since then.
            Some((bundle, judged)) if !pinned && bundle.version().as_str() == manifest.version => {
                let sources = judged.sources.clone();
                Some(Active::restored(Arc::clone(bundle), manifest, sources, BundleSource::Files))
            }
            Some(_) if !pinned => None,
            _ => {
                let source = if pinned { BundleSource::Rollback } else { BundleSource::LastGood };
                match self.restored(manifest) {
                    Ok(bundle) => Some(Active { source, ..bundle }),
                    Err(why) => {
                        tracing::error!(
                            tenant = manifest.tenant.as_str(),
                            "the last good policy is of no use: {why}"
                        );
                        None
                    }
                }
            }
        }
    }

    /// A kept version, verified and compiled.
    pub(super) fn restored(&self, manifest: &Manifest) -> Result<Active, String> {
        let sources = self.archive.sources(manifest)?;
        let bundle = self
            .loader
            .restore(&sources)
            .map_err(|faults| faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))?;
        Ok(Active::restored(bundle, manifest, sources, BundleSource::LastGood))
    }

    fn apply_first(&self, snapshot: &super::folder::Snapshot, loaded: super::loader::Loaded) -> Applied {
        let applied = self.apply(snapshot, loaded);
        let state = self.state();
        // Bundles that were restored changed nothing by being judged: they are put in force here.
        let standing = |s: &Standing| s.active.is_some();
        if self.handle.current().bundles.len() < state.standings.values().filter(|s| standing(s)).count() {
            self.swap(&state);
        }
        applied
    }
}
