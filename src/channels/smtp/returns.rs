//! The address that mail about an attempt comes back to: the operator's mailbox with our token as its sub-address.
//!
//! Only the envelope has it. The token is made and read elsewhere; here is its place in an address, and that it fits.

use lettre::Address;

use crate::channels::{returned::RETURN_TOKEN_CHARACTERS, settings::ReturnSettings};

/// The longest local part (RFC 5321 section 4.5.3.1.1).
const LOCAL_PART_MAX: usize = 64;

/// `bounces+` and `agence.example`.
#[derive(Clone, Debug)]
pub struct ReturnPath {
    mailbox: String,
    domain: String,
}

impl ReturnPath {
    /// Checks the settings; the refusal is in words.
    pub fn new(settings: &ReturnSettings) -> Result<Self, String> {
        let parsed: Address =
            settings.address.parse().map_err(|e| format!("bounces.address is not an email address: {e}"))?;
        let delimiter = settings.delimiter;
        if !matches!(delimiter, '+' | '-' | '=' | '_' | '.') {
            return Err(format!("bounces.delimiter: {delimiter:?} is not one of + - = _ ."));
        }
        let mailbox = format!("{}{delimiter}", parsed.user());
        let room = LOCAL_PART_MAX - RETURN_TOKEN_CHARACTERS;
        if mailbox.len() > room {
            let most = room - 1;
            return Err(format!("bounces.address: at most {most} characters before the @, a token follows"));
        }
        Ok(Self { mailbox, domain: parsed.domain().to_owned() })
    }

    /// The envelope's sender for the attempt of this token.
    pub fn of(&self, token: &str) -> Result<Address, String> {
        Address::new(format!("{}{token}", self.mailbox), self.domain.as_str())
            .map_err(|e| format!("the address for mail that comes back: {e}"))
    }
}
