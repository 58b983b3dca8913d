//! The folder checked and tested without a daemon: what `orchestrator check` and `orchestrator test` show.
//!
//! The same reader, the same checks, the same tests as a reload; nothing is put in force, kept or watched.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{
    folder::Snapshot,
    loader::{Judgement, Loaded, Loader},
    policy_tests::TestDecision,
    status::{self, ActiveCriterion, ActiveTemplate, TestTally},
};
use crate::{
    domain::ids::TenantId,
    policy::{assemble::PolicyEnvironment, bundle::Bundle, compile::Way, diagnostic::Diagnostic},
};

/// What a folder's files come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct FolderReport {
    pub folder: String,
    /// No error anywhere, that is, among the tenants asked for.
    pub ok: bool,
    /// What belongs to no tenant.
    pub problems: Vec<Diagnostic>,
    pub tenants: Vec<TenantReport>,
    /// How each script runs, by file; then the strategies' conditions that are not compiled altogether.
    pub scripts: Vec<ScriptReport>,
}

/// How one script runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ScriptReport {
    pub file: String,
    /// `compiled` into a table; `learnt`: run, and what it said remembered; `interpreted`: run each time.
    pub runs: Runs,
    /// Why not compiled, or where it is run all the same, with line and column; empty: compiled altogether.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub because: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Runs {
    Compiled,
    Learnt,
    Interpreted,
}

impl Runs {
    pub const fn as_str(self) -> &'static str {
        match self {
            Runs::Compiled => "compiled",
            Runs::Learnt => "learnt",
            Runs::Interpreted => "interpreted",
        }
    }
}

/// What one tenant's files come to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TenantReport {
    pub tenant: String,
    /// It would go in force.
    pub ok: bool,
    /// None: it does not compile.
    pub version: Option<String>,
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
    pub tests: TestTally,
    pub criteria: Vec<ActiveCriterion>,
    pub templates: Vec<ActiveTemplate>,
}

/// Every test, and the reasons that none of them produced.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestReport {
    pub folder: String,
    /// Every test passed, and nothing kept one from being run.
    pub ok: bool,
    pub passed: u32,
    pub failed: u32,
    pub tests: Vec<TestLine>,
    /// What kept tests from being run: faults of the folder, of test files, of policies.
    pub problems: Vec<Diagnostic>,
    pub coverage: Coverage,
}

/// One test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct TestLine {
    pub name: String,
    pub tenant: String,
    pub file: String,
    pub line: usize,
    pub passed: bool,
    /// Expected and got, in words.
    pub failures: Vec<String>,
    /// What a test that failed got instead, explained.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Box<TestDecision>>,
}

/// Reason coverage: how many of the reasons that scripts can give were given in some test.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Coverage {
    pub covered: u32,
    pub total: u32,
    /// In path and line order.
    pub uncovered: Vec<UncoveredReason>,
}

/// A reason that no test ever produced.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UncoveredReason {
    pub file: String,
    pub line: usize,
    pub column: usize,
    /// The reason's text, as far as it can be read off the script.
    pub text: String,
}

/// What a folder is judged by besides its files.
#[derive(Clone, Debug, Default)]
pub struct Surroundings {
    pub environment: PolicyEnvironment,
    /// The names of the operator's drivers; none: they are not known here.
    pub drivers: Option<Vec<String>>,
}

impl From<PolicyEnvironment> for Surroundings {
    fn from(environment: PolicyEnvironment) -> Self {
        Self { environment, drivers: None }
    }
}

/// Reads and judges a whole folder.
pub fn read_folder(folder: &Path, around: impl Into<Surroundings>) -> Loaded {
    let around = around.into();
    Loader::knowing(around.environment, around.drivers).load_all(&Snapshot::read(folder))
}

/// Reads, compiles, checks and tests a folder, or one tenant of it.
pub fn check_folder(folder: &Path, around: impl Into<Surroundings>, only: Option<&TenantId>) -> FolderReport {
    let loaded = read_folder(folder, around);
    let mut problems = loaded.problems;
    let wanted = |tenant: &TenantId| only.is_none_or(|only| only == tenant);
    let tenants: Vec<TenantReport> = loaded
        .tenants
        .iter()
        .filter(|(tenant, _)| wanted(tenant))
        .map(|(t, j)| tenant_report(t, j))
        .collect();
    problems.extend(missing(only, tenants.is_empty()));
    let ok = tenants.iter().all(|tenant| tenant.ok) && !problems.iter().any(Diagnostic::is_error);
    let judged = loaded.tenants.iter().filter(|(tenant, _)| wanted(tenant));
    let scripts = scripts(judged.filter_map(|(_, judgement)| judgement.bundle.as_deref()));
    FolderReport { folder: folder.display().to_string(), ok, problems, tenants, scripts }
}

