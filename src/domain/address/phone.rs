//! Phone numbers: the common mobile ones read at a glance, all others by the library.
//!
//! The library takes a thousand times as long, and 7 MiB of tables; what is read without it is what it would make of it,
//! which the tests ask it. No other file knows how a number is written.

use std::borrow::Cow;

use rlibphonenumber::{PhoneNumber, PhoneNumberFormat, PhoneNumberType};

use super::{Region, shown};
use crate::domain::channel::Channel;

/// Reads a phone number in any written form; a landline is no SMS address, other kinds are (details.md 2).
pub(super) fn phone(text: &str, region: Region, channel: Channel) -> Result<Cow<'_, str>, String> {
    let refused = |why: &str| Err(format!("not a phone number: {:?} ({why})", shown(text)));
    if text.len() > 40 {
        return refused("too long");
    }
    if is_plain_mobile(text) {
        return Ok(text.into());
    }
    if let Some(number) = french_mobile(text, region) {
        return Ok(number.into());
    }
    phone_by_library(text, region, channel).map(Cow::Owned)
}

fn phone_by_library(text: &str, region: Region, channel: Channel) -> Result<String, String> {
    let refused = |why: &str| Err(format!("not a phone number: {:?} ({why})", shown(text)));
    let Ok(parsed) = PhoneNumber::parse(text, Some(region.plan)) else {
        return refused(&format!("read as a number of {}; write it like +33612345678", region.as_str()));
    };
    if !parsed.is_valid() {
        return refused("no such number exists in that country's plan");
    }
    if channel == Channel::Sms && parsed.get_type() == PhoneNumberType::FixedLine {
        return Err(format!("a landline cannot receive SMS: {:?}", shown(text)));
    }
    Ok(parsed.format_as(PhoneNumberFormat::E164).into_owned())
}

/// Mobile numbers of one country that are E.164 as they are written, by their first digits.
struct MobilePlan {
    country: &'static str,
    /// Digits after the country's.
    digits: usize,
    /// How many of them tell.
    first: usize,
    mobile: &'static [std::ops::RangeInclusive<u16>],
}

/// The commonest cases without the library, which takes a thousand times as long. Not all that are mobile: what is not
/// here is asked of the library, and a test asks it of what is.
const MOBILE_PLANS: [MobilePlan; 6] = [
    MobilePlan {
        country: "33",
        digits: 9,
        first: 3,
        mobile: &[600..=638, 640..=689, 695..=695, 698..=699, 730..=799],
    },
    MobilePlan { country: "32", digits: 9, first: 3, mobile: &[450..=499] },
    MobilePlan { country: "41", digits: 9, first: 2, mobile: &[72..=73, 75..=79] },
    MobilePlan { country: "34", digits: 9, first: 2, mobile: &[60..=69, 71..=74] },
    MobilePlan { country: "39", digits: 10, first: 3, mobile: &[310..=399] },
    MobilePlan { country: "44", digits: 10, first: 4, mobile: &[7100..=7199, 7701..=7779, 7920..=7999] },
];

/// Whether a text is a mobile number in E.164 already.
fn is_plain_mobile(text: &str) -> bool {
    let Some(number) = text.strip_prefix('+').filter(|number| number.bytes().all(|b| b.is_ascii_digit()))
    else {
        return false;
    };
    MOBILE_PLANS.iter().any(|plan| {
        let own = number.strip_prefix(plan.country).filter(|own| own.len() == plan.digits);
        let first = own.and_then(|own| own.get(..plan.first)?.parse().ok());
        first.is_some_and(|first| plan.mobile.iter().any(|range| range.contains(&first)))
    })
}

/// A French mobile number as it is written in France, `06 12 34 56 78` with spaces, points, hyphens or nothing between its
/// digits, in E.164.
fn french_mobile(text: &str, region: Region) -> Option<String> {
    if region.code != *b"FR" || !text.starts_with('0') || !text.ends_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    let mut number = String::with_capacity(12);
    number.push_str("+33");
    let mut after_digit = true;
    for c in text.chars().skip(1) {
        match c {
            '0'..='9' => number.push(c),
            ' ' | '.' | '-' if after_digit => {}
            _ => return None,
        }
        after_digit = c.is_ascii_digit();
    }
    is_plain_mobile(&number).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The short way takes nothing that the library would refuse, write otherwise or call a landline.
    #[test]
    fn plain_mobile_numbers_are_what_the_library_makes_of_them() {
        let region = Region::parse("DE").unwrap();
        for plan in &MOBILE_PLANS {
            let rest = plan.digits - plan.first;
            for first in plan.mobile.iter().cloned().flatten() {
                let mixed = (u64::from(first) * 7_654_321_987) % 10_u64.pow(rest as u32);
                let ends = ["0".repeat(rest), "9".repeat(rest), format!("{mixed:0rest$}")];
                // The digit after those that tell may not tell anything.
                let ends = ends
                    .into_iter()
                    .chain((0..10).map(|d| format!("{d}{:0w$}", mixed % 10_000, w = rest - 1)));
                for end in ends {
                    let text = format!("+{}{first}{end}", plan.country);
                    assert!(is_plain_mobile(&text), "{text}");
                    for channel in [Channel::Sms, Channel::WhatsApp] {
                        let read = phone_by_library(&text, region, channel);
                        assert_eq!(read.as_deref(), Ok(text.as_str()));
                    }
                }
            }
        }
        for other in
            ["+3361234567", "+336123456789", "+33 612345678", "33612345678", "+33112345678", "+", "+33"]
        {
            assert!(!is_plain_mobile(other), "{other}");
        }
    }

    /// The same of how they are written in France.
    #[test]
    fn french_mobile_numbers_are_what_the_library_makes_of_them() {
        let (france, other) = (Region::parse("FR").unwrap(), Region::parse("BE").unwrap());
        for first in MOBILE_PLANS[0].mobile.iter().cloned().flatten() {
            let (a, b, c) = (first / 100, first / 10 % 10, first % 10);
            for text in [
                format!("0{first}456789"),
                format!("0{a} {b}{c} 45 67 89"),
                format!("0{a}.{b}{c}.00.00.00"),
                format!("0{a}-{b}{c}-99-99-99"),
                format!("0{a} {b}{c}456 789"),
            ] {
                let number = french_mobile(&text, france).unwrap_or_else(|| panic!("{text}"));
                for channel in [Channel::Sms, Channel::WhatsApp] {
                    let read = phone_by_library(&text, france, channel);
                    assert_eq!(read.as_deref(), Ok(number.as_str()), "{text}");
                }
                assert_eq!(french_mobile(&text, other), None);
            }
        }
        for other in [
            "06 12 34 56 7",
            "06 12 34 56 789",
            "06  12345678",
            "06 12 34 56 78 ",
            "01 23 45 67 89",
            "0",
            "06/12345678",
        ] {
            assert_eq!(french_mobile(other, france), None, "{other}");
        }
    }

    /// `+33639980000` was taken by its first digits, and `06 39 98 00 00` refused: a number is one however it is written.
    #[test]
    fn a_number_is_read_alike_in_both_forms() {
        let france = Region::parse("FR").unwrap();
        for ends in ["39980000", "90000000", "97123456"] {
            for text in [format!("06 {ends}"), format!("+336{ends}")] {
                assert!(phone(&text, france, Channel::Sms).is_err(), "{text}");
            }
        }
    }
}
