//! Scripts compiled at load: what a criterion says becomes a table that is looked up, and the script is not run.
//!
//! A criterion is a pure function of a few fields. For each channel its syntax tree is followed symbolically
//! (`follow`) down every path: what a path asks of the fields becomes a test (`tests`), what it ends in a leaf, and
//! the whole a decision graph (`graph`), laid out as dense tables (`tables`). Tables hold shares, not points: weights
//! stay outside, so that tenants and variants with the same scripts share them whatever their weights, and a change of
//! weights rebuilds nothing.
//!
//! What this refuses to do: guess. Wherever a path does something whose outcome is not certain to be the interpreter's
//! (an error, a limit, a construct that is not known here), it ends in "ask the interpreter", which is then run for
//! that criterion, that channel and that message. So a compiled criterion says exactly what the interpreted one says.

mod answers;
mod calls;
mod chains;
mod conditions;
mod constants;
mod follow;
mod followed;
mod formulas;
mod graph;
mod learnt;
mod numbers;
mod program;
mod sample;
mod slots;
mod statements;
mod symbols;
mod tables;
mod tests;

pub use conditions::{Conditions, Found};
pub use followed::Followed;
pub use learnt::Learnt;
pub use numbers::Number;
pub use program::{Program, Way};
pub use sample::{difference, differences};

/// The words that fields of a closed set can be.
fn words() -> impl Iterator<Item = &'static str> {
    use super::fields::{CHANNEL, MESSAGE};
    let of_message = MESSAGE.iter().filter_map(|field| field.kind.words());
    let of_channel = CHANNEL.iter().filter_map(|field| field.kind.words());
    of_message.chain(of_channel).flatten().copied()
}
