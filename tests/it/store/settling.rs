//! What is written about attempts after the fact, and what an intent may not pass: on both databases.

use std::sync::Arc;

use channel_orchestrator::{
    domain::{
        channel::Channel,
        delivery::{AttemptError, AttemptStatus, ErrorClass, Next, Outcome, PlannedEscalation, Status},
        message::MessageKind,
        money::MicroEuros,
    },
    store::{
        Act, Acted, Acts, By, Claimed, Due, Intake, Intent, IntentLimits, IntentRecord, PersonCap, Queue,
        Records, Settled, SqlStore,
    },
};
use tokio::task::JoinSet;

use super::fixture::{Base, SMS_COST, at, begin, claim_one, intent, message, tenant};

fn by() -> By {
    By { who: "zoe".into(), why: "asked".into() }
}

fn lost() -> Outcome {
    Outcome::failed(ErrorClass::Unknown, "the answer was cut off")
}

fn accepted_as(name: &str) -> Outcome {
    Outcome::Accepted { provider_message_id: Some(name.into()), cost: None }
}

fn settle_at(seconds: i64) -> Next {
    Next::SettleAt { at: at(seconds), reason: "cut off".into() }
}

async fn record(
    store: &SqlStore,
    claimed: &Claimed,
) -> channel_orchestrator::domain::delivery::MessageRecord {
    store.message(&tenant(), claimed.id).await.unwrap().unwrap()
}

/// A message whose first attempt ended unknown, claimed again to be asked for.
async fn asked_for(store: &SqlStore) -> Claimed {
    store.accept(message()).await.unwrap();
    let claimed = claim_one(store, "w", at(0)).await;
    let attempt = begin(store, &claimed, at(0)).await;
    store.settle(&claimed, attempt, &lost(), &settle_at(15), at(1)).await.unwrap();
    claim_one(store, "w", at(15)).await
}

async fn look_ups_are_counted_and_a_find_is_adopted(base: &Base) {
    let store = base.open().await;
    let claimed = asked_for(&store).await;
    assert_eq!((claimed.due, claimed.polls, claimed.attempts), (Due::Settle, 0, 1));
    store.advance(&claimed, &settle_at(60), at(16)).await.unwrap();
    let claimed = claim_one(&store, "w", at(60)).await;
    assert_eq!(claimed.polls, 1);
    // A crash in the middle of a look-up loses nothing and counts nothing.
    store.recover(Some("w"), at(61), at(76)).await.unwrap();
    let claimed = claim_one(&store, "w", at(61)).await;
    assert_eq!((claimed.due, claimed.polls), (Due::Settle, 1));
    let attempt = claimed.last_attempt.as_ref().unwrap().id;
    let done = store.settle(&claimed, attempt, &accepted_as("SM9"), &Next::Sent, at(62)).await.unwrap();
    assert_eq!(done, Settled::Done);
    let kept = record(&store, &claimed).await;
    assert_eq!((kept.status, kept.sent_via), (Status::Sent, Some(Channel::Sms)));
    assert_eq!(kept.attempts[0].provider_message_id.as_deref(), Some("SM9"));
    store.close().await;
}

/// Evidence that came while the provider was asked wins: nothing is resent, and whoever looks next sees it.
async fn a_resend_is_never_written_over_evidence(base: &Base) {
    let store = base.open().await;
    let claimed = asked_for(&store).await;
    let attempt = claimed.last_attempt.as_ref().unwrap().id;
    let sql = format!("UPDATE attempts SET status = 'accepted' WHERE id = '{attempt}'");
    base.sql(&sql).await;
    for next in [
        Next::ResendAt { at: at(300), reason: "not found".into() },
        Next::End { status: Status::Unresolved, reason: "not found".into() },
    ] {
        let due = claim_or(&store, &claimed).await;
        store.advance(&due, &next, at(301)).await.unwrap();
        let kept = record(&store, &claimed).await;
        assert_eq!((kept.status, kept.possible_duplicate), (Status::Unknown, false), "{next:?}");
    }
    let claimed = claim_one(&store, "w", at(302)).await;
    assert_eq!(claimed.last_attempt.as_ref().unwrap().status, AttemptStatus::Accepted);
    store.advance(&claimed, &Next::Sent, at(302)).await.unwrap();
    assert_eq!(record(&store, &claimed).await.status, Status::Sent);
    store.close().await;
}

