//! What operators stop and start, and the log of what they did: who, when, what, why.
//!
//! A pause holds from the commit that records it: it is asked for again in the transaction of every intent. It costs a
//! message no attempt, and moves no deadline. The log is only ever added to; it decides nothing.

use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use super::{
    By, Result, SqlStore,
    database::{Fault, Link, Row, Value, values},
    jobs::Operation,
    rows,
};
use crate::domain::ids::{ActId, TenantId};

/// Messages that a resume wakes in one transaction.
const WOKEN_AT_ONCE: i64 = 500;
/// A paused message is looked at again within this; what is due later waits for something else.
const LOOKED_AT_WITHIN: TimeDelta = TimeDelta::minutes(10);
/// The longest list of acts.
const LIMIT_MAX: u32 = 200;

/// What can be paused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PauseKind {
    Tenant,
    Driver,
}

impl PauseKind {
    pub const fn as_str(self) -> &'static str {
        match self {
            PauseKind::Tenant => "tenant",
            PauseKind::Driver => "driver",
        }
    }

    fn parse(word: &str) -> Result<Self, Fault> {
        match word {
            "tenant" => Ok(PauseKind::Tenant),
            "driver" => Ok(PauseKind::Driver),
            _ => Err(Fault::Corrupt("a kind of pause".into())),
        }
    }
}

/// A tenant or a driver that an operator paused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pause {
    pub kind: PauseKind,
    pub name: String,
    pub since: DateTime<Utc>,
    pub who: String,
    pub reason: String,
}

/// Every pause in force. Clones share it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pauses(Arc<[Pause]>);

impl Pauses {
    pub fn new(pauses: impl IntoIterator<Item = Pause>) -> Self {
        Self(pauses.into_iter().collect())
    }

    /// Why the tenant's messages wait, in the operator's words.
    pub fn of_tenant(&self, tenant: &TenantId) -> Option<&str> {
        self.of(PauseKind::Tenant, tenant.as_str())
    }

    /// Why the driver's messages wait, in the operator's words.
    pub fn of_driver(&self, driver: &str) -> Option<&str> {
        self.of(PauseKind::Driver, driver)
    }

    /// The paused drivers, with the operator's words.
    pub fn of_drivers(&self) -> Vec<(String, String)> {
        let drivers = self.0.iter().filter(|pause| pause.kind == PauseKind::Driver);
        drivers.map(|pause| (pause.name.clone(), pause.reason.clone())).collect()
    }

    fn of(&self, kind: PauseKind, name: &str) -> Option<&str> {
        let found = self.0.iter().find(|pause| pause.kind == kind && pause.name == name);
        found.map(|pause| pause.reason.as_str())
    }

    pub fn iter(&self) -> impl Iterator<Item = &Pause> {
        self.0.iter()
    }
}

/// One line of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ActRecord {
    pub id: ActId,
    pub at: DateTime<Utc>,
    /// `resend`, `mark_sent`, `mark_failed`, `release`, `cancel`, `pause_tenant`, `resume_driver`, `erase` and so on.
    pub act: String,
    /// What it was done to: a message's id, a name; of a person that is erased, the hash that stands for the name.
    pub target: String,
    /// None: a driver, which is nobody's alone.
    pub tenant: Option<TenantId>,
    pub who: String,
    pub reason: String,
}

#[async_trait]
pub trait Operate: Send + Sync {
    /// Pauses a tenant or a driver; false where it was paused already, and the first reason stays.
    async fn pause(&self, kind: PauseKind, name: &str, by: &By, now: DateTime<Utc>) -> Result<bool>;
    /// Lets it go on, and has what waited for that looked at now; false where it was not paused.
    async fn resume(&self, kind: PauseKind, name: &str, by: &By, now: DateTime<Utc>) -> Result<bool>;
    async fn pauses(&self) -> Result<Pauses>;
    /// What operators did, newest first; of one tenant only, where one is given.
    async fn acts(
        &self,
        tenant: Option<&TenantId>,
        before: Option<ActId>,
        limit: u32,
    ) -> Result<Vec<ActRecord>>;
}

