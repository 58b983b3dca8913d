//! The stream of requests that every engine is asked, with the facts of each: made here, the same in every run.
//!
//! Requests are parsed by the daemon's own parser and measured by its own rules. `check` holds the facts, the
//! weights and the criteria against a whole decision of the daemon's, so that what is compared is what it does.

use std::{borrow::Cow, fs, io::Write as _, path::Path, sync::Arc};

use channel_orchestrator::{
    decide::{self, DecisionInput},
    domain::{
        address::{Contact, Reach, read_contacts},
        channel::{Channel, PerChannel},
        facts::Facts,
        ids::TenantId,
        message::Priority,
        question::Question,
        time::QuietHours,
    },
    policy::{
        assemble::{Assembler, BundleSources, PolicyEnvironment, SourceFile},
        bundle::Bundle,
        shipped,
        template::Words,
        view::{ChannelView, HistoryView, MessageView},
    },
    request::{self, Asked, Purpose},
};
use chrono::{Datelike as _, Timelike as _};
use serde_json::{Value, json};

use crate::outcome::{CRITERIA, Outcome, WEIGHTS};

/// The facts of one request, as criteria see them. Nothing else is in it, so that a stream of them is read from memory
/// as quickly as can be.
pub struct Case {
    pub message: MessageView<'static>,
    pub channels: PerChannel<ChannelView>,
}

/// The request that a case was made of.
pub struct Source {
    /// As the brief writes it; `facts` beside it.
    json: Value,
    asked: Asked,
    contacts: PerChannel<Contact>,
    words: Words,
}

/// The shipped policy, for a tenant with no file of its own.
pub fn bundle() -> Bundle {
    let own = SourceFile::new("tenants/acme.toml", Vec::new());
    let sources = BundleSources {
        tenant: TenantId::parse("acme").expect("a good name"),
        default: shipped::default(),
        own: Arc::new(own),
        criteria: shipped::criteria().into(),
        templates: shipped::templates().into(),
        tests: Vec::new().into(),
    };
    let assembled = Assembler::default().assemble(&sources, &PolicyEnvironment::default());
    assembled.expect("the shipped policies are good").bundle
}

/// A linear congruential generator: no two runs differ.
struct Draw(u64);

impl Draw {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % limit
    }

    fn of<'a>(&mut self, words: &[&'a str]) -> &'a str {
        let at = self.below(words.len() as u64);
        words[usize::try_from(at).expect("small")]
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.below(times) == 0
    }
}

const KINDS: [&str; 6] = ["appointment", "notification", "marketing", "survey", "document", "general"];
const LEVELS: [&str; 4] = ["low", "normal", "high", "urgent"];
const ADDRESSES: [(&str, &str); 4] = [
    ("prospectPhone", "+33612345678"),
    ("prospectEmail", "marie.dupont@example.com"),
    ("prospectWhatsApp", "+33612345678"),
    ("prospectTelegram", "123456789"),
];

/// So many requests with their facts.
pub fn stream(bundle: &Bundle, seed: u64, count: usize) -> (Vec<Case>, Vec<Source>) {
    let mut draw = Draw(seed);
    (0..count).map(|at| case(bundle, request(&mut draw, at))).unzip()
}

/// Names, addresses, kinds, priorities, lengths, hours, preferences and histories at random: each value that a
/// criterion asks for comes up, in every combination.
fn request(draw: &mut Draw, at: usize) -> Value {
    let mut context = json!({
        "tenantId": "acme",
        "prospectId": format!("prospect_{at}"),
        "prospectName": "Marie Dupont",
        "tags": ["agence", "visite"],
    });
    for (field, address) in ADDRESSES {
        if !draw.one_in(4) {
            context[field] = json!(address);
        }
    }
    if !draw.one_in(8) {
        context["messageType"] = json!(draw.of(&KINDS));
    }
    if !draw.one_in(8) {
        context["priority"] = json!({ "level": draw.of(&LEVELS), "sendWithin": 10 + draw.below(120) });
    }
    if !draw.one_in(3) {
        context["preferences"] = preferences(draw);
    }
    let mut content = json!({ "subject": "Votre visite", "body": "a".repeat(chars(draw)) });
    if draw.one_in(4) {
        content["html"] = json!("<p>Bonjour Marie</p>");
    }
    if draw.one_in(6) {
        let file =
            json!({ "filename": "plan.pdf", "content": "JVBERi0xLjQK", "contentType": "application/pdf" });
        content["attachments"] = json!([file]);
    }
    let instant = format!("2025-11-14T{:02}:{:02}:00+01:00", draw.below(24), draw.below(60));
    json!({ "context": context, "content": content, "at": instant, "facts": facts(draw) })
}

