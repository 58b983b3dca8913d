//! Figures as they are asked for: sums of counters over days, and the alerts of budgets.
//!
//! It reads the counters and never the messages, so that a figure costs the same however many there are.

use std::collections::BTreeMap;

use async_trait::async_trait;
use chrono::{DateTime, NaiveDate, Utc};
use sqlx::AssertSqlSafe;

use super::{
    Result, SqlStore,
    database::{Fault, Link, Row, Value, placeholders, values},
    jobs::Operation,
    rows,
};
use crate::domain::{channel::Channel, figures::Counts, ids::TenantId, message::Origin, money::MicroEuros};

/// What figures can be told apart by, beside the channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Day,
    Kind,
    Template,
    Campaign,
    Variant,
}

impl Dimension {
    const fn column(self) -> &'static str {
        match self {
            Dimension::Day => "day",
            Dimension::Kind => "kind",
            Dimension::Template => "template",
            Dimension::Campaign => "campaign",
            Dimension::Variant => "variant",
        }
    }
}

/// Which figures.
#[derive(Clone, Debug)]
pub struct FiguresAsked {
    pub tenant: TenantId,
    /// Days of the tenant's zone, both included.
    pub from: NaiveDate,
    pub to: NaiveDate,
    pub channel: Option<Channel>,
    /// Only what has these values; an empty text stands for none.
    pub only: Vec<(Dimension, String)>,
    pub by: Vec<Dimension>,
}

/// The counts of one channel in one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Figures {
    /// A value for each of `FiguresAsked::by`; empty: none.
    pub group: Vec<String>,
    /// None: of messages for which no channel could be chosen.
    pub channel: Option<Channel>,
    pub counts: Counts,
}

/// A budget that came to its alert threshold, told once for each period.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Alert {
    pub tenant: TenantId,
    /// `daily`, `monthly`, `daily/public`, `monthly/campaign`, `daily/sms` ...
    pub scope: String,
    /// `2025-11-14` or `2025-11`, in the tenant's zone.
    pub period: String,
    /// What was spent when it was noticed.
    pub spent: MicroEuros,
    pub budget: MicroEuros,
    pub at: DateTime<Utc>,
}

/// What a tenant spent on one day with one channel and origin.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DaySpend {
    pub day: String,
    pub channel: Channel,
    pub origin: Origin,
    pub amount: MicroEuros,
}

#[async_trait]
pub trait Numbers: Send + Sync {
    async fn figures(&self, asked: &FiguresAsked) -> Result<Vec<Figures>>;
    /// What each of these tenants spent, by day, from a day on; days are the tenants' own.
    async fn spent_since(&self, tenants: &[TenantId], from: NaiveDate) -> Result<Vec<(TenantId, DaySpend)>>;
    /// Keeps an alert; false where this scope and period had one.
    async fn raise_alert(&self, alert: &Alert) -> Result<bool>;
    /// A tenant's alerts of some periods, the latest first.
    async fn alerts(&self, tenant: &TenantId, periods: &[String]) -> Result<Vec<Alert>>;
}

#[async_trait]
impl Numbers for SqlStore {
    async fn figures(&self, asked: &FiguresAsked) -> Result<Vec<Figures>> {
        let columns: Vec<&str> = asked.by.iter().map(|d| d.column()).collect();
        let mut keys = columns;
        keys.extend(["channel", "counter"]);
        let keys = keys.join(", ");
        let mut condition = "tenant = $1 AND day >= $2 AND day <= $3".to_owned();
        let mut values = values![&asked.tenant, asked.from, asked.to];
        let mut only = |column: &str, value: Value| {
            values.push(value);
            condition.push_str(&format!(" AND {column} = ${}", values.len()));
        };
        if let Some(channel) = asked.channel {
            only("channel", channel.into());
        }
        for (dimension, value) in &asked.only {
            only(dimension.column(), value.as_str().into());
        }
        let sql = format!(
            "SELECT CAST(SUM(value) AS BIGINT), {keys} FROM counters WHERE {condition} \
             GROUP BY {keys} ORDER BY {keys}"
        );
        let mut reader = self.reader().await?;
        let rows = reader.link().rows(AssertSqlSafe(sql), values).await?;
        Ok(gather(&rows, asked.by.len())?)
    }

