//! A tenant's policy as values: what default.toml, the environment and the tenant's file come to together.
//!
//! Nothing here reads a file; `document` makes these values and has checked every one of them. Durations,
//! money and limits carry their units in their names.

use std::{collections::BTreeMap, sync::Arc};

use chrono_tz::Tz;

use crate::domain::{
    address::Region,
    by_word::ByWord,
    channel::{Channel, ChannelSet, PerChannel},
    delivery::OnUnknown,
    facts::SentLately,
    ids::CriterionName,
    message::{MessageKind, Origin, Priority},
    money::MicroEuros,
    time::QuietHours,
};

/// Everything that a tenant decides, but for scripts.
#[derive(Clone, Debug, PartialEq)]
pub struct TenantPolicy {
    pub time_zone: Tz,
    pub region: Region,
    pub locale: String,
    pub default_priority: Priority,
    pub scoring: Scoring,
    /// Points that a criterion is worth at share 1; a criterion without an entry has weight 0.
    pub weights: BTreeMap<CriterionName, f64>,
    pub quiet_hours: QuietHoursPolicy,
    pub channels: PerChannel<ChannelTerms>,
    pub fallback: FallbackPolicy,
    pub retry: PerChannel<RetryPolicy>,
    pub deadline: DeadlinePolicy,
    pub on_unknown: PerChannel<OnUnknown>,
    pub budget: BudgetPolicy,
    pub caps: CapsPolicy,
    pub consent: ConsentPolicy,
    pub retention: RetentionPolicy,
    pub learning: LearningPolicy,
    /// The only hosts, in lower case, whose links in emails are led through the public listener; empty: any.
    pub tracking_hosts: Vec<String>,
    /// First match wins. Shared by the tenants that have the same.
    pub strategies: Arc<[StrategyRule]>,
    /// Weights that a variant overrides, by the variant's name.
    pub variants: BTreeMap<String, BTreeMap<CriterionName, f64>>,
    /// Shares of recipients by variant, in percent; empty: no split.
    pub split: Vec<(String, f64)>,
    /// The variant for everybody, unless there is a split.
    pub variant: Option<String>,
}

/// `confidence = min(ceiling, max(0, (base + score) / scale))`.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Scoring {
    pub base: f64,
    pub scale: f64,
    pub ceiling: f64,
}

#[derive(Clone, Debug, PartialEq)]
pub struct QuietHoursPolicy {
    pub hours: QuietHours,
    pub action: QuietAction,
    /// The channels that ring.
    pub channels: ChannelSet,
    /// `legal = "fr"`: marketing SMS wait for France's legal window.
    pub french_legal_window: bool,
}

/// What quiet hours do beyond the points of the criterion.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuietAction {
    /// A channel that rings and still wins waits for their end.
    Hold,
    /// Points alone.
    Score,
    /// A channel that rings is out.
    Skip,
}

/// One channel's terms: facts that scripts and gates read.
#[derive(Clone, Debug, PartialEq)]
pub struct ChannelTerms {
    pub enabled: bool,
    /// Drivers by name, tried in order; empty: the operator's for that channel, else the sandbox.
    pub drivers: Vec<String>,
    /// The tenant's number or mailbox.
    pub from: Option<String>,
    pub from_name: Option<String>,
    pub reply_to: Option<String>,
    /// For SMS, per segment.
    pub cost: MicroEuros,
    pub open_rate: f64,
    pub delivery_seconds: ByWord<Priority, u32>,
    /// Characters; none: unlimited. For SMS it informs and does not gate: longer texts take more segments.
    pub max_length: Option<u32>,
    pub rich_media: bool,
    pub attachments: bool,
    pub attachment_bytes_max: u64,
    pub interactive: bool,
    pub tracking: bool,
    /// The channel needs an opt-in.
    pub opt_in: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FallbackPolicy {
    pub enabled: bool,
    /// Further channels after the first: 2 makes three in all.
    pub max_fallbacks: u8,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Seconds before each retry: `delays` cut to `max_retries`.
    pub delays_seconds: Vec<u32>,
    /// The channel preferred once the retries are used up.
    pub fallback_after_retries: Option<Channel>,
}

/// Every message has a deadline; these hold where the request names none (reliability.md P2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeadlinePolicy {
    pub transactional_hours: u32,
    pub marketing_hours: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub struct BudgetPolicy {
    /// By priority; a message that costs more is gated. None: no limit.
    pub max_cost_per_message: ByWord<Priority, MicroEuros>,
    /// 0 to 1.
    pub alert_threshold: f64,
    pub on_limit: OnLimit,
    pub daily: Option<MicroEuros>,
    pub monthly: Option<MicroEuros>,
    pub channels_daily: PerChannel<Option<MicroEuros>>,
    /// The cost aimed at by priority: above it the explanation says so, and it is a gate where enforced.
    pub targets: ByWord<Priority, MicroEuros>,
    pub enforce_targets: bool,
    pub origins: ByWord<Origin, OriginBudget>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct OriginBudget {
    pub daily: Option<MicroEuros>,
    pub monthly: Option<MicroEuros>,
}

/// What happens when a budget is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnLimit {
    /// The channel is out.
    Skip,
    /// The message waits for the next day or month.
    Hold,
    /// Only the cheapest channel that may be used is left.
    Cheapest,
}

/// How many messages one person gets at most, whatever the channel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CapsPolicy {
    /// Messages of every type together.
    pub all: Cap,
    /// Messages of one type, besides; only types that have a limit are here.
    pub of_type: BTreeMap<MessageKind, Cap>,
}

