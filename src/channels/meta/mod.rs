//! WhatsApp through Meta's Cloud API: one phone number, one message, one attempt.
//!
//! `prepare` uploads the file, where there is one, and connects; `send` makes the one call that delivers. It never
//! splits a message, never sends free text where WhatsApp takes approved templates only, and asks nothing
//! afterwards: Meta has no list, a status settles what is unknown.

mod callback;
mod classify;
mod codes;
mod request;

use std::{fmt, path::PathBuf, sync::Arc};

use async_trait::async_trait;
use hyper::{
    Method,
    header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue},
};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use self::{
    callback::Webhooks,
    classify::{ToMessage, ToUpload},
    request::Shape,
};
use super::{
    Driver, Outbound, PrepareError, Prepared,
    callback::Callbacks,
    http::{
        Connection, Endpoint, EndpointOptions, HttpTimeouts, Request, classify::outcome,
        signature::credential_name,
    },
    multipart,
    secret::SecretRef,
};
use crate::domain::{
    channel::Channel,
    delivery::{ErrorClass, Outcome},
    message::Attachment,
    time::Clock,
};

/// One WhatsApp number of a Meta app.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MetaSettings {
    /// The number's id (not the number), from the app's dashboard.
    pub phone_number_id: String,
    /// The number itself: with it, a tenant that names another sender is refused.
    #[serde(default)]
    pub number: Option<String>,
    /// A system user's token with `whatsapp_business_messaging`.
    pub access_token: SecretRef,
    /// What Meta signs its callbacks with; without it none is taken.
    #[serde(default)]
    pub app_secret: Option<SecretRef>,
    /// The secret before, while it is being changed.
    #[serde(default)]
    pub app_secret_previous: Option<SecretRef>,
    /// What Meta has to show when the webhook is set up.
    #[serde(default)]
    pub verify_token: Option<SecretRef>,
    #[serde(default = "graph_version")]
    pub graph_version: String,
    #[serde(default = "base_url")]
    pub base_url: String,
    /// Sends free text outside the 24 hours too, because what people write goes elsewhere: Meta then decides.
    #[serde(default)]
    pub free_text_anytime: bool,
    /// Has the statuses name our attempt (`biz_opaque_callback_data`), so that one settles an unknown outcome. None:
    /// with templates only, the one form for which Meta's published OpenAPI has the field.
    #[serde(default)]
    pub echo_attempt: Option<bool>,
    /// Trusts these certificate authorities (PEM) besides the system's.
    #[serde(default)]
    pub ca_file: Option<PathBuf>,
    #[serde(default)]
    pub timeouts: HttpTimeouts,
}

fn graph_version() -> String {
    "v23.0".into()
}

fn base_url() -> String {
    "https://graph.facebook.com".into()
}

/// A number, ready to write from.
pub struct Meta {
    name: String,
    credential: String,
    endpoint: Endpoint,
    /// `/{version}/{phone_number_id}`.
    path: String,
    /// The number's digits.
    number: Option<String>,
    token: SecretString,
    authorization: HeaderValue,
    free_text_anytime: bool,
    echo_attempt: Option<bool>,
    webhooks: Option<Webhooks>,
    clock: Arc<dyn Clock>,
}

impl fmt::Debug for Meta {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Meta({} at {:?}{})", self.name, self.endpoint, self.path)
    }
}

