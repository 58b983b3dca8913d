//! A decision as it is kept: every word of its explanation, and none of it twice.
//!
//! Four channels by nine criteria name the same scripts, weights and nothings again and again: as plain JSON they are
//! most of a message's bytes, to be written, summed, logged and folded in. What a criterion is called, where its script
//! lies and what it weighs is kept once; what can be computed from the rest is not kept. What does not fit is kept as
//! plain JSON, and plain JSON of earlier versions is read. Nothing is rounded and nothing is left out.

use std::borrow::Cow;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    database::Fault,
    rows::{Unwritable, from_json, to_json},
};
use crate::domain::{
    channel::Channel,
    decision::{ChannelDecision, Contribution, Decision, GateReason},
    ids::{CriterionName, PolicyVersion, TenantId},
    message::Priority,
    money::MicroEuros,
};

/// How the kept form begins, which no plain JSON of a decision does.
const MARK: &str = "{\"kept\":1,";

#[derive(Serialize, Deserialize)]
struct Kept<'d> {
    /// First, so that it is known by it.
    kept: u8,
    tenant: Cow<'d, TenantId>,
    policy_version: Cow<'d, PolicyVersion>,
    generation: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    variant: Option<Cow<'d, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strategy: Option<Cow<'d, str>>,
    #[serde(default, skip_serializing_if = "nothing")]
    strategy_errors: Cow<'d, [String]>,
    at: DateTime<Utc>,
    time_zone: Cow<'d, str>,
    priority: Priority,
    chosen: Option<Channel>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_until: Option<DateTime<Utc>>,
    /// In order: the name, the weight, and the file that most of what it said came from.
    criteria: Vec<(Cow<'d, CriterionName>, f64, Cow<'d, str>)>,
    channels: Vec<KeptChannel<'d>>,
}

#[derive(Serialize, Deserialize)]
struct KeptChannel<'d> {
    channel: Channel,
    #[serde(default, skip_serializing_if = "is_false")]
    eligible: bool,
    #[serde(default, skip_serializing_if = "nothing")]
    gates: Cow<'d, [GateReason]>,
    score: f64,
    confidence: f64,
    /// None: what its criteria said, joined.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    reason: Option<Cow<'d, str>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_until: Option<DateTime<Utc>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    held_reason: Option<Cow<'d, str>>,
    cost: MicroEuros,
    delivery_seconds: u32,
    #[serde(default, skip_serializing_if = "nothing")]
    notes: Cow<'d, [String]>,
    /// What each criterion said, in their order.
    said: Vec<Said<'d>>,
}

/// What one criterion said of one channel.
#[derive(Serialize, Deserialize)]
struct Said<'d> {
    /// Its share; none: 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    s: Option<f64>,
    /// Its points; none: what share and weight come to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    p: Option<f64>,
    /// A veto.
    #[serde(default, skip_serializing_if = "is_false")]
    v: bool,
    /// The reason.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    r: Option<Cow<'d, str>>,
    /// Line and column in the criterion's file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    l: Option<Cow<'d, str>>,
    /// The whole source, where it is in another file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    f: Option<Cow<'d, str>>,
    /// Why the script counted as neutral.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    e: Option<Cow<'d, str>>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde asks")]
fn is_false(yes: &bool) -> bool {
    !*yes
}

#[expect(clippy::ptr_arg, reason = "as serde asks")]
fn nothing<T: Clone>(list: &Cow<'_, [T]>) -> bool {
    list.is_empty()
}

fn lent(text: Option<&String>) -> Option<Cow<'_, str>> {
    text.map(|text| Cow::Borrowed(text.as_str()))
}

/// The text that a decision is kept as.
pub(super) fn write(decision: &Decision) -> Result<String, Unwritable> {
    match kept(decision) {
        Some(kept) => to_json(&kept),
        None => to_json(decision),
    }
}

/// The decision of a text that `write` made, or an earlier version.
pub(super) fn read(text: &str) -> Result<Decision, Fault> {
    if !text.starts_with(MARK) {
        return from_json(text, "a decision");
    }
    whole(from_json(text, "a decision")?)
        .ok_or_else(|| Fault::Corrupt("a decision: a criterion too few".into()))
}

/// None where the channels were not asked the same criteria at the same weights, or a number is none that JSON has.
fn kept(decision: &Decision) -> Option<Kept<'_>> {
    let Decision {
        tenant,
        policy_version,
        generation,
        variant,
        strategy,
        strategy_errors,
        at,
        time_zone,
        priority,
        chosen,
        held_until,
        channels,
    } = decision;
    let asked = &channels.first()?.criteria;
    let criteria: Vec<_> = (0..asked.len())
        .map(|nth| {
            let places = channels.iter().filter_map(|channel| channel.criteria.get(nth)?.source.as_deref());
            let file = places.filter_map(file_and_place).map(|(file, _)| file).next().unwrap_or_default();
            (Cow::Borrowed(&asked[nth].criterion), asked[nth].weight, Cow::Borrowed(file))
        })
        .collect();
    Some(Kept {
        kept: 1,
        tenant: Cow::Borrowed(tenant),
        policy_version: Cow::Borrowed(policy_version),
        generation: *generation,
        variant: lent(variant.as_ref()),
        strategy: lent(strategy.as_ref()),
        strategy_errors: Cow::Borrowed(strategy_errors),
        at: *at,
        time_zone: Cow::Borrowed(time_zone),
        priority: *priority,
        chosen: *chosen,
        held_until: *held_until,
        channels: channels.iter().map(|channel| kept_channel(channel, &criteria)).collect::<Option<_>>()?,
        criteria,
    })
}

