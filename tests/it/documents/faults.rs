//! Files with faults, as data: each says in its last lines (`#! code line:column words`) every fault that it must
//! be told of, in order, and nothing else may be told.

use std::path::Path;

use channel_orchestrator::policy::{
    assemble::{Assembler, PolicyEnvironment},
    diagnostic::Diagnostic,
};

use super::{assemble, file, sources, told};

/// `code line:column` and words that the message or its hint must have.
#[derive(Debug)]
struct Expected {
    place: String,
    words: String,
}

fn read(name: &str) -> (String, Vec<Expected>) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/documents").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    let expected = text.lines().filter_map(|line| line.strip_prefix("#! ")).map(|line| {
        let mut words = line.splitn(3, ' ');
        let place = format!("{} {}", words.next().unwrap(), words.next().unwrap());
        Expected { place, words: words.next().unwrap_or_default().to_owned() }
    });
    let expected: Vec<_> = expected.collect();
    assert!(!expected.is_empty(), "{name} expects nothing");
    (text, expected)
}

#[track_caller]
fn compare(name: &str, found: &[Diagnostic], expected: &[Expected]) {
    let place = |fault: &Diagnostic| {
        let own = if fault.file == "tenants/acme.toml" { "" } else { fault.file.as_str() };
        format!("{own}{} {}:{}", fault.code, fault.line.unwrap_or(0), fault.column.unwrap_or(0))
    };
    let found_places: Vec<String> = found.iter().map(place).collect();
    let expected_places: Vec<&str> = expected.iter().map(|e| e.place.as_str()).collect();
    assert_eq!(found_places, expected_places, "{name}: {}", told(found));
    for (fault, expected) in found.iter().zip(expected) {
        assert!(fault.to_string().contains(&expected.words), "{name}: {fault} lacks {:?}", expected.words);
        let line = fault.excerpt.as_deref().unwrap_or_else(|| panic!("{name}: {fault} has no excerpt"));
        let column = fault.column.unwrap();
        assert!(column <= line.chars().count() + 1, "{name}: {fault} points behind {line:?}");
    }
}

#[test]
fn every_fault_of_a_file_is_told_at_its_place_with_its_mend() {
    for name in ["keys.toml", "values.toml", "syntax.toml", "strategies.toml", "variants.toml", "french.toml"]
    {
        let (text, expected) = read(name);
        let faults = assemble(&text).expect_err(name);
        assert!(faults.iter().all(Diagnostic::is_error));
        compare(name, &faults, &expected);
    }
}

#[test]
fn windows_line_ends_and_a_byte_order_mark_move_no_fault() {
    for name in ["keys.toml", "values.toml", "strategies.toml", "variants.toml"] {
        let (text, expected) = read(name);
        let windows = format!("\u{feff}{}", text.replace('\n', "\r\n"));
        compare(name, &assemble(&windows).expect_err(name), &expected);
    }
}

#[test]
fn what_is_legal_and_odd_is_remarked_and_goes_live() {
    let (text, expected) = read("remarks.toml");
    let assembled = assemble(&text).unwrap_or_else(|faults| panic!("{}", told(&faults)));
    assert!(assembled.warnings.iter().all(|warning| !warning.is_error()));
    compare("remarks.toml", &assembled.warnings, &expected);
}

#[test]
fn a_driver_that_the_operator_has_not_is_remarked_where_drivers_are_known() {
    let text =
        "[channels.sms]\ndrivers = [\"twilo\", \"backup\"]\n\n[channels.email]\ndrivers = [\"pigeon\"]\n";
    let known = ["twilio", "backup"].map(str::to_owned).to_vec();
    let judged = |drivers| {
        let assembler = Assembler::knowing(drivers);
        assembler.assemble(&sources(text), &PolicyEnvironment::default()).unwrap().warnings
    };
    let warnings = judged(Some(known));
    let told: Vec<_> = warnings.iter().map(|w| (w.code.as_str(), w.line, w.to_string())).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert_eq!((told[0].0, told[0].1), ("unknown-driver", Some(2)));
    assert!(told[0].2.contains("no driver \"twilo\"") && told[0].2.contains("did you mean \"twilio\"?"));
    assert!(told[1].1 == Some(5) && told[1].2.contains("it has: twilio, backup"), "{told:?}");
    assert_eq!(judged(None), []);
}

