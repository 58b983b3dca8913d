//! The rows of refusals: written with their proof, lifted, and read by every send before it begins.
//!
//! Whoever changes one holds the address alone; whoever is about to write to it shares that hold until the intent is
//! committed (I3). A sender that the provider picks (a messaging service, a driver's own number) cannot be compared
//! with the number that the person saw, so that whatever came in through the same tenant or driver counts.

use chrono::{DateTime, Utc};
use ring::{hmac, rand::SecureRandom};

use super::{
    Result, StoreError,
    database::{Fault, Link, values},
    jobs::Operation,
    rows,
};
use crate::domain::{
    channel::Channel,
    consent::{is_plain_sender, sender_key},
    ids::{AttemptId, MessageId, TenantId},
};

/// A refusal that is to be recorded.
pub(super) struct Refusal {
    pub(super) address: String,
    pub(super) channel: Channel,
    /// As `sender_key` writes it; empty: every sender.
    pub(super) sender: String,
    pub(super) tenant: Option<TenantId>,
    pub(super) reason: String,
    pub(super) act: &'static str,
    pub(super) source: &'static str,
    pub(super) noted_by: String,
    pub(super) noted_driver: String,
    pub(super) proof: Option<String>,
    pub(super) reference: Option<String>,
    pub(super) review: bool,
    /// By the provider's clock, where it told: what decides between a STOP and a START that came out of order.
    pub(super) said_at: DateTime<Utc>,
    pub(super) now: DateTime<Utc>,
}

impl Operation for Refusal {
    /// Whether it was not refused already.
    type Answer = bool;

    async fn apply(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        lock_address(link, &self.address).await?;
        self.write(link).await
    }
}

impl Refusal {
    /// A mailbox that is not there (any more), as the mail server of this attempt said: the tenant's mail goes there no
    /// more, whoever writes it. None where the address was forgotten meanwhile.
    pub(super) async fn of_mailbox(
        link: &mut Link<'_>,
        message: MessageId,
        attempt: AttemptId,
        code: &str,
        now: DateTime<Utc>,
    ) -> Result<Option<Self>, Fault> {
        let sql = "SELECT a.address, a.driver, m.tenant FROM attempts a JOIN messages m ON m.id = a.message_id \
                   WHERE a.message_id = $1 AND a.id = $2 AND a.channel = 'email' AND a.address <> ''";
        let Some(row) = link.row(sql, values![message, attempt]).await? else { return Ok(None) };
        let noted_by = row.text(2)?;
        let tenant = TenantId::parse(&noted_by).map_err(|_| Fault::Corrupt("a message's tenant".into()))?;
        Ok(Some(Self {
            address: row.text(0)?,
            channel: Channel::Email,
            sender: String::new(),
            tenant: Some(tenant),
            reason: format!("hard bounce on {} ({code}): no such mailbox", now.format("%Y-%m-%d")),
            act: "bounce",
            source: "bounce",
            noted_by,
            noted_driver: row.text(1)?,
            proof: Some(format!("attempt {attempt} at message {message}")),
            reference: None,
            review: false,
            said_at: now,
            now,
        }))
    }

    fn tenant(&self) -> &str {
        self.tenant.as_ref().map(TenantId::as_str).unwrap_or_default()
    }

    /// Writes it where the address is locked already. A STOP that was said before a START which is known by now only
    /// goes into the log.
    pub(super) async fn write(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        let sql = format!(
            "SELECT 1 FROM consent_log WHERE address = $1 AND channel = $2 AND sender = $3 AND tenant = $4 \
             AND at > $5 AND act IN {UNDOING} LIMIT 1"
        );
        let key = || values![self.address.as_str(), self.channel, self.sender.as_str(), self.tenant()];
        let mut asked = key();
        asked.push(self.said_at.into());
        let stale = link.row(sqlx::AssertSqlSafe(sql), asked).await?.is_some();
        self.log(link).await?;
        if stale {
            return Ok(false);
        }
        let sql = "INSERT INTO suppressions (address, channel, sender, tenant, reason, proof, created_at, source, \
                   noted_by, noted_driver, review) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                   ON CONFLICT (address, channel, sender, tenant) DO NOTHING";
        let mut row = key();
        row.extend(values![
            self.reason.as_str(),
            self.proof.as_deref(),
            self.in_force_from(link).await?,
            self.source,
            self.noted_by.as_str(),
            self.noted_driver.as_str(),
            self.review,
        ]);
        link.notes().refused(self.channel, &self.address);
        Ok(link.run(sql, row).await? > 0)
    }

