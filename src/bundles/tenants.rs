//! Something for each tenant, in a map of which a changed copy costs what changed: generations share the rest.
//!
//! The tenants are spread over shards by a hash of their name, the shards over groups; a change copies one group and one
//! small shard. To copy an entry is to count it once more where it lives, in memory that nobody has touched for long: few
//! are copied. It orders nothing.

use std::{collections::BTreeMap, sync::Arc};

use crate::domain::ids::TenantId;

/// Ten thousand tenants are five to a shard.
const GROUPS: usize = 64;
/// In each group.
const SHARDS: usize = 32;

type Shard<V> = BTreeMap<TenantId, Arc<V>>;
type Group<V> = Vec<Arc<Shard<V>>>;

#[derive(Debug)]
pub struct TenantMap<V> {
    groups: Vec<Arc<Group<V>>>,
}

impl<V> Default for TenantMap<V> {
    fn default() -> Self {
        // One empty group stands for all, until it is written to.
        let group = Arc::new(vec![Arc::default(); SHARDS]);
        Self { groups: std::iter::repeat_n(group, GROUPS).collect() }
    }
}

impl<V> Clone for TenantMap<V> {
    fn clone(&self) -> Self {
        Self { groups: self.groups.clone() }
    }
}

/// The group and the shard in it. FNV-1a: short names, no adversary (a tenant is a file of the operator's).
fn place_of(tenant: &str) -> (usize, usize) {
    let hash = tenant.bytes().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3)
    });
    // The last bytes of a name have not reached the upper bits yet, and the lower ones hold little else.
    let mixed = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    let place = (mixed >> 32) as usize;
    (place % GROUPS, place / GROUPS % SHARDS)
}

impl<V> TenantMap<V> {
    pub fn get(&self, tenant: &TenantId) -> Option<&Arc<V>> {
        self.named(tenant.as_str())
    }

    /// The same by a name that may be no tenant's.
    pub fn named(&self, tenant: &str) -> Option<&Arc<V>> {
        let (group, shard) = place_of(tenant);
        self.groups[group][shard].get(tenant)
    }

    /// How many tenants have something.
    pub fn len(&self) -> usize {
        self.shards().map(|shard| shard.len()).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.shards().all(|shard| shard.is_empty())
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = (&TenantId, &Arc<V>)> {
        self.shards().flat_map(|shard| shard.iter())
    }

    fn shards(&self) -> impl Iterator<Item = &Arc<Shard<V>>> {
        self.groups.iter().flat_map(|group| group.iter())
    }

    /// Puts something in a tenant's place, or takes it out.
    pub fn set(&mut self, tenant: &TenantId, value: Option<Arc<V>>) {
        let (group, shard) = place_of(tenant.as_str());
        // What others hold on to is copied; what was copied once already is not.
        let group = Arc::make_mut(&mut self.groups[group]);
        let shard = Arc::make_mut(&mut group[shard]);
        match value {
            Some(value) => shard.insert(tenant.clone(), value),
            None => shard.remove(tenant),
        };
    }

    /// What is there now and was not, or was another, `earlier`.
    pub fn since<'a>(&'a self, earlier: &'a Self) -> impl Iterator<Item = (&'a TenantId, &'a Arc<V>)> {
        let groups = self.groups.iter().zip(&earlier.groups);
        let groups = groups.filter(|(now, then)| !Arc::ptr_eq(now, then));
        let shards = groups.flat_map(|(now, then)| now.iter().zip(then.iter()));
        let changed = shards.filter(|(now, then)| !Arc::ptr_eq(now, then));
        changed.flat_map(|(now, then)| {
            now.iter().filter(|(tenant, value)| !then.get(*tenant).is_some_and(|was| Arc::ptr_eq(was, value)))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: usize) -> TenantId {
        TenantId::parse(&format!("tenant-{number}")).unwrap()
    }

    #[test]
    fn a_changed_copy_shares_the_rest_and_leaves_the_original() {
        let mut first = TenantMap::default();
        for number in 0..2_000 {
            first.set(&id(number), Some(Arc::new(number)));
        }
        assert_eq!((first.len(), first.iter().count(), first.is_empty()), (2_000, 2_000, false));
        let mut second = first.clone();
        second.set(&id(7), Some(Arc::new(70)));
        second.set(&id(8), None);
        second.set(&id(9_999), Some(Arc::new(1)));
        assert_eq!((first.get(&id(7)).map(|v| **v), first.get(&id(8)).map(|v| **v)), (Some(7), Some(8)));
        assert_eq!((second.get(&id(7)).map(|v| **v), second.get(&id(8))), (Some(70), None));
        let mut since: Vec<&TenantId> = second.since(&first).map(|(tenant, _)| tenant).collect();
        since.sort_unstable();
        assert_eq!(since, [&id(7), &id(9_999)]);
        let copied = first.shards().zip(second.shards()).filter(|(a, b)| !Arc::ptr_eq(a, b)).count();
        assert!(copied <= 3, "{copied} shards copied for three changes");
    }

    #[test]
    fn names_are_spread() {
        let mut sizes = vec![[0; SHARDS]; GROUPS];
        (0..10_000).for_each(|number| {
            let (group, shard) = place_of(id(number).as_str());
            sizes[group][shard] += 1;
        });
        assert!(*sizes.as_flattened().iter().max().unwrap() < 25, "{sizes:?}");
        assert!(sizes.iter().all(|group| group.iter().sum::<usize>() < 300), "{sizes:?}");
    }
}
