//! What tenants are to be told of their messages: written in the transaction of what it tells, kept until it is taken.
//!
//! Only for tenants that have a webhook. It holds ids and words of ours, and nothing about people.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Result, SqlStore,
    database::{Fault, Link, Row, Value, placeholders, values},
    jobs::Operation,
    rows,
};
use crate::domain::{
    channel::Channel,
    delivery::Status,
    ids::{MessageId, TenantId},
};

/// An event to be told, claimed by whoever tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToTell {
    pub message: MessageId,
    /// Its place on the message's timeline.
    pub seq: u32,
    pub tenant: TenantId,
    pub at: DateTime<Utc>,
    pub event: String,
    /// Times that it was told in vain.
    pub tries: u32,
    /// The message's state now, which may be later than the event.
    pub status: Status,
    pub sent_via: Option<Channel>,
    /// The caller's own name for the person.
    pub recipient: String,
}

/// What waits, and what was given up.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Untold {
    pub waiting: u64,
    pub given_up: u64,
}

#[async_trait]
pub trait Webhooks: Send + Sync {
    /// Events are kept for these tenants from now on, and what waits for others is dropped.
    async fn set_listeners(&self, tenants: &[TenantId]) -> Result<()>;
    /// Takes the oldest events that are due, but for these tenants; they are due again at `until` unless told before.
    async fn claim_events(
        &self,
        but_for: &[TenantId],
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        most: u32,
    ) -> Result<Vec<ToTell>>;
    /// It was taken.
    async fn event_told(&self, event: &ToTell) -> Result<()>;
    /// It was not: due again then, as often tried as is said; none: it is given up.
    async fn event_untold(&self, event: &ToTell, again_at: Option<DateTime<Utc>>, tries: u32) -> Result<()>;
    async fn untold(&self) -> Result<Untold>;
}

#[async_trait]
impl Webhooks for SqlStore {
    async fn set_listeners(&self, tenants: &[TenantId]) -> Result<()> {
        self.writer()?.run(Listeners(tenants.to_vec())).await
    }

    async fn claim_events(
        &self,
        but_for: &[TenantId],
        now: DateTime<Utc>,
        until: DateTime<Utc>,
        most: u32,
    ) -> Result<Vec<ToTell>> {
        self.writer()?.run(Claim { but_for: but_for.to_vec(), now, until, most }).await
    }

    async fn event_told(&self, event: &ToTell) -> Result<()> {
        self.writer()?.run(Told { event: event.clone(), next: None }).await
    }

    async fn event_untold(&self, event: &ToTell, again_at: Option<DateTime<Utc>>, tries: u32) -> Result<()> {
        self.writer()?.run(Told { event: event.clone(), next: Some((again_at, tries)) }).await
    }

    async fn untold(&self) -> Result<Untold> {
        let sql = "SELECT COUNT(due_at), COUNT(*) FROM webhook_outbox";
        let Some(row) = self.reader().await?.link().row(sql, values![]).await? else {
            return Ok(Untold::default());
        };
        let count = |number: i64| u64::try_from(number).unwrap_or_default();
        let (waiting, all) = (count(row.int(0)?), count(row.int(1)?));
        Ok(Untold { waiting, given_up: all - waiting })
    }
}

/// Puts the event that was just written into the outbox, where somebody wants to hear of it.
pub(super) async fn enqueue(
    link: &mut Link<'_>,
    message: &str,
    at: DateTime<Utc>,
    event: &str,
) -> Result<(), Fault> {
    let sql = "INSERT INTO webhook_outbox (message_id, seq, tenant, at, event, due_at, tries) \
               SELECT m.id, (SELECT MAX(seq) FROM events WHERE message_id = $1), m.tenant, $2, $3, $2, 0 \
               FROM messages m JOIN webhooks w ON w.tenant = m.tenant WHERE m.id = $1";
    link.run(sql, values![message, at, event]).await?;
    Ok(())
}

struct Listeners(Vec<TenantId>);

impl Operation for Listeners {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        link.run("DELETE FROM webhooks", values![]).await?;
        for tenant in &self.0 {
            link.run("INSERT INTO webhooks (tenant) VALUES ($1)", values![tenant]).await?;
        }
        let sql = "DELETE FROM webhook_outbox WHERE tenant NOT IN (SELECT tenant FROM webhooks)";
        link.run(sql, values![]).await?;
        Ok(())
    }
}

struct Claim {
    but_for: Vec<TenantId>,
    now: DateTime<Utc>,
    until: DateTime<Utc>,
    most: u32,
}

impl Operation for Claim {
    type Answer = Vec<ToTell>;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Vec<ToTell>, Fault> {
        let locking = if link.locks_rows() { " FOR UPDATE SKIP LOCKED" } else { "" };
        let others = match self.but_for.len() {
            0 => String::new(),
            count => format!(" AND tenant NOT IN ({})", placeholders(3, count)),
        };
        let sql = format!(
            "SELECT message_id, seq, tenant, at, event, tries FROM webhook_outbox \
             WHERE due_at <= $1{others} ORDER BY due_at, message_id, seq LIMIT CAST($2 AS BIGINT){locking}"
        );
        let mut values: Vec<Value> = values![self.now, self.most];
        values.extend(self.but_for.iter().map(Value::from));
        let mut found = Vec::new();
        for row in link.rows(AssertSqlSafe(sql), values).await? {
            let (message, seq) = (row.text(0)?, row.int(1)?);
            let sql = "UPDATE webhook_outbox SET due_at = $3 WHERE message_id = $1 AND seq = $2";
            link.run(sql, values![message.as_str(), seq, self.until]).await?;
            let sql = "SELECT status, sent_via, recipient FROM messages WHERE id = $1";
            if let Some(facts) = link.row(sql, values![message.as_str()]).await? {
                found.push(to_tell(&row, &facts)?);
            }
        }
        Ok(found)
    }
}

fn to_tell(row: &Row, facts: &Row) -> Result<ToTell, Fault> {
    let small = |number: i64| u32::try_from(number).map_err(|_| Fault::Corrupt("a small number".into()));
    Ok(ToTell {
        message: rows::parsed(row.text(0)?, MessageId::parse)?,
        seq: small(row.int(1)?)?,
        tenant: rows::parsed(row.text(2)?, TenantId::parse)?,
        at: rows::instant(row.int(3)?)?,
        event: row.text(4)?,
        tries: small(row.int(5)?)?,
        status: rows::status(&facts.text(0)?)?,
        sent_via: facts.maybe_text(1)?.map(|word| rows::channel(&word)).transpose()?,
        recipient: facts.text(2)?,
    })
}

/// The end of one telling; `next` where it was in vain: when again, and as which try.
struct Told {
    event: ToTell,
    next: Option<(Option<DateTime<Utc>>, u32)>,
}

impl Operation for Told {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let (message, seq) = (self.event.message, self.event.seq);
        match self.next {
            None => {
                let sql = "DELETE FROM webhook_outbox WHERE message_id = $1 AND seq = $2";
                link.run(sql, values![message, seq]).await?;
            }
            Some((again_at, tries)) => {
                let sql =
                    "UPDATE webhook_outbox SET due_at = $3, tries = $4 WHERE message_id = $1 AND seq = $2";
                link.run(sql, values![message, seq, again_at, tries]).await?;
            }
        }
        Ok(())
    }
}
