//! Attempts: the intent before the bytes, the outcome after them, and the message's next step.
//!
//! Fences, leases, suppressions, limits, the bounds of attempts and "one open attempt" are conditions of the
//! statements themselves, or read in the same transaction.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    Claimed, Due, Intent, IntentRecord, OpenAttempt, Result, Settled, StoreError,
    counters::Labels,
    database::{Fault, Link, values},
    engagement,
    evidence::is_owned_by_another,
    jobs::Operation,
    limits::{self, Bearer},
    operate,
    refusals::{self, Asked, Refusal},
    rows,
    steps::{Step, look_again},
};
use crate::{
    domain::{
        channel::Channel,
        consent::sender_key,
        delivery::{AttemptStatus, ErrorClass, Next, Outcome},
        ids::{AttemptId, MessageId, RecipientId, TenantId},
        message::Origin,
        money::MicroEuros,
    },
    failpoint,
};

/// The most attempts at one message, and on one of its channels (reliability.md P6, I6). Those that do not count are
/// bounded by the deadline.
const ATTEMPTS_MAX: i64 = 12;
const HOP_ATTEMPTS_MAX: i64 = 4;

pub(super) struct RecordIntent {
    id: MessageId,
    tenant: TenantId,
    recipient: RecipientId,
    origin: Origin,
    fence: i64,
    hop: u16,
    labels: Arc<Labels>,
    intent: IntentRecord,
}

impl RecordIntent {
    pub(super) fn new(claimed: &Claimed, intent: IntentRecord) -> Self {
        Self {
            id: claimed.id,
            tenant: claimed.request.tenant.clone(),
            recipient: claimed.request.recipient.clone(),
            origin: claimed.request.origin,
            fence: claimed.fence,
            hop: claimed.hop,
            labels: Arc::clone(&claimed.labels),
            intent,
        }
    }

    async fn insert(&self, link: &mut Link<'_>, number: i64) -> Result<(), Fault> {
        let intent = &self.intent;
        let sql = "INSERT INTO attempts (message_id, number, id, hop, channel, driver, sender, address, fence, \
                   status, started_at, estimate, cost, day, credential) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, 'intent', $10, $11, $11, $12, $13)";
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
            intent.credential.as_str(),
        ];
        link.run(sql, values).await?;
        Ok(())
    }

    fn bearer(&self) -> Bearer<'_> {
        Bearer {
            message: self.id,
            tenant: &self.tenant,
            recipient: self.recipient.as_str(),
            origin: self.origin,
            channel: self.intent.channel,
            day: self.intent.day,
            cost: self.intent.cost,
        }
    }
}

impl Operation for RecordIntent {
    type Answer = Intent;

    fn name(&self) -> &'static str {
        "intent"
    }

    fn begins(&self) -> bool {
        true
    }

    async fn apply(&self, link: &mut Link<'_>) -> Result<Intent, Fault> {
        let intent = &self.intent;
        let address = intent.address.as_str();
        if link.locks_rows() {
            lock_address(link, address).await?;
        }
        let asked = Asked {
            tenant: &self.tenant,
            channel: intent.channel,
            address,
            sender: intent.from.as_deref(),
            driver: &intent.driver,
        };
        if let Some(reason) = refusals::refusal(link, &asked).await? {
            return Ok(Intent::Suppressed(reason));
        }
        if let Some(why) = operate::held(link, &self.tenant, &intent.driver).await? {
            return Ok(Intent::Paused(why));
        }
        if let Some(refused) = limits::reached(link, &self.bearer(), &intent.limits).await? {
            return Ok(refused);
        }
        let sql = "UPDATE messages SET open_attempt = $3, attempts = attempts + 1, \
                   hop_attempts = hop_attempts + 1 \
                   WHERE id = $1 AND fence = $2 AND status = 'sending' AND lease_until > $4 \
                   AND open_attempt IS NULL AND attempts - waived < $5 AND hop_attempts < $6 RETURNING attempts";
        let values = values![self.id, self.fence, intent.attempt, intent.at, ATTEMPTS_MAX, HOP_ATTEMPTS_MAX];
        link.notes().nobody();
        let Some(row) = link.row(sql, values).await? else { return Ok(Intent::Lost) };
        let number = row.int(0)?;
        self.insert(link, number).await?;
        failpoint::hit("claim.intent_row");
        let (origin, day) = (self.origin.as_str(), day_text(intent.day));
        spend(link, &self.tenant, origin, intent.channel, &day, intent.cost.0)?;
        link.tally().spent_under(&self.labels, intent.channel, &day, intent.cost.0);
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

    fn name(&self) -> &'static str {
        "outcome"
    }

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

