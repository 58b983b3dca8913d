//! Mail that comes back while the worker works: a bounce leads to the next channel and stops the mailbox, a delay is told
//! and changes nothing, a complaint stops the mails; and nothing moves without a token of ours (reliability.md T16).

use std::sync::Arc;

use channel_orchestrator::{
    bell::Bell,
    channels::{Driver, Drivers, returned},
    delivery::{
        receipts::Receiver,
        returns::{Returned, What},
    },
    domain::{
        address::Address,
        channel::Channel,
        delivery::{ErrorClass, MessageRecord, NewMessage, Status},
        ids::AttemptId,
    },
    store::{StoreError, SuppressionKey, Suppressions},
    tracking::TokenKey,
};

use super::{
    Desk,
    scripted::{Do, Scripted},
};
use crate::{
    drivers::returned::recorded,
    store::fixture::{at, message, tenant},
};

fn key() -> TokenKey {
    TokenKey::new(&[9; 32])
}

fn receiver(desk: &Desk, driver: Arc<dyn Driver>) -> Receiver {
    Receiver {
        store: desk.store.clone(),
        drivers: Drivers::new([driver]),
        clock: desk.clock.clone(),
        bell: Arc::new(Bell::default()),
    }
}

/// Email first, then SMS.
fn by_mail() -> NewMessage {
    let mut message = super::plain(message());
    message.plan.as_mut().unwrap().hops.reverse();
    message
}

/// A desk whose one message went by email, and the receiver that hears of it.
async fn mailed(first: Do) -> (Desk, Arc<Scripted>, Receiver, NewMessage, AttemptId) {
    let driver = Scripted::new("relay", [first]);
    let desk = Desk::new(driver.clone()).await;
    let receiver = receiver(&desk, driver.clone());
    let new = by_mail();
    desk.accept(&new).await;
    desk.worker.run_once().await.unwrap();
    let attempt = desk.record(&new).await.attempts[0].id;
    (desk, driver, receiver, new, attempt)
}

async fn comes_back(receiver: &Receiver, name: &str, token: &str) -> Returned {
    let mail = returned::read(recorded(name, token).as_bytes(), None);
    receiver.mail_returned(mail, &key()).await.unwrap()
}

fn told(record: &MessageRecord, event: &str) -> Vec<String> {
    let events = record.timeline.iter().filter(|told| told.event == event);
    events.map(|told| told.detail.clone().unwrap_or_default()).collect()
}

/// The reasons for which nothing is mailed to them.
async fn refusals(desk: &Desk) -> Vec<String> {
    let key = SuppressionKey {
        address: Address::Email("zoe@example.fr".into()),
        channel: Channel::Email,
        sender: None,
        tenant: Some(tenant()),
    };
    desk.store.refusals_of(&key).await.unwrap().into_iter().map(|refusal| refusal.reason).collect()
}

#[tokio::test]
async fn a_bounce_leads_to_the_next_channel_and_stops_the_mailbox() {
    let (desk, driver, receiver, new, attempt) = mailed(Do::Accept).await;
    let kept = Returned::Kept { what: What::Bounced, message: new.id };
    for _ in 0..3 {
        assert_eq!(comes_back(&receiver, "postfix_no_mailbox", &key().returned(attempt)).await, kept);
    }
    desk.worker.run_once().await.unwrap();
    assert_eq!(driver.sent(), [(Channel::Email, 1), (Channel::Sms, 2)], "once, however often it came back");
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.sent_via), (Status::Sent, Some(Channel::Sms)));
    assert_eq!(told(&record, "undelivered"), ["email: 5.1.1: mailbox unknown"]);
    let refused = refusals(&desk).await;
    assert_eq!(refused, ["hard bounce on 2025-11-15 (5.1.1): no such mailbox"]);
    // The next mail to them is not even tried.
    let mut second = by_mail();
    second.plan.as_mut().unwrap().hops.truncate(1);
    desk.accept(&second).await;
    desk.worker.run_once().await.unwrap();
    let record = desk.record(&second).await;
    assert_eq!((record.status, record.attempts.len()), (Status::Skipped, 0));
    assert_eq!(record.status_reason.as_deref(), Some(refused[0].as_str()));
    desk.end().await;
}

#[tokio::test]
async fn a_bounce_that_is_not_of_the_mailbox_stops_nothing_else() {
    for name in ["postfix_failed", "postfix_gave_up", "exchange_full"] {
        let (desk, driver, receiver, new, attempt) = mailed(Do::Accept).await;
        comes_back(&receiver, name, &key().returned(attempt)).await;
        desk.worker.run_once().await.unwrap();
        assert_eq!(driver.sent(), [(Channel::Email, 1), (Channel::Sms, 2)], "{name}");
        assert_eq!(refusals(&desk).await, [""; 0], "{name}");
        assert_eq!(desk.record(&new).await.status, Status::Sent, "{name}");
        desk.end().await;
    }
}

