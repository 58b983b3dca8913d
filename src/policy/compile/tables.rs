//! A decision graph laid out: the answers to its tests are the digits of a row's number, and the row has the share.
//!
//! Where a graph asks too much for a table, the graph itself is walked over the same answers.

use std::collections::HashMap;

use super::{
    graph::{Graph, Leaf, Node, NodeId},
    slots::Scope,
};
use crate::{domain::channel::Channel, policy::scorecard::Said};

/// Rows of one table.
const ROWS_MAX: usize = 1_024;

/// Where an answer is found: among those about the message, or those about the channel at hand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct AnswerAt {
    pub scope: Scope,
    pub at: u8,
}

/// One digit of a row's number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Digit {
    pub answer: AnswerAt,
    pub stride: u16,
}

/// What a cell holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Holds {
    /// One of the program's verdicts.
    Verdict(Said),
    /// A formula by its place among the program's.
    Formula(u32),
    Interpret,
}

/// The same in one number, so that cells of all kinds are taken in alike: which kind comes next cannot be foreseen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cell(u32);

impl Cell {
    const OPEN: u32 = 1 << 31;
    const INTERPRET: Self = Self(u32::MAX);

    pub fn of(holds: Holds) -> Self {
        match holds {
            Holds::Verdict(said) => Self(said.bits()),
            Holds::Formula(at) => Self(Self::OPEN | at),
            Holds::Interpret => Self::INTERPRET,
        }
    }

    pub fn holds(self) -> Holds {
        match self {
            Self::INTERPRET => Holds::Interpret,
            Self(bits) if bits & Self::OPEN != 0 => Holds::Formula(bits & !Self::OPEN),
            Self(bits) => Holds::Verdict(Said::of_bits(bits)),
        }
    }

    /// 1: it says nothing by itself.
    #[inline]
    pub fn is_open(self) -> u8 {
        (self.0 >> 31) as u8
    }

    /// The verdict that it holds; that nothing is said where it is open.
    #[inline]
    pub fn said(self) -> Said {
        Said::of_bits(self.0 & (self.0 >> 31).wrapping_sub(1))
    }
}

/// A graph over answers.
#[derive(Clone, Debug)]
pub enum Lookup {
    Always(Cell),
    Table { digits: Box<[Digit]>, cells: Box<[Cell]> },
    Walk { nodes: Box<[Step]>, root: u32 },
}

#[derive(Clone, Debug)]
pub enum Step {
    Ask { answer: AnswerAt, then: Box<[u32]> },
    End(Cell),
}

/// Answers about one object; a program that asks more leaves the criterion that does to the interpreter.
pub const ANSWERS_MAX: usize = 64;

/// Room for the answers about the message, then for those about each channel; what is over makes it a power of two.
const ROOM: usize = 8 * ANSWERS_MAX;

/// The answers to all tests of a program on one message.
pub struct Answers([u8; ROOM]);

/// The same as one channel's tables see them: a digit is found without a question.
#[derive(Clone, Copy)]
pub struct Seen<'a> {
    answers: &'a Answers,
    channel: usize,
}

impl Answers {
    pub fn new() -> Self {
        Self([0; ROOM])
    }

    /// Those about the message.
    #[inline]
    pub fn message(&mut self) -> &mut [u8] {
        &mut self.0[..ANSWERS_MAX]
    }

    /// Those about a channel, by its place.
    #[inline]
    pub fn channel(&mut self, channel: usize) -> &mut [u8] {
        &mut self.0[(1 + channel % 4) * ANSWERS_MAX..][..ANSWERS_MAX]
    }

    /// As a channel's tables see them, by its place.
    #[inline]
    pub fn seen(&self, channel: usize) -> Seen<'_> {
        Seen { answers: self, channel: (1 + channel) * ANSWERS_MAX }
    }
}

impl Seen<'_> {
    #[inline]
    pub fn get(self, at: AnswerAt) -> u8 {
        // In bounds, whatever it says: what has no place has no digit.
        let row = if at.scope == Scope::Channel { self.channel } else { 0 };
        self.answers.0[(row + usize::from(at.at)) % ROOM]
    }

    /// The number of a row.
    #[inline]
    pub fn row(self, digits: &[Digit]) -> usize {
        digits.iter().map(|d| usize::from(self.get(d.answer)) * usize::from(d.stride)).sum()
    }
}

