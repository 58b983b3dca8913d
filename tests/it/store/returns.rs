//! What comes back from providers: receipts in any order, early, twice, of strangers.

use std::sync::Arc;

use channel_orchestrator::{
    delivery::receipts::after_undelivered,
    domain::{
        channel::Channel,
        delivery::{
            AttemptError, AttemptStatus, ErrorClass, MessageRecord, NewMessage, Next, Outcome,
            PlannedEscalation, Status,
        },
        ids::{AttemptId, MessageId, TenantId},
        money::MicroEuros,
        receipt::{ProviderReceipt, ReceiptKind},
    },
    store::{CalledBack, Claimed, Intake, Queue, Receipts, Received, Records, SqlStore, StoreError},
};
use chrono::{DateTime, Utc};

use super::fixture::{Base, at, begin, claim_one, intent, message, tenant};

pub fn from(attempt: Option<AttemptId>) -> CalledBack {
    CalledBack {
        driver: "sandbox".into(),
        credential: "account".into(),
        drivers: vec!["other".into(), "sandbox".into()],
        tenant: tenant(),
        attempt,
        services: Vec::new(),
    }
}

pub fn receipt(reference: &str, kind: ReceiptKind) -> ProviderReceipt {
    let error = (kind == ReceiptKind::Undelivered).then(|| AttemptError {
        class: ErrorClass::Permanent,
        code: Some("30003".into()),
        detail: "unreachable handset".into(),
    });
    ProviderReceipt {
        provider_message_id: (!reference.is_empty()).then(|| reference.to_owned()),
        attempt: None,
        kind,
        at: None,
        error,
        cost: None,
    }
}

fn taken(reference: &str) -> Outcome {
    Outcome::Accepted { provider_message_id: Some(reference.into()), cost: None }
}

/// Accepts a message and hands it off, under this name of the provider's.
pub async fn sent(
    store: &SqlStore,
    new: NewMessage,
    reference: &str,
    now: DateTime<Utc>,
) -> (MessageId, AttemptId) {
    let id = new.id;
    store.accept(new).await.unwrap();
    let claimed = claim_one(store, "w", now).await;
    let attempt = begin(store, &claimed, now).await;
    store.settle(&claimed, attempt, &taken(reference), &Next::Sent, now).await.unwrap();
    (id, attempt)
}

/// The same, but the answer was lost.
async fn lost(store: &SqlStore, new: NewMessage, now: DateTime<Utc>) -> (MessageId, AttemptId, Claimed) {
    let id = new.id;
    store.accept(new).await.unwrap();
    let claimed = claim_one(store, "w", now).await;
    let attempt = begin(store, &claimed, now).await;
    let unknown = Outcome::failed(ErrorClass::Unknown, "cut off");
    let settle = Next::SettleAt { at: at(300), reason: "cut off".into() };
    store.settle(&claimed, attempt, &unknown, &settle, now).await.unwrap();
    (id, attempt, claimed)
}

async fn tell(store: &SqlStore, by: Option<AttemptId>, told: &ProviderReceipt) -> Received {
    store.receive(&from(by), told, after_undelivered, at(100)).await.unwrap()
}

pub async fn record(store: &SqlStore, id: MessageId) -> MessageRecord {
    store.message_of_any_tenant(id).await.unwrap().unwrap()
}

fn events(record: &MessageRecord) -> Vec<&str> {
    record.timeline.iter().map(|event| event.event.as_str()).collect()
}

fn unescalated() -> NewMessage {
    let mut new = message();
    new.plan.as_mut().unwrap().escalation = None;
    new
}

