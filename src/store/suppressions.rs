//! Who must not be written to: refusals with their proof, what lifts them, and what a send asks before it begins.
//!
//! One row for an address, a channel, a sender and a tenant; an empty sender or tenant stands for every one. A refusal
//! holds from the commit that records it (whoever never refused is known in memory, `recall`), and with several writers the address is locked while
//! it changes. Nothing is forgotten by an erasure but the address: its keyed hash goes on refusing.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    Result, SqlStore,
    database::{Fault, Link, Row, Value, values},
    jobs::Operation,
    refusals::{self, Entry, Lift, Refusal},
    rows,
};
use crate::domain::{address::Address, channel::Channel, consent::sender_key, ids::TenantId};

/// The longest list.
const LIMIT_MAX: u32 = 500;

/// What a suppression is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionKey {
    pub address: Address,
    pub channel: Channel,
    /// None: whichever sender writes.
    pub sender: Option<String>,
    /// None: every tenant that uses the sender.
    pub tenant: Option<TenantId>,
}

/// A refusal as it is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Suppression {
    /// `#` and a hash once the person was erased.
    pub address: String,
    pub channel: Channel,
    pub sender: Option<String>,
    pub tenant: Option<TenantId>,
    /// In words, for whoever asks why nothing is sent.
    pub reason: String,
    /// `inbound`, `provider`, `unsubscribe`, `bounce`, `complaint`, `blocked`, `api`; empty in rows of the first version.
    pub source: String,
    /// The text that said so.
    pub proof: Option<String>,
    /// Its wording was no plain STOP: a person should look at it.
    pub review: bool,
    /// Since when it is in force; when it was said stands in the log of consent.
    pub at: DateTime<Utc>,
}

/// Never the address nor the proof.
impl std::fmt::Debug for Suppression {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Suppression({}, {}, {})", self.channel, self.source, self.at)
    }
}

/// Where a list goes on: behind this one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SuppressionCursor {
    pub address: String,
    pub channel: Channel,
    pub sender: String,
}

impl Suppression {
    /// The cursor that goes on behind this one.
    pub fn cursor(&self) -> SuppressionCursor {
        SuppressionCursor {
            address: self.address.clone(),
            channel: self.channel,
            sender: self.sender.clone().unwrap_or_default(),
        }
    }
}

#[async_trait]
pub trait Suppressions: Send + Sync {
    /// Records a refusal that was not read from a message (an import, a telephone call); whether it is new.
    async fn suppress(
        &self,
        key: &SuppressionKey,
        reason: &str,
        proof: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool>;
    /// Lifts what refuses this address for the tenant: its own rows, and those that its callbacks told of. Where a
    /// sender is named, that one's alone. How many rows that were.
    async fn lift(&self, key: &SuppressionKey, reason: &str, now: DateTime<Utc>) -> Result<u64>;
    /// A tenant's refusals (its own, and those that its callbacks told of), by address; none: everyone's.
    async fn suppressions(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&SuppressionCursor>,
        limit: u32,
    ) -> Result<Vec<Suppression>>;
    /// What refuses this address now, for this tenant (none: for any) and sender (none: any).
    async fn refusals_of(&self, key: &SuppressionKey) -> Result<Vec<Suppression>>;
    /// Records that a person agreed to be written to on a channel, for the tenants that want it on record.
    async fn record_opt_in(
        &self,
        tenant: &TenantId,
        channel: Channel,
        address: &Address,
        source: &str,
        now: DateTime<Utc>,
    ) -> Result<()>;
    /// Takes an opt-in back.
    async fn withdraw_opt_in(
        &self,
        tenant: &TenantId,
        channel: Channel,
        address: &Address,
        now: DateTime<Utc>,
    ) -> Result<()>;
    /// Erases an address of the tenant's from refusals, their log and the list of contacts; its refusals go on holding
    /// by a keyed hash.
    async fn forget_address(&self, tenant: &TenantId, channel: Channel, address: &Address) -> Result<()>;
}

const COLUMNS: &str = "address, channel, sender, tenant, reason, source, proof, review, created_at";

fn suppression(row: &Row) -> Result<Suppression, Fault> {
    let some = |text: String| (!text.is_empty()).then_some(text);
    Ok(Suppression {
        address: row.text(0)?,
        channel: rows::channel(&row.text(1)?)?,
        sender: some(row.text(2)?),
        tenant: some(row.text(3)?).map(|text| rows::parsed(text, TenantId::parse)).transpose()?,
        reason: row.text(4)?,
        source: row.text(5)?,
        proof: row.maybe_text(6)?,
        review: row.int(7)? != 0,
        at: rows::instant(row.int(8)?)?,
    })
}

#[async_trait]
impl Suppressions for SqlStore {
    async fn suppress(
        &self,
        key: &SuppressionKey,
        reason: &str,
        proof: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        let refusal = Refusal {
            address: key.address.as_str().to_owned(),
            channel: key.channel,
            sender: key.sender.as_deref().map(|s| sender_key(key.channel, s)).unwrap_or_default(),
            tenant: key.tenant.clone(),
            reason: reason.to_owned(),
            act: "put",
            source: "api",
            noted_by: key.tenant.as_ref().map(|t| t.as_str().to_owned()).unwrap_or_default(),
            noted_driver: String::new(),
            proof: proof.map(str::to_owned),
            reference: None,
            review: false,
            said_at: now,
            now,
        };
        self.writer()?.run(refusal).await
    }

