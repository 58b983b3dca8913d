//! The sandbox: a corpus of hostile scripts, and what the engine has within reach of one.
//!
//! The corpus is data (`hostile/*.txt`): each script is refused, fails, or gives a bounded verdict, as its entry
//! says. Nothing is timed: the engine counts operations, and a script that outruns its count fails.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
    sync::Arc,
};

use channel_orchestrator::{
    domain::{
        channel::Channel,
        ids::CriterionName,
        message::{Origin, Priority},
    },
    policy::{
        bundle::Opinion,
        criterion::Criterion,
        engine::{REASON_CHARS_MAX, SOURCE_BYTES_MAX},
        strategy::Strategy,
        verdict::VerdictKind,
        view::{ChannelView, HistoryView, MessageView},
    },
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    /// Compiling or checking says no.
    Refused,
    /// It runs into a limit, or into a fault of its own; the failure says so.
    Fails,
    /// It gives a verdict in range, with a short reason.
    Bounded,
}

struct Hostile {
    name: String,
    expected: Outcome,
    script: String,
}

/// Entries of the form `=== outcome name`, then the script. `{{N:text}}` stands for the text N times over.
fn corpus() -> Vec<Hostile> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/it/hostile");
    let mut files: Vec<_> = fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files.iter().flat_map(|path| entries(&fs::read_to_string(path).unwrap())).collect()
}

fn entries(text: &str) -> Vec<Hostile> {
    let mut found: Vec<Hostile> = Vec::new();
    for line in text.lines() {
        if let Some(head) = line.strip_prefix("=== ") {
            let (outcome, name) = head.split_once(' ').unwrap_or_else(|| panic!("no name: {line}"));
            let expected = match outcome {
                "refused" => Outcome::Refused,
                "fails" => Outcome::Fails,
                "bounded" => Outcome::Bounded,
                other => panic!("{other} is no outcome"),
            };
            found.push(Hostile { name: name.to_owned(), expected, script: String::new() });
        } else if let Some(current) = found.last_mut() {
            current.script.push_str(&repeated(line));
            current.script.push('\n');
        }
    }
    found
}

fn repeated(line: &str) -> String {
    let Some((before, rest)) = line.split_once("{{") else { return line.to_owned() };
    let (count, rest) = rest.split_once(':').unwrap();
    let (text, after) = rest.split_once("}}").unwrap();
    format!("{before}{}{}", text.repeat(count.parse().unwrap()), repeated(after))
}

fn message() -> Arc<MessageView<'static>> {
    Arc::new(MessageView {
        kind: None,
        priority: Priority::Urgent,
        template: Some("NEW_PROPERTY_ALERT".into()),
        tags: vec!["vip".to_owned(); 300].into(),
        origin: Origin::Api,
        locale: "fr".into(),
        length: i64::MAX,
        segments: i64::MAX,
        has_html: true,
        has_attachments: true,
        attachment_bytes: i64::MAX,
        quiet: true,
        local_hour: 23,
        local_minute: 59,
        weekday: 7,
        minutes_to_event: Some(i64::MIN),
        send_within: Some(i64::MAX),
        allow_sms_in_quiet_hours: false,
    })
}

fn channel(channel: Channel) -> Arc<ChannelView> {
    Arc::new(ChannelView {
        channel,
        preferred: true,
        disabled: false,
        available: true,
        opted_in: true,
        healthy: true,
        cost: f64::MAX,
        delivery_seconds: 10,
        open_rate: 1.0,
        rich_media: true,
        takes_attachments: true,
        max_length: Some(1_600),
        history: HistoryView { received: 6, engaged: 3, rate: 0.5, average: 0.4, known: true },
    })
}

