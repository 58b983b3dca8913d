//! The outcome of an attempt, written together with the message's next step.
//!
//! A stale fence settles at most the attempt itself (I5), a provider's name that belongs to another attempt is not taken
//! (F39), and what is counted is counted here where it is plain, in the rows that are written anyway. What comes next
//! was decided elsewhere.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use super::{
    Claimed, Due, Result, Settled, StoreError,
    attempts::spend,
    counters::{FirstAttempt, Labels, Tally},
    database::{Fault, Link, values},
    engagement,
    evidence::is_owned_by_another,
    jobs::Operation,
    refusals::Refusal,
    rows,
    steps::Step,
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

/// Reads what an outcome is written over.
macro_rules! tried {
    () => {
        "SELECT a.number, a.credential, a.channel, a.day, a.estimate, a.status, m.segments, m.always_sms, m.counted \
         FROM attempts a JOIN messages m ON m.id = a.message_id WHERE a.message_id = $1 AND a.id = $2"
    };
}

/// An attempt as its row has it, with what is counted of its message.
struct Tried {
    number: i64,
    credential: String,
    channel: Channel,
    day: String,
    estimate: i64,
    /// Its outcome is not known yet.
    open: bool,
    segments: i64,
    always_sms: i64,
    bits: i64,
}

pub(super) struct Settle {
    id: MessageId,
    tenant: TenantId,
    recipient: RecipientId,
    origin: Origin,
    fence: i64,
    attempt: AttemptId,
    /// It had not been tried before.
    first: bool,
    labels: Arc<Labels>,
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
            first: claimed.made == 0,
            labels: Arc::clone(&claimed.labels),
            waived: waits || given_back,
            ended,
            step: Step::new(claimed, next, channel, now),
            looked_up: claimed.due == Due::Settle,
            accepted_at: claimed.accepted_at,
            now,
        })
    }

    /// What the attempt's row and its message's say before anything of them is written.
    async fn look(&self, link: &mut Link<'_>) -> Result<Option<Tried>, Fault> {
        // Another replica that counts the same message waits, and sees the bits that are set here.
        let sql = if link.locks_rows() { concat!(tried!(), " FOR UPDATE OF m") } else { tried!() };
        let Some(row) = link.row(sql, values![self.id, self.attempt]).await? else { return Ok(None) };
        Ok(Some(Tried {
            number: row.int(0)?,
            credential: row.text(1)?,
            channel: rows::channel(&row.text(2)?)?,
            day: row.text(3)?,
            estimate: row.int(4)?,
            open: matches!(row.text(5)?.as_str(), "intent" | "unknown"),
            segments: row.int(6)?,
            always_sms: row.int(7)?,
            bits: row.int(8)?,
        }))
    }

    /// What is counted, and the message's bits afterwards, where that is plain: a first attempt that was taken.
    fn count(&self, tried: &Tried) -> Option<(Tally, i64)> {
        let plain = self.first
            && tried.number == 1
            && tried.open
            && self.ended.status == AttemptStatus::Accepted
            && self.step.taken_by() == Some(tried.channel);
        plain.then(|| {
            Tally::of_first_sent(FirstAttempt {
                labels: &self.labels,
                segments: tried.segments,
                always_sms: tried.always_sms,
                bits: tried.bits,
                channel: tried.channel,
                day: &tried.day,
            })
        })
    }

    /// Writes the outcome into the attempt's row; false where it has one.
    async fn end(&self, link: &mut Link<'_>, tried: &Tried, waived: bool) -> Result<bool, Fault> {
        let sql = "UPDATE attempts SET status = $3, finished_at = $4, provider_message_id = $5, error = $6, \
                   cost = $7, waived = $8 \
                   WHERE message_id = $1 AND number = $2 AND status IN ('intent', 'unknown')";
        let values = values![
            self.id,
            tried.number,
            self.ended.status.as_str(),
            self.now,
            self.ended.provider_message_id.as_deref(),
            self.ended.error.as_deref(),
            self.cost(tried),
            waived,
        ];
        Ok(tried.open && link.run(sql, values).await? > 0)
    }

    fn cost(&self, tried: &Tried) -> i64 {
        self.ended.cost.map_or(tried.estimate, |cost| cost.0)
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
        let tried = self.look(link).await?;
        if let (Some(name), Some(tried)) = (&ended.provider_message_id, &tried)
            && is_owned_by_another(link, tried.channel, &tried.credential, name, self.attempt).await?
        {
            return Ok(Some(Settled::IdTaken));
        }
        link.notes().person(self.id, &self.tenant, self.recipient.as_str());
        let counted = tried.as_ref().and_then(|tried| self.count(tried));
        let bits = counted.as_ref().map(|(_, bits)| *bits);
        let held = self.step.write(link, self.id, self.fence, Some(self.attempt), self.waived, bits).await?;
        failpoint::hit("outcome.next_timer");
        let counted = counted.filter(|_| held).map(|(tally, _)| link.tally().absorb(tally)).is_some();
        if let Some(tried) = &tried
            && self.end(link, tried, held && self.waived).await?
        {
            let (origin, by) = (self.origin.as_str(), self.cost(tried) - tried.estimate);
            spend(link, &self.tenant, origin, tried.channel, &tried.day, by)?;
            link.tally().spent(self.id, tried.channel, &tried.day, by);
            if !counted {
                link.tally().settled(self.id, tried.channel, ended.status);
            }
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
            self.step.tell(link, self.id, counted, self.now).await?;
        }
        let taken = self.step.taken_by().filter(|_| held);
        let taken = taken.map(|channel| (&self.tenant, channel, self.accepted_at));
        engagement::settled(link, taken, ended.provider_message_id.as_deref()).await?;
        Ok(held.then_some(Settled::Done))
    }
}
