//! All criteria of a policy linked together: one set of tests, answered once for a message, and a table for each
//! criterion.
//!
//! Holds no weights: tenants and variants whose scripts are the same share one program.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{
    answers::{Asked, Tests},
    formulas,
    graph::{Formula, Leaf},
    numbers::Reads,
    slots::{Scope, Slots},
    tables::{ANSWERS_MAX, Answers, Cell, Digit, Lookup},
};
use crate::{
    domain::channel::{Channel, PerChannel},
    policy::{
        bundle::Opinion,
        criterion::Criterion,
        scorecard::{Made, Row, Said, Scorecard},
        verdict::{ScriptFailure, Verdict},
        view::{ChannelView, MessageView},
    },
};

/// Rows of a table for all channels together.
const JOINT_ROWS_MAX: usize = 512;

/// The criteria of one policy, compiled and linked.
#[derive(Debug)]
pub struct Program {
    criteria: Vec<Arc<Criterion>>,
    tests: Tests,
    plans: Vec<Plan>,
    verdicts: Vec<Verdict>,
    /// The shares of `verdicts`, side by side.
    shares: Vec<f64>,
    formulas: Vec<Formula>,
    reads_tags: bool,
}

/// How one criterion is evaluated.
#[derive(Debug)]
enum Plan {
    /// The message alone decides: one row says it for every channel.
    Joint {
        digits: Box<[Digit]>,
        lines: Box<[Line]>,
    },
    Apart(Box<[Lookup; 4]>),
    Interpreted,
}

/// One row of a joint table, with a bit for each channel that is vetoed, or that its cell does not settle.
#[derive(Clone, Copy, Debug)]
struct Line {
    row: Row,
    vetoes: u8,
    open: u8,
}

/// How a criterion runs, for who wants to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Way {
    /// As a table; `but` tells where the interpreter is asked all the same.
    Compiled {
        but: Vec<String>,
    },
    /// By the interpreter, whose answers are remembered.
    Learnt {
        why: Vec<String>,
    },
    Interpreted {
        why: Vec<String>,
    },
}

impl Way {
    /// How this criterion runs.
    pub fn of(criterion: &Criterion) -> Self {
        let followed = criterion.followed();
        let why = followed.why().to_vec();
        match (followed.is_interpreted(), criterion.learnt()) {
            (false, _) => Way::Compiled { but: why },
            (true, Some(_)) => Way::Learnt { why },
            (true, None) => Way::Interpreted { why },
        }
    }
}

/// What the interpreter is given, made when it is first asked.
struct Owned<'v, 'a> {
    message: &'v MessageView<'a>,
    channels: &'v PerChannel<ChannelView>,
    made: Option<(Arc<MessageView<'static>>, PerChannel<Arc<ChannelView>>)>,
}

impl Owned<'_, '_> {
    /// What is remembered of the interpreter, or what it says now.
    fn recall(&mut self, criterion: &Criterion, channel: Channel, slots: &Slots<'_>) -> Opinion {
        let reads = Reads { message: &slots.message, channel: &slots.channels[channel.index()] };
        match criterion.learnt() {
            Some(learnt) => learnt.ask(channel, reads, || self.ask(criterion, channel)),
            None => self.ask(criterion, channel),
        }
    }

    fn ask(&mut self, criterion: &Criterion, channel: Channel) -> Opinion {
        let (message, channels) = self.made.get_or_insert_with(|| {
            let message = Arc::new(self.message.clone().into_owned());
            (message, PerChannel::from_fn(|channel| Arc::new(self.channels[channel])))
        });
        criterion.evaluate(message, &channels[channel])
    }
}

impl Program {
    /// Links criteria, which are in criterion order.
    pub fn link(criteria: Vec<Arc<Criterion>>) -> Self {
        let mut program = Self {
            criteria: Vec::new(),
            tests: Tests::default(),
            plans: Vec::new(),
            verdicts: vec![Verdict::neutral()],
            shares: Vec::new(),
            formulas: Vec::new(),
            reads_tags: criteria.iter().any(|criterion| criterion.followed().reads_tags()),
        };
        let mut places = HashMap::new();
        for criterion in &criteria {
            let plan = program.plan(criterion, &mut places);
            program.plans.push(plan);
        }
        program.shares = program.verdicts.iter().map(Verdict::share).collect();
        program.criteria = criteria;
        program
    }

    /// In criterion order.
    pub fn criteria(&self) -> &[Arc<Criterion>] {
        &self.criteria
    }

