//! What operators pause waits without using an attempt, goes on at once, and expires all the same.

use channel_orchestrator::{
    channels::Drivers,
    domain::delivery::Status,
    store::{By, Operate, PauseKind},
};

use super::{Desk, plain, scripted::Scripted};
use crate::store::fixture::{at, message};

fn by() -> By {
    By { who: "zoe".into(), why: "maintenance".into() }
}

#[tokio::test]
async fn a_paused_tenant_waits_goes_on_at_once_and_expires_at_its_deadline() {
    let driver = Scripted::new("t", []);
    let desk = Desk::new(driver.clone()).await;
    let (goes, expires) = (plain(message()), plain(message()));
    desk.store.pause(PauseKind::Tenant, "agency", &by(), at(0)).await.unwrap();
    desk.accept(&goes).await;
    desk.work_at(0).await;
    let record = desk.record(&goes).await;
    assert_eq!((record.status, record.due_at, record.attempts.len()), (Status::Held, Some(at(300)), 0));
    assert_eq!(record.status_reason.as_deref(), Some("paused by an operator: maintenance"));
    desk.work_at(300).await;
    assert_eq!(desk.record(&goes).await.due_at, Some(at(600)));
    desk.store.resume(PauseKind::Tenant, "agency", &by(), at(310)).await.unwrap();
    desk.work_at(310).await;
    assert_eq!(desk.record(&goes).await.status, Status::Sent);

    desk.store.pause(PauseKind::Tenant, "agency", &by(), at(320)).await.unwrap();
    desk.accept(&expires).await;
    desk.work_at(86_300).await;
    assert_eq!(desk.record(&expires).await.due_at, Some(at(86_401)), "not over its deadline");
    desk.work_at(86_401).await;
    assert_eq!(desk.record(&expires).await.status, Status::Expired);
    assert_eq!(driver.sent().len(), 1);
    desk.end().await;
}

#[tokio::test]
async fn a_paused_driver_leaves_its_messages_to_another_or_has_them_wait() {
    let (first, second) = (Scripted::new("a", []), Scripted::new("b", []));
    let mut desk = Desk::new(first.clone()).await;
    desk.store.pause(PauseKind::Driver, "a", &by(), at(0)).await.unwrap();
    let waits = plain(message());
    desk.accept(&waits).await;
    desk.work_at(0).await;
    let record = desk.record(&waits).await;
    assert_eq!((record.status, record.due_at, record.attempts.len()), (Status::Retrying, Some(at(300)), 0));
    assert_eq!(record.status_reason.as_deref(), Some("a was paused by an operator: maintenance"));

    desk.worker.drivers = Drivers::new([first.clone() as _, second.clone() as _]);
    let goes = plain(message());
    desk.accept(&goes).await;
    desk.work_at(1).await;
    assert_eq!((desk.record(&goes).await.status, second.sent().len()), (Status::Sent, 1));

    desk.store.resume(PauseKind::Driver, "a", &by(), at(2)).await.unwrap();
    desk.work_at(2).await;
    assert_eq!((desk.record(&waits).await.status, first.sent().len()), (Status::Sent, 1));
    desk.end().await;
}
