//! What the database must take before a message is let go, and the patience until it has.
//!
//! An outcome that is forgotten is an outcome unknown: it is kept in memory and written again while the database is
//! away, and nothing is claimed meanwhile. It decides nothing of what is written.

use std::{
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use chrono::{DateTime, Utc};

use super::worker::Worker;
use crate::{
    domain::{
        delivery::{Next, Outcome},
        ids::AttemptId,
    },
    store::{Claimed, Intent, IntentRecord, Result, Settled, StoreError},
};

/// First and longest wait between tries to write an outcome.
const REWRITE_WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(2));

/// What is to be written.
pub(super) enum Write<'a> {
    Settle { attempt: AttemptId, outcome: &'a Outcome, next: &'a Next, now: DateTime<Utc> },
    Unsent { intent: Box<IntentRecord>, outcome: &'a Outcome, next: &'a Next, now: DateTime<Utc> },
    Advance { next: &'a Next, now: DateTime<Utc> },
}

/// What became of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Written {
    Done,
    /// An attempt that was never begun: whether it was recorded.
    Intent(Intent),
    /// The provider's name for the message belongs to another attempt: nothing was written.
    IdTaken,
    /// The lease was lost, or what is stored cannot be read: nobody waits for it.
    Lost,
}

impl Worker {
    /// A next step without an attempt.
    pub(super) async fn advance(&self, claimed: &Claimed, next: &Next) -> Result<()> {
        tracing::info!(message_id = %claimed.id, next = word(next), "no attempt now");
        let write = Write::Advance { next, now: self.clock.now() };
        self.until_written(claimed, write).await?;
        Ok(())
    }

    /// Writes again and again while the database is away.
    pub(super) async fn until_written(&self, claimed: &Claimed, write: Write<'_>) -> Result<Written> {
        let (mut wait, longest) = REWRITE_WAITS;
        let mut counted = None;
        let written = loop {
            match self.write(claimed, &write).await {
                Ok(written) => break written,
                Err(StoreError::Unavailable(why)) => {
                    counted.get_or_insert_with(|| Unwritten::count(&self.unwritten));
                    tracing::warn!(message_id = %claimed.id, why, "an outcome waits to be written");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(longest);
                }
                Err(StoreError::LeaseLost(_)) => {
                    let what = "its lease was lost: the outcome settles its own attempt only";
                    tracing::warn!(message_id = %claimed.id, what);
                    break Written::Lost;
                }
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(message_id = %claimed.id, why, "an outcome cannot be written");
                    break Written::Lost;
                }
                Err(fatal) => return Err(fatal),
            }
        };
        self.bell.ring_outcome(claimed.id);
        Ok(written)
    }

    async fn write(&self, claimed: &Claimed, write: &Write<'_>) -> Result<Written> {
        match write {
            Write::Settle { attempt, outcome, next, now } => {
                let settled = self.queue.settle(claimed, *attempt, outcome, next, *now).await?;
                Ok(if settled == Settled::IdTaken { Written::IdTaken } else { Written::Done })
            }
            Write::Unsent { intent, outcome, next, now } => {
                let recorded =
                    self.queue.record_unsent(claimed, (**intent).clone(), outcome, next, *now).await?;
                Ok(Written::Intent(recorded))
            }
            Write::Advance { next, now } => {
                self.queue.advance(claimed, next, *now).await.map(|()| Written::Done)
            }
        }
    }
}

/// Counts one outcome that waits, until it is dropped.
struct Unwritten<'a>(&'a AtomicUsize);

impl<'a> Unwritten<'a> {
    fn count(counter: &'a AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The next step in a word, for the log: its reason may hold a provider's words.
const fn word(next: &Next) -> &'static str {
    match next {
        Next::Sent => "sent",
        Next::RetryAt { .. } => "retry",
        Next::WaitUntil { .. } => "wait",
        Next::FallBackTo { .. } => "fallback",
        Next::SettleAt { .. } => "settle",
        Next::ResendAt { .. } => "resend",
        Next::HoldUntil { .. } => "hold",
        Next::Escalate { .. } => "escalate",
        Next::Stays { .. } => "stays",
        Next::End { status, .. } => status.as_str(),
    }
}
