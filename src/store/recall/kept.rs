//! Answers that hold until a commit says otherwise: bounded, and exact while writers and readers race.
//!
//! A reader that finds nothing takes a token, reads the database, and may keep what it read only if nothing of that
//! shard was about to change, or changed, since the token. A writer says what it is about to change before it commits
//! and what became of it afterwards, before it acknowledges: from then on no reader sees the value of before, and a
//! value that is corrected in place is never corrected by a change that it holds already.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::{Mutex, MutexGuard},
};

use super::seeded;

const SHARDS: usize = 16;

/// What a reader found missing, to be handed back with what it read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token(u64);

/// Values by key. What is asked for stays; what is not, goes when room is needed.
pub(super) struct Kept<K, V> {
    shards: [Mutex<Shard<K, V>>; SHARDS],
    hasher: ahash::RandomState,
    /// The most weight of a shard's newer half.
    room: usize,
}

struct Shard<K, V> {
    /// Counts changes, begun and ended.
    version: u64,
    /// Changes that are begun and not ended.
    pending: u32,
    newer: HashMap<K, V, ahash::RandomState>,
    older: HashMap<K, V, ahash::RandomState>,
    weight: usize,
}

impl<K: Hash + Eq, V> Kept<K, V> {
    /// Room for values of about this weight in all.
    pub(super) fn new(weight: usize) -> Self {
        let map = || HashMap::with_hasher(seeded());
        let empty = || Shard { version: 0, pending: 0, newer: map(), older: map(), weight: 0 };
        Self {
            shards: std::array::from_fn(|_| Mutex::new(empty())),
            hasher: seeded(),
            room: weight / (2 * SHARDS),
        }
    }

    /// What `with` makes of the value; where there is none, the token to put one with.
    pub(super) fn ask<R>(&self, key: &K, with: impl FnOnce(&V) -> R) -> Result<R, Token> {
        let mut shard = self.shard(key);
        if let Some(value) = shard.newer.get(key) {
            return Ok(with(value));
        }
        let Some((key, value)) = shard.older.remove_entry(key) else { return Err(Token(shard.version)) };
        let answer = with(&value);
        shard.newer.insert(key, value);
        Ok(answer)
    }

    /// Keeps what was read since the token was taken, unless it may be older than what was committed meanwhile.
    pub(super) fn put(&self, key: K, value: V, weight: usize, token: Token) {
        let mut shard = self.shard(&key);
        if shard.pending > 0 || shard.version != token.0 {
            return;
        }
        shard.weight += weight;
        if shard.weight > self.room {
            shard.weight = weight;
            let fresh = HashMap::with_hasher(shard.older.hasher().clone());
            shard.older = std::mem::replace(&mut shard.newer, fresh);
        }
        shard.newer.insert(key, value);
    }

    /// The value is about to be changed: called before the commit.
    pub(super) fn begin(&self, key: &K) {
        let mut shard = self.shard(key);
        shard.version += 1;
        shard.pending += 1;
    }

    /// The change is committed: `correct` makes the value what it is now, and says false where it cannot.
    pub(super) fn end(&self, key: &K, correct: impl FnOnce(&mut V) -> bool) {
        let mut guard = self.shard(key);
        let shard = &mut *guard;
        shard.version += 1;
        shard.pending -= 1;
        for half in [&mut shard.newer, &mut shard.older] {
            if let Some(value) = half.get_mut(key) {
                if !correct(value) {
                    half.remove(key);
                }
                return;
            }
        }
    }

    /// Somebody else changed what is stored: nothing is kept any longer.
    pub(super) fn clear(&self) {
        for shard in &self.shards {
            let mut shard = shard.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            shard.version += 1;
            shard.weight = 0;
            shard.newer.clear();
            shard.older.clear();
        }
    }

