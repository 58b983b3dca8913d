//! `policies`: what the running daemon has in force, since when, and why the files are not.

use std::{fmt::Write as _, time::Duration};

use anstyle::{AnsiColor, Style};
use chrono::{DateTime, Utc};

use super::{
    client::{Answer as HttpAnswer, Client},
    faults, layout,
    outcome::{Answer, Failure},
    send,
};
use crate::{
    bundles::status::{BundleSource, CandidateState, PoliciesStatus, TenantDetail, TenantStatus},
    config::Config,
};

const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// Compiling and testing ten thousand tenants takes its time.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// What the daemon says of all tenants, or of one. `No` where a tenant's files are not in force.
pub async fn show(config: &Config, tenant: Option<&str>, json: bool) -> Result<Answer, Failure> {
    let client = Client::new(&config.socket, PATIENCE);
    let path = match tenant {
        Some(tenant) => format!("/v1/policies/{}", checked(tenant)?),
        None => "/v1/policies".to_owned(),
    };
    let answer = client.get(&path).await?;
    if !answer.status.is_success() {
        return refused(&answer, json);
    }
    if tenant.is_some() {
        let detail: TenantDetail = understood(&answer)?;
        let status = &detail.status;
        print(json, &answer, &format!("{}{}", tenant_in_words(status), closely(&detail)));
        return Ok(if status.candidate.is_none() { Answer::Yes } else { Answer::No });
    }
    let status: PoliciesStatus = understood(&answer)?;
    print(json, &answer, &in_words(&status));
    Ok(if status.ok { Answer::Yes } else { Answer::No })
}

/// Has the daemon read the folder again and tells what came of it.
pub async fn reload(config: &Config, json: bool) -> Result<Answer, Failure> {
    let answer = Client::new(&config.socket, PATIENCE).post("/v1/policies/reload", None, &[]).await?;
    // What came of it carries the status; a refused reload is a problem that carries it too.
    let inner = ["status", "policies"].iter().filter_map(|name| answer.body.get(name));
    let status = inner.into_iter().find(|inner| inner.is_object()).unwrap_or(&answer.body);
    let Ok(status) = serde_json::from_value::<PoliciesStatus>(status.clone()) else {
        return refused(&answer, json);
    };
    print(json, &answer, &in_words(&status));
    Ok(if answer.status.is_success() && status.ok { Answer::Yes } else { Answer::No })
}

pub fn checked(tenant: &str) -> Result<&str, Failure> {
    crate::domain::ids::TenantId::parse(tenant).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(tenant)
}

pub fn understood<T: serde::de::DeserializeOwned>(answer: &HttpAnswer) -> Result<T, Failure> {
    serde_json::from_value(answer.body.clone())
        .map_err(|error| anyhow::anyhow!("the daemon's answer is not understood: {error}").into())
}

pub fn refused(answer: &HttpAnswer, json: bool) -> Result<Answer, Failure> {
    if json {
        send::print_json(answer);
    } else {
        anstream::eprintln!("{}", send::problem(answer));
    }
    Ok(Answer::No)
}

pub fn print(json: bool, answer: &HttpAnswer, words: &str) {
    if json {
        send::print_json(answer);
    } else {
        anstream::print!("{words}");
    }
}

/// Tenants that `serve` names at start; of more than these, only those whose files are not in force.
const NAMED_AT_START: usize = 30;

/// What `serve` says at start.
pub fn at_start(mut status: PoliciesStatus) -> String {
    let all = status.tenants.len();
    if all > NAMED_AT_START {
        status.tenants.retain(|tenant| tenant.candidate.is_some());
    }
    let good = all - status.tenants.len();
    let mut out = in_words(&status);
    if good > 0 {
        let _ = writeln!(out, "{GOOD}ok{GOOD:#} {good} tenants in force as their files stand");
    }
    out
}

