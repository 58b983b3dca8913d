//! A daemon without its process: real store, policies, worker and sandbox, and a clock that stands.

use std::{fs, path::Path, sync::Arc};

use axum::{
    Router,
    body::Body,
    http::{HeaderMap, Request, StatusCode},
};
use channel_orchestrator::{
    api::{
        Api, ApiSettings, CountedQueue, Metrics,
        auth::{Scope, new_key},
        listen::Door,
        router,
    },
    app::PolicyTerms,
    bell::Bell,
    bundles::reload::{Options, Policies},
    channels::{Drivers, sandbox::Sandbox, settings::SandboxSettings},
    delivery::worker::{Worker, WorkerSettings},
    domain::{ids::TenantId, time::ManualClock},
    orchestrator::Orchestrator,
    policy::assemble::PolicyEnvironment,
    store::{OpenOptions, open},
    tracking::TokenKey,
};
use chrono::{DateTime, Utc};
use http_body_util::BodyExt;
use secrecy::ExposeSecret;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

/// A Friday afternoon in Paris: no quiet hours.
pub const AFTERNOON: &str = "2025-11-14T15:00:00+01:00";

pub struct House {
    pub api: Arc<Api>,
    pub clock: Arc<ManualClock>,
    pub router: Router,
    pub closing: CancellationToken,
    pub dir: TempDir,
}

/// An answer, read whole.
#[derive(Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|e| panic!("{e}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|v| v.to_str().unwrap())
    }
}

pub fn instant(text: &str) -> DateTime<Utc> {
    text.parse::<DateTime<chrono::FixedOffset>>().unwrap().to_utc()
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).unwrap();
        }
    }
}

impl House {
    /// With a worker that runs: messages leave by the sandbox.
    pub async fn new() -> Self {
        let house = Self::idle(ApiSettings::default()).await;
        house.start_worker();
        house
    }

    /// Without a worker: what is queued stays queued. Two tenants with empty files, `acme` and `globex`.
    pub async fn idle(settings: ApiSettings) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let policies = dir.path().join("policies");
        copy(&crate::support::policies(), &policies);
        // The tenant that the repository ships changes with its example; these stay as they are.
        fs::remove_dir_all(policies.join("tests")).ok();
        fs::remove_dir_all(policies.join("tenants")).ok();
        fs::create_dir_all(policies.join("tenants")).unwrap();
        for tenant in ["acme", "globex"] {
            fs::write(policies.join(format!("tenants/{tenant}.toml")), "").unwrap();
        }
        let clock = Arc::new(ManualClock::new(instant(AFTERNOON)));
        let policies = Policies::open(Options {
            folder: policies,
            state_dir: dir.path().join("state"),
            environment: PolicyEnvironment::default(),
            drivers: None,
            clock: clock.clone(),
        })
        .unwrap();
        let url = format!("sqlite:{}", dir.path().join("store.db").display());
        let store = open(&url, OpenOptions::default()).await.unwrap();
        let sandbox =
            Sandbox::new("sandbox", SandboxSettings::default(), dir.path().join("outbox"), clock.clone());
        let orchestrator = Orchestrator {
            store,
            policies: policies.handle(),
            drivers: Drivers::new([Arc::new(sandbox) as _]),
            clock: clock.clone(),
            bell: Arc::new(Bell::default()),
        };
        let closing = CancellationToken::new();
        let api = Api::new(
            Arc::new(orchestrator),
            Arc::new(policies),
            Arc::new(Metrics::default()),
            settings,
            Arc::new(TokenKey::new(&[7; 32])),
            closing.clone(),
        );
        Self { router: router(api.clone()), api, clock, closing, dir }
    }

    pub fn start_worker(&self) {
        let worker = self.worker();
        let closing = self.closing.clone();
        tokio::spawn(async move { worker.run(closing).await });
    }

    pub fn worker(&self) -> Worker {
        let o = &self.api.orchestrator;
        let mut worker = Worker::new(
            "test",
            Arc::new(CountedQueue { queue: o.store.clone(), metrics: self.api.metrics.clone() }),
            o.drivers.clone(),
            o.clock.clone(),
            o.bell.clone(),
            WorkerSettings::default(),
        );
        worker.terms = Some(Arc::new(PolicyTerms(o.policies.clone())));
        worker
    }

    /// As if it came through the Unix socket.
    pub async fn ask(&self, mut request: Request<Body>) -> Answer {
        request.extensions_mut().insert(Door::Unix);
        self.ask_as_it_is(request).await
    }

    /// As if it came by TCP, from a well-behaved client.
    pub async fn ask_tcp(&self, mut request: Request<Body>) -> Answer {
        request.headers_mut().insert("host", "localhost:8080".parse().unwrap());
        request.extensions_mut().insert(Door::Tcp);
        self.ask_as_it_is(request).await
    }

    pub async fn ask_as_it_is(&self, request: Request<Body>) -> Answer {
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status, headers: parts.headers, text }
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.ask(post(path, body)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.ask(get(path)).await
    }

    /// The version in force.
    pub fn version(&self, tenant: &str) -> String {
        let tenant = TenantId::parse(tenant).unwrap();
        self.api.policies.tenant_status(&tenant).unwrap().active.unwrap().version
    }

    /// A key of that tenant, in force.
    pub async fn key(&self, tenant: &str, scopes: &[Scope]) -> String {
        let tenant = TenantId::parse(tenant).unwrap();
        let made = new_key(tenant, scopes, "test", instant(AFTERNOON), None).unwrap();
        self.api.orchestrator.store.add_key(&made.stored).await.unwrap();
        made.key.expose_secret().to_owned()
    }
}

/// Stops the worker with the test.
impl Drop for House {
    fn drop(&mut self) {
        self.closing.cancel();
    }
}

pub fn get(path: &str) -> Request<Body> {
    Request::get(path).body(Body::empty()).unwrap()
}

pub fn post(path: &str, body: &Value) -> Request<Body> {
    Request::post(path).header("content-type", "application/json").body(body.to_string().into()).unwrap()
}

pub fn with(mut request: Request<Body>, name: &'static str, value: &str) -> Request<Body> {
    request.headers_mut().insert(name, value.parse().unwrap());
    request
}

/// One of `examples/requests`, for the tenant `acme`.
pub fn example(name: &str) -> Value {
    let path = format!("{}/examples/requests/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut request: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    request["context"]["tenantId"] = "acme".into();
    request.as_object_mut().unwrap().remove("at");
    request
}
