//! Lanes: a provider that hangs, with hundreds of messages before it, holds up no other channel, and what waits for it
//! waits as it is.

use std::{sync::Arc, time::Duration};

use channel_orchestrator::{
    bell::Bell,
    channels::Drivers,
    delivery::worker::{Worker, WorkerSettings},
    domain::{
        channel::Channel,
        delivery::{NewMessage, Status},
        ids::MessageId,
        time::SystemClock,
    },
    store::{Intake, Queue, Records, SqlStore},
};
use tokio::{sync::Semaphore, time::timeout};
use tokio_util::sync::CancellationToken;

use super::scripted::{Do, Scripted};
use crate::store::fixture::{Base, message, tenant};

const PATIENCE: Duration = Duration::from_secs(120);
const PLACES: usize = 16;
const QUEUED: usize = 300;
const MAILS: usize = 40;

/// Due now by the machine's clock, by this channel and its driver alone.
fn due_now(channel: Channel, driver: &str) -> NewMessage {
    let mut new = message();
    new.accepted_at = chrono::Utc::now();
    new.idempotency = None;
    new.decision.chosen = Some(channel);
    let plan = new.plan.as_mut().unwrap();
    plan.deadline = new.accepted_at + chrono::TimeDelta::hours(24);
    plan.escalation = None;
    plan.hops.retain(|hop| hop.channel == channel);
    (plan.hops[0].drivers, plan.hops[0].from) = (vec![driver.to_owned()], None);
    new
}

async fn all_sent(store: &SqlStore, messages: &[MessageId]) {
    for id in messages {
        while store.message(&tenant(), *id).await.unwrap().unwrap().status != Status::Sent {
            tokio::task::yield_now().await;
        }
    }
}

async fn count(store: &SqlStore, wanted: Status) -> usize {
    let states = store.count_by_status().await.unwrap();
    states.iter().find(|(status, _)| *status == wanted).map_or(0, |(_, count)| *count as usize)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_hangs_holds_up_its_own_channel_and_no_other() {
    let base = Base::sqlite();
    let store = base.open().await;
    let gate = Arc::new(Semaphore::new(0));
    let hanging = Scripted::new("hanging", (0..QUEUED).map(|_| Do::Wait(gate.clone())));
    let relay = Scripted::new("relay", []);
    let settings = WorkerSettings { concurrency: PLACES as u32, ..WorkerSettings::default() };
    let (bell, queue): (Arc<Bell>, Arc<dyn Queue>) = (Arc::default(), store.clone());
    let drivers = Drivers::new([hanging.clone() as _, relay.clone() as _]);
    let worker = Worker::new("w", queue, drivers, Arc::new(SystemClock), bell.clone(), settings);
    let accept = async |new: NewMessage| {
        let id = new.id;
        store.accept(new).await.unwrap();
        bell.ring_due();
        id
    };
    let mut queued = Vec::new();
    for _ in 0..QUEUED {
        queued.push(accept(due_now(Channel::Sms, "hanging")).await);
    }
    let shutdown = CancellationToken::new();
    let running = tokio::spawn({
        let shutdown = shutdown.clone();
        async move { worker.run(shutdown).await }
    });
    // Alone it has every place of its lane.
    let full = async {
        while hanging.sent().len() < PLACES {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, full).await.unwrap();

    let mut mails = Vec::new();
    for _ in 0..MAILS {
        mails.push(accept(due_now(Channel::Email, "relay")).await);
    }
    timeout(PATIENCE, all_sent(&store, &mails)).await.expect("mail flows");
    assert_eq!(hanging.sent().len(), PLACES, "and none of those that hang has ended");
    // The rest was not even taken up: it waits as what it is.
    assert_eq!(
        (count(&store, Status::Sending).await, count(&store, Status::Queued).await),
        (PLACES, QUEUED - PLACES)
    );
    let waiting = store.message(&tenant(), queued[QUEUED - 1]).await.unwrap().unwrap();
    let told: Vec<&str> = waiting.timeline.iter().map(|event| event.event.as_str()).collect();
    assert_eq!((waiting.attempts.len(), told), (0, vec!["accepted"]));

    gate.add_permits(QUEUED);
    timeout(PATIENCE, all_sent(&store, &queued)).await.unwrap();
    shutdown.cancel();
    timeout(PATIENCE, running).await.unwrap().unwrap().unwrap();
    assert_eq!((hanging.sent().len(), relay.sent().len()), (QUEUED, MAILS));
    store.close().await;
    base.audit().await;
}