async fn receipts_move_a_message_up_once(base: &Base) {
    let store = base.open().await;
    let (id, attempt) = sent(&store, message(), "SM1", at(0)).await;
    let delivered = ProviderReceipt { at: Some(at(4)), ..receipt("SM1", ReceiptKind::Delivered) };
    let applied = Received::Applied { message: id, due: false };
    assert_eq!(tell(&store, Some(attempt), &receipt("SM1", ReceiptKind::Sent)).await, applied);
    assert_eq!(record(&store, id).await.status, Status::Sent);
    assert_eq!(tell(&store, Some(attempt), &delivered).await, applied);
    for _ in 0..10 {
        assert_eq!(tell(&store, Some(attempt), &delivered).await, Received::Again);
        assert_eq!(
            tell(&store, None, &delivered).await,
            Received::Again,
            "found by its name, it is the same"
        );
    }
    let shown = record(&store, id).await;
    assert_eq!(shown.status, Status::Delivered);
    assert_eq!(events(&shown), ["accepted", "attempt", "sent", "delivered"]);
    assert_eq!(shown.timeline.last().unwrap().at, at(4), "by the provider's clock");
    assert_eq!(tell(&store, Some(attempt), &receipt("SM1", ReceiptKind::Read)).await, applied);
    let shown = record(&store, id).await;
    assert_eq!(events(&shown)[4..], ["read", "opened"]);
    assert_eq!(shown.status, Status::Delivered);
    store.close().await;
}

/// Every order of a message's receipts ends alike (I10).
async fn any_order_ends_alike(base: &Base) {
    use ReceiptKind::{Delivered, Read, Sent, Undelivered};
    let store = base.open().await;
    let kinds = [Sent, Delivered, Read, Undelivered];
    let mut orders = 0;
    for a in 0..4 {
        for b in (0..4).filter(|b| *b != a) {
            for c in (0..4).filter(|c| *c != a && *c != b) {
                let order = [a, b, c, 6 - a - b - c].map(|n: usize| kinds[n]);
                let mut new = message();
                // Nothing to fall back to: what is seen is the fold alone.
                new.plan.as_mut().unwrap().hops.truncate(1);
                let reference = format!("SM{orders}");
                let (id, attempt) = sent(&store, new, &reference, at(0)).await;
                for kind in order {
                    tell(&store, Some(attempt), &receipt(&reference, kind)).await;
                    tell(&store, Some(attempt), &receipt(&reference, kind)).await;
                }
                let shown = record(&store, id).await;
                assert_eq!(shown.status, Status::Delivered, "{order:?}");
                assert_eq!(shown.due_at, None, "{order:?}");
                assert_eq!(shown.sent_via, Some(Channel::Sms), "{order:?}");
                orders += 1;
            }
        }
    }
    assert_eq!(orders, 24);
    let folds = base.texts("SELECT DISTINCT receipt || ' ' || receipt_conflict FROM attempts").await;
    assert_eq!(folds, ["read 1"]);
    let rates = base.texts("SELECT received || ' ' || engaged FROM engagement_rates").await;
    assert_eq!(rates, ["24 24"], "whatever came first, each was received once and read once");
    store.close().await;
}

async fn what_did_not_arrive_goes_on_to_the_next_channel(base: &Base) {
    let store = base.open().await;
    let (id, attempt) = sent(&store, message(), "SM1", at(0)).await;
    let told = tell(&store, Some(attempt), &receipt("SM1", ReceiptKind::Undelivered)).await;
    assert_eq!(told, Received::Applied { message: id, due: true });
    let shown = record(&store, id).await;
    assert_eq!((shown.status, shown.hop, shown.sent_via), (Status::Queued, 1, None));
    assert_eq!(events(&shown)[2..], ["sent", "undelivered", "fallback"]);
    // The email is sent, and says that it arrived; the SMS's late word to the contrary changes nothing of that.
    let claimed = claim_one(&store, "w", at(101)).await;
    let second = begin(&store, &claimed, at(101)).await;
    store.settle(&claimed, second, &taken("mail"), &Next::Sent, at(102)).await.unwrap();
    tell(&store, Some(attempt), &receipt("SM1", ReceiptKind::Delivered)).await;
    let shown = record(&store, id).await;
    assert_eq!((shown.status, shown.sent_via), (Status::Delivered, Some(Channel::Email)));
    assert!(events(&shown).contains(&"receipts_disagree"));
    tell(&store, Some(second), &receipt("mail", ReceiptKind::Undelivered)).await;
    assert_eq!(record(&store, id).await.status, Status::Delivered, "never downgraded");
    // Both were accepted, and both may have arrived after all: that is what the auditor would cry about.
    base.sql("UPDATE attempts SET receipt = 'undelivered' WHERE number = 1").await;
    store.close().await;
}

