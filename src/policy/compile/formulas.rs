//! Verdicts that are made of numbers of the message: `award((a - b) / a, `opened ${n} of ${m}`)`.

use std::{borrow::Cow, fmt::Write as _};

use super::{
    graph::{Formula, FormulaKind, Piece},
    numbers::{Number, Reads, text},
};
use crate::policy::{
    engine::REASON_CHARS_MAX,
    scorecard::{Made, SHOWN_MAX},
    verdict::{Verdict, VerdictKind, one_line},
};

/// What a reason usually takes.
const REASON_BYTES: usize = 64;

/// What a formula comes to, and whether it is a veto; none where the interpreter would fail, and is asked. Where its
/// reason shows nothing but a few numbers, it is put together when somebody asks for it.
pub fn made(at: u32, formula: &Formula, reads: Reads<'_, '_>) -> Option<(Made, bool)> {
    let (share, is_veto) = match &formula.kind {
        FormulaKind::Veto => (0.0, true),
        FormulaKind::Share { share, penalty } => {
            let share = share.value(reads)?.float();
            if !(0.0..=1.0).contains(&share) {
                return None;
            }
            // Adding 0 turns -0 into 0.
            (share * if *penalty { -1.0 } else { 1.0 } + 0.0, false)
        }
    };
    let mut shown = [Number::Integer(0); SHOWN_MAX];
    let mut count = 0;
    for piece in &formula.reason {
        let number = match piece {
            Piece::Fixed(_) => continue,
            Piece::Number(number) => number.value(reads)?,
            Piece::Percent(rate) => rate.value(reads).filter(|rate| rate.float().is_finite())?,
            Piece::Text(_) => return Some((at_once(formula, share, reads)?, is_veto)),
        };
        match shown.get_mut(count) {
            Some(place) => *place = number,
            None => return Some((at_once(formula, share, reads)?, is_veto)),
        }
        count += 1;
    }
    Some((Made::Formula { at, share, shown }, is_veto))
}

/// With its reason put together now, while the texts of the message are there.
fn at_once(formula: &Formula, share: f64, reads: Reads<'_, '_>) -> Option<Made> {
    let mut reason = String::with_capacity(REASON_BYTES);
    for piece in &formula.reason {
        match piece {
            Piece::Fixed(text) => reason.push_str(text),
            Piece::Text(place) => reason.push_str(text(*place, reads)),
            Piece::Number(number) => show(number.value(reads)?, &mut reason),
            Piece::Percent(rate) => {
                percent(rate.value(reads).filter(|rate| rate.float().is_finite())?, &mut reason);
            }
        }
    }
    let reason = one_line(&reason, REASON_CHARS_MAX).into();
    let kind = kind(formula, share);
    Some(Made::Opinion(Ok(Verdict { kind, reason, position: formula.position })))
}

/// The whole verdict of a formula that came to this.
pub fn verdict(formula: &Formula, share: f64, shown: &[Number; SHOWN_MAX]) -> Verdict {
    let reason = reason(formula, shown).into();
    Verdict { kind: kind(formula, share), reason, position: formula.position }
}

/// Its reason.
pub fn reason(formula: &Formula, shown: &[Number; SHOWN_MAX]) -> String {
    let mut reason = String::with_capacity(REASON_BYTES);
    let mut shown = shown.iter();
    for piece in &formula.reason {
        match (piece, piece.moves().then(|| shown.next()).flatten()) {
            (Piece::Fixed(text), _) => reason.push_str(text),
            (Piece::Number(_), Some(number)) => show(*number, &mut reason),
            (Piece::Percent(_), Some(rate)) => percent(*rate, &mut reason),
            _ => {}
        }
    }
    match one_line(&reason, REASON_CHARS_MAX) {
        Cow::Borrowed(_) => reason,
        Cow::Owned(line) => line,
    }
}

fn kind(formula: &Formula, share: f64) -> VerdictKind {
    match formula.kind {
        FormulaKind::Veto => VerdictKind::Veto,
        FormulaKind::Share { .. } => VerdictKind::Share(share),
    }
}

/// As `to_string` shows it. Writing to a string does not fail.
fn show(number: Number, to: &mut String) {
    match number {
        Number::Integer(number) => to.push_str(itoa::Buffer::new().format(number)),
        // Of these the digits are those of the whole number; minus zero is shown with its sign.
        Number::Float(number) if number > 0.0 && number < 1e15 && (number as i64) as f64 == number => {
            to.push_str(itoa::Buffer::new().format(number as i64));
        }
        Number::Float(number) => {
            let _ = write!(to, "{number}");
        }
    }
}

/// As `percent` shows it.
fn percent(rate: Number, to: &mut String) {
    show(Number::Float((rate.float() * 100.0).round()), to);
    to.push('%');
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{Number, show};

    proptest! {
        #[test]
        fn numbers_are_shown_as_the_standard_library_shows_them(bits: u64, near in -9_000_i64..9_000, integer: i64) {
            let shown = |number| {
                let mut text = String::new();
                show(number, &mut text);
                text
            };
            for float in [f64::from_bits(bits), near as f64, near as f64 / 8.0, near as f64 * 1e12, -0.0] {
                prop_assert_eq!(shown(Number::Float(float)), float.to_string());
            }
            for integer in [integer, near, i64::MIN, i64::MAX] {
                prop_assert_eq!(shown(Number::Integer(integer)), integer.to_string());
            }
        }
    }
}
