//! The fingerprint of a request: equal for two bodies that ask for the same, however they are written.
//!
//! It is taken from the parsed request, so that spaces, the order of keys and the spelling of an instant do not
//! count. It decides nothing: whether an Idempotency-Key may be used again is the store's affair.

use std::io;

use ring::digest;
use serde::Serialize;

use crate::domain::message::MessageRequest;

/// What a repeat must have in common with the first request.
#[derive(Serialize)]
struct Canonical<'a> {
    request: &'a MessageRequest,
    variant: Option<&'a str>,
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
    let written = serde_json::to_writer(&mut out, &Canonical { request, variant });
    // A request is strings, numbers and maps with text keys, written to memory: nothing in it can fail.
    debug_assert!(written.is_ok(), "{written:?}");
    let mut hash = [0; 32];
    hash.copy_from_slice(out.0.finish().as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        address::RawContacts,
        ids::{RecipientId, TenantId},
        message::{Content, Origin, Preferences},
    };

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

    #[test]
    fn the_order_of_keys_does_not_count_and_everything_else_does() {
        let first = hash(&request(r#"{"a": 1, "b": {"x": 1, "y": 2}}"#), None);
        assert_eq!(first, hash(&request(r#"{"b":{"y":2,"x":1},"a":1}"#), None));
        assert_ne!(first, hash(&request(r#"{"a": 2, "b": {"x": 1, "y": 2}}"#), None));
        assert_ne!(first, hash(&request(r#"{"a": 1, "b": {"x": 1, "y": 2}}"#), Some("frugal")));
    }
}