    fn shard(&self, key: &K) -> MutexGuard<'_, Shard<K, V>> {
        // The upper bits: a map within uses the lower ones of its own hash.
        let at = (self.hasher.hash_one(key) >> 60) as usize;
        self.shards[at].lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn fresh() -> Kept<u8, u64> {
        Kept::new(1 << 20)
    }

    #[test]
    fn what_was_read_before_a_change_is_not_kept_after_it() {
        let kept = fresh();
        let token = kept.ask(&1, |_| ()).unwrap_err();
        kept.begin(&1);
        kept.put(1, 10, 1, token);
        kept.end(&1, |_| false);
        kept.put(1, 10, 1, token);
        assert!(kept.ask(&1, |_| ()).is_err());
    }

    #[test]
    fn what_was_read_between_the_commit_and_its_end_is_not_corrected_twice() {
        let kept = fresh();
        kept.begin(&1);
        // The commit is visible, its end is not told yet: this reader saw the change already.
        let token = kept.ask(&1, |_| ()).unwrap_err();
        kept.put(1, 15, 1, token);
        kept.end(&1, |sum| {
            *sum += 5;
            true
        });
        assert!(kept.ask(&1, |_| ()).is_err());
    }

    #[test]
    fn what_is_not_asked_for_goes_when_room_is_needed() {
        let kept: Kept<u32, u32> = Kept::new(2 * SHARDS * 8);
        for n in 0..10_000_u32 {
            let token = kept.ask(&n, |_| ()).unwrap_err();
            kept.put(n, n, 1, token);
            assert!(kept.ask(&0, |_| ()).is_ok(), "what is asked for all the time stays");
        }
        let left = (0..10_000).filter(|n| kept.ask(n, |_| ()).is_ok()).count();
        assert!(left <= 2 * SHARDS * 9, "{left} of 10,000 are left");
    }

    /// One step of a reader, or of the one writer, at one key.
    #[derive(Clone, Debug)]
    enum Move {
        Ask(usize),
        Read(usize),
        Put(usize),
        Begin,
        Commit(u64),
        End,
    }

    fn moves() -> impl Strategy<Value = Vec<Move>> {
        let one = prop_oneof![
            (0..3_usize).prop_map(Move::Ask),
            (0..3_usize).prop_map(Move::Read),
            (0..3_usize).prop_map(Move::Put),
            Just(Move::Begin),
            (1..100_u64).prop_map(Move::Commit),
            Just(Move::End),
        ];
        prop::collection::vec(one, 1..80)
    }

    proptest! {
        /// Whatever the order of three readers' and the writer's steps, what is kept is what is stored, from the end of
        /// a change to the commit of the next one: removed or corrected in place.
        #[test]
        fn no_order_of_steps_keeps_an_old_value(moves in moves(), in_place: bool) {
            let kept = fresh();
            let mut stored = 0_u64;
            let mut readers: [(Option<Token>, Option<u64>); 3] = [(None, None); 3];
            let (mut begun, mut change) = (false, None);
            for step in moves {
                match step {
                    Move::Ask(n) => readers[n] = (kept.ask(&7, |_| ()).err(), None),
                    Move::Read(n) => readers[n].1 = readers[n].0.map(|_| stored),
                    Move::Put(n) => {
                        if let (Some(token), Some(value)) = std::mem::take(&mut readers[n]) {
                            kept.put(7, value, 1, token);
                        }
                    }
                    Move::Begin if !begun => {
                        kept.begin(&7);
                        begun = true;
                    }
                    Move::Commit(by) if begun && change.is_none() => {
                        stored += by;
                        change = Some(by);
                    }
                    Move::End if change.is_some() => {
                        let by = change.take().unwrap();
                        kept.end(&7, |value| {
                            *value += by;
                            in_place
                        });
                        begun = false;
                    }
                    Move::Begin | Move::Commit(_) | Move::End => {}
                }
                if change.is_none() && let Ok(value) = kept.ask(&7, |value| *value) {
                    prop_assert_eq!(value, stored);
                }
            }
        }
    }
}
