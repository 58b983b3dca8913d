//! `--explain --message ID`: why a message that the daemon has went where it went, from the decision kept with it.

use std::time::Duration;

use serde_json::Value;

use super::{
    client::Client,
    explain::{self, View},
    layout,
    outcome::{Answer, Failure},
    send,
};
use crate::{
    config::Config,
    decide::explanation::Explanation,
    domain::{channel::Channel, ids::MessageId},
};

const PATIENCE: Duration = Duration::from_secs(30);

pub async fn explain(config: &Config, id: &str, sources: bool, json: bool) -> Result<Answer, Failure> {
    let id = MessageId::parse(id).map_err(|error| Failure::Usage(error.to_string()))?;
    let answer = Client::new(&config.socket, PATIENCE).get(&format!("/v1/messages/{id}")).await?;
    if !answer.status.is_success() {
        if json {
            send::print_json(&answer);
        } else {
            anstream::eprintln!("{}", send::problem(&answer));
        }
        return Ok(Answer::No);
    }
    let explanation = answer.body.get("explanation").cloned().unwrap_or_default();
    if json {
        println!("{explanation:#}");
        return Ok(Answer::Yes);
    }
    let explanation: Explanation = serde_json::from_value(explanation)
        .map_err(|error| anyhow::anyhow!("the daemon's answer is not understood: {error}"))?;
    let text = |field: &str| answer.body.get(field).and_then(Value::as_str);
    let footer = format!("as it was decided; now {}", text("status").unwrap_or("unknown"));
    let view = View {
        chosen: text("channel").and_then(Channel::parse),
        tenant: text("tenantId"),
        footer: &footer,
        width: layout::width(),
        sources,
    };
    anstream::print!("{}", explain::render(&explanation, &view));
    for event in answer.body.get("timeline").and_then(Value::as_array).into_iter().flatten() {
        let part = |name: &str| event.get(name).and_then(Value::as_str).unwrap_or("");
        println!("{}", format!("{}  {} {}", part("at"), part("event"), part("detail")).trim_end());
    }
    Ok(Answer::Yes)
}
