//! Telegram through the Bot API: one bot, one message, one attempt.
//!
//! `prepare` writes the request and connects; `send` makes the one call. The API has neither an idempotency key
//! nor a list of what was sent, so that an unknown outcome stays one; the token stands in the path and is shown
//! nowhere.

mod callback;
mod classify;
mod request;

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use hyper::{
    Method,
    header::{CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use self::{callback::Webhook, classify::ToMessage, request::Options};
use super::{
    Driver, Outbound, PrepareError, Prepared,
    callback::Callbacks,
    http::{
        Connection, Endpoint, EndpointOptions, HttpTimeouts, Request, classify::outcome,
        signature::credential_name,
    },
    secret::SecretRef,
};
use crate::domain::{
    channel::Channel,
    delivery::{ErrorClass, Outcome},
    time::Clock,
};

/// The longest secret that Telegram takes for a webhook.
const WEBHOOK_SECRET_MAX: usize = 256;

/// One bot.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TelegramSettings {
    /// The bot's token, from @BotFather. Its number, which is no secret, is part of the messages' names.
    pub token: SecretRef,
    /// The `secret_token` that the webhook was set with; without it no callback is taken.
    #[serde(default)]
    pub webhook_secret: Option<SecretRef>,
    /// The secret before, while it is being changed.
    #[serde(default)]
    pub webhook_secret_previous: Option<SecretRef>,
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Shows a preview of a text's first link.
    #[serde(default)]
    pub link_previews: bool,
    /// Keeps messages from being forwarded and saved.
    #[serde(default)]
    pub protect_content: bool,
    /// Trusts these certificate authorities (PEM) besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub timeouts: HttpTimeouts,
}

fn base_url() -> String {
    "https://api.telegram.org".into()
}

/// A bot, ready to write.
pub struct Telegram {
    name: String,
    credential: String,
    endpoint: Endpoint,
    bot: String,
    token: SecretString,
    options: Options,
    webhook: Option<Webhook>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Telegram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Telegram({} at {:?})", self.name, self.endpoint)
    }
}

impl Telegram {
    /// Checks the settings and reads the secrets; the refusal says which setting and why.
    pub fn new(name: &str, settings: &TelegramSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let endpoint = Endpoint::new(
            &settings.base_url,
            EndpointOptions {
                ca_file: settings.ca_file.as_deref(),
                timeouts: settings.timeouts,
                ..EndpointOptions::default()
            },
        )?;
        let token = settings.token.read().map_err(|e| format!("token: {e}"))?;
        let bot = bot_id(token.expose_secret())
            .ok_or("token: not a bot's token, which is its number, a colon and letters: 123456:ABC…")?
            .to_owned();
        Ok(Self {
            name: name.to_owned(),
            credential: credential_name("telegram", &bot),
            endpoint,
            token,
            options: Options {
                link_previews: settings.link_previews,
                protect_content: settings.protect_content,
            },
            webhook: webhook(&bot, settings)?,
            bot,
            clock,
        })
    }
}

/// The bot's id in its token, where the token is one: it goes into a path, so that nothing else may.
fn bot_id(token: &str) -> Option<&str> {
    let (id, secret) = token.split_once(':')?;
    let good = (1..=20).contains(&id.len())
        && id.bytes().all(|b| b.is_ascii_digit())
        && (1..=128).contains(&secret.len())
        && secret.bytes().all(is_token_byte);
    good.then_some(id)
}

fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'-'
}

fn webhook(bot: &str, settings: &TelegramSettings) -> Result<Option<Webhook>, String> {
    let Some(current) = &settings.webhook_secret else {
        if settings.webhook_secret_previous.is_some() {
            return Err("webhook_secret is missing: webhook_secret_previous is only for changing it".into());
        }
        return Ok(None);
    };
    let mut secrets = Vec::new();
    let both = [
        ("webhook_secret", Some(current)),
        ("webhook_secret_previous", settings.webhook_secret_previous.as_ref()),
    ];
    for (key, reference) in both {
        let Some(reference) = reference else { continue };
        let secret = reference.read().map_err(|e| format!("{key}: {e}"))?;
        let text = secret.expose_secret();
        if text.len() > WEBHOOK_SECRET_MAX || !text.bytes().all(is_token_byte) {
            return Err(format!(
                "{key}: Telegram takes 1 to {WEBHOOK_SECRET_MAX} letters, digits, `_` and `-` as secret_token"
            ));
        }
        secrets.push(secret);
    }
    Ok(Some(Webhook::new(bot, secrets)))
}

#[async_trait]
impl Driver for Telegram {
    fn name(&self) -> &str {
        &self.name
    }

    fn credential(&self) -> &str {
        &self.credential
    }

    fn channels(&self) -> &[Channel] {
        &[Channel::Telegram]
    }

    fn send_timeout_seconds(&self) -> u32 {
        self.endpoint.answer_seconds()
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        self.webhook.as_ref().map(|webhook| webhook as &dyn Callbacks)
    }

    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        let call = request::call(outbound, self.options)
            .map_err(|no| PrepareError::new(ErrorClass::Permanent, Some(no.code), no.words))?;
        let content_type = HeaderValue::from_str(&call.content_type).map_err(|_| {
            PrepareError::new(ErrorClass::Permanent, Some("content"), "the attachment's type")
        })?;
        Ok(Box::new(Ready {
            link: self.endpoint.connect().await?,
            request: Request {
                method: Method::POST,
                target: format!("/bot{}/{}", self.token.expose_secret(), call.method),
                headers: vec![(CONTENT_TYPE, content_type)],
                body: call.body.into(),
            },
            bot: self.bot.clone(),
            to: outbound.to.as_str().to_owned(),
            token: self.token.clone(),
            clock: Arc::clone(&self.clock),
        }))
    }
}

/// Connected, and the message written down.
struct Ready {
    link: Connection,
    request: Request,
    bot: String,
    to: String,
    token: SecretString,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Prepared for Ready {
    async fn send(self: Box<Self>) -> Outcome {
        let exchange = self.link.send(self.request).await;
        let words = ToMessage { bot: &self.bot, to: &self.to, token: &self.token };
        let outcome = outcome(&exchange, &words, self.clock.now());
        crate::failpoint::hit("send.parsed");
        outcome
    }
}
