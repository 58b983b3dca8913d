//! The last good sources of every tenant, and the versions before them, kept in the state directory.
//!
//! Each text is kept once under its SHA-256, so that a thousand tenants share one default.toml; a manifest lists
//! the texts of one version. What is read is verified against its hash. It lies outside the policies folder, or
//! each save would look like a change; it compiles nothing.

use std::{
    collections::{BTreeSet, HashSet},
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::{loader::hex, status::TestTally};
use crate::{
    domain::ids::{PolicyVersion, TenantId},
    policy::{
        assemble::{BundleSources, SourceFile},
        diagnostic::Diagnostic,
    },
};

/// More files at once than this are flushed with one `syncfs` instead of one `fsync` each.
const SYNC_EACH_MAX: usize = 16;

/// A sweep reads this many manifests, then rests for so many times as long as that took: there is no hurry, and a
/// daemon with ten thousand tenants that was just started is an idle one.
const SWEEP_STEP: usize = 25;
const SWEEP_RESTS: u32 = 50;

/// The state directory's `policies/`.
#[derive(Clone, Debug)]
pub struct Archive {
    pub(super) dir: PathBuf,
}

/// One version of one tenant's policy: which texts it is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    pub tenant: TenantId,
    pub version: String,
    /// When it came in force.
    pub since: DateTime<Utc>,
    /// Put back by an operator while the files had this hash: they stay out until they change.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pinned: Option<String>,
    pub tally: TestTally,
    default: TextRef,
    own: TextRef,
    criteria: Vec<TextRef>,
    /// A version kept before there were templates has none.
    #[serde(default)]
    templates: Vec<TextRef>,
    tests: Vec<TextRef>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct TextRef {
    path: String,
    sha256: String,
}

impl Manifest {
    /// Describes sources that are in force.
    pub fn of(sources: &BundleSources, version: &str, since: DateTime<Utc>, tally: TestTally) -> Self {
        let refer = |file: &Arc<SourceFile>| TextRef { path: file.path.clone(), sha256: hex(file.digest()) };
        Self {
            tenant: sources.tenant.clone(),
            version: version.to_owned(),
            since,
            pinned: None,
            tally,
            default: refer(&sources.default),
            own: refer(&sources.own),
            criteria: sources.criteria.iter().map(refer).collect(),
            templates: sources.templates.iter().map(refer).collect(),
            tests: sources.tests.iter().map(refer).collect(),
        }
    }

    fn texts(&self) -> impl Iterator<Item = &TextRef> {
        let shared = self.criteria.iter().chain(&self.templates).chain(&self.tests);
        [&self.default, &self.own].into_iter().chain(shared)
    }

    /// Whether both are made of the same texts.
    pub fn same_texts(&self, other: &Self) -> bool {
        self.texts().eq(other.texts())
    }
}

/// A version to keep: its texts, and what is to be remembered of it.
#[derive(Clone, Debug)]
pub struct Kept {
    pub sources: BundleSources,
    pub version: PolicyVersion,
    pub since: DateTime<Utc>,
    pub tally: TestTally,
    pub pinned: Option<String>,
}

impl Kept {
    /// Made only when it is written: of thousands at once it would be much.
    fn manifest(&self) -> Manifest {
        let mut manifest = Manifest::of(&self.sources, self.version.as_str(), self.since, self.tally);
        manifest.pinned.clone_from(&self.pinned);
        manifest
    }
}

/// What a manifest says of its version, without the texts.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Headline {
    pub tenant: TenantId,
    pub version: String,
    pub since: DateTime<Utc>,
    #[serde(default)]
    pub pinned: Option<String>,
    pub tally: TestTally,
}

impl Archive {
    pub fn new(state_dir: &Path) -> Self {
        Self { dir: state_dir.join("bundles") }
    }

    fn text(&self, sha256: &str) -> PathBuf {
        self.dir.join("texts").join(sha256)
    }

    fn last_good_of(&self, tenant: &TenantId) -> PathBuf {
        self.dir.join("last-good").join(format!("{tenant}.json"))
    }

