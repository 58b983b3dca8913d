//! How many messages a person has had lately, for the caps that a tenant sets.
//!
//! It counts; whether one more is too many is `policy::settings::CapsPolicy`'s to say.

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};

use super::{
    Result, SqlStore,
    database::{Fault, Row, values},
};
use crate::domain::{
    facts::SentLately,
    ids::{RecipientId, TenantId},
    message::MessageKind,
};

pub(super) const DAY: TimeDelta = TimeDelta::hours(24);
pub(super) const WEEK: TimeDelta = TimeDelta::days(7);

#[async_trait]
pub trait Caps: Send + Sync {
    /// Messages to this person that were sent or are on their way, by the moment of their acceptance.
    async fn sent_lately(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        kind: Option<MessageKind>,
        now: DateTime<Utc>,
    ) -> Result<SentLately>;
}

#[async_trait]
impl Caps for SqlStore {
    async fn sent_lately(
        &self,
        tenant: &TenantId,
        recipient: &RecipientId,
        kind: Option<MessageKind>,
        now: DateTime<Utc>,
    ) -> Result<SentLately> {
        let (day, week) = ((now - DAY).timestamp_millis(), (now - WEEK).timestamp_millis());
        if let Some(sent) = self.person(tenant, recipient, now, |who| who.lately(kind, day, week)).await? {
            return Ok(sent);
        }
        let mut reader = self.reader().await?;
        let sql = "SELECT COUNT(*), COALESCE(SUM(CASE WHEN accepted_at > $5 THEN 1 ELSE 0 END), 0), \
                   COALESCE(SUM(CASE WHEN kind = $3 THEN 1 ELSE 0 END), 0), \
                   COALESCE(SUM(CASE WHEN kind = $3 AND accepted_at > $5 THEN 1 ELSE 0 END), 0) \
                   FROM messages WHERE tenant = $1 AND recipient = $2 AND accepted_at > $4 \
                   AND status NOT IN ('failed', 'expired', 'skipped', 'cancelled', 'quarantined')";
        let values = values![tenant, recipient.as_str(), word(kind), now - WEEK, now - DAY];
        Ok(sent(reader.link().row(sql, values).await?)?)
    }
}

fn word(kind: Option<MessageKind>) -> &'static str {
    kind.map_or("", MessageKind::as_str)
}

fn sent(row: Option<Row>) -> Result<SentLately, Fault> {
    let Some(row) = row else { return Ok(SentLately::default()) };
    let count = |at| row.int(at).map(|n| u32::try_from(n).unwrap_or(u32::MAX));
    Ok(SentLately { week: count(0)?, day: count(1)?, type_week: count(2)?, type_day: count(3)? })
}
