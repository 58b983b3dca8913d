//! DKIM (RFC 6376): signs what the relay is given, with RSA-SHA256 or Ed25519-SHA256 (RFC 8463).
//!
//! Relaxed canonicalization of header and body, because relays re-fold and trim. Header fields that a stranger
//! could add a second of (`From`, `Subject` ...) are signed once more than they are there. The private key is
//! read once, by reference, and never shown. It verifies nothing and asks no name server.

use std::fmt;

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use chrono::{DateTime, Utc};
use ring::{
    digest::{SHA256, digest},
    rand::SystemRandom,
    signature::{Ed25519KeyPair, RSA_PKCS1_SHA256, RsaKeyPair},
};
use secrecy::ExposeSecret;

use crate::channels::settings::DkimSettings;

/// Signed where they are there; those of `ONCE` are signed once more, so that a second one breaks the signature.
const SIGNED: [&str; 13] = [
    "from",
    "to",
    "cc",
    "subject",
    "date",
    "message-id",
    "reply-to",
    "mime-version",
    "content-type",
    "content-transfer-encoding",
    // RFC 8058 section 4: a signature must cover both.
    "list-unsubscribe",
    "list-unsubscribe-post",
    "auto-submitted",
];
const ONCE: [&str; 5] = ["from", "to", "subject", "date", "message-id"];
/// A line of the header is no longer than this where it can be helped (RFC 5322 section 2.1.1).
const LINE: usize = 72;

enum Key {
    Rsa(Box<RsaKeyPair>),
    Ed25519(Box<Ed25519KeyPair>),
}

/// A domain's signature.
pub struct Signer {
    domain: String,
    selector: String,
    key: Key,
}

impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Signer({}._domainkey.{}, {})", self.selector, self.domain, self.algorithm())
    }
}

impl Signer {
    /// Reads the key; the refusal says what is wrong, and never what the key is.
    pub fn new(settings: &DkimSettings) -> Result<Self, String> {
        for (what, name) in [("domain", &settings.domain), ("selector", &settings.selector)] {
            if !is_name(name) {
                return Err(format!("dkim: {what}: {name:?} is not a DNS name, such as \"example.org\""));
            }
        }
        let text = settings.key.read().map_err(|why| format!("dkim: key: {why}"))?;
        let key = read_key(text.expose_secret()).map_err(|why| format!("dkim: key: {why}"))?;
        Ok(Self { domain: settings.domain.clone(), selector: settings.selector.clone(), key })
    }

    fn algorithm(&self) -> &'static str {
        match self.key {
            Key::Rsa(_) => "rsa-sha256",
            Key::Ed25519(_) => "ed25519-sha256",
        }
    }

    /// The message with a `DKIM-Signature` before it. None where this machine has no randomness to sign with.
    pub fn sign(&self, mail: &[u8], now: DateTime<Utc>) -> Option<Vec<u8>> {
        let (head, body) = split(mail);
        let fields = fields(head);
        let names = signed_names(&fields);
        let unsigned = format!(
            "DKIM-Signature: v=1; a={}; c=relaxed/relaxed;\r\n d={}; s={};\r\n t={};\r\n h={};\r\n bh={};\r\n b=",
            self.algorithm(),
            self.domain,
            self.selector,
            now.timestamp(),
            folded(&names.join(":"), ':'),
            BASE64.encode(digest(&SHA256, &relaxed_body(body))),
        );
        let signature = self.signature(&signed_text(&fields, &names, unsigned.as_bytes()))?;
        let mut signed = unsigned.into_bytes();
        let encoded = BASE64.encode(signature);
        for (at, part) in encoded.as_bytes().chunks(LINE).enumerate() {
            signed.extend_from_slice(if at == 0 { b"" } else { b"\r\n " });
            signed.extend_from_slice(part);
        }
        signed.extend_from_slice(b"\r\n");
        signed.extend_from_slice(mail);
        Some(signed)
    }

    fn signature(&self, text: &[u8]) -> Option<Vec<u8>> {
        match &self.key {
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), text, &mut signature).ok()?;
                Some(signature)
            }
            // RFC 8463 section 3: what is signed is the hash.
            Key::Ed25519(key) => Some(key.sign(digest(&SHA256, text).as_ref()).as_ref().to_vec()),
        }
    }
}