/// The claim in hand, or the next one where that was given back.
async fn claim_or(store: &SqlStore, claimed: &Claimed) -> Claimed {
    store.claim("w", at(301), 60, 1).await.unwrap().pop().unwrap_or_else(|| claimed.clone())
}

fn named(claimed: &Claimed) -> IntentRecord {
    IntentRecord { credential: "main".into(), ..intent(claimed, at(1)) }
}

/// F39: of two attempts that are told the same id, one has it.
async fn a_providers_id_belongs_to_one_attempt(base: &Base) {
    let store = base.open().await;
    let mut owners = Vec::new();
    for seconds in 0..2 {
        store.accept(message()).await.unwrap();
        let claimed = claim_one(&store, "w", at(seconds)).await;
        let Intent::Recorded(open) = store.record_intent(&claimed, named(&claimed)).await.unwrap() else {
            panic!()
        };
        let told = store.settle(&claimed, open.id, &accepted_as("SM1"), &Next::Sent, at(2)).await.unwrap();
        owners.push((claimed, open.id, told));
    }
    assert_eq!([owners[0].2, owners[1].2], [Settled::Done, Settled::IdTaken]);
    // Nothing was written: the attempt is open as before, and its outcome can still be told.
    let (claimed, attempt, _) = &owners[1];
    assert_eq!(record(&store, claimed).await.attempts[0].status, AttemptStatus::Intent);
    store.settle(claimed, *attempt, &lost(), &settle_at(15), at(3)).await.unwrap();
    // The same id told again to its owner is no contradiction.
    store.recover(None, at(900), at(915)).await.unwrap();
    assert_eq!(record(&store, &owners[0].0).await.status, Status::Sent);
    store.close().await;
}

