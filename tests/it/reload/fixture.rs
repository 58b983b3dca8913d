//! A policies folder, a state directory and a watching `Policies`, with waits on what it reports.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use channel_orchestrator::{
    bundles::{
        Options, Policies,
        status::{BundleSource, CandidateState, TenantStatus},
    },
    domain::{
        ids::{CriterionName, TenantId},
        time::SystemClock,
    },
    policy::{
        assemble::{PolicyEnvironment, SourceFile},
        bundle::Bundle,
        shipped,
    },
};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// Long for a loaded machine; a wait that is over sooner takes no longer.
const DEADLINE: Duration = Duration::from_secs(30);

pub fn id(tenant: &str) -> TenantId {
    TenantId::parse(tenant).unwrap()
}

/// A tenant's file that changes one weight.
pub fn cost(weight: u32) -> String {
    format!("[weights]\ncost = {weight}\n")
}

/// A script that compiles, and gives every channel this share.
pub fn script(share: &str) -> String {
    format!("fn score(message, channel) {{\n    award({share}, \"because\")\n}}\n")
}

pub struct Fixture {
    pub base: tempfile::TempDir,
    pub folder: PathBuf,
    pub policies: Arc<Policies>,
    shutdown: CancellationToken,
    watching: Option<JoinHandle<()>>,
}

impl Fixture {
    /// A watched folder with these files.
    pub async fn watching(files: &[(&str, &str)]) -> Self {
        let base = tempfile::tempdir().unwrap();
        let folder = base.path().join("policies");
        fs::create_dir(&folder).unwrap();
        write_all(&folder, files);
        let mut fixture = Self::open(base, folder);
        fixture.watch().await;
        fixture
    }

    /// A watched folder with the shipped scripts, and these files over them.
    pub async fn with_scripts(files: &[(&str, &str)]) -> Self {
        let shipped = shipped::criteria();
        let text = |file: &SourceFile| String::from_utf8(file.bytes.clone()).unwrap();
        let scripts: Vec<(String, String)> = shipped.iter().map(|f| (f.path.clone(), text(f))).collect();
        let scripts = scripts.iter().map(|(path, text)| (path.as_str(), text.as_str()));
        let all: Vec<(&str, &str)> = scripts.chain(files.iter().copied()).collect();
        Self::watching(&all).await
    }

    /// Opens without watching.
    pub fn open(base: tempfile::TempDir, folder: PathBuf) -> Self {
        let policies = Arc::new(Policies::open(options(base.path(), &folder)).unwrap());
        Self { base, folder, policies, shutdown: CancellationToken::new(), watching: None }
    }

    /// Watches, and waits until the watch stands.
    pub async fn watch(&mut self) {
        self.watching = Some(tokio::spawn(Arc::clone(&self.policies).run(self.shutdown.clone())));
        self.until("the watch stands", |p| p.status().watch.mode != "off").await;
    }

    /// Stops, and starts anew on the same folder and state.
    pub async fn restart(mut self) -> Self {
        self.stop().await;
        let Self { base, folder, .. } = self;
        Self::open(base, folder)
    }

    pub async fn stop(&mut self) {
        self.shutdown.cancel();
        if let Some(watching) = self.watching.take() {
            watching.await.unwrap();
        }
    }

    /// Waits on the watch's own reports until `condition` holds.
    pub async fn until(&self, what: &str, condition: impl Fn(&Policies) -> bool) {
        let mut progress = self.policies.progress();
        let wait = async {
            while !condition(&self.policies) {
                progress.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(DEADLINE, wait).await.is_err() {
            panic!("{what}: not within {DEADLINE:?}; {:#?}", self.policies.status());
        }
    }

    /// Waits until the tenant's bundle gives `cost` this weight.
    pub async fn until_cost(&self, tenant: &str, weight: u32) {
        let what = format!("{tenant} has cost = {weight}");
        self.until(&what, |p| cost_of(p, tenant) == Some(f64::from(weight))).await;
    }

    /// Waits until the tenant's files stand refused, or gone.
    pub async fn until_candidate(&self, tenant: &str, state: CandidateState) {
        let of = |p: &Policies| Some(p.tenant_status(&id(tenant))?.candidate?.state);
        self.until(&format!("{tenant} is {state:?}"), |p| of(p) == Some(state)).await;
    }

    /// Waits for that many further looks at the folder: whatever a change would do, it has done then.
    pub async fn looks(&self, further: u64) {
        let from = self.policies.progress().borrow().looks;
        self.until("more looks", |p| p.progress().borrow().looks >= from + further).await;
    }

    pub fn cost(&self, tenant: &str) -> Option<f64> {
        cost_of(&self.policies, tenant)
    }

    pub fn bundle(&self, tenant: &str) -> Arc<Bundle> {
        Arc::clone(self.policies.handle().current().tenant(&id(tenant)).unwrap())
    }

    pub fn status(&self, tenant: &str) -> TenantStatus {
        self.policies.tenant_status(&id(tenant)).unwrap()
    }

    pub fn source(&self, tenant: &str) -> BundleSource {
        self.status(tenant).active.unwrap().source
    }

    pub fn generation(&self) -> u64 {
        self.policies.handle().current().number
    }

    pub fn path(&self, path: &str) -> PathBuf {
        self.folder.join(path)
    }

    /// Writes in place, as `>` does.
    pub fn write(&self, path: &str, text: &str) {
        write(&self.path(path), text);
    }

    /// Writes beside and renames, as editors do.
    pub fn save(&self, path: &str, text: &str) {
        let path = self.path(path);
        let beside = path.with_extension("toml.tmp");
        write(&beside, text);
        fs::rename(beside, path).unwrap();
    }

    pub fn remove(&self, path: &str) {
        fs::remove_file(self.path(path)).unwrap();
    }
}

pub fn options(base: &Path, folder: &Path) -> Options {
    Options {
        folder: folder.to_owned(),
        state_dir: base.join("state"),
        environment: PolicyEnvironment::default(),
        drivers: None,
        clock: Arc::new(SystemClock),
    }
}

pub fn cost_of(policies: &Policies, tenant: &str) -> Option<f64> {
    let generation = policies.handle().current();
    weight(generation.tenant(&id(tenant))?)
}

pub fn weight(bundle: &Bundle) -> Option<f64> {
    bundle.policy().weights.get(&CriterionName::parse("cost").unwrap()).copied()
}

pub fn write(path: &Path, text: &str) {
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

pub fn write_all(folder: &Path, files: &[(&str, &str)]) {
    for (path, text) in files {
        write(&folder.join(path), text);
    }
}
