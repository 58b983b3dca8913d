//! The strategies of a policy as one graph: which of them is the first whose condition holds.
//!
//! Followed as a chain, so that what one condition has asked the next need not ask again: a request without template
//! and tags is through after a handful of answers, however many strategies there are.

use super::{
    constants::Cases,
    follow::{self, Follow},
    graph::{Graph, Leaf, Node, NodeId},
    numbers::Reads,
    slots::{ChannelSlots, DIGITS_MAX, MessageSlots},
    symbols::{Binding, Object, Path, Symbol},
    tests::Test,
};
use crate::policy::{strategy::Strategy, view::MessageView};

/// Which strategy is in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    Strategy(usize),
    None,
    /// The interpreter has to be asked.
    Interpret,
}

/// The compiled chain of one list of strategies.
#[derive(Debug)]
pub struct Conditions {
    steps: Vec<Step>,
    root: usize,
    /// Why the interpreter is asked for some messages, in words.
    why: Vec<String>,
    reads_tags: bool,
}

#[derive(Debug)]
enum Step {
    Ask { test: Test, then: Box<[u32]> },
    End(Found),
}

impl Conditions {
    /// Compiles the chain. Where there are too many ways through it, it asks the interpreter always.
    pub fn compile(strategies: &[Strategy]) -> Self {
        let source: Vec<&str> = strategies.iter().map(Strategy::when).collect();
        let compiled = follow::deeply(|| {
            let cases = Cases::of(&source.join("\n"), super::words());
            let mut follow = Follow::new(None, &[], &cases);
            let root = chain(&mut follow, Path::default(), strategies, 0);
            let why = std::mem::take(&mut follow.why);
            let (steps, root) = lay_out(&follow.graph, root);
            Self { steps, root, why, reads_tags: follow.reads_tags }
        });
        compiled.unwrap_or_else(|| {
            let why = vec!["there was no room to compile it in".to_owned()];
            Self { steps: vec![Step::End(Found::Interpret)], root: 0, why, reads_tags: false }
        })
    }

    /// Whether the chain is of any use.
    pub fn is_compiled(&self) -> bool {
        !matches!(self.steps[self.root], Step::End(Found::Interpret))
    }

    pub fn why(&self) -> &[String] {
        &self.why
    }

    /// The first strategy whose condition holds for this message.
    pub fn find(&self, message: &MessageView<'_>) -> Found {
        const NO_CHANNEL: ChannelSlots =
            ChannelSlots { digits: [0; DIGITS_MAX], integers: [0; 4], floats: [0.0; 4] };
        let Some(slots) = MessageSlots::of(message, self.reads_tags) else { return Found::Interpret };
        let reads = Reads { message: &slots, channel: &NO_CHANNEL };
        let mut at = self.root;
        loop {
            match &self.steps[at] {
                Step::End(found) => return *found,
                Step::Ask { test, then } => at = then[usize::from(test.answer(reads))] as usize,
            }
        }
    }
}

fn chain(follow: &mut Follow<'_>, mut path: Path, strategies: &[Strategy], at: usize) -> NodeId {
    let Some(strategy) = strategies.get(at) else {
        return follow.graph.leaf(Leaf::Matched(None));
    };
    path.steps = 0;
    path.scope.clear();
    let message = Symbol::Object(Object::Message);
    path.scope.push(Binding { name: "message".into(), value: message, constant: true });
    let decided = |follow: &mut Follow<'_>, path: Path, value: Symbol| match value {
        // A text that may not be one, in a condition: nobody writes that.
        _ if !path.owed.is_empty() => follow.fails(),
        // A condition that is neither true nor false fails, and says so.
        Symbol::Known(known) if !known.is_bool() => follow.fails(),
        value => follow.truth(path, &value, &|follow, path, holds| match holds {
            true => follow.graph.leaf(Leaf::Matched(Some(at))),
            false => chain(follow, path, strategies, at + 1),
        }),
    };
    follow.statements(path, strategy.statements(), &decided, &decided)
}

/// The part of the graph that is reached, in an order of its own.
fn lay_out(graph: &Graph, root: NodeId) -> (Vec<Step>, usize) {
    let mut order = vec![root];
    let mut at = 0;
    while let Some(id) = order.get(at).copied() {
        if let Node::Ask { then, .. } = graph.node(id) {
            for next in then.iter().filter(|next| !order.contains(next)).copied().collect::<Vec<_>>() {
                if !order.contains(&next) {
                    order.push(next);
                }
            }
        }
        at += 1;
    }
    let place = |id: &NodeId| order.iter().position(|other| other == id).unwrap_or_default() as u32;
    let step = |id: &NodeId| match graph.node(*id) {
        Node::Ask { test, then } => {
            Step::Ask { test: graph.test(*test).clone(), then: then.iter().map(place).collect() }
        }
        Node::Leaf(leaf) => Step::End(match graph.leaf_at(*leaf) {
            Leaf::Matched(Some(at)) => Found::Strategy(*at),
            Leaf::Matched(None) => Found::None,
            _ => Found::Interpret,
        }),
    };
    (order.iter().map(step).collect(), 0)
}
