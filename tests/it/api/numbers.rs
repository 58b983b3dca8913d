//! Broadcasts, figures, refusals and events over HTTP.

use std::{fs, sync::Arc};

use channel_orchestrator::{api::ApiSettings, domain::money::MicroEuros, orchestrator::budgets::BudgetWatch};
use serde_json::{Value, json};

use super::{
    house::{Answer, House, example, get, instant, post, with},
    shapes::expect,
};

/// The example of the repository, for the tenant `acme`.
fn broadcast() -> Value {
    let path = format!("{}/examples/requests/broadcast.json", env!("CARGO_MANIFEST_DIR"));
    let mut request: Value = serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap();
    for row in request["contexts"].as_array_mut().unwrap() {
        row["tenantId"] = "acme".into();
    }
    request
}

impl House {
    async fn send(&self, method: &str, path: &str, body: &Value) -> Answer {
        let mut request = post(path, body);
        *request.method_mut() = method.parse().unwrap();
        self.ask(request).await
    }

    /// Tenant `acme`'s policy from now on.
    async fn policy(&self, toml: &str) {
        fs::write(self.dir.path().join("policies/tenants/acme.toml"), toml).unwrap();
        let reloaded = self.post("/v1/policies/reload", &json!(null)).await;
        assert_eq!(reloaded.status, 200, "{reloaded:?}");
    }
}

#[tokio::test]
async fn a_broadcast_answers_for_each_row_in_order() {
    let house = House::new().await;
    let mut request = broadcast();
    let rows = request["contexts"].as_array_mut().unwrap();
    rows.push(json!({ "tenantId": "acme", "prospectId": "nowhere" }));
    rows.push(json!({ "tenantId": "acme", "prospectID": "typo", "priority": { "level": "hihg" } }));
    rows.push(json!({ "tenantId": "globex", "prospectId": "theirs" }));
    rows.push(json!(7));
    let sent = house.ask(with(post("/v1/broadcasts", &request), "idempotency-key", "news")).await;
    expect("broadcast", &sent);
    let id = sent.json()["broadcastId"].as_str().unwrap().to_owned();
    expect("broadcast_shown", &house.get(&format!("/v1/broadcasts/{id}")).await);
    expect("broadcast_results", &house.get(&format!("/v1/broadcasts/{id}/results?limit=2&cursor=2")).await);

    // Each message is one like any other, under the broadcast's origin.
    let first = sent.json()["results"][0]["messageId"].as_str().unwrap().to_owned();
    let shown = house.get(&format!("/v1/messages/{first}")).await.json();
    assert_eq!((&shown["status"], &shown["prospectId"]), (&json!("sent"), &json!("prospect_1")));

    // Again: nothing is sent twice, and the answer is the same.
    let again = house.ask(with(post("/v1/broadcasts", &request), "idempotency-key", "news")).await;
    assert_eq!(again.header("idempotency-replayed"), Some("true"));
    assert_eq!(again.json()["results"], sent.json()["results"]);
    request["content"]["body"] = "Autre chose".into();
    let reused = house.ask(with(post("/v1/broadcasts", &request), "idempotency-key", "news")).await;
    assert_eq!(
        (reused.status.as_u16(), &reused.json()["type"]),
        (422, &json!("/problems/idempotency-key-reused"))
    );
}

/// A row's own key is a message's key: another broadcast repeats that message and sends nothing.
#[tokio::test]
async fn a_rows_own_key_is_known_to_every_broadcast() {
    let house = House::new().await;
    let first = house.post("/v1/broadcasts", &broadcast()).await.json();
    let second = house.post("/v1/broadcasts", &broadcast()).await.json();
    assert_ne!(first["broadcastId"], second["broadcastId"]);
    let id = |answer: &Value, row: usize| answer["results"][row]["messageId"].clone();
    assert_ne!(id(&first, 0), id(&second, 0));
    assert_eq!(id(&first, 2), id(&second, 2));
    assert_eq!(
        (&second["results"][2]["repeated"], &second["summary"]["repeated"]),
        (&json!(true), &json!(1))
    );
}

#[tokio::test]
async fn a_dry_run_keeps_nothing() {
    let house = House::idle(ApiSettings::default()).await;
    let mut request = broadcast();
    request["dryRun"] = true.into();
    request["contexts"].as_array_mut().unwrap().push(json!({ "tenantId": "acme", "prospectId": "nowhere" }));
    expect("broadcast_dry_run", &house.post("/v1/broadcasts", &request).await);
    assert_eq!(house.get("/v1/messages").await.json()["messages"], json!([]));
}

