//! Drivers: one provider each, one attempt at a time, classified.
//!
//! A driver never retries, sleeps, falls back or decides. It works in two steps, so that the intent to send is
//! recorded as late as possible: `prepare` does all that cannot deliver anything (resolve, connect, TLS,
//! greeting, envelope), `send` the rest.

pub mod allow_list;
pub mod mime;
pub mod sandbox;
pub mod secret;
pub mod settings;
pub mod smtp;

use std::{collections::BTreeMap, sync::Arc};

use async_trait::async_trait;

use crate::domain::{
    address::Address,
    channel::Channel,
    delivery::{AttemptError, Outcome},
    ids::{AttemptId, MessageId},
    message::{Content, MessageClass},
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
    pub content: Content,
    pub class: MessageClass,
    pub locale: Option<String>,
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
pub struct Drivers(BTreeMap<String, Arc<dyn Driver>>);

impl Drivers {
    pub fn new(drivers: impl IntoIterator<Item = Arc<dyn Driver>>) -> Self {
        Self(drivers.into_iter().map(|d| (d.name().to_owned(), d)).collect())
    }

    /// Every driver, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Driver>> {
        self.0.values()
    }

    pub fn get(&self, name: &str) -> Option<&Arc<dyn Driver>> {
        self.0.get(name)
    }

    /// The drivers for a channel: those named, in that order, else all that serve it, in order of name, the
    /// sandbox last.
    pub fn for_channel(&self, channel: Channel, named: &[String]) -> Vec<&Arc<dyn Driver>> {
        let serves = |d: &&Arc<dyn Driver>| d.channels().contains(&channel);
        if !named.is_empty() {
            return named.iter().filter_map(|name| self.0.get(name)).filter(serves).collect();
        }
        let (mut sandbox, mut real): (Vec<_>, Vec<_>) =
            self.0.values().filter(serves).partition(|d| d.name() == "sandbox");
        if real.is_empty() {
            real.append(&mut sandbox);
        }
        real
    }
}
