//! What one Telegram message is to be, and the request that says so.
//!
//! Pure. One attempt is one message; text is always plain, so that no name can become a link or bold
//! (reliability.md T32). It refuses, before anything leaves, what Telegram would refuse.

use serde_json::{Value, json};

use crate::{
    channels::{Outbound, multipart},
    domain::message::Attachment,
};

/// The longest text, and the longest caption of a file, in Unicode code points: that is what TDLib, which the Bot
/// API is built on, counts (`utf8_length`). Where Telegram's own count should be stricter, its refusal is final.
const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;
/// The largest photo and the largest file, in bytes. A larger picture goes as a file.
const PHOTO_BYTES_MAX: usize = 10 * 1024 * 1024;
const FILE_BYTES_MAX: usize = 50 * 1024 * 1024;

/// What the operator set for all messages.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Options {
    pub link_previews: bool,
    pub protect_content: bool,
}

/// The call to make.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Call {
    /// `sendMessage`, `sendPhoto` or `sendDocument`.
    pub method: &'static str,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// Why nothing is sent: a code for programs, words for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub code: &'static str,
    pub words: String,
}

fn refused<T>(code: &'static str, words: impl Into<String>) -> Result<T, Refusal> {
    Err(Refusal { code, words: words.into() })
}

/// Chooses the method and writes the body.
pub fn call(outbound: &Outbound, options: Options) -> Result<Call, Refusal> {
    let text = outbound.content.body.as_str();
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if text.chars().any(odd) {
        return refused("content", "the text holds a control character");
    }
    let characters = text.chars().count();
    match outbound.content.attachments.as_slice() {
        [] if text.trim().is_empty() => refused(
            "content",
            "there is no plain text to send: HTML made for emails is not shown by Telegram",
        ),
        [] if characters > TEXT_MAX => refused(
            "too_long",
            format!("the text has {characters} characters: Telegram takes {TEXT_MAX} in one message"),
        ),
        [] => Ok(text_call(outbound, options)),
        [_] if characters > CAPTION_MAX => refused(
            "too_long",
            format!(
                "the text has {characters} characters and goes as the file's caption, which takes {CAPTION_MAX}: shorten \
                 it, or send text and file as two messages"
            ),
        ),
        [file] => file_call(outbound, file, options),
        files => refused(
            "attachments",
            format!("{} attachments: one file goes in a message, send one message each", files.len()),
        ),
    }
}

fn text_call(outbound: &Outbound, options: Options) -> Call {
    let to = outbound.to.as_str();
    let mut body = json!({
        "chat_id": to.parse::<i64>().map_or_else(|_| Value::from(to), Value::from),
        "text": outbound.content.body,
    });
    if !options.link_previews {
        body["link_preview_options"] = json!({ "is_disabled": true });
    }
    if options.protect_content {
        body["protect_content"] = true.into();
    }
    Call {
        method: "sendMessage",
        content_type: "application/json".into(),
        body: body.to_string().into_bytes(),
    }
}

fn file_call(outbound: &Outbound, file: &Attachment, options: Options) -> Result<Call, Refusal> {
    let bytes = file.bytes.len();
    if bytes == 0 {
        return refused("attachments", "the attachment is empty, which Telegram refuses");
    }
    if bytes > FILE_BYTES_MAX {
        return refused(
            "attachments",
            format!("the attachment has {bytes} bytes: Telegram takes {FILE_BYTES_MAX} from a bot"),
        );
    }
    let media_type = multipart::media_type(&file.content_type);
    let photo = matches!(media_type.as_str(), "image/jpeg" | "image/png") && bytes <= PHOTO_BYTES_MAX;
    let (method, field) = if photo { ("sendPhoto", "photo") } else { ("sendDocument", "document") };
    let mut fields = vec![("chat_id", outbound.to.as_str())];
    if !outbound.content.body.trim().is_empty() {
        fields.push(("caption", &outbound.content.body));
    }
    if options.protect_content {
        fields.push(("protect_content", "true"));
    }
    let form = multipart::form(
        &outbound.attempt.to_string(),
        &fields,
        multipart::File { field, name: &file.file_name, content_type: &media_type, bytes: &file.bytes },
    );
    Ok(Call { method, content_type: form.content_type, body: form.body })
}
