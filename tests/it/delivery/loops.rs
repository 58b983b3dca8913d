//! The worker's loop: woken by the bell, bounded in what it holds at once, drained at the end.

use std::{sync::Arc, time::Duration};

use channel_orchestrator::{
    channels::{Driver, Drivers},
    delivery::worker::WorkerSettings,
    domain::{
        delivery::{AttemptStatus, NewMessage, Status},
        time::{Clock, SystemClock},
    },
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Desk, plain,
    scripted::{Do, Scripted},
};
use crate::store::fixture::message;

/// Long enough for a busy machine; nothing waits for it where all is well.
const PATIENCE: Duration = Duration::from_secs(30);

/// A desk whose clock runs: the loop waits in real time.
async fn desk(driver: Arc<Scripted>, settings: WorkerSettings) -> Desk {
    let mut desk = Desk::new(driver.clone()).await;
    desk.worker.settings = WorkerSettings { poll: Duration::from_secs(600), ..settings };
    desk.worker.drivers = Drivers::new([driver as Arc<dyn Driver>]);
    desk.worker.clock = Arc::new(SystemClock);
    desk
}

/// The fixture's message, due now and for a day.
fn due_now() -> NewMessage {
    let mut new = plain(message());
    new.accepted_at = SystemClock.now();
    new.plan.as_mut().unwrap().deadline = new.accepted_at + chrono::TimeDelta::days(1);
    new
}

#[tokio::test]
async fn a_new_message_wakes_it_and_its_outcome_wakes_whoever_waits() {
    let desk = desk(Scripted::new("t", []), WorkerSettings::default()).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, shutdown) = (desk.worker.clone(), shutdown.clone());
        async move { worker.run(shutdown).await }
    });
    for _ in 0..3 {
        let new = due_now();
        let listener = desk.worker.bell.listen(new.id);
        desk.accept(&new).await;
        desk.worker.bell.ring_due();
        timeout(PATIENCE, listener.changed()).await.expect("the bell, not the poll");
        assert_eq!(desk.record(&new).await.status, Status::Sent);
    }
    shutdown.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    desk.end().await;
}

async fn sent(desk: &Desk, messages: &[NewMessage]) -> usize {
    let mut sent = 0;
    for message in messages {
        sent += usize::from(desk.record(message).await.status == Status::Sent);
    }
    sent
}

#[tokio::test]
async fn it_holds_no_more_at_once_than_it_may() {
    let gate = Arc::new(Semaphore::new(0));
    let driver = Scripted::new("t", [(); 5].map(|()| Do::Wait(gate.clone())));
    let settings = WorkerSettings { concurrency: 2, ..WorkerSettings::default() };
    let desk = desk(driver.clone(), settings).await;
    let new = [(); 5].map(|()| due_now());
    for message in &new {
        desk.accept(message).await;
    }
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, shutdown) = (desk.worker.clone(), shutdown.clone());
        async move { worker.run(shutdown).await }
    });
    timeout(PATIENCE, driver.reached.notified()).await.unwrap();
    let all_sent = async {
        for released in 1..=5 {
            // However often it is woken, no more than two are out.
            desk.worker.bell.ring_due();
            assert!(driver.sent().len() <= released + 1, "{:?}", driver.sent());
            gate.add_permits(1);
            while sent(&desk, &new).await < released {
                tokio::task::yield_now().await;
            }
        }
    };
    timeout(PATIENCE, all_sent).await.unwrap();
    shutdown.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(driver.sent().len(), 5);
    desk.end().await;
}

#[tokio::test]
async fn a_shutdown_lets_what_is_in_flight_end_and_claims_nothing_more() {
    let gate = Arc::new(Semaphore::new(0));
    let driver = Scripted::new("t", [Do::Wait(gate.clone())]);
    let desk = desk(driver.clone(), WorkerSettings::default()).await;
    let (first, second) = (due_now(), due_now());
    desk.accept(&first).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, shutdown) = (desk.worker.clone(), shutdown.clone());
        async move { worker.run(shutdown).await }
    });
    timeout(PATIENCE, driver.reached.notified()).await.unwrap();
    shutdown.cancel();
    desk.accept(&second).await;
    desk.worker.bell.ring_due();
    gate.add_permits(1);
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(desk.record(&first).await.status, Status::Sent);
    let left = desk.record(&second).await;
    assert_eq!((left.status, left.attempts.len()), (Status::Queued, 0));
    desk.end().await;
}

#[tokio::test]
async fn what_does_not_end_in_time_is_unknown_at_the_next_start() {
    let driver = Scripted::new("t", [Do::HangLate]);
    let settings = WorkerSettings { drain: Duration::from_millis(1), ..WorkerSettings::default() };
    let desk = desk(driver.clone(), settings).await;
    let new = due_now();
    desk.accept(&new).await;
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, shutdown) = (desk.worker.clone(), shutdown.clone());
        async move { worker.run(shutdown).await }
    });
    timeout(PATIENCE, driver.reached.notified()).await.unwrap();
    shutdown.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!(desk.record(&new).await.attempts[0].status, AttemptStatus::Intent);
    // The next life of the same worker looks before it claims.
    let again = CancellationToken::new();
    let running = tokio::spawn({
        let (worker, shutdown) = (desk.worker.clone(), again.clone());
        async move { worker.run(shutdown).await }
    });
    let other = due_now();
    let bell = desk.worker.bell.clone();
    let done = bell.listen(other.id);
    desk.accept(&other).await;
    desk.worker.bell.ring_due();
    timeout(PATIENCE, done.changed()).await.unwrap();
    again.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.attempts[0].status), (Status::Unknown, AttemptStatus::Unknown));
    assert_eq!(driver.sent().len(), 2);
    desk.end().await;
}
