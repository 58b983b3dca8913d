//! What needs no daemon: explain a request, check a folder, run its tests, print the schema.
//!
//! Everything is read from the policies folder, by the code that the daemon reads it with; nothing is sent, kept
//! or put in force.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::Arc,
    time::Instant,
};

use chrono::DateTime;
use serde_json::json;

use super::{
    answer::DecisionAnswer,
    arguments::ExplainArguments,
    faults, input, layout,
    outcome::{Answer, Failure},
    send,
};
use crate::{
    bundles::{
        folder::Snapshot,
        loader::{Judgement, Loaded, Loader},
    },
    config::Config,
    decide::{self, DecisionInput, explanation},
    domain::{
        address::read_contacts,
        ids::TenantId,
        time::{Clock, SystemClock},
    },
    policy::diagnostic::Diagnostic,
    request::{self, Asked, Purpose, RequestError},
};

/// Reads and judges the whole folder.
pub fn load(config: &Config, folder: &Path) -> Result<Loaded, Failure> {
    if !folder.is_dir() {
        return Err(Failure::Usage(format!("there is no policies folder {}", folder.display())));
    }
    let loader = Loader::new(config.policy_environment.clone());
    Ok(loader.load(&Snapshot::read(folder), &BTreeMap::new(), true))
}

/// `--explain FILE`.
pub fn explain(
    config: &Config,
    arguments: &ExplainArguments,
    file: &str,
    json: bool,
) -> Result<Answer, Failure> {
    let asked = parse(file)?;
    let loaded = load(config, &config.policies.path)?;
    let tenant = &asked.request.tenant;
    let Some(judgement) = loaded.tenants.get(tenant) else {
        let path = config.policies.path.join("tenants").join(format!("{tenant}.toml"));
        anstream::eprintln!("no tenant {tenant}: its file would be {}", path.display());
        return Ok(Answer::No);
    };
    if !judgement.errors.is_empty() {
        anstream::eprint!("{}", faults::render(&judgement.errors, layout::width()));
    }
    let Some(bundle) = &judgement.bundle else {
        anstream::eprintln!("{}: {tenant}'s files cannot decide", faults::tally(&judgement.errors));
        return Ok(Answer::No);
    };
    if !judgement.errors.is_empty() {
        anstream::eprintln!("explained with the files as they stand; a daemon would not put them in force\n");
    }
    let variant = arguments.variant.as_deref().or(asked.variant.as_deref());
    if let Some(unknown) = variant.filter(|name| !bundle.has_variant(name)) {
        let known: Vec<&str> = bundle.policy().variants.keys().map(String::as_str).collect();
        return Err(Failure::Usage(format!(
            "{tenant} has no variant {unknown:?} (it has: control{}{})",
            if known.is_empty() { "" } else { ", " },
            known.join(", ")
        )));
    }
    let at = match &arguments.at {
        Some(text) => instant(text)?,
        None => asked.at.unwrap_or_else(|| SystemClock.now()),
    };
    let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
    let facts = asked.facts.clone().unwrap_or_default();
    let input = DecisionInput {
        request: &asked.request,
        contacts: &contacts,
        profile: asked.request.content.profile(),
        facts: &facts,
        at,
        variant: variant.or_else(|| decide::assign_variant(bundle, &asked.request.recipient)),
        generation: 0,
    };
    let started = Instant::now();
    let decision = decide::decide(bundle, &input);
    let took_micros = u64::try_from(started.elapsed().as_micros()).unwrap_or(u64::MAX);
    let explanation =
        explanation::Explanation { took_micros, ..explanation::explain(bundle, &input, &decision) };
    let answer = DecisionAnswer::of(&decision, explanation);
    if json {
        println!("{:#}", json!(answer));
    } else {
        send::print_decision(&answer, Some(tenant.as_str()), arguments.sources, "offline, nothing was sent");
    }
    Ok(if decision.chosen.is_some() { Answer::Yes } else { Answer::No })
}

