//! Attempts: the intent before the bytes, and a message's next step without one. Their outcome is `outcomes`'s.
//!
//! Fences, leases, suppressions, limits, the bounds of attempts and "one open attempt" are conditions of the
//! statements themselves, or read in the same transaction.

use std::sync::Arc;

use chrono::{DateTime, NaiveDate, Utc};

use super::{
    Claimed, Due, Intent, IntentRecord, OpenAttempt,
    counters::Labels,
    database::{Fault, Link, values},
    engagement,
    jobs::Operation,
    limits::{self, Bearer},
    operate,
    outcomes::Settle,
    refusals::{self, Asked},
    rows,
    steps::{Step, look_again},
};
use crate::{
    domain::{
        channel::Channel,
        delivery::Next,
        ids::{MessageId, RecipientId, TenantId},
        message::Origin,
    },
    failpoint,
};

/// The most attempts at one message, and on one of its channels (reliability.md P6, I6). Those that do not count are
/// bounded by the deadline.
const ATTEMPTS_MAX: i64 = 12;
const HOP_ATTEMPTS_MAX: i64 = 4;

/// Opens an attempt in the message's row, where the message is the caller's to try.
macro_rules! opening {
    () => {
        "UPDATE messages SET open_attempt = $3, attempts = attempts + 1, hop_attempts = hop_attempts + 1 \
         WHERE id = $1 AND fence = $2 AND status = 'sending' AND lease_until > $4 \
         AND open_attempt IS NULL AND attempts - waived < $5 AND hop_attempts < $6"
    };
}

pub(super) struct RecordIntent {
    id: MessageId,
    tenant: TenantId,
    recipient: RecipientId,
    origin: Origin,
    fence: i64,
    hop: u16,
    /// How many attempts there were when it was claimed.
    made: u16,
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
            made: claimed.made,
            labels: Arc::clone(&claimed.labels),
            intent,
        }
    }

    /// Opens the attempt in the message's row and gives its number; none where the message is not ours to try any more.
    async fn open(&self, link: &mut Link<'_>) -> Result<Option<i64>, Fault> {
        let intent = &self.intent;
        let mut values =
            values![self.id, self.fence, intent.attempt, intent.at, ATTEMPTS_MAX, HOP_ATTEMPTS_MAX];
        link.notes().nobody();
        // As many as when it was claimed, nearly always: what is known need not be given back, for which SQLite would
        // make a table.
        values.push(self.made.into());
        if link.run(concat!(opening!(), " AND attempts = $7"), values.clone()).await? > 0 {
            return Ok(Some(i64::from(self.made) + 1));
        }
        values.pop();
        let row = link.row(concat!(opening!(), " RETURNING attempts"), values).await?;
        row.map(|row| row.int(0)).transpose()
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
        let Some(number) = self.open(link).await? else { return Ok(Intent::Lost) };
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
        if self.step.write(link, self.id, self.fence, None, false, None).await? {
            self.step.tell(link, self.id, false, self.now).await?;
            let taken = self.step.taken_by().map(|channel| (&self.tenant, channel, self.accepted_at));
            engagement::settled(link, taken, None).await?;
            return Ok(true);
        }
        Ok(self.due == Due::Settle && look_again(link, self.id, self.fence, self.now).await?)
    }
}
