//! The worker: finds what is due, has it tried, and takes care of what a crash left open.
//!
//! Several messages at a time on each channel (`lanes`), never one message twice: a claim is a lease that outlives the
//! longest send, and a lease that runs out leads to an unknown outcome, never to a second send. It stops, rather than
//! guess, when the database cannot say whether a commit happened.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::{task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use super::{allowance::Allowance, breaker::Breakers, lanes::Lanes, machine::poll_at, terms::Terms};
use crate::{
    bell::Bell,
    channels::{Drivers, dress::Dress},
    domain::time::Clock,
    failpoint,
    store::{Claimed, Queue, Recovered, Result, Room, StoreError},
};

/// A lease must outlive the longest send by this much, in seconds (I13), and leave time to prepare.
pub(super) const LEASE_MARGIN_SECONDS: u32 = 5;
/// The least time that is left to prepare an attempt: connect, TLS, envelope.
const PREPARE_SECONDS_MIN: u32 = 30;
/// How often lapsed leases are looked for.
const RECOVER_EVERY: Duration = Duration::from_secs(5);
/// How long a worker that is nearly full waits for more room, so that it claims many at once.
const GATHER: Duration = Duration::from_millis(2);
/// Never asks the database more often than this when it has nothing.
const IDLE_MIN: Duration = Duration::from_millis(50);

/// How a worker works.
#[derive(Clone, Copy, Debug)]
pub struct WorkerSettings {
    /// Messages in flight at once on each channel: a provider that hangs holds up no other channel.
    pub concurrency: u32,
    /// A call that lasts longer hangs: its message leaves its place to others, and once half as many as there are places
    /// hang, their credential gets no further ones (reliability.md F35).
    pub patience: Duration,
    /// Messages claimed at once; where lanes are busy, on each.
    pub claim_size: u32,
    /// How long a claim lasts.
    pub lease_seconds: u32,
    /// How long attempts in flight may still take after a shutdown began (P12).
    pub drain: Duration,
    /// The longest it goes without looking, whatever the bell says.
    pub poll: Duration,
}

impl Default for WorkerSettings {
    fn default() -> Self {
        Self {
            concurrency: 64,
            patience: Duration::from_secs(5),
            claim_size: 64,
            lease_seconds: 900,
            drain: Duration::from_secs(25),
            poll: Duration::from_secs(2),
        }
    }
}

impl WorkerSettings {
    /// The shortest lease that these drivers leave: their longest last step, the margin, and time to prepare.
    pub fn least_lease_seconds(drivers: &Drivers) -> u32 {
        let longest = drivers.iter().map(|driver| driver.send_timeout_seconds()).max().unwrap_or(0);
        longest.saturating_add(LEASE_MARGIN_SECONDS + PREPARE_SECONDS_MIN)
    }

    /// Whether the lease is long enough for these drivers, and nothing else is absurd: asked before the start.
    pub fn check(&self, drivers: &Drivers) -> Result<(), String> {
        if self.concurrency == 0 || self.claim_size == 0 {
            return Err("a worker's concurrency and claim_size must be at least 1".into());
        }
        for driver in drivers.iter() {
            let least =
                driver.send_timeout_seconds().saturating_add(LEASE_MARGIN_SECONDS + PREPARE_SECONDS_MIN);
            if self.lease_seconds < least {
                return Err(format!(
                    "a lease of {} s is too short for driver {}, whose last step may take {} s: it must be \
                     at least {least} s, or a message could be taken up by another worker while it is sent",
                    self.lease_seconds,
                    driver.name(),
                    driver.send_timeout_seconds(),
                ));
            }
        }
        Ok(())
    }
}

/// Works through the queue. Clones share everything.
#[derive(Clone)]
pub struct Worker {
    /// Names this process's claims; on SQLite the same after a restart.
    pub name: Arc<str>,
    pub queue: Arc<dyn Queue>,
    pub drivers: Drivers,
    pub clock: Arc<dyn Clock>,
    pub bell: Arc<Bell>,
    pub settings: WorkerSettings,
    /// A fresh number from 0 to 1; fixed in tests.
    pub jitter: fn() -> f64,
    /// Which credentials are down; the same for everything that asks in this process.
    pub breakers: Arc<Breakers>,
    /// What the tenants' policies say now; without it an attempt has no limits but its plan's.
    pub terms: Option<Arc<dyn Terms>>,
    /// What is added to a message before it goes; without a public listener nothing.
    pub dress: Option<Arc<dyn Dress>>,
    pub(super) allowance: Arc<Allowance>,
    lanes: Arc<Lanes>,
    /// Outcomes that the database has not taken yet: nothing is claimed meanwhile.
    pub(super) unwritten: Arc<AtomicUsize>,
}

impl Worker {
    pub fn new(
        name: &str,
        queue: Arc<dyn Queue>,
        drivers: Drivers,
        clock: Arc<dyn Clock>,
        bell: Arc<Bell>,
        settings: WorkerSettings,
    ) -> Self {
        Self {
            name: name.into(),
            queue,
            drivers,
            clock,
            bell,
            settings,
            jitter: random,
            breakers: Arc::default(),
            terms: None,
            dress: None,
            allowance: Arc::default(),
            lanes: Arc::default(),
            unwritten: Arc::default(),
        }
    }

    /// One pass over what is due now; how many messages it took. Tests call this instead of `run`.
    pub async fn run_once(&self) -> Result<usize> {
        self.recover(false).await?;
        let claimed = self.claim(Room::Shared(self.settings.claim_size)).await?;
        let taken = claimed.len();
        let mut tasks = JoinSet::new();
        for claim in claimed {
            self.start(&mut tasks, claim);
        }
        while let Some(ended) = tasks.join_next().await {
            ended.unwrap_or_else(|panic| contained(&panic))?;
        }
        Ok(taken)
    }

