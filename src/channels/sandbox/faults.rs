//! What the sandbox plays instead of accepting: magic addresses, and the faults that it is told to play.
//!
//! Pure. The phone numbers and codes are Twilio's own test numbers; the mailboxes follow the same idea.

use serde::Deserialize;

use crate::{
    channels::Outbound,
    domain::{
        channel::Channel,
        delivery::{AttemptError, ErrorClass},
    },
};

/// How a message is to fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    Permanent,
    Temporary,
    /// The link is lost before anything left.
    NotSent,
    /// The message is taken, and the answer lost: the worst case of an unknown outcome.
    Unknown,
    Misconfigured,
}

/// What happens to one attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Play {
    Accept,
    /// Refused before the last step, as at RCPT.
    RefuseEarly(AttemptError, Option<u32>),
    /// Refused in the answer to the last step, as by an HTTP API.
    Refuse(AttemptError, Option<u32>),
    AcceptAndLoseAnswer,
}

/// Twilio's magic recipients (https://www.twilio.com/docs/iam/test-credentials) and 21610, which it has for
/// people who said STOP.
const MAGIC_NUMBERS: &[(&str, &str, &str)] = &[
    ("+15005550001", "21211", "the number is invalid"),
    ("+15005550002", "21612", "the number cannot be reached from this sender"),
    ("+15005550003", "21408", "no permission to send to that region"),
    ("+15005550004", "21610", "the recipient has unsubscribed"),
    ("+15005550009", "21614", "the number cannot receive SMS"),
];

/// What the address itself asks for.
pub fn by_address(outbound: &Outbound) -> Play {
    let to = outbound.to.as_str();
    match outbound.channel {
        Channel::Sms | Channel::WhatsApp => by_number(to),
        Channel::Email => by_mailbox(to, outbound.attempt_number),
        Channel::Telegram => by_chat(to),
    }
}

fn by_number(to: &str) -> Play {
    match MAGIC_NUMBERS.iter().find(|(number, ..)| *number == to) {
        Some((_, code, words)) => Play::Refuse(error(ErrorClass::Permanent, Some(code), words), None),
        None => Play::Accept,
    }
}

/// `perm550@` and the other 5xx, `temp451@` and the other 4xx, `flaky2@` (the first two of a message's
/// attempts, over all channels, are refused), `greylist@` (the first is), `data554@` (refused after the body),
/// `drop-rcpt@`, `drop-dot@` (taken, answer lost).
fn by_mailbox(to: &str, attempt: u16) -> Play {
    let local = to.split('@').next().unwrap_or_default().to_ascii_lowercase();
    let flaky = if local == "greylist" { Some(1) } else { number_after(&local, "flaky") };
    if let Some(refusals) = flaky {
        if attempt > refusals {
            return Play::Accept;
        }
        return Play::RefuseEarly(
            error(ErrorClass::Temporary, Some("451 4.7.1"), "greylisted, try again later"),
            None,
        );
    }
    let reply = |code: u16| -> AttemptError {
        let class = if code >= 500 { ErrorClass::Permanent } else { ErrorClass::Temporary };
        error(class, Some(&code.to_string()), "refused by the sandbox")
    };
    if let Some(code @ 400..=599) = number_after(&local, "perm").or_else(|| number_after(&local, "temp")) {
        return Play::RefuseEarly(reply(code), None);
    }
    if let Some(code @ 400..=599) = number_after(&local, "data") {
        return Play::Refuse(reply(code), None);
    }
    match local.as_str() {
        "drop-rcpt" => Play::RefuseEarly(error(ErrorClass::NotSent, None, "the link was lost"), None),
        "drop-dot" => Play::AcceptAndLoseAnswer,
        _ => Play::Accept,
    }
}

/// The number that follows a word, as in `perm550` or `flaky2-ada`.
fn number_after(local: &str, word: &str) -> Option<u16> {
    let digits: String = local.strip_prefix(word)?.chars().take_while(char::is_ascii_digit).collect();
    digits.parse().ok()
}

/// Chat ids named after the Bot API's answers.
fn by_chat(to: &str) -> Play {
    let (class, words, retry_after) = match to {
        "403" => (ErrorClass::Permanent, "Forbidden: bot was blocked by the user", None),
        "404" => (ErrorClass::Permanent, "Bad Request: chat not found", None),
        "429" => (ErrorClass::Temporary, "Too Many Requests: retry after 30", Some(30)),
        _ => return Play::Accept,
    };
    Play::Refuse(error(class, Some(to), words), retry_after)
}

impl Fault {
    /// The fault as it is played.
    pub fn play(self) -> Play {
        let told = |class| error(class, Some("sandbox"), "the sandbox was told to fail");
        match self {
            Fault::Permanent => Play::Refuse(told(ErrorClass::Permanent), None),
            Fault::Temporary => Play::Refuse(told(ErrorClass::Temporary), None),
            Fault::NotSent => Play::RefuseEarly(told(ErrorClass::NotSent), None),
            Fault::Misconfigured => Play::RefuseEarly(told(ErrorClass::Misconfigured), None),
            Fault::Unknown => Play::AcceptAndLoseAnswer,
        }
    }
}

/// A refusal in words.
pub fn error(class: ErrorClass, code: Option<&str>, detail: &str) -> AttemptError {
    AttemptError { class, code: code.map(str::to_owned), detail: detail.to_owned() }
}
