//! What the tenant's policy says now of an attempt that is about to be made: limits, consent, pauses.
//!
//! A face only: whoever knows the policies stands behind it. A decision's own terms (its hops, its deadline) are
//! in the plan and never change; what may be spent and who may be written to is always asked anew (reliability.md P7).

use chrono::{DateTime, Utc};

use crate::{
    domain::delivery::Hop,
    store::{Claimed, IntentLimits},
};

/// Asked right before each attempt.
pub trait Terms: Send + Sync {
    fn of(&self, claimed: &Claimed, hop: &Hop, now: DateTime<Utc>) -> AttemptTerms;
}

/// The terms of one attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct AttemptTerms {
    pub limits: IntentLimits,
    /// At a budget's limit the message waits for the next period; else the hop is given up.
    pub waits_at_limit: bool,
    /// Why this hop may not be tried at all, in words: the consent that is missing, the channel that was switched off.
    pub refused: Option<String>,
    /// An operator paused the tenant: why, in words.
    pub paused: Option<String>,
}
