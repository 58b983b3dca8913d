//! What Twilio calls us with: status callbacks and inbound messages.
//!
//! Verified with `X-Twilio-Signature` (https://www.twilio.com/docs/usage/webhooks/webhooks-security) over the
//! configured URL and the pairs as they came, before any of them is believed. What names another account than
//! ours is refused although its signature is right (reliability.md T15).

use base64::{Engine, engine::general_purpose::STANDARD};

use super::{
    Kind, Twilio,
    classify::{is_message_sid, undelivered},
};
use crate::{
    channels::{
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest, Callbacks},
        http::{
            form,
            signature::{Hash, is_signed_by, same, sha256_hex},
        },
    },
    domain::receipt::{InboundMessage, ProviderEvent, ProviderReceipt, ReceiptKind},
};

type Pairs = Vec<(String, String)>;

impl Callbacks for Twilio {
    fn read(&self, request: &CallbackRequest<'_>) -> Result<CallbackAnswer, CallbackRefused> {
        let pairs = verified(self, request)?;
        let value = |name: &str| {
            let mut values = pairs.iter().filter(|(known, _)| known == name).map(|(_, value)| value.as_str());
            values.next().filter(|value| !value.is_empty())
        };
        if !value("AccountSid").is_some_and(|sid| same(sid.as_bytes(), self.account.sid.as_bytes())) {
            return Err(CallbackRefused::NotVerified);
        }
        let sid = value("MessageSid").or_else(|| value("SmsSid")).filter(|sid| is_message_sid(sid));
        let sid = sid.ok_or(CallbackRefused::Unreadable("no MessageSid"))?.to_owned();
        let event = match value("MessageStatus") {
            Some(status) => receipt(sid, status, value("ErrorCode"), value("ErrorMessage")),
            None => Some(inbound(sid, &value)?),
        };
        Ok(CallbackAnswer::Events(event.into_iter().collect()))
    }
}

fn receipt(sid: String, status: &str, code: Option<&str>, words: Option<&str>) -> Option<ProviderEvent> {
    let kind = match status {
        "accepted" | "queued" | "scheduled" => ReceiptKind::Accepted,
        "sending" | "sent" => ReceiptKind::Sent,
        "delivered" => ReceiptKind::Delivered,
        "read" => ReceiptKind::Read,
        "undelivered" | "failed" | "canceled" => ReceiptKind::Undelivered,
        // A word of tomorrow says nothing, and is no reason for Twilio to call again.
        _ => return None,
    };
    let error = (kind == ReceiptKind::Undelivered).then(|| {
        let said = words.map_or_else(|| format!("Twilio says {status}"), str::to_owned);
        undelivered(code, &said)
    });
    Some(ProviderEvent::Receipt(ProviderReceipt {
        provider_message_id: Some(sid),
        attempt: None,
        kind,
        at: None,
        error,
        cost: None,
    }))
}

fn inbound<'a>(
    sid: String,
    value: &impl Fn(&str) -> Option<&'a str>,
) -> Result<ProviderEvent, CallbackRefused> {
    let (Some(from), Some(to)) = (value("From"), value("To")) else {
        return Err(CallbackRefused::Unreadable("neither a MessageStatus nor From and To"));
    };
    let kind = if from.starts_with(Kind::WhatsApp.prefix()) { Kind::WhatsApp } else { Kind::Sms };
    let bare = |address: &str| address.strip_prefix(kind.prefix()).unwrap_or(address).to_owned();
    let written = value("Body").unwrap_or_default();
    // The operator may have taught Twilio more words than we know (Advanced Opt-Out): its reading counts.
    let text = match value("OptOutType") {
        Some(word @ ("STOP" | "START")) => word,
        _ => written,
    };
    Ok(ProviderEvent::Inbound(InboundMessage {
        channel: kind.channel(),
        provider_message_id: sid,
        from: bare(from),
        to: bare(to),
        text: text.to_owned(),
        at: None,
        answers: value("OriginalRepliedMessageSid").map(str::to_owned),
    }))
}

/// The pairs, once their signature is known to be Twilio's.
fn verified(driver: &Twilio, request: &CallbackRequest<'_>) -> Result<Pairs, CallbackRefused> {
    let given = request.header("x-twilio-signature").and_then(|text| STANDARD.decode(text.trim()).ok());
    let given = given.ok_or(CallbackRefused::NotVerified)?;
    if request.method != "POST" {
        return Err(CallbackRefused::NotVerified);
    }
    let json = request.header("content-type").is_some_and(|kind| kind.starts_with("application/json"));
    // A form that does not decode has no pairs to be signed.
    let form = if json { Some(Vec::new()) } else { form::decode(request.body) };
    let signed = form.as_deref().map(concatenated).ok_or(CallbackRefused::NotVerified)?;
    let known = with_and_without_port(request.url).iter().fold(false, |known, url| {
        let text = format!("{url}{signed}");
        is_signed_by(Hash::Sha1, &driver.account.auth_tokens, text.as_bytes(), &given) | known
    });
    if !known || (json && !is_body_signed(request)) {
        return Err(CallbackRefused::NotVerified);
    }
    match json {
        false => form.ok_or(CallbackRefused::NotVerified),
        true => {
            let read: Result<std::collections::BTreeMap<String, serde_json::Value>, _> =
                serde_json::from_slice(request.body);
            let read = read.map_err(|_| CallbackRefused::Unreadable("the body is no JSON object"))?;
            Ok(read
                .into_iter()
                .filter_map(|(name, value)| Some((name, value.as_str()?.to_owned())))
                .collect())
        }
    }
}

/// The pairs in order of name and value, each once, run together: what Twilio signs after the URL.
fn concatenated(pairs: &[(String, String)]) -> String {
    let mut sorted: Vec<&(String, String)> = pairs.iter().collect();
    sorted.sort_unstable();
    sorted.dedup();
    sorted.into_iter().flat_map(|(name, value)| [name.as_str(), value.as_str()]).collect()
}

/// A JSON body is signed by its hash, which stands in the signed URL.
fn is_body_signed(request: &CallbackRequest<'_>) -> bool {
    let query = form::decode(request.query.as_bytes()).unwrap_or_default();
    let told = query.iter().find(|(name, _)| name == "bodySHA256");
    told.is_some_and(|(_, told)| {
        same(told.to_ascii_lowercase().as_bytes(), sha256_hex(request.body).as_bytes())
    })
}

/// Twilio signs the URL now with and now without its scheme's own port (as its SDKs say).
fn with_and_without_port(url: &str) -> Vec<String> {
    let mut forms = vec![url.to_owned()];
    let Some((scheme, rest)) = url.split_once("://") else { return forms };
    let usual = if scheme == "https" { ":443" } else { ":80" };
    let at = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at(at);
    match authority.strip_suffix(usual) {
        Some(bare) => forms.push(format!("{scheme}://{bare}{path}")),
        None => {
            let port = authority.rsplit_once(':').map(|(_, port)| port);
            let has_port = port.is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()));
            if !has_port {
                forms.push(format!("{scheme}://{authority}{usual}{path}"));
            }
        }
    }
    forms
}