    /// Keeps versions as the last good ones and in the history. Texts are on disk before what refers to them.
    ///
    /// # Errors
    /// What the file system says; what was kept before is whole then too.
    pub fn keep(&self, versions: &[Kept]) -> io::Result<()> {
        let mut texts = Vec::new();
        let mut seen = HashSet::new();
        let mut written = Vec::new();
        let manifests: Vec<Manifest> = versions.iter().map(Kept::manifest).collect();
        for (kept, manifest) in versions.iter().zip(&manifests) {
            for (reference, file) in manifest.texts().zip(files(&kept.sources)) {
                if seen.insert(*file.digest()) {
                    let path = self.text(&reference.sha256);
                    texts.extend((!path.exists()).then(|| (path, file.bytes.clone())));
                }
            }
            let text = serde_json::to_vec(manifest).map_err(io::Error::other)?;
            written.push((self.history_path(manifest), text.clone()));
            written.push((self.last_good_of(&manifest.tenant), text));
        }
        write_all(&texts)?;
        write_all(&written)?;
        manifests.iter().try_for_each(|manifest| self.prune(manifest))
    }

    /// The last good version of every tenant in short; what cannot be read is told.
    pub fn last_good(&self) -> (Vec<Headline>, Vec<Diagnostic>) {
        let (mut found, mut faults) = (Vec::new(), Vec::new());
        for path in json_files(&self.dir.join("last-good")) {
            match read_json::<Headline>(&path) {
                Ok(headline) if self.last_good_of(&headline.tenant) == path => found.push(headline),
                Ok(headline) => faults.push(unreadable(&path, &format!("it is of {}", headline.tenant))),
                Err(error) => faults.push(unreadable(&path, &error)),
            }
        }
        (found, faults)
    }

    /// The last good version of one tenant.
    ///
    /// # Errors
    /// Why its manifest cannot be read, in words.
    pub fn last_good_manifest(&self, tenant: &TenantId) -> Result<Manifest, String> {
        read_manifest(&self.last_good_of(tenant))
    }

    /// The texts of a version, each verified.
    ///
    /// # Errors
    /// Words for the operator: which text is gone or is not what was kept.
    pub fn sources(&self, manifest: &Manifest) -> Result<BundleSources, String> {
        let read = |reference: &TextRef| {
            let bytes = fs::read(self.text(&reference.sha256))
                .map_err(|error| format!("the kept text of {} cannot be read: {error}", reference.path))?;
            if hex(digest(&SHA256, &bytes).as_ref()) != reference.sha256 {
                return Err(format!(
                    "the kept text of {} is not what was kept: its hash differs",
                    reference.path
                ));
            }
            Ok(Arc::new(SourceFile::new(&*reference.path, bytes)))
        };
        let all = |list: &[TextRef]| list.iter().map(read).collect::<Result<Vec<_>, _>>();
        Ok(BundleSources {
            tenant: manifest.tenant.clone(),
            default: read(&manifest.default)?,
            own: read(&manifest.own)?,
            criteria: all(&manifest.criteria)?.into(),
            templates: all(&manifest.templates)?.into(),
            tests: all(&manifest.tests)?.into(),
        })
    }

    /// Drops everything kept of a tenant.
    ///
    /// # Errors
    /// What the file system says.
    pub fn forget(&self, tenant: &TenantId) -> io::Result<()> {
        let gone = |result: io::Result<()>| match result {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        };
        gone(fs::remove_file(self.last_good_of(tenant)))?;
        gone(fs::remove_dir_all(self.history_of(tenant)))
    }

