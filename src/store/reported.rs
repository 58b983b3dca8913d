//! An attempt that receipts tell of, with its message: what the set of them comes to, written.
//!
//! Written upwards only, never over an end but from `unresolved`, `failed` and `quarantined` (I8), and never while another attempt is
//! open. Whoever holds a lease on a message that a receipt settles has lost it. What comes next is not decided here, and
//! nothing is written over a row that the disk has damaged (reliability.md F14).

use std::sync::LazyLock;

use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::{
    attempts::spend,
    checksums,
    database::{Fault, Link, values},
    engagement::{self, Deed},
    evidence::follow,
    queue::event,
    receipts::{AfterUndelivered, Receipt, Undelivered},
    rows,
};
use crate::domain::{
    channel::Channel,
    delivery::{AttemptStatus, Next, Plan, Status},
    figures::Mark,
    ids::{AttemptId, MessageId, TenantId},
    receipt::{
        ReceiptKind,
        fold::{Move, Seen, Told, movement},
    },
};

/// The message and the attempt as they are under the lock.
pub(super) struct Reported {
    message: MessageId,
    tenant: TenantId,
    origin: String,
    accepted_at: DateTime<Utc>,
    status: Status,
    at_hop: u16,
    attempts: u16,
    waived: u16,
    hop_attempts: u16,
    resend_used: bool,
    /// It was sent, and is sent once more elsewhere because nobody answered.
    escalated: bool,
    open: Option<String>,
    attempt: AttemptId,
    number: u16,
    hop: u16,
    attempt_status: AttemptStatus,
    channel: Channel,
    day: String,
    cost: i64,
    reference: Option<String>,
    before: Option<String>,
    conflict_before: bool,
    started_at: DateTime<Utc>,
}

/// Both rows, and whether both add up.
static BOTH: LazyLock<String> = LazyLock::new(|| {
    let adds_up = |table: &str, which: &str, sum: &str| {
        format!("(SELECT COUNT(*) FROM {table} WHERE {which} AND checksum = {sum})")
    };
    let message = adds_up("messages", "id = $1", checksums::MESSAGE);
    let attempt = adds_up("attempts", "id = $2", checksums::ATTEMPT);
    format!(
        "SELECT m.tenant, m.origin, m.accepted_at, m.status, m.attempts, m.hop_attempts, m.resend_used, \
         m.open_attempt, a.number, a.hop, a.status, a.channel, a.day, a.cost, \
         a.provider_message_id, a.receipt, a.receipt_conflict, a.started_at, m.hop, m.waived, \
         m.escalated_from, {message} + {attempt} \
         FROM messages m JOIN attempts a ON a.message_id = m.id WHERE m.id = $1 AND a.id = $2"
    )
});

impl Reported {
    /// `Corrupt` where a row does not read back, or not as it was written.
    pub(super) async fn load(
        link: &mut Link<'_>,
        message: MessageId,
        attempt: AttemptId,
    ) -> Result<Self, Fault> {
        let row = link.row(AssertSqlSafe(BOTH.as_str()), values![message, attempt]).await?;
        let row = row.ok_or_else(|| Fault::Corrupt("an attempt vanished while it was looked at".into()))?;
        if row.int(21)? != 2 {
            return Err(Fault::Corrupt("a message or its attempt: its checksum is wrong".into()));
        }
        let word = row.text(10)?;
        Ok(Self {
            message,
            tenant: rows::parsed(row.text(0)?, TenantId::parse)?,
            origin: row.text(1)?,
            accepted_at: rows::instant(row.int(2)?)?,
            status: rows::status(&row.text(3)?)?,
            at_hop: rows::small(row.int(18)?)?,
            attempts: rows::small(row.int(4)?)?,
            waived: rows::small(row.int(19)?)?,
            escalated: row.maybe_text(20)?.is_some(),
            hop_attempts: rows::small(row.int(5)?)?,
            resend_used: row.int(6)? != 0,
            open: row.maybe_text(7)?,
            attempt,
            number: rows::small(row.int(8)?)?,
            hop: rows::small(row.int(9)?)?,
            attempt_status: AttemptStatus::parse(&word)
                .ok_or_else(|| Fault::Corrupt("an attempt's status".into()))?,
            channel: rows::channel(&row.text(11)?)?,
            day: row.text(12)?,
            cost: row.int(13)?,
            reference: row.maybe_text(14)?,
            before: row.maybe_text(15)?,
            conflict_before: row.int(16)? != 0,
            started_at: rows::instant(row.int(17)?)?,
        })
    }

    /// Its outcome is still to come.
    pub(super) fn is_open(&self) -> bool {
        self.attempt_status == AttemptStatus::Intent
    }

