//! Twilio's callbacks, judged by vectors that its own SDKs made.

use std::sync::Arc;

use channel_orchestrator::{
    channels::{
        Driver,
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest},
        http::{
            form::encode,
            signature::{Hash, sha256_hex, sign_base64},
        },
    },
    domain::{
        channel::Channel,
        receipt::{ProviderEvent, ReceiptKind},
    },
};
use serde_json::Value;

use super::twilio::{SID, now, pairs, sid, twilio};
use crate::support::http_provider::secret;

/// A form as Twilio posts it.
fn posted<'a>(url: &'a str, body: &'a [u8], headers: &'a [(String, String)]) -> CallbackRequest<'a> {
    let query = url.split_once('?').map_or("", |(_, query)| query);
    CallbackRequest { method: "POST", url, query, headers, body, now: now() }
}

fn read(
    driver: &Arc<dyn Driver>,
    url: &str,
    body: &str,
    kind: &str,
    signature: &str,
) -> Result<CallbackAnswer, CallbackRefused> {
    let headers =
        pairs(&[("content-type", kind), ("x-twilio-signature", signature), ("host", "evil.example")]);
    driver.callbacks().unwrap().read(&posted(url, body.as_bytes(), &headers))
}

const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";

fn vectors() -> Vec<Value> {
    serde_json::from_str(include_str!("twilio_vectors.json")).unwrap()
}

fn body_of(vector: &Value) -> String {
    let form: Vec<(String, String)> = vector["form"]
        .as_object()
        .unwrap()
        .iter()
        .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
        .collect();
    encode(form.iter().map(|(n, v)| (n.as_str(), v.as_str())))
}

#[test]
fn what_twilios_own_sdks_signed_is_believed_and_nothing_else() {
    let (driver, _dir) = twilio("twilio", 1, "");
    let mut forms = 0;
    for vector in vectors().iter().filter(|vector| vector["form"]["AccountSid"].is_string()) {
        let (url, signature) = (vector["url"].as_str().unwrap(), vector["signature"].as_str().unwrap());
        let (name, body) = (&vector["name"], body_of(vector));
        assert!(
            matches!(read(&driver, url, &body, FORM, signature), Ok(CallbackAnswer::Events(_))),
            "{name}"
        );
        let refused = |url: &str, body: &str, signature: &str| {
            let answer = read(&driver, url, body, FORM, signature);
            assert_eq!(answer, Err(CallbackRefused::NotVerified), "{name}: {url} {body}");
        };
        refused(url, &format!("{body}&Extra=1"), signature);
        refused(url, &body.replace("%2B336", "%2B337"), signature);
        refused(url, &body.replace("AccountSid", "accountSid"), signature);
        refused(&format!("{url}&x=1"), &body, signature);
        refused(&url.replace("hooks", "hook").replace("127.0.0.1", "127.0.0.2"), &body, signature);
        refused(url, &body, &signature.replace(char::is_alphanumeric, "A"));
        refused(url, &body, "");
        for at in 0..body.len() {
            let mut bytes = body.clone().into_bytes();
            bytes[at] ^= 1;
            if let Ok(changed) = String::from_utf8(bytes) {
                let answer = read(&driver, url, &changed, FORM, signature);
                assert_eq!(answer, Err(CallbackRefused::NotVerified), "{name}: bit flipped at {at}");
            }
        }
        forms += 1;
    }
    assert_eq!(forms, 6);
}