/// A number of messages; none: no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cap {
    /// Within 24 hours.
    pub per_day: Option<u32>,
    /// Within 7 days.
    pub per_week: Option<u32>,
}

impl CapsPolicy {
    /// Whether messages of this type are counted against anything.
    pub fn binds(&self, kind: Option<MessageKind>) -> bool {
        self.all != Cap::default() || kind.is_some_and(|kind| self.of_type.contains_key(&kind))
    }

    /// Why one more message of this type is one too many, in words.
    pub fn reached(&self, kind: Option<MessageKind>, sent: &SentLately) -> Option<String> {
        let of_type = kind.and_then(|kind| self.of_type.get(&kind).map(|cap| (kind, cap)));
        let full = |sent: u32, most: Option<u32>| most.filter(|most| sent >= *most);
        let words = |most: u32, what: &str, time: &str| {
            format!("this person has had {what} in the last {time}: at most {most} are allowed")
        };
        let all = |sent: u32| format!("{sent} messages");
        if let Some(most) = full(sent.day, self.all.per_day) {
            return Some(words(most, &all(sent.day), "24 hours"));
        }
        if let Some(most) = full(sent.week, self.all.per_week) {
            return Some(words(most, &all(sent.week), "7 days"));
        }
        let (kind, cap) = of_type?;
        let of_kind = |sent: u32| format!("{sent} {kind} messages");
        full(sent.type_day, cap.per_day).map(|most| words(most, &of_kind(sent.type_day), "24 hours")).or_else(
            || full(sent.type_week, cap.per_week).map(|most| words(most, &of_kind(sent.type_week), "7 days")),
        )
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConsentPolicy {
    /// Marketing needs the caller to say that consent was given.
    pub marketing_required: bool,
    /// `opt_in = "recorded"`: passing an address does not assert an opt-in.
    pub opt_in_recorded: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RetentionPolicy {
    /// Days after which content and addresses are forgotten.
    pub content_days: u32,
    /// Days after which the message itself is forgotten.
    pub message_days: u32,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub struct LearningPolicy {
    /// 0 to 1: share of decisions that take another channel at random.
    pub explore: f64,
    /// Points within which that other channel must be.
    pub within: f64,
    /// Figures are kept.
    pub analytics: bool,
    /// Opens, clicks and answers are recorded.
    pub track_engagement: bool,
}

/// A `[[strategies]]` entry without its compiled condition.
#[derive(Clone, Debug, PartialEq)]
pub struct StrategyRule {
    pub name: String,
    /// The Rhai expression over `message`, as written.
    pub when: String,
    /// The only channels left; none: all of them.
    pub channels: Option<Vec<Channel>>,
    /// Ranked first, in this order, whatever their points, as long as they may be used.
    pub prefer: Vec<Channel>,
    pub priority: Option<Priority>,
    pub escalate: Option<Escalation>,
}

/// `escalate = { to = "sms", after = "6h", unless = "opened" }`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Escalation {
    pub to: Channel,
    pub after_seconds: u32,
    /// `opened`, `delivered`, `clicked`, `replied`, or an event's name.
    pub unless: String,
}
