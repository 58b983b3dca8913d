//! A decision's answer, written by hand: what serde makes of `answers::DecisionAnswer`, byte for byte.
//!
//! It is written as often as anything here, and from references: no part of it is made into a text of its own first. A
//! test holds it against the other one.

use serde::Serialize;

use crate::{
    domain::{channel::Channel, octets},
    orchestrator::Weighed,
};

/// Adds the answer to `out`; `None`, and nothing added, where no channel was chosen.
pub fn answer(out: &mut Vec<u8>, weighed: &Weighed<'_>) -> Option<()> {
    let choice = weighed.choice();
    let winner = choice.winner()?;
    let reasons = |out: &mut Vec<u8>, channel: Channel| {
        for (at, reason) in choice.reasons(channel).enumerate() {
            if at > 0 {
                out.extend_from_slice(b"; ");
            }
            escaped(out, &reason);
        }
    };
    words(out, "{\"channel\":\"", winner.channel.as_str());
    words(out, "\",\"reason\":\"", "");
    reasons(out, winner.channel);
    number(out, "\",\"confidence\":", winner.confidence);
    words(out, ",\"alternativeChannels\":[", "");
    for (at, other) in choice.alternatives().enumerate() {
        let open = if at > 0 { ",{\"channel\":\"" } else { "{\"channel\":\"" };
        words(out, open, other.channel.as_str());
        words(out, "\",\"reason\":\"", "");
        reasons(out, other.channel);
        number(out, "\",\"confidence\":", other.confidence);
        out.push(b'}');
    }
    number(out, "],\"estimatedCost\":", winner.cost.euros());
    value(out, ",\"estimatedDeliveryTime\":", &winner.delivery_seconds);
    words(out, ",\"policyVersion\":\"", weighed.version().as_str());
    value(out, "\",\"variant\":", &weighed.variant());
    value(out, ",\"strategy\":", &choice.strategy);
    if let Some(until) = &choice.held_until {
        value(out, ",\"heldUntil\":", until);
    }
    out.push(b'}');
    Some(())
}

fn words(out: &mut Vec<u8>, before: &str, word: &str) {
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(word.as_bytes());
}

fn value(out: &mut Vec<u8>, before: &str, value: &impl Serialize) {
    out.extend_from_slice(before.as_bytes());
    // Writing to memory fails for no value of ours.
    let _ = serde_json::to_writer(out, value);
}

/// As serde would write it. What has at most six decimals, as money and confidence have, is written from a whole number
/// of millionths; the shortest text for such a number is the one with its own decimals, because no other with fewer than
/// sixteen digits stands for it.
fn number(out: &mut Vec<u8>, before: &str, number: f64) {
    const MILLION: u64 = 1_000_000;
    // Below a thousandth serde may write an exponent.
    const LEAST: f64 = 1e3;
    const MOST: f64 = 1e15;
    let millionths = (number * MILLION as f64).round();
    if !(LEAST..MOST).contains(&millionths) || millionths / MILLION as f64 != number {
        return value(out, before, &number);
    }
    let millionths = millionths as u64;
    let mut digits = *b"0000000000.000000";
    let (mut whole, mut rest, mut first) = (millionths / MILLION, millionths % MILLION, 10);
    while whole > 0 || first == 10 {
        first -= 1;
        digits[first] = b'0' + (whole % 10) as u8;
        whole /= 10;
    }
    for place in (11..17).rev() {
        digits[place] = b'0' + (rest % 10) as u8;
        rest /= 10;
    }
    let zeros = digits[12..].iter().rev().take_while(|digit| **digit == b'0').count();
    out.extend_from_slice(before.as_bytes());
    out.extend_from_slice(&digits[first..17 - zeros]);
}

/// A part of a text: as it is, where nothing in it has to be escaped.
fn escaped(out: &mut Vec<u8>, part: &str) {
    let odd = |byte: u8| (byte < b' ') | (byte == b'"') | (byte == b'\\');
    if !octets::any(part.as_bytes(), b' ', odd) {
        return out.extend_from_slice(part.as_bytes());
    }
    let quoted = serde_json::to_vec(part).unwrap_or_default();
    out.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn a_number_is_written_as_serde_writes_it() {
        let millionths =
            (0..2_000_u64).chain((0..60).map(|bit| 1 << bit)).chain((0..400).map(|n| n * 2_503_111));
        let odd = [
            f64::MAX,
            f64::MIN_POSITIVE,
            f64::NAN,
            f64::INFINITY,
            -0.5,
            -0.0,
            0.1 + 0.2,
            1.0 / 3.0,
            1e15,
            1e21,
        ];
        for found in millionths.flat_map(|n| [n as f64 / 1e6, n as f64]).chain(odd) {
            let mut out = Vec::new();
            number(&mut out, "", found);
            assert_eq!(out, serde_json::to_vec(&found).unwrap(), "{found:e}");
        }
    }
}
