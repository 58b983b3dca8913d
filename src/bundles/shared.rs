//! What the tenants of one snapshot have in common: default.toml, scripts, templates, tests, and their faults.
//!
//! Put together once for all of them; a tenant without files of its own shares the very lists. It judges nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use super::{
    folder::{Snapshot, names::Role},
    policy_tests::{self, PolicyTest, TestFile},
};
use crate::{
    domain::ids::{CriterionName, TenantId},
    policy::{
        assemble::{BundleSources, SourceFile, SourceFiles},
        diagnostic::Diagnostic,
        shipped,
    },
};

type TestFiles = Vec<(Arc<SourceFile>, TestFile)>;

#[derive(Debug)]
pub(super) struct Shared {
    default: Arc<SourceFile>,
    /// By name; a script that cannot be read has none.
    criteria: BTreeMap<CriterionName, Arc<SourceFile>>,
    /// By id; a template that cannot be read has none.
    templates: BTreeMap<String, Arc<SourceFile>>,
    /// The same two as lists, for tenants that replace none.
    lists: (SourceFiles, SourceFiles),
    tests: TestFiles,
    /// Which of `tests` name a tenant, in tests or in their faults.
    naming: BTreeMap<TenantId, Vec<usize>>,
    /// Why default.toml cannot be read.
    default_faults: Vec<Diagnostic>,
    /// Scripts and templates that cannot be read: faults of everybody who has none of their own instead.
    faults: Vec<Diagnostic>,
}

