//! `Idempotency-Key` (reliability.md P3): one message for one key, however often and however at once.

use channel_orchestrator::api::ApiSettings;
use serde_json::{Value, json};

use super::house::{Answer, House, example, post, with};

async fn send(house: &House, key: &str, body: &Value) -> Answer {
    house.ask(with(post("/v1/messages", body), "idempotency-key", key)).await
}

#[tokio::test]
async fn a_repeat_is_the_same_message_whatever_its_spelling() {
    let house = House::new().await;
    let first = send(&house, "k1", &example("urgent")).await;
    assert_eq!((first.status.as_u16(), first.header("idempotency-replayed")), (200, None));
    let again = send(&house, "k1", &example("urgent")).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!((again.status, again.json()), (first.status, first.json()));

    // The same request with its keys in another order and other spaces.
    let spelt: String = format!("{:#}", example("urgent"));
    let request = axum::http::Request::post("/v1/messages")
        .header("content-type", "application/json")
        .header("idempotency-key", "k1")
        .body(spelt.into())
        .unwrap();
    assert_eq!(house.ask(request).await.json()["messageId"], first.json()["messageId"]);
    assert_eq!(house.get("/v1/messages").await.json()["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn another_body_or_another_tenant() {
    let house = House::new().await;
    let first = send(&house, "k1", &example("urgent")).await;
    let mut other = example("urgent");
    other["content"]["body"] = "Another text.".into();
    let refused = send(&house, "k1", &other).await;
    assert_eq!(refused.status, 422);
    assert_eq!(refused.json()["type"], "/problems/idempotency-key-reused");
    assert_eq!(refused.json()["messageId"], first.json()["messageId"]);

    let mut elsewhere = example("urgent");
    elsewhere["context"]["tenantId"] = "globex".into();
    let theirs = send(&house, "k1", &elsewhere).await;
    assert_eq!((theirs.status.as_u16(), theirs.header("idempotency-replayed")), (200, None));
}

/// Twins in flight: one message, and every answer names it (F56 in small).
#[tokio::test]
async fn twins_at_once_are_one_message() {
    let house = House::new().await;
    let body = example("urgent");
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let router = house.router.clone();
        let mut request = with(post("/v1/messages", &body), "idempotency-key", "twin");
        request.extensions_mut().insert(channel_orchestrator::api::listen::Door::Unix);
        tasks.spawn(async move {
            let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
            let replayed = response.headers().contains_key("idempotency-replayed");
            let status = response.status();
            let body = http_body_util::BodyExt::collect(response.into_body()).await.unwrap().to_bytes();
            (status, replayed, serde_json::from_slice::<Value>(&body).unwrap())
        });
    }
    let answers = tasks.join_all().await;
    let first = &answers[0].2["messageId"];
    for (status, _, body) in &answers {
        assert_eq!((status.as_u16(), &body["messageId"]), (200, first), "{body:#}");
    }
    assert_eq!(answers.iter().filter(|(_, replayed, _)| !replayed).count(), 1);
    assert_eq!(house.get("/v1/messages").await.json()["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn a_message_without_a_channel_is_kept_once_too() {
    let house = House::idle(ApiSettings::default()).await;
    let mut nowhere = example("urgent");
    nowhere["context"]["preferences"] = json!({ "disabledChannels": ["sms", "email"] });
    let first = send(&house, "k", &nowhere).await;
    let again = send(&house, "k", &nowhere).await;
    assert_eq!((first.status.as_u16(), again.status.as_u16()), (422, 422));
    assert_eq!(first.json(), again.json());
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
}

/// A daemon that stops answers what it knows, long before the caller's patience ends.
#[tokio::test]
async fn a_wait_ends_when_the_daemon_stops() {
    let house = House::idle(ApiSettings::default()).await;
    house.closing.cancel();
    let request = with(post("/v1/messages", &example("urgent")), "prefer", "wait=30");
    let answer = tokio::time::timeout(std::time::Duration::from_secs(10), house.ask(request)).await.unwrap();
    assert_eq!((answer.status.as_u16(), &answer.json()["status"]), (202, &json!("queued")));
    assert_eq!(answer.header("preference-applied"), Some("wait=30"));
}
