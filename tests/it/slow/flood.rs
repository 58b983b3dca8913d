//! Ten thousand messages through a public form, and the reminders' money untouched (T7, and the third issue's own bar).

use serde_json::{Value, json};

use crate::support::daemon::Daemon;

const ROWS: usize = 1_000;

/// How much the flood may spend: four messages of five cents.
const TENANT: &str = "[budget]\ndaily = 100\n[budget.origins.public]\ndaily = 0.2\n[quiet_hours]\nstart = \"00:00\"\nend = \"00:00\"\n";

fn context(person: &str, phone: usize, origin: &str) -> Value {
    json!({
        "tenantId": "acme", "prospectId": person, "prospectPhone": format!("+336{:08}", 12_000_000 + phone),
        "messageType": "notification", "priority": { "level": "urgent" }, "origin": origin,
    })
}

#[test]
fn ten_thousand_messages_of_the_public_origin_leave_the_reminders_their_budget() {
    let folder = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(folder.path(), TENANT, "");
    daemon.start();
    let content = json!({ "body": "Votre demande de visite est bien reçue" });
    let (mut sent, mut rows) = (0, 0);
    for round in 0..10 {
        let contexts: Vec<Value> =
            (0..ROWS).map(|n| context(&format!("f-{round}-{n}"), round * ROWS + n, "public")).collect();
        let body = json!({ "contexts": contexts, "content": content }).to_string();
        let answer = daemon.call("POST", "/v1/broadcasts", &[], &body).unwrap();
        assert_eq!(answer.status, 200, "{}", &answer.text[..answer.text.len().min(600)]);
        rows += answer.body["results"].as_array().unwrap().len();
        sent += answer.body["summary"]["byStatus"]["sent"].as_u64().unwrap_or(0);
    }
    assert_eq!((rows, sent), (10 * ROWS, 4), "no more than its own budget pays");
    // Each reminder of the day goes, and by the channel that suits it.
    for n in 0..20 {
        let reminder =
            json!({ "context": context(&format!("r-{n}"), 50_000 + n, "api"), "content": content });
        let answer = daemon.call("POST", "/v1/messages", &[], &reminder.to_string()).unwrap();
        let (channel, status) = (&answer.body["channel"], &answer.body["status"]);
        assert_eq!((channel, status), (&json!("sms"), &json!("sent")), "{n}: {}", answer.body);
    }
    let figures = daemon.call("GET", "/v1/tenants/acme/stats?channel=sms", &[], "").unwrap().body;
    assert_eq!(figures["channels"][0]["sent"], 24, "{figures:#}");
    let (clean, said) = daemon.command(&["audit"]);
    assert!(clean, "{said}");
}
