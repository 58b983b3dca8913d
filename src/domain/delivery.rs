//! A message on its way: its plan, its states, its attempts and what an attempt can end as.
//!
//! The states are those of reliability.md section 5 under the names that people use (spec.md section 5); which
//! follows which is `delivery::machine`'s affair, how they are kept is the store's.

use std::fmt;

use chrono::{DateTime, NaiveDate, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{
    address::Address,
    channel::Channel,
    decision::Decision,
    ids::{AttemptId, BroadcastId, IdempotencyKey, MessageId},
    message::{MessageClass, MessageRequest, Origin, Priority},
    money::MicroEuros,
    time::QuietHours,
};

/// Where a message stands: one word in JSON, SQL, logs and the dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[derive(utoipa::ToSchema)]
pub enum Status {
    /// Due now (READY).
    Queued,
    /// Waits for a moment: quiet hours, `sendAt`, a budget.
    Held,
    /// Waits for its next attempt.
    Retrying,
    /// An attempt is open (CLAIMED or INTENT).
    Sending,
    /// The provider took it (HANDED_OFF). Not final until its receipt window closes.
    Sent,
    Delivered,
    /// An attempt may or may not have been taken, and it is not settled yet (UNSETTLED).
    Unknown,
    Failed,
    Expired,
    /// A gate or a suppression kept it from being sent (SUPPRESSED).
    Skipped,
    Cancelled,
    /// Never settled; a person decides (UNRESOLVED).
    Unresolved,
    /// Killed the worker three times, or does not read back: kept for a person (QUARANTINED).
    Quarantined,
}

impl Status {
    pub const ALL: [Status; 13] = [
        Status::Queued,
        Status::Held,
        Status::Retrying,
        Status::Sending,
        Status::Sent,
        Status::Delivered,
        Status::Unknown,
        Status::Failed,
        Status::Expired,
        Status::Skipped,
        Status::Cancelled,
        Status::Unresolved,
        Status::Quarantined,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            Status::Queued => "queued",
            Status::Held => "held",
            Status::Retrying => "retrying",
            Status::Sending => "sending",
            Status::Sent => "sent",
            Status::Delivered => "delivered",
            Status::Unknown => "unknown",
            Status::Failed => "failed",
            Status::Expired => "expired",
            Status::Skipped => "skipped",
            Status::Cancelled => "cancelled",
            Status::Unresolved => "unresolved",
            Status::Quarantined => "quarantined",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }

    /// Nothing more is tried: the caller need not wait any longer.
    pub const fn is_settled(self) -> bool {
        !matches!(self, Status::Queued | Status::Retrying | Status::Sending)
    }

    /// Handed off: the provider has it.
    pub const fn is_success(self) -> bool {
        matches!(self, Status::Sent | Status::Delivered)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The channels to try, in order, and the rules that hold while they are tried. Made when the message is
/// accepted and never changed: a reload touches nothing that is decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Plan {
    /// The chosen channel first, then its fallbacks; at most three.
    pub hops: Vec<Hop>,
    /// Not before this moment (`sendAt`, or the end of a hold).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_before: Option<DateTime<Utc>>,
    /// What keeps it until then, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub held_reason: Option<String>,
    /// No attempt starts after this moment; every message has one.
    pub deadline: DateTime<Utc>,
    pub class: MessageClass,
    /// The IANA zone in which the recipient's local hours are read.
    pub time_zone: String,
    /// The IANA zone of the tenant, in whose days money is counted.
    pub budget_time_zone: String,
    /// Sent again elsewhere if nothing happens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub escalation: Option<PlannedEscalation>,
    /// As the decision has it, the strategy's included; what it may cost depends on it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub priority: Option<Priority>,
    /// What its mails may carry to tell of opens and clicks.
    #[serde(default)]
    pub tracking: TrackingTerms,
}

/// Whether a mail tells what a person does with it. Off unless the tenant's policy and the person allow it
/// (reliability.md T23).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrackingTerms {
    /// An image that is fetched when the mail is opened, and links that pass by the public listener.
    pub engagement: bool,
    /// The only hosts, in lower case, whose links pass by the public listener; empty: any.
    pub hosts: Vec<String>,
}

impl Plan {
    /// How many of the hops a failure may lead to: the escalation's own comes behind them.
    pub fn fallback_hops(&self) -> usize {
        let all = self.hops.len();
        self.escalation.as_ref().map_or(all, |escalation| usize::from(escalation.hop).min(all))
    }

    /// When a message that this hop sent at `sent_at` is sent again elsewhere, if nothing happens by then. Not
    /// after the deadline, and not to a channel that had its turn.
    pub fn escalation_at(&self, hop: u16, sent_at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let escalation = self.escalation.as_ref().filter(|escalation| escalation.hop > hop)?;
        let to = self.hops.get(usize::from(escalation.hop))?.channel;
        let had_its_turn = self.hops.iter().take(usize::from(hop) + 1).any(|tried| tried.channel == to);
        let at = sent_at + TimeDelta::seconds(i64::from(escalation.after_seconds));
        (!had_its_turn && at <= self.deadline).then_some(at)
    }
}

/// What is done when a message that was sent stays without an echo.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedEscalation {
    /// The hop to send then, an index into the plan; it is beyond the fallbacks, so none of them takes it.
    pub hop: u16,
    /// Counted from the moment at which the message was sent.
    pub after_seconds: u32,
    /// `opened`, `delivered`, `clicked`, `replied`, or an event's name: what makes it needless.
    pub unless: String,
}

