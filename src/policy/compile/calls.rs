//! Operators and functions: on what is known the engine itself computes; on what the message decides, tests and
//! formulas are made that say the same.

use std::sync::Arc;

use rhai::{Dynamic, Expr as Tree, FnCallExpr, Position};

use super::{
    constants,
    follow::{Follow, Then},
    graph::{self, Formula, FormulaKind, Leaf, NodeId, Piece},
    numbers::{Arithmetic, Comparison, Expr, Function},
    symbols::{Binding, Path, Symbol},
    tests::Test,
};
use crate::policy::{
    engine::place,
    verdict::{Verdict, VerdictKind},
};

impl Follow<'_> {
    pub fn call(
        &mut self,
        path: Path,
        called: &FnCallExpr,
        at: Position,
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        if called.capture_parent_scope {
            return self.give_up("a call with `!`", at);
        }
        self.arguments(path, &called.args, Vec::new(), ret, &|follow, path, arguments| {
            if called.op_token.is_some() && called.name != "contains" {
                return match &arguments[..] {
                    [a] => follow.operate_alone(path, &called.name, a, at, then),
                    [a, b] => follow.operate(path, &called.name, a, b, at, &|f, path, v| then(f, path, v)),
                    _ => follow.give_up(format!("`{}`", called.name), at),
                };
            }
            follow.function(path, &called.name, arguments, at, then)
        })
    }

    /// The values of arguments, from left to right.
    pub fn arguments(
        &mut self,
        path: Path,
        arguments: &[Tree],
        sofar: Vec<Symbol>,
        ret: Then<'_>,
        go_on: &dyn Fn(&mut Follow<'_>, Path, Vec<Symbol>) -> NodeId,
    ) -> NodeId {
        let Some((first, rest)) = arguments.split_first() else { return go_on(self, path, sofar) };
        self.expression(path, first, ret, &|follow, path, value| {
            let sofar = sofar.iter().cloned().chain([value]).collect();
            follow.arguments(path, rest, sofar, ret, go_on)
        })
    }

    /// A function of the script is followed in a scope of its own; another is the engine's.
    fn function(
        &mut self,
        mut path: Path,
        name: &str,
        arguments: Vec<Symbol>,
        at: Position,
        then: Then<'_>,
    ) -> NodeId {
        let functions = self.functions;
        let named = |f: &&crate::policy::script_check::Function| {
            f.name == name && f.parameters.len() == arguments.len()
        };
        let Some(function) = functions.iter().find(named) else {
            return self.native(path, name, arguments, at, then);
        };
        let bound = function.parameters.iter().zip(arguments);
        let scope = bound.map(|(name, value)| Binding { name: name.as_str().into(), value, constant: false });
        let outer = std::mem::replace(&mut path.scope, scope.collect());
        path.depth += 1;
        let back = |follow: &mut Follow<'_>, mut path: Path, value: Symbol| {
            path.scope.clone_from(&outer);
            path.depth -= 1;
            then(follow, path, value)
        };
        self.statements(path, &function.body, &back, &back)
    }

    fn operate_alone(
        &mut self,
        path: Path,
        operator: &str,
        of: &Symbol,
        at: Position,
        then: Then<'_>,
    ) -> NodeId {
        match (operator, of) {
            (_, Symbol::Known(value)) => match constants::unary(operator, value.clone()) {
                Some(value) => then(self, path, Symbol::Known(value)),
                None => self.fails(),
            },
            ("!", Symbol::Truth { test, negated }) => {
                then(self, path, Symbol::Truth { test: test.clone(), negated: !negated })
            }
            ("-", Symbol::Number(number)) => {
                self.computed(path, Expr::Negate(Arc::clone(number)), number.is_integer(), then)
            }
            _ => self.give_up(format!("`{operator}` of something that the message decides"), at),
        }
    }

    /// A number that the interpreter may fail to compute goes on where it does not.
    fn computed(&mut self, path: Path, number: Expr, may_fail: bool, then: Then<'_>) -> NodeId {
        let value = Symbol::Number(Arc::new(number.clone()));
        if !may_fail {
            return then(self, path, value);
        }
        self.require(path, &Test::Computes(number), &|follow, path| then(follow, path, value.clone()))
    }

    /// An operator between two values.
    pub fn operate(
        &mut self,
        path: Path,
        operator: &str,
        a: &Symbol,
        b: &Symbol,
        at: Position,
        then: Then<'_>,
    ) -> NodeId {
        match (a, b) {
            (Symbol::Known(a), Symbol::Known(b)) => {
                return match constants::binary(operator, a.clone(), b.clone()) {
                    Some(value) => then(self, path, Symbol::Known(value)),
                    None => self.fails(),
                };
            }
            (Symbol::Truth { .. }, _) => {
                return self.truth(path, a, &|follow, path, truth| {
                    follow.operate(path, operator, &Symbol::truth(truth), b, at, then)
                });
            }
            (_, Symbol::Truth { .. }) => {
                return self.truth(path, b, &|follow, path, truth| {
                    follow.operate(path, operator, a, &Symbol::truth(truth), at, then)
                });
            }
            _ => {}
        }
        let nothing = [a, b].iter().any(|side| side.is_unit());
        if let Some(comparison) = Comparison::of(operator) {
            return self.compare(path, comparison, a, b, at, then);
        }
        if let Some((a, b)) = a.number().zip(b.number()) {
            return match Arithmetic::of(operator) {
                Some(arithmetic) => self.arithmetic(path, arithmetic, a, b, then),
                None => self.give_up(format!("`{operator}` of numbers that the message decides"), at),
            };
        }
        if operator == "+"
            && let Some((mut pieces, more)) = a.pieces().zip(b.pieces())
        {
            pieces.extend(more);
            return self.text(path, pieces, at, then);
        }
        if nothing {
            return self.fails();
        }
        self.give_up(format!("`{operator}` of something that the message decides"), at)
    }

    fn arithmetic(
        &mut self,
        path: Path,
        arithmetic: Arithmetic,
        a: Arc<Expr>,
        b: Arc<Expr>,
        then: Then<'_>,
    ) -> NodeId {
        let may_fail = arithmetic.may_fail() && a.is_integer() && b.is_integer();
        self.computed(path, Expr::Compute(arithmetic, a, b), may_fail, then)
    }

    fn compare(
        &mut self,
        path: Path,
        comparison: Comparison,
        a: &Symbol,
        b: &Symbol,
        at: Position,
        then: Then<'_>,
    ) -> NodeId {
        let truth = |test: Test| {
            let value = match path.implies(&test) {
                Some(answer) => Symbol::truth(answer == 1),
                None => Symbol::Truth { test, negated: false },
            };
            (path.clone(), value)
        };
        // What is of two types is different, and neither less nor greater.
        let different = Symbol::truth(comparison == Comparison::NotEqual);
        let (path, value) = match (a, b) {
            (Symbol::Number(_) | Symbol::Known(_), Symbol::Number(_) | Symbol::Known(_)) => {
                match (a.number(), b.number()) {
                    (Some(a), Some(b)) => match *a {
                        Expr::Integer(_) | Expr::Float(_) => {
                            truth(Test::Compare(comparison.turned(), (*b).clone(), (*a).clone()))
                        }
                        _ => truth(Test::Compare(comparison, (*a).clone(), (*b).clone())),
                    },
                    _ => (path, different),
                }
            }
            (Symbol::Text(place), Symbol::Known(known)) | (Symbol::Known(known), Symbol::Text(place)) => {
                match (known.as_immutable_string_ref(), comparison) {
                    (Ok(text), Comparison::Equal) => truth(Test::TextIs(*place, text.to_string())),
                    (Ok(text), Comparison::NotEqual) => {
                        let (path, value) = truth(Test::TextIs(*place, text.to_string()));
                        (path, opposite(value))
                    }
                    (Ok(_), _) => return self.give_up("the order of texts that the message decides", at),
                    (Err(_), _) if known.is_char() => {
                        return self.give_up("a text compared with a character", at);
                    }
                    (Err(_), _) => (path, different),
                }
            }
            (Symbol::Text(_) | Symbol::Pieces(_), Symbol::Number(_))
            | (Symbol::Number(_), Symbol::Text(_) | Symbol::Pieces(_)) => (path, different),
            _ => return self.give_up("a comparison of something that the message decides", at),
        };
        then(self, path, value)
    }

    /// A function of the engine.
    pub fn native(
        &mut self,
        path: Path,
        name: &str,
        arguments: Vec<Symbol>,
        at: Position,
        then: Then<'_>,
    ) -> NodeId {
        match (name, &arguments[..]) {
            ("award" | "penalize", [share, reason]) => {
                self.share(path, name == "penalize", share, reason, at, then)
            }
            ("veto", [reason]) => self.veto(path, reason, at, then),
            ("neutral", []) => then(self, path, Symbol::Verdict(Arc::new(Verdict::neutral()))),
            (_, arguments) if arguments.iter().all(|a| matches!(a, Symbol::Known(_))) => {
                let known = |symbol: &Symbol| match symbol {
                    Symbol::Known(value) => value.clone(),
                    _ => Dynamic::UNIT,
                };
                match constants::call(name, arguments.iter().map(known).collect()) {
                    Some(value) => then(self, path, Symbol::Known(value)),
                    None => self.fails(),
                }
            }
            (_, [Symbol::Truth { .. }, ..]) => self.truth(path, &arguments[0], &|follow, path, truth| {
                let known = [Symbol::truth(truth)].into_iter().chain(arguments[1..].iter().cloned());
                follow.native(path, name, known.collect(), at, then)
            }),
            ("contains", [container, item]) => self.contains(path, container, item, at, then),
            ("starts_with", [Symbol::Text(place), start]) if start.known_text().is_some() => {
                let start = start.known_text().unwrap_or_default().to_string();
                then(self, path, Symbol::Truth { test: Test::TextStartsWith(*place, start), negated: false })
            }
            ("len", [Symbol::Text(place)]) => then(self, path, Symbol::Number(Expr::Length(*place).into())),
            ("len", [Symbol::Tags]) => then(self, path, Symbol::Number(Expr::Count.into())),
            ("percent", [Symbol::Number(rate)]) => {
                let pieces = Arc::new(vec![Piece::Percent((**rate).clone())]);
                let mut path = path;
                path.owed.push(Test::IsFinite((**rate).clone()));
                then(self, path, Symbol::Pieces(pieces))
            }
            ("to_string", [value]) => {
                self.as_text(path, value, at, &|follow, path, pieces| follow.text(path, pieces, at, then))
            }
            _ => self.numeric(path, name, &arguments, at, then),
        }
    }

    fn numeric(
        &mut self,
        path: Path,
        name: &str,
        arguments: &[Symbol],
        at: Position,
        then: Then<'_>,
    ) -> NodeId {
        let numbers: Option<Vec<Arc<Expr>>> = arguments.iter().map(Symbol::number).collect();
        match (name, numbers.as_deref()) {
            ("max", Some([a, b])) => {
                self.arithmetic(path, Arithmetic::Max, Arc::clone(a), Arc::clone(b), then)
            }
            ("min", Some([a, b])) => {
                self.arithmetic(path, Arithmetic::Min, Arc::clone(a), Arc::clone(b), then)
            }
            ("abs", Some([of])) => {
                self.computed(path, Expr::Call(Function::Abs, Arc::clone(of)), of.is_integer(), then)
            }
            ("to_float", Some([of])) if of.is_integer() => {
                self.computed(path, Expr::Call(Function::ToFloat, Arc::clone(of)), false, then)
            }
            ("floor" | "ceiling" | "round", Some([of])) if !of.is_integer() => {
                let function = match name {
                    "floor" => Function::Floor,
                    "ceiling" => Function::Ceiling,
                    _ => Function::Round,
                };
                self.computed(path, Expr::Call(function, Arc::clone(of)), false, then)
            }
            // What is missing has no functions.
            _ if arguments.iter().any(Symbol::is_unit) => self.fails(),
            _ => self.give_up(format!("`{name}` of something that the message decides"), at),
        }
    }

    /// `award` and `penalize`.
    fn share(
        &mut self,
        path: Path,
        penalty: bool,
        share: &Symbol,
        reason: &Symbol,
        at: Position,
        then: Then<'_>,
    ) -> NodeId {
        let (Some(number), Some(pieces)) = (share.number(), reason.pieces()) else { return self.fails() };
        let position = place(at);
        let constant = match *number {
            Expr::Integer(share) => Some(share as f64),
            Expr::Float(bits) => Some(f64::from_bits(bits)),
            _ => None,
        };
        if constant.is_some_and(|share| !(0.0..=1.0).contains(&share)) {
            return self.fails();
        }
        if let (Some(share), Some(reason)) = (constant, reason.known_text()) {
            // Adding 0 turns -0 into 0.
            let signed = share * if penalty { -1.0 } else { 1.0 } + 0.0;
            return then(self, path, verdict(VerdictKind::Share(signed), &reason, position));
        }
        let kind = FormulaKind::Share { share: (*number).clone(), penalty };
        let formula = Arc::new(Formula { kind, reason: pieces, position });
        let mut path = path;
        if constant.is_none() {
            path.owed.push(Test::IsShare((*number).clone()));
        }
        then(self, path, Symbol::Formula(formula))
    }

    fn veto(&mut self, path: Path, reason: &Symbol, at: Position, then: Then<'_>) -> NodeId {
        let position = place(at);
        if let Some(reason) = reason.known_text() {
            return then(self, path, verdict(VerdictKind::Veto, &reason, position));
        }
        let Some(pieces) = reason.pieces() else { return self.fails() };
        let formula = Formula { kind: FormulaKind::Veto, reason: pieces, position };
        then(self, path, Symbol::Formula(Arc::new(formula)))
    }

    /// `item in container`.
    fn contains(
        &mut self,
        path: Path,
        container: &Symbol,
        item: &Symbol,
        at: Position,
        then: Then<'_>,
    ) -> NodeId {
        let truth = |test| Symbol::Truth { test, negated: false };
        match (container, item) {
            (Symbol::Tags, Symbol::Known(tag)) => {
                let value = match tag.as_immutable_string_ref() {
                    Ok(tag) => truth(Test::Tagged(tag.to_string())),
                    Err(_) => Symbol::truth(false),
                };
                then(self, path, value)
            }
            (Symbol::Text(place), Symbol::Known(_)) if item.known_text().is_some() => {
                let part = item.known_text().unwrap_or_default().to_string();
                then(self, path, truth(Test::TextContains(*place, part)))
            }
            (Symbol::Known(list), Symbol::Number(_) | Symbol::Text(_)) if list.is_array() => {
                let list = list.clone().into_array().unwrap_or_default();
                let equal = |known: &Dynamic| match item {
                    Symbol::Text(place) => {
                        let text = known.as_immutable_string_ref().ok()?;
                        Some(Test::TextIs(*place, text.to_string()))
                    }
                    _ => {
                        let known = Symbol::Known(known.clone()).number()?;
                        Some(Test::Same((*item.number()?).clone(), (*known).clone()))
                    }
                };
                let tests: Vec<Test> = list.iter().filter_map(equal).collect();
                self.any(path, &tests, then)
            }
            (Symbol::Known(range), Symbol::Number(number)) => {
                let (least, most) = match bounds(range) {
                    Some(bounds) => bounds,
                    None => return self.give_up("a look for a number in something else than a list", at),
                };
                if !number.is_integer() || least > most {
                    return then(self, path, Symbol::truth(false));
                }
                self.within(path, number, least, most, &|follow, path, inside| {
                    then(follow, path, Symbol::truth(inside))
                })
            }
            (Symbol::Known(missing), _) if missing.is_unit() => then(self, path, Symbol::truth(false)),
            _ => self.give_up("`contains` of something that is not compiled", at),
        }
    }

    fn any(&mut self, path: Path, tests: &[Test], then: Then<'_>) -> NodeId {
        let Some((first, rest)) = tests.split_first() else { return then(self, path, Symbol::truth(false)) };
        self.ask(path, first, &|follow, path, answer| match answer {
            1 => then(follow, path, Symbol::truth(true)),
            _ => follow.any(path, rest, then),
        })
    }

    /// What a script ends in. What its path owes is asked first, but for what the verdict itself is made of.
    pub fn end(&mut self, mut path: Path, value: &Symbol) -> NodeId {
        let asked_anyway = |test: &Test| match value {
            Symbol::Formula(formula) => formula.asks(test),
            _ => false,
        };
        while let Some(owed) = path.owed.pop() {
            if !asked_anyway(&owed) {
                return self.require(path, &owed, &|follow, path| follow.end(path, value));
            }
        }
        self.leaf(value)
    }

    fn leaf(&mut self, value: &Symbol) -> NodeId {
        match value {
            Symbol::Verdict(verdict) => self.graph.leaf(Leaf::Verdict((**verdict).clone())),
            Symbol::Formula(formula) => self.graph.leaf(Leaf::Formula((**formula).clone())),
            Symbol::Known(nothing) if nothing.is_unit() => self.graph.leaf(Leaf::Verdict(Verdict::neutral())),
            _ => self.fails(),
        }
    }
}

fn opposite(value: Symbol) -> Symbol {
    match value {
        Symbol::Truth { test, negated } => Symbol::Truth { test, negated: !negated },
        Symbol::Known(truth) => Symbol::truth(!truth.as_bool().unwrap_or_default()),
        other => other,
    }
}

fn verdict(kind: VerdictKind, reason: &str, position: Option<(usize, usize)>) -> Symbol {
    match graph::fixed(kind, reason, position) {
        Leaf::Verdict(verdict) => Symbol::Verdict(Arc::new(verdict)),
        _ => Symbol::unit(),
    }
}

/// Both ends of a range of whole numbers, included.
fn bounds(range: &Dynamic) -> Option<(i64, i64)> {
    if let Some(range) = range.clone().try_cast::<std::ops::Range<i64>>() {
        return Some((range.start, range.end.checked_sub(1)?));
    }
    range.clone().try_cast::<std::ops::RangeInclusive<i64>>().map(|range| (*range.start(), *range.end()))
}
