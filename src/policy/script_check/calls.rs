//! What a script can call: the engine's own list, read from the engine, and what our functions take and give.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::LazyLock,
};

use rhai::{Expr, Position, Stmt, StmtBlock};

use super::kinds::Kind;
use crate::policy::engine::engine;

/// What a parameter of one of our functions is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Parameter {
    Share,
    Reason,
    Rate,
    Part,
    Anything,
}

/// One of our functions.
pub(super) struct Call {
    name: &'static str,
    signature: &'static str,
    pub parameters: &'static [Parameter],
    pub gives: Kind,
}

const OURS: &[Call] = &[
    Call {
        name: "award",
        signature: "award(share, reason)",
        parameters: &[Parameter::Share, Parameter::Reason],
        gives: Kind::Verdict,
    },
    Call {
        name: "penalize",
        signature: "penalize(share, reason)",
        parameters: &[Parameter::Share, Parameter::Reason],
        gives: Kind::Verdict,
    },
    Call { name: "veto", signature: "veto(reason)", parameters: &[Parameter::Reason], gives: Kind::Verdict },
    Call { name: "neutral", signature: "neutral()", parameters: &[], gives: Kind::Verdict },
    Call {
        name: "contains",
        signature: "contains(list, item)",
        parameters: &[Parameter::Anything, Parameter::Anything],
        gives: Kind::Bool,
    },
    Call {
        name: "starts_with",
        signature: "starts_with(text, beginning)",
        parameters: &[Parameter::Part, Parameter::Part],
        gives: Kind::Bool,
    },
    Call { name: "len", signature: "len(text)", parameters: &[Parameter::Anything], gives: Kind::Number },
    Call { name: "percent", signature: "percent(rate)", parameters: &[Parameter::Rate], gives: Kind::Text },
    Call {
        name: "to_string",
        signature: "to_string(value)",
        parameters: &[Parameter::Anything],
        gives: Kind::Text,
    },
];

pub(super) fn ours(name: &str) -> Option<&'static Call> {
    OURS.iter().find(|call| call.name == name)
}

/// How one of our functions is written.
pub(super) fn signature(name: &str) -> Option<&'static str> {
    ours(name).map(|call| call.signature)
}

/// Our functions, for a hint.
pub(super) fn documented() -> String {
    OURS.iter().map(|call| call.name).collect::<Vec<_>>().join(", ")
}

/// Every function that the engine knows by a name that can be written, with its numbers of parameters.
pub(super) fn natives() -> &'static BTreeMap<String, BTreeSet<usize>> {
    static NATIVES: LazyLock<BTreeMap<String, BTreeSet<usize>>> = LazyLock::new(|| {
        let mut natives: BTreeMap<String, BTreeSet<usize>> = BTreeMap::new();
        let every = engine().collect_fn_metadata(
            None,
            |info| Some((info.metadata.name.to_string(), info.metadata.num_params)),
            true,
        );
        for (name, parameters) in every {
            // Getters and operators are written otherwise.
            if name.chars().all(|c| c.is_alphanumeric() || c == '_') {
                natives.entry(name).or_default().insert(parameters);
            }
        }
        natives
    });
    &NATIVES
}

/// The value of an expression of numbers alone, as the engine would compute it.
pub(super) fn constant(expression: &Expr) -> Option<f64> {
    match expression {
        Expr::IntegerConstant(number, _) => Some(*number as f64),
        Expr::FloatConstant(number, _) => Some(**number),
        Expr::FnCall(call, _) => {
            let whole = call.args.iter().all(|a| matches!(a, Expr::IntegerConstant(..)));
            let values: Option<Vec<f64>> = call.args.iter().map(constant).collect();
            match (call.name.as_str(), values?.as_slice()) {
                ("-", [a]) => Some(-a),
                ("+", [a, b]) => Some(a + b),
                ("-", [a, b]) => Some(a - b),
                ("*", [a, b]) => Some(a * b),
                ("/", [_, b]) if *b == 0.0 => None,
                ("/", [a, b]) => Some(if whole { (a / b).trunc() } else { a / b }),
                _ => None,
            }
        }
        _ => None,
    }
}

const VERDICTS: &[&str] = &["award", "penalize", "veto", "neutral"];

/// The verdicts that a statement ends in.
pub(super) fn tail_verdicts(statement: &Stmt, out: &mut Vec<(&'static str, Position)>) {
    match statement {
        Stmt::FnCall(call, position) => tail_call(&call.name, *position, out),
        Stmt::Expr(expression) => tail_expression(expression, out),
        Stmt::If(flow, _) => {
            tail_block(&flow.body, out);
            tail_block(&flow.branch, out);
        }
        Stmt::Switch(switch, _) => {
            for case in &switch.1.expressions {
                tail_expression(&case.rhs, out);
            }
        }
        Stmt::Block(block) => tail_block(block, out),
        _ => {}
    }
}

fn tail_block(block: &StmtBlock, out: &mut Vec<(&'static str, Position)>) {
    if let Some(last) = block.statements().last() {
        tail_verdicts(last, out);
    }
}

fn tail_expression(expression: &Expr, out: &mut Vec<(&'static str, Position)>) {
    match expression {
        Expr::FnCall(call, position) => tail_call(&call.name, *position, out),
        Expr::Stmt(block) => tail_block(block, out),
        _ => {}
    }
}

fn tail_call(name: &str, position: Position, out: &mut Vec<(&'static str, Position)>) {
    if let Some(verdict) = VERDICTS.iter().find(|verdict| **verdict == name) {
        out.push((verdict, position));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::policy::engine::OUR_FUNCTIONS;

    #[test]
    fn what_is_described_here_is_what_the_engine_has() {
        let mut described: Vec<_> = OURS.iter().map(|call| call.name).collect();
        let mut ours = OUR_FUNCTIONS.to_vec();
        described.sort_unstable();
        ours.sort_unstable();
        assert_eq!(described, ours);
        for call in OURS {
            assert!(natives()[call.name].contains(&call.parameters.len()), "{}", call.name);
        }
    }
}
