//! What the listener hands on, once it is verified.
//!
//! A method returns only when what it was told is durable: a provider that hears 200 never tells it again.

use async_trait::async_trait;

use crate::{
    channels::Driver,
    delivery::receipts::Receiver,
    domain::{
        ids::{AttemptId, MessageId, TenantId},
        receipt::{EngagementEvent, ProviderEvent},
    },
    store::StoreError,
};

/// Takes what comes from outside.
#[async_trait]
pub trait Receive: Send + Sync {
    /// What a provider told in one verified callback of this tenant. `attempt`: the one that our own token named.
    async fn provider_events(
        &self,
        driver: &dyn Driver,
        tenant: &TenantId,
        attempt: Option<AttemptId>,
        events: Vec<ProviderEvent>,
    ) -> Result<(), StoreError>;

    /// What was done with a message.
    async fn engaged(&self, event: EngagementEvent) -> Result<(), StoreError>;

    /// The person wants no more of these mails. False where nothing is known of the message any more.
    async fn unsubscribe(&self, message: MessageId) -> Result<bool, StoreError>;
}

#[async_trait]
impl Receive for Receiver {
    async fn provider_events(
        &self,
        driver: &dyn Driver,
        tenant: &TenantId,
        attempt: Option<AttemptId>,
        events: Vec<ProviderEvent>,
    ) -> Result<(), StoreError> {
        Receiver::provider_events(self, driver, tenant, attempt, events).await
    }

    async fn engaged(&self, event: EngagementEvent) -> Result<(), StoreError> {
        self.engagement(&event).await.map(|_| ())
    }

    async fn unsubscribe(&self, message: MessageId) -> Result<bool, StoreError> {
        Receiver::unsubscribe(self, message).await
    }
}
