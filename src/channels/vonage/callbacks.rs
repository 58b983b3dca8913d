//! What Vonage calls us with: delivery receipts and inbound messages, as a query, a form or JSON, as the
//! account is set.
//!
//! Verified by the `sig` among the pairs (https://developer.vonage.com/en/getting-started/concepts/signing-messages).
//! Its MD5 methods are not taken: a hash with the secret behind it is no signature.

use chrono::{DateTime, NaiveDateTime, Utc};
use secrecy::ExposeSecret;

use super::{
    Vonage,
    classify::{is_message_id, undelivered},
};
use crate::{
    channels::{
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest, Callbacks},
        http::{
            form,
            signature::{from_hex, is_signed_by, same},
        },
    },
    domain::{
        channel::Channel,
        ids::AttemptId,
        receipt::{InboundMessage, ProviderEvent, ProviderReceipt, ReceiptKind},
    },
};

type Pairs = Vec<(String, String)>;

/// The parameter of a callback's address that holds our token.
const OUR_TOKEN: &str = "a";

impl Callbacks for Vonage {
    fn read(&self, request: &CallbackRequest<'_>) -> Result<CallbackAnswer, CallbackRefused> {
        let pairs = verified(self, request)?;
        let value = |name: &str| {
            let mut values = pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
            values.next().filter(|value| !value.is_empty())
        };
        // reliability.md T15: one secret may serve several keys of one company.
        let ours = self.account.api_key.expose_secret().as_bytes();
        if value("api-key").is_some_and(|key| !same(key.as_bytes(), ours)) {
            return Err(CallbackRefused::NotVerified);
        }
        let id = value("messageId").filter(|id| is_message_id(id));
        let id = id.ok_or(CallbackRefused::Unreadable("no messageId"))?.to_owned();
        let event = match (value("status"), value("text")) {
            (Some(status), _) => receipt(id, status, &value),
            (None, Some(text)) => Some(inbound(id, text, &value)?),
            (None, None) => return Err(CallbackRefused::Unreadable("neither a status nor a text")),
        };
        Ok(CallbackAnswer::Events(event.into_iter().collect()))
    }
}

fn receipt<'a>(id: String, status: &str, value: &impl Fn(&str) -> Option<&'a str>) -> Option<ProviderEvent> {
    let kind = match status {
        "accepted" | "buffered" => ReceiptKind::Sent,
        "delivered" => ReceiptKind::Delivered,
        "expired" | "failed" | "rejected" | "deleted" => ReceiptKind::Undelivered,
        "unknown" => ReceiptKind::Accepted,
        _ => return None,
    };
    let error = (kind == ReceiptKind::Undelivered).then(|| undelivered(status, value("err-code")));
    Some(ProviderEvent::Receipt(ProviderReceipt {
        provider_message_id: Some(id),
        attempt: value("client-ref").and_then(|text| AttemptId::parse(text).ok()),
        kind,
        at: value("message-timestamp").and_then(timestamp),
        error,
        // The answer told the price of all parts; a receipt tells that of one.
        cost: None,
    }))
}

fn inbound<'a>(
    id: String,
    text: &str,
    value: &impl Fn(&str) -> Option<&'a str>,
) -> Result<ProviderEvent, CallbackRefused> {
    let (Some(from), Some(to)) = (value("msisdn"), value("to")) else {
        return Err(CallbackRefused::Unreadable("neither a status nor msisdn and to"));
    };
    Ok(ProviderEvent::Inbound(InboundMessage {
        channel: Channel::Sms,
        provider_message_id: id,
        from: international(from),
        to: international(to),
        text: text.to_owned(),
        at: value("message-timestamp").and_then(timestamp),
        answers: None,
    }))
}

/// Vonage writes E.164 without its plus; short codes and names stay as they are.
fn international(text: &str) -> String {
    let number = text.len() >= 9 && text.bytes().all(|byte| byte.is_ascii_digit());
    if number { format!("+{text}") } else { text.to_owned() }
}

/// `2020-01-01 12:00:00`, in UTC.
fn timestamp(text: &str) -> Option<DateTime<Utc>> {
    NaiveDateTime::parse_from_str(text.get(..19)?, "%Y-%m-%d %H:%M:%S").ok().map(|at| at.and_utc())
}

/// The pairs, once their signature is known to be Vonage's.
fn verified(driver: &Vonage, request: &CallbackRequest<'_>) -> Result<Pairs, CallbackRefused> {
    let json = request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    let query = form::decode(request.query.as_bytes());
    let pairs = match (request.method, json) {
        ("GET", _) => query,
        ("POST", false) => form::decode(request.body),
        ("POST", true) => flat(request.body),
        _ => None,
    };
    let pairs = pairs.ok_or(CallbackRefused::NotVerified)?;
    let given: Vec<&str> =
        pairs.iter().filter(|(name, _)| name == "sig").map(|(_, value)| value.as_str()).collect();
    let [given] = given.as_slice() else { return Err(CallbackRefused::NotVerified) };
    let given = from_hex(given).ok_or(CallbackRefused::NotVerified)?;
    let hash = driver.settings.signature_method.hash();
    let is_signed = |pairs: &[(String, String)]| {
        is_signed_by(hash, &driver.account.signature_secrets, signed_text(pairs).as_bytes(), &given)
    };
    if is_signed(&pairs) {
        return Ok(pairs);
    }
    // In a query our own token stands among the pairs, and Vonage signs what it added. The token is checked
    // by itself.
    let added: Pairs = match request.method {
        "GET" => pairs.into_iter().filter(|(name, _)| name != OUR_TOKEN).collect(),
        _ => return Err(CallbackRefused::NotVerified),
    };
    if is_signed(&added) { Ok(added) } else { Err(CallbackRefused::NotVerified) }
}

/// What is signed: `&name=value` in order of name, with `&` and `=` in values made `_`.
pub(super) fn signed_text(pairs: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> = pairs.iter().filter(|(name, _)| name != "sig").collect();
    sorted.sort_unstable();
    sorted.into_iter().map(|(name, value)| format!("&{name}={}", value.replace(['&', '='], "_"))).collect()
}

/// A JSON object of texts and numbers as pairs.
fn flat(body: &[u8]) -> Option<Pairs> {
    let object: std::collections::BTreeMap<String, serde_json::Value> = serde_json::from_slice(body).ok()?;
    let text = |value: serde_json::Value| match value {
        serde_json::Value::String(text) => Some(text),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    };
    object.into_iter().map(|(name, value)| Some((name, text(value)?))).collect()
}
