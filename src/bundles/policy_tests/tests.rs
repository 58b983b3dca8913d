//! Faults in test files, each with its place. Running tests is covered with whole folders in `tests/it`.

use super::*;
use crate::policy::assemble::SourceFile;

fn parsed(text: &str) -> TestFile {
    parse_file(&SourceFile::new("tests/t.toml", text))
}

fn faults(text: &str) -> Vec<(Option<String>, String, Option<usize>)> {
    let told = |(tenant, fault): &(Option<TenantId>, Diagnostic)| {
        (tenant.as_ref().map(ToString::to_string), fault.code.clone(), fault.line)
    };
    parsed(text).faults.iter().map(told).collect()
}

const GOOD: &str = r#"
[[test]]
name = "at night by email"
tenant = "acme"
at = 2025-11-14T23:00:00+01:00
context = { prospectPhone = "06 12 34 56 78", prospectEmail = "a@example.com", messageType = "appointment" }
content = { body = "Hello" }
expect = { channel = "email", alternatives = ["sms"], excluded = "telegram", held = { sms = "08:00" }, confidence = 0.75, reasons = ["Email"] }
"#;

#[test]
fn a_whole_test_is_read() {
    let read = parsed(GOOD);
    assert!(read.faults.is_empty(), "{:?}", read.faults);
    let test = &read.tests[0];
    assert_eq!((test.line, test.excerpt.as_str()), (2, "[[test]]"));
    assert_eq!(test.at.to_rfc3339(), "2025-11-14T22:00:00+00:00");
    assert_eq!(test.expect.channel, Some(Some(Channel::Email)));
    assert_eq!(test.expect.excluded, [Channel::Telegram]);
    let eight = NaiveTime::from_hms_opt(8, 0, 0).unwrap();
    assert_eq!(test.expect.held, [(Some(Channel::Sms), Held::UntilTime(eight))]);
    assert_eq!(read.tenants, [TenantId::parse("acme").unwrap()]);
}

#[test]
fn a_test_without_a_time_has_a_fixed_one() {
    let read = parsed(&GOOD.replace("at = 2025-11-14T23:00:00+01:00\n", ""));
    assert_eq!(read.tests[0].at, DEFAULT_AT.parse::<DateTime<Utc>>().unwrap());
}

#[test]
fn every_fault_is_told_at_once_with_its_line_and_tenant() {
    let acme = || Some("acme".to_owned());
    let told = faults(
        r#"
[[test]]
name = "a"
tenant = "acme"
context = { prospectPhon = "x", messageType = "apointment" }
content = { body = "x" }
expect = { chanel = "sms" }

[[test]]
name = "b"
tenant = "acme"
content = { body = "x" }

[[test]]
name = "c"
tennant = "acme"
expect = { channel = "smss", held = 5, confidence = 7, reasons = [1] }
"#,
    );
    for expected in [
        (acme(), "bad-request".to_owned(), Some(5)),
        (acme(), "unknown-key".to_owned(), Some(7)),
        (acme(), "no-expectation".to_owned(), Some(9)),
        (None, "unknown-key".to_owned(), Some(16)),
        (None, "missing-key".to_owned(), Some(14)),
        (None, "bad-channel".to_owned(), Some(17)),
        (None, "bad-hold".to_owned(), Some(17)),
        (None, "bad-confidence".to_owned(), Some(17)),
        (None, "bad-reason".to_owned(), Some(17)),
    ] {
        assert!(told.contains(&expected), "{expected:?} not in {told:#?}");
    }
    assert!(parsed("[[test]]").tests.is_empty());
}

#[test]
fn every_fault_says_how_to_mend_it() {
    let cases = [
        ("[[test]]\nname = \"a\"\ntenant = \"acme\"\ncontent = {\n", "syntax"),
        ("[[test]]\nname = \"unclosed\ntenant = \"acme\"\n", "syntax"),
        ("[[test]\n", "syntax"),
        ("[[test]]\nname = a\n", "syntax"),
        ("test = 1\n", "wrong-type"),
        ("test = [1]\n", "wrong-type"),
        ("tests = 1\n", "unknown-key"),
        ("[[test]]\nname = 1\n", "wrong-type"),
        ("[[test]]\nname = \"a\"\ntenant = \"../b\"\n", "bad-tenant"),
        ("[[test]]\nname = \"a\"\ntenant = \"acme\"\nexpect = 1\n", "wrong-type"),
        ("[[test]]\nname = \"a\"\ntenant = \"acme\"\ncontent = 1\n", "bad-request"),
        ("[[test]]\nname = \"a\"\ntenant = \"acme\"\nat = \"noon\"\n", "bad-request"),
        ("[[test]]\nexpect = { channel = 1, held = 5, confidence = 7, reasons = [1] }\n", "bad-reason"),
    ];
    for (text, code) in cases {
        let faults = parsed(text).faults;
        assert!(faults.iter().any(|(_, fault)| fault.code == code), "{text:?}: {faults:#?}");
        for (_, fault) in faults {
            assert!(fault.hint.as_ref().is_some_and(|hint| hint.len() > 8), "{text:?}: {fault:#?}");
        }
    }
    let latin = parse_file(&SourceFile::new("tests/t.toml", b"name = \"\xe9\"".to_vec()));
    assert!(latin.faults[0].1.hint.as_ref().unwrap().contains("UTF-8"), "{:?}", latin.faults);
}

#[test]
fn a_file_that_is_no_toml_holds_up_the_tenants_that_it_names() {
    let told = faults("[[test]]\ntenant = \"acme\" # who\nname = \"unclosed\nexpect = {}\n");
    assert!(!told.is_empty());
    assert!(
        told.iter().all(|(tenant, code, _)| tenant.as_deref() == Some("acme") && code == "syntax"),
        "{told:?}"
    );
    assert!(faults("= 1").iter().all(|(tenant, ..)| tenant.is_none()));
}

#[test]
fn a_context_of_another_tenant_is_a_fault() {
    let told = faults(&GOOD.replace("context = { ", "context = { tenantId = \"other\", "));
    assert_eq!(told, [(Some("acme".to_owned()), "tenant-differs".to_owned(), Some(6))]);
}
