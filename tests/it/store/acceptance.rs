//! Accepting: durable, whole, once for a key, many in a commit.

use std::collections::BTreeSet;

use channel_orchestrator::{
    domain::{delivery::Status, ids::MessageId},
    store::{Acceptance, Intake, OpenOptions, Records, Search},
};
use chrono::TimeDelta;
use tokio::task::JoinSet;

use super::fixture::{Base, at, held, key, message, tenant};

async fn a_message_reads_back_as_it_was_accepted(base: &Base) {
    let store = base.open().await;
    let new = message();
    assert!(matches!(store.accept(new.clone()).await.unwrap(), Acceptance::New));
    store.close().await;
    let store = base.open().await;
    let record = store.message(&tenant(), new.id).await.unwrap().unwrap();
    assert_eq!(record.request, new.request);
    assert_eq!(record.decision, new.decision);
    assert_eq!(record.plan, new.plan);
    assert_eq!((record.status, record.due_at), (Status::Queued, Some(at(0))));
    assert_eq!(record.timeline.iter().map(|e| e.event.as_str()).collect::<Vec<_>>(), ["accepted"]);
    store.close().await;
}

async fn a_held_message_says_why_and_until_when(base: &Base) {
    let store = base.open().await;
    let new = held(at(3600));
    store.accept(new.clone()).await.unwrap();
    let record = store.message(&tenant(), new.id).await.unwrap().unwrap();
    assert_eq!((record.status, record.due_at), (Status::Held, Some(at(3600))));
    assert_eq!(record.status_reason.as_deref(), Some("quiet hours until 08:00"));
    assert_eq!(record.timeline.iter().map(|e| e.event.as_str()).collect::<Vec<_>>(), ["accepted", "held"]);
    store.close().await;
}

async fn a_refused_message_is_kept_without_a_plan(base: &Base) {
    let store = base.open().await;
    let mut new = message();
    (new.plan, new.status, new.status_reason) = (None, Status::Skipped, Some("no channel".into()));
    store.accept(new.clone()).await.unwrap();
    let record = store.message(&tenant(), new.id).await.unwrap().unwrap();
    assert_eq!((record.status, record.due_at, record.plan), (Status::Skipped, None, None));
    store.close().await;
}

async fn one_key_makes_one_message_whoever_races(base: &Base) {
    let store = base.open().await;
    let mut racers = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        racers.spawn(async move {
            let mut new = message();
            new.idempotency = Some((key("order-1"), [7; 32]));
            let id = new.id;
            (id, store.accept(new).await.unwrap())
        });
    }
    let (mut new, mut named) = (Vec::new(), BTreeSet::new());
    while let Some(done) = racers.join_next().await {
        match done.unwrap() {
            (id, Acceptance::New) => new.push(id),
            (_, Acceptance::Duplicate(id)) => drop(named.insert(id)),
            (_, Acceptance::KeyReused(_)) => panic!("the body is the same"),
        }
    }
    assert_eq!(new.len(), 1);
    assert_eq!(named, BTreeSet::from([new[0]]));
    assert_eq!(base.texts("SELECT id FROM messages").await, [new[0].to_string()]);
    store.close().await;
}

async fn a_key_with_another_body_is_reused_and_names_its_message(base: &Base) {
    let store = base.open().await;
    let mut first = message();
    first.idempotency = Some((key("k"), [1; 32]));
    let id = first.id;
    store.accept(first).await.unwrap();
    let mut other = message();
    other.idempotency = Some((key("k"), [2; 32]));
    assert!(matches!(store.accept(other).await.unwrap(), Acceptance::KeyReused(found) if found == id));
    assert_eq!(store.find_key(&tenant(), &key("k"), at(5)).await.unwrap(), Some((id, [1; 32])));
    assert_eq!(store.find_key(&tenant(), &key("other"), at(5)).await.unwrap(), None);
    store.close().await;
}

async fn a_key_is_kept_for_seven_days(base: &Base) {
    let store = base.open().await;
    let mut first = message();
    first.idempotency = Some((key("weekly"), [1; 32]));
    let id = first.id;
    store.accept(first.clone()).await.unwrap();
    let week = TimeDelta::days(7);
    assert!(store.find_key(&tenant(), &key("weekly"), at(-1) + week).await.unwrap().is_some());
    assert!(store.find_key(&tenant(), &key("weekly"), at(0) + week).await.unwrap().is_none());
    let mut late = first.clone();
    (late.id, late.accepted_at) = (MessageId::new(), at(-1) + week);
    assert!(matches!(store.accept(late).await.unwrap(), Acceptance::Duplicate(found) if found == id));
    let mut later = first;
    (later.id, later.accepted_at) = (MessageId::new(), at(0) + week);
    let second = later.id;
    assert!(matches!(store.accept(later).await.unwrap(), Acceptance::New));
    let found = store.find_key(&tenant(), &key("weekly"), at(1) + week).await.unwrap();
    assert_eq!(found.map(|(id, _)| id), Some(second));
    store.close().await;
}

