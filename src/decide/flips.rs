//! The flip point: which weight or fact, changed how little, would change the winner.
//!
//! Every flip was checked by deciding again with that one change: none is a guess. Scripts do not see weights,
//! so a weight is tried without running them again; a fact is tried by a whole decision.

use serde_json::{Value, json};

use super::{DecisionInput, Situation, choose_for, explanation::Flip, ranking};
use crate::{
    domain::{
        channel::{Channel, PerChannel},
        decision::Decision,
        message::{ContentProfile, MessageKind, Priority},
        question::Question,
        segments::segments,
    },
    policy::{bundle::Bundle, scorecard::Scorecard, template::Words},
};

/// Weights are tried up to here, or to twice their own where that is more.
const WEIGHT_MAX: f64 = 100.0;
/// What people can take in.
const FLIPS_MAX: usize = 6;
/// The body's length on both sides of the border of criterion 4 and of one SMS segment.
const SHORT: u32 = 160;

/// The smallest single changes that change the winner: weights by how much they must change, then facts.
pub fn find(bundle: &Bundle, input: &DecisionInput<'_>, decision: &Decision) -> Vec<Flip> {
    let Some(winner) = decision.chosen else { return Vec::new() };
    let situation = Situation::of(bundle, input);
    let card = bundle.score(&situation.message, &situation.channels);
    let search = Search { bundle, input, situation: &situation, card: &card, decision, winner };
    let mut weights = search.weights();
    weights.sort_by(|a, b| a.0.total_cmp(&b.0));
    let weights = weights.into_iter().map(|(_, flip)| flip).take(FLIPS_MAX / 2);
    weights.chain(search.facts()).take(FLIPS_MAX).collect()
}

/// The flips as sentences.
pub fn in_words(decision: &Decision, flips: &[Flip]) -> String {
    if decision.chosen.is_none() {
        return "No channel may be used: see each channel's gates.".to_owned();
    }
    if flips.is_empty() {
        return "Nothing small changes the winner: no single weight, priority, type, preference, length or hour \
                that was tried."
            .to_owned();
    }
    let plain = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    let sentence = |flip: &Flip| {
        let winner = flip.winner.map_or("no channel", Channel::as_str);
        format!(
            "{winner} would win if {} were {} instead of {}.",
            flip.what,
            plain(&flip.to),
            plain(&flip.from)
        )
    };
    flips.iter().map(sentence).collect::<Vec<_>>().join("\n")
}

struct Search<'s> {
    bundle: &'s Bundle,
    input: &'s DecisionInput<'s>,
    situation: &'s Situation<'s>,
    card: &'s Scorecard,
    decision: &'s Decision,
    winner: Channel,
}

