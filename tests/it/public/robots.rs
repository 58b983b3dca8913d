//! Who comes by: the requests of `visits.toml`.

use channel_orchestrator::tracking::robots::{Visit, is_burst};
use chrono::TimeDelta;
use serde::Deserialize;

#[derive(Deserialize)]
struct Cases {
    case: Vec<Case>,
}

#[derive(Deserialize)]
struct Case {
    machine: bool,
    agent: Option<String>,
    #[serde(default)]
    head: bool,
    #[serde(default)]
    prefetch: bool,
    #[serde(default = "an_hour")]
    after_ms: i64,
}

fn an_hour() -> i64 {
    3_600_000
}

#[test]
fn visits_are_told_apart_as_the_cases_say() {
    let cases: Cases = toml::from_str(include_str!("visits.toml")).unwrap();
    let (machines, people): (Vec<_>, Vec<_>) = cases.case.iter().partition(|case| case.machine);
    assert!(machines.len() > 20 && people.len() > 10);
    for case in &cases.case {
        let visit = Visit {
            head: case.head,
            user_agent: case.agent.as_deref(),
            prefetch: case.prefetch,
            after: TimeDelta::milliseconds(case.after_ms),
        };
        assert_eq!(visit.is_machine(), case.machine, "{visit:?}");
    }
}

#[test]
fn too_many_links_at_once_are_no_persons() {
    for (followed, of, burst) in [
        (1, 1, false),
        (1, 2, false),
        (2, 2, true),
        (2, 3, false),
        (3, 3, true),
        (4, 9, false),
        (5, 9, true),
        (0, 0, false),
    ] {
        assert_eq!(is_burst(followed, of), burst, "{followed} of {of}");
    }
}