/// A worker that waits for the disk gathers the others meanwhile: far fewer commits than messages.
async fn many_callers_share_a_commit(base: &Base) {
    let store = base.open().await;
    let before = store.counts();
    let mut callers = JoinSet::new();
    for n in 0..200 {
        let store = store.clone();
        callers.spawn(async move {
            let mut new = message();
            new.idempotency = Some((key(&format!("k{n}")), [0; 32]));
            store.accept(new).await.unwrap()
        });
    }
    while let Some(done) = callers.join_next().await {
        assert!(matches!(done.unwrap(), Acceptance::New));
    }
    let after = store.counts();
    assert_eq!(after.operations - before.operations, 200);
    assert!(after.commits - before.commits <= 100, "{} commits for 200 messages", after.commits);
    assert_eq!(base.texts("SELECT id FROM messages").await.len(), 200);
    store.close().await;
}

async fn one_bad_message_spoils_no_other(base: &Base) {
    let store = base.open().await;
    let twice = message();
    store.accept(twice.clone()).await.unwrap();
    let mut callers = JoinSet::new();
    for n in 0..32 {
        let (store, twice) = (store.clone(), twice.clone());
        // The same id again breaks the primary key, and with it the transaction that all of them share.
        let new = if n == 16 { twice } else { message() };
        callers.spawn(async move { (n, store.accept(new).await) });
    }
    while let Some(done) = callers.join_next().await {
        let (n, answer) = done.unwrap();
        assert_eq!(answer.is_ok(), n != 16, "{n}: {answer:?}");
    }
    assert_eq!(base.texts("SELECT id FROM messages").await.len(), 32);
    store.close().await;
}

async fn lists_are_newest_first_and_go_on_from_a_cursor(base: &Base) {
    let store = base.open().await;
    let mut ids = Vec::new();
    for n in 0..5 {
        let mut new = message();
        new.request.recipient =
            channel_orchestrator::domain::ids::RecipientId::parse(&format!("p-{}", n % 2)).unwrap();
        ids.push(new.id);
        store.accept(new).await.unwrap();
    }
    ids.reverse();
    let listed = |search: Search| {
        let store = store.clone();
        async move { store.search(&search).await.unwrap().into_iter().map(|r| r.id).collect::<Vec<_>>() }
    };
    let all = Search { tenant: Some(tenant()), limit: 3, ..Default::default() };
    assert_eq!(listed(all.clone()).await, ids[..3]);
    assert_eq!(listed(Search { before: Some(ids[2]), ..all.clone() }).await, ids[3..]);
    let one = Search { recipient: Some("p-0".into()), limit: 10, ..all.clone() };
    assert_eq!(listed(one).await, [ids[0], ids[2], ids[4]]);
    assert!(listed(Search { status: Some(Status::Sent), ..all }).await.is_empty());
    let stranger = channel_orchestrator::domain::ids::TenantId::parse("stranger").unwrap();
    assert!(store.message(&stranger, ids[0]).await.unwrap().is_none());
    assert!(store.message_of_any_tenant(ids[0]).await.unwrap().is_some());
    assert_eq!(store.count_by_status().await.unwrap(), [(Status::Queued, 5)]);
    store.close().await;
}

/// Past three quarters of the queue a new message is refused before it is accepted, never after.
async fn a_full_queue_refuses_new_messages(base: &Base) {
    let store = base.open_with(OpenOptions { queue: 4, per_commit: 1, ..Default::default() }).await;
    let mut callers = JoinSet::new();
    for _ in 0..64 {
        let store = store.clone();
        callers.spawn(async move { store.accept(message()).await });
    }
    let (mut kept, mut refused) = (0, 0);
    while let Some(done) = callers.join_next().await {
        match done.unwrap() {
            Ok(_) => kept += 1,
            Err(error) => {
                assert!(error.to_string().contains("try again"), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 0, "64 callers do not fit into a queue of 4");
    assert_eq!(base.texts("SELECT id FROM messages").await.len(), kept);
    store.close().await;
}

super::on_both!(
    a_message_reads_back_as_it_was_accepted,
    a_held_message_says_why_and_until_when,
    a_refused_message_is_kept_without_a_plan,
    one_key_makes_one_message_whoever_races,
    a_key_with_another_body_is_reused_and_names_its_message,
    a_key_is_kept_for_seven_days,
    many_callers_share_a_commit,
    one_bad_message_spoils_no_other,
    lists_are_newest_first_and_go_on_from_a_cursor,
    a_full_queue_refuses_new_messages,
);
