//! From one tenant's texts to its bundle, or every fault in them at once.
//!
//! Compiles each script once for all tenants that share its text. It reads no folder and swaps nothing
//! (`bundles` does both).

use std::{
    collections::{BTreeMap, HashMap},
    sync::{Arc, Mutex, MutexGuard, OnceLock, Weak},
};

use ring::digest;

use super::{
    bundle::Bundle,
    compile::Program,
    criterion::Criterion,
    diagnostic::Diagnostic,
    document::{
        self, checks,
        layer::{Layer, LayerKind},
        merge::{Merged, Placed},
        origin::{Origin, Origins},
        place, policy, remarks,
    },
    environment,
    settings::StrategyRule,
    strategy::{Strategies, Strategy},
    template::Template,
};
use crate::domain::ids::{CriterionName, PolicyVersion, TenantId};

/// One file as it was read: its path relative to the policies folder, with `/`, and its bytes.
#[derive(Clone, Debug)]
pub struct SourceFile {
    pub path: String,
    pub bytes: Vec<u8>,
    /// SHA-256 of `bytes`, once somebody asked: a text is shared by thousands of tenants and hashed once.
    digest: OnceLock<[u8; 32]>,
}

impl SourceFile {
    pub fn new(path: impl Into<String>, bytes: impl Into<Vec<u8>>) -> Self {
        Self { path: path.into(), bytes: bytes.into(), digest: OnceLock::new() }
    }

    /// SHA-256 of its bytes.
    pub fn digest(&self) -> &[u8; 32] {
        self.digest.get_or_init(|| bytes_of(&digest::digest(&digest::SHA256, &self.bytes)))
    }
}

impl PartialEq for SourceFile {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path && self.bytes == other.bytes
    }
}

impl Eq for SourceFile {}

/// All the texts that one tenant's bundle is made of.
#[derive(Clone, Debug)]
pub struct BundleSources {
    pub tenant: TenantId,
    /// `default.toml`.
    pub default: Arc<SourceFile>,
    /// `tenants/<id>.toml`.
    pub own: Arc<SourceFile>,
    /// The scripts in force: `criteria/*.rhai`, each replaced by the tenant's own of the same name.
    pub criteria: SourceFiles,
    /// The templates in force: `templates/*.toml`, each replaced by the tenant's own of the same name.
    pub templates: SourceFiles,
    /// `tests/*.toml` files that hold at least one test naming this tenant (they count in the version).
    pub tests: SourceFiles,
}

/// `ORCHESTRATOR_*` values that lie between default.toml and the tenant's file; they count in the version.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PolicyEnvironment(pub Vec<(String, String)>);

/// A bundle and what deserves a remark.
#[derive(Debug)]
pub struct Assembled {
    pub bundle: Bundle,
    pub warnings: Vec<Diagnostic>,
}

/// Parses, merges, compiles and checks; shares what is equal between tenants: the parsed default.toml, and
/// compiled scripts. What no bundle uses any more is let go.
#[derive(Debug, Default)]
pub struct Assembler {
    scripts: Mutex<Shared<Criterion>>,
    templates: Mutex<Shared<Template>>,
    /// By the addresses of their criteria.
    programs: Mutex<HashMap<Vec<usize>, Weak<Program>>>,
    /// The templates of tenants that have none of their own.
    common: Mutex<Option<(SourceFiles, Weak<Templates>)>>,
    /// By the texts of their conditions.
    strategies: Mutex<HashMap<String, SharedStrategies>>,
    inherited: Mutex<Option<Arc<Inherited>>>,
    /// The operator's drivers, by name; none: they are not known here.
    drivers: Option<Vec<String>>,
}

/// A file's path and the SHA-256 of its bytes.
type FileKey = (String, [u8; 32]);

/// What was compiled from a file, for as long as a bundle uses it.
#[derive(Debug)]
struct Shared<T> {
    compiled: HashMap<FileKey, Weak<T>>,
    /// Entries beyond which the dead ones are swept out.
    sweep_at: usize,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self { compiled: HashMap::new(), sweep_at: 64 }
    }
}

