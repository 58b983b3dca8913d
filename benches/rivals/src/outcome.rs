//! What every engine must answer, in one form to be compared by; and the ranking that hosts do where an engine's
//! own part ends with its verdicts.
//!
//! Nothing here is an engine's: `rank` is in the timed region, `Outcome` never is.

use channel_orchestrator::domain::channel::{Channel, PerChannel};

/// Criteria in their order, and their weights as policies/default.toml ships them.
pub const CRITERIA: [&str; 9] = [
    "preferences",
    "urgency",
    "content",
    "length",
    "cost",
    "quiet_hours",
    "message_type",
    "history",
    "availability",
];
/// In the order of `CRITERIA`. `stream` asserts that the bundle says the same.
pub const WEIGHTS: [f64; 9] = [30.0, 25.0, 25.0, 20.0, 20.0, 30.0, 20.0, 20.0, 0.0];
/// Alternatives told beside the channel that is chosen.
pub const ALTERNATIVES: usize = 2;

/// One decision, spelled out.
#[derive(Debug, PartialEq)]
pub struct Outcome {
    /// Best first; those that are ruled out last.
    pub ranked: Vec<Scored>,
    pub chosen: Option<Channel>,
    pub alternatives: Vec<Channel>,
}

/// What one channel got.
#[derive(Clone, Debug, PartialEq)]
pub struct Scored {
    pub channel: Channel,
    /// No criterion ruled it out.
    pub open: bool,
    /// 0 where it is ruled out.
    pub score: f64,
    /// Whatever was said of it, in criterion order.
    pub reasons: Vec<String>,
}

/// The order of the channels, and what follows from it: all that a caller acts on.
#[derive(Clone, Copy, Debug)]
pub struct Ranking {
    pub order: [Channel; 4],
    pub chosen: Option<Channel>,
    pub alternatives: [Option<Channel>; ALTERNATIVES],
}

/// What ranking needs to know of a channel.
#[derive(Clone, Copy, Debug, Default)]
pub struct Points {
    pub open: bool,
    pub score: f64,
    /// Euros: the cheaper of two equals comes first.
    pub cost: f64,
}

/// Channels that are open first, then by points, then by cost, then in the channels' own order.
#[inline]
pub fn rank(points: &PerChannel<Points>) -> Ranking {
    let mut order = Channel::ALL;
    order.sort_by(|a, b| {
        let (x, y) = (&points[*a], &points[*b]);
        y.open.cmp(&x.open).then(y.score.total_cmp(&x.score)).then(x.cost.total_cmp(&y.cost))
    });
    let open = |at: usize| Some(order[at]).filter(|channel| points[*channel].open);
    Ranking { order, chosen: open(0), alternatives: [open(1), open(2)] }
}

/// To a millionth, and never minus zero.
#[inline]
pub fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6 + 0.0
}

/// A sum of shares times weights, and whether anything ruled the channel out.
#[derive(Clone, Copy, Debug)]
pub struct Tally {
    sum: f64,
    open: bool,
}

impl Default for Tally {
    fn default() -> Self {
        Self { sum: 0.0, open: true }
    }
}

impl Tally {
    #[inline]
    pub fn add(&mut self, share: f64, weight: f64) {
        self.sum += share * weight;
    }

    #[inline]
    pub fn close(&mut self) {
        self.open = false;
    }

    #[inline]
    pub fn points(self, cost: f64) -> Points {
        Points { open: self.open, score: if self.open { rounded(self.sum) } else { 0.0 }, cost }
    }
}

/// Spells a ranking out.
pub fn spell(
    ranking: &Ranking,
    points: &PerChannel<Points>,
    reasons: impl Fn(Channel) -> Vec<String>,
) -> Outcome {
    let ranked = ranking.order.map(|channel| Scored {
        channel,
        open: points[channel].open,
        score: points[channel].score,
        reasons: reasons(channel),
    });
    Outcome {
        ranked: ranked.to_vec(),
        chosen: ranking.chosen,
        alternatives: ranking.alternatives.into_iter().flatten().collect(),
    }
}