/// What goes on one channel where that differs from what the caller wrote: a template's form, in its locale.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rendered {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    pub body: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub html: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub approved_template: Option<ApprovedTemplate>,
}

/// Sizes only: content is personal data.
impl fmt::Debug for Rendered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Rendered({} bytes)", self.body.len())
    }
}

/// A message template that a provider approved beforehand (WhatsApp outside the 24 h window).
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApprovedTemplate {
    pub name: String,
    /// As the provider knows it, such as `fr` or `en_US`.
    pub language: String,
    /// The values of the body's placeholders, in order.
    pub parameters: Vec<String>,
}

impl fmt::Debug for ApprovedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ApprovedTemplate({}, {} parameters)", self.name, self.parameters.len())
    }
}

/// One channel of a plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    pub channel: Channel,
    pub address: Address,
    /// The drivers to try, by name; empty: the operator's for that channel.
    pub drivers: Vec<String>,
    /// The tenant's number or mailbox on this channel.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub from_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<String>,
    /// Estimated, for the whole message.
    pub cost: MicroEuros,
    /// Quiet hours that must be over before it is sent; none where they do not hold this message here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quiet_hours: Option<QuietHours>,
    /// Held by France's window for marketing SMS.
    pub french_legal_window: bool,
    /// Seconds to wait before each retry; its length is the most retries on this channel.
    pub retry_delays: Vec<u32>,
    /// The hop to go to when the retries are used up, an index into the plan; none: the next one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after_retries: Option<u16>,
    /// What an unknown outcome leads to here.
    pub on_unknown: OnUnknown,
    /// None: the request's own content.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rendered: Option<Rendered>,
}

/// What is done with an attempt whose outcome could not be settled (reliability.md P4). Marketing is never
/// resent, whatever this says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(schemars::JsonSchema)]
pub enum OnUnknown {
    /// Send once more when the window has passed.
    ResendOnce,
    /// Leave it to a person.
    Hold,
}

/// A message offered to the store, whole: it is accepted in one transaction or not at all.
#[derive(Clone, Debug)]
pub struct NewMessage {
    pub id: MessageId,
    pub request: MessageRequest,
    pub decision: Decision,
    /// None where no channel may be used: the message is kept as `skipped` (or `expired`), with its reasons.
    pub plan: Option<Plan>,
    /// `queued`, `held`, `skipped` or `expired`.
    pub status: Status,
    /// Why it is not queued, in words.
    pub status_reason: Option<String>,
    pub accepted_at: DateTime<Utc>,
    /// The caller's key and the SHA-256 of the canonical request, where a key was given.
    pub idempotency: Option<(IdempotencyKey, [u8; 32])>,
    pub counting: Counting,
}

