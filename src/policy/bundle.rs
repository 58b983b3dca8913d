//! A bundle: one tenant's whole policy, compiled, immutable, with its content hash.
//!
//! The seam behind which scripts run: nothing outside `policy` knows how a criterion is evaluated. A bundle
//! that exists is valid; it never changes.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    criterion::Criterion,
    document::origin::{Origin, Origins},
    scorecard::{Row, Said, Scorecard},
    settings::TenantPolicy,
    strategy::Strategy,
    template::Template,
    verdict::{ScriptFailure, Verdict},
    view::{ChannelView, MessageView},
};
use crate::domain::{
    channel::{Channel, PerChannel},
    ids::{PolicyVersion, TenantId},
};

/// One tenant's policy in force.
#[derive(Debug)]
pub struct Bundle {
    tenant: TenantId,
    version: PolicyVersion,
    policy: TenantPolicy,
    /// In criterion order.
    criteria: Vec<Arc<Criterion>>,
    /// In the order of `policy.strategies`.
    strategies: Vec<Strategy>,
    /// Weights in the order of `criteria`.
    weights: Vec<f64>,
    variant_weights: BTreeMap<String, Vec<f64>>,
    origins: Origins,
    /// By id.
    templates: BTreeMap<String, Arc<Template>>,
}

/// What one criterion said of one channel, or why it said nothing.
pub type Opinion = Result<Verdict, ScriptFailure>;

/// The strategy that matched, and those that could not be asked.
#[derive(Debug, Default)]
pub struct StrategyChoice {
    /// Index into `policy().strategies`.
    pub matched: Option<usize>,
    /// `name: what went wrong` of each `when` that failed before a match.
    pub failures: Vec<String>,
}

impl Bundle {
    /// Puts checked parts together; weights are laid out in criterion order.
    pub fn new(
        tenant: TenantId,
        version: PolicyVersion,
        policy: TenantPolicy,
        mut criteria: Vec<Arc<Criterion>>,
        strategies: Vec<Strategy>,
    ) -> Self {
        criteria.sort_by(|a, b| a.name().order().cmp(&b.name().order()));
        let weights: Vec<f64> =
            criteria.iter().map(|c| policy.weights.get(c.name()).copied().unwrap_or(0.0)).collect();
        let variant_weights = policy
            .variants
            .iter()
            .map(|(name, overrides)| {
                let own = criteria.iter().zip(&weights);
                (
                    name.clone(),
                    own.map(|(c, base)| overrides.get(c.name()).copied().unwrap_or(*base)).collect(),
                )
            })
            .collect();
        let origins = Origins::default();
        let templates = BTreeMap::new();
        Self { tenant, version, policy, criteria, strategies, weights, variant_weights, origins, templates }
    }

    /// With the places that its values came from.
    pub fn with_origins(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// With its templates, by id.
    pub fn with_templates(self, templates: BTreeMap<String, Arc<Template>>) -> Self {
        Self { templates, ..self }
    }

    /// By id.
    pub fn templates(&self) -> &BTreeMap<String, Arc<Template>> {
        &self.templates
    }

    /// Where the value of a dotted key (`quiet_hours.start`) came from.
    pub fn origin(&self, key: &str) -> Option<&Origin> {
        self.origins.origin(key)
    }

    /// Every dotted key of the policy with its origin.
    pub fn origins(&self) -> impl Iterator<Item = (&str, &Origin)> {
        self.origins.iter()
    }

    pub fn tenant(&self) -> &TenantId {
        &self.tenant
    }

    /// The content hash that decisions record.
    pub fn version(&self) -> &PolicyVersion {
        &self.version
    }

    pub fn policy(&self) -> &TenantPolicy {
        &self.policy
    }

    /// In criterion order.
    pub fn criteria(&self) -> &[Arc<Criterion>] {
        &self.criteria
    }

    /// The weights under a variant, in criterion order. `control`, and a name with no overrides, is the
    /// tenant's own weights.
    pub fn weights(&self, variant: Option<&str>) -> &[f64] {
        variant.and_then(|name| self.variant_weights.get(name)).unwrap_or(&self.weights)
    }

    /// Whether a request may name this variant.
    pub fn has_variant(&self, name: &str) -> bool {
        name == "control"
            || self.policy.variants.contains_key(name)
            || self.policy.split.iter().any(|(arm, _)| arm == name)
    }

    /// The first strategy whose `when` holds.
    pub fn choose_strategy(&self, message: &MessageView<'_>) -> StrategyChoice {
        let mut choice = StrategyChoice::default();
        if self.strategies.is_empty() {
            return choice;
        }
        let message = Arc::new(message.clone().into_owned());
        for (at, strategy) in self.strategies.iter().enumerate() {
            match strategy.matches(&message) {
                Ok(true) => {
                    choice.matched = Some(at);
                    break;
                }
                Ok(false) => {}
                Err(failure) => {
                    choice.failures.push(format!("{}: {failure}", self.policy.strategies[at].name));
                }
            }
        }
        choice
    }

    /// What every criterion says of every channel.
    pub fn score(&self, message: &MessageView<'_>, channels: &PerChannel<ChannelView>) -> Scorecard {
        let message = Arc::new(message.clone().into_owned());
        let channels = PerChannel::from_fn(|channel| Arc::new(channels[channel]));
        let mut card = Scorecard::for_criteria(self.criteria.len());
        for criterion in &self.criteria {
            card.push(Row { share: [0.0; 4], said: [Said::fixed(0); 4] }, 0);
            for channel in Channel::ALL {
                card.put(channel, criterion.evaluate(&message, &channels[channel]));
            }
        }
        card
    }

    /// What a criterion, by its place, said of a channel.
    pub fn said<'s>(
        &'s self,
        card: &'s Scorecard,
        criterion: usize,
        channel: Channel,
    ) -> Result<&'s Verdict, &'s ScriptFailure> {
        match card.rows[criterion].said[channel.index()].place() {
            Ok(_) => unreachable!("no table yet"),
            Err(at) => card.made(at).as_ref(),
        }
    }
}
