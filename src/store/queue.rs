//! Taking messages: claims, what is known of each, and when the next one is due.
//!
//! A claim takes care of leases that ran out before their intent; the rest of them is `recovery`'s. Nothing here
//! decides what comes next.

use std::{
    collections::HashMap,
    sync::{Arc, LazyLock},
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Claimed, Due, Intent, IntentRecord, Queue, Recovered, Result, Room, Settled, SqlStore, StoreError,
    attempts::{Advance, RecordIntent, RecordUnsent},
    checksums,
    counters::Labels,
    database::{Fault, Link, Row, Value, placeholders, values},
    jobs::Operation,
    operate,
    outcomes::Settle,
    recovery::{RECOVERED_AT_ONCE, Recover, SUSPECT_MS, SetAside, damaged, give_back, lapsed},
    rows, service_window, webhooks,
};
use crate::{
    domain::{
        channel::Channel,
        delivery::{Attempt, Next, Outcome, Plan, Status},
        ids::{AttemptId, MessageId},
        message::MessageRequest,
    },
    failpoint,
};

#[async_trait]
impl Queue for SqlStore {
    async fn claim_into(
        &self,
        worker: &str,
        now: DateTime<Utc>,
        lease_seconds: u32,
        room: Room,
    ) -> Result<Vec<Claimed>> {
        let lease_until = now + TimeDelta::seconds(lease_seconds.into());
        let claim = Claim { worker: worker.to_owned(), now, lease_until, room };
        let taken = self.writer()?.run(claim).await?;
        if taken.is_empty() {
            return Ok(Vec::new());
        }
        let (claimed, unreadable) = self.load(taken, now).await?;
        for (id, fence, why) in unreadable {
            tracing::error!(message = %id, %why, "a message does not read back; it is set aside");
            self.writer()?.run(SetAside { id, fence, now }).await?;
        }
        Ok(claimed)
    }

    async fn record_intent(&self, claimed: &Claimed, intent: IntentRecord) -> Result<Intent> {
        self.writer()?.run(RecordIntent::new(claimed, intent)).await
    }

