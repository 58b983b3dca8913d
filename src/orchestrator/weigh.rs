//! Deciding about a request that was read leanly: nothing is kept, nothing is sent, and nothing is put into words.
//!
//! The same generation, instant and facts as `decide` has for a whole request. What cannot be answered from these (an
//! unknown tenant or variant, a person of whom a table has to be read) is left to the whole way, which says why and waits.

use std::time::{Duration, Instant};

use super::{About, Orchestrator};
use crate::{
    decide::{self, Choice, DecisionInput},
    domain::{
        address::Reach,
        channel::PerChannel,
        ids::{PolicyVersion, RecipientId, TenantId},
        question::Question,
    },
    failpoint,
    policy::{bundle::Bundle, template::Words},
    request::lean::Lean,
};

/// A lean decision, with what an answer says beside it.
pub struct Weighed<'g> {
    bundle: &'g Bundle,
    variant: Option<&'g str>,
    choice: &'g Choice<'g>,
    /// How long deciding took, without gathering the facts.
    pub took: Duration,
}

impl Orchestrator {
    /// Decides, for a tenant that `may_see` lets through, and gives the decision to `then`; with what it was made from it
    /// is large, and stays where it stands. None where that is not at hand.
    pub fn weigh<T>(
        &self,
        lean: &Lean<'_>,
        may_see: impl FnOnce(&TenantId) -> bool,
        then: impl FnOnce(&Weighed<'_>) -> T,
    ) -> Option<T> {
        let generation = self.policies.current();
        let bundle = generation.bundles.named(lean.tenant).filter(|b| may_see(b.tenant()))?;
        if lean.variant.as_deref().is_some_and(|name| !bundle.has_variant(name)) {
            return None;
        }
        let recipient = RecipientId::parse(&lean.recipient).ok()?;
        let at = lean.at.unwrap_or_else(|| self.clock.now());
        let contacts = lean.contacts.spot(bundle.policy().region);
        let about = About {
            tenant: bundle.tenant(),
            recipient: &recipient,
            kind: lean.kind,
            origin: lean.origin,
            send_at: lean.send_at,
        };
        let addresses = PerChannel::from_fn(|channel| contacts[channel].address());
        let facts = self.facts_at_hand(bundle, about, addresses, at)?;
        let content = lean.content;
        let words =
            Words { message: content, channels: PerChannel::from_fn(|_| content), ..Words::default() };
        let variant = match lean.variant.as_deref() {
            Some(name) => Some(name),
            None => decide::assign_variant(bundle, &recipient),
        };
        let input = DecisionInput {
            question: question(lean),
            reach: Reach::of_spotted(&contacts),
            words: &words,
            facts: &facts,
            at,
            variant,
            generation: generation.number,
        };
        failpoint::hit("route.loaded");
        let started = Instant::now();
        failpoint::hit("route.eval_start");
        Some(decide::choose_for(bundle, &input, |choice| {
            failpoint::hit("route.eval_end");
            then(&Weighed { bundle, variant, choice, took: started.elapsed() })
        }))
    }
}

fn question<'l>(lean: &'l Lean<'_>) -> Question<'l> {
    let Lean { preferences, .. } = lean;
    Question {
        kind: lean.kind,
        priority: lean.priority,
        send_within: lean.send_within,
        preferred: preferences.preferred.as_slice(),
        disabled: preferences.disabled.as_slice(),
        quiet_start: preferences.quiet_start,
        quiet_end: preferences.quiet_end,
        allow_sms_in_quiet_hours: preferences.allow_sms_in_quiet_hours,
        time_zone: lean.time_zone,
        locale: lean.locale.as_deref(),
        event_at: lean.event_at,
        tags: &lean.tags,
        origin: lean.origin,
        consent: lean.consent,
        template: None,
        send_at: lean.send_at,
        deadline: lean.deadline,
        body: "",
    }
}

impl<'g> Weighed<'g> {
    pub fn tenant(&self) -> &TenantId {
        self.bundle.tenant()
    }

    pub fn version(&self) -> &PolicyVersion {
        self.bundle.version()
    }

    pub fn variant(&self) -> Option<&str> {
        self.variant
    }

    pub fn choice(&self) -> &Choice<'g> {
        self.choice
    }
}
