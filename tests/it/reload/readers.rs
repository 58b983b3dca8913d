//! Decisions beside reloads (case 25): nothing is shared that one could wait for, and each is made by one version.

use std::{
    collections::BTreeSet,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
};

use channel_orchestrator::{
    bundles::{Cause, PolicyHandle},
    decide::{DecisionInput, decide},
    domain::{
        address::{Reach, read_contacts},
        decision::Decision,
        facts::Facts,
        question::Question,
        time::Clock,
    },
    policy::template::Words,
    request::{Purpose, parse},
};

use super::fixture::{Fixture, id, script, weight};

const READERS: usize = 4;
/// Each reader makes more than this many decisions while one reload runs. Waiting for it, it could make one.
const BESIDE: u64 = 5;

/// A policy whose version, weight and script say the same number: `cost` weighs `n`, and gives share `n / 100`.
fn files(n: u32) -> [(&'static str, String); 2] {
    [("tenants/acme.toml", super::fixture::cost(n)), ("criteria/cost.rhai", script(&format!("0.{n:02}")))]
}

struct Reader {
    made: Arc<Vec<AtomicU64>>,
    stop: Arc<AtomicBool>,
    handle: PolicyHandle,
}

impl Reader {
    /// Decides until it is told to stop; the versions that it saw.
    fn run(self, number: usize) -> BTreeSet<String> {
        let body = r#"{"context": {"tenantId": "acme", "prospectId": "p", "prospectPhone": "0612345678",
            "prospectEmail": "a@example.com"}, "content": {"body": "x"}}"#;
        let asked = parse(body.as_bytes(), Purpose::Explain).unwrap();
        let facts = Facts::default();
        let at = channel_orchestrator::domain::time::SystemClock.now();
        let words = Words::plain(&asked.request.content);
        let mut versions = BTreeSet::new();
        while !self.stop.load(Ordering::Relaxed) {
            let generation = self.handle.current();
            let bundle = generation.tenant(&id("acme")).unwrap();
            let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
            let input = DecisionInput {
                question: Question::of(&asked.request),
                reach: Reach::of(&contacts),
                words: &words,
                facts: &facts,
                at,
                variant: None,
                generation: generation.number,
            };
            let decision = decide(bundle, &input);
            assert_eq!(decision.policy_version, *bundle.version());
            assert_of_one_version(&decision, weight(bundle).unwrap());
            versions.insert(decision.policy_version.to_string());
            self.made[number].fetch_add(1, Ordering::Relaxed);
        }
        versions
    }
}

/// Weight (from the TOML) and share (from the script) belong together on every channel.
fn assert_of_one_version(decision: &Decision, n: f64) {
    for channel in &decision.channels {
        let cost = channel.criteria.iter().find(|c| c.criterion.as_str() == "cost").unwrap();
        assert_eq!(cost.error, None);
        assert_eq!(cost.weight, n);
        assert!((cost.share - n / 100.0).abs() < 1e-9, "weight {n} with share {}", cost.share);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn case_25_decisions_go_on_while_policies_are_swapped_each_by_one_version() {
    let first = files(10);
    let first: Vec<(&str, &str)> = first.iter().map(|(path, text)| (*path, text.as_str())).collect();
    let fixture = Fixture::with_scripts(&first).await;
    let made: Arc<Vec<AtomicU64>> = Arc::new((0..READERS).map(|_| AtomicU64::new(0)).collect());
    let stop = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..READERS)
        .map(|number| {
            let (made, stop, handle) = (Arc::clone(&made), Arc::clone(&stop), fixture.policies.handle());
            thread::spawn(move || Reader { made, stop, handle }.run(number))
        })
        .collect();
    let count = || -> Vec<u64> { made.iter().map(|n| n.load(Ordering::Relaxed)).collect() };

    let mut unhindered = 0;
    for n in 11..21 {
        let before = count();
        for (path, text) in files(n) {
            fixture.save(path, &text);
        }
        let report = fixture.policies.reload(Cause::Request).await;
        let after = count();
        assert!(report.ok, "{report:#?}");
        fixture.until_cost("acme", n).await;
        unhindered += usize::from(before.iter().zip(&after).all(|(before, after)| after - before > BESIDE));
    }
    stop.store(true, Ordering::Relaxed);
    let mut versions = BTreeSet::new();
    for reader in readers {
        versions.extend(reader.join().unwrap());
    }
    // A machine that is busy with other things may let a reader starve through one reload, never through most.
    assert!(unhindered >= 5, "readers went on beside {unhindered} of 10 reloads");
    assert!(versions.len() >= 5, "{} versions were seen", versions.len());
}
