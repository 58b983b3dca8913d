//! Telegram's webhook: what people write to the bot, and whether they block it.
//!
//! Verified by the secret header before a character is parsed; Telegram signs nothing else. Updates come in any
//! order and more than once: each carries its `update_id`, which the store counts once.

use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::classify::message_id;
use crate::{
    channels::{
        callback::{CallbackAnswer, CallbackRefused, CallbackRequest, Callbacks},
        http::signature::same,
    },
    domain::{
        channel::Channel,
        receipt::{InboundMessage, ProviderEvent},
    },
};

/// What Telegram's callbacks are verified with.
pub struct Webhook {
    /// The bot's own id: the number before the token's colon.
    bot: String,
    /// Two while the secret is being changed.
    secrets: Vec<SecretString>,
}

impl Webhook {
    pub fn new(bot: &str, secrets: Vec<SecretString>) -> Self {
        Self { bot: bot.to_owned(), secrets }
    }

    /// Every secret is tried, and every byte compared, whatever matches.
    fn is_known(&self, given: &str) -> bool {
        let is = |secret: &SecretString| same(secret.expose_secret().as_bytes(), given.as_bytes());
        self.secrets.iter().fold(false, |known, secret| is(secret) | known)
    }

    fn event(&self, update: &Value) -> Result<Option<ProviderEvent>, CallbackRefused> {
        let unreadable = CallbackRefused::Unreadable("the update lacks its id, chat or kind");
        let id = update["update_id"].as_i64().ok_or(unreadable)?;
        // Somebody who edits a text into a STOP means it.
        for kind in ["message", "edited_message"] {
            if !update[kind].is_null() {
                return self.inbound(id, &update[kind]).ok_or(unreadable);
            }
        }
        match &update["my_chat_member"] {
            Value::Null => Ok(None),
            change => membership(change).ok_or(unreadable),
        }
    }

    /// Nothing for what is not said to the bot: in a group, people talk to each other.
    fn inbound(&self, update: i64, message: &Value) -> Option<Option<ProviderEvent>> {
        let chat = message["chat"]["id"].as_i64()?;
        let text =
            [&message["text"], &message["caption"]].into_iter().find_map(Value::as_str).unwrap_or_default();
        let answered = &message["reply_to_message"];
        let to_us = answered["from"]["id"].as_i64().is_some_and(|id| id.to_string() == self.bot);
        let private = message["chat"]["type"] == "private";
        if !private && !to_us && !text.starts_with('/') {
            return Some(None);
        }
        Some(Some(ProviderEvent::Inbound(InboundMessage {
            channel: Channel::Telegram,
            provider_message_id: format!("{}:update:{update}", self.bot),
            from: chat.to_string(),
            to: self.bot.clone(),
            text: without_slash(text).to_owned(),
            at: message["date"].as_i64().and_then(|seconds| chrono::DateTime::from_timestamp(seconds, 0)),
            answers: answered["message_id"].as_i64().map(|id| message_id(&self.bot, chat, id)),
        })))
    }
}

/// Whether the person, or the group, still lets the bot write.
fn membership(change: &Value) -> Option<Option<ProviderEvent>> {
    let chat = change["chat"]["id"].as_i64()?;
    let blocked = match change["new_chat_member"]["status"].as_str()? {
        "kicked" | "left" => true,
        "member" | "administrator" | "creator" => false,
        // Restricted in a group: what it may still do is told when it is tried.
        _ => return Some(None),
    };
    Some(Some(ProviderEvent::Blocked { channel: Channel::Telegram, address: chat.to_string(), blocked }))
}

/// A command as the word that it is: `/stop@our_bot now` reads `stop`, for what follows a command is its
/// argument. Other texts stay as they are.
fn without_slash(text: &str) -> &str {
    let Some(command) = text.trim_start().strip_prefix('/') else { return text };
    let word = command.split_whitespace().next().unwrap_or_default();
    word.split('@').next().unwrap_or_default()
}

impl Callbacks for Webhook {
    fn read(&self, request: &CallbackRequest<'_>) -> Result<CallbackAnswer, CallbackRefused> {
        let given = request.header("x-telegram-bot-api-secret-token").unwrap_or_default();
        if request.method != "POST" || !self.is_known(given) {
            return Err(CallbackRefused::NotVerified);
        }
        let update: Value = serde_json::from_slice(request.body)
            .map_err(|_| CallbackRefused::Unreadable("the body is not JSON"))?;
        Ok(CallbackAnswer::Events(self.event(&update)?.into_iter().collect()))
    }
}
