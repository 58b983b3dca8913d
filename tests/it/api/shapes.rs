//! Every shape against a file of `golden/`; `UPDATE_EXPECT=1` accepts what is.
//!
//! What differs from run to run (ids, hashes, how long something took) is replaced before the comparison.

use std::{fs, path::PathBuf};

use serde_json::{Map, Value, json};

use super::house::{AFTERNOON, Answer, House, example, get, instant, post, with};
use channel_orchestrator::api::ApiSettings;

/// Replaces what no two runs have in common.
fn still(value: &mut Value, key: &str) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(key, value)| still(value, key)),
        Value::Array(items) => items.iter_mut().for_each(|item| still(item, key)),
        Value::String(text) => {
            for (prefix, length) in [("msg_", 36), ("att_", 36), ("bc_", 35)] {
                while let Some(at) = text.find(prefix).filter(|at| text.len() >= at + length) {
                    text.replace_range(at..at + length, &format!("<{}>", prefix.trim_end_matches('_')));
                }
            }
            if ["policyVersion", "version", "providerMessageId", "folder"].contains(&key)
                || (["from", "to"].contains(&key) && text.len() == 64)
            {
                *text = format!("<{key}>");
            }
        }
        Value::Number(_) if key == "tookMicros" => *value = json!(0),
        _ => {}
    }
}

#[track_caller]
pub fn expect(name: &str, answer: &Answer) {
    let mut headers = Map::new();
    for name in
        ["content-type", "location", "preference-applied", "idempotency-replayed", "retry-after", "allow"]
    {
        if let Some(value) = answer.header(name) {
            headers.insert(name.into(), value.into());
        }
    }
    let mut found = json!({ "status": answer.status.as_u16(), "headers": headers, "body": answer.json() });
    still(&mut found, "");
    let found = format!("{found:#}\n");
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(format!("tests/it/golden/api/{name}.json"));
    if std::env::var_os("UPDATE_EXPECT").is_some() {
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, &found).unwrap();
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert_eq!(found, expected, "{name} (UPDATE_EXPECT=1 accepts it)");
}

#[tokio::test]
async fn decisions() {
    let house = House::idle(ApiSettings::default()).await;
    expect("decision_urgent", &house.post("/v1/decisions", &example("urgent")).await);
    expect("decision_marketing", &house.post("/v1/decisions", &example("marketing")).await);

    let mut night = example("quiet_hours");
    night["at"] = "2025-11-14T23:00:00+01:00".into();
    night["explain"] = true.into();
    expect("decision_explained", &house.post("/v1/decisions", &night).await);

    let mut nowhere = example("urgent");
    nowhere["context"]["prospectPhone"] = "06 12".into();
    nowhere["context"].as_object_mut().unwrap().remove("prospectEmail");
    expect("decision_no_channel", &house.post("/v1/decisions", &nowhere).await);
}

#[tokio::test]
async fn a_message_that_is_sent_at_once() {
    let house = House::new().await;
    let sent = house.post("/v1/messages", &example("urgent")).await;
    expect("message_sent", &sent);
    let shown = house.get(sent.header("location").unwrap()).await;
    expect("message_shown", &shown);
    expect("message_list", &house.get("/v1/messages?tenant=acme&limit=10").await);
}

/// The brief's fourth example: `channel` stays the one that was chosen, `fallbackChannel` is the one used.
#[tokio::test]
async fn a_message_whose_number_the_provider_refuses_goes_by_email() {
    let house = House::new().await;
    let sent = house.post("/v1/messages", &example("fallback")).await;
    expect("message_fallback", &sent);
    let body = sent.json();
    assert_eq!(
        (&body["channel"], &body["status"], &body["fallbackChannel"]),
        (&json!("sms"), &json!("sent"), &json!("email"))
    );
}

#[tokio::test]
async fn a_message_that_every_channel_refuses() {
    let house = House::new().await;
    let mut refused = example("fallback");
    refused["context"]["prospectEmail"] = "perm550@example.com".into();
    expect("message_failed", &house.post("/v1/messages", &refused).await);
}

