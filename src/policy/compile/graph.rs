//! The decision graph of one criterion on one channel: tests, their answers, and what they end in.
//!
//! Equal parts are one part (hash-consing), so that a graph stays small where a tree of paths would not.

use std::{collections::HashMap, sync::Arc};

use super::{numbers::Expr, tests::Test};
use crate::policy::verdict::{Verdict, one_line};

/// A node or a leaf, by its place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct NodeId(u32);

#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Node {
    Ask { test: u32, then: Box<[NodeId]> },
    Leaf(u32),
}

/// What a path ends in.
#[derive(Clone, Debug, PartialEq)]
pub enum Leaf {
    /// Always the same.
    Verdict(Verdict),
    /// Made of numbers of the message.
    Formula(Formula),
    /// For conditions: the strategy that is in force.
    Matched(Option<usize>),
    /// Not known here: the interpreter is asked.
    Interpret,
}

/// `award(share, reason)` where one of them depends on the message.
#[derive(Clone, Debug, PartialEq)]
pub struct Formula {
    pub kind: FormulaKind,
    pub reason: Vec<Piece>,
    pub position: Option<(usize, usize)>,
}

impl Formula {
    /// Whether making the verdict finds out what this test asks: then it need not be asked before.
    pub fn asks(&self, test: &Test) -> bool {
        match test {
            Test::IsShare(number) => {
                matches!(&self.kind, FormulaKind::Share { share, .. } if share == number)
            }
            Test::IsFinite(number) => {
                self.reason.iter().any(|piece| matches!(piece, Piece::Percent(rate) if rate == number))
            }
            _ => false,
        }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub enum FormulaKind {
    /// The share, and whether it is taken away.
    Share {
        share: Expr,
        penalty: bool,
    },
    Veto,
}

/// A part of a text that is put together.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Piece {
    Fixed(Arc<str>),
    Number(Expr),
    Percent(Expr),
    Text(super::slots::Place),
}

impl Piece {
    /// Whether the message decides what it shows.
    pub fn moves(&self) -> bool {
        !matches!(self, Piece::Fixed(_))
    }
}

/// All nodes, leaves and tests of one criterion.
#[derive(Debug, Default)]
pub struct Graph {
    nodes: Vec<Node>,
    known: HashMap<Node, NodeId>,
    leaves: Vec<Leaf>,
    tests: Vec<Test>,
    test_ids: HashMap<Test, u32>,
}

impl Graph {
    pub fn node(&self, id: NodeId) -> &Node {
        &self.nodes[id.0 as usize]
    }

    pub fn leaf_at(&self, at: u32) -> &Leaf {
        &self.leaves[at as usize]
    }

    /// Whether everything below is left to the interpreter.
    pub fn is_interpret(&self, root: NodeId) -> bool {
        matches!(self.node(root), Node::Leaf(leaf) if *self.leaf_at(*leaf) == Leaf::Interpret)
    }

    pub fn test(&self, at: u32) -> &Test {
        &self.tests[at as usize]
    }

    /// Without what only building it takes.
    pub fn finished(self) -> Self {
        Self { known: HashMap::new(), test_ids: HashMap::new(), ..self }
    }

    /// The test's number; new if it was not asked before.
    pub fn ask(&mut self, test: Test) -> u32 {
        if let Some(known) = self.test_ids.get(&test) {
            return *known;
        }
        let id = self.tests.len() as u32;
        self.tests.push(test.clone());
        self.test_ids.insert(test, id);
        id
    }

    /// A node that asks; where every answer leads to the same place, that place.
    pub fn branch(&mut self, test: u32, then: Vec<NodeId>) -> NodeId {
        if then.iter().all(|next| *next == then[0]) {
            return then[0];
        }
        self.add(Node::Ask { test, then: then.into() })
    }

    pub fn leaf(&mut self, leaf: Leaf) -> NodeId {
        let at = match self.leaves.iter().position(|known| *known == leaf) {
            Some(at) => at,
            None => {
                self.leaves.push(leaf);
                self.leaves.len() - 1
            }
        };
        self.add(Node::Leaf(at as u32))
    }

    fn add(&mut self, node: Node) -> NodeId {
        if let Some(known) = self.known.get(&node) {
            return *known;
        }
        let id = NodeId(self.nodes.len() as u32);
        self.nodes.push(node.clone());
        self.known.insert(node, id);
        id
    }

    /// The tests that a part of the graph asks, each once, in the order in which they are met.
    pub fn asked_from(&self, root: NodeId) -> Vec<u32> {
        let (mut seen, mut tests, mut open) = (vec![false; self.nodes.len()], Vec::new(), vec![root]);
        while let Some(id) = open.pop() {
            if std::mem::replace(&mut seen[id.0 as usize], true) {
                continue;
            }
            if let Node::Ask { test, then } = self.node(id) {
                if !tests.contains(test) {
                    tests.push(*test);
                }
                open.extend(then.iter().rev());
            }
        }
        tests
    }
}

/// A verdict that never changes, as the engine would make it.
pub fn fixed(
    kind: crate::policy::verdict::VerdictKind,
    reason: &str,
    position: Option<(usize, usize)>,
) -> Leaf {
    let reason: Arc<str> = one_line(reason, crate::policy::engine::REASON_CHARS_MAX).into();
    Leaf::Verdict(Verdict { kind, reason, position })
}
