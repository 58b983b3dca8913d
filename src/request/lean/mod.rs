//! The common request to decide, read in one pass and with borrowed words: what a decision needs, and nothing else.
//!
//! It takes clean requests only. Whatever is odd (a fault, a template, an attachment, an explanation asked for, a
//! way of writing that nobody uses) it leaves to `parse`, so no word about a fault is said here; what it does take
//! is what `parse` reads (`tests` holds the two against each other). Bodies are measured and not kept.

use std::borrow::Cow;

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;

use super::convert::{
    LOCALE_MAX, NAME_MAX, ORDERING_KEY_MAX, SEND_WITHIN_MAX, SUBJECT_MAX, TAG_MAX, TAGS_MAX,
};
use crate::domain::{
    address::WrittenContacts,
    channel::Channel,
    ids::{RecipientId, TenantId},
    message::{ContentProfile, MessageKind, Origin, Priority},
    octets, segments,
    time::parse_time_zone,
};

mod scan;
#[cfg(test)]
mod tests;

use scan::Scanner;

/// A request to decide, as far as deciding goes.
#[derive(Debug, PartialEq)]
pub struct Lean<'a> {
    pub tenant: &'a str,
    pub recipient: Cow<'a, str>,
    pub contacts: WrittenContacts<'a>,
    pub kind: Option<MessageKind>,
    pub priority: Option<Priority>,
    pub send_within: Option<u32>,
    pub preferences: LeanPreferences,
    pub time_zone: Option<Tz>,
    pub locale: Option<Cow<'a, str>>,
    pub event_at: Option<DateTime<Utc>>,
    pub tags: Vec<String>,
    pub origin: Origin,
    pub consent: Option<bool>,
    pub content: ContentProfile,
    pub at: Option<DateTime<Utc>>,
    pub send_at: Option<DateTime<Utc>>,
    pub deadline: Option<DateTime<Utc>>,
    pub variant: Option<Cow<'a, str>>,
}

impl Default for Lean<'_> {
    fn default() -> Self {
        Self {
            tenant: "",
            recipient: Cow::Borrowed(""),
            contacts: WrittenContacts::default(),
            kind: None,
            priority: None,
            send_within: None,
            preferences: LeanPreferences::default(),
            time_zone: None,
            locale: None,
            event_at: None,
            tags: Vec::new(),
            origin: Origin::Api,
            consent: None,
            content: ContentProfile::default(),
            at: None,
            send_at: None,
            deadline: None,
            variant: None,
        }
    }
}

/// `message::Preferences`, without what decisions do not read.
#[derive(Debug, Default, PartialEq)]
pub struct LeanPreferences {
    pub preferred: Named,
    pub disabled: Named,
    pub quiet_start: Option<NaiveTime>,
    pub quiet_end: Option<NaiveTime>,
    pub allow_sms_in_quiet_hours: bool,
}

/// Channels that were named, each once.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Named {
    channels: [Channel; 4],
    count: usize,
}

impl Default for Named {
    fn default() -> Self {
        Self { channels: Channel::ALL, count: 0 }
    }
}

impl Named {
    pub fn as_slice(&self) -> &[Channel] {
        &self.channels[..self.count]
    }

    fn add(&mut self, channel: Channel) {
        if !self.as_slice().contains(&channel) {
            self.channels[self.count] = channel;
            self.count += 1;
        }
    }

    fn read(&mut self, scan: &mut Scanner<'_>) -> Option<()> {
        scan.array(|scan| {
            self.add(Channel::parse(scan.plain()?)?);
            Some(())
        })
    }
}

/// Reads a request for `Purpose::Decision`; `None`: `parse` of a whole request is to read it.
pub fn parse(bytes: &[u8]) -> Option<Lean<'_>> {
    let mut lean = Lean::default();
    parse_into(bytes, &mut lean)?;
    Some(lean)
}

/// The same into a new `Lean` where it stands: it is large, and copied for nothing otherwise. After `None` it means
/// nothing.
pub fn parse_into<'a>(bytes: &'a [u8], lean: &mut Lean<'a>) -> Option<()> {
    let mut scan = Scanner::new(simdutf8::basic::from_utf8(bytes).ok()?);
    let mut seen = Seen::default();
    scan.object(|scan, name| lean.field(scan, name, &mut seen))?;
    scan.end()?;
    lean.check()
}

