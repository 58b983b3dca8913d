//! One message as Vonage's form.
//!
//! Refused here: what Vonage could only refuse, at the price of a call. Nothing here reaches the network.

use chrono::{DateTime, Utc};
use hyper::header::AUTHORIZATION;

use super::{
    Vonage,
    classify::Statuses,
    settings::{EXPECTED_SENDER, is_sender},
};
use crate::{
    channels::{
        Outbound, PrepareError,
        http::{Request, form},
    },
    domain::{
        address::Address,
        delivery::ErrorClass,
        segments::{Encoding, segments},
    },
};

/// Vonage tries for 72 hours by itself, and takes 20 seconds to 7 days, in milliseconds.
const TTL_DEFAULT_MS: i64 = 72 * 3600 * 1000;
const TTL_LEAST_MS: i64 = 20_000;
const FORM: &str = "application/x-www-form-urlencoded";

/// The request, and how its answer is read.
pub(super) fn request(
    driver: &Vonage,
    outbound: &Outbound,
    now: DateTime<Utc>,
) -> Result<(Request, Statuses), PrepareError> {
    let Address::Phone(to) = &outbound.to else {
        return Err(PrepareError::new(ErrorClass::Permanent, Some("3"), "the address is no phone number"));
    };
    if !outbound.content.attachments.is_empty() {
        return Err(PrepareError::new(ErrorClass::Permanent, Some("attachments"), "SMS has no attachments"));
    }
    let (from, tenants_own) = match (&outbound.from, &driver.settings.from) {
        (Some(from), _) => (from, true),
        (None, Some(from)) => (from, false),
        (None, None) => {
            let why = "no sender: set `from` for the tenant or the driver";
            return Err(PrepareError::new(ErrorClass::Misconfigured, Some("15"), why));
        }
    };
    if !is_sender(from) {
        // A tenant's own mistake is no reason to stop everybody's messages.
        let class = if tenants_own { ErrorClass::Permanent } else { ErrorClass::Misconfigured };
        return Err(PrepareError::new(class, Some("15"), format!("`from` is {EXPECTED_SENDER}")));
    }
    let text = outbound.content.body.as_str();
    let kind = match segments(text).0 {
        Encoding::Gsm7 => "text",
        Encoding::Ucs2 => "unicode",
    };
    let mut pairs: Vec<(&str, String)> = vec![
        ("from", from.trim_start_matches('+').to_owned()),
        ("to", to.trim_start_matches('+').to_owned()),
        ("text", text.to_owned()),
        ("type", kind.to_owned()),
        // Comes back in every receipt, also in those of a long message's later parts.
        ("client-ref", outbound.attempt.to_string()),
    ];
    let remaining = outbound.deadline.signed_duration_since(now).num_milliseconds();
    if remaining < TTL_DEFAULT_MS {
        pairs.push(("ttl", remaining.max(TTL_LEAST_MS).to_string()));
    }
    if let Some(url) = &outbound.status_callback {
        pairs.push(("status-report-req", "1".to_owned()));
        pairs.push(("callback", url.clone()));
    }
    let body = form::encode(pairs.iter().map(|(name, value)| (*name, value.as_str())));
    let request =
        Request::post("/sms/json", FORM, body).header(AUTHORIZATION, driver.account.authorization.clone());
    let statuses =
        Statuses { tenants_own_sender: tenants_own, prices_in_euros: driver.settings.prices_in_euros };
    Ok((request, statuses))
}
