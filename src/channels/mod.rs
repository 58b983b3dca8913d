//! Drivers: one provider each, one attempt at a time, classified.
//!
//! A driver never retries, sleeps, falls back or decides. It works in two steps, so that the intent to send is
//! recorded as late as possible: `prepare` does all that cannot deliver anything (resolve, connect, TLS,
//! greeting, envelope), `send` the rest. What comes back from its provider it verifies and reads, and it asks the
//! provider what became of an attempt; what follows from either is not its affair.

pub mod allow_list;
pub mod callback;
pub mod dress;
pub mod exhibit;
pub mod health;
pub mod http;
pub mod meta;
pub mod mime;
pub mod multipart;
pub mod returned;
pub mod sandbox;
pub mod secret;
pub mod settings;
pub mod smtp;
pub mod telegram;
pub mod twilio;
pub mod vonage;
pub mod webhook;

use std::{
    collections::BTreeMap,
    sync::{
        Arc, PoisonError, RwLock,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use crate::domain::{
    address::Address,
    channel::{Channel, PerChannel},
    delivery::{ApprovedTemplate, AttemptError, Outcome},
    ids::{AttemptId, MessageId, TenantId},
    message::{Content, MessageClass},
    money::MicroEuros,
};

/// One message for one address, ready for a driver.
#[derive(Clone, Debug)]
pub struct Outbound {
    pub message: MessageId,
    /// This attempt's own; what must be the same at every attempt (a Message-ID) is made of `message`.
    pub attempt: AttemptId,
    pub attempt_number: u16,
    pub channel: Channel,
    pub to: Address,
    pub to_name: Option<String>,
    pub from: Option<String>,
    pub from_name: Option<String>,
    pub reply_to: Option<String>,
    /// As it is to go on this channel: rendered, tracked.
    pub content: Content,
    pub class: MessageClass,
    pub locale: Option<String>,
    pub tenant: TenantId,
    /// Worth nothing after this moment: a provider that queues is told so.
    pub deadline: DateTime<Utc>,
    /// Where the provider is to report on this attempt, our token included; none without a public listener.
    pub status_callback: Option<String>,
    /// What names this attempt, signed, in the address that mail about it comes back to; none: such mail is not read.
    pub return_token: Option<String>,
    /// The one-click address of RFC 8058, for the mails that carry one.
    pub unsubscribe: Option<String>,
    /// A template that the provider approved (WhatsApp), to be used where free text may not be.
    pub approved_template: Option<ApprovedTemplate>,
    /// The person wrote to this sender within the last 24 hours: WhatsApp takes free text only then.
    pub in_service_window: bool,
}

/// An attempt whose outcome is unknown, to be looked for at its provider.
#[derive(Clone, Debug)]
pub struct LookUp {
    /// As it was sent.
    pub outbound: Outbound,
    pub started_at: DateTime<Utc>,
    pub ended_at: DateTime<Utc>,
}

/// What the provider's own list shows of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Found {
    /// Exactly one message that can only be this attempt.
    Accepted { provider_message_id: String, cost: Option<MicroEuros> },
    /// None. Not a proof: no provider says how fresh its list is.
    Absent,
    /// The provider has no list, did not answer, or shows several: only a receipt can tell.
    CannotTell(String),
}

/// Makes attempts through one provider.
#[async_trait]
pub trait Driver: Send + Sync + std::fmt::Debug {
    /// The name that policies and `orchestrator.toml` use.
    fn name(&self) -> &str;
    fn channels(&self) -> &[Channel];
    /// The longest that `send` can take: leases are longer than this.
    fn send_timeout_seconds(&self) -> u32;
    /// Everything that cannot deliver. A failure here is never unknown.
    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError>;
    /// The credential that it uses: what a circuit breaker and a pause watch. Drivers may share one.
    fn credential(&self) -> &str {
        self.name()
    }
    /// Whether it takes WhatsApp's free text only where the person wrote to its sender within 24 hours, and approved
    /// templates otherwise: decisions keep free text away from it then.
    fn enforces_service_window(&self) -> bool {
        false
    }
    /// The senders behind which the provider writes from this number (messaging services): whoever says STOP to the
    /// number says it to them.
    fn services_of(&self, _number: &str) -> Vec<String> {
        Vec::new()
    }
    /// Asks the provider what became of an attempt. One call, no retry.
    async fn look_up(&self, _attempt: &LookUp) -> Found {
        Found::CannotTell("the provider has no list to ask".into())
    }
    /// Verifies and reads what its provider calls us with; none where it never calls.
    fn callbacks(&self) -> Option<&dyn callback::Callbacks> {
        None
    }
}

/// An attempt that only lacks its last step.
#[async_trait]
pub trait Prepared: Send {
    /// The last step, and what it came to. Called once the intent is recorded.
    async fn send(self: Box<Self>) -> Outcome;
}

/// Why an attempt ended before anything could have been delivered.
#[derive(Clone, Debug, PartialEq)]
pub struct PrepareError {
    pub error: AttemptError,
    pub retry_after_seconds: Option<u32>,
}

/// The drivers that the operator configured, by name.
#[derive(Clone, Debug, Default)]
pub struct Drivers {
    by_name: BTreeMap<String, Arc<dyn Driver>>,
    /// Which channels have a driver at all.
    served: PerChannel<bool>,
    /// Any of them enforces the service window: where none does, no decision asks.
    any_window: bool,
    health: Option<Arc<dyn health::Health>>,
    /// Those that an operator paused, with the reason, as far as this process knows.
    paused: Arc<RwLock<BTreeMap<String, String>>>,
    any_paused: Arc<AtomicBool>,
}

impl Drivers {
    pub fn new(drivers: impl IntoIterator<Item = Arc<dyn Driver>>) -> Self {
        let by_name: BTreeMap<_, _> = drivers.into_iter().map(|d| (d.name().to_owned(), d)).collect();
        let serves = |channel| by_name.values().any(|d: &Arc<dyn Driver>| d.channels().contains(&channel));
        let served = PerChannel::from_fn(serves);
        let any_window = by_name.values().any(|driver| driver.enforces_service_window());
        Self { by_name, served, any_window, ..Self::default() }
    }

    /// The same, with whoever knows which of them can be used now.
    pub fn with_health(self, health: Arc<dyn health::Health>) -> Self {
        Self { health: Some(health), ..self }
    }

    /// Every driver, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Driver>> {
        self.by_name.values()
    }

    pub fn get(&self, name: &str) -> Option<&Arc<dyn Driver>> {
        self.by_name.get(name)
    }

    /// The drivers for a channel: those named, in that order, else all that serve it, in order of name, the
    /// sandbox last.
    pub fn for_channel(&self, channel: Channel, named: &[String]) -> Vec<&Arc<dyn Driver>> {
        let serves = |d: &&Arc<dyn Driver>| d.channels().contains(&channel);
        if !named.is_empty() {
            return named.iter().filter_map(|name| self.by_name.get(name)).filter(serves).collect();
        }
        let (mut sandbox, mut real): (Vec<_>, Vec<_>) =
            self.by_name.values().filter(serves).partition(|d| d.name() == "sandbox");
        if real.is_empty() {
            real.append(&mut sandbox);
        }
        real
    }

    /// Whether every driver of this channel takes free text only within 24 hours of the person's last message. Asked
    /// with every decision: without such a driver it is known at once.
    pub fn enforce_service_window(&self, channel: Channel, named: &[String]) -> bool {
        self.any_window && channel == Channel::WhatsApp && {
            let found = self.for_channel(channel, named);
            !found.is_empty() && found.iter().all(|driver| driver.enforces_service_window())
        }
    }

    /// Whether one of a channel's drivers can be used now by this sender: what `for_channel` and `paused` come to
    /// where there is nothing to tell. Asked with every decision.
    pub fn is_ready(
        &self,
        channel: Channel,
        named: &[String],
        sender: Option<&str>,
        now: impl FnOnce() -> DateTime<Utc>,
    ) -> bool {
        if named.is_empty() && self.is_quiet() {
            return self.served[channel];
        }
        let now = now();
        let serves = |d: &&Arc<dyn Driver>| d.channels().contains(&channel);
        let well = |d: &Arc<dyn Driver>| {
            let health = self.health.as_ref();
            self.why_paused(d.name()).is_none()
                && health.is_none_or(|health| health.down(d.credential(), sender, now).is_none())
        };
        if !named.is_empty() {
            return named.iter().filter_map(|name| self.by_name.get(name)).filter(serves).any(well);
        }
        let mut real = self.by_name.values().filter(serves).filter(|d| d.name() != "sandbox").peekable();
        if real.peek().is_some() {
            return real.any(well);
        }
        self.by_name.get("sandbox").filter(serves).is_some_and(well)
    }

    /// Why none of a channel's drivers can be used now by this sender, in words; none where one can, or where the
    /// channel has none at all.
    pub fn down(
        &self,
        channel: Channel,
        named: &[String],
        sender: Option<&str>,
        now: DateTime<Utc>,
    ) -> Option<String> {
        let health = self.health.as_ref()?;
        self.all(channel, named, |driver| health.down(driver.credential(), sender, now))
    }

    /// The same where operators' pauses have a part in it.
    pub fn paused(
        &self,
        channel: Channel,
        named: &[String],
        sender: Option<&str>,
        now: DateTime<Utc>,
    ) -> Option<String> {
        let health = self.health.as_ref();
        self.all(channel, named, |driver| {
            let paused = self.why_paused(driver.name());
            paused.or_else(|| health.and_then(|health| health.down(driver.credential(), sender, now)))
        })
    }

    /// The reasons, where each of a channel's drivers has one.
    fn all(
        &self,
        channel: Channel,
        named: &[String],
        why: impl Fn(&Arc<dyn Driver>) -> Option<String>,
    ) -> Option<String> {
        let found = self.for_channel(channel, named);
        let reasons: Vec<String> = found.iter().map_while(|driver| why(driver)).collect();
        (!reasons.is_empty() && reasons.len() == found.len()).then(|| reasons.join("; "))
    }

    /// What operators have paused now, by name and with the reason: no decision leads there.
    pub fn set_paused(&self, paused: impl IntoIterator<Item = (String, String)>) {
        let mut known = self.paused.write().unwrap_or_else(PoisonError::into_inner);
        *known = paused.into_iter().collect();
        self.any_paused.store(!known.is_empty(), Ordering::Release);
    }

    /// Nothing is paused and nothing is shut.
    fn is_quiet(&self) -> bool {
        !self.any_paused.load(Ordering::Acquire)
            && self.health.as_ref().is_none_or(|health| health.is_quiet())
    }

    fn why_paused(&self, driver: &str) -> Option<String> {
        let paused = self.paused.read().unwrap_or_else(PoisonError::into_inner);
        paused.get(driver).map(|why| format!("{driver} is paused by an operator: {why}"))
    }

    /// Every credential that is shut.
    pub fn shut(&self) -> Vec<health::Shut> {
        self.health.as_ref().map(|health| health.shut()).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A driver in name only.
    #[derive(Debug)]
    struct Named(&'static str, Vec<Channel>);

    #[async_trait]
    impl Driver for Named {
        fn name(&self) -> &str {
            self.0
        }
        fn channels(&self) -> &[Channel] {
            &self.1
        }
        fn send_timeout_seconds(&self) -> u32 {
            1
        }
        async fn prepare(&self, _: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
            unreachable!("nothing is sent here")
        }
    }

    /// Those that are down.
    #[derive(Debug)]
    struct Down(Vec<&'static str>);

    impl health::Health for Down {
        fn is_quiet(&self) -> bool {
            false
        }
        fn down(&self, credential: &str, _: Option<&str>, _: DateTime<Utc>) -> Option<String> {
            self.0.contains(&credential).then(|| format!("{credential} is failing"))
        }
        fn shut(&self) -> Vec<health::Shut> {
            Vec::new()
        }
    }

    #[test]
    fn a_channel_is_ready_where_it_has_a_driver_and_nothing_is_told_of_it() {
        let now = DateTime::<Utc>::UNIX_EPOCH;
        let of = |name: &'static str| match name {
            "sandbox" => Named(name, Channel::ALL.to_vec()),
            "a" => Named(name, vec![Channel::Sms]),
            _ => Named(name, vec![Channel::Sms, Channel::Email]),
        };
        let subsets = |names: [&'static str; 3]| {
            (0..8).map(move |mask| {
                (0..3).filter(|at| mask >> at & 1 == 1).map(|at| names[at]).collect::<Vec<_>>()
            })
        };
        for there in subsets(["a", "b", "sandbox"]) {
            for down in subsets(["a", "b", "sandbox"]) {
                let drivers = Drivers::new(there.iter().map(|name| Arc::new(of(name)) as Arc<dyn Driver>));
                for drivers in [drivers.clone(), drivers.with_health(Arc::new(Down(down.clone())))] {
                    for named in subsets(["b", "a", "nobody"]) {
                        let named: Vec<String> = named.into_iter().map(str::to_owned).collect();
                        for channel in Channel::ALL {
                            let told = drivers.down(channel, &named, None, now);
                            let expected = !drivers.for_channel(channel, &named).is_empty() && told.is_none();
                            let found = drivers.is_ready(channel, &named, None, || now);
                            assert_eq!(found, expected, "{channel} {named:?} of {there:?}, {down:?} down");
                        }
                    }
                }
            }
        }
    }
}
