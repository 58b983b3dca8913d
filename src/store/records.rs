//! Messages as people look at them: one, many, cancelled, counted.
//!
//! Every read of one tenant names the tenant in its statement. Nothing here is claimed or sent.

use std::collections::HashMap;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Cancelled, Records, Result, Search, SqlStore, StoreError,
    database::{Fault, Link, Value, values},
    jobs::Operation,
    queue::of_messages,
    rows,
};
use crate::domain::{
    delivery::{MessageRecord, Status, TimelineEvent},
    ids::{MessageId, TenantId},
};

/// The longest list.
const LIMIT_MAX: u32 = 200;

#[async_trait]
impl Records for SqlStore {
    async fn message(&self, tenant: &TenantId, id: MessageId) -> Result<Option<MessageRecord>> {
        let condition = " WHERE m.id = $1 AND m.tenant = $2";
        match self.records(condition, values![id, tenant]).await?.pop() {
            Some(record) => Ok(Some(record)),
            None => self.is_really_unknown(Some(tenant), id).await,
        }
    }

    async fn message_of_any_tenant(&self, id: MessageId) -> Result<Option<MessageRecord>> {
        match self.records(" WHERE m.id = $1", values![id]).await?.pop() {
            Some(record) => Ok(Some(record)),
            None => self.is_really_unknown(None, id).await,
        }
    }

    async fn search(&self, search: &Search) -> Result<Vec<MessageRecord>> {
        let mut condition = String::from(" WHERE 1 = 1");
        let mut values = values![];
        let mut and = |column: &str, value: Value| {
            values.push(value);
            condition.push_str(&format!(" AND m.{column} ${}", values.len()));
        };
        if let Some(tenant) = &search.tenant {
            and("tenant =", tenant.into());
        }
        if let Some(recipient) = &search.recipient {
            and("recipient =", recipient.as_str().into());
        }
        if let Some(status) = search.status {
            and("status =", status.into());
        }
        if let Some(before) = search.before {
            and("id <", before.into());
        }
        values.push(search.limit.clamp(1, LIMIT_MAX).into());
        condition.push_str(&format!(" ORDER BY m.id DESC LIMIT CAST(${} AS BIGINT)", values.len()));
        self.readable(&condition, values).await
    }

    async fn cancel(
        &self,
        tenant: &TenantId,
        id: MessageId,
        now: DateTime<Utc>,
    ) -> Result<Option<Cancelled>> {
        self.writer()?.run(Cancel { tenant: tenant.clone(), id, now }).await
    }

    async fn count_by_status(&self) -> Result<Vec<(Status, u64)>> {
        let mut reader = self.reader().await?;
        let sql = "SELECT status, COUNT(*) FROM messages GROUP BY status";
        let mut counts = Vec::new();
        for row in reader.link().rows(sql, values![]).await? {
            counts.push((rows::status(&row.text(0)?)?, u64::try_from(row.int(1)?).unwrap_or_default()));
        }
        counts.sort_by_key(|(status, _)| Status::ALL.iter().position(|s| s == status));
        Ok(counts)
    }
}

impl SqlStore {
    /// Messages with their attempts and timelines, in the order of the statement.
    async fn records(&self, condition: &str, values: Vec<Value>) -> Result<Vec<MessageRecord>> {
        let (records, unreadable) = self.read(condition, values).await?;
        match unreadable.into_iter().next() {
            Some((_, fault)) => Err(fault.into()),
            None => Ok(records),
        }
    }

    /// No message, unless half of one is there, or one whose body says that it is this tenant's: of a message that is
    /// damaged nobody is told that there never was one.
    async fn is_really_unknown(
        &self,
        tenant: Option<&TenantId>,
        id: MessageId,
    ) -> Result<Option<MessageRecord>> {
        let sql = "SELECT (SELECT COUNT(*) FROM messages WHERE id = $1), \
                   (SELECT request FROM bodies WHERE message_id = $1)";
        let Some(row) = self.reader().await?.link().row(sql, values![id]).await? else { return Ok(None) };
        let (there, body) = (row.int(0)? > 0, row.maybe_text(1)?);
        match (there, body, tenant) {
            (false, None, _) => Ok(None),
            (true, Some(request), Some(tenant)) if rows::request(&request)?.tenant != *tenant => Ok(None),
            _ => Err(StoreError::Corrupt("a message of which a part is missing".into())),
        }
    }

