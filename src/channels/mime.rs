//! An email as bytes: RFC 5322 and MIME, the same for SMTP and for the sandbox's `.eml`.
//!
//! Only CRLF leaves, every body is quoted-printable or base64, and no control character gets into a header
//! (reliability.md T9, T10): lettre panics on some of them, so they are refused before it sees them. Sends
//! nothing, fetches nothing.

use chrono::{DateTime, Utc};
use lettre::{
    Address, Message,
    message::{
        Attachment, Body, Mailbox, MultiPart, SinglePart,
        header::{ContentTransferEncoding, ContentType, Header, HeaderName, HeaderValue},
    },
};

use super::Outbound;
use crate::domain::message;

/// The longest file name that is passed on, in characters.
const FILE_NAME_MAX: usize = 120;
/// With its name it fits a line of 998 characters (RFC 5322 section 2.1.1).
const URL_MAX: usize = 900;

/// A message ready for the wire, with its envelope.
#[derive(Clone, Debug)]
pub struct Mail {
    pub bytes: Vec<u8>,
    /// Whom mail about it comes back to; the sender, unless the driver knows better.
    pub envelope_from: Address,
    pub to: Address,
    /// Without brackets; the same at every attempt, so that a relay or a mailbox can see a second copy.
    pub message_id: String,
}

/// Builds the email. `default_from` writes where the message names no sender. The refusal is for people.
pub fn build(outbound: &Outbound, default_from: &Mailbox, now: DateTime<Utc>) -> Result<Mail, String> {
    let from = match &outbound.from {
        Some(address) => mailbox("the sender", address, outbound.from_name.as_deref())?,
        None => Mailbox::new(
            header_text("the sender's name", outbound.from_name.as_deref())?.or(default_from.name.clone()),
            default_from.email.clone(),
        ),
    };
    let to = mailbox("the recipient", outbound.to.as_str(), outbound.to_name.as_deref())?;
    let message_id = format!("{}@{}", outbound.message, from.email.domain());
    let mut builder = Message::builder()
        .message_id(Some(format!("<{message_id}>")))
        .date(now.into())
        .from(from.clone())
        .to(to.clone());
    if let Some(address) = &outbound.reply_to {
        builder = builder.reply_to(mailbox("the reply-to address", address, None)?);
    }
    if let Some(subject) = header_text("the subject", outbound.content.subject.as_deref())? {
        builder = builder.subject(subject);
    }
    if let Some(url) = &outbound.unsubscribe {
        builder = builder.header(ListUnsubscribe::new(url)?);
        // RFC 8058 section 3.1: one click needs HTTPS; a list address without it is only a link.
        if url.starts_with("https://") {
            builder = builder.header(OneClick);
        }
    }
    let message = match body(&outbound.content)? {
        Part::Single(part) => builder.singlepart(part),
        Part::Multi(part) => builder.multipart(part),
    }
    .map_err(|e| format!("the email cannot be written: {e}"))?;
    let bytes = message.formatted();
    if !only_crlf(&bytes) {
        return Err("the email would hold a line end that is not CRLF".into());
    }
    Ok(Mail { bytes, envelope_from: from.email, to: to.email, message_id })
}

/// `List-Unsubscribe` (RFC 2369), written as it is: its address may be longer than a line and must stay whole.
#[derive(Clone, Debug)]
struct ListUnsubscribe(String);

impl ListUnsubscribe {
    fn new(url: &str) -> Result<Self, String> {
        let whole = url.starts_with("https://") || url.starts_with("http://");
        let plain = url.bytes().all(|b| b.is_ascii_graphic() && !matches!(b, b'<' | b'>' | b','));
        if whole && plain && url.len() <= URL_MAX {
            return Ok(Self(format!("<{url}>")));
        }
        Err(format!("the address for unsubscribing is not a plain URL of at most {URL_MAX} characters"))
    }
}

impl Header for ListUnsubscribe {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe")
    }

    fn parse(text: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self::new(text.trim_start_matches('<').trim_end_matches('>'))?)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::dangerous_new_pre_encoded(Self::name(), self.0.clone(), self.0.clone())
    }
}

/// `List-Unsubscribe-Post: List-Unsubscribe=One-Click` (RFC 8058).
#[derive(Clone, Debug)]
struct OneClick;

impl Header for OneClick {
    fn name() -> HeaderName {
        HeaderName::new_from_ascii_str("List-Unsubscribe-Post")
    }

    fn parse(_: &str) -> Result<Self, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Self)
    }

    fn display(&self) -> HeaderValue {
        HeaderValue::new(Self::name(), "List-Unsubscribe=One-Click".to_owned())
    }
}