#[test]
fn faults_of_all_files_are_told_together_under_their_own_names() {
    let mut sources = sources("locale = 1\n");
    sources.default = file("default.toml", "region = \"XX\"\n");
    let odd = [
        file("criteria/loyalty.rhai", "fn score(message, channel) {"),
        file("criteria/Bad Name.rhai", "fn score(message, channel) { neutral() }"),
    ];
    sources.criteria = sources.criteria.iter().cloned().chain(odd).collect();
    let environment = PolicyEnvironment(vec![("ORCHESTRATOR_QUIET_HOURS_START".into(), "25:00".into())]);
    let faults = Assembler::default().assemble(&sources, &environment).unwrap_err();
    let files: Vec<&str> = faults.iter().map(|fault| fault.file.as_str()).collect();
    for expected in [
        "criteria/Bad Name.rhai",
        "criteria/loyalty.rhai",
        "default.toml",
        "environment",
        "tenants/acme.toml",
    ] {
        assert!(files.contains(&expected), "{expected} is missing: {}", told(&faults));
    }
}

#[test]
fn a_bad_variable_is_named() {
    for (variable, value, words) in [
        ("ORCHESTRATOR_QUIET_HOURS_START", "25:00", "a time of day"),
        ("ORCHESTRATOR_DEFAULT_PRIORITY", "urgnt", "did you mean \"urgent\"?"),
        ("ORCHESTRATOR_ENABLE_FALLBACK", "yes", "write true"),
        ("ORCHESTRATOR_MAX_FALLBACK_ATTEMPTS", "2.5", "a whole number from 0 to 3"),
        ("ORCHESTRATOR_MAX_COST_PER_MESSAGE", "0,10", "write 0.10"),
        ("ORCHESTRATOR_BUDGET_ALERT_THRESHOLD", "80", "80 % is written 0.8"),
        ("ORCHESTRATOR_ENABLE_ANALYTICS", "maybe", "true or false"),
        ("ORCHESTRATOR_TRACK_ENGAGEMENT", "[", "true or false"),
    ] {
        let environment = PolicyEnvironment(vec![(variable.into(), value.into())]);
        let faults = Assembler::default().assemble(&sources(""), &environment).expect_err(variable);
        assert_eq!(faults.len(), 1, "{}", told(&faults));
        let told = faults[0].to_string();
        assert!(told.contains(variable) && told.contains(words), "{told} lacks {words:?}");
    }
}

#[test]
fn what_is_no_text_is_refused_with_its_line() {
    let faults = Assembler::default()
        .assemble(
            &sources(b"region = \"FR\"\nlocale = \"fran\xe7ais\"\n".to_vec()),
            &PolicyEnvironment::default(),
        )
        .unwrap_err();
    assert_eq!((faults[0].code.as_str(), faults[0].line, faults[0].column), ("not-utf8", Some(2), Some(15)));
    let large = "# a remark\n".repeat(30_000);
    let faults = assemble(&large).unwrap_err();
    assert_eq!(faults[0].code, "file-too-large");
    assert_eq!(faults.len(), 1, "{}", told(&faults));
}

/// reliability.md F31: refused, with a line, and quickly. The bound is generous: a test build is slow, and what it
/// guards against is quadratic.
#[test]
fn bombs_are_refused_with_a_line_and_quickly() {
    let deep = 10_000;
    let bombs = [
        ("lists", format!("x = {}{}", "[".repeat(deep), "]".repeat(deep))),
        ("tables", format!("x = {}1{}", "{a=".repeat(deep), "}".repeat(deep))),
        ("a dotted key", format!("{}a = 1", "a.".repeat(deep))),
        ("a dotted header", format!("[{}a]", "a.".repeat(deep))),
        ("many keys", (0..20_000).map(|at| format!("k{at} = 1\n")).collect()),
        ("many broken lines", "a b\n".repeat(50_000)),
        ("many strategies", "[[strategies]]\n".repeat(15_000)),
        ("a long key", format!("{} = 1", "k".repeat(200_000))),
        ("a long number", format!("[retry]\nmax_retries = {}", "9".repeat(200_000))),
        ("long names", {
            let long = "k".repeat(80_000);
            format!("[channels.{long}]\n[variants.{long}.weights]\n[weights]\n{long} = 1")
        }),
        ("a long value", format!("timezone = \"{}\"", "z".repeat(200_000))),
        ("an unclosed text", format!("timezone = \"\"\"{}", "z\n".repeat(100_000))),
    ];
    for (what, text) in bombs {
        let begun = std::time::Instant::now();
        let faults = assemble(&text).expect_err(what);
        let took = begun.elapsed();
        assert!(faults[0].line.is_some(), "{what}: {}", faults[0]);
        assert!(faults.len() <= 60, "{what}: {} faults", faults.len());
        for fault in &faults {
            assert!(fault.message.len() < 600, "{what}: {} has too long a message", fault.code);
        }
        assert!(took.as_secs() < 3, "{what} took {took:?}");
    }
}
