//! What one attempt said to its provider and heard, for a person who tries a driver by hand (`trial`).
//!
//! Nothing is noted unless somebody watches: the daemon never does, so that no text or address is kept here. What may be
//! a secret is hidden where it is noted: all headers but the type of a body, long runs of letters and digits in paths,
//! and fields that are named like secrets; whoever shows it hides the secrets that it knows besides.

use std::sync::{Arc, Mutex, PoisonError};

use hyper::header::CONTENT_TYPE;
use serde_json::Value;

use super::http::{Answer, Broken, Exchange, Request, form};

/// The most that is shown of a body, in characters.
const BODY_MAX: usize = 2000;
/// A run of letters, digits, `-` and `_` in a path from this length on may be a token.
const TOKEN_MIN: usize = 30;
/// A field whose name holds one of these is not shown.
const SECRET_NAMES: [&str; 7] = ["secret", "token", "password", "signature", "api_key", "apikey", "auth"];
const HIDDEN: &str = "(hidden)";

type Lines = Arc<Mutex<Vec<String>>>;

tokio::task_local! {
    static WATCHED: Lines;
}

/// Runs it, and gives what was said on the way, a line each.
pub async fn watch<T>(doing: impl Future<Output = T>) -> (T, Vec<String>) {
    let lines = Lines::default();
    let done = WATCHED.scope(Arc::clone(&lines), doing).await;
    let said = std::mem::take(&mut *lines.lock().unwrap_or_else(PoisonError::into_inner));
    (done, said)
}

/// Notes lines, which are made only where somebody watches.
pub(super) fn note(lines: impl FnOnce() -> Vec<String>) {
    // An error says that nobody watches.
    let _ = WATCHED.try_with(|watched| {
        let mut watched = watched.lock().unwrap_or_else(PoisonError::into_inner);
        watched.extend(lines());
    });
}

/// A request over HTTP: method, host, path and fields.
pub(super) fn asked(origin: &str, request: &Request) -> Vec<String> {
    let mut lines = vec![format!("> {} {origin}{}", request.method, without_tokens(&request.target))];
    for (name, value) in &request.headers {
        let shown = if *name == CONTENT_TYPE { value.to_str().unwrap_or(HIDDEN) } else { HIDDEN };
        lines.push(format!("> {name}: {shown}"));
    }
    let kind = request.headers.iter().find(|(name, _)| *name == CONTENT_TYPE);
    let kind = kind.and_then(|(_, value)| value.to_str().ok()).unwrap_or_default();
    lines.extend(body(kind, &request.body).into_iter().map(|line| format!(">   {line}")));
    lines
}

/// What came back.
pub(super) fn answered(exchange: &Exchange) -> Vec<String> {
    match exchange {
        Exchange::Answered(answer) => told(answer),
        Exchange::Broken(Broken { written, why }) => {
            vec![format!("< no answer: {why} (request: {written:?})")]
        }
    }
}

pub(super) fn told(answer: &Answer) -> Vec<String> {
    let kind = answer.header("content-type").unwrap_or_default();
    let shown = body(kind, &answer.body).into_iter().map(|line| format!("<   {line}"));
    [format!("< {}", answer.status)].into_iter().chain(shown).collect()
}

fn body(kind: &str, bytes: &[u8]) -> Vec<String> {
    if bytes.is_empty() {
        return Vec::new();
    }
    let Ok(text) = std::str::from_utf8(bytes) else { return vec![format!("({} bytes)", bytes.len())] };
    if kind.contains("x-www-form-urlencoded") {
        return text.split('&').map(field).collect();
    }
    if let Ok(mut value) = serde_json::from_str::<Value>(text) {
        hide(&mut value);
        return format!("{value:#}")
            .chars()
            .take(BODY_MAX)
            .collect::<String>()
            .lines()
            .map(str::to_owned)
            .collect();
    }
    if kind.contains("multipart") {
        return vec![format!("({} bytes in parts)", bytes.len())];
    }
    text.chars().take(BODY_MAX).collect::<String>().lines().map(str::to_owned).collect()
}

/// One `name=value` of a form.
fn field(pair: &str) -> String {
    let decoded = form::decode(pair.as_bytes()).and_then(|mut pairs| pairs.pop());
    match decoded {
        Some((name, _)) if is_secret(&name) => format!("{name} = {HIDDEN}"),
        Some((name, value)) => format!("{name} = {value}"),
        None => HIDDEN.to_owned(),
    }
}

fn is_secret(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_NAMES.iter().any(|word| name.contains(word))
}

fn hide(value: &mut Value) {
    match value {
        Value::Object(map) => map.iter_mut().for_each(|(name, value)| {
            if is_secret(name) {
                *value = HIDDEN.into();
            } else {
                hide(value);
            }
        }),
        Value::Array(items) => items.iter_mut().for_each(hide),
        _ => {}
    }
}

/// A path without the pieces that may be a token; those of account ids (`AC` and 32 digits) go as well.
fn without_tokens(target: &str) -> String {
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let of_token = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    let longest = |part: &str| part.split(|c| !of_token(c)).map(str::len).max().unwrap_or(0);
    let parts = path.split('/').map(|part| if longest(part) >= TOKEN_MIN { HIDDEN } else { part });
    let path = parts.collect::<Vec<_>>().join("/");
    if query.is_empty() {
        return path;
    }
    let fields: Vec<String> = query.split('&').map(field).collect();
    format!("{path} ? {}", fields.join(", "))
}

#[cfg(test)]
mod tests {
    use hyper::header::{AUTHORIZATION, HeaderValue};

    use super::*;

    #[test]
    fn what_may_be_a_secret_is_hidden() {
        let target = "/bot123456:AAE-0123456789012345678901234567890/sendMessage?api_secret=s3cret&to=%2B33";
        let request = Request::post(
            target,
            "application/json",
            br#"{"api_secret":"s3cret","text":"Bonjour"}"#.to_vec(),
        )
        .header(AUTHORIZATION, HeaderValue::from_static("Basic s3cret"));
        let shown = asked("https://api.telegram.org", &request).join("\n");
        assert!(!shown.contains("s3cret") && !shown.contains("AAE-"), "{shown}");
        for said in [
            "> POST https://api.telegram.org/(hidden)/sendMessage",
            "to = +33",
            "authorization: (hidden)",
            "Bonjour",
        ] {
            assert!(shown.contains(said), "{said} in {shown}");
        }
        let form = Request::post(
            "/sms/json",
            "application/x-www-form-urlencoded",
            "To=%2B33612&token=s3cret&Body=%C3%A0+15+h",
        );
        assert_eq!(
            asked("https://h", &form)[2..],
            [">   To = +33612", ">   token = (hidden)", ">   Body = à 15 h"]
        );
    }

    #[tokio::test]
    async fn nothing_is_noted_where_nobody_watches() {
        note(|| panic!("made for nobody"));
        let (done, said) = watch(async {
            note(|| vec!["once".into()]);
            7
        })
        .await;
        assert_eq!((done, said), (7, vec!["once".to_owned()]));
    }
}
