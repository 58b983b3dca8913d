//! Files with faults: `cases/templates.toml` says what is told of each, where, and how to mend it.

use std::path::Path;

use channel_orchestrator::policy::diagnostic::Diagnostic;
use serde::Deserialize;

use super::compile;

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    text: String,
    #[serde(default)]
    errors: Vec<[String; 3]>,
    #[serde(default)]
    warnings: Vec<[String; 3]>,
}

/// What differs from what is expected, in words.
fn compare(name: &str, mut found: Vec<Diagnostic>, expected: &[[String; 3]]) -> Vec<String> {
    found.sort_by_key(|fault| (fault.line, fault.column));
    let told: Vec<String> = found.iter().map(|fault| format!("[{}] {fault}", fault.code)).collect();
    let mut differs = Vec::new();
    for (at, [code, place, words]) in expected.iter().enumerate() {
        let fits = found.get(at).is_some_and(|fault| {
            let at = format!("{}:{}", fault.line.unwrap_or(0), fault.column.unwrap_or(0));
            let there = match place.split_once('*') {
                Some((start, _)) => at.starts_with(start),
                None => at == *place,
            };
            there && fault.code == *code && fault.to_string().contains(words.as_str())
        });
        if !fits {
            differs.push(format!("expected {code} at {place} with {words:?}"));
        }
    }
    for fault in &found {
        let line = fault.excerpt.as_deref().unwrap_or_default();
        if fault.column.is_none_or(|column| column > line.chars().count() + 1) {
            differs.push(format!("{fault} points nowhere in {line:?}"));
        }
    }
    if found.len() == expected.len() && differs.is_empty() {
        return Vec::new();
    }
    vec![format!("{name}: {}; told:\n  {}", differs.join("; "), told.join("\n  "))]
}

#[test]
fn every_fault_is_told_at_its_place_with_its_mend() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/cases/templates.toml");
    let cases: Cases = toml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap();
    assert!(cases.case.len() > 10);
    let mut differs = Vec::new();
    for case in cases.case {
        let (errors, warnings) = match compile("T", &case.text) {
            Ok(template) => (Vec::new(), template.warnings().to_vec()),
            Err(errors) => (errors, Vec::new()),
        };
        differs.extend(compare(&case.name, errors, &case.errors));
        differs.extend(compare(&case.name, warnings, &case.warnings));
    }
    assert!(differs.is_empty(), "{}", differs.join("\n"));
}

#[test]
fn what_takes_too_long_or_too_much_is_refused() {
    let loops = format!("{}x{}", "{% for a in list %}".repeat(4), "{% endfor %}".repeat(4));
    let items = vec!["1"; 40].join(", ");
    let text = format!("variables = [\"list\"]\n[example]\nlist = [{items}]\n[fr.sms]\ntext = \"{loops}\"\n");
    let faults = compile("T", &text).unwrap_err();
    assert!(faults[0].message.contains("50000 steps"), "{faults:#?}");

    let (items, long) = (vec!["1"; 900].join(", "), "x".repeat(400));
    let text = format!(
        "variables = [\"list\"]\n[example]\nlist = [{items}]\n[fr.sms]\ntext = \"{{% for a in list %}}{long}{{% endfor %}}\"\n"
    );
    let faults = compile("T", &text).unwrap_err();
    assert!(faults[0].message.contains("256 KiB"), "{faults:#?}");
}

/// TOML bombs and odd bytes end in a fault, soon.
#[test]
fn odd_files_end_in_a_fault() {
    for text in [
        "\u{feff}variables = []\n[fr.sms]\ntext = \"x\"\n".to_owned(),
        "a = [".repeat(10_000),
        (0..20_000).map(|n| format!("k{n} = 1\n")).collect(),
        format!("variables = [{}]\n[fr.sms]\ntext = \"x\"", "\"a\", ".repeat(20_000)),
        format!("[fr.sms]\ntext = \"{}\"", "{{".repeat(40_000)),
        format!("[fr.sms]\ntext = \"{}\"", "{% if a %}".repeat(10_000)),
        format!("[fr.sms]\ntext = \"{{{{ {} }}}}\"", "(".repeat(20_000)),
    ] {
        match compile("T", &text) {
            Ok(template) => assert_eq!(template.locales().collect::<Vec<_>>(), ["fr"]),
            Err(faults) => assert!(!faults.is_empty() && faults.iter().all(Diagnostic::is_error)),
        }
    }
}