type Asked<'d> = (Cow<'d, CriterionName>, f64, Cow<'d, str>);

fn kept_channel<'d>(decision: &'d ChannelDecision, asked: &[Asked<'_>]) -> Option<KeptChannel<'d>> {
    let ChannelDecision {
        channel,
        eligible,
        gates,
        score,
        confidence,
        reason,
        held_until,
        held_reason,
        cost,
        delivery_seconds,
        notes,
        criteria,
    } = decision;
    if criteria.len() != asked.len() {
        return None;
    }
    let said = criteria.iter().zip(asked).map(|(one, asked)| said(one, asked)).collect::<Option<Vec<_>>>()?;
    Some(KeptChannel {
        channel: *channel,
        eligible: *eligible,
        gates: Cow::Borrowed(gates),
        score: Some(*score).filter(|score| score.is_finite())?,
        confidence: *confidence,
        reason: (*reason != joined(criteria)).then_some(Cow::Borrowed(reason)),
        held_until: *held_until,
        held_reason: lent(held_reason.as_ref()),
        cost: *cost,
        delivery_seconds: *delivery_seconds,
        notes: Cow::Borrowed(notes),
        said,
    })
}

fn said<'d>(one: &'d Contribution, (name, asked_weight, file): &Asked<'_>) -> Option<Said<'d>> {
    let Contribution { criterion, share, weight, points, veto, reason, source, error } = one;
    if criterion != &**name || !same(*weight, *asked_weight) || !share.is_finite() || !points.is_finite() {
        return None;
    }
    let (own_file, place) = source.as_deref().and_then(file_and_place).unzip();
    let at_home = own_file == Some(&**file);
    Some(Said {
        s: (!same(*share, 0.0)).then_some(*share),
        p: (!same(*points, self::points(*share, *weight))).then_some(*points),
        v: *veto,
        r: lent(reason.as_ref()),
        l: place.filter(|_| at_home).map(Cow::Borrowed),
        f: lent(source.as_ref()).filter(|_| !at_home),
        e: lent(error.as_ref()),
    })
}

/// The very same number, down to the sign of a zero.
fn same(a: f64, b: f64) -> bool {
    a.to_bits() == b.to_bits()
}

/// What a share of a weight comes to, as decisions round it. Where they came to something else, that is kept.
fn points(share: f64, weight: f64) -> f64 {
    (share * weight * 1e6).round() / 1e6 + 0.0
}

/// `criteria/cost.rhai` and `9:5`; none of what is no such thing.
fn file_and_place(source: &str) -> Option<(&str, &str)> {
    let (colon, _) = source.rmatch_indices(':').nth(1)?;
    Some((&source[..colon], &source[colon + 1..]))
}

/// What a channel's reason is where no gate is closed.
fn joined(criteria: &[Contribution]) -> String {
    let said = criteria.iter().filter(|one| one.points != 0.0).filter_map(|one| one.reason.as_deref());
    said.collect::<Vec<_>>().join("; ")
}

fn whole(kept: Kept<'_>) -> Option<Decision> {
    let criteria = kept.criteria;
    Some(Decision {
        tenant: kept.tenant.into_owned(),
        policy_version: kept.policy_version.into_owned(),
        generation: kept.generation,
        variant: kept.variant.map(Cow::into_owned),
        strategy: kept.strategy.map(Cow::into_owned),
        strategy_errors: kept.strategy_errors.into_owned(),
        at: kept.at,
        time_zone: kept.time_zone.into_owned(),
        priority: kept.priority,
        chosen: kept.chosen,
        held_until: kept.held_until,
        channels: kept
            .channels
            .into_iter()
            .map(|one| whole_channel(one, &criteria))
            .collect::<Option<_>>()?,
    })
}

fn whole_channel(kept: KeptChannel<'_>, asked: &[Asked<'_>]) -> Option<ChannelDecision> {
    if kept.said.len() != asked.len() {
        return None;
    }
    let criteria: Vec<Contribution> =
        kept.said.into_iter().zip(asked).map(|(said, asked)| contribution(said, asked)).collect();
    Some(ChannelDecision {
        channel: kept.channel,
        eligible: kept.eligible,
        gates: kept.gates.into_owned(),
        score: kept.score,
        confidence: kept.confidence,
        reason: kept.reason.map_or_else(|| joined(&criteria), Cow::into_owned),
        held_until: kept.held_until,
        held_reason: kept.held_reason.map(Cow::into_owned),
        cost: kept.cost,
        delivery_seconds: kept.delivery_seconds,
        notes: kept.notes.into_owned(),
        criteria,
    })
}

