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

/// The brief's broadcast: one content, and each person's own name in it.
#[tokio::test]
async fn a_broadcast_renders_for_each_person() {
    let house = House::new().await;
    let person = |id: &str, name: &str| {
        json!({ "tenantId": "acme", "prospectId": id, "prospectName": name, "prospectEmail": format!("{id}@example.com"),
                "messageType": "marketing", "priority": { "level": "low" } })
    };
    let content = json!({
        "subject": "Nouvelle propriété disponible", "body": "Découvrez notre nouvelle propriété...",
        "templateId": "NEW_PROPERTY_ALERT",
        "data": { "propertyAddress": "123 Rue de Paris", "propertyPrice": "450 000 €" },
    });
    let contexts = [person("marie", "Marie Dupont"), person("jean", "Jean Martin")];
    let answer = house.post("/v1/broadcasts", &json!({ "contexts": contexts, "content": content })).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let outbox = house.dir.path().join("outbox/email");
    let sent: Vec<String> = fs::read_dir(outbox)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|e| e == "json"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    for name in ["Bonjour Marie Dupont,", "Bonjour Jean Martin,"] {
        let of = sent.iter().filter(|text| text.contains(name)).count();
        assert_eq!(of, 1, "{name}: {sent:#?}");
    }
    let mut incomplete = content.clone();
    incomplete["data"] = json!({ "propertyAddress": "123 Rue de Paris" });
    let answer = house.post("/v1/broadcasts", &json!({ "contexts": contexts, "content": incomplete })).await;
    assert!(answer.text.contains("/content/data/propertyPrice"), "{answer:?}");
}
