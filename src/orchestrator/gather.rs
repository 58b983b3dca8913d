//! What a decision may know beyond its request: the store's facts about person and tenant, and the drivers' health.
//!
//! Out of memory where that has all of it, else from the store. Read once, for one instant; what no policy, channel or
//! driver asks for is not read at all. Nothing is judged here.

use std::cell::LazyCell;

use chrono::{DateTime, Utc};

use super::Orchestrator;
use crate::{
    domain::{
        address::{Address, Contact},
        channel::{Channel, PerChannel},
        facts::{DriverHealth, Facts, SentLately},
        ids::{RecipientId, TenantId},
        message::{MessageKind, MessageRequest, Origin},
        time::Moment,
    },
    policy::{bundle::Bundle, settings::TenantPolicy},
    store::{Asking, KnownFacts, Remembered, StoreError},
};

/// Whom facts are read about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub tenant: &'a TenantId,
    pub recipient: &'a RecipientId,
    pub kind: Option<MessageKind>,
    pub origin: Origin,
    pub send_at: Option<DateTime<Utc>>,
}

impl<'a> About<'a> {
    pub fn of(request: &'a MessageRequest) -> Self {
        let MessageRequest { tenant, recipient, kind, origin, send_at, .. } = request;
        Self { tenant, recipient, kind: *kind, origin: *origin, send_at: *send_at }
    }

    /// When the message would go.
    fn goes_at(&self, at: DateTime<Utc>) -> DateTime<Utc> {
        self.send_at.map_or(at, |send_at| send_at.max(at))
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
        let at_hand = PerChannel::from_fn(|channel| contacts[channel].address().map(Address::as_str));
        if let Some(facts) = self.facts_at_hand(bundle, about, at_hand, at) {
            return Ok(facts);
        }
        let policy = bundle.policy();
        let addresses = PerChannel::from_fn(|c| contacts[c].address().cloned());
        let senders = PerChannel::from_fn(|c| policy.channels[c].from.clone());
        let day = Moment::of(at, policy.time_zone).local.date();
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
        let in_service_window = self.service_windows(policy, about, &addresses, at).await?;
        let drivers = self.driver_health(bundle);
        let KnownFacts { suppressed, spend } = known;
        Ok(Facts { history, suppressed, opted_in, in_service_window, spend, sent_lately, drivers })
    }

    /// The same out of memory, at once; none where the store has to look at a table.
    pub(super) fn facts_at_hand(
        &self,
        bundle: &Bundle,
        about: About<'_>,
        addresses: PerChannel<Option<&str>>,
        at: DateTime<Utc>,
    ) -> Option<Facts> {
        let policy = bundle.policy();
        let asked = Asking {
            tenant: about.tenant,
            recipient: about.recipient,
            addresses,
            kind: about.kind,
            origin: about.origin,
            at,
            day: Moment::of(at, policy.time_zone).local.date(),
            sent_lately: policy.caps.binds(about.kind),
            opt_ins: policy.consent.opt_in_recorded,
            windows: self.windows(policy),
            goes_at: about.goes_at(at),
        };
        let Remembered { spend, history, sent_lately, opted_in, in_service_window } =
            self.store.remembered(&asked)?;
        let (suppressed, drivers) = (PerChannel::default(), self.driver_health(bundle));
        Some(Facts { history, suppressed, opted_in, in_service_window, spend, sent_lately, drivers })
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

    /// Where drivers take free text only within 24 hours of the person's last message to it: the sender.
    fn windows<'p>(&self, policy: &'p TenantPolicy) -> PerChannel<Option<Option<&'p str>>> {
        PerChannel::from_fn(|channel| {
            let terms = &policy.channels[channel];
            let enforced = self.drivers.enforce_service_window(channel, &terms.drivers);
            enforced.then_some(terms.from.as_deref())
        })
    }

    /// Whether that will be so when the message goes.
    async fn service_windows(
        &self,
        policy: &TenantPolicy,
        about: About<'_>,
        addresses: &PerChannel<Option<Address>>,
        at: DateTime<Utc>,
    ) -> Result<PerChannel<Option<bool>>, StoreError> {
        let mut found = PerChannel::default();
        let goes_at = about.goes_at(at);
        for (channel, sender) in self.windows(policy).iter() {
            let (Some(sender), Some(address)) = (*sender, &addresses[channel]) else { continue };
            let open = self.store.in_service_window(about.tenant, channel, address, sender, goes_at).await?;
            found[channel] = Some(open);
        }
        Ok(found)
    }

    /// The facts as they were without operators' pauses; none where there is no pause. A pause makes way for other
    /// channels, and where there is none, the message waits for its end.
    pub(super) fn without_pauses(&self, bundle: &Bundle, facts: &Facts) -> Option<Facts> {
        let (policy, now) = (bundle.policy(), self.clock.now());
        let mut lenient = facts.clone();
        let mut any = false;
        for channel in Channel::ALL {
            let terms = &policy.channels[channel];
            let (named, from) = (&terms.drivers, terms.from.as_deref());
            let paused = self.drivers.paused(channel, named, from, now);
            if paused.is_some() && self.drivers.down(channel, named, from, now).is_none() {
                any = true;
                lenient.drivers[channel] = DriverHealth { configured: true, healthy: true, detail: None };
            }
        }
        any.then_some(lenient)
    }
}
