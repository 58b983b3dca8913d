//! Callbacks: verified over what came and the configured URL, bound to their tenant, and never acknowledged before
//! they are kept.

use std::sync::atomic::Ordering;

use axum::{
    body::Body,
    http::{Request, StatusCode},
};
use channel_orchestrator::{
    domain::ids::{AttemptId, TenantId},
    public::PublicSettings,
};
use proptest::prelude::*;

use super::lobby::{Lobby, Told, URL, path, receipt, signature, signed};

const PATH: &str = "/callbacks/signing/acme";

fn events(attempt: Option<AttemptId>, names: &[&str]) -> Vec<Told> {
    let events = names.iter().map(|name| receipt(name)).collect();
    vec![Told::Events { driver: "signing".into(), tenant: "acme".into(), attempt, events }]
}

fn tenant(name: &str) -> TenantId {
    TenantId::parse(name).unwrap()
}

#[tokio::test]
async fn a_signed_callback_is_handed_on_and_then_acknowledged() {
    let lobby = Lobby::new().await;
    let answer = lobby.call(PATH, "receipts SM1 SM2").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, ""));
    assert_eq!(lobby.receiver.told(), events(None, &["SM1", "SM2"]));
    // With our own token it says which attempt it is about.
    let attempt = AttemptId::new();
    let url = lobby.tracker.status_callback("signing", &tenant("acme"), attempt);
    assert_eq!(lobby.call(path(&url), "receipts SM1").await.status, StatusCode::OK);
    assert_eq!(lobby.receiver.told(), events(Some(attempt), &["SM1"]));
    // Nothing to keep: acknowledged without a word.
    assert_eq!(lobby.call(PATH, "").await.status, StatusCode::OK);
    assert_eq!(lobby.receiver.told(), []);
    let text = lobby.metrics.text(None);
    assert!(text.contains("callbacks_total{driver=\"signing\",result=\"taken\"} 3"), "{text}");
}

/// reliability.md F50.
#[tokio::test]
async fn what_cannot_be_kept_is_never_acknowledged() {
    let lobby = Lobby::new().await;
    lobby.receiver.down.store(true, Ordering::SeqCst);
    let answer = lobby.call(PATH, "receipts SM1").await;
    assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(answer.header("retry-after"), Some("5"));
    lobby.receiver.down.store(false, Ordering::SeqCst);
    assert_eq!(lobby.call(PATH, "receipts SM1").await.status, StatusCode::OK);
    assert_eq!(lobby.receiver.told(), events(None, &["SM1"]));
}

#[tokio::test]
async fn what_is_not_signed_as_it_should_be_is_turned_away_without_a_word() {
    let lobby = Lobby::new().await;
    let body = "receipts SM1";
    let sign = |url: &str| signature("POST", url, body.as_bytes());
    let right = sign(&format!("{URL}{PATH}"));
    let request = |header: Option<&str>, uri: &str, body: &str| {
        let mut request = Request::post(uri);
        if let Some(value) = header {
            request = request.header("x-signature", value);
        }
        request.body(Body::from(body.to_owned())).unwrap()
    };
    // The host that the request names, and what a proxy says of it, count for nothing.
    let mut lying = request(Some(&sign(&format!("https://evil.example{PATH}"))), PATH, body);
    lying.headers_mut().insert("host", "evil.example".parse().unwrap());
    lying.headers_mut().insert("x-forwarded-host", "evil.example".parse().unwrap());
    for (request, why) in [
        (request(None, PATH, body), "unsigned"),
        (request(Some(""), PATH, body), "empty"),
        (request(Some(&right), PATH, "receipts SM2"), "another body"),
        (request(Some(&right), PATH, "receipts SM1 "), "a space more"),
        (request(Some(&right), "/callbacks/signing/globex", body), "another tenant"),
        (request(Some(&right), &format!("{PATH}?x=1"), body), "another query"),
        (request(Some(&right.to_uppercase()), PATH, body), "another spelling"),
        (request(Some(&sign(&format!("http://msg.example.com{PATH}"))), PATH, body), "another scheme"),
        (lying, "another host"),
    ] {
        let answer = lobby.ask(request).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::FORBIDDEN, ""), "{why}");
    }
    let answer = lobby.call(PATH, "nonsense at all").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::BAD_REQUEST, ""));
    assert_eq!(lobby.receiver.told(), []);
}

