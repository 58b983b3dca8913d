//! Tells once for each period that a budget comes to its alert threshold.
//!
//! It looks at what was committed beside the queue, so that no message waits for it, and it sees a budget that a
//! reload made smaller as well. The database keeps what was told: a restart, a replica or a second look tells
//! nothing twice. It closes no gate: that is `decide`'s and the intent's.

use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::{Arc, Mutex, PoisonError},
};

use chrono::{DateTime, Datelike, Days, NaiveDate, Utc};

use crate::{
    bundles::{Generation, PolicyHandle},
    domain::{channel::Channel, ids::TenantId, message::Origin, money::MicroEuros, time::Clock},
    policy::settings::{BudgetPolicy, TenantPolicy},
    store::{Alert, DaySpend, Numbers, StoreError},
};

/// Tenants of one query.
const AT_ONCE: usize = 64;

/// Looks at the budgets of every tenant that has any.
pub struct BudgetWatch {
    store: Arc<dyn Numbers>,
    policies: PolicyHandle,
    clock: Arc<dyn Clock>,
    /// What is known to have been told, to spare the database.
    told: Mutex<HashSet<(TenantId, String, String)>>,
    budgeted: Mutex<Budgeted>,
}

/// The tenants of a generation that have any budget: of ten thousand only those swapped since are looked at again.
#[derive(Default)]
struct Budgeted {
    of: Arc<Generation>,
    tenants: BTreeSet<TenantId>,
}

impl Budgeted {
    fn follow(&mut self, generation: &Arc<Generation>) -> Vec<TenantId> {
        for (tenant, bundle) in generation.since(&self.of) {
            match limits(&bundle.policy().budget).is_empty() {
                true => self.tenants.remove(tenant),
                false => self.tenants.insert(tenant.clone()),
            };
        }
        self.of = Arc::clone(generation);
        self.tenants.retain(|tenant| generation.tenant(tenant).is_some());
        self.tenants.iter().cloned().collect()
    }
}

impl BudgetWatch {
    pub fn new(store: Arc<dyn Numbers>, policies: PolicyHandle, clock: Arc<dyn Clock>) -> Self {
        Self { store, policies, clock, told: Mutex::default(), budgeted: Mutex::default() }
    }

    /// The alerts that are new, kept; each is logged.
    pub async fn look(&self) -> Result<Vec<Alert>, StoreError> {
        let (generation, now) = (self.policies.current(), self.clock.now());
        let budgeted = self.budgeted.lock().unwrap_or_else(PoisonError::into_inner).follow(&generation);
        // A day before: some zone may still be in the month before the present one of UTC.
        let month = now.date_naive().checked_sub_days(Days::new(1)).unwrap_or(now.date_naive());
        let from = month.with_day(1).unwrap_or(month);
        let mut raised = Vec::new();
        for tenants in budgeted.chunks(AT_ONCE) {
            let mut spends: BTreeMap<TenantId, Vec<DaySpend>> = BTreeMap::new();
            for (tenant, spend) in self.store.spent_since(tenants, from).await? {
                spends.entry(tenant).or_default().push(spend);
            }
            for (tenant, spends) in &spends {
                let Some(bundle) = generation.tenant(tenant) else { continue };
                for alert in due(bundle.policy(), tenant, spends, now) {
                    if self.raise(&alert).await? {
                        raised.push(alert);
                    }
                }
            }
        }
        Ok(raised)
    }

    async fn raise(&self, alert: &Alert) -> Result<bool, StoreError> {
        let name = (alert.tenant.clone(), alert.scope.clone(), alert.period.clone());
        if self.told.lock().unwrap_or_else(PoisonError::into_inner).contains(&name) {
            return Ok(false);
        }
        let new = self.store.raise_alert(alert).await?;
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        // Of the periods that are over nothing is asked again.
        told.retain(|(tenant, scope, period)| {
            *tenant != alert.tenant || *scope != alert.scope || *period == alert.period
        });
        told.insert(name);
        if new {
            tracing::warn!(
                tenant = %alert.tenant, scope = alert.scope, period = alert.period,
                "a budget comes to its alert threshold: {} of {} EUR spent", alert.spent, alert.budget
            );
        }
        Ok(new)
    }
}

/// What a limit is counted over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Over {
    Everything,
    Origin(Origin),
    Channel(Channel),
}

/// Every limit that is set: whether it is a month's, of what, and how much.
fn limits(budget: &BudgetPolicy) -> Vec<(bool, Over, MicroEuros)> {
    let mut all = vec![(false, Over::Everything, budget.daily), (true, Over::Everything, budget.monthly)];
    for (origin, own) in budget.origins.iter() {
        all.push((false, Over::Origin(origin), own.daily));
        all.push((true, Over::Origin(origin), own.monthly));
    }
    all.extend(budget.channels_daily.iter().map(|(c, limit)| (false, Over::Channel(c), *limit)));
    all.into_iter().filter_map(|(month, over, limit)| Some((month, over, limit?))).collect()
}

/// The periods that an instant is in, for the names of alerts: the tenant's day and month.
pub fn periods(policy: &TenantPolicy, now: DateTime<Utc>) -> (String, String) {
    let day: NaiveDate = now.with_timezone(&policy.time_zone).date_naive();
    (day.format("%Y-%m-%d").to_string(), day.format("%Y-%m").to_string())
}

/// The budgets that are at their threshold now.
fn due(policy: &TenantPolicy, tenant: &TenantId, spends: &[DaySpend], now: DateTime<Utc>) -> Vec<Alert> {
    let (day, month) = periods(policy, now);
    let mut alerts = Vec::new();
    for (monthly, over, budget) in limits(&policy.budget) {
        let (name, period) = if monthly { ("monthly", &month) } else { ("daily", &day) };
        let spent: MicroEuros = spends
            .iter()
            .filter(|s| s.day.starts_with(period.as_str()))
            .filter(|s| match over {
                Over::Everything => true,
                Over::Origin(origin) => s.origin == origin,
                Over::Channel(channel) => s.channel == channel,
            })
            .map(|s| s.amount)
            .sum();
        // Rounded to whole micro-euros; nothing spent is never an alert, not even with a threshold of 0.
        let threshold = (budget.0 as f64 * policy.budget.alert_threshold).round() as i64;
        if spent.0 > 0 && spent.0 >= threshold {
            let scope = match over {
                Over::Everything => name.to_owned(),
                Over::Origin(origin) => format!("{name}/{origin}"),
                Over::Channel(channel) => format!("{name}/{channel}"),
            };
            let (tenant, period) = (tenant.clone(), period.clone());
            alerts.push(Alert { tenant, scope, period, spent, budget, at: now });
        }
    }
    alerts
}