impl Lookup {
    /// Lays out the part of a graph below `root`. `answer` places a test's answer, `cell` a leaf.
    pub fn of(
        graph: &Graph,
        root: NodeId,
        answer: &dyn Fn(u32) -> AnswerAt,
        cell: &mut dyn FnMut(&Leaf) -> Cell,
    ) -> Self {
        if let Node::Leaf(leaf) = graph.node(root) {
            return Lookup::Always(cell(graph.leaf_at(*leaf)));
        }
        let tests = graph.asked_from(root);
        let arities: Vec<usize> = tests.iter().map(|t| usize::from(graph.test(*t).arity())).collect();
        let rows = arities
            .iter()
            .try_fold(1_usize, |rows, arity| rows.checked_mul(*arity).filter(|rows| *rows <= ROWS_MAX));
        match rows {
            Some(rows) => Self::table(graph, root, &tests, &arities, rows, answer, cell),
            None => Self::walk(graph, root, answer, cell),
        }
    }

    fn table(
        graph: &Graph,
        root: NodeId,
        tests: &[u32],
        arities: &[usize],
        rows: usize,
        answer: &dyn Fn(u32) -> AnswerAt,
        cell: &mut dyn FnMut(&Leaf) -> Cell,
    ) -> Self {
        let mut strides = Vec::with_capacity(tests.len());
        let mut stride = 1;
        for arity in arities {
            strides.push(stride);
            stride *= arity;
        }
        let cells = (0..rows).map(|row| {
            let mut at = root;
            loop {
                match graph.node(at) {
                    Node::Leaf(leaf) => return cell(graph.leaf_at(*leaf)),
                    Node::Ask { test, then } => {
                        let asked = tests.iter().position(|t| t == test).unwrap_or_default();
                        at = then[row / strides[asked] % arities[asked]];
                    }
                }
            }
        });
        let cells = cells.collect();
        let digits = tests.iter().zip(&strides);
        let digits = digits.map(|(t, stride)| Digit { answer: answer(*t), stride: *stride as u16 }).collect();
        Lookup::Table { digits, cells }
    }

    fn walk(
        graph: &Graph,
        root: NodeId,
        answer: &dyn Fn(u32) -> AnswerAt,
        cell: &mut dyn FnMut(&Leaf) -> Cell,
    ) -> Self {
        let (mut places, mut nodes, mut open) = (HashMap::new(), Vec::new(), vec![root]);
        places.insert(root, 0_u32);
        while let Some(id) = open.pop() {
            let place = places[&id] as usize;
            if nodes.len() < places.len() {
                nodes.resize(places.len(), Step::End(Cell::INTERPRET));
            }
            nodes[place] = match graph.node(id) {
                Node::Leaf(leaf) => Step::End(cell(graph.leaf_at(*leaf))),
                Node::Ask { test, then } => {
                    let mut next = Vec::with_capacity(then.len());
                    for id in then.iter() {
                        let free = places.len() as u32;
                        let place = *places.entry(*id).or_insert_with(|| {
                            open.push(*id);
                            free
                        });
                        next.push(place);
                    }
                    Step::Ask { answer: answer(*test), then: next.into() }
                }
            };
        }
        Lookup::Walk { nodes: nodes.into(), root: 0 }
    }

    #[inline]
    pub fn find(&self, answers: Seen<'_>) -> Cell {
        match self {
            Lookup::Always(cell) => *cell,
            Lookup::Table { digits, cells } => cells[answers.row(digits)],
            Lookup::Walk { nodes, root } => {
                let mut at = *root as usize;
                loop {
                    match &nodes[at] {
                        Step::End(cell) => return *cell,
                        Step::Ask { answer, then } => at = then[usize::from(answers.get(*answer))] as usize,
                    }
                }
            }
        }
    }
}

/// The channels of a set with a bit for each, without a look at those that are not in it.
#[inline]
pub fn each(mut channels: u8) -> impl Iterator<Item = Channel> {
    std::iter::from_fn(move || {
        let channel = *Channel::ALL.get(channels.trailing_zeros() as usize)?;
        channels &= channels - 1;
        Some(channel)
    })
}
