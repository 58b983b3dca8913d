//! Vonage: what goes on the wire, every status' class, and callbacks signed as its SDKs sign.

use std::sync::Arc;

use channel_orchestrator::{
    channels::{
        Driver, Found, LookUp,
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest},
        http::form::encode,
    },
    domain::{
        channel::Channel,
        delivery::Outcome,
        money::MicroEuros,
        receipt::{ProviderEvent, ReceiptKind},
    },
};
use chrono::TimeDelta;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::twilio::{attempt, made, now, outbound, pairs};
use crate::support::http_provider::{Act, HttpProvider, secret};

const SECRET: &str = "my_secret_key_for_testing";

fn vonage(port: u16, more: &str) -> (Arc<dyn Driver>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (key, api_secret) = (secret(dir.path(), "key", "abcd1234"), secret(dir.path(), "secret", "s3cret"));
    let signature = secret(dir.path(), "signature", SECRET);
    let toml = format!(
        "kind = \"vonage\"\napi_key = \"{key}\"\napi_secret = \"{api_secret}\"\n\
         signature_secret = \"{signature}\"\nbase_url = \"http://127.0.0.1:{port}\"\n\
         timeouts = {{ connect_seconds = 2, answer_seconds = 1 }}\n{more}"
    );
    (made(&toml).unwrap(), dir)
}

fn part(status: &str, price: &str) -> Value {
    json!({
        "to": "33612345678", "message-id": "0A0000000123ABCD1", "status": status,
        "remaining-balance": "3.14159265", "message-price": price, "network": "20810", "error-text": "why",
    })
}

fn answer(parts: Vec<Value>) -> Act {
    Act::answer(200, json!({ "message-count": parts.len().to_string(), "messages": parts }).to_string())
}

#[tokio::test]
async fn an_sms_is_one_form_with_what_vonage_needs() {
    let provider = HttpProvider::start(vec![answer(vec![part("0", "0.0333"), part("0", "0.0333")])]).await;
    let (driver, _dir) = vonage(provider.port, "");
    let mut sms = outbound(Channel::Sms);
    sms.status_callback = Some("https://hooks.example.fr/callbacks/mine/t?a=1".into());
    let Outcome::Accepted { provider_message_id, cost } = driver.prepare(&sms).await.unwrap().send().await
    else {
        panic!("it was taken")
    };
    assert_eq!(provider_message_id.as_deref(), Some("0A0000000123ABCD1"));
    assert_eq!(cost, Some(MicroEuros(66_600)));
    let heard = provider.heard().pop().unwrap();
    assert_eq!((heard.method.as_str(), heard.target.as_str()), ("POST", "/sms/json"));
    assert_eq!(heard.header("authorization"), Some("Basic YWJjZDEyMzQ6czNjcmV0"));
    let attempt_id = sms.attempt.to_string();
    assert!(attempt_id.len() <= 40, "Vonage's limit for client-ref");
    assert_eq!(
        heard.form(),
        pairs(&[
            ("from", "33700000000"),
            ("to", "33612345678"),
            ("text", "Ça & là = 100 % 👍\nà 15h"),
            ("type", "unicode"),
            ("client-ref", &attempt_id),
            ("ttl", "86400000"),
            ("status-report-req", "1"),
            ("callback", "https://hooks.example.fr/callbacks/mine/t?a=1"),
        ])
    );
    sms.content.body = "Rendez-vous à 15h".into();
    sms.deadline = now() + TimeDelta::days(4);
    sms.status_callback = None;
    attempt(&driver, &sms).await;
    let form = provider.heard().pop().unwrap().form();
    assert_eq!(form[3], ("type".to_owned(), "text".to_owned()));
    assert_eq!(form.len(), 5, "{form:?}");
    sms.deadline = now();
    attempt(&driver, &sms).await;
    assert_eq!(provider.heard().pop().unwrap().form()[5], ("ttl".to_owned(), "20000".to_owned()));
}

