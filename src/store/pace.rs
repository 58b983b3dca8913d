//! How fast the disk is lately, as the writer's commits tell.
//!
//! A measure of what a new message would wait, not a promise. It refuses nobody: the writer does.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

/// How long a commit takes lately, for whoever has to wait for several.
pub(super) struct Pace {
    since: Instant,
    /// When the commit that is under way began, in microseconds since then; 0: none is.
    began: AtomicU64,
    /// A running mean, in microseconds.
    mean: AtomicU64,
}

impl Pace {
    pub(super) fn new() -> Self {
        Self { since: Instant::now(), began: AtomicU64::new(0), mean: AtomicU64::new(0) }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
    }

    pub(super) fn begin(&self) {
        self.began.store(self.now(), Ordering::Relaxed);
    }

    /// Only what was certainly written counts in the mean: an idle worker's empty commits never meet the disk.
    pub(super) fn end(&self, wrote: bool) {
        let took = self.now().saturating_sub(self.began.swap(0, Ordering::Relaxed));
        if !wrote {
            return;
        }
        let mean = self.mean.load(Ordering::Relaxed);
        self.mean.store((3 * mean).saturating_add(took) / 4, Ordering::Relaxed);
    }

    /// How long so many commits will take: one that is stuck counts as long as it is.
    pub(super) fn of(&self, commits: usize) -> Duration {
        let began = self.began.load(Ordering::Relaxed);
        let stuck = if began == 0 { 0 } else { self.now().saturating_sub(began) };
        let each = self.mean.load(Ordering::Relaxed).max(stuck);
        Duration::from_micros(each.saturating_mul(commits as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_commit_that_is_stuck_counts_as_long_as_it_is_stuck() {
        let pace = Pace::new();
        assert_eq!(pace.of(5), Duration::ZERO);
        pace.begin();
        std::thread::park_timeout(Duration::from_millis(20));
        assert!(pace.of(5) >= Duration::from_millis(50), "{:?}", pace.of(5));
        assert_eq!(pace.of(0), Duration::ZERO, "nobody waits for another's commit");
        pace.end(true);
        let after = pace.of(4);
        assert!(after >= Duration::from_millis(10) && after < Duration::from_secs(10), "{after:?}");
        for wrote in [false, true] {
            assert_eq!(pace.of(4), after, "nothing was written");
            for _ in 0..40 {
                pace.begin();
                pace.end(wrote);
            }
        }
        assert!(pace.of(4) < after, "it forgets");
    }
}
