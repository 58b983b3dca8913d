//! Weigh, add, order and choose.
//!
//! Takes gates and opinions as they are; the same function ranks under other weights when flip points are
//! looked for.

use std::borrow::Cow;

use super::{
    DecisionInput, Situation, Standing,
    gates::{self, Closed, Findings, Told},
    views,
};
use crate::{
    domain::{
        channel::{Channel, PerChannel},
        decision::{ChannelDecision, Contribution, Decision, Gate, GateReason},
        money::MicroEuros,
    },
    policy::{
        bundle::Bundle, criterion::Criterion, scorecard::Scorecard, settings::Scoring,
        verdict::ScriptFailure, verdict::Verdict, verdict::VerdictKind,
    },
};

/// Sums are rounded to this before they are compared (details.md section 1).
const ROUNDING: f64 = 1e6;

/// Every channel, best first, under the given weights, which are in criterion order.
pub fn rank(
    bundle: &Bundle,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    card: &Scorecard,
    weights: &[f64],
) -> [Standing; 4] {
    let mut ranking = Channel::ALL.map(Standing::unknown);
    rank_in(&mut ranking, bundle, input, situation, card, weights);
    ranking
}

/// The same, written where it stays.
pub fn rank_in(
    ranking: &mut [Standing; 4],
    bundle: &Bundle,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    card: &Scorecard,
    weights: &[f64],
) {
    let found: PerChannel<Closed> = gates::check(bundle.policy(), input, situation);
    order(ranking, bundle, input, situation, card, weights, &found);
}

/// The same as a whole decision, each channel with what was found and said of it.
pub fn explain(
    bundle: &Bundle,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    card: &Scorecard,
    weights: &[f64],
) -> Decision {
    let mut found = gates::told(bundle.policy(), input, situation);
    let mut ranking = Channel::ALL.map(Standing::unknown);
    order(&mut ranking, bundle, input, situation, card, weights, &found);
    let channels = ranking.map(|standing| {
        let criteria = contributions(bundle, card, weights, standing.channel);
        told(standing, criteria, std::mem::take(&mut found[standing.channel]))
    });
    let winner = channels.first().filter(|c| c.eligible);
    let sent_later = input.question.send_at.filter(|send_at| *send_at > input.at);
    Decision {
        tenant: bundle.tenant().clone(),
        policy_version: bundle.version().clone(),
        generation: input.generation,
        variant: input.variant.map(str::to_owned),
        strategy: situation.strategy.map(|s| s.name.clone()),
        strategy_errors: situation.strategy_errors.clone(),
        at: input.at,
        time_zone: situation.timing.zone.name().to_owned(),
        priority: situation.priority,
        chosen: winner.map(|c| c.channel),
        held_until: winner.and_then(|c| c.held_until.or(sent_later)),
        channels: channels.into(),
    }
}

fn order<F: Findings>(
    ranking: &mut [Standing; 4],
    bundle: &Bundle,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    card: &Scorecard,
    weights: &[f64],
    found: &PerChannel<F>,
) {
    let policy = bundle.policy();
    let points = card.points(weights);
    let costs = PerChannel::from_fn(|channel| views::cost(policy, input, channel));
    let eligible = PerChannel::from_fn(|channel| found[channel].is_open() & !card.vetoed(channel));
    let scores = PerChannel::from_fn(|channel| unless(card.vetoed(channel), rounded(points[channel])));
    let prefer = situation.strategy.map_or(&[][..], |s| &s.prefer);
    let place = |channel: Channel| prefer.iter().position(|c| *c == channel).unwrap_or(prefer.len());
    let keys = PerChannel::from_fn(|channel| Key {
        // What is preferred comes first, among those that may be used; they come before all others.
        group: if prefer.is_empty() | !eligible[channel] {
            u8::MAX * u8::from(!eligible[channel])
        } else {
            place(channel).min(usize::from(u8::MAX) - 1) as u8
        },
        points: ordered(scores[channel]),
        cost: costs[channel],
    });
    // They are put in order first, and said what there is to say where they then stay.
    for (standing, channel) in ranking.iter_mut().zip(in_order(&keys)) {
        *standing = Standing {
            channel,
            eligible: eligible[channel],
            score: scores[channel],
            confidence: unless(card.vetoed(channel), confidence(policy.scoring, scores[channel])),
            held_until: found[channel].held_until().filter(|_| eligible[channel]),
            cost: costs[channel],
            delivery_seconds: views::delivery_seconds(policy, channel, situation.priority),
        };
    }
}

/// What ranks a channel: the smaller group first, then more points, then what costs less.
#[derive(Clone, Copy, Debug)]
struct Key {
    group: u8,
    points: i64,
    cost: MicroEuros,
}

impl Key {
    /// Nothing branches: which of two channels is better cannot be foreseen.
    #[inline]
    fn is_behind(self, other: Key) -> bool {
        let (same_group, same_points) = (self.group == other.group, self.points == other.points);
        (self.group > other.group)
            | (same_group & (self.points < other.points))
            | (same_group & same_points & (self.cost > other.cost))
    }
}

/// The channels by their keys, those with equal ones in their own order.
#[inline]
fn in_order(keys: &PerChannel<Key>) -> [Channel; 4] {
    let keys = keys.as_array();
    let mut places = [0_usize; 4];
    for before in 0..4 {
        for after in before + 1..4 {
            let behind = usize::from(keys[before].is_behind(keys[after]));
            places[before] += behind;
            places[after] += 1 - behind;
        }
    }
    let mut ranked = Channel::ALL;
    for channel in Channel::ALL {
        ranked[places[channel.index()] % 4] = channel;
    }
    ranked
}