    async fn lift(&self, key: &SuppressionKey, reason: &str, now: DateTime<Utc>) -> Result<u64> {
        let lift = Lift {
            address: key.address.as_str().to_owned(),
            channel: key.channel,
            sender: key.sender.as_deref().map(|s| sender_key(key.channel, s)),
            tenant: key.tenant.clone(),
            reason: reason.to_owned(),
            now,
        };
        self.writer()?.run(lift).await
    }

    async fn suppressions(
        &self,
        tenant: Option<&TenantId>,
        after: Option<&SuppressionCursor>,
        limit: u32,
    ) -> Result<Vec<Suppression>> {
        let mut sql = format!("SELECT {COLUMNS} FROM suppressions WHERE 1 = 1");
        let mut values: Vec<Value> = Vec::new();
        if let Some(tenant) = tenant {
            values.push(tenant.into());
            sql.push_str(" AND (tenant = $1 OR noted_by = $1)");
        }
        if let Some(after) = after {
            let at = values.len();
            values.extend(values![after.address.as_str(), after.channel, after.sender.as_str()]);
            sql.push_str(&format!(
                " AND (address, channel, sender) > (${}, ${}, ${})",
                at + 1,
                at + 2,
                at + 3
            ));
        }
        values.push(limit.clamp(1, LIMIT_MAX).into());
        sql.push_str(&format!(
            " ORDER BY address, channel, sender, tenant LIMIT CAST(${} AS BIGINT)",
            values.len()
        ));
        let mut reader = self.reader().await?;
        let found = reader.link().rows(sqlx::AssertSqlSafe(sql), values).await?;
        Ok(found.iter().map(suppression).collect::<Result<_, Fault>>()?)
    }

    async fn refusals_of(&self, key: &SuppressionKey) -> Result<Vec<Suppression>> {
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        let address = key.address.as_str();
        let hash = refusals::hashed(&mut link, address).await?.unwrap_or_else(|| address.to_owned());
        let sql = format!(
            "SELECT {COLUMNS} FROM suppressions WHERE address IN ($1, $2) AND channel = $3 \
             AND ($4 = '' OR tenant IN ('', $4)) AND ($5 = '' OR sender IN ('', $5)) ORDER BY created_at"
        );
        let tenant = key.tenant.as_ref().map(TenantId::as_str).unwrap_or_default();
        let sender = key.sender.as_deref().map(|s| sender_key(key.channel, s)).unwrap_or_default();
        let values = values![address, hash, key.channel, tenant, sender];
        let found = link.rows(sqlx::AssertSqlSafe(sql), values).await?;
        Ok(found.iter().map(suppression).collect::<Result<_, Fault>>()?)
    }

    async fn record_opt_in(
        &self,
        tenant: &TenantId,
        channel: Channel,
        address: &Address,
        source: &str,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.writer()?.run(RecordOptIn::new(tenant, channel, address, Some(source), now)).await
    }

    async fn withdraw_opt_in(
        &self,
        tenant: &TenantId,
        channel: Channel,
        address: &Address,
        now: DateTime<Utc>,
    ) -> Result<()> {
        self.writer()?.run(RecordOptIn::new(tenant, channel, address, None, now)).await
    }

