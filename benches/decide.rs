//! One decision in process: ours, compiled and interpreted, beside the same rules written by hand in Rust, on the same
//! stream of requests.
//!
//!     cargo bench --bench decide
//!
//! In the timed region: from a parsed request and the facts to the chosen channel, the ranking of all four with points
//! and confidence, holds, costs, and the reasons of the channels that an answer names. Out of it: parsing, reading
//! addresses, measuring the text, rendering. The hand-written rules do the very same for the shipped policy, with its
//! constants in the code: local time and quiet hours, every gate that the shipped policy can close, points, order and
//! reasons. Both must agree on every request of the stream before anything is timed.
//!
//! CPU time of the measuring thread, the variants in turn, each over a stream that it has just been through, the median of
//! many rounds. The ratio is the figure to quote.

use std::hint::black_box;

use channel_orchestrator::{
    decide::{self, DecisionInput},
    domain::{
        address::{Contact, Reach, read_contacts},
        channel::PerChannel,
        facts::{EngagementHistory, Facts},
        message::MessageRequest,
        question::Question,
    },
    policy::{bundle::Bundle, template::Words},
    request::{self, Purpose},
};
use chrono::{DateTime, Utc};
use serde_json::json;

#[path = "decide/native.rs"]
mod native;
#[allow(dead_code)]
#[path = "../tests/it/support/mod.rs"]
mod support;

/// One request with all that deciding it takes, gathered beforehand.
struct Asked {
    request: MessageRequest,
    contacts: PerChannel<Contact>,
    words: Words,
    facts: Facts,
    at: DateTime<Utc>,
}

const REQUESTS: usize = 4_000;
const ROUNDS: usize = 15;

/// A fixed stream of varied requests: a linear congruential generator, so that every run has the same.
fn stream(bundle: &Bundle) -> Vec<Asked> {
    let mut state = 42_u64;
    let mut draw = |below: u64| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    };
    let kinds = ["appointment", "notification", "marketing", "survey", "document"];
    let levels = ["low", "normal", "high", "urgent"];
    let channels = ["sms", "email", "whatsapp", "telegram"];
    (0..REQUESTS)
        .map(|at| {
            let mut context = json!({
                "tenantId": "acme", "prospectId": format!("p{at}"), "messageType": kinds[draw(5) as usize],
                "priority": { "level": levels[draw(4) as usize] },
                "preferences": { "preferredChannels": [channels[draw(4) as usize]] },
            });
            for (field, address) in [
                ("prospectPhone", "+33612345678"),
                ("prospectEmail", "client@example.com"),
                ("prospectWhatsApp", "+33612345678"),
                ("prospectTelegram", "123456"),
            ] {
                if draw(3) > 0 {
                    context[field] = json!(address);
                }
            }
            if draw(10) == 0 {
                context["preferences"]["disabledChannels"] = json!([channels[draw(4) as usize]]);
            }
            let mut content = json!({ "body": "a".repeat(20 + draw(400) as usize) });
            if draw(3) == 0 {
                content["html"] = json!("<p>x</p>");
            }
            let instant = format!("2025-11-14T{:02}:{:02}:00+01:00", draw(24), draw(60));
            let request = json!({ "context": context, "content": content, "at": instant });
            let asked = request::parse_value(request, Purpose::Decision).expect("a good request");
            Asked {
                contacts: read_contacts(&asked.request.contacts, bundle.policy().region),
                words: Words::plain(&asked.request.content),
                facts: facts(&mut draw),
                at: asked.at.expect("given above"),
                request: asked.request,
            }
        })
        .collect()
}

/// Half of the recipients have a past on some channels.
fn facts(draw: &mut impl FnMut(u64) -> u64) -> Facts {
    let mut facts = Facts::default();
    if draw(2) == 0 {
        facts.history = PerChannel::from_fn(|_| {
            let received = draw(12) as u32;
            let engaged = draw(u64::from(received) + 1) as u32;
            (draw(2) == 0).then(|| EngagementHistory { received, engaged, average: draw(100) as f64 / 100.0 })
        });
    }
    facts
}

fn input(asked: &Asked) -> DecisionInput<'_> {
    DecisionInput {
        question: Question::of(&asked.request),
        reach: Reach::of(&asked.contacts),
        words: &asked.words,
        facts: &asked.facts,
        at: asked.at,
        variant: None,
        generation: 1,
    }
}

/// The hand-written rules and ours must say the same, or the comparison means nothing.
fn assert_agreement(bundle: &Bundle, stream: &[Asked]) {
    for asked in stream {
        let input = input(asked);
        let (ours, theirs) = (decide::choose(bundle, &input), native::choose(&input));
        assert_eq!((ours.chosen, ours.held_until), (theirs.chosen, theirs.held_until), "{:?}", asked.request);
        for (a, b) in ours.ranking.iter().zip(&theirs.ranking) {
            assert_eq!(a, &b.standing, "{:?}", asked.request);
            if a.eligible {
                let reasons: Vec<_> = ours.reasons(a.channel).collect();
                assert_eq!(reasons, b.reasons, "{:?}", asked.request);
            }
        }
    }
}

/// CPU time of this thread, in nanoseconds.
fn cpu() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}

fn timed(name: &str, stream: &[Asked], mut one: impl FnMut(&Asked)) -> (String, f64) {
    let mut all = || stream.iter().for_each(|asked| one(black_box(asked)));
    // Whoever comes after the interpreter would pay for the caches that it filled.
    all();
    let started = cpu();
    all();
    (name.to_owned(), (cpu() - started) as f64 / stream.len() as f64)
}

fn ours(bundle: &Bundle, asked: &Asked) {
    decide::choose_for(bundle, &input(asked), |choice| {
        let named = choice.winner().into_iter().chain(choice.alternatives());
        for standing in named {
            choice.reasons(standing.channel).for_each(|reason| {
                // The words, as whoever writes an answer takes them.
                black_box(&*reason);
            });
        }
        black_box(choice);
    });
}

fn main() {
    let quick = std::env::args().any(|argument| argument == "--quick");
    let bundle = support::bundle("");
    let stream = stream(&bundle);
    assert_agreement(&bundle, &stream);
    let rounds = if quick { 3 } else { ROUNDS };
    let mut seen: Vec<Vec<(String, f64)>> = Vec::new();
    // For a profiler: one variant alone, over and over.
    if std::env::args().any(|argument| argument == "--only-compiled") {
        for _ in 0..500 {
            timed("decide.compiled", &stream, |asked| ours(&bundle, asked));
        }
        return;
    }
    for _ in 0..=rounds {
        seen.push(vec![
            timed("decide.native", &stream, |asked| {
                black_box(native::choose(&input(asked)));
            }),
            timed("decide.compiled", &stream, |asked| ours(&bundle, asked)),
            timed("decide.explained", &stream, |asked| {
                black_box(decide::decide(&bundle, &input(asked)));
            }),
            timed("decide.interpreter", &stream[..stream.len() / 20], |asked| {
                black_box(decide::choose_interpreted(&bundle, &input(asked)));
            }),
        ]);
    }
    // The first round warms up.
    let median = |at: usize| {
        let mut values: Vec<f64> = seen[1..].iter().map(|round| round[at].1).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    let native = median(0);
    for (at, (name, _)) in seen[0].iter().enumerate() {
        println!("figure: {name} {:.0} ns a decision, {:.2} x hand-written", median(at), median(at) / native);
    }
}
