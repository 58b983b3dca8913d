//! One script, one message, both ways of running it: what differs between them. Judges nothing and generates nothing.

use std::sync::Arc;

use channel_orchestrator::{
    domain::{channel::Channel, channel::PerChannel, ids::CriterionName},
    policy::{
        compile::{Program, Way},
        criterion::Criterion,
        scorecard::Scorecard,
        view::{ChannelView, MessageView},
    },
};

/// A program of one criterion; none where the script is refused.
pub fn program(source: &str) -> Option<Program> {
    let name = CriterionName::parse("generated").unwrap();
    let criterion = Criterion::compile(name, "criteria/generated.rhai", source).ok()?;
    Some(Program::link(vec![Arc::new(criterion)]))
}

/// How the only criterion of a program runs.
pub fn way(program: &Program) -> Way {
    Way::of(&program.criteria()[0])
}

/// What differs between the two ways for one message, if anything does.
pub fn difference(
    program: &Program,
    message: &MessageView<'_>,
    channels: &PerChannel<ChannelView>,
) -> Option<String> {
    let (fast, slow) = (program.score(message, channels), program.interpret(message, channels));
    let share = |card: &Scorecard, at, channel| card.shares(channel).nth(at).map(f64::to_bits);
    for at in 0..program.criteria().len() {
        for channel in Channel::ALL {
            let (compiled, interpreted) =
                (program.said(&fast, at, channel), program.said(&slow, at, channel));
            let shares = (share(&fast, at, channel), share(&slow, at, channel));
            if compiled != interpreted || shares.0 != shares.1 {
                let file = program.criteria()[at].file();
                return Some(format!(
                    "{file} {channel}: {compiled:?}, not {interpreted:?}\n{message:?}\n{channels:?}"
                ));
            }
        }
    }
    let vetoes = Channel::ALL.into_iter().find(|c| fast.vetoed(*c) != slow.vetoed(*c));
    vetoes.map(|channel| format!("{channel}: vetoed one way only"))
}
