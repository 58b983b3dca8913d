//! The worker's queue, counted: every attempt and every end passes here on its way to the store.
//!
//! It changes nothing and decides nothing; what the store refuses is not counted.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::metrics::Metrics;
use crate::{
    domain::{
        channel::Channel,
        delivery::{AttemptStatus, ErrorClass, Next, Outcome, Status},
        ids::AttemptId,
    },
    store::{Claimed, Intent, IntentRecord, Queue, Recovered, Result, Room, Settled},
};

/// Hands everything on, and counts what was kept.
pub struct CountedQueue {
    pub queue: Arc<dyn Queue>,
    pub metrics: Arc<Metrics>,
}

impl CountedQueue {
    fn attempted(&self, channel: Option<Channel>, outcome: &Outcome) {
        let status = match outcome {
            Outcome::Accepted { .. } => AttemptStatus::Accepted,
            Outcome::Failed { error, .. } => match error.class {
                ErrorClass::Permanent => AttemptStatus::RefusedPermanent,
                ErrorClass::Temporary => AttemptStatus::RefusedTemporary,
                ErrorClass::NotSent | ErrorClass::Misconfigured => AttemptStatus::NotSent,
                ErrorClass::Unknown => AttemptStatus::Unknown,
            },
        };
        if let Some(channel) = channel {
            self.metrics.attempted(channel, status);
        }
    }

    fn followed(&self, claimed: &Claimed, next: &Next) {
        let status = match next {
            Next::Sent => Status::Sent,
            Next::End { status, .. } => *status,
            Next::ResendAt { .. } => return self.metrics.possible_duplicate(),
            _ => return,
        };
        self.metrics.outcome(&claimed.request.tenant, status);
    }
}

fn channel(claimed: &Claimed) -> Option<Channel> {
    claimed.plan.hops.get(usize::from(claimed.hop)).map(|hop| hop.channel)
}

#[async_trait]
impl Queue for CountedQueue {
    async fn claim_into(
        &self,
        worker: &str,
        now: DateTime<Utc>,
        lease_seconds: u32,
        room: Room,
    ) -> Result<Vec<Claimed>> {
        self.queue.claim_into(worker, now, lease_seconds, room).await
    }

    async fn record_intent(&self, claimed: &Claimed, intent: IntentRecord) -> Result<Intent> {
        self.queue.record_intent(claimed, intent).await
    }

    async fn settle(
        &self,
        claimed: &Claimed,
        attempt: AttemptId,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Settled> {
        let settled = self.queue.settle(claimed, attempt, outcome, next, now).await?;
        if settled == Settled::IdTaken {
            self.metrics.id_taken();
            return Ok(settled);
        }
        self.attempted(channel(claimed), outcome);
        self.followed(claimed, next);
        Ok(settled)
    }

    async fn record_unsent(
        &self,
        claimed: &Claimed,
        intent: IntentRecord,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Intent> {
        let recorded = self.queue.record_unsent(claimed, intent, outcome, next, now).await?;
        if matches!(recorded, Intent::Recorded(_)) {
            self.attempted(channel(claimed), outcome);
            self.followed(claimed, next);
        }
        Ok(recorded)
    }

    async fn advance(&self, claimed: &Claimed, next: &Next, now: DateTime<Utc>) -> Result<()> {
        self.queue.advance(claimed, next, now).await?;
        self.followed(claimed, next);
        Ok(())
    }

    async fn recover(
        &self,
        all_of: Option<&str>,
        now: DateTime<Utc>,
        settle_at: DateTime<Utc>,
    ) -> Result<Recovered> {
        self.queue.recover(all_of, now, settle_at).await
    }

    async fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        self.queue.next_due().await
    }
}
