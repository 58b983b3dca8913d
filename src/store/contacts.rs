//! What people write to us: kept once, without its text, with what it means for whether we may write to them.
//!
//! A STOP refuses the sender that the person saw, whichever tenant uses it, known or not. A START undoes what a STOP
//! did and nothing that anybody else recorded. Other words are an opt-in for the tenants that want one on record, and
//! open the window in which WhatsApp takes free text.

use async_trait::async_trait;
use chrono::{DateTime, Utc};

use super::{
    CalledBack, Result, SqlStore,
    database::{Fault, Link, placeholders, values},
    engagement::Deed,
    jobs::Operation,
    queue::event,
    recall::Known,
    refusals::{BLOCKED_DRIVER, Entry, Refusal, lock_address},
    rows,
};
use crate::domain::{
    address::Address,
    channel::{Channel, PerChannel},
    consent::{Meaning, address_key, is_plain_sender, meaning, sender_key},
    ids::{MessageId, TenantId},
    receipt::InboundMessage,
};

/// The most that is kept of what a person wrote, in characters, and only where it is a proof.
const PROOF_MAX: usize = 500;
/// Attempts at one address that are looked through for the senders that a STOP is about.
const ATTEMPTS_LOOKED_AT: u32 = 200;

/// What became of a message that a person wrote.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Heard {
    /// Told before: nothing was done.
    Again,
    New {
        meaning: Meaning,
        /// The message of ours that it answers, where one was found.
        answers: Option<MessageId>,
    },
}

#[async_trait]
pub trait Contacts: Send + Sync {
    /// Keeps what a person wrote, and what follows from it: a STOP, a START, a reply.
    async fn hear(&self, from: &CalledBack, said: &InboundMessage, now: DateTime<Utc>) -> Result<Heard>;
    /// The person blocked our sender on this channel, or came back.
    async fn note_block(
        &self,
        from: &CalledBack,
        channel: Channel,
        address: &str,
        blocked: bool,
        now: DateTime<Utc>,
    ) -> Result<()>;
    /// Whether the person wrote to this sender (none: to any of the tenant's) within the last 24 hours.
    async fn in_service_window(
        &self,
        tenant: &TenantId,
        channel: Channel,
        address: &Address,
        sender: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool>;
    /// The channels on which the tenant has an opt-in of these addresses on record.
    async fn opt_ins(
        &self,
        tenant: &TenantId,
        addresses: &PerChannel<Option<Address>>,
    ) -> Result<PerChannel<Option<bool>>>;
}

#[async_trait]
impl Contacts for SqlStore {
    async fn hear(&self, from: &CalledBack, said: &InboundMessage, now: DateTime<Utc>) -> Result<Heard> {
        let hear = Hear {
            from: from.clone(),
            address: address_key(said.channel, &said.from),
            sender: sender_key(said.channel, &said.to),
            meaning: meaning(&said.text),
            // A provider's clock is believed as far as ours.
            said_at: said.at.map_or(now, |at| at.min(now)),
            said: said.clone(),
            now,
        };
        self.writer()?.run(hear).await
    }

    async fn note_block(
        &self,
        from: &CalledBack,
        channel: Channel,
        address: &str,
        blocked: bool,
        now: DateTime<Utc>,
    ) -> Result<()> {
        let address = address_key(channel, address);
        self.writer()?.run(NoteBlock { from: from.clone(), channel, address, blocked, now }).await
    }

    async fn in_service_window(
        &self,
        tenant: &TenantId,
        channel: Channel,
        address: &Address,
        sender: Option<&str>,
        now: DateTime<Utc>,
    ) -> Result<bool> {
        self.wrote_lately(tenant, channel, address, sender, now).await
    }

