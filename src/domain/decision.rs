//! A decision with everything that explains it.
//!
//! Made by `decide`, kept with the message, shown by explain: one value for all three, so that an explanation
//! can never differ from what was decided. It holds no address and no content.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{
    channel::Channel,
    ids::{CriterionName, PolicyVersion, TenantId},
    message::Priority,
    money::MicroEuros,
};

/// Which channel, and why.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Decision {
    pub tenant: TenantId,
    pub policy_version: PolicyVersion,
    /// Counts the daemon's swaps; 0 offline.
    pub generation: u64,
    pub variant: Option<String>,
    pub strategy: Option<String>,
    /// Strategies whose `when` failed: each counts as not matching, and says so.
    pub strategy_errors: Vec<String>,
    /// The instant that it was decided for.
    pub at: DateTime<Utc>,
    /// The IANA zone that local hours were read in.
    pub time_zone: String,
    /// The priority that criteria saw (a strategy may have changed it).
    pub priority: Priority,
    /// The channel to use, `None` when none may be.
    pub chosen: Option<Channel>,
    /// The chosen channel waits until then.
    pub held_until: Option<DateTime<Utc>>,
    /// Every channel, best first; vetoed and gated ones last.
    pub channels: Vec<ChannelDecision>,
}

impl Decision {
    /// What was decided of one channel. Every channel is in every decision.
    pub fn channel(&self, channel: Channel) -> &ChannelDecision {
        self.channels.iter().find(|c| c.channel == channel).expect("a decision holds every channel")
    }

    /// The chosen channel's part.
    pub fn winner(&self) -> Option<&ChannelDecision> {
        self.chosen.map(|channel| self.channel(channel))
    }

    /// The next two eligible channels after the chosen one (spec.md section 2).
    pub fn alternatives(&self) -> impl Iterator<Item = &ChannelDecision> {
        self.channels.iter().filter(|c| c.eligible && Some(c.channel) != self.chosen).take(2)
    }
}

/// One channel's points, gates and reasons.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ChannelDecision {
    pub channel: Channel,
    /// No gate and no veto: it may be used, now or when its hold ends.
    pub eligible: bool,
    pub gates: Vec<GateReason>,
    /// Sum of the points, rounded to 1e-6; 0 when vetoed.
    pub score: f64,
    pub confidence: f64,
    /// The reasons of the criteria that gave points, in criterion order, joined by "; ".
    pub reason: String,
    /// Quiet hours or a legal window hold it until then.
    pub held_until: Option<DateTime<Utc>>,
    /// What holds it, in words.
    pub held_reason: Option<String>,
    pub cost: MicroEuros,
    pub delivery_seconds: u32,
    /// Remarks that change nothing, such as a cost above the target for its priority.
    pub notes: Vec<String>,
    pub criteria: Vec<Contribution>,
}

/// A rule that no score can overrule, and what it found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateReason {
    pub gate: Gate,
    pub reason: String,
}

/// The gates, in the order in which they are checked and told (spec.md section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[derive(utoipa::ToSchema)]
pub enum Gate {
    /// No address, or one that cannot be read.
    Address,
    /// No driver is configured, or none is healthy.
    Driver,
    /// The tenant or the recipient has the channel off.
    Disabled,
    /// The person refused this sender.
    Suppressed,
    /// Marketing without the consent that the tenant requires.
    Consent,
    /// No opt-in on record where one is needed.
    OptIn,
    /// This person has had as many messages as one person gets.
    Caps,
    /// The channel cannot carry this content.
    Content,
    /// Free text to a person who has not written to this sender within 24 hours, where its drivers take none then.
    ServiceWindow,
    /// More than `max_cost_per_message`, or than an enforced target.
    Cost,
    /// A budget is used up.
    Budget,
    /// The deadline has passed, or would before the hold ends.
    Deadline,
    /// Quiet hours where the tenant says `action = "skip"`.
    QuietHours,
    /// The strategy in force leaves the channel out.
    Strategy,
    /// A criterion's `veto`.
    Veto,
}

/// What one criterion said of one channel.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Contribution {
    pub criterion: CriterionName,
    /// What the script said, -1 to 1; 0 for neutral, a veto or a failure.
    pub share: f64,
    /// What the tenant gives the criterion, in points.
    pub weight: f64,
    /// `share * weight`.
    pub points: f64,
    pub veto: bool,
    pub reason: Option<String>,
    /// The line that said it: `criteria/cost.rhai:9:5`.
    pub source: Option<String>,
    /// Why the script counted as neutral.
    pub error: Option<String>,
}
