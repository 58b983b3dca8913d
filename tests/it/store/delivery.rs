//! Claims, intents, outcomes: who holds a message, and what an attempt leads to.

use channel_orchestrator::{
    domain::{
        channel::Channel,
        delivery::{AttemptStatus, ErrorClass, Next, Outcome, Status},
        ids::MessageId,
    },
    store::{Cancelled, Due, Intake, Intent, Queue, Records, SqlStore, StoreError},
};
use tokio::task::JoinSet;

use super::fixture::{Base, accepted, at, begin, claim_one, held, intent, marketing, message, tenant};

async fn record(store: &SqlStore, id: MessageId) -> channel_orchestrator::domain::delivery::MessageRecord {
    store.message(&tenant(), id).await.unwrap().unwrap()
}

async fn a_message_is_claimed_tried_and_sent(base: &Base) {
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(at(0)));
    assert!(store.claim("w", at(-1), 60, 10).await.unwrap().is_empty(), "not due yet");
    let claimed = claim_one(&store, "w", at(1)).await;
    assert_eq!((claimed.id, claimed.due, claimed.lease_until), (new.id, Due::Send, at(61)));
    assert_eq!((&claimed.request, Some(&claimed.plan)), (&new.request, new.plan.as_ref()));
    assert_eq!(record(&store, new.id).await.status, Status::Sending);
    assert_eq!(store.next_due().await.unwrap(), None);
    let attempt = begin(&store, &claimed, at(2)).await;
    store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(3)).await.unwrap();
    let kept = record(&store, new.id).await;
    assert_eq!((kept.status, kept.sent_via), (Status::Sent, Some(Channel::Sms)));
    assert_eq!(kept.attempts.len(), 1);
    assert_eq!(kept.attempts[0].status, AttemptStatus::Accepted);
    assert_eq!(kept.attempts[0].provider_message_id.as_deref(), Some("SM1"));
    let events: Vec<_> = kept.timeline.iter().map(|e| e.event.as_str()).collect();
    assert_eq!(events, ["accepted", "attempt", "sent"]);
    store.close().await;
}

