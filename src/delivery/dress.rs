//! Gives a message the addresses that it carries back to us, before a driver sees it.
//!
//! What its links lead to is durable before any of its bytes leaves, so that no click ever meets a link that is
//! not known. Without a public URL nothing is dressed. It decides nothing: the terms are the plan's.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    channels::Outbound,
    domain::delivery::TrackingTerms,
    store::{Claimed, Links, Result},
    tracking::Tracker,
};

use super::worker::Worker;

/// The tracker, with what keeps its links.
#[derive(Clone)]
pub struct Dressing {
    pub tracker: Tracker,
    pub links: Arc<dyn Links>,
}

impl Dressing {
    /// Adds the addresses and keeps the links. An error says that nothing may leave now.
    pub async fn dress(
        &self,
        outbound: &mut Outbound,
        driver: &str,
        terms: &TrackingTerms,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let links = self.tracker.dress(outbound, driver, terms, now);
        if links.is_empty() {
            return Ok(());
        }
        self.links.put_links(outbound.message, &links).await
    }
}

impl Worker {
    /// Dresses the message, where there is a public URL to lead back to.
    pub(super) async fn dress(&self, outbound: &mut Outbound, driver: &str, claimed: &Claimed) -> Result<()> {
        let Some(dressing) = &self.dressing else { return Ok(()) };
        dressing.dress(outbound, driver, &claimed.plan.tracking, self.clock.now()).await
    }
}
