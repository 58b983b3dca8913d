//! Mail that came back, over the socket: who may bring it, as what, and what is answered.

use axum::{body::Body, http::Request};
use channel_orchestrator::{
    api::{ApiSettings, auth::Scope},
    channels::returned::BYTES_MAX,
};
use serde_json::json;

use super::house::{House, post, with};
use crate::drivers::returned::recorded;

fn mail(path: &str, body: impl Into<Body>) -> Request<Body> {
    with(Request::post(path).body(body.into()).unwrap(), "content-type", "message/rfc822")
}

#[tokio::test]
async fn mail_is_taken_on_the_socket_alone_and_what_says_nothing_is_let_go() {
    let house = House::idle(ApiSettings::default()).await;
    let path = "/v1/returned?to=bounces%2Bx%40agence.example";
    let answer = house.ask(mail(path, recorded("absence", "x"))).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let expected = json!({
        "outcome": "ignored", "messageId": null, "reason": "no address in it has a token of ours"
    });
    assert_eq!(answer.json(), expected);
    assert_eq!(house.ask(mail("/v1/returned", Vec::new())).await.status, 200, "nothing is no mail");
    let strange = house.ask(mail("/v1/returned", vec![0, 255, 10, 13, 200])).await;
    assert_eq!(strange.json()["outcome"], "ignored");

    assert_eq!(house.post("/v1/returned", &json!({})).await.status, 415);
    assert_eq!(house.ask(mail("/v1/returned", vec![b'x'; BYTES_MAX + 1])).await.status, 413);
    assert_eq!(house.ask(mail("/v1/returned?from=x", "x")).await.status, 400);
    let key = house.key("acme", &[Scope::Admin]).await;
    let theirs = with(mail("/v1/returned", "x"), "authorization", &format!("Bearer {key}"));
    assert_eq!(house.ask_tcp(theirs).await.status, 403);
    let json = with(post("/v1/messages", &json!({})), "content-type", "message/rfc822");
    assert_eq!(house.ask(json).await.status, 415, "and JSON is no mail");
}