    fn plan(&mut self, criterion: &Criterion, places: &mut HashMap<String, u32>) -> Plan {
        let followed = criterion.followed();
        if followed.is_interpreted() {
            return Plan::Interpreted;
        }
        // Tests that find no more room leave the criterion to the interpreter.
        let before = self.tests.clone();
        let mut lookups = Vec::with_capacity(4);
        for (channel, (graph, root)) in Channel::ALL.into_iter().zip(&followed.graphs) {
            let Some(answer_at) = self.tests.place(graph, *root, channel) else {
                self.tests = before;
                return Plan::Interpreted;
            };
            let lookup =
                Lookup::of(graph, *root, &|test| answer_at[&test], &mut |leaf| self.cell(leaf, places));
            lookups.push(lookup);
        }
        let Ok(lookups) = <[Lookup; 4]>::try_from(lookups) else { return Plan::Interpreted };
        self.joint(&lookups).unwrap_or_else(|| Plan::Apart(Box::new(lookups)))
    }

    fn cell(&mut self, leaf: &Leaf, places: &mut HashMap<String, u32>) -> Cell {
        match leaf {
            Leaf::Verdict(verdict) => {
                let key = format!("{verdict:?}");
                let at = *places.entry(key).or_insert_with(|| {
                    self.verdicts.push(verdict.clone());
                    self.verdicts.len() as u32 - 1
                });
                Cell::Verdict(at)
            }
            Leaf::Formula(formula) => {
                let at = match self.formulas.iter().position(|known| known == formula) {
                    Some(at) => at,
                    None => {
                        self.formulas.push(formula.clone());
                        self.formulas.len() - 1
                    }
                };
                Cell::Formula(at as u32)
            }
            Leaf::Matched(_) | Leaf::Interpret => Cell::Interpret,
        }
    }

    /// One table for all channels, where none of them asks anything of the channel and the rows are few.
    fn joint(&self, lookups: &[Lookup; 4]) -> Option<Plan> {
        let mut digits: Vec<Digit> = Vec::new();
        let mut arities = Vec::new();
        let mut rows = 1;
        for lookup in lookups {
            let asked: &[Digit] = match lookup {
                Lookup::Always(_) => &[],
                Lookup::Table { digits, .. } => digits,
                Lookup::Walk { .. } => return None,
            };
            for digit in asked {
                if digit.answer.scope == Scope::Channel {
                    return None;
                }
                if digits.iter().any(|known| known.answer == digit.answer) {
                    continue;
                }
                let arity = usize::from(self.tests.arity(digit.answer));
                digits.push(Digit { answer: digit.answer, stride: rows as u16 });
                arities.push(arity);
                rows *= arity;
                if rows > JOINT_ROWS_MAX {
                    return None;
                }
            }
        }
        let lines = (0..rows).map(|row| {
            let mut answers = Answers([0; 2 * ANSWERS_MAX]);
            for (digit, arity) in digits.iter().zip(&arities) {
                answers.set(digit.answer, (row / usize::from(digit.stride) % arity) as u8);
            }
            self.line(lookups.each_ref().map(|lookup| lookup.find(&answers)))
        });
        Some(Plan::Joint { lines: lines.collect(), digits: digits.into() })
    }

    fn line(&self, cells: [Cell; 4]) -> Line {
        let mut line = Line { row: [Said::NOTHING; 4], vetoes: 0, open: 0 };
        for (at, cell) in cells.into_iter().enumerate() {
            match cell {
                Cell::Verdict(verdict) => {
                    let told = &self.verdicts[verdict as usize];
                    line.row[at] = Said::fixed(verdict);
                    line.vetoes |= u8::from(told.is_veto()) << at;
                }
                _ => line.open |= 1 << at,
            }
        }
        line
    }

    /// What every criterion says of every channel.
    pub fn score(&self, message: &MessageView<'_>, channels: &PerChannel<ChannelView>) -> Scorecard {
        let Some(slots) = Slots::of(message, self.reads_tags, channels) else {
            return self.interpret(message, channels);
        };
        let asked = self.tests.answer(&slots);
        let mut owned = Owned { message, channels, made: None };
        let mut card = Scorecard::new();
        for (criterion, plan) in self.criteria.iter().zip(&self.plans) {
            match plan {
                Plan::Joint { digits, lines } => {
                    let answers = asked.of(Channel::Sms);
                    let line = &lines[answers.row(digits)];
                    card.push(line.row, line.vetoes);
                    if line.open != 0 {
                        // What a row leaves open, each channel's own table would: there is none, so the script is run.
                        for channel in Channel::ALL.into_iter().filter(|c| line.open >> c.index() & 1 == 1) {
                            opined(&mut card, channel, owned.recall(criterion, channel, &slots));
                        }
                    }
                }
                Plan::Apart(lookups) => {
                    self.apart(criterion, lookups, &slots, &asked, &mut owned, &mut card);
                }
                Plan::Interpreted => {
                    card.push([Said::NOTHING; 4], 0);
                    for channel in Channel::ALL {
                        opined(&mut card, channel, owned.recall(criterion, channel, &slots));
                    }
                }
            }
        }
        card
    }

