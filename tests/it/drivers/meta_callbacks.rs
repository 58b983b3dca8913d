//! Meta's webhooks: Meta's own examples, signed; and everything that is not signed by it.

use std::sync::Arc;

use channel_orchestrator::{
    channels::{
        Driver,
        callback::{CallbackAnswer, CallbackRefused},
    },
    domain::{
        channel::Channel,
        delivery::{AttemptError, ErrorClass},
        ids::AttemptId,
        receipt::{InboundMessage, ProviderEvent, ProviderReceipt, ReceiptKind},
    },
};
use proptest::prelude::*;
use ring::hmac;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    chat::{ATTEMPT, Secrets, call, events},
    driver,
};

#[derive(Deserialize)]
struct Vector {
    name: String,
    secret: String,
    body: String,
    signature: String,
}

fn vectors() -> Vec<Vector> {
    serde_json::from_str(include_str!("meta_vectors.json")).unwrap()
}

fn meta(more: &[(&str, &str)]) -> (Arc<dyn Driver>, Secrets) {
    let secrets = Secrets::new();
    let mut toml = String::from(
        "kind = \"meta\"\nphone_number_id = \"106540352242922\"\nbase_url = \"http://127.0.0.1:1\"\n",
    );
    for (key, secret) in [("access_token", "t")].iter().chain(more) {
        toml.push_str(&format!("{key} = \"{}\"\n", secrets.keep(key, secret)));
    }
    (driver(&toml).unwrap(), secrets)
}

fn signed(secret: &str, body: &[u8]) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
    let digits: String = hmac::sign(&key, body).as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
    format!("sha256={digits}")
}

fn post(driver: &Arc<dyn Driver>, body: &[u8], signature: &str) -> Result<CallbackAnswer, CallbackRefused> {
    call(driver, "POST", "", &[("x-hub-signature-256", signature)], body)
}

/// What a webhook with this value of ours says.
fn said(value: Value) -> Result<CallbackAnswer, CallbackRefused> {
    let (driver, _secrets) = meta(&[("app_secret", "s")]);
    let mut value = value;
    value["metadata"] =
        json!({ "display_phone_number": "15550783881", "phone_number_id": "106540352242922" });
    let body = json!({ "object": "whatsapp_business_account",
        "entry": [{ "id": "1", "changes": [{ "field": "messages", "value": value }] }] });
    let body = body.to_string();
    post(&driver, body.as_bytes(), &signed("s", body.as_bytes()))
}

#[test]
fn metas_own_examples_are_taken_and_no_flipped_bit_is() {
    let vectors = vectors();
    assert!(vectors.len() >= 20);
    for Vector { name, secret, body, signature } in vectors {
        let (driver, _secrets) = meta(&[("app_secret", &secret)]);
        let body = body.into_bytes();
        assert!(post(&driver, &body, &signature).is_ok() || body.is_empty(), "{name}");
        for at in 0..body.len() * 8 {
            let mut flipped = body.clone();
            flipped[at / 8] ^= 1 << (at % 8);
            assert_eq!(post(&driver, &flipped, &signature), Err(CallbackRefused::NotVerified), "{name} {at}");
        }
        for at in 0..signature.len() * 8 {
            let mut flipped = signature.clone().into_bytes();
            flipped[at / 8] ^= 1 << (at % 8);
            // A header that is not text never reaches a driver.
            let Ok(flipped) = String::from_utf8(flipped) else { continue };
            assert_eq!(post(&driver, &body, &flipped), Err(CallbackRefused::NotVerified), "{name} {flipped}");
        }
    }
}

#[test]
fn nothing_is_taken_without_the_right_signature() {
    let Vector { secret, body, signature, .. } = vectors().remove(0);
    let body = body.as_bytes();
    let (driver, _secrets) = meta(&[("app_secret", &secret)]);
    let bare = signature.trim_start_matches("sha256=");
    for wrong in ["", "sha256=", bare, &signature.to_uppercase(), &format!("{signature} "), &signed("", body)]
    {
        assert_eq!(post(&driver, body, wrong), Err(CallbackRefused::NotVerified), "{wrong}");
    }
    assert_eq!(call(&driver, "POST", "", &[], body), Err(CallbackRefused::NotVerified));
    let sha1 = [("x-hub-signature", signature.as_str())];
    assert_eq!(call(&driver, "POST", "", &sha1, body), Err(CallbackRefused::NotVerified));
    let header = [("x-hub-signature-256", signature.as_str())];
    assert_eq!(call(&driver, "PUT", "", &header, body), Err(CallbackRefused::NotVerified));
    let (without, _secrets) = meta(&[]);
    assert!(without.callbacks().is_none(), "no secret, no callbacks");
}

#[test]
fn two_secrets_hold_while_one_is_being_changed() {
    let (driver, _secrets) = meta(&[("app_secret", "new"), ("app_secret_previous", "old")]);
    let body = br#"{"object":"whatsapp_business_account","entry":[]}"#;
    for secret in ["new", "old"] {
        assert_eq!(events(post(&driver, body, &signed(secret, body))), [], "{secret}");
    }
    assert_eq!(post(&driver, body, &signed("older", body)), Err(CallbackRefused::NotVerified));
}

