//! Attempts: the intent before the bytes, the outcome after them, and the message's next step.
//!
//! Fences, leases, suppressions and "one open attempt" are conditions of the statements themselves. What the next
//! step is, was decided elsewhere; here it is only written, and never over an end (I8).

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    Claimed, Intent, IntentRecord, OpenAttempt, Result, StoreError,
    database::{Fault, Link, values},
    queue::event,
    rows,
    writer::Operation,
};
use crate::domain::{
    channel::Channel,
    delivery::{AttemptStatus, ErrorClass, Next, Outcome, Status},
    ids::{AttemptId, MessageId, TenantId},
    message::{MessageClass, Origin},
    money::MicroEuros,
};

/// The most attempts at one message (reliability.md P6, I6).
const ATTEMPTS_MAX: i64 = 12;

const MARKETING: MessageClass = MessageClass::Marketing;

pub(super) struct RecordIntent {
    id: MessageId,
    tenant: TenantId,
    origin: Origin,
    fence: i64,
    hop: u16,
    intent: IntentRecord,
}

impl RecordIntent {
    pub(super) fn new(claimed: &Claimed, intent: IntentRecord) -> Self {
        Self {
            id: claimed.id,
            tenant: claimed.request.tenant.clone(),
            origin: claimed.request.origin,
            fence: claimed.fence,
            hop: claimed.hop,
            intent,
        }
    }

    async fn insert(&self, link: &mut Link<'_>, number: i64) -> Result<(), Fault> {
        let intent = &self.intent;
        let sql = "INSERT INTO attempts (message_id, number, id, hop, channel, driver, sender, address, fence, \
                   status, started_at, estimate, cost, day) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'intent', $10, $11, $11, $12)";
        let values = values![
            self.id,
            number,
            intent.attempt,
            self.hop,
            intent.channel,
            intent.driver.as_str(),
            intent.from.as_deref().unwrap_or_default(),
            intent.address.as_str(),
            self.fence,
            intent.at,
            intent.cost,
            intent.day,
        ];
        link.run(sql, values).await?;
        Ok(())
    }
}

impl Operation for RecordIntent {
    type Answer = Intent;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Intent, Fault> {
        let intent = &self.intent;
        let address = intent.address.as_str();
        if link.locks_rows() {
            lock_address(link, address).await?;
        }
        let from = intent.from.as_deref().unwrap_or_default();
        let sql = "SELECT reason FROM suppressions WHERE address = $1 AND channel = $2 \
                   AND sender IN ('', $3) AND tenant IN ('', $4) LIMIT 1";
        if let Some(row) = link.row(sql, values![address, intent.channel, from, &self.tenant]).await? {
            return Ok(Intent::Suppressed(row.text(0)?));
        }
        let sql = "UPDATE messages SET open_attempt = $3, attempts = attempts + 1, \
                   hop_attempts = hop_attempts + 1 \
                   WHERE id = $1 AND fence = $2 AND status = 'sending' AND lease_until > $4 \
                   AND open_attempt IS NULL AND attempts < $5 RETURNING attempts";
        let values = values![self.id, self.fence, intent.attempt, intent.at, ATTEMPTS_MAX];
        let Some(row) = link.row(sql, values).await? else { return Ok(Intent::Lost) };
        let number = row.int(0)?;
        self.insert(link, number).await?;
        spend(link, &self.tenant, self.origin, intent.channel, &day_text(intent.day), intent.cost.0).await?;
        link.tally().spent(self.id, intent.channel, &day_text(intent.day), intent.cost.0);
        Ok(Intent::Recorded(OpenAttempt { id: intent.attempt, number: rows::small(number)? }))
    }
}

/// An attempt that never came to its last step: opened and settled in one transaction.
pub(super) struct RecordUnsent {
    pub(super) intent: RecordIntent,
    pub(super) settle: Settle,
}

impl Operation for RecordUnsent {
    type Answer = Intent;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Intent, Fault> {
        let recorded = self.intent.apply(link).await?;
        if matches!(recorded, Intent::Recorded(_)) {
            self.settle.apply(link).await?;
        }
        Ok(recorded)
    }
}

/// With several writers a suppression and an intent for one address must not pass each other: intents share this
/// lock until they commit, whoever adds a suppression takes it alone.
async fn lock_address(link: &mut Link<'_>, address: &str) -> Result<(), Fault> {
    link.rows("SELECT pg_advisory_xact_lock_shared(hashtextextended($1, 0))", values![address]).await?;
    Ok(())
}

