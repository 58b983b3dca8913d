//! The answers' shapes (spec.md section 12, details.md section 3), made from the domain.
//!
//! Nothing here holds an address or content: an answer can be logged by whoever gets it.

use axum::http::StatusCode;
use chrono::{DateTime, Utc};
use serde::Serialize;
use utoipa::ToSchema;

use crate::{
    decide::explanation::Explanation,
    domain::{
        channel::Channel,
        decision::{ChannelDecision, Decision},
        delivery::{Attempt, AttemptError, AttemptStatus, ErrorClass, MessageRecord, Status},
    },
    orchestrator::Preview,
};

/// Which channel a message would take, and why.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct DecisionAnswer {
    pub channel: Channel,
    /// The reasons of the criteria that gave points, joined by "; ".
    #[schema(
        example = "SMS best for urgent messages (98% open rate); Instant channel good for notifications"
    )]
    pub reason: String,
    /// 0 to 0.95; indifferent is 0.5.
    #[schema(example = 0.9)]
    pub confidence: f64,
    /// The next best channels, at most two.
    pub alternative_channels: Vec<Alternative>,
    /// Euros.
    #[schema(example = 0.05)]
    pub estimated_cost: f64,
    /// Seconds.
    #[schema(example = 10)]
    pub estimated_delivery_time: u32,
    /// The content hash of the tenant's policy.
    pub policy_version: String,
    pub variant: Option<String>,
    pub strategy: Option<String>,
    /// The channel waits until then: quiet hours, or a legal window.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct Alternative {
    pub channel: Channel,
    pub reason: String,
    pub confidence: f64,
}

impl DecisionAnswer {
    /// The answer; `None` where no channel was chosen.
    pub fn new(preview: Preview) -> Option<Self> {
        let Preview { decision, explanation, .. } = preview;
        let winner = decision.winner()?;
        Some(Self {
            channel: winner.channel,
            reason: winner.reason.clone(),
            confidence: winner.confidence,
            alternative_channels: decision.alternatives().map(Alternative::new).collect(),
            estimated_cost: winner.cost.euros(),
            estimated_delivery_time: winner.delivery_seconds,
            policy_version: decision.policy_version.to_string(),
            variant: decision.variant.clone(),
            strategy: decision.strategy.clone(),
            held_until: decision.held_until,
            explanation,
        })
    }
}

impl Alternative {
    fn new(channel: &ChannelDecision) -> Self {
        Self { channel: channel.channel, reason: channel.reason.clone(), confidence: channel.confidence }
    }
}

/// What became of a message.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageAnswer {
    /// False once it has ended without being handed to a provider.
    pub success: bool,
    /// The channel that was chosen at first; `sentVia` is the one that took it.
    pub channel: Option<Channel>,
    #[schema(example = "msg_0198c0de000070008000000000000000")]
    pub message_id: String,
    pub status: Status,
    /// A channel after the first was tried.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub fallback_attempted: bool,
    /// The last channel that was tried after the first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fallback_channel: Option<Channel>,
    /// Why it was not sent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<ErrorAnswer>,
    /// The channel whose provider took it; null until one did.
    pub sent_via: Option<Channel>,
    pub attempts: Vec<AttemptAnswer>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_until: Option<DateTime<Utc>>,
    /// Why that channel was chosen.
    pub reason: String,
    pub policy_version: String,
    /// An unknown outcome was sent once more: it may have arrived twice.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[schema(required = false)]
    pub possible_duplicate: bool,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorAnswer {
    /// None where no provider was asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<ErrorClass>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub detail: String,
}

/// One call to one provider.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct AttemptAnswer {
    pub channel: Channel,
    pub driver: String,
    pub status: AttemptStatus,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub provider_message_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<AttemptError>,
    /// Euros.
    pub cost: f64,
}

impl MessageAnswer {
    pub fn new(record: &MessageRecord) -> Self {
        let chosen = record.decision.chosen;
        let hop = record.attempts.iter().rev().find(|a| a.hop > 0).map(|a| a.channel);
        Self {
            success: !is_lost(record.status),
            channel: chosen,
            message_id: record.id.to_string(),
            status: record.status,
            fallback_attempted: hop.is_some(),
            fallback_channel: hop,
            error: error(record),
            sent_via: record.sent_via,
            attempts: record.attempts.iter().map(AttemptAnswer::new).collect(),
            held_until: held_until(record),
            reason: record.decision.winner().map(|w| w.reason.clone()).unwrap_or_default(),
            policy_version: record.decision.policy_version.to_string(),
            possible_duplicate: record.possible_duplicate,
        }
    }

