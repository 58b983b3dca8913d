//! The exchange cut at every byte, and what the answers of every kind are taken for.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use hyper::{HeaderMap, header::HeaderValue};
use proptest::prelude::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

use super::{
    ANSWER_BYTES_MAX, Answer, Broken, Endpoint, EndpointOptions, Exchange, Request, Written,
    classify::{Reading, Refusal, Words, class_of, clean, outcome, retry_after_seconds},
    exchange::{exchange, exchange_until},
    form,
};
use crate::domain::delivery::{
    ErrorClass::{self, Misconfigured, NotSent, Permanent, Temporary, Unknown},
    Outcome,
};

fn request() -> Request {
    Request::post("/messages?x=1", "application/x-www-form-urlencoded", "To=%2B33612345678&Body=Bonjour")
}

fn at() -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000, 0).unwrap()
}

/// A provider that takes `{"id": …}` for a yes and `{"error": …}` for a no.
#[derive(Debug)]
struct Plain;

impl Words for Plain {
    fn success(&self, answer: &Answer) -> Reading {
        let Ok(body) = serde_json::from_slice::<serde_json::Value>(&answer.body) else {
            return Reading::Unreadable("not JSON".into());
        };
        match body["id"].as_str() {
            Some(id) => Reading::Accepted { provider_message_id: Some(id.into()), cost: None },
            None => Reading::Unreadable("no id".into()),
        }
    }

    fn refusal(&self, answer: &Answer) -> Refusal {
        let body: serde_json::Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let class = match body["error"].as_str() {
            Some("later") => Some(Temporary),
            Some("never") => Some(Permanent),
            Some("lie") => Some(NotSent),
            _ => None,
        };
        Refusal { class, detail: body["error"].as_str().unwrap_or_default().into(), ..Refusal::default() }
    }
}

fn class(outcome: &Outcome) -> Option<ErrorClass> {
    match outcome {
        Outcome::Accepted { .. } => None,
        Outcome::Failed { error, .. } => Some(error.class),
    }
}

/// What a server heard that reads `hear` bytes (all, if none), says `say` and goes; and what was made of it.
async fn served(hear: Option<usize>, say: Vec<u8>, room: usize) -> (Vec<u8>, Exchange) {
    let (ours, mut theirs) = duplex(room);
    let server = async move {
        let mut heard = Vec::new();
        let mut byte = [0];
        while hear.is_none_or(|most| heard.len() < most) && !heard.ends_with(b"Body=Bonjour") {
            if theirs.read(&mut byte).await.unwrap() == 0 {
                break;
            }
            heard.push(byte[0]);
        }
        let _ = theirs.write_all(&say).await;
        heard
    };
    let authority = HeaderValue::from_static("api.example.org");
    let (heard, exchange) = tokio::join!(server, exchange(ours, request(), authority, 5));
    (heard, exchange)
}

const YES: &[u8] =
    b"HTTP/1.1 201 Created\r\nContent-Type: application/json\r\nContent-Length: 12\r\n\r\n{\"id\":\"SM1\"}";

#[tokio::test]
async fn a_request_is_written_as_it_is_meant() {
    let (heard, exchange) = served(None, YES.to_vec(), 1 << 16).await;
    let heard = String::from_utf8(heard).unwrap().to_ascii_lowercase();
    assert!(heard.starts_with("post /messages?x=1 http/1.1\r\nhost: api.example.org\r\n"), "{heard}");
    for line in ["accept-encoding: identity", "connection: close", "content-length: 30"] {
        assert!(heard.contains(&format!("\r\n{line}\r\n")), "{line} in {heard}");
    }
    assert!(heard.ends_with("\r\n\r\nto=%2b33612345678&body=bonjour"), "{heard}");
    assert_eq!(class(&outcome(&exchange, &Plain, at())), None);
}

