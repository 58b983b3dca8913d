//! The facts of one decision as plain numbers, laid out once so that tests and formulas read them by place.
//!
//! The layout follows the lists of `fields`; a test reads every field both ways and compares.

use crate::{
    domain::channel::PerChannel,
    policy::{
        fields::{self, FieldType},
        view::{ChannelView, MessageView},
    },
};

/// The object that a field belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    Message,
    /// `channel` and `channel.history`.
    Channel,
}

/// Where a field is found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    pub scope: Scope,
    pub slot: Slot,
}

/// A slot of its object, by the kind of what it holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Slot {
    /// One of a few values: a truth, a word of a closed set, whether something is missing.
    Digit(u8),
    Integer(u8),
    Float(u8),
    Text(u8),
}

/// How a script's field is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reading {
    Truth(u8),
    /// The digit counts the words in their order; `missing` is the digit that says `()`.
    Word {
        digit: u8,
        words: &'static [&'static str],
        missing: Option<u8>,
    },
    Integer {
        slot: u8,
        missing: Option<u8>,
    },
    Float(u8),
    Text {
        slot: u8,
        missing: Option<u8>,
    },
    Tags,
    /// `channel.history`.
    History,
    /// `channel.name`: known wherever a script is followed.
    Name,
}

/// Digits of the message, before the tests that a program adds.
pub const MESSAGE_DIGITS: usize = 10;
/// Digits of a channel.
pub const CHANNEL_DIGITS: usize = 9;

/// Those of one object, the first of them; what is left over is 0.
pub type Digits = [u8; DIGITS_MAX];
pub const DIGITS_MAX: usize = 16;

/// Put together before it is stored: stored one by one and then read as a whole, they would be waited for.
#[inline]
fn digits<const N: usize>(each: [u8; N]) -> Digits {
    let half = |from: usize| {
        let part = each.iter().skip(from).take(8).rev();
        part.fold(0_u64, |all, digit| all << 8 | u64::from(*digit)).to_le_bytes()
    };
    let mut digits = [0; DIGITS_MAX];
    digits[..8].copy_from_slice(&half(0));
    digits[8..].copy_from_slice(&half(8));
    digits
}

/// Values that a digit of the message takes.
pub const MESSAGE_ARITIES: [u8; MESSAGE_DIGITS] = [7, 4, 4, 2, 2, 2, 2, 2, 2, 2];

/// The message as numbers; texts stay where they are.
#[derive(Clone, Copy, Debug)]
pub struct MessageSlots<'m> {
    pub digits: Digits,
    pub integers: [i64; 8],
    /// Empty where it is missing, which its digit tells.
    pub texts: [&'m str; 2],
    pub tags: &'m [String],
}

/// One channel as numbers.
#[derive(Clone, Copy, Debug)]
pub struct ChannelSlots {
    pub digits: Digits,
    pub integers: [i64; 4],
    pub floats: [f64; 4],
}

/// Everything that the nine criteria and any other may ask about one message.
#[derive(Clone, Copy, Debug)]
pub struct Slots<'m> {
    pub message: MessageSlots<'m>,
    pub channels: [ChannelSlots; 4],
}

/// Texts longer than this in a message, and the interpreter's limits on sizes might be met: it is asked.
const TEXT_BYTES_MAX: usize = 256;
const TAGS_MAX: usize = 64;
const TAGS_BYTES_MAX: usize = 2_048;

impl<'m> MessageSlots<'m> {
    /// None where a text is so long that a script could meet a limit of the interpreter. What nothing that was compiled
    /// reads meets none: `reads_tags` says whether anything reads the tags.
    pub fn of(message: &'m MessageView<'_>, reads_tags: bool) -> Option<Self> {
        let template = message.template.as_deref();
        let long = |text: &str| text.len() > TEXT_BYTES_MAX;
        let tags = &*message.tags;
        if template.is_some_and(long) || long(&message.locale) {
            return None;
        }
        let many = |tags: &[String]| {
            tags.len() > TAGS_MAX || tags.iter().map(String::len).sum::<usize>() > TAGS_BYTES_MAX
        };
        if reads_tags && many(tags) {
            return None;
        }
        Some(Self {
            digits: digits::<MESSAGE_DIGITS>([
                message.kind.map_or(6, |kind| kind as u8),
                message.priority as u8,
                message.origin as u8,
                u8::from(message.has_html),
                u8::from(message.has_attachments),
                u8::from(message.quiet),
                u8::from(message.allow_sms_in_quiet_hours),
                u8::from(template.is_none()),
                u8::from(message.minutes_to_event.is_none()),
                u8::from(message.send_within.is_none()),
            ]),
            integers: [
                message.length,
                message.segments,
                message.attachment_bytes,
                message.local_hour,
                message.local_minute,
                message.weekday,
                message.minutes_to_event.unwrap_or(0),
                message.send_within.unwrap_or(0),
            ],
            texts: [template.unwrap_or(""), &message.locale],
            tags,
        })
    }
}