/// What is shared of this very file, or what `compile` makes of it. The lock is not held meanwhile.
fn shared<T>(
    kept: &Mutex<Shared<T>>,
    file: &SourceFile,
    compile: impl FnOnce() -> Result<T, Vec<Diagnostic>>,
) -> Result<Arc<T>, Vec<Diagnostic>> {
    let key = (file.path.clone(), *file.digest());
    if let Some(known) = locked(kept).compiled.get(&key).and_then(Weak::upgrade) {
        return Ok(known);
    }
    let fresh = Arc::new(compile()?);
    let mut kept = locked(kept);
    kept.compiled.insert(key, Arc::downgrade(&fresh));
    if kept.compiled.len() > kept.sweep_at {
        kept.compiled.retain(|_, one| one.strong_count() > 0);
        kept.sweep_at = (kept.compiled.len() * 2).max(64);
    }
    Ok(fresh)
}

/// Files that several tenants have in common are in one list for all of them.
pub type SourceFiles = Arc<[Arc<SourceFile>]>;

/// Conditions compiled, and the rules that they belong to.
type SharedStrategies = (Weak<Strategies>, Weak<[StrategyRule]>);

/// By id.
type Templates = BTreeMap<String, Arc<Template>>;

/// What all tenants have in common.
#[derive(Debug)]
struct Inherited {
    file: Arc<SourceFile>,
    environment: PolicyEnvironment,
    default: Layer,
    environment_layer: Layer,
    origins: Arc<BTreeMap<String, Origin>>,
}

impl Assembler {
    /// One that remarks on drivers which the operator has not; none: they are not known.
    pub fn knowing(drivers: Option<Vec<String>>) -> Self {
        Self { drivers, ..Self::default() }
    }

    /// The bundle of these texts. Errors are all there are, in every file; each carries its place.
    pub fn assemble(
        &self,
        sources: &BundleSources,
        environment: &PolicyEnvironment,
    ) -> Result<Assembled, Vec<Diagnostic>> {
        let inherited = self.inherited(&sources.default, environment);
        let tenant = Layer::read(LayerKind::Tenant, &sources.own);
        let built_in = document::built_in();
        let merged = Merged::new(built_in, &inherited.default, &inherited.environment_layer, &tenant);
        let mut faults: Vec<Diagnostic> = merged.faults().cloned().collect();

        let (names, criteria) = self.criteria(&sources.criteria, &mut faults);
        faults.extend(checks::errors(&merged, &names));
        let templates = self.templates(&sources.templates, &mut faults);
        let strategies = self.strategies(&merged.strategies(), &mut faults);
        let policy = policy::build(&merged, &names).map_err(|missing| faults.extend(missing)).ok();
        let Some(mut policy) = policy.filter(|_| faults.is_empty()) else { return Err(in_order(faults)) };

        let mut warnings = remarks::warnings(&merged, &policy, &names, self.drivers.as_deref());
        warnings.extend(criteria.iter().flat_map(|c| c.warnings().iter().cloned()));
        warnings.extend(templates.values().flat_map(|t| t.warnings().iter().cloned()));
        policy.strategies = self.shared_rules(&strategies, policy.strategies);
        let version = version(sources, environment, &merged);
        let origins = Origins::new(Arc::clone(&inherited.origins), &merged);
        let bundle = Bundle::new(sources.tenant.clone(), version, policy, self.program(criteria), strategies);
        let bundle = bundle.with_origins(origins).with_templates(templates);
        Ok(Assembled { bundle, warnings: in_order(warnings) })
    }

    /// default.toml and the environment, read once for as long as they stay the same.
    fn inherited(&self, default: &Arc<SourceFile>, environment: &PolicyEnvironment) -> Arc<Inherited> {
        let mut kept = locked(&self.inherited);
        if let Some(inherited) = kept.as_ref() {
            let same_file = Arc::ptr_eq(&inherited.file, default) || inherited.file == *default;
            if same_file && inherited.environment == *environment {
                return Arc::clone(inherited);
            }
        }
        let layer = Layer::read(LayerKind::Default, default);
        let environment_layer = environment::layer(environment);
        let origins = Origins::base(document::built_in(), &layer, &environment_layer);
        let fresh = Arc::new(Inherited {
            file: Arc::clone(default),
            environment: environment.clone(),
            default: layer,
            environment_layer,
            origins,
        });
        *kept = Some(Arc::clone(&fresh));
        fresh
    }

