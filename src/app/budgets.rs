//! Has the budgets looked at, again and again, and counts the alerts.
//!
//! A database that is away is told once and asked again; nothing waits for it.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{api::Metrics, orchestrator::budgets::BudgetWatch};

/// An alarm within a minute is asked for (reliability.md T7); this is well within.
const EVERY: Duration = Duration::from_secs(5);

/// Looks until `stop`.
pub async fn watch(watch: BudgetWatch, metrics: Arc<Metrics>, stop: CancellationToken) {
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = stop.cancelled() => return,
        }
        match watch.look().await {
            Ok(alerts) => {
                failing = false;
                for alert in alerts {
                    metrics.budget_alert(&alert.tenant, &alert.scope);
                }
            }
            Err(error) if !failing => {
                failing = true;
                tracing::warn!(%error, "the budgets could not be looked at; it is tried again");
            }
            Err(_) => {}
        }
    }
}