impl ChannelSlots {
    pub fn of(channel: &ChannelView) -> Self {
        Self {
            digits: digits::<CHANNEL_DIGITS>([
                u8::from(channel.preferred),
                u8::from(channel.disabled),
                u8::from(channel.available),
                u8::from(channel.opted_in),
                u8::from(channel.healthy),
                u8::from(channel.rich_media),
                u8::from(channel.takes_attachments),
                u8::from(channel.max_length.is_none()),
                u8::from(channel.history.known),
            ]),
            integers: [
                channel.delivery_seconds,
                channel.max_length.unwrap_or(0),
                channel.history.received,
                channel.history.engaged,
            ],
            floats: [channel.cost, channel.open_rate, channel.history.rate, channel.history.average],
        }
    }
}

impl<'m> Slots<'m> {
    pub fn of(
        message: &'m MessageView<'_>,
        reads_tags: bool,
        channels: &PerChannel<ChannelView>,
    ) -> Option<Self> {
        let channels = channels.as_array().each_ref().map(ChannelSlots::of);
        Some(Self { message: MessageSlots::of(message, reads_tags)?, channels })
    }
}

/// How a field of `message` is read; none where there is no such field.
pub fn of_message(name: &str) -> Option<Reading> {
    let field = fields::MESSAGE.iter().find(|field| field.name == name)?;
    let integer = |slot, missing| Some(Reading::Integer { slot, missing });
    match name {
        "type" => word(field.kind, 0, Some(6)),
        "priority" => word(field.kind, 1, None),
        "origin" => word(field.kind, 2, None),
        "has_html" => Some(Reading::Truth(3)),
        "has_attachments" => Some(Reading::Truth(4)),
        "quiet" => Some(Reading::Truth(5)),
        "allow_sms_in_quiet_hours" => Some(Reading::Truth(6)),
        "template" => Some(Reading::Text { slot: 0, missing: Some(7) }),
        "locale" => Some(Reading::Text { slot: 1, missing: None }),
        "tags" => Some(Reading::Tags),
        "length" => integer(0, None),
        "segments" => integer(1, None),
        "attachment_bytes" => integer(2, None),
        "local_hour" => integer(3, None),
        "local_minute" => integer(4, None),
        "weekday" => integer(5, None),
        "minutes_to_event" => integer(6, Some(8)),
        "send_within" => integer(7, Some(9)),
        _ => None,
    }
}

/// How a field of `channel` is read.
pub fn of_channel(name: &str) -> Option<Reading> {
    match name {
        "name" => Some(Reading::Name),
        "preferred" => Some(Reading::Truth(0)),
        "disabled" => Some(Reading::Truth(1)),
        "available" => Some(Reading::Truth(2)),
        "opted_in" => Some(Reading::Truth(3)),
        "healthy" => Some(Reading::Truth(4)),
        "rich_media" => Some(Reading::Truth(5)),
        "takes_attachments" => Some(Reading::Truth(6)),
        "max_length" => Some(Reading::Integer { slot: 1, missing: Some(7) }),
        "delivery_seconds" => Some(Reading::Integer { slot: 0, missing: None }),
        "cost" => Some(Reading::Float(0)),
        "open_rate" => Some(Reading::Float(1)),
        "history" => Some(Reading::History),
        _ => None,
    }
}

/// How a field of `channel.history` is read.
pub fn of_history(name: &str) -> Option<Reading> {
    match name {
        "received" => Some(Reading::Integer { slot: 2, missing: None }),
        "engaged" => Some(Reading::Integer { slot: 3, missing: None }),
        "rate" => Some(Reading::Float(2)),
        "average" => Some(Reading::Float(3)),
        "known" => Some(Reading::Truth(8)),
        _ => None,
    }
}

fn word(kind: FieldType, digit: u8, missing: Option<u8>) -> Option<Reading> {
    kind.words().map(|words| Reading::Word { digit, words, missing })
}

#[cfg(test)]
mod checks {
    use super::*;

    #[test]
    fn every_field_that_a_script_may_read_has_its_place() {
        for field in fields::MESSAGE {
            let reading = of_message(field.name).unwrap_or_else(|| panic!("message.{}", field.name));
            if let Reading::Word { digit, words, missing } = reading {
                let values = words.len() + usize::from(missing.is_some());
                assert_eq!(usize::from(MESSAGE_ARITIES[usize::from(digit)]), values, "{}", field.name);
            }
        }
        for field in fields::CHANNEL {
            assert!(of_channel(field.name).is_some(), "channel.{}", field.name);
        }
        for field in fields::HISTORY {
            assert!(of_history(field.name).is_some(), "channel.history.{}", field.name);
        }
    }
}
