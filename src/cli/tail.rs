//! `tail`: decisions and outcomes as they happen, from the running daemon, until it stops or Ctrl-C.
//!
//! It shows what the daemon tells, and the daemon tells nothing about people.

use serde_json::Value;

use super::{
    client::Client,
    outcome::{Answer, Failure},
    policies::{PATIENCE, checked, refused},
};
use crate::config::Config;

pub async fn run(config: &Config, tenant: Option<&str>, json: bool) -> Result<Answer, Failure> {
    let path = match tenant {
        Some(tenant) => format!("/v1/tail?tenant={}", checked(tenant)?),
        None => "/v1/tail".to_owned(),
    };
    let show = |line: &str| {
        if json {
            anstream::println!("{line}");
        } else if let Ok(told) = serde_json::from_str::<Value>(line) {
            anstream::println!("{}", in_words(&told));
        }
    };
    match Client::new(&config.socket, PATIENCE).lines(&path, show).await? {
        None => Ok(Answer::Yes),
        Some(problem) => refused(&problem, json),
    }
}

fn in_words(told: &Value) -> String {
    if let Some(missed) = told.get("missed") {
        return format!("... {missed} changes came faster than they could be shown");
    }
    let text = |name: &str| told.get(name).and_then(Value::as_str).unwrap_or("");
    let mut words = format!(
        "{}  {}  {}  {:<12} {:<10}",
        text("at"),
        text("messageId"),
        text("tenantId"),
        text("event"),
        text("channel")
    );
    for (name, shown) in [("driver", "by "), ("attempt", ""), ("code", "code "), ("strategy", "strategy ")] {
        if !text(name).is_empty() {
            words.push_str(&format!(" {shown}{}", text(name)));
        }
    }
    if let Some(cost) = told.get("cost").and_then(Value::as_f64).filter(|cost| *cost > 0.0) {
        words.push_str(&format!(" {cost} EUR"));
    }
    words
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_line_says_what_happened_to_which_message() {
        let told = json!({"at": "2025-11-14T14:00:00Z", "event": "sent", "messageId": "msg_1", "tenantId": "acme",
            "channel": "sms", "driver": "twilio", "attempt": "accepted", "code": null, "cost": 0.05});
        assert_eq!(
            in_words(&told),
            "2025-11-14T14:00:00Z  msg_1  acme  sent         sms        by twilio accepted 0.05 EUR"
        );
        assert!(in_words(&json!({"missed": 7})).contains("7 changes"));
    }
}