    /// Works until `shutdown`, then lets what is in flight end. An error says that the process must stop.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<()> {
        let mut tasks = JoinSet::new();
        self.recover_at_start(&shutdown).await?;
        let mut recovered = Instant::now();
        while !shutdown.is_cancelled() {
            while let Some(ended) = tasks.try_join_next() {
                ended.unwrap_or_else(|panic| contained(&panic))?;
            }
            if recovered.elapsed() >= RECOVER_EVERY {
                recovered = Instant::now();
                passable(self.recover(false).await)?;
            }
            self.gather(&mut tasks).await?;
            let started = passable(self.fill(&mut tasks).await)?.unwrap_or(0);
            if started == 0 {
                self.wait(&mut tasks, &shutdown).await?;
            }
        }
        self.drain(tasks).await
    }

    /// Where most places of a lane are taken, waits a moment for some to end: a claim costs about the same for one message
    /// as for many.
    async fn gather(&self, tasks: &mut JoinSet<Result<()>>) -> Result<()> {
        let until = Instant::now() + GATHER;
        while self.lanes.is_busy(self.settings.concurrency) {
            match tokio::time::timeout_at(until, tasks.join_next()).await {
                Ok(Some(ended)) => ended.unwrap_or_else(|panic| contained(&panic))?,
                Ok(None) | Err(_) => break,
            }
        }
        Ok(())
    }

    /// Claims as many as there is room for; how many that were.
    async fn fill(&self, tasks: &mut JoinSet<Result<()>>) -> Result<usize> {
        let Some(room) = self.room().filter(|_| self.unwritten.load(Ordering::SeqCst) == 0) else {
            return Ok(0);
        };
        let claimed = self.claim(room).await?;
        let started = claimed.len();
        for claim in claimed {
            self.start(tasks, claim);
        }
        Ok(started)
    }

    /// Until something may have changed: a bell, an end, the next due moment, the poll.
    async fn wait(&self, tasks: &mut JoinSet<Result<()>>, shutdown: &CancellationToken) -> Result<()> {
        let next = passable(self.queue.next_due().await)?.flatten();
        let until_due = next.map(|at| (at - self.clock.now()).to_std().unwrap_or_default());
        let longest = until_due.map_or(self.settings.poll, |due| due.clamp(IDLE_MIN, self.settings.poll));
        let room = self.room().is_some();
        tokio::select! {
            () = shutdown.cancelled() => Ok(()),
            () = self.bell.due(), if room => Ok(()),
            () = tokio::time::sleep(longest) => Ok(()),
            Some(ended) = tasks.join_next() => ended.unwrap_or_else(|panic| contained(&panic)),
        }
    }

    /// What is in flight gets its time; what is not done then stays open and is unknown at the next start.
    async fn drain(&self, mut tasks: JoinSet<Result<()>>) -> Result<()> {
        failpoint::hit("drain.start");
        let in_flight = tasks.len();
        let ending = async {
            while let Some(ended) = tasks.join_next().await {
                ended.unwrap_or_else(|panic| contained(&panic))?;
            }
            Ok(())
        };
        let ended = match tokio::time::timeout(self.settings.drain, ending).await {
            Ok(ended) => ended,
            Err(_) => {
                tracing::warn!(in_flight, left = tasks.len(), "attempts were still in flight at the end");
                Ok(())
            }
        };
        failpoint::hit("drain.exit");
        ended
    }

    fn room(&self) -> Option<Room> {
        self.lanes.room(self.settings.concurrency, self.settings.claim_size)
    }

    async fn claim(&self, room: Room) -> Result<Vec<Claimed>> {
        self.queue.claim_into(&self.name, self.clock.now(), self.settings.lease_seconds, room).await
    }

    fn start(&self, tasks: &mut JoinSet<Result<()>>, claim: Claimed) {
        let (worker, place) = (self.clone(), self.lanes.enter(claim.lane));
        tasks.spawn(async move { worker.deliver(claim, &place).await });
    }

    /// Takes care of leases that ran out, or of everything that an earlier life of this worker left open.
    pub async fn recover(&self, earlier_life: bool) -> Result<Recovered> {
        let now = self.clock.now();
        let settle_at = poll_at(now, 0).unwrap_or(now);
        let all_of = earlier_life.then_some(&*self.name);
        let found = self.queue.recover(all_of, now, settle_at).await?;
        if found != Recovered::default() {
            tracing::warn!(
                unknown = found.unknown,
                given_back = found.given_back,
                quarantined = found.quarantined,
                "took care of what was left open"
            );
        }
        Ok(found)
    }

    /// Nothing is claimed before the earlier life's claims are settled, however long the database takes.
    async fn recover_at_start(&self, shutdown: &CancellationToken) -> Result<()> {
        while passable(self.recover(true).await)?.is_none() {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(self.settings.poll) => {}
            }
        }
        Ok(())
    }
}

/// An unavailable database is waited for; anything else ends the worker.
fn passable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Unavailable(why)) => {
            tracing::warn!(why, "the database is unavailable: the queue waits");
            Ok(None)
        }
        Err(e) => Err(e),
    }
}

/// A panic in a task of ours costs that attempt, not the worker: its lease runs out and recovery looks at it.
fn contained(panic: &tokio::task::JoinError) -> Result<()> {
    if panic.is_panic() {
        tracing::error!("an attempt's task panicked: its message is taken up again when its lease ends");
    }
    Ok(())
}

/// From 0 to 1, from the keys that the standard library draws for each hasher.
fn random() -> f64 {
    let bits = RandomState::new().build_hasher().finish();
    (bits >> 11) as f64 / (1u64 << 53) as f64
}
