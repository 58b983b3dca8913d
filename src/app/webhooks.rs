//! Tells tenants what becomes of their messages: signed, in order as well as it goes, again until it is taken.
//!
//! It never slows a message: the events are in the database already, and a tenant whose server is slow or away keeps only
//! its own waiting. At least once: a repeat has the same `webhook-id`. What nobody took in 17 hours is given up.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, SecondsFormat, TimeDelta, Utc};
use serde_json::json;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    channels::webhook::{StatusHook, StatusHookSettings},
    config::Config,
    domain::{ids::TenantId, time::Clock},
    policy::diagnostic::Diagnostic,
    store::{Result, StoreError, ToTell, Webhooks},
};

/// How often what is due is looked for, where nothing was found.
const EVERY: Duration = Duration::from_secs(1);
/// Events taken at once, and tenants told at once.
const BATCH: u32 = 64;
const AT_ONCE: usize = 32;
/// Seconds after each telling in vain; after the last one it is given up.
const AGAIN: [i64; 6] = [5, 300, 1_800, 7_200, 18_000, 36_000];
/// Whoever took events and was killed leaves them for this long.
const CLAIMED: TimeDelta = TimeDelta::minutes(10);
/// What is not begun by then is left to the next round, before others could take it.
const BEGUN_WITHIN: TimeDelta = TimeDelta::minutes(5);

/// Each tenant's own.
pub type Hooks = BTreeMap<TenantId, Arc<StatusHook>>;

/// Makes them of `[webhooks.TENANT]`, or says all that is wrong.
pub fn make(config: &Config) -> Result<Hooks, Vec<Diagnostic>> {
    let (mut hooks, mut faults) = (Hooks::new(), Vec::new());
    for section in &config.webhooks {
        let made = TenantId::parse(&section.name).map_err(|error| error.to_string()).and_then(|tenant| {
            let settings: StatusHookSettings = toml::Value::Table(section.table.clone())
                .try_into()
                .map_err(|error: toml::de::Error| error.message().to_owned())?;
            Ok((tenant, Arc::new(StatusHook::new(settings)?)))
        });
        match made {
            Ok((tenant, hook)) => drop(hooks.insert(tenant, hook)),
            Err(why) => {
                faults.push(section.fault(None, "webhook", format!("[webhooks.{}]: {why}", section.name)));
            }
        }
    }
    if faults.is_empty() { Ok(hooks) } else { Err(faults) }
}

/// Tells until `stop`.
pub async fn tell(
    store: Arc<impl Webhooks + 'static>,
    hooks: Hooks,
    clock: Arc<dyn Clock>,
    stop: CancellationToken,
) {
    if hooks.is_empty() {
        return;
    }
    let mut busy = BTreeSet::new();
    let mut telling: JoinSet<TenantId> = JoinSet::new();
    loop {
        let room = telling.len() < AT_ONCE;
        let found = if room { claim(&*store, &busy, &*clock).await } else { Vec::new() };
        let mut by_tenant: BTreeMap<TenantId, Vec<ToTell>> = BTreeMap::new();
        for event in found {
            by_tenant.entry(event.tenant.clone()).or_default().push(event);
        }
        let idle = by_tenant.is_empty();
        for (tenant, events) in by_tenant {
            let Some(hook) = hooks.get(&tenant).cloned() else { continue };
            busy.insert(tenant.clone());
            let (store, clock) = (Arc::clone(&store), Arc::clone(&clock));
            telling.spawn(async move {
                if let Err(error) = to_one(&*store, &hook, &*clock, events).await {
                    tracing::warn!(%tenant, %error, "what was told could not be noted: it is told again");
                }
                tenant
            });
        }
        tokio::select! {
            () = stop.cancelled() => return,
            Some(ended) = telling.join_next() => match ended {
                Ok(tenant) => drop(busy.remove(&tenant)),
                // Whose it was is not known: nobody stays shut out for it.
                Err(_) => busy.clear(),
            },
            () = tokio::time::sleep(EVERY), if idle => {}
        }
    }
}

async fn claim(store: &impl Webhooks, busy: &BTreeSet<TenantId>, clock: &dyn Clock) -> Vec<ToTell> {
    let busy: Vec<TenantId> = busy.iter().cloned().collect();
    let now = clock.now();
    match store.claim_events(&busy, now, now + CLAIMED, BATCH).await {
        Ok(found) => found,
        Err(StoreError::Unavailable(_)) => Vec::new(),
        Err(error) => {
            tracing::warn!(%error, "events for webhooks could not be read");
            Vec::new()
        }
    }
}

/// Tells one tenant its events in order; after one in vain the rest waits as well.
async fn to_one(
    store: &impl Webhooks,
    hook: &StatusHook,
    clock: &dyn Clock,
    events: Vec<ToTell>,
) -> Result<()> {
    let (mut away, began) = (None, clock.now());
    for event in events {
        if away.is_none() && clock.now() - began > BEGUN_WITHIN {
            away = Some(clock.now());
        }
        if let Some(until) = away {
            store.event_untold(&event, Some(until), event.tries).await?;
            continue;
        }
        let now = clock.now();
        match hook.tell(&webhook_id(&event), body(&event), now).await {
            Ok(()) => store.event_told(&event).await?,
            Err(why) => {
                let again_at = again_at(event.tries, clock.now());
                away = Some(again_at.unwrap_or(now));
                store.event_untold(&event, again_at, event.tries + 1).await?;
                let (tenant, message_id) = (&event.tenant, event.message);
                match again_at {
                    Some(_) => {
                        tracing::info!(%tenant, %message_id, why, "a webhook was not taken: told again")
                    }
                    None => tracing::warn!(%tenant, %message_id, why, "a webhook was given up"),
                }
            }
        }
    }
    Ok(())
}

/// When it is told again; none: it is given up.
fn again_at(tries: u32, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
    AGAIN.get(usize::try_from(tries).unwrap_or(usize::MAX)).map(|seconds| now + TimeDelta::seconds(*seconds))
}

/// The same at every try.
fn webhook_id(event: &ToTell) -> String {
    format!("{}_{}", event.message, event.seq)
}

fn body(event: &ToTell) -> String {
    json!({
        "type": format!("message.{}", event.event),
        "timestamp": event.at.to_rfc3339_opts(SecondsFormat::Millis, true),
        "data": {
            "messageId": event.message,
            "tenantId": event.tenant.as_str(),
            "prospectId": event.recipient,
            "event": event.event,
            "status": event.status.as_str(),
            "sentVia": event.sent_via,
        },
    })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_again_ever_more_seldom_and_then_given_up() {
        let now = DateTime::UNIX_EPOCH;
        let after: Vec<Option<i64>> =
            (0..7).map(|tries| again_at(tries, now).map(|at| (at - now).num_seconds())).collect();
        assert_eq!(after, [Some(5), Some(300), Some(1800), Some(7200), Some(18_000), Some(36_000), None]);
    }
}