#[test]
fn the_remaining_vectors_verify_as_their_sdk_says() {
    let (driver, _dir) = twilio("twilio", 1, "");
    let vectors = vectors();
    let named = |name: &str| vectors.iter().find(|vector| vector["name"] == name).unwrap();
    // The page's own example is a phone call: its signature is the one that we make, its account is nobody's.
    let doc = named("doc");
    let (url, signature) = (doc["url"].as_str().unwrap(), doc["signature"].as_str().unwrap());
    let of_doc = doc["form"].as_object().unwrap().iter();
    let text: String = of_doc.map(|(name, value)| format!("{name}{}", value.as_str().unwrap())).collect();
    assert_eq!(sign_base64(Hash::Sha1, b"12345", format!("{url}{text}").as_bytes()), signature);
    assert_eq!(read(&driver, url, &body_of(doc), FORM, signature), Err(CallbackRefused::NotVerified));
    // A JSON body is signed by its hash in the URL; this one names no account.
    let json = named("json_bodySHA256");
    let (url, raw) = (json["url"].as_str().unwrap(), json["raw"].as_str().unwrap());
    let signature = json["signature"].as_str().unwrap();
    assert_eq!(sign_base64(Hash::Sha1, b"12345", url.as_bytes()), signature);
    assert_eq!(read(&driver, url, raw, "application/json", signature), Err(CallbackRefused::NotVerified));
    // Signed for :443, and looked at without.
    let stop = named("inbound_stop");
    let sign = |url: &str| {
        let mut sorted: Vec<(String, String)> = stop["form"]
            .as_object()
            .unwrap()
            .iter()
            .map(|(name, value)| (name.clone(), value.as_str().unwrap().to_owned()))
            .collect();
        sorted.sort();
        let text: String = sorted.iter().flat_map(|(n, v)| [n.as_str(), v.as_str()]).collect();
        sign_base64(Hash::Sha1, b"12345", format!("{url}{text}").as_bytes())
    };
    let port = named("default_port_tolerance");
    let (signed_for, checked_at) =
        (port["signed_for"].as_str().unwrap(), port["checked_at"].as_str().unwrap());
    for (signed, checked, believed) in [
        (signed_for, checked_at, true),
        (checked_at, signed_for, true),
        (checked_at, "https://hooks.example.fr:8443/webhooks/twilio/sms", false),
        (checked_at, "http://hooks.example.fr/webhooks/twilio/sms", false),
    ] {
        let answer = read(&driver, checked, &body_of(stop), FORM, &sign(signed));
        assert_eq!(answer.is_ok(), believed, "signed {signed}, checked {checked}");
    }
}

#[test]
fn a_json_body_is_believed_by_its_hash_alone() {
    let (driver, _dir) = twilio("twilio", 1, "");
    let body = serde_json::json!({ "AccountSid": SID, "MessageSid": sid('f'), "MessageStatus": "delivered" });
    let body = body.to_string();
    let url = |body: &str| {
        format!("https://hooks.example.fr/callbacks/mine/t?bodySHA256={}", sha256_hex(body.as_bytes()))
    };
    let sign = |url: &str| sign_base64(Hash::Sha1, b"12345", url.as_bytes());
    let bare = "https://hooks.example.fr/callbacks/mine/t";
    for (name, url, told, believed) in [
        ("as it is", url(&body), body.clone(), true),
        ("changed", url(&body), body.replace("delivered", "failed"), false),
        ("another hash", url("{}"), body.clone(), false),
        ("no hash", bare.to_owned(), body.clone(), false),
    ] {
        let answer = read(&driver, &url, &told, "application/json", &sign(&url));
        assert_eq!(answer.is_ok(), believed, "{name}: {answer:?}");
    }
    assert!(read(&driver, &url(&body), &body, "application/json", &sign(bare)).is_err());
}

/// A form of ours, signed with that token.
fn signed(
    driver: &Arc<dyn Driver>,
    token: &str,
    form: &[(&str, &str)],
) -> Result<CallbackAnswer, CallbackRefused> {
    let url = "https://hooks.example.fr/callbacks/mine/tenant_123?t=abc";
    let mut sorted = form.to_vec();
    sorted.sort_unstable();
    sorted.dedup();
    let text: String = sorted.iter().flat_map(|(name, value)| [*name, *value]).collect();
    let signature = sign_base64(Hash::Sha1, token.as_bytes(), format!("{url}{text}").as_bytes());
    read(driver, url, &encode(form.iter().copied()), FORM, &signature)
}

