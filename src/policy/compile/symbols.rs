//! What is known on one path through a script: the values of its names, and the answers that led here.

use std::{collections::HashMap, sync::Arc};

use rhai::{Dynamic, ImmutableString};

use super::{
    graph::{Formula, Piece},
    numbers::{Comparison, Expr},
    slots::Place,
    tests::Test,
};
use crate::policy::verdict::Verdict;

/// A value, as far as it is known before any message is.
#[derive(Clone, Debug)]
pub enum Symbol {
    /// Known altogether.
    Known(Dynamic),
    Number(Arc<Expr>),
    /// The answer to a test, or its opposite.
    Truth {
        test: Test,
        negated: bool,
    },
    /// A text field that is there.
    Text(Place),
    Tags,
    /// A text put together.
    Pieces(Arc<Vec<Piece>>),
    Verdict(Arc<Verdict>),
    Formula(Arc<Formula>),
    Object(Object),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Object {
    Message,
    Channel,
    History,
}

impl Symbol {
    pub fn unit() -> Self {
        Symbol::Known(Dynamic::UNIT)
    }

    pub fn truth(value: bool) -> Self {
        Symbol::Known(value.into())
    }

    pub fn is_unit(&self) -> bool {
        matches!(self, Symbol::Known(value) if value.is_unit())
    }

    /// The text that it is for certain.
    pub fn known_text(&self) -> Option<ImmutableString> {
        match self {
            Symbol::Known(value) => value.clone().into_immutable_string().ok(),
            _ => None,
        }
    }

    /// As a number that a test or formula can be made of.
    pub fn number(&self) -> Option<Arc<Expr>> {
        match self {
            Symbol::Number(expr) => Some(Arc::clone(expr)),
            Symbol::Known(value) => {
                let integer = value.as_int().ok().map(Expr::Integer);
                integer.or_else(|| value.as_float().ok().map(Expr::float)).map(Arc::new)
            }
            _ => None,
        }
    }

    /// As parts of a text: what stands between the quotes of a template, or on a side of a `+`.
    pub fn pieces(&self) -> Option<Vec<Piece>> {
        match self {
            Symbol::Known(_) => Some(vec![Piece::Fixed(self.known_text()?.as_str().into())]),
            Symbol::Text(place) => Some(vec![Piece::Text(*place)]),
            Symbol::Pieces(pieces) => Some((**pieces).clone()),
            _ => None,
        }
    }
}

/// A name in scope.
#[derive(Clone, Debug)]
pub struct Binding {
    pub name: ImmutableString,
    pub value: Symbol,
    pub constant: bool,
}

/// Everything that is known on one path.
#[derive(Clone, Debug, Default)]
pub struct Path {
    pub scope: Vec<Binding>,
    answers: HashMap<Test, u8>,
    /// The values that a whole-number field can still have here.
    ranges: HashMap<Place, (i64, i64)>,
    /// Statements and expressions passed, at least as many as the interpreter counts.
    pub steps: u32,
    /// The same over all scripts of a chain: how deep the following of them goes.
    pub nested: u32,
    /// Functions of the script within each other.
    pub depth: u32,
    /// What must hold for the script not to have failed, and has not been asked: a verdict that is made of it asks it
    /// anyway.
    pub owed: Vec<Test>,
}

impl Path {
    pub fn get(&self, name: &str) -> Option<&Binding> {
        self.scope.iter().rev().find(|binding| binding.name == name)
    }

    /// The answer that the path implies already.
    pub fn implies(&self, test: &Test) -> Option<u8> {
        if let Some(answer) = self.answers.get(test) {
            return Some(*answer);
        }
        let Test::Compare(comparison, Expr::Field(place), Expr::Integer(bound)) = test else { return None };
        let (least, most) = *self.ranges.get(place)?;
        let (at_least, at_most) =
            (comparison.of_integers(least, *bound), comparison.of_integers(most, *bound));
        match comparison {
            Comparison::Equal if *bound < least || *bound > most => Some(0),
            Comparison::NotEqual if *bound < least || *bound > most => Some(1),
            Comparison::Equal | Comparison::NotEqual => (least == most).then_some(u8::from(at_least)),
            _ => (at_least == at_most).then_some(u8::from(at_least)),
        }
    }

    /// The path on which the test was answered so.
    pub fn answered(&self, test: &Test, answer: u8) -> Self {
        let mut path = self.clone();
        path.answers.insert(test.clone(), answer);
        if let Test::Compare(comparison, Expr::Field(place), Expr::Integer(bound)) = test {
            let range = path.ranges.entry(*place).or_insert((i64::MIN, i64::MAX));
            narrow(range, *comparison, *bound, answer == 1);
        }
        path
    }
}

fn narrow(range: &mut (i64, i64), comparison: Comparison, bound: i64, holds: bool) {
    let (least, most) = match (comparison, holds) {
        (Comparison::Less, true) | (Comparison::GreaterOrEqual, false) => (i64::MIN, bound.saturating_sub(1)),
        (Comparison::Less, false) | (Comparison::GreaterOrEqual, true) => (bound, i64::MAX),
        (Comparison::Greater, true) | (Comparison::LessOrEqual, false) => (bound.saturating_add(1), i64::MAX),
        (Comparison::Greater, false) | (Comparison::LessOrEqual, true) => (i64::MIN, bound),
        (Comparison::Equal, true) | (Comparison::NotEqual, false) => (bound, bound),
        (Comparison::Equal, false) | (Comparison::NotEqual, true) => return,
    };
    *range = (range.0.max(least), range.1.min(most));
}
