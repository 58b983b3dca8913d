//! The retry budget: retries of one tenant through one provider are at most a tenth of its sends and ten a second,
//! over a minute (reliability.md P6). What is over it waits, and uses no attempt.

use std::{
    collections::HashMap,
    sync::{Mutex, PoisonError},
};

use chrono::{DateTime, Utc};

use super::window::Window;
use crate::domain::ids::TenantId;

const WINDOW_SECONDS: usize = 60;
/// Retries that are always allowed, over the window: ten a second.
const RETRIES_FREE: u32 = 600;
/// Beyond those, one retry for this many sends.
const SENDS_PER_RETRY: u32 = 10;
/// Pairs that are remembered; those that were idle are forgotten first.
const PAIRS_MAX: usize = 10_000;

type Pair = (TenantId, String);

/// What each tenant sent through each credential of late.
#[derive(Debug, Default)]
pub struct Allowance {
    /// Sends, and the retries among them.
    pairs: Mutex<HashMap<Pair, Window<WINDOW_SECONDS>>>,
}

impl Allowance {
    /// Counts a call; false where it is a retry that has to wait, which is not counted.
    pub fn take(&self, tenant: &TenantId, credential: &str, retry: bool, now: DateTime<Utc>) -> bool {
        let mut pairs = self.pairs.lock().unwrap_or_else(PoisonError::into_inner);
        if pairs.len() >= PAIRS_MAX {
            pairs.retain(|_, window| window.sums(now) != (0, 0));
        }
        let window = pairs.entry((tenant.clone(), credential.to_owned())).or_default();
        let (sends, retries) = window.sums(now);
        if retry && retries >= RETRIES_FREE + sends / SENDS_PER_RETRY {
            return false;
        }
        window.add(1, u32::from(retry), now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retries_are_a_tenth_of_the_sends_and_ten_a_second() {
        let at = |seconds: i64| DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap();
        let (allowance, tenant) = (Allowance::default(), TenantId::parse("agency").unwrap());
        let other = TenantId::parse("other").unwrap();
        let granted =
            |retries: u32, now| (0..retries).filter(|_| allowance.take(&tenant, "main", true, now)).count();
        // Each retry is a send as well: 600 bring 60 more, those six, those none.
        assert_eq!(granted(1_000, at(0)), 666);
        assert!(allowance.take(&tenant, "main", false, at(1)), "a first send always goes");
        assert!(allowance.take(&other, "main", true, at(1)), "others are not concerned");
        assert!(allowance.take(&tenant, "second", true, at(1)));
        for _ in 0..1_000 {
            assert!(allowance.take(&tenant, "main", false, at(30)));
        }
        assert_eq!(granted(1_000, at(59)), 111);
        assert_eq!(granted(1, at(60)), 1, "a minute later they are forgotten");
    }
}