/// Adds to what a tenant spent on a day; `by` is negative where money is given back. Written with all of the
/// transaction, before a budget is asked for and before the commit.
pub(super) fn spend(
    link: &mut Link<'_>,
    tenant: &TenantId,
    origin: &str,
    channel: Channel,
    day: &str,
    by: i64,
) -> Result<(), Fault> {
    if by != 0 {
        let origin = Origin::parse(origin).ok_or_else(|| Fault::Corrupt("an origin".into()))?;
        link.notes().spent(tenant, day, channel, origin, by);
    }
    Ok(())
}

/// Writes what was spent since this was called last, in the order of the keys: two replicas that add to the same never
/// wait for each other in a ring.
pub(super) async fn write_spend(link: &mut Link<'_>) -> Result<(), Fault> {
    let sql = "INSERT INTO spend (tenant, day, channel, origin, micro_euros) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant, day, channel, origin) \
               DO UPDATE SET micro_euros = spend.micro_euros + excluded.micro_euros";
    for (tenant, day, channel, origin, by) in link.notes().unwritten_spend() {
        link.run(sql, values![&tenant, day, channel, origin.as_str(), by]).await?;
    }
    Ok(())
}

/// What an attempt's row says once it is over.
struct Ended {
    status: AttemptStatus,
    provider_message_id: Option<String>,
    error: Option<String>,
    /// None: what was estimated.
    cost: Option<MicroEuros>,
    /// The provider says that the person refused this sender, in words.
    opted_out: Option<String>,
    /// The mail server says by this code that there is no such mailbox.
    no_mailbox: Option<String>,
}

impl Ended {
    fn new(outcome: &Outcome) -> Result<Self> {
        Ok(match outcome {
            Outcome::Accepted { provider_message_id, cost } => Self {
                status: AttemptStatus::Accepted,
                provider_message_id: provider_message_id.clone(),
                error: None,
                cost: *cost,
                opted_out: None,
                no_mailbox: None,
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
                let code = error.code.as_deref().unwrap_or_default();
                let opted_out = error.says_opted_out().then(|| format!("opted out at the provider ({code})"));
                let no_mailbox = error.says_no_such_mailbox().then(|| code.to_owned());
                let error = rows::to_json(error).map_err(StoreError::from)?;
                Self { status, provider_message_id: None, error: Some(error), cost, opted_out, no_mailbox }
            }
        })
    }
}

pub(super) struct Settle {
    id: MessageId,
    tenant: TenantId,
    recipient: RecipientId,
    origin: Origin,
    fence: i64,
    attempt: AttemptId,
    ended: Ended,
    step: Step,
    waived: bool,
    /// It was asked for, not answered.
    looked_up: bool,
    accepted_at: DateTime<Utc>,
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
        let waits = matches!(next, Next::WaitUntil { .. }) && ended.status != AttemptStatus::Unknown;
        let given_back = matches!(next, Next::HoldUntil { .. }) && ended.status == AttemptStatus::NotSent;
        Ok(Self {
            id: claimed.id,
            tenant: claimed.request.tenant.clone(),
            recipient: claimed.request.recipient.clone(),
            origin: claimed.request.origin,
            fence: claimed.fence,
            attempt,
            waived: waits || given_back,
            ended,
            step: Step::new(claimed, next, channel, now),
            looked_up: claimed.due == Due::Settle,
            accepted_at: claimed.accepted_at,
            now,
        })
    }

    /// The person refused this sender, at the provider: kept together with the outcome (F44).
    async fn suppress(&self, link: &mut Link<'_>, reason: &str) -> Result<(), Fault> {
        let sql = "SELECT address, channel, sender, driver FROM attempts WHERE message_id = $1 AND id = $2";
        let Some(row) = link.row(sql, values![self.id, self.attempt]).await? else { return Ok(()) };
        let channel = rows::channel(&row.text(1)?)?;
        let refusal = Refusal {
            address: row.text(0)?,
            channel,
            sender: sender_key(channel, &row.text(2)?),
            // A sender that only the provider knows (a pool of numbers) is this tenant's.
            tenant: row.text(2)?.is_empty().then(|| self.tenant.clone()),
            reason: reason.to_owned(),
            act: "refused",
            source: "provider",
            noted_by: self.tenant.as_str().to_owned(),
            noted_driver: row.text(3)?,
            proof: Some(format!("attempt {} at message {}", self.attempt, self.id)),
            reference: None,
            review: false,
            said_at: self.now,
            now: self.now,
        };
        refusal.apply(link).await?;
        Ok(())
    }
}

