//! The fingerprint of a request: equal for two bodies that ask for the same, however they are written.
//!
//! It is taken from the parsed request, so that spaces, the order of keys and the spelling of an instant do not
//! count. How a request is kept does not count either: a fingerprint outlives upgrades, so its form is written down here
//! and never changes. It decides nothing: whether an Idempotency-Key may be used again is the store's affair.

use std::io;

use chrono::{DateTime, NaiveTime, Utc};
use chrono_tz::Tz;
use ring::digest;
use serde::Serialize;

use crate::domain::{
    address::RawContacts,
    channel::Channel,
    ids::{RecipientId, TenantId},
    message::{Attachment, Content, MessageKind, MessageRequest, Origin, Preferences, Priority},
};

/// What a repeat must have in common with the first request.
#[derive(Serialize)]
struct Canonical<'a> {
    request: Request<'a>,
    variant: Option<&'a str>,
}

/// Every field, those that say nothing too.
#[derive(Serialize)]
struct Request<'a> {
    tenant: &'a TenantId,
    recipient: &'a RecipientId,
    recipient_name: Option<&'a str>,
    contacts: Contacts<'a>,
    kind: Option<MessageKind>,
    priority: Option<Priority>,
    send_within: Option<u32>,
    preferences: Wishes<'a>,
    time_zone: Option<Tz>,
    locale: Option<&'a str>,
    event_at: Option<DateTime<Utc>>,
    tags: &'a [String],
    origin: Origin,
    consent: Option<bool>,
    content: Words<'a>,
    send_at: Option<DateTime<Utc>>,
    deadline: Option<DateTime<Utc>>,
    ordering_key: Option<&'a str>,
}

#[derive(Serialize)]
struct Contacts<'a> {
    phone: Option<&'a str>,
    email: Option<&'a str>,
    whatsapp: Option<&'a str>,
    telegram: Option<&'a str>,
}

#[derive(Serialize)]
struct Wishes<'a> {
    preferred: &'a [Channel],
    fallback: &'a [Channel],
    disabled: &'a [Channel],
    quiet_start: Option<NaiveTime>,
    quiet_end: Option<NaiveTime>,
    allow_sms_in_quiet_hours: bool,
}

#[derive(Serialize)]
struct Words<'a> {
    subject: Option<&'a str>,
    body: &'a str,
    html: Option<&'a str>,
    template: Option<&'a str>,
    data: &'a serde_json::Map<String, serde_json::Value>,
    attachments: &'a [Attachment],
}

impl<'a> Request<'a> {
    /// Taken apart by name: a new field is either here or decided against.
    fn of(request: &'a MessageRequest) -> Self {
        let MessageRequest {
            tenant,
            recipient,
            recipient_name,
            contacts: RawContacts { phone, email, whatsapp, telegram },
            kind,
            priority,
            send_within,
            preferences,
            time_zone,
            locale,
            event_at,
            tags,
            origin,
            consent,
            content: Content { subject, body, html, template, data, attachments },
            send_at,
            deadline,
            ordering_key,
        } = request;
        let Preferences { preferred, fallback, disabled, quiet_start, quiet_end, allow_sms_in_quiet_hours } =
            preferences;
        Self {
            tenant,
            recipient,
            recipient_name: recipient_name.as_deref(),
            contacts: Contacts {
                phone: phone.as_deref(),
                email: email.as_deref(),
                whatsapp: whatsapp.as_deref(),
                telegram: telegram.as_deref(),
            },
            kind: *kind,
            priority: *priority,
            send_within: *send_within,
            preferences: Wishes {
                preferred,
                fallback,
                disabled,
                quiet_start: *quiet_start,
                quiet_end: *quiet_end,
                allow_sms_in_quiet_hours: *allow_sms_in_quiet_hours,
            },
            time_zone: *time_zone,
            locale: locale.as_deref(),
            event_at: *event_at,
            tags,
            origin: *origin,
            consent: *consent,
            content: Words {
                subject: subject.as_deref(),
                body,
                html: html.as_deref(),
                template: template.as_deref(),
                data,
                attachments,
            },
            send_at: *send_at,
            deadline: *deadline,
            ordering_key: ordering_key.as_deref(),
        }
    }
}

/// Feeds the digest without holding the text: a request may be 16 MiB.
struct Digesting(digest::Context);

