//! One message as a signed webhook.
//!
//! The receiver gets everything that it needs to deliver it, and nothing of why it was decided so.

use base64::{Engine, engine::general_purpose::STANDARD};
use chrono::{DateTime, SecondsFormat, Utc};
use hyper::header::{HeaderName, HeaderValue};
use secrecy::ExposeSecret;
use serde_json::json;

use super::settings::Target;
use crate::{
    channels::{
        Outbound,
        http::{
            Request,
            signature::{Hash, sign_base64},
        },
    },
    domain::delivery::{ErrorClass, Outcome},
};

const ID: HeaderName = HeaderName::from_static("webhook-id");
const TIMESTAMP: HeaderName = HeaderName::from_static("webhook-timestamp");
const SIGNATURE: HeaderName = HeaderName::from_static("webhook-signature");

/// The same at every attempt on one channel: what the receiver drops repeats by. Another channel is another
/// message, for a fallback must not be dropped.
pub(super) fn webhook_id(outbound: &Outbound) -> String {
    format!("{}_{}", outbound.message, outbound.channel)
}

/// The JSON that is sent.
pub(super) fn body(outbound: &Outbound, now: DateTime<Utc>) -> String {
    let time = |at: DateTime<Utc>| at.to_rfc3339_opts(SecondsFormat::Millis, true);
    let content = &outbound.content;
    let attachments: Vec<_> = content
        .attachments
        .iter()
        .map(|file| {
            json!({
                "filename": file.file_name,
                "contentType": file.content_type,
                "content": STANDARD.encode(&file.bytes),
            })
        })
        .collect();
    let template = outbound.approved_template.as_ref().map(|template| {
        json!({ "name": template.name, "language": template.language, "parameters": template.parameters })
    });
    json!({
        "type": "message.send",
        "timestamp": time(now),
        "data": {
            "messageId": outbound.message,
            "attemptId": outbound.attempt,
            "attempt": outbound.attempt_number,
            "tenantId": outbound.tenant.as_str(),
            "channel": outbound.channel,
            "to": outbound.to.as_str(),
            "toName": outbound.to_name,
            "from": outbound.from,
            "fromName": outbound.from_name,
            "replyTo": outbound.reply_to,
            "subject": content.subject,
            "body": content.body,
            "html": content.html,
            "attachments": attachments,
            "approvedTemplate": template,
            "class": outbound.class,
            "locale": outbound.locale,
            "unsubscribe": outbound.unsubscribe,
            "deadline": time(outbound.deadline),
        },
    })
    .to_string()
}

/// The request with its signatures: one of each secret that is alive.
pub(super) fn signed(
    target: &Target,
    id: &str,
    body: String,
    now: DateTime<Utc>,
) -> Result<Request, Outcome> {
    let timestamp = now.timestamp().to_string();
    let text = format!("{id}.{timestamp}.{body}");
    let signatures: Vec<String> = target
        .secrets
        .iter()
        .map(|secret| format!("v1,{}", sign_base64(Hash::Sha256, secret.expose_secret(), text.as_bytes())))
        .collect();
    let mut request = Request::post(target.path.as_str(), "application/json", body);
    for (name, value) in [(ID, id), (TIMESTAMP, &timestamp), (SIGNATURE, &signatures.join(" "))] {
        // Made of ids, digits and base64: always a header.
        let value = HeaderValue::from_str(value)
            .map_err(|_| Outcome::failed(ErrorClass::NotSent, "the webhook's id does not fit in a header"))?;
        request = request.header(name, value);
    }
    Ok(request)
}
