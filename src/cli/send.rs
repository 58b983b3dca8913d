//! `send`: a request to the running daemon, and its answer in words or as the JSON that it is.

use std::time::Duration;

use serde_json::Value;

use super::{
    answer::DecisionAnswer,
    arguments::SendArguments,
    client::{Answer as HttpAnswer, Client},
    explain::{self, View},
    input, layout,
    outcome::{Answer, Failure},
};
use crate::config::Config;

/// What the daemon waits when nobody says otherwise (spec.md section 5).
const WAIT_SECONDS: u32 = 5;
/// Beyond the daemon's own wait: connecting, deciding, keeping.
const PATIENCE_SECONDS: u64 = 30;

pub async fn run(config: &Config, arguments: &SendArguments, json: bool) -> Result<Answer, Failure> {
    let body = input::read(&arguments.request)?;
    if arguments.explain {
        return explain(config, arguments, body, json).await;
    }
    let wait = arguments.wait.unwrap_or(WAIT_SECONDS);
    let mut headers = vec![("prefer", format!("wait={wait}"))];
    if let Some(key) = &arguments.key {
        headers.push(("idempotency-key", key.clone()));
    }
    let timeout = Duration::from_secs(u64::from(wait) + PATIENCE_SECONDS);
    let answer = Client::new(&config.socket, timeout).post("/v1/messages", Some(body), &headers).await?;
    if json {
        print_json(&answer);
    } else if answer.status.is_success() {
        anstream::println!("{}", in_words(&answer.body, answer.replayed));
    } else {
        anstream::eprintln!("{}", problem(&answer));
    }
    let success = answer.body.get("success").and_then(Value::as_bool).unwrap_or(false);
    Ok(if answer.status.is_success() && success { Answer::Yes } else { Answer::No })
}

/// Asks the daemon for a decision, with what it knows of the person and the money spent; sends nothing.
async fn explain(
    config: &Config,
    arguments: &SendArguments,
    body: Vec<u8>,
    json: bool,
) -> Result<Answer, Failure> {
    let mut request: Value = serde_json::from_slice(&body)
        .map_err(|error| Failure::Usage(format!("{} is not JSON: {error}", arguments.request)))?;
    let tenant = request.pointer("/context/tenantId").and_then(Value::as_str).map(str::to_owned);
    if let Some(fields) = request.as_object_mut() {
        fields.insert("explain".to_owned(), Value::Bool(true));
    }
    let client = Client::new(&config.socket, Duration::from_secs(PATIENCE_SECONDS));
    let answer = client.post("/v1/decisions", Some(request.to_string().into_bytes()), &[]).await?;
    if json {
        print_json(&answer);
    } else if answer.status.is_success() {
        let decision: DecisionAnswer = serde_json::from_value(answer.body.clone())
            .map_err(|error| anyhow::anyhow!("the daemon's answer is not understood: {error}"))?;
        print_decision(&decision, tenant.as_deref(), arguments.sources, "asked the daemon, nothing was sent");
    } else {
        anstream::eprintln!("{}", problem(&answer));
    }
    Ok(if answer.status.is_success() { Answer::Yes } else { Answer::No })
}

/// The table, or the bare decision where no explanation came with it.
pub fn print_decision(decision: &DecisionAnswer, tenant: Option<&str>, sources: bool, footer: &str) {
    let width = layout::width();
    match &decision.explanation {
        Some(explanation) => {
            let view = View { chosen: decision.channel, tenant, footer, width, sources };
            anstream::print!("{}", explain::render(explanation, &view));
        }
        None => {
            let channel = decision.channel.map_or("no channel", |channel| channel.as_str());
            anstream::println!("{channel}: {}", decision.reason);
        }
    }
}

/// `sent by sms as msg_…`, in the brief's terms.
pub fn in_words(body: &Value, replayed: bool) -> String {
    let text = |field: &str| body.get(field).and_then(Value::as_str);
    let status = text("status").unwrap_or("unknown");
    let id = text("messageId").unwrap_or("");
    let channel = text("channel").unwrap_or("no channel");
    let mut words = match (status, text("sentVia")) {
        ("sent" | "delivered", Some(via)) if via == channel => format!("{status} by {via}"),
        ("sent" | "delivered", Some(via)) => format!("{status} by {via}, after {channel} refused it"),
        ("held", _) => format!("held for {channel} until {}", text("heldUntil").unwrap_or("later")),
        _ => format!("{status}, {channel} was chosen"),
    };
    words.push_str(&format!("  ({id})"));
    if replayed {
        words.push_str("\n  this key was used before: nothing was sent again");
    }
    if let Some(error) = body.pointer("/error/detail").and_then(Value::as_str) {
        words.push_str(&format!("\n  {error}"));
    }
    for attempt in body.get("attempts").and_then(Value::as_array).into_iter().flatten() {
        words.push_str(&format!("\n  {}", attempt_in_words(attempt)));
    }
    words
}