    /// Those of them that read back: one that does not must not hide the others. It is told in the log, and
    /// whoever asks for it by its id is told too.
    async fn readable(&self, condition: &str, values: Vec<Value>) -> Result<Vec<MessageRecord>> {
        let (mut records, unreadable) = self.read(condition, values).await?;
        for (message, fault) in unreadable {
            records.retain(|record| record.id.to_string() != message);
            tracing::error!(
                message_id = message,
                error = %StoreError::from(fault),
                "a message is left out of a list: what is kept of it does not read back"
            );
        }
        Ok(records)
    }

    /// What reads back, and what does not, by the message's id.
    async fn read(&self, condition: &str, values: Vec<Value>) -> Result<(Vec<MessageRecord>, Vec<Bad>)> {
        let mut reader = self.reader().await?;
        let mut link = reader.link();
        let sql = format!("{}{condition}", *rows::MESSAGE);
        let (mut records, mut bad, mut counts) = (Vec::new(), Vec::new(), Vec::new());
        for row in link.rows(AssertSqlSafe(sql), values).await? {
            match rows::message(&row).and_then(|record| Ok((record, rows::attempts_of(&row)?))) {
                Ok((record, attempts)) => {
                    counts.push((record.id, attempts));
                    records.push(record);
                }
                Err(fault) => bad.push((row.text(0)?, fault)),
            }
        }
        complete(&mut link, &mut records, &mut bad).await?;
        for (record, (id, attempts)) in records.iter().zip(counts) {
            if record.attempts.len() < attempts && bad.iter().all(|(known, _)| *known != id.to_string()) {
                bad.push((
                    id.to_string(),
                    Fault::Corrupt("a message whose attempts are not all there".into()),
                ));
            }
        }
        Ok((records, bad))
    }
}

/// A message that does not read back.
type Bad = (String, Fault);

/// Reads what happened to each message. It is read after the message itself, so that it is never older.
async fn complete(
    link: &mut Link<'_>,
    records: &mut [MessageRecord],
    bad: &mut Vec<Bad>,
) -> Result<(), Fault> {
    let ids: Vec<MessageId> = records.iter().map(|record| record.id).collect();
    let place: HashMap<MessageId, usize> = ids.iter().enumerate().map(|(at, id)| (*id, at)).collect();
    let sql = format!("SELECT {} FROM attempts", *rows::ATTEMPT);
    for row in of_messages(link, &sql, &ids, " ORDER BY number").await? {
        match rows::attempt(&row) {
            Ok((id, attempt)) => {
                if let Some(at) = place.get(&id) {
                    records[*at].attempts.push(attempt);
                }
            }
            Err(fault) => bad.push((row.text(0)?, fault)),
        }
    }
    let sql = format!("SELECT {} FROM events", rows::EVENT);
    for row in of_messages(link, &sql, &ids, " ORDER BY seq").await? {
        match rows::event(&row) {
            Ok((id, event)) => {
                if let Some(at) = place.get(&id) {
                    records[*at].timeline.push(event);
                }
            }
            Err(fault) => bad.push((row.text(0)?, fault)),
        }
    }
    for record in records {
        with_known_events(record);
    }
    Ok(())
}

/// Acceptance and the starts of attempts have rows of their own; the timeline shows them in their places.
fn with_known_events(record: &mut MessageRecord) {
    let mut timeline = vec![TimelineEvent { at: record.accepted_at, event: "accepted".into(), detail: None }];
    timeline.extend(record.attempts.iter().map(|attempt| TimelineEvent {
        at: attempt.started_at,
        event: "attempt".into(),
        detail: Some(format!("{} by {}", attempt.channel, attempt.driver)),
    }));
    timeline.append(&mut record.timeline);
    // Stable: of two things in one millisecond the attempt began before it was settled.
    timeline.sort_by_key(|event| event.at);
    record.timeline = timeline;
}

struct Cancel {
    tenant: TenantId,
    id: MessageId,
    now: DateTime<Utc>,
}

impl Operation for Cancel {
    type Answer = Option<Cancelled>;

    async fn apply(&self, link: &mut Link<'_>) -> Result<Option<Cancelled>, Fault> {
        super::acts::cancel(link, Some(&self.tenant), self.id, None, self.now).await
    }
}
