//! A receiver's answers: its status says it all.
//!
//! Pure. A body is looked at for a name of the message alone, for it may hold anything.

use serde::Deserialize;

use crate::channels::http::{
    Answer,
    classify::{Reading, Refusal, Words},
};

/// Longer is no name.
const NAME_MAX: usize = 200;

/// Reads the answer to the message of that `webhook-id`.
#[derive(Clone, Copy, Debug)]
pub(super) struct AnyAnswer<'a> {
    pub id: &'a str,
}

#[derive(Deserialize)]
struct Named {
    id: String,
}

impl Words for AnyAnswer<'_> {
    /// The receiver's own name for it, `{"id": "…"}`, where it gives one; else ours.
    fn success(&self, answer: &Answer) -> Reading {
        let named = serde_json::from_slice::<Named>(&answer.body).ok();
        let named = named.map(|named| named.id).filter(|id| {
            (1..=NAME_MAX).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_graphic())
        });
        let id = named.unwrap_or_else(|| self.id.to_owned());
        Reading::Accepted { provider_message_id: Some(id), cost: None }
    }

    fn refusal(&self, _: &Answer) -> Refusal {
        Refusal::default()
    }
}
