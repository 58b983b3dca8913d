//! Our own: the shipped scripts by the interpreter, which is the oracle of this comparison.
//!
//! Timed: the scripts of all four channels through the bundle, weights, order, alternatives; reasons are texts.

use channel_orchestrator::{
    domain::channel::{Channel, PerChannel},
    policy::{
        bundle::{Bundle, Opinion},
        verdict::VerdictKind,
    },
};

use crate::{
    engine::Engine,
    outcome::{Outcome, Points, Ranking, Tally, rank, spell},
    stream::Case,
};

pub struct Interpreter<'b>(pub &'b Bundle);

pub struct Opinions {
    opinions: PerChannel<Vec<Opinion>>,
    points: PerChannel<Points>,
    ranking: Ranking,
}

impl Engine for Interpreter<'_> {
    type Said = Opinions;

    fn score(&mut self, case: &Case) -> Opinions {
        let weights = self.0.weights(None);
        let opinions = PerChannel::from_fn(|c: Channel| self.0.score(&case.message, &case.channels[c]));
        let points = PerChannel::from_fn(|c: Channel| weigh(&opinions[c], weights, case.channels[c].cost));
        Opinions { ranking: rank(&points), opinions, points }
    }

    fn spell(&self, _case: &Case, said: Opinions) -> Outcome {
        spell(&said.ranking, &said.points, |channel| {
            let verdicts = said.opinions[channel].iter().map(|opinion| opinion.as_ref().expect("no failure"));
            verdicts.map(|verdict| verdict.reason.to_string()).filter(|reason| !reason.is_empty()).collect()
        })
    }
}

fn weigh(opinions: &[Opinion], weights: &[f64], cost: f64) -> Points {
    let mut tally = Tally::default();
    for (opinion, weight) in opinions.iter().zip(weights) {
        match opinion.as_ref().expect("the shipped scripts do not fail").kind {
            VerdictKind::Share(share) => tally.add(share, *weight),
            VerdictKind::Veto => tally.close(),
            VerdictKind::Neutral => {}
        }
    }
    tally.points(cost)
}