    async fn opt_ins(
        &self,
        tenant: &TenantId,
        addresses: &PerChannel<Option<Address>>,
    ) -> Result<PerChannel<Option<bool>>> {
        let mut found = PerChannel::default();
        let known: Vec<&str> =
            addresses.iter().filter_map(|(_, a)| a.as_ref()).map(Address::as_str).collect();
        if known.is_empty() {
            return Ok(found);
        }
        let mut tickets = Vec::new();
        if let Some(recall) = &self.recall {
            for (channel, address) in addresses.iter() {
                let Some(address) = address else { continue };
                let key = (tenant.clone(), channel, address.as_str().to_owned());
                match recall.opt_in(&key) {
                    Known::Yes(yes) => found[channel] = yes.then_some(true),
                    Known::Ask(ticket) => tickets.push((key, Some(ticket))),
                    Known::No => tickets.push((key, None)),
                }
            }
            if tickets.is_empty() {
                return Ok(found);
            }
        }
        let sql = format!(
            "SELECT address, channel FROM contacts WHERE tenant = $1 AND opted_in_at IS NOT NULL \
             AND address IN ({})",
            placeholders(2, known.len())
        );
        let mut values = values![tenant];
        values.extend(known.into_iter().map(Into::into));
        let mut reader = self.near().await?;
        for row in reader.link().rows(sqlx::AssertSqlSafe(sql), values).await? {
            let (address, channel) = (row.text(0)?, rows::channel(&row.text(1)?)?);
            if addresses[channel].as_ref().is_some_and(|a| a.as_str() == address) {
                found[channel] = Some(true);
            }
        }
        for (key, ticket) in tickets {
            if let (Some(recall), Some(ticket)) = (&self.recall, ticket) {
                let yes = found[key.1].is_some();
                recall.keep_opt_in(key, yes, ticket);
            }
        }
        Ok(found)
    }
}

struct Hear {
    from: CalledBack,
    said: InboundMessage,
    address: String,
    sender: String,
    meaning: Meaning,
    said_at: DateTime<Utc>,
    now: DateTime<Utc>,
}

impl Operation for Hear {
    type Answer = Heard;

    fn name(&self) -> &'static str {
        "stop"
    }

    async fn apply(&self, link: &mut Link<'_>) -> Result<Heard, Fault> {
        lock_address(link, &self.address).await?;
        let sql = "INSERT INTO inbound (credential, reference, tenant, channel, sender, address, meaning, at) \
                   VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (credential, reference) DO NOTHING";
        let values = values![
            self.from.credential.as_str(),
            self.said.provider_message_id.as_str(),
            &self.from.tenant,
            self.said.channel,
            self.sender.as_str(),
            self.address.as_str(),
            self.meaning.as_str(),
            self.said_at,
        ];
        if link.run(sql, values).await? == 0 {
            return Ok(Heard::Again);
        }
        self.note_contact(link).await?;
        let answers = self.answered(link).await?;
        match self.meaning {
            Meaning::Stop | Meaning::NearStop => {
                self.stop(link).await?;
                crate::failpoint::hit("stop.row");
                if let Some(id) = answers {
                    event(link, &id.to_string(), self.said_at, "opted_out", Some(self.channel_word()))
                        .await?;
                }
            }
            Meaning::Start | Meaning::Other => {
                if self.meaning == Meaning::Start {
                    self.start(link).await?;
                }
                if let Some(id) = answers {
                    Deed::new(id, "replied", self.said_at, Some(self.said.channel)).record(link).await?;
                }
            }
        }
        Ok(Heard::New { meaning: self.meaning, answers })
    }
}

impl Hear {
    /// The text that says it, as far as it can matter.
    fn proof(&self) -> String {
        self.said.text.chars().take(PROOF_MAX).collect()
    }

