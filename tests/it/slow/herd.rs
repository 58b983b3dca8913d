//! A provider that fails half of its calls for minutes and then recovers, on a clock set by hand (reliability.md F42): it is
//! let alone meanwhile, and what waited does not come back in one second.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use async_trait::async_trait;
use channel_orchestrator::{
    bell::Bell,
    channels::{Driver, Drivers, Outbound, PrepareError, Prepared},
    delivery::worker::{Worker, WorkerSettings},
    domain::{
        channel::Channel,
        delivery::{ErrorClass, Outcome, Status},
        time::{Clock, ManualClock},
    },
    store::{Intake, Queue, Records},
};

use crate::store::fixture::{Base, at, message, tenant};

/// Messages a second.
const RATE: usize = 4;

fn outage_seconds() -> i64 {
    if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() { 600 } else { 150 }
}

/// Numerical Recipes' generator: the same chance in every run.
static CHANCE: AtomicU32 = AtomicU32::new(42);

fn chance() -> f64 {
    let next = |seed: u32| seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
    let seed = CHANCE.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |seed| Some(next(seed))).unwrap();
    f64::from(next(seed) >> 8) / f64::from(1 << 24)
}

#[derive(Debug)]
struct Flapping {
    clock: Arc<ManualClock>,
    /// Calls and failures by second.
    calls: Mutex<BTreeMap<i64, (usize, usize)>>,
}

struct Ready;

#[async_trait]
impl Prepared for Ready {
    async fn send(self: Box<Self>) -> Outcome {
        Outcome::Accepted { provider_message_id: None, cost: None }
    }
}

#[async_trait]
impl Driver for Flapping {
    fn name(&self) -> &str {
        "flapping"
    }
    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }
    fn send_timeout_seconds(&self) -> u32 {
        30
    }
    async fn prepare(&self, _: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        let second = (self.clock.now() - at(0)).num_seconds();
        let fails = second < outage_seconds() && chance() < 0.5;
        let mut calls = self.calls.lock().unwrap();
        let (all, failed) = calls.entry(second).or_default();
        *all += 1;
        *failed += usize::from(fails);
        if fails {
            return Err(PrepareError::new(ErrorClass::NotSent, None, "flapping"));
        }
        Ok(Box::new(Ready))
    }
}

#[tokio::test]
async fn a_provider_that_flaps_is_let_alone_and_comes_back_to_no_herd() {
    let clock = Arc::new(ManualClock::new(at(0)));
    let driver = Arc::new(Flapping { clock: Arc::clone(&clock), calls: Mutex::default() });
    let base = Base::sqlite();
    let store = base.open().await;
    let settings = WorkerSettings { poll: std::time::Duration::from_secs(600), ..WorkerSettings::default() };
    let mut worker = Worker::new(
        "w",
        store.clone(),
        Drivers::new([driver.clone() as Arc<dyn Driver>]),
        clock.clone(),
        Arc::new(Bell::default()),
        settings,
    );
    worker.jitter = chance;
    let (outage, mut sent) = (outage_seconds(), Vec::new());
    // Long enough for the longest wait and the last retry after it.
    for second in 0..outage + 1_700 {
        clock.set(at(second));
        if second < outage {
            for _ in 0..RATE {
                let mut new = message();
                let plan = new.plan.as_mut().unwrap();
                plan.hops.truncate(1);
                plan.hops[0].drivers = Vec::new();
                store.accept(new.clone()).await.unwrap();
                sent.push(new.id);
            }
        }
        if store.next_due().await.unwrap().is_some_and(|due| due <= at(second)) {
            while worker.run_once().await.unwrap() > 0 {}
        }
    }
    let calls = driver.calls.lock().unwrap().clone();
    let waited: usize = calls.range(outage..).map(|(_, (all, _))| all).sum();
    let (herd_at, herd) =
        calls.range(outage..).map(|(s, (all, _))| (*s, *all)).max_by_key(|(_, n)| *n).unwrap();
    // Ten seconds of it at a time, never more than a fifth above what comes in.
    let busiest = (0..outage - 10)
        .map(|from| calls.range(from..from + 10).map(|(_, (all, _))| all).sum::<usize>())
        .max()
        .unwrap();
    let tried: usize = calls.range(..outage).map(|(_, (all, _))| all).sum();
    println!(
        "{} messages in {outage} s: {tried} calls meanwhile ({busiest} in the busiest ten seconds), {waited} afterwards, \
         {herd} of them in second {}",
        sent.len(),
        herd_at - outage
    );
    assert!(busiest <= RATE * 10 * 12 / 10, "{busiest} calls in ten seconds of the outage");
    assert!(
        tried < sent.len() / 2 && waited > sent.len() / 2,
        "{tried} calls: the breaker let through too many"
    );
    assert!(herd * 100 <= waited * 12, "{herd} of {waited} in one second");
    for id in &sent {
        let record = store.message(&tenant(), *id).await.unwrap().unwrap();
        assert!(
            record.attempts.len() <= 4 && record.status == Status::Sent,
            "{:?} {:?}",
            record.status,
            record.attempts
        );
    }
    store.close().await;
    base.audit().await;
}
