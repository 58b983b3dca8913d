//! Request, bundle, facts and instant in; decision out. Pure: no clock, no store, no network, no randomness.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        address::Contact,
        channel::PerChannel,
        decision::Decision,
        delivery::Plan,
        facts::Facts,
        ids::RecipientId,
        message::{ContentProfile, MessageRequest},
    },
    policy::bundle::Bundle,
};

pub mod explanation;

/// All that a decision depends on, beside the bundle.
#[derive(Clone, Debug)]
pub struct DecisionInput<'a> {
    pub request: &'a MessageRequest,
    /// `address::read_contacts` with the tenant's region.
    pub contacts: &'a PerChannel<Contact>,
    pub profile: ContentProfile,
    pub facts: &'a Facts,
    pub at: DateTime<Utc>,
    pub variant: Option<&'a str>,
    pub generation: u64,
}

/// Gates, scores, ranks and chooses.
pub fn decide(bundle: &Bundle, input: &DecisionInput<'_>) -> Decision {
    let _ = (bundle, input);
    todo!("skeleton")
}

/// The variant that a recipient has under the tenant's `variant` or `[split]`: always the same one, by hash.
pub fn assign_variant<'b>(bundle: &'b Bundle, recipient: &RecipientId) -> Option<&'b str> {
    let _ = (bundle, recipient);
    todo!("skeleton")
}

/// The channels to try, in order, with the rules that hold meanwhile; `None` when none may be used.
pub fn plan(bundle: &Bundle, input: &DecisionInput<'_>, decision: &Decision) -> Option<Plan> {
    let _ = (bundle, input, decision);
    todo!("skeleton")
}