    /// Removes the texts that no manifest refers to. Told by nobody if it fails: it only costs room. Given up, and
    /// false, as soon as it is `interrupted`, which is told how long there is to wait for that.
    pub fn sweep(&self, mut interrupted: impl FnMut(Duration) -> bool) -> bool {
        let mut manifests = json_files(&self.dir.join("last-good"));
        for tenant in fs::read_dir(self.dir.join("history")).into_iter().flatten().flatten() {
            manifests.extend(json_files(&tenant.path()));
            if interrupted(Duration::ZERO) {
                return false;
            }
        }
        let (mut used, mut since) = (BTreeSet::new(), Instant::now());
        for (at, path) in manifests.iter().enumerate() {
            match read_manifest(path) {
                Ok(manifest) => used.extend(manifest.texts().map(|text| text.sha256.clone())),
                // A manifest that cannot be read may refer to anything: nothing is removed then.
                Err(_) => return true,
            }
            let is_step = at % SWEEP_STEP == SWEEP_STEP - 1;
            let rest = if is_step { since.elapsed() * SWEEP_RESTS } else { Duration::ZERO };
            if interrupted(rest) {
                return false;
            }
            if is_step {
                since = Instant::now();
            }
        }
        for text in fs::read_dir(self.dir.join("texts")).into_iter().flatten().flatten() {
            if !used.contains(text.file_name().to_string_lossy().as_ref()) {
                let _ = fs::remove_file(text.path());
            }
        }
        true
    }
}

pub(super) fn files(sources: &BundleSources) -> impl Iterator<Item = &Arc<SourceFile>> {
    let shared =
        [&sources.criteria, &sources.templates, &sources.tests].into_iter().flat_map(|list| list.iter());
    [&sources.default, &sources.own].into_iter().chain(shared)
}

fn unreadable(path: &Path, why: &str) -> Diagnostic {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let told = format!("the last good policy kept in {} cannot be read: {why}", path.display());
    Diagnostic::warning("last-good-unreadable", &name, told).hint(
        "it is kept anew as soon as the tenant's files are good; until then this tenant has no fallback",
    )
}

pub(super) fn read_manifest(path: &Path) -> Result<Manifest, String> {
    read_json(path)
}

fn read_json<T: DeserializeOwned>(path: &Path) -> Result<T, String> {
    let bytes = fs::read(path).map_err(|error| error.to_string())?;
    serde_json::from_slice(&bytes).map_err(|error| error.to_string())
}

/// The `*.json` of a directory, sorted by name; none where there is no such directory.
pub(super) fn json_files(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten().map(|entry| entry.path());
    let mut found: Vec<PathBuf> =
        entries.filter(|path| path.extension().is_some_and(|e| e == "json")).collect();
    found.sort_unstable();
    found
}

