//! What a crash leaves behind, and what is made of it: never a blind resend, never a message forgotten.

use channel_orchestrator::{
    delivery::receipts::after_undelivered,
    domain::{
        delivery::{AttemptStatus, ErrorClass, Next, Outcome, Status},
        receipt::ReceiptKind,
    },
    store::{
        Due, Intake, Intent, OpenOptions, Queue, Receipts, Received, Records, Recovered, Search, StoreError,
    },
};

use super::{
    fixture::{Base, accepted, at, begin, claim_one, intent, key, message, tenant},
    returns::{from, receipt, sent},
};

async fn claims_without_an_intent_go_back_to_the_queue(base: &Base) {
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let nothing = store.recover(None, at(59), at(359)).await.unwrap();
    assert_eq!(nothing, Recovered::default(), "the lease still holds");
    let found = store.recover(None, at(60), at(360)).await.unwrap();
    assert_eq!(found, Recovered { given_back: 1, ..Default::default() });
    let kept = store.message(&tenant(), new.id).await.unwrap().unwrap();
    assert_eq!((kept.status, kept.due_at), (Status::Queued, Some(at(60))));
    assert_eq!(store.record_intent(&claimed, intent(&claimed, at(1))).await.unwrap(), Intent::Lost);
    store.close().await;
}

async fn an_open_attempt_becomes_unknown_and_is_looked_at_later(base: &Base) {
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    begin(&store, &claimed, at(1)).await;
    // The claim alone takes nothing whose attempt is open, however long its lease is over.
    assert!(store.claim("v", at(600), 60, 10).await.unwrap().is_empty());
    let found = store.recover(None, at(600), at(900)).await.unwrap();
    assert_eq!(found, Recovered { unknown: 1, ..Default::default() });
    let kept = store.message(&tenant(), new.id).await.unwrap().unwrap();
    assert_eq!((kept.status, kept.due_at), (Status::Unknown, Some(at(900))));
    assert_eq!(kept.attempts[0].status, AttemptStatus::Unknown);
    assert!(store.claim("v", at(899), 60, 10).await.unwrap().is_empty());
    let again = claim_one(&store, "v", at(900)).await;
    assert_eq!((again.due, again.hop, again.attempts), (Due::Settle, 0, 1));
    assert_eq!(again.last_attempt.unwrap().status, AttemptStatus::Unknown);
    store.close().await;
}

async fn a_worker_that_starts_again_takes_up_its_own(base: &Base) {
    let store = base.open().await;
    for _ in 0..3 {
        store.accept(message()).await.unwrap();
    }
    let mine = store.claim("mine", at(0), 60, 2).await.unwrap();
    let other = store.claim("other", at(0), 60, 2).await.unwrap();
    begin(&store, &mine[0], at(1)).await;
    let found = store.recover(Some("mine"), at(2), at(302)).await.unwrap();
    assert_eq!(found, Recovered { unknown: 1, given_back: 1, quarantined: 0 });
    begin(&store, &other[0], at(3)).await;
    store.close().await;
}

async fn three_crashes_quarantine_and_others_flow(base: &Base) {
    let store = base.open().await;
    let poison = message();
    store.accept(poison.clone()).await.unwrap();
    // Before its last trial it waits, and others flow meanwhile.
    for crash in [0, 1, 31] {
        assert_eq!(claim_one(&store, "w", at(crash)).await.id, poison.id);
        let found = store.recover(Some("w"), at(crash), at(300)).await.unwrap();
        let last = crash == 31;
        assert_eq!((found.given_back, found.quarantined), (u64::from(!last), u64::from(last)), "{crash}");
        if crash > 0 {
            let other = message();
            store.accept(other.clone()).await.unwrap();
            let claimed = claim_one(&store, "w", at(crash + 29)).await;
            assert_eq!(claimed.id, other.id);
            store.advance(&claimed, &done(), at(crash + 29)).await.unwrap();
        }
    }
    let kept = store.message(&tenant(), poison.id).await.unwrap().unwrap();
    assert_eq!((kept.status, kept.due_at), (Status::Quarantined, None));
    assert_eq!(kept.timeline.last().unwrap().event, "quarantined");
    store.close().await;
}

fn done() -> Next {
    Next::End { status: Status::Failed, reason: "it is over".into() }
}

