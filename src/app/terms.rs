//! What the tenants' policies in force say of an attempt that is about to be made.
//!
//! Read from the policies as they are at that moment: a budget that is lowered, a channel that is switched off, a consent
//! that is required from now on holds for what was decided before. It counts no money itself.

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    bundles::PolicyHandle,
    delivery::terms::{AttemptTerms, Terms},
    domain::{
        delivery::Hop,
        message::{MessageClass, MessageKind, MessageRequest},
        money::MicroEuros,
    },
    policy::settings::{OnLimit, TenantPolicy},
    store::{Claimed, IntentLimits, PersonCap},
};

/// The policies, asked for each attempt.
pub struct PolicyTerms(pub PolicyHandle);

impl Terms for PolicyTerms {
    fn of(&self, claimed: &Claimed, hop: &Hop, now: DateTime<Utc>) -> AttemptTerms {
        let generation = self.0.current();
        // A tenant that is gone has no rules to add: what was accepted goes by its plan.
        let Some(bundle) = generation.tenant(&claimed.request.tenant) else { return AttemptTerms::default() };
        let policy = bundle.policy();
        AttemptTerms {
            limits: limits(policy, claimed, hop, now),
            waits_at_limit: policy.budget.on_limit == OnLimit::Hold,
            refused: refused(policy, &claimed.request, claimed.plan.class, hop),
            paused: None,
        }
    }
}

fn limits(policy: &TenantPolicy, claimed: &Claimed, hop: &Hop, now: DateTime<Utc>) -> IntentLimits {
    let (budget, request) = (&policy.budget, &claimed.request);
    let priority = claimed.plan.priority.or(request.priority).unwrap_or(policy.default_priority);
    let target = budget.targets.get(priority).filter(|_| budget.enforce_targets);
    let of_message = budget.max_cost_per_message.get(priority).into_iter().chain(target);
    let cheapest = claimed.plan.hops.iter().map(|hop| hop.cost).min().unwrap_or(MicroEuros::ZERO);
    // `on_limit = "cheapest"`: what is over the budget still goes by the cheapest channel.
    let spared = budget.on_limit == OnLimit::Cheapest && hop.cost <= cheapest;
    let own = budget.origins.get(request.origin).copied().unwrap_or_default();
    let unless_spared = |limit: Option<MicroEuros>| limit.filter(|_| !spared);
    IntentLimits {
        message_max: of_message.min().copied(),
        daily: unless_spared(budget.daily),
        monthly: unless_spared(budget.monthly),
        channel_daily: budget.channels_daily[hop.channel],
        origin_daily: unless_spared(own.daily),
        origin_monthly: unless_spared(own.monthly),
        caps: caps(policy, request.kind, now),
    }
}

/// `[caps]` of every type, and of this message's.
fn caps(policy: &TenantPolicy, kind: Option<MessageKind>, now: DateTime<Utc>) -> Vec<PersonCap> {
    let own = kind.and_then(|kind| policy.caps.of_type.get(&kind).map(|cap| (Some(kind), *cap)));
    let mut caps = Vec::new();
    for (kind, cap) in [(None, policy.caps.all)].into_iter().chain(own) {
        let what = kind.map(|kind| format!("{kind} messages")).unwrap_or_else(|| "messages".to_owned());
        let limits =
            [(cap.per_day, TimeDelta::hours(24), "24 hours"), (cap.per_week, TimeDelta::days(7), "7 days")];
        for (most, time, words) in limits {
            if let Some(most) = most {
                let words = format!("at most {most} {what} in {words}");
                caps.push(PersonCap { kind, since: now - time, most, words });
            }
        }
    }
    caps
}

/// What the policy has against this hop by now, in the words of the decision's own gates.
fn refused(
    policy: &TenantPolicy,
    request: &MessageRequest,
    class: MessageClass,
    hop: &Hop,
) -> Option<String> {
    if !policy.channels[hop.channel].enabled {
        return Some(format!("the tenant has {} switched off", hop.channel));
    }
    match (class, request.consent) {
        (MessageClass::Marketing, Some(false)) => Some("the person did not agree to marketing".to_owned()),
        (MessageClass::Marketing, None) if policy.consent.marketing_required => {
            Some("marketing needs consent, and context.consent does not say that it was given".to_owned())
        }
        _ => None,
    }
}
