//! Runs a policy test against a bundle: decides as the daemon would, and compares.

use std::collections::BTreeSet;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Expectation, Held, PolicyTest};
use crate::{
    decide::{
        DecisionInput, assign_variant, decide,
        explanation::{self, Explanation},
    },
    domain::{
        address::{Reach, read_contacts},
        channel::Channel,
        decision::{ChannelDecision, Decision},
        question::Question,
        time::parse_time_zone,
    },
    policy::{
        bundle::Bundle,
        diagnostic::Diagnostic,
        template::{Need, Words},
    },
};

/// What became of one test.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Expected and got, in words; empty: it passed.
    pub failures: Vec<String>,
    /// The lines of scripts that gave a reason: `criteria/cost.rhai:9:5`.
    pub reasons: BTreeSet<String>,
    /// What to look at when it failed; none: it passed, or nothing could be decided.
    pub decision: Option<Box<TestDecision>>,
    /// Tells the failure with its place; none: it passed.
    pub fault: Option<Diagnostic>,
}

/// The decision that a failed test got.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestDecision {
    pub channel: Option<Channel>,
    pub explanation: Explanation,
}

/// Decides what the test asks at the test's instant, and compares with what it expects.
pub fn run(bundle: &Bundle, test: &PolicyTest) -> Outcome {
    let request = &test.asked.request;
    if let Some(unknown) = test.asked.variant.as_deref().filter(|name| !bundle.has_variant(name)) {
        let failure = format!("there is no variant {unknown:?} in the policy of {}", test.tenant);
        return undecided(test, vec![failure]);
    }
    let words = match Words::of(bundle, request, Need::Measure) {
        Ok(words) => words,
        Err(faults) => {
            let place = |pointer: &str| pointer.trim_start_matches('/').replace('/', ".");
            let told = faults.iter().map(|fault| match &fault.hint {
                Some(hint) => format!("{}: {} ({hint})", place(&fault.pointer), fault.detail),
                None => format!("{}: {}", place(&fault.pointer), fault.detail),
            });
            return undecided(test, told.collect());
        }
    };
    let contacts = read_contacts(&request.contacts, bundle.policy().region);
    let facts = test.asked.facts.clone().unwrap_or_default();
    let input = DecisionInput {
        question: Question::of(request),
        reach: Reach::of(&contacts),
        words: &words,
        facts: &facts,
        at: test.at,
        variant: test.asked.variant.as_deref().or_else(|| assign_variant(bundle, &request.recipient)),
        generation: 0,
    };
    let decision = decide(bundle, &input);
    let failures = compare(&test.expect, &decision);
    let failed = !failures.is_empty();
    let explained = failed.then(|| {
        let explanation = explanation::explain(bundle, &input, &decision);
        Box::new(TestDecision { channel: decision.chosen, explanation })
    });
    let fault = failed.then(|| {
        let table: Vec<String> = decision.channels.iter().map(|channel| line(&decision, channel)).collect();
        let told = format!("test {:?} failed: {}", test.name, failures.join("; "));
        test.fault("test-failed", told).hint(format!("the decision was:\n{}", table.join("\n")))
    });
    let sources = decision.channels.iter().flat_map(|channel| &channel.criteria);
    let reasons = sources.filter_map(|contribution| contribution.source.clone()).collect();
    Outcome { failures, reasons, decision: explained, fault }
}

/// A test that nothing could be decided for.
fn undecided(test: &PolicyTest, failures: Vec<String>) -> Outcome {
    let told = format!("test {:?} failed: {}", test.name, failures.join("; "));
    let fault = Some(test.fault("test-failed", told));
    Outcome { failures, reasons: BTreeSet::new(), decision: None, fault }
}