/// Reads an address and a display name for a header.
pub fn mailbox(what: &str, address: &str, name: Option<&str>) -> Result<Mailbox, String> {
    let parsed: Address = address.parse().map_err(|e| format!("{what} is not an email address: {e}"))?;
    Ok(Mailbox::new(header_text(&format!("{what}'s name"), name)?, parsed))
}

/// Text that may go into a header; empty counts as none.
fn header_text(what: &str, text: Option<&str>) -> Result<Option<String>, String> {
    let Some(text) = text.filter(|t| !t.trim().is_empty()) else { return Ok(None) };
    match text.chars().find(|c| c.is_control()) {
        None => Ok(Some(text.to_owned())),
        Some(c) => Err(format!("{what} holds a control character (U+{:04X})", c as u32)),
    }
}

/// Text that may be a body: its line ends in one form, no control character but tab and line end.
fn body_text(what: &str, text: &str) -> Result<String, String> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    match text.chars().find(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        None => Ok(text),
        Some(c) => Err(format!("{what} holds a control character (U+{:04X})", c as u32)),
    }
}

enum Part {
    Single(SinglePart),
    Multi(MultiPart),
}

fn body(content: &message::Content) -> Result<Part, String> {
    let text = body_text("the text", &content.body)?;
    let html = content.html.as_deref().map(|html| body_text("the html", html)).transpose()?;
    let words = match html {
        Some(html) if text.trim().is_empty() => Part::Single(encoded(html, ContentType::TEXT_HTML)?),
        Some(html) => Part::Multi(
            MultiPart::alternative()
                .singlepart(encoded(text, ContentType::TEXT_PLAIN)?)
                .singlepart(encoded(html, ContentType::TEXT_HTML)?),
        ),
        None => Part::Single(encoded(text, ContentType::TEXT_PLAIN)?),
    };
    if content.attachments.is_empty() {
        return Ok(words);
    }
    let mut mixed = match words {
        Part::Single(part) => MultiPart::mixed().singlepart(part),
        Part::Multi(part) => MultiPart::mixed().multipart(part),
    };
    for file in &content.attachments {
        mixed = mixed.singlepart(attachment(file)?);
    }
    Ok(Part::Multi(mixed))
}

fn encoded(text: String, content_type: ContentType) -> Result<SinglePart, String> {
    let body = Body::new_with_encoding(text, ContentTransferEncoding::QuotedPrintable)
        .map_err(|_| "the text cannot be encoded".to_owned())?;
    Ok(SinglePart::builder().content_type(content_type).body(body))
}

fn attachment(file: &message::Attachment) -> Result<SinglePart, String> {
    let body = Body::new_with_encoding(file.bytes.clone(), ContentTransferEncoding::Base64)
        .map_err(|_| "an attachment cannot be encoded".to_owned())?;
    Ok(Attachment::new(file_name(&file.file_name)).body(body, content_type(&file.content_type)))
}

/// The type as the caller gave it, where a base64 part may have it; else plain bytes.
fn content_type(text: &str) -> ContentType {
    let lower = text.to_ascii_lowercase();
    let plain = text.chars().all(|c| c.is_ascii() && !c.is_control());
    // Base64 is not allowed for these (RFC 2045 section 6.4, RFC 2046 section 5.2.1).
    let composite = lower.starts_with("multipart/") || lower.starts_with("message/");
    if !plain || composite {
        return octets();
    }
    ContentType::parse(text).unwrap_or_else(|_| octets())
}

fn octets() -> ContentType {
    ContentType::parse("application/octet-stream").unwrap_or(ContentType::TEXT_PLAIN)
}

/// A file's name without folders, control characters and leading dots: what a mail program may save it as.
pub fn file_name(text: &str) -> String {
    let last = text.rsplit(['/', '\\']).next().unwrap_or_default();
    let kept: String = last.chars().filter(|c| !c.is_control() && !"\"<>:|?*".contains(*c)).collect();
    let kept: String = kept.trim_matches([' ', '.']).chars().take(FILE_NAME_MAX).collect();
    if kept.is_empty() { "attachment".to_owned() } else { kept }
}

/// Whether every CR is followed by LF and every LF preceded by CR.
fn only_crlf(bytes: &[u8]) -> bool {
    let cr = |at: usize| at > 0 && bytes[at - 1] == b'\r';
    bytes.iter().enumerate().all(|(at, b)| match b {
        b'\n' => cr(at),
        b'\r' => bytes.get(at + 1) == Some(&b'\n'),
        _ => true,
    })
}