    /// The names of all scripts, and those of them that compile.
    fn criteria(
        &self,
        files: &[Arc<SourceFile>],
        faults: &mut Vec<Diagnostic>,
    ) -> (Vec<CriterionName>, Vec<Arc<Criterion>>) {
        let (mut names, mut compiled) = (Vec::new(), Vec::new());
        for file in files {
            match criterion_name(&file.path) {
                Ok(name) => {
                    names.push(name.clone());
                    match self.criterion(name, file) {
                        Ok(criterion) => compiled.push(criterion),
                        Err(found) => faults.extend(found),
                    }
                }
                Err(fault) => faults.push(*fault),
            }
        }
        (names, compiled)
    }

    /// A script compiled, or the one compiled before from the same text.
    fn criterion(&self, name: CriterionName, file: &SourceFile) -> Result<Arc<Criterion>, Vec<Diagnostic>> {
        shared(&self.scripts, file, || {
            let source = std::str::from_utf8(&file.bytes).map_err(|error| vec![not_utf8(file, error)])?;
            Criterion::compile(name, &file.path, source.strip_prefix('\u{feff}').unwrap_or(source))
        })
    }

    /// The criteria linked, or the program of another tenant with the very same ones.
    fn program(&self, mut criteria: Vec<Arc<Criterion>>) -> Arc<Program> {
        criteria.sort_by(|a, b| a.name().order().cmp(&b.name().order()));
        let key: Vec<usize> = criteria.iter().map(|criterion| Arc::as_ptr(criterion).addr()).collect();
        let mut programs = locked(&self.programs);
        // A program keeps its criteria: while it lives, no other can have their addresses.
        if let Some(known) = programs.get(&key).and_then(Weak::upgrade) {
            return known;
        }
        if programs.len() > 64 && programs.len().is_power_of_two() {
            programs.retain(|_, program| program.strong_count() > 0);
        }
        let fresh = Arc::new(Program::link(criteria));
        programs.insert(key, Arc::downgrade(&fresh));
        fresh
    }

    /// Those of the templates that compile, by id.
    fn templates(&self, files: &SourceFiles, faults: &mut Vec<Diagnostic>) -> Arc<Templates> {
        if let Some((common, compiled)) = &*locked(&self.common)
            && Arc::ptr_eq(common, files)
            && let Some(compiled) = compiled.upgrade()
        {
            return compiled;
        }
        let (mut compiled, before) = (Templates::new(), faults.len());
        for file in files.iter() {
            let name = file.path.rsplit('/').next().unwrap_or(&file.path);
            let id = name.strip_suffix(".toml").unwrap_or(name);
            match shared(&self.templates, file, || Template::compile(id, file)) {
                Ok(template) => {
                    compiled.insert(id.to_owned(), template);
                }
                Err(found) => faults.extend(found),
            }
        }
        let compiled = Arc::new(compiled);
        if faults.len() == before && files.iter().all(|file| file.path.starts_with("templates/")) {
            *locked(&self.common) = Some((Arc::clone(files), Arc::downgrade(&compiled)));
        }
        compiled
    }

    /// Each condition compiled, or all of them as they were for another tenant with the same ones.
    fn strategies(&self, entries: &[Placed<'_>], faults: &mut Vec<Diagnostic>) -> Arc<Strategies> {
        let key = texts(entries.iter().map(|(entry, _)| &entry.rule));
        if let Some(known) = locked(&self.strategies).get(&key).and_then(|(known, _)| known.upgrade()) {
            return known;
        }
        let before = faults.len();
        let compiled = Arc::new(Strategies::new(compile_strategies(entries, faults)));
        if faults.len() == before {
            let mut kept = locked(&self.strategies);
            kept.retain(|_, (known, _)| known.strong_count() > 0);
            kept.insert(key, (Arc::downgrade(&compiled), Weak::<[StrategyRule; 0]>::new()));
        }
        compiled
    }

    /// The rules of these strategies, or the equal ones of another tenant.
    fn shared_rules(&self, strategies: &Arc<Strategies>, rules: Arc<[StrategyRule]>) -> Arc<[StrategyRule]> {
        let mut kept = locked(&self.strategies);
        let Some((compiled, known)) = kept.get_mut(&texts(rules.iter())) else { return rules };
        if let Some(known) = known.upgrade().filter(|known| *known == rules) {
            return known;
        }
        if compiled.upgrade().is_some_and(|compiled| Arc::ptr_eq(&compiled, strategies)) {
            *known = Arc::downgrade(&rules);
        }
        rules
    }

    /// How many compiled scripts are in use.
    pub fn scripts_in_use(&self) -> usize {
        locked(&self.scripts).compiled.values().filter(|kept| kept.strong_count() > 0).count()
    }
}

/// By file and place, each once: a fault in a shared file may have been found on two ways.
fn in_order(mut faults: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let place = |fault: &Diagnostic| (fault.line.unwrap_or(usize::MAX), fault.column);
    faults.sort_by(|a, b| a.file.cmp(&b.file).then_with(|| place(a).cmp(&place(b))));
    faults.dedup();
    faults
}

/// A poisoned lock guards nothing half-made here: entries are put in whole.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn criterion_name(path: &str) -> Result<CriterionName, Box<Diagnostic>> {
    let file = path.rsplit('/').next().unwrap_or(path);
    let stem = file.strip_suffix(".rhai").unwrap_or(file);
    CriterionName::parse(stem).map_err(|why| {
        let fault = Diagnostic::error("bad-name", path, why.to_string());
        Box::new(
            fault.hint("name the file like quiet_hours.rhai: the name is the criterion's, and its weight's"),
        )
    })
}

