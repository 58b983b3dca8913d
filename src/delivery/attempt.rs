//! One claimed message: gates, prepare, intent, send, settle (reliability.md 5.5).
//!
//! The intent is committed before the step that could deliver, the outcome is kept in memory until the
//! database has it, and no transaction is open while a driver works. Logs name message, channel, driver and
//! class, never an address or a text.

use std::{sync::Arc, sync::atomic::Ordering, time::Duration};

use chrono::{DateTime, Utc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{
    gates::before_attempt,
    machine::{Standing, after_attempt, after_settle_window, without_attempt},
    worker::{LEASE_MARGIN_SECONDS, Worker},
};
use crate::{
    channels::{Driver, Outbound, PrepareError, Prepared},
    domain::{
        delivery::{Attempt, AttemptError, AttemptStatus, ErrorClass, Hop, Next, Outcome, Status},
        ids::AttemptId,
        time::parse_time_zone,
    },
    store::{Claimed, Due, Intent, IntentRecord, OpenAttempt, Result, StoreError},
};

/// First and longest wait between tries to write an outcome.
const REWRITE_WAITS: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));
/// A driver ends its last step itself; this much later we stop waiting for one that does not.
const DRIVER_GRACE: Duration = Duration::from_secs(2);

/// An attempt about to be made.
struct Trying<'a> {
    claimed: &'a Claimed,
    driver: Arc<dyn Driver>,
    outbound: Outbound,
    cost: crate::domain::money::MicroEuros,
    began: DateTime<Utc>,
    started: Instant,
}

