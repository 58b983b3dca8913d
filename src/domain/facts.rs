//! What is known beyond the request when a decision is made: history, suppressions, spend, driver health.
//!
//! Read in one go before deciding; a decision never reads anything else. Rates are not computed here.

use serde::{Deserialize, Serialize};

use super::{channel::PerChannel, money::MicroEuros};

/// Everything that `decide` may know which the request does not say.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Facts {
    /// Past engagement of this recipient; none where the channel cannot report or nothing is known.
    pub history: PerChannel<Option<EngagementHistory>>,
    /// Why this address must not be written to from this sender.
    pub suppressed: PerChannel<Option<String>>,
    /// Whether an opt-in is on record; none: no record.
    pub opted_in: PerChannel<Option<bool>>,
    /// Where drivers take free text only within 24 hours of the person's last message: whether that is so. None: they
    /// take it at any time.
    #[serde(default)]
    pub in_service_window: PerChannel<Option<bool>>,
    pub spend: Spend,
    #[serde(default)]
    pub sent_lately: SentLately,
    pub drivers: PerChannel<DriverHealth>,
}

/// What this recipient did with what was sent on one channel, over the last 180 days, people only.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EngagementHistory {
    pub received: u32,
    pub engaged: u32,
    /// The tenant's own rate on that channel, 0 to 1.
    pub average: f64,
}

/// Money committed so far, in the tenant's own days and months.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Spend {
    pub today: MicroEuros,
    pub this_month: MicroEuros,
    /// By messages of the same origin, today and this month.
    pub origin_today: MicroEuros,
    pub origin_this_month: MicroEuros,
    pub channels_today: PerChannel<MicroEuros>,
}

/// Messages to this person that were sent or are on their way, whatever the channel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SentLately {
    /// Within 24 hours, and within 7 days.
    pub day: u32,
    pub week: u32,
    /// The same, of the request's own type alone.
    pub type_day: u32,
    pub type_week: u32,
}

/// Whether anything can send on a channel now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DriverHealth {
    pub configured: bool,
    pub healthy: bool,
    /// Why not, in words for people.
    pub detail: Option<String>,
}

/// Unless said otherwise a driver is there and well: explanations made offline assume so.
impl Default for DriverHealth {
    fn default() -> Self {
        Self { configured: true, healthy: true, detail: None }
    }
}
