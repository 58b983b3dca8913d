//! The library without the daemon: policies from a folder, a request from a file, a decision and its reasons.
//!
//!     cargo run --example decide -- examples/requests/urgent.json
//!
//! Nothing is sent and nothing is kept.

use std::{error::Error, path::Path};

use channel_orchestrator::{
    bundles::{folder::Snapshot, loader::Loader},
    decide::{self, DecisionInput, explanation},
    domain::{
        address::{Reach, read_contacts},
        question::Question,
        time::{Clock, SystemClock},
    },
    policy::{
        assemble::PolicyEnvironment,
        template::{Need, Words},
    },
    request::{self, Purpose},
};

fn main() -> Result<(), Box<dyn Error>> {
    let file = std::env::args().nth(1).ok_or("which request? examples/requests/urgent.json, for example")?;
    let asked = request::parse(&std::fs::read(file)?, Purpose::Explain)?;

    // Every tenant's files, compiled, checked and tested; a tenant with faults has no bundle to decide with.
    let snapshot = Snapshot::read(Path::new("policies"));
    let loaded = Loader::new(PolicyEnvironment::default()).load_all(&snapshot);
    let tenant = &asked.request.tenant;
    let judgement = loaded.tenants.get(tenant).ok_or_else(|| format!("no policies/tenants/{tenant}.toml"))?;
    for fault in &judgement.errors {
        eprintln!("{fault}");
    }
    let bundle = judgement.accepted().ok_or("the policies have faults")?;

    // Addresses are read with the tenant's region; what is known of the person may stand in the file.
    let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
    let facts = asked.facts.clone().unwrap_or_default();
    // A template that the request names is rendered; what it comes to is what scripts measure.
    let words = Words::of(bundle, &asked.request, Need::Measure).map_err(|faults| {
        faults.iter().map(|f| format!("{}: {}", f.pointer, f.detail)).collect::<Vec<_>>().join("; ")
    })?;
    let input = DecisionInput {
        question: Question::of(&asked.request),
        reach: Reach::of(&contacts),
        words: &words,
        facts: &facts,
        at: asked.at.unwrap_or_else(|| SystemClock.now()),
        variant: asked.variant.as_deref(),
        generation: 0,
    };
    let decision = decide::decide(bundle, &input);
    match decision.winner() {
        Some(winner) => println!("{} ({:.2}): {}", winner.channel, winner.confidence, winner.reason),
        None => println!("no channel may be used"),
    }
    for channel in decision.alternatives() {
        println!("  else {} ({:.2}): {}", channel.channel, channel.confidence, channel.reason);
    }
    println!("{}", explanation::explain(bundle, &input, &decision).flips_summary);
    Ok(())
}
