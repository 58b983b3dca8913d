//! What the interpreter said, remembered: for scripts, and ways through them, that have no table.
//!
//! A script's answer depends on nothing but the fields that it reads. Those that its text names are its key: a number
//! that the script only ever compares with numbers written out counts by the outcomes of those comparisons, anything
//! else by its value. Two messages with the same key get the same answer, so an answer learnt is exact for as long as
//! the script lives. It keeps a bounded number of answers, and gives up where they are not asked again.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering::Relaxed},
    },
};

use arc_swap::ArcSwap;
use rhai::{AST, ASTNode, Expr as Tree};

use super::{
    numbers::{Comparison, Expr, Number, Reads},
    slots::{self, Place, Reading, Scope, Slot},
    tests::digit,
};
use crate::{domain::channel::Channel, policy::bundle::Opinion};

/// Answers kept for one script.
const ANSWERS_MAX: usize = 1_024;
/// After so many questions it is looked whether learning pays.
const TRIAL: u32 = 4_096;

/// The answers of one script.
#[derive(Debug)]
pub struct Learnt {
    parts: Vec<Part>,
    answers: ArcSwap<HashMap<Box<[u8]>, Opinion>>,
    learning: Mutex<()>,
    asked: AtomicU32,
    known: AtomicU32,
    given_up: std::sync::atomic::AtomicBool,
}

/// What of a field is in the key.
#[derive(Debug)]
enum Part {
    Value(Scope, Reading),
    /// The outcomes of these comparisons, and whether the field is there.
    Outcomes {
        field: Place,
        missing: Option<Place>,
        comparisons: Vec<(Comparison, Number)>,
    },
}

impl Learnt {
    /// What can be learnt of a script; none where its text does not tell what it reads.
    pub fn of(ast: &AST) -> Option<Self> {
        let parts = parts(ast)?;
        Some(Self {
            parts,
            answers: ArcSwap::default(),
            learning: Mutex::new(()),
            asked: AtomicU32::new(0),
            known: AtomicU32::new(0),
            given_up: false.into(),
        })
    }

    /// The answer for this message and channel: one learnt before, or what `interpret` says.
    pub fn ask(
        &self,
        channel: Channel,
        reads: Reads<'_, '_>,
        interpret: impl FnOnce() -> Opinion,
    ) -> Opinion {
        if self.given_up.load(Relaxed) {
            return interpret();
        }
        let key = self.key(channel, reads);
        self.count();
        if let Some(known) = self.answers.load().get(key.as_slice()) {
            self.known.fetch_add(1, Relaxed);
            return known.clone();
        }
        let opinion = interpret();
        self.learn(key, &opinion);
        opinion
    }

    /// Gives up where fewer than half of the questions were asked before.
    fn count(&self) {
        let asked = self.asked.fetch_add(1, Relaxed) + 1;
        if asked >= TRIAL {
            let known = self.known.swap(0, Relaxed);
            self.asked.store(0, Relaxed);
            if known < TRIAL / 2 {
                self.given_up.store(true, Relaxed);
                self.answers.store(Arc::default());
            }
        }
    }

    fn learn(&self, key: Vec<u8>, opinion: &Opinion) {
        // Whoever finds another one learning lets it be: the next message will do.
        let Ok(_learning) = self.learning.try_lock() else { return };
        let before = self.answers.load_full();
        if before.len() < ANSWERS_MAX {
            let mut after = HashMap::clone(&before);
            after.insert(key.into(), opinion.clone());
            self.answers.store(Arc::new(after));
        }
    }

    fn key(&self, channel: Channel, reads: Reads<'_, '_>) -> Vec<u8> {
        let mut key = Vec::with_capacity(64);
        key.push(channel.index() as u8);
        for part in &self.parts {
            match part {
                Part::Value(scope, reading) => value(*scope, *reading, reads, &mut key),
                Part::Outcomes { field, missing, comparisons } => {
                    if missing.is_some_and(|missing| digit(missing, reads) == 1) {
                        key.push(2);
                        continue;
                    }
                    let Some(number) = Expr::Field(*field).value(reads) else { continue };
                    key.extend(comparisons.iter().map(|(c, other)| u8::from(c.holds(number, *other))));
                }
            }
        }
        key
    }
}

