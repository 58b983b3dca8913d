//! What is refused, where, and in which words; and that what is good is read whole.

use serde_json::json;

use super::*;
use crate::domain::{channel::Channel, message::Priority};

fn faults(value: serde_json::Value, purpose: Purpose) -> Vec<(String, String, Option<String>)> {
    let from_bytes = parse(value.to_string().as_bytes(), purpose).unwrap_err();
    let from_value = parse_value(value, purpose).unwrap_err();
    assert_eq!(from_bytes, from_value);
    match from_value {
        RequestError::Faults(faults) => faults.into_iter().map(|f| (f.pointer, f.detail, f.hint)).collect(),
        RequestError::Syntax(syntax) => panic!("{syntax}"),
    }
}

#[test]
fn the_briefs_request_is_read_whole() {
    let asked = parse_value(
        json!({
            "context": {
                "tenantId": "tenant_123", "prospectId": "prospect_456", "prospectName": "Marie Dupont",
                "prospectPhone": "+33612345678", "prospectEmail": "marie.dupont@example.com",
                "prospectWhatsApp": "+33612345679", "prospectTelegram": "42", "messageType": "appointment",
                "priority": { "level": "urgent", "sendWithin": 10 },
                "preferences": {
                    "preferredChannels": ["sms", "email"], "fallbackChannels": ["email"],
                    "quietHoursStart": "22:00", "quietHoursEnd": "08:00", "allowSMSDuringQuietHours": true
                },
                "timezone": "Europe/Paris"
            },
            "content": {
                "subject": "Rappel RDV", "body": "Bonjour Marie, rappel de votre RDV demain à 15h.",
                "templateId": "APPOINTMENT_REMINDER_24H", "data": { "firstName": "Marie" },
                "attachments": [{ "filename": "a.pdf", "content": "JVBERg==", "contentType": "application/pdf" }]
            },
            "sendAt": "2025-11-14T23:00:00+01:00"
        }),
        Purpose::Message,
    )
    .unwrap();
    let request = asked.request;
    assert_eq!(request.priority, Some(Priority::Urgent));
    assert_eq!(request.send_within, Some(10));
    assert_eq!(request.preferences.preferred, [Channel::Sms, Channel::Email]);
    assert!(request.preferences.allow_sms_in_quiet_hours);
    assert_eq!(request.contacts.whatsapp.as_deref(), Some("+33612345679"));
    assert_eq!(request.content.attachments[0].bytes, b"%PDF");
    assert_eq!(request.time_zone, Some(chrono_tz::Europe::Paris));
    assert_eq!(request.send_at.unwrap().to_rfc3339(), "2025-11-14T22:00:00+00:00");
}

#[test]
fn every_fault_is_told_at_once_with_its_pointer() {
    let found = faults(
        json!({
            "contxt": 1,
            "context": {
                "tenantId": "Tenant 1", "prospectPhone": 33612345678_i64, "messageType": "marketting",
                "timezone": "Europe/Pari", "eventAt": "tomorrow", "priority": { "level": "high", "sendwithin": 3 },
                "preferences": { "preferredChannels": ["sms", "fax", "email", 7], "quietHoursStart": "25:00" }
            },
            "content": { "body": "x", "attachments": [{ "filename": "../x", "content": "%%" }] },
            "at": "2025-11-14T23:00:00+01:00"
        }),
        Purpose::Message,
    );
    let found: Vec<(&str, &str, Option<&str>)> =
        found.iter().map(|(p, d, h)| (p.as_str(), d.as_str(), h.as_deref())).collect();
    for expected in [
        ("/contxt", "unknown field `contxt`", Some("did you mean `context`?")),
        ("/context/messageType", "unknown value `marketting`", Some("did you mean `marketing`?")),
        ("/context/priority/sendwithin", "unknown field `sendwithin`", Some("did you mean `sendWithin`?")),
        (
            "/context/preferences/preferredChannels/1",
            "unknown value `fax`",
            Some("known here: sms, email, whatsapp, telegram"),
        ),
        ("/context/prospectId", "required, and missing", None),
        ("/context/timezone", "\"Europe/Pari\" is not a time zone", Some("did you mean Europe/Paris?")),
        ("/content/attachments/0/filename", "expected a plain file name, without a folder", None),
    ] {
        assert!(found.contains(&expected), "{expected:?} not in {found:#?}");
    }
    let pointers: Vec<&str> = found.iter().map(|(pointer, ..)| *pointer).collect();
    for pointer in [
        "/context/tenantId",
        "/context/prospectPhone",
        "/context/eventAt",
        "/context/preferences/preferredChannels/3",
        "/context/preferences/quietHoursStart",
        "/content/attachments/0/content",
        "/at",
    ] {
        assert_eq!(pointers.iter().filter(|p| **p == pointer).count(), 1, "{pointer} in {pointers:?}");
    }
    assert_eq!(found.len(), 14, "{found:#?}");
}

