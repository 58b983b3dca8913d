//! Our own: the shipped scripts through the bundle, untouched.
//!
//! Timed: what every criterion says of every channel, weights, order and alternatives. Reasons stay where the scripts
//! keep them, as in the daemon, and are looked up when they are shown.

use channel_orchestrator::{
    domain::channel::{Channel, PerChannel},
    policy::{bundle::Bundle, scorecard::Scorecard},
};

use crate::{
    engine::Engine,
    outcome::{Outcome, Points, Ranking, rank, rounded, spell},
    stream::Case,
};

pub struct Scripts<'b>(pub &'b Bundle);

pub struct Decision {
    card: Scorecard,
    points: PerChannel<Points>,
    ranking: Ranking,
}

impl Engine for Scripts<'_> {
    type Said = Decision;

    fn score(&mut self, case: &Case) -> Decision {
        let card = self.0.score(&case.message, &case.channels);
        let sums = card.points(self.0.weights(None));
        let points = PerChannel::from_fn(|channel: Channel| {
            let open = !card.vetoed(channel);
            let score = if open { rounded(sums[channel]) } else { 0.0 };
            Points { open, score, cost: case.channels[channel].cost }
        });
        Decision { card, points, ranking: rank(&points) }
    }

    fn spell(&self, _case: &Case, said: Decision) -> Outcome {
        spell(&said.ranking, &said.points, |channel| {
            let criteria = 0..self.0.criteria().len();
            let verdicts = criteria.map(|at| self.0.said(&said.card, at, channel).expect("no failure"));
            verdicts.map(|verdict| verdict.reason.to_string()).filter(|reason| !reason.is_empty()).collect()
        })
    }
}