#[tokio::test]
async fn wherever_the_request_is_cut_what_was_heard_whole_is_never_called_unsent() {
    let (whole, _) = served(None, YES.to_vec(), 1 << 16).await;
    // One byte of room: what the server has not read, we have not written, but for that byte.
    for cut in 0..=whole.len() {
        let (heard, exchange) = served(Some(cut), Vec::new(), 1).await;
        let class = class(&outcome(&exchange, &Plain, at()));
        let allowed: &[_] = match whole.len() - cut {
            0 => &[Unknown],
            // Its last byte may lie in the room between us.
            1 => &[Unknown, NotSent],
            _ => &[NotSent],
        };
        assert!(class.is_some_and(|c| allowed.contains(&c)), "cut after {cut} of {}: {class:?}", whole.len());
        assert_eq!(heard.len(), cut);
    }
}

#[tokio::test]
async fn wherever_the_answer_is_cut_the_outcome_is_unknown() {
    let no = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 17\r\n\r\n{\"error\":\"never\"}".to_vec();
    let chunked =
        b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"id\"\r\n7\r\n:\"SM1\"}\r\n0\r\n\r\n".to_vec();
    for (answer, whole) in [(YES.to_vec(), None), (no, Some(Permanent)), (chunked, None)] {
        for cut in 0..answer.len() {
            let (_, exchange) = served(None, answer[..cut].to_vec(), 1 << 16).await;
            assert_eq!(class(&outcome(&exchange, &Plain, at())), Some(Unknown), "cut after {cut}");
        }
        let (_, exchange) = served(None, answer, 1 << 16).await;
        assert_eq!(class(&outcome(&exchange, &Plain, at())), whole);
    }
}

#[tokio::test]
async fn what_is_no_answer_or_too_much_of_one_is_unknown() {
    let long = |bytes: usize| {
        let mut answer = format!("HTTP/1.1 200 OK\r\nContent-Length: {bytes}\r\n\r\n").into_bytes();
        answer.extend(std::iter::repeat_n(b' ', bytes));
        answer
    };
    let endless_head: Vec<u8> =
        b"HTTP/1.1 200 OK\r\n".iter().copied().chain(b"X-Y: z\r\n".repeat(20_000)).collect();
    let cases: Vec<(&str, Vec<u8>)> = vec![
        ("nothing", b"".to_vec()),
        ("another protocol", b"220 mail.example.org ESMTP\r\n".to_vec()),
        ("binary", vec![0, 255, 1, 254]),
        ("no head's end", b"HTTP/1.1 200 OK\r\nX: ".to_vec()),
        ("endless head", endless_head),
        ("too long", long(ANSWER_BYTES_MAX + 1)),
        ("as long as may be, and empty of sense", long(ANSWER_BYTES_MAX)),
        ("HTML", b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\n<html>".to_vec()),
        ("empty", b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n".to_vec()),
        ("wrong type", b"HTTP/1.1 200 OK\r\nContent-Length: 8\r\n\r\n{\"id\":7}".to_vec()),
        ("not UTF-8", b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n{\"id\":\"\xff\"}".to_vec()),
        (
            "compressed",
            b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 4\r\n\r\n\x1f\x8b\x08\x00"
                .to_vec(),
        ),
        (
            "switched",
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n".to_vec(),
        ),
    ];
    for (name, answer) in cases {
        let (_, exchange) = served(None, answer, 1 << 20).await;
        assert_eq!(class(&outcome(&exchange, &Plain, at())), Some(Unknown), "{name}");
    }
}

#[tokio::test]
async fn an_answer_that_never_ends_ends_at_the_deadline() {
    let (ours, mut theirs) = duplex(1 << 16);
    let authority = HeaderValue::from_static("api.example.org");
    let server = tokio::spawn(async move {
        let mut heard = [0; 16];
        theirs.read_exact(&mut heard).await.unwrap();
        theirs.write_all(&YES[..YES.len() - 1]).await.unwrap();
        // Stays until it is left.
        let _ = theirs.read_to_end(&mut Vec::new()).await;
    });
    let exchange = exchange(ours, request(), authority, 1).await;
    server.await.unwrap();
    assert!(
        matches!(&exchange, Exchange::Broken(Broken { written: Written::Wholly, why }) if why.contains("1 s")),
        "{exchange:?}"
    );
}

/// F37, by a clock that the server moves, a second with each byte: what ends it is how long it takes as a whole.
#[tokio::test]
async fn neither_a_dripping_head_nor_a_dripping_body_puts_the_deadline_off() {
    const SECONDS: usize = 30;
    let head = b"HTTP/1.1 200 OK\r\nX-Padding: ".as_slice();
    let body = b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n".as_slice();
    for beginning in [head, body] {
        // One byte of room: what was written was read, but for one.
        let (ours, mut theirs) = duplex(1);
        let (late, over) = tokio::sync::oneshot::channel();
        let server = async move {
            let mut heard = Vec::new();
            while !heard.ends_with(b"Body=Bonjour") {
                heard.push(theirs.read_u8().await.unwrap());
            }
            theirs.write_all(beginning).await.unwrap();
            let (mut clock, mut late) = (0, Some(late));
            while theirs.write_u8(b'x').await.is_ok() {
                clock += 1;
                if clock == SECONDS
                    && let Some(late) = late.take()
                {
                    late.send(()).unwrap();
                }
                tokio::task::yield_now().await;
            }
            clock
        };
        let authority = HeaderValue::from_static("api.example.org");
        let over = async move { over.await.unwrap_or_default() };
        let talking = exchange_until(ours, request(), authority, over, "too late".into());
        let (clock, exchange) = tokio::join!(server, talking);
        assert!((SECONDS..=SECONDS + 1).contains(&clock), "{clock} s");
        let Exchange::Broken(broken) = &exchange else { panic!("{exchange:?}") };
        assert_eq!((broken.written, broken.why.as_str()), (Written::Wholly, "too late"));
        assert_eq!(class(&outcome(&exchange, &Plain, at())), Some(Unknown));
    }
}

fn answer(status: u16, retry_after: Option<&str>, body: &'static str) -> Exchange {
    let mut headers = HeaderMap::new();
    if let Some(value) = retry_after {
        headers.insert("retry-after", HeaderValue::from_str(value).unwrap());
    }
    Exchange::Answered(Answer { status, headers, body: Bytes::from_static(body.as_bytes()) })
}

#[test]
fn statuses_are_classified_as_the_table_says() {
    for (status, expected) in [
        (200, None),
        (299, None),
        (300, Some(Misconfigured)),
        (301, Some(Misconfigured)),
        (307, Some(Misconfigured)),
        (400, Some(Permanent)),
        (401, Some(Misconfigured)),
        (403, Some(Misconfigured)),
        (404, Some(Permanent)),
        (408, Some(Unknown)),
        (409, Some(Permanent)),
        (425, Some(Temporary)),
        (429, Some(Temporary)),
        (499, Some(Permanent)),
        (500, Some(Unknown)),
        (502, Some(Unknown)),
        (503, Some(Unknown)),
        (599, Some(Unknown)),
        (100, Some(Unknown)),
        (600, Some(Unknown)),
        (999, Some(Unknown)),
    ] {
        assert_eq!(class_of(status), expected, "{status}");
    }
}

#[test]
fn words_sharpen_a_refusal_and_nothing_else() {
    for (status, body, expected) in [
        (400, r#"{"error":"later"}"#, Temporary),
        (429, r#"{"error":"never"}"#, Permanent),
        (403, r#"{"error":"never"}"#, Permanent),
        (400, r#"{"error":"lie"}"#, Permanent),
        (503, r#"{"error":"never"}"#, Unknown),
        (408, r#"{"error":"never"}"#, Unknown),
        (400, "<html>", Permanent),
    ] {
        assert_eq!(
            class(&outcome(&answer(status, None, body), &Plain, at())),
            Some(expected),
            "{status} {body}"
        );
    }
}

#[test]
fn retry_after_is_read_in_both_forms() {
    for (text, expected) in [
        ("0", Some(0)),
        ("1", Some(1)),
        ("1000000000", Some(1_000_000_000)),
        ("99999999999", Some(u32::MAX)),
        ("-1", None),
        ("soon", None),
        ("", None),
        ("1.5", None),
        ("+3", None),
        ("Fri, 15 Jan 2027 08:01:00 GMT", Some(60)),
        ("Fri, 15 Jan 2027 07:00:00 GMT", Some(0)),
        ("Sun, 06 Nov 1994 08:49:37 GMT", Some(0)),
        ("Fri, 99 Jan 2027 08:01:00 GMT", None),
    ] {
        let Exchange::Answered(read) = answer(429, Some(text), "") else { panic!() };
        assert_eq!(retry_after_seconds(&read, at()), expected, "{text}");
    }
    let Outcome::Failed { retry_after_seconds, .. } = outcome(&answer(429, Some("7"), ""), &Plain, at())
    else {
        panic!("a 429 is no success")
    };
    assert_eq!(retry_after_seconds, Some(7));
}

#[test]
fn a_providers_words_are_kept_without_numbers_and_escapes() {
    assert_eq!(
        clean("The 'To' number +15005550001 is\u{1b}[31m bad\r\n"),
        "The 'To' number +…01 is [31m bad"
    );
    assert_eq!(clean("code 21211 of 2027"), "code 21211 of 2027");
    assert_eq!(clean(&"é".repeat(900)).chars().count(), 500);
}

#[test]
fn an_endpoint_that_could_give_something_away_is_refused_in_words() {
    let made = |url: &str| Endpoint::new(url, EndpointOptions::default()).err().unwrap_or_default();
    for good in [
        "https://api.twilio.com",
        "https://[2606:4700::1111]:8443/x/",
        "http://localhost:80",
        "http://127.0.0.1:1",
    ] {
        assert_eq!(made(good), "", "{good}");
    }
    for (bad, words) in [
        ("http://api.twilio.com", "allow_plaintext"),
        ("http://10.0.0.1", "allow_plaintext"),
        ("https://user:pass@api.twilio.com", "no user"),
        ("https://api.twilio.com/?a=b", "no user"),
        ("https://api.twilio.com/#a", "no user"),
        ("ftp://api.twilio.com", "https://"),
        ("api.twilio.com", "https://"),
        ("https://", "not a URL"),
        ("/x", "no host"),
    ] {
        assert!(made(bad).contains(words), "{bad}: {}", made(bad));
    }
}

proptest! {
    #[test]
    fn whatever_a_provider_says_is_read_without_harm(
        status in 100_u16..1000,
        body in proptest::collection::vec(any::<u8>(), 0..300),
        retry_after in "[ -~]{0,40}",
    ) {
        let mut headers = HeaderMap::new();
        headers.insert("retry-after", HeaderValue::from_str(&retry_after).unwrap());
        let exchange = Exchange::Answered(Answer { status, headers, body: Bytes::from(body) });
        let class = class(&outcome(&exchange, &Plain, at()));
        // Nothing but a message that reads back is a yes, and a server's failure is never a no.
        prop_assert_ne!(class, None);
        prop_assert_ne!(class, Some(NotSent));
        if !(200..500).contains(&status) || status == 408 {
            prop_assert_eq!(class, Some(Unknown));
        }
    }

    #[test]
    fn a_cleaned_text_is_short_and_holds_no_number(text in "[0-9a-z+ \n\u{1b}é]{0,700}") {
        let cleaned = clean(&text);
        prop_assert!(cleaned.chars().count() <= 500);
        prop_assert!(!cleaned.chars().any(char::is_control));
        let longest = cleaned.split(|c: char| !c.is_ascii_digit()).map(str::len).max();
        prop_assert!(longest.unwrap_or_default() < 7, "{cleaned}");
    }

    #[test]
    fn any_form_reads_back_or_is_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
        if let Some(pairs) = form::decode(&bytes) {
            let again = form::encode(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            prop_assert_eq!(form::decode(again.as_bytes()), Some(pairs));
        }
    }
}
