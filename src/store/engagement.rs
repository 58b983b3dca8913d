//! What people (and robots, apart) did with messages, and what that says of a person and of a tenant's average.
//!
//! The same deed told twice counts once. Only people engage: what a machine did is kept and shown, and moves nothing.
//! Rates are counted in the transactions that change them.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Result, SqlStore,
    database::{Fault, Link, Row, values},
    jobs::Operation,
    queue::event,
    recall::{Known, Person, Rates, Sent},
    refusals::{Refusal, lock_address},
    rows,
};
use crate::domain::{
    channel::{Channel, PerChannel},
    delivery::Status,
    facts::EngagementHistory,
    figures::Mark,
    ids::{MessageId, RecipientId, TenantId},
    message::MessageKind,
    receipt::EngagementEvent,
};

/// How far back a person's history goes (spec.md section 9), in days.
pub(super) const HISTORY_DAYS: i64 = 180;
/// The most messages of one person that are looked at, newest first.
const HISTORY_MESSAGES: u32 = 200;

/// What became of a deed that was told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Engaged {
    /// There is no such message.
    Nobodys,
    Known {
        tenant: TenantId,
        /// It was not told before.
        new: bool,
    },
}

#[async_trait]
pub trait Engagement: Send + Sync {
    /// Keeps what was done with a message; the first of its kind shows on the timeline.
    async fn engage(&self, event: &EngagementEvent, now: DateTime<Utc>) -> Result<Engaged>;
    /// Refuses the tenant's mail to whoever the message's mail went to; none where the message or its mail is not
    /// known. The tenant that it was.
    async fn unsubscribe(&self, message: MessageId, now: DateTime<Utc>) -> Result<Option<TenantId>>;
    /// The same where the person told their mailbox that the mail is unwanted, which is what a complaint says.
    async fn complained(&self, message: MessageId, now: DateTime<Utc>) -> Result<Option<TenantId>>;
    /// What this person did on each channel with what came in the last 180 days, beside the tenant's average.
    async fn history(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        now: DateTime<Utc>,
    ) -> Result<PerChannel<Option<EngagementHistory>>>;
}

#[async_trait]
impl Engagement for SqlStore {
    async fn engage(&self, event: &EngagementEvent, now: DateTime<Utc>) -> Result<Engaged> {
        let deed = Deed {
            message: event.message,
            name: event.name.clone(),
            at: event.at.min(now),
            machine: event.machine,
            channel: event.channel,
            link: event.link,
            dedup: event.dedup.clone(),
        };
        self.writer()?.run(deed).await
    }

    async fn unsubscribe(&self, message: MessageId, now: DateTime<Utc>) -> Result<Option<TenantId>> {
        self.writer()?.run(Unsubscribe { message, complaint: false, now }).await
    }

    async fn complained(&self, message: MessageId, now: DateTime<Utc>) -> Result<Option<TenantId>> {
        self.writer()?.run(Unsubscribe { message, complaint: true, now }).await
    }

    async fn history(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        now: DateTime<Utc>,
    ) -> Result<PerChannel<Option<EngagementHistory>>> {
        let since = now - TimeDelta::days(HISTORY_DAYS);
        let millis = since.timestamp_millis();
        if let Some(mut found) = self.person(tenant, recipient, now, |who| who.history(millis)).await? {
            self.averages(tenant, &mut found, since).await?;
            return Ok(found);
        }
        let mut found = PerChannel::default();
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        let sql = "SELECT h.sent_via, COUNT(*), CAST(SUM(h.engaged) AS BIGINT) FROM (SELECT sent_via, engaged \
                   FROM messages WHERE tenant = $1 AND recipient = $2 AND accepted_at > $3 \
                   AND status IN ('sent', 'delivered') AND sent_via IS NOT NULL \
                   ORDER BY id DESC LIMIT CAST($4 AS BIGINT)) AS h \
                   GROUP BY h.sent_via";
        for row in link.rows(sql, values![tenant, recipient.as_str(), since, HISTORY_MESSAGES]).await? {
            let channel = rows::channel(&row.text(0)?)?;
            let (received, engaged) = (count(row.int(1)?), count(row.int(2)?));
            found[channel] = Some(EngagementHistory { received, engaged, average: 0.0 });
        }
        drop(reader);
        self.averages(tenant, &mut found, since).await?;
        Ok(found)
    }
}

