//! What the operator says of a Vonage account, and the account made of it.
//!
//! Everything that can be wrong with it is said at start. No secret leaves the account but in a request.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use crate::channels::{
    http::{
        Endpoint, EndpointOptions, HttpTimeouts,
        signature::{Hash, credential_name},
    },
    secret::SecretRef,
};

const BASE_URL: &str = "https://rest.nexmo.com";

/// `[drivers.NAME]` with `kind = "vonage"`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VonageSettings {
    pub api_key: SecretRef,
    pub api_secret: SecretRef,
    /// Who writes where the tenant names nobody: a number, a short code, or a name.
    #[serde(default)]
    pub from: Option<String>,
    /// What Vonage signs its callbacks with: without it none is read.
    #[serde(default)]
    pub signature_secret: Option<SecretRef>,
    /// The one before, while one replaces the other.
    #[serde(default)]
    pub signature_secret_previous: Option<SecretRef>,
    /// As chosen on Vonage's dashboard. Its MD5 methods are not taken.
    #[serde(default)]
    pub signature_method: SignatureMethod,
    /// The account is billed in euros, so that the price in an answer is the message's cost.
    #[serde(default = "yes")]
    pub prices_in_euros: bool,
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

/// Vonage's names for the keyed hashes that it offers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SignatureMethod {
    Sha1,
    #[default]
    Sha256,
    Sha512,
}

impl SignatureMethod {
    pub(super) const fn hash(self) -> Hash {
        match self {
            SignatureMethod::Sha1 => Hash::Sha1,
            SignatureMethod::Sha256 => Hash::Sha256,
            SignatureMethod::Sha512 => Hash::Sha512,
        }
    }
}

fn yes() -> bool {
    true
}

/// An account, ready to be used.
pub(super) struct Account {
    pub endpoint: Endpoint,
    /// Names the account in callbacks.
    pub api_key: SecretString,
    /// Basic authentication.
    pub authorization: HeaderValue,
    /// What callbacks may be signed with; empty: none is believed.
    pub signature_secrets: Vec<SecretString>,
    /// For breakers and pauses; may be logged.
    pub credential: String,
}

impl Account {
    pub fn new(settings: &VonageSettings) -> Result<Self, String> {
        let api_key = settings.api_key.read().map_err(|why| format!("api_key: {why}"))?;
        let secret = settings.api_secret.read().map_err(|why| format!("api_secret: {why}"))?;
        if let Some(from) = &settings.from
            && !is_sender(from)
        {
            return Err(format!("from: {from:?} is {EXPECTED_SENDER}"));
        }
        if settings.signature_secret_previous.is_some() && settings.signature_secret.is_none() {
            return Err("signature_secret_previous goes with signature_secret, which is missing".into());
        }
        let mut signature_secrets = Vec::new();
        for (name, reference) in [
            ("signature_secret", &settings.signature_secret),
            ("signature_secret_previous", &settings.signature_secret_previous),
        ] {
            if let Some(reference) = reference {
                signature_secrets.push(reference.read().map_err(|why| format!("{name}: {why}"))?);
            }
        }
        let endpoint = Endpoint::new(
            settings.base_url.as_deref().unwrap_or(BASE_URL),
            EndpointOptions {
                allow_plaintext: settings.allow_plaintext,
                ca_file: settings.ca_file.as_deref(),
                public_only: false,
                timeouts: settings.timeouts,
            },
        )?;
        let basic = STANDARD.encode(format!("{}:{}", api_key.expose_secret(), secret.expose_secret()));
        let mut authorization = HeaderValue::from_str(&format!("Basic {basic}"))
            .map_err(|_| "the credentials do not fit in a header".to_owned())?;
        authorization.set_sensitive(true);
        let credential = credential_name("vonage", api_key.expose_secret());
        Ok(Self { endpoint, api_key, authorization, signature_secrets, credential })
    }
}

pub(super) const EXPECTED_SENDER: &str =
    "not a number like +33700000000, a short code, or a name of at most 11 letters and digits";

/// E.164 with or without its plus, a short code, or a name of up to 11 letters and digits.
pub(super) fn is_sender(text: &str) -> bool {
    let bare = text.strip_prefix('+').unwrap_or(text);
    let number = (3..=15).contains(&bare.len()) && bare.bytes().all(|byte| byte.is_ascii_digit());
    let name = (1..=11).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b' ')
        && text.bytes().any(|byte| byte.is_ascii_alphabetic());
    number || name
}