#[async_trait]
impl Operate for SqlStore {
    async fn pause(&self, kind: PauseKind, name: &str, by: &By, now: DateTime<Utc>) -> Result<bool> {
        let change =
            Change { kind, name: name.to_owned(), stops: true, act: ActId::new(), by: by.clone(), now };
        self.writer()?.run(change).await
    }

    async fn resume(&self, kind: PauseKind, name: &str, by: &By, now: DateTime<Utc>) -> Result<bool> {
        let act = ActId::new();
        let change = Change { kind, name: name.to_owned(), stops: false, act, by: by.clone(), now };
        let resumed = self.writer()?.run(change).await?;
        if resumed {
            while self.writer()?.run(Wake { kind, name: name.to_owned(), now }).await? >= WOKEN_AT_ONCE as u64
            {
            }
        }
        Ok(resumed)
    }

    async fn pauses(&self) -> Result<Pauses> {
        Ok(in_force(&mut self.reader().await?.link()).await?)
    }

    async fn acts(
        &self,
        tenant: Option<&TenantId>,
        before: Option<ActId>,
        limit: u32,
    ) -> Result<Vec<ActRecord>> {
        let owner = tenant.map_or("", TenantId::as_str);
        let before = before.map(|id| id.to_string()).unwrap_or_default();
        let sql = "SELECT id, at, act, target, tenant, who, reason FROM acts \
                   WHERE ($1 = '' OR tenant = $1) AND ($2 = '' OR id < $2) ORDER BY id DESC LIMIT CAST($3 AS BIGINT)";
        let values = values![owner, before, limit.clamp(1, LIMIT_MAX)];
        let found = self.reader().await?.link().rows(sql, values).await?;
        Ok(found.iter().map(act_record).collect::<Result<_, Fault>>()?)
    }
}

fn act_record(row: &Row) -> Result<ActRecord, Fault> {
    let tenant = Some(row.text(4)?).filter(|text| !text.is_empty());
    Ok(ActRecord {
        id: rows::parsed(row.text(0)?, ActId::parse)?,
        at: rows::instant(row.int(1)?)?,
        act: row.text(2)?,
        target: row.text(3)?,
        tenant: tenant.map(|text| rows::parsed(text, TenantId::parse)).transpose()?,
        who: row.text(5)?,
        reason: row.text(6)?,
    })
}

/// Every pause, for what was just claimed.
pub(super) async fn in_force(link: &mut Link<'_>) -> Result<Pauses, Fault> {
    let sql = "SELECT kind, name, since, who, reason FROM pauses ORDER BY kind, name";
    let read = |row: &Row| {
        Ok(Pause {
            kind: PauseKind::parse(&row.text(0)?)?,
            name: row.text(1)?,
            since: rows::instant(row.int(2)?)?,
            who: row.text(3)?,
            reason: row.text(4)?,
        })
    };
    let found = link.rows(sql, values![]).await?;
    Ok(Pauses(found.iter().map(read).collect::<Result<_, Fault>>()?))
}

/// What holds this tenant's attempt by this driver, in words; asked in the transaction of its intent.
pub(super) async fn held(
    link: &mut Link<'_>,
    tenant: &TenantId,
    driver: &str,
) -> Result<Option<String>, Fault> {
    // Two look-ups by key: SQLite answers an OR, or a sorted list, by way of a table that it makes for it.
    let sql = "SELECT kind, reason FROM pauses WHERE kind = 'tenant' AND name = $1 \
               UNION ALL SELECT kind, reason FROM pauses WHERE kind = 'driver' AND name = $2";
    let mut found = link.rows(sql, values![tenant, driver]).await?;
    if found.len() > 1 && found[0].text(0)? == PauseKind::Driver.as_str() {
        found.swap(0, 1);
    }
    let Some(row) = found.first() else { return Ok(None) };
    let (kind, reason) = (PauseKind::parse(&row.text(0)?)?, row.text(1)?);
    Ok(Some(paused_words(kind, if kind == PauseKind::Tenant { tenant.as_str() } else { driver }, &reason)))
}

