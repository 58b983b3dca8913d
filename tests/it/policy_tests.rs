//! The shipped policies hold their own tests, and the offline report says which reasons none produced.

use std::path::{Path, PathBuf};

use channel_orchestrator::{
    bundles::offline::{check_folder, run_tests},
    domain::ids::TenantId,
    policy::assemble::PolicyEnvironment,
};

fn shipped() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("policies")
}

#[test]
fn the_shipped_policies_pass_their_own_tests() {
    let report = run_tests(&shipped(), PolicyEnvironment::default(), None);
    let failed: Vec<_> = report.tests.iter().filter(|test| !test.passed).collect();
    assert!(report.ok, "{failed:#?}\n{:#?}", report.problems);
    assert!(report.tests.len() >= 25, "{}", report.tests.len());
    let checked = check_folder(&shipped(), PolicyEnvironment::default(), None);
    assert!(checked.ok, "{checked:#?}");
    assert!(checked.tenants.iter().all(|tenant| tenant.warnings.is_empty()), "{checked:#?}");
    assert_eq!(checked.problems, []);
}

#[test]
fn the_shipped_tests_produce_every_reason() {
    let report = run_tests(&shipped(), PolicyEnvironment::default(), None);
    assert_eq!(report.coverage.uncovered, []);
    assert!(report.coverage.total > 20, "{}", report.coverage.total);
    assert_eq!(report.coverage.covered, report.coverage.total);
}

#[test]
fn reports_are_camel_case_json_and_filter_by_tenant() {
    let tenant = TenantId::parse("tenant_123").unwrap();
    let report = run_tests(&shipped(), PolicyEnvironment::default(), Some(&tenant));
    let json = serde_json::to_value(&report).unwrap();
    assert_eq!(json["failed"], 0);
    assert_eq!(json["tests"][0]["tenant"], "tenant_123");
    assert!(json["coverage"]["total"].as_u64() > Some(0));
    let nobody = TenantId::parse("nobody").unwrap();
    let report = check_folder(&shipped(), PolicyEnvironment::default(), Some(&nobody));
    assert!(!report.ok);
    assert!(report.problems.iter().any(|p| p.code == "no-such-tenant" && p.file == "tenants/nobody.toml"));
}

#[test]
fn a_failed_test_names_each_ground_once() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    };
    let availability = std::fs::read_to_string(shipped().join("criteria/availability.rhai")).unwrap();
    file("criteria/availability.rhai", &availability);
    file("default.toml", "[weights]\navailability = 0\n");
    file("tenants/acme.toml", "");
    let test = "[[test]]\nname = \"no\"\ntenant = \"acme\"\nexpect = { channel = \"sms\" }\n";
    file("tests/t.toml", &format!("{test}[test.context]\nprospectId = \"p\"\n"));
    let report = run_tests(folder.path(), PolicyEnvironment::default(), None);
    let told = serde_json::to_value(&report).unwrap();
    let channels = told["tests"][0]["decision"]["explanation"]["channels"].as_array().unwrap();
    let grounds = |channel: &str| -> Vec<String> {
        let found = channels.iter().find(|c| c["channel"] == channel).unwrap();
        let gates = found["gates"].as_array().unwrap().iter();
        gates.map(|gate| gate["reason"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(grounds("telegram"), ["Contact info not available"]);
    assert_eq!(grounds("sms"), ["Contact info not available", "there is no text for an SMS"]);
}
