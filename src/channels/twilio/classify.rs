//! Twilio's answers and error codes (https://www.twilio.com/docs/api/errors), as classes.
//!
//! Pure. A code that is not here is what its status says; in a receipt it is permanent.

use serde::Deserialize;

use crate::{
    channels::http::{
        Answer,
        classify::{Reading, Refusal, Words, clean},
    },
    domain::delivery::{AttemptError, ErrorClass},
};

/// What a code is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum About {
    /// This recipient or this text.
    Message,
    /// The sender: the tenant's own affair where the tenant named it.
    Sender,
    /// Credentials, balance, the account.
    Account,
    /// Too much at once.
    Pace,
    /// Twilio gave up without knowing.
    Nobody,
}

const CODES: &[(u32, About)] = &[
    (14107, About::Pace),
    (20003, About::Account),
    (20005, About::Account),
    (20006, About::Account),
    (20403, About::Account),
    (20404, About::Account),
    (20429, About::Pace),
    (21211, About::Message),
    (21212, About::Sender),
    (21214, About::Message),
    (21265, About::Message),
    (21266, About::Message),
    // One region of many: no reason to stop the others.
    (21408, About::Message),
    (21601, About::Sender),
    (21602, About::Message),
    (21603, About::Sender),
    (21604, About::Message),
    (21605, About::Message),
    (21606, About::Sender),
    // A trial account writes to verified numbers only.
    (21608, About::Message),
    // The status callback's URL.
    (21609, About::Account),
    (21610, About::Message),
    (21611, About::Pace),
    (21612, About::Message),
    (21614, About::Message),
    (21617, About::Message),
    (21619, About::Message),
    (21635, About::Message),
    (21654, About::Message),
    (21655, About::Message),
    (21656, About::Message),
    (21659, About::Sender),
    (21660, About::Sender),
    (21701, About::Sender),
    (21703, About::Sender),
    (21705, About::Sender),
    (30001, About::Pace),
    (30002, About::Account),
    (30003, About::Message),
    (30004, About::Message),
    (30005, About::Message),
    (30006, About::Message),
    (30007, About::Message),
    (30008, About::Message),
    (30010, About::Message),
    (30022, About::Pace),
    (30034, About::Sender),
    (30036, About::Message),
    (30038, About::Message),
    // The carrier did not answer: it is not retried "to avoid duplicate message delivery".
    (30410, About::Nobody),
    (30454, About::Message),
    (30500, About::Nobody),
    (63001, About::Account),
    (63003, About::Message),
    (63005, About::Message),
    (63007, About::Sender),
    (63012, About::Nobody),
    (63013, About::Message),
    (63015, About::Message),
    (63016, About::Message),
    (63018, About::Pace),
    (63020, About::Account),
    (63024, About::Message),
    (63032, About::Message),
    (63033, About::Message),
    (63038, About::Pace),
    (63040, About::Message),
    (63041, About::Message),
    (63049, About::Message),
    (63051, About::Account),
];

/// Reads the answers to one request.
#[derive(Clone, Copy, Debug)]
pub(super) struct Codes {
    pub tenants_own_sender: bool,
}

/// A message as Twilio answers it.
#[derive(Deserialize)]
struct Created {
    sid: String,
}

/// A refusal as Twilio answers it.
#[derive(Deserialize)]
struct Refused {
    code: Option<u32>,
    #[serde(default)]
    message: String,
}

impl Codes {
    fn class(self, code: u32) -> Option<ErrorClass> {
        let (_, about) = CODES.iter().find(|(known, _)| *known == code)?;
        Some(match about {
            About::Message => ErrorClass::Permanent,
            About::Sender if self.tenants_own_sender => ErrorClass::Permanent,
            About::Sender | About::Account => ErrorClass::Misconfigured,
            About::Pace => ErrorClass::Temporary,
            About::Nobody => ErrorClass::Unknown,
        })
    }
}

impl Words for Codes {
    fn success(&self, answer: &Answer) -> Reading {
        match serde_json::from_slice::<Created>(&answer.body) {
            Ok(Created { sid }) if is_message_sid(&sid) => {
                Reading::Accepted { provider_message_id: Some(sid), cost: None }
            }
            Ok(_) => Reading::Unreadable("and a `sid` that is none".into()),
            Err(_) => Reading::Unreadable("and no message in JSON".into()),
        }
    }

    fn refusal(&self, answer: &Answer) -> Refusal {
        match serde_json::from_slice::<Refused>(&answer.body) {
            Ok(Refused { code, message }) => Refusal {
                class: code.and_then(|code| match self.class(code) {
                    // Forbidden for what it is, where the code is not of signing in (20xxx).
                    None if answer.status == 403 && code >= 21_000 => Some(ErrorClass::Permanent),
                    known => known,
                }),
                code: code.map(|code| code.to_string()),
                detail: message,
                retry_after_seconds: None,
            },
            Err(_) => Refusal::default(),
        }
    }
}

/// `SM…` for text, `MM…` for media.
pub(super) fn is_message_sid(text: &str) -> bool {
    ["SM", "MM"].into_iter().any(|prefix| super::settings::is_sid(prefix, text))
}

/// Why a receipt says that a message will not arrive.
pub(super) fn undelivered(code: Option<&str>, words: &str) -> AttemptError {
    let class = code
        .and_then(|code| code.parse().ok())
        .and_then(|code| Codes { tenants_own_sender: true }.class(code))
        .unwrap_or(ErrorClass::Permanent);
    AttemptError { class, code: code.map(clean), detail: clean(words) }
}
