//! Bad requests: each is a problem that names its place, all faults at once, and nothing ever is plain text.

use std::{
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use axum::{body::Body, http::Request};
use bytes::Bytes;
use channel_orchestrator::api::{
    ApiSettings,
    listen::Door,
    settings::{BodyLimits, Pace},
};
use serde_json::{Value, json};
use tower::ServiceExt;

use super::house::{Answer, House, example, get, post, with};

/// Every problem has every member, says its own status, and carries an id to look it up by.
#[track_caller]
fn assert_problem(answer: &Answer, status: u16, kind: &str) -> Value {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    assert!(answer.header("x-request-id").is_some_and(|id| !id.is_empty()), "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("/problems/{kind}"), "{answer:?}");
    assert_eq!(problem["status"], status);
    for member in ["title", "detail", "instance"] {
        assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member}: {answer:?}");
    }
    problem
}

fn pointers(problem: &Value) -> Vec<&str> {
    let errors = problem["errors"].as_array().map(Vec::as_slice).unwrap_or_default();
    errors.iter().map(|e| e["pointer"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn every_fault_of_a_body_is_named_at_once() {
    let house = House::idle(ApiSettings::default()).await;
    let cases: [(&str, Value, &[&str]); 6] = [
        ("/v1/decisions", json!({}), &["/context"]),
        (
            "/v1/decisions",
            json!({ "context": { "tenantId": "A", "timezone": "Mars/Base", "prefered": 1 } }),
            &["/context/prefered", "/context/tenantId", "/context/prospectId", "/context/timezone"],
        ),
        ("/v1/messages", json!({ "context": { "tenantId": "acme", "prospectId": "p" } }), &["/content"]),
        (
            "/v1/messages",
            json!({ "context": { "tenantId": "acme", "prospectId": "p" }, "content": { "body": "x" },
                    "at": "2025-11-14T23:00:00Z", "explain": true }),
            &["/at", "/explain"],
        ),
        (
            "/v1/messages",
            json!({ "context": { "tenantId": "acme", "prospectId": "p" },
                    "content": { "templateId": "WELCOME" } }),
            &["/content/templateId"],
        ),
        (
            "/v1/decisions",
            json!({ "context": { "tenantId": "acme", "prospectId": "p" }, "variant": "frugale" }),
            &["/variant"],
        ),
    ];
    for (path, body, expected) in cases {
        let answer = house.post(path, &body).await;
        let problem = assert_problem(&answer, 422, "invalid-request");
        let mut found = pointers(&problem);
        let mut expected = expected.to_vec();
        found.sort_unstable();
        expected.sort_unstable();
        assert_eq!(found, expected, "{body}: {problem:#}");
        assert_eq!(problem["instance"], path);
    }
}

#[tokio::test]
async fn what_is_not_json_is_told_by_line_and_column() {
    let house = House::idle(ApiSettings::default()).await;
    let body = "{\n  \"context\": {,}\n}";
    let request = Request::post("/v1/decisions").body(Body::from(body)).unwrap();
    let problem = assert_problem(&house.ask(request).await, 400, "bad-syntax");
    assert!(problem["detail"].as_str().unwrap().contains("line 2 column 15"), "{problem}");
}

#[tokio::test]
async fn what_the_routes_do_not_take() {
    let house = House::idle(ApiSettings::default()).await;
    let request = |r: Request<Body>| house.ask(r);
    assert_problem(&request(get("/v1/nothing")).await, 404, "not-found");
    assert_problem(&request(get("/v1/messages/msg_1")).await, 404, "not-found");
    assert_problem(&request(get("/v1/messages/%FF")).await, 400, "bad-request");
    assert_problem(&request(get("/v1/policies/No%20One")).await, 404, "not-found");
    assert_problem(&request(get("/v1/messages?limit=900")).await, 422, "invalid-request");

    let wrong = request(get("/v1/decisions")).await;
    assert_problem(&wrong, 405, "method-not-allowed");
    assert_eq!(wrong.header("allow"), Some("POST"));

    let text = with(post("/v1/decisions", &example("urgent")), "content-type", "text/plain");
    assert_problem(&request(text).await, 415, "media-type");
    let packed = with(post("/v1/decisions", &example("urgent")), "content-encoding", "gzip");
    assert_problem(&request(packed).await, 415, "media-type");

    for key in ["", "two words", &"k".repeat(256)] {
        let keyed = with(post("/v1/messages", &example("urgent")), "idempotency-key", key);
        assert_problem(&request(keyed).await, 400, "bad-request");
    }
    let mut unknown = example("urgent");
    unknown["context"]["tenantId"] = "nobody".into();
    let problem = assert_problem(&house.post("/v1/messages", &unknown).await, 404, "not-found");
    assert!(problem["detail"].as_str().unwrap().contains("policies/tenants/nobody.toml"), "{problem}");
}

#[tokio::test]
async fn bodies_have_limits_that_are_told_before_they_are_read() {
    let limits = BodyLimits { decision_bytes: 2_000, message_bytes: 4_000, held_bytes: 8 << 10 };
    let house = House::idle(ApiSettings { bodies: limits, ..ApiSettings::default() }).await;
    let mut long = example("urgent");
    long["content"]["body"] = "x".repeat(2_500).into();
    let told = house.post("/v1/decisions", &long).await;
    assert_problem(&told, 413, "body-too-large");
    assert_eq!(told.header("connection"), Some("close"));
    let taken = with(post("/v1/messages", &long), "prefer", "wait=0");
    assert_eq!(house.ask(taken).await.status, 202);

    // Without a length the limit is found while reading.
    let streamed = Drip { chunks: 5, ends: true };
    let request = Request::post("/v1/decisions").body(Body::new(streamed)).unwrap();
    assert_problem(&house.ask(request).await, 413, "body-too-large");

    // Three kilobytes of each are held, eight in all: there is room for two.
    let endless = || {
        let body = Body::new(Drip { chunks: 3, ends: false });
        let mut request = Request::post("/v1/messages").body(body).unwrap();
        request.extensions_mut().insert(Door::Unix);
        request
    };
    let mut held: Vec<_> = (0..2).map(|_| Box::pin(house.router.clone().oneshot(endless()))).collect();
    for waiting in &mut held {
        let polled = std::future::poll_fn(|cx| Poll::Ready(waiting.as_mut().poll(cx))).await;
        assert!(polled.is_pending(), "it waits for the rest of its body");
    }
    let refused = house.ask(endless()).await;
    assert_problem(&refused, 503, "unavailable");
    assert!(refused.header("retry-after").is_some());
    drop(held);
    let request = with(post("/v1/messages", &example("urgent")), "prefer", "wait=0");
    assert_eq!(house.ask(request).await.status, 202, "what was held is given back");
}

/// A body without a length: chunks of 1,000 bytes, and then an end or silence.
struct Drip {
    chunks: usize,
    ends: bool,
}

impl hyper::body::Body for Drip {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        if self.chunks == 0 {
            return if self.ends { Poll::Ready(None) } else { Poll::Pending };
        }
        self.chunks -= 1;
        Poll::Ready(Some(Ok(hyper::body::Frame::data(Bytes::from_static(&[b' '; 1_000])))))
    }
}

#[tokio::test]
async fn a_body_that_does_not_come_is_told_so() {
    let pace = Pace { body: Duration::from_millis(20), ..Pace::default() };
    let house = House::idle(ApiSettings { pace, ..ApiSettings::default() }).await;
    let body = Body::new(Drip { chunks: 1, ends: false });
    let answer = house.ask(Request::post("/v1/decisions").body(body).unwrap()).await;
    assert_problem(&answer, 408, "request-timeout");
    assert_eq!(answer.header("connection"), Some("close"));
}

#[tokio::test]
async fn a_panic_is_one_answer_without_internals() {
    let house = House::idle(ApiSettings::default()).await;
    let body = Body::new(Bomb);
    let answer = house.ask(Request::post("/v1/decisions").body(body).unwrap()).await;
    let problem = assert_problem(&answer, 500, "internal");
    assert!(!problem.to_string().contains("secret"), "{problem}");
    assert_eq!(house.post("/v1/decisions", &example("urgent")).await.status, 200);
}

/// Panics when it is read.
struct Bomb;

impl hyper::body::Body for Bomb {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<hyper::body::Frame<Bytes>, Self::Error>>> {
        panic!("a secret");
    }
}

#[tokio::test]
async fn a_harmless_request_id_comes_back_and_another_does_not() {
    let house = House::idle(ApiSettings::default()).await;
    let kept = house.ask(with(get("/healthz"), "x-request-id", "abc-123")).await;
    assert_eq!(kept.header("x-request-id"), Some("abc-123"));
    let long = "x".repeat(65);
    for bad in ["a b", "<script>", long.as_str()] {
        let answer = house.ask(with(get("/healthz"), "x-request-id", bad)).await;
        assert_ne!(answer.header("x-request-id"), Some(bad));
    }
}
