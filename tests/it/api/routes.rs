//! The document and the metrics: made from what is there, and telling nothing about anybody.

use std::{collections::BTreeSet, fs, path::Path};

use channel_orchestrator::{api::ApiSettings, api::openapi::document};
use serde_json::Value;

use super::house::{House, example, with};

/// Every handler is written as `#[utoipa::path]`: as many in the source as in the document, each answered by
/// the router.
#[tokio::test]
async fn the_document_names_every_route_and_the_router_answers_each() {
    let house = House::idle(ApiSettings::default()).await;
    let served = house.get("/openapi.json").await.json();
    assert_eq!(served, serde_json::to_value(document()).unwrap());
    assert_eq!(served["openapi"], "3.1.0");
    assert_eq!(served["info"]["title"], "Channel Orchestrator");
    assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));

    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/api");
    let handlers: usize = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .map(|path| fs::read_to_string(path).unwrap().matches("#[utoipa::path(").count())
        .sum();
    let (mut operations, mut names) = (0, BTreeSet::new());
    for (path, item) in served["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            operations += 1;
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "OpenAPI wants names that are unique: {name} of {method} {path}");
            assert!(operation["responses"]["200"].is_object(), "{method} {path}");
            let path = path.replace("{id}", "msg_1").replace("{tenant}", "acme");
            // Its answer has no end, unless it is a refusal.
            let path = if path == "/v1/tail" { "/v1/tail?no=1".to_owned() } else { path };
            let request =
                axum::http::Request::builder().method(method.to_ascii_uppercase().as_str()).uri(&path);
            let answer = house.ask(request.body(axum::body::Body::empty()).unwrap()).await;
            let known = !answer.text.contains("such route") && answer.status != 405;
            assert!(known, "{method} {path}: {answer:?}");
        }
    }
    assert_eq!(operations, handlers);
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn references(value: &Value, found: &mut BTreeSet<String>) {
        match value {
            Value::Object(map) => {
                if let Some(Value::String(reference)) = map.get("$ref") {
                    found.insert(reference.clone());
                }
                map.values().for_each(|value| references(value, found));
            }
            Value::Array(items) => items.iter().for_each(|item| references(item, found)),
            _ => {}
        }
    }
    let document = serde_json::to_value(document()).unwrap();
    let mut found = BTreeSet::new();
    references(&document, &mut found);
    assert!(found.len() > 10, "{found:?}");
    for reference in found {
        let pointer = reference.strip_prefix('#').expect("references stay in the document");
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn the_document_requires_nothing_that_the_examples_leave_out() {
    let document = serde_json::to_value(document()).unwrap();
    for name in ["appointment", "fallback", "marketing", "quiet_hours", "urgent"] {
        let request = example(name);
        for (schema, part) in
            [("Request", &request), ("Context", &request["context"]), ("Content", &request["content"])]
        {
            let required = document.pointer(&format!("/components/schemas/{schema}/required"));
            for field in required.and_then(Value::as_array).into_iter().flatten() {
                assert!(part.get(field.as_str().unwrap()).is_some(), "{field} of {schema} in {name}");
            }
        }
    }
    let required = document.pointer("/components/schemas/Context/required").unwrap();
    assert_eq!(*required, serde_json::json!(["tenantId", "prospectId"]));
}

#[tokio::test]
async fn metrics_count_and_name_nobody() {
    let house = House::new().await;
    house.post("/v1/decisions", &example("urgent")).await;
    let sent = house.post("/v1/messages", &example("fallback")).await;
    house.get(sent.header("location").unwrap()).await;
    let metrics = house.get("/metrics").await;
    assert!(metrics.header("content-type").unwrap().starts_with("application/openmetrics-text"));
    assert!(metrics.text.ends_with("# EOF\n"));
    for line in [
        "orchestrator_decisions_total{tenant=\"acme\",channel=\"sms\"} 2",
        "orchestrator_messages_accepted_total{tenant=\"acme\",status=\"queued\"} 1",
        "orchestrator_messages{status=\"sent\"} 1",
        "orchestrator_message_outcomes_total{tenant=\"acme\",status=\"sent\"} 1",
        "orchestrator_attempts_total{channel=\"sms\",status=\"refused_permanent\"} 1",
        "orchestrator_attempts_total{channel=\"email\",status=\"accepted\"} 1",
        "orchestrator_messages{status=\"queued\"} 0",
        "orchestrator_http_requests_total{method=\"POST\",path=\"/v1/messages\",status=\"200\"} 1",
        "orchestrator_http_requests_total{method=\"GET\",path=\"/v1/messages/{id}\",status=\"200\"} 1",
        "orchestrator_policy_tenants_rejected 0",
        // The shipped scripts', and those of every other test in this process.
        "orchestrator_scripts_differing_total 0",
    ] {
        assert!(metrics.text.lines().any(|l| l == line), "{line}\n{}", metrics.text);
    }
    let id = sent.json()["messageId"].as_str().unwrap().to_owned();
    for personal in [id.as_str(), "prospect", "+15005550001", "client@example.com", "Visite"] {
        assert!(!metrics.text.contains(personal), "{personal}");
    }
}

/// What callers invent does not become labels without end.
#[tokio::test]
async fn invented_paths_and_methods_are_counted_together() {
    let house = House::idle(ApiSettings::default()).await;
    for n in 0..3 {
        house.get(&format!("/made/up/{n}")).await;
        let request = axum::http::Request::builder().method(format!("M{n}").as_str()).uri("/healthz");
        house.ask(with(request.body(axum::body::Body::empty()).unwrap(), "accept", "*/*")).await;
    }
    let text = house.get("/metrics").await.text;
    assert!(text.contains("{method=\"GET\",path=\"unmatched\",status=\"404\"} 3"), "{text}");
    assert!(text.contains("{method=\"other\",path=\"/healthz\",status=\"405\"} 3"), "{text}");
    assert!(!text.contains("made"), "{text}");
}