/// What came of a script; a verdict out of bounds is an error in words.
fn run(name: &str, script: &str) -> Result<Outcome, String> {
    let criterion_name = CriterionName::parse("hostile").unwrap();
    let criterion = match Criterion::compile(criterion_name, "criteria/hostile.rhai", script) {
        Ok(criterion) => criterion,
        Err(faults) if faults.is_empty() => return Err(format!("{name}: refused without a fault")),
        Err(_) => return Ok(Outcome::Refused),
    };
    let mut worst = Outcome::Bounded;
    for at in Channel::ALL {
        // Twice: nothing may be left over from the first call.
        let first = criterion.evaluate(&message(), &channel(at));
        if criterion.evaluate(&message(), &channel(at)) != first {
            return Err(format!("{name}: the second call gave something else"));
        }
        if bounded(&first).map_err(|words| format!("{name}: {words}"))? == Outcome::Fails {
            worst = Outcome::Fails;
        }
    }
    Ok(worst)
}

fn bounded(opinion: &Opinion) -> Result<Outcome, String> {
    let verdict = match opinion {
        Ok(verdict) => verdict,
        Err(failure) if failure.message.len() > 4 * 1_024 => return Err("a huge failure".to_owned()),
        Err(failure) if failure.message.starts_with("criteria/hostile.rhai") => return Ok(Outcome::Fails),
        Err(failure) => return Err(format!("the failure names no file: {failure}")),
    };
    let in_range = match verdict.kind {
        VerdictKind::Share(share) => (-1.0..=1.0).contains(&share),
        VerdictKind::Neutral | VerdictKind::Veto => true,
    };
    if !in_range || verdict.reason.chars().count() > REASON_CHARS_MAX + 1 {
        return Err(format!("out of bounds: {verdict:?}"));
    }
    Ok(Outcome::Bounded)
}

#[test]
fn every_hostile_script_is_refused_fails_or_stays_within_bounds() {
    let corpus = corpus();
    let mut wrong = Vec::new();
    let mut counts: BTreeMap<Outcome, usize> = BTreeMap::new();
    for hostile in &corpus {
        match run(&hostile.name, &hostile.script) {
            Ok(outcome) => {
                *counts.entry(outcome).or_default() += 1;
                if outcome != hostile.expected {
                    wrong.push(format!("{}: {outcome:?}, not {:?}", hostile.name, hostile.expected));
                }
            }
            Err(words) => wrong.push(words),
        }
    }
    let names: BTreeSet<&str> = corpus.iter().map(|h| h.name.as_str()).collect();
    assert_eq!(names.len(), corpus.len(), "two scripts of one name");
    assert!(wrong.is_empty(), "{} of {}: \n{}", wrong.len(), corpus.len(), wrong.join("\n"));
    assert!(corpus.len() >= 300, "{} scripts are too few", corpus.len());
    for outcome in [Outcome::Refused, Outcome::Fails, Outcome::Bounded] {
        assert!(counts[&outcome] >= 30, "{counts:?}");
    }
}

#[test]
fn every_cut_of_a_shipped_script_is_refused_or_stays_within_bounds() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies/criteria");
    for name in CriterionName::SHIPPED {
        let source = fs::read_to_string(folder.join(format!("{name}.rhai"))).unwrap();
        for (end, _) in source.char_indices() {
            run(&format!("{name} cut at {end}"), &source[..end]).unwrap();
        }
    }
}

#[test]
fn conditions_obey_the_same_limits() {
    let deep = format!("{}true{}", "(".repeat(100), ")".repeat(100));
    let wide = format!("message.length > {}0", "1 + ".repeat(30_000));
    let large = format!("message.template == \"{}\"", "x".repeat(SOURCE_BYTES_MAX));
    let refused =
        ["eval(\"true\")", "let x = 1; x == 1", "loop {}", "|x| x", "this == 1", &deep, &wide, &large];
    for when in refused {
        assert!(Strategy::compile("hostile", when).is_err(), "{}", when.chars().take(60).collect::<String>());
    }
    let not_a_truth = Strategy::compile("odd", "if message.quiet { 3 } else { true }").unwrap();
    let failure = not_a_truth.matches(&message()).unwrap_err();
    assert!(failure.message.contains("it must be true or false"), "{failure}");
}