#[tokio::test]
async fn what_all_rows_share_refuses_the_whole() {
    let house = House::idle(ApiSettings::default()).await;
    let refused = |change: fn(&mut Value)| {
        let mut request = broadcast();
        change(&mut request);
        let house = &house;
        async move {
            let answer = house.post("/v1/broadcasts", &request).await;
            let errors = answer.json()["errors"].as_array().unwrap().clone();
            let pointers: Vec<String> =
                errors.iter().map(|e| e["pointer"].as_str().unwrap().to_owned()).collect();
            (answer.status.as_u16(), pointers)
        }
    };
    let at = |pointer: &str| (422, vec![pointer.to_owned()]);
    assert_eq!(refused(|r| r["contexts"] = json!([])).await, at("/contexts"));
    assert_eq!(refused(|r| r["contexts"] = json!(vec![json!({}); 1001])).await, at("/contexts"));
    assert_eq!(refused(|r| r["contexts"] = json!([{}])).await, at("/contexts/0/tenantId"));
    assert_eq!(refused(|r| r["context"] = json!({})).await, at("/context"));
    assert_eq!(refused(|r| r["content"] = json!({})).await, at("/content"));
    assert_eq!(refused(|r| r["content"]["bdoy"] = json!("x")).await, at("/content/bdoy"));
    assert_eq!(refused(|r| r["sendAt"] = json!("tomorrow")).await, at("/sendAt"));
    assert_eq!(refused(|r| r["dryRun"] = json!("yes")).await, at("/dryRun"));
    let mut unknown = broadcast();
    unknown["contexts"][0]["tenantId"] = "initech".into();
    assert_eq!(house.post("/v1/broadcasts", &unknown).await.status, 404);
    assert_eq!(house.get("/v1/messages").await.json()["messages"], json!([]));
}

/// A thousand rows, through the same way as one; cancelled before anything took them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thousand_rows_are_kept_and_cancelled() {
    let house = House::idle(ApiSettings::default()).await;
    let rows: Vec<Value> = (0..1000)
        .map(|n| {
            let mail = format!("p{n}@example.com");
            json!({ "tenantId": "acme", "prospectId": format!("p{n}"), "prospectEmail": mail })
        })
        .collect();
    let request = json!({ "contexts": rows, "content": { "subject": "Bonjour", "body": "Une nouvelle" } });
    let sent = house.ask(with(post("/v1/broadcasts", &request), "prefer", "respond-async")).await;
    let answer = sent.json();
    assert_eq!((sent.status.as_u16(), &answer["summary"]["byStatus"]), (200, &json!({ "queued": 1000 })));
    let order: Vec<u64> =
        answer["results"].as_array().unwrap().iter().map(|r| r["row"].as_u64().unwrap()).collect();
    assert!(order.iter().copied().eq(0..1000));
    let id = answer["broadcastId"].as_str().unwrap();
    let cancelled = house.post(&format!("/v1/broadcasts/{id}/cancel"), &json!(null)).await.json();
    assert_eq!(cancelled["byStatus"], json!({ "cancelled": 1000 }));
    let figures = house.get(&format!("/v1/tenants/acme/stats?campaign={id}")).await.json();
    assert_eq!(figures["totals"]["accepted"], 1000);
}

#[tokio::test]
async fn figures_answer_the_briefs_question() {
    let house = House::new().await;
    for name in ["urgent", "fallback", "marketing", "appointment"] {
        assert!(house.post("/v1/messages", &example(name)).await.status.is_success(), "{name}");
    }
    let mut nowhere = example("urgent");
    nowhere["context"]["preferences"] = json!({ "disabledChannels": ["sms", "email"] });
    house.post("/v1/messages", &nowhere).await;
    let messages = house.get("/v1/messages?limit=50").await.json();
    let mail = messages["messages"].as_array().unwrap().iter().find(|m| m["sentVia"] == "email").unwrap();
    for event in ["opened", "clicked", "converted", "converted"] {
        let told = house.post("/v1/events", &json!({ "event": event, "messageId": mail["messageId"] })).await;
        assert_eq!(told.status, 200, "{told:?}");
    }
    expect("stats", &house.get("/v1/tenants/acme/stats").await);
    expect("stats_by_type", &house.get("/v1/tenants/acme/stats?by=type,day&channel=sms").await);
    let empty = house.get("/v1/tenants/globex/stats").await.json();
    assert_eq!(empty["totals"]["accepted"], 0);
    assert!(empty["channels"][0]["opened"].is_null() && empty["channels"][0]["delivered"] == 0, "{empty:#}");
    assert!(empty["channels"][0]["deliveryRate"].is_null(), "nothing was sent: no rate");
    for wrong in
        ["from=yesterday", "type=spam", "by=colour", "by=day,day", "from=2026-02-01&to=2026-01-01", "x=1"]
    {
        let answer = house.get(&format!("/v1/tenants/acme/stats?{wrong}")).await;
        assert_eq!(answer.status, 422, "{wrong}: {answer:?}");
    }
}