/// The query is signed as it came, whatever its encoding.
#[tokio::test]
async fn the_address_is_verified_byte_for_byte() {
    let lobby = Lobby::new().await;
    for query in ["x=%20&y=+", "x=a%2Fb", "x=a/b", "q=%C3%A9", "a", "a&b", "x=1&x=2", "%61=1"] {
        let answer = lobby.call(&format!("{PATH}?{query}"), "receipts SM1").await;
        assert_eq!(answer.status, StatusCode::OK, "{query}");
        assert_eq!(lobby.receiver.told().len(), 1);
    }
}

/// reliability.md T15: signed rightly, but about an attempt of somebody else.
#[tokio::test]
async fn a_token_of_another_tenant_purpose_or_making_is_refused() {
    let lobby = Lobby::new().await;
    let attempt = AttemptId::new();
    let foreign = lobby.tracker.status_callback("signing", &tenant("globex"), attempt);
    let foreign = foreign.split_once("?a=").unwrap().1;
    let own = lobby.tracker.status_callback("signing", &tenant("acme"), attempt);
    let own = own.split_once("?a=").unwrap().1;
    let message = channel_orchestrator::domain::ids::MessageId::new();
    let unsubscribe = lobby.tracker.unsubscribe_url(message);
    let unsubscribe = unsubscribe.rsplit('/').next().unwrap();
    for token in [foreign, unsubscribe, "", "x", &own[1..], &format!("{own}&a={own}"), &format!("{own}&a=")] {
        let answer = lobby.call(&format!("{PATH}?a={token}"), "receipts SM1").await;
        assert_eq!((answer.status, answer.text()), (StatusCode::FORBIDDEN, ""), "{token}");
    }
    assert_eq!(lobby.receiver.told(), []);
    let answer = lobby.call(&format!("{PATH}?x=1&a={own}&y=2"), "receipts SM1").await;
    assert_eq!(answer.status, StatusCode::OK);
    assert_eq!(lobby.receiver.told(), events(Some(attempt), &["SM1"]));
}

#[tokio::test]
async fn an_unknown_driver_and_an_unknown_tenant_look_the_same() {
    let lobby = Lobby::new().await;
    let mut bodies = Vec::new();
    for path in [
        "/callbacks/nobody/acme",
        "/callbacks/signing/nobody",
        "/callbacks/silent/acme",
        "/callbacks/signing/ACME",
        "/callbacks/signing/%2e%2e%2f",
        "/callbacks/signing/%ff",
        "/callbacks/signing",
        "/callbacks/signing/acme/x",
        "/",
    ] {
        let answer = lobby.call(path, "receipts SM1").await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND, "{path}");
        bodies.push(answer.bytes);
    }
    assert!(bodies.iter().all(|body| *body == bodies[0]));
    assert_eq!(lobby.ask(signed("PUT", PATH, "receipts SM1")).await.status, StatusCode::NOT_FOUND);
    assert_eq!(lobby.receiver.told(), []);
}

/// reliability.md T18: digits, and nothing that a browser would run.
#[tokio::test]
async fn a_challenge_is_echoed_as_digits_or_not_at_all() {
    let lobby = Lobby::new().await;
    let ask = |digits: &str| lobby.ask(signed("GET", PATH, &format!("challenge {digits}")));
    let answer = ask("1158201444").await;
    assert_eq!((answer.status, answer.text()), (StatusCode::OK, "1158201444"));
    assert_eq!(answer.header("content-type"), Some("text/plain"));
    assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
    for challenge in [
        "<script>alert(1)</script>",
        "1<b>",
        "",
        "12 34",
        "-1",
        "１２",
        "0x10",
        &"1".repeat(33),
        "1\r\nSet-Cookie: x=1",
    ] {
        let answer = ask(challenge).await;
        assert_eq!((answer.status, answer.text()), (StatusCode::FORBIDDEN, ""), "{challenge}");
    }
}

