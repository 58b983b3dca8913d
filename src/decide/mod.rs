//! Request, bundle, facts and instant in; decision out.
//!
//! Pure: no clock, no store, no network, no randomness. What no score can overrule is in `gates`; the scripts
//! that score are behind `policy::bundle::Bundle::score`. Explanations come from the same steps.

use std::sync::Arc;

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        address::Contact,
        channel::{Channel, PerChannel},
        decision::Decision,
        facts::Facts,
        message::{MessageRequest, Priority},
    },
    policy::{
        bundle::{Bundle, Opinion, StrategyChoice},
        settings::StrategyRule,
        template::Words,
        view::{ChannelView, MessageView},
    },
};

pub mod explanation;
mod flips;
mod gates;
mod plan;
mod ranking;
mod timing;
mod variants;
mod views;

pub use plan::plan;
pub use variants::assign_variant;

use timing::Timing;

/// All that a decision depends on, beside the bundle.
#[derive(Clone, Debug)]
pub struct DecisionInput<'a> {
    /// Of the content only the template's name is read here: the rest is in `words`.
    pub request: &'a MessageRequest,
    /// `address::read_contacts` with the tenant's region.
    pub contacts: &'a PerChannel<Contact>,
    /// What would go on each channel, measured.
    pub words: &'a Words,
    pub facts: &'a Facts,
    pub at: DateTime<Utc>,
    pub variant: Option<&'a str>,
    pub generation: u64,
}

/// Gates, scores, ranks and chooses.
pub fn decide(bundle: &Bundle, input: &DecisionInput<'_>) -> Decision {
    let situation = Situation::of(bundle, input);
    let opinions = situation.opinions(bundle);
    ranking::rank(bundle, input, &situation, &opinions, bundle.weights(input.variant))
}

/// What is known before any criterion speaks.
struct Situation<'b> {
    timing: Timing,
    /// The strategy in force, with the failures of those asked before it.
    strategy: Option<&'b StrategyRule>,
    strategy_errors: Vec<String>,
    /// What criteria see: the strategy's, else the request's, else the tenant's.
    priority: Priority,
    message: Arc<MessageView>,
    channels: PerChannel<Arc<ChannelView>>,
}

impl<'b> Situation<'b> {
    fn of(bundle: &'b Bundle, input: &DecisionInput<'_>) -> Self {
        let asked = input.request.priority.unwrap_or(bundle.policy().default_priority);
        let timing = Timing::of(bundle.policy(), input);
        // A strategy's condition sees the request as it came; criteria see the priority that it sets.
        let as_it_came = Arc::new(views::message(bundle.policy(), input, &timing, asked));
        let StrategyChoice { matched, failures } = bundle.choose_strategy(&as_it_came);
        let strategy = matched.map(|at| &bundle.policy().strategies[at]);
        let priority = strategy.and_then(|s| s.priority).unwrap_or(asked);
        let message = if priority == asked {
            as_it_came
        } else {
            Arc::new(MessageView { priority, ..(*as_it_came).clone() })
        };
        let channels = PerChannel::from_fn(|c| Arc::new(views::channel(bundle.policy(), input, c, priority)));
        Self { timing, strategy, strategy_errors: failures, priority, message, channels }
    }

    fn opinions(&self, bundle: &Bundle) -> PerChannel<Vec<Opinion>> {
        PerChannel::from_fn(|c: Channel| bundle.score(&self.message, &self.channels[c]))
    }
}