fn contribution(said: Said<'_>, (name, weight, file): &Asked<'_>) -> Contribution {
    let share = said.s.unwrap_or(0.0);
    let at_home = said.l.map(|place| format!("{file}:{place}"));
    Contribution {
        criterion: (**name).clone(),
        share,
        weight: *weight,
        points: said.p.unwrap_or_else(|| points(share, *weight)),
        veto: said.v,
        reason: said.r.map(Cow::into_owned),
        source: at_home.or_else(|| said.f.map(Cow::into_owned)),
        error: said.e.map(Cow::into_owned),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decided(source: [Option<&str>; 4], shares: [f64; 4]) -> Decision {
        let contribution = |nth: usize, channel: usize| Contribution {
            criterion: CriterionName::parse(["cost", "urgency", "length"][nth]).unwrap(),
            share: shares[(nth + channel) % 4],
            weight: [20.0, 25.0, 0.1][nth],
            points: points(shares[(nth + channel) % 4], [20.0, 25.0, 0.1][nth]),
            veto: channel == 3,
            reason: (nth != 1).then(|| format!("reason {nth}, \u{ab}{channel}\u{bb}")),
            source: source[(nth + channel) % 4].map(str::to_owned),
            error: (nth + channel == 4).then(|| "too long".to_owned()),
        };
        let channels = Channel::ALL.into_iter().enumerate().map(|(at, channel)| {
            let criteria: Vec<_> = (0..3).map(|nth| contribution(nth, at)).collect();
            ChannelDecision {
                channel,
                eligible: at != 3,
                gates: Vec::new(),
                score: criteria.iter().map(|c| c.points).sum(),
                confidence: 0.5,
                reason: if at == 2 { "Contact info not available".into() } else { joined(&criteria) },
                held_until: (at == 1).then_some(DateTime::UNIX_EPOCH),
                held_reason: (at == 1).then(|| "quiet hours".to_owned()),
                cost: MicroEuros(600),
                delivery_seconds: 60,
                notes: if at == 0 { vec!["above the target".into()] } else { Vec::new() },
                criteria,
            }
        });
        Decision {
            tenant: TenantId::parse("agency").unwrap(),
            policy_version: PolicyVersion::parse(&"ab".repeat(32)).unwrap(),
            generation: 7,
            variant: Some("frugal".into()),
            strategy: None,
            strategy_errors: vec!["when: no".into()],
            at: DateTime::UNIX_EPOCH,
            time_zone: "Europe/Paris".into(),
            priority: Priority::High,
            chosen: Some(Channel::Sms),
            held_until: None,
            channels: channels.collect(),
        }
    }

    fn comes_back(decision: &Decision, small: bool) {
        let text = write(decision).map_err(|why| why.0).unwrap();
        assert_eq!(text.starts_with(MARK), small, "{text}");
        assert_eq!(read(&text).unwrap(), *decision, "{text}");
        assert_eq!(
            read(&to_json(decision).map_err(|why| why.0).unwrap()).unwrap(),
            *decision,
            "as it was kept before"
        );
    }

    #[test]
    fn a_decision_comes_back_as_it_was() {
        let at_home =
            [Some("criteria/a.rhai:9:5"), Some("criteria/a.rhai:12:1"), None, Some("criteria/a.rhai:9:5")];
        comes_back(&decided(at_home, [0.0, 1.0, -0.5, 1.0 / 3.0]), true);
        let odd = [Some("tenants/t/criteria/b.rhai:1:1"), Some("nowhere"), Some(":1"), Some("")];
        comes_back(&decided(odd, [-0.0, 1e-9, -1.0, 0.1]), true);
    }

    #[test]
    fn points_that_are_not_what_the_share_comes_to_are_kept() {
        let mut decision = decided([None; 4], [0.5; 4]);
        decision.channels[1].criteria[2].points = 0.3;
        comes_back(&decision, true);
    }

    #[test]
    fn channels_that_were_asked_different_things_are_kept_in_full() {
        let mut decision = decided([None; 4], [0.5; 4]);
        decision.channels[1].criteria[2].weight = 3.0;
        comes_back(&decision, false);
        decision.channels[1].criteria.pop();
        comes_back(&decision, false);
        decision.channels.clear();
        comes_back(&decision, false);
    }

    #[test]
    fn a_text_with_a_criterion_too_few_is_refused() {
        let text = write(&decided([None; 4], [0.5; 4])).map_err(|why| why.0).unwrap();
        let fewer = text.replacen("[\"cost\",20.0,\"\"],", "", 1);
        assert_ne!(fewer, text);
        assert!(matches!(read(&fewer), Err(Fault::Corrupt(_))));
    }

    #[test]
    fn what_repeats_is_kept_once() {
        let decision = decided([Some("tenants/agency/criteria/a.rhai:9:5"); 4], [0.0; 4]);
        let (small, plain) = (
            write(&decision).map_err(|why| why.0).unwrap(),
            to_json(&decision).map_err(|why| why.0).unwrap(),
        );
        assert!(small.len() * 2 < plain.len(), "{} of {}", small.len(), plain.len());
    }
}
