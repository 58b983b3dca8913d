//! A set that only grows and never forgets: whoever is not in it was never put there.
//!
//! It says "perhaps" of some who are not in it, more of them the fuller it is, and costs a read then; it never says
//! "no" of one who is. That is why it needs no invalidation: a writer adds before it commits, and takes nothing out.

use std::{
    hash::Hash,
    sync::atomic::{AtomicU64, Ordering},
};

use super::seeded;

/// Bits that each member sets.
const PROBES: u64 = 4;
/// Bits for each member that is expected: one stranger in forty is taken for a member then.
const BITS_EACH: u64 = 8;

/// A Bloom filter whose words are written by the writer and its loader, and read by everyone.
pub(super) struct Filter {
    words: Box<[AtomicU64]>,
    hasher: ahash::RandomState,
    /// Counts how often what is in the tables has to be read anew, and for which time of these all of it is in here.
    wanted: AtomicU64,
    complete: AtomicU64,
}

impl Filter {
    /// Room for as many members; its memory is touched only as they come.
    pub(super) fn new(members: u64) -> Self {
        let bits = members.saturating_mul(BITS_EACH).next_power_of_two().max(64);
        let words = (0..bits / 64).map(|_| AtomicU64::new(0)).collect();
        Self { words, hasher: seeded(), wanted: AtomicU64::new(1), complete: AtomicU64::new(0) }
    }

    pub(super) fn add(&self, member: &impl Hash) {
        for (word, bit) in self.probes(member) {
            self.words[word].fetch_or(bit, Ordering::Relaxed);
        }
    }

    /// Certainly never added, by this process or before it.
    pub(super) fn lacks(&self, member: &impl Hash) -> bool {
        self.complete.load(Ordering::Acquire) == self.wanted.load(Ordering::Acquire)
            && self.probes(member).any(|(word, bit)| self.words[word].load(Ordering::Relaxed) & bit == 0)
    }

    /// Which reading of the tables is wanted: what to hand in when that is done.
    pub(super) fn wanted(&self) -> u64 {
        self.wanted.load(Ordering::Acquire)
    }

    /// All that was in the tables when that reading began has been added.
    pub(super) fn completed(&self, reading: u64) {
        self.complete.fetch_max(reading, Ordering::AcqRel);
    }

    /// Something was added to the tables and not here: nobody is denied until they are read anew.
    pub(super) fn doubt(&self) {
        self.wanted.fetch_add(1, Ordering::AcqRel);
    }

    fn probes(&self, member: &impl Hash) -> impl Iterator<Item = (usize, u64)> {
        let hash = self.hasher.hash_one(member);
        // Two halves of one hash stand for as many as are needed (Kirsch and Mitzenmacher).
        let (first, step) = (hash, (hash >> 32) | 1);
        let mask = self.words.len() as u64 * 64 - 1;
        (0..PROBES).map(move |n| {
            let bit = first.wrapping_add(n.wrapping_mul(step)) & mask;
            ((bit / 64) as usize, 1 << (bit % 64))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_is_never_denied_and_a_stranger_seldom_confirmed() {
        let filter = Filter::new(10_000);
        assert!(!filter.lacks(&1), "nothing is known before it is complete");
        (0..10_000).for_each(|n: u32| filter.add(&n));
        filter.completed(filter.wanted());
        assert!((0..10_000).all(|n: u32| !filter.lacks(&n)));
        let confirmed = (10_000..20_000).filter(|n: &u32| !filter.lacks(n)).count();
        assert!(confirmed < 500, "{confirmed} strangers of 10,000 were taken for members");
        let earlier = filter.wanted();
        filter.doubt();
        filter.completed(earlier);
        assert!(
            (10_000..20_000).all(|n: u32| !filter.lacks(&n)),
            "an earlier reading may have missed somebody"
        );
        filter.completed(filter.wanted());
        assert!((10_000..20_000).any(|n: u32| filter.lacks(&n)));
    }
}