impl NewMessage {
    /// When it is to be looked at first.
    pub fn due_at(&self) -> Option<DateTime<Utc>> {
        match self.status {
            Status::Queued => Some(self.accepted_at),
            Status::Held => {
                Some(self.plan.as_ref().and_then(|plan| plan.not_before).unwrap_or(self.accepted_at))
            }
            _ => None,
        }
    }
}

/// Under what a message is counted, beside what its request and its decision say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counting {
    /// The tenant's local day of acceptance; none: figures are not kept for this tenant.
    pub day: Option<NaiveDate>,
    /// The broadcast that it is a row of, and which row, from 0.
    pub broadcast: Option<(BroadcastId, u32)>,
}

/// A message as it is kept.
#[derive(Clone, Debug)]
pub struct MessageRecord {
    pub id: MessageId,
    pub request: MessageRequest,
    pub decision: Decision,
    pub plan: Option<Plan>,
    pub status: Status,
    pub status_reason: Option<String>,
    pub accepted_at: DateTime<Utc>,
    /// When something is to happen next.
    pub due_at: Option<DateTime<Utc>>,
    /// The hop that is being tried, an index into the plan.
    pub hop: u16,
    /// The channel that took it.
    pub sent_via: Option<Channel>,
    /// An unknown outcome was resent, so that it may have arrived twice.
    pub possible_duplicate: bool,
    pub attempts: Vec<Attempt>,
    pub timeline: Vec<TimelineEvent>,
}

impl MessageRecord {
    /// A queued message as it is kept at the moment of its acceptance.
    pub fn queued(message: &NewMessage) -> Self {
        let accepted = TimelineEvent { at: message.accepted_at, event: "accepted".into(), detail: None };
        Self {
            id: message.id,
            request: message.request.clone(),
            decision: message.decision.clone(),
            plan: message.plan.clone(),
            status: message.status,
            status_reason: message.status_reason.clone(),
            accepted_at: message.accepted_at,
            due_at: message.due_at(),
            hop: 0,
            sent_via: None,
            possible_duplicate: false,
            attempts: Vec::new(),
            timeline: vec![accepted],
        }
    }

    pub fn origin(&self) -> Origin {
        self.request.origin
    }
}

/// Something that happened to a message, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TimelineEvent {
    pub at: DateTime<Utc>,
    /// `accepted`, `held`, `attempt`, `fallback`, `sent`, `failed` ...
    pub event: String,
    pub detail: Option<String>,
}

/// Where one attempt stands (reliability.md section 5.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(utoipa::ToSchema)]
pub enum AttemptStatus {
    /// The intent is recorded: from here on a crash leaves it unknown.
    Intent,
    Accepted,
    RefusedPermanent,
    RefusedTemporary,
    NotSent,
    Unknown,
}

impl AttemptStatus {
    pub const ALL: [AttemptStatus; 6] = [
        AttemptStatus::Intent,
        AttemptStatus::Accepted,
        AttemptStatus::RefusedPermanent,
        AttemptStatus::RefusedTemporary,
        AttemptStatus::NotSent,
        AttemptStatus::Unknown,
    ];

    pub const fn as_str(self) -> &'static str {
        match self {
            AttemptStatus::Intent => "intent",
            AttemptStatus::Accepted => "accepted",
            AttemptStatus::RefusedPermanent => "refused_permanent",
            AttemptStatus::RefusedTemporary => "refused_temporary",
            AttemptStatus::NotSent => "not_sent",
            AttemptStatus::Unknown => "unknown",
        }
    }

    pub fn parse(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|s| s.as_str() == word)
    }
}