/// A request as `--explain` takes it, `facts` and `at` included.
fn parse(file: &str) -> Result<Asked, Failure> {
    let bytes = input::read(file)?;
    request::parse(&bytes, Purpose::Explain).map_err(|error| {
        let faults = match &error {
            RequestError::Syntax(_) => return Failure::Usage(format!("{file}: {error}")),
            RequestError::Faults(faults) => faults,
        };
        let mut words = format!("{file} is not a request:");
        for fault in faults {
            let place = if fault.pointer.is_empty() { "(the whole)" } else { &fault.pointer };
            words.push_str(&format!("\n  {place}: {}", fault.detail));
            if let Some(hint) = &fault.hint {
                words.push_str(&format!(" ({hint})"));
            }
        }
        Failure::Usage(words)
    })
}

fn instant(text: &str) -> Result<DateTime<chrono::Utc>, Failure> {
    DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&chrono::Utc)).map_err(|_| {
        Failure::Usage(format!("--at {text:?}: expected RFC 3339 with an offset: 2025-11-14T23:00:00+01:00"))
    })
}

/// `check [DIR]`: every fault once, then a line for each tenant.
pub fn check(config: &Config, folder: &Path, json: bool) -> Result<Answer, Failure> {
    let loaded = load(config, folder)?;
    let found = all_faults(&loaded);
    let ok = !found.iter().any(Diagnostic::is_error);
    if json {
        println!("{:#}", check_in_json(folder, &loaded, ok));
        return Ok(if ok { Answer::Yes } else { Answer::No });
    }
    anstream::print!("{}", faults::render(&found, layout::width()));
    for (tenant, judgement) in &loaded.tenants {
        println!("{}", tenant_line(tenant, judgement));
    }
    println!("{}: {}", folder.display(), faults::tally(&found));
    Ok(if ok { Answer::Yes } else { Answer::No })
}

/// Every fault once: one in a shared file is each tenant's.
fn all_faults(loaded: &Loaded) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    let of_tenants =
        loaded.tenants.values().flat_map(|judgement| judgement.errors.iter().chain(&judgement.warnings));
    for fault in loaded.problems.iter().chain(of_tenants) {
        if !found.contains(fault) {
            found.push(fault.clone());
        }
    }
    found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    found
}

fn tenant_line(tenant: &TenantId, judgement: &Judgement) -> String {
    let tally = judgement.tally();
    match judgement.accepted() {
        Some(bundle) => {
            let version = bundle.version().short();
            format!(
                "ok {tenant}: version {version}, {} of {} tests pass",
                tally.passed,
                judgement.tests.len()
            )
        }
        None => format!("x  {tenant}: {}", faults::tally(&judgement.errors)),
    }
}

fn check_in_json(folder: &Path, loaded: &Loaded, ok: bool) -> serde_json::Value {
    let tenants: Vec<_> = loaded
        .tenants
        .iter()
        .map(|(tenant, judgement)| {
            json!({
                "tenant": tenant,
                "ok": judgement.accepted().is_some(),
                "version": judgement.bundle.as_ref().map(|bundle| bundle.version().as_str()),
                "tests": judgement.tally(),
                "errors": judgement.errors,
                "warnings": judgement.warnings,
            })
        })
        .collect();
    json!({ "ok": ok, "folder": folder.display().to_string(), "problems": loaded.problems, "tenants": tenants })
}

