//! What is counted for each tenant by itself, found once for each: tenants beyond the first 200 are counted together.
//!
//! It knows labels and counters and nothing of what they mean.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock, PoisonError, RwLock},
};

use prometheus_client::metrics::counter::Counter;

use crate::domain::{channel::Channel, ids::TenantId};

/// Tenants with a label of their own.
pub const TENANTS_MAX: usize = 200;

/// A tenant's label, and its counters of decisions, each found once: they count as often as anything here.
#[derive(Debug, Default)]
pub struct TenantCounts {
    pub label: String,
    /// By channel; the last one where none was chosen.
    pub decisions: [OnceLock<Counter>; Channel::ALL.len() + 1],
}

/// The tenants that have a label of their own, and all others.
#[derive(Debug)]
pub struct Tenants {
    known: RwLock<HashMap<TenantId, Arc<TenantCounts>, ahash::RandomState>>,
    other: Arc<TenantCounts>,
}

impl Default for Tenants {
    fn default() -> Self {
        let other = TenantCounts { label: "other".to_owned(), ..TenantCounts::default() };
        Self { known: RwLock::default(), other: Arc::new(other) }
    }
}

impl Tenants {
    /// What `count` makes of a tenant's own for the first ones, of that of the others beyond.
    pub fn of<T>(&self, tenant: &TenantId, count: impl FnOnce(&TenantCounts) -> T) -> T {
        let known = self.known.read().unwrap_or_else(PoisonError::into_inner);
        if let Some(found) = known.get(tenant) {
            return count(found);
        }
        if known.len() >= TENANTS_MAX {
            return count(&self.other);
        }
        drop(known);
        count(&self.admit(tenant))
    }

    fn admit(&self, tenant: &TenantId) -> Arc<TenantCounts> {
        let mut known = self.known.write().unwrap_or_else(PoisonError::into_inner);
        if known.len() >= TENANTS_MAX && !known.contains_key(tenant) {
            return self.other.clone();
        }
        let new = || TenantCounts { label: tenant.to_string(), ..TenantCounts::default() };
        known.entry(tenant.clone()).or_insert_with(|| Arc::new(new())).clone()
    }
}