/// Every tenant with a line, and under it why its files are not in force.
pub fn in_words(status: &PoliciesStatus) -> String {
    let mut out = format!("policies in {}, generation {}", status.folder, status.generation);
    if status.watch.mode != "off" {
        let _ = write!(out, ", watched by {}", status.watch.mode);
    }
    out.push('\n');
    for tenant in &status.tenants {
        out.push_str(&tenant_in_words(tenant));
    }
    if !status.problems.is_empty() {
        let _ = write!(out, "\n{}", faults::render(&status.problems, layout::width()));
    }
    out
}

/// A line, and under it why the files are not in force.
pub fn tenant_in_words(status: &TenantStatus) -> String {
    let mut out = String::new();
    let name = &status.tenant;
    match (&status.active, &status.candidate) {
        (Some(active), None) => {
            let version: String = active.version.chars().take(12).collect();
            let rolled_back = match active.source {
                BundleSource::Rollback => ", put back by hand: the files differ",
                BundleSource::LastGood => ", the last good: the files are not in force",
                BundleSource::Files => "",
            };
            let (passed, all) = (active.tests.passed, active.tests.passed + active.tests.failed);
            let _ = writeln!(
                out,
                "{GOOD}ok{GOOD:#} {name}: version {version} in force since {}{rolled_back}; {passed} of {all} \
                 tests pass",
                moment(active.since)
            );
        }
        (active, Some(candidate)) => {
            let stays = match active {
                Some(active) => {
                    let version: String = active.version.chars().take(12).collect();
                    format!("version {version} stays in force")
                }
                None => "nothing of it is in force".to_owned(),
            };
            let what = match candidate.state {
                CandidateState::Rejected => "change refused",
                CandidateState::Vanished => "its file is gone",
            };
            let since = moment(candidate.first_seen);
            let _ = writeln!(
                out,
                "{BAD}x{BAD:#}  {name}: {what}, {stays}; seen {since}. Every tenant is judged on its own."
            );
            out.push_str(&faults::render(&candidate.errors, layout::width()));
        }
        (None, None) => {
            let _ = writeln!(out, "{BAD}x{BAD:#}  {name}: nothing of it is in force");
        }
    }
    if !status.warnings.is_empty() {
        out.push_str(&faults::render(&status.warnings, layout::width()));
    }
    out
}

/// The criteria with their weights, and whatever was not left as default.toml has it.
fn closely(detail: &TenantDetail) -> String {
    let mut out = String::new();
    let Some(active) = &detail.status.active else { return out };
    let origin = |key: &str| detail.origins.get(key).map_or("", String::as_str);
    let script = active.criteria.iter().map(|criterion| criterion.file.chars().count()).max().unwrap_or(0);
    for criterion in &active.criteria {
        let (name, file) = (layout::fit(&criterion.name, 14), layout::fit(&criterion.file, script));
        let from = origin(&format!("weights.{}", criterion.name));
        let _ = writeln!(out, "   {name} {:>6}  {file}  {from}", criterion.weight);
    }
    if !active.variants.is_empty() {
        let _ = writeln!(out, "   variants: {}", active.variants.join(", "));
    }
    if !detail.templates.is_empty() {
        let ids: Vec<&str> = detail.templates.iter().map(|template| template.id.as_str()).collect();
        let _ = writeln!(out, "   templates: {}", ids.join(", "));
    }
    let inherited = |from: &str| from == "built in" || from.starts_with("default.toml:");
    let weight = |key: &str| key.strip_prefix("weights.").is_some_and(|name| !name.contains('.'));
    let own: Vec<(&String, &String)> =
        detail.origins.iter().filter(|(key, from)| !inherited(from) && !weight(key)).collect();
    let width = own.iter().map(|(key, _)| key.chars().count()).max().unwrap_or(0);
    for (key, from) in own {
        let _ = writeln!(out, "   {}  {from}", layout::fit(key, width));
    }
    let _ = writeln!(out, "   every other value is from default.toml; --json names the line of each");
    out
}

pub fn moment(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%d %H:%M:%S UTC").to_string()
}
