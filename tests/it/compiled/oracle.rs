//! The property itself, over many messages and scripts.

use channel_orchestrator::policy::compile::Way;

use super::{difference, facts, facts::Random, grammar, program, way};
use crate::support::bundle;

/// Messages under the shipped scripts.
fn messages() -> usize {
    if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() { 1_000_000 } else { 20_000 }
}

/// Generated scripts, and messages for each.
fn scripts() -> (usize, usize) {
    if std::env::var_os("ORCHESTRATOR_TEST_FULL").is_some() { (20_000, 200) } else { (500, 60) }
}

#[test]
fn the_shipped_scripts_say_the_same_compiled_and_interpreted() {
    let bundle = bundle("");
    let (program, strategies) = bundle.program();
    for criterion in program.criteria() {
        assert_eq!(Way::of(criterion), Way::Compiled { but: vec![] }, "{}", criterion.name());
    }
    assert!(strategies.compiled().is_compiled() && strategies.compiled().why().is_empty());
    let mut random = Random::new(1);
    for _ in 0..messages() {
        let (message, channels) = (facts::message(&mut random), facts::channels(&mut random));
        if let Some(told) = difference(program, &message, &channels) {
            panic!("{told}");
        }
        let (fast, slow) = (strategies.choose(&message), strategies.interpret(&message));
        assert_eq!((fast.matched, &fast.failures), (slow.matched, &slow.failures), "{message:?}");
    }
}

#[test]
fn generated_scripts_say_the_same_compiled_and_interpreted() {
    let (scripts, messages) = scripts();
    let (mut compiled, mut wrong) = (0, Vec::new());
    let mut made = 0;
    for seed in 0.. {
        if made == scripts {
            break;
        }
        let mut random = Random::new(seed);
        let script = grammar::script(&mut random);
        let Some(program) = program(&script) else { continue };
        made += 1;
        compiled += usize::from(matches!(way(&program), Way::Compiled { .. }));
        for _ in 0..messages {
            let (message, channels) = (facts::message(&mut random), facts::channels(&mut random));
            if let Some(told) = difference(&program, &message, &channels) {
                wrong.push(format!("seed {seed}\n{script}\n{told}"));
                break;
            }
        }
        if wrong.len() >= 5 {
            break;
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n\n"));
    assert!(
        compiled * 10 >= made * 7,
        "only {compiled} of {made} scripts are compiled: the grammar tests little"
    );
}
