//! What shuts a credential, what opens it again, and who may try meanwhile.

use super::*;

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_800_000_000 + seconds, 0).unwrap()
}

fn accepted() -> Outcome {
    Outcome::Accepted { provider_message_id: None, cost: None }
}

fn failed(class: ErrorClass) -> Outcome {
    Outcome::failed(class, "so it was")
}

/// Makes a call that ends so; whether it was let through.
fn call(breakers: &Arc<Breakers>, outcome: &Outcome, seconds: i64) -> bool {
    match breakers.permit("main", Some("AGENCE"), at(seconds)) {
        Ok(mut permit) => {
            permit.report(outcome, at(seconds));
            true
        }
        Err(_) => false,
    }
}

fn waits(breakers: &Arc<Breakers>, seconds: i64) -> Option<i64> {
    let refused = breakers.permit("main", Some("AGENCE"), at(seconds)).err()?;
    Some((refused.until - at(0)).num_seconds())
}

#[test]
fn half_of_twenty_calls_failing_shuts_it_and_a_probe_opens_it() {
    for class in [ErrorClass::Temporary, ErrorClass::NotSent, ErrorClass::Unknown] {
        let breakers = Arc::<Breakers>::default();
        for _ in 0..10 {
            assert!(call(&breakers, &accepted(), 0));
        }
        for _ in 0..9 {
            assert!(call(&breakers, &failed(class), 1));
        }
        assert_eq!(breakers.down("main", None, at(1)), None, "19 calls do not tell");
        assert!(call(&breakers, &failed(class), 1));
        assert_eq!(waits(&breakers, 1), Some(11));
        assert!(breakers.down("main", None, at(2)).is_some_and(|why| why.contains("failing")));
        assert!(breakers.permit("other", None, at(2)).is_ok(), "another credential is not concerned");
        // One probe at a time; the next waits for it.
        let mut probe = breakers.permit("main", None, at(11)).unwrap();
        assert_eq!(waits(&breakers, 11), Some(16));
        probe.report(&accepted(), at(12));
        assert_eq!((waits(&breakers, 12), breakers.shut()), (None, vec![]));
    }
}

/// A circuit that was shut for ten seconds, and whose probe has just come through.
fn reopened() -> Arc<Breakers> {
    let breakers = Arc::<Breakers>::default();
    for _ in 0..20 {
        call(&breakers, &failed(ErrorClass::NotSent), 0);
    }
    assert!(call(&breakers, &accepted(), 10));
    breakers
}

#[test]
fn calls_come_back_by_a_ramp() {
    let breakers = reopened();
    let admitted: Vec<usize> =
        (10..20).map(|second| (0..5_000).filter(|_| call(&breakers, &accepted(), second)).count()).collect();
    assert_eq!(admitted, [1, 2, 4, 8, 16, 32, 64, 128, 256, 512]);
    assert_eq!(waits(&reopened(), 10), None, "the first of a second");
    assert_eq!((0..5_000).filter(|_| call(&breakers, &accepted(), 20)).count(), 5_000, "the ramp is over");
    assert_eq!(breakers.down("main", None, at(11)), None, "it is in use");
}

#[test]
fn one_lucky_probe_of_a_provider_that_flaps_proves_little() {
    let breakers = reopened();
    for (outcome, second) in [(accepted(), 11), (failed(ErrorClass::NotSent), 11), (accepted(), 12)] {
        assert!(call(&breakers, &outcome, second));
    }
    assert_eq!(breakers.down("main", None, at(12)), None, "three calls do not tell");
    assert!(call(&breakers, &failed(ErrorClass::Unknown), 12));
    assert_eq!(waits(&breakers, 12), Some(32), "for twice as long as before");
}

#[test]
fn each_failed_probe_doubles_the_wait_up_to_a_cap() {
    let breakers = Arc::<Breakers>::default();
    for _ in 0..20 {
        call(&breakers, &failed(ErrorClass::NotSent), 0);
    }
    let (mut now, mut seen) = (0, Vec::new());
    for _ in 0..7 {
        let until = waits(&breakers, now).unwrap();
        seen.push(until - now);
        now = until;
        assert!(call(&breakers, &failed(ErrorClass::NotSent), now));
    }
    assert_eq!(seen, [10, 20, 40, 80, 160, 300, 300]);
}

