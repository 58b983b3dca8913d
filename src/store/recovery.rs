//! What a crash, a lost lease or an unreadable row leaves behind, and what is made of it.
//!
//! A lease that ran out leads back to the queue only where nothing can have left; where an intent was recorded it
//! leads to `unknown` (reliability.md section 5), and what ends its workers again and again is left to a person. Nothing
//! is sent again here.

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Recovered,
    database::{Fault, Link, Row, values},
    jobs::Operation,
    queue::event,
    rows,
};
use crate::domain::ids::MessageId;

/// A message is left to a person once its count of crashes is this: after three crashes of a worker that had
/// nothing else in hand. A crash in company counts once, as a suspicion: a daemon that is killed again and again
/// must not set aside what merely waited its turn.
///
/// What kills whoever takes it up does so each time, and nothing else does. So a message with which two workers ended
/// waits before its last trial, and a worker that ends meanwhile, with nothing alone in hand, clears it: workers end
/// without it. Whoever kills a daemon by chance hits the same message three times, and never beside it, only by a miracle.
const CRASHES_MAX: i64 = 4;
/// How long a message waits before its last trial, in seconds.
const LAST_TRIAL_SECONDS: i64 = 30;
/// The count of a mere suspicion.
const SUSPICION: i64 = 1;
/// Claims older than this, in milliseconds, are no suspects when their worker ends: what kills, kills at once.
pub(super) const SUSPECT_MS: i64 = 2_000;

/// Rows of one statement in a recovery: thousands of stuck leases are worked off without holding the writer.
pub(super) const RECOVERED_AT_ONCE: u32 = 500;

/// A claim that its worker left behind.
pub(super) struct Lapsed {
    id: String,
    /// Its count of crashes, this one included.
    crashes: i64,
    /// Its worker had nothing else fresh in hand.
    alone: bool,
}

impl Lapsed {
    fn is_poison(&self) -> bool {
        self.crashes >= CRASHES_MAX
    }

    /// When it is due again, at the earliest.
    fn not_before(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        let waits = if self.crashes + 1 == CRASHES_MAX { LAST_TRIAL_SECONDS } else { 0 };
        now + TimeDelta::seconds(waits)
    }

    fn message(&self) -> Result<MessageId, Fault> {
        rows::parsed(self.id.clone(), MessageId::parse)
    }
}

/// Claims that have no intent are due again, or, where they are what ends their workers, set aside.
pub(super) async fn give_back(
    link: &mut Link<'_>,
    left: Vec<Lapsed>,
    now: DateTime<Utc>,
) -> Result<Recovered, Fault> {
    let mut found = Recovered::default();
    for lapsed in left {
        let sql = "UPDATE messages SET crashes = $3, fence = fence + 1, lease_owner = NULL, \
             lease_until = NULL, due_at = CASE WHEN $4 = 1 THEN NULL ELSE $2 END, \
             status = CASE WHEN $4 = 1 THEN 'quarantined' \
             WHEN status IN ('unknown', 'sent', 'delivered') THEN status ELSE 'queued' END WHERE id = $1";
        let poison = lapsed.is_poison();
        link.notes().message(lapsed.message()?);
        let due = lapsed.not_before(now);
        link.run(sql, values![lapsed.id.as_str(), due, lapsed.crashes, i64::from(poison)]).await?;
        if poison {
            found.quarantined += 1;
            quarantine_event(link, &lapsed.id, now).await?;
        } else {
            found.given_back += 1;
            let detail = "its worker ended before anything was sent";
            event(link, &lapsed.id, now, "given_back", Some(detail)).await?;
        }
    }
    Ok(found)
}

/// The leased messages that a recovery is to look at, locked where others could look too.
pub(super) async fn lapsed(
    link: &mut Link<'_>,
    owner: Option<&str>,
    now: DateTime<Utc>,
    which: &'static str,
) -> Result<Vec<Lapsed>, Fault> {
    let locking = if link.locks_rows() { " FOR UPDATE OF m SKIP LOCKED" } else { "" };
    // One condition at a time: each has the index of leases to itself.
    let sql = format!(
        "SELECT m.id, m.crashes, CAST(CASE WHEN EXISTS (SELECT 1 FROM messages o WHERE o.lease_until IS NOT NULL \
         AND o.lease_owner = m.lease_owner AND o.id <> m.id AND o.lease_until > m.lease_until - {SUSPECT_MS}) \
         THEN 1 ELSE 0 END AS BIGINT) FROM messages m WHERE m.lease_until IS NOT NULL AND {which} AND {} \
         ORDER BY m.lease_until LIMIT CAST($2 AS BIGINT){locking}",
        if owner.is_some() { "(m.lease_until <= $1 OR m.lease_owner = $3)" } else { "m.lease_until <= $1" }
    );
    let mut values = values![now, RECOVERED_AT_ONCE];
    if let Some(owner) = owner {
        values.push(owner.into());
    }
    let found = link.rows(AssertSqlSafe(sql), values).await?;
    let read = |row: &Row| {
        let (before, in_company) = (row.int(1)?, row.int(2)? != 0);
        let crashes = before.max(SUSPICION) + i64::from(!in_company);
        Ok(Lapsed { id: row.text(0)?, crashes, alone: !in_company })
    };
    found.iter().map(read).collect()
}

