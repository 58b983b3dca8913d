//! From a snapshot of the folder to a judgement of every tenant's files: compiled, checked, tested, or every
//! fault at once.
//!
//! A tenant is judged by its own files and those that it shares, so one tenant's fault is never another's. It
//! reads no file, and it puts nothing in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use ring::digest::{Context, SHA256};

use super::{
    folder::{Snapshot, names::Role},
    last_good,
    policy_tests::{self, PolicyTest, TestDecision},
    shared::Shared,
    status::TestTally,
};
use crate::{
    domain::ids::TenantId,
    failpoint,
    policy::{
        assemble::{Assembler, BundleSources, PolicyEnvironment},
        bundle::Bundle,
        diagnostic::Diagnostic,
    },
};

/// Tenants that one thread takes at a time.
const AT_ONCE: usize = 16;

/// What one test came to.
#[derive(Clone, Debug)]
pub struct TestResult {
    pub name: String,
    pub file: String,
    pub line: usize,
    /// Expected and got, in words; empty: it passed.
    pub failures: Vec<String>,
    /// Of a test that failed.
    pub decision: Option<Box<TestDecision>>,
    /// The lines of scripts that gave a reason: `criteria/cost.rhai:9:5`.
    pub reasons: BTreeSet<String>,
}

/// What one tenant's files come to.
#[derive(Debug)]
pub struct Judgement {
    pub sources: BundleSources,
    /// Of all the bytes that it was judged by; equal hashes are not judged again.
    pub source_hash: String,
    /// Compiled and checked; it may go in force only where there are no errors.
    pub bundle: Option<Arc<Bundle>>,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
    pub tests: Vec<TestResult>,
}

impl Judgement {
    /// The bundle, if it may go in force.
    pub fn accepted(&self) -> Option<&Arc<Bundle>> {
        self.bundle.as_ref().filter(|_| self.errors.is_empty())
    }

    pub fn tally(&self) -> TestTally {
        let failed = self.tests.iter().filter(|test| !test.failures.is_empty()).count();
        let count = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        TestTally { passed: count(self.tests.len() - failed), failed: count(failed) }
    }
}

/// The tenants of a snapshot that were to be judged.
#[derive(Debug, Default)]
pub struct Loaded {
    pub tenants: BTreeMap<TenantId, Arc<Judgement>>,
    /// Those that were looked for and have no file.
    pub gone: BTreeSet<TenantId>,
    /// Whether these are all the tenants that there are.
    pub whole: bool,
    /// What belongs to no tenant.
    pub problems: Vec<Diagnostic>,
}

/// Which tenants are judged.
#[derive(Clone, Copy, Debug)]
pub enum Touched<'a> {
    Everything,
    /// Those that these paths of the folder belong to.
    Paths(&'a BTreeSet<String>),
}

/// A tenant's judgement as it was before, by which those are told whose sources are the same.
pub type Previous<'a> = dyn Fn(&TenantId) -> Option<Arc<Judgement>> + Sync + 'a;

/// Judges snapshots. Compiled scripts are shared between tenants and between loads, and what the tenants of one
/// snapshot have in common is put together once.
#[derive(Debug, Default)]
pub struct Loader {
    assembler: Assembler,
    environment: PolicyEnvironment,
    shared: Mutex<Option<Arc<Shared>>>,
}

impl Loader {
    pub fn new(environment: PolicyEnvironment) -> Self {
        Self::knowing(environment, None)
    }

    /// `drivers` are those that a policy may name; none: they are not known here, and nothing is said of them.
    pub fn knowing(environment: PolicyEnvironment, drivers: Option<Vec<String>>) -> Self {
        Self { assembler: Assembler::knowing(drivers), environment, shared: Mutex::default() }
    }

    /// Judges every tenant that was touched and whose sources differ from the `previous` judgement, on so many
    /// threads. With `force` what was refused before is judged again.
    pub fn load(
        &self,
        snapshot: &Snapshot,
        touched: Touched<'_>,
        previous: &Previous<'_>,
        force: bool,
        threads: usize,
    ) -> Loaded {
        let (shared, wanted) = self.shared(snapshot, touched);
        let whole = wanted.is_none();
        let (ids, gone) = match wanted {
            None => (tenants_of(snapshot), BTreeSet::new()),
            Some(wanted) => wanted.into_iter().partition(|id| snapshot.has_tenant(id)),
        };
        let judge = |id: &TenantId| self.judge_anew(snapshot, &shared, id, previous(id), force);
        let tenants = judge_all(&ids, threads, &judge);
        let problems = shared.problems(snapshot);
        Loaded { tenants, gone, whole, problems }
    }

