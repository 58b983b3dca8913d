//! Puts the parts together in order, runs their loops, and takes them down in reverse.
//!
//! What `serve` runs. It decides nothing: each part's rules are its own. Nothing is accepted before everything
//! stands, and nothing is closed before what leans on it has ended.

use std::{io, os::unix::fs::DirBuilderExt, path::Path, sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    api::{self, Api, ApiSettings, CountedQueue, Listeners, Metrics, settings::ConnectionLimits},
    bell::Bell,
    bundles::{Cause, Options, Policies},
    channels::health::Health,
    config::{Config, NamedBy},
    delivery::{
        breaker::Breakers,
        receipts::Receiver,
        worker::{Worker, WorkerSettings},
    },
    domain::time::{Clock, SystemClock},
    orchestrator::{Orchestrator, budgets::BudgetWatch},
    policy::diagnostic::Diagnostic,
    store::{Access, OpenOptions, SqlStore, StoreError, Webhooks},
    tracking::TokenKey,
};

mod budgets;
mod drivers;
pub mod logging;
pub mod memory;
mod pauses;
mod public;
mod retention;
mod returns;
pub mod shipped;
mod signals;
mod terms;
pub mod trial;
mod versions;
mod webhooks;

pub use drivers::{make as make_drivers, names as driver_names};
pub use public::unheard;
pub use signals::Signals;
pub use terms::PolicyTerms;

use public::PublicDoor;

/// Connections that are busy when the daemon stops get this long: less than attempts in flight, because their
/// callers can ask again.
const CONNECTIONS_DRAIN: Duration = Duration::from_secs(10);

/// Messages claimed in one statement at most: it costs about the same for many as for one, and its commit must not be long.
const CLAIM_MAX: u32 = 256;

/// Why the daemon does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The settings name something that cannot be.
    #[error("the settings are wrong")]
    Settings(Vec<Diagnostic>),
    /// Another daemon has it, or it does not answer yet.
    #[error("{0}")]
    Busy(String),
    /// What is there cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// It was told to stop, and everything came to its end.
    Stopped,
    /// It was told to stop twice.
    AtOnce,
    /// The database cannot be trusted any more: start again and look.
    Failed(String),
}

/// Everything that stands, before it runs.
pub struct App {
    pub config: Config,
    pub policies: Arc<Policies>,
    pub orchestrator: Arc<Orchestrator>,
    /// The shipped policies were just written to the state directory.
    pub wrote_policies: bool,
    store: Arc<SqlStore>,
    worker: Worker,
    api: Arc<Api>,
    listeners: Listeners,
    public: Option<PublicDoor>,
    receiver: Receiver,
    hooks: webhooks::Hooks,
    key: TokenKey,
    shutdown: CancellationToken,
}