/// Which fields of an object came: one that comes twice is a fault.
#[derive(Default)]
struct Seen(u32);

impl Seen {
    fn once(&mut self, field: u32) -> Option<()> {
        let before = self.0;
        self.0 |= 1 << field;
        (before != self.0).then_some(())
    }
}

impl<'a> Lean<'a> {
    fn field(&mut self, scan: &mut Scanner<'a>, name: &str, seen: &mut Seen) -> Option<()> {
        match name {
            "context" => {
                seen.once(0)?;
                let mut seen = Seen::default();
                scan.object(|scan, name| self.context_field(scan, name, &mut seen))?;
            }
            "content" => {
                seen.once(1)?;
                let (content, mut seen) = (&mut self.content, Seen::default());
                scan.given(|scan| scan.object(|scan, name| content_field(content, scan, name, &mut seen)))?;
            }
            "at" => {
                seen.once(2)?;
                self.at = scan.given(instant)?;
            }
            "explain" => {
                seen.once(3)?;
                if scan.given(Scanner::truth)? == Some(true) {
                    return None;
                }
            }
            "variant" => {
                seen.once(4)?;
                self.variant = scan.given(Scanner::string)?;
            }
            "sendAt" => {
                seen.once(5)?;
                self.send_at = scan.given(instant)?;
            }
            "deadline" => {
                seen.once(6)?;
                self.deadline = scan.given(instant)?;
            }
            "orderingKey" => {
                seen.once(7)?;
                scan.given(|scan| line(scan, ORDERING_KEY_MAX))?;
            }
            _ => return None,
        }
        Some(())
    }

    /// What a request cannot do without, and what its fields are to each other.
    fn check(&self) -> Option<()> {
        if let (Some(send_at), Some(deadline)) = (self.send_at, self.deadline)
            && deadline <= send_at
        {
            return None;
        }
        (TenantId::fits(self.tenant) && RecipientId::fits(&self.recipient)).then_some(())
    }

    fn context_field(&mut self, scan: &mut Scanner<'a>, name: &str, seen: &mut Seen) -> Option<()> {
        let field = match name {
            "tenantId" => 0,
            "prospectId" => 1,
            "prospectName" => 2,
            "prospectPhone" => 3,
            "prospectEmail" => 4,
            "prospectWhatsApp" => 5,
            "prospectTelegram" => 6,
            "messageType" => 7,
            "priority" => 8,
            "preferences" => 9,
            "timezone" => 10,
            "locale" => 11,
            "eventAt" => 12,
            "tags" => 13,
            "origin" => 14,
            "consent" => 15,
            _ => return None,
        };
        seen.once(field)?;
        match field {
            0 => self.tenant = scan.given(Scanner::plain)?.unwrap_or_default(),
            1 => self.recipient = scan.given(Scanner::string)?.unwrap_or_default(),
            2 => drop(scan.given(|scan| line(scan, NAME_MAX))?),
            3 => self.contacts.phone = scan.given(Scanner::string)?,
            4 => self.contacts.email = scan.given(Scanner::string)?,
            5 => self.contacts.whatsapp = scan.given(Scanner::string)?,
            6 => self.contacts.telegram = scan.given(Scanner::string)?,
            7 => self.kind = scan.given(|scan| MessageKind::parse(scan.plain()?))?,
            8 => drop(scan.given(|scan| self.priority(scan))?),
            9 => drop(scan.given(|scan| self.preferences.read(scan))?),
            10 => self.time_zone = scan.given(|scan| parse_time_zone(scan.plain()?))?,
            11 => self.locale = scan.given(|scan| line(scan, LOCALE_MAX))?,
            12 => self.event_at = scan.given(instant)?,
            13 => drop(scan.given(|scan| self.tags(scan))?),
            14 => self.origin = scan.given(|scan| Origin::parse(scan.plain()?))?.unwrap_or(Origin::Api),
            _ => self.consent = scan.given(Scanner::truth)?,
        }
        Some(())
    }

    fn priority(&mut self, scan: &mut Scanner<'a>) -> Option<()> {
        let mut seen = Seen::default();
        scan.object(|scan, name| {
            match name {
                "level" => {
                    seen.once(0)?;
                    self.priority = scan.given(|scan| Priority::parse(scan.plain()?))?;
                }
                "sendWithin" => {
                    seen.once(1)?;
                    let within = |minutes: &u32| (1..=SEND_WITHIN_MAX).contains(minutes);
                    self.send_within = scan.given(|scan| scan.whole().filter(within))?;
                }
                _ => return None,
            }
            Some(())
        })
    }

