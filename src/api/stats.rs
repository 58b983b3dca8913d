//! `/v1/tenants/{tenant}/stats`: what every channel came to, from the counters (spec.md section 9).
//!
//! What a channel cannot tell is null, never 0. It reads no message: a figure costs the same however many there
//! are.

use std::{collections::BTreeMap, sync::Arc};

use axum::{
    Json,
    extract::{Path, Query, State},
};
use chrono::{DateTime, Days, NaiveDate, Utc};
use chrono_tz::Tz;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    Api,
    auth::Caller,
    policies::tenant_of,
    problem::{Problem, ProblemBody},
};
use crate::{
    domain::{
        channel::{Channel, PerChannel},
        figures::{self, Counts, Mark, channel_tells, rate},
        ids::TenantId,
        message::MessageKind,
        money::MicroEuros,
    },
    policy::settings::TenantPolicy,
    request::Fault,
    store::{Alert, Dimension, Figures, FiguresAsked, Numbers, StoreError},
};

/// Days up to today where the caller names none.
const DAYS_DEFAULT: u64 = 30;
/// Groups of one answer.
const GROUPS_MAX: usize = 10_000;

/// What every channel of a tenant came to. Everything about a message counts on the day on which it was first
/// tried on that channel, money on the day on which it was spent.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatsAnswer {
    pub tenant_id: String,
    /// The first and the last day, both included, in `timezone`.
    #[schema(example = "2025-11-01")]
    pub from: String,
    #[schema(example = "2025-11-30")]
    pub to: String,
    #[schema(example = "Europe/Paris")]
    pub timezone: String,
    pub channels: Vec<ChannelStats>,
    pub totals: Totals,
    /// With `by` only: the same, apart.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub groups: Option<Vec<StatsGroup>>,
    /// Budgets that came to their alert threshold today or this month.
    pub budget_alerts: Vec<BudgetAlert>,
}

/// One channel. Rates are shares of what was delivered, or of what was sent where the channel does not tell what
/// was delivered; null where it cannot tell, and where there is nothing to take a share of.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct ChannelStats {
    pub channel: Channel,
    /// Messages for which it was chosen when they were accepted.
    pub chosen: i64,
    /// Messages that a provider took.
    pub sent: i64,
    pub delivered: Option<i64>,
    pub opened: Option<i64>,
    pub clicked: Option<i64>,
    pub replied: Option<i64>,
    pub converted: Option<i64>,
    pub unsubscribed: Option<i64>,
    /// Messages that failed here, whatever another channel did then.
    pub failed: i64,
    /// Attempts that a provider refused.
    pub refused: i64,
    pub expired: i64,
    pub skipped: i64,
    /// Of what was sent.
    pub delivery_rate: Option<f64>,
    pub open_rate: Option<f64>,
    pub click_rate: Option<f64>,
    pub response_rate: Option<f64>,
    /// Euros, for everything tried here.
    pub cost: f64,
    /// Euros for each message sent.
    pub avg_cost: Option<f64>,
    pub cost_per_conversion: Option<f64>,
    /// Seconds from handing off to delivery.
    pub avg_delivery_time: Option<f64>,
    /// Half, and 95 in 100, arrived within so many seconds: estimated, from buckets of a factor of 1.4.
    pub delivery_time_p50: Option<f64>,
    pub delivery_time_p95: Option<f64>,
    /// SMS only.
    pub segments: Option<i64>,
    /// Euros that the messages sent here would have cost by SMS, beyond what they did cost.
    pub saved: f64,
    /// By prefetchers and scanners: in no rate.
    pub machine_opened: Option<i64>,
    pub machine_clicked: Option<i64>,
}

/// Every channel together, and what no channel took.
#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct Totals {
    pub accepted: i64,
    /// By channel: a message sent by two channels counts for both.
    pub sent: i64,
    pub failed: i64,
    pub expired: i64,
    /// No channel might be used, or a gate closed before it was sent.
    pub skipped: i64,
    /// Euros.
    pub cost: f64,
    /// Euros that everything sent would have cost by SMS, estimated when each message was accepted.
    pub always_sms_cost: f64,
    pub saved: f64,
    /// `saved` as a share of `alwaysSmsCost`.
    pub saved_share: Option<f64>,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct StatsGroup {
    /// The value of each dimension asked for; null: none.
    pub by: BTreeMap<String, Option<String>>,
    pub channels: Vec<ChannelStats>,
    pub totals: Totals,
}

