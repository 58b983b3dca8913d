//! Addresses: a phone number in E.164, a mailbox, a Telegram chat.
//!
//! Reads what people write (national forms with the tenant's region) and refuses the rest with words for the
//! caller. It never guesses across kinds: `prospectPhone` is never a WhatsApp address. The phone number
//! library is behind this file and `phone`, so that another can replace it.

use std::{borrow::Cow, fmt};

use rlibphonenumber::PHONE_NUMBER_UTIL;
use serde::{Deserialize, Serialize};

use super::{
    channel::{Channel, PerChannel},
    octets,
};

mod phone;

use phone::phone;

/// Countries that certainly have a numbering plan: the library's own tables take 5 MiB, and are not read to say so. They
/// are once a number is not plain (`is_plain_mobile`, `french_mobile`).
const COMMON_REGIONS: [&str; 12] = ["FR", "BE", "CH", "LU", "MC", "DE", "ES", "IT", "PT", "GB", "US", "CA"];

/// A country by its ISO 3166 code: how national numbers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    code: [u8; 2],
    plan: rlibphonenumber::Region,
}

impl Region {
    /// Takes two upper-case letters that name a country with a numbering plan.
    pub fn parse(code: &str) -> Option<Self> {
        let letters: [u8; 2] = code.as_bytes().try_into().ok()?;
        let plan: rlibphonenumber::Region = code.parse().ok()?;
        let known = || PHONE_NUMBER_UTIL.get_country_code_for_region(plan).is_some();
        (COMMON_REGIONS.contains(&code) || known()).then_some(Self { code: letters, plan })
    }

    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.code).unwrap_or_default()
    }
}

/// Where one message goes on one channel.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(tag = "kind", content = "value", rename_all = "lowercase")]
pub enum Address {
    /// E.164, for SMS and WhatsApp: `+33612345678`.
    Phone(String),
    /// RFC 5321, the domain in lower case.
    Email(String),
    /// A Telegram chat: a number, or `@channelname`.
    Chat(String),
}

impl Address {
    /// The address as the provider takes it. Personal data: never for logs.
    pub fn as_str(&self) -> &str {
        match self {
            Address::Phone(text) | Address::Email(text) | Address::Chat(text) => text,
        }
    }
}

/// Shows the last two characters only, so that a stray log line gives nobody away.
impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.as_str();
        let from = text.char_indices().rev().nth(1).map_or(0, |(at, _)| at);
        write!(f, "…{}", &text[from..])
    }
}

/// What a request says of one channel's address.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Contact {
    #[default]
    Missing,
    /// Given, but not an address; the words say why.
    Unreadable(String),
    Known(Address),
}

impl Contact {
    /// The address, where there is a good one.
    pub fn address(&self) -> Option<&Address> {
        match self {
            Contact::Known(address) => Some(address),
            _ => None,
        }
    }
}

/// The same in the caller's own words, where these are an address already: a decision that is not kept needs no copy.
pub enum Spotted<'a> {
    Missing,
    /// Given, but not an address; the words say why.
    Unreadable(String),
    Known(Cow<'a, str>),
}

impl Spotted<'_> {
    /// The address, where there is a good one. Personal data: never for logs.
    pub fn address(&self) -> Option<&str> {
        match self {
            Spotted::Known(address) => Some(address),
            _ => None,
        }
    }

    fn into_contact(self, kind: fn(String) -> Address) -> Contact {
        match self {
            Spotted::Missing => Contact::Missing,
            Spotted::Unreadable(why) => Contact::Unreadable(why),
            Spotted::Known(address) => Contact::Known(kind(address.into_owned())),
        }
    }
}

/// Whether a message can go there at all: what a decision knows of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach<'a> {
    Missing,
    /// Given, but not an address; the words say why.
    Unreadable(&'a str),
    Known,
}

impl<'a> Reach<'a> {
    /// What the contacts come to.
    pub fn of(contacts: &'a PerChannel<Contact>) -> PerChannel<Self> {
        PerChannel::from_fn(|channel| match &contacts[channel] {
            Contact::Missing => Reach::Missing,
            Contact::Unreadable(why) => Reach::Unreadable(why),
            Contact::Known(_) => Reach::Known,
        })
    }

    /// The same of what was not copied.
    pub fn of_spotted(spotted: &'a PerChannel<Spotted<'_>>) -> PerChannel<Self> {
        PerChannel::from_fn(|channel| match &spotted[channel] {
            Spotted::Missing => Reach::Missing,
            Spotted::Unreadable(why) => Reach::Unreadable(why),
            Spotted::Known(_) => Reach::Known,
        })
    }
}