#[tokio::test]
async fn every_answer_has_its_class() {
    let one = |status: &str| answer(vec![part(status, "0.03")]);
    let mut cases: Vec<(String, Act, String)> = [
        ("0", "accepted 0A0000000123ABCD1"),
        ("1", "temporary 1"),
        ("2", "permanent 2"),
        ("3", "permanent 3"),
        ("4", "misconfigured 4"),
        ("5", "unknown 5"),
        ("6", "permanent 6"),
        ("7", "permanent 7"),
        ("8", "misconfigured 8"),
        ("9", "misconfigured 9"),
        ("10", "temporary 10"),
        ("11", "misconfigured 11"),
        ("12", "permanent 12"),
        ("14", "misconfigured 14"),
        ("15", "permanent 15"),
        ("22", "permanent 22"),
        ("23", "misconfigured 23"),
        ("29", "permanent 29"),
        ("32", "misconfigured 32"),
        ("33", "permanent 33"),
        ("99", "unknown 99"),
    ]
    .into_iter()
    .map(|(status, expected)| (format!("status {status}"), one(status), expected.to_owned()))
    .collect();
    for (name, act, expected) in [
        ("taken in part", answer(vec![part("0", "0.03"), part("1", "0.03")]), "unknown 1"),
        ("refused in all parts", answer(vec![part("1", "0.03"), part("1", "0.03")]), "temporary 1"),
        ("no part", answer(vec![]), "unknown"),
        ("no id", answer(vec![json!({ "status": "0" })]), "unknown"),
        ("HTML", Act::answer(200, "<html>"), "unknown"),
        ("unauthorized", Act::answer(401, r#"{"title":"Unauthorized"}"#), "misconfigured 401"),
        ("no credit", Act::answer(402, "{}"), "misconfigured 402"),
        ("too fast", Act::answer(429, "{}"), "temporary 429 after 1"),
        ("its own fault", Act::answer(500, "{}"), "unknown 500"),
        ("silence", Act::Hang, "unknown"),
    ] {
        cases.push((name.to_owned(), act, expected.to_owned()));
    }
    let provider = HttpProvider::start(cases.iter().map(|(_, act, _)| act.clone()).collect()).await;
    let (driver, _dir) = vonage(provider.port, "");
    for (name, _, expected) in &cases {
        assert_eq!(&attempt(&driver, &outbound(Channel::Sms)).await, expected, "{name}");
    }
    assert_eq!(provider.heard().len(), cases.len(), "one call each and no more");
}

#[tokio::test]
async fn a_sender_is_needed_and_there_is_no_list() {
    let provider = HttpProvider::start(vec![answer(vec![part("15", "0")])]).await;
    let (driver, _dir) = vonage(provider.port, "from = \"MonAgence\"\nprices_in_euros = false");
    let mut sms = outbound(Channel::Sms);
    sms.from = None;
    assert_eq!(attempt(&driver, &sms).await, "misconfigured 15");
    sms.from = Some("a,b".into());
    assert_eq!(attempt(&driver, &sms).await, "early permanent 15");
    let (none, _dir) = vonage(provider.port, "");
    sms.from = None;
    assert_eq!(attempt(&none, &sms).await, "early misconfigured 15");
    let looked = LookUp { outbound: sms, started_at: now(), ended_at: now() };
    assert!(matches!(driver.look_up(&looked).await, Found::CannotTell(_)));
}

/// The inbound message of the vectors in Vonage's SDKs.
const VECTOR: [(&str, &str); 7] = [
    ("message-timestamp", "2013-11-21 15:27:30"),
    ("messageId", "020000001B0FE827"),
    ("msisdn", "14843472194"),
    ("text", "Test again"),
    ("timestamp", "1385047698"),
    ("to", "13239877404"),
    ("type", "text"),
];
const SHA1: &str = "27D0D05C2876C7CB1720DBCDBA4D492E1E55C09A";
const SHA256: &str = "DDB8397C2B90AAC7F3882D306475C9A5058C92322EEF43C92B298B6E0FC0D330";
const SHA512: &str = "E0D3C650F8C9D1A5C174D10DDDBFB003E561F59B265616208B0487C5D819481CD3C311D59CF6165ECD1139622D5BA3A256C0D763AC4A9AD9144B5A426B94FE82";

fn posted(driver: &Arc<dyn Driver>, form: &[(&str, &str)]) -> Result<CallbackAnswer, CallbackRefused> {
    let body = encode(form.iter().copied());
    let headers = pairs(&[("content-type", "application/x-www-form-urlencoded")]);
    let url = "https://hooks.example.fr/callbacks/mine/tenant_123";
    driver.callbacks().unwrap().read(&CallbackRequest {
        method: "POST",
        url,
        query: "",
        headers: &headers,
        body: body.as_bytes(),
        now: now(),
    })
}

#[test]
fn what_vonages_sdks_signed_is_believed_in_every_form_and_nothing_else() {
    for (method, sig) in [("sha1", SHA1), ("sha256", SHA256), ("sha512", SHA512)] {
        let (driver, _dir) = vonage(1, &format!("signature_method = \"{method}\""));
        let with = |sig| [VECTOR.as_slice(), &[("sig", sig)]].concat();
        let form = with(sig);
        let events = posted(&driver, &form).unwrap();
        let CallbackAnswer::Events(events) = &events else { panic!("{events:?}") };
        let [ProviderEvent::Inbound(inbound)] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!(inbound.text, "Test again");
        assert_eq!((inbound.from.as_str(), inbound.to.as_str()), ("+14843472194", "+13239877404"));
        assert_eq!(inbound.at.unwrap().to_rfc3339(), "2013-11-21T15:27:30+00:00");
        // The same as a query and as JSON.
        let query = encode(form.iter().copied());
        let object: serde_json::Map<String, Value> =
            form.iter().map(|(name, value)| ((*name).to_owned(), (*value).into())).collect();
        let json = Value::Object(object).to_string();
        let with_token = format!("a=token&{query}");
        for (method, query, body, believed) in [
            ("GET", query.as_str(), "", true),
            ("GET", with_token.as_str(), "", true),
            ("GET", &query.replace("text=Test", "text=Rest"), "", false),
            ("POST", "", json.as_str(), true),
            ("POST", query.as_str(), "{}", false),
        ] {
            let headers = pairs(&[("content-type", "application/json")]);
            let url = "https://hooks.example.fr/callbacks/mine/tenant_123";
            let request =
                CallbackRequest { method, url, query, headers: &headers, body: body.as_bytes(), now: now() };
            assert_eq!(driver.callbacks().unwrap().read(&request).is_ok(), believed, "{method} {query}");
        }
        for (name, changed) in [
            ("lower case", with(&sig.to_lowercase())),
            ("no signature", VECTOR.to_vec()),
            ("two", [form.as_slice(), &[("sig", "00")]].concat()),
            ("another's", with(&sig.replace('0', "1"))),
            ("more", [form.as_slice(), &[("x", "1")]].concat()),
            ("less", form[1..].to_vec()),
            ("no hex", with("xxx")),
            ("empty", with("")),
        ] {
            let believed = name == "lower case";
            assert_eq!(posted(&driver, &changed).is_ok(), believed, "{name}");
        }
    }
}

/// A receipt of ours, signed.
fn receipt(driver: &Arc<dyn Driver>, form: &[(&str, &str)]) -> Result<CallbackAnswer, CallbackRefused> {
    use std::fmt::Write;
    let mut sorted = form.to_vec();
    sorted.sort_unstable();
    let text: String = sorted.iter().map(|(n, v)| format!("&{n}={}", v.replace(['&', '='], "_"))).collect();
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, SECRET.as_bytes());
    let mut sig = String::new();
    for byte in ring::hmac::sign(&key, text.as_bytes()).as_ref() {
        write!(sig, "{byte:02X}").unwrap();
    }
    posted(driver, &[form, &[("sig", sig.as_str())]].concat())
}

#[test]
fn every_receipt_is_read_and_belongs_to_our_key() {
    use ReceiptKind::{Accepted, Delivered, Sent, Undelivered};
    let (driver, _dir) = vonage(1, "");
    let attempt = outbound(Channel::Sms).attempt;
    let reference = attempt.to_string();
    for (status, code, expected) in [
        ("accepted", "0", Some((Sent, None))),
        ("buffered", "0", Some((Sent, None))),
        ("delivered", "0", Some((Delivered, None))),
        ("unknown", "1", Some((Accepted, None))),
        ("expired", "2", Some((Undelivered, Some("2")))),
        ("failed", "3", Some((Undelivered, Some("3")))),
        ("rejected", "6", Some((Undelivered, Some("6")))),
        ("of tomorrow", "0", None),
    ] {
        let form = [
            ("msisdn", "33612345678"),
            ("to", "MonAgence"),
            ("network-code", "20810"),
            ("messageId", "0A0000000123ABCD2"),
            ("price", "0.0333"),
            ("status", status),
            ("scts", "2611221201"),
            ("err-code", code),
            ("api-key", "abcd1234"),
            ("client-ref", &reference),
            ("message-timestamp", "2026-11-22 12:01:00"),
        ];
        let Ok(CallbackAnswer::Events(events)) = receipt(&driver, &form) else { panic!("{status}") };
        match (events.as_slice(), expected) {
            ([], None) => {}
            ([ProviderEvent::Receipt(receipt)], Some((kind, code))) => {
                assert_eq!((receipt.kind, receipt.attempt), (kind, Some(attempt)), "{status}");
                assert_eq!(receipt.error.as_ref().and_then(|e| e.code.as_deref()), code, "{status}");
                assert_eq!(receipt.at.unwrap(), now() + TimeDelta::minutes(1));
            }
            other => panic!("{status}: {other:?}"),
        }
        let mut foreign = form;
        foreign[8].1 = "other123";
        assert_eq!(receipt(&driver, &foreign), Err(CallbackRefused::NotVerified), "{status}");
    }
    assert!(matches!(receipt(&driver, &[("messageId", "a")]), Err(CallbackRefused::Unreadable(_))));
    assert!(matches!(receipt(&driver, &[("status", "sent")]), Err(CallbackRefused::Unreadable(_))));
    // A value that could be cut elsewhere is signed with its separators made harmless.
    let tricky = [("messageId", "a"), ("msisdn", "33612345678"), ("text", "a&b=c"), ("to", "36200")];
    assert!(receipt(&driver, &tricky).is_ok());
}

#[test]
fn settings_that_cannot_work_are_refused_in_words() {
    let dir = tempfile::tempdir().unwrap();
    let key = secret(dir.path(), "key", "abcd1234");
    let with = |more: &str| made(&format!("kind = \"vonage\"\n{more}")).err().unwrap_or_default();
    let good = format!("api_key = \"{key}\"\napi_secret = \"{key}\"\n");
    assert_eq!(with(&good), "");
    assert!(made(&format!("kind = \"vonage\"\n{good}")).unwrap().callbacks().is_none());
    for (more, expected) in [
        (format!("api_key = \"{key}\""), "api_secret"),
        ("api_key = \"abcd1234\"\napi_secret = \"env:PATH\"".to_owned(), "env:NAME"),
        (format!("{good}signature_secret_previous = \"{key}\""), "signature_secret, which is missing"),
        (format!("{good}signature_method = \"md5hash\""), "unknown variant `md5hash`"),
        (format!("{good}from = \"un nom trop long\""), "at most 11"),
        (format!("{good}base_url = \"http://rest.nexmo.com\""), "allow_plaintext"),
    ] {
        let said = with(&more);
        assert!(said.contains(expected), "{more}: {said}");
        assert!(!said.contains("abcd1234"), "{said}");
    }
}
