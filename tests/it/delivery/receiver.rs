//! What comes back while the worker works: receipts lead to the next channel, a STOP stops what waits in the queue.

use std::sync::Arc;

use channel_orchestrator::{
    bell::Bell,
    channels::{Driver, Drivers},
    delivery::receipts::Receiver,
    domain::{
        channel::Channel,
        delivery::{AttemptError, ErrorClass, Status},
        ids::TenantId,
        receipt::{EngagementEvent, InboundMessage, ProviderEvent, ProviderReceipt, ReceiptKind},
    },
    store::{CalledBack, Contacts, StoreError},
};

use super::{
    Desk,
    scripted::{Do, Scripted},
};
use crate::store::fixture::{at, held, message, tenant};

fn receiver(desk: &Desk, drivers: impl IntoIterator<Item = Arc<dyn Driver>>) -> Receiver {
    Receiver {
        store: desk.store.clone(),
        drivers: Drivers::new(drivers),
        clock: desk.clock.clone(),
        bell: Arc::new(Bell::default()),
    }
}

fn told(reference: &str, kind: ReceiptKind) -> ProviderEvent {
    let refused =
        AttemptError { class: ErrorClass::Permanent, code: Some("30003".into()), detail: "off".into() };
    ProviderEvent::Receipt(ProviderReceipt {
        provider_message_id: Some(reference.into()),
        attempt: None,
        kind,
        at: None,
        error: (kind == ReceiptKind::Undelivered).then_some(refused),
        cost: None,
    })
}

fn said(text: &str) -> ProviderEvent {
    ProviderEvent::Inbound(InboundMessage {
        channel: Channel::Sms,
        provider_message_id: format!("in-{text}"),
        from: "+33612345678".into(),
        to: "AGENCE".into(),
        text: text.into(),
        at: None,
        answers: None,
    })
}

#[tokio::test]
async fn an_undelivered_sms_is_followed_by_the_email() {
    let driver = Scripted::new("sandbox", [Do::AcceptAs("first"), Do::AcceptAs("second")]);
    let desk = Desk::new(driver.clone()).await;
    let receiver = receiver(&desk, [driver.clone() as Arc<dyn Driver>]);
    let new = message();
    desk.accept(&new).await;
    desk.worker.run_once().await.unwrap();
    let attempt = desk.record(&new).await.attempts[0].id;
    let events = vec![told("first", ReceiptKind::Sent), told("first", ReceiptKind::Undelivered)];
    for _ in 0..3 {
        receiver.provider_events(&*driver, &tenant(), Some(attempt), events.clone()).await.unwrap();
    }
    desk.worker.run_once().await.unwrap();
    assert_eq!(driver.sent(), [(Channel::Sms, 1), (Channel::Email, 2)], "once, however often it was told");
    let second = desk.record(&new).await.attempts[1].id;
    receiver
        .provider_events(&*driver, &tenant(), Some(second), vec![told("second", ReceiptKind::Delivered)])
        .await
        .unwrap();
    let shown = desk.record(&new).await;
    assert_eq!((shown.status, shown.sent_via), (Status::Delivered, Some(Channel::Email)));
    desk.base.audit().await;
}

#[tokio::test]
async fn a_stop_stops_what_waits_and_a_start_lets_it_go() {
    let driver = Scripted::new("sandbox", []);
    let desk = Desk::new(driver.clone()).await;
    let receiver = receiver(&desk, [driver.clone() as Arc<dyn Driver>]);
    let mut waiting = Vec::new();
    for until in [60, 120] {
        let mut new = held(at(until));
        new.plan.as_mut().unwrap().hops.truncate(1);
        desk.accept(&new).await;
        waiting.push(new);
    }
    // Told by another tenant's callback, at the very second at which the next one is due: the person refused the sender
    // that they saw.
    desk.clock.set(at(60));
    let neighbour = TenantId::parse("neighbour").unwrap();
    receiver.provider_events(&*driver, &neighbour, None, vec![said("ARRÊT")]).await.unwrap();
    desk.worker.run_once().await.unwrap();
    let shown = desk.record(&waiting[0]).await;
    assert_eq!((shown.status, driver.sent().len()), (Status::Skipped, 0));
    assert_eq!(shown.status_reason.as_deref(), Some("wrote STOP on 2025-11-15"));
    desk.clock.set(at(61));
    receiver.provider_events(&*driver, &neighbour, None, vec![said("START")]).await.unwrap();
    desk.clock.set(at(121));
    desk.worker.run_once().await.unwrap();
    assert_eq!(desk.record(&waiting[1]).await.status, Status::Sent);
    desk.base.audit().await;
}

/// A person whom no message of the service ever reached says STOP to one of its numbers, and tenant A hears it: tenant B's
/// service writes from that number too.
#[tokio::test]
async fn a_stop_to_a_number_of_a_service_is_one_to_the_service() {
    const SERVICE: &str = "MG00000000000000000000000000000001";
    let driver = Scripted::new("sandbox", []);
    let desk = Desk::new(driver.clone()).await;
    let from = CalledBack {
        driver: "sandbox".into(),
        credential: "sandbox".into(),
        drivers: vec!["sandbox".into()],
        tenant: TenantId::parse("neighbour").unwrap(),
        attempt: None,
        services: vec![SERVICE.into()],
    };
    let say = async |text: &str, second| {
        let said = InboundMessage {
            channel: Channel::Sms,
            provider_message_id: format!("in-{text}"),
            from: "+33612345678".into(),
            to: "+33700000009".into(),
            text: text.into(),
            at: None,
            answers: None,
        };
        desk.store.hear(&from, &said, at(second)).await.unwrap();
    };
    say("STOP", 1).await;
    let by_service = || {
        let mut new = super::plain(message());
        let plan = new.plan.as_mut().unwrap();
        plan.hops.truncate(1);
        plan.hops[0].from = Some(SERVICE.into());
        new
    };
    let (first, second) = (by_service(), by_service());
    desk.accept(&first).await;
    desk.work_at(2).await;
    assert_eq!((desk.record(&first).await.status, driver.sent().len()), (Status::Skipped, 0));
    say("START", 3).await;
    desk.accept(&second).await;
    desk.work_at(4).await;
    assert_eq!(desk.record(&second).await.status, Status::Sent);
    desk.end().await;
}

/// F50: never a 200 for what is not kept.
#[tokio::test]
async fn nothing_is_acknowledged_that_is_not_kept() {
    let driver = Scripted::new("sandbox", []);
    let desk = Desk::new(driver.clone()).await;
    let receiver = receiver(&desk, [driver.clone() as Arc<dyn Driver>]);
    let new = message();
    let id = new.id;
    desk.accept(&new).await;
    desk.store.close().await;
    for event in [told("x", ReceiptKind::Delivered), said("STOP")] {
        let refused = receiver.provider_events(&*driver, &tenant(), None, vec![event]).await;
        assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
    }
    let opened = EngagementEvent {
        message: id,
        name: "opened".into(),
        at: at(0),
        machine: false,
        channel: None,
        link: None,
        dedup: None,
    };
    assert!(receiver.engagement(&opened).await.is_err() && receiver.unsubscribe(id).await.is_err());
}
