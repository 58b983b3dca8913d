//! Messages from the queue to their end: the worker with the real store, a clock set by hand, and a driver that
//! does what it is told. Each test ends with the store's auditor.

mod lanes;
mod later;
mod loops;
mod money;
mod pauses;
mod receiver;
mod returns;
mod scripted;
mod service_window;

use std::sync::Arc;

use channel_orchestrator::{
    bell::Bell,
    channels::{
        Driver, Drivers,
        settings::{DriverSettings, SandboxSettings, build},
    },
    delivery::worker::{Worker, WorkerSettings},
    domain::{
        channel::Channel,
        delivery::{AttemptStatus, ErrorClass, MessageRecord, NewMessage, OnUnknown, Status},
        time::{Clock, ManualClock, QuietHours, parse_time_of_day},
    },
    store::{Intake, Queue, Records, SqlStore, StoreError},
};
use chrono::TimeDelta;

use self::scripted::{Do, Flaky, Scripted};
use crate::store::fixture::{Base, at, held, marketing, message, tenant};

/// A store, a clock at ten o'clock, and the worker on them.
struct Desk {
    base: Base,
    store: Arc<SqlStore>,
    clock: Arc<ManualClock>,
    worker: Worker,
}

impl Desk {
    async fn new(driver: Arc<dyn Driver>) -> Self {
        let base = Base::sqlite();
        let store = base.open().await;
        let queue: Arc<dyn Queue> = store.clone();
        Self::on(base, store, queue, driver)
    }

    fn on(base: Base, store: Arc<SqlStore>, queue: Arc<dyn Queue>, driver: Arc<dyn Driver>) -> Self {
        let clock = Arc::new(ManualClock::new(at(0)));
        let settings =
            WorkerSettings { poll: std::time::Duration::from_secs(600), ..WorkerSettings::default() };
        let mut worker = Worker::new(
            "w",
            queue,
            Drivers::new([driver]),
            clock.clone(),
            Arc::new(Bell::default()),
            settings,
        );
        worker.jitter = || 0.0;
        Self { base, store, clock, worker }
    }

    async fn accept(&self, message: &NewMessage) {
        self.store.accept(message.clone()).await.unwrap();
    }

    async fn record(&self, message: &NewMessage) -> MessageRecord {
        self.store.message(&tenant(), message.id).await.unwrap().unwrap()
    }

    /// Works at this second after ten o'clock until nothing more is due then.
    async fn work_at(&self, seconds: i64) {
        self.clock.set(at(seconds));
        while self.worker.run_once().await.unwrap() > 0 {}
    }

    /// Follows the message until nothing is due any more; the seconds at which it was tried.
    async fn work_to_the_end(&self, message: &NewMessage) -> Vec<i64> {
        loop {
            while self.worker.run_once().await.unwrap() > 0 {}
            let record = self.record(message).await;
            let tried: Vec<i64> =
                record.attempts.iter().map(|a| (a.started_at - at(0)).num_seconds()).collect();
            let Some(due) = record.due_at else { return tried };
            assert!(tried.len() <= 12, "{tried:?}");
            self.clock.set(due);
        }
    }

    async fn end(self) {
        self.store.close().await;
        self.base.audit().await;
    }
}

fn statuses(record: &MessageRecord) -> Vec<(Channel, AttemptStatus)> {
    record.attempts.iter().map(|a| (a.channel, a.status)).collect()
}

/// The fixture's message, for any driver and without the SMS sender on the email.
fn plain(mut message: NewMessage) -> NewMessage {
    for hop in &mut message.plan.as_mut().unwrap().hops {
        hop.drivers.clear();
        hop.from = None;
    }
    message
}

#[tokio::test]
async fn a_number_that_the_provider_refuses_ends_with_the_email_sent() {
    let dir = tempfile::tempdir().unwrap();
    let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(at(0)));
    let settings = SandboxSettings { refuse: vec!["+33612345678".into()], ..SandboxSettings::default() };
    let sandbox = build("sandbox", &DriverSettings::Sandbox(settings), dir.path(), clock).unwrap();
    let desk = Desk::new(sandbox).await;
    let new = plain(message());
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Email)));
    assert_eq!(
        statuses(&record),
        [(Channel::Sms, AttemptStatus::RefusedPermanent), (Channel::Email, AttemptStatus::Accepted)]
    );
    let error = record.attempts[0].error.as_ref().unwrap();
    assert_eq!((error.class, error.code.as_deref()), (ErrorClass::Permanent, Some("21211")));
    assert!(dir.path().join(format!("outbox/email/{}-2.eml", new.id)).exists());
    assert!(!dir.path().join("outbox/sms").exists());
    desk.end().await;
}

