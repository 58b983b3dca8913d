//! What the operator says of a Twilio account, and the account made of it.
//!
//! Everything that can be wrong with it is said at start. No secret leaves the account but in a request.

use std::{collections::BTreeMap, path::PathBuf};

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::Kind;
use crate::channels::{
    http::{Endpoint, EndpointOptions, HttpTimeouts, plain::Plain, signature::credential_name},
    secret::SecretRef,
};

const BASE_URL: &str = "https://api.twilio.com";

/// `[drivers.NAME]` with `kind = "twilio"` or `"twilio_whatsapp"`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TwilioSettings {
    /// `AC` and 32 hex digits. Not a secret; `env:NAME` is taken too.
    pub account_sid: String,
    /// Signs in where there is no API key, and is what Twilio signs its callbacks with: without it none is read.
    #[serde(default)]
    pub auth_token: Option<SecretRef>,
    /// The secondary token, while one replaces the other: callbacks signed with it verify too.
    #[serde(default)]
    pub secondary_auth_token: Option<SecretRef>,
    /// An API key (`SK…`) and its secret, to sign in with instead of the account's own token.
    #[serde(default)]
    pub api_key: Option<SecretRef>,
    #[serde(default)]
    pub api_secret: Option<SecretRef>,
    /// Who writes where the tenant names nobody: a number, a short code, or a name.
    #[serde(default)]
    pub from: Option<String>,
    /// `MG…`: Twilio chooses the sender. Used where neither tenant nor `from` names one.
    #[serde(default)]
    pub messaging_service_sid: Option<String>,
    /// The numbers of each messaging service (`MG…`), as the console lists them: a STOP to one of them is a STOP to the
    /// service, whichever tenant uses it. Without them it is known of those whom a tenant's service has written to.
    #[serde(default)]
    pub services: BTreeMap<String, Vec<String>>,
    /// Lets Twilio write GSM-7 look-alikes for characters that would make an SMS dearer.
    #[serde(default)]
    pub smart_encoded: Option<bool>,
    /// WhatsApp only: the `HX…` under which Twilio knows a template, by its name or `name/language`.
    #[serde(default)]
    pub content_sids: BTreeMap<String, String>,
    /// WhatsApp only. `true` leaves it to WhatsApp to refuse free text outside the 24 h window (63016), for
    /// a sender whose inbound messages go elsewhere.
    #[serde(default)]
    pub free_text_anytime: bool,
    #[serde(default)]
    pub base_url: Option<String>,
    /// Trusts these certificate authorities (PEM) besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    /// Lets `http://` go beyond this machine.
    #[serde(default)]
    pub allow_plaintext: bool,
    #[serde(default)]
    pub timeouts: HttpTimeouts,
}

/// An account, ready to be used.
pub(super) struct Account {
    pub sid: String,
    pub endpoint: Endpoint,
    pub lists: Plain,
    /// Basic authentication.
    pub authorization: HeaderValue,
    /// What callbacks may be signed with; empty: none is believed.
    pub auth_tokens: Vec<SecretString>,
    /// For breakers and pauses; may be logged.
    pub credential: String,
}

