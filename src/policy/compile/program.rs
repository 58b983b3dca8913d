//! All criteria of a policy linked together: one set of tests, answered once for a message, and a table for each
//! criterion.
//!
//! Holds no weights: tenants and variants whose scripts are the same share one program.

use std::{borrow::Cow, collections::HashMap, sync::Arc};

use super::{
    answers::Tests,
    formulas,
    graph::{Formula, Leaf},
    numbers::Reads,
    slots::{Scope, Slots},
    tables::{Answers, Cell, Digit, Holds, Lookup, each},
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
                Cell::of(Holds::Verdict(Said::fixed(at, verdict.is_veto())))
            }
            Leaf::Formula(formula) => {
                let at = match self.formulas.iter().position(|known| known == formula) {
                    Some(at) => at,
                    None => {
                        self.formulas.push(formula.clone());
                        self.formulas.len() - 1
                    }
                };
                Cell::of(Holds::Formula(at as u32))
            }
            Leaf::Matched(_) | Leaf::Interpret => Cell::of(Holds::Interpret),
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
            let mut answers = Answers::new();
            for (digit, arity) in digits.iter().zip(&arities) {
                let answer = row / usize::from(digit.stride) % arity;
                answers.message()[usize::from(digit.answer.at)] = answer as u8;
            }
            self.line(lookups.each_ref().map(|lookup| lookup.find(answers.seen(0))))
        });
        Some(Plan::Joint { lines: lines.collect(), digits: digits.into() })
    }

    fn line(&self, cells: [Cell; 4]) -> Line {
        let mut line = Line { row: Row::NOTHING, vetoes: 0, open: 0 };
        for (at, cell) in cells.into_iter().enumerate() {
            let said = cell.said();
            line.row.said[at] = said;
            line.row.shares[at] = self.verdicts[said.among_fixed()].share();
            line.vetoes |= u8::from(said.is_veto()) << at;
            line.open |= cell.is_open() << at;
        }
        line
    }

    /// What every criterion says of every channel.
    pub fn score(&self, message: &MessageView<'_>, channels: &PerChannel<ChannelView>) -> Scorecard {
        let mut card = Scorecard::new();
        self.score_on(&mut card, message, channels);
        card
    }

    /// The same on an empty card, where it stays.
    pub fn score_on(
        &self,
        card: &mut Scorecard,
        message: &MessageView<'_>,
        channels: &PerChannel<ChannelView>,
    ) {
        let Some(slots) = Slots::of(message, self.reads_tags, channels) else {
            return self.interpret_on(card, message, channels);
        };
        let answers = self.tests.answer(&slots);
        let mut owned = Owned { message, channels, made: None };
        for (criterion, plan) in self.criteria.iter().zip(&self.plans) {
            match plan {
                Plan::Joint { digits, lines } => {
                    let line = &lines[answers.seen(0).row(digits)];
                    card.push(&line.row, line.vetoes);
                    // What a row leaves open, each channel's own table would: there is none, so the script is run.
                    for channel in each(line.open) {
                        opined(card, channel, owned.recall(criterion, channel, &slots));
                    }
                }
                Plan::Apart(lookups) => {
                    self.apart(criterion, lookups, &slots, &answers, &mut owned, card);
                }
                Plan::Interpreted => {
                    card.begin();
                    for channel in Channel::ALL {
                        opined(card, channel, owned.recall(criterion, channel, &slots));
                    }
                }
            }
        }
    }

    fn apart(
        &self,
        criterion: &Criterion,
        lookups: &[Lookup; 4],
        slots: &Slots<'_>,
        answers: &Answers,
        owned: &mut Owned<'_, '_>,
        card: &mut Scorecard,
    ) {
        let (mut cells, mut open, mut vetoes) = ([Cell::of(Holds::Interpret); 4], 0_u8, 0_u8);
        // Written where it stays: put together elsewhere and moved, it would be waited for.
        let row = card.begin();
        for (at, lookup) in lookups.iter().enumerate() {
            let cell = lookup.find(answers.seen(at));
            let said = cell.said();
            row.said[at] = said;
            row.shares[at] = self.shares[said.among_fixed()];
            vetoes |= u8::from(said.is_veto()) << at;
            open |= cell.is_open() << at;
            cells[at] = cell;
        }
        card.veto(vetoes);
        for channel in each(open) {
            let reads = Reads { message: &slots.message, channel: &slots.channels[channel.index()] };
            let made = match cells[channel.index()].holds() {
                Holds::Formula(at) => formulas::made(at, &self.formulas[at as usize], reads),
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
        let mut card = Scorecard::new();
        self.interpret_on(&mut card, message, channels);
        card
    }

    /// The same on an empty card, where it stays.
    pub fn interpret_on(
        &self,
        card: &mut Scorecard,
        message: &MessageView<'_>,
        channels: &PerChannel<ChannelView>,
    ) {
        let mut owned = Owned { message, channels, made: None };
        for criterion in &self.criteria {
            card.begin();
            for channel in Channel::ALL {
                opined(card, channel, owned.ask(criterion, channel));
            }
        }
    }

    /// What a criterion, by its place, said of a channel.
    pub fn said<'s>(
        &'s self,
        card: &'s Scorecard,
        criterion: usize,
        channel: Channel,
    ) -> Result<Cow<'s, Verdict>, &'s ScriptFailure> {
        match card.row(criterion).said[channel.index()].place() {
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
        match card.row(criterion).said[channel.index()].place() {
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
}

/// Puts an opinion of the interpreter into the card.
fn opined(card: &mut Scorecard, channel: Channel, opinion: Opinion) {
    let is_veto = opinion.as_ref().is_ok_and(Verdict::is_veto);
    card.put(channel, Made::Opinion(opinion), is_veto);
}
