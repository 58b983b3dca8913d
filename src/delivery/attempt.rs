//! One claimed message: gates, prepare, intent, send, settle (reliability.md 5.5).
//!
//! The intent is committed before the step that could deliver, the outcome is kept in memory until the
//! database has it, and no transaction is open while a driver works. Logs name message, channel, driver and
//! class, never an address or a text.

use std::{pin::pin, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

use super::{
    breaker::Permit,
    gates::{at_budget_limit, before_attempt, before_terms, held_by_pause},
    lanes::Place,
    machine::{Standing, after_attempt, after_silence, poll_at, stopped, when_down, without_attempt},
    terms::AttemptTerms,
    worker::{LEASE_MARGIN_SECONDS, Worker},
    writing::{Write, Written},
};
use crate::{
    channels::{Driver, Outbound, PrepareError, Prepared},
    domain::{
        channel::Channel,
        delivery::{Attempt, AttemptError, AttemptStatus, ErrorClass, Hop, Next, Outcome, Status},
        ids::AttemptId,
        time::{Moment, parse_time_zone},
    },
    failpoint,
    store::{Claimed, Due, Intent, IntentRecord, OpenAttempt, PauseKind, Result, StoreError, paused_words},
};

/// A driver ends its last step itself; this much later we stop waiting for one that does not.
const DRIVER_GRACE: Duration = Duration::from_secs(2);
/// Messages that wait for one driver do not all come back in the same second, but over this many.
const SPREAD_SECONDS: f64 = 20.0;
/// How long a message waits where a pause or the retry budget holds it, in seconds. The end of a pause wakes it.
const PAUSED_SECONDS: i64 = 300;
const OVER_RETRY_BUDGET_SECONDS: i64 = 5;

/// An attempt about to be made.
struct Trying<'a> {
    claimed: &'a Claimed,
    place: &'a Place,
    driver: Arc<dyn Driver>,
    permit: Permit,
    outbound: Outbound,
    terms: AttemptTerms,
    cost: crate::domain::money::MicroEuros,
    began: DateTime<Utc>,
    started: Instant,
}

impl Worker {
    /// Takes one message as far as it goes now. An error says that the process must stop.
    pub(super) async fn deliver(&self, claimed: Claimed, place: &Place) -> Result<()> {
        failpoint::poison(claimed.request.recipient.as_str());
        let standing = Standing::of(&claimed);
        let now = self.clock.now();
        match claimed.due {
            Due::Settle => return self.settle_unknown(&claimed, place).await,
            Due::Escalate => {
                // What comes after the appointment helps nobody.
                let over = claimed.request.event_at.is_some_and(|event| event <= now);
                let next = match over {
                    true => {
                        Next::Stays { reason: Some("the escalation was not sent: its event is over".into()) }
                    }
                    false => after_silence(&standing, &claimed.echoes, now),
                };
                return self.advance(&claimed, &next).await;
            }
            Due::Send => {}
        }
        if let Some(next) = before_attempt(&standing, now) {
            return self.advance(&claimed, &next).await;
        }
        let Some(hop) = standing.current() else { return Ok(()) };
        let mut terms = self.terms.as_ref().map(|terms| terms.of(&claimed, hop, now)).unwrap_or_default();
        let tenant = &claimed.request.tenant;
        if let Some(why) = claimed.pauses.of_tenant(tenant) {
            terms.paused = Some(paused_words(PauseKind::Tenant, tenant.as_str(), why));
        }
        let paused = now + TimeDelta::seconds(PAUSED_SECONDS) + self.spread();
        if let Some(next) = before_terms(&standing, &terms, paused, now) {
            return self.advance(&claimed, &next).await;
        }
        let (driver, permit) = match self.pick_driver(&claimed, hop, now) {
            Ok(picked) => picked,
            Err(next) => return self.advance(&claimed, &next).await,
        };
        let mut outbound = Self::outbound(&claimed, hop, AttemptId::new(), claimed.made.saturating_add(1));
        if let Err(next) = self.dress(&claimed, driver.name(), &mut outbound).await {
            return self.advance(&claimed, &next).await;
        }
        let (cost, started) = (hop.cost, Instant::now());
        let claimed = &claimed;
        let trying = Trying { claimed, place, driver, permit, outbound, terms, cost, began: now, started };
        let prepared = self.prepare(&trying);
        match self.unless_it_hangs(trying.driver.credential(), place, prepared).await {
            Ok(Some(prepared)) => self.send(trying, prepared).await,
            Ok(None) => {
                let at = self.clock.now();
                let reason = "its lease was nearly over".to_owned();
                self.advance(claimed, &Next::HoldUntil { at, reason }).await
            }
            Err(failure) => self.record_unsent(trying, failure).await,
        }
    }