    /// Adds a receipt to the set and writes what follows: whether something is due now. None where it was told before.
    pub(super) async fn take(
        &self,
        link: &mut Link<'_>,
        receipt: &Receipt,
        after: AfterUndelivered,
        now: DateTime<Utc>,
    ) -> Result<Option<bool>, Fault> {
        if !self.insert(link, receipt).await? {
            return Ok(None);
        }
        let told = self.told(link).await?;
        self.write_attempt(link, receipt, &told, now).await?;
        // Not before it was sent, not after now: a provider's clock is not ours.
        let at = receipt.provider_at.unwrap_or(now).clamp(self.started_at.min(now), now);
        self.show(link, &told, receipt, at).await?;
        self.count(link, &told, (receipt.kind == ReceiptKind::Delivered).then_some(at));
        let seen = Seen {
            status: self.status,
            attempt: self.attempt_status,
            latest: self.number == self.attempts,
            busy: self.open.is_some(),
        };
        let due = match movement(seen, &told) {
            Move::Stay => false,
            Move::HandedOff => self.rise(link, Status::Sent, at, now).await?,
            Move::Delivered => self.rise(link, Status::Delivered, at, now).await?,
            Move::Undelivered => self.go_on(link, receipt, &told, after, now).await?,
        };
        if told.state() == Some(ReceiptKind::Read) {
            Deed::new(self.message, "opened", at, Some(self.channel)).record(link).await?;
        }
        Ok(Some(due))
    }

    async fn insert(&self, link: &mut Link<'_>, receipt: &Receipt) -> Result<bool, Fault> {
        let sql = "INSERT INTO receipts (message_id, attempt, kind, provider_at, received_at, credential, reference, \
                   error, cost) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9) \
                   ON CONFLICT (message_id, attempt, kind, provider_at) DO NOTHING";
        let values = values![
            self.message,
            self.attempt,
            receipt.kind.as_str(),
            receipt.told_at(),
            receipt.received_at,
            receipt.credential.as_str(),
            receipt.reference.as_deref(),
            receipt.error.as_deref(),
            receipt.cost.map(|cost| cost.0),
        ];
        Ok(link.run(sql, values).await? > 0)
    }

    async fn told(&self, link: &mut Link<'_>) -> Result<Told, Fault> {
        let sql = "SELECT kind, provider_at, error FROM receipts WHERE message_id = $1 AND attempt = $2";
        let mut all = Told::default();
        for row in link.rows(sql, values![self.message, self.attempt]).await? {
            let kind =
                ReceiptKind::parse(&row.text(0)?).ok_or_else(|| Fault::Corrupt("a receipt's kind".into()))?;
            let at = match row.int(1)? {
                0 => None,
                millis => Some(rows::instant(millis)?),
            };
            let error = row.maybe_text(2)?.map(|json| rows::attempt_error(&json)).transpose()?;
            all = all.and(Told::of(kind, at, error));
        }
        Ok(all)
    }

    /// The attempt's row: what it comes to, the provider's name for it, and what it cost. An unknown outcome is
    /// settled: whoever has receipts was accepted.
    async fn write_attempt(
        &self,
        link: &mut Link<'_>,
        receipt: &Receipt,
        told: &Told,
        now: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let sql = "UPDATE attempts SET receipt = $3, receipt_conflict = $4, \
                   provider_message_id = COALESCE(provider_message_id, $5), cost = COALESCE($6, cost), \
                   error = CASE WHEN status = 'unknown' THEN NULL ELSE error END, \
                   finished_at = COALESCE(finished_at, $7), \
                   status = CASE WHEN status = 'unknown' THEN 'accepted' ELSE status END \
                   WHERE message_id = $1 AND id = $2";
        // What was refused or never left costs nothing, whatever the receipt says of a price.
        let may_cost = matches!(self.attempt_status, AttemptStatus::Accepted | AttemptStatus::Unknown);
        let cost = receipt.cost.filter(|_| may_cost);
        let values = values![
            self.message,
            self.attempt,
            told.state().map(ReceiptKind::as_str),
            told.conflict(),
            receipt.reference.as_deref().filter(|_| self.reference.is_none()),
            cost.map(|cost| cost.0),
            now,
        ];
        link.run(sql, values).await?;
        let more = cost.map_or(0, |cost| cost.0 - self.cost);
        spend(link, &self.tenant, &self.origin, self.channel, &self.day, more)?;
        link.tally().spent(self.message, self.channel, &self.day, more);
        Ok(())
    }

    /// What the set comes to, in figures: each counts once.
    fn count(&self, link: &mut Link<'_>, told: &Told, delivered_at: Option<DateTime<Utc>>) {
        let (message, channel) = (self.message, self.channel);
        if self.attempt_status == AttemptStatus::Unknown {
            link.tally().settled(message, channel, AttemptStatus::Accepted);
        }
        if told.arrived() {
            link.tally().delivered(message, channel, delivered_at);
        } else if told.undelivered() {
            link.tally().mark(message, Some(channel), Mark::Failed);
        }
    }

