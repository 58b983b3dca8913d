//! SMS through Vonage's SMS API (`/sms/json`): the second provider, for when the first is down.
//!
//! This and not Vonage's newer Messages API: a key and a secret suffice, every error has its documented number,
//! and the callback URL and our own reference go with each message and come back in its receipt. It has no list
//! to ask, so that an unknown outcome is settled by a receipt alone.

mod callbacks;
mod classify;
mod send;
mod settings;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use self::settings::{SignatureMethod, VonageSettings};
use self::{classify::Statuses, settings::Account};
use super::{
    Driver, Found, LookUp, Outbound, PrepareError, Prepared,
    callback::Callbacks,
    http::{Connection, Request, classify::outcome},
};
use crate::{
    domain::{channel::Channel, delivery::Outcome, time::Clock},
    failpoint,
};

/// One Vonage account.
pub struct Vonage {
    name: String,
    account: Account,
    settings: VonageSettings,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Vonage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Vonage({} at {:?})", self.name, self.account.endpoint)
    }
}

impl Vonage {
    /// Checks the settings and reads the secrets; the refusal says which setting and why.
    pub fn new(name: &str, settings: &VonageSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let account = Account::new(settings)?;
        Ok(Self { name: name.to_owned(), account, settings: settings.clone(), clock })
    }
}

#[async_trait]
impl Driver for Vonage {
    fn name(&self) -> &str {
        &self.name
    }

    fn channels(&self) -> &[Channel] {
        &[Channel::Sms]
    }

    fn send_timeout_seconds(&self) -> u32 {
        self.account.endpoint.answer_seconds()
    }

    fn credential(&self) -> &str {
        &self.account.credential
    }

    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        let (request, statuses) = send::request(self, outbound, self.clock.now())?;
        let connection = self.account.endpoint.connect().await?;
        Ok(Box::new(Ready { connection, request, statuses, clock: Arc::clone(&self.clock) }))
    }

    async fn look_up(&self, _attempt: &LookUp) -> Found {
        Found::CannotTell("Vonage's SMS API has no list: only a delivery receipt can tell".into())
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        let believed = !self.account.signature_secrets.is_empty();
        believed.then_some(self as &dyn Callbacks)
    }
}

/// Vonage waits for the request.
struct Ready {
    connection: Connection,
    request: Request,
    statuses: Statuses,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Prepared for Ready {
    async fn send(self: Box<Self>) -> Outcome {
        let exchange = self.connection.send(self.request).await;
        let outcome = outcome(&exchange, &self.statuses, self.clock.now());
        failpoint::hit("send.parsed");
        outcome
    }
}
