//! Meta's webhooks: the handshake, statuses of our messages, and what people write.
//!
//! Verified over the raw bytes before a character is parsed. It reads only what concerns our own phone number
//! (reliability.md T15), in whatever order and however often it comes; what that leads to is the store's affair.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::classify::status_error;
use crate::{
    channels::{
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest, Callbacks},
        http::{
            form,
            signature::{Hash, from_hex, is_signed_by, same},
        },
    },
    domain::{
        channel::Channel,
        ids::AttemptId,
        receipt::{InboundMessage, ProviderEvent, ProviderReceipt, ReceiptKind},
    },
};

/// The handshake's challenge: digits, and not many (reliability.md T18).
const CHALLENGE_DIGITS_MAX: usize = 32;

/// What Meta's callbacks are verified with.
pub struct Webhooks {
    phone_number_id: String,
    /// App secrets: two while it is being changed.
    secrets: Vec<SecretString>,
    verify_token: Option<SecretString>,
}

impl Webhooks {
    pub fn new(
        phone_number_id: &str,
        secrets: Vec<SecretString>,
        verify_token: Option<SecretString>,
    ) -> Self {
        Self { phone_number_id: phone_number_id.to_owned(), secrets, verify_token }
    }

    /// Meta writes lower-case digits: whatever else decodes to the same was written by somebody else.
    fn is_signed(&self, given: &str, body: &[u8]) -> bool {
        let Some(digits) = given.strip_prefix("sha256=") else { return false };
        let lower = !digits.bytes().any(|byte| byte.is_ascii_uppercase());
        lower && from_hex(digits).is_some_and(|given| is_signed_by(Hash::Sha256, &self.secrets, body, &given))
    }

    /// The GET that Meta makes when the webhook is set up. Only the digits that it sent come back.
    fn handshake(&self, query: &str) -> Result<CallbackAnswer, CallbackRefused> {
        let refused = CallbackRefused::NotVerified;
        let pairs = form::decode(query.as_bytes()).ok_or(refused)?;
        let value =
            |name: &str| pairs.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        let (expected, given) =
            (self.verify_token.as_ref().ok_or(refused)?, value("hub.verify_token").ok_or(refused)?);
        let known = same(expected.expose_secret().as_bytes(), given.as_bytes());
        let challenge = value("hub.challenge").unwrap_or_default();
        let digits = (1..=CHALLENGE_DIGITS_MAX).contains(&challenge.len())
            && challenge.bytes().all(|byte| byte.is_ascii_digit());
        if known && digits && value("hub.mode") == Some("subscribe") {
            return Ok(CallbackAnswer::Challenge(challenge.to_owned()));
        }
        Err(refused)
    }

    fn events(&self, body: &[u8]) -> Result<Vec<ProviderEvent>, CallbackRefused> {
        let body: Value =
            serde_json::from_slice(body).map_err(|_| CallbackRefused::Unreadable("the body is not JSON"))?;
        let entries =
            body["entry"].as_array().ok_or(CallbackRefused::Unreadable("the body has no `entry`"))?;
        let (mut events, mut odd) = (Vec::new(), false);
        for change in entries.iter().flat_map(|entry| items(&entry["changes"])) {
            let value = &change["value"];
            // Another number of the same app has its own driver and its own tenant.
            let ours = value["metadata"]["phone_number_id"].as_str() == Some(&self.phone_number_id);
            if !ours || change["field"] != "messages" {
                continue;
            }
            let sender = value["metadata"]["display_phone_number"].as_str().unwrap_or_default();
            let read = items(&value["statuses"])
                .map(receipt)
                .chain(items(&value["messages"]).map(|message| inbound(message, sender)));
            for event in read {
                match event {
                    Read::Event(event) => events.push(event),
                    Read::Nothing => {}
                    Read::Odd => odd = true,
                }
            }
        }
        // One that cannot be read keeps none of the others from being kept.
        if odd && events.is_empty() {
            return Err(CallbackRefused::Unreadable("a status or message lacks its id, sender or state"));
        }
        Ok(events)
    }
}