    /// The timeline tells of each new height, and of a contradiction once.
    async fn show(
        &self,
        link: &mut Link<'_>,
        told: &Told,
        receipt: &Receipt,
        at: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let id = self.message.to_string();
        let state = told.state().map(ReceiptKind::as_str);
        let delayed = receipt.error.as_deref().filter(|_| receipt.kind == ReceiptKind::Delayed);
        let delayed = delayed.map(rows::attempt_error).transpose()?;
        let why = told.error().filter(|_| told.undelivered()).or(delayed.as_ref());
        let words = match why {
            Some(error) => {
                let code = error.code.as_ref().filter(|code| !error.detail.starts_with(code.as_str()));
                let code = code.map(|code| format!("{code}: ")).unwrap_or_default();
                format!("{}: {code}{}", self.channel, error.detail)
            }
            None => self.channel.as_str().to_owned(),
        };
        if let Some(state) = state
            && self.before.as_deref() != Some(state)
            && !matches!(state, "accepted" | "sent")
        {
            event(link, &id, at, state, Some(&words)).await?;
        }
        if told.conflict() && !self.conflict_before {
            let detail =
                format!("{}: told both to have arrived and not to have; it counts as arrived", self.channel);
            event(link, &id, at, "receipts_disagree", Some(&detail)).await?;
        }
        Ok(())
    }

    /// Up to `sent` or `delivered`: whatever was planned for it is off, and whoever holds it has lost it.
    async fn rise(
        &self,
        link: &mut Link<'_>,
        to: Status,
        at: DateTime<Utc>,
        now: DateTime<Utc>,
    ) -> Result<bool, Fault> {
        link.notes().message(self.message);
        // Sent already: a timer that waits for an answer goes on waiting for it, and so does an escalation.
        let sent_before = if self.status == Status::Sent {
            Some("UPDATE messages SET status = $2 WHERE id = $1")
        } else if self.escalated && self.hop != self.at_hop {
            Some("UPDATE messages SET escalated_from = $2 WHERE id = $1")
        } else {
            None
        };
        if let Some(sql) = sent_before {
            link.run(sql, values![self.message, to]).await?;
            return Ok(false);
        }
        let corrected = matches!(self.status, Status::Failed | Status::Unresolved | Status::Quarantined);
        let due = if corrected { None } else { self.plan(link).await?.escalation_at(self.hop, at) };
        let sql = "UPDATE messages SET status = $2, status_reason = NULL, due_at = $3, hop = $4, sent_via = $5, \
                   corrected = CASE WHEN $6 = 1 THEN 1 ELSE corrected END, polls = 0, crashes = 0, \
                   possible_duplicate = CASE WHEN $7 = 1 THEN 0 ELSE possible_duplicate END, \
                   fence = fence + 1, lease_owner = NULL, lease_until = NULL \
                   WHERE id = $1 AND open_attempt IS NULL";
        // A resend that waited for its turn is not needed any more.
        let spared =
            self.attempt_status == AttemptStatus::Unknown && self.number == self.attempts && !corrected;
        let values = values![self.message, to, due, self.hop, self.channel, corrected, spared];
        link.run(sql, values).await?;
        let detail = if corrected { "corrected by a receipt" } else { "told by a receipt" };
        event(link, &self.message.to_string(), at, "sent", Some(detail)).await?;
        engagement::rate(link, &self.tenant, self.channel, self.accepted_at, 1, 0);
        Ok(due.is_some_and(|due| due <= now))
    }

    async fn plan(&self, link: &mut Link<'_>) -> Result<Plan, Fault> {
        let sql = "SELECT request, plan, checksum FROM bodies WHERE message_id = $1";
        let row = link.row(sql, values![self.message]).await?;
        let plan = row.map(|row| rows::planned(&row, 0)).transpose()?.flatten();
        plan.ok_or_else(|| Fault::Corrupt("an attempt without a plan".into()))
    }

    /// It did not arrive: the caller's function says what follows. Another channel costs money, so that only a receipt
    /// that carries our token, or one of a provider that signs each body and cannot carry it, leads there (T16).
    async fn go_on(
        &self,
        link: &mut Link<'_>,
        receipt: &Receipt,
        told: &Told,
        after: AfterUndelivered,
        now: DateTime<Utc>,
    ) -> Result<bool, Fault> {
        let plan = self.plan(link).await?;
        let undelivered = Undelivered {
            plan: &plan,
            hop: self.hop,
            attempts: self.attempts.saturating_sub(self.waived),
            attempts_on_hop: self.hop_attempts,
            resend_used: self.resend_used,
            escalated: self.escalated,
            error: told.error(),
        };
        let Some(next) = after(&undelivered, now) else { return Ok(false) };
        let next = match next {
            Next::FallBackTo { .. } if receipt.token.is_none() && self.channel != Channel::WhatsApp => {
                Next::End {
                    status: Status::Failed,
                    reason:
                        "it did not arrive; the receipt carried no token of ours, so nothing else is tried"
                            .into(),
                }
            }
            next => next,
        };
        if self.status != Status::Sent {
            // Settled first: it was accepted, and then did not arrive.
            self.rise(link, Status::Sent, now, now).await?;
        }
        if !follow(link, self.message, self.hop, &plan, &next, now).await? {
            return Ok(false);
        }
        engagement::rate(link, &self.tenant, self.channel, self.accepted_at, -1, 0);
        Ok(matches!(next, Next::FallBackTo { at, .. } if at <= now))
    }
}
