//! Broadcasts: many messages asked for at once, found again by the broadcast's id.
//!
//! The messages are accepted one by one by the same operation as any other; here is kept what they do not say of
//! themselves: how many rows there were, which were refused and why, and that it was cancelled. Nothing here
//! sends or decides.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Result, SqlStore,
    database::{Fault, Link, Row, Value, values},
    intake::{KEY_DAYS, insert},
    jobs::Operation,
    queue::{event, of_messages},
    rows,
};
use crate::domain::{
    channel::Channel,
    delivery::{Attempt, Status},
    ids::{BroadcastId, IdempotencyKey, MessageId, TenantId},
};

/// Messages that one transaction cancels.
const CANCELLED_AT_ONCE: u32 = 500;

/// A broadcast as it comes in.
#[derive(Clone, Debug)]
pub struct NewBroadcast {
    pub id: BroadcastId,
    pub tenant: TenantId,
    /// The caller's key, and the SHA-256 of what came with it.
    pub key: Option<IdempotencyKey>,
    pub body_hash: [u8; 32],
    pub rows: u32,
    pub created_at: DateTime<Utc>,
}

/// What became of a broadcast that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begun {
    New,
    /// The same key with the same body. Its rows may not all have been looked at: a crash came in between.
    Again(BroadcastId),
    /// The same key with another body.
    KeyReused(BroadcastId),
}

/// What a row's message does not say: that it is another broadcast's, or why there is none.
#[derive(Clone, Debug, PartialEq)]
pub struct RowNote {
    pub row: u32,
    pub message: Option<MessageId>,
    /// Problem JSON.
    pub problem: Option<serde_json::Value>,
}

/// A broadcast, and where its messages stand now.
#[derive(Clone, Debug)]
pub struct BroadcastRecord {
    pub id: BroadcastId,
    pub tenant: TenantId,
    pub rows: u32,
    pub created_at: DateTime<Utc>,
    /// When every row had been looked at.
    pub accepted_at: Option<DateTime<Utc>>,
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Rows that made no message, and rows whose message was made earlier.
    pub refused: u32,
    pub repeated: u32,
    pub by_status: Vec<(Status, u64)>,
}

/// One row, as it stands now.
#[derive(Clone, Debug)]
pub struct RowRecord {
    pub row: u32,
    /// Why it made no message, or none that may be sent.
    pub problem: Option<serde_json::Value>,
    pub message: Option<RowMessage>,
    /// The message was made by an earlier use of its key.
    pub repeated: bool,
}

/// A row's message, without its content.
#[derive(Clone, Debug)]
pub struct RowMessage {
    pub id: MessageId,
    pub chosen: Option<Channel>,
    pub status: Status,
    pub status_reason: Option<String>,
    pub due_at: Option<DateTime<Utc>>,
    pub sent_via: Option<Channel>,
    pub attempts: Vec<Attempt>,
}

#[async_trait]
pub trait Broadcasts: Send + Sync {
    async fn begin_broadcast(&self, broadcast: NewBroadcast) -> Result<Begun>;
    /// Every row was looked at; true where the broadcast was cancelled meanwhile.
    async fn finish_broadcast(
        &self,
        id: BroadcastId,
        notes: Vec<RowNote>,
        now: DateTime<Utc>,
    ) -> Result<bool>;
    async fn broadcast(&self, id: BroadcastId) -> Result<Option<BroadcastRecord>>;
    /// Rows in order, after one of them, at most `limit`.
    async fn broadcast_rows(&self, id: BroadcastId, after: Option<u32>, limit: u32)
    -> Result<Vec<RowRecord>>;
    /// How many of its messages are still to be tried, or tried now.
    async fn broadcast_unsettled(&self, id: BroadcastId) -> Result<u64>;
    /// Cancels what is not in flight and not at its end; answers those messages.
    async fn cancel_broadcast(&self, id: BroadcastId, now: DateTime<Utc>) -> Result<Vec<MessageId>>;
}

#[async_trait]
impl Broadcasts for SqlStore {
    async fn begin_broadcast(&self, broadcast: NewBroadcast) -> Result<Begun> {
        self.writer()?.run(Begin(broadcast)).await
    }

    async fn finish_broadcast(
        &self,
        id: BroadcastId,
        notes: Vec<RowNote>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        self.writer()?.run(Finish { id, notes, now }).await
    }

