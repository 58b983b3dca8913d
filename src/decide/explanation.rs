//! A decision explained: the shape of details.md section 3, made from the decision itself.
//!
//! Adds nothing to what was decided, but for the flip points, which `flips` finds by deciding again.

use chrono::{DateTime, SecondsFormat, Utc};
use serde::{Deserialize, Serialize};

use super::{DecisionInput, flips};
use crate::{
    domain::{
        channel::Channel,
        decision::{ChannelDecision, Contribution, Decision, Gate, GateReason},
        time::parse_time_zone,
    },
    policy::bundle::Bundle,
};

/// Every channel's shares, gates and reasons, and what would change the winner.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct Explanation {
    pub policy_version: String,
    pub generation: u64,
    pub variant: Option<String>,
    pub strategy: Option<String>,
    /// Strategies whose `when` failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub strategy_errors: Vec<String>,
    /// RFC 3339, in the zone that local hours were read in.
    pub at: String,
    pub time_zone: String,
    pub channels: Vec<ExplainedChannel>,
    /// True statements, each checked by deciding again.
    pub flips: Vec<Flip>,
    /// The flips in words; says so where nothing small changes the winner.
    pub flips_summary: String,
    pub took_micros: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct ExplainedChannel {
    pub channel: Channel,
    pub eligible: bool,
    pub gates: Vec<ExplainedGate>,
    pub score: f64,
    pub confidence: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_reason: Option<String>,
    /// Euros.
    pub cost: f64,
    pub delivery_seconds: u32,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    pub criteria: Vec<ExplainedCriterion>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct ExplainedGate {
    pub gate: Gate,
    pub reason: String,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
#[derive(utoipa::ToSchema)]
pub struct ExplainedCriterion {
    pub criterion: String,
    pub share: f64,
    pub weight: f64,
    pub points: f64,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub veto: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// `criteria/cost.rhai:9:5`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// "If `what` were `to` instead of `from`, `winner` would be chosen."
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Flip {
    /// `weights.quiet_hours`, or a fact such as `priority.level`.
    pub what: String,
    pub from: serde_json::Value,
    pub to: serde_json::Value,
    /// None: no channel would be left.
    pub winner: Option<Channel>,
}

/// Explains a decision that `decide` made from the same bundle and input, and looks for its flip points.
pub fn explain(bundle: &Bundle, input: &DecisionInput<'_>, decision: &Decision) -> Explanation {
    let flips = flips::find(bundle, input, decision);
    let flips_summary = flips::in_words(decision, &flips);
    Explanation { flips, flips_summary, ..explain_kept(decision) }
}

/// The part that needs no bundle: a kept decision shown again, without flips. `took_micros` is the caller's to
/// set: nothing here reads a clock.
pub fn explain_kept(decision: &Decision) -> Explanation {
    let zone = parse_time_zone(&decision.time_zone).unwrap_or(chrono_tz::UTC);
    let local = |at: DateTime<Utc>| at.with_timezone(&zone).to_rfc3339_opts(SecondsFormat::AutoSi, false);
    Explanation {
        policy_version: decision.policy_version.to_string(),
        generation: decision.generation,
        variant: decision.variant.clone(),
        strategy: decision.strategy.clone(),
        strategy_errors: decision.strategy_errors.clone(),
        at: local(decision.at),
        time_zone: decision.time_zone.clone(),
        channels: decision.channels.iter().map(|c| channel(c, &local)).collect(),
        flips: Vec::new(),
        flips_summary: String::new(),
        took_micros: 0,
    }
}

fn channel(decided: &ChannelDecision, local: &impl Fn(DateTime<Utc>) -> String) -> ExplainedChannel {
    let gate = |g: &GateReason| ExplainedGate { gate: g.gate, reason: g.reason.clone() };
    let criterion = |c: &Contribution| ExplainedCriterion {
        criterion: c.criterion.to_string(),
        share: c.share,
        weight: c.weight,
        points: c.points,
        veto: c.veto,
        reason: c.reason.clone(),
        source: c.source.clone(),
        error: c.error.clone(),
    };
    ExplainedChannel {
        channel: decided.channel,
        eligible: decided.eligible,
        gates: decided.gates.iter().map(gate).collect(),
        score: decided.score,
        confidence: decided.confidence,
        held_until: decided.held_until.map(local),
        held_reason: decided.held_reason.clone(),
        cost: decided.cost.euros(),
        delivery_seconds: decided.delivery_seconds,
        notes: decided.notes.clone(),
        criteria: decided.criteria.iter().map(criterion).collect(),
    }
}
