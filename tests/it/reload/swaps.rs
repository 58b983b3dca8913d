//! The folder swapped, linked, deleted and made anew under the watch.

use std::{
    fs,
    os::unix::fs::symlink,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use channel_orchestrator::bundles::{
    Cause, OpenError, Policies,
    status::{BundleSource, CandidateState},
};

use super::fixture::{Fixture, cost, id, options, weight, write, write_all};

/// Lays a ConfigMap mount: files are links into `..data`, which links to a folder of its own for each version.
fn lay_config_map(fixture: &Fixture, version: u32) {
    let data = fixture.path(&format!("..version_{version}"));
    write(&data.join("acme.toml"), &cost(version));
    write(&data.join("beta.toml"), &cost(version));
    let staged = fixture.path("..data_tmp");
    symlink(format!("..version_{version}"), &staged).unwrap();
    fs::rename(staged, fixture.path("..data")).unwrap();
    let _ = fs::remove_dir_all(fixture.path(&format!("..version_{}", version - 1)));
}

async fn config_map() -> Fixture {
    let fixture = Fixture::watching(&[("tenants/.keep", "")]).await;
    lay_config_map(&fixture, 1);
    for tenant in ["acme", "beta"] {
        symlink(format!("../..data/{tenant}.toml"), fixture.path(&format!("tenants/{tenant}.toml"))).unwrap();
    }
    fixture.until_cost("acme", 1).await;
    fixture
}

#[tokio::test(flavor = "multi_thread")]
async fn case_2_a_config_map_swap_is_seen_every_time() {
    let fixture = config_map().await;
    for version in 2..5 {
        lay_config_map(&fixture, version);
        fixture.until_cost("acme", version).await;
        assert_eq!(fixture.cost("beta"), Some(f64::from(version)));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_3_and_22_a_link_swap_above_the_root_is_seen_without_any_event() {
    let base = tempfile::tempdir().unwrap();
    for (release, weight) in [("one", 1), ("two", 2), ("three", 3)] {
        write_all(base.path(), &[(&format!("{release}/tenants/acme.toml"), &cost(weight))]);
    }
    let current = base.path().join("current");
    symlink("one", &current).unwrap();
    let mut fixture = Fixture::open(base, current.clone());
    fixture.watch().await;
    for (release, weight) in [("two", 2), ("three", 3)] {
        let staged = fixture.base.path().join("staged");
        symlink(release, &staged).unwrap();
        fs::rename(staged, &current).unwrap();
        fixture.until_cost("acme", weight).await;
    }
    // The new root is watched, not only looked at.
    let watches = fixture.policies.counters().counts().watches;
    assert!(watches >= 3, "{watches} watches");
    fixture.save("tenants/acme.toml", &cost(4));
    fixture.until_cost("acme", 4).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_8_a_deleted_and_remade_root_is_watched_again() {
    let fixture = Fixture::watching(&[("tenants/acme.toml", &cost(1))]).await;
    for weight in [2, 4] {
        fs::remove_dir_all(&fixture.folder).unwrap();
        write(&fixture.path("tenants/acme.toml"), &cost(weight));
        fixture.until_cost("acme", weight).await;
        fixture.save("tenants/acme.toml", &cost(weight + 1));
        fixture.until_cost("acme", weight + 1).await;
    }
    assert!(fixture.policies.counters().counts().watches >= 2);
    assert_eq!(fixture.source("acme"), BundleSource::Files);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_8_a_root_renamed_away_and_back_keeps_the_last_good() {
    let fixture = Fixture::watching(&[("tenants/acme.toml", &cost(1))]).await;
    let away = fixture.base.path().join("away");
    fs::rename(&fixture.folder, &away).unwrap();
    fixture.until_candidate("acme", CandidateState::Vanished).await;
    assert_eq!(fixture.cost("acme"), Some(1.0));
    assert!(fixture.policies.status().problems.iter().any(|p| p.code == "folder-missing"));
    fs::rename(&away, &fixture.folder).unwrap();
    fixture.until("acme is back", |p| p.status().ok).await;
    fixture.save("tenants/acme.toml", &cost(2));
    fixture.until_cost("acme", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn case_17_an_emptied_root_keeps_every_tenant_and_says_so() {
    let fixture =
        Fixture::watching(&[("tenants/acme.toml", &cost(1)), ("tenants/beta.toml", &cost(2))]).await;
    fs::remove_dir_all(fixture.path("tenants")).unwrap();
    for tenant in ["acme", "beta"] {
        fixture.until_candidate(tenant, CandidateState::Vanished).await;
        assert_eq!(fixture.source(tenant), BundleSource::LastGood);
        let candidate = fixture.status(tenant).candidate.unwrap();
        assert!(candidate.errors[0].hint.as_ref().unwrap().contains("policies forget"), "{candidate:?}");
    }
    assert_eq!((fixture.cost("acme"), fixture.cost("beta")), (Some(1.0), Some(2.0)));
    assert!(!fixture.policies.status().ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn case_20_a_reader_never_mixes_two_generations() {
    let fixture = config_map().await;
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (stop, handle) = (Arc::clone(&stop), fixture.policies.handle());
            std::thread::spawn(move || {
                let (mut reads, mut last) = (0_u64, 0);
                while !stop.load(Ordering::Relaxed) {
                    let generation = handle.current();
                    let both = (generation.tenant(&id("acme")), generation.tenant(&id("beta")));
                    let (Some(acme), Some(beta)) = both else { panic!("a tenant is missing") };
                    assert_eq!(weight(acme), weight(beta));
                    assert!(generation.number >= last, "a generation came back");
                    last = generation.number;
                    reads += 1;
                }
                reads
            })
        })
        .collect();
    for version in 2..8 {
        lay_config_map(&fixture, version);
        assert!(fixture.policies.reload(Cause::Request).await.ok);
        assert_eq!(fixture.cost("acme"), Some(f64::from(version)));
    }
    stop.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.join().unwrap() > 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_26_a_request_in_flight_ends_on_the_bundle_that_it_began_with() {
    let fixture = Fixture::watching(&[("tenants/acme.toml", &cost(1))]).await;
    let generation = fixture.policies.handle().current();
    fixture.save("tenants/acme.toml", &cost(2));
    fixture.until_cost("acme", 2).await;
    let began_with = generation.tenant(&id("acme")).unwrap();
    assert_eq!(weight(began_with), Some(1.0));
    assert_ne!(began_with.version(), fixture.bundle("acme").version());
}

#[test]
fn a_folder_that_never_was_is_an_explained_refusal() {
    let base = tempfile::tempdir().unwrap();
    let refused = Policies::open(options(base.path(), &base.path().join("policies")));
    let Err(error @ OpenError::NoFolder { .. }) = refused else { panic!("opened") };
    assert!(error.to_string().contains("ORCHESTRATOR_POLICIES"), "{error}");
}

#[test]
fn a_state_directory_inside_the_folder_is_refused() {
    let base = tempfile::tempdir().unwrap();
    fs::create_dir(base.path().join("state")).unwrap();
    let refused = Policies::open(options(base.path(), base.path()));
    assert!(matches!(refused, Err(OpenError::StateInside { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_without_tenants_is_an_explained_state() {
    let fixture = Fixture::watching(&[("tenants/.keep", "")]).await;
    let status = fixture.policies.status();
    assert!(status.ok && status.problems.iter().any(|p| p.code == "no-tenants"), "{status:#?}");
    fixture.write("tenants/acme.toml", "");
    fixture.until_cost("acme", 20).await;
    assert!(fixture.policies.status().problems.is_empty());
}
