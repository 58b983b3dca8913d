//! Receipts that came before their attempt's outcome, or for nothing of ours: kept, and looked at again.
//!
//! One that the disk has damaged, or whose message it has, is set aside and holds up no other. Nothing here says what a
//! receipt comes to: `receipts` delivers it, as it does one that has just come in.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Result, SqlStore, StoreError,
    database::{Fault, Link, Row, Value, values},
    jobs::Operation,
    receipts::{AfterUndelivered, Delivery, Receipt, Received, no_mailbox},
    rows,
};
use crate::domain::{
    ids::{AttemptId, TenantId},
    money::MicroEuros,
    receipt::ReceiptKind,
};

/// How long a receipt that matches nothing is kept (reliability.md F48).
const ORPHAN_DAYS: i64 = 7;
/// Orphans looked at in one sweep.
const SWEPT_AT_ONCE: u32 = 200;

/// What tells one from another, as the table has it.
const KEY: &str =
    "reference = $1 AND credential = $2 AND kind = $3 AND provider_at = $4 AND tenant = $5 AND attempt = $6";
const COLUMNS: &str =
    "reference, credential, kind, provider_at, tenant, attempt, drivers, received_at, error, cost";

#[derive(Clone, Debug)]
struct Key {
    reference: String,
    credential: String,
    kind: String,
    provider_at: i64,
    tenant: String,
    attempt: String,
}

impl Key {
    fn of(receipt: &Receipt) -> Self {
        Self {
            reference: receipt.reference.clone().unwrap_or_default(),
            credential: receipt.credential.clone(),
            kind: receipt.kind.as_str().to_owned(),
            provider_at: receipt.told_at(),
            tenant: receipt.tenant.as_str().to_owned(),
            attempt: receipt.token.map(|id| id.to_string()).unwrap_or_default(),
        }
    }

    fn read(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            reference: row.text(0)?,
            credential: row.text(1)?,
            kind: row.text(2)?,
            provider_at: row.int(3)?,
            tenant: row.text(4)?,
            attempt: row.text(5)?,
        })
    }

    fn values(&self) -> Vec<Value> {
        values![
            self.reference.as_str(),
            self.credential.as_str(),
            self.kind.as_str(),
            self.provider_at,
            self.tenant.as_str(),
            self.attempt.as_str(),
        ]
    }
}

fn read(row: &Row) -> Result<Receipt, Fault> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    let at = row.int(3)?;
    let kind = ReceiptKind::parse(&row.text(2)?);
    let kind = kind.ok_or_else(|| Fault::Corrupt("a receipt's kind".into()))?;
    let error = row.maybe_text(8)?;
    let told = error.as_deref().map(rows::attempt_error).transpose()?;
    Ok(Receipt {
        reference: some(row.text(0)?),
        credential: row.text(1)?,
        kind,
        provider_at: if at == 0 { None } else { Some(rows::instant(at)?) },
        tenant: rows::parsed(row.text(4)?, TenantId::parse)?,
        token: some(row.text(5)?).map(|text| rows::parsed(text, AttemptId::parse)).transpose()?,
        drivers: row.text(6)?.split(' ').map(str::to_owned).collect(),
        received_at: rows::instant(row.int(7)?)?,
        error,
        no_mailbox: no_mailbox(kind, told.as_ref()),
        cost: row.maybe_int(9)?.map(MicroEuros),
    })
}

/// Keeps it for later; `ready` where an attempt of ours is known to be meant.
pub(super) async fn keep(link: &mut Link<'_>, receipt: &Receipt, ready: bool) -> Result<(), Fault> {
    let sql = "INSERT INTO orphan_receipts (reference, credential, kind, provider_at, tenant, attempt, drivers, \
               received_at, error, cost, ready) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
               ON CONFLICT (reference, credential, kind, provider_at, tenant, attempt) DO NOTHING";
    let mut values = Key::of(receipt).values();
    values.extend(values![
        receipt.drivers.join(" "),
        receipt.received_at,
        receipt.error.as_deref(),
        receipt.cost.map(|cost| cost.0),
        ready,
    ]);
    link.run(sql, values).await?;
    Ok(())
}