#[tokio::test]
async fn retries_come_after_1_5_and_15_minutes_then_the_next_channel() {
    let driver = Scripted::new("t", [(); 4].map(|()| Do::Late(ErrorClass::Temporary)));
    let desk = Desk::new(driver.clone()).await;
    let new = plain(message());
    desk.accept(&new).await;
    assert_eq!(desk.work_to_the_end(&new).await, [0, 60, 360, 1260, 1260]);
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Email)));
    let sms = [1, 2, 3, 4].map(|number| (Channel::Sms, number));
    assert_eq!(driver.sent(), [&sms[..], &[(Channel::Email, 5)]].concat());
    desk.end().await;
}

#[tokio::test]
async fn a_retry_that_would_come_too_late_is_a_fallback_now() {
    let driver = Scripted::new("t", [(); 3].map(|()| Do::Early(ErrorClass::NotSent)));
    let desk = Desk::new(driver.clone()).await;
    let mut new = plain(message());
    new.plan.as_mut().unwrap().deadline = at(600);
    desk.accept(&new).await;
    assert_eq!(desk.work_to_the_end(&new).await, [0, 60, 360, 360]);
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Email)));
    // What ended before its last step was an attempt too.
    assert_eq!(record.attempts[0].status, AttemptStatus::NotSent);
    assert_eq!(driver.sent(), [(Channel::Email, 4)]);
    desk.end().await;
}

#[tokio::test]
async fn what_the_provider_asks_for_is_waited_for() {
    let desk = Desk::new(Scripted::new("t", [Do::Flood(90)])).await;
    let new = plain(message());
    desk.accept(&new).await;
    assert_eq!(desk.work_to_the_end(&new).await, [0, 90]);
    desk.end().await;
}

#[tokio::test]
async fn every_channel_refused_is_failed() {
    let script = [Do::Early(ErrorClass::Permanent), Do::Late(ErrorClass::Permanent)];
    let desk = Desk::new(Scripted::new("t", script)).await;
    let new = plain(message());
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.attempts.len()), (Status::Failed, 2));
    assert_eq!(record.status_reason.as_deref(), Some("test: as told"));
    desk.end().await;
}

#[tokio::test]
async fn an_unknown_outcome_is_resent_once_and_never_elsewhere() {
    let script = [Do::Late(ErrorClass::Unknown), Do::Late(ErrorClass::Unknown)];
    let driver = Scripted::new("t", script);
    let desk = Desk::new(driver.clone()).await;
    let new = plain(message());
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.due_at), (Status::Unknown, Some(at(15))));
    assert_eq!(desk.work_to_the_end(&new).await, [0, 300]);
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.possible_duplicate), (Status::Unresolved, true));
    assert_eq!(driver.sent(), [(Channel::Sms, 1), (Channel::Sms, 2)]);
    // The provider was asked three times about each before anything followed.
    assert_eq!(*driver.asked.lock().unwrap(), [1, 1, 1, 2, 2, 2]);
    desk.end().await;
}

#[tokio::test]
async fn marketing_and_what_the_policy_holds_is_never_resent() {
    let mut on_hold = plain(message());
    on_hold.plan.as_mut().unwrap().hops[0].on_unknown = OnUnknown::Hold;
    for new in [plain(marketing()), on_hold] {
        let driver = Scripted::new("t", [Do::Late(ErrorClass::Unknown)]);
        let desk = Desk::new(driver.clone()).await;
        desk.accept(&new).await;
        assert_eq!(desk.work_to_the_end(&new).await, [0]);
        let record = desk.record(&new).await;
        assert_eq!((record.status, record.possible_duplicate), (Status::Unresolved, false));
        desk.end().await;
    }
}

#[tokio::test]
async fn a_driver_that_panics_costs_an_attempt_and_nothing_else() {
    let driver = Scripted::new("t", [Do::PanicEarly, Do::PanicLate]);
    let desk = Desk::new(driver.clone()).await;
    let new = plain(message());
    desk.accept(&new).await;
    // Before the last step nothing left; in it, nobody knows.
    assert_eq!(desk.work_to_the_end(&new).await, [0, 60, 360]);
    let record = desk.record(&new).await;
    let shown: Vec<AttemptStatus> = record.attempts.iter().map(|a| a.status).collect();
    assert_eq!(shown, [AttemptStatus::NotSent, AttemptStatus::Unknown, AttemptStatus::Accepted]);
    desk.end().await;
}

