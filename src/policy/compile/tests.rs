//! What a path through a script asks of the facts, and how it is answered.
//!
//! A test has a few possible answers, counted from 0; yes is 1. It is total: it has an answer for every message, so that
//! it may be asked without its path having been taken.

use super::{
    numbers::{Comparison, Expr, Number, Reads, text},
    slots::{Place, Scope, Slot},
};

/// A condition over the facts. `Eq` and `Hash` by structure: what is asked twice is asked once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Test {
    /// The value of a digit, one of `arity`.
    Digit {
        place: Place,
        arity: u8,
    },
    Compare(Comparison, Expr, Expr),
    /// Equal as `contains` in a list has it: without tolerance, whatever the types.
    Same(Expr, Expr),
    /// The interpreter could compute it.
    Computes(Expr),
    /// It is a share: from 0 to 1.
    IsShare(Expr),
    IsFinite(Expr),
    TextIs(Place, String),
    TextContains(Place, String),
    TextStartsWith(Place, String),
    /// Among the tags.
    Tagged(String),
}

impl Test {
    /// How many answers it has.
    pub fn arity(&self) -> u8 {
        match self {
            Test::Digit { arity, .. } => *arity,
            _ => 2,
        }
    }

    /// The object that it is about.
    pub fn scope(&self) -> Scope {
        match self {
            Test::Digit { place, .. }
            | Test::TextIs(place, _)
            | Test::TextContains(place, _)
            | Test::TextStartsWith(place, _) => place.scope,
            Test::Compare(_, a, b) | Test::Same(a, b) => a.scope().max(b.scope()),
            Test::Computes(of) | Test::IsShare(of) | Test::IsFinite(of) => of.scope(),
            Test::Tagged(_) => Scope::Message,
        }
    }

    /// The answer. A number that cannot be computed answers no: its path asked that before.
    pub fn answer(&self, reads: Reads<'_, '_>) -> u8 {
        match self {
            Test::Digit { place, .. } => digit(*place, reads),
            Test::Compare(comparison, a, b) => {
                u8::from(both(a, b, reads).is_some_and(|(a, b)| comparison.holds(a, b)))
            }
            Test::Same(a, b) => u8::from(both(a, b, reads).is_some_and(|(a, b)| a.float() == b.float())),
            Test::Computes(of) => u8::from(of.value(reads).is_some()),
            Test::IsShare(of) => {
                u8::from(of.value(reads).is_some_and(|share| (0.0..=1.0).contains(&share.float())))
            }
            Test::IsFinite(of) => u8::from(of.value(reads).is_some_and(|number| number.float().is_finite())),
            Test::TextIs(place, other) => u8::from(text(*place, reads) == other),
            Test::TextContains(place, part) => u8::from(text(*place, reads).contains(part.as_str())),
            Test::TextStartsWith(place, start) => u8::from(text(*place, reads).starts_with(start.as_str())),
            Test::Tagged(tag) => u8::from(reads.message.tags.iter().any(|own| own == tag)),
        }
    }
}

fn both(a: &Expr, b: &Expr, reads: Reads<'_, '_>) -> Option<(Number, Number)> {
    Some((a.value(reads)?, b.value(reads)?))
}

/// The value of a digit.
pub fn digit(place: Place, reads: Reads<'_, '_>) -> u8 {
    match (place.scope, place.slot) {
        (Scope::Message, Slot::Digit(at)) => reads.message.digits[usize::from(at)],
        (Scope::Channel, Slot::Digit(at)) => reads.channel.digits[usize::from(at)],
        (_, other) => unreachable!("{other:?} is no digit"),
    }
}