    fn apart(
        &self,
        criterion: &Criterion,
        lookups: &[Lookup; 4],
        slots: &Slots<'_>,
        asked: &Asked,
        owned: &mut Owned<'_, '_>,
        card: &mut Scorecard,
    ) {
        let (mut left, mut open, mut vetoes) = ([Cell::Interpret; 4], 0_u8, 0_u8);
        // Written where it stays: put together elsewhere and moved, it would be waited for.
        let row = card.begin();
        for (at, channel) in Channel::ALL.into_iter().enumerate() {
            match lookups[at].find(asked.of(channel)) {
                Cell::Verdict(verdict) => {
                    row[at] = Said::fixed(verdict);
                    vetoes |= u8::from(self.verdicts[verdict as usize].is_veto()) << at;
                }
                other => {
                    left[at] = other;
                    open |= 1 << at;
                }
            }
        }
        card.veto(vetoes);
        if open == 0 {
            return;
        }
        for channel in Channel::ALL.into_iter().filter(|c| open >> c.index() & 1 == 1) {
            let reads = Reads { message: &slots.message, channel: &slots.channels[channel.index()] };
            let made = match left[channel.index()] {
                Cell::Formula(at) => formulas::made(at, &self.formulas[at as usize], reads),
                _ => None,
            };
            match made {
                Some((made, is_veto)) => card.put(channel, made, is_veto),
                None => opined(card, channel, owned.recall(criterion, channel, slots)),
            }
        }
    }

    /// The same by the interpreter alone: the oracle that the tables are held against.
    pub fn interpret(&self, message: &MessageView<'_>, channels: &PerChannel<ChannelView>) -> Scorecard {
        let mut owned = Owned { message, channels, made: None };
        let mut card = Scorecard::new();
        for criterion in &self.criteria {
            card.push([Said::NOTHING; 4], 0);
            for channel in Channel::ALL {
                opined(&mut card, channel, owned.ask(criterion, channel));
            }
        }
        card
    }

    /// What a criterion, by its place, said of a channel.
    pub fn said<'s>(
        &'s self,
        card: &'s Scorecard,
        criterion: usize,
        channel: Channel,
    ) -> Result<Cow<'s, Verdict>, &'s ScriptFailure> {
        match card.row(criterion)[channel.index()].place() {
            Ok(at) => Ok(Cow::Borrowed(&self.verdicts[at])),
            Err(at) => match card.made(at) {
                Made::Opinion(opinion) => opinion.as_ref().map(Cow::Borrowed),
                Made::Formula { at, share, shown } => {
                    Ok(Cow::Owned(formulas::verdict(&self.formulas[*at as usize], *share, shown)))
                }
            },
        }
    }

    /// The reason alone; none where nothing was said.
    pub fn reason<'s>(
        &'s self,
        card: &'s Scorecard,
        criterion: usize,
        channel: Channel,
    ) -> Option<Cow<'s, str>> {
        let said = |reason: &'s str| (!reason.is_empty()).then_some(Cow::Borrowed(reason));
        match card.row(criterion)[channel.index()].place() {
            Ok(at) => said(&self.verdicts[at].reason),
            Err(at) => match card.made(at) {
                Made::Opinion(opinion) => said(&opinion.as_ref().ok()?.reason),
                Made::Formula { at, shown, .. } => {
                    let reason = formulas::reason(&self.formulas[*at as usize], shown);
                    (!reason.is_empty()).then_some(Cow::Owned(reason))
                }
            },
        }
    }

    /// What a criterion gives a channel, before weighting: -1 to 1; 0 for neutral, a veto or a failure.
    #[inline]
    pub fn share(&self, card: &Scorecard, criterion: usize, channel: Channel) -> f64 {
        self.share_of(card, card.row(criterion)[channel.index()])
    }

    #[inline]
    fn share_of(&self, card: &Scorecard, said: Said) -> f64 {
        match said.place() {
            Ok(at) => self.shares[at],
            Err(at) => match card.made(at) {
                Made::Opinion(opinion) => opinion.as_ref().map_or(0.0, Verdict::share),
                Made::Formula { share, .. } => *share,
            },
        }
    }

    /// Each channel's points under these weights, which are in criterion order. Not rounded.
    pub fn points(&self, card: &Scorecard, weights: &[f64]) -> PerChannel<f64> {
        let mut sums = [0.0; 4];
        for (row, weight) in card.rows().zip(weights) {
            for (sum, said) in sums.iter_mut().zip(row) {
                *sum += self.share_of(card, *said) * weight;
            }
        }
        PerChannel::from_fn(|channel| sums[channel.index()])
    }
}

/// Puts an opinion of the interpreter into the card.
fn opined(card: &mut Scorecard, channel: Channel, opinion: Opinion) {
    let is_veto = opinion.as_ref().is_ok_and(Verdict::is_veto);
    card.put(channel, Made::Opinion(opinion), is_veto);
}