    /// 200 where the outcome is known, 202 where it is still to come.
    pub fn status_code(&self) -> StatusCode {
        match self.status {
            Status::Held | Status::Queued | Status::Sending | Status::Retrying | Status::Unknown => {
                StatusCode::ACCEPTED
            }
            _ => StatusCode::OK,
        }
    }
}

/// At an end, and no provider took it.
pub const fn is_lost(status: Status) -> bool {
    matches!(
        status,
        Status::Failed
            | Status::Expired
            | Status::Skipped
            | Status::Cancelled
            | Status::Unresolved
            | Status::Quarantined
    )
}

fn held_until(record: &MessageRecord) -> Option<DateTime<Utc>> {
    let planned = || record.plan.as_ref().and_then(|plan| plan.not_before);
    (record.status == Status::Held).then(|| record.due_at.or_else(planned)).flatten()
}

/// The last attempt's error; where no provider was asked, the status's own reason.
fn error(record: &MessageRecord) -> Option<ErrorAnswer> {
    if !is_lost(record.status) {
        return None;
    }
    let last = record.attempts.iter().rev().find_map(|a| a.error.as_ref());
    match (last, &record.status_reason) {
        (Some(error), _) => Some(ErrorAnswer {
            class: Some(error.class),
            code: error.code.clone(),
            detail: error.detail.clone(),
        }),
        (None, Some(reason)) => Some(ErrorAnswer { class: None, code: None, detail: reason.clone() }),
        (None, None) => None,
    }
}

impl AttemptAnswer {
    fn new(attempt: &Attempt) -> Self {
        Self {
            channel: attempt.channel,
            driver: attempt.driver.clone(),
            status: attempt.status,
            started_at: attempt.started_at,
            finished_at: attempt.finished_at,
            provider_message_id: attempt.provider_message_id.clone(),
            error: attempt.error.clone(),
            cost: attempt.cost.euros(),
        }
    }
}

/// A message as it is kept, with what happened to it.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageDetail {
    #[serde(flatten)]
    pub answer: MessageAnswer,
    pub tenant_id: String,
    pub prospect_id: String,
    pub accepted_at: DateTime<Utc>,
    /// When something is to happen next.
    pub due_at: Option<DateTime<Utc>>,
    /// No attempt starts after this.
    pub deadline: Option<DateTime<Utc>>,
    /// Why it stands where it stands, in words.
    pub status_reason: Option<String>,
    pub timeline: Vec<TimelineAnswer>,
    /// Why it went where it went, from what was kept (without flip points).
    pub explanation: Explanation,
}

#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct TimelineAnswer {
    pub at: DateTime<Utc>,
    pub event: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

impl MessageDetail {
    pub fn new(record: &MessageRecord) -> Self {
        let timeline = record.timeline.iter().map(|e| TimelineAnswer {
            at: e.at,
            event: e.event.clone(),
            detail: e.detail.clone(),
        });
        Self {
            answer: MessageAnswer::new(record),
            tenant_id: record.request.tenant.to_string(),
            prospect_id: record.request.recipient.to_string(),
            accepted_at: record.accepted_at,
            due_at: record.due_at,
            deadline: record.plan.as_ref().map(|plan| plan.deadline),
            status_reason: record.status_reason.clone(),
            timeline: timeline.collect(),
            explanation: explanation(&record.decision),
        }
    }
}

fn explanation(decision: &Decision) -> Explanation {
    crate::decide::explanation::explain_kept(decision)
}

/// One message of a list.
#[derive(Clone, Debug, Serialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct MessageSummary {
    #[serde(flatten)]
    pub answer: MessageAnswer,
    pub tenant_id: String,
    pub prospect_id: String,
    pub accepted_at: DateTime<Utc>,
}

impl MessageSummary {
    pub fn new(record: &MessageRecord) -> Self {
        Self {
            answer: MessageAnswer::new(record),
            tenant_id: record.request.tenant.to_string(),
            prospect_id: record.request.recipient.to_string(),
            accepted_at: record.accepted_at,
        }
    }
}

/// Messages, newest first.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct MessageList {
    pub messages: Vec<MessageSummary>,
    /// Ask again with `cursor` set to this for what is older; null at the end.
    pub next: Option<String>,
}