fn not_utf8(file: &SourceFile, error: std::str::Utf8Error) -> Diagnostic {
    let line = file.bytes[..error.valid_up_to()].iter().filter(|b| **b == b'\n').count() + 1;
    Diagnostic::error("not-utf8", &file.path, "this line has a character that is not UTF-8 text")
        .at(&String::from_utf8_lossy(&file.bytes), line, 1, 1)
        .hint("save the file with the encoding UTF-8")
}

/// What strategies are compiled from.
fn texts<'a>(rules: impl Iterator<Item = &'a StrategyRule>) -> String {
    rules.flat_map(|rule| [rule.name.as_str(), "\0", rule.when.as_str(), "\0"]).collect()
}

/// Compiles each condition; its faults are moved to where the condition stands in its file.
fn compile_strategies(entries: &[Placed<'_>], faults: &mut Vec<Diagnostic>) -> Vec<Strategy> {
    let mut compiled = Vec::new();
    for (entry, layer) in entries {
        match Strategy::compile(&entry.rule.name, &entry.rule.when) {
            Ok(strategy) => compiled.push(strategy),
            Err(found) => faults.extend(found.into_iter().map(|fault| {
                let text = &layer.source.text;
                let (line, column) = (fault.line.unwrap_or(1), fault.column.unwrap_or(1));
                let (line, column) = place::in_file(text, entry.when_at.clone(), line, column);
                let length = fault.length.unwrap_or(1);
                let message = format!("strategy {:?}: {}", entry.rule.name, fault.message);
                Diagnostic { file: layer.source.file.clone(), message, ..fault }
                    .at(text, line, column, length)
            })),
        }
    }
    compiled
}

fn bytes_of(hash: &digest::Digest) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(hash.as_ref());
    bytes
}

/// The content hash: every source's path and the hash of its bytes, the environment, and what was taken from the
/// built-in copy because default.toml lacks it; each with its length before it.
fn version(sources: &BundleSources, environment: &PolicyEnvironment, merged: &Merged<'_>) -> PolicyVersion {
    let mut hash = digest::Context::new(&digest::SHA256);
    let mut add = |bytes: &[u8]| {
        hash.update(&(bytes.len() as u64).to_be_bytes());
        hash.update(bytes);
    };
    add(b"channel-orchestrator policy 2");
    add(sources.tenant.as_str().as_bytes());
    let mut files: Vec<&SourceFile> = vec![&sources.default, &sources.own];
    let lists = [&sources.criteria, &sources.templates, &sources.tests];
    files.extend(lists.into_iter().flat_map(|list| list.iter()).map(Arc::as_ref));
    files.sort_by(|a, b| a.path.cmp(&b.path));
    add(&(files.len() as u64).to_be_bytes());
    for file in files {
        add(file.path.as_bytes());
        add(file.digest());
    }
    let mut variables: Vec<_> = environment.0.iter().collect();
    variables.sort();
    for (name, value) in variables {
        add(name.as_bytes());
        add(value.as_bytes());
    }
    for path in document::built_in().leaves.keys() {
        if let Some((leaf, layer)) = merged.leaf(path)
            && layer.kind == LayerKind::BuiltIn
        {
            add(path.as_bytes());
            add(format!("{:?}", leaf.value).as_bytes());
        }
    }
    PolicyVersion::of_digest(bytes_of(&hash.finish()))
}
