//! The addresses that a message carries back to us: where a provider reports, where a link leads, where a person
//! unsubscribes; and who it is that comes by them.
//!
//! Pure: no store, no network, no clock. Every address is opaque and signed, so that none can be guessed, and none
//! serves another purpose, tenant or message. Only the html of an email is ever changed: texts and SMS go as they
//! were written, because a longer link there costs segments and trust.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    channels::Outbound,
    domain::{
        channel::Channel,
        delivery::TrackingTerms,
        ids::{AttemptId, MessageId, TenantId},
        message::MessageClass,
    },
};

mod html;
pub mod robots;
mod token;

pub use token::{Clicked, Opened, TokenKey};

/// Makes the addresses, and reads them when they come back.
#[derive(Clone, Debug)]
pub struct Tracker {
    /// `https://host`, without a slash at its end.
    public_url: Arc<str>,
    key: TokenKey,
}

impl Tracker {
    /// `public_url` is the origin at which the public listener is reached from outside, such as
    /// `https://msg.example.com`.
    pub fn new(public_url: &str, key: TokenKey) -> Self {
        Self { public_url: public_url.trim_end_matches('/').into(), key }
    }

    pub fn public_url(&self) -> &str {
        &self.public_url
    }

    /// Where the provider of `driver` is to report on this attempt.
    pub fn status_callback(&self, driver: &str, tenant: &TenantId, attempt: AttemptId) -> String {
        let (url, driver) = (&self.public_url, segment(driver));
        format!("{url}/callbacks/{driver}/{tenant}?a={}", self.key.attempt(tenant, attempt))
    }

    /// The page behind a mail's unsubscribe link and its `List-Unsubscribe` header.
    pub fn unsubscribe_url(&self, message: MessageId) -> String {
        format!("{}/u/{}", self.public_url, self.key.unsubscribe(message))
    }

    /// The image that is fetched when a mail is opened. `at`: when the mail was made.
    pub fn open_url(&self, message: MessageId, at: DateTime<Utc>) -> String {
        format!("{}/o/{}", self.public_url, self.key.open(message, at))
    }

    /// What stands in a mail for its `link`th link. `at`: when the mail was made.
    pub fn click_url(&self, message: MessageId, link: u16, at: DateTime<Utc>) -> String {
        format!("{}/c/{}", self.public_url, self.key.click(message, link, at))
    }

    /// Gives a message its addresses. Answers where its links led, in order: to be kept before it leaves, else a
    /// person who follows one meets an error. The same text gives the same links every time.
    pub fn dress(
        &self,
        outbound: &mut Outbound,
        driver: &str,
        terms: &TrackingTerms,
        now: DateTime<Utc>,
    ) -> Vec<String> {
        outbound.status_callback = Some(self.status_callback(driver, &outbound.tenant, outbound.attempt));
        if outbound.channel != Channel::Email {
            return Vec::new();
        }
        if outbound.class == MessageClass::Marketing {
            outbound.unsubscribe = Some(self.unsubscribe_url(outbound.message));
        }
        let Some(text) = outbound.content.html.as_deref().filter(|_| terms.engagement) else {
            return Vec::new();
        };
        let message = outbound.message;
        let may_follow = |url: &str, host: &str| {
            let ours = url.strip_prefix(&*self.public_url).is_some_and(|rest| rest.starts_with('/'));
            !ours && (terms.hosts.is_empty() || terms.hosts.iter().any(|allowed| allowed == host))
        };
        let (mut text, links) = html::lead(text, may_follow, |link| self.click_url(message, link, now));
        html::add_image(&mut text, &self.open_url(message, now));
        outbound.content.html = Some(text);
        links
    }

    /// The attempt that a status callback of this tenant is about.
    pub fn read_attempt(&self, token: &str, tenant: &TenantId) -> Option<AttemptId> {
        self.key.read_attempt(token, tenant)
    }

    pub fn read_open(&self, token: &str) -> Option<Opened> {
        self.key.read_open(token)
    }

    pub fn read_click(&self, token: &str) -> Option<Clicked> {
        self.key.read_click(token)
    }

    pub fn read_unsubscribe(&self, token: &str) -> Option<MessageId> {
        self.key.read_unsubscribe(token)
    }
}

/// A driver's name as one segment of a path.
fn segment(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            out.push(char::from(byte));
        } else {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

/// Whether an address may be sent to a browser: `http` or `https`, and nothing that could end a header.
pub fn may_redirect_to(url: &str) -> bool {
    html::parts(url).is_some()
}
