//! An operator's acts: forget, rollback, history, diff.

use channel_orchestrator::bundles::{
    Cause,
    operate::OperateError,
    status::{BundleSource, CandidateState},
};

use super::fixture::{Fixture, cost, id};

#[tokio::test(flavor = "multi_thread")]
async fn case_17_a_vanished_tenant_keeps_its_bundle_until_it_is_forgotten() {
    let fixture =
        Fixture::watching(&[("tenants/acme.toml", &cost(1)), ("tenants/beta.toml", &cost(1))]).await;
    let there = fixture.policies.forget(&id("acme")).await;
    assert_eq!(there, Err(OperateError::StillThere(id("acme"))));
    fixture.remove("tenants/acme.toml");
    fixture.until_candidate("acme", CandidateState::Vanished).await;
    assert_eq!((fixture.cost("acme"), fixture.source("acme")), (Some(1.0), BundleSource::LastGood));
    fixture.policies.forget(&id("acme")).await.unwrap();
    assert_eq!(fixture.cost("acme"), None);
    assert!(fixture.policies.tenant_status(&id("acme")).is_none() && fixture.policies.status().ok);
    assert_eq!(fixture.policies.forget(&id("acme")).await, Err(OperateError::UnknownTenant(id("acme"))));
    let fixture = fixture.restart().await;
    assert_eq!((fixture.cost("acme"), fixture.cost("beta")), (None, Some(1.0)));
}

/// Saved and reloaded, one after the other.
async fn with_versions(weights: &[u32]) -> Fixture {
    let fixture = Fixture::watching(&[("tenants/acme.toml", "")]).await;
    for weight in weights {
        fixture.save("tenants/acme.toml", &cost(*weight));
        assert!(fixture.policies.reload(Cause::Request).await.ok);
    }
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn an_earlier_version_put_back_stays_until_the_files_change() {
    let mut fixture = with_versions(&[1, 2]).await;
    let history = fixture.policies.history(&id("acme")).unwrap();
    assert_eq!(history.iter().map(|entry| entry.active).collect::<Vec<_>>(), [true, false, false]);
    let first = history[1].version.clone();

    let status = fixture.policies.rollback(&id("acme"), &first[..12]).await.unwrap();
    let active = status.active.unwrap();
    assert_eq!((active.version.as_str(), active.source), (first.as_str(), BundleSource::Rollback));
    assert_eq!(fixture.cost("acme"), Some(1.0));
    // The same files again, by hand and after a restart: they wait.
    fixture.policies.reload(Cause::Request).await;
    assert_eq!((fixture.cost("acme"), fixture.source("acme")), (Some(1.0), BundleSource::Rollback));
    fixture.stop().await;
    let mut fixture = fixture.restart().await;
    assert_eq!((fixture.cost("acme"), fixture.source("acme")), (Some(1.0), BundleSource::Rollback));
    // A changed file ends it.
    fixture.watch().await;
    fixture.save("tenants/acme.toml", &cost(3));
    fixture.until_cost("acme", 3).await;
    assert_eq!(fixture.source("acme"), BundleSource::Files);
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_that_are_not_there_are_refused_with_those_that_are() {
    let fixture = with_versions(&[1]).await;
    let refused = fixture.policies.rollback(&id("acme"), "nope").await;
    let Err(OperateError::UnknownVersion { known, .. }) = refused else { panic!("{refused:?}") };
    assert_eq!(known.len(), 2);
    assert!(matches!(fixture.policies.history(&id("nobody")), Err(OperateError::UnknownTenant(_))));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_difference_shows_the_lines_that_changed() {
    let fixture = with_versions(&[1, 2]).await;
    let history = fixture.policies.history(&id("acme")).unwrap();
    let files = fixture.policies.diff(&id("acme"), &history[1].version, &history[0].version).unwrap();
    assert_eq!(files.len(), 1);
    assert_eq!((files[0].file.as_str(), files[0].change.as_str()), ("tenants/acme.toml", "changed"));
    assert_eq!(files[0].lines, ["@@ line 1", " [weights]", "-cost = 1", "+cost = 2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_versions_are_kept_and_each_once() {
    let weights: Vec<u32> = (1..=24).collect();
    let fixture = with_versions(&weights).await;
    let history = fixture.policies.history(&id("acme")).unwrap();
    assert_eq!(history.len(), 20);
    // Back and forth: the version moves to the front instead of being there twice.
    let earlier = history[3].version.clone();
    fixture.policies.rollback(&id("acme"), &earlier).await.unwrap();
    let history = fixture.policies.history(&id("acme")).unwrap();
    assert_eq!((history.len(), history[0].version.as_str(), history[0].active), (20, earlier.as_str(), true));
}