impl App {
    /// Opens and binds everything, in order; nothing runs yet.
    pub async fn assemble(config: Config) -> Result<Self, StartError> {
        // Before anything speaks TLS. An error says that it was done already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        make_private_dir(&config.state_dir)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let breakers = Arc::<Breakers>::default();
        let drivers = drivers::make(&config, Arc::clone(&clock))
            .map_err(StartError::Settings)?
            .with_health(Arc::clone(&breakers) as Arc<dyn Health>);
        let settings = WorkerSettings {
            concurrency: config.limits.concurrency,
            claim_size: config.limits.concurrency.min(CLAIM_MAX),
            drain: Duration::from_secs(config.limits.drain_seconds.into()),
            // Longer than the longest last step of any driver, whatever its settings say.
            lease_seconds: WorkerSettings::least_lease_seconds(&drivers)
                .max(WorkerSettings::default().lease_seconds),
            ..WorkerSettings::default()
        };
        let hooks = webhooks::make(&config).map_err(StartError::Settings)?;
        settings.check(&drivers).map_err(StartError::Unusable)?;
        let ballast_bytes = u64::from(config.limits.ballast_mib) << 20;
        let options = OpenOptions { ballast_bytes, ..OpenOptions::default() };
        let store = crate::store::open(&config.database, options).await.map_err(refused)?;
        let listeners: Vec<_> = hooks.keys().cloned().collect();
        store.set_listeners(&listeners).await.map_err(refused)?;
        pauses::look(&*store, &drivers).await.map_err(refused)?;
        let wrote_policies = write_shipped_policies(&config)?;
        let policies = open_policies(&config, Arc::clone(&clock))?;
        let bell = Arc::new(Bell::default());
        let orchestrator = Arc::new(Orchestrator {
            store: store.clone(),
            policies: policies.handle(),
            drivers: drivers.clone(),
            clock: Arc::clone(&clock),
            bell: Arc::clone(&bell),
        });
        let metrics = Arc::new(Metrics::default());
        let queue = Arc::new(CountedQueue { queue: store.clone(), metrics: Arc::clone(&metrics) });
        let key = public::token_key(&store).await?;
        let tracker = public::tracker(&config, &key);
        let receiver = Receiver {
            store: store.clone(),
            drivers: drivers.clone(),
            clock: Arc::clone(&clock),
            bell: Arc::clone(&bell),
        };
        let dress = public::dress(&key, tracker.as_ref(), &store, &clock);
        let mut worker = Worker::new(&worker_name(&config), queue, drivers, clock, bell, settings);
        worker.breakers = breakers;
        worker.terms = Some(Arc::new(terms::PolicyTerms(policies.handle())));
        worker.dress = Some(dress);
        let api_settings = ApiSettings {
            socket: Some(config.socket.clone()),
            listen: config.listen,
            hosts: config.allowed_hosts.clone(),
            hears: config.public.url.is_some(),
            connections: ConnectionLimits {
                most: usize::try_from(config.limits.connections).unwrap_or(usize::MAX),
                ..ConnectionLimits::default()
            },
            drain: CONNECTIONS_DRAIN,
            ..ApiSettings::default()
        };
        let listeners = Listeners::bind(&api_settings).await.map_err(|e| StartError::Busy(e.to_string()))?;
        let heard = Arc::new(receiver.clone());
        let public = public::open(&config, tracker, &orchestrator, &store, heard, &metrics).await?;
        let shutdown = CancellationToken::new();
        let api = Api::new(
            Arc::clone(&orchestrator),
            Arc::clone(&policies),
            metrics,
            api_settings,
            Arc::new(key.clone()),
            shutdown.clone(),
        );
        Ok(Self {
            config,
            policies,
            orchestrator,
            wrote_policies,
            store,
            worker,
            api,
            listeners,
            public,
            receiver,
            hooks,
            key,
            shutdown,
        })
    }

    /// Where the public listener is, with the port that the system chose where it was 0.
    pub fn public_address(&self) -> Option<std::net::SocketAddr> {
        self.public.as_ref().and_then(PublicDoor::address)
    }

    /// Where TCP is taken, with the port that the system chose where it was 0.
    pub fn tcp_address(&self) -> Option<std::net::SocketAddr> {
        self.listeners.address()
    }

    /// Runs until a signal, or until the database cannot be trusted.
    pub async fn run(self, mut signals: Signals) -> Ended {
        let Self {
            policies,
            orchestrator,
            store,
            worker,
            api,
            listeners,
            public,
            receiver,
            hooks,
            key,
            shutdown,
            config,
            ..
        } = self;
        let mut failed = store.failed();
        let watching = tokio::spawn(Arc::clone(&policies).run(shutdown.clone()));
        let tidying = tokio::spawn(memory::watch(Arc::clone(&policies), shutdown.clone()));
        let noting = tokio::spawn(versions::note(
            Arc::clone(&policies),
            Arc::clone(&store),
            Arc::clone(&orchestrator.clock),
            shutdown.clone(),
        ));
        let forgetting = tokio::spawn(retention::forget(
            Arc::clone(&store),
            policies.handle(),
            Arc::clone(&orchestrator.clock),
            shutdown.clone(),
        ));
        let telling = tokio::spawn(webhooks::tell(
            Arc::clone(&store),
            hooks,
            Arc::clone(&orchestrator.clock),
            shutdown.clone(),
        ));
        let budgets = tokio::spawn(budgets::watch(
            BudgetWatch::new(store.clone(), orchestrator.policies.clone(), Arc::clone(&orchestrator.clock)),
            Arc::clone(&api.metrics),
            shutdown.clone(),
        ));
        let serving = tokio::spawn(api::serve(listeners, api, shutdown.clone()));
        let facing = public.map(|public| public.serve(shutdown.clone()));
        let pausing =
            tokio::spawn(pauses::watch(Arc::clone(&store), orchestrator.drivers.clone(), shutdown.clone()));
        let emptying =
            tokio::spawn(returns::empty(returns::folders(&config), receiver.clone(), key, shutdown.clone()));
        let stop = shutdown.clone();
        // Where the database cannot be trusted any more, it says so itself.
        let sweeping = tokio::spawn(async move { receiver.run(stop).await });
        let stop = shutdown.clone();
        let mut working = tokio::spawn(async move { worker.run(stop).await });
        let mut ended = loop {
            tokio::select! {
                signal = signals.next() => match signal {
                    signals::Signal::Reload => reload(&policies),
                    signals::Signal::Stop => break Ended::Stopped,
                },
                // A sender that is gone has closed in order: nothing failed.
                Ok(()) = failed.changed() => {
                    if let Some(why) = failed.borrow_and_update().clone() {
                        break Ended::Failed(why);
                    }
                }
                end = &mut working => break Ended::Failed(end_of_worker(end)),
            }
        };
        tracing::info!("stopping: no new work is taken, what is in flight gets its time");
        shutdown.cancel();
        let drained = async {
            if !working.is_finished()
                && let Err(why) = (&mut working).await.unwrap_or(Ok(()))
            {
                return Some(why.to_string());
            }
            let _ = serving.await;
            if let Some(facing) = facing {
                let _ = facing.await;
            }
            let _ = sweeping.await;
            let _ = watching.await;
            let _ = tidying.await;
            let _ = noting.await;
            let _ = forgetting.await;
            let _ = budgets.await;
            let _ = telling.await;
            let _ = emptying.await;
            let _ = pausing.await;
            None
        };
        tokio::select! {
            lost = drained => if let Some(why) = lost { ended = Ended::Failed(why) },
            () = signals.stop() => return Ended::AtOnce,
        }
        store.close().await;
        ended
    }
}