fn compare(expect: &Expectation, decision: &Decision) -> Vec<String> {
    let mut failures = Vec::new();
    let mut differs = |what: &str, expected: String, got: String| {
        if expected != got {
            failures.push(format!("expected {what} {expected}, got {got}"));
        }
    };
    if let Some(channel) = expect.channel {
        differs("channel", name(channel), name(decision.chosen));
    }
    if let Some(alternatives) = &expect.alternatives {
        let got: Vec<Channel> = decision.alternatives().map(|channel| channel.channel).collect();
        differs("alternatives", list(alternatives), list(&got));
    }
    for channel in &expect.excluded {
        if decision.channel(*channel).eligible {
            failures.push(format!("expected {channel} to be excluded, but it may be used"));
        }
    }
    for (channel, held) in &expect.held {
        let of = channel.or(decision.chosen);
        let until = match channel {
            Some(channel) => decision.channel(*channel).held_until,
            None => decision.held_until,
        };
        if !held.fits(until, decision) {
            let got = until
                .map_or_else(|| "not held".to_owned(), |at| format!("held until {}", local(at, decision)));
            failures.push(format!("expected {} {}, got {got}", name(of), held.words(decision)));
        }
    }
    let winner = decision.winner();
    if let Some(confidence) = expect.confidence {
        let got = winner.map_or(0.0, |channel| channel.confidence);
        // As exact as it is ever written: two decimals.
        if (got - confidence).abs() > 0.005 + f64::EPSILON {
            failures.push(format!("expected confidence {confidence}, got {got:.3}"));
        }
    }
    let reason = winner.map_or("", |channel| channel.reason.as_str());
    for part in expect.reasons.iter().filter(|part| !reason.contains(part.as_str())) {
        failures.push(format!("expected a reason with {part:?}, got {reason:?}"));
    }
    failures
}

impl Held {
    fn fits(self, until: Option<DateTime<Utc>>, decision: &Decision) -> bool {
        match (self, until) {
            (Held::Is(held), until) => held == until.is_some(),
            (_, None) => false,
            (Held::Until(expected), Some(until)) => expected == until,
            (Held::UntilTime(expected), Some(until)) => {
                local(until, decision).get(11..16) == Some(expected.format("%H:%M").to_string().as_str())
            }
        }
    }

    fn words(self, decision: &Decision) -> String {
        match self {
            Held::Is(true) => "held".to_owned(),
            Held::Is(false) => "not held".to_owned(),
            Held::Until(at) => format!("held until {}", local(at, decision)),
            Held::UntilTime(at) => format!("held until {}", at.format("%H:%M")),
        }
    }
}

/// An instant in the zone that the decision was made in.
fn local(at: DateTime<Utc>, decision: &Decision) -> String {
    let zone = parse_time_zone(&decision.time_zone).unwrap_or(chrono_tz::UTC);
    at.with_timezone(&zone).format("%Y-%m-%dT%H:%M:%S%:z").to_string()
}

fn name(channel: Option<Channel>) -> String {
    channel.map_or("none", Channel::as_str).to_owned()
}

fn list(channels: &[Channel]) -> String {
    if channels.is_empty() {
        return "none".to_owned();
    }
    channels.iter().map(|channel| channel.as_str()).collect::<Vec<_>>().join(", ")
}

/// One channel of the decision: `sms       -15 points  Quiet hours - SMS intrusive; held until …`.
fn line(decision: &Decision, channel: &ChannelDecision) -> String {
    let mut words = Vec::new();
    if !channel.eligible {
        let mut reasons: Vec<&str> = channel.gates.iter().map(|gate| gate.reason.as_str()).collect();
        // A gate and a script may rule a channel out in the same words.
        reasons.dedup();
        words.push(format!("out: {}", reasons.join("; ")));
    }
    // A veto is a gate too: said once is enough.
    if !channel.reason.is_empty() && channel.gates.iter().all(|gate| gate.reason != channel.reason) {
        words.push(channel.reason.clone());
    }
    if let Some(until) = channel.held_until {
        words.push(format!("held until {}", local(until, decision)));
    }
    words.extend(
        channel
            .criteria
            .iter()
            .filter_map(|c| c.error.as_ref().map(|e| format!("{} failed: {e}", c.criterion))),
    );
    format!("  {:<9}{:>7.1} points  {}", channel.channel.as_str(), channel.score, words.join("; "))
        .trim_end()
        .to_owned()
}
