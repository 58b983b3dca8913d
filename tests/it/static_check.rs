//! The static check, as data: a script or a condition, and every fault that it must be refused with.
//!
//! `cases/static_check.toml` holds them; a case lists all faults of its script, as `code line:column` with the
//! words that the message or the hint must hold.

use channel_orchestrator::{
    domain::ids::CriterionName,
    policy::{criterion::Criterion, diagnostic::Diagnostic, strategy::Strategy},
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    script: Option<String>,
    when: Option<String>,
    /// None: it must pass, without a warning.
    #[serde(default)]
    faults: Vec<Fault>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Fault {
    /// `code line:column`, or `code` where the fault is the whole file.
    at: String,
    /// What the message, or the hint, holds.
    says: String,
    /// What stands underlined.
    #[serde(default)]
    under: Option<String>,
}

fn compile(case: &Case) -> Vec<Diagnostic> {
    match (&case.script, &case.when) {
        (Some(script), None) => {
            let name = CriterionName::parse("tried").unwrap();
            match Criterion::compile(name, "criteria/tried.rhai", script) {
                Ok(criterion) => criterion.warnings().to_vec(),
                Err(faults) => faults,
            }
        }
        (None, Some(when)) => Strategy::compile("tried", when).err().unwrap_or_default(),
        _ => panic!("{}: give a script or a condition", case.name),
    }
}

fn place(fault: &Diagnostic) -> String {
    match (fault.line, fault.column) {
        (Some(line), Some(column)) => format!("{} {line}:{column}", fault.code),
        _ => fault.code.clone(),
    }
}

fn underlined(fault: &Diagnostic) -> Option<String> {
    let (excerpt, column, length) = (fault.excerpt.as_ref()?, fault.column?, fault.length?);
    Some(excerpt.chars().skip(column - 1).take(length).collect())
}

fn matches(expected: &Fault, found: &Diagnostic) -> bool {
    let words = format!("{} / {}", found.message, found.hint.as_deref().unwrap_or(""));
    let under = expected.under.is_none() || expected.under == underlined(found);
    expected.at == place(found) && words.contains(&expected.says) && under
}

#[test]
fn every_case_is_refused_with_its_faults_and_no_other() {
    let cases: Cases = toml::from_str(include_str!("cases/static_check.toml")).unwrap();
    let mut wrong = Vec::new();
    for case in &cases.case {
        let found = compile(case);
        let all_found = case.faults.len() == found.len()
            && case.faults.iter().zip(&found).all(|(expected, found)| matches(expected, found));
        if !all_found {
            let found: Vec<String> = found
                .iter()
                .map(|f| {
                    let hint = f.hint.as_deref().unwrap_or("");
                    format!("    {} | {} | {hint} | {:?}", place(f), f.message, underlined(f))
                })
                .collect();
            wrong.push(format!("{}:\n{}", case.name, found.join("\n")));
        }
    }
    assert!(wrong.is_empty(), "{} cases are wrong; found\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_byte_order_mark_and_carriage_returns_are_no_matter() {
    let script = "\u{feff}// Comment\r\nfn score(message, channel) {\r\n    neutral()\r\n}\r\n";
    let name = CriterionName::parse("tried").unwrap();
    let criterion = Criterion::compile(name.clone(), "f", script).unwrap();
    assert!(criterion.warnings().is_empty());

    let broken = "\u{feff}fn score(message, channel) {\r\n    mesage.length\r\n}\r\n";
    let faults = Criterion::compile(name, "f", broken).unwrap_err();
    assert_eq!((faults[0].line, faults[0].column), (Some(2), Some(5)));
    assert_eq!(faults[0].excerpt.as_deref(), Some("    mesage.length"));
}
