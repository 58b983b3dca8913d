//! Operators' acts over HTTP: who may, what is wrong with a body, and what stands in the log.

use channel_orchestrator::api::{ApiSettings, auth::Scope};
use serde_json::json;

use super::{
    house::{House, get, post, with},
    shapes::expect,
};

#[tokio::test]
async fn acts_and_pauses_are_shown_and_faults_are_named_together() {
    let house = House::idle(ApiSettings::default()).await;
    let by = json!({ "reason": "maintenance", "by": "zoe" });
    expect("act_paused", &house.post("/v1/tenants/acme/pause", &by).await);
    let log = house.get("/v1/acts").await.json();
    assert_eq!(log["acts"][0]["reason"], "maintenance");
    assert_eq!(log["paused"][0]["name"], "acme");
    let sent = house.post("/v1/messages?", &super::house::example("urgent")).await.json();
    let path = |act: &str| format!("/v1/messages/{}/{act}", sent["messageId"].as_str().unwrap());
    let refused = house.post(&path("resend"), &by).await;
    assert_eq!((refused.status.as_u16(), &refused.json()["type"]), (409, &json!("/problems/not-now")));
    for (body, pointers) in [
        (json!({ "reason": "", "by": "z\n" }), vec!["/reason", "/by", "/outcome"]),
        (json!({ "reason": "x", "by": "zoe" }), vec!["/outcome"]),
    ] {
        let refused = house.post(&path("settle"), &body).await;
        assert_eq!(refused.status, 422);
        let found = refused.json()["errors"].as_array().unwrap().clone();
        let found: Vec<&str> = found.iter().map(|fault| fault["pointer"].as_str().unwrap()).collect();
        assert_eq!(found, pointers, "{body}");
    }
    let surplus = json!({ "reason": "x", "by": "zoe", "outcome": "sent" });
    assert_eq!(house.post(&path("release"), &surplus).await.status, 422);
    assert_eq!(house.post("/v1/tenants/nobody/pause", &by).await.status, 404);
    for query in ["limit=0", "limit=201", "before=x", "after=1"] {
        assert_eq!(house.get(&format!("/v1/acts?{query}")).await.status, 422, "{query}");
    }
}

#[tokio::test]
async fn a_key_acts_within_its_tenant_and_on_no_driver() {
    let house = House::idle(ApiSettings::default()).await;
    let by = json!({ "reason": "maintenance", "by": "zoe" });
    house.post("/v1/tenants/acme/pause", &by).await;
    house.post("/v1/drivers/sandbox/pause", &by).await;
    let ask = async |key: &str, request| {
        house.ask_tcp(with(request, "authorization", &format!("Bearer {key}"))).await
    };
    let theirs = house.key("globex", &[Scope::Admin]).await;
    let seen = ask(&theirs, get("/v1/acts")).await.json();
    assert_eq!((&seen["acts"], &seen["paused"]), (&json!([]), &json!([])));
    assert_eq!(ask(&theirs, post("/v1/tenants/acme/resume", &by)).await.status, 404);
    assert_eq!(ask(&theirs, post("/v1/drivers/sandbox/resume", &by)).await.status, 403);
    let ours = house.key("acme", &[Scope::Admin]).await;
    let seen = ask(&ours, get("/v1/acts")).await.json();
    assert_eq!((seen["acts"].as_array().unwrap().len(), seen["paused"].as_array().unwrap().len()), (1, 1));
    assert_eq!(ask(&ours, post("/v1/tenants/acme/resume", &by)).await.status, 200);
    let weak = house.key("acme", &[Scope::Send, Scope::Read]).await;
    assert_eq!(ask(&weak, post("/v1/tenants/acme/pause", &by)).await.status, 403);
}
