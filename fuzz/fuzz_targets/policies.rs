//! Generated scripts and messages, both ways: a difference between the compiled form and the interpreter is a crash.
//!
//!     cargo install cargo-fuzz
//!     cargo fuzz run --sanitizer none policies
//!
//! The bytes are the choices of the grammar that the tests generate from (tests/it/compiled), so that the fuzzer changes
//! one choice of a script that reached something new. What is found is a file under fuzz/artifacts: its script becomes a
//! test there. It judges equality alone; what a script may do to a process is the sandbox tests' affair.

#![no_main]

#[path = "../../tests/it/compiled/differ.rs"]
mod differ;
#[path = "../../tests/it/compiled/facts.rs"]
mod facts;
#[path = "../../tests/it/compiled/grammar.rs"]
mod grammar;

use libfuzzer_sys::fuzz_target;

/// Messages for each script.
const MESSAGES: usize = 24;

fuzz_target!(|bytes: &[u8]| {
    let mut random = facts::Random::from_bytes(bytes);
    let script = grammar::script(&mut random);
    let Some(program) = differ::program(&script) else { return };
    for _ in 0..MESSAGES {
        let (message, channels) = (facts::message(&mut random), facts::channels(&mut random));
        if let Some(told) = differ::difference(&program, &message, &channels) {
            panic!("{script}\n{told}");
        }
    }
});