/// How a pause is told where a message waits for it; `Wake` finds them by these words.
pub fn paused_words(kind: PauseKind, name: &str, reason: &str) -> String {
    match kind {
        PauseKind::Tenant => format!("paused by an operator: {reason}"),
        PauseKind::Driver => format!("{name} was paused by an operator: {reason}"),
    }
}

/// One line of the log, to be written with what it tells of.
pub(super) struct Logged<'a> {
    pub(super) id: ActId,
    pub(super) act: &'a str,
    pub(super) target: &'a str,
    pub(super) tenant: &'a str,
    pub(super) by: &'a By,
    pub(super) now: DateTime<Utc>,
}

impl Logged<'_> {
    pub(super) async fn write(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let sql =
            "INSERT INTO acts (id, at, act, target, tenant, who, reason) VALUES ($1, $2, $3, $4, $5, $6, $7)";
        let By { who, why } = self.by;
        let id = self.id.to_string();
        let values = values![id, self.now, self.act, self.target, self.tenant, who.as_str(), why.as_str()];
        link.run(sql, values).await?;
        Ok(())
    }
}

/// A pause that begins or ends.
struct Change {
    kind: PauseKind,
    name: String,
    stops: bool,
    act: ActId,
    by: By,
    now: DateTime<Utc>,
}

impl Operation for Change {
    type Answer = bool;

    async fn apply(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        let (kind, name) = (self.kind.as_str(), self.name.as_str());
        let changed = if self.stops {
            let sql = "INSERT INTO pauses (kind, name, since, who, reason) VALUES ($1, $2, $3, $4, $5) \
                       ON CONFLICT (kind, name) DO NOTHING";
            link.run(sql, values![kind, name, self.now, self.by.who.as_str(), self.by.why.as_str()]).await?
        } else {
            link.run("DELETE FROM pauses WHERE kind = $1 AND name = $2", values![kind, name]).await?
        };
        if changed > 0 {
            let act = format!("{}_{kind}", if self.stops { "pause" } else { "resume" });
            let tenant = if self.kind == PauseKind::Tenant { name } else { "" };
            let logged =
                Logged { id: self.act, act: &act, target: name, tenant, by: &self.by, now: self.now };
            logged.write(link).await?;
        }
        Ok(changed > 0)
    }
}

/// Some of what waited for the end of a pause is due now.
struct Wake {
    kind: PauseKind,
    name: String,
    now: DateTime<Utc>,
}

impl Operation for Wake {
    type Answer = u64;

    async fn apply(&self, link: &mut Link<'_>) -> Result<u64, Fault> {
        // By the index of what is due soon. A name's `_` matches more than itself: that one only looks once more.
        let words = format!("{}%", paused_words(self.kind, &self.name, ""));
        let tenant = if self.kind == PauseKind::Tenant { self.name.as_str() } else { "" };
        let locking = if link.locks_rows() { " FOR UPDATE SKIP LOCKED" } else { "" };
        let sql = format!(
            "UPDATE messages SET due_at = $1 WHERE id IN (SELECT id FROM messages WHERE due_at > $1 AND due_at < $2 \
             AND status IN ('held', 'retrying') AND status_reason LIKE $3 AND ($4 = '' OR tenant = $4) \
             LIMIT {WOKEN_AT_ONCE}{locking})"
        );
        let values: Vec<Value> = values![self.now, self.now + LOOKED_AT_WITHIN, words, tenant];
        link.run(AssertSqlSafe(sql), values).await
    }
}
