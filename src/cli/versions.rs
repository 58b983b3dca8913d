//! `policies history|diff|rollback|forget`: what a tenant's policy was, put back, and dropped, by the daemon.
//!
//! It touches no file itself: the daemon does, in turn with its reloads.

use anstyle::{AnsiColor, Style};
use serde_json::{Value, json};

use super::{
    arguments::PoliciesAction,
    client::{Answer as HttpAnswer, Client},
    outcome::{Answer, Failure},
    policies::{PATIENCE, checked, moment, print, refused, reload, show, tenant_in_words, understood},
};
use crate::{
    bundles::{
        history::{FileDiff, HistoryEntry},
        status::TenantStatus,
    },
    config::Config,
};

const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GONE: Style = AnsiColor::Red.on_default();
const NEW: Style = AnsiColor::Green.on_default();

/// How an answer is shown to people.
type InWords = fn(&HttpAnswer) -> Result<String, Failure>;

/// Asks the daemon, and tells what it says. `No` where it refuses.
pub async fn run(config: &Config, action: &PoliciesAction, json: bool) -> Result<Answer, Failure> {
    let client = Client::new(&config.socket, PATIENCE);
    let path = |tenant: &str, act: &str| checked(tenant).map(|id| format!("/v1/policies/{id}/{act}"));
    let (answer, words): (HttpAnswer, InWords) = match action {
        PoliciesAction::Reload => return reload(config, json).await,
        PoliciesAction::Show { tenant } => return show(config, Some(tenant), json).await,
        PoliciesAction::History { tenant } => {
            (client.get(&path(tenant, "history")?).await?, history_in_words)
        }
        PoliciesAction::Diff { tenant, from, to } => {
            let versions = [("from", from), ("to", to)];
            let named = versions.iter().filter_map(|(name, version)| Some((name, version.as_deref()?)));
            let named = named.map(|(name, version)| Ok(format!("{name}={}", digits(version)?)));
            let query = named.collect::<Result<Vec<_>, Failure>>()?.join("&");
            let mark = if query.is_empty() { "" } else { "?" };
            (client.get(&format!("{}{mark}{query}", path(tenant, "diff")?)).await?, diff_in_words)
        }
        PoliciesAction::Rollback { tenant, version } => {
            let body = json!({ "version": digits(version)? }).to_string().into_bytes();
            (client.post(&path(tenant, "rollback")?, Some(body), &[]).await?, rollback_in_words)
        }
        PoliciesAction::Forget { tenant } => {
            (client.post(&path(tenant, "forget")?, None, &[]).await?, forget_in_words)
        }
    };
    if !answer.status.is_success() {
        return refused(&answer, json);
    }
    print(json, &answer, &words(&answer)?);
    Ok(Answer::Yes)
}

/// A version, or its first digits.
fn digits(version: &str) -> Result<&str, Failure> {
    if !version.is_empty() && version.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return Ok(version);
    }
    Err(Failure::Usage(format!(
        "{version:?} is not a version: hex digits, as `policies history TENANT` shows them"
    )))
}

fn short(version: &str) -> String {
    version.chars().take(12).collect()
}

fn field<T: serde::de::DeserializeOwned>(answer: &HttpAnswer, name: &str) -> Result<T, Failure> {
    let value = answer.body.get(name).cloned().unwrap_or(Value::Null);
    serde_json::from_value(value)
        .map_err(|error| anyhow::anyhow!("the daemon's answer is not understood: {name}: {error}").into())
}

fn history_in_words(answer: &HttpAnswer) -> Result<String, Failure> {
    let line = |entry: HistoryEntry| {
        let now = if entry.active { ", in force now" } else { "" };
        format!("{}  in force since {}{now}\n", short(&entry.version), moment(entry.since))
    };
    let versions: Vec<HistoryEntry> = field(answer, "versions")?;
    if versions.is_empty() {
        return Ok("no version of it was ever in force\n".to_owned());
    }
    Ok(versions.into_iter().map(line).collect())
}

fn diff_in_words(answer: &HttpAnswer) -> Result<String, Failure> {
    let (from, to): (String, String) = (field(answer, "from")?, field(answer, "to")?);
    let files: Vec<FileDiff> = field(answer, "files")?;
    let mut out = format!("{FAINT}from {} to {}{FAINT:#}\n", short(&from), short(&to));
    if files.is_empty() {
        out.push_str("no file differs\n");
    }
    for file in files {
        out.push_str(&format!("{STRONG}{}{STRONG:#} {}\n", file.file, file.change));
        for line in file.lines {
            let style = match line.chars().next() {
                Some('-') => GONE,
                Some('+') => NEW,
                Some('@') => FAINT,
                _ => Style::new(),
            };
            out.push_str(&format!("{style}{line}{style:#}\n"));
        }
    }
    Ok(out)
}

fn rollback_in_words(answer: &HttpAnswer) -> Result<String, Failure> {
    let status: TenantStatus = understood(answer)?;
    let words = "the files in the policies folder differ, and come in force again once they change\n";
    Ok(format!("{}{words}", tenant_in_words(&status)))
}

fn forget_in_words(answer: &HttpAnswer) -> Result<String, Failure> {
    let tenant: String = field(answer, "tenant")?;
    Ok(format!("{tenant} is dropped, with its policy and its history; its messages stay\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_hex_digits() {
        assert_eq!(digits("e46176885dfa").unwrap(), "e46176885dfa");
        for wrong in ["", "latest", "e4&to=1", "../x", "é"] {
            assert!(matches!(digits(wrong), Err(Failure::Usage(_))), "{wrong}");
        }
    }
}