    /// When it came into force: now, or when the last attempt at the address began, where that is later. A refusal waits
    /// for its commit, and what began meanwhile began before it, whatever the clocks say (I3 is about commits).
    async fn in_force_from(&self, link: &mut Link<'_>) -> Result<DateTime<Utc>, Fault> {
        let sql = "SELECT COALESCE(MAX(started_at), 0) FROM attempts WHERE address = $1 AND channel = $2";
        let last = link.row(sql, values![self.address.as_str(), self.channel]).await?;
        let began = last.map(|row| row.int(0)).transpose()?.map(rows::instant).transpose()?;
        Ok(began.map_or(self.now, |began| began.max(self.now)))
    }

    async fn log(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let entry = Entry {
            address: &self.address,
            channel: self.channel,
            sender: &self.sender,
            tenant: self.tenant(),
            at: self.said_at,
            noted_at: self.now,
            act: self.act,
            source: self.source,
            noted_by: &self.noted_by,
            proof: self.proof.as_deref(),
            reference: self.reference.as_deref(),
        };
        entry.write(link).await
    }
}

/// A line of the log of consent.
pub(super) struct Entry<'a> {
    pub(super) address: &'a str,
    pub(super) channel: Channel,
    pub(super) sender: &'a str,
    pub(super) tenant: &'a str,
    pub(super) at: DateTime<Utc>,
    pub(super) noted_at: DateTime<Utc>,
    pub(super) act: &'static str,
    pub(super) source: &'a str,
    pub(super) noted_by: &'a str,
    pub(super) proof: Option<&'a str>,
    pub(super) reference: Option<&'a str>,
}

impl Entry<'_> {
    pub(super) async fn write(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let sql = "INSERT INTO consent_log (address, channel, sender, tenant, at, noted_at, act, source, noted_by, \
                   proof, reference) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) \
                   ON CONFLICT (address, channel, sender, tenant, at, act) DO NOTHING";
        let values = values![
            self.address,
            self.channel,
            self.sender,
            self.tenant,
            self.at,
            self.noted_at,
            self.act,
            self.source,
            self.noted_by,
            self.proof,
            self.reference,
        ];
        link.run(sql, values).await?;
        Ok(())
    }
}

/// A tenant takes refusals back (nobody else's, and all of the address, or one sender's).
pub(super) struct Lift {
    pub(super) address: String,
    pub(super) channel: Channel,
    /// None: whatever the sender.
    pub(super) sender: Option<String>,
    /// Whose rows may be lifted; none: everyone's.
    pub(super) tenant: Option<TenantId>,
    pub(super) reason: String,
    pub(super) now: DateTime<Utc>,
}

impl Operation for Lift {
    type Answer = u64;

    async fn apply(&self, link: &mut Link<'_>) -> Result<u64, Fault> {
        lock_address(link, &self.address).await?;
        let tenant = self.tenant.as_ref().map(TenantId::as_str).unwrap_or_default();
        let hash = hashed(link, &self.address).await?.unwrap_or_else(|| self.address.clone());
        let sql = "SELECT address, sender, tenant FROM suppressions WHERE address IN ($1, $2) AND channel = $3 \
                   AND ($4 = '' OR tenant = $4 OR noted_by = $4) AND ($5 = 0 OR sender = $6)";
        let sender = self.sender.as_deref().unwrap_or_default();
        let address = self.address.as_str();
        let values = values![address, hash, self.channel, tenant, self.sender.is_some(), sender];
        let mut lifted = 0;
        for row in link.rows(sql, values).await? {
            let (address, sender, of) = (row.text(0)?, row.text(1)?, row.text(2)?);
            let entry = Entry {
                address: &address,
                channel: self.channel,
                sender: &sender,
                tenant: &of,
                at: self.now,
                noted_at: self.now,
                act: "lift",
                source: "api",
                noted_by: tenant,
                proof: Some(&self.reason),
                reference: None,
            };
            lifted += entry.delete_suppression(link).await?;
            entry.write(link).await?;
        }
        Ok(lifted)
    }
}

/// The acts that undo a refusal.
const UNDOING: &str = "('start', 'lift', 'unblocked')";

impl Entry<'_> {
    /// A person's own word that undoes a refusal, where the address is locked already. One that was said later stays.
    pub(super) async fn undo(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        self.write(link).await?;
        let sql = format!(
            "SELECT 1 FROM consent_log WHERE address = $1 AND channel = $2 AND sender = $3 AND tenant = $4 \
             AND at >= $5 AND act NOT IN {UNDOING} LIMIT 1"
        );
        let values = values![self.address, self.channel, self.sender, self.tenant, self.at];
        if link.row(sqlx::AssertSqlSafe(sql), values).await?.is_some() {
            return Ok(false);
        }
        Ok(self.delete_suppression(link).await? > 0)
    }

    async fn delete_suppression(&self, link: &mut Link<'_>) -> Result<u64, Fault> {
        let sql =
            "DELETE FROM suppressions WHERE address = $1 AND channel = $2 AND sender = $3 AND tenant = $4";
        link.run(sql, values![self.address, self.channel, self.sender, self.tenant]).await
    }
}

