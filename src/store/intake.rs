//! Accepting messages: all that one is kept by, in one transaction, many of them in few statements.
//!
//! The idempotency key is inserted first; its primary key decides which of two twins is the message. Nothing is
//! decided here and no key is ever held apart from the row it made.

use std::{
    collections::{HashMap, HashSet},
    sync::atomic::Ordering,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Acceptance, Intake, Result, SqlStore, StoreError,
    counters::Labels,
    database::{Fault, Link, Value, placeholders, values},
    jobs::Operation,
    rows,
    writer::Writer,
};
use crate::{
    domain::{
        channel::Channel,
        delivery::{NewMessage, Status},
        figures::Mark,
        ids::{IdempotencyKey, MessageId, RecipientId, TenantId},
    },
    failpoint,
};

/// How long a key is kept (reliability.md P3).
pub(super) const KEY_DAYS: i64 = 7;

/// How many rows one statement to a server inserts at most, and the smaller sizes for what is left over: few sizes, so that
/// every statement is prepared once.
const CHUNKS: [usize; 4] = [32, 8, 2, 1];

/// A message made ready to be written: all that takes time is done by its caller.
pub(super) struct Offer {
    id: MessageId,
    tenant: TenantId,
    recipient: RecipientId,
    key: Option<(IdempotencyKey, String)>,
    accepted_at: DateTime<Utc>,
    /// The values of its row in `messages`, `bodies` and, unless it is simply queued, `events`.
    message: Vec<Value>,
    body: Vec<Value>,
    event: Option<Vec<Value>>,
    labels: Labels,
    chosen: Option<Channel>,
    ended: Option<Mark>,
}

impl Offer {
    pub(super) fn new(message: &NewMessage) -> Result<Self> {
        let id = message.id;
        let event = (message.status != Status::Queued).then(|| {
            values![id, 1_i64, message.accepted_at, message.status.as_str(), message.status_reason.as_deref()]
        });
        Ok(Self {
            id,
            tenant: message.request.tenant.clone(),
            recipient: message.request.recipient.clone(),
            key: message.idempotency.as_ref().map(|(key, hash)| (key.clone(), rows::to_hex(hash))),
            accepted_at: message.accepted_at,
            message: rows::message_values(message),
            body: rows::body_values(message)?,
            event,
            labels: rows::labels(message),
            chosen: message.decision.chosen,
            ended: match message.status {
                Status::Skipped => Some(Mark::Skipped),
                Status::Expired => Some(Mark::Expired),
                _ => None,
            },
        })
    }
}

#[async_trait]
impl Intake for SqlStore {
    async fn accept(&self, message: NewMessage) -> Result<Acceptance> {
        self.writer()?.accept(Offer::new(&message)?).await
    }

    fn refuses(&self) -> Option<&'static str> {
        self.writer().ok().and_then(Writer::shortage)
    }

    async fn find_key(
        &self,
        tenant: &TenantId,
        key: &IdempotencyKey,
        now: DateTime<Utc>,
    ) -> Result<Option<(MessageId, [u8; 32])>> {
        if self.recall.as_ref().is_some_and(|recall| recall.never_used(tenant, key.as_str())) {
            return Ok(None);
        }
        let mut reader = self.near().await?;
        let sql = "SELECT message_id, body_hash FROM idempotency_keys \
                   WHERE tenant = $1 AND key = $2 AND expires_at > $3";
        let row = reader.link().row(sql, values![tenant, key.as_str(), now]).await?;
        Ok(row
            .map(|row| -> Result<_, Fault> {
                Ok((rows::parsed(row.text(0)?, MessageId::parse)?, rows::hash(&row.text(1)?)?))
            })
            .transpose()?)
    }
}