#[test]
fn either_token_is_believed_while_one_replaces_the_other_and_only_our_account() {
    let dir = tempfile::tempdir().unwrap();
    let next = secret(dir.path(), "next", "67890");
    let (driver, _dir) = twilio("twilio", 1, &format!("secondary_auth_token = \"{next}\""));
    let sid = sid('d');
    let form = |account| {
        [
            ("AccountSid", account),
            ("MessageSid", sid.as_str()),
            ("MessageStatus", "sent"),
            ("X", ""),
            ("X", "1"),
            ("X", "1"),
        ]
    };
    for (token, account, believed) in [
        ("12345", SID, true),
        ("67890", SID, true),
        ("other", SID, false),
        ("12345", "AC11111111111111111111111111111111", false),
        ("12345", "", false),
    ] {
        assert_eq!(signed(&driver, token, &form(account)).is_ok(), believed, "{token} {account}");
    }
    let unreadable = signed(&driver, "12345", &[("AccountSid", SID), ("MessageStatus", "sent")]);
    assert!(matches!(unreadable, Err(CallbackRefused::Unreadable(_))), "{unreadable:?}");
}

#[test]
fn every_status_and_what_people_write_are_read() {
    use ReceiptKind::{Accepted, Delivered, Read, Sent, Undelivered};
    let (driver, _dir) = twilio("twilio", 1, "");
    let sid = sid('e');
    for (status, expected) in [
        ("accepted", Some(Accepted)),
        ("queued", Some(Accepted)),
        ("sending", Some(Sent)),
        ("sent", Some(Sent)),
        ("delivered", Some(Delivered)),
        ("read", Some(Read)),
        ("undelivered", Some(Undelivered)),
        ("failed", Some(Undelivered)),
        ("canceled", Some(Undelivered)),
        ("of_tomorrow", None),
    ] {
        let form =
            [("AccountSid", SID), ("MessageSid", &sid), ("MessageStatus", status), ("ErrorCode", "30003")];
        let Ok(CallbackAnswer::Events(events)) = signed(&driver, "12345", &form) else { panic!("{status}") };
        match (events.as_slice(), expected) {
            ([], None) => {}
            ([ProviderEvent::Receipt(receipt)], Some(kind)) => {
                assert_eq!((receipt.kind, receipt.provider_message_id.as_ref()), (kind, Some(&sid)));
                let error = receipt.error.as_ref();
                assert_eq!(error.is_some(), kind == Undelivered, "{status}");
                assert!(error.is_none_or(|e| e.code.as_deref() == Some("30003")));
            }
            other => panic!("{status}: {other:?}"),
        }
    }
    for (from, to, text, opt_out, expected) in [
        ("+33612345678", "+33700000000", "ne pas stopper", "", (Channel::Sms, "ne pas stopper")),
        ("+33612345678", "+33700000000", "Basta !", "STOP", (Channel::Sms, "STOP")),
        ("+33612345678", "36200", "aide", "HELP", (Channel::Sms, "aide")),
        ("whatsapp:+33612345678", "whatsapp:+33700000000", "👍", "", (Channel::WhatsApp, "👍")),
    ] {
        let form = [
            ("AccountSid", SID),
            ("SmsSid", &sid),
            ("SmsStatus", "received"),
            ("From", from),
            ("To", to),
            ("Body", text),
            ("OptOutType", opt_out),
        ];
        let Ok(CallbackAnswer::Events(events)) = signed(&driver, "12345", &form) else { panic!("{text}") };
        let [ProviderEvent::Inbound(inbound)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((inbound.channel, inbound.text.as_str()), expected);
        assert_eq!((inbound.from.as_str(), to.ends_with(&inbound.to)), ("+33612345678", true));
    }
}
