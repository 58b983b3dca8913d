//! What people do to one message: cancel it, send it once more, settle what nobody could tell, let a quarantined one go.
//!
//! Each act is one transaction with its line on the timeline, who did it and why included. Nothing is done to what is
//! in flight, and an act that the message does not stand for is refused with where it stands.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Cancelled, Result, SqlStore,
    database::{Fault, Link, values},
    evidence::{Adopted, Evidence, adopt},
    jobs::Operation,
    operate::Logged,
    queue::event,
    rows,
};
use crate::domain::{
    delivery::Status,
    figures::Mark,
    ids::{ActId, AttemptId, MessageId, TenantId},
};

/// What is sent once more by hand gets at least this long.
const MORE_TIME: TimeDelta = TimeDelta::hours(24);

/// Something that a person does to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Send an `unresolved` message once more, although it may have arrived. Shown as a possible duplicate.
    Resend,
    /// Settle an `unresolved` message: it did arrive.
    MarkSent,
    /// Settle an `unresolved` message: it did not.
    MarkFailed,
    /// Let a `quarantined` message go on where it stood.
    Release,
    /// Give up what is not in flight and not at its end, or quarantined; of what was sent, its escalation.
    Cancel,
}

impl Act {
    pub const fn as_str(self) -> &'static str {
        match self {
            Act::Resend => "resend",
            Act::MarkSent => "mark_sent",
            Act::MarkFailed => "mark_failed",
            Act::Release => "release",
            Act::Cancel => "cancel",
        }
    }
}

/// Who does it, and why, in their own words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct By {
    pub who: String,
    pub why: String,
}

impl By {
    fn words(&self) -> String {
        if self.why.is_empty() {
            format!("by {}", self.who)
        } else {
            format!("by {}: {}", self.who, self.why)
        }
    }
}

/// What became of an act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Acted {
    Done,
    /// There is no such message, or not of that tenant.
    NotFound,
    /// Not where the message stands.
    NotNow(Status),
    /// All attempts on its channel are used up (reliability.md P6): it can be settled, not sent.
    NoAttemptLeft,
}

#[async_trait]
pub trait Acts: Send + Sync {
    /// Does it to a message of that tenant; without one, of any: for the Unix socket, whose users see all tenants.
    async fn act(
        &self,
        tenant: Option<&TenantId>,
        id: MessageId,
        act: Act,
        by: &By,
        now: DateTime<Utc>,
    ) -> Result<Acted>;
}

#[async_trait]
impl Acts for SqlStore {
    async fn act(
        &self,
        tenant: Option<&TenantId>,
        id: MessageId,
        act: Act,
        by: &By,
        now: DateTime<Utc>,
    ) -> Result<Acted> {
        let doing = Doing { tenant: tenant.cloned(), id, logged: ActId::new(), act, by: by.clone(), now };
        self.writer()?.run(doing).await
    }
}

struct Doing {
    tenant: Option<TenantId>,
    id: MessageId,
    /// Its line in the log.
    logged: ActId,
    act: Act,
    by: By,
    now: DateTime<Utc>,
}

impl Operation for Doing {
    type Answer = Acted;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Acted, Fault> {
        link.notes().message(self.id);
        let acted = self.done(link).await?;
        if acted == Acted::Done {
            let owner = link.row("SELECT tenant FROM messages WHERE id = $1", values![self.id]).await?;
            let owner = owner.map(|row| row.text(0)).transpose()?.unwrap_or_default();
            let (act, target) = (self.act.as_str(), self.id.to_string());
            let (tenant, by) = (owner.as_str(), &self.by);
            let logged = Logged { id: self.logged, act, target: &target, tenant, by, now: self.now };
            logged.write(link).await?;
        }
        Ok(acted)
    }
}

impl Doing {
    async fn done(&self, link: &mut Link<'_>) -> Result<Acted, Fault> {
        let tenant = self.tenant.as_ref();
        if self.act == Act::Cancel {
            return Ok(match cancel(link, tenant, self.id, Some(&self.by), self.now).await? {
                None => Acted::NotFound,
                Some(Cancelled::Done) => Acted::Done,
                Some(Cancelled::TooLate(status)) => Acted::NotNow(status),
            });
        }
        let Some(status) = status(link, tenant, self.id).await? else { return Ok(Acted::NotFound) };
        let wanted = if self.act == Act::Release { Status::Quarantined } else { Status::Unresolved };
        if status != wanted {
            return Ok(Acted::NotNow(status));
        }
        let (changed, told) = match self.act {
            Act::Resend => (self.resend(link).await?, "resend"),
            Act::MarkSent => (self.mark_sent(link).await?, "sent"),
            Act::MarkFailed => (self.mark_failed(link).await?, "failed"),
            Act::Release | Act::Cancel => (self.release(link).await?, "released"),
        };
        if changed == 0 {
            let resend = self.act == Act::Resend;
            return Ok(if resend { Acted::NoAttemptLeft } else { Acted::NotNow(status) });
        }
        event(link, &self.id.to_string(), self.now, told, Some(&self.by.words())).await?;
        Ok(Acted::Done)
    }