/// Writes each file beside its place, flushes, and renames: a reader finds the old or the new one, whole.
fn write_all(files: &[(PathBuf, Vec<u8>)]) -> io::Result<()> {
    let staged = |path: &Path| path.with_extension("tmp");
    let mut dirs = BTreeSet::new();
    let each = files.len() <= SYNC_EACH_MAX;
    for (path, bytes) in files {
        if let Some(dir) = path.parent().filter(|dir| dirs.insert(dir.to_path_buf())) {
            fs::create_dir_all(dir)?;
        }
        let mut file = fs::File::create(staged(path))?;
        io::Write::write_all(&mut file, bytes)?;
        if each {
            file.sync_all()?;
        }
    }
    let flush = || match dirs.first() {
        Some(dir) if !each => rustix::fs::syncfs(fs::File::open(dir)?).map_err(io::Error::from),
        _ => Ok(()),
    };
    flush()?;
    for (path, _) in files {
        fs::rename(staged(path), path)?;
    }
    if each {
        return dirs.iter().try_for_each(|dir| fs::File::open(dir)?.sync_all());
    }
    flush()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub fn kept(tenant: &str, version: u8, own: &str, at: i64) -> Kept {
        let file = |path: &str, text: &str| Arc::new(SourceFile::new(path, text));
        let sources = BundleSources {
            tenant: TenantId::parse(tenant).unwrap(),
            default: file("default.toml", "shared"),
            own: file(&format!("tenants/{tenant}.toml"), own),
            criteria: [file("criteria/cost.rhai", "script")].into(),
            templates: [file("templates/A.toml", "template")].into(),
            tests: [].into(),
        };
        let since = DateTime::from_timestamp(at, 0).unwrap();
        let version = PolicyVersion::of_digest([version; 32]);
        Kept { sources, version, since, tally: TestTally::default(), pinned: None }
    }

    fn texts(archive: &Archive) -> usize {
        fs::read_dir(archive.dir.join("texts")).unwrap().count()
    }

    #[test]
    fn what_is_kept_comes_back_byte_for_byte_and_shared_texts_are_kept_once() {
        let state = tempfile::tempdir().unwrap();
        let archive = Archive::new(state.path());
        let all: Vec<Kept> = (0..20).map(|n| kept(&format!("t{n}"), 1, &format!("own {n}"), 1)).collect();
        archive.keep(&all).unwrap();
        assert_eq!(texts(&archive), 3 + 20);
        let (headlines, faults) = archive.last_good();
        assert_eq!((headlines.len(), faults.len()), (20, 0));
        for headline in headlines {
            let of = all.iter().find(|k| k.sources.tenant == headline.tenant).unwrap();
            assert_eq!((headline.version.as_str(), headline.since), (of.version.as_str(), of.since));
            let manifest = archive.last_good_manifest(&headline.tenant).unwrap();
            assert_eq!(manifest, of.manifest());
            let back = archive.sources(&manifest).unwrap();
            assert!(files(&back).eq(files(&of.sources)));
        }
    }

    #[test]
    fn a_text_that_is_not_what_was_kept_is_refused() {
        let state = tempfile::tempdir().unwrap();
        let archive = Archive::new(state.path());
        let one = kept("acme", 1, "own", 1);
        archive.keep(std::slice::from_ref(&one)).unwrap();
        let manifest = one.manifest();
        fs::write(archive.text(&manifest.own.sha256), "tampered").unwrap();
        let why = archive.sources(&manifest).unwrap_err();
        assert!(why.contains("tenants/acme.toml") && why.contains("hash differs"), "{why}");
        fs::remove_file(archive.text(&manifest.own.sha256)).unwrap();
        assert!(archive.sources(&manifest).unwrap_err().contains("cannot be read"));
        fs::write(archive.last_good_of(&manifest.tenant), "{").unwrap();
        assert_eq!(archive.last_good().1[0].code, "last-good-unreadable");
    }

    #[test]
    fn an_interrupted_sweep_removes_nothing() {
        let state = tempfile::tempdir().unwrap();
        let archive = Archive::new(state.path());
        archive.keep(&[kept("acme", 1, "one", 1), kept("beta", 2, "two", 1)]).unwrap();
        archive.forget(&TenantId::parse("acme").unwrap()).unwrap();
        assert!(!archive.sweep(|_| true));
        assert_eq!(texts(&archive), 5);
        assert!(archive.sweep(|_| false));
        assert_eq!(texts(&archive), 4);
    }

    #[test]
    fn a_sweep_of_many_rests_after_every_step() {
        let state = tempfile::tempdir().unwrap();
        let archive = Archive::new(state.path());
        let all: Vec<Kept> = (0..60).map(|n| kept(&format!("tenant-{n}"), 1, "own", 1)).collect();
        archive.keep(&all).unwrap();
        let mut rests = Vec::new();
        assert!(archive.sweep(|rest| {
            rests.push(rest);
            false
        }));
        let manifests = 120;
        assert_eq!(rests.iter().filter(|rest| !rest.is_zero()).count(), manifests / SWEEP_STEP, "{rests:?}");
    }

    #[test]
    fn a_forgotten_tenant_leaves_nothing_and_the_sweep_spares_the_others() {
        let state = tempfile::tempdir().unwrap();
        let archive = Archive::new(state.path());
        archive.keep(&[kept("acme", 1, "one", 1), kept("beta", 2, "two", 1)]).unwrap();
        archive.forget(&TenantId::parse("acme").unwrap()).unwrap();
        assert!(archive.sweep(|_| false));
        let (left, _) = archive.last_good();
        assert_eq!(left.iter().map(|m| m.tenant.as_str()).collect::<Vec<_>>(), ["beta"]);
        assert_eq!(texts(&archive), 4);
        assert!(archive.sources(&archive.last_good_manifest(&left[0].tenant).unwrap()).is_ok());
    }
}
