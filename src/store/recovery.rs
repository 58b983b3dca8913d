//! What a crash, a lost lease or an unreadable row leaves behind, and what is made of it.
//!
//! A lease that ran out leads back to the queue only where nothing can have left; where an intent was recorded it
//! leads to `unknown` (reliability.md section 5), and what ends its workers again and again is left to a person. Nothing
//! is sent again here.

use chrono::{DateTime, Utc};
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
const CRASHES_MAX: i64 = 4;
/// Claims older than this, in milliseconds, are no suspects when their worker ends: what kills, kills at once.
pub(super) const SUSPECT_MS: i64 = 2_000;

/// Rows of one statement in a recovery: thousands of stuck leases are worked off without holding the writer.
pub(super) const RECOVERED_AT_ONCE: u32 = 500;

/// A claim that its worker left behind.
pub(super) struct Lapsed {
    id: String,
    /// Its count of crashes, this one included.
    crashes: i64,
}

impl Lapsed {
    fn is_poison(&self) -> bool {
        self.crashes >= CRASHES_MAX
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
        link.run(sql, values![lapsed.id.as_str(), now, lapsed.crashes, i64::from(poison)]).await?;
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
         ORDER BY m.lease_until LIMIT $2{locking}",
        if owner.is_some() { "(m.lease_until <= $1 OR m.lease_owner = $3)" } else { "m.lease_until <= $1" }
    );
    let mut values = values![now, RECOVERED_AT_ONCE];
    if let Some(owner) = owner {
        values.push(owner.into());
    }
    let found = link.rows(AssertSqlSafe(sql), values).await?;
    let read = |row: &Row| {
        let (before, in_company) = (row.int(1)?, row.int(2)? != 0);
        let crashes = if in_company { before.max(1) } else { before.max(1) + 1 };
        Ok(Lapsed { id: row.text(0)?, crashes })
    };
    found.iter().map(read).collect()
}

async fn quarantine_event(link: &mut Link<'_>, id: &str, now: DateTime<Utc>) -> Result<(), Fault> {
    let reason = "its worker ended three times while it had this message alone in hand";
    link.run("UPDATE messages SET status_reason = $2 WHERE id = $1", values![id, reason]).await?;
    event(link, id, now, "quarantined", Some(reason)).await
}

pub(super) struct Recover {
    pub(super) owner: Option<String>,
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
            let values = values![lapsed.id.as_str(), self.settle_at, lapsed.crashes, i64::from(poison)];
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
