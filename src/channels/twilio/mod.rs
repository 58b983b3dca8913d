//! SMS and WhatsApp through Twilio's Messages API (2010-04-01).
//!
//! One POST creates one message; Twilio's call is not idempotent, so that whatever is not a complete answer is
//! unknown and only a callback or the list can settle it. It hosts no files: what has an attachment is refused.

mod callbacks;
mod classify;
mod look_up;
mod send;
mod settings;

use std::{fmt, sync::Arc};

use async_trait::async_trait;

pub use self::settings::TwilioSettings;
use self::{classify::Codes, settings::Account};
use super::{
    Driver, Found, LookUp, Outbound, PrepareError, Prepared,
    callback::Callbacks,
    http::{Connection, Request, classify::outcome},
};
use crate::{
    domain::{channel::Channel, consent::sender_key, delivery::Outcome, time::Clock},
    failpoint,
};

/// Which of Twilio's channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Sms,
    WhatsApp,
}

impl Kind {
    const fn channel(self) -> Channel {
        match self {
            Kind::Sms => Channel::Sms,
            Kind::WhatsApp => Channel::WhatsApp,
        }
    }

    /// What stands before an address of this channel.
    const fn prefix(self) -> &'static str {
        match self {
            Kind::Sms => "",
            Kind::WhatsApp => "whatsapp:",
        }
    }
}

/// One Twilio account on one channel.
pub struct Twilio {
    name: String,
    kind: Kind,
    account: Account,
    settings: TwilioSettings,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Twilio {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Twilio({}, {:?} at {:?})", self.name, self.kind, self.account.endpoint)
    }
}

impl Twilio {
    /// Checks the settings and reads the secrets; the refusal says which setting and why.
    pub fn new(
        name: &str,
        kind: Kind,
        settings: &TwilioSettings,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let account = Account::new(kind, settings)?;
        Ok(Self { name: name.to_owned(), kind, account, settings: settings.clone(), clock })
    }
}

#[async_trait]
impl Driver for Twilio {
    fn name(&self) -> &str {
        &self.name
    }

    fn channels(&self) -> &[Channel] {
        match self.kind {
            Kind::Sms => &[Channel::Sms],
            Kind::WhatsApp => &[Channel::WhatsApp],
        }
    }

    fn send_timeout_seconds(&self) -> u32 {
        self.account.endpoint.answer_seconds()
    }

    fn credential(&self) -> &str {
        &self.account.credential
    }

    fn enforces_service_window(&self) -> bool {
        self.kind == Kind::WhatsApp && !self.settings.free_text_anytime
    }

    fn services_of(&self, number: &str) -> Vec<String> {
        let channel = self.kind.channel();
        let wanted = sender_key(channel, number);
        let holds = |numbers: &Vec<String>| numbers.iter().any(|one| sender_key(channel, one) == wanted);
        let found = self.settings.services.iter().filter(|(_, numbers)| holds(numbers));
        found.map(|(service, _)| service.clone()).collect()
    }

    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        let (request, codes) = send::request(self, outbound, self.clock.now())?;
        let connection = self.account.endpoint.connect().await?;
        Ok(Box::new(Ready { connection, request, codes, clock: Arc::clone(&self.clock) }))
    }

    async fn look_up(&self, attempt: &LookUp) -> Found {
        look_up::look_up(self, attempt).await
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        let believed = !self.account.auth_tokens.is_empty();
        believed.then_some(self as &dyn Callbacks)
    }
}

/// Twilio waits for the request.
struct Ready {
    connection: Connection,
    request: Request,
    codes: Codes,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Prepared for Ready {
    async fn send(self: Box<Self>) -> Outcome {
        let exchange = self.connection.send(self.request).await;
        let outcome = outcome(&exchange, &self.codes, self.clock.now());
        failpoint::hit("send.parsed");
        outcome
    }
}
