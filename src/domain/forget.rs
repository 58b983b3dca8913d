//! What is left of a message once the words and the person are forgotten: what was decided, and what became of it.
//!
//! Pure. Whom somebody must not be written to is no part of a message, and is not forgotten here.

use super::{
    address::{Address, RawContacts},
    decision::{Decision, Gate, GateReason},
    delivery::Plan,
    ids::RecipientId,
    message::{Content, MessageRequest},
};

/// What stands where a provider's or a gate's words may have held an address.
pub const FORGOTTEN: &str = "(forgotten)";

/// Name, addresses, words, files and what they were made of. `erased` takes the place of the caller's own name for
/// the person; none: it stays, because it says nothing to anybody but the caller.
pub fn forget_request(request: &mut MessageRequest, erased: Option<&RecipientId>) {
    request.recipient_name = None;
    request.contacts = RawContacts::default();
    request.ordering_key = None;
    request.tags.clear();
    request.content = Content { template: request.content.template.take(), ..Content::default() };
    if let Some(recipient) = erased {
        request.recipient = recipient.clone();
    }
}

/// Where each hop went, and what was rendered for it.
pub fn forget_plan(plan: &mut Plan) {
    for hop in &mut plan.hops {
        match &mut hop.address {
            Address::Phone(text) | Address::Email(text) | Address::Chat(text) => text.clear(),
        }
        hop.rendered = None;
    }
}

/// The gates that quote what was written. Scripts see no address and no words, so their reasons quote none.
pub fn forget_decision(decision: &mut Decision) {
    for channel in &mut decision.channels {
        let quoting = |gate: &&mut GateReason| matches!(gate.gate, Gate::Address | Gate::Suppressed);
        for gate in channel.gates.iter_mut().filter(quoting) {
            FORGOTTEN.clone_into(&mut gate.reason);
        }
    }
}