impl Account {
    pub fn new(kind: Kind, settings: &TwilioSettings) -> Result<Self, String> {
        let sid = plain_or_referenced(&settings.account_sid).map_err(|why| format!("account_sid: {why}"))?;
        if !is_sid("AC", &sid) {
            return Err(
                "account_sid: `AC` and 32 hex digits are expected, as on the console's first page".into()
            );
        }
        if let Some(service) = &settings.messaging_service_sid
            && !is_sid("MG", service)
        {
            return Err(format!("messaging_service_sid: {service:?} is not `MG` and 32 hex digits"));
        }
        for (service, numbers) in &settings.services {
            if !is_sid("MG", service) {
                return Err(format!("services: {service:?} is not `MG` and 32 hex digits"));
            }
            if let Some(wrong) = numbers.iter().find(|number| !is_sender(kind, number)) {
                return Err(format!("services: {wrong:?} is {}", expected_sender(kind)));
            }
        }
        if let Some(from) = &settings.from
            && !is_sender(kind, from)
        {
            return Err(format!("from: {from:?} is {}", expected_sender(kind)));
        }
        if kind == Kind::Sms && (!settings.content_sids.is_empty() || settings.free_text_anytime) {
            return Err("content_sids and free_text_anytime are for kind = \"twilio_whatsapp\"".into());
        }
        if let Some((name, sid)) = settings.content_sids.iter().find(|(_, sid)| !is_sid("HX", sid)) {
            return Err(format!("content_sids: {name:?} is {sid:?}, which is not `HX` and 32 hex digits"));
        }
        let (user, secret, auth_tokens) = credentials(&sid, settings)?;
        let endpoint = Endpoint::new(
            settings.base_url.as_deref().unwrap_or(BASE_URL),
            EndpointOptions {
                allow_plaintext: settings.allow_plaintext,
                ca_file: settings.ca_file.as_deref(),
                public_only: false,
                timeouts: settings.timeouts,
            },
        )?;
        let basic = STANDARD.encode(format!("{user}:{}", secret.expose_secret()));
        let mut authorization = HeaderValue::from_str(&format!("Basic {basic}"))
            .map_err(|_| "the credentials do not fit in a header".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Self {
            lists: Plain::new(&endpoint)?,
            credential: credential_name("twilio", &sid),
            sid,
            endpoint,
            authorization,
            auth_tokens,
        })
    }
}

/// User, password, and what callbacks are signed with.
fn credentials(
    sid: &str,
    settings: &TwilioSettings,
) -> Result<(String, SecretString, Vec<SecretString>), String> {
    let read = |name: &str, reference: &Option<SecretRef>| {
        reference.as_ref().map(|r| r.read().map_err(|why| format!("{name}: {why}"))).transpose()
    };
    let token = read("auth_token", &settings.auth_token)?;
    let secondary = read("secondary_auth_token", &settings.secondary_auth_token)?;
    let auth_tokens = token.iter().chain(&secondary).cloned().collect();
    match (read("api_key", &settings.api_key)?, read("api_secret", &settings.api_secret)?, token) {
        (Some(key), Some(secret), _) => Ok((key.expose_secret().to_owned(), secret, auth_tokens)),
        (None, None, Some(token)) => Ok((sid.to_owned(), token, auth_tokens)),
        (None, None, None) => Err("auth_token is missing, or api_key with api_secret".into()),
        _ => Err("api_key and api_secret go together: one of them is missing".into()),
    }
}

/// A value that is no secret, written as it is or by reference.
fn plain_or_referenced(text: &str) -> Result<String, String> {
    if text.starts_with("env:") || text.starts_with("file:") {
        return Ok(SecretRef::parse(text)?.read()?.expose_secret().to_owned());
    }
    Ok(text.to_owned())
}

/// Two letters and 32 hex digits, as Twilio names everything.
pub(super) fn is_sid(prefix: &str, text: &str) -> bool {
    text.strip_prefix(prefix)
        .is_some_and(|rest| rest.len() == 32 && rest.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

/// E.164, and for SMS also a short code or a name of up to 11 letters, digits and blanks.
pub(super) fn is_sender(kind: Kind, text: &str) -> bool {
    let digits = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let number = text.strip_prefix('+').is_some_and(|rest| (7..=15).contains(&rest.len()) && digits(rest));
    let short = (3..=8).contains(&text.len()) && digits(text);
    let name = (1..=11).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b" -_&".contains(&byte))
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    number || (kind == Kind::Sms && (short || name))
}

pub(super) fn expected_sender(kind: Kind) -> &'static str {
    match kind {
        Kind::Sms => {
            "not a number like +33700000000, a short code, or a name of at most 11 letters and digits"
        }
        Kind::WhatsApp => "not a number like +33700000000",
    }
}
