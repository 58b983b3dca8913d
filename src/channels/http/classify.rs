//! What an exchange with a provider says about an attempt (reliability.md P4, rows "SMS" to "Generic webhook").
//!
//! Pure. A provider's own words may sharpen a complete refusal; no words turn a server's failure, a silence or
//! something unreadable into a no.

use chrono::{DateTime, Utc};

use super::{Answer, Broken, Exchange, Written};
use crate::{
    channels::PrepareError,
    domain::{
        delivery::{AttemptError, ErrorClass, Outcome},
        money::MicroEuros,
    },
};

/// The most that is kept of a provider's words, in characters.
const DETAIL_MAX: usize = 500;
/// A run of digits from this length on may be somebody's number.
const NUMBER_DIGITS_MIN: usize = 7;

/// What a provider's answer of success says.
#[derive(Clone, Debug, PartialEq)]
pub enum Reading {
    Accepted {
        provider_message_id: Option<String>,
        cost: Option<MicroEuros>,
    },
    /// Success by its status, a refusal by its words.
    Refused(Refusal),
    /// Not what the provider documents: nobody knows what it did.
    Unreadable(String),
}

/// What a provider's refusal says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Refusal {
    /// None: as the status says.
    pub class: Option<ErrorClass>,
    pub code: Option<String>,
    pub detail: String,
    /// Told in the body; a header wins where it is longer.
    pub retry_after_seconds: Option<u32>,
}

/// How one provider's answers are read.
pub trait Words {
    /// Reads an answer of 200 to 299.
    fn success(&self, answer: &Answer) -> Reading;
    /// Reads any other answer; what it holds may be anything.
    fn refusal(&self, answer: &Answer) -> Refusal;
}

/// What the attempt came to.
pub fn outcome(exchange: &Exchange, words: &dyn Words, now: DateTime<Utc>) -> Outcome {
    let answer = match exchange {
        Exchange::Answered(answer) => answer,
        Exchange::Broken(Broken { written, why }) => {
            let class = match written {
                Written::Partly => ErrorClass::NotSent,
                Written::Wholly => ErrorClass::Unknown,
            };
            return Outcome::failed(class, clean(why));
        }
    };
    let by_status = class_of(answer.status);
    let refusal = match by_status {
        None => match words.success(answer) {
            Reading::Accepted { provider_message_id, cost } => {
                return Outcome::Accepted { provider_message_id, cost };
            }
            Reading::Unreadable(why) => {
                let detail = format!("answered {}, {why}", answer.status);
                return Outcome::failed(ErrorClass::Unknown, clean(&detail));
            }
            Reading::Refused(refusal) => refusal,
        },
        Some(_) => words.refusal(answer),
    };
    let class = match by_status {
        // Only a complete refusal may be read more sharply, and never as "it did not leave".
        None | Some(ErrorClass::Permanent | ErrorClass::Temporary | ErrorClass::Misconfigured)
            if refusal.class.is_some_and(|class| class != ErrorClass::NotSent) =>
        {
            refusal.class.unwrap_or(ErrorClass::Unknown)
        }
        None => ErrorClass::Unknown,
        Some(class) => class,
    };
    failed(answer, class, refusal, now)
}

fn failed(answer: &Answer, class: ErrorClass, refusal: Refusal, now: DateTime<Utc>) -> Outcome {
    let detail = match refusal.detail.is_empty() {
        true => format!("answered {}", answer.status),
        false => refusal.detail,
    };
    // A 429 asks for patience even where it does not say how much (F32): that uses no attempt.
    let asks = (answer.status == 429).then_some(1);
    let told = retry_after_seconds(answer, now).max(refusal.retry_after_seconds).or(asks);
    Outcome::Failed {
        error: AttemptError {
            class,
            code: Some(refusal.code.map_or_else(|| answer.status.to_string(), |code| clean(&code))),
            detail: clean(&detail),
        },
        retry_after_seconds: told.filter(|_| class == ErrorClass::Temporary),
    }
}

/// What a status says by itself; none for success.
pub fn class_of(status: u16) -> Option<ErrorClass> {
    Some(match status {
        200..=299 => return None,
        // Not followed: the address that we were given is wrong.
        300..=399 => ErrorClass::Misconfigured,
        401 | 403 => ErrorClass::Misconfigured,
        408 => ErrorClass::Unknown,
        425 | 429 => ErrorClass::Temporary,
        400..=499 => ErrorClass::Permanent,
        _ => ErrorClass::Unknown,
    })
}

/// `Retry-After` in seconds, written as seconds or as a date (RFC 9110 section 10.2.3); none where it is neither.
/// How much of it is believed is not this function's affair.
pub fn retry_after_seconds(answer: &Answer, now: DateTime<Utc>) -> Option<u32> {
    let text = answer.header("retry-after")?.trim();
    if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(text.parse().unwrap_or(u32::MAX));
    }
    let at = DateTime::parse_from_rfc2822(text).ok()?;
    let seconds = at.signed_duration_since(now).num_seconds().max(0);
    Some(u32::try_from(seconds).unwrap_or(u32::MAX))
}

/// Somebody else's words, fit to be kept and logged: no control characters, nobody's number, cut to length.
pub fn clean(text: &str) -> String {
    let mut cleaned = String::new();
    let mut digits = String::new();
    for c in text.chars().chain([' ']) {
        if c.is_ascii_digit() {
            digits.push(c);
            continue;
        }
        if digits.len() >= NUMBER_DIGITS_MIN {
            cleaned.push('…');
            cleaned.push_str(&digits[digits.len() - 2..]);
        } else {
            cleaned.push_str(&digits);
        }
        digits.clear();
        cleaned.push(if c.is_control() { ' ' } else { c });
    }
    cleaned.trim().chars().take(DETAIL_MAX).collect()
}

impl PrepareError {
    /// A failure before anything could have been delivered.
    pub fn new(class: ErrorClass, code: Option<&str>, detail: impl Into<String>) -> Self {
        let error = AttemptError { class, code: code.map(str::to_owned), detail: detail.into() };
        Self { error, retry_after_seconds: None }
    }
}
