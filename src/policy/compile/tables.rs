//! A decision graph laid out: the answers to its tests are the digits of a row's number, and the row has the share.
//!
//! Where a graph asks too much for a table, the graph itself is walked over the same answers.

use std::collections::HashMap;

use super::{
    graph::{Graph, Leaf, Node, NodeId},
    slots::Scope,
};

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

/// What a cell holds, for as long as it is laid out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cell {
    /// A verdict by its place among the program's.
    Verdict(u32),
    /// A formula by its place among the program's.
    Formula(u32),
    Interpret,
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

/// The answers to all tests of a program on one message and one channel: those about the message, then those about the
/// channel, so that a digit is found without a question.
#[derive(Clone, Copy)]
pub struct Answers(pub [u8; 2 * ANSWERS_MAX]);

impl Answers {
    #[inline]
    fn place(at: AnswerAt) -> usize {
        // In bounds, whatever it says: what has no place has no digit.
        (usize::from(at.at) + at.scope as usize * ANSWERS_MAX) % (2 * ANSWERS_MAX)
    }

    #[inline]
    pub fn get(&self, at: AnswerAt) -> u8 {
        self.0[Self::place(at)]
    }

    #[inline]
    pub fn set(&mut self, at: AnswerAt, answer: u8) {
        self.0[Self::place(at)] = answer;
    }

    /// The number of a row.
    #[inline]
    pub fn row(&self, digits: &[Digit]) -> usize {
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
                nodes.resize(places.len(), Step::End(Cell::Interpret));
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
    pub fn find(&self, answers: &Answers) -> Cell {
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