/// Accepts what is new of these and says of each what became of it, in their order.
pub(super) async fn accept_all(link: &mut Link<'_>, offers: &[&Offer]) -> Result<Vec<Acceptance>, Fault> {
    let mut answers: Vec<Option<Acceptance>> = vec![None; offers.len()];
    let mut left: Vec<usize> = (0..offers.len()).collect();
    // Twins within the batch come in later rounds: one statement cannot insert a key twice.
    while !left.is_empty() {
        let mut seen = HashSet::new();
        let (now, later): (Vec<usize>, Vec<usize>) = left.into_iter().partition(|at| {
            offers[*at].key.as_ref().is_none_or(|(key, _)| seen.insert((&offers[*at].tenant, key)))
        });
        let known = claim_keys(link, offers, &now).await?;
        failpoint::hit("accept.idem");
        let fresh: Vec<&Offer> =
            now.iter().filter(|at| !known.contains_key(*at)).map(|at| offers[*at]).collect();
        insert_all(link, &fresh).await?;
        for at in now {
            answers[at] = Some(known.get(&at).cloned().unwrap_or(Acceptance::New));
        }
        left = later;
    }
    Ok(answers.into_iter().map(|answer| answer.unwrap_or(Acceptance::New)).collect())
}

macro_rules! keys {
    () => {
        "INSERT INTO idempotency_keys (tenant, key, body_hash, message_id, created_at, expires_at) VALUES "
    };
}

/// What follows the rows: a key that ran out is taken over.
macro_rules! keys_taken {
    () => {
        " ON CONFLICT (tenant, key) DO UPDATE SET body_hash = excluded.body_hash, \
         message_id = excluded.message_id, created_at = excluded.created_at, expires_at = excluded.expires_at \
         WHERE idempotency_keys.expires_at <= excluded.created_at"
    };
}

/// Takes the keys that are free (or run out) and says whose the others are.
async fn claim_keys(
    link: &mut Link<'_>,
    offers: &[&Offer],
    now: &[usize],
) -> Result<HashMap<usize, Acceptance>, Fault> {
    let keyed: Vec<usize> = now.iter().copied().filter(|at| offers[*at].key.is_some()).collect();
    let mut rows = Vec::with_capacity(keyed.len());
    for at in &keyed {
        let offer = offers[*at];
        if let Some((key, hash)) = &offer.key {
            let expires = offer.accepted_at + TimeDelta::days(KEY_DAYS);
            link.notes().key(&offer.tenant, key);
            rows.push(values![
                &offer.tenant,
                key.as_str(),
                hash.as_str(),
                offer.id,
                offer.accepted_at,
                expires
            ]);
        }
    }
    let mut taken = HashSet::new();
    if link.locks_rows() {
        let rows: Vec<&[Value]> = rows.iter().map(Vec::as_slice).collect();
        for row in insert(link, keys!(), concat!(keys_taken!(), " RETURNING message_id"), &rows).await? {
            taken.insert(row.text(0)?);
        }
    } else {
        // One by one it is known whose each is; SQLite makes a table of what a statement gives back.
        let sql = concat!(keys!(), "($1, $2, $3, $4, $5, $6)", keys_taken!());
        for (at, row) in keyed.iter().zip(rows) {
            if link.run(sql, row).await? > 0 {
                taken.insert(offers[*at].id.to_string());
            }
        }
    }
    let mut known = HashMap::new();
    for at in keyed {
        let offer = offers[at];
        if let (Some((key, hash)), false) = (&offer.key, taken.contains(&offer.id.to_string())) {
            known.insert(at, holder(link, &offer.tenant, key, hash).await?);
        }
    }
    Ok(known)
}

async fn holder(
    link: &mut Link<'_>,
    tenant: &TenantId,
    key: &IdempotencyKey,
    hash: &str,
) -> Result<Acceptance, Fault> {
    let sql = "SELECT message_id, body_hash FROM idempotency_keys WHERE tenant = $1 AND key = $2";
    let row = link.row(sql, values![tenant, key.as_str()]).await?;
    let row = row.ok_or_else(|| Fault::Corrupt("an idempotency key vanished while it was taken".into()))?;
    let id = rows::parsed(row.text(0)?, MessageId::parse)?;
    Ok(if row.text(1)? == hash { Acceptance::Duplicate(id) } else { Acceptance::KeyReused(id) })
}