/// A task that ended although nobody told it to.
fn end_of_worker(end: Result<Result<(), StoreError>, tokio::task::JoinError>) -> String {
    match end {
        Ok(Ok(())) => "the worker stopped by itself".to_owned(),
        Ok(Err(error)) => error.to_string(),
        Err(panic) => format!("the worker failed: {panic}"),
    }
}

/// SIGHUP: reads the policies again, beside everything else.
fn reload(policies: &Arc<Policies>) {
    let policies = Arc::clone(policies);
    tokio::spawn(async move {
        let report = policies.reload(Cause::Signal).await;
        tracing::info!(ok = report.ok, changed = report.changed.len(), "policies read again after SIGHUP");
    });
}

fn refused(error: StoreError) -> StartError {
    match error {
        StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_) => StartError::Busy(error.to_string()),
        other => StartError::Unusable(other.to_string()),
    }
}

fn open_policies(config: &Config, clock: Arc<dyn Clock>) -> Result<Arc<Policies>, StartError> {
    let options = Options {
        folder: config.policies.path.clone(),
        state_dir: config.state_dir.clone(),
        environment: config.policy_environment.clone(),
        drivers: Some(drivers::names(config)),
        clock,
    };
    Policies::open(options).map(Arc::new).map_err(|error| StartError::Unusable(error.to_string()))
}

/// With no policies anywhere, the shipped ones are written, once: what is there is never overwritten.
fn write_shipped_policies(config: &Config) -> Result<bool, StartError> {
    let folder = &config.policies.path;
    if config.policies.named_by != NamedBy::Shipped || folder.exists() {
        return Ok(false);
    }
    shipped::write(folder)
        .map(|()| true)
        .map_err(|error| cannot("write the shipped policies to", folder, &error))
}

/// The state directory: its owner's alone, because messages are in it.
fn make_private_dir(dir: &Path) -> Result<(), StartError> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(dir)
        .map_err(|error| cannot("make the state directory", dir, &error))
}

fn cannot(what: &str, path: &Path, error: &io::Error) -> StartError {
    StartError::Unusable(format!("cannot {what} {}: {error}", path.display()))
}

/// Names this process's claims. An embedded database has one daemon, whose next life takes up its claims; of
/// several on PostgreSQL each is another.
fn worker_name(config: &Config) -> String {
    if config.database.starts_with("sqlite:") {
        return "embedded".to_owned();
    }
    format!("worker-{}", uuid::Uuid::now_v7().simple())
}

/// The database for `keys`, whether a daemon has it open or not; made where there is none yet.
pub async fn open_database_for_keys(config: &Config) -> Result<Arc<SqlStore>, StoreError> {
    let missing = config.database.strip_prefix("sqlite:").is_some_and(|path| !Path::new(path).exists());
    let access = if missing { Access::Daemon } else { Access::Beside };
    crate::store::open(&config.database, OpenOptions { access, ..OpenOptions::default() }).await
}

/// The database for commands that only look, whether a daemon has it open or not.
pub async fn open_database_to_read(database: &str) -> Result<Arc<SqlStore>, StoreError> {
    crate::store::open(database, OpenOptions { access: Access::ReadOnly, ..OpenOptions::default() }).await
}
