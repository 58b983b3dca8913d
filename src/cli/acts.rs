//! `messages`, `pause`, `resume`, `erase`, `acts`: what operators do, by the daemon, and the log of it.
//!
//! Each act names who and why. It touches no database itself: the daemon does, so that it holds at once.

use serde_json::{Value, json};

use super::{
    arguments::{ActsAction, ByArguments, MessagesAction, Pausable},
    client::{Answer as HttpAnswer, Client},
    outcome::{Answer, Failure},
    policies::{PATIENCE, checked, print, refused},
    send,
};
use crate::{config::Config, domain::ids::MessageId};

/// Asks the daemon, and tells what it says. `No` where it refuses.
pub async fn run(config: &Config, action: &ActsAction, json: bool) -> Result<Answer, Failure> {
    let client = Client::new(&config.socket, PATIENCE);
    let answer = match action {
        ActsAction::Message(MessagesAction::Resend { id, by }) => {
            post(&client, &of_message(id, "resend")?, by, None).await?
        }
        ActsAction::Message(MessagesAction::Settle { id, outcome, by }) => {
            post(&client, &of_message(id, "settle")?, by, Some(outcome)).await?
        }
        ActsAction::Message(MessagesAction::Release { id, by }) => {
            post(&client, &of_message(id, "release")?, by, None).await?
        }
        ActsAction::Pause { kind, name, by } => post(&client, &path(*kind, name, "pause")?, by, None).await?,
        ActsAction::Resume { kind, name, by } => {
            post(&client, &path(*kind, name, "resume")?, by, None).await?
        }
        ActsAction::Erase { tenant, recipient, by } => {
            let path = format!("/v1/tenants/{}/recipients/{}", checked(tenant)?, escaped(recipient));
            client.delete(&path, body(by, None)).await?
        }
        ActsAction::List { limit } => client.get(&format!("/v1/acts?limit={limit}")).await?,
    };
    if !answer.status.is_success() {
        return refused(&answer, json);
    }
    print(json, &answer, &in_words(action, &answer));
    Ok(Answer::Yes)
}

async fn post(
    client: &Client,
    path: &str,
    by: &ByArguments,
    outcome: Option<&str>,
) -> Result<HttpAnswer, Failure> {
    Ok(client.post(path, Some(body(by, outcome)), &[]).await?)
}

fn body(by: &ByArguments, outcome: Option<&str>) -> Vec<u8> {
    let mut body = json!({ "reason": by.reason, "by": by.by });
    if let Some(outcome) = outcome {
        body["outcome"] = outcome.into();
    }
    body.to_string().into_bytes()
}

fn of_message(id: &str, act: &str) -> Result<String, Failure> {
    let id = MessageId::parse(id).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(format!("/v1/messages/{id}/{act}"))
}

fn path(kind: Pausable, name: &str, act: &str) -> Result<String, Failure> {
    Ok(match kind {
        Pausable::Tenant => format!("/v1/tenants/{}/{act}", checked(name)?),
        Pausable::Driver => format!("/v1/drivers/{}/{act}", escaped(name)),
    })
}

/// One part of a path, with everything but letters, digits and `-_.` in percent signs.
fn escaped(part: &str) -> String {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    let escape = |byte: u8| if plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    part.bytes().map(escape).collect()
}

fn in_words(action: &ActsAction, answer: &HttpAnswer) -> String {
    let body = &answer.body;
    let count = |name: &str| body.get(name).and_then(Value::as_u64).unwrap_or(0);
    match action {
        ActsAction::Message(_) => format!("{}\n", send::in_words(body, false)),
        ActsAction::Pause { name, .. } | ActsAction::Resume { name, .. } => {
            let paused = body.get("paused").and_then(Value::as_bool).unwrap_or(false);
            let changed = body.get("changed").and_then(Value::as_bool).unwrap_or(false);
            match (paused, changed) {
                (true, true) => {
                    format!("{name} is paused: what is due waits, and its deadline goes on counting\n")
                }
                (true, false) => format!("{name} was paused already; the first reason stays\n"),
                (false, true) => format!("{name} goes on\n"),
                (false, false) => format!("{name} was not paused\n"),
            }
        }
        ActsAction::Erase { .. } => {
            let mut words = format!(
                "{} messages hold nothing of the person any more; {} of them waited and were cancelled\n",
                count("erased"),
                count("cancelled")
            );
            if count("inFlight") > 0 {
                words.push_str(&format!(
                    "{} are with a provider now; the daemon erases them once their outcome is known\n",
                    count("inFlight")
                ));
            }
            words
        }
        ActsAction::List { .. } => list_in_words(body),
    }
}

fn list_in_words(body: &Value) -> String {
    let text = |value: &Value, name: &str| value.get(name).and_then(Value::as_str).unwrap_or("").to_owned();
    let list = |name: &str| body.get(name).and_then(Value::as_array).cloned().unwrap_or_default();
    let mut words = String::new();
    for pause in list("paused") {
        words.push_str(&format!(
            "paused now: {} {}, since {} by {}: {}\n",
            text(&pause, "kind"),
            text(&pause, "name"),
            text(&pause, "since"),
            text(&pause, "by"),
            text(&pause, "reason")
        ));
    }
    for act in list("acts") {
        words.push_str(&format!(
            "{}  {} {}  by {}: {}\n",
            text(&act, "at"),
            text(&act, "act"),
            text(&act, "target"),
            text(&act, "by"),
            text(&act, "reason")
        ));
    }
    if words.is_empty() {
        words.push_str("nothing was done yet, and nothing is paused\n");
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_part_of_a_path() {
        assert_eq!(escaped("p-1_a.b"), "p-1_a.b");
        assert_eq!(escaped("a/b?c é"), "a%2Fb%3Fc%20%C3%A9");
    }
}