/// After the deadline, and where there is no other channel, a bounce is the end.
#[tokio::test]
async fn a_bounce_that_comes_too_late_ends_as_failed() {
    let (desk, driver, receiver, new, attempt) = mailed(Do::Accept).await;
    desk.clock.set(at(5 * 86_400));
    comes_back(&receiver, "postfix_gave_up", &key().returned(attempt)).await;
    desk.worker.run_once().await.unwrap();
    let record = desk.record(&new).await;
    assert_eq!((record.status, driver.sent().len()), (Status::Failed, 1));
    assert_eq!(record.status_reason.as_deref(), Some("4.3.0: 450 4.3.0 Error: command failed"));
    desk.end().await;
}

#[tokio::test]
async fn a_delay_is_told_and_settles_what_was_unknown() {
    let (desk, driver, receiver, new, attempt) = mailed(Do::Accept).await;
    let kept = Returned::Kept { what: What::Delayed, message: new.id };
    for _ in 0..2 {
        assert_eq!(comes_back(&receiver, "postfix_delayed", &key().returned(attempt)).await, kept);
    }
    let record = desk.record(&new).await;
    assert_eq!(record.status, Status::Sent);
    assert_eq!(told(&record, "delayed"), ["email: 4.3.0: 450 4.3.0 Error: command failed"]);
    assert_eq!(driver.sent().len(), 1);
    desk.end().await;

    // Whoever says that it goes on trying has the mail: it is not sent a second time.
    let (desk, driver, receiver, new, attempt) = mailed(Do::Late(ErrorClass::Unknown)).await;
    assert_eq!(desk.record(&new).await.status, Status::Unknown);
    comes_back(&receiver, "postfix_delayed", &key().returned(attempt)).await;
    assert_eq!(desk.work_to_the_end(&new).await, [0]);
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.possible_duplicate, driver.sent().len()), (Status::Sent, false, 1));
    desk.end().await;
}

#[tokio::test]
async fn a_complaint_stops_the_mails_and_undoes_nothing() {
    let (desk, driver, receiver, new, attempt) = mailed(Do::Accept).await;
    let kept = Returned::Kept { what: What::Complained, message: new.id };
    for _ in 0..2 {
        assert_eq!(comes_back(&receiver, "complaint", &key().returned(attempt)).await, kept);
    }
    let record = desk.record(&new).await;
    assert_eq!((record.status, driver.sent().len()), (Status::Sent, 1));
    assert_eq!(told(&record, "complained").len(), 1);
    assert_eq!(refusals(&desk).await, ["told their mailbox that it is unwanted on 2025-11-15"]);
    desk.end().await;
}

#[tokio::test]
async fn without_a_token_of_ours_nothing_moves() {
    let (desk, driver, receiver, new, attempt) = mailed(Do::Accept).await;
    let before = desk.record(&new).await;
    let forger = TokenKey::new(&[8; 32]);
    let nobodys = key().returned(AttemptId::new());
    for token in [forger.returned(attempt), "a".repeat(45), String::new(), nobodys] {
        for name in ["postfix_no_mailbox", "postfix_delayed", "complaint"] {
            let answer = comes_back(&receiver, name, &token).await;
            assert!(matches!(answer, Returned::Ignored(_)), "{name} {token}: {answer:?}");
        }
    }
    // And what is no report says nothing, whatever its token.
    for name in ["absence", "read_receipt", "delivered", "not_spam"] {
        let answer = comes_back(&receiver, name, &key().returned(attempt)).await;
        assert!(matches!(answer, Returned::Ignored(_)), "{name}: {answer:?}");
    }
    desk.worker.run_once().await.unwrap();
    let after = desk.record(&new).await;
    assert_eq!((after.status, after.timeline.len()), (before.status, before.timeline.len()));
    assert_eq!((refusals(&desk).await.len(), driver.sent().len()), (0, 1));
    desk.end().await;
}

/// Whoever holds the mail keeps it until it is kept here.
#[tokio::test]
async fn nothing_is_taken_that_is_not_kept() {
    let (desk, _, receiver, _, attempt) = mailed(Do::Accept).await;
    desk.store.close().await;
    let mail = returned::read(recorded("postfix_failed", &key().returned(attempt)).as_bytes(), None);
    let refused = receiver.mail_returned(mail, &key()).await;
    assert!(matches!(refused, Err(StoreError::Unavailable(_))), "{refused:?}");
}
