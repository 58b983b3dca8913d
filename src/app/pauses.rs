//! Tells decisions which drivers operators have paused: what any replica was told, within a second.
//!
//! Only decisions lean on it. Whoever sends looks into the database each time.

use std::{sync::Arc, time::Duration};

use tokio_util::sync::CancellationToken;

use crate::{
    channels::Drivers,
    store::{Operate, Result},
};

const EVERY: Duration = Duration::from_secs(1);

/// Looks once.
pub async fn look(store: &impl Operate, drivers: &Drivers) -> Result<()> {
    drivers.set_paused(store.pauses().await?.of_drivers());
    Ok(())
}

/// Looks until `stop`. While the database is away, what was known last holds.
pub async fn watch(store: Arc<impl Operate + 'static>, drivers: Drivers, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            () = stop.cancelled() => return,
        }
        if let Err(error) = look(&*store, &drivers).await {
            tracing::debug!(%error, "which drivers are paused could not be looked up");
        }
    }
}