    fn tags(&mut self, scan: &mut Scanner<'a>) -> Option<()> {
        scan.array(|scan| {
            let tag = line(scan, TAG_MAX)?;
            self.tags.push(tag.into_owned());
            (self.tags.len() <= TAGS_MAX && self.tags.last().is_some_and(|tag| !tag.is_empty())).then_some(())
        })
    }
}

impl LeanPreferences {
    fn read(&mut self, scan: &mut Scanner<'_>) -> Option<()> {
        let mut seen = Seen::default();
        scan.object(|scan, name| {
            match name {
                "preferredChannels" => {
                    seen.once(0)?;
                    scan.given(|scan| self.preferred.read(scan))?;
                }
                "fallbackChannels" => {
                    seen.once(1)?;
                    scan.given(|scan| Named::default().read(scan))?;
                }
                "disabledChannels" => {
                    seen.once(2)?;
                    scan.given(|scan| self.disabled.read(scan))?;
                }
                "quietHoursStart" => {
                    seen.once(3)?;
                    self.quiet_start = scan.given(time_of_day)?;
                }
                "quietHoursEnd" => {
                    seen.once(4)?;
                    self.quiet_end = scan.given(time_of_day)?;
                }
                "allowSMSDuringQuietHours" => {
                    seen.once(5)?;
                    self.allow_sms_in_quiet_hours = scan.given(Scanner::truth)?.unwrap_or(false);
                }
                _ => return None,
            }
            Some(())
        })
    }
}

fn content_field(
    content: &mut ContentProfile,
    scan: &mut Scanner<'_>,
    name: &str,
    seen: &mut Seen,
) -> Option<()> {
    match name {
        "subject" => {
            seen.once(0)?;
            scan.given(|scan| line(scan, SUBJECT_MAX))?;
        }
        "body" => {
            seen.once(1)?;
            if let Some(body) = scan.given(text)? {
                let measure = segments::measure(&body);
                (content.characters, content.segments) = (measure.characters, measure.segments);
            }
        }
        "html" => {
            seen.once(2)?;
            content.has_html = scan.given(text)?.is_some();
        }
        // Rendering takes the whole request.
        "templateId" => {
            seen.once(3)?;
            scan.given(|_| None::<()>)?;
        }
        "data" => {
            seen.once(4)?;
            scan.given(|scan| scan.object(|_, _| None))?;
        }
        "attachments" => {
            seen.once(5)?;
            scan.given(|scan| scan.array(|_| None))?;
        }
        _ => return None,
    }
    Some(())
}

/// One line of at most `most` characters.
fn line<'a>(scan: &mut Scanner<'a>, most: usize) -> Option<Cow<'a, str>> {
    let line = scan.string()?;
    let fits = line.len() <= most || line.chars().count() <= most;
    (fits && !holds_control(&line, &[])).then_some(line)
}

/// Several lines.
fn text<'a>(scan: &mut Scanner<'a>) -> Option<Cow<'a, str>> {
    scan.string().filter(|text| !holds_control(text, &['\n', '\r', '\t']))
}

/// Most texts are told by a look at all bytes at once: those of control characters, and the first of those beyond
/// ASCII.
fn holds_control(text: &str, but: &[char]) -> bool {
    let odd = |byte: u8| (byte < b' ') | (byte == 0x7f) | (byte == 0xc2);
    octets::any(text.as_bytes(), b' ', odd) && text.chars().any(|c| c.is_control() && !but.contains(&c))
}

fn instant(scan: &mut Scanner<'_>) -> Option<DateTime<Utc>> {
    DateTime::parse_from_rfc3339(scan.plain()?).ok().map(|at| at.with_timezone(&Utc))
}

/// `HH:MM` in digits.
fn time_of_day(scan: &mut Scanner<'_>) -> Option<NaiveTime> {
    let &[h1, h2, b':', m1, m2] = scan.plain()?.as_bytes() else { return None };
    let two = |tens: u8, ones: u8| {
        let digits = tens.is_ascii_digit() && ones.is_ascii_digit();
        digits.then(|| u32::from(tens - b'0') * 10 + u32::from(ones - b'0'))
    };
    NaiveTime::from_hms_opt(two(h1, h2)?, two(m1, m2)?, 0)
}
