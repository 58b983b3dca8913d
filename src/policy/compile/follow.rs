//! Follows a script symbolically, down every path that a message could take, and notes the graph of what it asked.
//!
//! Written with continuations: what comes after an expression is a function of its value, so that a fork in the middle
//! of one goes on twice. What is not certain ends in `give_up`: the interpreter will be asked on that path.

use rhai::Position;

use super::{
    constants::Cases,
    graph::{Graph, Leaf, NodeId},
    slots::Reading,
    symbols::{Path, Symbol},
    tests::Test,
};
use crate::{
    domain::channel::Channel,
    policy::{engine::place, script_check::Function},
};

/// What comes next, given a value.
pub type Then<'k> = &'k dyn Fn(&mut Follow<'_>, Path, Symbol) -> NodeId;

/// The interpreter stops a script after 2,000 steps; a path that comes near is its own to run.
const STEPS_MAX: u32 = 900;
/// What comes next is called from what comes before: so deep does a path go on the stack that `deeply` gives it.
const NESTED_MAX: u32 = 1_500;
const STACK_BYTES: usize = 64 * 1024 * 1024;
/// Names in scope: the interpreter stops at 64.
const NAMES_MAX: usize = 56;
/// Functions within functions: the interpreter stops at 8.
const DEPTH_MAX: u32 = 4;
/// Statements and expressions followed over all paths of one script on one channel: beyond it there are too many paths.
const FOLLOWED_MAX: u32 = 60_000;

/// Runs what follows scripts on a stack that no script can exhaust; none where there is no such stack to be had.
pub fn deeply<T: Send>(follow: impl FnOnce() -> T + Send) -> Option<T> {
    std::thread::scope(|scope| {
        let builder = std::thread::Builder::new().name("compile".into()).stack_size(STACK_BYTES);
        builder.spawn_scoped(scope, follow).ok()?.join().ok()
    })
}

/// One script being followed for one channel.
pub struct Follow<'s> {
    pub graph: Graph,
    /// None: a condition, which sees no channel.
    pub channel: Option<Channel>,
    pub functions: &'s [Function],
    pub cases: &'s Cases,
    /// Why the interpreter is asked somewhere, in words for the script's author.
    pub why: Vec<String>,
    /// Whether some path reads the tags, be it to no end: the interpreter would meet its limits there.
    pub reads_tags: bool,
    followed: u32,
    interpret: NodeId,
}

impl<'s> Follow<'s> {
    pub fn new(channel: Option<Channel>, functions: &'s [Function], cases: &'s Cases) -> Self {
        let mut graph = Graph::default();
        let interpret = graph.leaf(Leaf::Interpret);
        Self { graph, channel, functions, cases, why: Vec::new(), reads_tags: false, followed: 0, interpret }
    }

    /// The place where the interpreter is asked.
    pub fn interpreted(&self) -> NodeId {
        self.interpret
    }

    /// Ends the path: the interpreter is asked, because of `what`.
    pub fn give_up(&mut self, what: impl Into<String>, at: Position) -> NodeId {
        let what = what.into();
        let told = match place(at) {
            Some((line, column)) => format!("{line}:{column}: {what}"),
            None => what,
        };
        if !self.why.contains(&told) && self.why.len() < 8 {
            self.why.push(told);
        }
        self.interpret
    }

    /// Ends the path where the script itself goes wrong: an error is the interpreter's to put into words. No reason to
    /// tell the author that the script is not compiled.
    pub fn fails(&mut self) -> NodeId {
        self.interpret
    }

    /// Counts a statement or an expression. The path's end where it has come too far.
    pub fn step(&mut self, path: &mut Path, at: Position) -> Result<(), NodeId> {
        path.steps += 1;
        path.nested += 1;
        self.followed += 1;
        if self.followed > FOLLOWED_MAX {
            return Err(self.give_up("the script has too many ways through it", Position::NONE));
        }
        if path.steps > STEPS_MAX
            || path.nested > NESTED_MAX
            || path.scope.len() > NAMES_MAX
            || path.depth > DEPTH_MAX
        {
            return Err(self.give_up("the script is long, and comes near the limits of what it may do", at));
        }
        Ok(())
    }

