//! What the Bot API's answer says about an attempt (reliability.md P4, row "Telegram").
//!
//! Pure. There is no idempotency and no list to ask, so that whatever is not a complete answer stays unknown.

use secrecy::SecretString;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    channels::{
        http::{
            Answer,
            classify::{Reading, Refusal, Words},
        },
        secret,
    },
    domain::delivery::ErrorClass::{self, Misconfigured, Permanent, Temporary},
};

/// What a refusal is, by its status and a part of its description in lower case (empty: any). The first row that
/// fits counts. Telegram documents no list; these are the words that it uses.
#[rustfmt::skip]
const REFUSALS: &[(u16, &str, ErrorClass, &str)] = &[
    (400, "chat not found", Permanent, "400 chat not found"),
    (400, "upgraded to a supergroup", Permanent, "400 migrated"),
    (400, "message is too long", Permanent, "400 too long"),
    (400, "caption is too long", Permanent, "400 too long"),
    (400, "caption_too_long", Permanent, "400 too long"),
    (400, "text is empty", Permanent, "400 empty"),
    (400, "peer_id_invalid", Permanent, "400 chat not found"),
    (400, "not enough rights", Permanent, "400 no rights"),
    (400, "chat_write_forbidden", Permanent, "400 no rights"),
    (400, "", Permanent, "400"),
    // A token that was withdrawn, and one that never was: the path does not exist.
    (401, "", Misconfigured, "401"),
    (403, "blocked by the user", Permanent, "403 blocked"),
    (403, "deactivated", Permanent, "403 deactivated"),
    (403, "initiate conversation", Permanent, "403 not started"),
    (403, "kicked", Permanent, "403 kicked"),
    (403, "", Permanent, "403"),
    (404, "", Misconfigured, "404"),
    (413, "", Permanent, "413 too large"),
    (429, "", Temporary, "429"),
];

/// Answers to a message of the bot for the chat `to`.
pub struct ToMessage<'a> {
    pub bot: &'a str,
    pub to: &'a str,
    pub token: &'a SecretString,
}

#[derive(Deserialize)]
struct Taken {
    ok: bool,
    result: TakenMessage,
}

#[derive(Deserialize)]
struct TakenMessage {
    message_id: i64,
    chat: Chat,
}

#[derive(Deserialize)]
struct Chat {
    id: i64,
}

impl Words for ToMessage<'_> {
    fn success(&self, answer: &Answer) -> Reading {
        let unreadable = |why: &str| Reading::Unreadable(why.to_owned());
        let Ok(Taken { ok: true, result }) = serde_json::from_slice(&answer.body) else {
            return unreadable("which is not an answer of the Bot API to a message");
        };
        if self.to.parse::<i64>().is_ok_and(|chat| chat != result.chat.id) {
            return unreadable("and speaks of a message in another chat");
        }
        if result.message_id <= 0 {
            return unreadable("and names a message without an id");
        }
        Reading::Accepted {
            provider_message_id: Some(message_id(self.bot, result.chat.id, result.message_id)),
            cost: None,
        }
    }

    fn refusal(&self, answer: &Answer) -> Refusal {
        let body: Value = serde_json::from_slice(&answer.body).unwrap_or_default();
        let said = body["description"].as_str().unwrap_or_default();
        let lower = said.to_lowercase();
        let row = REFUSALS.iter().find(|(status, part, ..)| *status == answer.status && lower.contains(part));
        let parameters = &body["parameters"];
        let mut detail = secret::without(said, self.token);
        if parameters["migrate_to_chat_id"].is_i64() {
            detail.push_str(": the group has become a supergroup with an id of its own, write to that one");
        }
        Refusal {
            class: row.map(|(_, _, class, _)| *class),
            code: row.map(|(.., code)| (*code).to_owned()),
            detail,
            retry_after_seconds: parameters["retry_after"]
                .as_u64()
                .map(|s| u32::try_from(s).unwrap_or(u32::MAX)),
        }
    }
}

/// Telegram's numbers name one message of one bot's chat. Over its private chats a bot has one sequence, so that the
/// number is enough and says nothing of the person; elsewhere (negative ids) the chat belongs to it.
pub fn message_id(bot: &str, chat: i64, message: i64) -> String {
    if chat > 0 { format!("{bot}:{message}") } else { format!("{bot}:{chat}:{message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_named_without_its_person() {
        assert_eq!(message_id("77", 123_456_789, 42), "77:42");
        assert_eq!(message_id("77", -1_001_234, 42), "77:-1001234:42");
    }

    #[test]
    fn every_status_of_the_table_ends_with_a_row_for_any_words() {
        for (status, part, ..) in REFUSALS {
            let last = REFUSALS.iter().rfind(|(other, ..)| other == status).unwrap();
            assert!(last.1.is_empty(), "{status}");
            assert_eq!(*part, part.to_lowercase());
        }
    }
}
