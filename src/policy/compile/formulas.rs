//! Verdicts that are made of numbers of the message: `award((a - b) / a, `opened ${n} of ${m}`)`.

use std::fmt::Write as _;

use super::{
    graph::{Formula, FormulaKind, Piece},
    numbers::{Number, Reads, text},
};
use crate::policy::{
    engine::REASON_CHARS_MAX,
    verdict::{Verdict, VerdictKind, one_line},
};

/// The verdict; none where the interpreter would fail, and is asked.
pub fn verdict(formula: &Formula, reads: Reads<'_, '_>) -> Option<Verdict> {
    let kind = match &formula.kind {
        FormulaKind::Veto => VerdictKind::Veto,
        FormulaKind::Share { share, penalty } => {
            let share = share.value(reads)?.float();
            if !(0.0..=1.0).contains(&share) {
                return None;
            }
            VerdictKind::Share(share * if *penalty { -1.0 } else { 1.0 } + 0.0)
        }
    };
    let mut reason = String::new();
    for piece in &formula.reason {
        match piece {
            Piece::Fixed(text) => reason.push_str(text),
            Piece::Text(place) => reason.push_str(text(*place, reads)),
            Piece::Number(number) => match number.value(reads)? {
                Number::Integer(number) => write!(reason, "{number}").ok()?,
                Number::Float(number) => write!(reason, "{number}").ok()?,
            },
            Piece::Percent(rate) => {
                let rate = rate.value(reads)?.float();
                write!(reason, "{}%", (rate * 100.0).round()).ok()?;
            }
        }
    }
    let reason = one_line(&reason, REASON_CHARS_MAX).into();
    Some(Verdict { kind, reason, position: formula.position })
}
