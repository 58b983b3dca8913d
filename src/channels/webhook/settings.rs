//! What the operator says of a webhook, and the target made of it.
//!
//! Everything that can be wrong with it is said at start. A secret is what Standard Webhooks says it is: 24 to
//! 64 bytes in base64, with or without `whsec_` before it.

use std::path::PathBuf;

use base64::{Engine, engine::general_purpose::STANDARD};
use hyper::Uri;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use serde::Deserialize;

use crate::{
    channels::{
        http::{Endpoint, EndpointOptions, HttpTimeouts, signature::credential_name},
        secret::SecretRef,
    },
    domain::channel::Channel,
};

/// `[drivers.NAME]` with `kind = "webhook"`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WebhookSettings {
    /// `https://…`; to be reached on the public internet, unless `allow_private`.
    pub url: String,
    /// The channels that it serves; all where none is named.
    #[serde(default)]
    pub channels: Vec<Channel>,
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

/// Where it goes and what signs it.
pub(super) struct Target {
    pub endpoint: Endpoint,
    /// Path and query.
    pub path: String,
    pub secrets: Vec<SecretBox<Vec<u8>>>,
    pub credential: String,
}

impl Target {
    pub fn new(settings: &WebhookSettings) -> Result<Self, String> {
        let uri: Uri = settings.url.parse().map_err(|_| "url: is not a URL".to_owned())?;
        let (Some(scheme), Some(authority)) = (uri.scheme_str(), uri.authority()) else {
            return Err("url: `https://HOST/PATH` is expected".into());
        };
        if scheme != "https" && !settings.allow_private {
            return Err(
                "url: must begin with https://: what is sent holds people's addresses and texts".into()
            );
        }
        if settings.url.contains('#') {
            return Err("url: takes no `#`".into());
        }
        let options = EndpointOptions {
            allow_plaintext: false,
            ca_file: settings.ca_file.as_deref(),
            public_only: !settings.allow_private,
            timeouts: settings.timeouts,
        };
        let endpoint = Endpoint::new(&format!("{scheme}://{authority}"), options)
            .map_err(|why| why.replacen("base_url", "url", 1))?;
        let mut secrets = Vec::new();
        for (name, reference) in
            [("secret", Some(&settings.secret)), ("secret_previous", settings.secret_previous.as_ref())]
        {
            if let Some(reference) = reference {
                let secret = reference.read().map_err(|why| format!("{name}: {why}"))?;
                secrets.push(key(&secret).map_err(|why| format!("{name}: {why}"))?);
            }
        }
        Ok(Self {
            credential: credential_name("webhook", &settings.url),
            path: uri.path_and_query().map_or("/", |path| path.as_str()).to_owned(),
            endpoint,
            secrets,
        })
    }
}

/// The bytes of a secret.
fn key(secret: &SecretString) -> Result<SecretBox<Vec<u8>>, String> {
    let text = secret.expose_secret();
    let bytes = STANDARD.decode(text.strip_prefix("whsec_").unwrap_or(text)).unwrap_or_default();
    if !(24..=64).contains(&bytes.len()) {
        return Err("24 to 64 random bytes in base64 are expected, `whsec_` before them: make one with \
                    `echo whsec_$(openssl rand -base64 32)`"
            .into());
    }
    Ok(SecretBox::new(Box::new(bytes)))
}
