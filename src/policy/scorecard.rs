//! What every criterion said of every channel, in one small value.
//!
//! Weights are not in it: the same card is added up under any weights, which is how variants share scripts and how
//! flip points are tried. Nor are words: what an opinion says stays where it was compiled, or is put together when
//! somebody asks.

use super::{bundle::Opinion, compile::Number, verdict::Verdict};
use crate::domain::channel::{Channel, PerChannel};

/// Where an opinion stands: with the program that can say it, or in the card because it was made for this message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Said(u32);

impl Said {
    const MADE: u32 = 1 << 31;
    /// Of a fixed one that takes the channel out, so that nobody has to look there.
    const VETO: u32 = 1 << 30;
    /// Nobody has said anything: the first of a program's verdicts is the neutral one.
    pub const NOTHING: Self = Self(0);

    /// One of the program's fixed verdicts, by its place.
    pub const fn fixed(at: u32, is_veto: bool) -> Self {
        Self(at | if is_veto { Self::VETO } else { 0 })
    }

    /// Of a fixed one: whether it takes the channel out.
    #[inline]
    pub const fn is_veto(self) -> bool {
        self.0 & Self::VETO != 0
    }

    /// As one number, whose highest bit is free of a fixed one.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// Of a fixed one's number.
    #[inline]
    pub const fn of_bits(bits: u32) -> Self {
        Self(bits)
    }

    const fn made(at: u32) -> Self {
        Self(at | Self::MADE)
    }

    /// Of a fixed one: the place among the program's verdicts.
    #[inline]
    pub const fn among_fixed(self) -> usize {
        (self.0 & !(Self::MADE | Self::VETO)) as usize
    }

    /// The place among the program's verdicts (`Ok`) or among those made for this message (`Err`).
    #[inline]
    pub const fn place(self) -> Result<usize, usize> {
        if self.0 & Self::MADE == 0 { Ok(self.among_fixed()) } else { Err((self.0 & !Self::MADE) as usize) }
    }
}

/// One criterion's answers, in the order of `Channel::ALL`.
#[derive(Clone, Copy, Debug)]
pub(super) struct Row {
    pub said: [Said; 4],
    /// What each gives of the criterion's weight, -1 to 1; 0 for neutral, a veto or a failure.
    pub shares: [f64; 4],
}

impl Row {
    pub const NOTHING: Self = Self { said: [Said::NOTHING; 4], shares: [0.0; 4] };
}

/// Numbers that a formula's reason shows at the most; one that shows more is put together at once.
pub(super) const SHOWN_MAX: usize = 4;

/// An opinion that was made for this message.
#[derive(Clone, Debug)]
pub(super) enum Made {
    Opinion(Opinion),
    /// One of the program's formulas with what it came to; its reason is not put together yet.
    Formula {
        at: u32,
        share: f64,
        shown: [Number; SHOWN_MAX],
    },
}

impl Made {
    /// What it gives of the criterion's weight.
    fn share(&self) -> f64 {
        match self {
            Made::Opinion(opinion) => opinion.as_ref().map_or(0.0, Verdict::share),
            Made::Formula { share, .. } => *share,
        }
    }
}

/// Criteria whose rows need no allocation; the product ships nine.
const INLINE: usize = 12;

/// A row for each criterion, in criterion order. It is filled where it stays: it is too large to be moved about.
#[derive(Clone, Debug)]
pub struct Scorecard {
    first: [Row; INLINE],
    more: Vec<Row>,
    count: usize,
    vetoed: u8,
    made: Vec<Made>,
}

impl Scorecard {
    /// Nothing is said yet.
    #[inline]
    pub(crate) fn new() -> Self {
        Self { first: [Row::NOTHING; INLINE], more: Vec::new(), count: 0, vetoed: 0, made: Vec::new() }
    }

    /// Another row, for what is said next; `vetoes` takes channels out, a bit for each.
    #[inline]
    pub(super) fn push(&mut self, row: &Row, vetoes: u8) {
        *self.begin() = *row;
        self.veto(vetoes);
    }

    /// A row in which nothing is said yet.
    #[inline]
    pub(super) fn begin(&mut self) -> &mut Row {
        let at = self.count;
        self.count += 1;
        if at >= INLINE {
            self.more.push(Row::NOTHING);
        }
        match self.first.get_mut(at) {
            Some(row) => row,
            None => &mut self.more[at - INLINE],
        }
    }

    /// Takes channels out; a bit for each.
    #[inline]
    pub(super) fn veto(&mut self, channels: u8) {
        self.vetoed |= channels;
    }