    async fn broadcast(&self, id: BroadcastId) -> Result<Option<BroadcastRecord>> {
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        let sql = "SELECT tenant, rows, created_at, accepted_at, cancelled_at FROM broadcasts WHERE id = $1";
        let Some(row) = link.row(sql, values![id]).await? else { return Ok(None) };
        // A note on a row that did make a message of this broadcast is neither.
        let sql = "SELECT COUNT(*), COUNT(r.message) FROM broadcast_rows r WHERE r.broadcast = $1 \
                   AND NOT EXISTS (SELECT 1 FROM messages m WHERE m.campaign = $1 AND m.campaign <> '' \
                   AND m.campaign_row = r.row)";
        let noted = link.row(sql, values![id]).await?;
        let (noted, repeated) = match &noted {
            Some(row) => (number(row, 0)?, number(row, 1)?),
            None => (0, 0),
        };
        let sql =
            "SELECT status, COUNT(*) FROM messages WHERE campaign = $1 AND campaign <> '' GROUP BY status";
        let mut by_status = Vec::new();
        for row in link.rows(sql, values![id]).await? {
            by_status.push((rows::status(&row.text(0)?)?, u64::try_from(row.int(1)?).unwrap_or_default()));
        }
        by_status.sort_by_key(|(status, _)| Status::ALL.iter().position(|s| s == status));
        Ok(Some(BroadcastRecord {
            id,
            tenant: rows::parsed(row.text(0)?, TenantId::parse)?,
            rows: number(&row, 1)?,
            created_at: rows::instant(row.int(2)?)?,
            accepted_at: rows::maybe_instant(row.maybe_int(3)?)?,
            cancelled_at: rows::maybe_instant(row.maybe_int(4)?)?,
            refused: noted - repeated,
            repeated,
            by_status,
        }))
    }

    async fn broadcast_rows(
        &self,
        id: BroadcastId,
        after: Option<u32>,
        limit: u32,
    ) -> Result<Vec<RowRecord>> {
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        let after = after.map_or(-1, i64::from);
        let mut found: BTreeMap<u32, RowRecord> = BTreeMap::new();
        let sql = "SELECT row, message, problem FROM broadcast_rows \
                   WHERE broadcast = $1 AND row > $2 ORDER BY row LIMIT CAST($3 AS BIGINT)";
        for row in link.rows(sql, values![id, after, limit]).await? {
            let (at, problem) = (number(&row, 0)?, row.maybe_text(2)?);
            let problem = problem.map(|text| serde_json::from_str(&text)).transpose();
            let problem = problem.map_err(|_| Fault::Corrupt("a row's problem".into()))?;
            let message = match row.maybe_text(1)? {
                Some(id) => one(&mut link, &id).await?,
                None => None,
            };
            let repeated = message.is_some();
            found.insert(at, RowRecord { row: at, problem, message, repeated });
        }
        let sql = format!(
            "SELECT {MESSAGE}, campaign_row FROM messages WHERE campaign = $1 AND campaign <> '' \
             AND campaign_row > $2 ORDER BY campaign_row LIMIT CAST($3 AS BIGINT)"
        );
        for row in link.rows(AssertSqlSafe(sql), values![id, after, limit]).await? {
            let (at, message) = (number(&row, 6)?, message(&row)?);
            let row = RowRecord { row: at, problem: None, message: None, repeated: false };
            let row = found.entry(at).or_insert(row);
            (row.message, row.repeated) = (Some(message), false);
        }
        let mut found: Vec<RowRecord> = found.into_values().take(limit as usize).collect();
        with_attempts(&mut link, &mut found).await?;
        Ok(found)
    }

    async fn broadcast_unsettled(&self, id: BroadcastId) -> Result<u64> {
        let mut reader = self.reader().await?;
        let sql = "SELECT COUNT(*) FROM messages WHERE campaign = $1 AND campaign <> '' \
                   AND status IN ('queued', 'retrying', 'sending')";
        let row = reader.link().row(sql, values![id]).await?;
        Ok(row.map(|row| row.int(0)).transpose()?.and_then(|n| u64::try_from(n).ok()).unwrap_or(0))
    }

    async fn cancel_broadcast(&self, id: BroadcastId, now: DateTime<Utc>) -> Result<Vec<MessageId>> {
        let mut all = Vec::new();
        loop {
            let part = self.writer()?.run(Cancel { id, now }).await?;
            let last = part.len() < CANCELLED_AT_ONCE as usize;
            all.extend(part);
            if last {
                return Ok(all);
            }
        }
    }
}

fn number(row: &Row, at: usize) -> Result<u32, Fault> {
    u32::try_from(row.int(at)?).map_err(|_| Fault::Corrupt("a number of rows".into()))
}

/// The columns that `message` reads.
const MESSAGE: &str = "id, chosen, status, status_reason, due_at, sent_via";

fn message(row: &Row) -> Result<RowMessage, Fault> {
    Ok(RowMessage {
        id: rows::parsed(row.text(0)?, MessageId::parse)?,
        // Empty: none.
        chosen: Channel::parse(&row.text(1)?),
        status: rows::status(&row.text(2)?)?,
        status_reason: row.maybe_text(3)?,
        due_at: rows::maybe_instant(row.maybe_int(4)?)?,
        sent_via: row.maybe_text(5)?.map(|word| rows::channel(&word)).transpose()?,
        attempts: Vec::new(),
    })
}