/// 20 to 420 characters.
fn chars(draw: &mut Draw) -> usize {
    20 + usize::try_from(draw.below(401)).expect("small")
}

fn preferences(draw: &mut Draw) -> Value {
    let channels = Channel::ALL.map(Channel::as_str);
    let mut preferences = json!({ "preferredChannels": [draw.of(&channels)] });
    if draw.one_in(4) {
        preferences["disabledChannels"] = json!([draw.of(&channels)]);
    }
    if draw.one_in(4) {
        preferences["quietHoursStart"] = json!(format!("{:02}:{:02}", 19 + draw.below(5), draw.below(60)));
        preferences["quietHoursEnd"] = json!(format!("{:02}:{:02}", 6 + draw.below(4), draw.below(60)));
    }
    if draw.one_in(4) {
        preferences["allowSMSDuringQuietHours"] = json!(true);
    }
    preferences
}

/// Of one recipient in five something is known: what they did with earlier messages, on some of the channels.
fn facts(draw: &mut Draw) -> Value {
    let mut history = json!({});
    if draw.one_in(5) {
        for channel in Channel::ALL {
            if draw.one_in(2) {
                let received = 1 + draw.below(40);
                let average = json!(draw.below(10) as f64 / 10.0);
                let past =
                    json!({ "received": received, "engaged": draw.below(received + 1), "average": average });
                history[channel.as_str()] = past;
            }
        }
    }
    json!({ "history": history })
}

fn case(bundle: &Bundle, json: Value) -> (Case, Source) {
    let asked = request::parse_value(json.clone(), Purpose::Explain).expect("a good request");
    let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
    let words = Words::plain(&asked.request.content);
    let priority = asked.request.priority.unwrap_or(bundle.policy().default_priority);
    let message = message(bundle, &asked, &words, priority).into_owned();
    let channels = PerChannel::from_fn(|c| channel(bundle, &asked, &contacts, &words, c));
    (Case { message, channels }, Source { json, asked, contacts, words })
}

fn message<'a>(bundle: &'a Bundle, asked: &'a Asked, words: &Words, priority: Priority) -> MessageView<'a> {
    let (request, profile, policy) = (&asked.request, words.message, bundle.policy());
    let at = asked.at.expect("every request of the stream has one");
    let local = at.with_timezone(&request.time_zone.unwrap_or(policy.time_zone)).naive_local();
    let (own, usual) = (&request.preferences, policy.quiet_hours.hours);
    let quiet =
        QuietHours { start: own.quiet_start.unwrap_or(usual.start), end: own.quiet_end.unwrap_or(usual.end) };
    MessageView {
        kind: request.kind,
        priority,
        template: None,
        tags: Cow::Borrowed(&request.tags),
        origin: request.origin,
        locale: Cow::Borrowed(request.locale.as_ref().unwrap_or(&policy.locale)),
        length: i64::from(profile.characters),
        segments: i64::from(profile.segments),
        has_html: profile.has_html,
        has_attachments: profile.attachments > 0,
        attachment_bytes: i64::try_from(profile.attachment_bytes).expect("small"),
        quiet: quiet.contains(local.time()),
        local_hour: i64::from(local.hour()),
        local_minute: i64::from(local.minute()),
        weekday: i64::from(local.weekday().number_from_monday()),
        minutes_to_event: None,
        send_within: request.send_within.map(i64::from),
        allow_sms_in_quiet_hours: request.preferences.allow_sms_in_quiet_hours,
    }
}

fn channel(
    bundle: &Bundle,
    asked: &Asked,
    contacts: &PerChannel<Contact>,
    words: &Words,
    channel: Channel,
) -> ChannelView {
    let terms = &bundle.policy().channels[channel];
    let segments = if channel == Channel::Sms { words.message.segments.max(1) } else { 1 };
    ChannelView {
        channel,
        preferred: asked.request.preferences.preferred.contains(&channel),
        disabled: asked.request.preferences.disabled.contains(&channel),
        available: contacts[channel].address().is_some(),
        opted_in: true,
        healthy: true,
        cost: terms.cost.times(segments).euros(),
        // No shipped criterion reads it; `check` would tell.
        delivery_seconds: 0,
        open_rate: terms.open_rate,
        rich_media: terms.rich_media,
        takes_attachments: terms.attachments,
        max_length: terms.max_length.map(i64::from),
        history: history(asked, channel),
    }
}

