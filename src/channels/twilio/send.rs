//! One message as Twilio's form.
//!
//! Refused here: what Twilio could only refuse, at the price of a call. Nothing here reaches the network.

use chrono::{DateTime, Utc};
use hyper::header::AUTHORIZATION;

use super::{
    Kind, Twilio,
    classify::Codes,
    settings::{expected_sender, is_sender, is_sid},
};
use crate::{
    channels::{
        Outbound, PrepareError,
        http::{Request, form},
    },
    domain::{address::Address, delivery::ApprovedTemplate, delivery::ErrorClass},
};

/// Twilio's own queue keeps a message at most this long, in seconds.
const VALIDITY_SECONDS_MAX: i64 = 36_000;
const FORM: &str = "application/x-www-form-urlencoded";

/// What writes the message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sender {
    From { address: String, tenants_own: bool },
    Service(String),
}

/// The request, and how its answer is read.
pub(super) fn request(
    driver: &Twilio,
    outbound: &Outbound,
    now: DateTime<Utc>,
) -> Result<(Request, Codes), PrepareError> {
    let Address::Phone(to) = &outbound.to else {
        return Err(PrepareError::new(
            ErrorClass::Permanent,
            Some("21211"),
            "the address is no phone number",
        ));
    };
    if !outbound.content.attachments.is_empty() {
        let why = "Twilio takes attachments by URL only, and nothing is hosted here: send them by email or \
                   through another driver";
        return Err(PrepareError::new(ErrorClass::Permanent, Some("attachments"), why));
    }
    let sender = sender(driver, outbound)?;
    let mut pairs: Vec<(&str, String)> = vec![("To", format!("{}{to}", driver.kind.prefix()))];
    let tenants_own = match &sender {
        Sender::From { address, tenants_own } => {
            pairs.push(("From", address.clone()));
            *tenants_own
        }
        Sender::Service(sid) => {
            pairs.push(("MessagingServiceSid", sid.clone()));
            false
        }
    };
    pairs.extend(words(driver, outbound)?);
    if let Some(url) = &outbound.status_callback {
        pairs.push(("StatusCallback", url.clone()));
    }
    let remaining = outbound.deadline.signed_duration_since(now).num_seconds();
    if remaining < VALIDITY_SECONDS_MAX {
        pairs.push(("ValidityPeriod", remaining.max(1).to_string()));
    }
    if let (Kind::Sms, Some(smart)) = (driver.kind, driver.settings.smart_encoded) {
        pairs.push(("SmartEncoded", smart.to_string()));
    }
    let body = form::encode(pairs.iter().map(|(name, value)| (*name, value.as_str())));
    let path = format!("/2010-04-01/Accounts/{}/Messages.json", driver.account.sid);
    let request = Request::post(path, FORM, body).header(AUTHORIZATION, driver.account.authorization.clone());
    Ok((request, Codes { tenants_own_sender: tenants_own }))
}

/// The tenant's sender, else the operator's, else the messaging service.
pub(super) fn sender(driver: &Twilio, outbound: &Outbound) -> Result<Sender, PrepareError> {
    let (kind, settings) = (driver.kind, &driver.settings);
    let (address, tenants_own) = match (&outbound.from, &settings.from, &settings.messaging_service_sid) {
        (Some(from), ..) => (from, true),
        (None, Some(from), _) => (from, false),
        (None, None, Some(service)) => return Ok(Sender::Service(service.clone())),
        (None, None, None) => {
            let why = "no sender: set `from` for the tenant or the driver, or `messaging_service_sid`";
            return Err(PrepareError::new(ErrorClass::Misconfigured, Some("21603"), why));
        }
    };
    let bare = address.strip_prefix("whatsapp:").unwrap_or(address);
    if !is_sender(kind, bare) {
        // A tenant's own mistake is no reason to stop everybody's messages.
        let class = if tenants_own { ErrorClass::Permanent } else { ErrorClass::Misconfigured };
        return Err(PrepareError::new(class, Some("21212"), format!("`from` is {}", expected_sender(kind))));
    }
    Ok(Sender::From { address: format!("{}{bare}", kind.prefix()), tenants_own })
}

/// The text, or the template that WhatsApp approved.
fn words(driver: &Twilio, outbound: &Outbound) -> Result<Vec<(&'static str, String)>, PrepareError> {
    let free = driver.kind == Kind::Sms || outbound.in_service_window;
    match &outbound.approved_template {
        Some(template) if !free => {
            let Some(sid) = content_sid(driver, template) else {
                let why = "the approved template has no `HX…` in the driver's content_sids";
                return Err(PrepareError::new(ErrorClass::Permanent, Some("21655"), why));
            };
            let variables: serde_json::Map<String, serde_json::Value> = (1..)
                .zip(&template.parameters)
                .map(|(at, value): (u32, _)| (at.to_string(), value.as_str().into()))
                .collect();
            let mut pairs = vec![("ContentSid", sid.to_owned())];
            if !variables.is_empty() {
                pairs.push(("ContentVariables", serde_json::Value::Object(variables).to_string()));
            }
            Ok(pairs)
        }
        _ if free || driver.settings.free_text_anytime => Ok(vec![("Body", outbound.content.body.clone())]),
        _ => {
            let why = "the person has not written within 24 hours: WhatsApp takes approved templates only";
            Err(PrepareError::new(ErrorClass::Permanent, Some("63016"), why))
        }
    }
}

/// `HX…`, given as the template's name or found in the settings.
fn content_sid<'a>(driver: &'a Twilio, template: &'a ApprovedTemplate) -> Option<&'a str> {
    if is_sid("HX", &template.name) {
        return Some(&template.name);
    }
    let sids = &driver.settings.content_sids;
    let exact = format!("{}/{}", template.name, template.language);
    sids.get(&exact).or_else(|| sids.get(&template.name)).map(String::as_str)
}
