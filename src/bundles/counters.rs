//! What reloading did so far, as plain counters that the metrics page reads.
//!
//! Only ever growing; it knows no exposition format.

use std::sync::atomic::{AtomicI64, AtomicU64, Ordering};

use chrono::{DateTime, Utc};
use serde::Serialize;

/// What made somebody look at the folder.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// The daemon starts.
    Start,
    /// The file system said that something changed.
    Event,
    /// Events were lost, or the watch had to be made anew.
    Overflow,
    /// The regular look, for whatever raised no event.
    Rescan,
    /// `POST /v1/policies/reload` or the command.
    Request,
    /// SIGHUP.
    Signal,
}

impl Cause {
    pub const ALL: [Cause; 6] =
        [Cause::Start, Cause::Event, Cause::Overflow, Cause::Rescan, Cause::Request, Cause::Signal];

    /// The word in logs and metric labels.
    pub const fn as_str(self) -> &'static str {
        match self {
            Cause::Start => "start",
            Cause::Event => "event",
            Cause::Overflow => "overflow",
            Cause::Rescan => "rescan",
            Cause::Request => "request",
            Cause::Signal => "signal",
        }
    }
}

/// Counters of one `Policies`.
#[derive(Debug, Default)]
pub struct ReloadCounters {
    applied: AtomicU64,
    rejected: AtomicU64,
    unchanged: AtomicU64,
    /// In the order of `Cause::ALL`.
    looks: [AtomicU64; 6],
    watches: AtomicU64,
    /// Milliseconds since 1970; 0: never.
    last_success: AtomicI64,
}

/// The counters at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ReloadCounts {
    /// Loads after which every tenant's files are in force, and something had changed.
    pub applied: u64,
    /// Loads after which some tenant's files are not.
    pub rejected: u64,
    /// Loads that found nothing new.
    pub unchanged: u64,
    /// Looks at the folder, in the order of `Cause::ALL`.
    pub looks: [u64; 6],
    /// Watches installed, the first included.
    pub watches: u64,
    /// When every tenant's files were last found in force.
    pub last_success: Option<DateTime<Utc>>,
}

impl ReloadCounters {
    pub(super) fn looked(&self, cause: Cause) {
        if let Some(at) = Cause::ALL.iter().position(|known| *known == cause) {
            self.looks[at].fetch_add(1, Ordering::Relaxed);
        }
    }

    pub(super) fn watched(&self) {
        self.watches.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn loaded(&self, ok: bool, changed: bool, now: DateTime<Utc>) {
        match (ok, changed) {
            (false, _) => &self.rejected,
            (true, true) => &self.applied,
            (true, false) => &self.unchanged,
        }
        .fetch_add(1, Ordering::Relaxed);
        if ok {
            self.last_success.store(now.timestamp_millis(), Ordering::Relaxed);
        }
    }

    /// All of them, read one by one.
    pub fn counts(&self) -> ReloadCounts {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let last = self.last_success.load(Ordering::Relaxed);
        ReloadCounts {
            applied: read(&self.applied),
            rejected: read(&self.rejected),
            unchanged: read(&self.unchanged),
            looks: std::array::from_fn(|at| read(&self.looks[at])),
            watches: read(&self.watches),
            last_success: (last != 0).then(|| DateTime::from_timestamp_millis(last)).flatten(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rejected_load_is_never_counted_as_a_success() {
        let counters = ReloadCounters::default();
        let now = DateTime::from_timestamp(5, 0).unwrap();
        counters.loaded(false, true, now);
        assert_eq!(counters.counts().last_success, None);
        counters.loaded(true, true, now);
        counters.loaded(true, false, now);
        counters.looked(Cause::Signal);
        let counts = counters.counts();
        assert_eq!((counts.applied, counts.rejected, counts.unchanged), (1, 1, 1));
        assert_eq!((counts.looks[5], counts.last_success), (1, Some(now)));
    }
}
