//! From a snapshot of the folder to a judgement of every tenant's files: compiled, checked, tested, or every
//! fault at once.
//!
//! A tenant is judged by its own files and those that it shares, so one tenant's fault is never another's. It
//! reads no file, and it puts nothing in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use ring::digest::{Context, SHA256};

use super::{
    folder::{Snapshot, names::Role},
    last_good,
    policy_tests::{self, PolicyTest, TestDecision, TestFile},
    status::TestTally,
};
use crate::{
    domain::ids::{CriterionName, TenantId},
    failpoint,
    policy::{
        assemble::{Assembler, BundleSources, PolicyEnvironment, SourceFile},
        bundle::Bundle,
        diagnostic::Diagnostic,
        shipped,
    },
};

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

/// Every tenant of a snapshot, judged.
#[derive(Debug, Default)]
pub struct Loaded {
    pub tenants: BTreeMap<TenantId, Arc<Judgement>>,
    /// What belongs to no tenant.
    pub problems: Vec<Diagnostic>,
}

/// Judges snapshots. Compiled scripts are shared between tenants and between loads.
#[derive(Debug, Default)]
pub struct Loader {
    assembler: Assembler,
    environment: PolicyEnvironment,
}

impl Loader {
    pub fn new(environment: PolicyEnvironment) -> Self {
        Self::knowing(environment, None)
    }

    /// `drivers` are those that a policy may name; none: they are not known here, and nothing is said of them.
    pub fn knowing(environment: PolicyEnvironment, drivers: Option<Vec<String>>) -> Self {
        Self { assembler: Assembler::knowing(drivers), environment }
    }