    async fn settle(
        &self,
        claimed: &Claimed,
        attempt: AttemptId,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Settled> {
        let settle = Settle::new(claimed, attempt, outcome, next, now)?;
        self.writer()?.run(settle).await?.ok_or(StoreError::LeaseLost(claimed.id))
    }

    async fn record_unsent(
        &self,
        claimed: &Claimed,
        intent: IntentRecord,
        outcome: &Outcome,
        next: &Next,
        now: DateTime<Utc>,
    ) -> Result<Intent> {
        let settle = Settle::new(claimed, intent.attempt, outcome, next, now)?;
        self.writer()?.run(RecordUnsent { intent: RecordIntent::new(claimed, intent), settle }).await
    }

    async fn advance(&self, claimed: &Claimed, next: &Next, now: DateTime<Utc>) -> Result<()> {
        let held = self.writer()?.run(Advance::new(claimed, next, now)).await?;
        if held { Ok(()) } else { Err(StoreError::LeaseLost(claimed.id)) }
    }

    async fn recover(
        &self,
        all_of: Option<&str>,
        now: DateTime<Utc>,
        settle_at: DateTime<Utc>,
    ) -> Result<Recovered> {
        let mut found = Recovered::default();
        let mut starts = all_of.is_some();
        loop {
            let owner = all_of.map(str::to_owned);
            let part = self.writer()?.run(Recover { owner, starts, now, settle_at }).await?;
            starts = false;
            found.unknown += part.unknown;
            found.given_back += part.given_back;
            found.quarantined += part.quarantined;
            if part.unknown + part.given_back + part.quarantined < u64::from(RECOVERED_AT_ONCE) {
                break;
            }
        }
        self.prune_keys(now).await?;
        Ok(found)
    }

    async fn next_due(&self) -> Result<Option<DateTime<Utc>>> {
        let mut reader = self.near().await?;
        let sql = "SELECT MIN(due_at) FROM messages WHERE due_at IS NOT NULL";
        match reader.link().row(sql, values![]).await? {
            Some(row) => Ok(rows::maybe_instant(row.maybe_int(0)?)?),
            None => Ok(None),
        }
    }
}

/// A message's row as a claim leaves it.
struct Taken {
    id: MessageId,
    fence: i64,
    lease_until: DateTime<Utc>,
    status: Status,
    hop: u16,
    made: u16,
    waived: u16,
    attempts_on_hop: u16,
    polls: u16,
    resend_used: bool,
    escalated: bool,
    accepted_at: DateTime<Utc>,
    deadline: Option<DateTime<Utc>>,
    lane: Option<Channel>,
    labels: Labels,
}

impl Taken {
    fn read(row: &Row) -> Result<Self, Fault> {
        Ok(Self {
            id: rows::parsed(row.text(0)?, MessageId::parse)?,
            fence: row.int(1)?,
            lease_until: rows::instant(row.int(2)?)?,
            status: rows::status(&row.text(3)?)?,
            hop: rows::small(row.int(4)?)?,
            made: rows::small(row.int(5)?)?,
            waived: rows::small(row.int(6)?)?,
            attempts_on_hop: rows::small(row.int(7)?)?,
            polls: rows::small(row.int(8)?)?,
            resend_used: row.int(9)? != 0,
            escalated: row.maybe_text(10)?.is_some(),
            accepted_at: rows::instant(row.int(11)?)?,
            deadline: rows::maybe_instant(row.maybe_int(12)?)?,
            lane: Channel::parse(&row.text(19)?),
            labels: Labels {
                tenant: row.text(13)?,
                day: row.text(14)?,
                kind: row.text(15)?,
                template: row.text(16)?,
                campaign: row.text(17)?,
                variant: row.text(18)?,
            },
        })
    }
}

struct Claim {
    worker: String,
    now: DateTime<Utc>,
    lease_until: DateTime<Utc>,
    room: Room,
}

/// Of two messages with one ordering key the older goes first, and the other not before it is at its end. What does not
/// add up is not taken: it is quarantined by the same statement, before anything is written over it.
fn claim_sql(which: &str, order: &str, locking: &str) -> String {
    let damaged = format!("checksum <> {}", checksums::MESSAGE);
    format!(
        "WITH picked AS MATERIALIZED (SELECT m.id FROM messages m WHERE m.due_at <= $1 \
         AND m.status IN ('queued', 'held', 'retrying', 'unknown', 'sent', 'delivered') \
         AND m.crashes {which} AND (m.ordering_key IS NULL OR NOT EXISTS (SELECT 1 FROM messages o \
         WHERE o.tenant = m.tenant AND o.ordering_key = m.ordering_key AND o.id <> m.id \
         AND o.status IN ('queued', 'held', 'retrying', 'sending', 'unknown') \
         AND (o.id < m.id OR o.lease_until IS NOT NULL))) ORDER BY {order}m.due_at LIMIT CAST($4 AS BIGINT) {locking}) \
         UPDATE messages SET fence = fence + 1, due_at = NULL, \
         lease_owner = CASE WHEN {damaged} THEN NULL ELSE $2 END, \
         lease_until = CASE WHEN {damaged} THEN NULL ELSE $3 END, \
         status = CASE WHEN {damaged} THEN 'quarantined' \
         WHEN status IN ('unknown', 'sent', 'delivered') THEN status ELSE 'sending' END \
         WHERE id IN (SELECT id FROM picked) \
         RETURNING id, fence, lease_until, status, hop, attempts, waived, hop_attempts, polls, resend_used, \
         escalated_from, accepted_at, deadline, tenant, day, kind, template, campaign, variant, chosen"
    )
}

/// The statements: for all that is due, for a suspect alone, for one lane; each by whether rows are locked.
static CLAIMS: LazyLock<[[String; 2]; 3]> = LazyLock::new(|| {
    let locking = ["", "FOR UPDATE OF m SKIP LOCKED"];
    // The likeliest suspect first: what really ends its worker is found out at once, and what was only hit by chance
    // is done before the next chance.
    [
        locking.map(|locking| claim_sql("= 0", "", locking)),
        locking.map(|locking| claim_sql("> 0", "m.crashes DESC, ", locking)),
        locking.map(|locking| claim_sql("= 0 AND m.chosen = $5", "", locking)),
    ]
});
const ALL_DUE: usize = 0;
const ALONE: usize = 1;
const OF_LANE: usize = 2;

impl Operation for Claim {
    type Answer = Vec<Taken>;