    /// Puts what was made for this message in the place of one channel in the last row.
    pub(super) fn put(&mut self, channel: Channel, made: Made, is_veto: bool) {
        let said = Said::made(self.made.len() as u32);
        let last = self.count - 1;
        let row = match self.first.get_mut(last) {
            Some(row) => row,
            None => &mut self.more[last - INLINE],
        };
        row.said[channel.index()] = said;
        row.shares[channel.index()] = made.share();
        self.vetoed |= u8::from(is_veto) << channel.index();
        if self.made.capacity() == 0 {
            self.made.reserve_exact(4);
        }
        self.made.push(made);
    }

    /// All of them in turn: those that are in place, and those that found no room.
    #[inline]
    fn parts(&self) -> [&[Row]; 2] {
        [&self.first[..self.count.min(INLINE)], &self.more]
    }

    #[inline]
    pub(super) fn row(&self, criterion: usize) -> &Row {
        self.first.get(criterion).unwrap_or_else(|| &self.more[criterion - INLINE])
    }

    #[inline]
    pub(super) fn made(&self, at: usize) -> &Made {
        &self.made[at]
    }

    /// How many of its opinions were made for this message, instead of being found in a table.
    pub fn interpreted(&self) -> usize {
        self.made.len()
    }

    /// Whether a criterion took the channel out.
    #[inline]
    pub fn vetoed(&self, channel: Channel) -> bool {
        self.vetoed >> channel.index() & 1 == 1
    }

    /// Each channel's points under these weights, which are in criterion order. Not rounded.
    #[inline]
    pub fn points(&self, weights: &[f64]) -> PerChannel<f64> {
        let mut sums = [0.0; 4];
        let (first, rest) = weights.split_at(weights.len().min(INLINE));
        for (rows, weights) in self.parts().into_iter().zip([first, rest]) {
            for (row, weight) in rows.iter().zip(weights) {
                for (sum, share) in sums.iter_mut().zip(&row.shares) {
                    *sum += share * weight;
                }
            }
        }
        PerChannel::new(sums)
    }

    /// What each criterion gives a channel, before weighting: -1 to 1; 0 for neutral, a veto or a failure.
    #[inline]
    pub fn shares(&self, channel: Channel) -> impl Iterator<Item = f64> {
        self.parts().into_iter().flatten().map(move |row| row.shares[channel.index()])
    }

    /// The criteria from `from` on that give a channel points or take some, a bit for each, and how many were looked
    /// at: some of those that are left, as long as any is. `counts` says of points whether they are any.
    #[inline]
    pub fn counted(
        &self,
        channel: Channel,
        weights: &[f64],
        from: usize,
        counts: impl Fn(f64) -> bool,
    ) -> (u64, usize) {
        let [first, more] = self.parts();
        let rows = first.get(from..).filter(|rows| !rows.is_empty()).unwrap_or_else(|| {
            let more = more.get(from.saturating_sub(INLINE)..).unwrap_or_default();
            &more[..more.len().min(u64::BITS as usize)]
        });
        let weighted = rows.iter().zip(weights.get(from..).unwrap_or_default());
        let bits = weighted.enumerate().fold(0, |bits, (at, (row, weight))| {
            bits | u64::from(counts(row.shares[channel.index()] * weight)) << at
        });
        (bits, rows.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_criterion_that_counts_is_told_however_many_there_are() {
        for criteria in [0, 1, INLINE, INLINE + 1, INLINE + 64, 200] {
            let (mut card, weights) = (Scorecard::new(), vec![10.0; criteria]);
            for at in 0..criteria {
                let share = if at % 3 == 0 { 0.5 } else { 0.0 };
                card.push(&Row { shares: [0.0, share, 0.0, 0.0], ..Row::NOTHING }, 0);
            }
            let (mut told, mut from) = (Vec::new(), 0);
            loop {
                let (bits, looked_at) = card.counted(Channel::Email, &weights, from, |points| points != 0.0);
                told.extend((0..64).filter(|at| bits >> at & 1 == 1).map(|at| from + at));
                from += looked_at;
                if looked_at == 0 {
                    break;
                }
            }
            assert_eq!(told, (0..criteria).step_by(3).collect::<Vec<_>>());
            assert_eq!(from, criteria);
            let points = card.points(&weights);
            assert_eq!((points[Channel::Email], points[Channel::Sms]), (5.0 * told.len() as f64, 0.0));
        }
    }
}