/// `test [DIR]`: a line for each test, the decision of each that fails, and which reasons no test ever produced.
pub fn test(config: &Config, folder: &Path, only: Option<&str>, json: bool) -> Result<Answer, Failure> {
    let loaded = load(config, folder)?;
    let only = only.map(TenantId::parse).transpose().map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(tenant) = only.as_ref().filter(|tenant| !loaded.tenants.contains_key(*tenant)) {
        return Err(Failure::Usage(format!("there is no tenants/{tenant}.toml in {}", folder.display())));
    }
    let judged: Vec<(&TenantId, &Arc<Judgement>)> = loaded
        .tenants
        .iter()
        .filter(|(tenant, _)| only.as_ref().is_none_or(|only| only == *tenant))
        .collect();
    let silent = never_given(&judged);
    let failed = judged.iter().flat_map(|(_, j)| &j.tests).filter(|test| !test.failures.is_empty()).count();
    let ok = failed == 0 && judged.iter().all(|(_, judgement)| judgement.errors.is_empty());
    if json {
        println!("{:#}", tests_in_json(&judged, &silent, ok));
        return Ok(if ok { Answer::Yes } else { Answer::No });
    }
    for (tenant, judgement) in &judged {
        print_tests(tenant, judgement);
    }
    let run: usize = judged.iter().map(|(_, judgement)| judgement.tests.len()).sum();
    println!("{} of {run} tests pass", run - failed);
    let sites = silent.iter().filter(|reason| reason.given).count();
    println!("{sites} of {} reasons in the scripts were given in some test", silent.len());
    for reason in silent.iter().filter(|reason| !reason.given) {
        println!("  never given: {}  {}", reason.place, reason.text);
    }
    Ok(if ok { Answer::Yes } else { Answer::No })
}

fn print_tests(tenant: &TenantId, judgement: &Judgement) {
    for test in &judgement.tests {
        let place = format!("{}:{}", test.file, test.line);
        if test.failures.is_empty() {
            println!("ok   {tenant}  {}  ({place})", test.name);
            continue;
        }
        println!("FAIL {tenant}  {}  ({place})", test.name);
        for failure in &test.failures {
            println!("     {failure}");
        }
        for line in &test.table {
            println!("     {line}");
        }
    }
    // A failed test is told above, in full.
    let others: Vec<Diagnostic> =
        judgement.errors.iter().filter(|fault| fault.code != "test-failed").cloned().collect();
    anstream::print!("{}", faults::render(&others, layout::width()));
}

/// One place in a script that can give a reason.
struct Reason {
    /// `criteria/cost.rhai:9:5`.
    place: String,
    text: String,
    /// Some test made it speak.
    given: bool,
}

/// Every reason of every script in use, in order, and whether a test produced it.
fn never_given(judged: &[(&TenantId, &Arc<Judgement>)]) -> Vec<Reason> {
    let given: BTreeSet<&str> = judged
        .iter()
        .flat_map(|(_, j)| &j.tests)
        .flat_map(|test| &test.reasons)
        .map(String::as_str)
        .collect();
    let mut seen = BTreeSet::new();
    let mut reasons = Vec::new();
    for bundle in judged.iter().filter_map(|(_, judgement)| judgement.bundle.as_ref()) {
        for criterion in bundle.criteria() {
            for site in criterion.reasons() {
                let place = format!("{}:{}:{}", criterion.file(), site.line, site.column);
                if seen.insert(place.clone()) {
                    let given = given.contains(place.as_str());
                    reasons.push(Reason { place, text: site.text.clone(), given });
                }
            }
        }
    }
    reasons
}

fn tests_in_json(judged: &[(&TenantId, &Arc<Judgement>)], reasons: &[Reason], ok: bool) -> serde_json::Value {
    let tests: Vec<_> = judged
        .iter()
        .flat_map(|(tenant, judgement)| judgement.tests.iter().map(move |test| (tenant, test)))
        .map(|(tenant, test)| {
            json!({
                "tenant": tenant,
                "name": test.name,
                "file": test.file,
                "line": test.line,
                "passed": test.failures.is_empty(),
                "failures": test.failures,
            })
        })
        .collect();
    let errors: Vec<_> = judged.iter().flat_map(|(_, judgement)| &judgement.errors).collect();
    let silent: Vec<_> = reasons
        .iter()
        .filter(|reason| !reason.given)
        .map(|reason| json!({ "place": reason.place, "reason": reason.text }))
        .collect();
    json!({
        "ok": ok,
        "tests": tests,
        "errors": errors,
        "reasons": { "all": reasons.len(), "neverGiven": silent },
    })
}
