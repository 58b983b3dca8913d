//! What needs no daemon: explain a request, check a folder, run its tests, print the schema.
//!
//! Everything is read from the policies folder, by the code that the daemon reads it with; nothing is sent, kept
//! or put in force.

use std::{path::Path, time::Instant};

use chrono::DateTime;
use serde_json::json;

use super::{
    answer::DecisionAnswer,
    arguments::ExplainArguments,
    explain::{View, render},
    faults, input, layout,
    outcome::{Answer, Failure},
    send,
};
use crate::{
    app::driver_names,
    bundles::{
        loader::Loaded,
        offline::{
            FolderReport, Runs, ScriptReport, Surroundings, TenantReport, TestLine, TestReport, check_folder,
            read_folder, run_tests,
        },
        status,
    },
    config::Config,
    decide::{self, DecisionInput, explanation},
    domain::{
        address::{Reach, read_contacts},
        ids::TenantId,
        question::Question,
        time::{Clock, SystemClock},
    },
    policy::{
        diagnostic::Diagnostic,
        template::{Need, Words},
    },
    request::{self, Asked, Purpose, RequestError},
};

fn there(folder: &Path) -> Result<(), Failure> {
    if folder.is_dir() {
        return Ok(());
    }
    Err(Failure::Usage(format!("there is no policies folder {}", folder.display())))
}

/// The environment, and the drivers where the settings have any: without settings, nobody knows which there are.
fn around(config: &Config) -> Surroundings {
    let drivers = (!config.drivers.is_empty()).then(|| driver_names(config));
    Surroundings { environment: config.policy_environment.clone(), drivers }
}

/// Reads and judges the whole folder.
fn load(config: &Config, folder: &Path) -> Result<Loaded, Failure> {
    there(folder)?;
    Ok(read_folder(folder, around(config)))
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
    let words = Words::of(bundle, &asked.request, Need::Measure).map_err(|faults| {
        refused(file, faults.iter().map(|f| (f.pointer.as_str(), f.detail.as_str(), f.hint.as_deref())))
    })?;
    let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
    let facts = asked.facts.clone().unwrap_or_default();
    let input = DecisionInput {
        question: Question::of(&asked.request),
        reach: Reach::of(&contacts),
        words: &words,
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
        refused(file, faults.iter().map(|f| (f.pointer.as_str(), f.detail.as_str(), f.hint.as_deref())))
    })
}

/// Every fault of a request: its pointer, what is wrong, how to mend it.
fn refused<'f>(file: &str, faults: impl Iterator<Item = (&'f str, &'f str, Option<&'f str>)>) -> Failure {
    let mut words = format!("{file} is not a request:");
    for (pointer, detail, hint) in faults {
        let place = if pointer.is_empty() { "(the whole)" } else { pointer };
        words.push_str(&format!("\n  {place}: {detail}"));
        if let Some(hint) = hint {
            words.push_str(&format!(" ({hint})"));
        }
    }
    Failure::Usage(words)
}

fn instant(text: &str) -> Result<DateTime<chrono::Utc>, Failure> {
    DateTime::parse_from_rfc3339(text).map(|at| at.with_timezone(&chrono::Utc)).map_err(|_| {
        Failure::Usage(format!("--at {text:?}: expected RFC 3339 with an offset: 2025-11-14T23:00:00+01:00"))
    })
}

/// `check [DIR]`: every fault once, then a line for each tenant.
pub fn check(config: &Config, folder: &Path, json: bool) -> Result<Answer, Failure> {
    there(folder)?;
    let report = check_folder(folder, around(config), None);
    let answer = if report.ok { Answer::Yes } else { Answer::No };
    if json {
        println!("{:#}", json!(report));
        return Ok(answer);
    }
    let found = all_faults(&report);
    anstream::print!("{}", faults::render(&found, layout::width()));
    for tenant in &report.tenants {
        println!("{}", tenant_line(tenant));
    }
    print!("{}", script_lines(&report.scripts));
    println!("{}: {}", report.folder, faults::tally(&found));
    Ok(answer)
}

/// How the scripts run: those that are compiled altogether in one line, each of the others with its reasons.
fn script_lines(scripts: &[ScriptReport]) -> String {
    let (whole, others): (Vec<_>, Vec<_>) =
        scripts.iter().partition(|s| s.runs == Runs::Compiled && s.because.is_empty());
    let mut lines = match whole.len() {
        0 => String::new(),
        1 => format!("1 script runs compiled: {}\n", whole[0].file),
        several => format!("{several} scripts run compiled\n"),
    };
    for script in others {
        let how = match script.runs {
            Runs::Compiled => "runs compiled, but for",
            Runs::Learnt => "runs interpreted, and what it says is remembered, because of",
            Runs::Interpreted => "runs interpreted, because of",
        };
        let because =
            if script.because.is_empty() { "what it does".into() } else { script.because.join("; ") };
        lines.push_str(&format!("{} {how} {because}\n", script.file));
    }
    lines
}

