//! The blocking half of reloading: read, judge, swap with one pointer store, keep, tell.
//!
//! Everything that can fail happens before anything changes. Loads take turns (`reload` sees to that); readers
//! never wait for one.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::{
    Generation, PolicyHandle,
    counters::{Cause, ReloadCounters},
    folder::{Files, Listing, Snapshot},
    last_good::{Archive, Kept, Manifest},
    loader::{Judgement, Loaded, Loader},
    standing::{Active, Change, Standing},
    status::{BundleSource, PoliciesStatus, WatchStatus},
};
use crate::{
    domain::{ids::TenantId, time::Clock},
    failpoint,
    policy::diagnostic::Diagnostic,
};

/// A writer that is at work writes again within this time.
const GRACE: Duration = Duration::from_millis(50);

/// Where reloading stands, for whoever waits for it: only ever growing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Looks at the folder that are over.
    pub looks: u64,
    /// Loads that are over.
    pub loads: u64,
    /// The generation in force.
    pub generation: u64,
}

pub(super) struct Core {
    pub folder: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub loader: Loader,
    pub archive: Archive,
    pub handle: PolicyHandle,
    pub counters: ReloadCounters,
    pub progress: watch::Sender<Progress>,
    state: Mutex<State>,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub standings: BTreeMap<TenantId, Standing>,
    pub problems: Vec<Diagnostic>,
    pub mode: &'static str,
    pub last_scan: Option<DateTime<Utc>>,
    /// The listing that the last load belongs to, and what it read.
    pub listing: Listing,
    pub files: Files,
    /// The last load met something that may well work a moment later.
    pub retry: bool,
}

/// What one load changed.
pub(super) struct Applied {
    pub changed: Vec<TenantId>,
    pub ok: bool,
}

impl Core {
    pub fn new(folder: PathBuf, clock: Arc<dyn Clock>, loader: Loader, archive: Archive) -> Self {
        Self {
            folder,
            clock,
            loader,
            archive,
            handle: PolicyHandle::default(),
            counters: ReloadCounters::default(),
            progress: watch::Sender::new(Progress::default()),
            state: Mutex::new(State { mode: "off", ..State::default() }),
        }
    }

    /// Held for moments only, never while files are read or scripts compiled.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Looks at the folder without reading it. True where it must be loaded.
    pub fn look(&self, cause: Cause) -> bool {
        self.counters.looked(cause);
        let listing = Listing::of(&self.folder);
        let mut state = self.state();
        state.last_scan = Some(self.clock.now());
        let stale = listing != state.listing || state.retry;
        drop(state);
        self.progress.send_modify(|progress| progress.looks += 1);
        stale
    }

    /// Reads, judges, swaps, keeps. `force` judges even what was judged before.
    pub fn load(&self, cause: Cause, force: bool) -> Applied {
        let snapshot = self.read();
        failpoint::hit("reload.read");
        let previous: BTreeMap<TenantId, Arc<Judgement>> = self
            .state()
            .standings
            .iter()
            .filter_map(|(tenant, standing)| Some((tenant.clone(), Arc::clone(standing.judgement.as_ref()?))))
            .collect();
        let loaded = self.loader.load(&snapshot, &previous, force);
        failpoint::hit("reload.compiled");
        let applied = self.apply(&snapshot, loaded);
        self.counters.loaded(applied.ok, !applied.changed.is_empty(), self.clock.now());
        tracing::debug!(
            cause = cause.as_str(),
            changed = applied.changed.len(),
            ok = applied.ok,
            "policies loaded"
        );
        self.told(1);
        applied
    }

    /// Reads the folder, and looks whether a writer was at it meanwhile: a file that is written again within
    /// `GRACE` may be half of what it will be, and half a file can be a valid policy.
    fn read(&self) -> Snapshot {
        let mut snapshot = Snapshot::read(&self.folder);
        std::thread::sleep(GRACE);
        let later = Listing::of(&self.folder);
        if later != snapshot.listing && later.root() == snapshot.listing.root() {
            snapshot.hold_back(&later, &self.state().files);
        }
        snapshot
    }

    /// Tells whoever waits that a load (or an operator's act) is over.
    pub fn told(&self, loads: u64) {
        let generation = self.handle.current().number;
        self.progress.send_modify(|progress| {
            progress.loads += loads;
            progress.generation = generation;
        });
    }

    pub fn apply(&self, snapshot: &Snapshot, loaded: Loaded) -> Applied {
        let now = self.clock.now();
        let mut state = self.state();
        let mut changes = Vec::new();
        for (tenant, judgement) in &loaded.tenants {
            let change = state.standings.entry(tenant.clone()).or_default().judged(judgement, now);
            changes.push((tenant.clone(), change));
        }
        for (tenant, standing) in state.standings.iter_mut().filter(|(t, _)| !loaded.tenants.contains_key(*t))
        {
            let change = match &snapshot.root_fault {
                Some(fault) if !snapshot.missing => standing.unreadable(fault, now),
                _ => standing.vanished(tenant, now),
            };
            changes.push((tenant.clone(), change));
        }
        // What was never good and is gone leaves no trace.
        state.standings.retain(|_, s| s.active.is_some() || s.judgement.is_some());
        let new_problems: Vec<Diagnostic> =
            loaded.problems.iter().filter(|problem| !state.problems.contains(problem)).cloned().collect();
        state.problems = loaded.problems;
        state.listing = snapshot.listing.clone();
        state.files = snapshot.files.clone();
        state.retry = snapshot.transient;
        let in_force: Vec<TenantId> =
            changes.iter().filter(|(_, c)| *c == Change::InForce).map(|(t, _)| t.clone()).collect();
        if !in_force.is_empty() {
            self.swap(&state);
        }
        let ok = state.ok();
        let kept = in_force.iter().filter_map(|tenant| state.standings.get(tenant)?.kept()).collect();
        self.log(&state, &changes, &new_problems);
        drop(state);
        self.keep(kept);
        Applied { changed: in_force, ok }
    }

