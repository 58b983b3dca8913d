//! From the policies folder to the bundles in force: read, check, test, swap, keep the last good.

use std::sync::Arc;

use arc_swap::ArcSwap;

use crate::{domain::ids::TenantId, policy::bundle::Bundle};

mod core;
pub mod counters;
pub mod folder;
pub mod history;
mod keeper;
pub mod last_good;
pub mod loader;
pub mod offline;
pub mod operate;
pub mod policy_tests;
pub mod reload;
mod shared;
pub mod standing;
pub mod status;
pub mod tenants;
mod watch;

pub use core::Progress;
pub use counters::{Cause, ReloadCounts};
pub use reload::{OpenError, Options, Policies, ReloadReport};
pub use status::Summary;
pub use tenants::TenantMap;

/// Every tenant's bundle at one moment. One `Arc` serves a whole request.
#[derive(Clone, Debug, Default)]
pub struct Generation {
    /// Counts the swaps since the daemon started.
    pub number: u64,
    pub bundles: TenantMap<Bundle>,
}

impl Generation {
    pub fn tenant(&self, tenant: &TenantId) -> Option<&Arc<Bundle>> {
        self.bundles.get(tenant)
    }

    /// The tenants whose bundle is not the one that they had in an earlier generation. Costs what was swapped
    /// between, not what there is.
    pub fn since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (&'a TenantId, &'a Arc<Bundle>)> {
        self.bundles.since(&earlier.bundles)
    }
}

/// The generation in force. Cheap to clone; all clones see a swap at once.
#[derive(Clone, Debug, Default)]
pub struct PolicyHandle(Arc<ArcSwap<Generation>>);

impl PolicyHandle {
    pub fn new(initial: Generation) -> Self {
        Self(Arc::new(ArcSwap::from_pointee(initial)))
    }

    /// Taken once for each decision, and passed down.
    pub fn current(&self) -> Arc<Generation> {
        self.0.load_full()
    }

    /// One pointer store.
    pub fn replace(&self, next: Generation) {
        self.0.store(Arc::new(next));
    }
}
