//! `stats`: what every channel of a tenant came to; from the daemon, or from the database of one that is stopped.
//!
//! Where a channel cannot tell something it says n/a, never 0.

use std::time::Duration;

use super::{
    arguments::StatsArguments,
    client::{Client, ClientError},
    layout::fit,
    outcome::{Answer, Failure},
    policies::{checked, refused, understood},
    send,
};
use crate::{
    api::stats::{self, ChannelStats, StatsAnswer, Terms},
    app,
    bundles::offline::read_folder,
    config::Config,
    domain::{
        ids::TenantId,
        time::{Clock, SystemClock},
    },
    store::StoreError,
};

const PATIENCE: Duration = Duration::from_secs(30);

pub async fn run(config: &Config, arguments: &StatsArguments, json: bool) -> Result<Answer, Failure> {
    let tenant = checked(&arguments.tenant)?;
    let query = parameters(arguments);
    let written: Vec<String> =
        query.iter().map(|(name, value)| format!("{name}={}", escaped(value))).collect();
    let path = format!("/v1/tenants/{tenant}/stats?{}", written.join("&"));
    let answer = match Client::new(&config.socket, PATIENCE).get(&path).await {
        Ok(answer) => answer,
        Err(error @ ClientError::Unreachable { .. }) => {
            return offline(config, &query, tenant, json, error).await;
        }
        Err(error) => return Err(error.into()),
    };
    if !answer.status.is_success() {
        return refused(&answer, json);
    }
    if json {
        send::print_json(&answer);
    } else {
        anstream::print!("{}", in_words(&understood(&answer)?));
    }
    Ok(Answer::Yes)
}

fn parameters(arguments: &StatsArguments) -> Vec<(String, String)> {
    let all = [
        ("from", &arguments.from),
        ("to", &arguments.to),
        ("channel", &arguments.channel),
        ("type", &arguments.kind),
        ("template", &arguments.template),
        ("campaign", &arguments.campaign),
        ("variant", &arguments.variant),
        ("by", &arguments.by),
    ];
    all.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value.clone()?))).collect()
}

/// A value of a query, with everything but letters, digits and `-_.,` in percent signs.
fn escaped(value: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.,".contains(&byte);
    value
        .bytes()
        .map(|byte| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect()
}

/// No daemon answers: its database, as it was left.
async fn offline(
    config: &Config,
    query: &[(String, String)],
    tenant: &str,
    json: bool,
    unreachable: ClientError,
) -> Result<Answer, Failure> {
    let tenant = TenantId::parse(tenant).map_err(|error| Failure::Usage(error.to_string()))?;
    let store = match app::open_database_to_read(&config.database).await {
        Ok(store) => store,
        // Neither a daemon nor a database: the former is what is missing.
        Err(StoreError::Unusable(_)) if no_file(config) => return Err(unreachable.into()),
        Err(error @ (StoreError::Unavailable(_) | StoreError::OutcomeUnknown(_))) => {
            return Err(Failure::TryAgain(error.to_string()));
        }
        Err(error) => return Err(Failure::Unusable(error.to_string())),
    };
    let loaded = read_folder(&config.policies.path, config.policy_environment.clone());
    let bundle = loaded.tenants.get(&tenant).and_then(|judgement| judgement.bundle.as_ref());
    if bundle.is_none() {
        anstream::eprintln!("remark: {tenant}'s policy cannot be read; days are those of UTC");
    }
    let terms = bundle.map_or_else(Terms::unknown, |bundle| Terms::of(bundle.policy()));
    let terms = Terms { hears: config.public.url.is_some(), ..terms };
    let now = SystemClock.now();
    let faults = |faults: Vec<crate::request::Fault>| {
        let words: Vec<String> = faults.iter().map(|f| format!("{}: {}", f.pointer, f.detail)).collect();
        Failure::Usage(words.join("; "))
    };
    let asked = stats::read(&tenant, query, &terms, now).map_err(faults)?;
    let found = stats::answer(&*store, &asked, &terms, now).await.map_err(anyhow::Error::from);
    store.close().await;
    let answer = found?.map_err(faults)?;
    if json {
        println!("{:#}", serde_json::to_value(&answer).map_err(anyhow::Error::from)?);
    } else {
        anstream::print!("{}", in_words(&answer));
    }
    Ok(Answer::Yes)
}

fn no_file(config: &Config) -> bool {
    config.database.strip_prefix("sqlite:").is_some_and(|path| !std::path::Path::new(path).exists())
}

const COLUMNS: [&str; 11] = [
    "channel",
    "sent",
    "delivered",
    "opened",
    "clicked",
    "replied",
    "failed",
    "delivery",
    "open",
    "EUR each",
    "seconds",
];

/// A table for each group, and the whole below.
fn in_words(answer: &StatsAnswer) -> String {
    let mut words = format!("{}, {} to {} ({})\n", answer.tenant_id, answer.from, answer.to, answer.timezone);
    for group in answer.groups.iter().flatten() {
        let by: Vec<String> = group
            .by
            .iter()
            .map(|(name, value)| format!("{name} {}", value.as_deref().unwrap_or("none")))
            .collect();
        words.push_str(&format!("\n{}\n{}", by.join(", "), table(&group.channels)));
    }
    words.push_str(&format!("\n{}", table(&answer.channels)));
    let totals = &answer.totals;
    words.push_str(&format!(
        "\n{} accepted, {} skipped, {} expired; {} EUR spent, {} EUR saved against always SMS{}\n",
        totals.accepted,
        totals.skipped,
        totals.expired,
        totals.cost,
        totals.saved,
        totals.saved_share.map(|share| format!(" ({:.0} %)", share * 100.0)).unwrap_or_default(),
    ));
    for alert in &answer.budget_alerts {
        words.push_str(&format!(
            "budget {} of {}: {} of {} EUR spent\n",
            alert.scope, alert.period, alert.spent, alert.budget
        ));
    }
    words
}

fn table(channels: &[ChannelStats]) -> String {
    let mut lines = vec![COLUMNS.map(str::to_owned)];
    lines.extend(channels.iter().map(|channel| {
        let count = |value: Option<i64>| value.map_or_else(|| "n/a".to_owned(), |n| n.to_string());
        let share =
            |value: Option<f64>| value.map_or_else(|| "n/a".to_owned(), |n| format!("{:.1} %", n * 100.0));
        [
            channel.channel.to_string(),
            channel.sent.to_string(),
            count(channel.delivered),
            count(channel.opened),
            count(channel.clicked),
            count(channel.replied),
            channel.failed.to_string(),
            share(channel.delivery_rate),
            share(channel.open_rate),
            channel.avg_cost.map_or_else(|| "n/a".to_owned(), |euros| euros.to_string()),
            channel.avg_delivery_time.map_or_else(|| "n/a".to_owned(), |s| format!("{s:.1}")),
        ]
    }));
    let width = |at: usize| lines.iter().map(|line| line[at].chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..COLUMNS.len()).map(width).collect();
    lines
        .iter()
        .map(|line| {
            let cells: Vec<String> =
                line.iter().zip(&widths).map(|(cell, width)| fit(cell, *width)).collect();
            format!("{}\n", cells.join("  ").trim_end())
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_carries_any_name() {
        assert_eq!(escaped("RAPPEL_24H"), "RAPPEL_24H");
        assert_eq!(escaped("a&b=é"), "a%26b%3D%C3%A9");
    }
}