async fn a_paid_fallback_needs_our_token(base: &Base) {
    let store = base.open().await;
    let (id, _) = sent(&store, message(), "SM1", at(0)).await;
    tell(&store, None, &receipt("SM1", ReceiptKind::Undelivered)).await;
    let shown = record(&store, id).await;
    assert_eq!((shown.status, shown.hop), (Status::Failed, 0));
    assert!(shown.status_reason.unwrap().contains("no token"));
    tell(&store, None, &receipt("SM1", ReceiptKind::Delivered)).await;
    let shown = record(&store, id).await;
    assert_eq!((shown.status, shown.sent_via), (Status::Delivered, Some(Channel::Sms)), "corrected upwards");
    assert_eq!(base.texts("SELECT CAST(corrected AS TEXT) FROM messages").await, ["1"]);
    store.close().await;
}

async fn a_receipt_settles_what_was_unknown(base: &Base) {
    let store = base.open().await;
    let mut new = unescalated();
    new.plan.as_mut().unwrap().escalation =
        Some(PlannedEscalation { hop: 1, after_seconds: 3600, unless: "opened".into() });
    let (id, attempt, _) = lost(&store, new, at(0)).await;
    // A poll is under way: the receipt overtakes it.
    let polling = claim_one(&store, "w", at(300)).await;
    let told = ProviderReceipt { cost: Some(MicroEuros(70_000)), ..receipt("SM7", ReceiptKind::Sent) };
    assert_eq!(tell(&store, Some(attempt), &told).await, Received::Applied { message: id, due: false });
    let resend = Next::ResendAt { at: at(301), reason: "absent".into() };
    let late = store.advance(&polling, &resend, at(301)).await;
    assert!(matches!(late, Err(StoreError::LeaseLost(_))), "{late:?}");
    let shown = record(&store, id).await;
    assert_eq!((shown.status, shown.sent_via), (Status::Sent, Some(Channel::Sms)));
    assert_eq!(shown.due_at, Some(at(100 + 3600)), "its escalation is counted from the receipt's moment");
    assert_eq!(shown.attempts[0].status, AttemptStatus::Accepted);
    assert_eq!(shown.attempts[0].provider_message_id.as_deref(), Some("SM7"));
    assert_eq!(shown.attempts[0].cost, MicroEuros(70_000));
    assert_eq!(base.texts("SELECT CAST(micro_euros AS TEXT) FROM spend").await, ["70000"]);
    store.close().await;
}

async fn a_receipt_calls_off_the_resend(base: &Base) {
    let store = base.open().await;
    let (id, attempt, _) = lost(&store, unescalated(), at(0)).await;
    let claimed = claim_one(&store, "w", at(300)).await;
    let resend = Next::ResendAt { at: at(300), reason: "absent".into() };
    store.advance(&claimed, &resend, at(300)).await.unwrap();
    // The resend is claimed already: its intent is refused.
    let claimed = claim_one(&store, "w", at(301)).await;
    tell(&store, Some(attempt), &receipt("SM7", ReceiptKind::Delivered)).await;
    let refused = store.record_intent(&claimed, intent(&claimed, at(302))).await.unwrap();
    assert_eq!(refused, channel_orchestrator::store::Intent::Lost);
    let shown = record(&store, id).await;
    assert_eq!((shown.status, shown.possible_duplicate), (Status::Delivered, false));
    store.close().await;
}

async fn an_unknown_attempt_that_did_not_arrive_falls_back(base: &Base) {
    let store = base.open().await;
    let (id, attempt, _) = lost(&store, unescalated(), at(0)).await;
    let told = tell(&store, Some(attempt), &receipt("SM7", ReceiptKind::Undelivered)).await;
    assert_eq!(told, Received::Applied { message: id, due: true });
    let shown = record(&store, id).await;
    assert_eq!((shown.status, shown.hop), (Status::Queued, 1));
    assert_eq!(shown.attempts[0].status, AttemptStatus::Accepted);
    store.close().await;
}

