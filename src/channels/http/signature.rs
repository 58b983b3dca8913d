//! Keyed hashes: of what we send, and of what claims to come from a provider.
//!
//! Compared in constant time (reliability.md T13). It keeps no secret of its own, and shows none.

use std::fmt::Write as _;

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};
use subtle::ConstantTimeEq;

/// Which keyed hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hash {
    /// Twilio's; sound as a keyed hash, though not for anything new.
    Sha1,
    Sha256,
    Sha512,
}

impl Hash {
    const fn algorithm(self) -> hmac::Algorithm {
        match self {
            Hash::Sha1 => hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY,
            Hash::Sha256 => hmac::HMAC_SHA256,
            Hash::Sha512 => hmac::HMAC_SHA512,
        }
    }
}

/// The keyed hash of the text, in base64.
pub fn sign_base64(hash: Hash, secret: &[u8], text: &[u8]) -> String {
    STANDARD.encode(hmac::sign(&hmac::Key::new(hash.algorithm(), secret), text))
}

/// Whether `given` is the keyed hash of the text by any of the secrets: two are alive while one is replaced.
/// All are tried, so that the time taken does not tell which one it was.
pub fn is_signed_by(hash: Hash, secrets: &[SecretString], text: &[u8], given: &[u8]) -> bool {
    secrets.iter().fold(false, |found, secret| {
        let key = hmac::Key::new(hash.algorithm(), secret.expose_secret().as_bytes());
        hmac::verify(&key, text, given).is_ok() | found
    })
}

/// SHA-256 in lower-case hex.
pub fn sha256_hex(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

/// Whether two texts are one, in a time that depends on their lengths alone.
pub fn same(one: &[u8], other: &[u8]) -> bool {
    one.ct_eq(other).into()
}

/// Bytes of hex digits of either case.
pub fn from_hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let (pairs, []) = text.as_bytes().as_chunks::<2>() else { return None };
    pairs.iter().map(|[high, low]| Some(digit(*high)? * 16 + digit(*low)?)).collect()
}

/// A provider and an account as one name that may be logged: what breakers and pauses watch.
pub fn credential_name(provider: &str, account: &str) -> String {
    format!("{provider}:{}", &sha256_hex(account.as_bytes())[..8])
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_living_secret_verifies_and_no_other() {
        let secrets = [SecretString::from("new"), SecretString::from("old")];
        for (secret, good) in [("new", true), ("old", true), ("other", false), ("", false)] {
            let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
            let given = hmac::sign(&key, b"text");
            assert_eq!(is_signed_by(Hash::Sha256, &secrets, b"text", given.as_ref()), good, "{secret}");
            assert!(!is_signed_by(Hash::Sha256, &secrets, b"texts", given.as_ref()));
            assert!(!is_signed_by(Hash::Sha256, &[], b"text", given.as_ref()));
        }
    }

    #[test]
    fn hex_reads_back() {
        assert_eq!(from_hex(&hex(&[0, 15, 255])), Some(vec![0, 15, 255]));
        assert_eq!(from_hex("FF0a"), Some(vec![255, 10]));
        for bad in ["f", "fg", "é", "0x"] {
            assert_eq!(from_hex(bad), None, "{bad}");
        }
        assert_eq!(credential_name("twilio", "AC1"), credential_name("twilio", "AC1"));
        assert!(!credential_name("twilio", "AC0000000000").contains("AC"));
    }
}