#[tokio::test]
async fn messages_that_wait() {
    let house = House::idle(ApiSettings::default()).await;
    let request = with(post("/v1/messages", &example("urgent")), "prefer", "respond-async");
    expect("message_queued", &house.ask(request).await);

    house.clock.set(instant("2025-11-14T23:00:00+01:00"));
    let mut held = example("quiet_hours");
    held["context"].as_object_mut().unwrap().remove("prospectEmail");
    expect("message_held", &house.post("/v1/messages", &held).await);
    house.clock.set(instant(AFTERNOON));
}

#[tokio::test]
async fn a_message_that_no_channel_may_carry_is_kept_with_its_reasons() {
    let house = House::idle(ApiSettings::default()).await;
    let mut nowhere = example("urgent");
    nowhere["context"]["preferences"] = json!({ "disabledChannels": ["sms", "email"] });
    let skipped = house.post("/v1/messages", &nowhere).await;
    expect("message_no_channel", &skipped);
    let id = skipped.json()["messageId"].as_str().unwrap().to_owned();
    let kept = house.get(&format!("/v1/messages/{id}")).await.json();
    assert_eq!((&kept["status"], &kept["success"]), (&json!("skipped"), &json!(false)));
}

#[tokio::test]
async fn a_message_is_cancelled_while_it_waits_and_not_after() {
    let house = House::idle(ApiSettings::default()).await;
    let request = with(post("/v1/messages", &example("urgent")), "prefer", "respond-async");
    let id = house.ask(request).await.json()["messageId"].as_str().unwrap().to_owned();
    let path = format!("/v1/messages/{id}/cancel");
    expect("message_cancelled", &house.post(&path, &json!(null)).await);
    expect("message_too_late", &house.post(&path, &json!(null)).await);
}

#[tokio::test]
async fn policies_and_health() {
    let house = House::idle(ApiSettings::default()).await;
    expect("policies", &house.get("/v1/policies").await);
    let mut policy = house.get("/v1/policies/acme").await;
    // A line for each key of default.toml: `versions` looks at some.
    let mut body = policy.json();
    body["origins"].as_object_mut().unwrap().retain(|key, _| key == "region");
    // And an entry for each shipped template.
    body["templates"].as_array_mut().unwrap().retain(|template| template["id"] == "NPS_SURVEY");
    policy.text = body.to_string();
    expect("policy", &policy);
    expect("health", &house.get("/healthz").await);
    expect("ready", &house.get("/readyz").await);

    let file = house.dir.path().join("policies/tenants/acme.toml");
    fs::write(&file, "[weights]\nurgancy = 5\n").unwrap();
    expect("reload_rejected", &house.post("/v1/policies/reload", &json!(null)).await);
    expect("ready_with_a_broken_file", &house.get("/readyz").await);
    fs::write(&file, "[weights]\nurgency = 5\n").unwrap();
    expect("reload_applied", &house.post("/v1/policies/reload", &json!(null)).await);

    house.closing.cancel();
    expect("not_ready", &house.get("/readyz").await);
}

#[tokio::test]
async fn a_list_goes_on_from_its_cursor() {
    let house = House::idle(ApiSettings::default()).await;
    let mut made = Vec::new();
    for _ in 0..5 {
        let request = with(post("/v1/messages", &example("urgent")), "prefer", "wait=0");
        made.push(house.ask(request).await.json()["messageId"].clone());
    }
    made.reverse();
    let mut listed = Vec::new();
    let mut path = "/v1/messages?tenant=acme&status=queued&limit=2".to_owned();
    loop {
        let page = house.ask(get(&path)).await.json();
        let messages = page["messages"].as_array().unwrap();
        assert!(messages.len() <= 2);
        listed.extend(messages.iter().map(|m| m["messageId"].clone()));
        let Some(next) = page["next"].as_str() else { break };
        path = format!("/v1/messages?tenant=acme&status=queued&limit=2&cursor={next}");
    }
    assert_eq!(listed, made);
    let none = house.get("/v1/messages?recipient=nobody").await.json();
    assert_eq!(none, json!({ "messages": [], "next": null }));
}