fn attempt_in_words(attempt: &Value) -> String {
    let text = |field: &str| attempt.get(field).and_then(Value::as_str).unwrap_or("?");
    let mut words = format!("{} by {}: {}", text("channel"), text("driver"), text("status"));
    if let Some(detail) = attempt.pointer("/error/detail").and_then(Value::as_str) {
        words.push_str(&format!(" ({detail})"));
    }
    words
}

/// A problem document (RFC 9457) in words: what, where, and each channel's reason.
pub fn problem(answer: &HttpAnswer) -> String {
    let text = |field: &str| answer.body.get(field).and_then(Value::as_str);
    let Some(title) = text("title") else {
        return format!("the daemon answered {}: {}", answer.status, answer.text.trim());
    };
    let mut words = format!("{title} ({})", answer.status.as_u16());
    if let Some(detail) = text("detail").filter(|detail| *detail != title) {
        words.push_str(&format!(": {detail}"));
    }
    let list = |field: &str| answer.body.get(field).and_then(Value::as_array).into_iter().flatten();
    for fault in list("errors") {
        let part = |name: &str| fault.get(name).and_then(Value::as_str);
        words.push_str(&format!("\n  {}: {}", part("pointer").unwrap_or(""), part("detail").unwrap_or("")));
        if let Some(hint) = part("hint") {
            words.push_str(&format!(" ({hint})"));
        }
    }
    for channel in list("channels") {
        let part = |name: &str| channel.get(name).and_then(Value::as_str).unwrap_or("");
        words.push_str(&format!("\n  {}: {}", part("channel"), part("reason")));
    }
    if let Some(id) = text("messageId") {
        words.push_str(&format!("\n  kept as {id}"));
    }
    words
}

/// The body as it came, its fields in the daemon's order, laid out for reading.
pub fn print_json(answer: &HttpAnswer) {
    if answer.body.is_null() {
        anstream::println!("{}", answer.text);
    } else {
        anstream::println!("{}", laid_out(&answer.text));
    }
}

/// Valid JSON with a line for each value, two spaces a level.
fn laid_out(json: &str) -> String {
    let mut out = String::with_capacity(json.len() * 2);
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    let line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.push_str(&"  ".repeat(depth));
    };
    let mut characters = json.chars().filter(|c| !matches!(c, '\n' | '\r' | '\t')).peekable();
    while let Some(character) = characters.next() {
        if in_text {
            in_text = escaped || character != '"';
            escaped = !escaped && character == '\\';
            out.push(character);
            continue;
        }
        match character {
            '{' | '[' => {
                out.push(character);
                if matches!(characters.peek(), Some('}' | ']')) {
                    out.extend(characters.next());
                    continue;
                }
                depth += 1;
                line(&mut out, depth);
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                line(&mut out, depth);
                out.push(character);
            }
            ',' => {
                out.push(',');
                line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            ' ' => {}
            '"' => {
                in_text = true;
                out.push('"');
            }
            other => out.push(other),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_briefs_fallback_in_words() {
        let body = json!({
            "success": true, "channel": "sms", "messageId": "msg_1", "status": "sent", "sentVia": "email",
            "fallbackAttempted": true, "fallbackChannel": "email",
            "attempts": [
                {"channel": "sms", "driver": "sandbox", "status": "refused_permanent",
                 "error": {"class": "permanent", "code": "21211", "detail": "not a valid number"}},
                {"channel": "email", "driver": "sandbox", "status": "accepted"},
            ],
        });
        assert_eq!(
            in_words(&body, false),
            "sent by email, after sms refused it  (msg_1)\n  sms by sandbox: refused_permanent (not a valid \
             number)\n  email by sandbox: accepted"
        );
    }

    #[test]
    fn json_is_laid_out_in_its_own_order() {
        let text = r#"{"success":true,"b":{},"a":[1, "x,{\"}:",[]],"z":null}"#;
        let shown = laid_out(text);
        assert!(shown.starts_with("{\n  \"success\": true,\n  \"b\": {},\n  \"a\": [\n    1,\n"), "{shown}");
        let read: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(read, serde_json::from_str::<Value>(text).unwrap());
    }

    #[test]
    fn a_problem_names_every_fault() {
        let answer = HttpAnswer {
            status: hyper::StatusCode::BAD_REQUEST,
            body: json!({"title": "The request has faults", "status": 400, "detail": "2 faults", "errors": [
                {"pointer": "/context/tenantID", "detail": "unknown field", "hint": "did you mean tenantId?"},
                {"pointer": "/content", "detail": "required, and missing"}]}),
            text: String::new(),
            replayed: false,
        };
        assert_eq!(
            problem(&answer),
            "The request has faults (400): 2 faults\n  /context/tenantID: unknown field (did you mean \
             tenantId?)\n  /content: required, and missing"
        );
    }
}