    fn name(&self) -> &'static str {
        "claim"
    }

    fn begins(&self) -> bool {
        true
    }

    async fn apply(&self, link: &mut Link<'_>) -> Result<Vec<Taken>, Fault> {
        let left = lapsed(link, None, self.now, "m.open_attempt IS NULL").await?;
        give_back(link, left, self.now).await?;
        let suspects = self.suspects(link).await?;
        failpoint::hit("claim.pre");
        let found = match (suspects, &self.room) {
            (Suspects::Wait, _) => return Ok(Vec::new()),
            (Suspects::Alone, _) => self.take(link, ALONE, 1, None).await?,
            (Suspects::None, Room::Shared(most)) => self.take(link, ALL_DUE, *most, None).await?,
            (Suspects::None, Room::Lanes(rooms)) => {
                let mut found = Vec::new();
                // What an old version accepted names no lane: it waits until there is room on each.
                let on_each = rooms.iter().map(|(_, most)| *most).min().unwrap_or(0);
                if on_each > 0 {
                    found = self.take(link, OF_LANE, on_each, Some("")).await?;
                }
                for (lane, most) in rooms.iter().filter(|(_, most)| **most > 0) {
                    found.extend(self.take(link, OF_LANE, *most, Some(lane.as_str())).await?);
                }
                found
            }
        };
        // Who was to be written to still is.
        link.notes().nobody();
        failpoint::hit("claim.locked");
        let mut taken = Vec::with_capacity(found.len());
        for row in &found {
            if row.text(3)? == Status::Quarantined.as_str() {
                damaged(link, &row.text(0)?, self.now).await?;
            } else {
                taken.push(Taken::read(row)?);
            }
        }
        taken.sort_by_key(|t| t.id);
        Ok(taken)
    }
}

impl SqlStore {
    /// Bodies and last attempts of what was claimed, read beside the writer: bodies never change, and the rest is
    /// ours while the lease lasts.
    async fn load(&self, taken: Vec<Taken>, now: DateTime<Utc>) -> Result<(Vec<Claimed>, Vec<Unreadable>)> {
        let mut reader = self.near().await?;
        let mut link = reader.link();
        let ids: Vec<MessageId> = taken.iter().map(|t| t.id).collect();
        let mut bodies = HashMap::new();
        for row in
            of_messages(&mut link, "SELECT message_id, request, plan, checksum FROM bodies", &ids, "").await?
        {
            bodies.insert(row.text(0)?, (row.text(1)?, row.maybe_text(2)?, row.int(3)?));
        }
        let tried: Vec<MessageId> = taken.iter().filter(|t| t.made > 0).map(|t| t.id).collect();
        let mut last: HashMap<MessageId, Attempt> = HashMap::new();
        let sql = format!("SELECT {} FROM attempts", *rows::ATTEMPT);
        let mut bad: HashMap<String, Fault> = HashMap::new();
        for row in of_messages(&mut link, &sql, &tried, " ORDER BY number").await? {
            match rows::attempt(&row) {
                Ok((id, attempt)) => drop(last.insert(id, attempt)),
                Err(fault) => drop(bad.insert(row.text(0)?, fault)),
            }
        }
        let (mut claimed, mut unreadable) = (Vec::with_capacity(taken.len()), Vec::new());
        for t in taken {
            let id = t.id.to_string();
            let attempts = match bad.remove(&id) {
                None if t.made > 0 && last.get(&t.id).is_none_or(|attempt| attempt.number < t.made) => {
                    Err(Fault::Corrupt("a message whose attempts are not all there".into()))
                }
                None => Ok(()),
                Some(fault) => Err(fault),
            };
            match attempts.and_then(|()| read_body(bodies.remove(&id))) {
                Ok((request, plan)) => {
                    let last_attempt = last.remove(&t.id);
                    claimed.push(t.with(request, plan, last_attempt));
                }
                Err(fault) => unreadable.push((t.id, t.fence, StoreError::from(fault).to_string())),
            }
        }
        let pauses = operate::in_force(&mut link).await?;
        claimed.iter_mut().for_each(|claim| claim.pauses = pauses.clone());
        echoes(&mut link, &mut claimed).await?;
        service_windows(&mut link, &mut claimed, now).await?;
        Ok((claimed, unreadable))
    }
}

