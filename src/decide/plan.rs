//! The channels to try, in order, with the rules that hold while they are tried.
//!
//! Made once, from the decision: nothing here decides anew.

use super::{DecisionInput, Situation, timing};
use crate::{
    domain::{
        channel::Channel,
        decision::{ChannelDecision, Decision},
        delivery::{Hop, Plan},
    },
    policy::bundle::Bundle,
};

/// The plan of a decision; `None` when no channel may be used. The chosen channel comes first, then the
/// request's fallback channels, then the rest as ranked.
pub fn plan(bundle: &Bundle, input: &DecisionInput<'_>, decision: &Decision) -> Option<Plan> {
    let chosen = decision.chosen?;
    let policy = bundle.policy();
    let situation = Situation::of(bundle, input);
    let further = if policy.fallback.enabled { usize::from(policy.fallback.max_fallbacks) } else { 0 };
    let mut order: Vec<Channel> = vec![chosen];
    let wanted = input.request.preferences.fallback.iter().copied();
    let ranked = decision.channels.iter().map(|c| c.channel);
    for channel in wanted.chain(ranked) {
        if order.len() > further {
            break;
        }
        if decision.channel(channel).eligible && !order.contains(&channel) {
            order.push(channel);
        }
    }
    let hops =
        order.iter().filter_map(|c| hop(bundle, input, &situation, decision.channel(*c), &order)).collect();
    Some(Plan {
        hops,
        not_before: decision.held_until,
        held_reason: decision.channel(chosen).held_reason.clone(),
        deadline: situation.timing.deadline,
        class: input.request.class(),
        time_zone: decision.time_zone.clone(),
        budget_time_zone: policy.time_zone.name().to_owned(),
        escalation: None,
    })
}

fn hop(
    bundle: &Bundle,
    input: &DecisionInput<'_>,
    situation: &Situation<'_>,
    decided: &ChannelDecision,
    order: &[Channel],
) -> Option<Hop> {
    let (policy, channel) = (bundle.policy(), decided.channel);
    let place = |wanted: Channel| order.iter().position(|c| *c == wanted);
    let after_retries = policy.retry[channel].fallback_after_retries.and_then(place);
    let terms = &policy.channels[channel];
    Some(Hop {
        channel,
        address: input.contacts[channel].address()?.clone(),
        drivers: terms.drivers.clone(),
        from: terms.from.clone(),
        from_name: terms.from_name.clone(),
        reply_to: terms.reply_to.clone(),
        cost: decided.cost,
        quiet_hours: situation.timing.binding_quiet_hours(policy, input.request, situation.priority, channel),
        french_legal_window: timing::french_window(policy, input.request, channel),
        retry_delays: policy.retry[channel].delays_seconds.clone(),
        // A channel that was tried already is not gone back to.
        after_retries: after_retries
            .filter(|at| place(channel).is_some_and(|here| *at > here))
            .and_then(|at| u16::try_from(at).ok()),
        on_unknown: policy.on_unknown[channel],
        rendered: input.words.rendering.as_ref().and_then(|rendering| rendering.forms[channel].clone()),
    })
}
