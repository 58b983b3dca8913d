//! What operators stop, and people who are erased: at once, for good, and with their refusals kept.

use channel_orchestrator::{
    domain::{
        address::{Address, Region},
        channel::Channel,
        delivery::{NewMessage, Next, Status},
        ids::RecipientId,
    },
    store::{
        Acts, By, Erased, Erasures, Intake, Intent, Operate, PauseKind, Queue, Records, Search, SqlStore,
        SuppressionKey, Suppressions,
    },
};

use super::{
    fixture::{Base, accepted, at, begin, claim_one, intent, message, tenant},
    life::{planted, refused, traces},
    on_both,
};

fn by(why: &str) -> By {
    By { who: "zoe".into(), why: why.into() }
}

async fn a_pause_holds_from_its_commit_until_it_ends(base: &Base) {
    let store = base.open().await;
    store.accept(message()).await.unwrap();
    let claimed = claim_one(&store, "w", at(0)).await;
    for (kind, name, words) in [
        (PauseKind::Driver, "sandbox", "sandbox was paused by an operator: maintenance"),
        (PauseKind::Tenant, "agency", "paused by an operator: maintenance"),
    ] {
        assert!(store.pause(kind, name, &by("maintenance"), at(1)).await.unwrap());
        assert!(!store.pause(kind, name, &by("again"), at(2)).await.unwrap(), "the first reason stays");
        let found = store.record_intent(&claimed, intent(&claimed, at(2))).await.unwrap();
        assert_eq!(found, Intent::Paused(words.into()));
    }
    // What waits for it is due at its end, and what waits for something else is not.
    let next = Next::HoldUntil { at: at(302), reason: "paused by an operator: maintenance".into() };
    store.advance(&claimed, &next, at(2)).await.unwrap();
    let other = super::fixture::held(at(303));
    store.accept(other.clone()).await.unwrap();
    assert!(store.resume(PauseKind::Driver, "sandbox", &by("done"), at(10)).await.unwrap());
    assert_eq!(store.next_due().await.unwrap(), Some(at(302)), "the tenant is paused still");
    assert!(store.resume(PauseKind::Tenant, "agency", &by("done"), at(11)).await.unwrap());
    assert!(!store.resume(PauseKind::Tenant, "agency", &by("done"), at(12)).await.unwrap());
    let claimed = claim_one(&store, "w", at(11)).await;
    assert_eq!(claimed.pauses.iter().count(), 0);
    begin(&store, &claimed, at(11)).await;
    assert_eq!(store.next_due().await.unwrap(), Some(at(303)));

    let log = store.acts(None, None, 10).await.unwrap();
    let shown: Vec<(&str, &str)> = log.iter().map(|act| (act.act.as_str(), act.target.as_str())).collect();
    assert_eq!(
        shown,
        [
            ("resume_tenant", "agency"),
            ("resume_driver", "sandbox"),
            ("pause_tenant", "agency"),
            ("pause_driver", "sandbox")
        ]
    );
    assert_eq!((log[0].who.as_str(), log[0].reason.as_str(), log[0].at), ("zoe", "done", at(11)));
    assert_eq!(store.acts(Some(&tenant()), None, 10).await.unwrap().len(), 2, "drivers are no tenant's");
    let older = store.acts(None, Some(log[2].id), 10).await.unwrap();
    assert_eq!(older, log[3..]);
    store.close().await;
}

async fn acts_on_a_message_are_logged_once_they_are_done(base: &Base) {
    use channel_orchestrator::store::{Act, Acted};
    let store = base.open().await;
    let new = message();
    store.accept(new.clone()).await.unwrap();
    let act = async |act| store.act(Some(&tenant()), new.id, act, &by("a test"), at(1)).await.unwrap();
    assert_eq!(act(Act::Release).await, Acted::NotNow(Status::Queued));
    assert_eq!(store.acts(None, None, 10).await.unwrap(), []);
    assert_eq!(act(Act::Cancel).await, Acted::Done);
    let log = store.acts(Some(&tenant()), None, 10).await.unwrap();
    assert_eq!((log[0].act.as_str(), log[0].target.as_str()), ("cancel", new.id.to_string().as_str()));
    store.close().await;
}

fn person() -> RecipientId {
    RecipientId::parse("p-1").unwrap()
}