/// A message that another broadcast, or none, made.
async fn one(link: &mut Link<'_>, id: &str) -> Result<Option<RowMessage>, Fault> {
    let sql = format!("SELECT {MESSAGE} FROM messages WHERE id = $1");
    link.row(AssertSqlSafe(sql), values![id]).await?.as_ref().map(message).transpose()
}

async fn with_attempts(link: &mut Link<'_>, found: &mut [RowRecord]) -> Result<(), Fault> {
    let mut messages: BTreeMap<MessageId, &mut RowMessage> =
        found.iter_mut().filter_map(|row| row.message.as_mut()).map(|m| (m.id, m)).collect();
    let ids: Vec<MessageId> = messages.keys().copied().collect();
    let sql = format!("SELECT {} FROM attempts", *rows::ATTEMPT);
    for row in of_messages(link, &sql, &ids, " ORDER BY number").await? {
        let (id, attempt) = rows::attempt(&row)?;
        if let Some(message) = messages.get_mut(&id) {
            message.attempts.push(attempt);
        }
    }
    Ok(())
}

struct Begin(NewBroadcast);

impl Operation for Begin {
    type Answer = Begun;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Begun, Fault> {
        let new = &self.0;
        let key = new.key.as_ref().map(IdempotencyKey::as_str);
        if key.is_some() {
            // The rows' keys are forgotten then, and so is this one.
            let sql = "UPDATE broadcasts SET key = NULL WHERE tenant = $1 AND key = $2 AND created_at <= $3";
            let forgotten = new.created_at - TimeDelta::days(KEY_DAYS);
            link.run(sql, values![&new.tenant, key, forgotten]).await?;
        }
        let sql = "INSERT INTO broadcasts (id, tenant, key, body_hash, rows, created_at) \
                   VALUES ($1, $2, $3, $4, $5, $6) ON CONFLICT DO NOTHING";
        let hash = rows::to_hex(&new.body_hash);
        let values = values![new.id, &new.tenant, key, hash.as_str(), new.rows, new.created_at];
        if link.run(sql, values).await? > 0 {
            return Ok(Begun::New);
        }
        let sql = "SELECT id, body_hash FROM broadcasts WHERE tenant = $1 AND key = $2";
        let row = link.row(sql, values![&new.tenant, key]).await?;
        let row =
            row.ok_or_else(|| Fault::Corrupt("a broadcast's key vanished while it was taken".into()))?;
        let id = rows::parsed(row.text(0)?, BroadcastId::parse)?;
        Ok(if row.text(1)? == hash { Begun::Again(id) } else { Begun::KeyReused(id) })
    }
}

struct Finish {
    id: BroadcastId,
    notes: Vec<RowNote>,
    now: DateTime<Utc>,
}

impl Operation for Finish {
    type Answer = bool;

    async fn apply(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        let rows: Vec<Vec<Value>> = self
            .notes
            .iter()
            .map(|note| {
                let problem = note.problem.as_ref().map(ToString::to_string);
                values![self.id, note.row, note.message.map(|id| id.to_string()), problem]
            })
            .collect();
        let head = "INSERT INTO broadcast_rows (broadcast, row, message, problem) VALUES ";
        // A twin that finished first said the same.
        let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        insert(link, head, " ON CONFLICT (broadcast, row) DO NOTHING", &rows).await?;
        let sql = "UPDATE broadcasts SET accepted_at = COALESCE(accepted_at, $2) WHERE id = $1 \
                   RETURNING cancelled_at";
        let row = link.row(sql, values![self.id, self.now]).await?;
        Ok(row.map(|row| row.maybe_int(0)).transpose()?.flatten().is_some())
    }
}

struct Cancel {
    id: BroadcastId,
    now: DateTime<Utc>,
}

impl Operation for Cancel {
    type Answer = Vec<MessageId>;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Vec<MessageId>, Fault> {
        let sql = "UPDATE broadcasts SET cancelled_at = COALESCE(cancelled_at, $2) WHERE id = $1";
        link.run(sql, values![self.id, self.now]).await?;
        let sql = "UPDATE messages SET status = 'cancelled', status_reason = 'its broadcast was cancelled', \
                   due_at = NULL, fence = fence + 1 WHERE id IN (SELECT id FROM messages \
                   WHERE campaign = $1 AND campaign <> '' AND status IN ('queued', 'held', 'retrying') \
                   AND lease_owner IS NULL LIMIT CAST($2 AS BIGINT)) \
                   AND status IN ('queued', 'held', 'retrying') AND lease_owner IS NULL RETURNING id";
        let mut cancelled = Vec::new();
        for row in link.rows(sql, values![self.id, CANCELLED_AT_ONCE]).await? {
            cancelled.push(rows::parsed(row.text(0)?, MessageId::parse)?);
        }
        for id in &cancelled {
            link.notes().message(*id);
            event(link, &id.to_string(), self.now, "cancelled", Some("its broadcast was cancelled")).await?;
        }
        Ok(cancelled)
    }
}