    /// Judges every tenant, on every processor.
    pub fn load_all(&self, snapshot: &Snapshot) -> Loaded {
        let threads = thread::available_parallelism().map_or(1, usize::from);
        self.load(snapshot, Touched::Everything, &|_| None, false, threads)
    }

    /// What all tenants have in common, put together anew where one of its files was touched; and the tenants to
    /// judge, none: all of them.
    fn shared(&self, snapshot: &Snapshot, touched: Touched<'_>) -> (Arc<Shared>, Option<BTreeSet<TenantId>>) {
        let mut kept = self.shared.lock().unwrap_or_else(PoisonError::into_inner);
        let paths = match touched {
            Touched::Paths(paths) => paths,
            Touched::Everything => return (Arc::clone(kept.insert(Arc::new(Shared::of(snapshot)))), None),
        };
        let of_tests = paths.iter().any(|path| path.starts_with("tests/"));
        let others = paths.iter().filter(|path| !path.starts_with("tests/"));
        let owners: Option<BTreeSet<TenantId>> = others.map(|path| owner_of(path)).collect();
        match (kept.take(), owners) {
            (Some(before), Some(mut ids)) => {
                let mut shared = before;
                if of_tests {
                    let fresh = Arc::new(shared.with_tests(snapshot));
                    ids.extend(
                        shared.named().chain(fresh.named()).filter(|id| snapshot.has_tenant(id)).cloned(),
                    );
                    shared = fresh;
                }
                (Arc::clone(kept.insert(shared)), Some(ids))
            }
            _ => (Arc::clone(kept.insert(Arc::new(Shared::of(snapshot)))), None),
        }
    }

    fn judge_anew(
        &self,
        snapshot: &Snapshot,
        shared: &Shared,
        id: &TenantId,
        previous: Option<Arc<Judgement>>,
        force: bool,
    ) -> Arc<Judgement> {
        let (sources, faults) = shared.sources(snapshot, id);
        let source_hash = self.hash(&sources, &faults);
        let same = |known: &Arc<Judgement>| known.source_hash == source_hash;
        match previous.filter(|known| same(known) && !(force && known.accepted().is_none())) {
            Some(known) => known,
            None => Arc::new(self.judge_safely(shared, sources, source_hash, faults)),
        }
    }

    /// Compiles sources that were good before (the last good, an earlier version), without asking their tests
    /// again.
    ///
    /// # Errors
    /// All faults, where this program no longer takes them.
    pub fn restore(&self, sources: &BundleSources) -> Result<Arc<Bundle>, Vec<Diagnostic>> {
        let assembled =
            catch_unwind(AssertUnwindSafe(|| self.assembler.assemble(sources, &self.environment)));
        match assembled {
            Ok(Ok(assembled)) => Ok(Arc::new(assembled.bundle)),
            Ok(Err(faults)) => Err(faults),
            Err(panic) => Err(vec![panicked(&sources.tenant, panic.as_ref())]),
        }
    }

    /// A panic while judging is that tenant's fault, and nobody else's.
    fn judge_safely(
        &self,
        shared: &Shared,
        sources: BundleSources,
        source_hash: String,
        faults: Vec<Diagnostic>,
    ) -> Judgement {
        let judged = catch_unwind(AssertUnwindSafe(|| self.judge(shared, &sources, faults.clone())));
        let judged = judged.unwrap_or_else(|panic| {
            let mut errors = faults;
            errors.push(panicked(&sources.tenant, panic.as_ref()));
            Judged { errors, ..Judged::default() }
        });
        let Judged { bundle, errors, warnings, tests } = judged;
        Judgement { sources, source_hash, bundle, errors, warnings, tests }
    }

    fn judge(&self, shared: &Shared, sources: &BundleSources, faults: Vec<Diagnostic>) -> Judged {
        let mut judged = Judged { errors: faults, ..Judged::default() };
        let of_tenant = |named: &TenantId| *named == sources.tenant;
        let files = || shared.tests_of(&sources.tenant).map(|(_, file)| file);
        for (_, fault) in files().flat_map(|f| &f.faults).filter(|(t, _)| t.as_ref().is_some_and(of_tenant)) {
            if fault.is_error() { &mut judged.errors } else { &mut judged.warnings }.push(fault.clone());
        }
        let assembled = match self.assembler.assemble(sources, &self.environment) {
            Ok(assembled) => assembled,
            Err(mut errors) => {
                errors.append(&mut judged.errors);
                judged.errors = errors;
                return judged;
            }
        };
        judged.warnings.extend(assembled.warnings);
        failpoint::hit("reload.selftest");
        for test in files().flat_map(|file| &file.tests).filter(|test| of_tenant(&test.tenant)) {
            let (result, fault) = run_test(&assembled.bundle, test);
            judged.tests.push(result);
            judged.errors.extend(fault);
        }
        judged.bundle = Some(Arc::new(assembled.bundle));
        judged
    }