/// Every fault once: one in a shared file is each tenant's.
fn all_faults(report: &FolderReport) -> Vec<Diagnostic> {
    let mut found: Vec<Diagnostic> = Vec::new();
    let of_tenants = report.tenants.iter().flat_map(|tenant| tenant.errors.iter().chain(&tenant.warnings));
    for fault in report.problems.iter().chain(of_tenants) {
        if !found.contains(fault) {
            found.push(fault.clone());
        }
    }
    found.sort_by(|a, b| (&a.file, a.line, a.column).cmp(&(&b.file, b.line, b.column)));
    found
}

fn tenant_line(report: &TenantReport) -> String {
    let TenantReport { tenant, tests, .. } = report;
    match report.version.as_ref().filter(|_| report.ok) {
        Some(version) => {
            let version: String = version.chars().take(12).collect();
            let all = tests.passed + tests.failed;
            let templates = report.templates.len();
            format!(
                "ok {tenant}: version {version}, {} of {all} tests pass, {templates} templates",
                tests.passed
            )
        }
        None => format!("x  {tenant}: {}", faults::tally(&report.errors)),
    }
}

/// `check --origins TENANT`: every key of a tenant's policy, and where its value came from.
pub fn origins(config: &Config, folder: &Path, tenant: &str, json: bool) -> Result<Answer, Failure> {
    let tenant = &tenant_of(tenant)?;
    let loaded = load(config, folder)?;
    let judgement = loaded.tenants.get(tenant).ok_or_else(|| no_file(tenant, folder))?;
    let Some(bundle) = &judgement.bundle else {
        anstream::eprint!("{}", faults::render(&judgement.errors, layout::width()));
        anstream::eprintln!("{}: {tenant}'s files make no policy", faults::tally(&judgement.errors));
        return Ok(Answer::No);
    };
    let origins = status::origins(bundle);
    if json {
        println!("{:#}", json!({ "tenant": tenant, "origins": origins }));
        return Ok(Answer::Yes);
    }
    let width = origins.keys().map(|key| key.chars().count()).max().unwrap_or(0);
    for (key, origin) in &origins {
        println!("{}  {origin}", layout::fit(key, width));
    }
    Ok(Answer::Yes)
}

fn tenant_of(text: &str) -> Result<TenantId, Failure> {
    TenantId::parse(text).map_err(|error| Failure::Usage(error.to_string()))
}

fn no_file(tenant: &TenantId, folder: &Path) -> Failure {
    Failure::Usage(format!("there is no tenants/{tenant}.toml in {}", folder.display()))
}

/// `test [DIR]`: a line for each test, the decision of each that fails, and which reasons no test ever produced.
pub fn test(config: &Config, folder: &Path, only: Option<&str>, json: bool) -> Result<Answer, Failure> {
    there(folder)?;
    let only = only.map(tenant_of).transpose()?;
    if let Some(tenant) = only.as_ref().filter(|t| !folder.join(format!("tenants/{t}.toml")).exists()) {
        return Err(no_file(tenant, folder));
    }
    let report = run_tests(folder, around(config), only.as_ref());
    if json {
        println!("{:#}", json!(report));
    } else {
        print_tests(&report);
    }
    Ok(if report.ok { Answer::Yes } else { Answer::No })
}

fn print_tests(report: &TestReport) {
    for test in &report.tests {
        print_test(test);
    }
    // One fault of a shared file is each tenant's.
    let mut told: Vec<Diagnostic> = Vec::new();
    for fault in &report.problems {
        if !told.contains(fault) {
            told.push(fault.clone());
        }
    }
    anstream::print!("{}", faults::render(&told, layout::width()));
    println!("{} of {} tests pass", report.passed, report.passed + report.failed);
    let coverage = &report.coverage;
    println!("{} of {} reasons in the scripts were given in some test", coverage.covered, coverage.total);
    for reason in &coverage.uncovered {
        let (file, line, column) = (&reason.file, reason.line, reason.column);
        println!("  never given: {file}:{line}:{column}  {}", reason.text);
    }
}

/// A line; for a test that failed also what differs, and the explanation of what was decided.
fn print_test(test: &TestLine) {
    let TestLine { tenant, name, file, line, .. } = test;
    let verdict = if test.passed { "ok  " } else { "FAIL" };
    println!("{verdict} {tenant}  {name}  ({file}:{line})");
    for failure in &test.failures {
        println!("     {failure}");
    }
    let Some(decision) = &test.decision else { return };
    const INDENT: &str = "     ";
    let width = layout::width().saturating_sub(INDENT.len());
    let view = View { chosen: decision.channel, tenant: None, footer: "", width, sources: false };
    println!();
    for line in render(&decision.explanation, &view).lines() {
        let indent = if line.is_empty() { "" } else { INDENT };
        anstream::println!("{indent}{line}");
    }
    println!();
}
