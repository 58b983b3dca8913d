//! Figures, counted in the same transactions as what they count.
//!
//! An operation says what happened by the message's id (`link.tally().mark(...)`, which costs nothing), and the
//! writer writes all that a batch of operations counted in a few statements just before it commits. Who calls:
//!
//! * `intake` for what was accepted (`Tally::accepted`);
//! * `attempts`, and whoever else changes what an attempt costs, beside the change of `spend` (`Tally::spent`);
//! * `attempts`, and whoever else ends an attempt (`Tally::settled`) or takes a message's next step
//!   (`Tally::followed`);
//! * `receipts`, and whoever else learns that a message was delivered, opened ... or failed after all
//!   (`Tally::delivered`, `Tally::mark`), as often as it is told: a bit of the message makes
//!   each of these count once.
//!
//! Everything but money counts on the tenant's local day of the message's first attempt on the channel, so that
//! rates compare what belongs together; money counts on the day of its attempt, as budgets do. Nothing here
//! decides what happened, and nothing is counted for tenants that keep no figures.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use super::{
    database::{Fault, Link, Row, Value, placeholders, values},
    intake::insert,
    rows,
};
use crate::domain::{
    channel::Channel,
    delivery::{AttemptStatus, Status},
    figures::{
        self, ACCEPTED, ALWAYS_SMS, COST, DECIDED, DELIVERY_MILLIS, DELIVERY_TIMED, Mark, REFUSED, SEGMENTS,
    },
    ids::MessageId,
};

/// What a value is added to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    labels: Labels,
    channel: Option<Channel>,
    counter: String,
}

/// What a message is counted under, beside its channel.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Labels {
    pub(super) tenant: String,
    /// Empty: figures are not kept.
    pub(super) day: String,
    pub(super) kind: String,
    pub(super) template: String,
    pub(super) campaign: String,
    pub(super) variant: String,
}

/// Something that is known by its message's id only, until the transaction is written down.
struct Noted {
    message: MessageId,
    channel: Option<Channel>,
    what: What,
}

enum What {
    Mark { mark: Mark, at: Option<DateTime<Utc>> },
    Add { counter: &'static str, day: Option<String>, by: i64 },
}

/// What a transaction counts.
#[derive(Default)]
pub(super) struct Tally {
    sums: BTreeMap<Place, i64>,
    noted: Vec<Noted>,
}

impl Tally {
    /// A message was accepted: `chosen` is the channel that it is to go by, `ended` what it came to at once.
    pub(super) fn accepted(&mut self, labels: &Labels, chosen: Option<Channel>, ended: Option<Mark>) {
        self.add(labels, chosen, ACCEPTED, 1);
        if chosen.is_some() {
            self.add(labels, chosen, DECIDED, 1);
        }
        if let Some(mark) = ended {
            self.add(labels, chosen, mark.as_str(), 1);
        }
    }

    /// Something is so for a message on a channel; told again, it counts no second time. Without a channel, what
    /// people do counts for the channel that took the message, and a failure for the one tried last.
    pub(super) fn mark(&mut self, message: MessageId, channel: Option<Channel>, mark: Mark) {
        self.noted.push(Noted { message, channel, what: What::Mark { mark, at: None } });
    }

    /// The message arrived, at that moment where the provider told one.
    pub(super) fn delivered(&mut self, message: MessageId, channel: Channel, at: Option<DateTime<Utc>>) {
        let what = What::Mark { mark: Mark::Delivered, at };
        self.noted.push(Noted { message, channel: Some(channel), what });
    }

    /// An attempt came to its end.
    pub(super) fn settled(&mut self, message: MessageId, channel: Channel, status: AttemptStatus) {
        match status {
            AttemptStatus::Accepted => self.mark(message, Some(channel), Mark::Sent),
            AttemptStatus::RefusedPermanent | AttemptStatus::RefusedTemporary => {
                let what = What::Add { counter: REFUSED, day: None, by: 1 };
                self.noted.push(Noted { message, channel: Some(channel), what });
            }
            AttemptStatus::Intent | AttemptStatus::NotSent | AttemptStatus::Unknown => {}
        }
    }

