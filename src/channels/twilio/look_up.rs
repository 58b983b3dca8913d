//! What Twilio's list shows of an attempt (reliability.md 5.2, UNKNOWN to ACCEPTED).
//!
//! Asked by recipient alone and judged here: a filter by `DateSent` would hide what is still in Twilio's queue,
//! and an absence that is not one leads to a second SMS. It never takes the nearer of two.

use chrono::{DateTime, TimeDelta, Utc};
use hyper::header::AUTHORIZATION;
use serde::Deserialize;

use super::{
    Kind, Twilio,
    classify::is_message_sid,
    send::{Sender, sender},
};
use crate::channels::{
    Found, LookUp, Outbound,
    http::{Request, form::escaped},
};

/// Newest first; more than anybody gets within the window.
const PAGE_SIZE: usize = 100;
const BEFORE_SECONDS: i64 = 5;
const AFTER_SECONDS: i64 = 60;
/// What a trial account's messages begin with.
const TRIAL: &str = "Sent from your Twilio trial account - ";

#[derive(Deserialize)]
struct Page {
    messages: Vec<Listed>,
}

#[derive(Deserialize)]
struct Listed {
    sid: String,
    to: Option<String>,
    from: Option<String>,
    messaging_service_sid: Option<String>,
    body: Option<String>,
    direction: Option<String>,
    date_created: Option<String>,
}

impl Listed {
    fn created(&self) -> Option<DateTime<Utc>> {
        let text = self.date_created.as_deref()?;
        DateTime::parse_from_rfc2822(text).ok().map(|at| at.with_timezone(&Utc))
    }
}

pub(super) async fn look_up(driver: &Twilio, attempt: &LookUp) -> Found {
    let outbound = &attempt.outbound;
    let to = format!("{}{}", driver.kind.prefix(), outbound.to.as_str());
    let target = format!(
        "/2010-04-01/Accounts/{}/Messages.json?To={}&PageSize={PAGE_SIZE}",
        driver.account.sid,
        escaped(&to)
    );
    let request = Request::get(target).header(AUTHORIZATION, driver.account.authorization.clone());
    let answer = match driver.account.lists.ask(request).await {
        Ok(answer) if answer.status == 200 => answer,
        Ok(answer) => return Found::CannotTell(format!("the list answered {}", answer.status)),
        Err(why) => return Found::CannotTell(format!("the list did not answer: {why}")),
    };
    match serde_json::from_slice::<Page>(&answer.body) {
        Ok(page) => judge(driver, attempt, &to, &page.messages),
        Err(_) => Found::CannotTell("the list is not one".into()),
    }
}

fn judge(driver: &Twilio, attempt: &LookUp, to: &str, messages: &[Listed]) -> Found {
    let first = attempt.started_at - TimeDelta::seconds(BEFORE_SECONDS);
    let last = attempt.ended_at + TimeDelta::seconds(AFTER_SECONDS);
    if messages.iter().any(|listed| listed.created().is_none()) {
        return Found::CannotTell("the list has messages without a date".into());
    }
    let reaches_back = messages.len() < PAGE_SIZE
        || messages.iter().any(|listed| listed.created().is_some_and(|at| at < first));
    if !reaches_back {
        return Found::CannotTell("the list does not reach back far enough".into());
    }
    let Ok(sender) = sender(driver, &attempt.outbound) else {
        return Found::CannotTell("the sender is no longer known".into());
    };
    let near: Vec<&Listed> = messages
        .iter()
        .filter(|listed| listed.created().is_some_and(|at| (first..=last).contains(&at)))
        .filter(|listed| listed.to.as_deref() == Some(to) && is_ours(&sender, listed))
        .collect();
    if is_template(driver, &attempt.outbound) && !near.is_empty() {
        // Its text is written by Twilio: nothing here can be compared.
        return Found::CannotTell("the list shows a message, but not of which template".into());
    }
    let hits: Vec<&Listed> =
        near.into_iter().filter(|listed| is_same_text(driver, &attempt.outbound, listed)).collect();
    match hits.as_slice() {
        [] => Found::Absent,
        [one] if is_message_sid(&one.sid) => {
            Found::Accepted { provider_message_id: one.sid.clone(), cost: None }
        }
        [_] => Found::CannotTell("the list shows a message without a name".into()),
        several => Found::CannotTell(format!("the list shows {} such messages", several.len())),
    }
}

fn is_ours(sender: &Sender, listed: &Listed) -> bool {
    let outbound = listed.direction.as_deref().is_some_and(|direction| direction.starts_with("outbound"));
    outbound
        && match sender {
            Sender::From { address, .. } => listed.from.as_deref() == Some(address),
            Sender::Service(sid) => listed.messaging_service_sid.as_deref() == Some(sid),
        }
}

fn is_template(driver: &Twilio, outbound: &Outbound) -> bool {
    driver.kind == Kind::WhatsApp && !outbound.in_service_window && outbound.approved_template.is_some()
}

fn is_same_text(driver: &Twilio, outbound: &Outbound, listed: &Listed) -> bool {
    let ours = outbound.content.body.trim();
    let Some(theirs) = listed.body.as_deref().map(str::trim) else { return false };
    let theirs = theirs.strip_prefix(TRIAL.trim_end()).map_or(theirs, str::trim_start);
    if driver.settings.smart_encoded == Some(true) {
        // Twilio changed what is not GSM-7; letters and digits of ASCII stayed.
        let kept = |text: &str| text.chars().filter(char::is_ascii_alphanumeric).collect::<String>();
        return kept(ours) == kept(theirs);
    }
    ours == theirs
}
