//! What one WhatsApp message is to be, and the JSON that says so.
//!
//! Pure. One attempt is one message: it never splits a text nor sends two files, and it refuses, before anything
//! leaves, what WhatsApp would refuse or cut.

use serde_json::{Value, json};

use crate::{
    channels::{Outbound, mime, multipart},
    domain::{delivery::ApprovedTemplate, message::Attachment},
};

/// The longest text, and the longest caption of a file, in characters.
const TEXT_MAX: usize = 4096;
const CAPTION_MAX: usize = 1024;
/// The largest image and the largest document, in bytes. A larger image goes as a document.
const IMAGE_BYTES_MAX: usize = 5 * 1024 * 1024;
const DOCUMENT_BYTES_MAX: usize = 100 * 1024 * 1024;

/// What a message is made of.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Shape<'a> {
    Text,
    /// A file, with the text as its caption.
    File {
        /// `image` or `document`: the message's type, and the field that describes the file.
        kind: &'static str,
        file: &'a Attachment,
    },
    Template(&'a ApprovedTemplate),
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

/// Chooses the form. Free text and files where WhatsApp takes them (`free`: the person wrote within 24 hours),
/// the approved template elsewhere.
pub fn shape(outbound: &Outbound, free: bool) -> Result<Shape<'_>, Refusal> {
    let content = &outbound.content;
    let nothing = content.body.trim().is_empty() && content.attachments.is_empty();
    if let Some(template) = outbound.approved_template.as_ref().filter(|_| !free || nothing) {
        if !content.attachments.is_empty() {
            return refused(
                "attachments",
                "an approved template carries no attachment, and the person has not written within 24 hours: send \
                 the file by another channel, or a link to it as a parameter",
            );
        }
        if let Some(at) = template.parameters.iter().position(|text| text.trim().is_empty()) {
            let words = format!(
                "parameter {} of the approved template {} is empty, which WhatsApp refuses",
                at + 1,
                template.name
            );
            return refused("content", words);
        }
        return Ok(Shape::Template(template));
    }
    if !free {
        return refused(
            "outside_window",
            "the person has not written to this number within 24 hours, and WhatsApp then takes approved templates \
             only: send a template that has an approved WhatsApp form (its name, language and parameters), or wait \
             until the person writes",
        );
    }
    if nothing {
        return refused("content", "there is no plain text to send: WhatsApp shows no HTML");
    }
    let odd = |c: char| c.is_control() && !matches!(c, '\n' | '\r' | '\t');
    if content.body.chars().any(odd) {
        return refused("content", "the text holds a control character");
    }
    let characters = content.body.chars().count();
    match content.attachments.as_slice() {
        [] if characters > TEXT_MAX => refused(
            "too_long",
            format!("the text has {characters} characters: WhatsApp takes {TEXT_MAX} in one message"),
        ),
        [] => Ok(Shape::Text),
        [_] if characters > CAPTION_MAX => refused(
            "too_long",
            format!(
                "the text has {characters} characters and goes as the file's caption, which takes {CAPTION_MAX}: shorten \
                 it, or send text and file as two messages"
            ),
        ),
        [file] => file_shape(file),
        files => refused(
            "attachments",
            format!(
                "{} attachments: WhatsApp carries one file in a message, send one message each",
                files.len()
            ),
        ),
    }
}

fn file_shape(file: &Attachment) -> Result<Shape<'_>, Refusal> {
    let bytes = file.bytes.len();
    if bytes == 0 {
        return refused("attachments", "the attachment is empty, which WhatsApp refuses");
    }
    if bytes > DOCUMENT_BYTES_MAX {
        return refused(
            "attachments",
            format!("the attachment has {bytes} bytes: WhatsApp takes {DOCUMENT_BYTES_MAX}"),
        );
    }
    let image = matches!(multipart::media_type(&file.content_type).as_str(), "image/jpeg" | "image/png");
    let kind = if image && bytes <= IMAGE_BYTES_MAX { "image" } else { "document" };
    Ok(Shape::File { kind, file })
}

/// The request's body. `media` is the uploaded file's id, for a file; `echo` has the statuses name our attempt.
pub fn body(outbound: &Outbound, shape: &Shape<'_>, media: Option<&str>, echo: bool) -> Value {
    let mut message = json!({
        "messaging_product": "whatsapp",
        "recipient_type": "individual",
        "to": outbound.to.as_str(),
    });
    let (kind, described) = match shape {
        Shape::Text => ("text", json!({ "body": outbound.content.body, "preview_url": false })),
        Shape::File { kind, file } => (*kind, described(outbound, kind, file, media)),
        Shape::Template(template) => ("template", template_body(template)),
    };
    message["type"] = kind.into();
    message[kind] = described;
    if echo {
        message["biz_opaque_callback_data"] = outbound.attempt.to_string().into();
    }
    message
}

fn described(outbound: &Outbound, kind: &str, file: &Attachment, media: Option<&str>) -> Value {
    let mut described = json!({ "id": media.unwrap_or_default() });
    if kind == "document" {
        described["filename"] = mime::file_name(&file.file_name).into();
    }
    if !outbound.content.body.trim().is_empty() {
        described["caption"] = outbound.content.body.as_str().into();
    }
    described
}

fn template_body(template: &ApprovedTemplate) -> Value {
    let mut body = json!({ "name": template.name, "language": { "code": template.language } });
    if !template.parameters.is_empty() {
        let parameters: Vec<Value> = template
            .parameters
            .iter()
            .map(|text| json!({ "type": "text", "text": one_line(text) }))
            .collect();
        body["components"] = json!([{ "type": "body", "parameters": parameters }]);
    }
    body
}

/// A parameter as WhatsApp takes it: no line ends, tabs nor runs of blanks (it refuses more than four).
fn one_line(text: &str) -> String {
    let spaced = text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>();
    spaced.split(' ').filter(|word| !word.is_empty()).collect::<Vec<_>>().join(" ")
}
