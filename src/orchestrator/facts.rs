//! Gathering what a decision is told beside its request: out of memory where that has all of it, else from the store.
//!
//! It reads and decides nothing of it: what a refusal, a sum or a driver that is down means is `decide`'s affair.

use std::cell::LazyCell;

use chrono::{DateTime, Utc};

use super::Orchestrator;
use crate::{
    domain::{
        address::{Address, Contact},
        channel::PerChannel,
        facts::{DriverHealth, Facts, SentLately},
        ids::{RecipientId, TenantId},
        message::{MessageKind, MessageRequest, Origin},
    },
    policy::bundle::Bundle,
    store::{Asking, KnownFacts, Remembered, StoreError},
};

/// Whom facts are read about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) recipient: &'a RecipientId,
    pub(super) kind: Option<MessageKind>,
    pub(super) origin: Origin,
}

impl<'a> About<'a> {
    pub(super) fn of(request: &'a MessageRequest) -> Self {
        let MessageRequest { tenant, recipient, kind, origin, .. } = request;
        Self { tenant, recipient, kind: *kind, origin: *origin }
    }
}

impl Orchestrator {
    /// What the store knows of these addresses and of the tenant's money, and which channels have a driver.
    pub(super) async fn facts(
        &self,
        bundle: &Bundle,
        about: About<'_>,
        contacts: &PerChannel<Contact>,
        at: DateTime<Utc>,
    ) -> Result<Facts, StoreError> {
        if let Some(facts) = self.facts_at_hand(bundle, about, contacts, at) {
            return Ok(facts);
        }
        let policy = bundle.policy();
        let addresses = PerChannel::from_fn(|c| contacts[c].address().cloned());
        let senders = PerChannel::from_fn(|c| policy.channels[c].from.clone());
        let day = at.with_timezone(&policy.time_zone).date_naive();
        let known = self.store.known_facts(about.tenant, &addresses, &senders, about.origin, day).await?;
        let sent_lately = match policy.caps.binds(about.kind) {
            true => self.store.sent_lately(about.tenant, about.recipient, about.kind, at).await?,
            false => SentLately::default(),
        };
        let history = self.store.history(about.tenant, about.recipient, at).await?;
        let opted_in = match policy.consent.opt_in_recorded {
            true => self.store.opt_ins(about.tenant, &addresses).await?,
            false => PerChannel::default(),
        };
        let drivers = self.driver_health(bundle);
        let KnownFacts { suppressed, spend } = known;
        Ok(Facts { history, suppressed, opted_in, spend, sent_lately, drivers })
    }

    /// The same out of memory, at once; none where the store has to look at a table.
    pub(super) fn facts_at_hand(
        &self,
        bundle: &Bundle,
        about: About<'_>,
        contacts: &PerChannel<Contact>,
        at: DateTime<Utc>,
    ) -> Option<Facts> {
        let policy = bundle.policy();
        let asked = Asking {
            tenant: about.tenant,
            recipient: about.recipient,
            addresses: PerChannel::from_fn(|channel| contacts[channel].address().map(Address::as_str)),
            kind: about.kind,
            origin: about.origin,
            at,
            day: at.with_timezone(&policy.time_zone).date_naive(),
            sent_lately: policy.caps.binds(about.kind),
            opt_ins: policy.consent.opt_in_recorded,
        };
        let Remembered { spend, history, sent_lately, opted_in } = self.store.remembered(&asked)?;
        let (suppressed, drivers) = (PerChannel::default(), self.driver_health(bundle));
        Some(Facts { history, suppressed, opted_in, spend, sent_lately, drivers })
    }

    /// Which channels have a driver that can send now.
    fn driver_health(&self, bundle: &Bundle) -> PerChannel<DriverHealth> {
        let (policy, now) = (bundle.policy(), LazyCell::new(|| self.clock.now()));
        PerChannel::from_fn(|channel| {
            let terms = &policy.channels[channel];
            let (named, from) = (&terms.drivers, terms.from.as_deref());
            if self.drivers.is_ready(channel, named, from, || *now) {
                return DriverHealth::default();
            }
            let configured = !self.drivers.for_channel(channel, named).is_empty();
            let missing = (!configured).then(|| match named.as_slice() {
                [] => format!("no driver is configured for {channel}"),
                named => format!("no driver of these is configured for {channel}: {}", named.join(", ")),
            });
            let down = self.drivers.down(channel, named, from, *now);
            let down = down.or_else(|| self.drivers.paused(channel, named, from, *now));
            DriverHealth { configured, healthy: configured && down.is_none(), detail: missing.or(down) }
        })
    }
}
