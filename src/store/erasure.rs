//! A person who asks to be forgotten: what waits is cancelled, and words, addresses and name go now.
//!
//! What is in the hands of a provider is looked at again until it is at its end. Refusals go on holding by a keyed hash,
//! so that whoever is imported again stays refused; counters and money stay. Addresses that no message of the tenant
//! went to are not known to be this person's.

use std::collections::BTreeSet;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::{
    By, Result, SqlStore,
    acts::cancel,
    database::{Fault, Link, values},
    jobs::Operation,
    life::{ENDED, forget_words},
    operate::Logged,
    refusals, rows,
    suppressions::Forget,
};
use crate::domain::{
    address::{Contact, Region, read_contacts},
    channel::Channel,
    ids::{ActId, MessageId, RecipientId, TenantId},
};

/// Messages that one transaction erases.
const BATCH: usize = 50;
/// Digits of the hash that stands for a name.
const DIGITS: usize = 32;

/// What an erasure came to so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Erased {
    /// Messages that waited and are not sent any more.
    pub cancelled: u64,
    /// Messages that hold no word and no address any more, those included.
    pub erased: u64,
    /// Messages that are with a provider: erased as soon as their outcome is known.
    pub in_flight: u64,
}

#[async_trait]
pub trait Erasures: Send + Sync {
    /// Notes that a person is to be erased, and by whom: from here on it is done, whatever happens to the process.
    async fn ask_erasure(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        by: &By,
        now: DateTime<Utc>,
    ) -> Result<()>;
    /// Does what can be done now of what was asked. `region` reads the numbers that were given in a national form.
    async fn erase(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        region: Option<Region>,
        now: DateTime<Utc>,
    ) -> Result<Erased>;
    /// The erasures that are not done.
    async fn erasures(&self) -> Result<Vec<(TenantId, RecipientId)>>;
}

#[async_trait]
impl Erasures for SqlStore {
    async fn ask_erasure(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        by: &By,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let ask = Ask {
            tenant: tenant.clone(),
            recipient: recipient.clone(),
            new_salt: refusals::new_salt()?,
            act: ActId::new(),
            by: by.clone(),
            now,
        };
        self.writer()?.run(ask).await
    }

    async fn erase(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        region: Option<Region>,
        now: DateTime<Utc>,
    ) -> Result<Erased> {
        let (mut done, mut after) = (Erased::default(), String::new());
        loop {
            let some = Part {
                tenant: tenant.clone(),
                recipient: recipient.clone(),
                region,
                new_salt: refusals::new_salt()?,
                after,
                in_flight_before: done.in_flight > 0,
                now,
            };
            let (found, next) = self.writer()?.run(some).await?;
            done.cancelled += found.cancelled;
            done.erased += found.erased;
            done.in_flight += found.in_flight;
            match next {
                Some(next) => after = next,
                None => return Ok(done),
            }
        }
    }

    async fn erasures(&self) -> Result<Vec<(TenantId, RecipientId)>> {
        let sql = "SELECT tenant, recipient FROM erasures ORDER BY asked_at LIMIT 1000";
        let found = self.reader().await?.link().rows(sql, values![]).await?;
        let read = |row: &super::database::Row| {
            let tenant = rows::parsed(row.text(0)?, TenantId::parse)?;
            Ok((tenant, rows::parsed(row.text(1)?, RecipientId::parse)?))
        };
        Ok(found.iter().map(read).collect::<Result<_, Fault>>()?)
    }
}

/// The name that stands for an erased one: the same for the same person, and nobody's who does not have the key.
async fn stand_in(
    link: &mut Link<'_>,
    tenant: &TenantId,
    recipient: &RecipientId,
    new_salt: &str,
) -> Result<RecipientId, Fault> {
    let hash = refusals::hashed_for_erasure(link, &format!("{tenant}\n{recipient}"), new_salt).await?;
    let digits: String = hash.chars().filter(char::is_ascii_hexdigit).take(DIGITS).collect();
    rows::parsed(format!("erased-{digits}"), RecipientId::parse)
}

/// An erasure that is asked for.
struct Ask {
    tenant: TenantId,
    recipient: RecipientId,
    new_salt: String,
    act: ActId,
    by: By,
    now: DateTime<Utc>,
}

impl Operation for Ask {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let sql = "INSERT INTO erasures (tenant, recipient, asked_at) VALUES ($1, $2, $3) \
                   ON CONFLICT (tenant, recipient) DO UPDATE SET asked_at = excluded.asked_at";
        link.run(sql, values![&self.tenant, self.recipient.as_str(), self.now]).await?;
        let target = stand_in(link, &self.tenant, &self.recipient, &self.new_salt).await?;
        let (id, tenant) = (self.act, self.tenant.as_str());
        let logged =
            Logged { id, act: "erase", target: target.as_str(), tenant, by: &self.by, now: self.now };
        logged.write(link).await
    }
}

