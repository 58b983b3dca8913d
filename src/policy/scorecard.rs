//! What every criterion said of every channel, in one value.
//!
//! Weights are not in it: the same card is added up under any weights, which is how variants share scripts and how
//! flip points are tried. What an opinion says in words stays where it was compiled, until somebody asks.

use super::bundle::Opinion;
use crate::domain::channel::{Channel, PerChannel};

/// Where an opinion stands: with the script that can say it, or in the card because it was made for this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said(u32);

impl Said {
    const MADE: u32 = 1 << 31;

    /// One of the script's fixed verdicts, by its place.
    pub const fn fixed(at: u32) -> Self {
        Self(at)
    }

    const fn made(at: u32) -> Self {
        Self(at | Self::MADE)
    }

    /// The place among the script's verdicts (`Ok`) or among those made for this message (`Err`).
    pub const fn place(self) -> Result<usize, usize> {
        if self.0 & Self::MADE == 0 { Ok(self.0 as usize) } else { Err((self.0 & !Self::MADE) as usize) }
    }
}

/// One criterion's answers, in the order of `Channel::ALL`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    /// -1 to 1; 0 for neutral, a veto or a failure.
    pub share: [f64; 4],
    pub said: [Said; 4],
}

/// A row for each criterion, in criterion order.
#[derive(Clone, Debug, Default)]
pub struct Scorecard {
    pub(super) rows: Vec<Row>,
    vetoed: [bool; 4],
    made: Vec<Opinion>,
}

impl Scorecard {
    pub(super) fn for_criteria(count: usize) -> Self {
        Self { rows: Vec::with_capacity(count), ..Self::default() }
    }

    /// A row as a table has it; `vetoes` is a bit for each channel.
    #[inline]
    pub(super) fn push(&mut self, row: Row, vetoes: u8) {
        self.rows.push(row);
        if vetoes != 0 {
            for (at, vetoed) in self.vetoed.iter_mut().enumerate() {
                *vetoed |= vetoes >> at & 1 == 1;
            }
        }
    }

    /// Puts an opinion that was made for this message in the place of one channel in the last row.
    pub(super) fn put(&mut self, channel: Channel, opinion: Opinion) {
        let Some(row) = self.rows.last_mut() else { return };
        let at = channel.index();
        row.share[at] = opinion.as_ref().map_or(0.0, |verdict| verdict.share());
        row.said[at] = Said::made(self.made.len() as u32);
        self.vetoed[at] |= opinion.as_ref().is_ok_and(|verdict| verdict.is_veto());
        self.made.push(opinion);
    }

    pub(super) fn made(&self, at: usize) -> &Opinion {
        &self.made[at]
    }

    /// How many of its opinions were made for this message, instead of being found in a table.
    pub fn interpreted(&self) -> usize {
        self.made.len()
    }

    /// What a criterion gives a channel, before weighting.
    #[inline]
    pub fn share(&self, criterion: usize, channel: Channel) -> f64 {
        self.rows[criterion].share[channel.index()]
    }

    /// Whether a criterion took the channel out.
    pub fn vetoed(&self, channel: Channel) -> bool {
        self.vetoed[channel.index()]
    }

    /// Each channel's points under these weights, which are in criterion order. Not rounded.
    pub fn points(&self, weights: &[f64]) -> PerChannel<f64> {
        let mut sums = [0.0; 4];
        for (row, weight) in self.rows.iter().zip(weights) {
            for (sum, share) in sums.iter_mut().zip(row.share) {
                *sum += share * weight;
            }
        }
        PerChannel::from_fn(|channel| sums[channel.index()])
    }
}
