//! Our own: the shipped scripts through the bundle, untouched; compiled, as the daemon runs them, or by the interpreter
//! alone, which is the oracle of this comparison.
//!
//! Between the two is a policy of which one script does not compile (`OneInterpreted`).
//!
//! Timed: what every criterion says of every channel, weights, order and alternatives. Reasons stay where the bundle
//! keeps them, as in the daemon, and are looked up when they are shown.

use std::{hint::black_box, sync::Arc};

use channel_orchestrator::{
    domain::channel::{Channel, PerChannel},
    policy::{bundle::Bundle, scorecard::Scorecard},
};

use crate::{
    engine::{Engine, Runner as _},
    outcome::{Outcome, Points, Ranking, rank, rounded, spell},
    stream::Case,
};

/// How the scripts are run.
#[derive(Clone, Copy)]
pub enum Way {
    Compiled,
    Interpreted,
}

pub struct Scripts<'b> {
    pub bundle: &'b Bundle,
    pub way: Way,
}

pub struct Decision {
    card: Scorecard,
    points: PerChannel<Points>,
    ranking: Ranking,
}

impl Engine for Scripts<'_> {
    type Said = Decision;

    fn score(&mut self, case: &Case) -> Decision {
        let card = match self.way {
            Way::Compiled => self.bundle.score(&case.message, &case.channels),
            Way::Interpreted => self.bundle.program().0.interpret(&case.message, &case.channels),
        };
        let sums = card.points(self.bundle.weights(None));
        let points = PerChannel::from_fn(|channel: Channel| {
            let open = !card.vetoed(channel);
            let score = if open { rounded(sums[channel]) } else { 0.0 };
            Points { open, score, cost: case.channels[channel].cost }
        });
        Decision { card, points, ranking: rank(&points) }
    }

    fn spell(&self, _case: &Case, said: Decision) -> Outcome {
        spell(&said.ranking, &said.points, |channel| {
            let criteria = 0..self.bundle.criteria().len();
            let program = self.bundle.program().0;
            let verdicts = criteria.map(|at| program.said(&said.card, at, channel).expect("no failure"));
            verdicts.map(|verdict| verdict.reason.to_string()).filter(|reason| !reason.is_empty()).collect()
        })
    }
}

/// All nine compiled, and one of them by the interpreter besides: what it costs, or a little more, where one script
/// cannot be compiled.
pub struct OneInterpreted<'b> {
    scripts: Scripts<'b>,
    /// The place of the one.
    criterion: usize,
}

impl<'b> OneInterpreted<'b> {
    /// The dearest one on these requests.
    pub fn dearest(bundle: &'b Bundle, cases: &[Case]) -> Self {
        let one = |criterion| Self { scripts: Scripts { bundle, way: Way::Compiled }, criterion };
        let all = 0..bundle.criteria().len();
        let dearest = all.max_by_key(|criterion| one(*criterion).lap(cases));
        one(dearest.expect("a policy has criteria"))
    }
}

impl Engine for OneInterpreted<'_> {
    type Said = Decision;

    fn score(&mut self, case: &Case) -> Decision {
        let criterion = &self.scripts.bundle.criteria()[self.criterion];
        let message = Arc::new(case.message.clone().into_owned());
        for channel in Channel::ALL {
            let said = criterion.evaluate(&message, &Arc::new(case.channels[channel]));
            let _ = black_box(said);
        }
        self.scripts.score(case)
    }

    fn spell(&self, case: &Case, said: Decision) -> Outcome {
        self.scripts.spell(case, said)
    }
}