/// What was ready is no more: it waits for its attempt's name, or for its seven days to be over.
async fn set_aside(link: &mut Link<'_>, key: &Key) -> Result<(), Fault> {
    let sql = format!("UPDATE orphan_receipts SET ready = 0 WHERE {KEY}");
    link.run(sqlx::AssertSqlSafe(sql), key.values()).await?;
    Ok(())
}

/// Marks the receipts that came before this name of an attempt was known: the next sweep applies them.
pub(super) async fn await_sweep(link: &mut Link<'_>, reference: &str) -> Result<(), Fault> {
    let sql = "UPDATE orphan_receipts SET ready = 1 WHERE reference = $1 AND ready = 0";
    link.run(sql, values![reference]).await?;
    Ok(())
}

/// Looks at what is ready, all of it in one transaction; each alone where something in it does not read back.
pub(super) async fn sweep(
    store: &SqlStore,
    after: AfterUndelivered,
    now: DateTime<Utc>,
) -> Result<Vec<Received>> {
    let forgotten = now - TimeDelta::days(ORPHAN_DAYS);
    let mut reader = store.reader().await?;
    let sql = "SELECT 1 FROM orphan_receipts WHERE ready = 1 OR received_at < $1 LIMIT 1";
    if reader.link().row(sql, values![forgotten]).await?.is_none() {
        return Ok(Vec::new());
    }
    drop(reader);
    let together = store.writer()?.run(Sweep { after, now, forgotten, only: None }).await;
    let Err(StoreError::Corrupt(_)) = together else { return together };
    let mut done = Vec::new();
    for key in ready(store).await? {
        let only = Some(key.clone());
        match store.writer()?.run(Sweep { after, now, forgotten, only }).await {
            Ok(received) => done.extend(received),
            Err(StoreError::Corrupt(why)) => {
                tracing::error!(
                    attempt = key.attempt,
                    why,
                    "a receipt of what does not read back is set aside"
                );
                store.writer()?.run(SetAside(key)).await?;
            }
            Err(error) => return Err(error),
        }
    }
    Ok(done)
}

/// The keys of what a sweep looks at.
async fn ready(store: &SqlStore) -> Result<Vec<Key>> {
    let sql = format!(
        "SELECT {COLUMNS} FROM orphan_receipts WHERE ready = 1 ORDER BY received_at LIMIT {SWEPT_AT_ONCE}"
    );
    let mut reader = store.reader().await?;
    let found = reader.link().rows(sqlx::AssertSqlSafe(sql), values![]).await?;
    Ok(found.iter().map(Key::read).collect::<Result<_, Fault>>()?)
}

struct Sweep {
    after: AfterUndelivered,
    now: DateTime<Utc>,
    forgotten: DateTime<Utc>,
    /// This one, if it is still ready; else the oldest that are.
    only: Option<Key>,
}

impl Operation for Sweep {
    type Answer = Vec<Received>;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Vec<Received>, Fault> {
        if self.only.is_none() {
            link.run("DELETE FROM orphan_receipts WHERE received_at < $1", values![self.forgotten]).await?;
        }
        let locking = if link.locks_rows() { " FOR UPDATE SKIP LOCKED" } else { "" };
        let (which, values) = match &self.only {
            Some(key) => (format!(" AND {KEY}"), key.values()),
            None => (String::new(), values![]),
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM orphan_receipts WHERE ready = 1{which} ORDER BY received_at \
             LIMIT {SWEPT_AT_ONCE}{locking}"
        );
        let mut done = Vec::new();
        for row in link.rows(sqlx::AssertSqlSafe(sql), values).await? {
            let (key, orphan) = (Key::read(&row)?, read(&row)?);
            match orphan.deliver(link, self.after, self.now).await? {
                Delivery::TooEarly => {}
                Delivery::NoMatch | Delivery::Damaged => set_aside(link, &key).await?,
                Delivery::Done(received) => {
                    let sql = format!("DELETE FROM orphan_receipts WHERE {KEY}");
                    link.run(sqlx::AssertSqlSafe(sql), key.values()).await?;
                    done.push(received);
                }
            }
        }
        Ok(done)
    }
}

/// A receipt that cannot be applied is not lost.
pub(super) struct Keep(pub(super) Arc<Receipt>);

impl Operation for Keep {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        keep(link, &self.0, false).await
    }
}

struct SetAside(Key);

impl Operation for SetAside {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        set_aside(link, &self.0).await
    }
}