    async fn forget_address(&self, tenant: &TenantId, channel: Channel, address: &Address) -> Result<()> {
        let forget = Forget {
            tenant: tenant.clone(),
            channel,
            address: address.as_str().to_owned(),
            new_salt: refusals::new_salt()?,
        };
        self.writer()?.run(forget).await
    }
}

/// One address that is erased, alone or with the person whose it is.
pub(super) struct Forget {
    pub(super) tenant: TenantId,
    pub(super) channel: Channel,
    pub(super) address: String,
    /// Used if this is the first erasure.
    pub(super) new_salt: String,
}

impl Operation for Forget {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        refusals::lock_address(link, &self.address).await?;
        let hash = refusals::hashed_for_erasure(link, &self.address, &self.new_salt).await?;
        link.notes().refused(self.channel, &hash);
        // A sender that several tenants share goes on being refused to all of them, by the hash.
        let ours = "address = $2 AND channel = $3 AND (tenant = $4 OR noted_by = $4)";
        let values = values![hash.as_str(), self.address.as_str(), self.channel, &self.tenant];
        // The same refusal may have been erased before, and given anew since.
        let sql = format!(
            "INSERT INTO suppressions (address, channel, sender, tenant, reason, proof, created_at, source, \
             noted_by, noted_driver, review) SELECT $1, channel, sender, tenant, reason, NULL, created_at, source, \
             noted_by, noted_driver, 0 FROM suppressions WHERE {ours} \
             ON CONFLICT (address, channel, sender, tenant) DO NOTHING"
        );
        link.run(sqlx::AssertSqlSafe(sql), values.clone()).await?;
        let sql =
            "DELETE FROM suppressions WHERE address = $1 AND channel = $2 AND (tenant = $3 OR noted_by = $3)";
        link.run(sql, values![self.address.as_str(), self.channel, &self.tenant]).await?;
        let sql = format!(
            "INSERT INTO consent_log (address, channel, sender, tenant, at, noted_at, act, source, noted_by, proof, \
             reference) SELECT $1, channel, sender, tenant, at, noted_at, act, source, noted_by, NULL, NULL \
             FROM consent_log WHERE {ours} ON CONFLICT (address, channel, sender, tenant, at, act) DO NOTHING"
        );
        link.run(sqlx::AssertSqlSafe(sql), values).await?;
        let sql =
            "DELETE FROM consent_log WHERE address = $1 AND channel = $2 AND (tenant = $3 OR noted_by = $3)";
        link.run(sql, values![self.address.as_str(), self.channel, &self.tenant]).await?;
        forget_contact(link, &self.tenant, self.channel, &self.address).await
    }
}

/// A person agreed on paper, on a site, by telephone; or took it back.
struct RecordOptIn {
    tenant: TenantId,
    channel: Channel,
    address: String,
    source: Option<String>,
    now: DateTime<Utc>,
}

impl RecordOptIn {
    /// No source: taken back.
    fn new(
        tenant: &TenantId,
        channel: Channel,
        address: &Address,
        source: Option<&str>,
        now: DateTime<Utc>,
    ) -> Self {
        let address = address.as_str().to_owned();
        Self { tenant: tenant.clone(), channel, address, source: source.map(str::to_owned), now }
    }
}

impl Operation for RecordOptIn {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let entry = Entry {
            address: &self.address,
            channel: self.channel,
            sender: "",
            tenant: self.tenant.as_str(),
            at: self.now,
            noted_at: self.now,
            act: if self.source.is_some() { "opt_in" } else { "opt_in_withdrawn" },
            source: "api",
            noted_by: self.tenant.as_str(),
            proof: self.source.as_deref(),
            reference: None,
        };
        entry.write(link).await?;
        link.notes().contact(&self.tenant, self.channel, &self.address);
        let Some(source) = self.source.as_deref() else {
            let sql = "UPDATE contacts SET opted_in_at = NULL, opted_in_source = NULL \
                       WHERE address = $1 AND channel = $2 AND tenant = $3";
            link.run(sql, values![self.address.as_str(), self.channel, &self.tenant]).await?;
            return Ok(());
        };
        let sql = "INSERT INTO contacts (address, channel, sender, tenant, opted_in_at, opted_in_source) \
                   VALUES ($1, $2, '', $3, $4, $5) ON CONFLICT (address, channel, sender, tenant) DO UPDATE SET \
                   opted_in_at = excluded.opted_in_at, opted_in_source = excluded.opted_in_source";
        link.run(sql, values![self.address.as_str(), self.channel, &self.tenant, self.now, source]).await?;
        Ok(())
    }
}

/// Part of an erasure: that the person wrote to the tenant, and what they wrote of.
async fn forget_contact(
    link: &mut Link<'_>,
    tenant: &TenantId,
    channel: Channel,
    address: &str,
) -> Result<(), Fault> {
    link.notes().contact(tenant, channel, address);
    for sql in [
        "DELETE FROM contacts WHERE address = $1 AND channel = $2 AND tenant = $3",
        // The row stays, so that a replay is known for one; whom it is of does not.
        "UPDATE inbound SET address = '' WHERE address = $1 AND channel = $2 AND tenant = $3",
    ] {
        link.run(sql, values![address, channel, tenant]).await?;
    }
    Ok(())
}