    /// A message took its next step: `channel` is the one that it leaves, `gave_up` where it goes on to another
    /// because this one failed.
    pub(super) fn followed(
        &mut self,
        message: MessageId,
        channel: Option<Channel>,
        status: Status,
        gave_up: bool,
    ) {
        let mark = match status {
            Status::Sent => Mark::Sent,
            Status::Failed => Mark::Failed,
            Status::Expired => Mark::Expired,
            Status::Skipped => Mark::Skipped,
            _ if gave_up => Mark::Failed,
            _ => return,
        };
        self.mark(message, channel, mark);
    }

    /// What is to be counted, and the message's bits afterwards, where a provider takes a message at its first attempt:
    /// all of it from what whoever settles has at hand, for this is what becomes of most. To be absorbed together with
    /// the writing of the bits.
    pub(super) fn of_first_sent(first: FirstAttempt<'_>) -> (Self, i64) {
        let mut tally = Self::default();
        if first.labels.day.is_empty() {
            return (tally, first.bits);
        }
        let channel = first.channel;
        let mut message = Counted {
            labels: first.labels.clone(),
            segments: first.segments,
            always_sms: first.always_sms,
            bits: first.bits,
            // The start is for delivery times alone.
            attempts: vec![(channel, first.day.to_owned(), DateTime::UNIX_EPOCH, true)],
        };
        set(&mut tally, &mut message, Some(channel), Mark::Sent, None);
        (tally, message.bits)
    }

    /// Adds what was counted apart.
    pub(super) fn absorb(&mut self, other: Self) {
        for (place, by) in other.sums {
            *self.sums.entry(place).or_default() += by;
        }
        self.noted.extend(other.noted);
    }

    /// What an attempt costs, or by how much it is corrected, in micro-euros; `day` is the attempt's.
    pub(super) fn spent(&mut self, message: MessageId, channel: Channel, day: &str, by: i64) {
        if by != 0 {
            let what = What::Add { counter: COST, day: Some(day.to_owned()), by };
            self.noted.push(Noted { message, channel: Some(channel), what });
        }
    }

    /// The same where it is at hand what the message is counted under.
    pub(super) fn spent_under(&mut self, labels: &Labels, channel: Channel, day: &str, by: i64) {
        if !labels.day.is_empty() {
            self.add(&Labels { day: day.to_owned(), ..labels.clone() }, Some(channel), COST, by);
        }
    }

    fn add(&mut self, labels: &Labels, channel: Option<Channel>, counter: &str, by: i64) {
        if labels.day.is_empty() || by == 0 {
            return;
        }
        let place = Place { labels: labels.clone(), channel, counter: counter.to_owned() };
        *self.sums.entry(place).or_default() += by;
    }
}

/// A message that was tried once, and what is counted of it so far.
pub(super) struct FirstAttempt<'a> {
    pub(super) labels: &'a Labels,
    pub(super) segments: i64,
    pub(super) always_sms: i64,
    pub(super) bits: i64,
    pub(super) channel: Channel,
    pub(super) day: &'a str,
}

/// A message as it is counted.
struct Counted {
    labels: Labels,
    segments: i64,
    always_sms: i64,
    bits: i64,
    /// Channel, day, start and "a provider took it", in the order of the attempts.
    attempts: Vec<(Channel, String, DateTime<Utc>, bool)>,
}

impl Counted {
    /// The channel of a mark that names none: what people do counts for the channel that took the message, a
    /// failure for the last one that was tried.
    fn channel_of(&self, mark: Mark) -> Option<Channel> {
        let last = self.attempts.last();
        let found = match mark {
            Mark::Failed => last,
            Mark::Expired | Mark::Skipped => None,
            _ => self.attempts.iter().find(|(.., accepted)| *accepted).or(last),
        };
        found.map(|(channel, ..)| *channel)
    }

