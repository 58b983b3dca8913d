//! The property itself, over many messages and scripts.

use channel_orchestrator::policy::compile::Way;

use super::{
    differ::{difference, program, way},
    facts,
    facts::Random,
    grammar,
};
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

/// `check` tells how each script runs, in the author's words.
#[test]
fn what_does_not_fit_is_learnt_or_run_and_says_the_same() {
    let scripts = [
        ("let told = 0; try { told = message.length / 0; } catch { told = 1; } award(told, \"x\")", "Learnt"),
        (
            "let list = [\"a\", \"b\"]; if list[message.local_hour % 2] == \"b\" { veto(\"odd\") } else { neutral() }",
            "Interpreted",
        ),
        ("if message.length ** 2 > 900 { award(1, \"x\") } else { neutral() }", "Learnt"),
        ("if message.quiet { return neutral(); } award(sqrt(channel.cost), \"x\")", "Compiled"),
    ];
    for (body, expected) in scripts {
        let program = program(&format!("fn score(message, channel) {{ {body} }}"))
            .unwrap_or_else(|| panic!("refused: {body}"));
        let way = way(&program);
        let name = match &way {
            Way::Compiled { .. } => "Compiled",
            Way::Learnt { .. } => "Learnt",
            Way::Interpreted { .. } => "Interpreted",
        };
        assert_eq!(name, expected, "{body}: {way:?}");
        let (Way::Compiled { but: why } | Way::Learnt { why } | Way::Interpreted { why }) = &way;
        assert!(why.iter().all(|told| told.starts_with("1:")) && !why.is_empty(), "{body}: {why:?}");
        // Few messages again and again, so that what is remembered is asked.
        let mut random = Random::new(7);
        let known: Vec<_> =
            (0..20).map(|_| (facts::message(&mut random), facts::channels(&mut random))).collect();
        for _ in 0..200 {
            let ((message, _), (_, channels)) = (random.one(&known).clone(), random.one(&known));
            if let Some(told) = difference(&program, &message, channels) {
                panic!("{body}\n{told}");
            }
        }
    }
}
