//! The JSON Schema of template files, for editors that complete and check TOML.
//!
//! Draft 7, as the policies' schema. It cannot read the texts: `check` does.

use serde_json::{Value, json};

/// The schema of `templates/*.toml`.
pub fn json_schema() -> Value {
    let text = |about: &str| json!({ "type": "string", "minLength": 1, "description": about });
    let body = "What is sent, with {{ variables }} in it.";
    let form = |properties: Value, required: &[&str], about: &str| {
        json!({
            "type": "object",
            "description": about,
            "properties": properties,
            "required": required,
            "additionalProperties": false,
        })
    };
    let approved = form(
        json!({
            "name": { "type": "string", "pattern": "^[a-z0-9_]+$", "description": "Its name at the provider." },
            "language": {
                "type": "string",
                "pattern": "^[a-z]{2,3}([_-][A-Z]{2})?$",
                "description": "Its language at the provider, such as fr or en_US.",
            },
            "parameters": {
                "type": "array",
                "maxItems": 20,
                "items": text("The value of one placeholder."),
                "description": "The values of the body's placeholders, in order.",
            },
        }),
        &["name", "language"],
        "The template that WhatsApp approved beforehand, for messages outside the 24 hours.",
    );
    let locale = json!({
        "type": "object",
        "description": "One language: a section for each channel that it has.",
        "properties": {
            "sms": form(json!({ "text": text(body) }), &["text"], "One or more SMS."),
            "email": form(
                json!({
                    "subject": text("One line."),
                    "text": text(body),
                    "html": text("The same as html; every value in it is escaped."),
                }),
                &["subject", "text"],
                "An email.",
            ),
            "whatsapp": form(json!({ "text": text(body), "approved": approved }), &["text"], "A WhatsApp message."),
            "telegram": form(json!({ "text": text(body) }), &["text"], "A Telegram message."),
        },
        "additionalProperties": false,
    });
    let names = |about: &str| {
        json!({
            "type": "array",
            "maxItems": 50,
            "uniqueItems": true,
            "items": { "type": "string", "pattern": "^[A-Za-z][A-Za-z0-9_]{0,63}$" },
            "description": about,
        })
    };
    json!({
        "$schema": "http://json-schema.org/draft-07/schema#",
        "title": "Channel Orchestrator template",
        "description": "One message in each channel's form, in several languages.",
        "type": "object",
        "properties": {
            "description": text("What the message is for."),
            "variables": names("The names that content.data must have."),
            "optional": names("The names that content.data may have."),
            "example": {
                "type": "object",
                "description": "A value for every variable: what the template is checked with.",
            },
        },
        "patternProperties": { "^[a-z]{2,3}(-[A-Z]{2})?$": locale },
        "additionalProperties": false,
    })
}