    async fn resend(&self, link: &mut Link<'_>) -> Result<u64, Fault> {
        let sql = "UPDATE messages SET status = 'queued', status_reason = NULL, due_at = $2, \
                   deadline = CASE WHEN deadline > $3 THEN deadline ELSE $3 END, possible_duplicate = 1, \
                   resent_by_hand = resent_by_hand + 1 \
                   WHERE id = $1 AND attempts - waived < 12 AND hop_attempts < 4";
        link.run(sql, values![self.id, self.now, self.now + MORE_TIME]).await
    }

    /// The attempt that nobody could tell of is taken for accepted: a person's word is evidence too.
    async fn mark_sent(&self, link: &mut Link<'_>) -> Result<u64, Fault> {
        let sql = "SELECT id FROM attempts WHERE message_id = $1 AND status = 'unknown' ORDER BY number DESC";
        let Some(row) = link.row(sql, values![self.id]).await? else { return Ok(0) };
        let attempt = rows::parsed(row.text(0)?, AttemptId::parse)?;
        let evidence = Evidence { message: self.id, attempt, provider_message_id: None, cost: None };
        let adopted = adopt(link, &evidence, self.now).await?;
        Ok(u64::from(adopted == Adopted::Sent))
    }

    async fn mark_failed(&self, link: &mut Link<'_>) -> Result<u64, Fault> {
        let sql = "UPDATE messages SET status = 'failed', status_reason = $2 WHERE id = $1";
        let reason = format!("settled {}", self.by.words());
        link.tally().mark(self.id, None, Mark::Failed);
        link.run(sql, values![self.id, reason]).await
    }

    /// An attempt that was open when its worker ended is looked for first, and what this hop sent is not sent again.
    async fn release(&self, link: &mut Link<'_>) -> Result<u64, Fault> {
        let sql = "UPDATE messages SET status = COALESCE((SELECT CASE WHEN a.status = 'unknown' THEN 'unknown' \
                   WHEN a.status = 'accepted' AND a.hop = messages.hop THEN 'sent' END FROM attempts a \
                   WHERE a.message_id = messages.id AND a.number = messages.attempts), 'queued'), \
                   status_reason = NULL, due_at = $2, crashes = 0, polls = 0 WHERE id = $1";
        link.run(sql, values![self.id, self.now]).await
    }
}

async fn status(
    link: &mut Link<'_>,
    tenant: Option<&TenantId>,
    id: MessageId,
) -> Result<Option<Status>, Fault> {
    let locking = if link.locks_rows() { " FOR UPDATE" } else { "" };
    let sql = format!("SELECT status FROM messages WHERE id = $1 AND ($2 = '' OR tenant = $2){locking}");
    let owner = tenant.map_or("", TenantId::as_str);
    let row = link.row(sqlx::AssertSqlSafe(sql), values![id, owner]).await?;
    row.map(|row| rows::status(&row.text(0)?)).transpose()
}

/// Cancels what is not in flight and not at its end. What was sent stays so: its escalation is called off, whether it
/// waits for its moment or is under way.
pub(super) async fn cancel(
    link: &mut Link<'_>,
    tenant: Option<&TenantId>,
    id: MessageId,
    by: Option<&By>,
    now: DateTime<Utc>,
) -> Result<Option<Cancelled>, Fault> {
    let owner = tenant.map_or("", TenantId::as_str);
    let words = by.map(By::words);
    link.notes().message(id);
    let sql = "UPDATE messages SET status = COALESCE(escalated_from, 'cancelled'), status_reason = NULL, \
               due_at = NULL, fence = fence + 1 WHERE id = $1 AND ($2 = '' OR tenant = $2) \
               AND (status IN ('queued', 'held', 'retrying') OR ($3 = 1 AND status = 'quarantined')) \
               AND lease_owner IS NULL RETURNING status";
    if link.row(sql, values![id, owner, by.is_some()]).await?.is_some() {
        event(link, &id.to_string(), now, "cancelled", words.as_deref()).await?;
        return Ok(Some(Cancelled::Done));
    }
    let Some(status) = status(link, tenant, id).await? else { return Ok(None) };
    let sql = "UPDATE messages SET due_at = NULL, fence = fence + 1, lease_owner = NULL, lease_until = NULL \
               WHERE id = $1 AND status IN ('sent', 'delivered') AND open_attempt IS NULL \
               AND (due_at IS NOT NULL OR lease_owner IS NOT NULL)";
    if link.run(sql, values![id]).await? > 0 {
        let told = words.unwrap_or_else(|| "its escalation is called off".into());
        event(link, &id.to_string(), now, "not_escalated", Some(&told)).await?;
    }
    Ok(Some(Cancelled::TooLate(status)))
}