#[tokio::test]
async fn a_crash_between_intent_and_outcome_leaves_the_attempt_unknown() {
    let driver = Scripted::new("t", [Do::HangLate]);
    let desk = Desk::new(driver.clone()).await;
    let new = plain(message());
    desk.accept(&new).await;
    tokio::select! {
        _ = desk.worker.run_once() => panic!("it hangs"),
        () = driver.reached.notified() => {}
    }
    assert_eq!(desk.record(&new).await.attempts[0].status, AttemptStatus::Intent);
    let found = desk.worker.recover(true).await.unwrap();
    assert_eq!((found.unknown, found.given_back), (1, 0));
    assert_eq!(desk.record(&new).await.status, Status::Unknown);
    assert_eq!(desk.work_to_the_end(&new).await, [0, 300]);
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.possible_duplicate), (Status::Sent, true));
    desk.end().await;
}

#[tokio::test]
async fn a_crash_before_the_intent_gives_the_message_back() {
    let driver = Scripted::new("t", [Do::HangEarly]);
    let desk = Desk::new(driver.clone()).await;
    let new = plain(message());
    desk.accept(&new).await;
    tokio::select! {
        _ = desk.worker.run_once() => panic!("it hangs"),
        () = driver.reached.notified() => {}
    }
    let found = desk.worker.recover(true).await.unwrap();
    assert_eq!((found.unknown, found.given_back), (0, 1));
    desk.work_at(1).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.possible_duplicate), (Status::Sent, false));
    assert_eq!(driver.sent(), [(Channel::Sms, 1)]);
    desk.end().await;
}

#[tokio::test]
async fn nothing_leaves_when_the_lease_is_nearly_over() {
    // A step that takes longer than the lease can bear, by the clock.
    let clock = Arc::new(ManualClock::new(at(0)));
    let slow = {
        let clock = clock.clone();
        Do::First(Arc::new(move || clock.advance(TimeDelta::seconds(870))))
    };
    let driver = Scripted::new("t", [slow]);
    let mut desk = Desk::new(driver.clone()).await;
    desk.worker.clock = clock.clone();
    desk.clock = clock;
    let new = plain(message());
    desk.accept(&new).await;
    assert_eq!(desk.worker.run_once().await.unwrap(), 1);
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.attempts[0].status), (Status::Retrying, AttemptStatus::NotSent));
    assert_eq!(driver.sent(), []);
    desk.end().await;
}

#[tokio::test]
async fn quiet_hours_are_looked_at_again_before_every_attempt() {
    let driver = Scripted::new("t", []);
    let desk = Desk::new(driver.clone()).await;
    let mut new = plain(message());
    let hour = |text| parse_time_of_day(text).unwrap();
    // Ten o'clock in Paris is quiet for this one, until noon.
    let quiet = Some(QuietHours { start: hour("09:00"), end: hour("12:00") });
    new.plan.as_mut().unwrap().hops[0].quiet_hours = quiet;
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.due_at), (Status::Held, Some(at(7200))));
    assert_eq!(desk.work_to_the_end(&new).await, [7200]);
    // One that cannot wait goes by the next channel.
    let mut urgent = plain(message());
    let plan = urgent.plan.as_mut().unwrap();
    (plan.hops[0].quiet_hours, plan.deadline) = (quiet, at(600));
    desk.clock.set(at(1));
    desk.accept(&urgent).await;
    desk.work_at(1).await;
    assert_eq!(desk.record(&urgent).await.sent_via, Some(Channel::Email));
    desk.end().await;
}

#[tokio::test]
async fn a_message_waits_for_its_time_and_expires_after_its_deadline() {
    let driver = Scripted::new("t", []);
    let desk = Desk::new(driver.clone()).await;
    let (waits, expires) = (plain(held(at(100))), plain(message()));
    desk.accept(&waits).await;
    desk.work_at(0).await;
    let record = desk.record(&waits).await;
    assert_eq!((record.status, record.due_at), (Status::Held, Some(at(100))));
    desk.work_at(100).await;
    assert_eq!(desk.record(&waits).await.status, Status::Sent);
    desk.accept(&expires).await;
    desk.work_at(86_401).await;
    assert_eq!(desk.record(&expires).await.status, Status::Expired);
    assert_eq!(driver.sent().len(), 1);
    desk.end().await;
}

