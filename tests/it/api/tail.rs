//! What happens, as it happens: for the operator everything, for a key its own, and nothing about people.

use std::time::Duration;

use axum::body::Body;
use channel_orchestrator::api::{ApiSettings, auth::Scope, listen::Door};
use http_body_util::BodyExt;
use serde_json::Value;
use tower::ServiceExt;

use super::house::{House, example, get, with};

/// A reader of the lines.
struct Reader(Body, Vec<u8>);

impl Reader {
    async fn of(house: &House, path: &str, key: Option<&str>) -> Self {
        let mut request = get(path);
        if let Some(key) = key {
            request = with(with(request, "authorization", &format!("Bearer {key}")), "host", "localhost");
        } else {
            request.extensions_mut().insert(Door::Unix);
        }
        let response = house.router.clone().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        Self(response.into_body(), Vec::new())
    }

    /// The next line; none at the end.
    async fn next(&mut self) -> Option<Value> {
        let waiting = async {
            loop {
                if let Some(end) = self.1.iter().position(|byte| *byte == b'\n') {
                    let line: Vec<u8> = self.1.drain(..=end).collect();
                    return Some(serde_json::from_slice(&line).unwrap());
                }
                let frame = self.0.frame().await?.unwrap();
                self.1.extend_from_slice(frame.data_ref().unwrap());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("a line")
    }
}

#[tokio::test]
async fn decisions_and_outcomes_are_told_as_they_happen_and_name_nobody() {
    let house = House::new().await;
    let key = house.key("globex", &[Scope::Read]).await;
    let mut all = Reader::of(&house, "/v1/tail", None).await;
    let mut ours = Reader::of(&house, "/v1/tail?tenant=acme", None).await;
    let mut theirs = Reader::of(&house, "/v1/tail", Some(&key)).await;
    let sent = house.post("/v1/messages", &example("fallback")).await.json();
    let mut told = Vec::new();
    for reader in [&mut all, &mut ours] {
        told.clear();
        loop {
            let line = reader.next().await.unwrap();
            assert_eq!((&line["messageId"], &line["tenantId"]), (&sent["messageId"], &"acme".into()));
            assert!(!line.to_string().contains('@') && !line.to_string().contains("+1500555"), "{line}");
            let event = line["event"].as_str().unwrap().to_owned();
            told.push(event.clone());
            if event == "sent" {
                assert_eq!((&line["channel"], &line["driver"]), (&"email".into(), &"sandbox".into()));
                break;
            }
        }
        assert_eq!(told, ["accepted", "fallback", "sent"]);
    }
    let mut elsewhere = example("urgent");
    elsewhere["context"]["tenantId"] = "globex".into();
    house.post("/v1/messages", &elsewhere).await;
    assert_eq!(theirs.next().await.unwrap()["tenantId"], "globex", "and nothing of acme's before");
    // The daemon stops: every reader comes to an orderly end.
    house.closing.cancel();
    while let Some(line) = theirs.next().await {
        assert_eq!(line["tenantId"], "globex");
    }
    assert_eq!(ours.next().await, None);
}

#[tokio::test]
async fn readers_are_counted_and_parameters_checked() {
    let house = House::idle(ApiSettings::default()).await;
    let key = house.key("globex", &[Scope::Read]).await;
    assert_eq!(house.get("/v1/tail?tennant=acme").await.status, 422);
    let others = with(get("/v1/tail?tenant=acme"), "authorization", &format!("Bearer {key}"));
    assert_eq!(house.ask_tcp(others).await.status, 404);
    let mut readers = Vec::new();
    for _ in 0..8 {
        readers.push(Reader::of(&house, "/v1/tail", None).await);
    }
    assert_eq!(house.get("/v1/tail").await.status, 503);
    house.closing.cancel();
}
