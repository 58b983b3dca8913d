//! The blocking half of reloading: read, judge, swap with one pointer store, keep, tell.
//!
//! Everything that can fail happens before anything changes. Loads take turns (`reload` sees to that); readers
//! never wait for one.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet, btree_map::Entry},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::sync::watch;

use super::{
    PolicyHandle,
    counters::{Cause, ReloadCounters},
    folder::{Difference, Scope, Snapshot},
    keeper::Keeper,
    last_good::{Archive, Kept},
    loader::{Loaded, Loader, Touched},
    standing::{Active, Change, Standing},
    status::{BundleSource, PoliciesStatus, Summary, TestTally, WatchStatus},
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

/// Lines of one load in the log about tenants, at most: a shared file concerns all of them.
const TOLD_MAX: usize = 50;
/// All contents are compared once in so many regular looks.
const COMPARED_IN: usize = 15;

pub(super) struct Core {
    pub folder: PathBuf,
    pub clock: Arc<dyn Clock>,
    pub loader: Loader,
    pub archive: Archive,
    pub keeper: Keeper,
    pub handle: PolicyHandle,
    pub counters: ReloadCounters,
    pub progress: watch::Sender<Progress>,
    /// Where events said that something changed, since somebody looked.
    pub hints: Arc<Mutex<Scope>>,
    held: Mutex<Held>,
    state: Mutex<State>,
}

/// The folder as it was read last, and what may have changed since. Held for as long as a load takes: two are never
/// made at once.
#[derive(Default)]
pub(super) struct Held {
    pub snapshot: Snapshot,
    /// What must be looked at before the next load.
    scope: Scope,
    /// How the folder differed when somebody last looked.
    seen: Option<Difference>,
    /// A load did not come to its end: what it read was taken over, and is still to be judged.
    unjudged: bool,
}

#[derive(Debug, Default)]
pub(super) struct State {
    pub standings: BTreeMap<TenantId, Standing>,
    pub problems: Vec<Diagnostic>,
    pub mode: &'static str,
    pub last_scan: Option<DateTime<Utc>>,
    /// How many of `standings` are not in force as their files stand.
    out: usize,
}

/// How a look at the folder is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// Where events told of a change.
    Hinted,
    /// At all names.
    Whole,
    /// At all names, and at some of the contents.
    Regular,
}

/// What one load changed.
pub(super) struct Applied {
    pub changed: Vec<TenantId>,
    pub ok: bool,
}

impl Core {
    pub fn new(
        folder: PathBuf,
        clock: Arc<dyn Clock>,
        loader: Loader,
        archive: Archive,
        keeper: Keeper,
    ) -> Self {
        Self {
            folder,
            clock,
            loader,
            archive,
            keeper,
            handle: PolicyHandle::default(),
            counters: ReloadCounters::default(),
            progress: watch::Sender::new(Progress::default()),
            hints: Arc::new(Mutex::new(Scope::nothing())),
            held: Mutex::default(),
            state: Mutex::new(State { mode: "off", ..State::default() }),
        }
    }

    /// Held for moments only, never while files are read or scripts compiled.
    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Held by whoever looks at the folder or reads it.
    pub fn held(&self) -> MutexGuard<'_, Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks at the folder. True where it must be loaded.
    pub fn look(&self, cause: Cause, how: Look) -> bool {
        self.counters.looked(cause);
        let mut held = self.held();
        if how == Look::Regular {
            let some = held.snapshot.files.len() / COMPARED_IN + 1;
            held.snapshot.compare_some(&self.folder, some);
        }
        self.see(&mut held, how != Look::Hinted);
        let Held { snapshot, seen, unjudged, .. } = &*held;
        let stale = *unjudged || seen.as_ref().is_some_and(|seen| snapshot.is_stale(seen));
        if !stale {
            held.rest();
        }
        drop(held);
        self.state().last_scan = Some(self.clock.now());
        self.progress.send_modify(|progress| progress.looks += 1);
        stale
    }

    /// Whether events told of a change since somebody looked.
    pub fn is_hinted(&self) -> bool {
        !self.hints.lock().unwrap_or_else(PoisonError::into_inner).is_nothing()
    }

    /// Looks where something may have changed, or everywhere. True if it is not as it was at the last glance.
    pub fn glance(&self, whole: bool) -> bool {
        self.see(&mut self.held(), whole)
    }

