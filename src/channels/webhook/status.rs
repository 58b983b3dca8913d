//! A tenant's own server, told what becomes of its messages: the same signed POST, with a status instead of a message.
//!
//! One call, and whether it was taken. When it is repeated is not its affair; what is repeated carries the same
//! `webhook-id`. It goes to the public internet alone, as a webhook that delivers does.

use std::path::PathBuf;

use chrono::{DateTime, Utc};
use serde::Deserialize;

use super::{
    send,
    settings::{Target, WebhookSettings},
};
use crate::{
    channels::{
        http::{Broken, Exchange, HttpTimeouts},
        secret::SecretRef,
    },
    domain::delivery::Outcome,
};

/// `[webhooks.TENANT]`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StatusHookSettings {
    /// `https://…`; to be reached on the public internet, unless `allow_private`.
    pub url: String,
    pub secret: SecretRef,
    /// The secret before, while one replaces the other: both sign.
    #[serde(default)]
    pub secret_previous: Option<SecretRef>,
    /// Lets the host be a private address or this machine, and `http://` be used to the latter.
    #[serde(default)]
    pub allow_private: bool,
    /// Trusts these certificate authorities (PEM) besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub timeouts: HttpTimeouts,
}

/// One tenant's server.
pub struct StatusHook(Target);

impl std::fmt::Debug for StatusHook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "StatusHook({:?})", self.0.endpoint)
    }
}

impl StatusHook {
    /// Checks the settings and reads the secrets; the refusal says which setting and why.
    pub fn new(settings: StatusHookSettings) -> Result<Self, String> {
        let StatusHookSettings { url, secret, secret_previous, allow_private, ca_file, timeouts } = settings;
        let channels = Vec::new();
        let settings =
            WebhookSettings { url, channels, secret, secret_previous, allow_private, ca_file, timeouts };
        Target::new(&settings).map(Self)
    }

    /// Tells one event; why it was not taken, in words that name nobody.
    pub async fn tell(&self, id: &str, body: String, now: DateTime<Utc>) -> Result<(), String> {
        let connection = self.0.endpoint.connect().await.map_err(|refused| refused.error.detail)?;
        let request = send::signed(&self.0, id, body, now).map_err(|outcome| match outcome {
            Outcome::Failed { error, .. } => error.detail,
            Outcome::Accepted { .. } => String::new(),
        })?;
        match connection.send(request).await {
            Exchange::Answered(answer) if (200..300).contains(&answer.status) => Ok(()),
            Exchange::Answered(answer) => Err(format!("it answered {}", answer.status)),
            Exchange::Broken(Broken { why, .. }) => Err(why),
        }
    }
}
