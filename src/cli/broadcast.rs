//! `broadcast`: one content to many people through the running daemon, and what became of each row.

use std::time::Duration;

use serde_json::Value;

use super::{
    arguments::BroadcastArguments,
    client::Client,
    input,
    outcome::{Answer, Failure},
    policies::refused,
    send,
};
use crate::config::Config;

const WAIT_SECONDS: u32 = 5;
/// Beyond the daemon's own wait: a thousand decisions, and their place in the queue.
const PATIENCE_SECONDS: u64 = 300;

/// `No` where a row was refused, or its message lost.
pub async fn run(config: &Config, arguments: &BroadcastArguments, json: bool) -> Result<Answer, Failure> {
    let mut body = input::read(&arguments.file)?;
    if arguments.dry_run {
        let mut request: Value = serde_json::from_slice(&body)
            .map_err(|error| Failure::Usage(format!("{} is not JSON: {error}", arguments.file)))?;
        if let Some(fields) = request.as_object_mut() {
            fields.insert("dryRun".to_owned(), Value::Bool(true));
        }
        body = request.to_string().into_bytes();
    }
    let wait = arguments.wait.unwrap_or(WAIT_SECONDS);
    let mut headers = vec![("prefer", format!("wait={wait}"))];
    if let Some(key) = &arguments.key {
        headers.push(("idempotency-key", key.clone()));
    }
    let timeout = Duration::from_secs(u64::from(wait) + PATIENCE_SECONDS);
    let answer = Client::new(&config.socket, timeout).post("/v1/broadcasts", Some(body), &headers).await?;
    if !answer.status.is_success() {
        return refused(&answer, json);
    }
    if json {
        send::print_json(&answer);
    } else {
        anstream::print!("{}", in_words(&answer.body));
    }
    let results = answer.body.get("results").and_then(Value::as_array);
    let all = results.is_some_and(|rows| rows.iter().all(|row| row["success"] == Value::Bool(true)));
    Ok(if all { Answer::Yes } else { Answer::No })
}

/// A line for each row, and the sums.
fn in_words(body: &Value) -> String {
    let mut words = String::new();
    for row in body["results"].as_array().into_iter().flatten() {
        let text = |pointer: &str| row.pointer(pointer).and_then(Value::as_str);
        let channel = text("/channel").unwrap_or("no channel");
        let mut line = match (text("/status"), text("/messageId")) {
            (Some(status), Some(id)) => format!("{channel}: {status}  ({id})"),
            _ if row["success"] == Value::Bool(true) => format!("{channel}: {} EUR", row["cost"]),
            _ => "refused".to_owned(),
        };
        let why = text("/problem/detail").or(text("/error/detail"));
        if let Some(why) = why {
            line.push_str(&format!(": {why}"));
        }
        for channel in row.pointer("/problem/channels").and_then(Value::as_array).into_iter().flatten() {
            let part = |name: &str| channel[name].as_str().unwrap_or("");
            line.push_str(&format!("\n       {}: {}", part("channel"), part("reason")));
        }
        words.push_str(&format!("{:>5}  {line}\n", row["row"].as_u64().unwrap_or(0) + 1));
    }
    let summary = &body["summary"];
    let mix: Vec<String> = summary["byChannel"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(channel, rows)| format!("{rows} by {channel}"))
        .collect();
    let number = |name: &str| summary[name].as_u64().unwrap_or(0);
    let what = if body["dryRun"] == Value::Bool(true) { "would be accepted" } else { "accepted" };
    words.push_str(&format!(
        "\n{} of {} {what}, {} refused: {}; {} EUR",
        number("accepted"),
        body["rows"],
        number("refused"),
        if mix.is_empty() { "no channel".to_owned() } else { mix.join(", ") },
        summary["cost"],
    ));
    match body["broadcastId"].as_str() {
        Some(id) => words.push_str(&format!("  ({id})\n")),
        None => words.push_str("  (nothing was sent)\n"),
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn each_row_has_a_line() {
        let body = json!({
            "broadcastId": "bc_1", "dryRun": false, "rows": 2,
            "summary": {"accepted": 1, "refused": 1, "byChannel": {"email": 1}, "cost": 0.0006},
            "results": [
                {"row": 0, "success": true, "channel": "email", "status": "sent", "messageId": "msg_1"},
                {"row": 1, "success": false, "channel": null, "problem": {"detail": "no such person"}},
            ],
        });
        assert_eq!(
            in_words(&body),
            "    1  email: sent  (msg_1)\n    2  refused: no such person\n\n1 of 2 accepted, 1 refused: 1 by email; \
             0.0006 EUR  (bc_1)\n"
        );
    }
}