impl Operation for Settle {
    /// `Lost`: the message was not the caller's any more.
    type Answer = Option<Settled>;

    fn name(&self) -> &'static str {
        if self.looked_up { "recon" } else { "outcome" }
    }

    async fn apply(&self, link: &mut Link<'_>) -> Result<Option<Settled>, Fault> {
        let ended = &self.ended;
        if let Some(name) = &ended.provider_message_id {
            let sql = "SELECT credential, channel FROM attempts WHERE message_id = $1 AND id = $2";
            if let Some(row) = link.row(sql, values![self.id, self.attempt]).await? {
                let (credential, channel) = (row.text(0)?, rows::channel(&row.text(1)?)?);
                if is_owned_by_another(link, channel, &credential, name, self.attempt).await? {
                    return Ok(Some(Settled::IdTaken));
                }
            }
        }
        link.notes().person(self.id, &self.tenant, self.recipient.as_str());
        let held = self.step.write(link, self.id, self.fence, Some(self.attempt), self.waived).await?;
        failpoint::hit("outcome.next_timer");
        let sql = "UPDATE attempts SET status = $3, finished_at = $4, provider_message_id = $5, error = $6, \
                   cost = COALESCE($7, estimate), waived = $8 \
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
            held && self.waived,
        ];
        if let Some(row) = link.row(sql, values).await? {
            let channel = rows::channel(&row.text(0)?)?;
            let (origin, day) = (self.origin.as_str(), row.text(1)?);
            spend(link, &self.tenant, origin, channel, &day, row.int(2)?)?;
            link.tally().spent(self.id, channel, &day, row.int(2)?);
            link.tally().settled(self.id, channel, ended.status);
        }
        failpoint::hit("outcome.row");
        if let Some(reason) = &ended.opted_out {
            self.suppress(link, reason).await?;
        }
        if let Some(code) = &ended.no_mailbox
            && let Some(refusal) = Refusal::of_mailbox(link, self.id, self.attempt, code, self.now).await?
        {
            refusal.apply(link).await?;
        }
        if held {
            self.step.tell(link, self.id, self.now).await?;
        }
        let taken = self.step.taken_by().filter(|_| held);
        let taken = taken.map(|channel| (&self.tenant, channel, self.accepted_at));
        engagement::settled(link, taken, ended.provider_message_id.as_deref()).await?;
        Ok(held.then_some(Settled::Done))
    }
}

pub(super) struct Advance {
    id: MessageId,
    tenant: TenantId,
    accepted_at: DateTime<Utc>,
    fence: i64,
    due: Due,
    step: Step,
    now: DateTime<Utc>,
}

impl Advance {
    pub(super) fn new(claimed: &Claimed, next: &Next, now: DateTime<Utc>) -> Self {
        // Without an attempt of its own, `Sent` means that the last one turned out to be accepted.
        let channel = claimed.last_attempt.as_ref().map(|attempt| attempt.channel);
        let step = Step::new(claimed, next, channel, now);
        let (tenant, accepted_at) = (claimed.request.tenant.clone(), claimed.accepted_at);
        Self { id: claimed.id, tenant, accepted_at, fence: claimed.fence, due: claimed.due, step, now }
    }
}

impl Operation for Advance {
    type Answer = bool;

    fn name(&self) -> &'static str {
        if self.due == Due::Settle { "recon" } else { "" }
    }

    async fn apply(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        if self.step.write(link, self.id, self.fence, None, false).await? {
            self.step.tell(link, self.id, self.now).await?;
            let taken = self.step.taken_by().map(|channel| (&self.tenant, channel, self.accepted_at));
            engagement::settled(link, taken, None).await?;
            return Ok(true);
        }
        Ok(self.due == Due::Settle && look_again(link, self.id, self.fence, self.now).await?)
    }
}
