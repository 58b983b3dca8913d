//! Tokens: what they name, signed with HMAC-SHA256 under the daemon's own key.
//!
//! Version, kind and tenant are in what is signed, so that no token passes for another kind or tenant. 128 bits
//! of the tag are kept, 96 where it stands in a mail's address. A token has one spelling only (an address's may change
//! its case on the way), says nothing that is secret, and never expires: receipts may come a week later, and an
//! unsubscribe link has to work as long as the mail is kept.

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ring::hmac;
use subtle::ConstantTimeEq;

use crate::{
    channels::returned::{RETURN_TOKEN_CHARACTERS, ReturnTokens},
    domain::ids::{AttemptId, MessageId, TenantId},
};

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
const ID_BYTES: usize = 16;
/// An address has room for 64 characters before its `@`, a mailbox's own name among them.
const RETURN_TAG_BYTES: usize = 12;
/// Longer than any token: what is longer is not even decoded.
const CHARACTERS_MAX: usize = 128;
/// Keeps these signatures apart from any other use of the key.
const CONTEXT: &[u8] = b"channel-orchestrator/token";

/// What a token is for.
#[derive(Clone, Copy)]
enum Kind {
    Attempt = 1,
    Open = 2,
    Click = 3,
    Unsubscribe = 4,
    Return = 5,
}

/// A mail was opened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Opened {
    pub message: MessageId,
    /// When the mail was made, to the millisecond.
    pub made_at: DateTime<Utc>,
}

/// A link was followed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clicked {
    pub message: MessageId,
    /// Its place among the mail's links, from 0.
    pub link: u16,
    pub made_at: DateTime<Utc>,
}

/// The key of all tokens: made once, kept in the database, the same for every replica.
#[derive(Clone)]
pub struct TokenKey(hmac::Key);

impl std::fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenKey")
    }
}

impl TokenKey {
    pub fn new(bytes: &[u8; 32]) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, bytes))
    }

    pub fn attempt(&self, tenant: &TenantId, attempt: AttemptId) -> String {
        self.seal(Kind::Attempt, tenant.as_str(), &attempt.to_bytes())
    }

    pub fn open(&self, message: MessageId, at: DateTime<Utc>) -> String {
        self.seal(Kind::Open, "", &[&message.to_bytes()[..], &at.timestamp_millis().to_be_bytes()].concat())
    }

    pub fn click(&self, message: MessageId, link: u16, at: DateTime<Utc>) -> String {
        let at = at.timestamp_millis().to_be_bytes();
        self.seal(Kind::Click, "", &[&message.to_bytes()[..], &link.to_be_bytes(), &at].concat())
    }

    pub fn unsubscribe(&self, message: MessageId) -> String {
        self.seal(Kind::Unsubscribe, "", &message.to_bytes())
    }

    /// What stands in the address that a mail about this attempt comes back to: letters and digits whatever their case,
    /// because mail systems change it.
    pub fn returned(&self, attempt: AttemptId) -> String {
        let payload = attempt.to_bytes();
        base32(&[&payload[..], &self.tag(Kind::Return, "", &payload)[..RETURN_TAG_BYTES]].concat())
    }

    pub fn read_attempt(&self, token: &str, tenant: &TenantId) -> Option<AttemptId> {
        let bytes: [u8; ID_BYTES] = self.unseal(Kind::Attempt, tenant.as_str(), token)?;
        Some(AttemptId::from_bytes(bytes))
    }

    pub fn read_open(&self, token: &str) -> Option<Opened> {
        let bytes: [u8; ID_BYTES + 8] = self.unseal(Kind::Open, "", token)?;
        let (message, at) = bytes.split_first_chunk()?;
        Some(Opened { message: MessageId::from_bytes(*message), made_at: instant(at)? })
    }

    pub fn read_click(&self, token: &str) -> Option<Clicked> {
        let bytes: [u8; ID_BYTES + 10] = self.unseal(Kind::Click, "", token)?;
        let (message, rest) = bytes.split_first_chunk()?;
        let (link, at) = rest.split_first_chunk()?;
        Some(Clicked {
            message: MessageId::from_bytes(*message),
            link: u16::from_be_bytes(*link),
            made_at: instant(at)?,
        })
    }

    pub fn read_unsubscribe(&self, token: &str) -> Option<MessageId> {
        self.unseal(Kind::Unsubscribe, "", token).map(MessageId::from_bytes)
    }

    fn seal(&self, kind: Kind, bound: &str, payload: &[u8]) -> String {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(payload);
        bytes.extend_from_slice(&self.tag(kind, bound, payload));
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// The payload of exactly `N` bytes, if the token is one of ours, of that kind and bound to the same.
    fn unseal<const N: usize>(&self, kind: Kind, bound: &str, token: &str) -> Option<[u8; N]> {
        if token.len() > CHARACTERS_MAX {
            return None;
        }
        let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
        let (version, rest) = bytes.split_first()?;
        let (payload, tag) = rest.split_first_chunk::<N>()?;
        if *version != VERSION || tag.len() != TAG_BYTES {
            return None;
        }
        bool::from(self.tag(kind, bound, payload).ct_eq(tag)).then_some(*payload)
    }

    fn tag(&self, kind: Kind, bound: &str, payload: &[u8]) -> [u8; TAG_BYTES] {
        let mut context = hmac::Context::with_key(&self.0);
        context.update(CONTEXT);
        context.update(&[VERSION, kind as u8]);
        context.update(&(bound.len() as u64).to_be_bytes());
        context.update(bound.as_bytes());
        context.update(payload);
        let mut tag = [0; TAG_BYTES];
        tag.copy_from_slice(&context.sign().as_ref()[..TAG_BYTES]);
        tag
    }
}

impl ReturnTokens for TokenKey {
    fn read_returned(&self, token: &str) -> Option<AttemptId> {
        if token.len() != RETURN_TOKEN_CHARACTERS {
            return None;
        }
        let bytes = unbase32(token)?;
        let (payload, tag) = bytes.split_first_chunk::<ID_BYTES>()?;
        let expected = self.tag(Kind::Return, "", payload);
        let ours = bool::from(expected[..RETURN_TAG_BYTES].ct_eq(tag));
        ours.then(|| AttemptId::from_bytes(*payload))
    }
}

/// RFC 4648 section 6, in lower case and without padding.
const ALPHABET: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";

fn base32(bytes: &[u8]) -> String {
    let bit = |at: usize| bytes.get(at / 8).is_some_and(|byte| byte >> (7 - at % 8) & 1 == 1);
    let five = |from: usize| (from..from + 5).fold(0_usize, |value, at| value << 1 | usize::from(bit(at)));
    (0..bytes.len() * 8).step_by(5).map(|from| char::from(ALPHABET[five(from)])).collect()
}

/// Whole bytes and nothing behind them but zeros.
fn unbase32(text: &str) -> Option<Vec<u8>> {
    let (mut bytes, mut held, mut bits) = (Vec::with_capacity(text.len() * 5 / 8), 0_u32, 0);
    for letter in text.bytes() {
        let value = ALPHABET.iter().position(|known| *known == letter.to_ascii_lowercase())?;
        (held, bits) = (held << 5 | u32::try_from(value).ok()?, bits + 5);
        if bits >= 8 {
            bits -= 8;
            bytes.push(u8::try_from(held >> bits).ok()?);
            held &= (1 << bits) - 1;
        }
    }
    (held == 0).then_some(bytes)
}

fn instant(bytes: &[u8]) -> Option<DateTime<Utc>> {
    DateTime::from_timestamp_millis(i64::from_be_bytes(bytes.try_into().ok()?))
}
