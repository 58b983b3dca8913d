//! What is forgotten and when: words first, the message later, nothing that is still on its way.

use std::path::Path;

use channel_orchestrator::{
    domain::{
        delivery::{AttemptError, ErrorClass, NewMessage, Next, Outcome, Status},
        message::Attachment,
    },
    store::{Intake, Keep, Life, Queue, Records, SqlStore},
};
use chrono::{TimeDelta, Utc};

use super::{
    fixture::{Base, at, begin, claim_one, message, tenant},
    on_both,
};

/// Texts that must not be found once they are forgotten.
pub const PLANTED: &[&str] = &["Zoé", "+33612345678", "06 12 34 56 78", "canari", "planté", "dossier-secret"];

pub fn planted() -> NewMessage {
    let mut message = message();
    message.request.content.body = "canari".into();
    message.request.content.attachments = vec![Attachment {
        file_name: "dossier-secret.pdf".into(),
        content_type: "application/pdf".into(),
        bytes: b"planted".to_vec(),
    }];
    message.request.tags = vec!["planté".into()];
    message
}

pub async fn refused(store: &SqlStore) {
    let claimed = claim_one(store, "w", at(1)).await;
    let attempt = begin(store, &claimed, at(1)).await;
    let outcome = Outcome::Failed {
        error: AttemptError {
            class: ErrorClass::Permanent,
            code: Some("21211".into()),
            detail: "The 'To' number +33612345678 is not a valid phone number".into(),
        },
        retry_after_seconds: None,
    };
    let next = Next::End { status: Status::Failed, reason: "21211: +33612345678".into() };
    store.settle(&claimed, attempt, &outcome, &next, at(2)).await.unwrap();
}

async fn words_are_forgotten_before_messages_and_what_is_on_its_way_is_not(base: &Base) {
    let store = base.open().await;
    let (ended, waiting) = (planted(), planted());
    store.accept(ended.clone()).await.unwrap();
    refused(&store).await;
    store.accept(waiting.clone()).await.unwrap();
    let now = Utc::now() + TimeDelta::days(91);

    let young = store.forget_some(&tenant(), Keep::of_days(now, 92, 400), now).await.unwrap();
    assert_eq!((young.words, young.messages), (0, 0));
    let done = store.forget_some(&tenant(), Keep::of_days(now, 90, 400), now).await.unwrap();
    assert_eq!((done.words, done.messages, done.more), (1, 0, false));
    let never = store.forget_some(&tenant(), Keep::of_days(now, u32::MAX, u32::MAX), now).await.unwrap();
    assert_eq!((never.words, never.messages), (0, 0));
    let again = store.forget_some(&tenant(), Keep::of_days(now, 90, 400), now).await.unwrap();
    assert_eq!(again.words, 0, "once");

    let record = store.message(&tenant(), ended.id).await.unwrap().unwrap();
    assert_eq!((record.status, record.status_reason.as_deref()), (Status::Failed, None));
    let shown = format!("{:?} {:?}", record.attempts, serde_json::to_string(&record.request).unwrap());
    assert!(shown.contains("21211"), "what became of it stays: {shown}");
    for text in PLANTED {
        assert!(!shown.contains(text), "{text} in {shown}");
    }
    let record = store.message(&tenant(), waiting.id).await.unwrap().unwrap();
    assert_eq!(record.request.content.body, "canari", "it is still to be sent");
    claim_one(&store, "w", at(3)).await;
    let later = now + TimeDelta::days(400);
    let done = store.forget_some(&tenant(), Keep::of_days(later, 90, 400), later).await.unwrap();
    assert_eq!(done.messages, 1);
    assert!(store.message(&tenant(), ended.id).await.unwrap().is_none());
    assert!(store.message(&tenant(), waiting.id).await.unwrap().is_some());
    assert_eq!(store.tenants_with_messages().await.unwrap(), [tenant()]);
    store.close().await;
}

async fn many_are_forgotten_in_batches(base: &Base) {
    let store = base.open().await;
    for _ in 0..250 {
        let mut message = planted();
        message.plan = None;
        message.status = Status::Skipped;
        store.accept(message).await.unwrap();
    }
    let now = Utc::now() + TimeDelta::days(91);
    let (mut passes, mut words) = (0, 0);
    loop {
        let done = store.forget_some(&tenant(), Keep::of_days(now, 90, 400), now).await.unwrap();
        (passes, words) = (passes + 1, words + done.words);
        if !done.more {
            break;
        }
    }
    assert_eq!((passes, words), (3, 250));
    store.close().await;
    let left = base.texts("SELECT request FROM bodies WHERE request LIKE '%canari%'").await;
    assert_eq!(left, Vec::<String>::new());
}

/// Not only out of reach: the file itself holds nothing of it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_file_holds_no_trace_of_what_was_forgotten() {
    let base = Base::sqlite();
    let Base::Sqlite(folder) = &base else { unreachable!() };
    let store = base.open().await;
    store.accept(planted()).await.unwrap();
    refused(&store).await;
    assert!(traces(folder.path()).contains(&"canari"), "before, it is there");
    let now = Utc::now() + TimeDelta::days(91);
    store.forget_some(&tenant(), Keep::of_days(now, 90, 400), now).await.unwrap();
    store.close().await;
    // What a daemon that goes on does by itself: the log is folded into the file.
    base.sql("PRAGMA wal_checkpoint(TRUNCATE)").await;
    assert_eq!(traces(folder.path()), Vec::<&str>::new());
}

/// Which of the planted texts the database's files hold.
pub fn traces(folder: &Path) -> Vec<&'static str> {
    let files = std::fs::read_dir(folder.join("state")).unwrap();
    let bytes: Vec<Vec<u8>> = files.map(|file| std::fs::read(file.unwrap().path()).unwrap()).collect();
    let held = |text: &&&str| bytes.iter().any(|b| b.windows(text.len()).any(|w| w == text.as_bytes()));
    PLANTED.iter().filter(held).copied().collect()
}

on_both!(words_are_forgotten_before_messages_and_what_is_on_its_way_is_not, many_are_forgotten_in_batches);
