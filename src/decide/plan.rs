//! The channels to try, in order, with the rules that hold while they are tried.
//!
//! Made once, from the decision: nothing here decides anew.

use chrono::TimeDelta;

use super::{DecisionInput, Situation, timing};
use crate::{
    domain::{
        address::Contact,
        channel::{Channel, PerChannel},
        decision::{ChannelDecision, Decision, Gate},
        delivery::{Hop, Plan, PlannedEscalation, TrackingTerms},
    },
    policy::{bundle::Bundle, settings::TenantPolicy},
};

/// The plan of a decision that `decide` made of the same input; `None` when no channel may be used. The chosen
/// channel comes first, then the `fallback` channels that the request names, then the rest as ranked.
pub fn plan(
    bundle: &Bundle,
    input: &DecisionInput<'_>,
    decision: &Decision,
    contacts: &PerChannel<Contact>,
    fallback: &[Channel],
) -> Option<Plan> {
    let chosen = decision.chosen?;
    let policy = bundle.policy();
    let situation = Situation::of(bundle, input);
    let path = Path { bundle, input, situation: &situation, decision, contacts };
    let further = if policy.fallback.enabled { usize::from(policy.fallback.max_fallbacks) } else { 0 };
    let mut order: Vec<Channel> = vec![chosen];
    let wanted = fallback.iter().copied();
    let ranked = decision.channels.iter().map(|c| c.channel);
    for channel in wanted.chain(ranked) {
        if order.len() > further {
            break;
        }
        if decision.channel(channel).eligible && !order.contains(&channel) {
            order.push(channel);
        }
    }
    let mut hops: Vec<Hop> = order.iter().filter_map(|c| path.hop(decision.channel(*c), &order)).collect();
    let escalation = path.escalation(&mut hops);
    Some(Plan {
        hops,
        not_before: decision.held_until,
        held_reason: decision.channel(chosen).held_reason.clone(),
        deadline: situation.timing.deadline,
        class: input.question.class(),
        time_zone: decision.time_zone.clone(),
        budget_time_zone: policy.time_zone.name().to_owned(),
        escalation,
        priority: Some(situation.priority),
        tracking: tracking(policy, input.question.consent),
    })
}

/// Neither images nor links tell anything where the tenant does not track, or where the person refused
/// (CNIL; reliability.md T23). A consent that nobody asked about is the tenant's to answer for, by
/// `learning.track_engagement`.
fn tracking(policy: &TenantPolicy, consent: Option<bool>) -> TrackingTerms {
    let allowed = policy.learning.track_engagement
        && policy.channels[Channel::Email].tracking
        && consent != Some(false);
    if !allowed {
        return TrackingTerms::default();
    }
    TrackingTerms { engagement: true, hosts: policy.tracking_hosts.clone() }
}

/// What the hops of one message are made from.
struct Path<'p> {
    bundle: &'p Bundle,
    input: &'p DecisionInput<'p>,
    situation: &'p Situation<'p>,
    decision: &'p Decision,
    contacts: &'p PerChannel<Contact>,
}

impl Path<'_> {
    /// The strategy's escalation, with its hop behind the fallbacks. Not to the channel that is tried first, nor to one
    /// that something closed for good; what changes with time (hours, money, drivers, what the person writes) is looked at when it is sent.
    fn escalation(&self, hops: &mut Vec<Hop>) -> Option<PlannedEscalation> {
        let wanted = self.situation.strategy?.escalate.as_ref()?;
        let decided = self.decision.channel(wanted.to);
        let passing = |gate: Gate| {
            matches!(
                gate,
                Gate::Driver
                    | Gate::Budget
                    | Gate::Deadline
                    | Gate::QuietHours
                    | Gate::Suppressed
                    | Gate::ServiceWindow
            )
        };
        // What comes after the appointment helps nobody.
        let earliest = self.situation.timing.goes_at + TimeDelta::seconds(i64::from(wanted.after_seconds));
        let too_late = self.input.question.event_at.is_some_and(|event| earliest >= event);
        let closed = !decided.gates.iter().all(|g| passing(g.gate));
        if too_late || closed || self.decision.chosen == Some(wanted.to) {
            return None;
        }
        let last = self.hop(decided, &[wanted.to])?;
        let at = u16::try_from(hops.len()).ok()?;
        hops.push(last);
        Some(PlannedEscalation {
            hop: at,
            after_seconds: wanted.after_seconds,
            unless: wanted.unless.clone(),
        })
    }

    fn hop(&self, decided: &ChannelDecision, order: &[Channel]) -> Option<Hop> {
        let (policy, channel) = (self.bundle.policy(), decided.channel);
        let (timing, priority) = (&self.situation.timing, self.situation.priority);
        let question = &self.input.question;
        let place = |wanted: Channel| order.iter().position(|c| *c == wanted);
        let after_retries = policy.retry[channel].fallback_after_retries.and_then(place);
        let terms = &policy.channels[channel];
        Some(Hop {
            channel,
            address: self.contacts[channel].address()?.clone(),
            drivers: terms.drivers.clone(),
            from: terms.from.clone(),
            from_name: terms.from_name.clone(),
            reply_to: terms.reply_to.clone(),
            cost: decided.cost,
            quiet_hours: timing.binding_quiet_hours(policy, question, priority, channel),
            french_legal_window: timing::french_window(policy, question, channel),
            retry_delays: policy.retry[channel].delays_seconds.clone(),
            // A channel that was tried already is not gone back to.
            after_retries: after_retries
                .filter(|at| place(channel).is_some_and(|here| *at > here))
                .and_then(|at| u16::try_from(at).ok()),
            on_unknown: policy.on_unknown[channel],
            rendered: self
                .input
                .words
                .rendering
                .as_ref()
                .and_then(|rendering| rendering.forms[channel].clone()),
        })
    }
}