#[test]
fn refusals_of_messages_and_requests_for_patience_shut_nothing() {
    let breakers = Arc::<Breakers>::default();
    let busy = Outcome::Failed {
        error: crate::domain::delivery::AttemptError {
            class: ErrorClass::Temporary,
            code: None,
            detail: "429".into(),
        },
        retry_after_seconds: Some(3),
    };
    for _ in 0..30 {
        assert!(call(&breakers, &failed(ErrorClass::Permanent), 0));
        assert!(call(&breakers, &busy, 0));
    }
    // Slow failures neither: what is older than ten seconds is forgotten.
    for second in 0..60 {
        assert!(call(&breakers, &failed(ErrorClass::NotSent), 100 + second));
    }
}

#[test]
fn a_refused_credential_is_paused_for_its_sender_until_a_probe_succeeds() {
    let breakers = Arc::<Breakers>::default();
    assert!(call(&breakers, &failed(ErrorClass::Misconfigured), 0));
    assert_eq!(waits(&breakers, 1), Some(60));
    assert!(breakers.permit("main", Some("OTHER"), at(1)).is_ok(), "another tenant's sender goes on");
    assert_eq!(
        breakers.down("main", Some("AGENCE"), at(1)).as_deref(),
        Some("main is refused by its provider")
    );
    // A probe that fails lengthens it, one that was not made does not, one that could not reach keeps it.
    assert!(call(&breakers, &failed(ErrorClass::Misconfigured), 60));
    assert_eq!(waits(&breakers, 61), Some(180));
    drop(breakers.permit("main", Some("AGENCE"), at(180)).unwrap());
    assert!(call(&breakers, &failed(ErrorClass::NotSent), 180));
    assert_eq!(waits(&breakers, 181), Some(300));
    assert!(call(&breakers, &accepted(), 300));
    assert_eq!((waits(&breakers, 300), breakers.shut()), (None, vec![]));
}

#[test]
fn refused_with_several_senders_it_is_shut_for_all_and_one_success_opens_it() {
    let breakers = Arc::<Breakers>::default();
    let refuse = |sender: &str, seconds| {
        let permit = breakers.permit("main", Some(sender), at(seconds));
        permit.map(|mut permit| permit.report(&failed(ErrorClass::Misconfigured), at(seconds))).is_ok()
    };
    assert!(refuse("A", 0) && refuse("B", 1));
    assert_eq!(breakers.down("main", Some("D"), at(1)), None);
    assert!(refuse("C", 2));
    assert!(!refuse("D", 3), "nobody asks a fourth time");
    assert!(breakers.down("main", Some("D"), at(3)).is_some());
    let mut probe = breakers.permit("main", Some("A"), at(60)).unwrap();
    probe.report(&accepted(), at(61));
    assert!(breakers.shut().is_empty());
    assert!(breakers.permit("main", Some("B"), at(61)).is_ok());
}

#[test]
fn an_operator_pauses_and_resumes() {
    let breakers = Arc::<Breakers>::default();
    breakers.pause("main", "maintenance", at(0));
    let refused = breakers.permit("main", None, at(0)).unwrap_err();
    assert_eq!(refused.reason, "main was paused by an operator: maintenance");
    assert_eq!(breakers.shut()[0].cause, ShutCause::Paused);
    breakers.resume("main");
    assert!(call(&breakers, &failed(ErrorClass::Misconfigured), 0));
    assert!(!call(&breakers, &accepted(), 1));
    breakers.resume("main");
    assert!(call(&breakers, &accepted(), 1), "resuming opens what was refused as well");
}

#[test]
fn a_probe_that_never_comes_back_is_given_up() {
    let breakers = Arc::<Breakers>::default();
    assert!(call(&breakers, &failed(ErrorClass::Misconfigured), 0));
    std::mem::forget(breakers.permit("main", Some("AGENCE"), at(60)).unwrap());
    assert!(waits(&breakers, 600).is_some());
    assert!(breakers.permit("main", Some("AGENCE"), at(60 + PROBE_LOST)).is_ok());
}
