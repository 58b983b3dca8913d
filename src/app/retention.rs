//! Forgets what each tenant's `[retention]` no longer keeps, once an hour, a batch at a time; and ends the erasures that
//! had to wait for a provider.
//!
//! It yields to messages: one batch, then a breath. A database that is away is left alone until the next hour.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    bundles::PolicyHandle,
    domain::{ids::TenantId, time::Clock},
    policy::shipped,
    store::{Erasures, Forgotten, Keep, Life, Result},
};

const EVERY: Duration = Duration::from_secs(3600);
/// What of an erased person was with a provider is looked at again this often.
const ERASURES_EVERY: Duration = Duration::from_secs(60);
/// Between two batches of one pass: at most some thousand messages a second are forgotten.
const BREATH: Duration = Duration::from_millis(50);

/// Forgets until `stop`, beginning at once.
pub async fn forget(
    store: Arc<impl Life + Erasures + 'static>,
    policies: PolicyHandle,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    let mut hours = tokio::time::interval(EVERY);
    hours.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut minutes = tokio::time::interval(ERASURES_EVERY);
    minutes.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = hours.tick() => {}
            _ = minutes.tick() => {
                if let Err(error) = erase(&*store, &policies, &*clock).await {
                    tracing::warn!(%error, "erasures wait: tried again in a minute");
                }
                continue;
            }
            () = stop.cancelled() => return,
        }
        let pass = pass(&*store, &policies, &*clock);
        match stop.run_until_cancelled(pass).await {
            None => return,
            Some(Ok((words, messages))) if words + messages > 0 => {
                tracing::info!(words, messages, "forgot what the tenants' retention no longer keeps");
            }
            Some(Ok(_)) => {}
            Some(Err(error)) => tracing::warn!(%error, "nothing more was forgotten: tried again in an hour"),
        }
    }
}

/// Every tenant once, to its end; how many messages lost their words, and how many are gone.
async fn pass(store: &impl Life, policies: &PolicyHandle, clock: &dyn Clock) -> Result<(u64, u64)> {
    let (mut words, mut messages) = (0, 0);
    for tenant in store.tenants_with_messages().await? {
        loop {
            let now = clock.now();
            let Forgotten { words: w, messages: m, more } =
                store.forget_some(&tenant, keep(policies, &tenant, now), now).await?;
            (words, messages) = (words + w, messages + m);
            if !more {
                break;
            }
            tokio::time::sleep(BREATH).await;
        }
    }
    Ok((words, messages))
}

/// Looks once more at every erasure that is not done.
async fn erase(store: &impl Erasures, policies: &PolicyHandle, clock: &dyn Clock) -> Result<()> {
    for (tenant, recipient) in store.erasures().await? {
        let generation = policies.current();
        let region =
            generation.tenant(&tenant).map_or_else(shipped::region, |bundle| Some(bundle.policy().region));
        let done = store.erase(&tenant, &recipient, region, clock.now()).await?;
        if done.erased > 0 {
            tracing::info!(%tenant, erased = done.erased, in_flight = done.in_flight, "an erasure went on");
        }
    }
    Ok(())
}

/// What the tenant's policy keeps; one without a policy keeps what the shipped one does.
fn keep(policies: &PolicyHandle, tenant: &TenantId, now: chrono::DateTime<chrono::Utc>) -> Keep {
    let generation = policies.current();
    let terms = generation.tenant(tenant).map_or_else(shipped::retention, |bundle| bundle.policy().retention);
    Keep::of_days(now, terms.content_days, terms.message_days)
}
