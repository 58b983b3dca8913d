//! What an intent may not pass: the price of one message, the tenant's budgets, how often a person may be written to.
//!
//! Read and judged in the transaction that records the intent, so that two intents at once cannot overshoot what one
//! alone may not (reliability.md P7, I14). What is done where a limit is reached is not decided here.

use chrono::{DateTime, NaiveDate, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Intent, attempts,
    database::{Fault, Link, values},
};
use crate::domain::{
    channel::Channel,
    ids::{MessageId, TenantId},
    message::{MessageKind, Origin},
    money::MicroEuros,
};

/// The limits in force when an intent is recorded; none where a field is empty.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IntentLimits {
    /// For the message itself.
    pub message_max: Option<MicroEuros>,
    /// The tenant's, on its local day and in its local month.
    pub daily: Option<MicroEuros>,
    pub monthly: Option<MicroEuros>,
    /// Of the channel, and of messages of the same origin.
    pub channel_daily: Option<MicroEuros>,
    pub origin_daily: Option<MicroEuros>,
    pub origin_monthly: Option<MicroEuros>,
    /// How often the person may be written to.
    pub caps: Vec<PersonCap>,
}

/// At most so many messages to one person since a moment.
#[derive(Clone, Debug, PartialEq)]
pub struct PersonCap {
    /// Messages of this kind alone; none: of every kind.
    pub kind: Option<MessageKind>,
    pub since: DateTime<Utc>,
    pub most: u32,
    /// What it is called, in words: `2 marketing messages a week`.
    pub words: String,
}

impl IntentLimits {
    fn has_budget(&self) -> bool {
        [self.daily, self.monthly, self.channel_daily, self.origin_daily, self.origin_monthly]
            .iter()
            .any(Option::is_some)
    }

    fn is_by_month(&self) -> bool {
        self.monthly.or(self.origin_monthly).is_some()
    }
}

/// Whose money and whose patience an intent would use.
pub(super) struct Bearer<'a> {
    pub(super) message: MessageId,
    pub(super) tenant: &'a TenantId,
    pub(super) recipient: &'a str,
    pub(super) origin: Origin,
    pub(super) channel: Channel,
    pub(super) day: NaiveDate,
    pub(super) cost: MicroEuros,
}

/// The first limit that the intent would pass.
pub(super) async fn reached(
    link: &mut Link<'_>,
    bearer: &Bearer<'_>,
    limits: &IntentLimits,
) -> Result<Option<Intent>, Fault> {
    let cost = bearer.cost;
    if let Some(most) = limits.message_max.filter(|most| cost > *most) {
        return Ok(Some(Intent::TooDear(format!("{cost} EUR, limit {most}"))));
    }
    if (limits.has_budget() || !limits.caps.is_empty()) && link.locks_rows() {
        // With several writers, sums that were read must not change before the intent is committed.
        let sql = "SELECT pg_advisory_xact_lock(hashtextextended('limits of ' || $1, 0))";
        link.rows(sql, values![bearer.tenant]).await?;
    }
    for cap in &limits.caps {
        let made = written_to(link, bearer, cap).await?;
        if made >= i64::from(cap.most) {
            return Ok(Some(Intent::TooOften(format!(
                "the person was written to {made} times: {}",
                cap.words
            ))));
        }
    }
    if limits.has_budget() { over_budget(link, bearer, limits).await } else { Ok(None) }
}

/// How many other messages went, or may have gone, to this person since then.
async fn written_to(link: &mut Link<'_>, bearer: &Bearer<'_>, cap: &PersonCap) -> Result<i64, Fault> {
    let mut sql = "SELECT COUNT(*) FROM messages m WHERE m.tenant = $1 AND m.recipient = $2 AND m.id <> $3 \
                   AND EXISTS (SELECT 1 FROM attempts a WHERE a.message_id = m.id AND a.started_at > $4 \
                   AND a.status IN ('intent', 'accepted', 'unknown'))"
        .to_owned();
    let mut values = values![bearer.tenant, bearer.recipient, bearer.message, cap.since];
    if let Some(kind) = cap.kind {
        sql.push_str(" AND m.kind = $5");
        values.push(kind.as_str().into());
    }
    let row = link.row(AssertSqlSafe(sql), values).await?;
    Ok(row.map(|row| row.int(0)).transpose()?.unwrap_or(0))
}

async fn over_budget(
    link: &mut Link<'_>,
    bearer: &Bearer<'_>,
    limits: &IntentLimits,
) -> Result<Option<Intent>, Fault> {
    // What others of this transaction spent counts too.
    attempts::write_spend(link).await?;
    let today = bearer.day.format("%Y-%m-%d").to_string();
    let from = if limits.is_by_month() { format!("{}01", &today[..today.len() - 2]) } else { today.clone() };
    let sql = "SELECT CAST(COALESCE(SUM(CASE WHEN day = $3 THEN micro_euros END), 0) AS BIGINT), \
               CAST(COALESCE(SUM(micro_euros), 0) AS BIGINT), \
               CAST(COALESCE(SUM(CASE WHEN day = $3 AND channel = $4 THEN micro_euros END), 0) AS BIGINT), \
               CAST(COALESCE(SUM(CASE WHEN day = $3 AND origin = $5 THEN micro_euros END), 0) AS BIGINT), \
               CAST(COALESCE(SUM(CASE WHEN origin = $5 THEN micro_euros END), 0) AS BIGINT) \
               FROM spend WHERE tenant = $1 AND day >= $2 AND day <= $3";
    let origin = bearer.origin.as_str();
    let row = link.row(sql, values![bearer.tenant, from, today, bearer.channel, origin]).await?;
    let Some(row) = row else { return Ok(None) };
    let of_origin = |period: &str| format!("{period} budget of {}", bearer.origin);
    // Whether it is a matter of months, and whether waiting for the next period is worth anything.
    let rules = [
        ("daily cap of the channel".to_owned(), limits.channel_daily, 2, false, false),
        ("daily budget".to_owned(), limits.daily, 0, false, true),
        ("monthly budget".to_owned(), limits.monthly, 1, true, true),
        (of_origin("daily"), limits.origin_daily, 3, false, true),
        (of_origin("monthly"), limits.origin_monthly, 4, true, true),
    ];
    for (name, limit, column, monthly, waits) in rules {
        let (Some(limit), spent) = (limit, MicroEuros(row.int(column)?)) else { continue };
        if spent + bearer.cost > limit {
            let cost = bearer.cost;
            let reason = format!("{name} used up: {spent} of {limit} EUR spent, this message costs {cost}");
            return Ok(Some(Intent::OverBudget { reason, monthly, waits }));
        }
    }
    Ok(None)
}
