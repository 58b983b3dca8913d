//! Verdicts that are made of numbers of the message: `award((a - b) / a, `opened ${n} of ${m}`)`.

use std::fmt::{self, Write as _};

use super::{
    graph::{Formula, FormulaKind, Piece},
    numbers::{Number, Reads, text},
};
use crate::policy::{
    engine::REASON_CHARS_MAX,
    verdict::{Verdict, VerdictKind, one_line},
};

/// What a reason usually takes.
const REASON_BYTES: usize = 64;

/// A float that is mostly a whole number, shown as `f64` shows it.
struct Shown(f64);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Of these the digits are those of the whole number; minus zero is shown with its sign.
        if self.0 > 0.0 && self.0 < 1e15 && self.0.fract() == 0.0 {
            return write!(f, "{}", self.0 as i64);
        }
        write!(f, "{}", self.0)
    }
}

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
    let mut reason = String::with_capacity(REASON_BYTES);
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
                if !rate.is_finite() {
                    return None;
                }
                write!(reason, "{}%", Shown((rate * 100.0).round())).ok()?;
            }
        }
    }
    let reason = one_line(&reason, REASON_CHARS_MAX).into();
    Some(Verdict { kind, reason, position: formula.position })
}
