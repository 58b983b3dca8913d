//! Gives a message the addresses that it carries back here, before a driver sees it.
//!
//! What its links lead to is durable before any of its bytes leaves, so that nobody who follows one meets an
//! error. It decides nothing: the terms are the plan's.

use std::sync::Arc;

use async_trait::async_trait;

use crate::{
    channels::{Outbound, dress::Dress},
    domain::{channel::Channel, delivery::TrackingTerms, time::Clock},
    store::Links,
    tracking::{TokenKey, Tracker},
};

/// The key of the tokens, and the tracker with what keeps its links.
pub struct Dressing {
    pub key: TokenKey,
    /// None without a public URL.
    pub tracker: Option<Tracker>,
    pub links: Arc<dyn Links>,
    pub clock: Arc<dyn Clock>,
}

#[async_trait]
impl Dress for Dressing {
    async fn dress(
        &self,
        driver: &str,
        terms: &TrackingTerms,
        outbound: &mut Outbound,
    ) -> Result<(), String> {
        if outbound.channel == Channel::Email {
            outbound.return_token = Some(self.key.returned(outbound.attempt));
        }
        let Some(tracker) = &self.tracker else { return Ok(()) };
        let links = tracker.dress(outbound, driver, terms, self.clock.now());
        if links.is_empty() {
            return Ok(());
        }
        self.links.put_links(outbound.message, &links).await.map_err(|error| error.to_string())
    }
}