    /// Goes on with each answer to a test; with one alone where the path implies it.
    pub fn ask(
        &mut self,
        path: Path,
        test: &Test,
        go_on: &dyn Fn(&mut Follow<'_>, Path, u8) -> NodeId,
    ) -> NodeId {
        if let Some(answer) = path.implies(test) {
            return go_on(self, path, answer);
        }
        let then: Vec<NodeId> =
            (0..test.arity()).map(|answer| go_on(self, path.answered(test, answer), answer)).collect();
        let test = self.graph.ask(test.clone());
        self.graph.branch(test, then)
    }

    /// Goes on only where the test answers yes; where it does not, the script fails.
    pub fn require(
        &mut self,
        path: Path,
        test: &Test,
        go_on: &dyn Fn(&mut Follow<'_>, Path) -> NodeId,
    ) -> NodeId {
        self.ask(path, test, &|follow, path, answer| match answer {
            1 => go_on(follow, path),
            _ => follow.fails(),
        })
    }

    /// Goes on with what a condition says.
    pub fn truth(
        &mut self,
        path: Path,
        value: &Symbol,
        go_on: &dyn Fn(&mut Follow<'_>, Path, bool) -> NodeId,
    ) -> NodeId {
        match value {
            Symbol::Known(known) => match known.as_bool() {
                Ok(truth) => go_on(self, path, truth),
                Err(_) => self.fails(),
            },
            Symbol::Truth { test, negated } => {
                self.ask(path, test, &|follow, path, answer| go_on(follow, path, (answer == 1) != *negated))
            }
            _ => self.fails(),
        }
    }

    /// Reads a field; one that may be missing forks, and so does a word, whose every value is followed apart.
    pub fn read(
        &mut self,
        path: Path,
        scope: super::slots::Scope,
        reading: Reading,
        then: Then<'_>,
    ) -> NodeId {
        use super::slots::{Place, Slot};
        let place = |slot| Place { scope, slot };
        let digit = |at| Test::Digit { place: place(Slot::Digit(at)), arity: 2 };
        match reading {
            Reading::Truth(at) => {
                let test = digit(at);
                match path.implies(&test) {
                    Some(answer) => then(self, path, Symbol::truth(answer == 1)),
                    None => then(self, path, Symbol::Truth { test, negated: false }),
                }
            }
            Reading::Word { digit: at, words, missing } => {
                let arity = words.len() as u8 + u8::from(missing.is_some());
                let test = Test::Digit { place: place(Slot::Digit(at)), arity };
                self.ask(path, &test, &|follow, path, answer| {
                    let value = match words.get(usize::from(answer)) {
                        Some(word) => Symbol::Known((*word).into()),
                        None => Symbol::unit(),
                    };
                    then(follow, path, value)
                })
            }
            Reading::Integer { slot, missing } => {
                let number = Symbol::Number(super::numbers::Expr::Field(place(Slot::Integer(slot))).into());
                self.present(path, missing.map(digit), number, then)
            }
            Reading::Float(slot) => {
                let number = super::numbers::Expr::Field(place(Slot::Float(slot)));
                then(self, path, Symbol::Number(number.into()))
            }
            Reading::Text { slot, missing } => {
                self.present(path, missing.map(digit), Symbol::Text(place(Slot::Text(slot))), then)
            }
            Reading::Tags => {
                self.reads_tags = true;
                then(self, path, Symbol::Tags)
            }
            Reading::History => then(self, path, Symbol::Object(super::symbols::Object::History)),
            Reading::Name => match self.channel {
                Some(channel) => then(self, path, Symbol::Known(channel.as_str().into())),
                None => self.fails(),
            },
        }
    }

    fn present(&mut self, path: Path, missing: Option<Test>, value: Symbol, then: Then<'_>) -> NodeId {
        let Some(missing) = missing else { return then(self, path, value) };
        self.ask(path, &missing, &|follow, path, answer| match answer {
            1 => then(follow, path, Symbol::unit()),
            _ => then(follow, path, value.clone()),
        })
    }
}
