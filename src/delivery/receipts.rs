//! Takes what was verified of providers and people to the store, and answers once it is durable.
//!
//! The public listener answers 200 only after `Ok` (reliability.md F50): an error is a 503, and the provider comes
//! again. Nothing here verifies a signature, and no text or address is logged.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, Utc};
use tokio_util::sync::CancellationToken;

use super::machine::{Standing, after_receipt};
use crate::{
    bell::Bell,
    channels::{Driver, Drivers},
    domain::{
        consent::Meaning,
        delivery::{Next, Status},
        ids::{AttemptId, MessageId, TenantId},
        receipt::{EngagementEvent, InboundMessage, ProviderEvent, ProviderReceipt},
        time::Clock,
    },
    failpoint,
    store::{CalledBack, Engaged, Heard, Received, Result, Store, StoreError, Undelivered},
};

/// How often receipts that wait for their attempt's outcome are looked at again.
const SWEEP_EVERY: Duration = Duration::from_secs(1);

/// Receives what comes back. Clones share everything.
#[derive(Clone)]
pub struct Receiver {
    pub store: Arc<dyn Store>,
    pub drivers: Drivers,
    pub clock: Arc<dyn Clock>,
    pub bell: Arc<Bell>,
}

impl Receiver {
    /// Keeps what one verified callback holds: `tenant` and `attempt` are the URL's, the latter by its token. Returns
    /// once all of it is durable; told again, it changes nothing.
    pub async fn provider_events(
        &self,
        driver: &dyn Driver,
        tenant: &TenantId,
        attempt: Option<AttemptId>,
        events: Vec<ProviderEvent>,
    ) -> Result<()> {
        let from = self.called_back(driver, tenant, attempt);
        for event in events {
            match event {
                ProviderEvent::Receipt(receipt) => self.receipt(&from, &receipt).await?,
                // In their order: of a STOP and a START the later one counts.
                ProviderEvent::Inbound(said) => self.inbound(&from, &said).await?,
                ProviderEvent::Blocked { channel, address, blocked } => {
                    let noted =
                        self.store.note_block(&from, channel, &address, blocked, self.clock.now()).await;
                    passable(noted)?;
                }
            }
        }
        Ok(())
    }

    /// Keeps what was done with a message; whose it is, and whether it was not told before.
    pub async fn engagement(&self, event: &EngagementEvent) -> Result<Engaged> {
        let engaged = self.store.engage(event, self.clock.now()).await?;
        self.bell.ring_outcome(event.message);
        Ok(engaged)
    }

    /// Refuses the tenant's mail to whoever this message's mail went to; false where no such mail is known.
    pub async fn unsubscribe(&self, message: MessageId) -> Result<bool> {
        failpoint::hit("stop.verified");
        let tenant = self.store.unsubscribe(message, self.clock.now()).await?;
        if let Some(tenant) = &tenant {
            tracing::info!(message_id = %message, %tenant, "unsubscribed");
            self.bell.ring_outcome(message);
        }
        Ok(tenant.is_some())
    }

    /// Looks again at receipts that came before their attempt's outcome; how many were applied.
    pub async fn sweep(&self) -> Result<usize> {
        let done = self.store.sweep_orphans(after_undelivered, self.clock.now()).await?;
        done.iter().for_each(|received| self.ring(received));
        Ok(done.len())
    }

    /// Sweeps until `shutdown`. An error says that the process must stop.
    pub async fn run(&self, shutdown: CancellationToken) -> Result<()> {
        loop {
            tokio::select! {
                () = shutdown.cancelled() => return Ok(()),
                () = tokio::time::sleep(SWEEP_EVERY) => {}
            }
            match self.sweep().await {
                Ok(_) => {}
                Err(StoreError::Unavailable(why)) => {
                    tracing::warn!(why, "the database is unavailable: receipts wait");
                }
                Err(StoreError::Corrupt(why)) => tracing::error!(why, "a receipt cannot be matched"),
                Err(fatal) => return Err(fatal),
            }
        }
    }

    fn called_back(&self, driver: &dyn Driver, tenant: &TenantId, attempt: Option<AttemptId>) -> CalledBack {
        let shares = |other: &&Arc<dyn Driver>| other.credential() == driver.credential();
        CalledBack {
            driver: driver.name().to_owned(),
            credential: driver.credential().to_owned(),
            drivers: self.drivers.iter().filter(shares).map(|other| other.name().to_owned()).collect(),
            tenant: tenant.clone(),
            attempt,
            services: Vec::new(),
        }
    }

    pub(super) async fn receipt(&self, from: &CalledBack, receipt: &ProviderReceipt) -> Result<()> {
        failpoint::hit("receipt.verified");
        let received = self.store.receive(from, receipt, after_undelivered, self.clock.now()).await;
        let Some(received) = passable(received)? else { return Ok(()) };
        let (kind, driver, tenant) = (receipt.kind.as_str(), from.driver.as_str(), &from.tenant);
        match &received {
            Received::Applied { message, .. } => {
                tracing::info!(message_id = %message, driver, kind, "receipt");
            }
            Received::Again => tracing::debug!(driver, kind, "a receipt that was told before"),
            Received::Orphan => {
                tracing::info!(%tenant, driver, kind, "a receipt of no attempt that is known yet")
            }
            Received::Nobodys => tracing::info!(%tenant, driver, kind, "a receipt of nothing that is known"),
        }
        self.ring(&received);
        Ok(())
    }

    fn ring(&self, received: &Received) {
        if let Received::Applied { message, due } = received {
            self.bell.ring_outcome(*message);
            if *due {
                self.bell.ring_due();
            }
        }
    }

    async fn inbound(&self, from: &CalledBack, said: &InboundMessage) -> Result<()> {
        failpoint::hit("stop.verified");
        // Whoever shares the number shares the refusal, also where another driver knows of it.
        let services = self.drivers.iter().flat_map(|driver| driver.services_of(&said.to)).collect();
        let from = &CalledBack { services, ..from.clone() };
        let Some(heard) = passable(self.store.hear(from, said, self.clock.now()).await)? else {
            return Ok(());
        };
        let Heard::New { meaning, answers } = heard else { return Ok(()) };
        let (channel, tenant) = (said.channel, &from.tenant);
        match meaning {
            Meaning::Stop => tracing::info!(%channel, %tenant, "an opt-out was recorded"),
            Meaning::NearStop => {
                tracing::warn!(%channel, %tenant, "an opt-out in other words was recorded: to be reviewed");
            }
            Meaning::Start => tracing::info!(%channel, %tenant, "an opt-out was taken back"),
            Meaning::Other => tracing::info!(%channel, %tenant, "a message came in"),
        }
        if let Some(message) = answers {
            self.bell.ring_outcome(message);
        }
        Ok(())
    }
}

/// What follows where a receipt says that the message's last attempt did not arrive (`machine::after_receipt`).
pub fn after_undelivered(undelivered: &Undelivered<'_>, now: DateTime<Utc>) -> Option<Next> {
    let standing = Standing {
        plan: undelivered.plan,
        hop: undelivered.hop,
        attempts: undelivered.attempts,
        attempts_on_hop: undelivered.attempts_on_hop,
        resend_used: undelivered.resend_used,
        last: None,
        escalated: undelivered.escalated,
    };
    after_receipt(&standing, Status::Sent, undelivered.error, now)
}

/// What does not read back cannot be mended by asking the provider to come again: it is told in the log.
fn passable<T>(result: Result<T>) -> Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(StoreError::Corrupt(why)) => {
            tracing::error!(why, "what a provider told cannot be kept");
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
