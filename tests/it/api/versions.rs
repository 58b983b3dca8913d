//! What a tenant's policy was, put back, and dropped, over HTTP; and where its values come from.

use std::fs;

use channel_orchestrator::api::{ApiSettings, auth::Scope};
use serde_json::{Value, json};

use super::{
    house::{Answer, House, get, post, with},
    shapes::expect,
};

/// Saves a tenant's file and has it read.
async fn save(house: &House, text: &str) {
    fs::write(house.dir.path().join("policies/tenants/acme.toml"), text).unwrap();
    let reloaded = house.post("/v1/policies/reload", &json!(null)).await;
    assert_eq!(reloaded.status, 200, "{reloaded:?}");
    house.clock.advance(chrono::TimeDelta::minutes(1));
}

#[track_caller]
fn detail(answer: &Answer, status: u16, kind: &str) -> String {
    assert_eq!(answer.status.as_u16(), status, "{answer:?}");
    let problem = answer.json();
    assert_eq!(problem["type"], format!("/problems/{kind}"));
    problem["detail"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn versions_are_listed_compared_put_back_and_dropped() {
    let house = House::idle(ApiSettings::default()).await;
    let first = house.version("acme");
    let only = house.get("/v1/policies/acme/diff").await;
    assert!(detail(&only, 404, "not-found").contains("it had one only"));
    house.clock.advance(chrono::TimeDelta::minutes(1));
    save(&house, "[weights]\nurgency = 5\n").await;
    let second = house.version("acme");
    expect("policy_history", &house.get("/v1/policies/acme/history").await);
    let changed = house.get("/v1/policies/acme/diff").await;
    expect("policy_diff", &changed);
    let named = house.get(&format!("/v1/policies/acme/diff?from={first}&to={second}")).await;
    assert_eq!(named.json(), changed.json());
    let back = house.get(&format!("/v1/policies/acme/diff?from={second}&to={}", &first[..12])).await.json();
    assert_eq!(back["files"][0]["lines"], json!(["@@ line 1", "-[weights]", "-urgency = 5"]));

    let put_back = house.post("/v1/policies/acme/rollback", &json!({ "version": first[..12] })).await;
    expect("policy_rolled_back", &put_back);
    assert_eq!(house.version("acme"), first);

    let refused = house.post("/v1/policies/acme/forget", &json!(null)).await;
    assert!(detail(&refused, 409, "tenant-still-there").contains("tenants/acme.toml"));
    // At once: nobody looked at the folder since.
    fs::remove_file(house.dir.path().join("policies/tenants/acme.toml")).unwrap();
    expect("policy_forgotten", &house.post("/v1/policies/acme/forget", &json!(null)).await);
    for path in ["/v1/policies/acme", "/v1/policies/acme/history", "/v1/policies/acme/diff"] {
        detail(&house.get(path).await, 404, "not-found");
    }
    detail(&house.post("/v1/policies/acme/forget", &json!(null)).await, 404, "not-found");
}

#[tokio::test]
async fn versions_that_are_not_there_are_refused_with_those_that_are() {
    let house = House::idle(ApiSettings::default()).await;
    let known = house.version("acme")[..12].to_owned();
    let rollback = |body: Value| house.ask(post("/v1/policies/acme/rollback", &body));
    let told = detail(&rollback(json!({ "version": "0123" })).await, 404, "not-found");
    assert!(told.contains("0123") && told.contains(&known), "{told}");
    let told = detail(&house.get("/v1/policies/acme/diff?from=beef").await, 404, "not-found");
    assert!(told.contains("beef") && told.contains(&known), "{told}");
    for body in [json!(null), json!({}), json!({ "version": 1 }), json!({ "version": "a", "x": 1 })] {
        let refused = rollback(body.clone()).await;
        detail(&refused, 422, "invalid-request");
        assert!(refused.json()["errors"][0]["hint"].as_str().unwrap().contains("history"), "{body}");
    }
    let broken = with(get("/v1/policies/acme/rollback"), "content-type", "application/json");
    let (mut parts, _) = broken.into_parts();
    parts.method = axum::http::Method::POST;
    let broken = house.ask(axum::http::Request::from_parts(parts, "{".into())).await;
    assert!(detail(&broken, 400, "bad-syntax").contains("version"));
    detail(&house.get("/v1/policies/acme/diff?form=a").await, 422, "invalid-request");
    assert_eq!(house.version("acme")[..12], known, "nothing was changed");
}

/// A file of tests may be of several tenants: a key sees none of it.
#[tokio::test]
async fn a_key_does_not_see_the_tests_that_others_wrote() {
    let house = House::idle(ApiSettings::default()).await;
    let tests = house.dir.path().join("policies/tests");
    fs::create_dir_all(&tests).unwrap();
    let of = |tenant: &str, subject: &str| {
        format!(
            "[[test]]\nname = \"{subject}\"\ntenant = \"{tenant}\"\nexpect = {{ channel = \"email\" }}\n\
             context = {{ prospectId = \"p\", prospectEmail = \"p@example.com\" }}\n\
             content = {{ body = \"x\" }}\n\n"
        )
    };
    fs::write(tests.join("all.toml"), [of("acme", "ours"), of("globex", "theirs")].concat()).unwrap();
    save(&house, "[weights]\nurgency = 5\n").await;
    let all = house.get("/v1/policies/acme/diff").await;
    assert!(all.text.contains("theirs"), "{all:?}");
    let key = house.key("acme", &[Scope::Admin]).await;
    let asked = with(get("/v1/policies/acme/diff"), "authorization", &format!("Bearer {key}"));
    let seen = house.ask_tcp(asked).await;
    assert_eq!(seen.json()["files"].as_array().unwrap().len(), 1, "{seen:?}");
    assert!(!seen.text.contains("theirs"), "{seen:?}");
}

#[tokio::test]
async fn each_value_says_where_it_comes_from() {
    let house = House::idle(ApiSettings::default()).await;
    save(&house, "# ours\n[quiet_hours]\nstart = \"22:00\"\n").await;
    let origins = house.get("/v1/policies/acme").await.json()["origins"].clone();
    assert_eq!(origins["quiet_hours.start"], "tenants/acme.toml:3");
    assert!(origins["weights.urgency"].as_str().unwrap().starts_with("default.toml:"), "{origins:#}");
    assert!(house.get("/v1/policies").await.json()["tenants"][0].get("origins").is_none());
}