    /// Judges every tenant whose sources differ from the `previous` judgement; all of them when `force` is set.
    pub fn load(
        &self,
        snapshot: &Snapshot,
        previous: &BTreeMap<TenantId, Arc<Judgement>>,
        force: bool,
    ) -> Loaded {
        let shared = Shared::of(snapshot);
        let mut tenants = BTreeMap::new();
        for id in tenants_of(snapshot) {
            let (sources, faults) = shared.sources(snapshot, &id);
            let source_hash = self.hash(&shared, &sources, &faults);
            let known = previous.get(&id).filter(|known| !force && known.source_hash == source_hash);
            let judgement = match known {
                Some(known) => Arc::clone(known),
                None => Arc::new(self.judge_safely(&shared, sources, source_hash, faults)),
            };
            tenants.insert(id, judgement);
        }
        let problems = shared.problems(snapshot, &tenants);
        Loaded { tenants, problems }
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
        let files = || shared.tests.iter().map(|(_, file)| file);
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
    fn hash(&self, shared: &Shared, sources: &BundleSources, faults: &[Diagnostic]) -> String {
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
            match shared.digests.get(&file.path) {
                Some(digest) => add(digest),
                None => add(&file.bytes),
            }
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
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// The tenants that have a file, readable or not.
fn tenants_of(snapshot: &Snapshot) -> BTreeSet<TenantId> {
    let readable = snapshot.files.values().filter_map(|(role, _)| match role {
        Role::Tenant(id) => Some(id.clone()),
        _ => None,
    });
    let refused = snapshot.problems.iter().filter(|problem| problem.is_error()).filter_map(|problem| {
        let stem = problem.file.strip_prefix("tenants/")?.strip_suffix(".toml")?;
        TenantId::parse(stem).ok()
    });
    readable.chain(refused).collect()
}

/// What the tenants of one snapshot share.
struct Shared {
    default: Arc<SourceFile>,
    /// By name; a script that cannot be read has none.
    criteria: BTreeMap<CriterionName, Arc<SourceFile>>,
    /// By id; a template that cannot be read has none.
    templates: BTreeMap<String, Arc<SourceFile>>,
    tests: Vec<(Arc<SourceFile>, TestFile)>,
    /// SHA-256 of each file, by path, computed once however many tenants share it.
    digests: BTreeMap<String, Vec<u8>>,
}

impl Shared {
    fn of(snapshot: &Snapshot) -> Self {
        let (mut criteria, mut templates) = (BTreeMap::new(), BTreeMap::new());
        let mut tests = Vec::new();
        for (role, file) in snapshot.files.values() {
            match role {
                Role::Criterion(name) => {
                    criteria.insert(name.clone(), Arc::clone(file));
                }
                Role::Template(id) => {
                    templates.insert(id.clone(), Arc::clone(file));
                }
                Role::Test => tests.push((Arc::clone(file), policy_tests::parse_file(file))),
                _ => {}
            }
        }
        // What is shipped stands in for a folder that has none at all; one script put in the folder means
        // that all are meant to be there.
        if criteria.is_empty() && snapshot.faults_at("criteria/any").next().is_none() {
            for file in shipped::criteria() {
                let stem = file.path.trim_start_matches("criteria/").trim_end_matches(".rhai");
                criteria.extend(CriterionName::parse(stem).ok().map(|name| (name, Arc::clone(&file))));
            }
        }
        if templates.is_empty() && snapshot.faults_at("templates/any").next().is_none() {
            for file in shipped::templates() {
                let id = file.path.trim_start_matches("templates/").trim_end_matches(".toml");
                templates.insert(id.to_owned(), Arc::clone(&file));
            }
        }
        let default = snapshot.file("default.toml").cloned().unwrap_or_else(shipped::default);
        let digest = |file: &SourceFile| ring::digest::digest(&SHA256, &file.bytes).as_ref().to_vec();
        let read = snapshot.files.iter().map(|(path, (_, file))| (path.clone(), digest(file)));
        let mut digests: BTreeMap<String, Vec<u8>> = read.collect();
        for file in criteria.values().chain(templates.values()).chain([&default]) {
            digests.entry(file.path.clone()).or_insert_with(|| digest(file));
        }
        Self { default, criteria, templates, tests, digests }
    }

    /// One tenant's texts, and the faults that keep some of them from being read.
    fn sources(&self, snapshot: &Snapshot, tenant: &TenantId) -> (BundleSources, Vec<Diagnostic>) {
        let path = format!("tenants/{tenant}.toml");
        let own = snapshot.file(&path).cloned();
        let mut faults: Vec<Diagnostic> = snapshot.faults_at(&path).cloned().collect();
        faults.extend(snapshot.faults_at("default.toml").cloned());
        let (mut criteria, mut templates) = (self.criteria.clone(), self.templates.clone());
        for (role, file) in snapshot.files.values() {
            match role {
                Role::TenantCriterion(owner, name) if owner == tenant => {
                    criteria.insert(name.clone(), Arc::clone(file));
                }
                Role::TenantTemplate(owner, id) if owner == tenant => {
                    templates.insert(id.clone(), Arc::clone(file));
                }
                _ => {}
            }
        }
        for fault in snapshot.problems.iter().filter(|problem| problem.is_error()) {
            let under =
                |folder: &str| fault.file.starts_with(folder) || fault.file == folder.trim_end_matches('/');
            // A shared file that cannot be read holds up those who have no version of their own.
            let own = |path: &str| format!("tenants/{tenant}/{path}");
            let replaced = snapshot.file(&own(&fault.file)).is_some();
            if ["criteria/", "templates/"].iter().any(|at| under(&own(at)) || (under(at) && !replaced)) {
                faults.push(fault.clone());
            }
        }
        let tests = self.tests.iter().filter(|(_, read)| read.tenants.contains(tenant));
        let sources = BundleSources {
            tenant: tenant.clone(),
            default: Arc::clone(&self.default),
            own: own.unwrap_or_else(|| Arc::new(SourceFile { path, bytes: Vec::new() })),
            criteria: criteria.into_values().collect(),
            templates: templates.into_values().collect(),
            tests: tests.map(|(file, _)| Arc::clone(file)).collect(),
        };
        (sources, faults)
    }

    /// One remark for each tenant that tests name and that has no file, at the first of them.
    fn tests_of_nobody(&self, tenants: &BTreeMap<TenantId, Arc<Judgement>>) -> Vec<Diagnostic> {
        let mut named: BTreeMap<&TenantId, (&PolicyTest, usize)> = BTreeMap::new();
        let tests = self.tests.iter().flat_map(|(_, file)| &file.tests);
        for test in tests.filter(|test| !tenants.contains_key(&test.tenant)) {
            named.entry(&test.tenant).or_insert((test, 0)).1 += 1;
        }
        named.into_values().map(|(first, count)| first.of_nobody(count)).collect()
    }

    /// What belongs to no tenant: faults of the folder, tests of nobody, scripts of nobody.
    fn problems(&self, snapshot: &Snapshot, tenants: &BTreeMap<TenantId, Arc<Judgement>>) -> Vec<Diagnostic> {
        // A tenant's own file that cannot be read is told with the tenant.
        let of_tenant = |problem: &Diagnostic| {
            let place = problem.file.strip_prefix("tenants/").and_then(|rest| rest.split(['.', '/']).next());
            problem.is_error() && place.is_some_and(|id| tenants.contains_key(id))
        };
        let mut problems: Vec<Diagnostic> =
            snapshot.problems.iter().filter(|problem| !of_tenant(problem)).cloned().collect();
        for (_, file) in &self.tests {
            for (tenant, fault) in &file.faults {
                if !tenant.as_ref().is_some_and(|tenant| tenants.contains_key(tenant)) {
                    problems.push(fault.clone());
                }
            }
        }
        problems.extend(self.tests_of_nobody(tenants));
        let mut homeless = BTreeSet::new();
        for (role, file) in snapshot.files.values() {
            if let Role::TenantCriterion(owner, _) | Role::TenantTemplate(owner, _) = role
                && !tenants.contains_key(owner)
                && homeless.insert(owner)
            {
                let told = format!("this file is not read: there is no tenants/{owner}.toml");
                problems.push(
                    Diagnostic::warning("no-such-tenant", &file.path, told)
                        .hint(format!("make tenants/{owner}.toml (it may be empty), or remove the folder")),
                );
            }
        }
        if tenants.is_empty() && snapshot.root_fault.is_none() {
            problems.push(
                Diagnostic::warning(
                    "no-tenants",
                    "tenants",
                    "there is no tenant: nothing can be decided yet",
                )
                .hint("make a file tenants/<tenantId>.toml; an empty one takes everything from default.toml"),
            );
        }
        problems
    }
}