/// The earlier life of a worker is over, and no suspect that it had alone in hand explains that: those that wait for
/// their next trial had no part in it.
async fn clear_suspects(link: &mut Link<'_>, worker: &str) -> Result<(), Fault> {
    // What others have in hand may be what ended it, where they are no more.
    let sql = "UPDATE messages SET crashes = $1 WHERE crashes > 0 AND crashes > $1 AND lease_until IS NULL \
               AND due_at IS NOT NULL AND NOT EXISTS (SELECT 1 FROM messages o WHERE o.lease_until IS NOT NULL \
               AND o.lease_owner <> $2 AND o.crashes > 0)";
    link.run(sql, values![SUSPICION, worker]).await?;
    Ok(())
}

async fn quarantine_event(link: &mut Link<'_>, id: &str, now: DateTime<Utc>) -> Result<(), Fault> {
    let reason = "its worker ended three times while it had this message alone in hand";
    link.run("UPDATE messages SET status_reason = $2 WHERE id = $1", values![id, reason]).await?;
    event(link, id, now, "quarantined", Some(reason)).await
}

pub(super) struct Recover {
    pub(super) owner: Option<String>,
    /// The first part of a recovery at a worker's start.
    pub(super) starts: bool,
    pub(super) now: DateTime<Utc>,
    pub(super) settle_at: DateTime<Utc>,
}

impl Operation for Recover {
    type Answer = Recovered;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Recovered, Fault> {
        let owner = self.owner.as_deref();
        // Both are read before either is touched: who was in company is seen only then.
        let idle = lapsed(link, owner, self.now, "m.open_attempt IS NULL").await?;
        let open = lapsed(link, owner, self.now, "m.open_attempt IS NOT NULL").await?;
        if let Some(worker) = owner.filter(|_| self.starts)
            && !idle.iter().chain(&open).any(|lapsed| lapsed.alone)
        {
            clear_suspects(link, worker).await?;
        }
        let mut found = give_back(link, idle, self.now).await?;
        for lapsed in open {
            let sql = "UPDATE attempts SET status = 'unknown', finished_at = $2 \
                       WHERE message_id = $1 AND status = 'intent'";
            link.run(sql, values![lapsed.id.as_str(), self.now]).await?;
            let sql = "UPDATE messages SET crashes = $3, fence = fence + 1, lease_owner = NULL, \
                 lease_until = NULL, open_attempt = NULL, polls = 0, due_at = CASE WHEN $4 = 1 THEN NULL ELSE $2 END, \
                 status = CASE WHEN $4 = 1 THEN 'quarantined' ELSE 'unknown' END WHERE id = $1";
            let poison = lapsed.is_poison();
            link.notes().message(lapsed.message()?);
            let due = self.settle_at.max(lapsed.not_before(self.now));
            let values = values![lapsed.id.as_str(), due, lapsed.crashes, i64::from(poison)];
            link.run(sql, values).await?;
            if poison {
                found.quarantined += 1;
                quarantine_event(link, &lapsed.id, self.now).await?;
            } else {
                found.unknown += 1;
                let detail = "its worker ended with an attempt open: it may or may not have been sent";
                event(link, &lapsed.id, self.now, "unknown", Some(detail)).await?;
            }
        }
        Ok(found)
    }
}

/// Says of a message that was just quarantined that its row does not add up.
pub(super) async fn damaged(link: &mut Link<'_>, id: &str, now: DateTime<Utc>) -> Result<(), Fault> {
    tracing::error!(message = %id, "a message does not add up; it is set aside");
    if let Ok(id) = MessageId::parse(id) {
        link.notes().message(id);
    }
    let reason = "what is stored of it does not add up: the disk has damaged it";
    link.run("UPDATE messages SET status_reason = $2 WHERE id = $1", values![id, reason]).await?;
    event(link, id, now, "quarantined", Some(reason)).await
}

/// Keeps for a person what does not read back.
pub(super) struct SetAside {
    pub(super) id: MessageId,
    pub(super) fence: i64,
    pub(super) now: DateTime<Utc>,
}

impl Operation for SetAside {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let reason = "what is stored of it does not read back";
        let sql = "UPDATE messages SET status = 'quarantined', status_reason = $3, lease_owner = NULL, \
                   lease_until = NULL, due_at = NULL WHERE id = $1 AND fence = $2 AND lease_owner IS NOT NULL";
        link.notes().message(self.id);
        if link.run(sql, values![self.id, self.fence, reason]).await? > 0 {
            event(link, &self.id.to_string(), self.now, "quarantined", Some(reason)).await?;
        }
        Ok(())
    }
}