async fn ends_are_corrected_upwards_only(base: &Base) {
    let store = base.open().await;
    let (id, attempt, _) = lost(&store, unescalated(), at(0)).await;
    let claimed = claim_one(&store, "w", at(300)).await;
    let end = Next::End { status: Status::Unresolved, reason: "nobody knows".into() };
    store.advance(&claimed, &end, at(300)).await.unwrap();
    tell(&store, Some(attempt), &receipt("SM7", ReceiptKind::Sent)).await;
    assert_eq!(record(&store, id).await.status, Status::Sent);
    tell(&store, Some(attempt), &receipt("SM7", ReceiptKind::Delivered)).await;
    assert_eq!(record(&store, id).await.status, Status::Delivered);
    store.close().await;
}

/// A bug that random kills found: three of them hit a message with its attempt open, it was set aside, and the provider's
/// word that the attempt had been taken left it there.
async fn what_three_crashes_set_aside_was_sent_after_all(base: &Base) {
    let store = base.open().await;
    for (kind, expected) in [(ReceiptKind::Sent, Status::Sent), (ReceiptKind::Delivered, Status::Delivered)] {
        let new = unescalated();
        let id = new.id;
        store.accept(new).await.unwrap();
        for crash in [0, 1] {
            claim_one(&store, "w", at(crash)).await;
            store.recover(Some("w"), at(crash), at(300)).await.unwrap();
        }
        let claimed = claim_one(&store, "w", at(40)).await;
        let attempt = begin(&store, &claimed, at(40)).await;
        assert_eq!(store.recover(Some("w"), at(41), at(300)).await.unwrap().quarantined, 1);
        assert_eq!(record(&store, id).await.status, Status::Quarantined);
        let reference = format!("SM-{kind:?}");
        if kind == ReceiptKind::Delivered {
            tell(&store, Some(attempt), &receipt("", ReceiptKind::Undelivered)).await;
            assert_eq!(record(&store, id).await.status, Status::Quarantined, "a person still looks at it");
        }
        let told = tell(&store, Some(attempt), &receipt(&reference, kind)).await;
        assert_eq!(told, Received::Applied { message: id, due: false });
        let shown = record(&store, id).await;
        assert_eq!((shown.status, shown.sent_via, shown.due_at), (expected, Some(Channel::Sms), None));
        assert_eq!(shown.attempts[0].status, AttemptStatus::Accepted);
        assert!(store.claim("w", at(400), 60, 10).await.unwrap().is_empty(), "nothing is sent again");
    }
    store.close().await;
}

/// T17: a receipt that overtakes the outcome's commit.
async fn an_early_receipt_waits_for_the_outcome(base: &Base) {
    let store = base.open().await;
    for (n, by_token) in [(0, true), (1, false)] {
        let new = unescalated();
        let id = new.id;
        store.accept(new).await.unwrap();
        let claimed = claim_one(&store, "w", at(0)).await;
        let attempt = begin(&store, &claimed, at(0)).await;
        let reference = format!("SM{n}");
        let by = by_token.then_some(attempt);
        let told = tell(&store, by, &receipt(&reference, ReceiptKind::Delivered)).await;
        assert_eq!(told, Received::Orphan);
        assert_eq!(store.sweep_orphans(after_undelivered, at(1)).await.unwrap(), []);
        store.settle(&claimed, attempt, &taken(&reference), &Next::Sent, at(2)).await.unwrap();
        let swept = store.sweep_orphans(after_undelivered, at(3)).await.unwrap();
        assert_eq!(swept, [Received::Applied { message: id, due: false }]);
        assert_eq!(record(&store, id).await.status, Status::Delivered);
    }
    assert_eq!(base.texts("SELECT reference FROM orphan_receipts").await, Vec::<String>::new());
    store.close().await;
}

