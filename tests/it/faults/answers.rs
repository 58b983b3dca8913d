//! What a provider's wrong answer leads to, on its ledger (reliability.md F33 to F44): the message is found and adopted,
//! sent once more, or told to be unresolved; never twice beyond that, and never lost.

use std::time::Duration;

use channel_orchestrator::domain::{
    delivery::{AttemptStatus, Status},
    message::MessageClass,
};

use super::desk::{Desk, only};
use crate::{
    store::fixture::at,
    support::provider::{Act, Says},
};

fn kept(says: Says) -> Act {
    Act { keeps: true, says }
}

fn answer(status: u16, body: &str) -> Says {
    Says::Answer { status, headers: Vec::new(), body: body.to_owned() }
}

#[tokio::test]
async fn whatever_is_answered_to_a_message_that_was_kept_it_is_found_and_adopted() {
    let faults: Vec<(&str, Says)> = vec![
        ("500", answer(500, "{}")),
        ("502", answer(502, "<html>bad gateway</html>")),
        ("503", answer(503, "")),
        ("504", answer(504, "{}")),
        ("no word", Says::Nothing),
        ("half a status line", Says::Part(9)),
        ("a head without its body", Says::Part(45)),
        ("no HTTP", Says::Bytes(b"\x00\xff\x16\x03garbage\r\n\r\n")),
        ("another protocol", Says::Bytes(b"220 mail.example ESMTP\r\n")),
        ("HTML", answer(200, "<html>ok</html>")),
        ("nothing at all", answer(200, "")),
        ("half an object", answer(201, r#"{"sid":"SM000"#)),
        ("no sid", answer(201, r#"{"status":"queued"}"#)),
        ("a sid of another type", answer(201, r#"{"sid":7}"#)),
        ("a sid that is none", answer(201, r#"{"sid":"../../etc/passwd"}"#)),
        ("too late", Says::YesAfter(Duration::from_secs(4))),
    ];
    for (name, says) in faults {
        let desk = Desk::sms(move |n| if n == 0 { kept(says.clone()) } else { Act::ACCEPT }).await;
        let message = only(false);
        desk.accept(&message).await;
        let record = desk.to_the_end(&message).await;
        let told: Vec<AttemptStatus> = record.attempts.iter().map(|attempt| attempt.status).collect();
        assert_eq!((record.status, told), (Status::Sent, vec![AttemptStatus::Accepted]), "{name}");
        assert_eq!(desk.ledger.entries().len(), 1, "{name}: on the ledger");
        assert_eq!(desk.tried(), [0], "{name}: asked to send");
        desk.end().await;
    }
}

#[tokio::test]
async fn what_was_lost_with_its_answer_is_sent_once_more_and_marketing_is_not() {
    for (class, status, times) in
        [(MessageClass::Transactional, Status::Sent, 1), (MessageClass::Marketing, Status::Unresolved, 0)]
    {
        let desk =
            Desk::sms(|n| Act { keeps: n > 0, says: if n > 0 { Says::Yes } else { Says::Nothing } }).await;
        let mut message = only(false);
        message.plan.as_mut().unwrap().class = class;
        desk.accept(&message).await;
        let record = desk.to_the_end(&message).await;
        assert_eq!((record.status, desk.ledger.entries().len()), (status, times), "{class:?}");
        // Not before the provider's list was asked for the third time.
        let expected = if times > 0 { vec![0, 300] } else { vec![0] };
        assert_eq!(desk.tried(), expected, "{class:?}");
        desk.end().await;
    }
}

#[tokio::test]
async fn a_name_that_another_message_has_is_not_believed() {
    // The second message's answer names the first one.
    let named = r#"{"sid":"SM00000000000000000000000000000000","status":"queued"}"#;
    let desk = Desk::sms(move |n| if n == 1 { kept(answer(201, named)) } else { Act::ACCEPT }).await;
    let (first, mut second) = (only(false), only(false));
    second.request.content.body = "Un autre rendez-vous".into();
    desk.accept(&first).await;
    let first = desk.to_the_end(&first).await;
    desk.accept(&second).await;
    let second = desk.to_the_end(&second).await;
    assert_eq!((first.status, second.status), (Status::Sent, Status::Sent));
    let name = |n: usize| Some(format!("SM{n:032x}"));
    assert_eq!(first.attempts[0].provider_message_id, name(0));
    assert_eq!(second.attempts[0].provider_message_id, name(1), "looked up in the list");
    assert_eq!(desk.ledger.entries().len(), 2);
    desk.end().await;
}

#[tokio::test]
async fn a_redirect_is_not_followed() {
    let elsewhere = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    elsewhere.set_nonblocking(true).unwrap();
    let target = format!("http://{}/metadata", elsewhere.local_addr().unwrap());
    let desk = Desk::sms(move |_| {
        let headers = vec![("Location", target.clone())];
        Act { keeps: false, says: Says::Answer { status: 307, headers, body: String::new() } }
    })
    .await;
    let mut message = only(false);
    message.plan.as_mut().unwrap().deadline = at(600);
    desk.accept(&message).await;
    let record = desk.to_the_end(&message).await;
    assert_eq!(record.status, Status::Failed);
    assert!(!desk.tried().is_empty());
    assert!(elsewhere.accept().is_err(), "somebody came");
    desk.end().await;
}

#[tokio::test]
async fn wrong_credentials_cost_no_attempt_and_the_message_goes_when_they_are_mended() {
    let refused = || Act { keeps: false, says: answer(401, r#"{"code":20003}"#) };
    let desk = Desk::sms(move |n| if n < 6 { refused() } else { Act::ACCEPT }).await;
    let message = only(false);
    desk.accept(&message).await;
    let record = desk.to_the_end(&message).await;
    // More than the four that it has: none of them counted.
    assert_eq!((record.status, record.attempts.len(), desk.tried().len()), (Status::Sent, 7, 7));
    assert_eq!(desk.ledger.entries().len(), 1);
    desk.end().await;
}

#[tokio::test]
async fn who_opted_out_at_the_provider_is_never_written_to_again() {
    let refused = Act { keeps: false, says: answer(400, r#"{"code":21610}"#) };
    let desk = Desk::sms(move |n| if n == 0 { refused.clone() } else { Act::ACCEPT }).await;
    let (first, second) = (only(false), only(false));
    for message in [&first, &second] {
        desk.accept(message).await;
        let record = desk.to_the_end(message).await;
        assert_ne!(record.status, Status::Sent);
    }
    assert_eq!(desk.tried(), [0], "the second message is stopped here");
    assert_eq!(desk.ledger.entries().len(), 0);
    desk.end().await;
}
