//! Messages from templates over HTTP: what is refused, what is sent, what is shown of them.

use std::fs;

use channel_orchestrator::api::ApiSettings;
use serde_json::{Value, json};

use super::house::{House, example};

fn reminder(data: Value) -> Value {
    json!({
        "context": { "tenantId": "acme", "prospectId": "p", "prospectPhone": "+33612345678", "prospectEmail": "marie@example.com" },
        "content": { "templateId": "APPOINTMENT_REMINDER_24H", "data": data },
    })
}

#[tokio::test]
async fn missing_data_is_refused_with_the_names_and_nothing_is_kept() {
    let house = House::idle(ApiSettings::default()).await;
    for path in ["/v1/messages", "/v1/decisions"] {
        let answer = house.post(path, &reminder(json!({ "firstName": "Marie" }))).await;
        assert_eq!(answer.status, 422, "{answer:?}");
        let problem = answer.json();
        assert_eq!(problem["type"], "/problems/invalid-request");
        let pointers: Vec<&str> =
            problem["errors"].as_array().unwrap().iter().map(|e| e["pointer"].as_str().unwrap()).collect();
        assert_eq!(pointers, ["/content/data/appointmentTime", "/content/data/companyName"]);
    }
    let kept = house.get("/v1/messages?tenant=acme").await.json();
    assert_eq!(kept["messages"], json!([]), "{kept}");
}

#[tokio::test]
async fn an_unknown_template_is_refused_with_a_suggestion() {
    let house = House::idle(ApiSettings::default()).await;
    let mut request = reminder(json!({}));
    request["content"] = json!({ "templateId": "APPOINTMENT_REMINDER_42H", "body": "Bonjour" });
    let problem = house.post("/v1/messages", &request).await.json();
    assert_eq!(problem["status"], 422);
    assert_eq!(problem["errors"][0]["pointer"], "/content/templateId");
    assert_eq!(problem["errors"][0]["hint"], "did you mean \"APPOINTMENT_REMINDER_24H\"?");
}

/// The brief's own request: what leaves is the template's form, not the body beside it.
#[tokio::test]
async fn what_is_sent_is_the_form_of_the_channel() {
    let house = House::new().await;
    let answer = house.post("/v1/messages", &example("appointment")).await.json();
    assert_eq!(answer["sentVia"], "sms", "{answer}");
    let outbox = house.dir.path().join("outbox/sms");
    let file = fs::read_dir(outbox).unwrap().next().unwrap().unwrap().path();
    let sent: Value = serde_json::from_slice(&fs::read(file).unwrap()).unwrap();
    assert!(
        sent.to_string().contains("Bonjour Marie, rappel : votre RDV demain à 15h. Agence Dupont"),
        "{sent:#}"
    );
    assert!(!sent.to_string().contains("rappel de votre RDV"), "{sent:#}");
}

#[tokio::test]
async fn a_policy_shows_its_templates() {
    let house = House::idle(ApiSettings::default()).await;
    let shown = house.get("/v1/policies/acme").await.json();
    let templates = shown["templates"].as_array().unwrap();
    let nps = templates.iter().find(|template| template["id"] == "NPS_SURVEY").unwrap();
    assert_eq!(nps["file"], "templates/NPS_SURVEY.toml");
    assert_eq!(nps["locales"], json!(["en", "fr"]));
    assert_eq!(nps["variables"], json!(["firstName", "companyName", "link"]));
}
