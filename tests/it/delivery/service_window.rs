//! WhatsApp's 24 hours right before an attempt: what a decision counted on may be over by then, and what it left out is
//! looked at where a later hop comes to its turn.

use channel_orchestrator::{
    channels::Drivers,
    domain::{
        address::Address,
        channel::Channel,
        delivery::{ApprovedTemplate, NewMessage, Rendered, Status},
        receipt::InboundMessage,
    },
    store::Contacts,
};

use super::{
    Desk, plain,
    scripted::{Do, Scripted},
};
use crate::store::{
    fixture::{at, message},
    returns::from,
};

const PERSON: &str = "+33612345678";

/// WhatsApp, then email.
fn whatsapp(approved: bool) -> NewMessage {
    let mut new = plain(message());
    let hop = &mut new.plan.as_mut().unwrap().hops[0];
    (hop.channel, hop.address) = (Channel::WhatsApp, Address::Phone(PERSON.into()));
    let template = ApprovedTemplate { name: "hello".into(), language: "fr".into(), parameters: Vec::new() };
    hop.rendered = Some(Rendered {
        subject: None,
        body: "Bonjour".into(),
        html: None,
        approved_template: approved.then_some(template),
    });
    new
}

async fn writes(desk: &Desk, seconds: i64) {
    let said = InboundMessage {
        channel: Channel::WhatsApp,
        provider_message_id: format!("in-{seconds}"),
        from: PERSON.into(),
        to: "+33700000000".into(),
        text: "Bonjour".into(),
        at: None,
        answers: None,
    };
    desk.store.hear(&from(None), &said, at(seconds)).await.unwrap();
}

#[tokio::test]
async fn free_text_that_comes_too_late_goes_by_the_next_channel_and_no_provider_is_asked() {
    for (wrote, approved, expected) in [
        (None, false, Channel::Email),
        (None, true, Channel::WhatsApp),
        (Some(-86_401), false, Channel::Email),
        (Some(-86_000), false, Channel::WhatsApp),
    ] {
        let driver = Scripted::windowed("t");
        let desk = Desk::new(driver.clone()).await;
        if let Some(seconds) = wrote {
            writes(&desk, seconds).await;
        }
        let new = whatsapp(approved);
        desk.accept(&new).await;
        desk.work_at(0).await;
        let record = desk.record(&new).await;
        assert_eq!((record.status, record.sent_via), (Status::Sent, Some(expected)), "{wrote:?} {approved}");
        assert_eq!(driver.sent(), [(expected, 1)], "the closed window is no attempt");
        let told = record.timeline.iter().filter_map(|event| event.detail.as_deref());
        let said = told.filter(|detail| detail.contains("has not written to this sender within 24 hours"));
        assert_eq!(said.count(), usize::from(expected == Channel::Email), "{:?}", record.timeline);
        desk.end().await;
    }
}

#[tokio::test]
async fn a_driver_that_takes_free_text_at_any_time_is_used_before_the_channel_is_given_up() {
    let (strict, free) = (Scripted::windowed("a"), Scripted::new("b", []));
    let mut desk = Desk::new(strict.clone()).await;
    desk.worker.drivers = Drivers::new([strict.clone() as _, free.clone() as _]);
    let new = whatsapp(false);
    desk.accept(&new).await;
    desk.work_at(0).await;
    assert_eq!((strict.sent(), free.sent()), (vec![], vec![(Channel::WhatsApp, 1)]));
    desk.end().await;
}

#[tokio::test]
async fn the_last_channel_ends_as_skipped_and_an_attempt_that_may_have_arrived_is_left_to_a_person() {
    use channel_orchestrator::domain::delivery::ErrorClass;
    let desk = Desk::new(Scripted::windowed("t")).await;
    let mut new = whatsapp(false);
    new.plan.as_mut().unwrap().hops.truncate(1);
    desk.accept(&new).await;
    desk.work_at(0).await;
    let record = desk.record(&new).await;
    assert_eq!((record.status, record.attempts.len()), (Status::Skipped, 0));
    assert!(record.status_reason.unwrap().contains("approved templates only"));
    desk.end().await;

    // Sent while it was open, its outcome unknown; by the time of the resend it is closed.
    let driver = Scripted::windowed("t");
    driver.then([Do::Late(ErrorClass::Unknown)]);
    let desk = Desk::new(driver.clone()).await;
    writes(&desk, -86_390).await;
    let new = whatsapp(false);
    desk.accept(&new).await;
    desk.work_to_the_end(&new).await;
    assert_eq!(desk.record(&new).await.status, Status::Unresolved);
    assert_eq!(driver.sent(), [(Channel::WhatsApp, 1)]);
    desk.end().await;
}