#[test]
fn the_handshake_gives_back_digits_to_who_knows_the_token() {
    let (driver, _secrets) = meta(&[("app_secret", "s"), ("verify_token", "mot de passe+1")]);
    let get = |query: &str| call(&driver, "GET", query, &[], b"");
    let right = "hub.mode=subscribe&hub.challenge=1158201444&hub.verify_token=mot+de%20passe%2B1";
    assert_eq!(get(right), Ok(CallbackAnswer::Challenge("1158201444".into())));
    let long = "1".repeat(33);
    for (wrong, by) in [
        ("1158201444", "<script>alert(1)</script>"),
        ("1158201444", "%3Cscript%3E"),
        ("1158201444", ""),
        ("1158201444", "12a"),
        ("1158201444", "%D9%A1%D9%A2"),
        ("1158201444", "1%0d%0a2"),
        ("1158201444", long.as_str()),
        ("hub.challenge=1158201444&", ""),
        ("passe%2B1", "passe%2B2"),
        ("passe%2B1", "passe%2B"),
        ("&hub.verify_token=mot+de%20passe%2B1", ""),
        ("subscribe", "unsubscribe"),
        ("hub.mode=subscribe&", ""),
        ("1158201444", "1%ff"),
    ] {
        assert_eq!(get(&right.replace(wrong, by)), Err(CallbackRefused::NotVerified), "{wrong} by {by}");
    }
    let (without, _secrets) = meta(&[("app_secret", "s")]);
    assert_eq!(call(&without, "GET", right, &[], b""), Err(CallbackRefused::NotVerified));
}

#[test]
fn statuses_are_receipts() {
    let status = |more: Value| {
        let mut status = json!({ "id": "wamid.1", "timestamp": "1750030073", "recipient_id": "33612345678" });
        status.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        status
    };
    let receipt = |kind, error| {
        ProviderEvent::Receipt(ProviderReceipt {
            provider_message_id: Some("wamid.1".into()),
            attempt: None,
            kind,
            at: chrono::DateTime::from_timestamp(1_750_030_073, 0),
            error,
            cost: None,
        })
    };
    let failed = json!({ "status": "failed", "errors": [{ "code": 131047, "title": "Re-engagement message",
        "message": "Re-engagement message", "error_data": { "details": "33612345678 is silent" } }] });
    let read = events(said(json!({ "statuses": [
        status(json!({ "status": "read" })), status(json!({ "status": "sent" })),
        status(json!({ "status": "delivered", "pricing": { "billable": true } })),
        status(json!({ "status": "deleted" })), status(failed),
        status(json!({ "status": "sent", "biz_opaque_callback_data": ATTEMPT })),
        status(json!({ "status": "sent", "biz_opaque_callback_data": "somebody else's" })),
        status(json!({ "status": "failed", "errors": [{ "code": 131_000, "title": "Something went wrong" }] })),
    ]})));
    let error = |class, code: &str, detail: &str| {
        Some(AttemptError { class, code: Some(code.into()), detail: detail.into() })
    };
    let mut named = receipt(ReceiptKind::Sent, None);
    if let ProviderEvent::Receipt(receipt) = &mut named {
        receipt.attempt = Some(AttemptId::parse(ATTEMPT).unwrap());
    }
    let silent = "Re-engagement message: …78 is silent: the person has not written within 24 hours: send an approved \
                  template";
    assert_eq!(
        read,
        [
            receipt(ReceiptKind::Read, None),
            receipt(ReceiptKind::Sent, None),
            receipt(ReceiptKind::Delivered, None),
            receipt(ReceiptKind::Undelivered, error(ErrorClass::Permanent, "131047", silent)),
            named,
            receipt(ReceiptKind::Sent, None),
            // A status that says "failed" leaves nothing unknown.
            receipt(ReceiptKind::Undelivered, error(ErrorClass::Permanent, "131000", "Something went wrong")),
        ]
    );
}

