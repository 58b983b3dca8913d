//! What an engine is here, and how it is timed.
//!
//! `score` is timed, `spell` is not: it turns what the engine left behind (its own values, texts not yet put together)
//! into the form that is compared. Time is the CPU time of this thread, so that what else runs on the machine counts
//! little; a collector that runs on the thread counts.

use std::{hint::black_box, time::Duration};

use cpu_time::ThreadTime;

use crate::{outcome::Outcome, stream::Case};

/// One way of running the nine criteria.
pub trait Engine {
    /// What it leaves behind.
    type Said;

    /// Facts in; scores, reasons, order, choice and alternatives out, in the engine's own values.
    fn score(&mut self, case: &Case) -> Self::Said;

    /// Spells out what was said.
    fn spell(&self, case: &Case, said: Self::Said) -> Outcome;
}

/// An engine of whatever kind, to keep several in one list.
pub trait Runner {
    fn outcome(&mut self, case: &Case) -> Outcome;
    /// The CPU time of scoring all of them once.
    fn lap(&mut self, cases: &[Case]) -> Duration;
}

impl<E: Engine> Runner for E {
    fn outcome(&mut self, case: &Case) -> Outcome {
        let said = self.score(case);
        self.spell(case, said)
    }

    fn lap(&mut self, cases: &[Case]) -> Duration {
        let start = ThreadTime::now();
        for case in cases {
            black_box(self.score(case));
        }
        start.elapsed()
    }
}

/// An engine with its name.
pub struct Rival<'b> {
    /// In figures: `rivals.NAME`.
    pub name: &'static str,
    /// For people.
    pub title: &'static str,
    pub runner: Box<dyn Runner + 'b>,
}

/// Asserts that an engine says of every request what is expected, or tells the first difference.
pub fn agrees(rival: &mut Rival<'_>, cases: &[Case], expected: &[Outcome]) {
    for (at, (case, expected)) in cases.iter().zip(expected).enumerate() {
        let outcome = rival.runner.outcome(case);
        assert!(
            outcome == *expected,
            "{} differs on request {at}: it says\n{outcome:#?}\nand the interpreter\n{expected:#?}",
            rival.title
        );
    }
}

/// Nanoseconds a decision of each engine, in their order: the median over rounds in which each has its turn.
pub fn time(rivals: &mut [Rival<'_>], cases: &[Case], rounds: usize) -> Vec<f64> {
    let mut laps = vec![Vec::new(); rivals.len()];
    for round in 0..=rounds {
        for (rival, laps) in rivals.iter_mut().zip(&mut laps) {
            let lap = rival.runner.lap(cases);
            // The first round warms up.
            if round > 0 {
                laps.push(lap.as_nanos() as f64 / cases.len() as f64);
            }
        }
    }
    laps.into_iter().map(median).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