/// Kills hit the message while it is alone in hand, twice in a row, again and again; but the daemon dies without it as
/// well, with nothing in hand or with others in company.
async fn an_innocent_message_is_never_set_aside_by_kills_of_the_daemon(base: &Base) {
    let store = base.open().await;
    let innocent = message();
    store.accept(innocent.clone()).await.unwrap();
    let kill = async |now| {
        let found = store.recover(Some("w"), at(now), at(9_000)).await.unwrap();
        assert_eq!(found.quarantined, 0, "at {now}");
    };
    for round in 0..20 {
        let mut now = round * 100;
        for _ in 0..2 {
            now += 1;
            assert_eq!(claim_one(&store, "w", at(now)).await.id, innocent.id, "{round}");
            kill(now).await;
        }
        now += 5;
        let beside = 2 * (round % 2) as usize;
        for _ in 0..beside {
            store.accept(message()).await.unwrap();
        }
        let others = store.claim("w", at(now), 60, 10).await.unwrap();
        assert_eq!(others.len(), beside);
        assert!(others.iter().all(|claimed| claimed.id != innocent.id));
        kill(now).await;
        for _ in 0..beside {
            let claimed = claim_one(&store, "w", at(now)).await;
            assert_ne!(claimed.id, innocent.id);
            store.advance(&claimed, &done(), at(now)).await.unwrap();
        }
    }
    let claimed = claim_one(&store, "w", at(5_000)).await;
    assert_eq!(claimed.id, innocent.id);
    let attempt = begin(&store, &claimed, at(5_000)).await;
    store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(5_001)).await.unwrap();
    store.close().await;
}

/// Those who kill do not clear each other.
async fn two_that_kill_whoever_takes_them_up_are_both_set_aside(base: &Base) {
    let store = base.open().await;
    for _ in 0..2 {
        store.accept(message()).await.unwrap();
    }
    let (mut now, mut deaths, mut quarantined) = (0, 0, 0);
    while quarantined < 2 {
        now += 1;
        assert!(now < 300, "{deaths} deaths and only {quarantined} set aside");
        if !store.claim("w", at(now), 60, 10).await.unwrap().is_empty() {
            deaths += 1;
            quarantined += store.recover(Some("w"), at(now), at(9_000)).await.unwrap().quarantined;
        }
    }
    assert_eq!(deaths, 7, "one in company, three of each alone");
    store.close().await;
}

/// A daemon that is killed again and again sets nothing aside that merely waited its turn; what crashes it is
/// found, because each suspect is then tried alone.
async fn what_waited_in_company_is_tried_alone_and_not_set_aside(base: &Base) {
    let store = base.open().await;
    for _ in 0..3 {
        store.accept(message()).await.unwrap();
    }
    assert_eq!(store.claim("w", at(0), 60, 10).await.unwrap().len(), 3);
    let found = store.recover(Some("w"), at(1), at(300)).await.unwrap();
    assert_eq!(found, Recovered { given_back: 3, ..Default::default() });
    let alone = claim_one(&store, "w", at(2)).await;
    assert!(store.claim("w", at(2), 60, 10).await.unwrap().is_empty(), "nothing beside a suspect");
    // Two seconds on it has shown itself harmless, and the next one has its turn.
    let next = claim_one(&store, "w", at(5)).await;
    assert_ne!(next.id, alone.id);
    for crash in 6..9 {
        store.recover(Some("w"), at(crash), at(300)).await.unwrap();
        let claimed = claim_one(&store, "w", at(crash)).await;
        let later = Next::HoldUntil { at: at(crash), reason: "drain".into() };
        store.advance(&claimed, &later, at(crash)).await.unwrap();
    }
    let states = store.count_by_status().await.unwrap();
    assert!(states.iter().all(|(status, _)| *status != Status::Quarantined), "{states:?}");
    store.close().await;
}

/// Crashes that follow each other count; a message that was handled in between starts anew.
async fn a_settled_attempt_forgives_earlier_crashes(base: &Base) {
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    for round in 0..4 {
        let now = at(round * 100);
        store.claim("w", now, 60, 10).await.unwrap();
        store.recover(Some("w"), now, at(9_000)).await.unwrap();
        let claimed = claim_one(&store, "w", now).await;
        let later = Next::HoldUntil { at: at(round * 100 + 50), reason: "drain".into() };
        store.advance(&claimed, &later, now).await.unwrap();
    }
    assert_eq!(store.count_by_status().await.unwrap(), [(Status::Held, 1)]);
    store.close().await;
}

async fn a_hundred_crashes_are_recovered_at_once(base: &Base) {
    let store = base.open().await;
    for _ in 0..100 {
        store.accept(message()).await.unwrap();
    }
    let claimed = store.claim("w", at(0), 60, 200).await.unwrap();
    assert_eq!(claimed.len(), 100);
    for open in &claimed[..40] {
        begin(&store, open, at(0)).await;
    }
    let found = store.recover(Some("w"), at(1), at(301)).await.unwrap();
    assert_eq!(found, Recovered { unknown: 40, given_back: 60, quarantined: 0 });
    store.close().await;
}

