//! Counts over the last seconds, in buckets of one second each. Pure: the instant is handed in.

use chrono::{DateTime, Utc};

/// Two counts for each of the last `N` seconds.
#[derive(Clone, Copy, Debug)]
pub struct Window<const N: usize> {
    /// (the second, the first count, the second count)
    buckets: [(i64, u32, u32); N],
}

impl<const N: usize> Default for Window<N> {
    fn default() -> Self {
        Self { buckets: [(i64::MIN, 0, 0); N] }
    }
}

impl<const N: usize> Window<N> {
    pub fn add(&mut self, first: u32, second: u32, now: DateTime<Utc>) {
        let second_of = now.timestamp();
        let at = usize::try_from(second_of.rem_euclid(N as i64)).unwrap_or(0);
        let bucket = &mut self.buckets[at];
        if bucket.0 != second_of {
            *bucket = (second_of, 0, 0);
        }
        bucket.1 = bucket.1.saturating_add(first);
        bucket.2 = bucket.2.saturating_add(second);
    }

    /// What was counted in the last `N` seconds, this one included. A clock that was set back forgets what is ahead.
    pub fn sums(&self, now: DateTime<Utc>) -> (u32, u32) {
        let last = now.timestamp();
        let recent = self.buckets.iter().filter(|(at, ..)| (last - N as i64 + 1..=last).contains(at));
        recent
            .fold((0, 0), |(a, b), (_, first, second)| (a.saturating_add(*first), b.saturating_add(*second)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_older_than_the_window_is_forgotten() {
        let at = |seconds: i64| DateTime::from_timestamp(1_000_000 + seconds, 0).unwrap();
        let mut window = Window::<10>::default();
        window.add(1, 0, at(0));
        window.add(2, 1, at(9));
        assert_eq!(window.sums(at(9)), (3, 1));
        assert_eq!(window.sums(at(10)), (2, 1));
        window.add(5, 0, at(10));
        assert_eq!(window.sums(at(10)), (7, 1));
        assert_eq!(window.sums(at(19)), (5, 0));
        assert_eq!(window.sums(at(20)), (0, 0));
        // Set back: what is ahead does not count.
        assert_eq!(window.sums(at(8)), (0, 0));
    }
}
