//! What tenants are to be told: kept with what it tells, for those who listen, until it is taken or given up.

use channel_orchestrator::{
    domain::delivery::{Next, Status},
    store::{Intake, Queue, Untold, Webhooks},
};

use super::{
    fixture::{Base, accepted, at, begin, claim_one, message, tenant},
    on_both,
};

async fn events_are_kept_for_who_listens_until_they_are_taken(base: &Base) {
    let store = base.open().await;
    let send = async |seconds: i64| {
        let new = message();
        store.accept(new.clone()).await.unwrap();
        let claimed = claim_one(&store, "w", at(seconds)).await;
        let attempt = begin(&store, &claimed, at(seconds)).await;
        store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(seconds)).await.unwrap();
        new.id
    };
    send(0).await;
    assert_eq!(store.untold().await.unwrap(), Untold::default(), "nobody listens");
    store.set_listeners(&[tenant()]).await.unwrap();
    let id = send(1).await;
    let second = send(2).await;
    assert_eq!(store.untold().await.unwrap(), Untold { waiting: 2, given_up: 0 });
    assert!(
        store.claim_events(&[tenant()], at(2), at(600), 10).await.unwrap().is_empty(),
        "its server is busy"
    );
    let found = store.claim_events(&[], at(2), at(600), 10).await.unwrap();
    let shown: Vec<_> = found.iter().map(|e| (e.message, e.event.as_str(), e.status, e.tries)).collect();
    assert_eq!(shown, [(id, "sent", Status::Sent, 0), (second, "sent", Status::Sent, 0)]);
    assert!(store.claim_events(&[], at(599), at(700), 10).await.unwrap().is_empty(), "taken");

    store.event_told(&found[0]).await.unwrap();
    store.event_untold(&found[1], Some(at(5)), 1).await.unwrap();
    let again = store.claim_events(&[], at(5), at(700), 10).await.unwrap();
    assert_eq!((again.len(), again[0].message, again[0].tries), (1, second, 1));
    store.event_untold(&again[0], None, 7).await.unwrap();
    assert_eq!(store.untold().await.unwrap(), Untold { waiting: 0, given_up: 1 });
    store.set_listeners(&[]).await.unwrap();
    assert_eq!(store.untold().await.unwrap(), Untold::default(), "whoever stopped listening is told nothing");
    store.close().await;
}

on_both!(events_are_kept_for_who_listens_until_they_are_taken);
