//! The nine criteria by our own engine and by others, on one stream of requests.
//!
//!     cargo run --release --manifest-path benches/rivals/Cargo.toml [-- --quick] [--dump FILE] [--equal]
//!
//! Compared is scoring: the facts of a message and its four channels in; four channels scored by nine criteria with
//! reasons, weighted, ranked, the choice and two alternatives out. Parsing requests, gathering facts, gates and
//! rendering are in no figure. What an engine needs to have the facts in its own values is its cost, and counted.
//!
//! Every engine must first give the same order, scores and reasons as the interpreter on the whole stream, and that
//! the same as the daemon's whole decision. Then all of them have their turn in each of nine rounds, after one to warm
//! up: median CPU time of this thread. Nothing is timed by `--dump`, which writes the stream for `node.mjs`, nor by
//! `--equal`, which runs a million requests both compiled and interpreted.

use std::path::PathBuf;

use channel_orchestrator::policy::bundle::Bundle;

use crate::{
    engine::{Rival, Runner as _},
    ours::{OneInterpreted, Scripts, Way},
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
/// Requests on which the dearest script is found out.
const DEAREST: usize = 500;
/// Of the stream that is timed and dumped.
const SEED: u64 = 42;
const EQUAL: usize = 1_000_000;
const EQUAL_QUICK: usize = 20_000;
/// Requests at a time: a million at once would take gigabytes.
const EQUAL_PART: usize = 10_000;

struct Arguments {
    quick: bool,
    dump: Option<PathBuf>,
    equal: bool,
}

impl Arguments {
    fn read() -> Self {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let named = |name: &str| words.iter().position(|word| word == name);
        let dump = named("--dump").map(|at| words.get(at + 1).expect("--dump takes a file's name").into());
        Self { quick: named("--quick").is_some(), dump, equal: named("--equal").is_some() }
    }
}

fn main() {
    let arguments = Arguments::read();
    let bundle = stream::bundle();
    if arguments.equal {
        equal(&bundle, if arguments.quick { EQUAL_QUICK } else { EQUAL });
        return;
    }
    let (count, rounds) = if arguments.quick { (COUNT_QUICK, ROUNDS_QUICK) } else { (COUNT, ROUNDS) };
    let stream = stream::stream(&bundle, SEED, count);
    let expected = oracle(&bundle, &stream);
    if let Some(path) = arguments.dump {
        stream::dump(&path, &stream, &expected);
        return;
    }
    let (cases, _) = stream;
    let mut rivals = rivals(&bundle, &cases);
    for rival in &mut rivals {
        engine::agrees(rival, &cases, &expected);
    }
    println!("{} requests: every engine gives the same order, scores and reasons", cases.len());
    let times = engine::time(&mut rivals, &cases, rounds);
    report(&rivals, &times);
}

/// What the interpreter says, held against the daemon's whole decision.
fn oracle(bundle: &Bundle, (cases, sources): &(Vec<Case>, Vec<Source>)) -> Vec<Outcome> {
    let mut scripts = Scripts { bundle, way: Way::Interpreted };
    let outcomes = cases.iter().zip(sources).map(|(case, source)| {
        let outcome = scripts.outcome(case);
        stream::check(bundle, source, &outcome);
        outcome
    });
    outcomes.collect()
}

/// Runs so many requests compiled and interpreted, and counts those that differ in anything.
fn equal(bundle: &Bundle, count: usize) {
    let mut compiled = Scripts { bundle, way: Way::Compiled };
    let mut interpreted = Scripts { bundle, way: Way::Interpreted };
    let mut differ = 0;
    for part in 0..count / EQUAL_PART {
        let (cases, _) = stream::stream(bundle, SEED + 1 + part as u64, EQUAL_PART);
        differ += cases.iter().filter(|case| compiled.outcome(case) != interpreted.outcome(case)).count();
    }
    println!("{count} requests under the shipped policy, compiled and interpreted: {differ} differ");
    println!("figure: equal.requests {count} requests");
    println!("figure: equal.differ {differ} requests");
}

fn rivals<'b>(bundle: &'b Bundle, cases: &[Case]) -> Vec<Rival<'b>> {
    let rival = |name, title, runner| Rival { name, title, runner };
    let one = OneInterpreted::dearest(bundle, &cases[..cases.len().min(DEAREST)]);
    let scripts = |way| Box::new(Scripts { bundle, way });
    vec![
        rival("native", "hand-written Rust", Box::new(native::Native)),
        rival("compiled", "ours, compiled", scripts(Way::Compiled)),
        rival("one_interpreted", "ours, one of nine interpreted", Box::new(one)),
        rival("interpreter", "ours, interpreted", scripts(Way::Interpreted)),
        rival("luajit", "LuaJIT (mlua), one call", Box::new(lua::LuaJit::new())),
        rival("cel", "CEL (cel), 36 programs", Box::new(cel::Cel::new())),
        rival("rhai_naive", "Rhai, ported naively", Box::new(naive::Naive::new())),
    ]
}

fn report(rivals: &[Rival<'_>], times: &[f64]) {
    println!("{:<30} {:>12} {:>12} {:>10}", "engine", "ns/decision", "decisions/s", "x native");
    for (rival, time) in rivals.iter().zip(times) {
        println!("{:<30} {time:>12.0} {:>12.0} {:>10.2}", rival.title, 1e9 / time, time / times[0]);
    }
    for (rival, time) in rivals.iter().zip(times) {
        println!("figure: rivals.{} {time:.1} ns", rival.name);
    }
}