impl Worker {
    /// Takes one message as far as it goes now. An error says that the process must stop.
    pub(super) async fn deliver(&self, claimed: Claimed) -> Result<()> {
        let standing = Standing::of(&claimed);
        let now = self.clock.now();
        if claimed.due == Due::Settle {
            return self.advance(&claimed, &after_settle_window(&standing, now)).await;
        }
        if let Some(next) = before_attempt(&standing, now) {
            return self.advance(&claimed, &next).await;
        }
        let Some(hop) = standing.current() else { return Ok(()) };
        let Some(driver) = self.pick_driver(&claimed, hop) else {
            let reason = format!("no driver is configured for {}", hop.channel);
            let next = without_attempt(&standing, now, reason, Status::Failed);
            return self.advance(&claimed, &next).await;
        };
        let mut outbound = outbound(&claimed, hop);
        match self.dress(&mut outbound, driver.name(), &claimed).await {
            Ok(()) => {}
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!(message_id = %claimed.id, why, "its links were not kept: nothing was sent");
                let reason = "the database was unavailable".to_owned();
                return self.advance(&claimed, &Next::HoldUntil { at: now, reason }).await;
            }
            Err(fatal) => return Err(fatal),
        }
        let cost = hop.cost;
        let trying =
            Trying { claimed: &claimed, driver, outbound, cost, began: now, started: Instant::now() };
        match self.prepare(&trying).await {
            Ok(Some(prepared)) => self.send(&trying, prepared).await,
            Ok(None) => {
                let at = self.clock.now();
                let reason = "its lease was nearly over".to_owned();
                self.advance(&claimed, &Next::HoldUntil { at, reason }).await
            }
            Err(failure) => self.record_unsent(&trying, failure).await,
        }
    }

    /// The hop's driver; after a failure that was not the recipient's, the next one where there are several.
    fn pick_driver(&self, claimed: &Claimed, hop: &Hop) -> Option<Arc<dyn Driver>> {
        let drivers = self.drivers.for_channel(hop.channel, &hop.drivers);
        let failed = claimed.last_attempt.as_ref().filter(|last| last.hop == claimed.hop && down(last));
        let after = failed.and_then(|last| drivers.iter().position(|d| d.name() == last.driver));
        let at = after.map_or(0, |at| (at + 1) % drivers.len());
        drivers.get(at).map(|driver| Arc::clone(driver))
    }

    /// Everything that cannot deliver, within what the lease leaves; `None` where it leaves nothing.
    async fn prepare(&self, trying: &Trying<'_>) -> Result<Option<Box<dyn Prepared>>, PrepareError> {
        let Some(budget) = self.lease_left(trying) else { return Ok(None) };
        let (driver, outbound) = (Arc::clone(&trying.driver), trying.outbound.clone());
        let task = AbortOnDropHandle::new(tokio::spawn(async move { driver.prepare(&outbound).await }));
        let not_sent = |detail: &str| PrepareError {
            error: AttemptError { class: ErrorClass::NotSent, code: None, detail: detail.to_owned() },
            retry_after_seconds: None,
        };
        match tokio::time::timeout(budget, task).await {
            Ok(Ok(prepared)) => prepared.map(Some),
            Ok(Err(_)) => Err(not_sent("the driver failed in itself before anything was sent")),
            Err(_) => Err(not_sent("the driver took too long before anything was sent")),
        }
    }

    /// What the lease leaves besides the last step and its margin (I13).
    fn lease_left(&self, trying: &Trying<'_>) -> Option<Duration> {
        let left = (trying.claimed.lease_until - self.clock.now()).to_std().ok()?;
        let kept = u64::from(trying.driver.send_timeout_seconds()) + u64::from(LEASE_MARGIN_SECONDS);
        left.checked_sub(Duration::from_secs(kept)).filter(|left| !left.is_zero())
    }

    /// Intent, last step, outcome.
    async fn send(&self, trying: &Trying<'_>, prepared: Box<dyn Prepared>) -> Result<()> {
        let now = self.clock.now();
        let intent = self.queue.record_intent(trying.claimed, trying.intent(now)).await;
        let Some(open) = self.recorded(trying, intent).await? else { return Ok(()) };
        let outcome = if self.lease_left(trying).is_none() {
            drop(prepared);
            Outcome::failed(ErrorClass::NotSent, "the lease was nearly over when the intent was recorded")
        } else {
            last_step(prepared, trying.driver.send_timeout_seconds()).await
        };
        let now = self.clock.now();
        let next = after_attempt(&Standing::of(trying.claimed), &outcome, now, (self.jitter)());
        trying.log(open.number, &outcome);
        let write = Write::Settle { attempt: open.id, outcome: &outcome, next: &next, now };
        self.until_written(trying.claimed, write).await?;
        Ok(())
    }

    /// An attempt that ended before anything could have been delivered, with what follows, in one step.
    async fn record_unsent(&self, trying: &Trying<'_>, failure: PrepareError) -> Result<()> {
        let now = self.clock.now();
        let PrepareError { error, retry_after_seconds } = failure;
        let outcome = Outcome::Failed { error, retry_after_seconds };
        let next = after_attempt(&Standing::of(trying.claimed), &outcome, now, (self.jitter)());
        trying.log(trying.outbound.attempt_number, &outcome);
        let write =
            Write::Unsent { intent: trying.intent(trying.began), outcome: &outcome, next: &next, now };
        match self.until_written(trying.claimed, write).await? {
            Some(intent) => self.recorded(trying, Ok(intent)).await.map(|_| ()),
            None => Ok(()),
        }
    }

    /// The attempt that was opened; where none was, what follows from that is written here.
    async fn recorded(&self, trying: &Trying<'_>, intent: Result<Intent>) -> Result<Option<OpenAttempt>> {
        let claimed = trying.claimed;
        let now = self.clock.now();
        match intent {
            Ok(Intent::Recorded(open)) => return Ok(Some(open)),
            Ok(Intent::Lost) | Err(StoreError::LeaseLost(_)) => {
                tracing::info!(message_id = %claimed.id, "cancelled or taken over before it was sent");
            }
            Ok(Intent::Suppressed(why)) => {
                let next = without_attempt(&Standing::of(claimed), now, why, Status::Skipped);
                self.advance(claimed, &next).await?;
            }
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!(message_id = %claimed.id, why, "the intent was not recorded: nothing was sent");
                let reason = "the database was unavailable".to_owned();
                self.advance(claimed, &Next::HoldUntil { at: now, reason }).await?;
            }
            Err(StoreError::Corrupt(why)) => {
                tracing::error!(message_id = %claimed.id, why, "the intent was not recorded: nothing was sent");
            }
            Err(fatal) => return Err(fatal),
        }
        Ok(None)
    }

    /// A next step without an attempt.
    async fn advance(&self, claimed: &Claimed, next: &Next) -> Result<()> {
        tracing::info!(message_id = %claimed.id, next = word(next), "no attempt now");
        let write = Write::Advance { next, now: self.clock.now() };
        self.until_written(claimed, write).await?;
        Ok(())
    }

    /// Writes again and again while the database is away, and claims nothing meanwhile: an outcome that is
    /// forgotten is an outcome unknown.
    async fn until_written(&self, claimed: &Claimed, write: Write<'_>) -> Result<Option<Intent>> {
        let (mut wait, longest) = REWRITE_WAITS;
        let mut counted = None;
        let written = loop {
            match self.write(claimed, &write).await {
                Ok(intent) => break intent,
                Err(StoreError::Unavailable(why)) => {
                    counted.get_or_insert_with(|| Unwritten::count(&self.unwritten));
                    tracing::warn!(message_id = %claimed.id, why, "an outcome waits to be written");
                    tokio::time::sleep(wait).await;
                    wait = (wait * 2).min(longest);
                }
                Err(StoreError::LeaseLost(_)) => {
                    let what = "its lease was lost: the outcome settles its own attempt only";
                    tracing::warn!(message_id = %claimed.id, what);
                    break None;
                }
                Err(StoreError::Corrupt(why)) => {
                    tracing::error!(message_id = %claimed.id, why, "an outcome cannot be written");
                    break None;
                }
                Err(fatal) => return Err(fatal),
            }
        };
        self.bell.ring_outcome(claimed.id);
        Ok(written)
    }

    async fn write(&self, claimed: &Claimed, write: &Write<'_>) -> Result<Option<Intent>> {
        match write {
            Write::Settle { attempt, outcome, next, now } => {
                self.queue.settle(claimed, *attempt, outcome, next, *now).await.map(|()| None)
            }
            Write::Unsent { intent, outcome, next, now } => {
                self.queue.record_unsent(claimed, intent.clone(), outcome, next, *now).await.map(Some)
            }
            Write::Advance { next, now } => self.queue.advance(claimed, next, *now).await.map(|()| None),
        }
    }
}

