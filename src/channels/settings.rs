//! What the operator says of each driver, `[drivers.NAME]` in orchestrator.toml, and the driver made of it.
//!
//! Everything that can be wrong is said here, at start, in words; no driver is made of settings that could
//! give a password away.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
};

use serde::Deserialize;

use super::{Driver, meta, sandbox, secret::SecretRef, smtp, telegram, twilio, vonage, webhook};
use crate::domain::time::Clock;

/// One driver's settings; `kind` says which driver.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum DriverSettings {
    Smtp(SmtpSettings),
    Sandbox(SandboxSettings),
    Twilio(Box<twilio::TwilioSettings>),
    TwilioWhatsapp(Box<twilio::TwilioSettings>),
    Vonage(Box<vonage::VonageSettings>),
    Meta(Box<meta::MetaSettings>),
    Telegram(Box<telegram::TelegramSettings>),
    Webhook(webhook::WebhookSettings),
}

/// A mail relay.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SmtpSettings {
    pub host: String,
    /// 587 with STARTTLS, 465 with implicit TLS, 25 without.
    #[serde(default)]
    pub port: Option<u16>,
    #[serde(default)]
    pub tls: TlsMode,
    /// Lets `tls = "none"` speak to a host that is not this one.
    #[serde(default)]
    pub allow_plaintext: bool,
    #[serde(default)]
    pub username: Option<SecretRef>,
    #[serde(default)]
    pub password: Option<SecretRef>,
    /// The mailbox that writes where the tenant names none.
    pub from: String,
    #[serde(default)]
    pub from_name: Option<String>,
    /// The name given in EHLO; this machine's by default.
    #[serde(default)]
    pub hello_name: Option<String>,
    /// Trusts these certificate authorities (PEM) besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Where mail that comes back goes to, and how it comes here; none: it goes to the sender and is not read.
    #[serde(default)]
    pub bounces: Option<ReturnSettings>,
    /// Signs the mail here; none: the relay does, where it can.
    #[serde(default)]
    pub dkim: Option<Box<DkimSettings>>,
    #[serde(default)]
    pub timeouts: SmtpTimeouts,
}

/// The mailbox of what comes back: bounces, notices of a delay, complaints.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReturnSettings {
    /// `bounces@agence.example`: the envelope names `bounces+TOKEN@agence.example`, another for each attempt.
    pub address: String,
    /// What the mail server divides a mailbox's name and a sub-address by.
    #[serde(default = "plus")]
    pub delimiter: char,
    /// A Maildir that the daemon empties; without one, `orchestrator bounce` brings the mail in.
    #[serde(default)]
    pub maildir: Option<PathBuf>,
}

fn plus() -> char {
    '+'
}

/// A DKIM signature (RFC 6376). Receivers find the public key at `SELECTOR._domainkey.DOMAIN`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DkimSettings {
    /// That of the senders' addresses, or one above it, if the signature is to count for DMARC.
    pub domain: String,
    pub selector: String,
    /// A private key in PEM: RSA of at least 2048 bits, or Ed25519.
    pub key: SecretRef,
}

/// How the link to the relay is protected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TlsMode {
    /// In the clear until STARTTLS, which the relay must offer.
    #[default]
    Starttls,
    /// TLS from the first byte.
    Implicit,
    None,
}

/// How long the relay may take, in seconds (RFC 5321 section 4.5.3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SmtpTimeouts {
    /// Name, TCP, TLS and greeting.
    pub connect_seconds: u32,
    /// Each command up to DATA, and the whole body after it.
    pub command_seconds: u32,
    /// The end of the body and the answer to it: an early end of this wait is what makes duplicates.
    pub data_seconds: u32,
}

impl Default for SmtpTimeouts {
    fn default() -> Self {
        Self { connect_seconds: 30, command_seconds: 300, data_seconds: 600 }
    }
}

/// The driver that writes to a folder; by itself it accepts everything but the magic addresses.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SandboxSettings {
    /// How every message fails.
    #[serde(default)]
    pub fail: Option<sandbox::Fault>,
    /// Addresses that are refused for good although they are well formed.
    #[serde(default)]
    pub refuse: Vec<String>,
    /// The channels that the faults are played on; all where none is named.
    #[serde(default)]
    pub channels: Vec<crate::domain::channel::Channel>,
    /// How slow the provider plays.
    #[serde(default)]
    pub delay_milliseconds: u32,
}

/// Makes the driver; the refusal is in words, with the driver's name before it.
pub fn build(
    name: &str,
    settings: &DriverSettings,
    state_dir: &Path,
    clock: Arc<dyn Clock>,
) -> Result<Arc<dyn Driver>, String> {
    let told = |why: String| format!("[drivers.{name}]: {why}");
    let twilio = |kind, settings, clock| twilio::Twilio::new(name, kind, settings, clock).map_err(told);
    let driver: Arc<dyn Driver> = match settings {
        DriverSettings::Smtp(settings) => Arc::new(smtp::Smtp::new(name, settings, clock).map_err(told)?),
        DriverSettings::Twilio(settings) => Arc::new(twilio(twilio::Kind::Sms, settings, clock)?),
        DriverSettings::TwilioWhatsapp(settings) => {
            Arc::new(twilio(twilio::Kind::WhatsApp, settings, clock)?)
        }
        DriverSettings::Vonage(settings) => {
            Arc::new(vonage::Vonage::new(name, settings, clock).map_err(told)?)
        }
        DriverSettings::Webhook(settings) => {
            Arc::new(webhook::Webhook::new(name, settings, clock).map_err(told)?)
        }
        DriverSettings::Meta(settings) => Arc::new(meta::Meta::new(name, settings, clock).map_err(told)?),
        DriverSettings::Telegram(settings) => {
            Arc::new(telegram::Telegram::new(name, settings, clock).map_err(told)?)
        }
        DriverSettings::Sandbox(settings) => {
            Arc::new(sandbox::Sandbox::new(name, settings.clone(), state_dir.join("outbox"), clock))
        }
    };
    Ok(driver)
}
