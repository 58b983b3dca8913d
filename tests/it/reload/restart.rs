//! What survives a restart: the last good bundle, whatever the files say meanwhile.

use std::fs;

use channel_orchestrator::bundles::{
    Policies,
    status::{BundleSource, CandidateState},
};

use super::fixture::{Fixture, cost, cost_of, id, options};

async fn stopped(files: &[(&str, &str)]) -> Fixture {
    let mut fixture = Fixture::watching(files).await;
    fixture.stop().await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn case_13_the_last_good_survives_a_restart_with_broken_files() {
    let fixture = stopped(&[("tenants/acme.toml", &cost(7)), ("tenants/beta.toml", &cost(1))]).await;
    let version = fixture.bundle("acme").version().clone();
    fixture.write("tenants/acme.toml", "[weights\ncost = 9");
    fixture.write("tenants/beta.toml", &cost(2));
    let mut fixture = fixture.restart().await;
    assert_eq!((fixture.cost("acme"), fixture.cost("beta")), (Some(7.0), Some(2.0)));
    assert_eq!(
        (fixture.source("acme"), fixture.source("beta")),
        (BundleSource::LastGood, BundleSource::Files)
    );
    assert_eq!(*fixture.bundle("acme").version(), version);
    assert_eq!(fixture.status("acme").candidate.unwrap().state, CandidateState::Rejected);
    // And the watch takes the mended file.
    fixture.watch().await;
    fixture.save("tenants/acme.toml", &cost(8));
    fixture.until_cost("acme", 8).await;
    assert!(fixture.policies.status().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_13_a_tenant_whose_file_vanished_survives_a_restart() {
    let fixture = stopped(&[("tenants/acme.toml", &cost(7)), ("tenants/beta.toml", &cost(1))]).await;
    fixture.remove("tenants/acme.toml");
    let fixture = fixture.restart().await;
    assert_eq!(fixture.cost("acme"), Some(7.0));
    assert_eq!(fixture.status("acme").candidate.unwrap().state, CandidateState::Vanished);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_17_a_missing_root_at_the_start_keeps_every_tenant() {
    let fixture = stopped(&[("tenants/acme.toml", &cost(7))]).await;
    fs::remove_dir_all(&fixture.folder).unwrap();
    let mut fixture = fixture.restart().await;
    assert_eq!((fixture.cost("acme"), fixture.source("acme")), (Some(7.0), BundleSource::LastGood));
    assert!(!fixture.policies.status().ok);
    fixture.policies.reload(channel_orchestrator::bundles::Cause::Request).await;
    fixture.write("tenants/acme.toml", &cost(8));
    fixture.watch().await;
    fixture.until_cost("acme", 8).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_that_is_the_same_after_a_restart_has_the_same_version_and_age() {
    let fixture = stopped(&[("tenants/acme.toml", &cost(7))]).await;
    let before = fixture.status("acme").active.unwrap();
    let fixture = fixture.restart().await;
    let after = fixture.status("acme").active.unwrap();
    assert_eq!(
        (after.version, after.since, after.source),
        (before.version, before.since, BundleSource::Files)
    );
    assert_eq!(fixture.policies.history(&id("acme")).unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_last_good_that_was_tampered_with_is_not_used() {
    let fixture = stopped(&[("tenants/acme.toml", &cost(7)), ("tenants/beta.toml", &cost(1))]).await;
    fixture.write("tenants/acme.toml", "[weights");
    for text in fs::read_dir(fixture.base.path().join("state/bundles/texts")).unwrap() {
        let path = text.unwrap().path();
        if fs::read_to_string(&path).unwrap() == cost(7) {
            fs::write(path, cost(9999)).unwrap();
        }
    }
    let fixture = fixture.restart().await;
    assert_eq!((fixture.cost("acme"), fixture.cost("beta")), (None, Some(1.0)));
    assert!(fixture.status("acme").active.is_none());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_manifest_is_told_and_harms_nobody_else() {
    let fixture = stopped(&[("tenants/acme.toml", &cost(7)), ("tenants/beta.toml", &cost(1))]).await;
    fs::write(fixture.base.path().join("state/bundles/last-good/acme.json"), "{").unwrap();
    fixture.write("tenants/beta.toml", "[weights");
    let policies = Policies::open(options(fixture.base.path(), &fixture.folder)).unwrap();
    assert_eq!((cost_of(&policies, "acme"), cost_of(&policies, "beta")), (Some(7.0), Some(1.0)));
    assert!(policies.status().problems.iter().any(|p| p.code == "last-good-unreadable"));
}