    /// Over everything that a judgement depends on.
    fn hash(&self, sources: &BundleSources, faults: &[Diagnostic]) -> String {
        let mut context = Context::new(&SHA256);
        let mut add = |bytes: &[u8]| {
            context.update(&(bytes.len() as u64).to_le_bytes());
            context.update(bytes);
        };
        add(sources.tenant.as_str().as_bytes());
        for (key, value) in &self.environment.0 {
            add(key.as_bytes());
            add(value.as_bytes());
        }
        for file in last_good::files(sources) {
            add(file.path.as_bytes());
            add(file.digest());
        }
        for fault in faults {
            add(fault.to_string().as_bytes());
        }
        hex(context.finish().as_ref())
    }
}

#[derive(Default)]
struct Judged {
    bundle: Option<Arc<Bundle>>,
    errors: Vec<Diagnostic>,
    warnings: Vec<Diagnostic>,
    tests: Vec<TestResult>,
}

fn run_test(bundle: &Bundle, test: &PolicyTest) -> (TestResult, Option<Diagnostic>) {
    let outcome = policy_tests::run(bundle, test);
    let result = TestResult {
        name: test.name.clone(),
        file: test.file.clone(),
        line: test.line,
        failures: outcome.failures,
        decision: outcome.decision,
        reasons: outcome.reasons,
    };
    (result, outcome.fault)
}

fn panicked(tenant: &TenantId, panic: &(dyn std::any::Any + Send)) -> Diagnostic {
    let said = panic
        .downcast_ref::<String>()
        .map(String::as_str)
        .or_else(|| panic.downcast_ref::<&str>().copied())
        .unwrap_or("no words");
    let file = format!("tenants/{tenant}.toml");
    let told = format!("checking this policy made the program fail: {said}");
    Diagnostic::error("internal-error", &file, told)
        .hint("this is a fault of ours: report it with the files; what was in force stays")
}

/// Lower-case hex digits.
pub(super) fn hex(bytes: &[u8]) -> String {
    const DIGITS: [char; 16] =
        ['0', '1', '2', '3', '4', '5', '6', '7', '8', '9', 'a', 'b', 'c', 'd', 'e', 'f'];
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        text.extend([DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
    }
    text
}

/// Judges tenants, on several threads where there are many: each has the next few.
fn judge_all(
    ids: &BTreeSet<TenantId>,
    threads: usize,
    judge: &(dyn Fn(&TenantId) -> Arc<Judgement> + Sync),
) -> BTreeMap<TenantId, Arc<Judgement>> {
    let judged = |id: &TenantId| (id.clone(), judge(id));
    if threads < 2 || ids.len() < 2 * AT_ONCE {
        return ids.iter().map(judged).collect();
    }
    let ids: Vec<&TenantId> = ids.iter().collect();
    let next = AtomicUsize::new(0);
    let work = || {
        let mut done = Vec::new();
        loop {
            let from = next.fetch_add(AT_ONCE, Ordering::Relaxed);
            let Some(some) = ids.get(from..).filter(|left| !left.is_empty()) else { return done };
            done.extend(some.iter().take(AT_ONCE).map(|id| judged(id)));
        }
    };
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mut all: BTreeMap<_, _> = work().into_iter().collect();
        for other in others {
            // Judging contains its own panics; one of ours is to be seen.
            all.extend(other.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)));
        }
        all
    })
}

/// Whose a path is; none: everybody's.
fn owner_of(path: &str) -> Option<TenantId> {
    let rest = path.strip_prefix("tenants/")?;
    let name = rest.split('/').next().unwrap_or(rest);
    TenantId::parse(name.strip_suffix(".toml").unwrap_or(name)).ok()
}

/// The tenants that have a file, readable or not.
fn tenants_of(snapshot: &Snapshot) -> BTreeSet<TenantId> {
    let readable = snapshot.files.values().filter_map(|(role, _)| match role {
        Role::Tenant(id) => Some(id.clone()),
        _ => None,
    });
    let refused = snapshot.errors_under("tenants").filter_map(|problem| {
        let stem = problem.file.strip_prefix("tenants/")?.strip_suffix(".toml")?;
        TenantId::parse(stem).ok()
    });
    readable.chain(refused).collect()
}

#[cfg(test)]
mod tests;