async fn an_early_receipt_survives_the_crash_of_its_attempt(base: &Base) {
    let store = base.open().await;
    let new = unescalated();
    let id = new.id;
    store.accept(new).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let attempt = begin(&store, &claimed, at(0)).await;
    tell(&store, Some(attempt), &receipt("SM1", ReceiptKind::Delivered)).await;
    store.recover(Some("w"), at(10), at(310)).await.unwrap();
    assert_eq!(record(&store, id).await.status, Status::Unknown);
    store.sweep_orphans(after_undelivered, at(11)).await.unwrap();
    assert_eq!(record(&store, id).await.status, Status::Delivered);
    store.close().await;
}

/// One damaged body stopped the sweep of every early receipt, and its receipt came back for ever.
async fn a_receipt_of_what_is_damaged_is_kept_and_holds_up_no_other(base: &Base) {
    let store = base.open().await;
    let mut early = Vec::new();
    for n in 0..2 {
        let new = message();
        let id = new.id;
        store.accept(new).await.unwrap();
        let claimed = claim_one(&store, "w", at(0)).await;
        let attempt = begin(&store, &claimed, at(0)).await;
        let told = tell(&store, Some(attempt), &receipt(&format!("SM{n}"), ReceiptKind::Undelivered)).await;
        assert_eq!(told, Received::Orphan);
        early.push((id, claimed, attempt));
    }
    base.sql(&format!("UPDATE bodies SET plan = '?' WHERE message_id = '{}'", early[0].0)).await;
    for (n, (_, claimed, attempt)) in early.iter().enumerate() {
        store.settle(claimed, *attempt, &taken(&format!("SM{n}")), &Next::Sent, at(2)).await.unwrap();
    }
    let swept = store.sweep_orphans(after_undelivered, at(3)).await.unwrap();
    assert_eq!(swept, [Received::Applied { message: early[1].0, due: true }]);
    assert_eq!(base.texts("SELECT reference FROM orphan_receipts WHERE ready = 0").await, ["SM0"]);
    assert_eq!(store.sweep_orphans(after_undelivered, at(4)).await.unwrap(), []);
    let again = tell(&store, Some(early[0].2), &receipt("SM0", ReceiptKind::Undelivered)).await;
    assert_eq!(again, Received::Orphan, "kept, not asked for again and again");
    assert_eq!(base.texts("SELECT kind FROM receipts").await, ["undelivered"], "nothing of the damaged one");
    store.close().await;
}

async fn strangers_receipts_have_no_effect(base: &Base) {
    let store = base.open().await;
    let (id, attempt) = sent(&store, message(), "SM1", at(0)).await;
    let (other, _) = sent(&store, message(), "SM2", at(0)).await;
    let neighbour = CalledBack { tenant: TenantId::parse("neighbour").unwrap(), ..from(None) };
    let elsewhere = CalledBack {
        credential: "else".into(),
        drivers: vec!["else".into()],
        driver: "else".into(),
        ..from(None)
    };
    for by in [None, Some(attempt)] {
        for caller in [&neighbour, &elsewhere] {
            let caller = CalledBack { attempt: by, ..caller.clone() };
            for kind in ReceiptKind::ALL {
                let told =
                    store.receive(&caller, &receipt("SM1", kind), after_undelivered, at(5)).await.unwrap();
                assert_eq!(told, Received::Orphan);
            }
        }
    }
    // Our token with another message's name, and a name that nobody gave.
    let mixed = tell(&store, Some(attempt), &receipt("SM2", ReceiptKind::Undelivered)).await;
    assert_eq!(mixed, Received::Orphan);
    assert_eq!(tell(&store, None, &receipt("SM9", ReceiptKind::Undelivered)).await, Received::Orphan);
    assert_eq!(tell(&store, None, &receipt("", ReceiptKind::Undelivered)).await, Received::Nobodys);
    let unknown = tell(&store, Some(AttemptId::new()), &receipt("", ReceiptKind::Delivered)).await;
    assert_eq!(unknown, Received::Nobodys);
    assert_eq!(store.sweep_orphans(after_undelivered, at(6)).await.unwrap(), []);
    for id in [id, other] {
        assert_eq!(record(&store, id).await.status, Status::Sent);
    }
    assert_eq!(base.texts("SELECT kind FROM receipts").await, Vec::<String>::new());
    let kept = base.texts("SELECT CAST(COUNT(*) AS TEXT) FROM orphan_receipts").await;
    assert_eq!(kept, [(4 * ReceiptKind::ALL.len() + 2).to_string()]);
    store.sweep_orphans(after_undelivered, at(8 * 86_400)).await.unwrap();
    let kept = base.texts("SELECT CAST(COUNT(*) AS TEXT) FROM orphan_receipts").await;
    assert_eq!(kept, ["0"], "after seven days they are forgotten");
    store.close().await;
}

