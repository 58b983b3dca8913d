//! What a relay's answer, or its silence, says about an attempt (reliability.md P4, row "E-mail, SMTP").
//!
//! Pure. Before the final dot nothing can have been accepted, so that nothing there is ever unknown; after it
//! only a complete answer counts, and everything else is unknown.

use std::error::Error as _;

use lettre::transport::smtp::Error;

use crate::{
    channels::PrepareError,
    domain::delivery::{AttemptError, ErrorClass, Outcome},
};

/// The most that is kept of a provider's words, in characters.
const DETAIL_MAX: usize = 500;

/// How far the conversation had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stage {
    Connect,
    StartTls,
    Auth,
    Mail,
    Rcpt,
    Data,
    /// The body, with its final dot not yet written.
    Body,
}

impl Stage {
    pub const fn as_str(self) -> &'static str {
        match self {
            Stage::Connect => "connecting",
            Stage::StartTls => "STARTTLS",
            Stage::Auth => "AUTH",
            Stage::Mail => "MAIL FROM",
            Stage::Rcpt => "RCPT TO",
            Stage::Data => "DATA",
            Stage::Body => "the body",
        }
    }
}

/// What came instead of the answer that was hoped for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// A complete answer.
    Reply { code: u16, text: String },
    /// No answer in that many seconds.
    Silence(u32),
    /// The link could not be made, broke, or carried something that is no answer.
    Broken(String),
    /// The relay's certificate, or its idea of TLS, is not acceptable.
    Tls(String),
    /// The relay does not offer what our settings need.
    Unsuitable(String),
}

impl Failure {
    /// Reads lettre's error.
    pub fn of(error: &Error) -> Self {
        let text = error.source().map(ToString::to_string).unwrap_or_default();
        if let Some(code) = error.status() {
            return Failure::Reply { code: code.into(), text };
        }
        if let Some(tls) = tls_fault(error) {
            return Failure::Tls(tls);
        }
        if error.is_client() { Failure::Unsuitable(text) } else { Failure::Broken(error.to_string()) }
    }
}

/// A fault that rustls found, where one is at the bottom of the error.
fn tls_fault(error: &Error) -> Option<String> {
    if error.is_tls() {
        return Some(error.to_string());
    }
    let mut source = error.source();
    while let Some(inner) = source {
        if let Some(fault) = inner.downcast_ref::<std::io::Error>().and_then(|io| io.get_ref())
            && let Some(tls) = fault.downcast_ref::<rustls::Error>()
        {
            return Some(tls.to_string());
        }
        source = inner.source();
    }
    None
}

/// Before the final dot: refused, or proved not to have left.
pub fn before_dot(stage: Stage, failure: &Failure) -> PrepareError {
    let error = match failure {
        Failure::Reply { code, text } => {
            // A code about an address (RFC 3463, subject 1) is about our own at MAIL, and must not pass for one about the
            // recipient's.
            let whole = shown(*code, text);
            let about_us = stage == Stage::Mail && whole.contains(" 5.1.");
            let told = if about_us { code.to_string() } else { whole };
            AttemptError { class: refusal(stage, *code), code: Some(told), detail: clean(text) }
        }
        Failure::Silence(seconds) => {
            uncoded(ErrorClass::NotSent, &format!("no answer to {} in {seconds} s", stage.as_str()))
        }
        Failure::Broken(why) => uncoded(ErrorClass::NotSent, &format!("{}: {why}", stage.as_str())),
        Failure::Tls(why) => uncoded(ErrorClass::Misconfigured, &format!("TLS: {why}")),
        Failure::Unsuitable(why) => uncoded(ErrorClass::Misconfigured, &format!("{}: {why}", stage.as_str())),
    };
    PrepareError { error, retry_after_seconds: None }
}

/// Once the final dot may have been written.
pub fn after_dot(failure: &Failure) -> Outcome {
    let error = match failure {
        Failure::Reply { code, text } => AttemptError {
            class: match code {
                400..=499 => ErrorClass::Temporary,
                500..=599 => ErrorClass::Permanent,
                _ => ErrorClass::Unknown,
            },
            code: Some(shown(*code, text)),
            detail: clean(text),
        },
        Failure::Silence(seconds) => {
            uncoded(ErrorClass::Unknown, &format!("no answer to the message in {seconds} s"))
        }
        Failure::Broken(why) | Failure::Tls(why) | Failure::Unsuitable(why) => {
            uncoded(ErrorClass::Unknown, &format!("the link was lost before the answer: {why}"))
        }
    };
    Outcome::Failed { error, retry_after_seconds: None }
}

