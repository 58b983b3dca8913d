//! A driver that does what a test tells it, and a queue that fails where a test wants it to.

use std::{
    collections::VecDeque,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use channel_orchestrator::{
    channels::{Driver, Found, LookUp, Outbound, PrepareError, Prepared},
    domain::{
        channel::Channel,
        delivery::{AttemptError, ErrorClass, Next, Outcome},
        ids::AttemptId,
    },
    store::{Claimed, Intent, IntentRecord, Queue, Recovered, Result, Room, Settled, SqlStore, StoreError},
};
use chrono::{DateTime, Utc};
use tokio::sync::{Notify, Semaphore};

/// What the driver does with one attempt.
#[derive(Clone)]
pub enum Do {
    Accept,
    /// Accepts under this name.
    AcceptAs(&'static str),
    /// Fails before the last step.
    Early(ErrorClass),
    /// Fails in the last step.
    Late(ErrorClass),
    /// Asks for patience.
    Flood(u32),
    PanicEarly,
    PanicLate,
    /// Never ends, before the last step or in it.
    HangEarly,
    HangLate,
    /// Accepts once the gate opens.
    Wait(Arc<Semaphore>),
    /// Runs this before the last step, then accepts.
    First(Arc<dyn Fn() + Send + Sync>),
}

/// Accepts everything that its script says nothing of.
pub struct Scripted {
    name: String,
    script: Mutex<VecDeque<Do>>,
    /// What it answers when it is asked about an attempt, and when it was asked, by attempt.
    pub found: Mutex<VecDeque<Found>>,
    pub asked: Mutex<Vec<u16>>,
    /// Before it answers, where one is set.
    answers_after: Mutex<Option<Arc<Semaphore>>>,
    /// What it was asked to send, by channel and attempt, last steps only.
    sent: Arc<Mutex<Vec<(Channel, u16)>>>,
    /// Rung when an attempt reaches a step that hangs or waits.
    pub reached: Arc<Notify>,
    pub send_timeout: u32,
    pub enforces_window: bool,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.name)
    }
}

impl Scripted {
    pub fn new(name: &str, script: impl IntoIterator<Item = Do>) -> Arc<Self> {
        Arc::new(Self {
            name: name.to_owned(),
            script: Mutex::new(script.into_iter().collect()),
            found: Mutex::default(),
            asked: Mutex::default(),
            answers_after: Mutex::default(),
            sent: Arc::default(),
            reached: Arc::default(),
            send_timeout: 30,
            enforces_window: false,
        })
    }

    /// The same, taking free text only soon after the person wrote.
    pub fn windowed(name: &str) -> Arc<Self> {
        let mut driver = Self::new(name, []);
        Arc::get_mut(&mut driver).unwrap().enforces_window = true;
        driver
    }

    /// What it does next.
    pub fn then(&self, script: impl IntoIterator<Item = Do>) {
        self.script.lock().unwrap().extend(script);
    }

    pub fn sent(&self) -> Vec<(Channel, u16)> {
        self.sent.lock().unwrap().clone()
    }

    /// Asked what became of an attempt, it answers when the gate opens.
    pub fn answers_after(&self, gate: Arc<Semaphore>) {
        *self.answers_after.lock().unwrap() = Some(gate);
    }

    /// What its provider's list shows, look-up after look-up; then nothing any more.
    pub fn shows(&self, found: impl IntoIterator<Item = Found>) {
        self.found.lock().unwrap().extend(found);
    }
}

/// The provider's list has it under this name.
pub fn found(name: &str) -> Found {
    Found::Accepted { provider_message_id: name.to_owned(), cost: None }
}

fn failed(class: ErrorClass) -> AttemptError {
    AttemptError { class, code: Some("test".into()), detail: "as told".into() }
}

#[async_trait]
impl Driver for Scripted {
    fn name(&self) -> &str {
        &self.name
    }

    fn channels(&self) -> &[Channel] {
        &Channel::ALL
    }

    fn send_timeout_seconds(&self) -> u32 {
        self.send_timeout
    }

    async fn prepare(&self, outbound: &Outbound) -> std::result::Result<Box<dyn Prepared>, PrepareError> {
        let told = self.script.lock().unwrap().pop_front().unwrap_or(Do::Accept);
        match told {
            Do::Early(class) => {
                return Err(PrepareError { error: failed(class), retry_after_seconds: None });
            }
            Do::PanicEarly => panic!("as told"),
            Do::HangEarly => {
                self.reached.notify_one();
                std::future::pending().await
            }
            Do::First(ref act) => act(),
            _ => {}
        }
        let (sent, reached) = (Arc::clone(&self.sent), Arc::clone(&self.reached));
        let attempt = (outbound.channel, outbound.attempt_number);
        let name = format!("T-{}", outbound.attempt);
        Ok(Box::new(Last { told, sent, reached, attempt, name }))
    }

    fn enforces_service_window(&self) -> bool {
        self.enforces_window
    }

    async fn look_up(&self, attempt: &LookUp) -> Found {
        self.asked.lock().unwrap().push(attempt.outbound.attempt_number);
        let gate = self.answers_after.lock().unwrap().clone();
        if let Some(gate) = gate {
            gate.acquire().await.expect("nobody closes the gate").forget();
        }
        self.found.lock().unwrap().pop_front().unwrap_or(Found::Absent)
    }
}

struct Last {
    told: Do,
    sent: Arc<Mutex<Vec<(Channel, u16)>>>,
    reached: Arc<Notify>,
    attempt: (Channel, u16),
    /// What it is called once it is accepted.
    name: String,
}

#[async_trait]
impl Prepared for Last {
    async fn send(self: Box<Self>) -> Outcome {
        self.sent.lock().unwrap().push(self.attempt);
        match self.told {
            Do::Late(class) => Outcome::Failed { error: failed(class), retry_after_seconds: None },
            Do::Flood(seconds) => {
                Outcome::Failed { error: failed(ErrorClass::Temporary), retry_after_seconds: Some(seconds) }
            }
            Do::PanicLate => panic!("as told"),
            Do::HangLate => {
                self.reached.notify_one();
                std::future::pending().await
            }
            Do::Wait(gate) => {
                self.reached.notify_one();
                // One permit lets one message go.
                gate.acquire().await.expect("nobody closes the gate").forget();
                accepted(&self.name)
            }
            Do::AcceptAs(name) => accepted(name),
            _ => accepted(&self.name),
        }
    }
}

fn accepted(name: &str) -> Outcome {
    Outcome::Accepted { provider_message_id: Some(name.to_owned()), cost: None }
}

/// The store, whose first `settle`s fail.
pub struct Flaky {
    pub store: Arc<SqlStore>,
    pub failures: AtomicU32,
    pub error: StoreError,
}

#[async_trait]
impl Queue for Flaky {
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
        let left = self.failures.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        if left.is_ok() {
            return Err(self.error.clone());
        }
        self.store.settle(claimed, attempt, outcome, next, now).await
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
        self.store.advance(claimed, next, now).await
    }

    async fn recover(
        &self,
        all_of: Option<&str>,
        now: DateTime<Utc>,
        settle_at: DateTime<Utc>,
    ) -> Result<Recovered> {
        self.store.recover(all_of, now, settle_at).await
    }

    async fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        self.store.next_due().await
    }
}