    /// Waits for a call. One that hangs is waited for beside the lane, so that it holds up nobody who goes elsewhere.
    pub(super) async fn unless_it_hangs<T>(
        &self,
        credential: &str,
        place: &Place,
        call: impl Future<Output = T>,
    ) -> T {
        let mut call = pin!(call);
        if let Ok(ended) = tokio::time::timeout(self.settings.patience, &mut call).await {
            return ended;
        }
        let most = self.settings.concurrency.div_ceil(2);
        let _hangs = self.breakers.hangs(credential, most, self.clock.now());
        place.stand_aside();
        call.await
    }

    /// The hop's first driver that may be used, beginning after the one that failed last for a reason of its own; where
    /// none may, what follows.
    fn pick_driver(
        &self,
        claimed: &Claimed,
        hop: &Hop,
        now: DateTime<Utc>,
    ) -> Result<(Arc<dyn Driver>, Permit), Next> {
        let standing = Standing::of(claimed);
        let drivers = self.drivers.for_channel(hop.channel, &hop.drivers);
        if drivers.is_empty() {
            let reason = format!("no driver is configured for {}", hop.channel);
            return Err(without_attempt(&standing, now, reason, Status::Failed));
        }
        let failed = claimed.last_attempt.as_ref().filter(|last| last.hop == claimed.hop && down(last));
        let after = failed.and_then(|last| drivers.iter().position(|d| d.name() == last.driver));
        let first = after.map_or(0, |at| (at + 1) % drivers.len());
        let cold = needs_service_window(claimed, hop) && !claimed.in_service_window;
        let (mut soonest, mut why) = (None, String::new());
        for driver in drivers.iter().cycle().skip(first).take(drivers.len()) {
            if cold && driver.enforces_service_window() {
                continue;
            }
            if let Some(reason) = claimed.pauses.of_driver(driver.name()) {
                let until = now + TimeDelta::seconds(PAUSED_SECONDS);
                if soonest.is_none_or(|at| until < at) {
                    why = paused_words(PauseKind::Driver, driver.name(), reason);
                    soonest = Some(until);
                }
                continue;
            }
            match self.breakers.permit(driver.credential(), hop.from.as_deref(), now) {
                Ok(permit) => {
                    let retry = claimed.attempts_on_hop > 0;
                    let tenant = &claimed.request.tenant;
                    if self.allowance.take(tenant, driver.credential(), retry, now) {
                        return Ok((Arc::clone(driver), permit));
                    }
                    let at = now + TimeDelta::seconds(OVER_RETRY_BUDGET_SECONDS) + self.spread();
                    let reason = "more retries than this driver is asked for at a time".to_owned();
                    return Err(when_down(&standing, at, reason, now));
                }
                Err(waits) if soonest.is_none_or(|at| waits.until < at) => {
                    (soonest, why) = (Some(waits.until), waits.reason);
                }
                Err(_) => {}
            }
        }
        let Some(soonest) = soonest else {
            let reason = format!(
                "the person has not written to this sender within 24 hours, and {} then takes approved templates only",
                hop.channel
            );
            return Err(without_attempt(&standing, now, reason, Status::Skipped));
        };
        Err(when_down(&standing, soonest + self.spread(), why, now))
    }

