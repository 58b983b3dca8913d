//! Whether a credential can be used now, as far as the attempts of late show.
//!
//! A face only: what shuts a credential and what opens it again is `delivery::breaker`'s affair. Decisions read it, so
//! that no message is sent to a channel all of whose providers are down.

use chrono::{DateTime, Utc};

/// What is known of the credentials that drivers use.
pub trait Health: Send + Sync + std::fmt::Debug {
    /// Why nothing can be sent now through this credential by this sender, in words; none where it can.
    fn down(&self, credential: &str, sender: Option<&str>, now: DateTime<Utc>) -> Option<String>;
    /// Nothing is shut at all, so that nobody need ask for one; false says nothing.
    fn is_quiet(&self) -> bool;
    /// Every credential that is shut, for metrics and for people.
    fn shut(&self) -> Vec<Shut>;
}

/// A credential that is not used at the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Shut {
    pub credential: String,
    pub cause: ShutCause,
    pub since: DateTime<Utc>,
    /// Tried again then; none: when an operator says so, or when calls that hang have ended.
    pub until: Option<DateTime<Utc>>,
}

/// Why a credential is not used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ShutCause {
    /// Half of its calls failed.
    Failing,
    /// The provider refuses it, or its settings.
    Refused,
    /// An operator paused it.
    Paused,
    /// So many of its calls have no answer yet that it gets no further ones.
    Hanging,
}

impl ShutCause {
    pub const ALL: [ShutCause; 4] =
        [ShutCause::Failing, ShutCause::Refused, ShutCause::Paused, ShutCause::Hanging];

    pub const fn as_str(self) -> &'static str {
        match self {
            ShutCause::Failing => "failing",
            ShutCause::Refused => "refused",
            ShutCause::Paused => "paused",
            ShutCause::Hanging => "hanging",
        }
    }
}
