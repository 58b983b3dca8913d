//! Lanes: a provider that hangs, with hundreds of messages before it, holds up no other channel and, before long, no
//! other provider of its own (reliability.md F35); what waits for it waits as it is.

use std::{sync::Arc, time::Duration};

use channel_orchestrator::{
    bell::Bell,
    channels::{Driver, Drivers, health::Health},
    delivery::worker::{Worker, WorkerSettings},
    domain::{
        channel::Channel,
        delivery::{ErrorClass, NewMessage, Status},
        ids::MessageId,
        time::{Clock, ManualClock},
    },
    store::{Intake, Queue, Records, SqlStore, StoreError},
};
use chrono::TimeDelta;
use tokio::{sync::Semaphore, task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::scripted::{Do, Scripted, found};
use crate::store::fixture::{Base, at, message, tenant};

const PATIENCE: Duration = Duration::from_secs(120);
const PLACES: usize = 16;
const QUEUED: usize = 300;
const MAILS: usize = 40;

/// Due now by this clock, by this channel and these drivers alone.
fn due_now(clock: &ManualClock, channel: Channel, drivers: &[&str]) -> NewMessage {
    let mut new = message();
    new.accepted_at = clock.now();
    new.idempotency = None;
    new.decision.chosen = Some(channel);
    let plan = new.plan.as_mut().unwrap();
    plan.deadline = new.accepted_at + TimeDelta::hours(24);
    plan.escalation = None;
    plan.hops.retain(|hop| hop.channel == channel);
    let hop = &mut plan.hops[0];
    (hop.drivers, hop.from) = (drivers.iter().map(|name| (*name).to_owned()).collect(), None);
    new
}

/// A worker, once it is started at work, and the clock by which it goes.
struct Shift {
    base: Base,
    store: Arc<SqlStore>,
    clock: Arc<ManualClock>,
    bell: Arc<Bell>,
    worker: Worker,
    shutdown: CancellationToken,
    running: Option<JoinHandle<Result<(), StoreError>>>,
}

impl Shift {
    async fn new(places: usize, patience: Duration, drivers: &[&Arc<Scripted>]) -> Self {
        let base = Base::sqlite();
        let store = base.open().await;
        let settings = WorkerSettings { concurrency: places as u32, patience, ..WorkerSettings::default() };
        let (bell, queue): (Arc<Bell>, Arc<dyn Queue>) = (Arc::default(), store.clone());
        let drivers = Drivers::new(drivers.iter().map(|driver| Arc::clone(driver) as Arc<dyn Driver>));
        let clock = Arc::new(ManualClock::new(at(0)));
        let mut worker = Worker::new("w", queue, drivers, clock.clone(), bell.clone(), settings);
        worker.jitter = || 0.0;
        Self { base, store, clock, bell, worker, shutdown: CancellationToken::new(), running: None }
    }

    fn start(&mut self) {
        let (worker, until) = (self.worker.clone(), self.shutdown.clone());
        self.running = Some(tokio::spawn(async move { worker.run(until).await }));
    }

    async fn accept(&self, channel: Channel, drivers: &[&str]) -> MessageId {
        let new = due_now(&self.clock, channel, drivers);
        let id = new.id;
        self.store.accept(new).await.unwrap();
        self.bell.ring_due();
        id
    }

    async fn accept_all(&self, count: usize, channel: Channel, drivers: &[&str]) -> Vec<MessageId> {
        let mut ids = Vec::new();
        for _ in 0..count {
            ids.push(self.accept(channel, drivers).await);
        }
        ids
    }

    /// Waits until the message stands so.
    async fn until(&self, id: MessageId, wanted: Status) {
        let stands = async {
            while self.store.message(&tenant(), id).await.unwrap().unwrap().status != wanted {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, stands).await.unwrap_or_else(|_| panic!("it never becomes {wanted}"));
    }

    async fn until_sent(&self, ids: &[MessageId]) {
        for id in ids {
            self.until(*id, Status::Sent).await;
        }
    }

    /// Whether its credential is let alone.
    fn is_down(&self, credential: &str) -> bool {
        self.worker.breakers.down(credential, None, self.clock.now()).is_some()
    }

    async fn count(&self, wanted: Status) -> usize {
        let states = self.store.count_by_status().await.unwrap();
        states.iter().find(|(status, _)| *status == wanted).map_or(0, |(_, count)| *count as usize)
    }

    async fn end(mut self) {
        self.shutdown.cancel();
        let running = self.running.take().unwrap();
        timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
        self.store.close().await;
        self.base.audit().await;
    }
}

/// Waits until it is so.
async fn until(what: &str, condition: impl Fn() -> bool) {
    let waits = async {
        while !condition() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, waits).await.unwrap_or_else(|_| panic!("{what}: never"));
}

/// Each of its messages waits until the gate opens.
fn hanging(gate: &Arc<Semaphore>) -> Arc<Scripted> {
    Scripted::new("hanging", (0..QUEUED).map(|_| Do::Wait(gate.clone())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_holds_up_its_own_channel_and_no_other() {
    let gate = Arc::new(Semaphore::new(0));
    let (hanging, relay) = (hanging(&gate), Scripted::new("relay", []));
    // Patience is not at its end in this test.
    let mut shift = Shift::new(PLACES, Duration::from_secs(3_600), &[&hanging, &relay]).await;
    let queued = shift.accept_all(QUEUED, Channel::Sms, &["hanging"]).await;
    shift.start();
    // Alone it has every place of its lane.
    until("every place is taken", || hanging.sent().len() == PLACES).await;

    let mails = shift.accept_all(MAILS, Channel::Email, &["relay"]).await;
    shift.until_sent(&mails).await;
    assert_eq!(hanging.sent().len(), PLACES, "and none of those that hang has ended");
    // The rest was not even taken up: it waits as what it is.
    let counts = (shift.count(Status::Sending).await, shift.count(Status::Queued).await);
    assert_eq!(counts, (PLACES, QUEUED - PLACES));
    let waiting = shift.store.message(&tenant(), queued[QUEUED - 1]).await.unwrap().unwrap();
    let told: Vec<&str> = waiting.timeline.iter().map(|event| event.event.as_str()).collect();
    assert_eq!((waiting.attempts.len(), told), (0, vec!["accepted"]));

    gate.add_permits(QUEUED);
    shift.until_sent(&queued).await;
    assert_eq!((hanging.sent().len(), relay.sent().len()), (QUEUED, MAILS));
    shift.end().await;
}

/// F35: other providers unaffected, sockets within a cap.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn before_long_it_holds_up_nobody_who_goes_by_another_provider_of_its_channel() {
    let gate = Arc::new(Semaphore::new(0));
    let (hanging, other) = (hanging(&gate), Scripted::new("other", []));
    let mut shift = Shift::new(PLACES, Duration::from_millis(20), &[&hanging, &other]).await;
    // Every place of the lane is its at first.
    let queued = shift.accept_all(QUEUED, Channel::Sms, &["hanging"]).await;
    shift.start();

    // Another tenant's provider.
    let others = shift.accept_all(MAILS, Channel::Sms, &["other"]).await;
    shift.until_sent(&others).await;
    // And who may go by either.
    until("it is known to hang", || shift.is_down("hanging")).await;
    let either = shift.accept_all(MAILS, Channel::Sms, &["hanging", "other"]).await;
    shift.until_sent(&either).await;
    assert_eq!(other.sent().len(), 2 * MAILS);
    let (calls, most) = (hanging.sent().len(), PLACES + PLACES / 2 - 1);
    assert!((PLACES..=most).contains(&calls), "{calls} calls hang, at most {most} may");
    // What waits for it used up no attempt.
    let waiting = shift.store.message(&tenant(), queued[QUEUED - 1]).await.unwrap().unwrap();
    assert_eq!((waiting.attempts.len(), waiting.status == Status::Sent), (0, false));

    // It answers again: all that waited goes, each once.
    gate.add_permits(QUEUED);
    until("it is known to answer", || !shift.is_down("hanging")).await;
    let ended = async {
        while shift.count(Status::Sent).await < QUEUED + 2 * MAILS {
            let due = shift.store.next_due().await.unwrap();
            // Not while anything is under way: its lease would run out.
            if let Some(due) = due.filter(|due| *due > shift.clock.now())
                && shift.count(Status::Sending).await == 0
            {
                shift.clock.set(due);
                shift.bell.ring_due();
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, ended).await.expect("what waited goes");
    shift.until_sent(&queued).await;
    assert_eq!((hanging.sent().len(), other.sent().len()), (QUEUED, 2 * MAILS));
    shift.end().await;
}

/// A look-up that hangs is a call that hangs.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_when_it_is_asked_what_became_of_a_message_holds_up_nobody() {
    let gate = Arc::new(Semaphore::new(0));
    let (hanging, other) =
        (Scripted::new("hanging", [Do::Late(ErrorClass::Unknown)]), Scripted::new("other", []));
    hanging.answers_after(gate.clone());
    hanging.shows([found("T-1")]);
    let mut shift = Shift::new(1, Duration::from_millis(20), &[&hanging, &other]).await;
    let unknown = shift.accept(Channel::Sms, &["hanging"]).await;
    shift.start();
    shift.until(unknown, Status::Unknown).await;
    shift.clock.advance(TimeDelta::seconds(15));
    shift.bell.ring_due();
    until("it is asked", || !hanging.asked.lock().unwrap().is_empty()).await;
    // It has the only place of the lane.
    let others = shift.accept_all(MAILS, Channel::Sms, &["other"]).await;
    shift.until_sent(&others).await;
    gate.add_permits(1);
    shift.until(unknown, Status::Sent).await;
    shift.end().await;
}
