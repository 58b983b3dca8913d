//! Request, bundle, facts and instant in; decision out.
//!
//! Pure: no clock, no store, no network, no randomness. What no score can overrule is in `gates`; the scripts
//! that score are behind `policy::bundle::Bundle::score`. Explanations come from the same steps.

use chrono::{DateTime, Utc};

use crate::{
    domain::{
        address::Reach, channel::PerChannel, decision::Decision, facts::Facts, message::Priority,
        question::Question,
    },
    policy::{
        bundle::Bundle,
        scorecard::Scorecard,
        settings::StrategyRule,
        strategy::StrategyChoice,
        template::Words,
        view::{ChannelView, MessageView},
    },
};

mod choice;
pub mod explanation;
mod flips;
mod gates;
mod plan;
mod ranking;
mod timing;
mod variants;
mod views;

pub use choice::{Choice, Standing};
pub use plan::plan;
pub use variants::assign_variant;

use timing::Timing;

/// All that a decision depends on, beside the bundle.
#[derive(Clone, Copy, Debug)]
pub struct DecisionInput<'a> {
    pub question: Question<'a>,
    /// Of `address::read_contacts` with the tenant's region.
    pub reach: PerChannel<Reach<'a>>,
    /// What would go on each channel, measured.
    pub words: &'a Words,
    pub facts: &'a Facts,
    pub at: DateTime<Utc>,
    pub variant: Option<&'a str>,
    pub generation: u64,
}

/// Gates, scores, ranks and chooses: all that an answer needs, and no word more.
pub fn choose<'a>(bundle: &'a Bundle, input: &DecisionInput<'a>) -> Choice<'a> {
    choose_by(bundle, input, Bundle::score_on, Choice::clone)
}

/// The same for `then`: a choice is large, and stays where it was made.
pub fn choose_for<'a, T>(
    bundle: &'a Bundle,
    input: &DecisionInput<'a>,
    then: impl FnOnce(&Choice<'a>) -> T,
) -> T {
    choose_by(bundle, input, Bundle::score_on, then)
}

/// The same with every script run by the interpreter: what the compiled form is measured and held against.
pub fn choose_interpreted<'a>(bundle: &'a Bundle, input: &DecisionInput<'a>) -> Choice<'a> {
    choose_by(bundle, input, Bundle::interpret_on, Choice::clone)
}

#[inline]
fn choose_by<'a, T>(
    bundle: &'a Bundle,
    input: &DecisionInput<'a>,
    score: impl FnOnce(&Bundle, &mut Scorecard, &MessageView<'_>, &PerChannel<ChannelView>),
    then: impl FnOnce(&Choice<'a>) -> T,
) -> T {
    let situation = Situation::of(bundle, input);
    let mut choice = Choice::open(bundle, input, &situation);
    score(bundle, &mut choice.card, &situation.message, &situation.channels);
    ranking::rank_in(&mut choice.ranking, bundle, input, &situation, &choice.card, choice.weights);
    choice.settle(input);
    then(&choice)
}

/// The same with everything that explains it.
pub fn decide(bundle: &Bundle, input: &DecisionInput<'_>) -> Decision {
    let situation = Situation::of(bundle, input);
    let card = bundle.score(&situation.message, &situation.channels);
    ranking::explain(bundle, input, &situation, &card, bundle.weights(input.variant))
}

/// What is known before any criterion speaks.
struct Situation<'a> {
    timing: Timing,
    /// The strategy in force, with the failures of those asked before it.
    strategy: Option<&'a StrategyRule>,
    strategy_errors: Vec<String>,
    /// What criteria see: the strategy's, else the request's, else the tenant's.
    priority: Priority,
    message: MessageView<'a>,
    channels: PerChannel<ChannelView>,
}

impl<'a> Situation<'a> {
    fn of(bundle: &'a Bundle, input: &DecisionInput<'a>) -> Self {
        let policy = bundle.policy();
        let asked = input.question.priority.unwrap_or(policy.default_priority);
        let timing = Timing::of(policy, input);
        // A strategy's condition sees the request as it came; criteria see the priority that it sets.
        let mut message = views::message(policy, input, &timing, asked);
        let StrategyChoice { matched, failures } = bundle.choose_strategy(&message);
        let strategy = matched.map(|at| &policy.strategies[at]);
        let priority = strategy.and_then(|s| s.priority).unwrap_or(asked);
        message.priority = priority;
        let named = views::Named::by(&input.question);
        let channels = PerChannel::from_fn(|c| views::channel(policy, input, c, priority, named));
        Self { timing, strategy, strategy_errors: failures, priority, message, channels }
    }
}