/// What was done with the messages that wait for an answer, by people only, and what their receipts came to.
async fn echoes(link: &mut Link<'_>, claimed: &mut [Claimed]) -> Result<(), Fault> {
    let waiting: Vec<MessageId> = claimed.iter().filter(|c| c.due == Due::Escalate).map(|c| c.id).collect();
    for (select, tail) in [
        ("SELECT message_id, name FROM engagement", " AND machine = 0"),
        ("SELECT message_id, receipt FROM attempts", " AND receipt IN ('delivered', 'read')"),
    ] {
        for row in of_messages(link, select, &waiting, tail).await? {
            let id = row.text(0)?;
            if let Some(claim) = claimed.iter_mut().find(|c| c.id.to_string() == id) {
                claim.echoes.push(row.text(1)?);
            }
        }
    }
    Ok(())
}

/// Whether people wrote lately to the senders that write to them by WhatsApp.
async fn service_windows(
    link: &mut Link<'_>,
    claimed: &mut [Claimed],
    now: DateTime<Utc>,
) -> Result<(), Fault> {
    for claim in claimed.iter_mut() {
        let Some(hop) = claim.plan.hops.get(usize::from(claim.hop)) else { continue };
        if hop.channel != Channel::WhatsApp {
            continue;
        }
        let (tenant, from) = (&claim.request.tenant, hop.from.as_deref());
        let window =
            service_window::wrote_lately(link, tenant, hop.channel, hop.address.as_str(), from, now).await?;
        claim.in_service_window = window;
    }
    Ok(())
}

type Unreadable = (MessageId, i64, String);

fn read_body(body: Option<(String, Option<String>, i64)>) -> Result<(MessageRequest, Plan), Fault> {
    let (request, plan, sum) = body.ok_or_else(|| Fault::Corrupt("a message without a body".into()))?;
    let (request, plan) = rows::sent(&request, plan.as_deref(), sum)?;
    Ok((request, plan.ok_or_else(|| Fault::Corrupt("a queued message without a plan".into()))?))
}

impl Taken {
    fn with(self, request: MessageRequest, mut plan: Plan, last_attempt: Option<Attempt>) -> Claimed {
        // Later than planned where a person gave it more time.
        plan.deadline = self.deadline.map_or(plan.deadline, |until| until.max(plan.deadline));
        let lane = self.lane.or(plan.hops.first().map(|hop| hop.channel));
        Claimed {
            id: self.id,
            fence: self.fence,
            lease_until: self.lease_until,
            due: match self.status {
                Status::Unknown => Due::Settle,
                Status::Sent | Status::Delivered => Due::Escalate,
                _ => Due::Send,
            },
            request,
            plan,
            hop: self.hop,
            attempts: self.made.saturating_sub(self.waived),
            attempts_on_hop: self.attempts_on_hop,
            made: self.made,
            polls: self.polls,
            resend_used: self.resend_used,
            escalated: self.escalated,
            echoes: Vec::new(),
            in_service_window: false,
            accepted_at: self.accepted_at,
            pauses: operate::Pauses::default(),
            last_attempt,
            lane,
            labels: Arc::new(self.labels),
        }
    }
}