/// Somebody who is about to be written to.
pub(super) struct Asked<'a> {
    pub(super) tenant: &'a TenantId,
    pub(super) channel: Channel,
    pub(super) address: &'a str,
    /// The sender as the plan names it; none: the driver's own.
    pub(super) sender: Option<&'a str>,
    /// Empty where it is not known yet.
    pub(super) driver: &'a str,
}

/// Why this address must not be written to from this sender; read in the transaction that records the intent.
pub(super) async fn refusal(link: &mut Link<'_>, asked: &Asked<'_>) -> Result<Option<String>, Fault> {
    let sql = "SELECT 'row', sender, noted_by, noted_driver, reason FROM suppressions \
               WHERE address = $1 AND channel = $2 AND tenant IN ('', $3) \
               UNION ALL SELECT 'salt', '', '', '', value FROM meta WHERE name = 'address_salt'";
    let mut salt = None;
    for row in link.rows(sql, values![asked.address, asked.channel, asked.tenant]).await? {
        if row.text(0)? == "salt" {
            salt = Some(row.text(4)?);
        } else if covers(asked, &row.text(1)?, &row.text(2)?, &row.text(3)?) {
            return Ok(Some(row.text(4)?));
        }
    }
    let Some(salt) = salt else { return Ok(None) };
    let sql = "SELECT sender, noted_by, noted_driver, reason FROM suppressions \
               WHERE address = $1 AND channel = $2 AND tenant IN ('', $3)";
    for row in link.rows(sql, values![hash(&salt, asked.address), asked.channel, asked.tenant]).await? {
        if covers(asked, &row.text(0)?, &row.text(1)?, &row.text(2)?) {
            return Ok(Some(row.text(3)?));
        }
    }
    Ok(None)
}

/// The sender of a refusal that is about a driver's one sender (a bot that was blocked).
pub(super) const BLOCKED_DRIVER: &str = "driver:";

/// Whether a refusal of `sender` is one of the sender that is about to write.
fn covers(asked: &Asked<'_>, sender: &str, noted_by: &str, noted_driver: &str) -> bool {
    if sender.is_empty() {
        return true;
    }
    if let Some(driver) = sender.strip_prefix(BLOCKED_DRIVER) {
        return driver == asked.driver || noted_by == asked.tenant.as_str();
    }
    let Some(ours) = asked.sender else {
        return noted_by == asked.tenant.as_str()
            || (!noted_driver.is_empty() && noted_driver == asked.driver);
    };
    let ours = sender_key(asked.channel, ours);
    ours == sender || (!is_plain_sender(asked.channel, &ours) && noted_by == asked.tenant.as_str())
}

/// With several writers a refusal and an intent for one address must not pass each other: intents share this lock
/// until they commit, whoever changes a refusal takes it alone.
pub(super) async fn lock_address(link: &mut Link<'_>, address: &str) -> Result<(), Fault> {
    if link.locks_rows() {
        link.rows("SELECT pg_advisory_xact_lock(hashtextextended($1, 0))", values![address]).await?;
    }
    Ok(())
}

const SALT: &str = "SELECT value FROM meta WHERE name = 'address_salt'";

/// The form that an erased address has; none as long as nobody was erased.
pub(super) async fn hashed(link: &mut Link<'_>, address: &str) -> Result<Option<String>, Fault> {
    Ok(match link.row(SALT, values![]).await? {
        Some(row) => Some(hash(&row.text(0)?, address)),
        None => None,
    })
}

/// The same; the first erasure brings the salt.
pub(super) async fn hashed_for_erasure(
    link: &mut Link<'_>,
    address: &str,
    new_salt: &str,
) -> Result<String, Fault> {
    let sql = "INSERT INTO meta (name, value) VALUES ('address_salt', $1) ON CONFLICT (name) DO NOTHING";
    link.run(sql, values![new_salt]).await?;
    let Some(row) = link.row(SALT, values![]).await? else {
        return Err(Fault::Corrupt("the salt of erased addresses vanished".into()));
    };
    let salt = row.text(0)?;
    link.notes().salted(&salt);
    Ok(hash(&salt, address))
}

/// 256 random bits in hex.
pub(super) fn new_salt() -> Result<String> {
    let mut bytes = [0_u8; 32];
    let filled = ring::rand::SystemRandom::new().fill(&mut bytes);
    filled.map_err(|_| StoreError::Unavailable("the system gives no random numbers".into()))?;
    Ok(super::rows::to_hex(&bytes))
}

pub(super) fn hash(salt: &str, address: &str) -> String {
    let key = hmac::Key::new(hmac::HMAC_SHA256, salt.as_bytes());
    format!("#{}", super::rows::to_hex(hmac::sign(&key, address.as_bytes()).as_ref()))
}