async fn what_does_not_read_back_is_set_aside_for_a_person(base: &Base) {
    let store = base.open().await;
    let (bad, good) = (message(), message());
    store.accept(bad.clone()).await.unwrap();
    store.accept(good.clone()).await.unwrap();
    base.sql(&format!("UPDATE bodies SET request = '{{\"tenant\":' WHERE message_id = '{}'", bad.id)).await;
    assert_eq!(claim_one(&store, "w", at(0)).await.id, good.id);
    let states = base.texts(&format!("SELECT status FROM messages WHERE id = '{}'", bad.id)).await;
    assert_eq!(states, ["quarantined"]);
    let error = store.message(&tenant(), bad.id).await.unwrap_err();
    assert!(matches!(error, StoreError::Corrupt(_)), "{error}");
    // A list has the others; so it has when an attempt or an event is what does not read back.
    let third = message();
    store.accept(third.clone()).await.unwrap();
    let all = Search { tenant: Some(tenant()), limit: 10, ..Search::default() };
    let listed = async || store.search(&all).await.unwrap().iter().map(|m| m.id).collect::<Vec<_>>();
    assert_eq!(listed().await, [third.id, good.id]);
    let claimed = claim_one(&store, "w", at(0)).await;
    assert_eq!(claimed.id, third.id);
    begin(&store, &claimed, at(0)).await;
    base.sql(&format!("UPDATE attempts SET channel = 'pigeon' WHERE message_id = '{}'", third.id)).await;
    assert_eq!(listed().await, [good.id]);
    base.sql(&format!("UPDATE attempts SET channel = 'sms' WHERE message_id = '{}'", third.id)).await;
    store.close().await;
}

/// Every number and word of a row that decides something is in its sum. What a wrong sum leads to, flipped bits show
/// (`slow::bits`): the database itself writes none.
async fn what_decides_something_is_in_the_sum_of_its_row(base: &Base) {
    let store = base.open().await;
    let changes = [
        "messages SET due_at = due_at - 1",
        "messages SET deadline = deadline + 64",
        "messages SET attempts = 3",
        "messages SET hop = 1",
        "messages SET fence = fence + 8",
        "messages SET possible_duplicate = 1",
        "messages SET sent_via = 'email'",
        "messages SET class = 'marketing'",
        "messages SET polls = 2",
    ];
    for change in changes {
        let new = message();
        store.accept(new.clone()).await.unwrap();
        let id = new.id;
        let sum = base.texts(&format!("SELECT CAST(checksum AS TEXT) FROM messages WHERE id = '{id}'")).await;
        base.sql(&format!("UPDATE {change} WHERE id = '{id}'")).await;
        let after =
            base.texts(&format!("SELECT CAST(checksum AS TEXT) FROM messages WHERE id = '{id}'")).await;
        assert_ne!(sum, after, "{change} is not in the sum");
        base.sql(&format!(
            "DELETE FROM bodies WHERE message_id = '{id}'; DELETE FROM idempotency_keys; \
                           DELETE FROM events; DELETE FROM messages WHERE id = '{id}'"
        ))
        .await;
    }
    store.close().await;
}

/// An attempt that does not read back costs its message, not the daemon.
async fn a_last_attempt_that_does_not_read_back_sets_its_message_aside(base: &Base) {
    let store = base.open().await;
    let (bad, good) = (message(), message());
    for new in [&bad, &good] {
        store.accept(new.clone()).await.unwrap();
    }
    for claim in store.claim("w", at(0), 60, 10).await.unwrap() {
        let attempt = begin(&store, &claim, at(0)).await;
        let busy = Outcome::failed(ErrorClass::Temporary, "busy");
        let retry = Next::RetryAt { at: at(60), reason: "busy".into() };
        store.settle(&claim, attempt, &busy, &retry, at(1)).await.unwrap();
    }
    base.sql(&format!("UPDATE attempts SET status = 'pigeon' WHERE message_id = '{}'", bad.id)).await;
    assert_eq!(claim_one(&store, "w", at(60)).await.id, good.id);
    let states = base.texts(&format!("SELECT status FROM messages WHERE id = '{}'", bad.id)).await;
    assert_eq!(states, ["quarantined"]);
    store.close().await;
}

