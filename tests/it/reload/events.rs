//! Events as a doorbell that may not ring, or never stop ringing: what was saved is found in any case.
//!
//! A queue that overflows is shown on a daemon of its own, in `apart`.

use std::{fs, io::Write as _};

use channel_orchestrator::bundles::Cause;

use super::fixture::{Fixture, cost, cost_of, id, script};

/// How often the folder was looked at for this cause.
fn looks(fixture: &Fixture, cause: Cause) -> u64 {
    let at = Cause::ALL.iter().position(|known| *known == cause).unwrap();
    fixture.policies.counters().counts().looks[at]
}

/// A watch on a folder hears what is written by the names in it, not what is written to the same file by another.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_rings_nothing_is_found_by_the_regular_look() {
    let fixture =
        Fixture::watching(&[("tenants/acme.toml", &cost(1)), ("tenants/beta.toml", &cost(1))]).await;
    let elsewhere = fixture.base.path().join("elsewhere.toml");
    fs::hard_link(fixture.path("tenants/acme.toml"), &elsewhere).unwrap();
    fixture.looks(2).await;
    let (rung, regular) = (looks(&fixture, Cause::Event), looks(&fixture, Cause::Rescan));
    let mut file = fs::OpenOptions::new().write(true).truncate(true).open(&elsewhere).unwrap();
    file.write_all(cost(7).as_bytes()).unwrap();
    drop(file);
    fixture.until_cost("acme", 7).await;
    assert_eq!(looks(&fixture, Cause::Event), rung, "it rang: this shows nothing");
    assert!(looks(&fixture, Cause::Rescan) > regular);
    // One that rings is found for itself, and the silent one is not put back by it.
    fixture.save("tenants/beta.toml", &cost(2));
    fixture.until_cost("beta", 2).await;
    assert_eq!(fixture.cost("acme"), Some(7.0));
}

/// Saves by rename and in place, files that go and come back, a folder that is moved away and back with another in
/// it: what is in force at the end is what lies there, for each of three hundred.
#[tokio::test(flavor = "multi_thread")]
async fn after_a_storm_of_events_what_lies_there_is_in_force_for_everybody() {
    const TENANTS: u32 = 300;
    let names: Vec<String> = (0..TENANTS).map(|n| format!("tenants/t{n}.toml")).collect();
    let text = cost(1);
    let files: Vec<(&str, &str)> = names.iter().map(|name| (name.as_str(), text.as_str())).collect();
    let fixture = Fixture::watching(&files).await;
    let before = fixture.policies.progress().borrow().loads;
    for round in 2..=5 {
        for n in 0..TENANTS {
            let (name, text) = (&names[n as usize], cost(round * 100 + n % 50));
            match (n + round) % 3 {
                0 => fixture.save(name, &text),
                1 => fixture.write(name, &text),
                _ => {
                    fixture.remove(name);
                    fixture.write(name, &text);
                }
            }
        }
        let (here, away) = (fixture.path("tenants"), fixture.path(".moved"));
        fs::rename(&here, &away).unwrap();
        fixture.write(&format!("../moved/t{round}/criteria/cost.rhai"), &script("0.5"));
        let own = fixture.base.path().join(format!("moved/t{round}"));
        fs::rename(own, away.join(format!("t{round}"))).unwrap();
        fs::rename(&away, &here).unwrap();
    }
    fixture
        .until("the last save of everybody is in force", |p| {
            let last = |n: u32| cost_of(p, &format!("t{n}")) == Some(f64::from(500 + n % 50));
            (0..TENANTS).all(last)
        })
        .await;
    let current = fixture.policies.handle().current();
    for round in 2..=5 {
        let file = format!("tenants/t{round}/criteria/cost.rhai");
        let bundle = current.tenant(&id(&format!("t{round}"))).unwrap();
        assert!(bundle.criteria().iter().any(|criterion| criterion.file() == file), "{file}");
    }
    let loads = fixture.policies.progress().borrow().loads - before;
    assert!(loads <= 20, "{loads} loads for twelve hundred saves");
}
