//! The nine criteria by our own engine and by others, on one stream of requests.
//!
//!     cargo run --release --manifest-path benches/rivals/Cargo.toml [-- --quick] [--dump FILE] [--count N]
//!
//! Compared is scoring: the facts of a message and its four channels in; four channels scored by nine criteria with
//! reasons, weighted, ranked, the choice and two alternatives out. Parsing requests, gathering facts, gates and
//! rendering are in no figure. What an engine needs to have the facts in its own values is its cost, and counted.
//!
//! Every engine must first give the same order, scores and reasons as the interpreter on the whole stream, and that
//! the same as the daemon's whole decision. Then all of them have their turn in each of nine rounds, after one to warm
//! up: median CPU time of this thread. `--dump` writes the stream for `node.mjs` and times nothing.

use std::path::PathBuf;

use channel_orchestrator::policy::bundle::Bundle;

use crate::{
    engine::{Rival, Runner as _},
    outcome::Outcome,
    stream::{Case, Source},
};

mod cel;
mod engine;
mod lua;
mod naive;
mod native;
mod ours;
mod outcome;
mod reason;
mod stream;

const COUNT: usize = 20_000;
const COUNT_QUICK: usize = 2_000;
const ROUNDS: usize = 9;
const ROUNDS_QUICK: usize = 3;

struct Arguments {
    count: usize,
    rounds: usize,
    dump: Option<PathBuf>,
}

impl Arguments {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let quick = words.iter().any(|word| word == "--quick");
        let value = |name: &str| {
            let at = words.iter().position(|word| word == name)?;
            Some(words.get(at + 1).unwrap_or_else(|| panic!("{name} takes a value")).clone())
        };
        let usual = if quick { COUNT_QUICK } else { COUNT };
        Self {
            count: value("--count").map_or(usual, |count| count.parse().expect("a number")),
            rounds: if quick { ROUNDS_QUICK } else { ROUNDS },
            dump: value("--dump").map(PathBuf::from),
        }
    }
}

fn main() {
    let arguments = Arguments::read();
    let bundle = stream::bundle();
    let stream = stream::stream(&bundle, arguments.count);
    let expected = oracle(&bundle, &stream);
    if let Some(path) = arguments.dump {
        stream::dump(&path, &stream, &expected);
        return;
    }
    let (cases, _) = stream;
    let mut rivals = rivals(&bundle);
    for rival in &mut rivals {
        engine::agrees(rival, &cases, &expected);
    }
    println!("{} requests: every engine gives the same order, scores and reasons", cases.len());
    let times = engine::time(&mut rivals, &cases, arguments.rounds);
    report(&rivals, &times);
}

/// What the interpreter says, held against the daemon's whole decision.
fn oracle(bundle: &Bundle, (cases, sources): &(Vec<Case>, Vec<Source>)) -> Vec<Outcome> {
    let mut scripts = ours::Scripts(bundle);
    let outcomes = cases.iter().zip(sources).map(|(case, source)| {
        let outcome = scripts.outcome(case);
        stream::check(bundle, source, &outcome);
        outcome
    });
    outcomes.collect()
}

fn rivals(bundle: &Bundle) -> Vec<Rival<'_>> {
    let rival = |name, title, runner| Rival { name, title, runner };
    vec![
        rival("native", "hand-written Rust", Box::new(native::Native)),
        rival("interpreter", "ours, interpreted", Box::new(ours::Scripts(bundle))),
        rival("luajit", "LuaJIT (mlua), one call", Box::new(lua::LuaJit::new())),
        rival("cel", "CEL (cel), 36 programs", Box::new(cel::Cel::new())),
        rival("rhai_naive", "Rhai, ported naively", Box::new(naive::Naive::new())),
    ]
}

fn report(rivals: &[Rival<'_>], times: &[f64]) {
    println!("{:<28} {:>14} {:>12} {:>10}", "engine", "ns/decision", "decisions/s", "x native");
    for (rival, time) in rivals.iter().zip(times) {
        println!("{:<28} {time:>14.0} {:>12.0} {:>10.2}", rival.title, 1e9 / time, time / times[0]);
    }
    for (rival, time) in rivals.iter().zip(times) {
        println!("figure: rivals.{} {time:.1} ns", rival.name);
    }
}