fn day_text(day: NaiveDate) -> String {
    day.format("%Y-%m-%d").to_string()
}

/// Adds to what a tenant spent on a day; `by` is negative where money is given back.
async fn spend(
    link: &mut Link<'_>,
    tenant: &TenantId,
    origin: Origin,
    channel: Channel,
    day: &str,
    by: i64,
) -> Result<(), Fault> {
    if by == 0 {
        return Ok(());
    }
    let sql = "INSERT INTO spend (tenant, day, channel, origin, micro_euros) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant, day, channel, origin) \
               DO UPDATE SET micro_euros = spend.micro_euros + excluded.micro_euros";
    link.run(sql, values![tenant, day, channel, origin.as_str(), by]).await?;
    Ok(())
}

/// What an attempt's row says once it is over.
struct Ended {
    status: AttemptStatus,
    provider_message_id: Option<String>,
    error: Option<String>,
    /// None: what was estimated.
    cost: Option<MicroEuros>,
}

impl Ended {
    fn new(outcome: &Outcome) -> Result<Self> {
        Ok(match outcome {
            Outcome::Accepted { provider_message_id, cost } => Self {
                status: AttemptStatus::Accepted,
                provider_message_id: provider_message_id.clone(),
                error: None,
                cost: *cost,
            },
            Outcome::Failed { error, .. } => {
                let status = match error.class {
                    ErrorClass::Permanent => AttemptStatus::RefusedPermanent,
                    ErrorClass::Temporary | ErrorClass::Misconfigured => AttemptStatus::RefusedTemporary,
                    ErrorClass::NotSent => AttemptStatus::NotSent,
                    ErrorClass::Unknown => AttemptStatus::Unknown,
                };
                // What was refused or never left costs nothing; what may have arrived stays on the account.
                let cost = (status != AttemptStatus::Unknown).then_some(MicroEuros::ZERO);
                let error = rows::to_json(error).map_err(StoreError::from)?;
                Self { status, provider_message_id: None, error: Some(error), cost }
            }
        })
    }
}

/// A message's row after its next step.
struct Step {
    status: Status,
    reason: Option<String>,
    due_at: Option<DateTime<Utc>>,
    hop: u16,
    new_hop: bool,
    resend: bool,
    sent_via: Option<Channel>,
    event: &'static str,
}

impl Step {
    /// A second resend, or one of marketing, is never written, whoever asks for it (I7): a person decides.
    fn new(claimed: &Claimed, next: &Next, sent_via: Option<Channel>, now: DateTime<Utc>) -> Self {
        let step = |status, reason: &str, at, event| Step {
            status,
            reason: Some(reason.to_owned()),
            due_at: at,
            hop: claimed.hop,
            new_hop: false,
            resend: false,
            sent_via: None,
            event,
        };
        match next {
            Next::Sent => {
                Step { reason: None, sent_via, ..step(Status::Sent, "", None, Status::Sent.as_str()) }
            }
            Next::RetryAt { at, reason } => step(Status::Retrying, reason, Some(*at), "retry"),
            Next::FallBackTo { hop, at, reason } => {
                let status = if *at > now { Status::Retrying } else { Status::Queued };
                Step { hop: *hop, new_hop: true, ..step(status, reason, Some(*at), "fallback") }
            }
            Next::SettleAt { at, reason } => step(Status::Unknown, reason, Some(*at), "unknown"),
            Next::ResendAt { reason, .. } if claimed.resend_used || claimed.plan.class == MARKETING => {
                let reason = format!("not sent again, it may have arrived: {reason}");
                step(Status::Unresolved, &reason, None, Status::Unresolved.as_str())
            }
            Next::ResendAt { at, reason } => {
                Step { resend: true, ..step(Status::Retrying, reason, Some(*at), "resend") }
            }
            Next::HoldUntil { at, reason } if *at > now => step(Status::Held, reason, Some(*at), "held"),
            Next::HoldUntil { at, reason } => step(Status::Queued, reason, Some(*at), "given_back"),
            Next::End { status, reason } => step(*status, reason, None, status.as_str()),
        }
    }