#[tokio::test]
async fn figures_are_not_kept_for_who_does_not_want_them() {
    let house = House::new().await;
    house.policy("[learning]\nanalytics = false\n").await;
    house.post("/v1/messages", &example("urgent")).await;
    let figures = house.get("/v1/tenants/acme/stats").await.json();
    assert_eq!((&figures["totals"]["accepted"], &figures["totals"]["sent"]), (&json!(0), &json!(0)));
}

#[tokio::test]
async fn a_refusal_put_here_binds_the_next_message() {
    let house = House::new().await;
    let path = "/v1/tenants/acme/suppressions";
    let refusal = json!({ "channel": "sms", "address": "06 12 34 56 78", "reason": "asked by telephone",
                          "proof": "call of 14 November" });
    expect("suppression_put", &house.send("PUT", path, &refusal).await);
    assert_eq!(house.send("PUT", path, &refusal).await.status, 200, "it is there already");
    let mut mail = refusal.clone();
    (mail["channel"], mail["address"]) = ("email".into(), "zoe@Example.com".into());
    house.send("PUT", path, &mail).await;
    expect("suppression_list", &house.get(&format!("{path}?limit=1")).await);
    let next = house.get(&format!("{path}?limit=1")).await.json()["next"].as_str().unwrap().to_owned();
    let second = house.get(&format!("{path}?limit=1&cursor={next}")).await.json();
    assert_eq!(second["suppressions"][0]["address"], "zoe@example.com");

    let sent = house.post("/v1/messages", &example("urgent")).await.json();
    assert_eq!(sent["channel"], "email", "{sent:#}");
    let mut lift = refusal.clone();
    lift.as_object_mut().unwrap().remove("proof");
    lift["reason"] = "she wants them again".into();
    expect("suppression_lifted", &house.send("DELETE", path, &lift).await);
    assert_eq!(house.send("DELETE", path, &lift).await.json()["lifted"], 0);
    let sent = house.post("/v1/messages", &example("urgent")).await.json();
    assert_eq!(sent["channel"], "sms");
    for (field, value) in
        [("address", "not a number"), ("reason", " "), ("channel", "pigeon"), ("extra", "x")]
    {
        let mut wrong = refusal.clone();
        wrong[field] = value.into();
        assert_eq!(house.send("PUT", path, &wrong).await.status, 422, "{field}");
    }
}

#[tokio::test]
async fn events_find_their_message_and_count_once() {
    let house = House::new().await;
    let sent = house.post("/v1/messages", &example("urgent")).await.json();
    let event = json!({ "event": "converted", "messageId": sent["messageId"], "id": "order-17" });
    expect("event", &house.post("/v1/events", &event).await);
    assert_eq!(house.post("/v1/events", &event).await.json()["new"], false);
    let prospect = example("urgent")["context"]["prospectId"].clone();
    let mut by_person = json!({ "event": "replied", "tenantId": "acme", "prospectId": prospect });
    let told = house.post("/v1/events", &by_person).await.json();
    assert_eq!(told["messageId"], sent["messageId"]);
    by_person["channel"] = "telegram".into();
    assert_eq!(house.post("/v1/events", &by_person).await.status, 404, "nothing was sent to them there");
    for wrong in ["delivered", "machine_opened", "unsubscribed", "Not a name", ""] {
        let event = json!({ "event": wrong, "messageId": sent["messageId"] });
        assert_eq!(house.post("/v1/events", &event).await.status, 422, "{wrong}");
    }
    let figures = house.get("/v1/tenants/acme/stats?channel=sms").await.json();
    let sms = &figures["channels"][0];
    assert_eq!((&sms["converted"], &sms["replied"], &sms["opened"]), (&json!(1), &json!(1), &json!(null)));
    assert_eq!((&sms["costPerConversion"], &sms["responseRate"]), (&json!(0.05), &json!(null)), "{sms:#}");
}