#[tokio::test]
async fn a_body_beyond_the_providers_largest_is_refused() {
    let lobby = Lobby::new().await;
    let body = format!("receipts {}", "x".repeat(256 << 10));
    let answer = lobby.call(PATH, &body).await;
    assert_eq!(answer.status, StatusCode::PAYLOAD_TOO_LARGE);
    let body = format!("receipts {}", "x".repeat((256 << 10) - 9));
    assert_eq!(lobby.call(PATH, &body).await.status, StatusCode::OK);
}

/// Callbacks have room of their own: visitors may use up theirs, and callbacks are still taken.
#[tokio::test]
async fn visitors_do_not_crowd_out_callbacks() {
    let settings = PublicSettings { visits_at_once: 0, ..PublicSettings::default() };
    let lobby = Lobby::with(settings).await;
    let url = lobby.tracker.open_url(channel_orchestrator::domain::ids::MessageId::new(), lobby.now());
    assert_eq!(lobby.browse("GET", &url).await.status, StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(lobby.call(PATH, "receipts SM1").await.status, StatusCode::OK);
    let settings = PublicSettings { callbacks_at_once: 0, ..PublicSettings::default() };
    let lobby = Lobby::with(settings).await;
    let answer = lobby.call(PATH, "receipts SM1").await;
    assert_eq!((answer.status, answer.header("retry-after")), (StatusCode::SERVICE_UNAVAILABLE, Some("5")));
}

#[tokio::test]
async fn a_driver_that_panics_harms_its_own_request_only() {
    let lobby = Lobby::new().await;
    assert_eq!(lobby.call(PATH, "panic now").await.status, StatusCode::INTERNAL_SERVER_ERROR);
    assert_eq!(lobby.call(PATH, "receipts SM1").await.status, StatusCode::OK);
}

#[tokio::test]
async fn a_length_that_is_not_said_beforehand_is_refused() {
    let lobby = Lobby::new().await;
    let mut request = signed("POST", PATH, "receipts SM1");
    request.headers_mut().insert("transfer-encoding", "chunked".parse().unwrap());
    assert_eq!(lobby.ask(request).await.status, StatusCode::LENGTH_REQUIRED);
    assert_eq!(lobby.receiver.told(), []);
}

/// A signed callback with one thing changed at random: never taken.
#[test]
fn no_changed_callback_is_taken() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let lobby = runtime.block_on(Lobby::new());
    let attempt = AttemptId::new();
    let url = lobby.tracker.status_callback("signing", &tenant("acme"), attempt);
    let (path, body) = (path(&url).to_owned(), "receipts SM1");
    let right = signature("POST", &url, body.as_bytes());
    proptest!(ProptestConfig::with_cases(1_500), |(part in 0usize..3, at in 0usize..10_000, with in 0x21u8..0x7f)| {
        let change = |text: &str| {
            let mut bytes = text.as_bytes().to_vec();
            let place = at % bytes.len();
            let changed = bytes[place] != with;
            bytes[place] = with;
            (String::from_utf8(bytes).unwrap(), changed)
        };
        let (mut texts, mut changed) = ([path.clone(), body.to_owned(), right.clone()], false);
        for (n, text) in texts.iter_mut().enumerate().filter(|(n, _)| *n == part) {
            let (new, yes) = change(text);
            // What no request can carry is nobody's.
            if n == 0 && new.parse::<axum::http::Uri>().is_err() { return Ok(()); }
            (*text, changed) = (new, yes);
        }
        let request = Request::post(&texts[0]).header("x-signature", &texts[2]);
        let answer = runtime.block_on(lobby.ask(request.body(Body::from(texts[1].clone())).unwrap()));
        let told = lobby.receiver.told();
        if changed {
            prop_assert_ne!(answer.status, StatusCode::OK);
            prop_assert_eq!(told, []);
        } else {
            prop_assert_eq!(told, events(Some(attempt), &["SM1"]));
        }
    });
}