async fn a_retry_keeps_the_hop_and_a_fallback_moves_on(base: &Base) {
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let attempt = begin(&store, &claimed, at(0)).await;
    let busy = Outcome::failed(ErrorClass::Temporary, "busy");
    let next = Next::RetryAt { at: at(60), reason: "busy".into() };
    store.settle(&claimed, attempt, &busy, &next, at(1)).await.unwrap();
    assert!(store.claim("w", at(59), 60, 10).await.unwrap().is_empty());
    let claimed = claim_one(&store, "w", at(60)).await;
    assert_eq!((claimed.hop, claimed.attempts, claimed.attempts_on_hop), (0, 1, 1));
    let last = claimed.last_attempt.clone().unwrap();
    assert_eq!((last.id, last.status), (attempt, AttemptStatus::RefusedTemporary));
    let attempt = begin(&store, &claimed, at(60)).await;
    let no = Outcome::failed(ErrorClass::Permanent, "no such number");
    let next = Next::FallBackTo { hop: 1, at: at(61), reason: "no such number".into() };
    store.settle(&claimed, attempt, &no, &next, at(61)).await.unwrap();
    let claimed = claim_one(&store, "w", at(61)).await;
    assert_eq!((claimed.hop, claimed.attempts, claimed.attempts_on_hop), (1, 2, 0));
    let attempt = begin(&store, &claimed, at(62)).await;
    store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(63)).await.unwrap();
    let kept = record(&store, new.id).await;
    assert_eq!((kept.hop, kept.sent_via), (1, Some(Channel::Email)));
    assert_eq!(kept.attempts.iter().map(|a| a.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert_eq!(kept.attempts[1].error.as_ref().unwrap().detail, "no such number");
    store.close().await;
}

async fn an_unknown_attempt_is_settled_then_resent_once(base: &Base) {
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let attempt = begin(&store, &claimed, at(0)).await;
    let lost = Outcome::failed(ErrorClass::Unknown, "the answer was cut off");
    let next = Next::SettleAt { at: at(300), reason: "cut off".into() };
    store.settle(&claimed, attempt, &lost, &next, at(1)).await.unwrap();
    assert_eq!(record(&store, new.id).await.status, Status::Unknown);
    let claimed = claim_one(&store, "w", at(300)).await;
    assert_eq!(claimed.due, Due::Settle);
    assert_eq!(store.record_intent(&claimed, intent(&claimed, at(300))).await.unwrap(), Intent::Lost);
    let resend = Next::ResendAt { at: at(300), reason: "not found".into() };
    store.advance(&claimed, &resend, at(300)).await.unwrap();
    let claimed = claim_one(&store, "w", at(301)).await;
    assert!(claimed.resend_used && claimed.due == Due::Send);
    assert!(record(&store, new.id).await.possible_duplicate);
    let attempt = begin(&store, &claimed, at(301)).await;
    // A second resend is never written, whoever asks for it.
    store.settle(&claimed, attempt, &lost, &resend, at(302)).await.unwrap();
    assert_eq!(record(&store, new.id).await.status, Status::Unresolved);
    store.close().await;
}

async fn marketing_is_never_resent(base: &Base) {
    let store = base.open().await;
    let new = marketing();
    store.accept(new.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let attempt = begin(&store, &claimed, at(0)).await;
    let lost = Outcome::failed(ErrorClass::Unknown, "cut off");
    let resend = Next::ResendAt { at: at(1), reason: "?".into() };
    store.settle(&claimed, attempt, &lost, &resend, at(1)).await.unwrap();
    let kept = record(&store, new.id).await;
    assert_eq!((kept.status, kept.possible_duplicate), (Status::Unresolved, false));
    store.close().await;
}

async fn two_claimers_never_share_a_message(base: &Base) {
    let store = base.open().await;
    for _ in 0..60 {
        store.accept(message()).await.unwrap();
    }
    // With PostgreSQL the second claimer is a second daemon.
    let second = if base.is_postgres() { base.open().await } else { store.clone() };
    let mut claimers = JoinSet::new();
    for n in 0..8 {
        let store = if n % 2 == 0 { store.clone() } else { second.clone() };
        claimers.spawn(async move {
            let mut ids = Vec::new();
            loop {
                let claimed = store.claim(&format!("w{n}"), at(1), 60, 7).await.unwrap();
                if claimed.is_empty() {
                    return ids;
                }
                ids.extend(claimed.into_iter().map(|c| (c.id, c.fence)));
            }
        });
    }
    let mut all = Vec::new();
    while let Some(ids) = claimers.join_next().await {
        all.extend(ids.unwrap());
    }
    all.extend(store.claim("rest", at(1), 60, 100).await.unwrap().into_iter().map(|c| (c.id, c.fence)));
    assert_eq!(all.len(), 60);
    all.sort_unstable();
    all.dedup_by_key(|(id, _)| *id);
    assert_eq!(all.len(), 60, "a message was claimed twice");
    store.close().await;
    if base.is_postgres() {
        second.close().await;
    }
}

async fn a_stale_holder_settles_its_own_attempt_and_nothing_else(base: &Base) {
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    let stale = claim_one(&store, "slow", at(0)).await;
    let attempt = begin(&store, &stale, at(0)).await;
    let found = store.recover(None, at(60), at(360)).await.unwrap();
    assert_eq!((found.unknown, found.given_back, found.quarantined), (1, 0, 0));
    let late = store.settle(&stale, attempt, &accepted(), &Next::Sent, at(61)).await;
    assert!(matches!(late, Err(StoreError::LeaseLost(id)) if id == new.id));
    let kept = record(&store, new.id).await;
    assert_eq!((kept.status, kept.due_at), (Status::Unknown, Some(at(360))));
    assert_eq!(kept.attempts[0].status, AttemptStatus::Accepted);
    // Whoever looks next sees the evidence.
    let claimed = claim_one(&store, "w", at(360)).await;
    assert_eq!(claimed.last_attempt.as_ref().unwrap().status, AttemptStatus::Accepted);
    store.advance(&claimed, &Next::Sent, at(361)).await.unwrap();
    assert_eq!(record(&store, new.id).await.sent_via, Some(Channel::Sms));
    // What is settled stays so, also against its former holders.
    for holder in [&stale, &claimed] {
        let failed = Next::End { status: Status::Failed, reason: "late".into() };
        assert!(matches!(store.advance(holder, &failed, at(400)).await, Err(StoreError::LeaseLost(_))));
    }
    store.close().await;
}

async fn an_intent_needs_a_lease_that_lasts(base: &Base) {
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    assert_eq!(store.record_intent(&claimed, intent(&claimed, at(60))).await.unwrap(), Intent::Lost);
    // The lease is over and nothing was sent: the next claim takes it, and the first holder has lost it.
    let again = claim_one(&store, "v", at(60)).await;
    assert!(again.fence > claimed.fence);
    assert_eq!(store.record_intent(&claimed, intent(&claimed, at(60))).await.unwrap(), Intent::Lost);
    begin(&store, &again, at(61)).await;
    assert_eq!(
        store.record_intent(&again, intent(&again, at(61))).await.unwrap(),
        Intent::Lost,
        "one is open"
    );
    store.close().await;
}

async fn what_is_given_back_uses_no_attempt(base: &Base) {
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let back = Next::HoldUntil { at: at(1), reason: "the daemon stops".into() };
    store.advance(&claimed, &back, at(1)).await.unwrap();
    assert_eq!(record(&store, new.id).await.status, Status::Queued);
    let claimed = claim_one(&store, "w", at(2)).await;
    let attempt = begin(&store, &claimed, at(2)).await;
    let hold = Next::HoldUntil { at: at(900), reason: "quiet hours".into() };
    let unsent = Outcome::failed(ErrorClass::NotSent, "stopped before the first byte");
    store.settle(&claimed, attempt, &unsent, &hold, at(3)).await.unwrap();
    assert_eq!(record(&store, new.id).await.status, Status::Held);
    let claimed = claim_one(&store, "w", at(900)).await;
    // It was made, and it does not count.
    assert_eq!((claimed.attempts, claimed.attempts_on_hop, claimed.made), (0, 0, 1));
    store.close().await;
}

async fn cancelling_is_for_what_is_not_in_flight(base: &Base) {
    let store = base.open().await;
    let (waiting, flying) = (held(at(3600)), message());
    store.accept(waiting.clone()).await.unwrap();
    store.accept(flying.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let cancel = async |id| store.cancel(&tenant(), id, at(1)).await.unwrap();
    assert_eq!(cancel(waiting.id).await, Some(Cancelled::Done));
    assert_eq!(cancel(waiting.id).await, Some(Cancelled::TooLate(Status::Cancelled)));
    assert_eq!(cancel(flying.id).await, Some(Cancelled::TooLate(Status::Sending)));
    assert_eq!(cancel(MessageId::new()).await, None);
    assert!(store.claim("w", at(7200), 60, 10).await.unwrap().iter().all(|c| c.id != waiting.id));
    drop(claimed);
    store.close().await;
}

/// Of a cancel and a claim that race, exactly one wins.
async fn a_cancel_and_a_claim_never_both_win(base: &Base) {
    let store = base.open().await;
    for _ in 0..20 {
        let new = message();
        store.accept(new.clone()).await.unwrap();
        let (cancelled, claimed) = (store.clone(), store.clone());
        let tenant = tenant();
        let (cancelled, claimed) =
            tokio::join!(cancelled.cancel(&tenant, new.id, at(1)), claimed.claim("w", at(1), 60, 10));
        let taken = claimed.unwrap().len() == 1;
        assert_eq!(cancelled.unwrap() == Some(Cancelled::Done), !taken);
    }
    store.close().await;
}

async fn an_ordering_key_keeps_its_order(base: &Base) {
    let store = base.open().await;
    let mut ids = Vec::new();
    for _ in 0..3 {
        let mut new = message();
        new.request.ordering_key = Some("thread".into());
        ids.push(new.id);
        store.accept(new).await.unwrap();
    }
    let free = message();
    store.accept(free.clone()).await.unwrap();
    let claimed = store.claim("w", at(1), 60, 10).await.unwrap();
    assert_eq!(claimed.iter().map(|c| c.id).collect::<Vec<_>>(), [ids[0], free.id]);
    let attempt = begin(&store, &claimed[0], at(1)).await;
    let retry = Next::RetryAt { at: at(30), reason: "busy".into() };
    let busy = Outcome::failed(ErrorClass::Temporary, "busy");
    store.settle(&claimed[0], attempt, &busy, &retry, at(2)).await.unwrap();
    assert!(store.claim("w", at(3), 60, 10).await.unwrap().is_empty(), "the first waits, so do the others");
    let first = claim_one(&store, "w", at(30)).await;
    assert_eq!(first.id, ids[0]);
    let end = Next::End { status: Status::Expired, reason: "too late".into() };
    store.advance(&first, &end, at(31)).await.unwrap();
    assert_eq!(claim_one(&store, "w", at(32)).await.id, ids[1]);
    store.close().await;
}

super::on_both!(
    a_message_is_claimed_tried_and_sent,
    a_retry_keeps_the_hop_and_a_fallback_moves_on,
    an_unknown_attempt_is_settled_then_resent_once,
    marketing_is_never_resent,
    two_claimers_never_share_a_message,
    a_stale_holder_settles_its_own_attempt_and_nothing_else,
    an_intent_needs_a_lease_that_lasts,
    what_is_given_back_uses_no_attempt,
    cancelling_is_for_what_is_not_in_flight,
    a_cancel_and_a_claim_never_both_win,
    an_ordering_key_keeps_its_order,
);
