//! Vonage's answers (https://developer.vonage.com/messaging/sms/guides/troubleshooting-sms), as classes.
//!
//! Pure. Every answer is a 200; each part of a long message has its own status, and one that was taken in part
//! is neither sent nor refused.

use serde::Deserialize;

use crate::{
    channels::http::{
        Answer,
        classify::{Reading, Refusal, Words, clean},
    },
    domain::{
        delivery::{AttemptError, ErrorClass},
        money::MicroEuros,
    },
};

/// Reads the answers to one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Statuses {
    pub tenants_own_sender: bool,
    pub prices_in_euros: bool,
}

#[derive(Deserialize)]
struct Answered {
    messages: Vec<Part>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Part {
    status: String,
    message_id: Option<String>,
    message_price: Option<String>,
    error_text: Option<String>,
}

/// The problem documents of its gateway.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Problem {
    title: String,
    detail: String,
}

impl Statuses {
    fn class(self, status: &str) -> ErrorClass {
        match status {
            // Throttled; too many connections.
            "1" | "10" => ErrorClass::Temporary,
            // Credentials, account barred, no credit, not provisioned, signature, callback URL, both of secret
            // and signature.
            "4" | "8" | "9" | "11" | "14" | "23" | "32" => ErrorClass::Misconfigured,
            // The sender.
            "15" if !self.tenants_own_sender => ErrorClass::Misconfigured,
            // Parameters, prefix, barred, too long, sender, network code, not allowed on a demo account, gone.
            "2" | "3" | "6" | "7" | "12" | "15" | "22" | "29" | "33" => ErrorClass::Permanent,
            // 5, an internal error "whilst processing this message", and whatever comes to be.
            _ => ErrorClass::Unknown,
        }
    }

    fn cost(self, parts: &[Part]) -> Option<MicroEuros> {
        let prices = parts.iter().map(|part| part.message_price.as_deref()?.parse().ok());
        let prices = prices.map(|price| MicroEuros::from_euros(price?)).collect::<Option<Vec<_>>>()?;
        self.prices_in_euros.then(|| prices.into_iter().sum())
    }
}

impl Words for Statuses {
    fn success(&self, answer: &Answer) -> Reading {
        let Ok(Answered { messages: parts }) = serde_json::from_slice(&answer.body) else {
            return Reading::Unreadable("and no messages in JSON".into());
        };
        let Some(first) = parts.first() else { return Reading::Unreadable("and no message".into()) };
        let refused = parts.iter().find(|part| part.status != "0");
        match (refused, &first.message_id) {
            (None, Some(id)) if is_message_id(id) => {
                Reading::Accepted { provider_message_id: Some(id.clone()), cost: self.cost(&parts) }
            }
            (None, _) => Reading::Unreadable("and a message without an id".into()),
            (Some(part), _) => {
                let all = parts.iter().all(|part| part.status != "0");
                Reading::Refused(Refusal {
                    class: Some(if all { self.class(&part.status) } else { ErrorClass::Unknown }),
                    code: Some(part.status.clone()),
                    detail: part.error_text.clone().unwrap_or_default(),
                    retry_after_seconds: None,
                })
            }
        }
    }

    fn refusal(&self, answer: &Answer) -> Refusal {
        let problem: Problem = serde_json::from_slice(&answer.body).unwrap_or_default();
        let detail = [problem.title, problem.detail].join(" ").trim().to_owned();
        // Payment required: no message of anybody's goes out.
        let class = (answer.status == 402).then_some(ErrorClass::Misconfigured);
        Refusal { class, detail, ..Refusal::default() }
    }
}

/// What may stand in the database as a name.
pub(super) fn is_message_id(text: &str) -> bool {
    (1..=100).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

/// Why a receipt says that a message did not arrive (`err-code`).
pub(super) fn undelivered(status: &str, code: Option<&str>) -> AttemptError {
    let (class, words) = match code {
        Some("2") => (ErrorClass::Temporary, "the handset was not reachable for a while"),
        Some("3") => (ErrorClass::Permanent, "the number is no longer active"),
        Some("4") => (ErrorClass::Permanent, "the number is barred"),
        Some("5") => (ErrorClass::Permanent, "the number was carried over and cannot be found"),
        Some("6") => (ErrorClass::Permanent, "the carrier takes it for spam"),
        Some("7") => (ErrorClass::Temporary, "the handset was busy"),
        Some("8") => (ErrorClass::Temporary, "a fault of the network"),
        Some("9") => (ErrorClass::Permanent, "the person wants no messages of this service"),
        Some("10") => (ErrorClass::Permanent, "a fault of the message"),
        Some("11" | "12") => (ErrorClass::Permanent, "no route to the number"),
        Some("13") => (ErrorClass::Permanent, "not for the person's age"),
        Some("14") => (ErrorClass::Permanent, "the carrier blocks SMS to this number"),
        Some("15") => (ErrorClass::Permanent, "the person's credit is used up"),
        _ => (ErrorClass::Permanent, "no reason is known"),
    };
    let code = code.filter(|code| *code != "0").map(clean);
    AttemptError { class, code, detail: clean(&format!("Vonage says {status}: {words}")) }
}