impl SqlStore {
    /// Puts the tenant's own rates beside a person's history, where there is any.
    async fn averages(
        &self,
        tenant: &TenantId,
        found: &mut PerChannel<Option<EngagementHistory>>,
        since: DateTime<Utc>,
    ) -> Result<()> {
        if found.iter().all(|(_, known)| known.is_none()) {
            return Ok(());
        }
        let since = month(since);
        let averages = |rates: &Rates| PerChannel::from_fn(|channel| rates.average(channel, &since));
        let known = match &self.recall {
            Some(recall) => recall.rates(tenant, averages),
            None => Known::No,
        };
        let averages = match known {
            Known::Yes(averages) => averages,
            Known::Ask(_) | Known::No => {
                let rates = rates(&mut self.near().await?.link(), tenant).await?;
                let answer = averages(&rates);
                if let (Some(recall), Known::Ask(ticket)) = (&self.recall, known) {
                    recall.keep_rates(tenant, rates, ticket);
                }
                answer
            }
        };
        put_averages(found, &averages);
        Ok(())
    }

    /// What `with` makes of what was sent to a person lately: out of memory, or of one reading that is kept then. None
    /// where it is to be asked of the tables: with other writers beside this one, of a time long gone, or for somebody
    /// who was written to so often that it is not kept.
    pub(super) async fn person<R>(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        now: DateTime<Utc>,
        with: impl Fn(&Person) -> Option<R>,
    ) -> Result<Option<R>> {
        let Some(recall) = &self.recall else { return Ok(None) };
        let who = (tenant.clone(), recipient.as_str().to_owned());
        let ticket = match recall.person(&who, &with) {
            Known::Yes(answer) => return Ok(Some(answer)),
            Known::No => return Ok(None),
            Known::Ask(ticket) => ticket,
        };
        // A little more than is asked for: the next one who asks may have looked at the clock before.
        let since = now - TimeDelta::days(HISTORY_DAYS) - TimeDelta::hours(1);
        let sql = "SELECT accepted_at, kind, status, sent_via, engaged FROM messages \
                   WHERE tenant = $1 AND recipient = $2 AND accepted_at > $3 ORDER BY id DESC LIMIT CAST($4 AS BIGINT)";
        let values = values![tenant, recipient.as_str(), since, HISTORY_MESSAGES + 1];
        let found = self.near().await?.link().rows(sql, values).await?;
        if found.len() > HISTORY_MESSAGES as usize {
            return Ok(None);
        }
        let sent = found.iter().map(sent).collect::<Result<_, Fault>>()?;
        let person = Person::new(since.timestamp_millis(), sent);
        let answer = with(&person);
        recall.keep_person(who, person, ticket);
        Ok(answer)
    }
}

/// A message as caps and history see it (`caps.rs`, `history`).
fn sent(row: &Row) -> Result<Sent, Fault> {
    let status = rows::status(&row.text(2)?)?;
    let taken = matches!(status, Status::Sent | Status::Delivered);
    let via = row.maybe_text(3)?.filter(|_| taken);
    Ok(Sent {
        at: row.int(0)?,
        kind: MessageKind::parse(&row.text(1)?),
        counts: !matches!(
            status,
            Status::Failed | Status::Expired | Status::Skipped | Status::Cancelled | Status::Quarantined
        ),
        via: via.map(|word| rows::channel(&word)).transpose()?,
        engaged: row.int(4)? != 0,
    })
}

/// How the tenant's recipients answer, by channel and month.
async fn rates(link: &mut Link<'_>, tenant: &TenantId) -> Result<Rates, Fault> {
    let sql = "SELECT channel, month, received, engaged FROM engagement_rates WHERE tenant = $1";
    let mut rates = Rates::default();
    for row in link.rows(sql, values![tenant]).await? {
        rates.add(rows::channel(&row.text(0)?)?, &row.text(1)?, (row.int(2)?, row.int(3)?));
    }
    Ok(rates)
}

fn count(number: i64) -> u32 {
    u32::try_from(number).unwrap_or(0)
}

