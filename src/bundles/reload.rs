//! The policies of a running daemon: opened once, reloaded on demand, asked for their status.
//!
//! One reload at a time, and each caller gets the true answer: applied, or refused and why. It decides nothing
//! and sends nothing.

use std::{
    path::PathBuf,
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use tokio::sync::watch;

use super::{
    PolicyHandle,
    core::{Applied, Core, Progress},
    counters::{Cause, ReloadCounters},
    folder::{Listing, Snapshot},
    keeper::Keeper,
    last_good::{Archive, Headline, Manifest},
    loader::{Judgement, Loader},
    standing::Active,
    status::{BundleSource, PoliciesStatus, Summary, TenantStatus},
};
use crate::{
    domain::{ids::TenantId, time::Clock},
    policy::{assemble::PolicyEnvironment, diagnostic::Diagnostic},
};

/// Nothing is loaded until the folder has been still for this long (details.md section 4).
pub const SETTLE: Duration = Duration::from_millis(250);
/// Under continuous writing, what is there is taken after this long.
pub const SETTLE_MAX: Duration = Duration::from_secs(2);
/// Between two looks while the folder settles and events come.
const SETTLE_STEP: Duration = Duration::from_millis(25);
/// Between two looks while it settles in silence: not every file system tells of what happens.
const SETTLE_SILENT: Duration = Duration::from_millis(100);

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
    #[error("the system gives no thread to keep policies with: {0}")]
    NoThread(#[from] std::io::Error),
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
        let archive = Archive::new(&state_dir);
        let (loader, keeper) = (Loader::knowing(environment, drivers), Keeper::start(archive.clone())?);
        let core = Core::new(folder, clock, loader, archive, keeper);
        wait_for_writers(&core);
        core.counters.looked(Cause::Start);
        let (kept, faults) = core.start();
        if kept == 0 && core.held().snapshot.listing.root().is_none() {
            return Err(OpenError::NoFolder { folder: core.folder, state_dir });
        }
        for fault in &faults {
            tracing::warn!("policies: {fault}");
        }
        Ok(Self { core: Arc::new(core), turn: Arc::default() })
    }

    /// The generation in force, for whoever decides.
    pub fn handle(&self) -> PolicyHandle {
        self.core.handle.clone()
    }

    /// Reads the folder now, every file of it, and waits until what is there is applied or refused, and kept. What
    /// was refused before is tried again.
    pub async fn reload(&self, cause: Cause) -> ReloadReport {
        self.core.counters.looked(cause);
        let applied = self.settle_and_load(cause, true, true).await;
        self.settle_kept().await;
        let changed = applied.changed.iter().map(ToString::to_string).collect();
        ReloadReport { ok: applied.ok, changed, status: self.status() }
    }

    /// Waits until everything that came in force is kept.
    pub(super) async fn settle_kept(&self) {
        let core = Arc::clone(&self.core);
        // An error: the runtime is going down, and the keeper ends its work when it is dropped.
        let _ = tokio::task::spawn_blocking(move || core.keeper.settle()).await;
    }

    /// Waits until the folder is still, then loads it, in turn with every other load.
    /// `whole`: not only where somebody saw a change.
    pub(super) async fn settle_and_load(&self, cause: Cause, whole: bool, force: bool) -> Applied {
        let turn = Arc::clone(&self.turn).lock_owned().await;
        settle(&self.core, whole).await;
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

    /// The same in short.
    pub fn summary(&self) -> Summary {
        self.core.summary()
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

/// Waits until two looks `SETTLE` apart saw the same and nothing changed between; `SETTLE_MAX` at most. The last look
/// is at the end.
async fn settle(core: &Arc<Core>, whole: bool) {
    let glance = || {
        let core = Arc::clone(core);
        async move { tokio::task::spawn_blocking(move || core.glance(whole)).await.unwrap_or(false) }
    };
    let started = Instant::now();
    glance().await;
    let (mut still_since, mut looked_at, mut pause) = (Instant::now(), Instant::now(), SETTLE_STEP);
    while still_since.elapsed() < SETTLE && started.elapsed() < SETTLE_MAX {
        tokio::time::sleep(pause.min(SETTLE.saturating_sub(still_since.elapsed()))).await;
        let at_the_end = still_since.elapsed() + SETTLE_STEP >= SETTLE;
        if !(at_the_end || core.is_hinted() || looked_at.elapsed() >= SETTLE_SILENT) {
            continue;
        }
        let looking = Instant::now();
        if glance().await {
            still_since = Instant::now();
        }
        // What takes long to look at is looked at less often: never more than a fifth of the time.
        (looked_at, pause) = (Instant::now(), SETTLE_STEP.max(looking.elapsed() * 4).min(SETTLE));
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
            Some(age) => thread::sleep((SETTLE - age).min(SETTLE)),
            None => return,
        }
    }
}

impl Core {
    /// The first load: files where they are good, the last good where they are not. How many tenants had one, and
    /// what of it cannot be read.
    fn start(&self) -> (usize, Vec<Diagnostic>) {
        let mut held = self.held();
        let ((kept, faults), loaded) = thread::scope(|scope| {
            let kept = scope.spawn(|| self.archive.last_good());
            held.snapshot = Snapshot::read(&self.folder);
            // Nobody is served yet: every processor helps.
            let loaded = self.loader.load_all(&held.snapshot);
            (kept.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)), loaded)
        });
        for manifest in &kept {
            let active = self.stand_in(manifest, loaded.tenants.get(&manifest.tenant));
            // In the table in any case, so that the first load finds it vanished rather than unheard of.
            self.state().with(&manifest.tenant, |standing| {
                standing.pinned.clone_from(&manifest.pinned);
                standing.active = active;
            });
        }
        let applied = self.apply(&held.snapshot, loaded, true);
        drop(held);
        self.state().problems.extend(faults.iter().cloned());
        self.counters.loaded(applied.ok, true, self.clock.now());
        self.told(1);
        (kept.len(), faults)
    }

    /// The bundle that a tenant starts on when its files do not give it one, or give the same one.
    fn stand_in(&self, kept: &Headline, judgement: Option<&Arc<Judgement>>) -> Option<Active> {
        let pinned = kept.pinned.is_some() && kept.pinned == judgement.map(|j| j.source_hash.clone());
        let accepted = judgement.and_then(|judgement| Some((judgement.accepted()?, judgement)));
        match accepted {
            // The same as before the restart: it has been in force since then.
            Some((bundle, judged)) if !pinned && bundle.version().as_str() == kept.version => {
                let sources = judged.sources.clone();
                Some(Active::restored(
                    Arc::clone(bundle),
                    (kept.since, kept.tally),
                    sources,
                    BundleSource::Files,
                ))
            }
            Some(_) if !pinned => None,
            _ => {
                let source = if pinned { BundleSource::Rollback } else { BundleSource::LastGood };
                let manifest = self.archive.last_good_manifest(&kept.tenant);
                match manifest.and_then(|manifest| self.restored(&manifest)) {
                    Ok(bundle) => Some(Active { source, ..bundle }),
                    Err(why) => {
                        tracing::error!(
                            tenant = kept.tenant.as_str(),
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
        Ok(Active::restored(bundle, (manifest.since, manifest.tally), sources, BundleSource::LastGood))
    }
}
