//! What is known beside the messages: who refused, what was spent, which keys open the door, which policies ruled.
//!
//! Facts only: whether a suppression or a sum keeps something from being sent is not decided here.

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Asking, Keys, Knowledge, KnownFacts, PolicyVersions, Remembered, Result, SqlStore, StoredKey,
    database::{Fault, Link, Row, values},
    jobs::Operation,
    recall::{Known, Month, YearMonth},
    refusals::{self, Asked},
    remembered, rows,
};
use crate::domain::{
    address::Address,
    channel::PerChannel,
    facts::Spend,
    ids::{PolicyVersion, TenantId},
    message::Origin,
};

#[async_trait]
impl Knowledge for SqlStore {
    fn remembered(&self, asked: &Asking<'_>) -> Option<Remembered> {
        remembered::all(self.recall.as_ref()?, asked)
    }

    async fn known_facts(
        &self,
        tenant: &TenantId,
        addresses: &PerChannel<Option<Address>>,
        senders: &PerChannel<Option<String>>,
        origin: Origin,
        day: NaiveDate,
    ) -> Result<KnownFacts> {
        Ok(KnownFacts {
            suppressed: self.suppressed(tenant, addresses, senders).await?,
            spend: self.spent(tenant, origin, day).await?,
        })
    }
}

impl SqlStore {
    /// A driver is not known yet: what only it can tell is asked again when the intent is recorded.
    async fn suppressed(
        &self,
        tenant: &TenantId,
        addresses: &PerChannel<Option<Address>>,
        senders: &PerChannel<Option<String>>,
    ) -> Result<PerChannel<Option<String>>> {
        let mut found = PerChannel::default();
        let mut reader = None;
        for (channel, address) in addresses.iter() {
            let Some(address) = address.as_ref().map(Address::as_str) else { continue };
            if self.recall.as_ref().is_some_and(|recall| recall.never_refused(channel, address)) {
                continue;
            }
            let reader = match &mut reader {
                Some(reader) => reader,
                none => none.insert(self.near().await?),
            };
            let sender = senders[channel].as_deref();
            let asked = Asked { tenant, channel, address, sender, driver: "" };
            found[channel] = refusals::refusal(&mut reader.link(), &asked).await?;
        }
        Ok(found)
    }

    async fn spent(&self, tenant: &TenantId, origin: Origin, day: NaiveDate) -> Result<Spend> {
        let today = day.format("%Y-%m-%d").to_string();
        let key = (tenant.clone(), YearMonth::of_day(&today));
        let known = match &self.recall {
            Some(recall) => recall.month(&key, |month| month.spend(&today, origin)),
            None => Known::No,
        };
        let ticket = match known {
            Known::Yes(spend) => return Ok(spend),
            Known::Ask(ticket) => Some(ticket),
            Known::No => None,
        };
        let month = month(&mut self.near().await?.link(), &key).await?;
        let spend = month.spend(&today, origin);
        if let (Some(recall), Some(ticket)) = (&self.recall, ticket) {
            recall.keep_month(key, month, ticket);
        }
        Ok(spend)
    }
}

/// The tenant's rows of one month: at most one for each day, channel and origin.
async fn month(link: &mut Link<'_>, (tenant, month): &(TenantId, YearMonth)) -> Result<Month, Fault> {
    let sql = "SELECT day, channel, origin, micro_euros FROM spend \
               WHERE tenant = $1 AND day >= $2 AND day <= $3";
    let mut found = Month::default();
    let (first, last) = month.days();
    for row in link.rows(sql, values![tenant, first, last]).await? {
        let origin = Origin::parse(&row.text(2)?).ok_or_else(|| Fault::Corrupt("an origin".into()))?;
        found.add(&row.text(0)?, rows::channel(&row.text(1)?)?, origin, row.int(3)?);
    }
    Ok(found)
}

const KEY: &str = "prefix, hash, tenant, scopes, label, created_at, expires_at, revoked_at";