/// Puts the tenant's own rates beside what a person did, where anything is known of that.
pub(super) fn put_averages(found: &mut PerChannel<Option<EngagementHistory>>, averages: &PerChannel<f64>) {
    for channel in Channel::ALL {
        if let Some(known) = &mut found[channel] {
            known.average = averages[channel];
        }
    }
}

/// The month that a message's rates are counted in: that of its acceptance, so that what came and what was done with
/// it are counted side by side.
pub(super) fn month(at: DateTime<Utc>) -> String {
    at.format("%Y-%m").to_string()
}

/// A message was handed off (1), turned out not to have arrived (-1), or was engaged with for the first time. Written
/// with all others of the transaction, just before it commits.
pub(super) fn rate(
    link: &mut Link<'_>,
    tenant: &TenantId,
    channel: Channel,
    accepted_at: DateTime<Utc>,
    received: i64,
    engaged: i64,
) {
    link.notes().rated(tenant, channel, &month(accepted_at), received, engaged);
}

/// Adds up what the transaction's operations noted: one row for each tenant, channel and month, in their order, so that
/// two replicas never wait for each other in a ring.
pub(super) async fn write_rates(link: &mut Link<'_>) -> Result<(), Fault> {
    let sql = "INSERT INTO engagement_rates (tenant, channel, month, received, engaged) VALUES ($1, $2, $3, $4, $5) \
               ON CONFLICT (tenant, channel, month) DO UPDATE SET \
               received = engagement_rates.received + excluded.received, \
               engaged = engagement_rates.engaged + excluded.engaged";
    for (tenant, channel, month, (received, engaged)) in link.notes().rates() {
        link.run(sql, values![&tenant, channel, month, received, engaged]).await?;
    }
    Ok(())
}

/// What goes with the outcome of an attempt: the tenant's rate where a channel took the message just now, and the
/// receipts that came before this name for it was known.
pub(super) async fn settled(
    link: &mut Link<'_>,
    taken: Option<(&TenantId, Channel, DateTime<Utc>)>,
    reference: Option<&str>,
) -> Result<(), Fault> {
    if let Some((tenant, channel, accepted_at)) = taken {
        rate(link, tenant, channel, accepted_at, 1, 0);
    }
    match reference {
        Some(reference) => super::orphans::await_sweep(link, reference).await,
        None => Ok(()),
    }
}

/// Something that was done with a message.
pub(super) struct Deed {
    message: MessageId,
    name: String,
    at: DateTime<Utc>,
    machine: bool,
    channel: Option<Channel>,
    link: Option<u16>,
    dedup: Option<String>,
}

/// What a person does that counts as engagement (spec.md section 9).
fn engages(name: &str) -> bool {
    matches!(name, "opened" | "clicked" | "replied")
}

impl Deed {
    /// A person's, told by the provider or by the person's own message.
    pub(super) fn new(message: MessageId, name: &str, at: DateTime<Utc>, channel: Option<Channel>) -> Self {
        Self { message, name: name.to_owned(), at, machine: false, channel, link: None, dedup: None }
    }

    /// Keeps it, within the caller's transaction.
    pub(super) async fn record(&self, link: &mut Link<'_>) -> Result<Engaged, Fault> {
        let sql = "SELECT tenant, recipient, sent_via, engaged, accepted_at FROM messages WHERE id = $1";
        let Some(row) = link.row(sql, values![self.message]).await? else { return Ok(Engaged::Nobodys) };
        let tenant = rows::parsed(row.text(0)?, TenantId::parse)?;
        let sent_via = row.maybe_text(2)?.map(|word| rows::channel(&word)).transpose()?;
        let channel = self.channel.or(sent_via);
        let accepted_at = rows::instant(row.int(4)?)?;
        let new = self.insert(link, &tenant, &row.text(1)?, channel).await?;
        if new {
            self.show(link).await?;
            if let Some(mark) = Mark::of_deed(&self.name, self.machine) {
                link.tally().mark(self.message, channel, mark);
            }
            if !self.machine && engages(&self.name) {
                let sql = "UPDATE messages SET engaged = 1 WHERE id = $1 AND engaged = 0";
                let first = link.run(sql, values![self.message]).await? > 0;
                link.notes().person(self.message, &tenant, &row.text(1)?);
                if let (true, Some(channel)) = (first, channel) {
                    rate(link, &tenant, channel, accepted_at, 0, 1);
                }
            }
        }
        Ok(Engaged::Known { tenant, new })
    }

