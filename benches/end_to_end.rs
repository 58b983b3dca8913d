//! From acceptance to settlement on the sandbox, every promise on: messages a second, how long each took, and what a
//! message costs beside few and many stored ones (performance.md G6, and the flat part of G8).
//!
//!     cargo bench --bench end_to_end [-- --quick | MESSAGES]
//!
//! One process: requests are parsed, decided, kept and acknowledged after their commit; the daemon's worker claims
//! them, records the intent, has the sandbox write its file, and settles. `accept` lets the worker sleep, so that the
//! ratio says what delivery takes of it. `seconds` are of processor time, which other work on the machine moves little;
//! the rates are of the wall clock and want an idle machine. The folder is made in TMPDIR, else in the build's own:
//! not on a RAM disk, which would measure nothing.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use async_trait::async_trait;
use channel_orchestrator::{
    app::PolicyTerms,
    bell::Bell,
    bundles::reload::{Options, Policies},
    channels::{Drivers, sandbox::Sandbox, settings::SandboxSettings},
    delivery::worker::{Worker, WorkerSettings},
    domain::{
        delivery::{Next, Outcome},
        ids::{AttemptId, IdempotencyKey, MessageId, RecipientId},
        time::Clock,
    },
    orchestrator::Orchestrator,
    policy::assemble::PolicyEnvironment,
    request::{Purpose, parse},
    store::{
        Claimed, Intake, Intent, IntentRecord, OpenOptions, Queue, Recovered, Result, Room, Settled,
        SqlStore, open,
    },
};
use chrono::{DateTime, Utc};
use load::figure;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

mod broadcast;
#[allow(dead_code, reason = "shared with other benches")]
mod load;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/it/store/messages.rs"]
mod messages;
#[allow(dead_code, reason = "shared with the tests")]
#[path = "../tests/it/support/mod.rs"]
mod support;

/// Callers at once, and messages on their way at most.
const CALLERS: usize = 256;
const ON_THEIR_WAY: usize = 4096;
/// Messages being sent at once: what an operator sets (`[limits] concurrency`) where providers take many.
pub const PLACES: u32 = 512;
/// Messages stored before the measurement begins.
const STORED: [usize; 3] = [0, 1_000, 100_000];
const STORED_QUICK: [usize; 2] = [0, 10_000];
const MESSAGES: usize = 20_000;
const MESSAGES_QUICK: usize = 4_000;

/// A Friday afternoon in Paris, going on from there: no quiet hours, and real differences.
struct Afternoon(Instant);

impl Clock for Afternoon {
    fn now(&self) -> DateTime<Utc> {
        let start: DateTime<Utc> = "2025-11-14T14:00:00Z".parse().expect("an instant");
        start + self.0.elapsed()
    }
}

/// The store's queue, with a look at what was settled.
struct Watched {
    store: Arc<SqlStore>,
    accepted: Arc<Mutex<HashMap<MessageId, Instant>>>,
    took: Mutex<Vec<Duration>>,
    settled: AtomicU64,
    room: Arc<Semaphore>,
}

#[async_trait]
impl Queue for Watched {
    async fn claim_into(
        &self,
        worker: &str,
        now: DateTime<Utc>,
        lease: u32,
        room: Room,
    ) -> Result<Vec<Claimed>> {
        self.store.claim_into(worker, now, lease, room).await
    }

    async fn record_intent(&self, claimed: &Claimed, intent: IntentRecord) -> Result<Intent> {
        self.store.record_intent(claimed, intent).await
    }