    async fn spent_since(&self, tenants: &[TenantId], from: NaiveDate) -> Result<Vec<(TenantId, DaySpend)>> {
        let Some(last) = tenants.last() else { return Ok(Vec::new()) };
        let count = tenants.len().next_power_of_two();
        let sql = format!(
            "SELECT tenant, day, channel, origin, micro_euros FROM spend WHERE day >= $1 AND tenant IN ({})",
            placeholders(2, count)
        );
        let mut values = values![from];
        values.extend(tenants.iter().map(Value::from));
        values.extend(std::iter::repeat_n(last, count - tenants.len()).map(Value::from));
        let mut reader = self.reader().await?;
        let rows = reader.link().rows(AssertSqlSafe(sql), values).await?;
        Ok(rows.iter().map(day_spend).collect::<Result<_, Fault>>()?)
    }

    async fn raise_alert(&self, alert: &Alert) -> Result<bool> {
        self.writer()?.run(Raise(alert.clone())).await
    }

    async fn alerts(&self, tenant: &TenantId, periods: &[String]) -> Result<Vec<Alert>> {
        if periods.is_empty() {
            return Ok(Vec::new());
        }
        let sql = format!(
            "SELECT tenant, scope, period, spent, budget, at FROM alerts \
             WHERE tenant = $1 AND period IN ({}) ORDER BY at DESC, scope",
            placeholders(2, periods.len())
        );
        let mut values = values![tenant];
        values.extend(periods.iter().map(|period| Value::from(period.as_str())));
        let mut reader = self.reader().await?;
        let rows = reader.link().rows(AssertSqlSafe(sql), values).await?;
        Ok(rows.iter().map(alert).collect::<Result<_, Fault>>()?)
    }
}

fn gather(rows: &[Row], width: usize) -> Result<Vec<Figures>, Fault> {
    let mut found: BTreeMap<(Vec<String>, Option<Channel>), Counts> = BTreeMap::new();
    for row in rows {
        let group = (0..width).map(|at| row.text(1 + at)).collect::<Result<Vec<_>, Fault>>()?;
        let channel = match row.text(1 + width)?.as_str() {
            "" => None,
            word => Some(rows::channel(word)?),
        };
        let counts = found.entry((group, channel)).or_default();
        counts.0.insert(row.text(2 + width)?, row.int(0)?);
    }
    Ok(found.into_iter().map(|((group, channel), counts)| Figures { group, channel, counts }).collect())
}

fn day_spend(row: &Row) -> Result<(TenantId, DaySpend), Fault> {
    let origin = Origin::parse(&row.text(3)?).ok_or_else(|| Fault::Corrupt("an origin".into()))?;
    let spend = DaySpend {
        day: row.text(1)?,
        channel: rows::channel(&row.text(2)?)?,
        origin,
        amount: MicroEuros(row.int(4)?),
    };
    Ok((rows::parsed(row.text(0)?, TenantId::parse)?, spend))
}

fn alert(row: &Row) -> Result<Alert, Fault> {
    Ok(Alert {
        tenant: rows::parsed(row.text(0)?, TenantId::parse)?,
        scope: row.text(1)?,
        period: row.text(2)?,
        spent: MicroEuros(row.int(3)?),
        budget: MicroEuros(row.int(4)?),
        at: rows::instant(row.int(5)?)?,
    })
}

struct Raise(Alert);

impl Operation for Raise {
    type Answer = bool;

    async fn apply(&self, link: &mut Link<'_>) -> Result<bool, Fault> {
        let alert = &self.0;
        let sql = "INSERT INTO alerts (tenant, scope, period, spent, budget, at) VALUES ($1, $2, $3, $4, $5, $6) \
                   ON CONFLICT (tenant, scope, period) DO NOTHING";
        let values = values![
            &alert.tenant,
            alert.scope.as_str(),
            alert.period.as_str(),
            alert.spent,
            alert.budget,
            alert.at
        ];
        Ok(link.run(sql, values).await? > 0)
    }
}
