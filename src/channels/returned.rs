//! Mail that came back, read: delivery status notifications (RFC 3464), as Postfix, Exim and the large mailboxes write
//! them, and complaints (RFC 5965).
//!
//! Pure, and of nobody to be trusted: what it says counts for an attempt only where a token that we alone can make
//! names that attempt. Whatever else lands in such a mailbox (answers of absence, read receipts, letters) says nothing.

use chrono::{DateTime, Utc};
use mail_parser::{Message, MessageParser, MimeHeaders, PartType};

use super::http::classify::clean;
use crate::domain::{
    delivery::{AttemptError, ErrorClass},
    ids::AttemptId,
};

/// The most that is read of one: what is reported comes first, the mail that is sent back last.
pub const BYTES_MAX: usize = 256 << 10;
/// 16 bytes of an attempt and 12 of a signature, five bits a character.
pub const RETURN_TOKEN_CHARACTERS: usize = 45;
/// Addresses that are looked at: the mail has one that counts, and may name it some times.
const TOKENS_MAX: usize = 16;

/// Reads the tokens of addresses that mail comes back to.
pub trait ReturnTokens: Send + Sync {
    /// The attempt that it names, if it is ours.
    fn read_returned(&self, token: &str) -> Option<AttemptId>;
}

/// What a mail that came back says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Report {
    /// It will not arrive, and why.
    Bounced(AttemptError),
    /// Not yet; it is tried again.
    Delayed(AttemptError),
    /// The person told their mailbox that it is unwanted.
    Complained,
    /// Nothing that we follow, in words for the log.
    Nothing(&'static str),
}

/// A mail that came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ReturnedMail {
    /// What could be a token of ours, likeliest first. None is verified.
    pub tokens: Vec<String>,
    pub report: Report,
    /// By its own date.
    pub at: Option<DateTime<Utc>>,
}

/// Reads a mail, as far as `BYTES_MAX`. `to`: the address that it was delivered to, where whoever hands it in knows.
pub fn read(bytes: &[u8], to: Option<&str>) -> ReturnedMail {
    let bytes = &bytes[..bytes.len().min(BYTES_MAX)];
    let mut tokens = Tokens::default();
    tokens.look_through(to.unwrap_or_default());
    let Some(mail) = MessageParser::default().parse(bytes) else {
        return ReturnedMail { tokens: tokens.0, report: Report::Nothing("no mail at all"), at: None };
    };
    // As mail systems note whom they delivered to, and the mail itself says it.
    for name in ["delivered-to", "x-original-to", "envelope-to", "x-envelope-to", "to"] {
        mail.headers_raw().filter(|(known, _)| known.eq_ignore_ascii_case(name)).for_each(|(_, value)| {
            tokens.look_through(value);
        });
    }
    let report = report(&mail, &mut tokens);
    look_through_what_is_sent_back(&mail, &mut tokens);
    let at = mail.date().and_then(|date| DateTime::from_timestamp(date.to_timestamp(), 0));
    ReturnedMail { tokens: tokens.0, report, at }
}

fn report(mail: &Message<'_>, tokens: &mut Tokens) -> Report {
    let of_type = |subtypes: [&str; 2]| {
        mail.parts.iter().find(|part| {
            part.content_type().is_some_and(|kind| {
                let subtype = kind.subtype().unwrap_or_default();
                kind.ctype().eq_ignore_ascii_case("message")
                    && subtypes.iter().any(|known| known.eq_ignore_ascii_case(subtype))
            })
        })
    };
    if let Some(part) = of_type(["delivery-status", "global-delivery-status"]) {
        let text = String::from_utf8_lossy(part.contents());
        let groups = groups(&text);
        groups.iter().flatten().filter(|(name, _)| name == "x-postfix-sender").for_each(|(_, value)| {
            tokens.look_through(value);
        });
        return delivery_status(&groups);
    }
    if let Some(part) = of_type(["feedback-report", "feedback-report"]) {
        let text = String::from_utf8_lossy(part.contents());
        let fields: Fields = groups(&text).into_iter().flatten().collect();
        fields.iter().filter(|(name, _)| name == "original-mail-from").for_each(|(_, value)| {
            tokens.look_through(value);
        });
        return match field(&fields, "feedback-type").unwrap_or_default().to_ascii_lowercase().as_str() {
            "abuse" | "opt-out" | "opt-out-list" => Report::Complained,
            _ => Report::Nothing("feedback that is no complaint"),
        };
    }
    Report::Nothing("neither a delivery report nor a complaint")
}