/// Rows of several messages. The number of placeholders is rounded up (the last id is repeated), so that few
/// statements are prepared.
pub(super) async fn of_messages(
    link: &mut Link<'_>,
    select: &str,
    ids: &[MessageId],
    tail: &str,
) -> Result<Vec<Row>, Fault> {
    of_ids(link, &format!("{select} WHERE message_id"), ids, tail).await
}

/// The same, of another column that holds the messages' ids: `select` ends with its name.
pub(super) async fn of_ids(
    link: &mut Link<'_>,
    select: &str,
    ids: &[MessageId],
    tail: &str,
) -> Result<Vec<Row>, Fault> {
    let Some(last) = ids.last() else { return Ok(Vec::new()) };
    let count = ids.len().next_power_of_two();
    let sql = format!("{select} IN ({}){tail}", placeholders(1, count));
    let values = ids.iter().chain(std::iter::repeat_n(last, count - ids.len())).map(|id| Value::from(*id));
    link.rows(AssertSqlSafe(sql), values.collect()).await
}

/// Whether a message that saw a crash is due, and may be tried now.
enum Suspects {
    None,
    /// One is due, and the worker has nothing else fresh in hand: it is tried alone.
    Alone,
    /// One is due: nothing new is begun until what the worker has in hand is done, or has shown itself harmless.
    Wait,
}

impl Claim {
    async fn take(
        &self,
        link: &mut Link<'_>,
        which: usize,
        most: u32,
        lane: Option<&str>,
    ) -> Result<Vec<Row>, Fault> {
        let sql = &CLAIMS[which][usize::from(link.locks_rows())];
        let mut values = values![self.now, self.worker.as_str(), self.lease_until, most];
        values.extend(lane.map(Value::from));
        link.rows(AssertSqlSafe(sql.as_str()), values).await
    }

    async fn suspects(&self, link: &mut Link<'_>) -> Result<Suspects, Fault> {
        let due = "SELECT COUNT(*) FROM messages WHERE due_at <= $1 AND crashes > 0 \
                   AND status IN ('queued', 'held', 'retrying', 'unknown', 'sent', 'delivered')";
        if count(link, due, values![self.now]).await? == 0 {
            return Ok(Suspects::None);
        }
        let fresh = "SELECT COUNT(*) FROM messages WHERE lease_owner = $1 AND lease_until > $2";
        let since = self.lease_until - TimeDelta::milliseconds(SUSPECT_MS);
        let fresh = count(link, fresh, values![self.worker.as_str(), since]).await?;
        Ok(if fresh == 0 { Suspects::Alone } else { Suspects::Wait })
    }
}

async fn count(link: &mut Link<'_>, sql: &'static str, values: Vec<Value>) -> Result<i64, Fault> {
    Ok(link.row(sql, values).await?.map(|row| row.int(0)).transpose()?.unwrap_or(0))
}

/// Adds to a message's timeline.
pub(super) async fn event(
    link: &mut Link<'_>,
    id: &str,
    at: DateTime<Utc>,
    event: &str,
    detail: Option<&str>,
) -> Result<(), Fault> {
    // Not from a SELECT of the same table: SQLite would make a table for its answer first.
    let sql = "INSERT INTO events (message_id, seq, at, event, detail) VALUES ($1, \
               (SELECT COALESCE(MAX(seq), 0) + 1 FROM events WHERE message_id = $1), $2, $3, $4)";
    link.run(sql, values![id, at, event, detail]).await?;
    webhooks::enqueue(link, id, at, event).await
}