/// What the database must take before the message is let go.
enum Write<'a> {
    Settle { attempt: AttemptId, outcome: &'a Outcome, next: &'a Next, now: DateTime<Utc> },
    Unsent { intent: IntentRecord, outcome: &'a Outcome, next: &'a Next, now: DateTime<Utc> },
    Advance { next: &'a Next, now: DateTime<Utc> },
}

/// Counts one outcome that waits, until it is dropped.
struct Unwritten<'a>(&'a std::sync::atomic::AtomicUsize);

impl<'a> Unwritten<'a> {
    fn count(counter: &'a std::sync::atomic::AtomicUsize) -> Self {
        counter.fetch_add(1, Ordering::SeqCst);
        Self(counter)
    }
}

impl Drop for Unwritten<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Trying<'_> {
    fn intent(&self, at: DateTime<Utc>) -> IntentRecord {
        let zone = parse_time_zone(&self.claimed.plan.budget_time_zone).unwrap_or(chrono_tz::UTC);
        IntentRecord {
            attempt: self.outbound.attempt,
            channel: self.outbound.channel,
            driver: self.driver.name().to_owned(),
            address: self.outbound.to.clone(),
            from: self.outbound.from.clone(),
            cost: self.cost,
            day: at.with_timezone(&zone).date_naive(),
            at,
        }
    }

    fn log(&self, attempt: u16, outcome: &Outcome) {
        let (class, code) = match outcome {
            Outcome::Accepted { .. } => ("accepted", None),
            Outcome::Failed { error, .. } => (class_word(error.class), error.code.as_deref()),
        };
        tracing::info!(
            message_id = %self.claimed.id,
            channel = %self.outbound.channel,
            driver = self.driver.name(),
            attempt,
            class,
            code,
            ms = u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX),
            "attempt"
        );
    }
}

/// The last step in a task of its own, so that neither a panic nor a driver that never ends takes us along.
async fn last_step(prepared: Box<dyn Prepared>, seconds: u32) -> Outcome {
    let longest = Duration::from_secs(u64::from(seconds)) + DRIVER_GRACE;
    let task = AbortOnDropHandle::new(tokio::spawn(async move { prepared.send().await }));
    match tokio::time::timeout(longest, task).await {
        Ok(Ok(outcome)) => outcome,
        Ok(Err(_)) => {
            Outcome::failed(ErrorClass::Unknown, "the driver failed in itself while it was sending")
        }
        Err(_) => Outcome::failed(ErrorClass::Unknown, "the driver did not end in its time"),
    }
}

/// Whether an attempt failed in a way that another provider might not.
fn down(last: &Attempt) -> bool {
    matches!(last.status, AttemptStatus::RefusedTemporary | AttemptStatus::NotSent)
}

fn outbound(claimed: &Claimed, hop: &Hop) -> Outbound {
    let mut content = claimed.request.content.clone();
    if let Some(rendered) = &hop.rendered {
        content.subject.clone_from(&rendered.subject);
        content.body.clone_from(&rendered.body);
        content.html.clone_from(&rendered.html);
    }
    Outbound {
        message: claimed.id,
        attempt: AttemptId::new(),
        attempt_number: claimed.attempts.saturating_add(1),
        channel: hop.channel,
        to: hop.address.clone(),
        to_name: claimed.request.recipient_name.clone(),
        from: hop.from.clone(),
        from_name: hop.from_name.clone(),
        reply_to: hop.reply_to.clone(),
        content,
        class: claimed.plan.class,
        locale: claimed.request.locale.clone(),
        tenant: claimed.request.tenant.clone(),
        deadline: claimed.plan.deadline,
        status_callback: None,
        unsubscribe: None,
        approved_template: hop.rendered.as_ref().and_then(|rendered| rendered.approved_template.clone()),
        in_service_window: false,
    }
}

const fn class_word(class: ErrorClass) -> &'static str {
    match class {
        ErrorClass::Permanent => "permanent",
        ErrorClass::Temporary => "temporary",
        ErrorClass::NotSent => "not_sent",
        ErrorClass::Unknown => "unknown",
        ErrorClass::Misconfigured => "misconfigured",
    }
}

/// The next step in a word, for the log: its reason may hold a provider's words.
const fn word(next: &Next) -> &'static str {
    match next {
        Next::Sent => "sent",
        Next::RetryAt { .. } => "retry",
        Next::FallBackTo { .. } => "fallback",
        Next::SettleAt { .. } => "settle",
        Next::ResendAt { .. } => "resend",
        Next::HoldUntil { .. } => "hold",
        Next::End { status, .. } => status.as_str(),
    }
}