impl Shared {
    pub fn of(snapshot: &Snapshot) -> Self {
        let (mut criteria, mut templates) = (BTreeMap::new(), BTreeMap::new());
        for (role, file) in snapshot.files_under("criteria").chain(snapshot.files_under("templates")) {
            match role {
                Role::Criterion(name) => drop(criteria.insert(name.clone(), Arc::clone(file))),
                Role::Template(id) => drop(templates.insert(id.clone(), Arc::clone(file))),
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
        let (tests, naming) = tests(snapshot);
        let lists = (criteria.values().cloned().collect(), templates.values().cloned().collect());
        let faults = snapshot.errors_under("criteria").chain(snapshot.errors_under("templates"));
        Self {
            default: snapshot.file("default.toml").cloned().unwrap_or_else(shipped::default),
            criteria,
            templates,
            lists,
            tests,
            naming,
            default_faults: snapshot.faults_at("default.toml").cloned().collect(),
            faults: faults.cloned().collect(),
        }
    }

    /// The same with the tests as they are now.
    pub fn with_tests(&self, snapshot: &Snapshot) -> Self {
        let (tests, naming) = tests(snapshot);
        Self {
            default: Arc::clone(&self.default),
            criteria: self.criteria.clone(),
            templates: self.templates.clone(),
            lists: self.lists.clone(),
            tests,
            naming,
            default_faults: self.default_faults.clone(),
            faults: self.faults.clone(),
        }
    }

    /// The tenants that tests name.
    pub fn named(&self) -> impl Iterator<Item = &TenantId> {
        self.naming.keys()
    }

    /// The test files that name a tenant.
    pub fn tests_of(&self, tenant: &TenantId) -> impl Iterator<Item = &(Arc<SourceFile>, TestFile)> {
        self.naming.get(tenant).into_iter().flatten().filter_map(|at| self.tests.get(*at))
    }

    /// One tenant's texts, and the faults that keep some of them from being read.
    pub fn sources(&self, snapshot: &Snapshot, tenant: &TenantId) -> (BundleSources, Vec<Diagnostic>) {
        let path = format!("tenants/{tenant}.toml");
        let own = snapshot.file(&path).cloned();
        let mut faults: Vec<Diagnostic> = snapshot.faults_at(&path).cloned().collect();
        faults.extend(self.default_faults.iter().cloned());
        let (criteria, templates) = self.lists_of(snapshot, tenant);
        let directory = format!("tenants/{tenant}");
        for place in ["criteria", "templates"] {
            faults.extend(snapshot.errors_under(&format!("{directory}/{place}")).cloned());
        }
        // A shared file that cannot be read holds up those who have no version of their own.
        let replaced = |fault: &Diagnostic| snapshot.file(&format!("{directory}/{}", fault.file)).is_some();
        faults.extend(self.faults.iter().filter(|fault| !replaced(fault)).cloned());
        let tests = self.tests_of(tenant).filter(|(_, read)| read.tenants.contains(tenant));
        let sources = BundleSources {
            tenant: tenant.clone(),
            default: Arc::clone(&self.default),
            own: own.unwrap_or_else(|| Arc::new(SourceFile::new(path, Vec::new()))),
            criteria,
            templates,
            tests: tests.map(|(file, _)| Arc::clone(file)).collect(),
        };
        (sources, faults)
    }

    /// The scripts and templates in force for a tenant: the very lists of all, where it replaces nothing in them.
    fn lists_of(&self, snapshot: &Snapshot, tenant: &TenantId) -> (SourceFiles, SourceFiles) {
        let (mut criteria, mut templates) = (BTreeMap::new(), BTreeMap::new());
        for (role, file) in snapshot.files_under(&format!("tenants/{tenant}")) {
            match role {
                Role::TenantCriterion(_, name) => drop(criteria.insert(name.clone(), Arc::clone(file))),
                Role::TenantTemplate(_, id) => drop(templates.insert(id.clone(), Arc::clone(file))),
                _ => {}
            }
        }
        (over(&self.criteria, &self.lists.0, criteria), over(&self.templates, &self.lists.1, templates))
    }

    /// One remark for each tenant that tests name and that has no file, at the first of them.
    fn tests_of_nobody(&self, snapshot: &Snapshot) -> Vec<Diagnostic> {
        let mut named: BTreeMap<&TenantId, (&PolicyTest, usize)> = BTreeMap::new();
        let tests = self.tests.iter().flat_map(|(_, file)| &file.tests);
        for test in tests.filter(|test| !snapshot.has_tenant(&test.tenant)) {
            named.entry(&test.tenant).or_insert((test, 0)).1 += 1;
        }
        named.into_values().map(|(first, count)| first.of_nobody(count)).collect()
    }

    /// What belongs to no tenant: faults of the folder, tests of nobody, scripts of nobody.
    pub fn problems(&self, snapshot: &Snapshot) -> Vec<Diagnostic> {
        let is_tenant = |id: &str| TenantId::parse(id).is_ok_and(|id| snapshot.has_tenant(&id));
        // A tenant's own file that cannot be read is told with the tenant.
        let of_tenant = |problem: &Diagnostic| {
            let place = problem.file.strip_prefix("tenants/").and_then(|rest| rest.split(['.', '/']).next());
            problem.is_error() && place.is_some_and(is_tenant)
        };
        let mut problems: Vec<Diagnostic> =
            snapshot.problems().filter(|problem| !of_tenant(problem)).cloned().collect();
        for (tenant, fault) in self.tests.iter().flat_map(|(_, file)| &file.faults) {
            if !tenant.as_ref().is_some_and(|tenant| snapshot.has_tenant(tenant)) {
                problems.push(fault.clone());
            }
        }
        problems.extend(self.tests_of_nobody(snapshot));
        problems.extend(snapshot.owners().filter_map(|owner| homeless(snapshot, owner)));
        if snapshot.root_fault.is_none() && !has_tenants(snapshot) {
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

/// A list with a tenant's own files in the places of those of the same name, in the order of names.
fn over<K: Clone + Ord>(
    all: &BTreeMap<K, Arc<SourceFile>>,
    list: &SourceFiles,
    own: BTreeMap<K, Arc<SourceFile>>,
) -> SourceFiles {
    if own.is_empty() {
        return Arc::clone(list);
    }
    let mut merged = all.clone();
    merged.extend(own);
    merged.into_values().collect()
}

/// Scripts or templates of a tenant that has no file are read by nobody.
fn homeless(snapshot: &Snapshot, owner: &TenantId) -> Option<Diagnostic> {
    if snapshot.has_tenant(owner) {
        return None;
    }
    let (_, first) = snapshot.files_under(&format!("tenants/{owner}")).next()?;
    let told = format!("this file is not read: there is no tenants/{owner}.toml");
    let remark = Diagnostic::warning("no-such-tenant", &first.path, told);
    Some(remark.hint(format!("make tenants/{owner}.toml (it may be empty), or remove the folder")))
}

fn has_tenants(snapshot: &Snapshot) -> bool {
    let readable = snapshot.files_under("tenants").any(|(role, _)| matches!(role, Role::Tenant(_)));
    readable
        || snapshot.errors_under("tenants").any(|problem| {
            let stem = problem.file.strip_prefix("tenants/").and_then(|rest| rest.strip_suffix(".toml"));
            stem.is_some_and(|stem| TenantId::parse(stem).is_ok())
        })
}

/// The tests of a snapshot, and which files name which tenants.
fn tests(snapshot: &Snapshot) -> (TestFiles, BTreeMap<TenantId, Vec<usize>>) {
    let files = snapshot.files_under("tests").filter(|(role, _)| matches!(role, Role::Test));
    let tests: TestFiles =
        files.map(|(_, file)| (Arc::clone(file), policy_tests::parse_file(file))).collect();
    let mut naming: BTreeMap<TenantId, Vec<usize>> = BTreeMap::new();
    for (at, (_, file)) in tests.iter().enumerate() {
        let in_tests = file.tests.iter().map(|test| &test.tenant);
        let in_faults = file.faults.iter().filter_map(|(tenant, _)| tenant.as_ref());
        let named: BTreeSet<&TenantId> = file.tenants.iter().chain(in_tests).chain(in_faults).collect();
        for tenant in named {
            naming.entry(tenant.clone()).or_default().push(at);
        }
    }
    (tests, naming)
}
