//! A decision as short as an answer needs it: which channel, which others, and the reasons by reference.
//!
//! Nothing is put into words here that was not words already. `decide` makes the long form, with every gate and
//! criterion, from the same steps; a test holds the two together.

use std::borrow::Cow;

use chrono::{DateTime, Utc};

use super::{DecisionInput, Situation, ranking};
use crate::{
    domain::{channel::Channel, ids::CriterionName, message::Priority, money::MicroEuros},
    policy::{bundle::Bundle, scorecard::Scorecard},
};

/// How one channel stands against the others.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Standing {
    pub channel: Channel,
    /// No gate and no veto.
    pub eligible: bool,
    /// Sum of the points, rounded to 1e-6; 0 when vetoed.
    pub score: f64,
    pub confidence: f64,
    /// When it may go, if not at once.
    pub held_until: Option<DateTime<Utc>>,
    pub cost: MicroEuros,
    pub delivery_seconds: u32,
}

impl Standing {
    /// What is not ranked yet.
    pub(super) const fn unknown(channel: Channel) -> Self {
        let (held_until, cost) = (None, MicroEuros(0));
        Self { channel, eligible: false, score: 0.0, confidence: 0.0, held_until, cost, delivery_seconds: 0 }
    }
}

/// What was chosen.
#[derive(Clone, Debug)]
pub struct Choice<'a> {
    /// Best first; what may not be used comes last.
    pub ranking: [Standing; 4],
    /// None: no channel may be used.
    pub chosen: Option<Channel>,
    pub held_until: Option<DateTime<Utc>>,
    /// The strategy in force, by name.
    pub strategy: Option<&'a str>,
    /// The priority that criteria saw.
    pub priority: Priority,
    bundle: &'a Bundle,
    pub(super) weights: &'a [f64],
    pub(super) card: Scorecard,
}

impl<'a> Choice<'a> {
    /// With nothing said and nothing chosen yet: the card is filled and the ranking made where they stay.
    #[inline]
    pub(super) fn open(bundle: &'a Bundle, input: &DecisionInput<'a>, situation: &Situation<'a>) -> Self {
        Self {
            chosen: None,
            held_until: None,
            ranking: Channel::ALL.map(Standing::unknown),
            strategy: situation.strategy.map(|strategy| strategy.name.as_str()),
            priority: situation.priority,
            bundle,
            weights: bundle.weights(input.variant),
            card: Scorecard::new(),
        }
    }

    /// Chooses the first of the ranking, if it may be used.
    #[inline]
    pub(super) fn settle(&mut self, input: &DecisionInput<'_>) {
        let winner = Some(&self.ranking[0]).filter(|first| first.eligible);
        let sent_later = input.question.send_at.filter(|send_at| *send_at > input.at);
        self.chosen = winner.map(|first| first.channel);
        self.held_until = winner.and_then(|first| first.held_until.or(sent_later));
    }

    /// The chosen channel's standing.
    pub fn winner(&self) -> Option<&Standing> {
        self.ranking.first().filter(|first| first.eligible)
    }

    /// The next two eligible channels after the chosen one (spec.md section 2).
    pub fn alternatives(&self) -> impl Iterator<Item = &Standing> {
        self.ranking.iter().skip(1).filter(|standing| standing.eligible).take(2)
    }

    /// The criteria that failed, and so counted as neutral, on some channel.
    pub fn failures(&self) -> impl Iterator<Item = &CriterionName> {
        let program = self.bundle.program().0;
        let failed = move |at| Channel::ALL.iter().any(|c| program.said(&self.card, at, *c).is_err());
        // What stands in a table is no failure.
        let looked_at = if self.card.interpreted() == 0 { 0 } else { usize::MAX };
        let criteria = self.bundle.criteria().iter().enumerate().take(looked_at);
        criteria.filter(move |(at, _)| failed(*at)).map(|(_, criterion)| criterion.name())
    }

    /// The reasons of the criteria that gave a channel points or took some, in criterion order. Joined by "; " they
    /// are `reason` of an answer.
    pub fn reasons(&self, channel: Channel) -> impl Iterator<Item = Cow<'_, str>> {
        let program = self.bundle.program().0;
        self.counted(channel).filter_map(move |at| program.reason(&self.card, at, channel))
    }

    /// The criteria that gave a channel points or took some, by their places. Which they are cannot be foreseen: it is
    /// told of many in one go, and only those are looked at.
    fn counted(&self, channel: Channel) -> impl Iterator<Item = usize> {
        let (mut counted, mut from, mut looked_at) = (0, 0, 0);
        std::iter::from_fn(move || {
            while counted == 0 {
                from += looked_at;
                (counted, looked_at) = self.card.counted(channel, self.weights, from, ranking::counts);
                if looked_at == 0 {
                    return None;
                }
            }
            let at = from + counted.trailing_zeros() as usize;
            counted &= counted - 1;
            Some(at)
        })
    }
}
