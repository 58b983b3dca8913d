//! What one broken file holds up, and what it does not.

use std::{fs, os::unix::fs::symlink};

use channel_orchestrator::bundles::{
    Cause,
    status::{BundleSource, CandidateState, TestTally},
};

use super::fixture::{Fixture, cost, script};

#[tokio::test(flavor = "multi_thread")]
async fn case_12_one_bad_tenant_does_not_hold_up_another() {
    let fixture =
        Fixture::watching(&[("tenants/acme.toml", &cost(1)), ("tenants/beta.toml", &cost(1))]).await;
    fixture.save("tenants/acme.toml", "[weights]\nprefrences = 30\n");
    fixture.save("tenants/beta.toml", &cost(2));
    fixture.until_cost("beta", 2).await;
    fixture.until_candidate("acme", CandidateState::Rejected).await;
    assert_eq!((fixture.cost("acme"), fixture.source("acme")), (Some(1.0), BundleSource::LastGood));
    assert_eq!(fixture.source("beta"), BundleSource::Files);
    let candidate = fixture.status("acme").candidate.unwrap();
    let error = &candidate.errors[0];
    assert_eq!((error.file.as_str(), error.line, error.column), ("tenants/acme.toml", Some(2), Some(1)));
    assert!(format!("{error}").contains("preferences"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_12_a_broken_shared_script_holds_up_its_users_only() {
    let fixture = Fixture::with_scripts(&[
        ("criteria/cost.rhai", &script("0.5")),
        ("tenants/acme.toml", &cost(1)),
        ("tenants/beta.toml", &cost(1)),
        ("tenants/beta/criteria/cost.rhai", &script("0.25")),
    ])
    .await;
    fixture.write("criteria/cost.rhai", "fn score(message, channel) { award(1.0, \"x\")\n");
    fixture.save("tenants/beta.toml", &cost(2));
    fixture.until_cost("beta", 2).await;
    fixture.until_candidate("acme", CandidateState::Rejected).await;
    assert_eq!(fixture.status("beta").candidate, None);
    assert_eq!(fixture.status("acme").candidate.unwrap().errors[0].file, "criteria/cost.rhai");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_14_what_is_mended_comes_in_force() {
    let fixture = Fixture::watching(&[("tenants/acme.toml", "cost = [")]).await;
    // The first load failed, and the watch stands nevertheless.
    assert!(fixture.status("acme").active.is_none() && fixture.status("acme").candidate.is_some());
    fixture.save("tenants/acme.toml", &cost(1));
    fixture.until_cost("acme", 1).await;
    let (generation, since) = (fixture.generation(), fixture.status("acme").active.unwrap().since);
    for _ in 0..2 {
        fixture.save("tenants/acme.toml", "[weights\n");
        fixture.until_candidate("acme", CandidateState::Rejected).await;
        // Back to the very bytes that are in force: no swap, but the refusal is over.
        fixture.save("tenants/acme.toml", &cost(1));
        fixture.until("acme is mended", |p| p.status().ok).await;
        assert_eq!((fixture.generation(), fixture.source("acme")), (generation, BundleSource::Files));
        assert_eq!(fixture.status("acme").active.unwrap().since, since);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_15_a_broken_shared_file_changes_nothing_at_all() {
    let fixture = Fixture::watching(&[
        ("default.toml", default()),
        ("tenants/acme.toml", ""),
        ("tenants/beta.toml", ""),
    ])
    .await;
    let generation = fixture.policies.handle().current();
    fixture.write("default.toml", &default().replace("base = 50", "base = 50\nbse = 50"));
    for tenant in ["acme", "beta"] {
        fixture.until_candidate(tenant, CandidateState::Rejected).await;
        assert_eq!(fixture.status(tenant).candidate.unwrap().errors[0].file, "default.toml");
    }
    assert!(std::sync::Arc::ptr_eq(&generation, &fixture.policies.handle().current()));
}

fn default() -> &'static str {
    include_str!("../../../policies/default.toml")
}

#[tokio::test(flavor = "multi_thread")]
async fn case_16_a_refused_reload_says_refused_and_never_success() {
    let fixture =
        Fixture::watching(&[("tenants/acme.toml", &cost(1)), ("tenants/beta.toml", &cost(1))]).await;
    let before = fixture.policies.counters().counts();
    fixture.save("tenants/acme.toml", "[weights]\ncost = \"much\"\n");
    fixture.save("tenants/beta.toml", &cost(2));
    let report = fixture.policies.reload(Cause::Request).await;
    assert!(!report.ok && !report.status.ok);
    assert_eq!(fixture.cost("beta"), Some(2.0));
    let acme = report.status.tenants.iter().find(|t| t.tenant == "acme").unwrap();
    assert_eq!(acme.candidate.as_ref().unwrap().errors[0].line, Some(2));
    let after = fixture.policies.counters().counts();
    assert!(after.rejected > before.rejected);
    assert_eq!(after.last_success, before.last_success);
    // Asked again with nothing mended, the answer is the same.
    assert!(!fixture.policies.reload(Cause::Request).await.ok);
    fixture.save("tenants/acme.toml", &cost(3));
    let report = fixture.policies.reload(Cause::Signal).await;
    assert!(report.ok && fixture.cost("acme") == Some(3.0), "{report:#?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn case_18_a_removed_override_takes_effect() {
    let fixture = Fixture::with_scripts(&[
        ("criteria/cost.rhai", &script("0.5")),
        ("criteria/extra.rhai", &script("0.5")),
        ("tenants/acme.toml", &cost(1)),
        ("tenants/acme/criteria/cost.rhai", &script("0.25")),
    ])
    .await;
    let file = |fixture: &Fixture| {
        let bundle = fixture.bundle("acme");
        let cost = bundle.criteria().iter().find(|c| c.name().as_str() == "cost");
        cost.map(|criterion| criterion.file().to_owned())
    };
    assert_eq!(file(&fixture).as_deref(), Some("tenants/acme/criteria/cost.rhai"));
    fixture.remove("tenants/acme/criteria/cost.rhai");
    fixture
        .until("the shared script is back", |p| {
            let current = p.handle().current();
            let bundle = current.tenant(&super::fixture::id("acme")).unwrap();
            bundle.criteria().iter().any(|c| c.file() == "criteria/cost.rhai")
        })
        .await;
    fixture.remove("criteria/extra.rhai");
    fixture
        .until("the tenth criterion is gone", |p| {
            let current = p.handle().current();
            current
                .tenant(&super::fixture::id("acme"))
                .unwrap()
                .criteria()
                .iter()
                .all(|c| c.name().as_str() != "extra")
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_19_a_tenant_that_changes_one_key_keeps_every_other_default() {
    let fixture = Fixture::watching(&[("tenants/plain.toml", ""), ("tenants/acme.toml", &cost(1))]).await;
    let (plain, acme) = (fixture.bundle("plain"), fixture.bundle("acme"));
    let mut expected = plain.policy().clone();
    expected.weights.insert("cost".parse_name(), 1.0);
    assert_eq!(*acme.policy(), expected);
}

trait ParseName {
    fn parse_name(&self) -> channel_orchestrator::domain::ids::CriterionName;
}

impl ParseName for str {
    fn parse_name(&self) -> channel_orchestrator::domain::ids::CriterionName {
        channel_orchestrator::domain::ids::CriterionName::parse(self).unwrap()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn unreadable_files_are_refused_at_once_and_the_last_good_stays() {
    let fixture = Fixture::watching(&[
        ("tenants/acme.toml", &cost(1)),
        ("tenants/beta.toml", &cost(1)),
        ("tenants/gamma.toml", &cost(1)),
    ])
    .await;
    fixture.remove("tenants/acme.toml");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        fixture.path("tenants/acme.toml"),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::from_raw_mode(0o644),
        0,
    )
    .unwrap();
    fixture.remove("tenants/beta.toml");
    symlink("/etc/hostname", fixture.path("tenants/beta.toml")).unwrap();
    fs::File::create(fixture.path("tenants/gamma.toml")).unwrap().set_len(4 << 30).unwrap();
    for (tenant, code) in [("acme", "no-regular-file"), ("beta", "link-out"), ("gamma", "too-big")] {
        fixture.until_candidate(tenant, CandidateState::Rejected).await;
        let candidate = fixture.status(tenant).candidate.unwrap();
        assert!(candidate.errors.iter().any(|error| error.code == code), "{candidate:?}");
        assert_eq!(fixture.cost(tenant), Some(1.0));
    }
    assert_eq!(fixture.policies.status().problems, []);
}

const TESTS: &str = r#"
[[test]]
name = "urgent goes by SMS"
tenant = "acme"
context = { prospectPhone = "0612345678", prospectEmail = "a@example.com", priority = { level = "urgent" } }
content = { body = "x" }
expect = { channel = "sms" }

[[test]]
name = "plain goes by email"
tenant = "beta"
context = { prospectPhone = "0612345678", prospectEmail = "a@example.com" }
content = { body = "x" }
expect = { channel = "email" }

[[test]]
name = "of nobody"
tenant = "nobody"
content = { body = "x" }
expect = { channel = "none" }

[[test]]
name = "of nobody either"
tenant = "nobody"
content = { body = "x" }
expect = { channel = "none" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn a_failing_policy_test_gates_the_tenant_that_it_names_and_no_other() {
    let fixture =
        Fixture::watching(&[("tenants/acme.toml", ""), ("tenants/beta.toml", ""), ("tests/t.toml", TESTS)])
            .await;
    let status = fixture.policies.status();
    assert!(status.ok, "{status:#?}");
    // Of two tests that name nobody, one remark.
    let nobody: Vec<_> = status.problems.iter().filter(|p| p.code == "no-such-tenant").collect();
    assert!(nobody.len() == 1 && nobody[0].line == Some(16), "{status:#?}");
    assert!(nobody[0].message.contains("2 tests") && nobody[0].hint.is_some(), "{nobody:?}");
    assert_eq!(fixture.status("acme").active.unwrap().tests, TestTally { passed: 1, failed: 0 });

    // Urgency weighs nothing: the urgent message goes by email, which acme's test does not accept.
    fixture.save("tenants/acme.toml", "[weights]\nurgency = 0\n");
    fixture.save("tenants/beta.toml", "[weights]\nurgency = 0\n");
    fixture.until_candidate("acme", CandidateState::Rejected).await;
    let errors = fixture.status("acme").candidate.unwrap().errors;
    assert_eq!(
        (errors[0].code.as_str(), errors[0].file.as_str(), errors[0].line),
        ("test-failed", "tests/t.toml", Some(2))
    );
    assert!(errors[0].message.contains("expected channel sms, got email"), "{errors:?}");
    assert!(errors[0].hint.as_ref().unwrap().contains("points"), "{errors:?}");
    assert_eq!(fixture.status("beta").candidate, None);

    // The expectation is mended, not the policy: that counts as a change of the tenant too.
    fixture.save(
        "tests/t.toml",
        &TESTS.replace("expect = { channel = \"sms\" }", "expect = { channel = \"email\" }"),
    );
    fixture.until("acme is in force", |p| p.status().ok).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_test_file_holds_up_the_tenants_that_it_names() {
    let fixture = Fixture::watching(&[
        ("tenants/acme.toml", &cost(1)),
        ("tenants/beta.toml", &cost(1)),
        ("tenants/gamma.toml", &cost(1)),
        ("tests/t.toml", TESTS),
    ])
    .await;
    fixture.write(
        "tests/t.toml",
        &TESTS.replacen("content = { body = \"x\" }\nexpect = { channel = \"none\" }", "content = {", 1),
    );
    for tenant in ["acme", "beta"] {
        fixture.until_candidate(tenant, CandidateState::Rejected).await;
        let errors = fixture.status(tenant).candidate.unwrap().errors;
        assert_eq!(errors[0].file, "tests/t.toml");
        assert!(errors.iter().all(|error| error.hint.is_some()), "{errors:?}");
    }
    assert_eq!(fixture.status("gamma").candidate, None);
}