/// The addresses as the caller wrote them; which form they are in depends on the tenant's region.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RawContacts {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub phone: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub whatsapp: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub telegram: Option<String>,
}

impl fmt::Debug for RawContacts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RawContacts(…)")
    }
}

/// The same, borrowed from whatever holds them.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct WrittenContacts<'a> {
    pub phone: Option<Cow<'a, str>>,
    pub email: Option<Cow<'a, str>>,
    pub whatsapp: Option<Cow<'a, str>>,
    pub telegram: Option<Cow<'a, str>>,
}

impl fmt::Debug for WrittenContacts<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("WrittenContacts(…)")
    }
}

impl RawContacts {
    pub fn written(&self) -> WrittenContacts<'_> {
        WrittenContacts {
            phone: self.phone.as_deref().map(Cow::Borrowed),
            email: self.email.as_deref().map(Cow::Borrowed),
            whatsapp: self.whatsapp.as_deref().map(Cow::Borrowed),
            telegram: self.telegram.as_deref().map(Cow::Borrowed),
        }
    }
}

impl WrittenContacts<'_> {
    /// Reads each channel's address with the tenant's region.
    pub fn read(&self, region: Region) -> PerChannel<Contact> {
        let [sms, email, whatsapp, telegram] = self.spot(region).into_array();
        PerChannel::new([
            sms.into_contact(Address::Phone),
            email.into_contact(Address::Email),
            whatsapp.into_contact(Address::Phone),
            telegram.into_contact(Address::Chat),
        ])
    }

    /// The same without copies.
    pub fn spot(&self, region: Region) -> PerChannel<Spotted<'_>> {
        fn spot<'t>(
            text: Option<&'t str>,
            read: impl Fn(&'t str) -> Result<Cow<'t, str>, String>,
        ) -> Spotted<'t> {
            match text.map(str::trim).filter(|t| !t.is_empty()) {
                None => Spotted::Missing,
                Some(text) => read(text).map_or_else(Spotted::Unreadable, Spotted::Known),
            }
        }
        PerChannel::new([
            spot(self.phone.as_deref(), |t| phone(t, region, Channel::Sms)),
            spot(self.email.as_deref(), email),
            spot(self.whatsapp.as_deref(), |t| phone(t, region, Channel::WhatsApp)),
            spot(self.telegram.as_deref(), chat),
        ])
    }
}

/// Reads each channel's address with the tenant's region.
pub fn read_contacts(raw: &RawContacts, region: Region) -> PerChannel<Contact> {
    raw.written().read(region)
}

fn shown(text: &str) -> Cow<'_, str> {
    if text.chars().count() <= 40 {
        return Cow::Borrowed(text);
    }
    Cow::Owned(text.chars().take(40).chain(['…']).collect())
}

/// Reads a mailbox (RFC 5321: local part up to 64 octets, 254 in all). The domain is put in lower case.
fn email(text: &str) -> Result<Cow<'_, str>, String> {
    let refused = |why: &str| Err(format!("not an email address: {:?} ({why})", shown(text)));
    let Some((local, domain)) = text.rsplit_once('@') else { return refused("no @") };
    if text.len() > 254 || local.len() > 64 {
        return refused("too long");
    }
    // Whatever is not ASCII has to be looked at as characters.
    let maybe = octets::any(text.as_bytes(), b'a', |b| (b <= b' ') | (b >= 0x7f));
    let odd = maybe && text.chars().any(|c| c.is_control() || c.is_whitespace());
    if odd {
        return refused("spaces and control characters are not allowed");
    }
    if domain.is_empty() || !domain.contains('.') || domain.starts_with('.') || domain.ends_with('.') {
        return refused("the part after @ is no domain");
    }
    match mailbox_fault(local, domain) {
        None if !octets::any(domain.as_bytes(), b'a', |b| (b >= 0x80) | b.is_ascii_uppercase()) => {
            Ok(text.into())
        }
        None => Ok(format!("{local}@{}", domain.to_lowercase()).into()),
        Some(why) => refused(why),
    }
}

/// Reads a Telegram chat: an integer id (negative for groups) or a public `@name`.
fn chat(text: &str) -> Result<Cow<'_, str>, String> {
    let named = text.strip_prefix('@').is_some_and(|name| {
        (4..=32).contains(&name.len())
            && name.starts_with(|c: char| c.is_ascii_alphabetic())
            && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
    });
    if named || text.parse::<i64>().is_ok_and(|id| id != 0) {
        return Ok(text.into());
    }
    Err(format!("not a Telegram chat: {:?} (a number such as 123456789, or @name)", shown(text)))
}

