//! Deciding about a request that was read leanly: nothing is kept, nothing is sent, and nothing is put into words.
//!
//! The same generation, instant and facts as `decide` has for a whole request. What cannot be answered from these (an
//! unknown tenant or variant, a person of whom a table has to be read) is left to the whole way, which says why and waits.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};

use super::{About, Orchestrator};
use crate::{
    decide::{self, Choice, DecisionInput},
    domain::{
        address::{Reach, Spotted},
        channel::PerChannel,
        facts::Facts,
        ids::{PolicyVersion, RecipientId, TenantId},
        question::Question,
    },
    failpoint,
    policy::{bundle::Bundle, template::Words},
    request::lean::Lean,
};

/// All that a lean decision is made from.
pub struct Grounds<'r> {
    lean: &'r Lean<'r>,
    bundle: Arc<Bundle>,
    recipient: RecipientId,
    contacts: PerChannel<Spotted<'r>>,
    words: Words,
    facts: Facts,
    at: DateTime<Utc>,
    generation: u64,
}

/// A lean decision, with what an answer says beside it.
pub struct Weighed<'g> {
    bundle: &'g Bundle,
    variant: Option<&'g str>,
    choice: Choice<'g>,
    /// How long deciding took, without gathering the facts.
    pub took: Duration,
}

impl Orchestrator {
    /// Gathers what the decision takes, for a tenant that `may_see` lets through. None where that is not at hand.
    pub fn grounds<'r>(
        &self,
        lean: &'r Lean<'r>,
        may_see: impl FnOnce(&TenantId) -> bool,
    ) -> Option<Grounds<'r>> {
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
        let (bundle, generation) = (bundle.clone(), generation.number);
        Some(Grounds { lean, bundle, recipient, contacts, words, facts, at, generation })
    }
}

impl Grounds<'_> {
    /// Decides.
    pub fn weigh(&self) -> Weighed<'_> {
        let variant = match self.lean.variant.as_deref() {
            Some(name) => Some(name),
            None => decide::assign_variant(&self.bundle, &self.recipient),
        };
        let input = DecisionInput {
            question: self.question(),
            reach: Reach::of_spotted(&self.contacts),
            words: &self.words,
            facts: &self.facts,
            at: self.at,
            variant,
            generation: self.generation,
        };
        failpoint::hit("route.loaded");
        let started = Instant::now();
        failpoint::hit("route.eval_start");
        let choice = decide::choose(&self.bundle, &input);
        failpoint::hit("route.eval_end");
        Weighed { bundle: &self.bundle, variant, choice, took: started.elapsed() }
    }

    fn question(&self) -> Question<'_> {
        let Lean { preferences, .. } = self.lean;
        Question {
            kind: self.lean.kind,
            priority: self.lean.priority,
            send_within: self.lean.send_within,
            preferred: preferences.preferred.as_slice(),
            disabled: preferences.disabled.as_slice(),
            quiet_start: preferences.quiet_start,
            quiet_end: preferences.quiet_end,
            allow_sms_in_quiet_hours: preferences.allow_sms_in_quiet_hours,
            time_zone: self.lean.time_zone,
            locale: self.lean.locale.as_deref(),
            event_at: self.lean.event_at,
            tags: &self.lean.tags,
            origin: self.lean.origin,
            consent: self.lean.consent,
            template: None,
            send_at: self.lean.send_at,
            deadline: self.lean.deadline,
            body: "",
        }
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
        &self.choice
    }
}