    /// The labels, on the day of the first attempt on that channel.
    fn labels_on(&self, channel: Option<Channel>) -> Labels {
        let first = self.attempts.iter().find(|(c, ..)| Some(*c) == channel);
        let day = first.map_or(&self.labels.day, |(_, day, ..)| day);
        Labels { day: day.clone(), ..self.labels.clone() }
    }

    /// Milliseconds that a message delivered at `at` took.
    fn millis_until(&self, at: DateTime<Utc>, channel: Channel) -> Option<i64> {
        let of_channel = || self.attempts.iter().filter(|(c, ..)| *c == channel);
        let sent = of_channel().find(|(.., accepted)| *accepted).or_else(|| of_channel().next_back())?;
        // A provider's clock may be behind ours.
        Some((at - sent.2).max(TimeDelta::zero()).num_milliseconds())
    }
}

/// Writes down what the transaction counted: nothing where it counted nothing.
pub(super) async fn write(link: &mut Link<'_>) -> Result<(), Fault> {
    let mut tally = std::mem::take(link.tally());
    let noted = std::mem::take(&mut tally.noted);
    if !noted.is_empty() {
        let ids: BTreeSet<MessageId> = noted.iter().map(|n| n.message).collect();
        let mut messages = read(link, &ids).await?;
        let before: HashMap<MessageId, i64> = messages.iter().map(|(id, m)| (*id, m.bits)).collect();
        for one in noted {
            // A message that is gone, or of a tenant that keeps no figures, is not counted.
            if let Some(message) = messages.get_mut(&one.message).filter(|m| !m.labels.day.is_empty()) {
                count(&mut tally, message, one);
            }
        }
        let changed: BTreeMap<MessageId, i64> =
            messages.iter().filter(|(id, m)| before[*id] != m.bits).map(|(id, m)| (*id, m.bits)).collect();
        note_bits(link, changed).await?;
    }
    add_sums(link, tally.sums).await
}

fn count(tally: &mut Tally, message: &mut Counted, noted: Noted) {
    match noted.what {
        What::Add { counter, day: Some(day), by } => {
            let labels = Labels { day, ..message.labels.clone() };
            tally.add(&labels, noted.channel, counter, by);
        }
        What::Add { counter, day: None, by } => {
            tally.add(&message.labels_on(noted.channel), noted.channel, counter, by);
        }
        What::Mark { mark, at } => {
            let channel = noted.channel.or_else(|| message.channel_of(mark));
            set(tally, message, channel, mark, at);
        }
    }
}

/// Sets a mark and what it implies, and counts what was not set before. What arrived has not failed, in whatever
/// order the two are told.
fn set(
    tally: &mut Tally,
    message: &mut Counted,
    channel: Option<Channel>,
    mark: Mark,
    at: Option<DateTime<Utc>>,
) {
    let bit = mark.bit(channel);
    let arrived = Mark::Delivered.bit(channel);
    if message.bits & bit != 0 || (mark == Mark::Failed && message.bits & arrived != 0) {
        return;
    }
    if let Some(implied) = mark.implied(channel) {
        set(tally, message, channel, implied, None);
    }
    let sent_before = Channel::ALL.iter().any(|c| message.bits & Mark::Sent.bit(Some(*c)) != 0);
    message.bits |= bit;
    let labels = message.labels_on(channel);
    tally.add(&labels, channel, mark.as_str(), 1);
    let failed = Mark::Failed.bit(channel);
    if mark == Mark::Delivered && message.bits & failed != 0 {
        message.bits &= !failed;
        tally.add(&labels, channel, Mark::Failed.as_str(), -1);
    }
    if mark == Mark::Sent {
        if channel == Some(Channel::Sms) {
            tally.add(&labels, channel, SEGMENTS, message.segments);
        }
        // Someone who always sends SMS sends one, however many channels were tried here.
        if !sent_before {
            tally.add(&labels, channel, ALWAYS_SMS, message.always_sms);
        }
    }
    if let (Some(at), Some(channel)) = (at, channel)
        && let Some(millis) = message.millis_until(at, channel)
    {
        tally.add(&labels, Some(channel), DELIVERY_MILLIS, millis);
        tally.add(&labels, Some(channel), DELIVERY_TIMED, 1);
        tally.add(&labels, Some(channel), &figures::bucket_name(figures::bucket_of(millis)), 1);
    }
}