/// One call to one provider.
#[derive(Clone, Debug, PartialEq)]
pub struct Attempt {
    pub id: AttemptId,
    /// 1 for a message's first attempt, over all channels.
    pub number: u16,
    /// Index into the plan's hops.
    pub hop: u16,
    pub channel: Channel,
    pub driver: String,
    pub status: AttemptStatus,
    pub started_at: DateTime<Utc>,
    pub finished_at: Option<DateTime<Utc>>,
    pub provider_message_id: Option<String>,
    pub error: Option<AttemptError>,
    pub cost: MicroEuros,
}

/// Why an attempt did not end as accepted. The detail is the provider's own, cleaned of control characters and
/// cut to 500 characters.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct AttemptError {
    pub class: ErrorClass,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    pub detail: String,
}

impl AttemptError {
    /// Whether the provider says that the person refused this sender: Twilio's 21610, Meta's 131050. It is kept as
    /// a suppression, together with the outcome (reliability.md F44).
    pub fn says_opted_out(&self) -> bool {
        matches!(self.code.as_deref(), Some("21610" | "131050"))
    }

    /// Whether a mail server says that there is no such mailbox or domain, or that it is shut for good: a hard bounce,
    /// by its enhanced status code (RFC 3463), at once or in a mail that came back. A full mailbox, a refused text or
    /// a relay that gave up is none.
    pub fn says_no_such_mailbox(&self) -> bool {
        let enhanced = self.code.as_deref().and_then(|code| code.split_whitespace().last());
        self.class == ErrorClass::Permanent
            && matches!(enhanced, Some("5.1.1" | "5.1.2" | "5.1.3" | "5.1.6" | "5.1.10" | "5.2.1"))
    }
}

/// The failures of an attempt, in the terms in which retry and fallback are decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(utoipa::ToSchema)]
pub enum ErrorClass {
    /// A complete answer that says no, for good, on this channel.
    Permanent,
    /// A complete answer that says not now.
    Temporary,
    /// Proved not to have left: safe to try again.
    NotSent,
    /// It may have been accepted: trying again may send it twice.
    Unknown,
    /// Our credentials or settings, not this message: an operator must act.
    Misconfigured,
}

/// What one attempt came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// The provider took the message. That isn't delivery: a receipt says so, if one comes.
    Accepted { provider_message_id: Option<String>, cost: Option<MicroEuros> },
    /// It did not, or we cannot tell.
    Failed { error: AttemptError, retry_after_seconds: Option<u32> },
}

impl Outcome {
    /// A failure without a code.
    pub fn failed(class: ErrorClass, detail: impl Into<String>) -> Self {
        Outcome::Failed {
            error: AttemptError { class, code: None, detail: detail.into() },
            retry_after_seconds: None,
        }
    }
}

/// What is to happen to a message after an attempt, an interruption or a timer. The store applies it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Next {
    /// Handed off by the current hop.
    Sent,
    /// Again on the same hop.
    RetryAt { at: DateTime<Utc>, reason: String },
    /// Again on the same hop, and what was tried does not count: the provider asked for patience, our credential
    /// was refused, or every driver of the channel is down.
    WaitUntil { at: DateTime<Utc>, reason: String },
    /// The next hop of the plan.
    FallBackTo { hop: u16, at: DateTime<Utc>, reason: String },
    /// Outcome unknown: looked at again then.
    SettleAt { at: DateTime<Utc>, reason: String },
    /// Send the same hop once more although the first may have arrived: allowed once, and shown.
    ResendAt { at: DateTime<Utc>, reason: String },
    /// Back in the queue at `at` with no attempt used: quiet hours came, a gate closed for a while, a drain.
    HoldUntil { at: DateTime<Utc>, reason: String },
    /// It was sent, nobody answered: by this hop as well.
    Escalate { hop: u16, at: DateTime<Utc>, reason: String },
    /// It was sent, and stays so: its escalation is needless, or could not be made.
    Stays { reason: Option<String> },
    /// The end: `failed`, `expired`, `skipped`, `unresolved`, `cancelled` or `quarantined`.
    End { status: Status, reason: String },
}
