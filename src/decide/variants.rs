//! Which variant of the weights a recipient has: a hash, not a coin.
//!
//! The same recipient always has the same variant, on every replica and after every restart. Changing the
//! shares moves only those recipients whose bucket changes hands.

use ring::digest::{Context, SHA256};

use crate::{domain::ids::RecipientId, policy::bundle::Bundle};

/// Recipients fall into this many buckets: shares are exact to a hundredth of a percent.
const BUCKETS: u64 = 10_000;

/// The variant that a recipient has under the tenant's `[split]`, else the tenant's `variant`.
pub fn assign_variant<'b>(bundle: &'b Bundle, recipient: &RecipientId) -> Option<&'b str> {
    let policy = bundle.policy();
    if policy.split.is_empty() {
        return policy.variant.as_deref();
    }
    let mut unit = Context::new(&SHA256);
    for part in [bundle.tenant().as_str(), "\n", recipient.as_str()] {
        unit.update(part.as_bytes());
    }
    let hash = unit.finish();
    let first: [u8; 8] = hash.as_ref()[..8].try_into().unwrap_or_default();
    let bucket = (u64::from_be_bytes(first) % BUCKETS) as f64;
    let mut upper = 0.0;
    for (name, share) in &policy.split {
        upper += share / 100.0 * BUCKETS as f64;
        if bucket < upper {
            return Some(name);
        }
    }
    // Shares add up to 100; what rounding leaves over belongs to the last.
    policy.split.last().map(|(name, _)| name.as_str())
}