fn refusal(stage: Stage, code: u16) -> ErrorClass {
    let about_us = matches!(stage, Stage::Connect | Stage::StartTls | Stage::Auth);
    match code {
        400..=499 => ErrorClass::Temporary,
        // Authentication required, too weak, failed, or wanting encryption (RFC 4954 section 6).
        530 | 534 | 535 | 538 => ErrorClass::Misconfigured,
        500..=599 if about_us => ErrorClass::Misconfigured,
        500..=599 => ErrorClass::Permanent,
        // An answer that does not fit the question: the conversation cannot be trusted further.
        _ => ErrorClass::NotSent,
    }
}

fn uncoded(class: ErrorClass, detail: &str) -> AttemptError {
    AttemptError { class, code: None, detail: clean(detail) }
}

/// `550 5.1.1` where the text begins with an enhanced status code (RFC 2034), else `550`.
fn shown(code: u16, text: &str) -> String {
    let first = text.split_whitespace().next().unwrap_or_default();
    let parts: Vec<&str> = first.split('.').collect();
    let enhanced = matches!(parts[..], ["2" | "4" | "5", subject, detail]
        if [subject, detail].iter().all(|p| (1..=3).contains(&p.len()) && p.bytes().all(|b| b.is_ascii_digit())));
    if enhanced { format!("{code} {first}") } else { code.to_string() }
}

/// A provider's words without control characters, cut to length.
fn clean(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(DETAIL_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reply(code: u16) -> Failure {
        Failure::Reply { code, text: format!("{}.1.1 said so", code / 100) }
    }

    #[test]
    fn before_the_dot_nothing_is_unknown() {
        use ErrorClass::{Misconfigured, NotSent, Permanent, Temporary};
        let cases = [
            (Stage::Connect, reply(421), Temporary),
            (Stage::Connect, reply(554), Misconfigured),
            (Stage::Connect, Failure::Broken("refused".into()), NotSent),
            (Stage::Connect, Failure::Silence(30), NotSent),
            (Stage::Connect, Failure::Tls("certificate expired".into()), Misconfigured),
            (Stage::StartTls, reply(454), Temporary),
            (Stage::StartTls, Failure::Unsuitable("not offered".into()), Misconfigured),
            (Stage::Auth, reply(535), Misconfigured),
            (Stage::Auth, reply(454), Temporary),
            (Stage::Mail, reply(530), Misconfigured),
            (Stage::Mail, reply(550), Permanent),
            (Stage::Rcpt, reply(550), Permanent),
            (Stage::Rcpt, reply(451), Temporary),
            (Stage::Rcpt, reply(250), NotSent),
            (Stage::Rcpt, Failure::Broken("reset".into()), NotSent),
            (Stage::Data, reply(554), Permanent),
            (Stage::Data, Failure::Silence(300), NotSent),
            (Stage::Body, Failure::Broken("reset".into()), NotSent),
        ];
        for (stage, failure, expected) in cases {
            assert_eq!(before_dot(stage, &failure).error.class, expected, "{stage:?} {failure:?}");
        }
    }

    #[test]
    fn after_the_dot_only_a_complete_refusal_is_no() {
        use ErrorClass::{Permanent, Temporary, Unknown};
        for (failure, expected) in [
            (reply(554), Permanent),
            (reply(451), Temporary),
            (reply(421), Temporary),
            (reply(354), Unknown),
            (Failure::Silence(600), Unknown),
            (Failure::Broken("reset".into()), Unknown),
            (Failure::Tls("bad record".into()), Unknown),
        ] {
            let Outcome::Failed { error, .. } = after_dot(&failure) else { panic!("{failure:?}") };
            assert_eq!(error.class, expected, "{failure:?}");
        }
    }

    #[test]
    fn codes_and_words_are_kept_and_cleaned() {
        let failure = Failure::Reply { code: 550, text: "5.1.1 no\u{1b}[31m such user".into() };
        let error = before_dot(Stage::Rcpt, &failure).error;
        assert_eq!(error.code.as_deref(), Some("550 5.1.1"));
        assert_eq!(error.detail, "5.1.1 no [31m such user");
        let plain = Failure::Reply { code: 550, text: "no ".repeat(400) };
        let error = before_dot(Stage::Rcpt, &plain).error;
        assert_eq!((error.code.as_deref(), error.detail.chars().count()), (Some("550"), 500));
    }
}