#[derive(Clone, Debug, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "camelCase")]
pub struct BudgetAlert {
    /// `daily`, `monthly`, and with an origin or a channel `daily/public`, `daily/sms`.
    #[schema(example = "daily/public")]
    pub scope: String,
    #[schema(example = "2025-11-14")]
    pub period: String,
    /// Euros, when it was noticed.
    pub spent: f64,
    pub budget: f64,
    pub at: DateTime<Utc>,
}

/// What every channel of a tenant came to.
#[utoipa::path(
    get, path = "/v1/tenants/{tenant}/stats", tag = "numbers", operation_id = "channelStats",
    params(
        ("tenant" = String, Path, description = "The tenant's id"),
        ("from" = Option<String>, Query, description = "The first day (YYYY-MM-DD, in the tenant's zone); 30 days up to `to` unless said otherwise"),
        ("to" = Option<String>, Query, description = "The last day; today unless said otherwise"),
        ("channel" = Option<Channel>, Query, description = "One channel's only"),
        ("type" = Option<String>, Query, description = "One messageType's only; `none` for messages without"),
        ("template" = Option<String>, Query, description = "One template's only; `none` for messages without"),
        ("campaign" = Option<String>, Query, description = "One campaign's or broadcast's (`bc_...`) only; `none` for messages without"),
        ("variant" = Option<String>, Query, description = "One variant's only; `none` for messages without"),
        ("by" = Option<String>, Query, description = "Apart by `day`, `type`, `template`, `campaign`, `variant`; up to two, with a comma between"),
    ),
    responses(
        (status = 200, description = "The figures", body = StatsAnswer),
        (status = 404, description = "No such tenant", body = ProblemBody, content_type = "application/problem+json"),
        (status = 422, description = "A parameter has a fault", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn show(
    State(api): State<Arc<Api>>,
    caller: Caller,
    Path(tenant): Path<String>,
    Query(query): Query<Vec<(String, String)>>,
) -> Result<Json<StatsAnswer>, Problem> {
    let tenant = tenant_of(&caller, &tenant)?;
    let generation = api.orchestrator.policies.current();
    let bundle = generation.tenant(&tenant).ok_or_else(|| Problem::unknown_tenant(&tenant))?;
    let terms = Terms { hears: api.settings.hears, ..Terms::of(bundle.policy()) };
    let now = api.orchestrator.clock.now();
    let asked = read(&tenant, &query, &terms, now).map_err(Problem::faults)?;
    let answer = answer(&*api.orchestrator.store, &asked, &terms, now).await?;
    answer.map(Json).map_err(Problem::faults)
}

/// What figures depend on of a tenant's policy.
#[derive(Clone, Debug)]
pub struct Terms {
    pub time_zone: Tz,
    /// Whether the tenant wants to know what became of messages there (`channels.NAME.tracking`).
    pub tracking: PerChannel<bool>,
    /// Whether opens, clicks and answers are recorded.
    pub engagement: bool,
    /// Whether there is a public URL for providers and mails to tell it to.
    pub hears: bool,
}

impl Terms {
    pub fn of(policy: &TenantPolicy) -> Self {
        Self {
            time_zone: policy.time_zone,
            tracking: PerChannel::from_fn(|channel| policy.channels[channel].tracking),
            engagement: policy.learning.track_engagement,
            hears: true,
        }
    }

    /// Where the policy cannot be read.
    pub fn unknown() -> Self {
        Self { time_zone: Tz::UTC, tracking: PerChannel::from_fn(|_| true), engagement: true, hears: true }
    }
}

/// Reads the parameters, or names everything that is wrong with them.
pub fn read(
    tenant: &TenantId,
    query: &[(String, String)],
    terms: &Terms,
    now: DateTime<Utc>,
) -> Result<FiguresAsked, Vec<Fault>> {
    let (mut from, mut to, mut faults) = (None, None, Vec::new());
    let mut asked = FiguresAsked {
        tenant: tenant.clone(),
        from: NaiveDate::MIN,
        to: now.with_timezone(&terms.time_zone).date_naive(),
        channel: None,
        only: Vec::new(),
        by: Vec::new(),
    };
    for (name, value) in query {
        let taken = match name.as_str() {
            "from" => day(value).map(|day| from = Some(day)),
            "to" => day(value).map(|day| to = Some(day)),
            "channel" => Channel::parse(value)
                .map(|channel| asked.channel = Some(channel))
                .ok_or_else(|| "expected sms, email, whatsapp or telegram".to_owned()),
            "by" => groups(value).map(|by| asked.by = by),
            "type" if value != "none" && MessageKind::parse(value).is_none() => {
                let words: Vec<&str> = MessageKind::ALL.iter().map(|kind| kind.as_str()).collect();
                Err(format!("expected one of {}, or none", words.join(", ")))
            }
            other => match dimension(other).filter(|d| *d != Dimension::Day) {
                Some(dimension) => {
                    let value = if value == "none" { "" } else { value };
                    asked.only.push((dimension, value.to_owned()));
                    Ok(())
                }
                None => {
                    Err("unknown parameter; expected from, to, channel, type, template, campaign, variant \
                             or by"
                        .to_owned())
                }
            },
        };
        if let Err(detail) = taken {
            let name: String = name.chars().take(80).collect();
            faults.push(Fault { pointer: format!("?{name}"), detail, hint: None });
        }
    }
    asked.to = to.unwrap_or(asked.to);
    let month = asked.to.checked_sub_days(Days::new(DAYS_DEFAULT - 1)).unwrap_or(asked.to);
    asked.from = from.unwrap_or(month);
    if asked.from > asked.to {
        let detail = format!("{} is after {}, the last day", asked.from, asked.to);
        faults.push(Fault { pointer: "?from".to_owned(), detail, hint: None });
    }
    if faults.is_empty() { Ok(asked) } else { Err(faults) }
}

fn day(text: &str) -> Result<NaiveDate, String> {
    let shaped = text.len() == 10;
    shaped
        .then(|| NaiveDate::parse_from_str(text, "%Y-%m-%d").ok())
        .flatten()
        .ok_or_else(|| "expected a day, such as 2025-11-14".to_owned())
}

const DIMENSIONS: [(&str, Dimension); 5] = [
    ("day", Dimension::Day),
    ("type", Dimension::Kind),
    ("template", Dimension::Template),
    ("campaign", Dimension::Campaign),
    ("variant", Dimension::Variant),
];

fn dimension(name: &str) -> Option<Dimension> {
    DIMENSIONS.iter().find(|(known, _)| *known == name).map(|(_, dimension)| *dimension)
}

fn groups(text: &str) -> Result<Vec<Dimension>, String> {
    let found: Option<Vec<Dimension>> = text.split(',').map(dimension).collect();
    match found {
        Some(by) if by.len() == 1 || (by.len() == 2 && by[0] != by[1]) => Ok(by),
        _ => Err("expected one or two of day, type, template, campaign, variant".to_owned()),
    }
}

/// The figures, or why they are too many.
pub async fn answer(
    store: &(impl Numbers + ?Sized),
    asked: &FiguresAsked,
    terms: &Terms,
    now: DateTime<Utc>,
) -> Result<Result<StatsAnswer, Vec<Fault>>, StoreError> {
    let found = store.figures(asked).await?;
    let today = now.with_timezone(&terms.time_zone).date_naive();
    let periods = ["%Y-%m-%d", "%Y-%m"].map(|form| today.format(form).to_string());
    let alerts = store.alerts(&asked.tenant, &periods).await?;
    let mut whole: Apart = BTreeMap::new();
    let mut groups: BTreeMap<Vec<String>, Apart> = BTreeMap::new();
    for Figures { group, channel, counts } in found {
        whole.entry(channel).or_default().add(&counts);
        groups.entry(group).or_default().entry(channel).or_default().add(&counts);
    }
    if groups.len() > GROUPS_MAX {
        let detail =
            format!("{} groups, at most {GROUPS_MAX}: ask for fewer days, or for one value", groups.len());
        return Ok(Err(vec![Fault { pointer: "?by".to_owned(), detail, hint: None }]));
    }
    let names = asked.by.iter().filter_map(|d| DIMENSIONS.iter().find(|(_, known)| known == d));
    let names: Vec<&str> = names.map(|(name, _)| *name).collect();
    let groups = groups.into_iter().map(|(values, apart)| {
        let values = values.into_iter().map(|value| Some(value).filter(|v| !v.is_empty()));
        let by = names.iter().map(|name| (*name).to_owned()).zip(values).collect();
        StatsGroup { by, channels: channels(&apart, asked.channel, terms), totals: totals(&apart) }
    });
    Ok(Ok(StatsAnswer {
        tenant_id: asked.tenant.to_string(),
        from: asked.from.to_string(),
        to: asked.to.to_string(),
        timezone: terms.time_zone.name().to_owned(),
        channels: channels(&whole, asked.channel, terms),
        totals: totals(&whole),
        groups: (!names.is_empty()).then(|| groups.collect()),
        budget_alerts: alerts.iter().map(BudgetAlert::new).collect(),
    }))
}

type Apart = BTreeMap<Option<Channel>, Counts>;

impl BudgetAlert {
    fn new(alert: &Alert) -> Self {
        Self {
            scope: alert.scope.clone(),
            period: alert.period.clone(),
            spent: alert.spent.euros(),
            budget: alert.budget.euros(),
            at: alert.at,
        }
    }
}

fn channels(apart: &Apart, only: Option<Channel>, terms: &Terms) -> Vec<ChannelStats> {
    let none = Counts::default();
    let shown = Channel::ALL.into_iter().filter(|channel| only.is_none_or(|only| only == *channel));
    shown.map(|c| ChannelStats::new(c, apart.get(&Some(c)).unwrap_or(&none), terms)).collect()
}

fn totals(apart: &Apart) -> Totals {
    let mut all = Counts::default();
    apart.values().for_each(|counts| all.add(counts));
    let (cost, always_sms) = (all.get(figures::COST), all.get(figures::ALWAYS_SMS));
    Totals {
        accepted: all.get(figures::ACCEPTED),
        sent: all.of(Mark::Sent),
        failed: all.of(Mark::Failed),
        expired: all.of(Mark::Expired),
        skipped: all.of(Mark::Skipped),
        cost: MicroEuros(cost).euros(),
        always_sms_cost: MicroEuros(always_sms).euros(),
        saved: MicroEuros(always_sms - cost).euros(),
        saved_share: rate(always_sms - cost, always_sms).map(rounded),
    }
}

impl ChannelStats {
    fn new(channel: Channel, counts: &Counts, terms: &Terms) -> Self {
        let tracked = terms.tracking[channel];
        // Answers and conversions can be told by `POST /v1/events`; the rest comes by the public URL or not at all.
        let by_url = |mark: Mark| !matches!(mark, Mark::Replied | Mark::Converted);
        let can = |mark: Mark| terms.hears || !by_url(mark);
        let told = |mark: Mark, wanted: bool| counts.told(channel, mark, tracked && wanted && can(mark));
        let engaged = |mark: Mark| told(mark, terms.engagement);
        let (sent, cost) = (counts.of(Mark::Sent), counts.get(figures::COST));
        let delivered = told(Mark::Delivered, true);
        let base = match delivered {
            Some(delivered) if tracked && terms.hears && channel_tells(channel, Mark::Delivered) => delivered,
            _ => sent,
        };
        let share = |part: Option<i64>, whole: i64| part.and_then(|part| rate(part, whole)).map(rounded);
        let euros_each = |whole: i64| rate(cost, whole).map(|each| rounded(each / 1e6));
        let (opened, clicked, replied) =
            (engaged(Mark::Opened), engaged(Mark::Clicked), engaged(Mark::Replied));
        Self {
            channel,
            chosen: counts.get(figures::DECIDED),
            sent,
            delivered,
            opened,
            clicked,
            replied,
            converted: engaged(Mark::Converted),
            unsubscribed: engaged(Mark::Unsubscribed),
            failed: counts.of(Mark::Failed),
            refused: counts.get(figures::REFUSED),
            expired: counts.of(Mark::Expired),
            skipped: counts.of(Mark::Skipped),
            delivery_rate: share(delivered, sent),
            open_rate: share(opened, base),
            click_rate: share(clicked, base),
            response_rate: share(replied, base),
            cost: MicroEuros(cost).euros(),
            avg_cost: euros_each(sent),
            cost_per_conversion: euros_each(counts.of(Mark::Converted)),
            avg_delivery_time: counts.mean_seconds().map(rounded),
            delivery_time_p50: counts.percentile_seconds(0.5).map(rounded),
            delivery_time_p95: counts.percentile_seconds(0.95).map(rounded),
            segments: (channel == Channel::Sms).then(|| counts.get(figures::SEGMENTS)),
            saved: MicroEuros(counts.get(figures::ALWAYS_SMS) - cost).euros(),
            machine_opened: engaged(Mark::MachineOpened),
            machine_clicked: engaged(Mark::MachineClicked),
        }
    }
}

/// To six decimals, as money is.
fn rounded(number: f64) -> f64 {
    (number * 1e6).round() / 1e6
}