async fn insert_all(link: &mut Link<'_>, offers: &[&Offer]) -> Result<(), Fault> {
    let head = format!("INSERT INTO messages ({}) VALUES ", rows::NEW_MESSAGE_COLUMNS);
    let rows: Vec<&[Value]> = offers.iter().map(|offer| &offer.message[..]).collect();
    insert(link, &head, "", &rows).await?;
    // The row holds its first timer as well.
    failpoint::hit("accept.row");
    let head = format!("INSERT INTO bodies ({}) VALUES ", rows::BODY_COLUMNS);
    let rows: Vec<&[Value]> = offers.iter().map(|offer| &offer.body[..]).collect();
    insert(link, &head, "", &rows).await?;
    let head = "INSERT INTO events (message_id, seq, at, event, detail) VALUES ";
    let rows: Vec<&[Value]> = offers.iter().filter_map(|offer| offer.event.as_deref()).collect();
    insert(link, head, "", &rows).await?;
    for offer in offers {
        link.tally().accepted(&offer.labels, offer.chosen, offer.ended);
        link.notes().person(offer.id, &offer.tenant, offer.recipient.as_str());
    }
    failpoint::hit("accept.timer");
    Ok(())
}

/// Inserts rows of equal width and gives what the statements return. Many in a statement where each one is a way to a
/// server and back; the embedded database takes them one by one as fast, by a text that stays short.
pub(super) async fn insert(
    link: &mut Link<'_>,
    head: &str,
    tail: &str,
    rows: &[&[Value]],
) -> Result<Vec<super::database::Row>, Fault> {
    let sizes: &[usize] = if link.locks_rows() { &CHUNKS } else { &[1] };
    let (mut answer, mut left, mut text) = (Vec::new(), rows, (0, String::new()));
    while let Some(width) = left.first().map(|row| row.len()) {
        let count = sizes.iter().copied().find(|size| *size <= left.len()).unwrap_or(1);
        if text.0 != count {
            let groups: Vec<String> =
                (0..count).map(|n| format!("({})", placeholders(n * width + 1, width))).collect();
            text = (count, format!("{head}{}{tail}", groups.join(", ")));
        }
        let (now, later) = left.split_at(count);
        let values: Vec<&Value> = now.iter().flat_map(|row| row.iter()).collect();
        answer.extend(link.lent(&text.1, &values).await?);
        left = later;
    }
    Ok(answer)
}

/// How often keys that ran out are looked for.
const PRUNE_EVERY: TimeDelta = TimeDelta::hours(1);

/// How many keys one transaction forgets.
const PRUNED_AT_ONCE: u32 = 500;

impl SqlStore {
    /// Forgets the keys that ran out, once an hour. They are found beside the writer, which only deletes.
    pub(super) async fn prune_keys(&self, now: DateTime<Utc>) -> Result<()> {
        let (at, last) = (now.timestamp_millis(), self.pruned_at.load(Ordering::Relaxed));
        if at.saturating_sub(last) < PRUNE_EVERY.num_milliseconds() {
            return Ok(());
        }
        self.pruned_at.store(at, Ordering::Relaxed);
        loop {
            let sql =
                "SELECT tenant, key FROM idempotency_keys WHERE expires_at <= $1 LIMIT CAST($2 AS BIGINT)";
            let found = self.reader().await?.link().rows(sql, values![now, PRUNED_AT_ONCE]).await?;
            let mut keys = Vec::with_capacity(found.len());
            for row in &found {
                keys.push((row.text(0)?, row.text(1)?));
            }
            let last = found.len() < PRUNED_AT_ONCE as usize;
            if !keys.is_empty() {
                self.writer()?.run(Prune { keys, now }).await?;
            }
            if last {
                return Ok(());
            }
        }
    }
}

struct Prune {
    keys: Vec<(String, String)>,
    now: DateTime<Utc>,
}

impl Operation for Prune {
    type Answer = ();

    async fn apply(&self, link: &mut Link<'_>) -> Result<(), Fault> {
        // A key that was taken anew in between is kept.
        let sql = "DELETE FROM idempotency_keys WHERE tenant = $1 AND key = $2 AND expires_at <= $3";
        for (tenant, key) in &self.keys {
            link.run(sql, values![tenant.as_str(), key.as_str(), self.now]).await?;
        }
        Ok(())
    }
}

impl From<rows::Unwritable> for StoreError {
    fn from(error: rows::Unwritable) -> Self {
        StoreError::Unavailable(format!("the message cannot be written down: {}", error.0))
    }
}