    async fn settle(
        &self,
        claimed: &Claimed,
        attempt: AttemptId,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Settled> {
        let settled = self.store.settle(claimed, attempt, outcome, next, now).await?;
        assert!(matches!(next, Next::Sent), "the sandbox takes everything: {next:?}");
        if let Some(since) = self.accepted.lock().expect("whole").remove(&claimed.id) {
            self.took.lock().expect("whole").push(since.elapsed());
        }
        self.settled.fetch_add(1, Ordering::SeqCst);
        self.room.add_permits(1);
        Ok(settled)
    }

    async fn record_unsent(
        &self,
        claimed: &Claimed,
        intent: IntentRecord,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Intent> {
        self.store.record_unsent(claimed, intent, outcome, next, now).await
    }

    async fn advance(&self, claimed: &Claimed, next: &Next, now: DateTime<Utc>) -> Result<()> {
        panic!("{} is not sent: {next:?} at {now}", claimed.id)
    }

    async fn recover(
        &self,
        all_of: Option<&str>,
        now: DateTime<Utc>,
        at: DateTime<Utc>,
    ) -> Result<Recovered> {
        self.store.recover(all_of, now, at).await
    }

    async fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        self.store.next_due().await
    }
}

struct House {
    orchestrator: Arc<Orchestrator>,
    watched: Arc<Watched>,
    store: Arc<SqlStore>,
}

/// Every folder so far, to be removed at the end: ext4 looks long for a free inode where many files were removed lately,
/// which would be told of the next measurement.
static FOLDERS: Mutex<Vec<tempfile::TempDir>> = Mutex::new(Vec::new());

impl House {
    async fn open(stored: usize) -> Self {
        let folder = folder();
        let policies = folder.path().join("policies");
        copy(&Path::new(env!("CARGO_MANIFEST_DIR")).join("policies"), &policies);
        fs::remove_dir_all(policies.join("tests")).ok();
        fs::remove_dir_all(policies.join("tenants")).ok();
        fs::create_dir_all(policies.join("tenants")).expect("a folder");
        fs::write(policies.join("tenants/agency.toml"), "").expect("a tenant");
        let clock = Arc::new(Afternoon(Instant::now()));
        let policies = Policies::open(Options {
            folder: policies,
            state_dir: folder.path().join("state"),
            environment: PolicyEnvironment::default(),
            drivers: None,
            clock: clock.clone(),
        })
        .expect("the shipped policies");
        let url = format!("sqlite:{}", folder.path().join("store.db").display());
        let store = open(&url, OpenOptions::default()).await.expect("a store");
        fill(&store, stored).await;
        let sandbox =
            Sandbox::new("sandbox", SandboxSettings::default(), folder.path().join("outbox"), clock.clone());
        let room = Arc::new(Semaphore::new(ON_THEIR_WAY));
        let watched = Arc::new(Watched {
            store: store.clone(),
            accepted: Arc::default(),
            took: Mutex::default(),
            settled: AtomicU64::new(0),
            room,
        });
        let orchestrator = Arc::new(Orchestrator {
            store: store.clone(),
            policies: policies.handle(),
            drivers: Drivers::new([Arc::new(sandbox) as _]),
            clock,
            bell: Arc::new(Bell::default()),
        });
        FOLDERS.lock().expect("whole").push(folder);
        Self { orchestrator, watched, store }
    }

    fn worker(&self) -> Worker {
        let o = &self.orchestrator;
        let queue = Arc::clone(&self.watched) as Arc<dyn Queue>;
        let settings = WorkerSettings { concurrency: PLACES, claim_size: 256, ..WorkerSettings::default() };
        let mut worker =
            Worker::new("bench", queue, o.drivers.clone(), o.clock.clone(), o.bell.clone(), settings);
        worker.terms = Some(Arc::new(PolicyTerms(o.policies.clone())));
        worker
    }
}

fn folder() -> tempfile::TempDir {
    let base =
        std::env::var_os("TMPDIR").map_or_else(|| PathBuf::from(env!("CARGO_TARGET_TMPDIR")), Into::into);
    tempfile::tempdir_in(base).expect("a folder to write to")
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).expect("a folder");
    for entry in fs::read_dir(from).expect("the policies") {
        let entry = entry.expect("an entry");
        let target = to.join(entry.file_name());
        if entry.path().is_dir() {
            copy(&entry.path(), &target)
        } else {
            fs::copy(entry.path(), target).expect("a copy");
        }
    }
}

/// Messages of other people, all at their end.
async fn fill(store: &Arc<SqlStore>, stored: usize) {
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        let store = Arc::clone(store);
        tasks.spawn(async move {
            for n in (caller..stored).step_by(CALLERS) {
                let mut old = messages::message();
                old.request.recipient = RecipientId::parse(&format!("old-{n}")).expect("a recipient");
                old.status = channel_orchestrator::domain::delivery::Status::Cancelled;
                old.idempotency = Some((messages::key(&old.id.to_string()), [7; 32]));
                store.accept(old).await.expect("accepted");
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("filled");
    }
}

/// One caller's share: parse, decide, keep, and the next one after the acknowledgement.
async fn call(house: Arc<House>, caller: usize, messages: usize, delivered: bool) {
    for n in (caller..messages).step_by(CALLERS) {
        let body = format!(
            r#"{{"context": {{"tenantId": "agency", "prospectId": "person-{n}", "prospectName": "Zoé Martin",
            "prospectPhone": "+336{n:08}", "prospectEmail": "zoe-{n}@example.fr", "messageType": "appointment",
            "priority": {{"level": "high"}}}}, "content": {{"subject": "Votre visite", "body": "Bonjour Zoé, nous vous attendons demain à 15 h pour la visite de l'appartement, 12 rue des Lilas. À demain !"}}}}"#
        );
        let asked = parse(body.as_bytes(), Purpose::Message).expect("a request");
        let key = IdempotencyKey::parse(&format!("key-{n}")).expect("a key");
        if delivered {
            house.watched.room.acquire().await.expect("open").forget();
        }
        let begun = Instant::now();
        let submitted = house.orchestrator.submit(asked, Some(key), Duration::ZERO).await.expect("accepted");
        let id = submitted.record.id;
        if delivered {
            house.watched.accepted.lock().expect("whole").insert(id, begun);
        } else {
            house.watched.took.lock().expect("whole").push(begun.elapsed());
        }
    }
}

