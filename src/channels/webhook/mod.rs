//! Any channel through a server of one's own: one signed POST a message, as Standard Webhooks says
//! (https://www.standardwebhooks.com).
//!
//! At least once: the receiver drops a repeated `webhook-id`, which is the same at every attempt, so that an
//! unknown outcome may be sent again without harm. It reports nothing afterwards and has no list to ask. It
//! goes to the public internet alone, checked on the address that is connected to (reliability.md T33).

mod classify;
mod send;
mod settings;
mod status;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

use self::settings::Target;
pub use self::{
    settings::WebhookSettings,
    status::{StatusHook, StatusHookSettings},
};
use super::{
    Driver, Found, LookUp, Outbound, PrepareError, Prepared,
    http::{Connection, classify::outcome},
};
use crate::{
    domain::{channel::Channel, delivery::Outcome, time::Clock},
    failpoint,
};

/// One receiver.
pub struct Webhook {
    name: String,
    channels: Vec<Channel>,
    target: Arc<Target>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Webhook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Webhook({} at {:?})", self.name, self.target.endpoint)
    }
}

impl Webhook {
    /// Checks the settings and reads the secrets; the refusal says which setting and why.
    pub fn new(name: &str, settings: &WebhookSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let target = Arc::new(Target::new(settings)?);
        let channels = match settings.channels.is_empty() {
            true => Channel::ALL.to_vec(),
            false => settings.channels.clone(),
        };
        Ok(Self { name: name.to_owned(), channels, target, clock })
    }
}

#[async_trait]
impl Driver for Webhook {
    fn name(&self) -> &str {
        &self.name
    }

    fn channels(&self) -> &[Channel] {
        &self.channels
    }

    fn send_timeout_seconds(&self) -> u32 {
        self.target.endpoint.answer_seconds()
    }

    fn credential(&self) -> &str {
        &self.target.credential
    }

    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        let connection = self.target.endpoint.connect().await?;
        let (id, body) = (send::webhook_id(outbound), send::body(outbound, self.clock.now()));
        Ok(Box::new(Ready {
            connection,
            id,
            body,
            target: Arc::clone(&self.target),
            clock: Arc::clone(&self.clock),
        }))
    }

    async fn look_up(&self, _attempt: &LookUp) -> Found {
        Found::CannotTell("a webhook has no list; sent again, it is known by its webhook-id".into())
    }
}

/// The receiver waits for the request.
struct Ready {
    connection: Connection,
    id: String,
    body: String,
    target: Arc<Target>,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Prepared for Ready {
    async fn send(self: Box<Self>) -> Outcome {
        // Signed now and not before: a receiver takes no timestamp older than some minutes.
        let request = match send::signed(&self.target, &self.id, self.body, self.clock.now()) {
            Ok(request) => request,
            Err(outcome) => return outcome,
        };
        let exchange = self.connection.send(request).await;
        let outcome = outcome(&exchange, &classify::AnyAnswer { id: &self.id }, self.clock.now());
        failpoint::hit("send.parsed");
        outcome
    }
}