    fn channel_word(&self) -> &'static str {
        self.said.channel.as_str()
    }

    /// When the person last wrote; whoever writes anything but a STOP agrees to be written to here.
    async fn note_contact(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let stopped = matches!(self.meaning, Meaning::Stop | Meaning::NearStop);
        let opted_in = (!stopped).then_some(self.said_at);
        let sql = "INSERT INTO contacts (address, channel, sender, tenant, last_inbound_at, opted_in_at, \
                   opted_in_source) VALUES ($1, $2, $3, $4, $5, $6, 'inbound') \
                   ON CONFLICT (address, channel, sender, tenant) DO UPDATE SET \
                   opted_in_at = CASE WHEN contacts.last_inbound_at > excluded.last_inbound_at \
                   THEN contacts.opted_in_at ELSE excluded.opted_in_at END, \
                   opted_in_source = excluded.opted_in_source, \
                   last_inbound_at = CASE WHEN contacts.last_inbound_at > excluded.last_inbound_at \
                   THEN contacts.last_inbound_at ELSE excluded.last_inbound_at END";
        let values = values![
            self.address.as_str(),
            self.said.channel,
            self.sender.as_str(),
            &self.from.tenant,
            self.said_at,
            opted_in,
        ];
        link.run(sql, values).await?;
        link.notes().contact(&self.from.tenant, self.said.channel, &self.address);
        Ok(())
    }

    /// The senders and tenants that a STOP to this number is about: the number itself for everyone, and those senders
    /// behind which the provider picks a number, where they wrote to this person.
    async fn refused(&self, link: &mut Link<'_>) -> Result<Vec<(String, Option<TenantId>)>, Fault> {
        let mut keys = vec![(self.sender.clone(), None)];
        let services = self.from.services.iter();
        keys.extend(services.map(|service| (sender_key(self.said.channel, service), None)));
        for attempt in attempts_at(link, &self.from, self.said.channel, &self.address).await? {
            let sender = sender_key(self.said.channel, &attempt.sender);
            let key = if sender.is_empty() { (sender, Some(attempt.tenant)) } else { (sender, None) };
            if !is_plain_sender(self.said.channel, &key.0) && !keys.contains(&key) {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    async fn stop(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let review = self.meaning == Meaning::NearStop;
        let day = self.said_at.format("%Y-%m-%d");
        let reason = if review {
            format!("asked on {day} not to be written to (to be reviewed: not a plain STOP)")
        } else {
            format!("wrote STOP on {day}")
        };
        for (sender, tenant) in self.refused(link).await? {
            let refusal = Refusal {
                address: self.address.clone(),
                channel: self.said.channel,
                sender,
                tenant,
                reason: reason.clone(),
                act: if review { "near_stop" } else { "stop" },
                source: "inbound",
                noted_by: self.from.tenant.as_str().to_owned(),
                noted_driver: self.from.driver.clone(),
                proof: Some(self.proof()),
                reference: Some(self.said.provider_message_id.clone()),
                review,
                said_at: self.said_at,
                now: self.now,
            };
            refusal.write(link).await?;
        }
        Ok(())
    }

    async fn start(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let proof = self.proof();
        let mut keys = self.refused(link).await?;
        // Twilio's own refusal is known by the sender that it happened to, for one tenant or all.
        keys.extend(self.provider_refusals(link).await?);
        for (sender, tenant) in keys {
            let entry = Entry {
                address: &self.address,
                channel: self.said.channel,
                sender: &sender,
                tenant: tenant.as_ref().map(TenantId::as_str).unwrap_or_default(),
                at: self.said_at,
                noted_at: self.now,
                act: "start",
                source: "inbound",
                noted_by: self.from.tenant.as_str(),
                proof: Some(&proof),
                reference: Some(&self.said.provider_message_id),
            };
            entry.undo(link).await?;
        }
        Ok(())
    }

    async fn provider_refusals(&self, link: &mut Link<'_>) -> Result<Vec<(String, Option<TenantId>)>, Fault> {
        let sql = "SELECT sender, tenant FROM suppressions WHERE address = $1 AND channel = $2 \
                   AND source = 'provider' AND noted_driver = $3";
        let values = values![self.address.as_str(), self.said.channel, self.from.driver.as_str()];
        let mut keys = Vec::new();
        for row in link.rows(sql, values).await? {
            let (sender, tenant) = (row.text(0)?, row.text(1)?);
            let tenant = (!tenant.is_empty()).then(|| rows::parsed(tenant, TenantId::parse)).transpose()?;
            if !is_plain_sender(self.said.channel, &sender) {
                keys.push((sender, tenant));
            }
        }
        Ok(keys)
    }

    /// The message that this answers: the one that the provider names, else the last one that the tenant sent to this
    /// person from this sender.
    async fn answered(&self, link: &mut Link<'_>) -> Result<Option<MessageId>, Fault> {
        let mut last = None;
        for attempt in attempts_at(link, &self.from, self.said.channel, &self.address).await? {
            if attempt.tenant != self.from.tenant {
                continue;
            }
            if self.said.answers.is_some() && attempt.reference == self.said.answers {
                return Ok(Some(attempt.message));
            }
            let sender = sender_key(self.said.channel, &attempt.sender);
            if last.is_none() && (sender == self.sender || !is_plain_sender(self.said.channel, &sender)) {
                last = Some(attempt.message);
            }
        }
        Ok(last)
    }
}

/// An attempt that may have reached a person, latest first.
struct Reached {
    message: MessageId,
    tenant: TenantId,
    sender: String,
    reference: Option<String>,
}

async fn attempts_at(
    link: &mut Link<'_>,
    from: &CalledBack,
    channel: Channel,
    address: &str,
) -> Result<Vec<Reached>, Fault> {
    let sql = format!(
        "SELECT a.message_id, m.tenant, a.sender, a.provider_message_id FROM attempts a \
         JOIN messages m ON m.id = a.message_id WHERE a.address = $1 AND a.channel = $2 \
         AND a.status IN ('accepted', 'unknown', 'intent') AND a.driver IN ({}) \
         ORDER BY a.started_at DESC LIMIT CAST($3 AS BIGINT)",
        placeholders(4, from.drivers.len().max(1))
    );
    let mut values = values![address, channel, ATTEMPTS_LOOKED_AT];
    values.extend(from.drivers_or_own().map(Into::into));
    let mut found = Vec::new();
    for row in link.rows(sqlx::AssertSqlSafe(sql), values).await? {
        found.push(Reached {
            message: rows::parsed(row.text(0)?, MessageId::parse)?,
            tenant: rows::parsed(row.text(1)?, TenantId::parse)?,
            sender: row.text(2)?,
            reference: row.maybe_text(3)?,
        });
    }
    Ok(found)
}

struct NoteBlock {
    from: CalledBack,
    channel: Channel,
    address: String,
    blocked: bool,
    now: DateTime<Utc>,
}

impl Operation for NoteBlock {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        lock_address(link, &self.address).await?;
        // What is blocked is the bot, whoever writes through it; it has no other name than its driver's.
        let sender = format!("{BLOCKED_DRIVER}{}", self.from.driver);
        let (tenant, driver) = (self.from.tenant.as_str(), self.from.driver.as_str());
        if self.blocked {
            let refusal = Refusal {
                address: self.address.clone(),
                channel: self.channel,
                sender,
                tenant: None,
                reason: format!("blocked our sender on {}", self.now.format("%Y-%m-%d")),
                act: "blocked",
                source: "blocked",
                noted_by: tenant.to_owned(),
                noted_driver: driver.to_owned(),
                proof: None,
                reference: None,
                review: false,
                said_at: self.now,
                now: self.now,
            };
            refusal.write(link).await?;
            return Ok(());
        }
        let entry = Entry {
            address: &self.address,
            channel: self.channel,
            sender: &sender,
            tenant: "",
            at: self.now,
            noted_at: self.now,
            act: "unblocked",
            source: "blocked",
            noted_by: tenant,
            proof: None,
            reference: None,
        };
        entry.undo(link).await?;
        Ok(())
    }
}