#[test]
fn what_people_write_is_inbound() {
    let inbound = |from: &str, text: &str, answers: Option<&str>| {
        ProviderEvent::Inbound(InboundMessage {
            channel: Channel::WhatsApp,
            provider_message_id: "wamid.in".into(),
            from: from.into(),
            to: "+15550783881".into(),
            text: text.into(),
            at: chrono::DateTime::from_timestamp(1_750_000_000, 0),
            answers: answers.map(str::to_owned),
        })
    };
    let wrote = |from: &str, more: Value| {
        let mut message = json!({ "id": "wamid.in", "from": from, "timestamp": "1750000000" });
        message.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        events(said(json!({ "messages": [message] })))
    };
    let fr = "33612345678";
    for (more, expected) in [
        (
            json!({ "type": "text", "text": { "body": "STOP é 👍" } }),
            inbound("+33612345678", "STOP é 👍", None),
        ),
        (
            json!({ "type": "button", "button": { "payload": "x", "text": "Unsubscribe" },
                "context": { "from": "15550783881", "id": "wamid.ours" } }),
            inbound("+33612345678", "Unsubscribe", Some("wamid.ours")),
        ),
        (
            json!({ "type": "interactive", "context": { "id": "wamid.ours" },
                "interactive": { "type": "button_reply", "button_reply": { "id": "1", "title": "Arrêt" } } }),
            inbound("+33612345678", "Arrêt", Some("wamid.ours")),
        ),
        (
            json!({ "type": "interactive",
                "interactive": { "type": "list_reply", "list_reply": { "id": "1", "title": "Lundi" } } }),
            inbound("+33612345678", "Lundi", None),
        ),
        (
            json!({ "type": "image", "image": { "id": "1", "caption": "stop" } }),
            inbound("+33612345678", "stop", None),
        ),
        (json!({ "type": "audio", "audio": { "id": "1" } }), inbound("+33612345678", "", None)),
    ] {
        assert_eq!(wrote(fr, more.clone()), [expected], "{more}");
    }
    for kind in ["reaction", "system", "unsupported"] {
        assert_eq!(wrote(fr, json!({ "type": kind, kind: { "body": "STOP" } })), [], "{kind}");
    }
    // An opt-out must meet the address that we write to.
    for (id, number) in [
        ("5215512345678", "+525512345678"),
        ("551187654321", "+5511987654321"),
        ("5511987654321", "+5511987654321"),
    ] {
        let text = json!({ "type": "text", "text": { "body": "STOP" } });
        assert_eq!(wrote(id, text), [inbound(number, "STOP", None)], "{id}");
    }
}

#[test]
fn another_numbers_events_are_not_ours() {
    let (driver, _secrets) = meta(&[("app_secret", "s")]);
    let change = |number: Value, field: &str| {
        json!({ "field": field, "value": { "metadata": { "phone_number_id": number, "display_phone_number": "1" },
            "statuses": [{ "id": "wamid.theirs", "status": "failed", "timestamp": "1" }],
            "messages": [{ "id": "wamid.stop", "from": "33612345678", "type": "text", "text": { "body": "STOP" } }] } })
    };
    for (number, field, expected) in [
        (json!("999"), "messages", 0),
        (json!(106_540_352_242_922_i64), "messages", 0),
        (Value::Null, "messages", 0),
        (json!("106540352242922"), "message_template_status_update", 0),
        (json!("106540352242922"), "messages", 2),
    ] {
        let body = json!({ "entry": [{ "changes": [change(number.clone(), field)] }] }).to_string();
        let read = events(post(&driver, body.as_bytes(), &signed("s", body.as_bytes())));
        assert_eq!(read.len(), expected, "{number} {field}");
    }
}

#[test]
fn one_odd_item_hides_no_other_and_nothing_readable_is_said() {
    let good = json!({ "id": "wamid.1", "status": "sent", "timestamp": "1" });
    let odd = json!({ "status": "sent" });
    assert_eq!(events(said(json!({ "statuses": [odd, good] }))).len(), 1);
    for value in [json!({ "statuses": [{ "status": "sent" }] }), json!({ "messages": [7] })] {
        assert!(matches!(said(value), Err(CallbackRefused::Unreadable(_))));
    }
    let (driver, _secrets) = meta(&[("app_secret", "s")]);
    for body in ["", "x", "[]", "{}", "null", "{\"entry\":7}"] {
        let read = post(&driver, body.as_bytes(), &signed("s", body.as_bytes()));
        assert!(matches!(read, Err(CallbackRefused::Unreadable(_))), "{body}: {read:?}");
    }
}

/// Any JSON, with Meta's own names among its keys.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        "[a-z0-9.+]{0,20}".prop_map(Value::from),
        prop_oneof![Just("106540352242922"), Just("messages"), Just("text"), Just("failed")]
            .prop_map(Value::from),
    ];
    let key = prop_oneof![
        Just("entry"),
        Just("changes"),
        Just("value"),
        Just("field"),
        Just("metadata"),
        Just("phone_number_id"),
        Just("statuses"),
        Just("messages"),
        Just("id"),
        Just("from"),
        Just("status"),
        Just("errors"),
        Just("code"),
        Just("type"),
        Just("text"),
        Just("body"),
        Just("context"),
        Just("timestamp"),
        Just("interactive"),
    ];
    leaf.prop_recursive(8, 128, 8, move |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            proptest::collection::btree_map(key.clone().prop_map(str::to_owned), inner, 0..8)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn no_signed_body_breaks_the_reader(body in any_json(), value in any_json()) {
        let (driver, _secrets) = meta(&[("app_secret", "s")]);
        let body = body.to_string();
        let read = post(&driver, body.as_bytes(), &signed("s", body.as_bytes()));
        prop_assert!(!matches!(read, Err(CallbackRefused::NotVerified)));
        if value.is_object() {
            prop_assert!(!matches!(said(value), Err(CallbackRefused::NotVerified)));
        }
    }

    #[test]
    fn nothing_unsigned_is_read(body in any::<Vec<u8>>(), signature in "(sha256=)?[0-9a-f]{0,64}") {
        let (driver, _secrets) = meta(&[("app_secret", "s")]);
        prop_assert_eq!(post(&driver, &body, &signature), Err(CallbackRefused::NotVerified));
    }
}