impl io::Write for Digesting {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.update(bytes);
        Ok(bytes.len())
    }
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// SHA-256 of the request as compact JSON, fields in their declared order and maps sorted by key.
pub fn hash(request: &MessageRequest, variant: Option<&str>) -> [u8; 32] {
    let mut out = Digesting(digest::Context::new(&digest::SHA256));
    let written = serde_json::to_writer(&mut out, &Canonical { request: Request::of(request), variant });
    // A request is strings, numbers and maps with text keys, written to memory: nothing in it can fail.
    debug_assert!(written.is_ok(), "{written:?}");
    let mut hash = [0; 32];
    hash.copy_from_slice(out.0.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::time::parse_time_of_day;

    fn request(data: &str) -> MessageRequest {
        MessageRequest {
            tenant: TenantId::parse("acme").unwrap(),
            recipient: RecipientId::parse("p1").unwrap(),
            recipient_name: None,
            contacts: RawContacts::default(),
            kind: None,
            priority: None,
            send_within: None,
            preferences: Preferences::default(),
            time_zone: None,
            locale: None,
            event_at: None,
            tags: Vec::new(),
            origin: Origin::Api,
            consent: None,
            content: Content {
                body: "hello".into(),
                data: serde_json::from_str(data).unwrap(),
                ..Content::default()
            },
            send_at: None,
            deadline: None,
            ordering_key: None,
        }
    }

    fn hex(hash: [u8; 32]) -> String {
        hash.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// A key that was used before an upgrade is known after it.
    #[test]
    fn the_fingerprint_of_a_request_is_the_same_in_every_version() {
        let bare = request("{}");
        assert_eq!(
            hex(hash(&bare, None)),
            "a63388f9fb57ea6a7706d949db0f6b06e7f94bb05bc82dc376af6ca723185cd8"
        );
        let full = MessageRequest {
            recipient_name: Some("Zoé".into()),
            contacts: RawContacts {
                phone: Some("06 12 34 56 78".into()),
                email: Some("zoe@example.fr".into()),
                whatsapp: Some("+33612345678".into()),
                telegram: Some("42".into()),
            },
            kind: Some(MessageKind::Marketing),
            priority: Some(Priority::Low),
            send_within: Some(10),
            preferences: Preferences {
                preferred: vec![Channel::Email],
                fallback: vec![Channel::Sms],
                disabled: vec![Channel::Telegram],
                quiet_start: parse_time_of_day("21:30"),
                quiet_end: parse_time_of_day("07:00"),
                allow_sms_in_quiet_hours: true,
            },
            time_zone: Some(chrono_tz::Europe::Paris),
            locale: Some("fr".into()),
            event_at: Some(DateTime::UNIX_EPOCH),
            tags: vec!["vip".into()],
            origin: Origin::Public,
            consent: Some(true),
            content: Content {
                subject: Some("Bonjour".into()),
                body: "hello".into(),
                html: Some("<p>hello</p>".into()),
                template: Some("welcome".into()),
                data: serde_json::from_str(r#"{"none": null}"#).unwrap(),
                attachments: vec![Attachment {
                    file_name: "a.txt".into(),
                    content_type: "text/plain".into(),
                    bytes: b"a".to_vec(),
                }],
            },
            send_at: Some(DateTime::UNIX_EPOCH),
            deadline: Some(DateTime::UNIX_EPOCH),
            ordering_key: Some("order".into()),
            ..bare
        };
        assert_eq!(
            hex(hash(&full, Some("frugal"))),
            "bd1ea19bd3254589cbff1aadc5312f5df909f4de62d1e0733f7ee370f1b4ede4"
        );
    }

    #[test]
    fn the_order_of_keys_does_not_count_and_everything_else_does() {
        let first = hash(&request(r#"{"a": 1, "b": {"x": 1, "y": 2}}"#), None);
        assert_eq!(first, hash(&request(r#"{"b":{"y":2,"x":1},"a":1}"#), None));
        assert_ne!(first, hash(&request(r#"{"a": 2, "b": {"x": 1, "y": 2}}"#), None));
        assert_ne!(first, hash(&request(r#"{"a": 1, "b": {"x": 1, "y": 2}}"#), Some("frugal")));
    }
}