impl Search<'_> {
    /// For each criterion the nearest weight that changes the winner, with the distance to it.
    fn weights(&self) -> Vec<(f64, Flip)> {
        let weights = self.bundle.weights(self.input.variant);
        (0..weights.len()).filter_map(|at| self.weight(weights, at)).collect()
    }

    fn weight(&self, weights: &[f64], at: usize) -> Option<(f64, Flip)> {
        let now = weights[at];
        let mut candidates: Vec<f64> = self.crossings(at, now).into_iter().flat_map(around).collect();
        candidates.retain(|w| (0.0..=WEIGHT_MAX.max(2.0 * now)).contains(w) && *w != now);
        candidates.sort_by(|a, b| (a - now).abs().total_cmp(&(b - now).abs()));
        candidates.dedup();
        candidates.into_iter().find_map(|weight| {
            let mut tried = weights.to_vec();
            tried[at] = weight;
            let best = ranking::rank(self.bundle, self.input, self.situation, self.card, &tried)[0];
            let winner = best.eligible.then_some(best.channel)?;
            let what = format!("weights.{}", self.bundle.criteria()[at].name());
            let flip = Flip { what, from: number(now), to: number(weight), winner: Some(winner) };
            (winner != self.winner).then(|| ((weight - now).abs(), flip))
        })
    }

    /// The weights at which a rival's sum meets the winner's: sums are straight lines in one weight.
    fn crossings(&self, at: usize, now: f64) -> Vec<f64> {
        let winner = self.decision.channel(self.winner);
        let rivals = self.decision.channels.iter().filter(|c| c.eligible && c.channel != self.winner);
        rivals
            .filter_map(|rival| {
                let slope = winner.criteria[at].share - rival.criteria[at].share;
                (slope != 0.0).then(|| now - (winner.score - rival.score) / slope)
            })
            .filter(|weight| weight.is_finite())
            .collect()
    }

    /// One fact at a time, the likeliest to be changed first.
    fn facts(&self) -> Vec<Flip> {
        [self.priority(), self.preference(), self.kind(), self.hour(), self.length()]
            .into_iter()
            .flatten()
            .collect()
    }

    fn priority(&self) -> Option<Flip> {
        let now = self.input.question.priority.unwrap_or(self.bundle.policy().default_priority);
        let mut others: Vec<Priority> = Priority::ALL.iter().copied().filter(|p| *p != now).collect();
        others.sort_by_key(|p| (*p as i8 - now as i8).abs());
        others.into_iter().find_map(|priority| {
            let question = Question { priority: Some(priority), ..self.input.question };
            self.flip("priority.level", json!(now), json!(priority), question)
        })
    }

    fn preference(&self) -> Option<Flip> {
        let now = self.input.question.preferred;
        let without = now
            .contains(&self.winner)
            .then(|| now.iter().copied().filter(|c| *c != self.winner).collect::<Vec<_>>());
        let rivals = self.decision.channels.iter().filter(|c| c.eligible && !now.contains(&c.channel));
        let with = rivals.map(|rival| now.iter().copied().chain([rival.channel]).collect());
        without.into_iter().chain(with).find_map(|preferred: Vec<Channel>| {
            let question = Question { preferred: &preferred, ..self.input.question };
            self.flip("preferences.preferredChannels", json!(now), json!(preferred), question)
        })
    }

    fn kind(&self) -> Option<Flip> {
        let now = self.input.question.kind;
        MessageKind::ALL.iter().copied().filter(|kind| Some(*kind) != now).find_map(|kind| {
            let question = Question { kind: Some(kind), ..self.input.question };
            self.flip("messageType", json!(now), json!(kind), question)
        })
    }

    /// The nearest moment at which quiet hours begin or end.
    fn hour(&self) -> Option<Flip> {
        let timing = &self.situation.timing;
        let local = |at: chrono::DateTime<chrono::Utc>| json!(at.with_timezone(&timing.zone).to_rfc3339());
        let moved = match timing.quiet_hours.end_after(timing.moment(), timing.zone) {
            Some(end) => end.at,
            None => {
                let until_start = timing.quiet_hours.start - timing.local.time();
                let seconds = until_start.num_seconds().rem_euclid(24 * 60 * 60);
                timing.goes_at + chrono::TimeDelta::seconds(seconds)
            }
        };
        let question = Question { send_at: None, ..self.input.question };
        let input = DecisionInput { question, at: moved, ..*self.input };
        self.flip_to("at", local(timing.goes_at), local(moved), &input)
    }

    fn length(&self) -> Option<Flip> {
        // A template's length is its own: no caller changes it.
        if self.input.words.rendering.is_some() {
            return None;
        }
        let now = self.input.words.message.characters;
        let to = if now > SHORT { SHORT } else { SHORT + 1 };
        // The caller's own text, cut or drawn out: what its characters take in segments counts, too.
        let body = self.input.question.body;
        let text: String = body.chars().chain(std::iter::repeat('x')).take(to as usize).collect();
        let profile =
            ContentProfile { characters: to, segments: segments(&text).1, ..self.input.words.message };
        let words =
            Words { message: profile, channels: PerChannel::from_fn(|_| profile), ..Words::default() };
        let input = DecisionInput { words: &words, ..*self.input };
        (now > 0).then(|| self.flip_to("content.body length", json!(now), json!(to), &input))?
    }

    fn flip(&self, what: &str, from: Value, to: Value, question: Question<'_>) -> Option<Flip> {
        self.flip_to(what, from, to, &DecisionInput { question, ..*self.input })
    }

    fn flip_to(&self, what: &str, from: Value, to: Value, input: &DecisionInput<'_>) -> Option<Flip> {
        let chosen = choose_for(self.bundle, input, |choice| choice.chosen);
        let winner = chosen.filter(|winner| *winner != self.winner)?;
        Some(Flip { what: what.to_owned(), from, to, winner: Some(winner) })
    }
}

/// Whole numbers beside a crossing: a tie may or may not flip, one further does.
fn around(crossing: f64) -> [f64; 4] {
    [crossing.floor() - 1.0, crossing.floor(), crossing.ceil(), crossing.ceil() + 1.0]
}

/// A weight as people write it: without a needless fraction.
fn number(weight: f64) -> Value {
    if weight.fract() == 0.0 { json!(weight as i64) } else { json!(weight) }
}
