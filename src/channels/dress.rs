//! What is added to a message right before it goes: where its provider is to report, the links that tell of clicks,
//! the address to unsubscribe at, the token of mail that comes back.
//!
//! A face only. The same attempt is dressed the same way each time, so that a look-up finds what was sent.

use async_trait::async_trait;

use super::Outbound;
use crate::domain::delivery::TrackingTerms;

/// Dresses a message.
#[async_trait]
pub trait Dress: Send + Sync {
    /// Fills `status_callback` (which names the driver), `unsubscribe` and `return_token`, rewrites the content as the plan's terms allow.
    /// An error, in words for the log: nothing is sent now, and it is tried again.
    async fn dress(&self, driver: &str, terms: &TrackingTerms, outbound: &mut Outbound)
    -> Result<(), String>;
}