/// I14, with as many writers as there are: sums are read in the transaction that adds to them.
async fn intents_at_once_stay_within_the_budget(base: &Base) {
    let store = base.open().await;
    let second = if base.is_postgres() { base.open().await } else { store.clone() };
    for _ in 0..24 {
        store.accept(message()).await.unwrap();
    }
    let claimed = store.claim("w", at(0), 600, 50).await.unwrap();
    let limits = IntentLimits { daily: Some(MicroEuros(5 * SMS_COST.0)), ..IntentLimits::default() };
    let mut at_once = JoinSet::new();
    for (n, claim) in claimed.into_iter().enumerate() {
        let store: Arc<SqlStore> = if n % 2 == 0 { store.clone() } else { second.clone() };
        let intent = IntentRecord { limits: limits.clone(), ..intent(&claim, at(1)) };
        at_once.spawn(async move { store.record_intent(&claim, intent).await.unwrap() });
    }
    let (mut granted, mut refused) = (0, 0);
    while let Some(done) = at_once.join_next().await {
        match done.unwrap() {
            Intent::Recorded(_) => granted += 1,
            Intent::OverBudget { monthly: false, waits: true, .. } => refused += 1,
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((granted, refused), (5, 19));
    store.close().await;
    if base.is_postgres() {
        second.close().await;
    }
}

async fn each_limit_names_itself(base: &Base) {
    let store = base.open().await;
    for _ in 0..2 {
        store.accept(message()).await.unwrap();
    }
    let claimed = store.claim("w", at(0), 600, 10).await.unwrap();
    begin(&store, &claimed[0], at(1)).await;
    let cap = |kind, since, most| PersonCap { kind, since: at(since), most, words: "a cap".into() };
    let none = IntentLimits::default;
    let short = Some(MicroEuros(99_999));
    for (limits, refused) in [
        (
            IntentLimits { message_max: Some(MicroEuros(49_999)), ..none() },
            "TooDear(\"0.05 EUR, limit 0.049999\")",
        ),
        (IntentLimits { monthly: short, ..none() }, "monthly budget used up"),
        (IntentLimits { channel_daily: short, ..none() }, "daily cap of the channel used up"),
        (IntentLimits { origin_daily: short, ..none() }, "daily budget of api used up"),
        (IntentLimits { origin_monthly: short, ..none() }, "monthly budget of api used up"),
        (IntentLimits { caps: vec![cap(None, 0, 1)], ..none() }, "TooOften"),
        (IntentLimits { caps: vec![cap(Some(MessageKind::Notification), 0, 1)], ..none() }, "TooOften"),
    ] {
        if limits.caps.iter().any(|cap| cap.kind.is_some()) && !has_kinds(base).await {
            continue;
        }
        let record = IntentRecord { limits, ..intent(&claimed[1], at(2)) };
        let said = format!("{:?}", store.record_intent(&claimed[1], record).await.unwrap());
        assert!(said.contains(refused), "{said}");
    }
    let caps = vec![cap(None, 1, 1), cap(None, 0, 2)];
    let limits = IntentLimits { daily: Some(MicroEuros(100_000)), caps, ..none() };
    let record = IntentRecord { limits, ..intent(&claimed[1], at(2)) };
    let granted = store.record_intent(&claimed[1], record).await.unwrap();
    assert!(matches!(granted, Intent::Recorded(_)), "{granted:?}");
    store.close().await;
}

/// Whether messages are kept with their kind.
async fn has_kinds(base: &Base) -> bool {
    let columns = match base.is_postgres() {
        true => {
            "SELECT column_name FROM information_schema.columns WHERE table_name = 'messages' \
                 AND table_schema = current_schema()"
        }
        false => "SELECT name FROM pragma_table_info('messages')",
    };
    base.texts(columns).await.iter().any(|column| column == "kind")
}

async fn what_does_not_count_is_bounded_by_nothing_but_time(base: &Base) {
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    let patience = |seconds| Next::WaitUntil { at: at(seconds), reason: "429".into() };
    let busy = Outcome::failed(ErrorClass::Temporary, "429");
    for round in 0..15 {
        let claimed = claim_one(&store, "w", at(round * 10)).await;
        assert_eq!((claimed.attempts, claimed.attempts_on_hop, i64::from(claimed.made)), (0, 0, round));
        let attempt = begin(&store, &claimed, at(round * 10)).await;
        let next = patience(round * 10 + 10);
        store.settle(&claimed, attempt, &busy, &next, at(round * 10 + 1)).await.unwrap();
    }
    // Four that count are four, whatever came before.
    for round in 15..19 {
        let claimed = claim_one(&store, "w", at(round * 10)).await;
        let attempt = begin(&store, &claimed, at(round * 10)).await;
        let next = Next::RetryAt { at: at(round * 10 + 10), reason: "busy".into() };
        store.settle(&claimed, attempt, &busy, &next, at(round * 10 + 1)).await.unwrap();
    }
    let claimed = claim_one(&store, "w", at(190)).await;
    assert_eq!((claimed.attempts, claimed.attempts_on_hop, claimed.made), (4, 4, 19));
    assert_eq!(store.record_intent(&claimed, intent(&claimed, at(190))).await.unwrap(), Intent::Lost);
    store.close().await;
}

/// F44: the provider knows of a refusal that we did not: it is kept together with the outcome.
async fn a_refusal_known_to_the_provider_is_kept_with_the_outcome(base: &Base) {
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let attempt = begin(&store, &claimed, at(0)).await;
    let error = AttemptError {
        class: ErrorClass::Permanent,
        code: Some("21610".into()),
        detail: "unsubscribed".into(),
    };
    let refused = Outcome::Failed { error, retry_after_seconds: None };
    let next = Next::RetryAt { at: at(5), reason: "whatever".into() };
    store.settle(&claimed, attempt, &refused, &next, at(1)).await.unwrap();
    let claimed = claim_one(&store, "w", at(5)).await;
    let again = store.record_intent(&claimed, intent(&claimed, at(5))).await.unwrap();
    assert_eq!(again, Intent::Suppressed("opted out at the provider (21610)".into()));
    store.close().await;
}

async fn an_escalation_waits_is_claimed_and_survives_a_crash(base: &Base) {
    let store = base.open().await;
    let mut new = message();
    let plan = new.plan.as_mut().unwrap();
    plan.hops.truncate(2);
    plan.escalation = Some(PlannedEscalation { hop: 1, after_seconds: 3_600, unless: "opened".into() });
    store.accept(new.clone()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    let attempt = begin(&store, &claimed, at(0)).await;
    store.settle(&claimed, attempt, &accepted_as("SM1"), &Next::Sent, at(1)).await.unwrap();
    assert_eq!(store.next_due().await.unwrap(), Some(at(3_601)));
    for (name, machine) in [("delivered", 0), ("opened", 1)] {
        let sql = format!(
            "INSERT INTO engagement (message_id, name, machine, link, dedup, tenant, recipient, first_at, last_at) \
             VALUES ('{}', '{name}', {machine}, -1, '', 'agency', 'p-1', 0, 0)",
            new.id
        );
        base.sql(&sql).await;
    }
    let claimed = claim_one(&store, "w", at(3_601)).await;
    assert_eq!((claimed.due, &claimed.echoes), (Due::Escalate, &vec!["delivered".to_owned()]));
    assert_eq!(record(&store, &claimed).await.status, Status::Sent);
    store.recover(Some("w"), at(3_602), at(3_617)).await.unwrap();
    let claimed = claim_one(&store, "w", at(3_602)).await;
    assert_eq!(claimed.due, Due::Escalate);
    let next = Next::Escalate { hop: 1, at: at(3_603), reason: "not opened".into() };
    store.advance(&claimed, &next, at(3_603)).await.unwrap();
    let claimed = claim_one(&store, "w", at(3_603)).await;
    assert_eq!((claimed.due, claimed.hop, claimed.escalated), (Due::Send, 1, true));
    let stays = Next::Stays { reason: Some("the escalation was not sent".into()) };
    store.advance(&claimed, &stays, at(3_604)).await.unwrap();
    let kept = record(&store, &claimed).await;
    assert_eq!((kept.status, kept.sent_via, kept.due_at), (Status::Sent, Some(Channel::Sms), None));
    store.close().await;
}

async fn people_settle_what_nobody_could_tell(base: &Base) {
    let store = base.open().await;
    let act = async |id, act| store.act(Some(&tenant()), id, act, &by(), at(400)).await.unwrap();
    for (wanted, then) in
        [(Act::MarkSent, Status::Sent), (Act::MarkFailed, Status::Failed), (Act::Resend, Status::Queued)]
    {
        let claimed = asked_for(&store).await;
        assert_eq!(act(claimed.id, wanted).await, Acted::NotNow(Status::Unknown));
        let end = Next::End { status: Status::Unresolved, reason: "nobody knows".into() };
        store.advance(&claimed, &end, at(300)).await.unwrap();
        assert_eq!(act(claimed.id, Act::Cancel).await, Acted::NotNow(Status::Unresolved));
        assert_eq!(act(claimed.id, wanted).await, Acted::Done);
        let kept = record(&store, &claimed).await;
        assert_eq!(kept.status, then);
        assert_eq!(kept.timeline.last().unwrap().detail.as_deref(), Some("by zoe: asked"));
        assert_eq!(kept.possible_duplicate, wanted == Act::Resend);
        if wanted == Act::Resend {
            assert_eq!(act(claimed.id, Act::Cancel).await, Acted::Done);
        }
    }
    // With no attempt left it can be settled, not sent.
    let claimed = asked_for(&store).await;
    let end = Next::End { status: Status::Unresolved, reason: "nobody knows".into() };
    store.advance(&claimed, &end, at(300)).await.unwrap();
    base.sql(&format!("UPDATE messages SET hop_attempts = 4 WHERE id = '{}'", claimed.id)).await;
    assert_eq!(act(claimed.id, Act::Resend).await, Acted::NoAttemptLeft);
    store.close().await;
}

async fn a_quarantined_message_goes_on_where_it_stood(base: &Base) {
    let store = base.open().await;
    for open in [false, true] {
        store.accept(message()).await.unwrap();
        let claimed = claim_one(&store, "w", at(0)).await;
        if open {
            begin(&store, &claimed, at(0)).await;
        }
        base.sql(&format!("UPDATE messages SET crashes = 3 WHERE id = '{}'", claimed.id)).await;
        store.recover(Some("w"), at(1), at(16)).await.unwrap();
        assert_eq!(record(&store, &claimed).await.status, Status::Quarantined);
        let acted = store.act(None, claimed.id, Act::Release, &by(), at(2)).await.unwrap();
        assert_eq!(acted, Acted::Done);
        let again = claim_one(&store, "w", at(2)).await;
        assert_eq!(again.due, if open { Due::Settle } else { Due::Send });
        let end = Next::End { status: Status::Unresolved, reason: "enough".into() };
        store.advance(&again, &end, at(3)).await.unwrap();
    }
    store.close().await;
}

super::on_both!(
    look_ups_are_counted_and_a_find_is_adopted,
    a_resend_is_never_written_over_evidence,
    a_providers_id_belongs_to_one_attempt,
    intents_at_once_stay_within_the_budget,
    each_limit_names_itself,
    what_does_not_count_is_bounded_by_nothing_but_time,
    a_refusal_known_to_the_provider_is_kept_with_the_outcome,
    an_escalation_waits_is_claimed_and_survives_a_crash,
    people_settle_what_nobody_could_tell,
    a_quarantined_message_goes_on_where_it_stood,
);