impl Meta {
    /// Checks the settings and reads the secrets; the refusal says which setting and why.
    pub fn new(name: &str, settings: &MetaSettings, clock: Arc<dyn Clock>) -> Result<Self, String> {
        let id = &settings.phone_number_id;
        if id.is_empty() || id.len() > 32 || !id.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(format!(
                "phone_number_id: {id:?} is not an id such as 106540352242922 (the number's id, not the number)"
            ));
        }
        let version = &settings.graph_version;
        let number = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
        if !version
            .strip_prefix('v')
            .and_then(|v| v.split_once('.'))
            .is_some_and(|(a, b)| number(a) && number(b))
        {
            return Err(format!("graph_version: {version:?} is not a version such as v23.0"));
        }
        let number = settings.number.as_deref().map(digits);
        if number.as_ref().is_some_and(|digits| !(7..=15).contains(&digits.len())) {
            return Err("number: not a number in international form, such as +15550783881".into());
        }
        let endpoint = Endpoint::new(
            &settings.base_url,
            EndpointOptions {
                ca_file: settings.ca_file.as_deref(),
                timeouts: settings.timeouts,
                ..EndpointOptions::default()
            },
        )?;
        let token = settings.access_token.read().map_err(|e| format!("access_token: {e}"))?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| "access_token: holds a character that no token has".to_owned())?;
        authorization.set_sensitive(true);
        Ok(Self {
            name: name.to_owned(),
            credential: credential_name("meta", id),
            endpoint,
            path: format!("/{version}/{id}"),
            number,
            token,
            authorization,
            free_text_anytime: settings.free_text_anytime,
            echo_attempt: settings.echo_attempt,
            webhooks: webhooks(settings)?,
            clock,
        })
    }

    /// The tenant's own idea of who writes must be this number.
    fn check_sender(&self, outbound: &Outbound) -> Result<(), PrepareError> {
        let (Some(number), Some(from)) = (&self.number, &outbound.from) else { return Ok(()) };
        if digits(from) == *number {
            return Ok(());
        }
        let words = "the tenant's `from` for WhatsApp is not this driver's number: name the driver of that number in \
                     [channels.whatsapp] drivers, or leave `from` out";
        Err(PrepareError::new(ErrorClass::Permanent, Some("sender"), words))
    }

    fn request(&self, path: &str, content_type: HeaderValue, body: Vec<u8>) -> Request {
        Request {
            method: Method::POST,
            target: format!("{}/{path}", self.path),
            headers: vec![(AUTHORIZATION, self.authorization.clone()), (CONTENT_TYPE, content_type)],
            body: body.into(),
        }
    }

    /// Leaves a file with Meta, where it waits for a message to name it; unnamed it is gone in 30 days.
    async fn upload(&self, outbound: &Outbound, file: &Attachment) -> Result<String, PrepareError> {
        let media_type = multipart::media_type(&file.content_type);
        let fields = [("messaging_product", "whatsapp"), ("type", media_type.as_str())];
        let form = multipart::form(
            &outbound.attempt.to_string(),
            &fields,
            multipart::File {
                field: "file",
                name: &file.file_name,
                content_type: &media_type,
                bytes: &file.bytes,
            },
        );
        let content_type = HeaderValue::from_str(&form.content_type).map_err(|_| {
            PrepareError::new(ErrorClass::Permanent, Some("content"), "the attachment's type")
        })?;
        let link = self.endpoint.connect().await?;
        let exchange = link.send(self.request("media", content_type, form.body)).await;
        match outcome(&exchange, &ToUpload { token: &self.token }, self.clock.now()) {
            Outcome::Accepted { provider_message_id: Some(id), .. } => Ok(id),
            Outcome::Accepted { .. } => {
                Err(PrepareError::new(ErrorClass::NotSent, None, "the file's upload got no id"))
            }
            Outcome::Failed { mut error, retry_after_seconds } => {
                // A file that may have been stored is no message that may have been sent.
                if error.class == ErrorClass::Unknown {
                    error.class = ErrorClass::NotSent;
                }
                error.detail = format!("uploading the attachment: {}", error.detail);
                Err(PrepareError { error, retry_after_seconds })
            }
        }
    }
}

fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

fn webhooks(settings: &MetaSettings) -> Result<Option<Webhooks>, String> {
    let Some(secret) = &settings.app_secret else {
        if settings.app_secret_previous.is_some() || settings.verify_token.is_some() {
            return Err("app_secret is missing: Meta's callbacks are verified with it".into());
        }
        return Ok(None);
    };
    let mut secrets = vec![secret.read().map_err(|e| format!("app_secret: {e}"))?];
    if let Some(previous) = &settings.app_secret_previous {
        secrets.push(previous.read().map_err(|e| format!("app_secret_previous: {e}"))?);
    }
    let verify_token = settings
        .verify_token
        .as_ref()
        .map(|token| token.read().map_err(|e| format!("verify_token: {e}")))
        .transpose()?;
    Ok(Some(Webhooks::new(&settings.phone_number_id, secrets, verify_token)))
}

#[async_trait]
impl Driver for Meta {
    fn name(&self) -> &str {
        &self.name
    }

    fn credential(&self) -> &str {
        &self.credential
    }

    fn channels(&self) -> &[Channel] {
        &[Channel::WhatsApp]
    }

    fn send_timeout_seconds(&self) -> u32 {
        self.endpoint.answer_seconds()
    }

    fn enforces_service_window(&self) -> bool {
        !self.free_text_anytime
    }

    fn callbacks(&self) -> Option<&dyn Callbacks> {
        self.webhooks.as_ref().map(|webhooks| webhooks as &dyn Callbacks)
    }

    async fn prepare(&self, outbound: &Outbound) -> Result<Box<dyn Prepared>, PrepareError> {
        self.check_sender(outbound)?;
        let always = self.free_text_anytime && outbound.approved_template.is_none();
        let shape = request::shape(outbound, outbound.in_service_window || always)
            .map_err(|no| PrepareError::new(ErrorClass::Permanent, Some(no.code), no.words))?;
        let media = match shape {
            Shape::File { file, .. } => Some(self.upload(outbound, file).await?),
            Shape::Text | Shape::Template(_) => None,
        };
        let echo = self.echo_attempt.unwrap_or(matches!(shape, Shape::Template(_)));
        let body = request::body(outbound, &shape, media.as_deref(), echo);
        let json = HeaderValue::from_static("application/json");
        Ok(Box::new(Ready {
            link: self.endpoint.connect().await?,
            request: self.request("messages", json, body.to_string().into_bytes()),
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
    to: String,
    token: SecretString,
    clock: Arc<dyn Clock>,
}

#[async_trait]
impl Prepared for Ready {
    async fn send(self: Box<Self>) -> Outcome {
        let exchange = self.link.send(self.request).await;
        let outcome = outcome(&exchange, &ToMessage { to: &self.to, token: &self.token }, self.clock.now());
        crate::failpoint::hit("send.parsed");
        outcome
    }
}