    /// Puts every standing's bundle in force with one pointer store.
    pub fn swap(&self, state: &State) {
        let active = state.standings.iter().filter_map(|(tenant, standing)| {
            Some((tenant.clone(), Arc::clone(&standing.active.as_ref()?.bundle)))
        });
        let number = self.handle.current().number + 1;
        let next = Generation { number, bundles: active.collect() };
        failpoint::hit("reload.pre_swap");
        self.handle.replace(next);
        failpoint::hit("reload.post_swap");
    }

    /// Keeps versions in the archive, unless it has them as the last good already. A full disk is told and
    /// stops nothing.
    pub fn keep(&self, versions: Vec<Kept>) {
        if versions.is_empty() {
            return;
        }
        failpoint::hit("reload.pre_save");
        if let Err(error) = self.archive.keep(&versions) {
            let tenants = versions.len();
            tracing::error!(
                %error, tenants,
                "the last good policies could not be kept in the state directory: after a restart the files must be good"
            );
        }
        failpoint::hit("reload.saved");
    }

    fn log(&self, state: &State, changes: &[(TenantId, Change)], problems: &[Diagnostic]) {
        for (tenant, change) in changes {
            let Some(standing) = state.standings.get(tenant) else { continue };
            log_change(tenant, standing, *change);
        }
        // One in a shared script is every tenant's: each is told once.
        let mut told = BTreeSet::new();
        for (tenant, change) in changes {
            let live = matches!(change, Change::InForce | Change::Mended);
            let active = state.standings.get(tenant).and_then(|standing| standing.active.as_ref());
            for warning in active.filter(|_| live).iter().flat_map(|active| &active.warnings) {
                let words = warning.to_string();
                if !told.contains(&words) {
                    tracing::warn!(code = warning.code, "policies: {words}");
                    told.insert(words);
                }
            }
        }
        for problem in problems {
            if problem.is_error() {
                tracing::error!("policies: {problem}");
            } else {
                tracing::warn!("policies: {problem}");
            }
        }
    }

    /// All tenants, and how the folder is watched.
    pub fn status(&self) -> PoliciesStatus {
        let state = self.state();
        PoliciesStatus {
            generation: self.handle.current().number,
            folder: self.folder.display().to_string(),
            watch: WatchStatus { mode: state.mode.to_owned(), last_scan: state.last_scan },
            ok: state.ok(),
            problems: state.problems.clone(),
            tenants: state.standings.iter().map(|(tenant, standing)| standing.status(tenant)).collect(),
        }
    }
}

impl State {
    /// Whether every tenant's files are in force and nothing in the folder is at fault.
    pub fn ok(&self) -> bool {
        self.standings.values().all(Standing::ok) && !self.problems.iter().any(Diagnostic::is_error)
    }
}

impl Standing {
    /// What to keep of the bundle in force.
    pub(super) fn kept(&self) -> Option<Kept> {
        let Active { bundle, since, tally, sources, .. } = self.active.as_ref()?;
        let mut manifest = Manifest::of(sources, bundle.version().as_str(), *since, *tally);
        manifest.pinned.clone_from(&self.pinned);
        Some(Kept { manifest, sources: sources.clone() })
    }
}

/// One line a changed tenant, in words for the person who saved the file.
fn log_change(tenant: &TenantId, standing: &Standing, change: Change) {
    let version = |length: usize| {
        let active = standing.active.as_ref().map(|active| active.bundle.version().as_str());
        active.map(|version| version[..length.min(version.len())].to_owned())
    };
    match change {
        Change::Nothing => {}
        Change::InForce | Change::Mended => {
            let tally = standing.active.as_ref().map(|active| active.tally).unwrap_or_default();
            let version = version(12).unwrap_or_default();
            let warnings = standing.active.as_ref().map_or(0, |active| active.warnings.len());
            let total = tally.passed + tally.failed;
            tracing::info!(
                tenant = tenant.as_str(),
                version,
                warnings,
                "policy in use: {} of {total} tests pass",
                tally.passed
            );
        }
        Change::Refused | Change::Vanished => {
            let errors = standing.candidate.as_ref().map(|c| c.errors.as_slice()).unwrap_or_default();
            let told: Vec<String> = errors.iter().take(5).map(ToString::to_string).collect();
            let stays = match version(12) {
                Some(version) => format!("version {version} stays in use"),
                None => "this tenant has no policy in use".to_owned(),
            };
            let what = if change == Change::Refused { "change refused" } else { "file gone" };
            tracing::warn!(
                tenant = tenant.as_str(),
                errors = errors.len(),
                "{what}, {stays}; other tenants are not affected: {}",
                told.join(" | ")
            );
        }
    }
}

/// Sources of a standing that an operator or a restart put back.
impl Active {
    pub(super) fn restored(
        bundle: Arc<crate::policy::bundle::Bundle>,
        manifest: &Manifest,
        sources: crate::policy::assemble::BundleSources,
        source: BundleSource,
    ) -> Self {
        let (since, tally) = (manifest.since, manifest.tally);
        Self { bundle, since, source, tally, warnings: Vec::new(), sources }
    }
}