/// How the scripts of these bundles run, each file once.
fn scripts<'b>(bundles: impl Iterator<Item = &'b Bundle>) -> Vec<ScriptReport> {
    let mut found: BTreeMap<String, ScriptReport> = BTreeMap::new();
    let mut conditions = Vec::new();
    for bundle in bundles {
        let (program, strategies) = bundle.program();
        for criterion in program.criteria() {
            let (runs, because) = match Way::of(criterion) {
                Way::Compiled { but } => (Runs::Compiled, but),
                Way::Learnt { why } => (Runs::Learnt, why),
                Way::Interpreted { why } => (Runs::Interpreted, why),
            };
            let file = criterion.file().to_owned();
            found.entry(file.clone()).or_insert(ScriptReport { file, runs, because });
        }
        let compiled = strategies.compiled();
        if !(compiled.is_compiled() && compiled.why().is_empty()) {
            let runs = if compiled.is_compiled() { Runs::Compiled } else { Runs::Interpreted };
            let file = format!("strategies of {}", bundle.tenant());
            conditions.push(ScriptReport { file, runs, because: compiled.why().to_vec() });
        }
    }
    found.into_values().chain(conditions).collect()
}

fn missing(only: Option<&TenantId>, none: bool) -> Option<Diagnostic> {
    let tenant = only.filter(|_| none)?;
    let file = format!("tenants/{tenant}.toml");
    Some(
        Diagnostic::error("no-such-tenant", &file, format!("there is no tenant {tenant}"))
            .hint(format!("make {file}")),
    )
}

fn tenant_report(tenant: &TenantId, judgement: &Judgement) -> TenantReport {
    let criteria = judgement.bundle.iter().flat_map(|bundle| {
        bundle.criteria().iter().zip(bundle.weights(None)).map(|(criterion, weight)| ActiveCriterion {
            name: criterion.name().to_string(),
            weight: *weight,
            file: criterion.file().to_owned(),
        })
    });
    TenantReport {
        tenant: tenant.to_string(),
        ok: judgement.accepted().is_some(),
        version: judgement.bundle.as_ref().map(|bundle| bundle.version().to_string()),
        errors: judgement.errors.clone(),
        warnings: judgement.warnings.clone(),
        tests: judgement.tally(),
        criteria: criteria.collect(),
        templates: judgement.bundle.as_ref().map(|bundle| status::templates(bundle)).unwrap_or_default(),
    }
}

/// Runs every policy test, or those of one tenant, and says which reasons none of them produced.
pub fn run_tests(folder: &Path, around: impl Into<Surroundings>, only: Option<&TenantId>) -> TestReport {
    let loaded = read_folder(folder, around);
    let mut problems: Vec<Diagnostic> = loaded.problems;
    let mut tests = Vec::new();
    let mut coverage = CoverageCount::default();
    let wanted = |tenant: &TenantId| only.is_none_or(|only| only == tenant);
    let mut found = false;
    for (tenant, judgement) in loaded.tenants.iter().filter(|(tenant, _)| wanted(tenant)) {
        found = true;
        // A failed test is told as a test; every other fault kept tests from being run as they are meant.
        problems.extend(judgement.errors.iter().filter(|error| error.code != "test-failed").cloned());
        coverage.add(judgement);
        tests.extend(judgement.tests.iter().map(|test| TestLine {
            name: test.name.clone(),
            tenant: tenant.to_string(),
            file: test.file.clone(),
            line: test.line,
            passed: test.failures.is_empty(),
            failures: test.failures.clone(),
            decision: test.decision.clone(),
        }));
    }
    problems.extend(missing(only, !found));
    tests.sort_by(|a, b| (&a.file, a.line, &a.tenant).cmp(&(&b.file, b.line, &b.tenant)));
    let count = |passed: bool| tests.iter().filter(|test| test.passed == passed).count();
    let (passed, failed) = (saturated(count(true)), saturated(count(false)));
    let ok = failed == 0 && !problems.iter().any(Diagnostic::is_error);
    let folder = folder.display().to_string();
    TestReport { folder, ok, passed, failed, tests, problems, coverage: coverage.report() }
}

fn saturated(count: usize) -> u32 {
    u32::try_from(count).unwrap_or(u32::MAX)
}

/// Counts a shared script once, whoever's test made it speak.
#[derive(Default)]
struct CoverageCount {
    /// By `file:line:column`.
    sites: BTreeMap<String, UncoveredReason>,
    covered: BTreeSet<String>,
}

impl CoverageCount {
    fn add(&mut self, judgement: &Judgement) {
        self.covered.extend(judgement.tests.iter().flat_map(|test| test.reasons.iter().cloned()));
        for criterion in judgement.bundle.iter().flat_map(|bundle| bundle.criteria()) {
            for site in criterion.reasons() {
                let (file, line, column) = (criterion.file(), site.line, site.column);
                let reason =
                    UncoveredReason { file: file.to_owned(), line, column, text: site.text.to_string() };
                self.sites.insert(format!("{file}:{line}:{column}"), reason);
            }
        }
    }

    fn report(self) -> Coverage {
        let total = saturated(self.sites.len());
        let left = self.sites.into_iter().filter(|(place, _)| !self.covered.contains(place));
        let mut uncovered: Vec<UncoveredReason> = left.map(|(_, reason)| reason).collect();
        uncovered.sort_unstable();
        Coverage { covered: total - saturated(uncovered.len()), total, uncovered }
    }
}