/// What the disk changed in a message that was sent: its status, to another one that reads as well. A receipt does not
/// make it right again, and is not lost either.
#[tokio::test]
async fn a_receipt_is_not_believed_over_a_row_that_does_not_add_up() {
    let base = Base::sqlite();
    let store = base.open().await;
    let mut new = message();
    new.plan.as_mut().unwrap().escalation = None;
    let row = format!("{}{}{}sent", new.id, new.request.tenant, new.request.recipient);
    let (id, _) = sent(&store, new, "S-1", at(0)).await;
    store.close().await;
    base.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    let Base::Sqlite(dir) = &base else { unreachable!() };
    let file = dir.path().join("state/store.db");
    let mut bytes = std::fs::read(&file).unwrap();
    let places: Vec<usize> = bytes
        .windows(row.len())
        .enumerate()
        .filter(|(_, w)| *w == row.as_bytes())
        .map(|(at, _)| at)
        .collect();
    assert!(!places.is_empty(), "the row is not where it was looked for");
    for place in places {
        bytes[place + row.len() - 4..place + row.len()].copy_from_slice(b"held");
    }
    std::fs::write(&file, &bytes).unwrap();

    // Too large a file to be looked through, as it were.
    let store = base.open_with(OpenOptions { look_through_bytes: 0, ..OpenOptions::default() }).await;
    let delivered = receipt("S-1", ReceiptKind::Delivered);
    for _ in 0..2 {
        let received = store.receive(&from(None), &delivered, after_undelivered, at(100)).await.unwrap();
        assert_eq!(received, Received::Orphan);
        assert_eq!(store.sweep_orphans(after_undelivered, at(101)).await.unwrap(), []);
    }
    assert_eq!(base.texts("SELECT status FROM messages").await, ["held"], "nothing is written over it");
    assert_eq!(base.texts("SELECT reference FROM orphan_receipts").await, ["S-1"]);
    assert!(matches!(store.message(&tenant(), id).await, Err(StoreError::Corrupt(_))));
    store.close().await;
}

async fn half_a_message_is_not_told_to_be_none(base: &Base) {
    let store = base.open().await;
    let (first, second) = (message(), message());
    for new in [&first, &second] {
        store.accept(new.clone()).await.unwrap();
    }
    base.sql(&format!("DELETE FROM messages WHERE id = '{}'", first.id)).await;
    base.sql(&format!("DELETE FROM bodies WHERE message_id = '{}'", second.id)).await;
    for id in [first.id, second.id] {
        assert!(matches!(store.message(&tenant(), id).await, Err(StoreError::Corrupt(_))));
    }
    assert!(store.message(&tenant(), message().id).await.unwrap().is_none());
    base.sql("DELETE FROM messages; DELETE FROM bodies; DELETE FROM idempotency_keys").await;
    store.close().await;
}

async fn a_finished_message_is_left_alone(base: &Base) {
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let attempt = begin(&store, &claimed, at(0)).await;
    store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(1)).await.unwrap();
    assert_eq!(store.recover(Some("w"), at(100), at(400)).await.unwrap(), Recovered::default());
    assert!(store.claim("w", at(10_000), 60, 10).await.unwrap().is_empty());
    store.close().await;
}

async fn keys_that_ran_out_are_forgotten(base: &Base) {
    let store = base.open().await;
    for (name, accepted_at) in [("old", at(0)), ("new", at(8 * 86_400))] {
        let mut new = message();
        (new.idempotency, new.accepted_at) = (Some((key(name), [1; 32])), accepted_at);
        store.accept(new).await.unwrap();
    }
    store.recover(None, at(60), at(360)).await.unwrap();
    assert_eq!(base.texts("SELECT key FROM idempotency_keys ORDER BY key").await, ["new", "old"]);
    store.recover(None, at(8 * 86_400), at(8 * 86_400)).await.unwrap();
    assert_eq!(base.texts("SELECT key FROM idempotency_keys").await, ["new"]);
    store.close().await;
}

super::on_both!(
    keys_that_ran_out_are_forgotten,
    claims_without_an_intent_go_back_to_the_queue,
    an_open_attempt_becomes_unknown_and_is_looked_at_later,
    a_worker_that_starts_again_takes_up_its_own,
    three_crashes_quarantine_and_others_flow,
    an_innocent_message_is_never_set_aside_by_kills_of_the_daemon,
    two_that_kill_whoever_takes_them_up_are_both_set_aside,
    what_waited_in_company_is_tried_alone_and_not_set_aside,
    a_settled_attempt_forgives_earlier_crashes,
    a_hundred_crashes_are_recovered_at_once,
    what_does_not_read_back_is_set_aside_for_a_person,
    what_decides_something_is_in_the_sum_of_its_row,
    a_last_attempt_that_does_not_read_back_sets_its_message_aside,
    half_a_message_is_not_told_to_be_none,
    a_finished_message_is_left_alone,
);
