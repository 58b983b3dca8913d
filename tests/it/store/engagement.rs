//! What people and machines do with messages, and the history that it makes.

use channel_orchestrator::{
    delivery::receipts::after_undelivered,
    domain::{
        channel::Channel,
        delivery::NewMessage,
        ids::{MessageId, RecipientId},
        receipt::{EngagementEvent, ReceiptKind},
    },
    store::{Engaged, Engagement, Receipts, SqlStore},
};

use super::{
    fixture::{Base, at, message, tenant},
    returns::{from, receipt, record, sent},
};

fn deed(message: MessageId, name: &str) -> EngagementEvent {
    EngagementEvent {
        message,
        name: name.into(),
        at: at(50),
        machine: false,
        channel: None,
        link: None,
        dedup: None,
    }
}

fn to(recipient: &str) -> NewMessage {
    let mut new = message();
    new.request.recipient = RecipientId::parse(recipient).unwrap();
    new.plan.as_mut().unwrap().hops.truncate(1);
    new
}

async fn is_new(store: &SqlStore, event: &EngagementEvent) -> bool {
    let engaged = store.engage(event, at(100)).await.unwrap();
    let Engaged::Known { tenant: of, new } = engaged else { panic!("{event:?} is of a message of ours") };
    assert_eq!(of, tenant());
    new
}

async fn the_same_deed_counts_once(base: &Base) {
    let store = base.open().await;
    let (id, _) = sent(&store, to("p-1"), "SM1", at(0)).await;
    let open = deed(id, "opened");
    assert!(is_new(&store, &open).await);
    assert!(!is_new(&store, &open).await, "opened again");
    let machine = EngagementEvent { machine: true, ..open.clone() };
    assert!(is_new(&store, &machine).await, "a robot's is another");
    let click = |link| EngagementEvent { link: Some(link), ..deed(id, "clicked") };
    assert!(is_new(&store, &click(0)).await && is_new(&store, &click(1)).await);
    assert!(!is_new(&store, &click(1)).await);
    let own = |dedup: &str| EngagementEvent { dedup: Some(dedup.into()), ..deed(id, "visited") };
    assert!(is_new(&store, &own("v1")).await && is_new(&store, &own("v2")).await);
    assert!(!is_new(&store, &own("v1")).await);
    assert_eq!(store.engage(&deed(MessageId::new(), "opened"), at(100)).await.unwrap(), Engaged::Nobodys);
    let shown = record(&store, id).await;
    let told: Vec<(&str, Option<&str>)> =
        shown.timeline[3..].iter().map(|e| (e.event.as_str(), e.detail.as_deref())).collect();
    assert_eq!(
        told,
        [
            ("opened", None),
            ("machine_opened", None),
            ("clicked", Some("link 0")),
            ("clicked", Some("link 1")),
            ("visited", None),
            ("visited", None),
        ]
    );
    let times =
        base.texts("SELECT CAST(times AS TEXT) FROM engagement WHERE name = 'opened' AND machine = 0").await;
    assert_eq!(times, ["2"]);
    store.close().await;
}

async fn a_history_is_of_people_and_of_180_days(base: &Base) {
    let store = base.open().await;
    let known = async |recipient: &str, now| {
        let recipient = RecipientId::parse(recipient).unwrap();
        store.history(&tenant(), &recipient, now).await.unwrap()
    };
    assert!(known("p-1", at(0)).await.iter().all(|(_, history)| history.is_none()));
    for n in 0..6 {
        let (id, _) = sent(&store, to("p-1"), &format!("SM1{n}"), at(0)).await;
        is_new(&store, &EngagementEvent { machine: true, ..deed(id, "opened") }).await;
    }
    for n in 0..4 {
        let (id, _) = sent(&store, to("p-2"), &format!("SM2{n}"), at(0)).await;
        if n < 2 {
            is_new(&store, &deed(id, "replied")).await;
            is_new(&store, &deed(id, "clicked")).await;
        }
    }
    let silent = known("p-1", at(10)).await;
    let sms = silent[Channel::Sms].unwrap();
    assert_eq!((sms.received, sms.engaged), (6, 0), "machines do not count");
    assert!((sms.average - 0.2).abs() < 1e-9, "2 of 10: {}", sms.average);
    assert!(silent[Channel::Email].is_none());
    let keen = known("p-2", at(10)).await[Channel::Sms].unwrap();
    assert_eq!((keen.received, keen.engaged), (4, 2), "a message is engaged with once");
    // What did not arrive was not received.
    let (_, attempt) = sent(&store, to("p-2"), "SM9", at(0)).await;
    let told = receipt("SM9", ReceiptKind::Undelivered);
    store.receive(&from(Some(attempt)), &told, after_undelivered, at(5)).await.unwrap();
    let keen = known("p-2", at(10)).await[Channel::Sms].unwrap();
    assert_eq!((keen.received, keen.engaged), (4, 2));
    assert!((keen.average - 0.2).abs() < 1e-9, "{}", keen.average);
    let later = known("p-2", at(181 * 86_400)).await;
    assert!(later.iter().all(|(_, history)| history.is_none()), "older than 180 days");
    store.close().await;
}

super::on_both!(the_same_deed_counts_once, a_history_is_of_people_and_of_180_days);