    fn see(&self, held: &mut Held, whole: bool) -> bool {
        if whole {
            held.scope.add(Scope::Whole);
        }
        let mut hints = self.hints.lock().unwrap_or_else(PoisonError::into_inner);
        held.scope.add(std::mem::take(&mut *hints));
        drop(hints);
        let seen = held.snapshot.difference(&self.folder, &held.scope, false);
        let moved = !held.seen.as_ref().is_some_and(|before| before.same(&seen));
        held.seen = Some(seen);
        moved
    }

    /// Reads, judges, swaps, has it kept. With `force` every file is read again, and what was refused is judged
    /// again.
    pub fn load(&self, cause: Cause, force: bool) -> Applied {
        let mut held = self.held();
        let touched = self.read(&mut held, force);
        failpoint::hit("reload.read");
        let everything = std::mem::replace(&mut held.unjudged, true) || force;
        let touched = if everything { Touched::Everything } else { Touched::Paths(&touched) };
        let known = |tenant: &TenantId| self.state().standings.get(tenant)?.judgement.clone();
        // One thread: the others are for messages.
        let loaded = self.loader.load(&held.snapshot, touched, &known, force, 1);
        failpoint::hit("reload.compiled");
        let applied = self.apply(&held.snapshot, loaded, false);
        held.unjudged = false;
        drop(held);
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

    /// Reads what changed, and looks whether a writer was at it meanwhile: a file that is written again within
    /// `GRACE` may be half of what it will be, and half a file can be a valid policy.
    fn read(&self, held: &mut Held, force: bool) -> BTreeSet<String> {
        if force {
            held.scope.add(Scope::Whole);
        }
        let mut batch = held.snapshot.gather(&self.folder, &held.scope, force);
        std::thread::sleep(GRACE);
        let later = held.snapshot.difference(&self.folder, &held.scope, false);
        let same_root = later.same_root(&batch.difference);
        let moving = if same_root { held.snapshot.hold_back(&mut batch, &later) } else { BTreeSet::new() };
        held.rest();
        held.scope = if same_root { Scope::Paths(moving) } else { Scope::Whole };
        held.snapshot.apply(&self.folder, batch)
    }

    /// Tells whoever waits that a load (or an operator's act) is over.
    pub fn told(&self, loads: u64) {
        let generation = self.handle.current().number;
        self.progress.send_modify(|progress| {
            progress.loads += loads;
            progress.generation = generation;
        });
    }

    /// Takes judgements over. The `first` time everything that stands is put in force, what was restored too.
    pub fn apply(&self, snapshot: &Snapshot, loaded: Loaded, first: bool) -> Applied {
        let now = self.clock.now();
        let mut state = self.state();
        let mut changes = Vec::new();
        for (tenant, judgement) in &loaded.tenants {
            let change = state.with(tenant, |standing| standing.judged(judgement, now));
            changes.push((tenant.clone(), change));
        }
        for tenant in state.left_out(&loaded) {
            let change = state.with(&tenant, |standing| match &snapshot.root_fault {
                Some(fault) if !snapshot.missing => standing.unreadable(fault, now),
                _ => standing.vanished(&tenant, now),
            });
            // What was never good and is gone leaves no trace.
            state.drop_traceless(&tenant);
            changes.push((tenant, change));
        }
        let known: HashSet<String> = state.problems.iter().map(ToString::to_string).collect();
        let new = |problem: &&Diagnostic| !known.contains(&problem.to_string());
        let new_problems: Vec<Diagnostic> = loaded.problems.iter().filter(new).cloned().collect();
        state.problems = loaded.problems;
        let in_force: Vec<TenantId> =
            changes.iter().filter(|(_, c)| *c == Change::InForce).map(|(t, _)| t.clone()).collect();
        if first {
            let all: Vec<TenantId> = state.standings.keys().cloned().collect();
            self.swap(&state, &all);
        } else if !in_force.is_empty() {
            self.swap(&state, &in_force);
        }
        let ok = state.ok();
        let kept = in_force.iter().filter_map(|tenant| state.standings.get(tenant)?.kept()).collect();
        self.log(&state, &changes, &new_problems);
        drop(state);
        self.keeper.keep(kept);
        Applied { changed: in_force, ok }
    }

    /// Puts these standings' bundles in force with one pointer store.
    pub fn swap(&self, state: &State, tenants: &[TenantId]) {
        let mut next = super::Generation::clone(&self.handle.current());
        next.number += 1;
        for tenant in tenants {
            let active = state.standings.get(tenant).and_then(|standing| standing.active.as_ref());
            next.bundles.set(tenant, active.map(|active| Arc::clone(&active.bundle)));
        }
        failpoint::hit("reload.pre_swap");
        self.handle.replace(next);
        failpoint::hit("reload.post_swap");
    }

    fn log(&self, state: &State, changes: &[(TenantId, Change)], problems: &[Diagnostic]) {
        let mut counted = BTreeMap::new();
        for (tenant, change) in changes {
            let Some(standing) = state.standings.get(tenant) else { continue };
            let count: &mut usize = counted.entry(change.in_words()).or_default();
            *count += 1;
            if *count <= TOLD_MAX {
                log_change(tenant, standing, *change);
            }
        }
        for (what, count) in counted {
            if let (Some(what), more @ 1..) = (what, count.saturating_sub(TOLD_MAX)) {
                tracing::warn!(
                    tenants = more,
                    "{what} for {more} further tenants: `orchestrator policies` names them"
                );
            }
        }
        // One in a shared script is every tenant's: each is told once.
        let mut told = HashSet::new();
        for (tenant, change) in changes {
            let live = matches!(change, Change::InForce | Change::Mended);
            let active = state.standings.get(tenant).and_then(|standing| standing.active.as_ref());
            for warning in active.filter(|_| live).iter().flat_map(|active| &active.warnings) {
                let words = warning.to_string();
                if told.len() < TOLD_MAX && !told.contains(&words) {
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

    /// What is in force in short, without going through the tenants.
    pub fn summary(&self) -> Summary {
        let state = self.state();
        let (generation, ok, not_in_force) = (self.handle.current().number, state.ok(), state.out);
        Summary { generation, ok, not_in_force }
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

impl Held {
    /// Nothing is to be looked at.
    fn rest(&mut self) {
        (self.scope, self.seen) = (Scope::nothing(), None);
    }
}

impl State {
    /// Whether every tenant's files are in force and nothing in the folder is at fault.
    pub fn ok(&self) -> bool {
        self.out == 0 && !self.problems.iter().any(Diagnostic::is_error)
    }

    /// Changes one tenant's standing, which is made where there is none.
    pub fn with<T>(&mut self, tenant: &TenantId, change: impl FnOnce(&mut Standing) -> T) -> T {
        let standing = match self.standings.entry(tenant.clone()) {
            Entry::Occupied(known) => {
                self.out -= usize::from(!known.get().ok());
                known.into_mut()
            }
            Entry::Vacant(new) => new.insert(Standing::default()),
        };
        let done = change(standing);
        self.out += usize::from(!standing.ok());
        done
    }

    /// Forgets a tenant.
    pub fn remove(&mut self, tenant: &TenantId) {
        if let Some(standing) = self.standings.remove(tenant) {
            self.out -= usize::from(!standing.ok());
        }
    }

    fn drop_traceless(&mut self, tenant: &TenantId) {
        let traceless = |standing: &Standing| standing.active.is_none() && standing.judgement.is_none();
        if self.standings.get(tenant).is_some_and(traceless) {
            self.remove(tenant);
        }
    }

    /// The tenants that stand somewhere and have no file.
    fn left_out(&self, loaded: &Loaded) -> Vec<TenantId> {
        if loaded.whole {
            let others = self.standings.keys().filter(|tenant| !loaded.tenants.contains_key(*tenant));
            return others.cloned().collect();
        }
        loaded.gone.iter().filter(|tenant| self.standings.contains_key(*tenant)).cloned().collect()
    }
}

impl Change {
    /// What many tenants have in common, for the log.
    fn in_words(self) -> Option<&'static str> {
        match self {
            Change::Nothing => None,
            Change::InForce | Change::Mended => Some("policy in use"),
            Change::Refused => Some("change refused"),
            Change::Vanished => Some("file gone"),
        }
    }
}

impl Standing {
    /// What to keep of the bundle in force.
    pub(super) fn kept(&self) -> Option<Kept> {
        let Active { bundle, since, tally, sources, .. } = self.active.as_ref()?;
        Some(Kept {
            sources: sources.clone(),
            version: bundle.version().clone(),
            since: *since,
            tally: *tally,
            pinned: self.pinned.clone(),
        })
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
        (since, tally): (DateTime<Utc>, TestTally),
        sources: crate::policy::assemble::BundleSources,
        source: BundleSource,
    ) -> Self {
        Self { bundle, since, source, tally, warnings: Vec::new(), sources }
    }
}