struct Measured {
    rate: f64,
    seconds: f64,
    p50: Duration,
    p99: Duration,
}

async fn measure(stored: usize, messages: usize, delivered: bool) -> Measured {
    let house = Arc::new(House::open(stored).await);
    let stop = CancellationToken::new();
    let worker = delivered.then(|| {
        let (worker, stop) = (house.worker(), stop.clone());
        tokio::spawn(async move { worker.run(stop).await })
    });
    let (begun, used) = (Instant::now(), processor_seconds());
    let mut tasks = tokio::task::JoinSet::new();
    for caller in 0..CALLERS {
        tasks.spawn(call(Arc::clone(&house), caller, messages, delivered));
    }
    while let Some(done) = tasks.join_next().await {
        done.expect("a caller ends well");
    }
    while delivered && house.watched.settled.load(Ordering::SeqCst) < messages as u64 {
        assert!(begun.elapsed() < Duration::from_secs(600), "the worker stands still");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (took, used) = (begun.elapsed(), processor_seconds() - used);
    stop.cancel();
    if let Some(worker) = worker {
        worker.await.expect("whole").expect("a worker that ends well");
    }
    let counts = house.store.counts();
    println!("    {} operations in {} commits", counts.operations, counts.commits);
    house.store.close().await;
    let mut each = std::mem::take(&mut *house.watched.took.lock().expect("whole"));
    each.sort_unstable();
    let at = |share: usize| each.get(each.len() * share / 100).copied().unwrap_or_default();
    Measured { rate: messages as f64 / took.as_secs_f64(), seconds: used, p50: at(50), p99: at(99) }
}

/// User and system time of this process so far, by the kernel's ticks of 10 ms.
fn processor_seconds() -> f64 {
    let text = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    let after = text.rsplit_once(')').map_or("", |(_, after)| after);
    let ticks =
        |at: usize| after.split_whitespace().nth(at).and_then(|t| t.parse::<f64>().ok()).unwrap_or(0.0);
    (ticks(11) + ticks(12)) / 100.0
}

struct Removed;

impl Drop for Removed {
    fn drop(&mut self) {
        FOLDERS.lock().expect("whole").clear();
    }
}

fn main() {
    let quick = std::env::args().any(|word| word == "--quick");
    let (stored, messages) =
        if quick { (&STORED_QUICK[..], MESSAGES_QUICK) } else { (&STORED[..], MESSAGES) };
    let asked = std::env::args().skip(1).find_map(|text| text.parse().ok());
    let messages = asked.unwrap_or(messages);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let _removed = Removed;
    let (mut first, mut last) = (None, None);
    println!("{messages} messages, {CALLERS} callers, at most {ON_THEIR_WAY} on their way");
    for stored in stored {
        let accept = runtime.block_on(measure(*stored, messages, false));
        let all = runtime.block_on(measure(*stored, messages, true));
        let cost = |m: &Measured| m.seconds * 1e6 / messages as f64;
        println!("{stored} stored before:");
        for (name, m) in [("accept alone", &accept), ("accepted to settled", &all)] {
            println!(
                "  {name:<20} {:>8.0} messages/s   p50 {:>7.1} ms   p99 {:>7.1} ms   {:>6.1} us of processor each",
                m.rate,
                m.p50.as_secs_f64() * 1e3,
                m.p99.as_secs_f64() * 1e3,
                cost(m),
            );
        }
        let base = *first.get_or_insert(cost(&all));
        println!(
            "  to settled: {:.2} of accept alone; a message costs {:.2} of what it costs beside none",
            all.rate / accept.rate,
            cost(&all) / base
        );
        last = Some((accept, all));
    }
    // Beside the most that were stored, so that nothing is told of an empty table.
    if let Some((accept, all)) = last {
        figure("end_to_end.accept", accept.rate, "msgs/s");
        figure("end_to_end.settled", all.rate, "msgs/s");
        figure("end_to_end.cost", all.seconds * 1e6 / messages as f64, "us");
    }
    // Whoever says how many wants to see these alone.
    if asked.is_none() {
        broadcast::run(quick);
    }
}