    /// A part of the spread by chance.
    fn spread(&self) -> TimeDelta {
        TimeDelta::milliseconds(((self.jitter)().clamp(0.0, 1.0) * SPREAD_SECONDS * 1000.0) as i64)
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
    async fn send(&self, mut trying: Trying<'_>, prepared: Box<dyn Prepared>) -> Result<()> {
        let (claimed, now) = (trying.claimed, self.clock.now());
        failpoint::hit("send.prepared");
        // What took long to prepare may have come into a forbidden hour (P7).
        if let Some(next) = before_attempt(&Standing::of(claimed), now) {
            return self.advance(claimed, &next).await;
        }
        let intent = self.queue.record_intent(claimed, trying.intent(now)).await;
        let Some(open) = self.recorded(&trying, intent).await? else { return Ok(()) };
        let outcome = if self.lease_left(&trying).is_none() {
            drop(prepared);
            Outcome::failed(ErrorClass::NotSent, "the lease was nearly over when the intent was recorded")
        } else {
            let sent = last_step(prepared, trying.driver.send_timeout_seconds());
            self.unless_it_hangs(trying.driver.credential(), trying.place, sent).await
        };
        failpoint::hit("outcome.pre_begin");
        let now = self.clock.now();
        let next = after_attempt(&Standing::of(claimed), &outcome, now, (self.jitter)());
        trying.log(open.number, &outcome);
        trying.permit.report(&outcome, now);
        let write = Write::Settle { attempt: open.id, outcome: &outcome, next: &next, now };
        if self.until_written(claimed, write).await? == Written::IdTaken {
            self.disbelieve(claimed, open.id).await?;
        }
        Ok(())
    }

    /// The provider named the message as it named another one: its answer is not to be believed, and the attempt is
    /// looked for like any other whose answer is lost (F39).
    async fn disbelieve(&self, claimed: &Claimed, attempt: AttemptId) -> Result<()> {
        let what = "the provider gave an id that belongs to another attempt: the outcome counts as unknown";
        tracing::error!(message_id = %claimed.id, what, "an answer that cannot be");
        let now = self.clock.now();
        let outcome =
            Outcome::failed(ErrorClass::Unknown, "the provider gave an id that belongs to another message");
        let next = Next::SettleAt { at: poll_at(now, 0).unwrap_or(now), reason: what.to_owned() };
        self.until_written(claimed, Write::Settle { attempt, outcome: &outcome, next: &next, now }).await?;
        Ok(())
    }

    /// An attempt that ended before anything could have been delivered, with what follows, in one step.
    async fn record_unsent(&self, mut trying: Trying<'_>, failure: PrepareError) -> Result<()> {
        let now = self.clock.now();
        let PrepareError { error, retry_after_seconds } = failure;
        let outcome = Outcome::Failed { error, retry_after_seconds };
        let next = after_attempt(&Standing::of(trying.claimed), &outcome, now, (self.jitter)());
        trying.log(trying.outbound.attempt_number, &outcome);
        let intent = Box::new(trying.intent(trying.began));
        // Before the message can be claimed again: a credential that was refused is shut by then.
        trying.permit.report(&outcome, now);
        let write = Write::Unsent { intent, outcome: &outcome, next: &next, now };
        if let Written::Intent(intent) = self.until_written(trying.claimed, write).await? {
            self.recorded(&trying, Ok(intent)).await?;
        }
        Ok(())
    }

    /// The attempt that was opened; where none was, what follows from that is written here.
    async fn recorded(&self, trying: &Trying<'_>, intent: Result<Intent>) -> Result<Option<OpenAttempt>> {
        let claimed = trying.claimed;
        let (standing, now) = (Standing::of(claimed), self.clock.now());
        let next = match intent {
            Ok(Intent::Recorded(open)) => return Ok(Some(open)),
            Ok(Intent::Lost) | Err(StoreError::LeaseLost(_)) => {
                tracing::info!(message_id = %claimed.id, "cancelled or taken over before it was sent");
                return Ok(None);
            }
            Ok(Intent::Suppressed(why) | Intent::TooDear(why)) => {
                without_attempt(&standing, now, why, Status::Skipped)
            }
            Ok(Intent::Paused(why)) => {
                let paused = now + TimeDelta::seconds(PAUSED_SECONDS) + self.spread();
                held_by_pause(&standing, why, paused)
            }
            Ok(Intent::TooOften(why)) => stopped(&standing, Status::Skipped, &why),
            Ok(Intent::OverBudget { reason, monthly, waits }) => {
                at_budget_limit(&standing, reason, monthly, waits && trying.terms.waits_at_limit, now)
            }
            Err(StoreError::Unavailable(why)) => {
                tracing::warn!(message_id = %claimed.id, why, "the intent was not recorded: nothing was sent");
                Next::HoldUntil { at: now, reason: "the database was unavailable".to_owned() }
            }
            Err(StoreError::Corrupt(why)) => {
                tracing::error!(message_id = %claimed.id, why, "the intent was not recorded: nothing was sent");
                return Ok(None);
            }
            Err(fatal) => return Err(fatal),
        };
        self.advance(claimed, &next).await?;
        Ok(None)
    }
}

impl Trying<'_> {
    fn intent(&self, at: DateTime<Utc>) -> IntentRecord {
        let zone = parse_time_zone(&self.claimed.plan.budget_time_zone).unwrap_or(chrono_tz::UTC);
        IntentRecord {
            attempt: self.outbound.attempt,
            channel: self.outbound.channel,
            driver: self.driver.name().to_owned(),
            credential: self.driver.credential().to_owned(),
            address: self.outbound.to.clone(),
            from: self.outbound.from.clone(),
            cost: self.cost,
            day: Moment::of(at, zone).local.date(),
            at,
            limits: self.terms.limits.clone(),
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

/// Whether what this hop sends may go only soon after the person wrote, where its driver enforces that: free text, and
/// files.
fn needs_service_window(claimed: &Claimed, hop: &Hop) -> bool {
    if hop.channel != Channel::WhatsApp {
        return false;
    }
    let approved = hop.rendered.as_ref().is_some_and(|form| form.approved_template.is_some());
    !approved || !claimed.request.content.attachments.is_empty()
}

/// Whether an attempt failed in a way that another provider might not.
fn down(last: &Attempt) -> bool {
    matches!(last.status, AttemptStatus::RefusedTemporary | AttemptStatus::NotSent)
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