/// Messages of one statement.
const READ_AT_ONCE: usize = 256;

async fn read(link: &mut Link<'_>, ids: &BTreeSet<MessageId>) -> Result<HashMap<MessageId, Counted>, Fault> {
    let ids: Vec<MessageId> = ids.iter().copied().collect();
    let mut found: HashMap<MessageId, Counted> = HashMap::new();
    for ids in ids.chunks(READ_AT_ONCE) {
        // The last id is repeated, so that few statements are prepared.
        let count = ids.len().next_power_of_two();
        let mut sql = format!(
            "SELECT m.id, m.tenant, m.day, m.kind, m.template, m.campaign, m.variant, m.segments, m.always_sms, \
             m.counted, a.channel, a.day, a.started_at, a.status \
             FROM messages m LEFT JOIN attempts a ON a.message_id = m.id \
             WHERE m.id IN ({}) ORDER BY m.id, a.number",
            placeholders(1, count)
        );
        if link.locks_rows() {
            // Another replica that counts the same message waits, and sees the bits that are set here.
            sql.push_str(" FOR UPDATE OF m");
        }
        let last = ids[ids.len() - 1];
        let padded = ids.iter().copied().chain(std::iter::repeat_n(last, count - ids.len()));
        for row in link.rows(AssertSqlSafe(sql), padded.map(Value::from).collect()).await? {
            let id = rows::parsed(row.text(0)?, MessageId::parse)?;
            let message = match found.entry(id) {
                std::collections::hash_map::Entry::Occupied(known) => known.into_mut(),
                std::collections::hash_map::Entry::Vacant(new) => new.insert(counted(&row)?),
            };
            if let Some(channel) = row.maybe_text(10)? {
                let (day, started) = (row.text(11)?, rows::instant(row.int(12)?)?);
                let accepted = row.text(13)? == "accepted";
                message.attempts.push((rows::channel(&channel)?, day, started, accepted));
            }
        }
    }
    Ok(found)
}

fn counted(row: &Row) -> Result<Counted, Fault> {
    Ok(Counted {
        labels: Labels {
            tenant: row.text(1)?,
            day: row.text(2)?,
            kind: row.text(3)?,
            template: row.text(4)?,
            campaign: row.text(5)?,
            variant: row.text(6)?,
        },
        segments: row.int(7)?,
        always_sms: row.int(8)?,
        bits: row.int(9)?,
        attempts: Vec::new(),
    })
}

async fn note_bits(link: &mut Link<'_>, changed: BTreeMap<MessageId, i64>) -> Result<(), Fault> {
    let sql = "UPDATE messages SET counted = $2 WHERE id = $1";
    for (id, bits) in changed {
        link.run(sql, values![id, bits]).await?;
    }
    Ok(())
}

/// In the order of their keys, so that two replicas that add to the same never wait for each other in a ring.
async fn add_sums(link: &mut Link<'_>, sums: BTreeMap<Place, i64>) -> Result<(), Fault> {
    let rows: Vec<Vec<Value>> = sums
        .into_iter()
        .filter(|(_, by)| *by != 0)
        .map(|(Place { labels, channel, counter }, by)| {
            let channel = channel.map_or("", Channel::as_str);
            let Labels { tenant, day, kind, template, campaign, variant } = labels;
            values![tenant, day, channel, kind, template, campaign, variant, counter, by]
        })
        .collect();
    let head = "INSERT INTO counters (tenant, day, channel, kind, template, campaign, variant, counter, value) \
                VALUES ";
    let tail = " ON CONFLICT (tenant, day, channel, kind, template, campaign, variant, counter) \
                DO UPDATE SET value = counters.value + excluded.value";
    let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
    insert(link, head, tail, &rows).await?;
    Ok(())
}
