//! Numbers that are computed from fields, exactly as the interpreter computes them: whole numbers checked, comparisons
//! of floats with Rhai's own tolerance.
//!
//! `value` is `None` where the interpreter would fail; whoever builds on a number has tested that first.

use std::sync::Arc;

use super::slots::{ChannelSlots, MessageSlots, Place, Scope, Slot};

/// What a test or a formula reads: the message, and the channel that it is about.
#[derive(Clone, Copy)]
pub struct Reads<'r, 'm> {
    pub message: &'r MessageSlots<'m>,
    pub channel: &'r ChannelSlots,
}

/// A number of one type.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    Integer(i64),
    Float(f64),
}

impl Number {
    pub fn float(self) -> f64 {
        match self {
            Number::Integer(number) => number as f64,
            Number::Float(number) => number,
        }
    }
}

/// How a number comes about. `Eq` and `Hash` by structure, so that what is asked twice is computed once.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Expr {
    Integer(i64),
    /// By its bits.
    Float(u64),
    Field(Place),
    /// Characters of a text.
    Length(Place),
    /// Items of the tags.
    Count,
    Negate(Arc<Expr>),
    Compute(Arithmetic, Arc<Expr>, Arc<Expr>),
    Call(Function, Arc<Expr>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    /// Of two numbers of one type.
    Max,
    Min,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Function {
    Abs,
    Floor,
    Ceiling,
    Round,
    ToFloat,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

impl Arithmetic {
    pub fn of(operator: &str) -> Option<Self> {
        Some(match operator {
            "+" => Arithmetic::Add,
            "-" => Arithmetic::Subtract,
            "*" => Arithmetic::Multiply,
            "/" => Arithmetic::Divide,
            "%" => Arithmetic::Modulo,
            _ => return None,
        })
    }

    /// Whether it can fail on whole numbers.
    pub fn may_fail(self) -> bool {
        !matches!(self, Arithmetic::Max | Arithmetic::Min)
    }
}

impl Comparison {
    pub fn of(operator: &str) -> Option<Self> {
        Some(match operator {
            "<" => Comparison::Less,
            "<=" => Comparison::LessOrEqual,
            ">" => Comparison::Greater,
            ">=" => Comparison::GreaterOrEqual,
            "==" => Comparison::Equal,
            "!=" => Comparison::NotEqual,
            _ => return None,
        })
    }

    /// The same with its sides changed over.
    pub fn turned(self) -> Self {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }

    #[inline]
    pub fn of_integers(self, a: i64, b: i64) -> bool {
        match self {
            Comparison::Less => a < b,
            Comparison::LessOrEqual => a <= b,
            Comparison::Greater => a > b,
            Comparison::GreaterOrEqual => a >= b,
            Comparison::Equal => a == b,
            Comparison::NotEqual => a != b,
        }
    }

    /// Rhai 1.27 compares floats by their relative distance (`func/builtin.rs`, `impl_float`).
    #[inline]
    pub fn of_floats(self, a: f64, b: f64) -> bool {
        let most = if a * b == 0.0 { 1.0 } else { a.abs().max(b.abs()) };
        if most == 0.0 {
            return matches!(self, Comparison::Equal | Comparison::GreaterOrEqual | Comparison::LessOrEqual);
        }
        match self {
            Comparison::Equal => (a - b).abs() / most <= f64::EPSILON,
            Comparison::NotEqual => (a - b).abs() / most > f64::EPSILON,
            Comparison::Greater => (a - b) / most > f64::EPSILON,
            Comparison::GreaterOrEqual => (a - b) / most > -f64::EPSILON,
            Comparison::Less => (b - a) / most > f64::EPSILON,
            Comparison::LessOrEqual => (b - a) / most > -f64::EPSILON,
        }
    }

    pub fn holds(self, a: Number, b: Number) -> bool {
        match (a, b) {
            (Number::Integer(a), Number::Integer(b)) => self.of_integers(a, b),
            (a, b) => self.of_floats(a.float(), b.float()),
        }
    }
}

impl Expr {
    pub fn float(number: f64) -> Self {
        Expr::Float(number.to_bits())
    }

    /// Whether it is a whole number; else it is a float.
    pub fn is_integer(&self) -> bool {
        match self {
            Expr::Integer(_) | Expr::Length(_) | Expr::Count => true,
            Expr::Float(_) => false,
            Expr::Field(place) => matches!(place.slot, Slot::Integer(_)),
            Expr::Negate(of) => of.is_integer(),
            Expr::Compute(_, a, b) => a.is_integer() && b.is_integer(),
            Expr::Call(function, of) => *function == Function::Abs && of.is_integer(),
        }
    }

    /// Whether it reads anything of the channel.
    pub fn scope(&self) -> Scope {
        match self {
            Expr::Integer(_) | Expr::Float(_) | Expr::Count => Scope::Message,
            Expr::Field(place) | Expr::Length(place) => place.scope,
            Expr::Negate(of) | Expr::Call(_, of) => of.scope(),
            Expr::Compute(_, a, b) => a.scope().max(b.scope()),
        }
    }

    /// None where the interpreter would fail.
    pub fn value(&self, reads: Reads<'_, '_>) -> Option<Number> {
        Some(match self {
            Expr::Integer(number) => Number::Integer(*number),
            Expr::Float(bits) => Number::Float(f64::from_bits(*bits)),
            Expr::Field(place) => read(*place, reads),
            Expr::Length(place) => Number::Integer(text(*place, reads).chars().count() as i64),
            Expr::Count => Number::Integer(reads.message.tags.len() as i64),
            Expr::Negate(of) => match of.value(reads)? {
                Number::Integer(number) => Number::Integer(number.checked_neg()?),
                Number::Float(number) => Number::Float(-number),
            },
            Expr::Compute(arithmetic, a, b) => compute(*arithmetic, a.value(reads)?, b.value(reads)?)?,
            Expr::Call(function, of) => call(*function, of.value(reads)?)?,
        })
    }
}

fn read(place: Place, reads: Reads<'_, '_>) -> Number {
    match (place.scope, place.slot) {
        (Scope::Message, Slot::Integer(at)) => Number::Integer(reads.message.integers[usize::from(at)]),
        (Scope::Channel, Slot::Integer(at)) => Number::Integer(reads.channel.integers[usize::from(at)]),
        (Scope::Channel, Slot::Float(at)) => Number::Float(reads.channel.floats[usize::from(at)]),
        (_, other) => unreachable!("{other:?} holds no number"),
    }
}

pub fn text<'m>(place: Place, reads: Reads<'_, 'm>) -> &'m str {
    match place.slot {
        Slot::Text(at) => reads.message.texts[usize::from(at)],
        other => unreachable!("{other:?} holds no text"),
    }
}

/// Two whole numbers make a whole number; with a float among them it is a float.
fn compute(arithmetic: Arithmetic, a: Number, b: Number) -> Option<Number> {
    if let (Number::Integer(a), Number::Integer(b)) = (a, b) {
        return Some(Number::Integer(match arithmetic {
            Arithmetic::Add => a.checked_add(b)?,
            Arithmetic::Subtract => a.checked_sub(b)?,
            Arithmetic::Multiply => a.checked_mul(b)?,
            Arithmetic::Divide => a.checked_div(b)?,
            Arithmetic::Modulo => a.checked_rem(b)?,
            Arithmetic::Max => a.max(b),
            Arithmetic::Min => a.min(b),
        }));
    }
    let (a, b) = (a.float(), b.float());
    Some(Number::Float(match arithmetic {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::Modulo => a % b,
        // As the package has them, for NaN too.
        Arithmetic::Max => {
            if a >= b {
                a
            } else {
                b
            }
        }
        Arithmetic::Min => {
            if a <= b {
                a
            } else {
                b
            }
        }
    }))
}

fn call(function: Function, of: Number) -> Option<Number> {
    Some(match (function, of) {
        (Function::Abs, Number::Integer(number)) => Number::Integer(number.checked_abs()?),
        (Function::Abs, Number::Float(number)) => Number::Float(number.abs()),
        (Function::Floor, of) => Number::Float(of.float().floor()),
        (Function::Ceiling, of) => Number::Float(of.float().ceil()),
        (Function::Round, of) => Number::Float(of.float().round()),
        (Function::ToFloat, of) => Number::Float(of.float()),
    })
}
