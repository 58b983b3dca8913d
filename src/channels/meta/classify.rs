//! What Meta's answer says about an attempt (reliability.md P4, row "WhatsApp Cloud").
//!
//! Pure. Meta's code decides before the HTTP status does, but no code turns a server's failure into a refusal.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use super::{codes, digits};
use crate::{
    channels::{
        http::{
            Answer,
            classify::{Reading, Refusal, Words, clean},
        },
        secret,
    },
    domain::delivery::{AttemptError, ErrorClass},
};

/// A message's or a file's id is shorter than this, in bytes.
const ID_BYTES_MAX: usize = 512;
/// With code 100: the object in the path is not there, or not for this token.
const SUBCODE_NO_OBJECT: i64 = 33;

/// Answers to a message for `to`, in E.164.
pub struct ToMessage<'a> {
    pub to: &'a str,
    pub token: &'a SecretString,
}

/// Answers to an upload.
pub struct ToUpload<'a> {
    pub token: &'a SecretString,
}

#[derive(Deserialize)]
struct Taken {
    #[serde(default)]
    contacts: Vec<TakenContact>,
    messages: Vec<TakenMessage>,
}

#[derive(Deserialize)]
struct TakenContact {
    input: String,
}

#[derive(Deserialize)]
struct TakenMessage {
    id: String,
}

#[derive(Deserialize)]
struct Uploaded {
    id: String,
}

impl Words for ToMessage<'_> {
    fn success(&self, answer: &Answer) -> Reading {
        let unreadable = |why: &str| Reading::Unreadable(why.to_owned());
        let Ok(taken) = serde_json::from_slice::<Taken>(&answer.body) else {
            return unreadable("which is not an answer of Meta's to a message");
        };
        let [message] = taken.messages.as_slice() else {
            return unreadable("and names not exactly one message");
        };
        if taken.contacts.iter().any(|contact| digits(&contact.input) != digits(self.to)) {
            return unreadable("and speaks of somebody else's message");
        }
        if !is_id(&message.id) {
            return unreadable("and names a message without an id");
        }
        Reading::Accepted { provider_message_id: Some(message.id.clone()), cost: None }
    }

    fn refusal(&self, answer: &Answer) -> Refusal {
        refusal(answer, self.token)
    }
}

impl Words for ToUpload<'_> {
    fn success(&self, answer: &Answer) -> Reading {
        match serde_json::from_slice::<Uploaded>(&answer.body) {
            Ok(file) if is_id(&file.id) => {
                Reading::Accepted { provider_message_id: Some(file.id), cost: None }
            }
            _ => Reading::Unreadable("which is not an answer of Meta's to an upload".into()),
        }
    }

    fn refusal(&self, answer: &Answer) -> Refusal {
        refusal(answer, self.token)
    }
}

fn refusal(answer: &Answer, token: &SecretString) -> Refusal {
    let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
    let error = &body["error"];
    let Some(code) = error["code"].as_i64() else {
        return Refusal {
            // Nothing of Meta's is at that address: the version or base_url is wrong, not the message.
            class: (answer.status == 404).then_some(ErrorClass::Misconfigured),
            ..Refusal::default()
        };
    };
    let (class, detail) = read(code, error);
    Refusal {
        class,
        code: Some(code.to_string()),
        detail: secret::without(&detail, token),
        retry_after_seconds: None,
    }
}

/// An error as statuses hold it.
pub fn status_error(error: &Value) -> Option<AttemptError> {
    let code = error["code"].as_i64()?;
    let (class, detail) = read(code, error);
    Some(AttemptError {
        // What a status reports as failed is known to have failed.
        class: class.filter(|class| *class != ErrorClass::Unknown).unwrap_or(ErrorClass::Permanent),
        code: Some(code.to_string()),
        detail: clean(&detail),
    })
}

/// The class that the code has, and Meta's words with ours.
fn read(code: i64, error: &Value) -> (Option<ErrorClass>, String) {
    let known = codes::find(code);
    let no_object = code == 100 && error["error_subcode"].as_i64() == Some(SUBCODE_NO_OBJECT);
    let class = match known {
        _ if no_object => Some(ErrorClass::Misconfigured),
        Some(known) => Some(known.class),
        None => (error["is_transient"] == true).then_some(ErrorClass::Temporary),
    };
    let advice = match no_object {
        true => "phone_number_id is not a number that this access_token may use",
        false => known.map_or("", |known| known.advice),
    };
    let said = [&error["message"], &error["title"]].into_iter().find_map(Value::as_str).unwrap_or_default();
    let details = error["error_data"]["details"].as_str().unwrap_or_default();
    let mut words: Vec<&str> = Vec::new();
    for part in [said, details, advice] {
        if !part.is_empty() && !words.contains(&part) {
            words.push(part);
        }
    }
    (class, words.join(": "))
}

fn is_id(text: &str) -> bool {
    (1..=ID_BYTES_MAX).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
}