/// The worst that is said of any recipient: we send to one, and a group behind it may be several.
fn delivery_status(groups: &[Fields]) -> Report {
    let action = |fields: &Fields| field(fields, "action").unwrap_or_default().to_ascii_lowercase();
    let told = |wanted: &str| groups.iter().find(|fields| action(fields) == wanted);
    if let Some(fields) = told("failed") {
        let (code, detail) = words(fields);
        // One that gave up on a fault that passes says so by a 4; either way nothing more comes.
        let class = if code.starts_with('4') { ErrorClass::Temporary } else { ErrorClass::Permanent };
        return Report::Bounced(AttemptError { class, code: Some(code), detail });
    }
    if let Some(fields) = told("delayed") {
        let (code, detail) = words(fields);
        return Report::Delayed(AttemptError { class: ErrorClass::Temporary, code: Some(code), detail });
    }
    Report::Nothing("a delivery report of neither a failure nor a delay")
}

/// The status code, the more exact one where the diagnosis has it, and what the other server said.
fn words(fields: &Fields) -> (String, String) {
    let diagnosis = field(fields, "diagnostic-code").unwrap_or_default();
    let said = diagnosis.split_once(';').map_or(diagnosis, |(_, said)| said).trim();
    let status =
        field(fields, "status").and_then(|text| text.split_whitespace().next()).filter(|s| enhanced(s));
    let exact = said.split(|c: char| !(c.is_ascii_digit() || c == '.')).find(|word| enhanced(word));
    let code = match (status, exact) {
        (Some(status), Some(exact)) if status.ends_with(".0.0") && status[..1] == exact[..1] => exact,
        (Some(status), _) => status,
        (None, Some(exact)) => exact,
        (None, None) => "5.0.0",
    };
    let said = if said.is_empty() { "the mail came back" } else { said };
    (code.to_owned(), clean(said))
}

/// `5.1.1` and its like (RFC 3463), of a failure.
fn enhanced(word: &str) -> bool {
    let parts: Vec<&str> = word.split('.').collect();
    let number = |part: &&str| (1..=3).contains(&part.len()) && part.bytes().all(|b| b.is_ascii_digit());
    matches!(parts[..], ["4" | "5", subject, detail] if [subject, detail].iter().all(number))
}

type Fields = Vec<(String, String)>;

fn field<'a>(fields: &'a Fields, name: &str) -> Option<&'a str> {
    fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str())
}

/// The groups of fields of a report, in which an empty line stands between two: names in lower case, folded lines made
/// one.
fn groups(text: &str) -> Vec<Fields> {
    let (mut groups, mut fields): (Vec<Fields>, Fields) = (Vec::new(), Fields::new());
    for line in text.lines() {
        if line.trim().is_empty() {
            groups.push(std::mem::take(&mut fields));
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push(' ');
                value.push_str(line.trim());
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.trim().to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    groups.push(fields);
    groups.retain(|fields| !fields.is_empty());
    groups
}

/// A mail system that delivered our mail noted the envelope's sender in it.
fn look_through_what_is_sent_back(mail: &Message<'_>, tokens: &mut Tokens) {
    for part in &mail.parts {
        let is_sent_back = |kind: &mail_parser::ContentType<'_>| {
            matches!(kind.subtype(), Some("rfc822-headers" | "global-headers"))
        };
        match &part.body {
            PartType::Message(ours) => {
                let noted = ours.headers_raw().filter(|(name, _)| name.eq_ignore_ascii_case("return-path"));
                noted.for_each(|(_, value)| tokens.look_through(value));
            }
            _ if part.content_type().is_some_and(is_sent_back) => {
                let text = String::from_utf8_lossy(part.contents());
                let noted = groups(&text).into_iter().flatten().filter(|(name, _)| name == "return-path");
                noted.for_each(|(_, value)| tokens.look_through(&value));
            }
            _ => {}
        }
    }
}

/// What could be tokens, each once.
#[derive(Default)]
struct Tokens(Vec<String>);

impl Tokens {
    /// The end of every local part that is long enough, in lower case: forwarders write before it, and change its case.
    fn look_through(&mut self, text: &str) {
        for (at, _) in text.match_indices('@') {
            let part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~.".contains(c);
            let before = &text[..at];
            let local = &before[before.trim_end_matches(part).len()..];
            let Some(start) = local.len().checked_sub(RETURN_TOKEN_CHARACTERS) else { continue };
            let token = local[start..].to_ascii_lowercase();
            let plain = token.bytes().all(|byte| matches!(byte, b'a'..=b'z' | b'2'..=b'7'));
            if plain && self.0.len() < TOKENS_MAX && !self.0.contains(&token) {
                self.0.push(token);
            }
        }
    }
}
