//! A decision as the API answers it, read from the daemon or made offline: one shape, one way to show it.

use serde::{Deserialize, Serialize};

use crate::{
    decide::explanation::Explanation,
    domain::{
        channel::Channel,
        decision::{ChannelDecision, Decision},
    },
};

/// details.md section 3. Without a channel `channel` is null and `reason` says why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct DecisionAnswer {
    pub channel: Option<Channel>,
    pub reason: String,
    pub confidence: f64,
    pub alternative_channels: Vec<Alternative>,
    /// Euros.
    pub estimated_cost: f64,
    /// Seconds.
    pub estimated_delivery_time: u32,
    pub policy_version: String,
    pub variant: Option<String>,
    pub strategy: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub held_until: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Alternative {
    pub channel: Channel,
    pub reason: String,
    pub confidence: f64,
}

impl DecisionAnswer {
    /// The same answer from a decision made here.
    pub fn of(decision: &Decision, explanation: Explanation) -> Self {
        let winner = decision.winner();
        let alternative = |c: &ChannelDecision| Alternative {
            channel: c.channel,
            reason: c.reason.clone(),
            confidence: c.confidence,
        };
        Self {
            channel: decision.chosen,
            reason: winner.map_or_else(|| "no channel may be used".to_owned(), |c| c.reason.clone()),
            confidence: winner.map_or(0.0, |c| c.confidence),
            alternative_channels: decision.alternatives().map(alternative).collect(),
            estimated_cost: winner.map_or(0.0, |c| c.cost.euros()),
            estimated_delivery_time: winner.map_or(0, |c| c.delivery_seconds),
            policy_version: decision.policy_version.to_string(),
            variant: decision.variant.clone(),
            strategy: decision.strategy.clone(),
            held_until: decision.held_until.map(|at| at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true)),
            explanation: Some(explanation),
        }
    }
}
