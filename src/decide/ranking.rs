//! Weigh, add, order and choose.
//!
//! Takes gates and opinions as they are; the same function ranks under other weights when flip points are
//! looked for.

use super::{DecisionInput, Situation, gates, gates::Gated, views};
use crate::{
    domain::{
        channel::{Channel, PerChannel},
        decision::{ChannelDecision, Contribution, Decision, Gate, GateReason},
    },
    policy::{
        bundle::{Bundle, Opinion},
        criterion::Criterion,
        settings::Scoring,
        verdict::VerdictKind,
    },
};

/// Sums are rounded to this before they are compared (details.md section 1).
const ROUNDING: f64 = 1e6;

/// Ranks every channel under the given weights, which are in criterion order.
pub fn rank(
    bundle: &Bundle,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    opinions: &PerChannel<Vec<Opinion>>,
    weights: &[f64],
) -> Decision {
    let mut gated = gates::check(bundle.policy(), input, situation);
    let mut channels: Vec<ChannelDecision> = Channel::ALL
        .into_iter()
        .map(|channel| {
            let criteria = contributions(bundle, &opinions[channel], weights);
            judge(bundle, input, situation, channel, criteria, std::mem::take(&mut gated[channel]))
        })
        .collect();
    let preferred = |channel: Channel| {
        let prefer = situation.strategy.map_or(&[][..], |s| &s.prefer);
        prefer.iter().position(|c| *c == channel).unwrap_or(usize::MAX)
    };
    channels.sort_by(|a, b| {
        let eligible = b.eligible.cmp(&a.eligible);
        let strategy = preferred(a.channel).cmp(&preferred(b.channel));
        let points = b.score.total_cmp(&a.score);
        let ties = a.cost.cmp(&b.cost).then(a.channel.index().cmp(&b.channel.index()));
        if a.eligible && b.eligible {
            strategy.then(points).then(ties)
        } else {
            eligible.then(points).then(ties)
        }
    });
    let winner = channels.first().filter(|c| c.eligible);
    let sent_later = input.request.send_at.filter(|send_at| *send_at > input.at);
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
        channels,
    }
}

fn contributions(bundle: &Bundle, opinions: &[Opinion], weights: &[f64]) -> Vec<Contribution> {
    let criteria = bundle.criteria().iter().zip(opinions).zip(weights);
    criteria.map(|((criterion, opinion), weight)| contribution(criterion, opinion, *weight)).collect()
}

fn contribution(criterion: &Criterion, opinion: &Opinion, weight: f64) -> Contribution {
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
    match opinion {
        Err(failure) => {
            contribution.source = source(failure.position);
            contribution.error = Some(failure.message.clone());
        }
        Ok(verdict) => {
            contribution.source = source(verdict.position);
            contribution.veto = verdict.kind == VerdictKind::Veto;
            if let VerdictKind::Share(share) = verdict.kind {
                contribution.share = share;
                contribution.points = rounded(share * weight);
            }
            contribution.reason = (!verdict.reason.is_empty()).then(|| verdict.reason.to_string());
        }
    }
    contribution
}

/// One channel with its points added up.
fn judge(
    bundle: &Bundle,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    channel: Channel,
    criteria: Vec<Contribution>,
    gated: Gated,
) -> ChannelDecision {
    let policy = bundle.policy();
    let Gated { mut gates, hold, notes } = gated;
    let vetoed = criteria.iter().any(|c| c.veto);
    for veto in criteria.iter().filter(|c| c.veto) {
        let reason = veto.reason.clone().unwrap_or_else(|| format!("vetoed by {}", veto.criterion));
        // The script and the gate often say the same; it is told once.
        if !gates.iter().any(|g| g.reason == reason) {
            gates.push(GateReason { gate: Gate::Veto, reason });
        }
    }
    let eligible = gates.is_empty();
    let sum = criteria.iter().map(|c| c.share * c.weight).sum();
    let score = if vetoed { 0.0 } else { rounded(sum) };
    let hold = hold.filter(|_| eligible);
    ChannelDecision {
        channel,
        eligible,
        score,
        confidence: if vetoed { 0.0 } else { confidence(policy.scoring, score) },
        reason: if eligible { reasons(&criteria) } else { closed(&gates) },
        gates,
        held_until: hold.as_ref().map(|h| h.until),
        held_reason: hold.map(|h| h.reason),
        cost: views::cost(policy, input, channel),
        delivery_seconds: views::delivery_seconds(policy, channel, situation.priority),
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

/// To 1e-6, and never minus zero.
pub fn rounded(value: f64) -> f64 {
    (value * ROUNDING).round() / ROUNDING + 0.0
}
