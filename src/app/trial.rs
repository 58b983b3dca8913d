//! One real message through one driver, by hand, without a daemon: what was asked of the provider, and what it answered.
//!
//! It keeps nothing, asks no policy and retries nothing; `allow_recipients` stands before it as it does before the daemon.

use std::sync::Arc;

use chrono::TimeDelta;
use secrecy::ExposeSecret;

use super::drivers;
use crate::{
    channels::{Drivers, Outbound, exhibit, secret::SecretRef},
    config::Config,
    domain::{
        address::{Contact, RawContacts, Region, read_contacts},
        channel::Channel,
        delivery::Outcome,
        ids::{AttemptId, MessageId, TenantId},
        message::{Content, MessageClass},
        time::{Clock, SystemClock},
    },
    policy::{diagnostic::Diagnostic, shipped},
};

/// The provider need not try for longer.
const DEADLINE: TimeDelta = TimeDelta::minutes(10);
/// Shorter ones would hide too much else.
const SECRET_MIN: usize = 6;

/// What is to be tried.
#[derive(Clone, Debug)]
pub struct Trial {
    pub channel: Channel,
    /// As it is written; national numbers are read with `region`, else with the shipped policy's.
    pub to: String,
    pub region: Option<Region>,
    /// None: the channel's first driver by name.
    pub driver: Option<String>,
    pub from: Option<String>,
    pub text: String,
    /// The person wrote within the last 24 hours, so that WhatsApp takes free text.
    pub in_service_window: bool,
}

/// What came of it.
#[derive(Clone, Debug)]
pub struct Tried {
    pub driver: String,
    /// What was said, a line each; `>` to the provider, `<` from it.
    pub exchange: Vec<String>,
    pub outcome: Outcome,
}

/// Why nothing was tried.
#[derive(Debug, thiserror::Error)]
pub enum TrialError {
    #[error("the settings are wrong")]
    Settings(Vec<Diagnostic>),
    #[error("{0}")]
    Asked(String),
}

/// Sends it, and tells.
pub async fn run(config: &Config, trial: &Trial) -> Result<Tried, TrialError> {
    // Before anything speaks TLS. An error says that it was done already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let made = drivers::make(config, Arc::clone(&clock)).map_err(TrialError::Settings)?;
    let outbound = outbound(trial, &*clock)?;
    let named: Vec<String> = trial.driver.iter().cloned().collect();
    let found = made.for_channel(trial.channel, &named);
    let driver = found.first().ok_or_else(|| TrialError::Asked(no_driver(&made, trial)))?;
    let attempt = async {
        match driver.prepare(&outbound).await {
            Ok(prepared) => prepared.send().await,
            Err(refused) => {
                Outcome::Failed { error: refused.error, retry_after_seconds: refused.retry_after_seconds }
            }
        }
    };
    let (outcome, lines) = exhibit::watch(attempt).await;
    let secrets = secrets(config, driver.name());
    let hidden = |line: String| secrets.iter().fold(line, |line, secret| line.replace(secret, "(hidden)"));
    Ok(Tried { driver: driver.name().to_owned(), exchange: lines.into_iter().map(hidden).collect(), outcome })
}

fn outbound(trial: &Trial, clock: &dyn Clock) -> Result<Outbound, TrialError> {
    let given = Some(trial.to.clone());
    let raw = match trial.channel {
        Channel::Sms => RawContacts { phone: given, ..RawContacts::default() },
        Channel::Email => RawContacts { email: given, ..RawContacts::default() },
        Channel::WhatsApp => RawContacts { whatsapp: given, ..RawContacts::default() },
        Channel::Telegram => RawContacts { telegram: given, ..RawContacts::default() },
    };
    let region = trial.region.or_else(shipped::region);
    let region = region.ok_or_else(|| TrialError::Asked("no region: name one with --region".to_owned()))?;
    let to = match read_contacts(&raw, region)[trial.channel].clone() {
        Contact::Known(address) => address,
        Contact::Unreadable(why) => return Err(TrialError::Asked(why)),
        Contact::Missing => return Err(TrialError::Asked("--to: expected an address".to_owned())),
    };
    let subject = (trial.channel == Channel::Email).then(|| "A trial of the Channel Orchestrator".to_owned());
    let tenant = TenantId::parse("trial").map_err(|error| TrialError::Asked(error.to_string()))?;
    Ok(Outbound {
        message: MessageId::new(),
        attempt: AttemptId::new(),
        attempt_number: 1,
        channel: trial.channel,
        to,
        to_name: None,
        from: trial.from.clone(),
        from_name: None,
        reply_to: None,
        content: Content { subject, body: trial.text.clone(), ..Content::default() },
        class: MessageClass::Transactional,
        locale: None,
        tenant,
        deadline: clock.now() + DEADLINE,
        status_callback: None,
        return_token: None,
        unsubscribe: None,
        approved_template: None,
        in_service_window: trial.in_service_window,
    })
}

fn no_driver(made: &Drivers, trial: &Trial) -> String {
    let serving = made.iter().filter(|driver| driver.channels().contains(&trial.channel));
    let names: Vec<&str> = serving.map(|driver| driver.name()).collect();
    let wanted = trial.driver.as_deref().unwrap_or_default();
    format!("no driver {wanted:?} for {}; there are {}", trial.channel, names.join(", "))
}

/// Every secret that the driver's table refers to, longest first.
fn secrets(config: &Config, driver: &str) -> Vec<String> {
    let section = config.drivers.iter().find(|section| section.name == driver);
    let mut found = Vec::new();
    let mut values: Vec<&toml::Value> = section.iter().flat_map(|section| section.table.values()).collect();
    while let Some(value) = values.pop() {
        match value {
            toml::Value::Table(table) => values.extend(table.values()),
            toml::Value::Array(items) => values.extend(items),
            toml::Value::String(text) => {
                let secret = SecretRef::parse(text).ok().and_then(|reference| reference.read().ok());
                found.extend(secret.map(|secret| secret.expose_secret().to_owned()));
            }
            _ => {}
        }
    }
    found.retain(|secret| secret.len() >= SECRET_MIN);
    found.sort_by_key(|secret| std::cmp::Reverse(secret.len()));
    found
}