    /// Writes the step where the lease still is the caller's; false where it is not. `open` is the attempt that
    /// is being settled. An attempt that HoldUntil gives back doesn't count on its hop.
    async fn write(
        &self,
        link: &mut Link<'_>,
        id: MessageId,
        fence: i64,
        open: Option<AttemptId>,
        uncounted: bool,
    ) -> Result<bool, Fault> {
        let sql = "UPDATE messages SET status = $3, status_reason = $4, due_at = $5, hop = $6, \
             hop_attempts = CASE WHEN $7 = 1 THEN 0 ELSE hop_attempts - $8 END, \
             resend_used = CASE WHEN $9 = 1 THEN 1 ELSE resend_used END, \
             possible_duplicate = CASE WHEN $9 = 1 THEN 1 ELSE possible_duplicate END, \
             sent_via = COALESCE($10, sent_via), crashes = 0, lease_owner = NULL, lease_until = NULL, \
             open_attempt = NULL \
             WHERE id = $1 AND fence = $2 AND lease_owner IS NOT NULL AND status IN ('sending', 'unknown') \
             AND (open_attempt IS NULL OR open_attempt = $11)";
        let values = values![
            id,
            fence,
            self.status,
            self.reason.as_deref(),
            self.due_at,
            self.hop,
            self.new_hop,
            uncounted && !self.new_hop,
            self.resend,
            self.sent_via,
            open,
        ];
        Ok(link.run(sql, values).await? > 0)
    }
}

pub(super) struct Settle {
    id: MessageId,
    tenant: TenantId,
    origin: Origin,
    fence: i64,
    attempt: AttemptId,
    ended: Ended,
    /// The hop's.
    channel: Option<Channel>,
    step: Step,
    uncounted: bool,
    now: DateTime<Utc>,
}

impl Settle {
    pub(super) fn new(
        claimed: &Claimed,
        attempt: AttemptId,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Self> {
        let ended = Ended::new(outcome)?;
        let channel = claimed.plan.hops.get(usize::from(claimed.hop)).map(|hop| hop.channel);
        Ok(Self {
            id: claimed.id,
            tenant: claimed.request.tenant.clone(),
            origin: claimed.request.origin,
            fence: claimed.fence,
            attempt,
            uncounted: matches!(next, Next::HoldUntil { .. }) && ended.status == AttemptStatus::NotSent,
            ended,
            channel,
            step: Step::new(claimed, next, channel, now),
            now,
        })
    }
}

impl Operation for Settle {
    /// Whether the message was still the caller's.
    type Answer = bool;

    async fn apply(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        let held = self.step.write(link, self.id, self.fence, Some(self.attempt), self.uncounted).await?;
        let ended = &self.ended;
        let sql = "UPDATE attempts SET status = $3, finished_at = $4, provider_message_id = $5, error = $6, \
                   cost = COALESCE($7, estimate) \
                   WHERE message_id = $1 AND id = $2 AND status IN ('intent', 'unknown') \
                   RETURNING channel, day, cost - estimate";
        let values = values![
            self.id,
            self.attempt,
            ended.status.as_str(),
            self.now,
            ended.provider_message_id.as_deref(),
            ended.error.as_deref(),
            ended.cost.map(|cost| cost.0),
        ];
        if let Some(row) = link.row(sql, values).await? {
            let channel = rows::channel(&row.text(0)?)?;
            spend(link, &self.tenant, self.origin, channel, &row.text(1)?, row.int(2)?).await?;
            link.tally().spent(self.id, channel, &row.text(1)?, row.int(2)?);
            link.tally().settled(self.id, channel, ended.status);
        }
        if held {
            link.tally().followed(self.id, self.channel, self.step.status, self.step.new_hop);
            let id = self.id.to_string();
            event(link, &id, self.now, self.step.event, self.step.reason.as_deref()).await?;
        }
        Ok(held)
    }
}

pub(super) struct Advance {
    id: MessageId,
    fence: i64,
    /// The hop's.
    channel: Option<Channel>,
    step: Step,
    now: DateTime<Utc>,
}

impl Advance {
    pub(super) fn new(claimed: &Claimed, next: &Next, now: DateTime<Utc>) -> Self {
        // Without an attempt of its own, `Sent` means that the last one turned out to be accepted.
        let taken = claimed.last_attempt.as_ref().map(|attempt| attempt.channel);
        Self {
            id: claimed.id,
            fence: claimed.fence,
            channel: claimed.plan.hops.get(usize::from(claimed.hop)).map(|hop| hop.channel),
            step: Step::new(claimed, next, taken, now),
            now,
        }
    }
}

impl Operation for Advance {
    type Answer = bool;

    async fn apply(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        let held = self.step.write(link, self.id, self.fence, None, false).await?;
        if held {
            link.tally().followed(self.id, self.channel, self.step.status, self.step.new_hop);
            let id = self.id.to_string();
            event(link, &id, self.now, self.step.event, self.step.reason.as_deref()).await?;
        }
        Ok(held)
    }
}