/// A number whose order is that of `f64::total_cmp`, as the standard library reckons it.
#[inline]
fn ordered(value: f64) -> i64 {
    let bits = value.to_bits() as i64;
    bits ^ ((bits >> 63) as u64 >> 1) as i64
}

/// The value, or 0 where `not`, without a branch.
#[inline]
fn unless(not: bool, value: f64) -> f64 {
    f64::from_bits(value.to_bits() & u64::from(not).wrapping_sub(1))
}

fn contributions(bundle: &Bundle, card: &Scorecard, weights: &[f64], channel: Channel) -> Vec<Contribution> {
    let program = bundle.program().0;
    let criteria = bundle.criteria().iter().zip(weights).enumerate();
    criteria
        .map(|(at, (criterion, weight))| contribution(criterion, program.said(card, at, channel), *weight))
        .collect()
}

fn contribution(
    criterion: &Criterion,
    said: Result<Cow<'_, Verdict>, &ScriptFailure>,
    weight: f64,
) -> Contribution {
    let source = |position: Option<(usize, usize)>| {
        position.map(|(line, column)| format!("{}:{line}:{column}", criterion.file()))
    };
    let mut contribution = Contribution {
        criterion: criterion.name().clone(),
        share: 0.0,
        weight,
        points: 0.0,
        veto: false,
        reason: None,
        source: None,
        error: None,
    };
    match said {
        Err(failure) => {
            contribution.source = source(failure.position);
            contribution.error = Some(failure.message.clone());
        }
        Ok(verdict) => {
            contribution.source = source(verdict.position);
            contribution.veto = verdict.is_veto();
            if let VerdictKind::Share(share) = verdict.kind {
                contribution.share = share;
                contribution.points = rounded(share * weight);
            }
            contribution.reason = (!verdict.reason.is_empty()).then(|| verdict.reason.to_string());
        }
    }
    contribution
}

/// One channel with everything that was found and said.
fn told(standing: Standing, criteria: Vec<Contribution>, found: Told) -> ChannelDecision {
    let Told { mut gates, hold, notes } = found;
    for veto in criteria.iter().filter(|c| c.veto) {
        let reason = veto.reason.clone().unwrap_or_else(|| format!("vetoed by {}", veto.criterion));
        // The script and the gate often say the same; it is told once.
        if !gates.iter().any(|g| g.reason == reason) {
            gates.push(GateReason { gate: Gate::Veto, reason });
        }
    }
    let eligible = standing.eligible;
    let hold = hold.filter(|_| eligible);
    ChannelDecision {
        channel: standing.channel,
        eligible,
        score: standing.score,
        confidence: standing.confidence,
        reason: if eligible { reasons(&criteria) } else { closed(&gates) },
        gates,
        held_until: standing.held_until,
        held_reason: hold.map(|h| h.reason),
        cost: standing.cost,
        delivery_seconds: standing.delivery_seconds,
        notes,
        criteria,
    }
}

/// `min(ceiling, max(0, (base + score) / scale))`: indifferent is 0.5, nobody is ever certain.
fn confidence(scoring: Scoring, score: f64) -> f64 {
    rounded(((scoring.base + score) / scoring.scale).max(0.0).min(scoring.ceiling))
}

fn reasons(criteria: &[Contribution]) -> String {
    let said = criteria.iter().filter(|c| c.points != 0.0).filter_map(|c| c.reason.as_deref());
    said.collect::<Vec<_>>().join("; ")
}

fn closed(gates: &[GateReason]) -> String {
    gates.iter().map(|g| g.reason.as_str()).collect::<Vec<_>>().join("; ")
}

/// Whether points are anything but 0 once they are rounded.
#[inline]
pub fn counts(points: f64) -> bool {
    (points * ROUNDING).abs() >= 0.5
}

/// To 1e-6, and never minus zero.
#[inline]
pub fn rounded(value: f64) -> f64 {
    round(value * ROUNDING) / ROUNDING + 0.0
}

/// `f64::round`, which is a call into the C library where the processor is not known to have an instruction for it.
#[inline]
fn round(value: f64) -> f64 {
    /// From here on a number has no fraction.
    const WHOLE: f64 = (1_u64 << 52) as f64;
    if value.abs() >= WHOLE || value.is_nan() {
        return value;
    }
    let whole = value as i64 as f64;
    // Half of them are rounded up, and which cannot be foreseen: it is reckoned instead of branched to.
    let up = f64::from(u8::from((value - whole).abs() >= 0.5));
    whole + up.copysign(value)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::round;

    proptest! {
        #[test]
        fn rounding_is_the_standard_librarys(bits: u64, near in -4_000_000_i64..4_000_000) {
            for value in [f64::from_bits(bits), near as f64 / 2.0, near as f64 / 2.0 - f64::EPSILON] {
                // Plus or minus zero is all the same: it is added to zero.
                prop_assert_eq!((round(value) + 0.0).to_bits(), (value.round() + 0.0).to_bits(), "{}", value);
            }
            prop_assert_eq!(round(0.499_999_999_999_999_94) + 0.0, 0.0);
        }
    }
}