#[test]
fn an_array_is_no_object_however_its_elements_fit() {
    let whole = json!([{ "tenantId": "t", "prospectId": "p" }, { "body": "x" }]);
    let place = |found: Vec<(String, String, Option<String>)>| found[0].clone();
    let (pointer, detail, _) = place(faults(whole, Purpose::Decision));
    assert_eq!((pointer.as_str(), detail.as_str()), ("", "invalid type: sequence, expected an object"));

    let (context, content) = (json!({ "tenantId": "t", "prospectId": "p" }), json!({ "body": "x" }));
    let base = json!({ "context": context, "content": content });
    for (pointer, fits) in [
        ("/context", json!(["t", "p"])),
        ("/content", json!(["subject", "body"])),
        ("/context/priority", json!(["urgent", 5])),
        ("/context/preferences", json!([["sms"]])),
    ] {
        let mut request = base.clone();
        let (above, field) = pointer.rsplit_once('/').unwrap();
        request.pointer_mut(above).unwrap()[field] = fits;
        assert_eq!(place(faults(request, Purpose::Decision)).0, pointer);
    }
    let mut request = base.clone();
    request["content"]["attachments"] = json!([["a.pdf", "JVBERg=="]]);
    assert_eq!(place(faults(request, Purpose::Decision)).0, "/content/attachments/0");

    let mut nulls = base;
    nulls["context"]["priority"] = json!(null);
    nulls["content"]["attachments"] = json!(null);
    assert!(parse(nulls.to_string().as_bytes(), Purpose::Message).is_ok());
}

#[test]
fn each_purpose_takes_what_it_may() {
    let base = json!({ "context": { "tenantId": "t", "prospectId": "p" } });
    assert!(parse_value(base.clone(), Purpose::Decision).is_ok());
    assert_eq!(faults(base.clone(), Purpose::Message)[0].0, "/content");
    let mut with_facts = base;
    with_facts["facts"] = json!({ "history": { "email": { "received": 6, "engaged": 0, "average": 0.27 } } });
    assert_eq!(faults(with_facts.clone(), Purpose::Decision)[0].0, "/facts");
    let asked = parse_value(with_facts, Purpose::Explain).unwrap();
    assert_eq!(asked.facts.unwrap().history[Channel::Email].unwrap().received, 6);
}

#[test]
fn what_is_not_json_says_where() {
    let RequestError::Syntax(words) = parse(b"{\n  \"context\": {,\n", Purpose::Decision).unwrap_err() else {
        panic!()
    };
    assert!(words.contains("line 2 column 15"), "{words}");
    let deep = format!("{}1{}", "[".repeat(40), "]".repeat(40));
    let RequestError::Syntax(words) = parse(deep.as_bytes(), Purpose::Decision).unwrap_err() else {
        panic!()
    };
    assert!(words.contains("32 levels"), "{words}");
    // Given twice: refused, not merged in silence.
    let twice = br#"{"context":{"tenantId":"a","tenantId":"b","prospectId":"p"}}"#;
    assert!(parse(twice, Purpose::Decision).is_err());
}
