//! A decision's answer, written by hand: what serde makes of `answers::DecisionAnswer`, byte for byte.
//!
//! It is written as often as anything here, and from references: no part of it is made into a text of its own first. A
//! test holds it against the other one.

use serde::Serialize;

use crate::{domain::channel::Channel, orchestrator::Weighed};

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
    value(out, "\",\"confidence\":", &winner.confidence);
    words(out, ",\"alternativeChannels\":[", "");
    for (at, other) in choice.alternatives().enumerate() {
        let open = if at > 0 { ",{\"channel\":\"" } else { "{\"channel\":\"" };
        words(out, open, other.channel.as_str());
        words(out, "\",\"reason\":\"", "");
        reasons(out, other.channel);
        value(out, "\",\"confidence\":", &other.confidence);
        out.push(b'}');
    }
    value(out, "],\"estimatedCost\":", &winner.cost.euros());
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

/// A part of a text: as it is, where nothing in it has to be escaped.
fn escaped(out: &mut Vec<u8>, part: &str) {
    // Over bytes and without a branch, so that many are looked at together.
    let odd = |byte: u8| u8::from(byte < b' ') | u8::from(byte == b'"') | u8::from(byte == b'\\');
    if part.bytes().fold(0, |found, byte| found | odd(byte)) == 0 {
        return out.extend_from_slice(part.as_bytes());
    }
    let quoted = serde_json::to_vec(part).unwrap_or_default();
    out.extend_from_slice(quoted.get(1..quoted.len().saturating_sub(1)).unwrap_or_default());
}
