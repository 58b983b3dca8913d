//! A bundle: one tenant's whole policy, compiled, immutable, with its content hash.
//!
//! The seam behind which scripts run: nothing outside `policy` knows how a criterion is evaluated. A bundle
//! that exists is valid; it never changes.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    compile::Program,
    criterion::Criterion,
    document::origin::{Origin, Origins},
    scorecard::Scorecard,
    settings::TenantPolicy,
    strategy::{Strategies, StrategyChoice},
    template::Template,
    verdict::{ScriptFailure, Verdict},
    view::{ChannelView, MessageView},
};
use crate::domain::{
    channel::PerChannel,
    ids::{PolicyVersion, TenantId},
};

/// One tenant's policy in force.
#[derive(Debug)]
pub struct Bundle {
    tenant: TenantId,
    version: PolicyVersion,
    policy: TenantPolicy,
    /// The criteria, in criterion order, compiled and linked; shared with every bundle of the same scripts.
    program: Arc<Program>,
    /// The strategies, in the order of `policy.strategies`; shared likewise.
    strategies: Arc<Strategies>,
    /// Weights in the order of `criteria`.
    weights: Vec<f64>,
    variant_weights: BTreeMap<String, Vec<f64>>,
    origins: Origins,
    /// By id.
    templates: Arc<BTreeMap<String, Arc<Template>>>,
}

/// What one criterion said of one channel, or why it said nothing.
pub type Opinion = Result<Verdict, ScriptFailure>;

impl Bundle {
    /// Puts checked parts together; weights are laid out in criterion order.
    pub fn new(
        tenant: TenantId,
        version: PolicyVersion,
        policy: TenantPolicy,
        program: Arc<Program>,
        strategies: Arc<Strategies>,
    ) -> Self {
        let criteria = program.criteria();
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
        let templates = Arc::default();
        Self { tenant, version, policy, program, strategies, weights, variant_weights, origins, templates }
    }

    /// With the places that its values came from.
    pub fn with_origins(self, origins: Origins) -> Self {
        Self { origins, ..self }
    }

    /// With its templates, by id.
    pub fn with_templates(self, templates: Arc<BTreeMap<String, Arc<Template>>>) -> Self {
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
        self.program.criteria()
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
        self.strategies.choose(message)
    }

    /// What every criterion says of every channel.
    pub fn score(&self, message: &MessageView<'_>, channels: &PerChannel<ChannelView>) -> Scorecard {
        self.program.score(message, channels)
    }

    /// The same on an empty card, where it stays.
    pub fn score_on(
        &self,
        card: &mut Scorecard,
        message: &MessageView<'_>,
        channels: &PerChannel<ChannelView>,
    ) {
        self.program.score_on(card, message, channels);
    }

    /// The same by the interpreter alone: what the compiled form is held against.
    pub fn interpret_on(
        &self,
        card: &mut Scorecard,
        message: &MessageView<'_>,
        channels: &PerChannel<ChannelView>,
    ) {
        self.program.interpret_on(card, message, channels);
    }

    /// How the criteria and the strategies run.
    pub fn program(&self) -> (&Program, &Strategies) {
        (&self.program, &self.strategies)
    }
}