impl Callbacks for Webhooks {
    /// Meta gathers many changes in one body, up to 3 MB.
    fn body_bytes_max(&self) -> usize {
        3 << 20
    }

    fn read(&self, request: &CallbackRequest<'_>) -> Result<CallbackAnswer, CallbackRefused> {
        match request.method {
            "GET" => self.handshake(request.query),
            "POST" => {
                let signature = request.header("x-hub-signature-256").unwrap_or_default();
                if !self.is_signed(signature, request.body) {
                    return Err(CallbackRefused::NotVerified);
                }
                self.events(request.body).map(CallbackAnswer::Events)
            }
            _ => Err(CallbackRefused::NotVerified),
        }
    }
}

/// What one item of a webhook came to.
enum Read {
    Event(ProviderEvent),
    /// Well formed, and nothing to us.
    Nothing,
    Odd,
}

fn items(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn receipt(status: &Value) -> Read {
    let (Some(id), Some(word)) = (text(&status["id"]), status["status"].as_str()) else { return Read::Odd };
    let kind = match word {
        "accepted" => ReceiptKind::Accepted,
        "sent" => ReceiptKind::Sent,
        "delivered" => ReceiptKind::Delivered,
        // A voice message that was listened to.
        "read" | "played" => ReceiptKind::Read,
        "failed" => ReceiptKind::Undelivered,
        // `deleted`, `warning` and what may come: nothing that becomes of a message.
        _ => return Read::Nothing,
    };
    let failed = kind == ReceiptKind::Undelivered;
    Read::Event(ProviderEvent::Receipt(ProviderReceipt {
        provider_message_id: Some(id),
        attempt: status["biz_opaque_callback_data"].as_str().and_then(|text| AttemptId::parse(text).ok()),
        kind,
        at: time(&status["timestamp"]),
        error: items(&status["errors"]).next().filter(|_| failed).and_then(status_error),
        cost: None,
    }))
}

fn inbound(message: &Value, sender: &str) -> Read {
    let (Some(id), Some(from)) = (text(&message["id"]), text(&message["from"])) else { return Read::Odd };
    let kind = message["type"].as_str().unwrap_or_default();
    let body = &message[kind];
    let said = match kind {
        "text" => &body["body"],
        "button" => &body["text"],
        "interactive" => &body[body["type"].as_str().unwrap_or_default()]["title"],
        // Not something that a person wrote: a changed number, a thumb, what WhatsApp itself could not read.
        "system" | "reaction" | "unsupported" | "unknown" | "" => return Read::Nothing,
        _ => &body["caption"],
    };
    Read::Event(ProviderEvent::Inbound(InboundMessage {
        channel: Channel::WhatsApp,
        provider_message_id: id,
        from: e164(&from),
        to: e164(sender),
        // A picture without words still opens the 24 hours.
        text: said.as_str().unwrap_or_default().to_owned(),
        at: time(&message["timestamp"]),
        answers: text(&message["context"]["id"]),
    }))
}

fn text(value: &Value) -> Option<String> {
    value.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Meta writes seconds since 1970 as text.
fn time(value: &Value) -> Option<chrono::DateTime<chrono::Utc>> {
    let seconds = value.as_str().and_then(|text| text.parse().ok()).or_else(|| value.as_i64())?;
    chrono::DateTime::from_timestamp(seconds, 0)
}

/// A WhatsApp id as the phone number that it stands for: an opt-out must meet the address that we write to.
/// Mexican ids keep a 1 after the country code that numbers lost in 2019, and Brazilian ones of before 2016 lack
/// the 9 that mobile numbers gained.
fn e164(id: &str) -> String {
    let digits = id.trim_start_matches('+');
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return id.to_owned();
    }
    if let Some(national) = digits.strip_prefix("521").filter(|national| national.len() == 10) {
        return format!("+52{national}");
    }
    if let Some((area, number)) = digits.strip_prefix("55").and_then(|rest| rest.split_at_checked(2))
        && number.len() == 8
        && number.starts_with(['6', '7', '8', '9'])
    {
        return format!("+55{area}9{number}");
    }
    format!("+{digits}")
}
