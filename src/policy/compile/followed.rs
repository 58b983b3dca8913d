//! One script, followed for each channel: its graphs, before they are laid out with those of the other criteria.

use super::{
    constants::Cases,
    follow::{self, Follow},
    graph::{Graph, Leaf, NodeId},
    symbols::{Binding, Object, Path, Symbol},
};
use crate::{
    domain::channel::Channel,
    policy::{criterion::ENTRY_POINT, script_check::Function},
};

/// What a script says, as graphs.
#[derive(Debug)]
pub struct Followed {
    /// In the order of `Channel::ALL`.
    pub(super) graphs: [(Graph, NodeId); 4],
    /// Why the interpreter is asked somewhere, in the author's words with line and column; empty: nowhere, but where
    /// the script itself fails.
    why: Vec<String>,
    reads_tags: bool,
}

impl Followed {
    /// Follows a script that passed its checks.
    pub(in crate::policy) fn new(source: &str, functions: &[Function]) -> Self {
        let followed = follow::deeply(|| {
            let cases = Cases::of(source, super::words());
            let (mut why, mut reads_tags) = (Vec::new(), false);
            let graphs = Channel::ALL.map(|channel| {
                let mut follow = Follow::new(Some(channel), functions, &cases);
                let root = script(&mut follow, functions);
                for told in std::mem::take(&mut follow.why) {
                    if !why.contains(&told) {
                        why.push(told);
                    }
                }
                reads_tags |= follow.reads_tags;
                (follow.graph.finished(), root)
            });
            Self { graphs, why, reads_tags }
        });
        followed.unwrap_or_else(|| Self::interpreted("there was no room to compile it in".into()))
    }

    /// Left to the interpreter altogether, for this reason.
    pub(in crate::policy) fn interpreted(why: String) -> Self {
        let graphs = Channel::ALL.map(|_| {
            let mut graph = Graph::default();
            let root = graph.leaf(Leaf::Interpret);
            (graph, root)
        });
        Self { graphs, why: vec![why], reads_tags: false }
    }

    /// Whether the interpreter is all that there is.
    pub fn is_interpreted(&self) -> bool {
        self.graphs.iter().all(|(graph, root)| graph.is_interpret(*root))
    }

    pub fn why(&self) -> &[String] {
        &self.why
    }

    /// Whether anything that was compiled reads the message's tags.
    pub fn reads_tags(&self) -> bool {
        self.reads_tags
    }
}

fn script(follow: &mut Follow<'_>, functions: &[Function]) -> NodeId {
    let entry = functions.iter().find(|f| f.name == ENTRY_POINT && f.parameters.len() == 2);
    let Some(entry) = entry else { return follow.interpreted() };
    let mut path = Path::default();
    for (name, object) in entry.parameters.iter().zip([Object::Message, Object::Channel]) {
        let value = Symbol::Object(object);
        path.scope.push(Binding { name: name.as_str().into(), value, constant: false });
    }
    let end = |follow: &mut Follow<'_>, path: Path, value: Symbol| follow.end(path, &value);
    follow.statements(path, &entry.body, &end, &end)
}