/// The bytes of which the parts before the @ are. Whatever is not ASCII is allowed there, so that bytes are as good as
/// characters.
const ATOM: [bool; 256] = {
    let (marks, mut atom, mut byte) = (b"!#$%&'*+/=?^_`{|}~-", [false; 256], 0);
    while byte < 256 {
        atom[byte] = byte >= 128 || (byte as u8).is_ascii_alphanumeric();
        byte += 1;
    }
    let mut at = 0;
    while at < marks.len() {
        atom[marks[at] as usize] = true;
        at += 1;
    }
    atom
};

/// What keeps `local@domain` from being a mailbox: the dot-atom form of RFC 5321, quoted local parts left out.
fn mailbox_fault<'t>(local: &'t str, domain: &'t str) -> Option<&'static str> {
    let parts = |text: &'t str| text.as_bytes().split(|b| *b == b'.');
    let label = |l: &[u8]| {
        (1..=63).contains(&l.len())
            && !l.starts_with(b"-")
            && !l.ends_with(b"-")
            && l.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-' || !b.is_ascii())
    };
    let (dots, ends) =
        (local.as_bytes().windows(2).any(|two| two == b".."), [local.bytes().next(), local.bytes().last()]);
    if dots
        || ends.iter().any(|end| matches!(end, None | Some(b'.')))
        || !local.bytes().all(|b| b == b'.' || ATOM[usize::from(b)])
    {
        return Some("the part before @ has a character that is not allowed, or a dot out of place");
    }
    let named = || domain.is_ascii() || domain.chars().all(|c| c.is_alphanumeric() || c == '-' || c == '.');
    (!parts(domain).all(label) || !named()).then_some("the part after @ is no domain")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sms(text: &str) -> Contact {
        let raw = RawContacts { phone: Some(text.into()), ..RawContacts::default() };
        read_contacts(&raw, Region::parse("FR").unwrap())[Channel::Sms].clone()
    }

    #[test]
    fn common_regions_have_a_plan() {
        for code in COMMON_REGIONS {
            let plan = Region::parse(code).unwrap().plan;
            assert!(PHONE_NUMBER_UTIL.get_country_code_for_region(plan).is_some(), "{code}");
        }
    }

    #[test]
    fn french_forms_are_read_and_kept_as_e164() {
        for text in ["06 12 34 56 78", "0612345678", "+33 6 12 34 56 78", "+33612345678", "06.12.34.56.78"] {
            assert_eq!(sms(text).address().map(Address::as_str), Some("+33612345678"), "{text}");
        }
        assert_eq!(sms("+1 202 555 0143").address().map(Address::as_str), Some("+12025550143"));
    }

    #[test]
    fn what_is_no_number_is_said_in_words() {
        for text in ["06 12 34", "marie@example.com", "hello", "+33", &"0".repeat(500)] {
            let Contact::Unreadable(why) = sms(text) else { panic!("{text}: {:?}", sms(text)) };
            assert!(why.starts_with("not a phone number: "), "{why}");
        }
        let Contact::Unreadable(why) = sms("01 42 68 53 00") else { panic!() };
        assert!(why.starts_with("a landline cannot receive SMS"), "{why}");
        assert_eq!(sms("  "), Contact::Missing);
    }

    #[test]
    fn mailboxes() {
        for good in ["client@example.com", "a.b+c@Exämple.fr", "x@sub.example.co.uk"] {
            assert!(email(good).is_ok(), "{good}");
        }
        assert_eq!(email("A@EXAMPLE.Com").as_deref(), Ok("A@example.com"));
        for bad in [
            "",
            "a",
            "a@b",
            "@example.com",
            "a@.com",
            "a b@example.com",
            "a@exa mple.com",
            "a..b@example.com",
            "a@example..com",
            "a\r\n@example.com",
            "<a@example.com>",
            "a@-x.com",
            "a@b@c.com",
        ] {
            assert!(email(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn chats() {
        for good in ["123456789", "-1001234567890", "@my_channel"] {
            assert!(chat(good).is_ok(), "{good}");
        }
        for bad in ["0", "@ab", "name", "12a", "@1abc"] {
            assert!(chat(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_address_does_not_show_itself_in_debug() {
        assert_eq!(format!("{:?}", Address::Phone("+33612345678".into())), "…78");
    }
}