/// Two replicas take the receipts of one message at once.
async fn receipts_that_race_end_alike(base: &Base) {
    let store = base.open().await;
    let beside = if base.is_postgres() { base.open().await } else { Arc::clone(&store) };
    for round in 0..20 {
        let reference = format!("SM{round}");
        let mut new = message();
        new.plan.as_mut().unwrap().hops.truncate(1);
        let (id, attempt) = sent(&store, new, &reference, at(0)).await;
        let mut tasks = tokio::task::JoinSet::new();
        for (n, kind) in ReceiptKind::ALL.into_iter().enumerate() {
            let store = Arc::clone(if n % 2 == 0 { &store } else { &beside });
            let told = receipt(&reference, kind);
            tasks.spawn(async move {
                store.receive(&from(Some(attempt)), &told, after_undelivered, at(100)).await.unwrap()
            });
        }
        tasks.join_all().await;
        assert_eq!(record(&store, id).await.status, Status::Delivered);
    }
    let folds = base.texts("SELECT DISTINCT receipt || ' ' || receipt_conflict FROM attempts").await;
    assert_eq!(folds, ["read 1"]);
    assert_eq!(base.texts("SELECT received || ' ' || engaged FROM engagement_rates").await, ["20 20"]);
    store.close().await;
}

/// The SMS that follows an unanswered email is not called off by the email's arrival.
async fn an_escalation_goes_on_when_what_it_follows_arrives(base: &Base) {
    let store = base.open().await;
    let mut new = message();
    let plan = new.plan.as_mut().unwrap();
    plan.hops.reverse();
    plan.escalation = Some(PlannedEscalation { hop: 1, after_seconds: 60, unless: "opened".into() });
    let (id, attempt) = sent(&store, new, "mail", at(0)).await;
    let claimed = claim_one(&store, "w", at(61)).await;
    let escalate = Next::Escalate { hop: 1, at: at(61), reason: "nobody answered".into() };
    store.advance(&claimed, &escalate, at(61)).await.unwrap();
    tell(&store, Some(attempt), &receipt("mail", ReceiptKind::Delivered)).await;
    let shown = record(&store, id).await;
    assert_eq!((shown.status, shown.hop), (Status::Queued, 1));
    let claimed = claim_one(&store, "w", at(62)).await;
    let stays = Next::Stays { reason: Some("cancelled".into()) };
    store.advance(&claimed, &stays, at(63)).await.unwrap();
    assert_eq!(record(&store, id).await.status, Status::Delivered, "where it stood");
    store.close().await;
}

super::on_both!(
    receipts_move_a_message_up_once,
    any_order_ends_alike,
    what_did_not_arrive_goes_on_to_the_next_channel,
    a_paid_fallback_needs_our_token,
    a_receipt_settles_what_was_unknown,
    a_receipt_calls_off_the_resend,
    an_unknown_attempt_that_did_not_arrive_falls_back,
    ends_are_corrected_upwards_only,
    what_three_crashes_set_aside_was_sent_after_all,
    an_early_receipt_waits_for_the_outcome,
    an_early_receipt_survives_the_crash_of_its_attempt,
    a_receipt_of_what_is_damaged_is_kept_and_holds_up_no_other,
    strangers_receipts_have_no_effect,
    receipts_that_race_end_alike,
    an_escalation_goes_on_when_what_it_follows_arrives,
);