fn key(row: &Row) -> Result<StoredKey, Fault> {
    Ok(StoredKey {
        prefix: row.text(0)?,
        hash: rows::hash(&row.text(1)?)?,
        tenant: rows::parsed(row.text(2)?, TenantId::parse)?,
        scopes: row.text(3)?.split_whitespace().map(str::to_owned).collect(),
        label: row.text(4)?,
        created_at: rows::instant(row.int(5)?)?,
        expires_at: rows::maybe_instant(row.maybe_int(6)?)?,
        revoked_at: rows::maybe_instant(row.maybe_int(7)?)?,
    })
}

#[async_trait]
impl Keys for SqlStore {
    async fn add_key(&self, key: &StoredKey) -> Result<()> {
        self.writer()?.run(AddKey(key.clone())).await
    }

    async fn keys(&self, tenant: Option<&TenantId>) -> Result<Vec<StoredKey>> {
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        let found = match tenant {
            None => {
                let sql = format!("SELECT {KEY} FROM api_keys ORDER BY tenant, created_at, prefix");
                link.rows(AssertSqlSafe(sql), values![]).await?
            }
            Some(tenant) => {
                let sql = format!("SELECT {KEY} FROM api_keys WHERE tenant = $1 ORDER BY created_at, prefix");
                link.rows(AssertSqlSafe(sql), values![tenant]).await?
            }
        };
        Ok(found.iter().map(key).collect::<Result<_, Fault>>()?)
    }

    async fn key_by_prefix(&self, prefix: &str) -> Result<Option<StoredKey>> {
        let mut reader = self.reader().await?;
        let sql = format!("SELECT {KEY} FROM api_keys WHERE prefix = $1");
        let row = reader.link().row(AssertSqlSafe(sql), values![prefix]).await?;
        Ok(row.as_ref().map(key).transpose()?)
    }

    async fn revoke_key(&self, prefix: &str, now: DateTime<Utc>) -> Result<bool> {
        self.writer()?.run(RevokeKey { prefix: prefix.to_owned(), now }).await
    }
}

struct AddKey(StoredKey);

impl Operation for AddKey {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let key = &self.0;
        let sql = "INSERT INTO api_keys (prefix, hash, tenant, scopes, label, created_at, expires_at, revoked_at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8)";
        let values = values![
            key.prefix.as_str(),
            rows::to_hex(&key.hash),
            &key.tenant,
            key.scopes.join(" "),
            key.label.as_str(),
            key.created_at,
            key.expires_at,
            key.revoked_at,
        ];
        link.run(sql, values).await?;
        Ok(())
    }
}

struct RevokeKey {
    prefix: String,
    now: DateTime<Utc>,
}

impl Operation for RevokeKey {
    type Answer = bool;

    async fn apply(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        let sql = "UPDATE api_keys SET revoked_at = $2 WHERE prefix = $1 AND revoked_at IS NULL \
                   AND (expires_at IS NULL OR expires_at > $2)";
        Ok(link.run(sql, values![self.prefix.as_str(), self.now]).await? > 0)
    }
}

#[async_trait]
impl PolicyVersions for SqlStore {
    async fn note_version(
        &self,
        tenant: &TenantId,
        version: &PolicyVersion,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.writer()?.run(NoteVersion { tenant: tenant.clone(), version: version.clone(), now }).await
    }
}

struct NoteVersion {
    tenant: TenantId,
    version: PolicyVersion,
    now: DateTime<Utc>,
}

impl Operation for NoteVersion {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let sql = "INSERT INTO policy_versions (tenant, version, first_at, last_at) VALUES ($1, $2, $3, $3) \
                   ON CONFLICT (tenant, version) DO UPDATE SET last_at = excluded.last_at";
        link.run(sql, values![&self.tenant, self.version.as_str(), self.now]).await?;
        Ok(())
    }
}