/// The value of a field as bytes; texts with their lengths before them, so that no two values run into each other.
fn value(scope: Scope, reading: Reading, reads: Reads<'_, '_>, key: &mut Vec<u8>) {
    let place = |slot| Place { scope, slot };
    let mut text = |text: &str| {
        key.extend((text.len() as u32).to_le_bytes());
        key.extend(text.as_bytes());
    };
    match reading {
        Reading::Truth(at) | Reading::Word { digit: at, .. } => {
            key.push(digit(place(Slot::Digit(at)), reads));
        }
        Reading::Integer { slot, missing } => {
            key.push(missing.map_or(0, |at| digit(place(Slot::Digit(at)), reads)));
            if let Some(Number::Integer(number)) = Expr::Field(place(Slot::Integer(slot))).value(reads) {
                key.extend(number.to_le_bytes());
            }
        }
        Reading::Float(slot) => {
            if let Some(Number::Float(number)) = Expr::Field(place(Slot::Float(slot))).value(reads) {
                key.extend(number.to_bits().to_le_bytes());
            }
        }
        Reading::Text { slot, missing } => {
            text(super::numbers::text(place(Slot::Text(slot)), reads));
            key.push(missing.map_or(0, |at| digit(place(Slot::Digit(at)), reads)));
        }
        Reading::Tags => {
            text(&reads.message.tags.len().to_string());
            reads.message.tags.iter().for_each(|tag| text(tag));
        }
        // The channel is in every key.
        Reading::Name | Reading::History => {}
    }
}

/// The fields that a script's text names, each with what of it counts.
fn parts(ast: &AST) -> Option<Vec<Part>> {
    let mut uses: BTreeMap<String, Uses> = BTreeMap::new();
    let mut opaque = false;
    ast.walk(&mut |path: &[ASTNode<'_>]| {
        let ASTNode::Expr(expression) = path[path.len() - 1] else { return true };
        match expression {
            // `message["length"]` reads a field that no text may name.
            Tree::Index(..) => opaque = true,
            Tree::Property(property, _) => {
                let uses = uses.entry(property.2.to_string()).or_default();
                match compared(path) {
                    Some(comparison) => uses.comparisons.push(comparison),
                    None => uses.otherwise = true,
                }
            }
            _ => {}
        }
        !opaque
    });
    if opaque {
        return None;
    }
    let part = |(name, uses): (String, Uses)| {
        let (scope, reading) = slots::of_message(&name)
            .map(|reading| (Scope::Message, reading))
            .or_else(|| slots::of_channel(&name).map(|reading| (Scope::Channel, reading)))
            .or_else(|| slots::of_history(&name).map(|reading| (Scope::Channel, reading)))?;
        let place = |slot| Place { scope, slot };
        Some(match reading {
            Reading::Integer { slot, missing } if !uses.otherwise => Part::Outcomes {
                field: place(Slot::Integer(slot)),
                missing: missing.map(|at| place(Slot::Digit(at))),
                comparisons: uses.comparisons,
            },
            Reading::Float(slot) if !uses.otherwise => Part::Outcomes {
                field: place(Slot::Float(slot)),
                missing: None,
                comparisons: uses.comparisons,
            },
            reading => Part::Value(scope, reading),
        })
    };
    Some(uses.into_iter().filter_map(part).collect())
}

#[derive(Default)]
struct Uses {
    comparisons: Vec<(Comparison, Number)>,
    /// It is used in some other way than compared with a number that is written out.
    otherwise: bool,
}

/// Where the innermost node is a property, the comparison with a written number that it is one side of:
/// `message.length > 160`, and nothing more.
fn compared(path: &[ASTNode<'_>]) -> Option<(Comparison, Number)> {
    let [.., ASTNode::Expr(Tree::FnCall(call, _)), ASTNode::Expr(dot @ Tree::Dot(pair, ..)), _] = path else {
        return None;
    };
    // A chain (`channel.history.rate`) is a dot within a dot, and is left to its value.
    if !matches!((&pair.lhs, &pair.rhs), (Tree::Variable(..), Tree::Property(..))) || call.args.len() != 2 {
        return None;
    }
    let comparison = Comparison::of(&call.name).filter(|_| call.op_token.is_some())?;
    let number = |tree: &Tree| match tree {
        Tree::IntegerConstant(number, _) => Some(Number::Integer(*number)),
        Tree::FloatConstant(number, _) => Some(Number::Float(**number)),
        _ => None,
    };
    let this = |tree: &Tree| std::ptr::eq(tree, *dot);
    match (number(&call.args[0]), number(&call.args[1])) {
        (None, Some(other)) if this(&call.args[0]) => Some((comparison, other)),
        (Some(other), None) if this(&call.args[1]) => Some((comparison.turned(), other)),
        _ => None,
    }
}
