//! The tests of a whole program, each answered once for a message: the digits of the rows of its tables.
//!
//! What a field already is (a truth, a word) is a digit as it stands and costs nothing; only comparisons are computed,
//! and those of a channel only where something before them in their script makes them matter.

use std::collections::HashMap;

use super::{
    graph::{Graph, Node, NodeId},
    numbers::{Comparison, Expr, Reads},
    slots::{CHANNEL_DIGITS, DIGITS_MAX, MESSAGE_ARITIES, MESSAGE_DIGITS, Place, Scope, Slot, Slots},
    tables::{ANSWERS_MAX, AnswerAt, Answers, each},
    tests::Test,
};
use crate::domain::channel::Channel;

/// A bit for each.
const ALL_CHANNELS: u8 = 0b1111;

/// The tests of a program, beside the digits that every message has.
#[derive(Clone, Debug, Default)]
pub struct Tests {
    message: Vec<Quick>,
    channel: Vec<ForChannel>,
    known: HashMap<Test, AnswerAt>,
}

/// A test about a channel.
#[derive(Clone, Debug)]
struct ForChannel {
    test: Quick,
    /// A bit for each channel whose tables ask it.
    channels: u8,
    /// It matters only where this answer is that.
    needs: Option<(AnswerAt, u8)>,
}

/// The commonest tests without a tree to walk.
#[derive(Clone, Debug)]
enum Quick {
    Length { at: u8, comparison: Comparison, bound: i64 },
    Floats { comparison: Comparison, a: u8, b: u8 },
    Other(Test),
}

impl Quick {
    fn of(test: &Test) -> Self {
        use Slot::{Float, Integer};
        match test {
            Test::Compare(
                comparison,
                Expr::Field(Place { scope: Scope::Message, slot: Integer(at) }),
                Expr::Integer(bound),
            ) => Quick::Length { at: *at, comparison: *comparison, bound: *bound },
            Test::Compare(
                comparison,
                Expr::Field(Place { slot: Float(a), .. }),
                Expr::Field(Place { slot: Float(b), .. }),
            ) => Quick::Floats { comparison: *comparison, a: *a, b: *b },
            other => Quick::Other(other.clone()),
        }
    }

    #[inline]
    fn answer(&self, reads: Reads<'_, '_>) -> u8 {
        match self {
            Quick::Length { at, comparison, bound } => {
                u8::from(comparison.of_integers(reads.message.integers[usize::from(*at)], *bound))
            }
            Quick::Floats { comparison, a, b } => {
                let floats = &reads.channel.floats;
                u8::from(comparison.of_floats(floats[usize::from(*a)], floats[usize::from(*b)]))
            }
            Quick::Other(test) => test.answer(reads),
        }
    }
}

impl Tests {
    /// Gives each test below `root` its place; none where there is no more room.
    pub fn place(&mut self, graph: &Graph, root: NodeId, channel: Channel) -> Option<HashMap<u32, AnswerAt>> {
        let mut places = HashMap::new();
        for asked in graph.asked_from(root) {
            let test = graph.test(asked);
            let at = match test {
                Test::Digit { place: Place { scope, slot: Slot::Digit(at) }, .. } => {
                    AnswerAt { scope: *scope, at: *at }
                }
                _ => self.computed(test)?,
            };
            places.insert(asked, at);
        }
        for (asked, at) in &places {
            if at.scope == Scope::Channel && usize::from(at.at) >= CHANNEL_DIGITS {
                let needs = needed(graph, root, *asked).map(|(digit, value)| (places[&digit], value));
                let known = &mut self.channel[usize::from(at.at) - CHANNEL_DIGITS];
                // Two scripts that need different things before they ask: it is always answered.
                known.needs =
                    if known.channels == 0 { needs } else { known.needs.filter(|n| Some(*n) == needs) };
                known.channels |= 1 << channel.index();
            }
        }
        Some(places)
    }

    fn computed(&mut self, test: &Test) -> Option<AnswerAt> {
        if let Some(known) = self.known.get(test) {
            return Some(*known);
        }
        let scope = test.scope();
        let (digits, computed) = match scope {
            Scope::Message => (MESSAGE_DIGITS, self.message.len()),
            Scope::Channel => (CHANNEL_DIGITS, self.channel.len()),
        };
        let at = digits + computed;
        if at >= ANSWERS_MAX {
            return None;
        }
        match scope {
            Scope::Message => self.message.push(Quick::of(test)),
            Scope::Channel => {
                self.channel.push(ForChannel { test: Quick::of(test), channels: 0, needs: None });
            }
        }
        let place = AnswerAt { scope, at: at as u8 };
        self.known.insert(test.clone(), place);
        Some(place)
    }

    /// How many values an answer about the message can have.
    pub fn arity(&self, answer: AnswerAt) -> u8 {
        match answer.scope {
            Scope::Message => MESSAGE_ARITIES.get(usize::from(answer.at)).copied().unwrap_or(2),
            Scope::Channel => 2,
        }
    }

    /// Answers everything.
    pub fn answer(&self, slots: &Slots<'_>) -> Answers {
        let mut answers = Answers::new();
        let message = answers.message();
        message[..DIGITS_MAX].copy_from_slice(&slots.message.digits);
        let reads = Reads { message: &slots.message, channel: &slots.channels[0] };
        for (answer, test) in message[MESSAGE_DIGITS..].iter_mut().zip(&self.message) {
            *answer = test.answer(reads);
        }
        for (at, channel) in slots.channels.iter().enumerate() {
            answers.channel(at)[..DIGITS_MAX].copy_from_slice(&channel.digits);
        }
        // Whose it was asked for: what was not asked has not been answered no.
        let mut asked = [ALL_CHANNELS; ANSWERS_MAX];
        for (place, ForChannel { test, channels, needs }) in self.channel.iter().enumerate() {
            let mut wanted = *channels;
            if let Some((answer, value)) = needs {
                if answer.scope == Scope::Channel {
                    wanted &= asked[usize::from(answer.at) % ANSWERS_MAX];
                }
                for at in 0..4 {
                    wanted &= !(u8::from(answers.seen(at).get(*answer) != *value) << at);
                }
            }
            asked[(CHANNEL_DIGITS + place) % ANSWERS_MAX] = wanted;
            for at in each(wanted).map(Channel::index) {
                let reads = Reads { message: &slots.message, channel: &slots.channels[at] };
                answers.channel(at)[CHANNEL_DIGITS + place] = test.answer(reads);
            }
        }
        answers
    }
}

/// The last question on every way to `test`, with the one answer that leads on to it.
fn needed(graph: &Graph, root: NodeId, test: u32) -> Option<(u32, u8)> {
    let (mut at, mut needed) = (root, None);
    loop {
        let Node::Ask { test: asked, then } = graph.node(at) else { return needed };
        if *asked == test {
            return needed;
        }
        let leads = |next: &NodeId| graph.asked_from(*next).contains(&test);
        let mut ways = then.iter().enumerate().filter(|(_, next)| leads(next));
        let Some((value, next)) = ways.next() else { return needed };
        if ways.next().is_some() {
            return needed;
        }
        needed = Some((*asked, value as u8));
        at = *next;
    }
}
