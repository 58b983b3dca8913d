//! Expressions: values, fields, texts put together, `&&`, `||` and `??`.

use std::sync::Arc;

use rhai::{ASTFlags, Dynamic, Expr, Position};

use super::{
    constants,
    follow::{Follow, Then},
    graph::{NodeId, Piece},
    slots::{self, Scope},
    symbols::{Object, Path, Symbol},
};

/// Bytes and parts of a text that is put together, so that it stays well below the interpreter's limit of 4 KiB: a
/// number takes 330 bytes at the most, a text of the message 256.
const FIXED_BYTES_MAX: usize = 1_500;
const PARTS_MAX: usize = 7;
/// Items of a list that is written out.
const LIST_MAX: usize = 64;

impl Follow<'_> {
    pub fn expression(&mut self, mut path: Path, expression: &Expr, ret: Then<'_>, then: Then<'_>) -> NodeId {
        let at = expression.position();
        if let Err(end) = self.step(&mut path, at) {
            return end;
        }
        match expression {
            Expr::IntegerConstant(..)
            | Expr::FloatConstant(..)
            | Expr::BoolConstant(..)
            | Expr::CharConstant(..)
            | Expr::StringConstant(..)
            | Expr::DynamicConstant(..)
            | Expr::Unit(_) => match expression.get_literal_value(None) {
                Some(value) => then(self, path, Symbol::Known(value)),
                None => self.give_up("a value that is not compiled", at),
            },
            Expr::Variable(variable, ..) => match path.get(&variable.1).map(|b| b.value.clone()) {
                Some(value) => then(self, path, value),
                None => self.fails(),
            },
            Expr::Stmt(block) => self.block(path, block, ret, then),
            Expr::FnCall(called, position) => self.call(path, called, *position, ret, then),
            Expr::Dot(pair, flags, _) => {
                if flags.contains(ASTFlags::NEGATED) {
                    return self.give_up("`?.`", at);
                }
                self.expression(path, &pair.lhs, ret, &|follow, path, base| {
                    follow.member(path, &base, &pair.rhs, ret, then)
                })
            }
            Expr::And(parts, _) => self.all(path, parts, true, ret, then),
            Expr::Or(parts, _) => self.all(path, parts, false, ret, then),
            Expr::Coalesce(parts, _) => self.first_there(path, parts, ret, then),
            Expr::InterpolatedString(parts, _) => self.template(path, parts, Vec::new(), at, ret, then),
            Expr::Array(items, _) => self.list(path, items, Vec::new(), at, ret, then),
            Expr::Index(..) => self.give_up("a part taken with `[...]`", at),
            Expr::Map(..) => self.give_up("a map", at),
            _ => self.give_up("an expression that is not compiled", at),
        }
    }

    /// What follows a dot.
    fn member(
        &mut self,
        mut path: Path,
        base: &Symbol,
        member: &Expr,
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        let at = member.position();
        if let Err(end) = self.step(&mut path, at) {
            return end;
        }
        match member {
            Expr::Property(property, position) => self.property(path, base, &property.2, *position, then),
            Expr::MethodCall(called, position) => {
                if self.functions.iter().any(|function| function.name == *called.name) {
                    return self.give_up("a function of the script called with a dot", *position);
                }
                self.arguments(path, &called.args, vec![base.clone()], ret, &|follow, path, arguments| {
                    follow.native(path, &called.name, arguments, *position, then)
                })
            }
            Expr::Dot(pair, flags, _) if !flags.contains(ASTFlags::NEGATED) => {
                self.member(path, base, &pair.lhs, ret, &|follow, path, inner| {
                    follow.member(path, &inner, &pair.rhs, ret, then)
                })
            }
            _ => self.give_up("what follows this dot", at),
        }
    }

    fn property(&mut self, path: Path, base: &Symbol, name: &str, at: Position, then: Then<'_>) -> NodeId {
        let found = match base {
            Symbol::Object(Object::Message) => slots::of_message(name).map(|r| (Scope::Message, r)),
            Symbol::Object(Object::Channel) => slots::of_channel(name).map(|r| (Scope::Channel, r)),
            Symbol::Object(Object::History) => slots::of_history(name).map(|r| (Scope::Channel, r)),
            _ => return self.give_up(format!("`.{name}` of something else than message or channel"), at),
        };
        match found {
            Some((scope, reading)) => self.read(path, scope, reading, then),
            None => self.fails(),
        }
    }

    /// `&&` (`all`) or `||`.
    fn all(&mut self, path: Path, parts: &[Expr], all: bool, ret: Then<'_>, then: Then<'_>) -> NodeId {
        let Some((first, rest)) = parts.split_first() else { return then(self, path, Symbol::truth(all)) };
        self.expression(path, first, ret, &|follow, path, value| {
            follow.truth(path, &value, &|follow, path, holds| {
                if holds == all {
                    follow.all(path, rest, all, ret, then)
                } else {
                    then(follow, path, Symbol::truth(holds))
                }
            })
        })
    }

    /// `??`.
    fn first_there(&mut self, path: Path, parts: &[Expr], ret: Then<'_>, then: Then<'_>) -> NodeId {
        let Some((first, rest)) = parts.split_first() else { return then(self, path, Symbol::unit()) };
        self.expression(path, first, ret, &|follow, path, value| {
            if value.is_unit() && !rest.is_empty() {
                follow.first_there(path, rest, ret, then)
            } else {
                then(follow, path, value)
            }
        })
    }

    fn list(
        &mut self,
        path: Path,
        items: &[Expr],
        sofar: Vec<Dynamic>,
        at: Position,
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        let Some((first, rest)) = items.split_first() else {
            let bytes: usize =
                sofar.iter().filter_map(|v| v.as_immutable_string_ref().ok().map(|t| t.len())).sum();
            if sofar.len() > LIST_MAX || bytes > FIXED_BYTES_MAX {
                return self.give_up("a long list", at);
            }
            return then(self, path, Symbol::Known(Dynamic::from_array(sofar)));
        };
        self.expression(path, first, ret, &|follow, path, item| match item {
            Symbol::Known(value) if !value.is_array() => {
                let sofar = sofar.iter().cloned().chain([value]).collect();
                follow.list(path, rest, sofar, at, ret, then)
            }
            _ => follow.give_up("a list of something that the message decides", at),
        })
    }

    /// `` `...${}...` ``.
    fn template(
        &mut self,
        path: Path,
        parts: &[Expr],
        sofar: Vec<Piece>,
        at: Position,
        ret: Then<'_>,
        then: Then<'_>,
    ) -> NodeId {
        let Some((first, rest)) = parts.split_first() else { return self.text(path, sofar, at, then) };
        self.expression(path, first, ret, &|follow, path, part| {
            follow.as_text(path, &part, at, &|follow, path, pieces| {
                let sofar = sofar.iter().cloned().chain(pieces).collect();
                follow.template(path, rest, sofar, at, ret, then)
            })
        })
    }

    /// A value as `${}` shows it.
    pub fn as_text(
        &mut self,
        path: Path,
        value: &Symbol,
        at: Position,
        go_on: &dyn Fn(&mut Follow<'_>, Path, Vec<Piece>) -> NodeId,
    ) -> NodeId {
        match value {
            Symbol::Known(known) => {
                let shown =
                    constants::shown(known.clone()).and_then(|text| text.into_immutable_string().ok());
                match shown {
                    Some(text) => go_on(self, path, vec![Piece::Fixed(text.as_str().into())]),
                    None => self.fails(),
                }
            }
            Symbol::Number(number) => go_on(self, path, vec![Piece::Number((**number).clone())]),
            Symbol::Truth { .. } => self.truth(path, value, &|follow, path, truth| {
                go_on(follow, path, vec![Piece::Fixed(truth.to_string().into())])
            }),
            Symbol::Text(_) | Symbol::Pieces(_) => {
                let pieces = value.pieces().unwrap_or_default();
                go_on(self, path, pieces)
            }
            _ => self.give_up("a text made of something that is not compiled", at),
        }
    }

    /// A text out of parts; known altogether where all of them are.
    pub fn text(&mut self, path: Path, pieces: Vec<Piece>, at: Position, then: Then<'_>) -> NodeId {
        let fixed = |piece: &Piece| match piece {
            Piece::Fixed(text) => text.len(),
            _ => 0,
        };
        let moving = pieces.iter().filter(|piece| !matches!(piece, Piece::Fixed(_))).count();
        if pieces.iter().map(fixed).sum::<usize>() > FIXED_BYTES_MAX || moving > PARTS_MAX {
            return self.give_up("a long text", at);
        }
        if moving > 0 {
            return then(self, path, Symbol::Pieces(Arc::new(pieces)));
        }
        let whole: String = pieces
            .iter()
            .map(|piece| match piece {
                Piece::Fixed(text) => &**text,
                _ => "",
            })
            .collect();
        then(self, path, Symbol::Known(whole.into()))
    }
}