    /// Whether it is the first of its kind, or the first with its id.
    async fn insert(
        &self,
        link: &mut Link<'_>,
        tenant: &TenantId,
        recipient: &str,
        channel: Option<Channel>,
    ) -> Result<bool, Fault> {
        let sql = "INSERT INTO engagement (message_id, name, machine, link, dedup, tenant, recipient, channel, \
                   first_at, last_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $9) \
                   ON CONFLICT (message_id, name, machine, link, dedup) DO NOTHING";
        let key = || {
            values![
                self.message,
                self.name.as_str(),
                self.machine,
                self.link.map_or(-1, i64::from),
                self.dedup.as_deref().unwrap_or_default(),
            ]
        };
        let mut row = key();
        row.extend(values![tenant, recipient, channel, self.at]);
        if link.run(sql, row).await? > 0 {
            return Ok(true);
        }
        if self.dedup.is_none() {
            let sql = "UPDATE engagement SET times = times + 1, \
                       last_at = CASE WHEN last_at < $6 THEN $6 ELSE last_at END, \
                       first_at = CASE WHEN first_at > $6 THEN $6 ELSE first_at END \
                       WHERE message_id = $1 AND name = $2 AND machine = $3 AND link = $4 AND dedup = $5";
            let mut again = key();
            again.push(self.at.into());
            link.run(sql, again).await?;
        }
        Ok(false)
    }

    /// On the message's timeline; what a machine did says so.
    async fn show(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        let name = if self.machine { format!("machine_{}", self.name) } else { self.name.clone() };
        let detail = self.link.map(|link| format!("link {link}"));
        event(link, &self.message.to_string(), self.at, &name, detail.as_deref()).await
    }
}

impl Operation for Deed {
    type Answer = Engaged;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Engaged, Fault> {
        lock_message(link, self.message).await?;
        self.record(link).await
    }
}

/// With several writers, what follows from a message's row is decided by one at a time.
pub(super) async fn lock_message(link: &mut Link<'_>, id: MessageId) -> Result<(), Fault> {
    if link.locks_rows() {
        link.row("SELECT id FROM messages WHERE id = $1 FOR UPDATE", values![id]).await?;
    }
    Ok(())
}

struct Unsubscribe {
    message: MessageId,
    /// Told by the mailbox, not by the page behind our link.
    complaint: bool,
    now: DateTime<Utc>,
}

impl Operation for Unsubscribe {
    type Answer = Option<TenantId>;

    fn name(&self) -> &'static str {
        "stop"
    }

    async fn apply(&self, link: &mut Link<'_>) -> Result<Option<TenantId>, Fault> {
        let sql = "SELECT m.tenant, a.address FROM messages m JOIN attempts a ON a.message_id = m.id \
                   WHERE m.id = $1 AND a.channel = 'email' AND a.address <> '' ORDER BY a.number DESC LIMIT 1";
        // None also where the address was forgotten: nothing would be refused by refusing nobody.
        let Some(row) = link.row(sql, values![self.message]).await? else { return Ok(None) };
        let tenant = rows::parsed(row.text(0)?, TenantId::parse)?;
        let address = row.text(1)?;
        lock_address(link, &address).await?;
        let (word, deed, act) = match self.complaint {
            true => ("told their mailbox that it is unwanted", "complained", "complaint"),
            false => ("unsubscribed", "unsubscribed", "unsubscribe"),
        };
        let refusal = Refusal {
            address,
            channel: Channel::Email,
            sender: String::new(),
            tenant: Some(tenant.clone()),
            reason: format!("{word} on {}", self.now.format("%Y-%m-%d")),
            act,
            source: act,
            noted_by: tenant.as_str().to_owned(),
            noted_driver: String::new(),
            proof: None,
            reference: Some(self.message.to_string()),
            review: false,
            said_at: self.now,
            now: self.now,
        };
        refusal.write(link).await?;
        Deed::new(self.message, deed, self.now, Some(Channel::Email)).record(link).await?;
        Ok(Some(tenant))
    }
}
