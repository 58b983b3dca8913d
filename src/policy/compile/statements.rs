//! Statements: blocks, names, conditions, `switch`, `return`.

use rhai::{ASTFlags, Dynamic, Expr, Stmt, StmtBlock};

use super::{
    follow::{Follow, Then},
    graph::NodeId,
    numbers::{Comparison, Expr as Number},
    symbols::{Binding, Path, Symbol},
    tests::Test,
};

/// The parts of a `switch` in Rhai's tree.
type Switch = (Expr, rhai::SwitchCasesCollection);

impl Follow<'_> {
    /// A block with a scope of its own; its value is that of its last statement.
    pub fn block(&mut self, path: Path, block: &StmtBlock, ret: Then<'_>, then: Then<'_>) -> NodeId {
        let outer = path.scope.len();
        self.statements(path, block.statements(), ret, &|follow, mut path, value| {
            path.scope.truncate(outer);
            then(follow, path, value)
        })
    }

    /// Statements one after the other, in the scope that there is.
    pub fn statements(&mut self, path: Path, statements: &[Stmt], ret: Then<'_>, then: Then<'_>) -> NodeId {
        match statements {
            [] => then(self, path, Symbol::unit()),
            [last] => self.statement(path, last, ret, then),
            [first, rest @ ..] => {
                self.statement(path, first, ret, &|follow, path, _| follow.statements(path, rest, ret, then))
            }
        }
    }

    fn statement(&mut self, mut path: Path, statement: &Stmt, ret: Then<'_>, then: Then<'_>) -> NodeId {
        let at = statement.position();
        if let Err(end) = self.step(&mut path, at) {
            return end;
        }
        match statement {
            Stmt::Noop(_) => then(self, path, Symbol::unit()),
            Stmt::Expr(expression) => self.expression(path, expression, ret, then),
            Stmt::Block(block) => self.block(path, block, ret, then),
            Stmt::FnCall(called, position) => self.call(path, called, *position, ret, then),
            Stmt::Var(declared, flags, _) => {
                let (name, value, _) = &**declared;
                let constant = flags.contains(ASTFlags::CONSTANT);
                self.expression(path, value, ret, &|follow, mut path, value| {
                    path.scope.push(Binding { name: name.name.clone(), value, constant });
                    then(follow, path, Symbol::unit())
                })
            }
            Stmt::Assignment(assignment) => {
                let (operator, sides) = &**assignment;
                let operator = operator.get_op_assignment_info().map(|info| info.5);
                self.assignment(path, &sides.lhs, operator, &sides.rhs, ret, then)
            }
            Stmt::If(flow, _) => self.expression(path, &flow.expr, ret, &|follow, path, condition| {
                follow.truth(path, &condition, &|follow, path, holds| {
                    let block = if holds { &flow.body } else { &flow.branch };
                    follow.block(path, block, ret, then)
                })
            }),
            Stmt::Switch(switch, _) => self.switch(path, switch, ret, then),
            Stmt::Return(value, flags, _) => {
                // With the flag it is a `throw`.
                if flags.contains(ASTFlags::BREAK) {
                    return self.fails();
                }
                match value {
                    Some(value) => self.expression(path, value, ret, ret),
                    None => ret(self, path, Symbol::unit()),
                }
            }
            Stmt::TryCatch(..) => self.give_up("`try` and `catch`", at),
            _ => self.give_up("a statement that is not compiled", at),
        }
    }

    fn assignment(
        &mut self,
        path: Path,
        target: &Expr,
        operator: Option<&str>,
        value: &Expr,
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        let at = target.position();
        let Expr::Variable(variable, ..) = target else {
            return self.give_up("an assignment to a part of something", at);
        };
        let name = &variable.1;
        let set = |follow: &mut Follow<'_>, mut path: Path, value: Symbol| match path
            .scope
            .iter_mut()
            .rev()
            .find(|binding| binding.name == *name)
        {
            Some(binding) if !binding.constant => {
                binding.value = value;
                then(follow, path, Symbol::unit())
            }
            _ => follow.fails(),
        };
        self.expression(path, value, ret, &|follow, path, value| match operator {
            None => set(follow, path, value),
            Some(operator) => {
                let Some(before) = path.get(name).filter(|b| !b.constant).map(|b| b.value.clone()) else {
                    return follow.fails();
                };
                // `+=` on numbers and texts is the operator and an assignment; on others it may be something else.
                if before.number().is_none() && before.pieces().is_none() {
                    return follow
                        .give_up(format!("`{operator}=` on something else than a number or a text"), at);
                }
                follow.operate(path, operator, &before, &value, at, &set)
            }
        })
    }

    fn switch(&mut self, path: Path, switch: &Switch, ret: Then<'_>, then: Then<'_>) -> NodeId {
        self.expression(path, &switch.0, ret, &|follow, path, subject| {
            follow.switch_on(path, switch, &subject, ret, then)
        })
    }

    /// A known subject takes its cases; a field forks over the values that the cases name.
    fn switch_on(
        &mut self,
        path: Path,
        switch: &Switch,
        subject: &Symbol,
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        let at = switch.0.position();
        match subject {
            Symbol::Known(value) => {
                if value.as_float().is_ok() || value.is_array() || value.is_map() {
                    return self.give_up("`switch` on a number that is not whole, or on a list", at);
                }
                let arms = self.arms_of(switch, Some(value));
                self.arms(path, switch, &arms, ret, then)
            }
            Symbol::Truth { .. } => self.truth(path, subject, &|follow, path, truth| {
                follow.switch_on(path, switch, &Symbol::truth(truth), ret, then)
            }),
            Symbol::Number(number) if number.is_integer() => {
                let equal = |value: &Dynamic| {
                    let value = value.as_int().ok()?;
                    Some(Test::Compare(Comparison::Equal, (**number).clone(), Number::Integer(value)))
                };
                self.cases(path, switch, subject, &equal, ret, then)
            }
            Symbol::Text(place) => {
                let equal = |value: &Dynamic| {
                    let value = value.as_immutable_string_ref().ok()?;
                    Some(Test::TextIs(*place, value.to_string()))
                };
                self.cases(path, switch, subject, &equal, ret, then)
            }
            _ => self.give_up("`switch` on something that is not compiled", at),
        }
    }

    /// Asks whether the subject is the value of each case in turn; then its ranges, then the default.
    fn cases(
        &mut self,
        path: Path,
        switch: &Switch,
        subject: &Symbol,
        equal: &dyn Fn(&Dynamic) -> Option<Test>,
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        let mut named = Vec::new();
        let in_range = |arm: &usize| switch.1.ranges.iter().any(|range| range.index() == *arm);
        for (hash, case) in switch.1.cases.iter() {
            let Some(value) = self.cases.value(*hash) else {
                // Rhai keeps a range among the cases as well; no field is one.
                if case.blocks.iter().all(in_range) {
                    continue;
                }
                return self.give_up("a case of `switch` that is not written out", switch.0.position());
            };
            // A case of another type is never met.
            named.extend(equal(value).map(|test| (test, value.clone())));
        }
        named.sort_by_key(|(test, _)| format!("{test:?}"));
        self.named(path, switch, subject, &named, ret, then)
    }

    fn named(
        &mut self,
        path: Path,
        switch: &Switch,
        subject: &Symbol,
        named: &[(Test, Dynamic)],
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        let Some(((test, value), rest)) = named.split_first() else {
            return self.ranges(path, switch, subject, 0, ret, then);
        };
        self.ask(path, test, &|follow, path, answer| match answer {
            1 => {
                let arms = follow.arms_of(switch, Some(value));
                follow.arms(path, switch, &arms, ret, then)
            }
            _ => follow.named(path, switch, subject, rest, ret, then),
        })
    }

    /// The ranges that hold a number which no case names, from the `from`th on.
    fn ranges(
        &mut self,
        path: Path,
        switch: &Switch,
        subject: &Symbol,
        from: usize,
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        let Some(range) = switch.1.ranges.get(from) else {
            let arms = self.arms_of(switch, None);
            return self.arms(path, switch, &arms, ret, then);
        };
        let Some(number) = subject.number() else {
            return self.ranges(path, switch, subject, from + 1, ret, then);
        };
        let (least, most) = match range {
            rhai::RangeCase::ExclusiveInt(range, _) if range.is_empty() => {
                return self.ranges(path, switch, subject, from + 1, ret, then);
            }
            rhai::RangeCase::ExclusiveInt(range, _) => (range.start, range.end - 1),
            rhai::RangeCase::InclusiveInt(range, _) => (*range.start(), *range.end()),
        };
        self.within(path, &number, least, most, &|follow, path, inside| {
            if !inside {
                return follow.ranges(path, switch, subject, from + 1, ret, then);
            }
            let arm = &switch.1.expressions[range.index()];
            follow.condition(path, &arm.lhs, ret, &|follow, path, holds| match holds {
                true => follow.expression(path, &arm.rhs, ret, then),
                false => follow.ranges(path, switch, subject, from + 1, ret, then),
            })
        })
    }

    /// Whether a whole number lies between two others, both included.
    pub fn within(
        &mut self,
        path: Path,
        number: &Number,
        least: i64,
        most: i64,
        go_on: &dyn Fn(&mut Follow<'_>, Path, bool) -> NodeId,
    ) -> NodeId {
        let least = Test::Compare(Comparison::GreaterOrEqual, number.clone(), Number::Integer(least));
        let most = Test::Compare(Comparison::LessOrEqual, number.clone(), Number::Integer(most));
        self.ask(path, &least, &|follow, path, answer| match answer {
            1 => follow.ask(path, &most, &|follow, path, answer| go_on(follow, path, answer == 1)),
            _ => go_on(follow, path, false),
        })
    }

    /// The arms that a known value tries, in order: those of its case, those of the ranges around it, the default.
    fn arms_of(&self, switch: &Switch, value: Option<&Dynamic>) -> Vec<usize> {
        let collection = &switch.1;
        let mut arms = Vec::new();
        if let Some(value) = value {
            let case = self.cases.hash(value).and_then(|hash| collection.cases.get(&hash));
            arms.extend(case.into_iter().flat_map(|case| case.blocks.iter().copied()));
            arms.extend(collection.ranges.iter().filter(|range| range.contains(value)).map(|r| r.index()));
        }
        arms
    }

    /// Tries each arm's condition; then the default.
    fn arms(&mut self, path: Path, switch: &Switch, arms: &[usize], ret: Then<'_>, then: Then<'_>) -> NodeId {
        let Some((first, rest)) = arms.split_first() else {
            return match switch.1.def_case {
                Some(default) => self.expression(path, &switch.1.expressions[default].rhs, ret, then),
                None => then(self, path, Symbol::unit()),
            };
        };
        let arm = &switch.1.expressions[*first];
        self.condition(path, &arm.lhs, ret, &|follow, path, holds| match holds {
            true => follow.expression(path, &arm.rhs, ret, then),
            false => follow.arms(path, switch, rest, ret, then),
        })
    }

    /// The condition of an arm.
    fn condition(
        &mut self,
        path: Path,
        condition: &Expr,
        ret: Then<'_>,
        go_on: &dyn Fn(&mut Follow<'_>, Path, bool) -> NodeId,
    ) -> NodeId {
        if let Expr::BoolConstant(holds, _) = condition {
            return go_on(self, path, *holds);
        }
        self.expression(path, condition, ret, &|follow, path, value| follow.truth(path, &value, go_on))
    }
}