/// A flood through a public form leaves the reminders' money alone.
#[tokio::test]
async fn what_the_public_origin_uses_up_is_its_own() {
    let house = House::new().await;
    let watch = BudgetWatch::new(
        Arc::clone(&house.api.orchestrator.store) as _,
        house.api.orchestrator.policies.clone(),
        Arc::clone(&house.api.orchestrator.clock),
    );
    assert!(watch.look().await.unwrap().is_empty(), "no budget is set");
    house.policy("[budget.origins.public]\ndaily = 0.2\n[budget]\ndaily = 10\n").await;
    let mut flood = example("urgent");
    flood["context"]["origin"] = "public".into();
    flood["context"].as_object_mut().unwrap().remove("prospectEmail");
    let context = flood["context"].clone();
    let request = json!({ "contexts": vec![context; 100], "content": flood["content"] });
    let answer = house.post("/v1/broadcasts", &request).await.json();
    assert_eq!(answer["summary"]["byStatus"]["sent"], 4, "{:#}", answer["summary"]);
    let alerts = watch.look().await.unwrap();
    assert_eq!(alerts.len(), 1, "{alerts:?}");
    assert_eq!((alerts[0].scope.as_str(), alerts[0].spent), ("daily/public", MicroEuros(200_000)));
    assert!(watch.look().await.unwrap().is_empty(), "told once");
    let figures = house.get("/v1/tenants/acme/stats").await.json();
    assert_eq!(figures["budgetAlerts"][0]["scope"], "daily/public");

    let reminder = house.post("/v1/messages", &example("urgent")).await.json();
    assert_eq!((&reminder["channel"], &reminder["status"]), (&json!("sms"), &json!("sent")));
    house.clock.set(instant("2025-11-15T15:00:00+01:00"));
    let mut tomorrow = flood.clone();
    tomorrow["context"]["prospectId"] = "another".into();
    assert_eq!(
        house.post("/v1/messages", &tomorrow).await.json()["status"],
        "sent",
        "the next day has its own"
    );
    // The watch follows what is saved: a budget that is new, and one that is gone.
    house.policy("[budget]\nmonthly = 0.1\n").await;
    let alerts = watch.look().await.unwrap();
    assert_eq!(alerts.iter().map(|alert| alert.scope.as_str()).collect::<Vec<_>>(), ["monthly"]);
    house.policy("").await;
    house.clock.set(instant("2025-12-15T15:00:00+01:00"));
    assert_eq!(house.post("/v1/messages", &example("urgent")).await.json()["status"], "sent");
    assert!(watch.look().await.unwrap().is_empty(), "no budget is set any more");
}

#[tokio::test]
async fn a_person_gets_no_more_than_the_cap() {
    let house = House::new().await;
    house.policy("[caps]\nper_week = 3\n[caps.marketing]\nper_day = 1\n").await;
    let marketing = || {
        let mut request = example("marketing");
        request["context"]["prospectId"] = "zoe".into();
        request
    };
    assert_eq!(house.post("/v1/messages", &marketing()).await.status, 200);
    let second = house.post("/v1/messages", &marketing()).await;
    assert_eq!(second.status, 422);
    let reason = second.json()["channels"][0]["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("1 marketing messages in the last 24 hours: at most 1 are allowed"), "{reason}");
    let mut other = example("urgent");
    other["context"]["prospectId"] = "zoe".into();
    for expected in [200, 200, 422] {
        assert_eq!(house.post("/v1/messages", &other).await.status, expected);
    }
    house.clock.set(instant("2025-11-21T15:00:01+01:00"));
    assert_eq!(house.post("/v1/messages", &marketing()).await.status, 200, "a week later");
    let listed = house.ask(get("/v1/messages?recipient=zoe&status=skipped")).await.json();
    assert_eq!(listed["messages"].as_array().unwrap().len(), 2);
}

/// Without a public URL nobody can tell us of opens, clicks and arrivals: that is no zero.
#[tokio::test]
async fn what_nobody_could_tell_is_null() {
    for (hears, expected) in [(true, json!(0)), (false, json!(null))] {
        let house = House::idle(ApiSettings { hears, ..ApiSettings::default() }).await;
        let figures = house.get("/v1/tenants/acme/stats?channel=email").await.json();
        let email = &figures["channels"][0];
        assert_eq!((&email["opened"], &email["clicked"]), (&expected, &expected), "{hears}");
        let sms = house.get("/v1/tenants/acme/stats?channel=sms").await.json()["channels"][0].clone();
        assert_eq!((&sms["delivered"], &sms["sent"]), (&expected, &json!(0)), "{hears}");
    }
}