fn number() -> SuppressionKey {
    SuppressionKey {
        address: Address::Phone("+33612345678".into()),
        channel: Channel::Sms,
        sender: None,
        tenant: Some(tenant()),
    }
}

/// One message in flight, one that was refused, one that waits, and a refusal on record.
async fn peopled(store: &SqlStore) -> [NewMessage; 3] {
    let [flying, ended, waiting] = [planted(), planted(), planted()];
    store.accept(flying.clone()).await.unwrap();
    let claimed = claim_one(store, "w", at(0)).await;
    let attempt = begin(store, &claimed, at(0)).await;
    store.accept(ended.clone()).await.unwrap();
    refused(store).await;
    store.accept(waiting.clone()).await.unwrap();
    store.suppress(&number(), "by telephone", Some("canari said no"), at(3)).await.unwrap();

    store.ask_erasure(&tenant(), &person(), &by("by letter"), at(4)).await.unwrap();
    let region = Region::parse("FR");
    let done = store.erase(&tenant(), &person(), region, at(4)).await.unwrap();
    assert_eq!(done, Erased { cancelled: 1, erased: 2, in_flight: 1 });
    let record = store.message(&tenant(), flying.id).await.unwrap().unwrap();
    assert_eq!(record.request.content.body, "canari", "it may still have to be looked for");
    assert_eq!(store.erasures().await.unwrap(), [(tenant(), person())]);

    store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(5)).await.unwrap();
    let done = store.erase(&tenant(), &person(), region, at(60)).await.unwrap();
    assert_eq!(done, Erased { cancelled: 0, erased: 1, in_flight: 0 });
    assert_eq!(store.erasures().await.unwrap(), []);
    [flying, ended, waiting]
}

async fn whoever_is_erased_leaves_what_became_of_it_and_stays_refused(base: &Base) {
    let store = base.open().await;
    let [flying, ended, waiting] = peopled(&store).await;
    let mut statuses = Vec::new();
    let mut names = Vec::new();
    for new in [&flying, &ended, &waiting] {
        let record = store.message(&tenant(), new.id).await.unwrap().unwrap();
        statuses.push(record.status);
        names.push(record.request.recipient.to_string());
        let shown = format!("{:?} {}", record.attempts, serde_json::to_string(&record.request).unwrap());
        for text in super::life::PLANTED {
            assert!(!shown.contains(text), "{text} in {shown}");
        }
    }
    assert_eq!(statuses, [Status::Sent, Status::Failed, Status::Cancelled]);
    assert!(names[0].starts_with("erased-") && names.iter().all(|name| *name == names[0]), "{names:?}");
    let search = Search { recipient: Some("p-1".into()), limit: 10, ..Search::default() };
    assert!(store.search(&search).await.unwrap().is_empty());
    let log = store.acts(Some(&tenant()), None, 10).await.unwrap();
    assert_eq!((log[0].act.as_str(), log[0].target.as_str()), ("erase", names[0].as_str()));

    let refusals = store.refusals_of(&number()).await.unwrap();
    assert!(refusals[0].address.starts_with('#') && refusals[0].proof.is_none());
    // Imported again, and decided without the store: the intent is refused all the same.
    let mut again = message();
    again.accepted_at = at(100);
    store.accept(again.clone()).await.unwrap();
    let nothing = store.erase(&tenant(), &person(), Region::parse("FR"), at(101)).await.unwrap();
    assert_eq!(nothing, Erased::default(), "the erasure is over");
    let claimed = claim_one(&store, "w", at(101)).await;
    let found = store.record_intent(&claimed, intent(&claimed, at(101))).await.unwrap();
    assert!(matches!(found, Intent::Suppressed(_)), "{found:?}");
    store.close().await;
}

/// Not only out of reach: the file itself holds nothing of the person.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_holds_no_trace_of_whoever_was_erased() {
    let base = Base::sqlite();
    let Base::Sqlite(folder) = &base else { unreachable!() };
    let store = base.open().await;
    peopled(&store).await;
    store.close().await;
    base.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    assert_eq!(traces(folder.path()), Vec::<&str>::new());
    assert_eq!(base.texts("SELECT recipient FROM erasures").await, Vec::<String>::new());
    base.audit().await;
}

on_both!(
    a_pause_holds_from_its_commit_until_it_ends,
    acts_on_a_message_are_logged_once_they_are_done,
    whoever_is_erased_leaves_what_became_of_it_and_stays_refused,
);