fn is_name(name: &str) -> bool {
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// PEM, or the base64 alone, of PKCS#8 or (for RSA) PKCS#1.
fn read_key(text: &str) -> Result<Key, String> {
    let expected = "expected a private key as PEM, RSA of at least 2048 bits or Ed25519 \
                    (openssl genpkey -algorithm ed25519 -out dkim.pem)";
    if text.contains("ENCRYPTED") {
        return Err(format!("the key is protected by a password; {expected}"));
    }
    let lines = text.lines().map(str::trim).filter(|line| !line.starts_with("-----"));
    let der = BASE64.decode(lines.collect::<String>()).map_err(|_| format!("it is no base64; {expected}"))?;
    if let Ok(key) = Ed25519KeyPair::from_pkcs8_maybe_unchecked(&der) {
        return Ok(Key::Ed25519(Box::new(key)));
    }
    // The words of ring name the rule that the key breaks (`TooSmall`), nothing of the key.
    let rsa = RsaKeyPair::from_pkcs8(&der).or_else(|refused| RsaKeyPair::from_der(&der).map_err(|_| refused));
    rsa.map(|key| Key::Rsa(Box::new(key))).map_err(|why| format!("{why}; {expected}"))
}

/// Header and body; the empty line between them belongs to neither.
fn split(mail: &[u8]) -> (&[u8], &[u8]) {
    let end = mail.windows(4).position(|four| four == b"\r\n\r\n");
    end.map_or((mail, &[]), |end| (&mail[..end + 2], &mail[end + 4..]))
}

/// The fields of a header, each with its folded lines, without its last line end.
fn fields(head: &[u8]) -> Vec<&[u8]> {
    let mut fields = Vec::new();
    let mut start = 0;
    for at in 0..head.len() {
        let ends = head[at..].starts_with(b"\r\n");
        if ends && !matches!(head.get(at + 2), Some(b' ' | b'\t')) {
            fields.push(&head[start..at]);
            start = at + 2;
        }
    }
    fields.into_iter().filter(|field| !field.is_empty()).collect()
}

fn name_of(field: &[u8]) -> String {
    let name = field.split(|byte| *byte == b':').next().unwrap_or_default();
    String::from_utf8_lossy(name).trim().to_ascii_lowercase()
}

/// What `h=` names, in the order of `SIGNED`.
fn signed_names(fields: &[&[u8]]) -> Vec<&'static str> {
    let there = |name: &str| fields.iter().filter(|field| name_of(field) == name).count();
    let names = SIGNED.into_iter().flat_map(|name| {
        let once_more = usize::from(ONCE.contains(&name));
        std::iter::repeat_n(name, there(name) + once_more)
    });
    names.collect()
}

/// What is signed: the named fields, the last of a name first, then the signature's own without its end.
fn signed_text(fields: &[&[u8]], names: &[&str], own: &[u8]) -> Vec<u8> {
    let mut text = Vec::new();
    let mut left: Vec<&[u8]> = fields.to_vec();
    for name in names {
        if let Some(at) = left.iter().rposition(|field| name_of(field) == *name) {
            text.extend(relaxed_field(left.remove(at)));
            text.extend_from_slice(b"\r\n");
        }
    }
    text.extend(relaxed_field(own));
    text
}

/// RFC 6376 section 3.4.2: lower-case name, unfolded, one blank for many, none around the value.
fn relaxed_field(field: &[u8]) -> Vec<u8> {
    let colon = field.iter().position(|byte| *byte == b':').unwrap_or(field.len());
    let mut text = name_of(field).into_bytes();
    text.push(b':');
    let value: Vec<u8> = field[(colon + 1).min(field.len())..]
        .iter()
        .copied()
        .filter(|byte| !matches!(byte, b'\r' | b'\n'))
        .collect();
    text.extend(one_blank(value.trim_ascii()));
    text
}

/// RFC 6376 section 3.4.4: one blank for many, none at the end of a line, no empty lines at the end.
fn relaxed_body(body: &[u8]) -> Vec<u8> {
    let mut text = Vec::with_capacity(body.len());
    let mut lines: Vec<Vec<u8>> = Vec::new();
    for line in body.split(|byte| *byte == b'\n') {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let mut line = one_blank(line);
        if line.last() == Some(&b' ') {
            line.pop();
        }
        lines.push(line);
    }
    while lines.last().is_some_and(Vec::is_empty) {
        lines.pop();
    }
    for line in lines {
        text.extend(line);
        text.extend_from_slice(b"\r\n");
    }
    text
}

fn one_blank(bytes: &[u8]) -> Vec<u8> {
    let mut kept = Vec::with_capacity(bytes.len());
    for byte in bytes {
        match byte {
            b' ' | b'\t' if kept.last() == Some(&b' ') => {}
            b' ' | b'\t' => kept.push(b' '),
            other => kept.push(*other),
        }
    }
    kept
}

/// Broken into lines after a separator, where blanks count for nothing.
fn folded(text: &str, separator: char) -> String {
    let mut lines = String::new();
    let mut length = 0;
    for part in text.split_inclusive(separator) {
        if length + part.len() > LINE {
            lines.push_str("\r\n  ");
            length = 0;
        }
        lines.push_str(part);
        length += part.len();
    }
    lines
}

#[cfg(test)]
mod tests;
