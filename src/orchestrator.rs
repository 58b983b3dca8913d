//! The one way into the queue: gather the facts, decide, keep, ring the bell.
//!
//! Nothing else puts a message in the queue. It sends nothing and knows no HTTP.

use std::{sync::Arc, time::Duration};

use crate::{
    bell::Bell,
    bundles::PolicyHandle,
    channels::Drivers,
    decide::explanation::Explanation,
    domain::{
        decision::Decision,
        delivery::MessageRecord,
        ids::{IdempotencyKey, MessageId, TenantId},
        time::Clock,
    },
    request::Asked,
    store::{Store, StoreError},
};

/// Decides and accepts.
pub struct Orchestrator {
    pub store: Arc<dyn Store>,
    pub policies: PolicyHandle,
    pub drivers: Drivers,
    pub clock: Arc<dyn Clock>,
    pub bell: Arc<Bell>,
}

/// A decision that keeps and sends nothing.
#[derive(Clone, Debug)]
pub struct Preview {
    pub decision: Decision,
    /// Where it was asked for.
    pub explanation: Option<Explanation>,
}

/// What became of a message.
#[derive(Clone, Debug)]
pub struct Submitted {
    pub record: MessageRecord,
    /// The key had been used before for the same body.
    pub replayed: bool,
}

/// Why nothing was accepted.
#[derive(Debug, thiserror::Error)]
pub enum SubmitError {
    #[error("no tenant {0}: its file would be policies/tenants/{0}.toml")]
    UnknownTenant(TenantId),
    #[error("no variant {name:?} in the tenant's policy (it has: {})", known.join(", "))]
    UnknownVariant { name: String, known: Vec<String> },
    /// There is no template of that name to render, and no body to send instead.
    #[error("no template {0:?}")]
    UnknownTemplate(String),
    /// Kept as `skipped` or `expired`, with its reasons.
    #[error("no channel may be used")]
    NoChannel(Box<MessageRecord>),
    #[error("the Idempotency-Key belongs to another message, {0}")]
    KeyReused(MessageId),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Orchestrator {
    /// Decides without keeping or sending anything.
    pub async fn preview(&self, asked: &Asked) -> Result<Preview, SubmitError> {
        let _ = asked;
        todo!("skeleton")
    }

    /// Decides, keeps, and wakes a worker. `wait` bounds how long the answer may wait for an outcome.
    pub async fn submit(
        &self,
        asked: Asked,
        key: Option<IdempotencyKey>,
        wait: Duration,
    ) -> Result<Submitted, SubmitError> {
        let _ = (asked, key, wait);
        todo!("skeleton")
    }
}