#[tokio::test]
async fn a_person_who_refused_meanwhile_is_not_written_to_on_that_channel() {
    let driver = Scripted::new("t", []);
    let desk = Desk::new(driver.clone()).await;
    let new = plain(message());
    desk.accept(&new).await;
    let mut alone = plain(message());
    alone.plan.as_mut().unwrap().hops.truncate(1);
    desk.accept(&alone).await;
    let stop = "INSERT INTO suppressions (address, channel, sender, tenant, reason, created_at) \
                VALUES ('+33612345678', 'sms', '', '', 'STOP', 0)";
    desk.base.sql(stop).await;
    desk.work_at(0).await;
    assert_eq!(desk.record(&new).await.sent_via, Some(Channel::Email));
    let skipped = desk.record(&alone).await;
    assert_eq!((skipped.status, skipped.attempts.len()), (Status::Skipped, 0));
    assert_eq!(driver.sent(), [(Channel::Email, 1)]);
    desk.end().await;
}

#[tokio::test]
async fn no_driver_for_a_channel_is_said_and_the_next_one_tried() {
    let desk = Desk::new(Scripted::new("t", [])).await;
    let mut new = plain(message());
    new.plan.as_mut().unwrap().hops[0].drivers = vec!["gone".into()];
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    assert_eq!(record.sent_via, Some(Channel::Email));
    let fallback = record.timeline.iter().find(|event| event.event == "fallback").unwrap();
    assert_eq!(fallback.detail.as_deref(), Some("no driver is configured for sms"));
    desk.end().await;
}

#[tokio::test]
async fn a_second_driver_is_tried_after_one_that_is_down() {
    let down = Scripted::new("a", [(); 4].map(|()| Do::Early(ErrorClass::NotSent)));
    let mut desk = Desk::new(down.clone()).await;
    let well = Scripted::new("b", []);
    desk.worker.drivers = Drivers::new([down as Arc<dyn Driver>, well.clone()]);
    let new = plain(message());
    desk.accept(&new).await;
    assert_eq!(desk.work_to_the_end(&new).await, [0, 60]);
    let used: Vec<String> = desk.record(&new).await.attempts.into_iter().map(|a| a.driver).collect();
    assert_eq!((used, well.sent().len()), (vec!["a".to_owned(), "b".to_owned()], 1));
    desk.end().await;
}

#[tokio::test]
async fn an_outcome_is_written_again_until_the_database_has_it() {
    for (error, stops) in [
        (StoreError::Unavailable("away".into()), false),
        (StoreError::OutcomeUnknown("a commit failed".into()), true),
    ] {
        let base = Base::sqlite();
        let store = base.open().await;
        let flaky = Arc::new(Flaky { store: store.clone(), failures: 2.into(), error });
        let driver = Scripted::new("t", []);
        let desk = Desk::on(base, store, flaky, driver.clone());
        let new = plain(message());
        desk.accept(&new).await;
        let ended = desk.worker.run_once().await;
        assert_eq!(driver.sent(), [(Channel::Sms, 1)]);
        if stops {
            assert!(matches!(ended, Err(StoreError::OutcomeUnknown(_))), "{ended:?}");
            assert_eq!(desk.record(&new).await.attempts[0].status, AttemptStatus::Intent);
        } else {
            assert_eq!(ended.unwrap(), 1);
            assert_eq!(desk.record(&new).await.status, Status::Sent);
        }
        desk.end().await;
    }
}

#[test]
fn a_lease_shorter_than_a_send_is_refused() {
    let drivers = Drivers::new([Scripted::new("t", []) as Arc<dyn Driver>]);
    assert_eq!(WorkerSettings::default().check(&drivers), Ok(()));
    let short = WorkerSettings { lease_seconds: 60, ..WorkerSettings::default() };
    let refusal = short.check(&drivers).unwrap_err();
    assert!(refusal.contains("at least 65 s") && refusal.contains("driver t"), "{refusal}");
    assert_eq!(WorkerSettings::least_lease_seconds(&drivers), 65);
    let idle = WorkerSettings { concurrency: 0, ..WorkerSettings::default() };
    assert!(idle.check(&drivers).is_err());
}