/// One batch of a person's messages.
struct Part {
    tenant: TenantId,
    recipient: RecipientId,
    region: Option<Region>,
    /// Used if this is the first erasure.
    new_salt: String,
    /// Messages up to this one were looked at.
    after: String,
    in_flight_before: bool,
    now: DateTime<Utc>,
}

impl Operation for Part {
    /// What was done, and where it goes on.
    type Answer = (Erased, Option<String>);

    async fn apply(&self, link: &mut Link<'_>) -> Result<(Erased, Option<String>), Fault> {
        let (tenant, recipient) = (&self.tenant, self.recipient.as_str());
        let asked = "SELECT asked_at FROM erasures WHERE tenant = $1 AND recipient = $2";
        let Some(asked) = link.row(asked, values![tenant, recipient]).await? else {
            return Ok((Erased::default(), None));
        };
        // Whoever is written to again after the erasure is so on the caller's word.
        let sql = "SELECT id FROM messages WHERE tenant = $1 AND recipient = $2 AND id > $3 AND accepted_at <= $4 \
                   ORDER BY id LIMIT 50";
        let found = link.rows(sql, values![tenant, recipient, self.after.as_str(), asked.int(0)?]).await?;
        let instead = stand_in(link, tenant, &self.recipient, &self.new_salt).await?;
        let (mut done, mut last) = (Erased::default(), None);
        for row in &found {
            let id = rows::parsed(row.text(0)?, MessageId::parse)?;
            last = Some(id.to_string());
            self.one(link, id, &instead, &mut done).await?;
        }
        if found.len() == BATCH {
            return Ok((done, last));
        }
        if done.in_flight == 0 && !self.in_flight_before {
            let sql = "DELETE FROM erasures WHERE tenant = $1 AND recipient = $2";
            link.run(sql, values![tenant, recipient]).await?;
        }
        Ok((done, None))
    }
}

impl Part {
    async fn one(
        &self,
        link: &mut Link<'_>,
        id: MessageId,
        instead: &RecipientId,
        done: &mut Erased,
    ) -> Result<(), Fault> {
        let by = By { who: "an erasure".into(), why: String::new() };
        let cancelled = cancel(link, Some(&self.tenant), id, Some(&by), self.now).await?;
        done.cancelled += u64::from(cancelled == Some(super::Cancelled::Done));
        let sql = format!(
            "SELECT 1 FROM messages WHERE id = $1 AND status IN {ENDED} AND due_at IS NULL AND lease_owner IS NULL"
        );
        if link.row(AssertSqlSafe(sql), values![id]).await?.is_none() {
            done.in_flight += 1;
            return Ok(());
        }
        for (channel, address) in self.addresses(link, id).await? {
            let (tenant, new_salt) = (self.tenant.clone(), self.new_salt.clone());
            Forget { tenant, channel, address, new_salt }.apply(link).await?;
        }
        // What the provider said of it before it was matched.
        let sql = "UPDATE orphan_receipts SET error = NULL WHERE error IS NOT NULL AND (attempt IN \
                   (SELECT id FROM attempts WHERE message_id = $1) OR reference IN \
                   (SELECT provider_message_id FROM attempts WHERE message_id = $1))";
        link.run(sql, values![id]).await?;
        forget_words(link, id, Some(instead), self.now).await?;
        let sql = "UPDATE engagement SET recipient = $2 WHERE message_id = $1";
        link.run(sql, values![id, instead.as_str()]).await?;
        done.erased += 1;
        Ok(())
    }

    /// Wherever this message went or could have gone.
    async fn addresses(
        &self,
        link: &mut Link<'_>,
        id: MessageId,
    ) -> Result<BTreeSet<(Channel, String)>, Fault> {
        let mut found = BTreeSet::new();
        let sql = "SELECT request, plan FROM bodies WHERE message_id = $1";
        if let Some(row) = link.row(sql, values![id]).await? {
            let contacts = rows::request(&row.text(0)?)?.contacts;
            let contacts = self.region.map(|region| read_contacts(&contacts, region));
            for (channel, contact) in contacts.iter().flat_map(|contacts| contacts.iter()) {
                if let Contact::Known(address) = contact {
                    found.insert((channel, address.as_str().to_owned()));
                }
            }
            let plan = row.maybe_text(1)?.map(|text| rows::plan(&text)).transpose()?;
            let hops = plan.into_iter().flat_map(|plan| plan.hops);
            found.extend(hops.map(|hop| (hop.channel, hop.address.as_str().to_owned())));
        }
        let sql = "SELECT channel, address FROM attempts WHERE message_id = $1";
        for row in link.rows(sql, values![id]).await? {
            found.insert((rows::channel(&row.text(0)?)?, row.text(1)?));
        }
        found.retain(|(_, address)| !address.is_empty());
        Ok(found)
    }
}