/// The recipient's rate drawn towards the average by four imagined messages (decide/views.rs).
fn history(asked: &Asked, channel: Channel) -> HistoryView {
    let past = asked.facts.as_ref().and_then(|facts| facts.history[channel]);
    let Some(past) = past else { return HistoryView::default() };
    let (received, engaged) = (f64::from(past.received), f64::from(past.engaged));
    HistoryView {
        received: i64::from(past.received),
        engaged: i64::from(past.engaged),
        rate: (engaged + 4.0 * past.average) / (received + 4.0),
        average: past.average,
        known: past.received >= 3,
    }
}

/// Asserts that an outcome is what the whole daemon decides of that request, criterion by criterion. Gates
/// (costs, opt-ins) rule out more than criteria do; what scores and reasons say is the same.
pub fn check(bundle: &Bundle, source: &Source, outcome: &Outcome) {
    let none = Facts::default();
    let input = DecisionInput {
        question: Question::of(&source.asked.request),
        reach: Reach::of(&source.contacts),
        words: &source.words,
        facts: source.asked.facts.as_ref().unwrap_or(&none),
        at: source.asked.at.expect("every request of the stream has one"),
        variant: None,
        generation: 1,
    };
    let decision = decide::decide(bundle, &input);
    for scored in &outcome.ranked {
        let whole = decision.channels.iter().find(|one| one.channel == scored.channel).expect("all four");
        let reasons: Vec<String> = whole.criteria.iter().filter_map(|one| one.reason.clone()).collect();
        let open = !whole.criteria.iter().any(|one| one.veto);
        let named: Vec<&str> = whole.criteria.iter().map(|one| one.criterion.as_str()).collect();
        let weights: Vec<f64> = whole.criteria.iter().map(|one| one.weight).collect();
        assert_eq!(named, CRITERIA, "the criteria have changed: so must the rivals' rules");
        assert_eq!(weights, WEIGHTS, "the weights have changed: so must the rivals' rules");
        assert_eq!(
            (scored.open, scored.score, &scored.reasons),
            (open, whole.score, &reasons),
            "the facts of this stream are not the daemon's: {}",
            source.json
        );
    }
}

/// Writes the stream for Node: a line for each request, with its facts and what must come out.
pub fn dump(path: &Path, (cases, sources): &(Vec<Case>, Vec<Source>), outcomes: &[Outcome]) {
    let mut file = std::io::BufWriter::new(fs::File::create(path).expect("a file to write to"));
    for ((case, source), outcome) in cases.iter().zip(sources).zip(outcomes) {
        writeln!(file, "{}", line(case, source, outcome)).expect("room for the stream");
    }
    file.flush().expect("room for the stream");
}

fn line(case: &Case, source: &Source, outcome: &Outcome) -> Value {
    let ranked = outcome.ranked.iter().map(|one| {
        json!({
            "channel": one.channel.as_str(), "open": one.open, "score": one.score, "reasons": one.reasons,
        })
    });
    let name = |channel: &Channel| channel.as_str();
    let mut request = source.json.clone();
    let facts = request.as_object_mut().and_then(|object| object.remove("facts")).unwrap_or(Value::Null);
    json!({
        "request": request,
        // What a request alone does not tell, `decide` in JavaScript cannot know.
        "known": facts["history"].as_object().is_some_and(|history| !history.is_empty()),
        "message": message_json(&case.message),
        "channels": Channel::ALL.map(|channel| channel_json(&case.channels[channel])),
        "expected": {
            "ranked": ranked.collect::<Vec<_>>(),
            "chosen": outcome.chosen.as_ref().map(name),
            "alternatives": outcome.alternatives.iter().map(name).collect::<Vec<_>>(),
        },
    })
}

/// The fields that the nine criteria read.
pub fn message_json(message: &MessageView<'_>) -> Value {
    json!({
        "type": message.kind.map(|kind| kind.as_str()),
        "priority": message.priority.as_str(),
        "length": message.length,
        "has_html": message.has_html,
        "has_attachments": message.has_attachments,
        "quiet": message.quiet,
        "allow_sms_in_quiet_hours": message.allow_sms_in_quiet_hours,
    })
}

/// The fields that the nine criteria and the ranking read.
pub fn channel_json(channel: &ChannelView) -> Value {
    let past = &channel.history;
    json!({
        "name": channel.channel.as_str(),
        "preferred": channel.preferred,
        "disabled": channel.disabled,
        "available": channel.available,
        "cost": channel.cost,
        "history": {
            "known": past.known, "rate": past.rate, "average": past.average,
            "engaged": past.engaged, "received": past.received,
        },
    })
}
