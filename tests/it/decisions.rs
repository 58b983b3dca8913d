//! Decisions under the shipped policies: the brief's examples, and thousands of random requests against a table
//! of points written down independently of the scripts (spec.md section 2, details.md section 1).

use channel_orchestrator::{
    decide::{self, Choice, DecisionInput, Standing, explanation},
    domain::{
        address::{Reach, read_contacts},
        channel::Channel,
        decision::{Decision, Gate},
        facts::Facts,
        question::Question,
    },
    policy::{
        bundle::Bundle,
        template::{Need, Words},
    },
    request::{self, Purpose},
};
use proptest::{prelude::*, sample::subsequence, test_runner::Config};
use serde_json::{Value, json};

use crate::support::bundle;

/// Decides as the daemon does, at the request's `at`.
pub fn decide(bundle: &Bundle, request: &Value) -> (Decision, explanation::Explanation) {
    let asked = request::parse_value(request.clone(), Purpose::Explain).unwrap();
    let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
    let facts: Facts = asked.facts.clone().unwrap_or_default();
    let words = Words::of(bundle, &asked.request, Need::Measure).unwrap();
    let input = DecisionInput {
        question: Question::of(&asked.request),
        reach: Reach::of(&contacts),
        words: &words,
        facts: &facts,
        at: asked.at.unwrap(),
        variant: asked.variant.as_deref(),
        generation: 0,
    };
    let decision = decide::decide(bundle, &input);
    assert_the_short_form_agrees(&decide::choose(bundle, &input), &decision);
    let explanation = explanation::explain(bundle, &input, &decision);
    (decision, explanation)
}

/// What an answer is made of says the same as the decision that is kept and explained.
pub fn assert_the_short_form_agrees(choice: &Choice<'_>, decision: &Decision) {
    let short = (choice.chosen, choice.held_until, choice.strategy, choice.priority);
    let long = (decision.chosen, decision.held_until, decision.strategy.as_deref(), decision.priority);
    assert_eq!(short, long);
    for (standing, told) in choice.ranking.iter().zip(&decision.channels) {
        let Standing { channel, eligible, score, confidence, held_until, cost, delivery_seconds } = *standing;
        assert_eq!((channel, eligible, score), (told.channel, told.eligible, told.score));
        assert_eq!((confidence, held_until, cost), (told.confidence, told.held_until, told.cost));
        assert_eq!(delivery_seconds, told.delivery_seconds);
        if eligible {
            assert_eq!(choice.reasons(channel).collect::<Vec<_>>().join("; "), told.reason);
        }
    }
}

pub fn example(name: &str, at: &str) -> Value {
    let path = format!("{}/examples/requests/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let mut request: Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
    request["context"]["tenantId"] = json!("acme");
    request["at"] = json!(at);
    request
}

pub const DAY: &str = "2025-11-14T15:00:00+01:00";
pub const NIGHT: &str = "2025-11-14T23:00:00+01:00";

#[test]
fn the_briefs_examples() {
    let bundle = bundle("");
    for (name, at, channel, confidence) in [
        ("urgent", DAY, Channel::Sms, 0.90),
        ("marketing", DAY, Channel::Email, 0.95),
        ("quiet_hours", NIGHT, Channel::Email, 0.75),
        ("fallback", DAY, Channel::Sms, 0.75),
    ] {
        let (decision, _) = decide(&bundle, &example(name, at));
        let winner = decision.winner().unwrap();
        assert_eq!((winner.channel, winner.confidence), (channel, confidence), "{name}");
    }
    let (decision, explanation) = decide(&bundle, &example("quiet_hours", NIGHT));
    let sms = decision.channel(Channel::Sms);
    assert!(sms.eligible, "held, not refused");
    assert_eq!(sms.held_reason.as_deref(), Some("quiet hours until 08:00"));
    let night = sms.criteria.iter().find(|c| c.criterion.as_str() == "quiet_hours").unwrap();
    assert_eq!((night.points, night.reason.as_deref()), (-30.0, Some("Quiet hours - SMS intrusive")));
    assert_eq!(night.source.as_deref().map(|s| s.starts_with("criteria/quiet_hours.rhai:")), Some(true));
    assert!(!explanation.flips.is_empty(), "{explanation:#?}");
}

/// One random request, in the terms of the table.
#[derive(Clone, Debug)]
struct Case {
    kind: Option<&'static str>,
    priority: &'static str,
    contacts: Vec<&'static str>,
    preferred: Vec<&'static str>,
    disabled: Vec<&'static str>,
    length: usize,
    html: bool,
    attachment: bool,
    hour: u32,
    allow_sms: bool,
}

const CHANNELS: [&str; 4] = ["sms", "email", "whatsapp", "telegram"];

fn cases() -> impl Strategy<Value = Case> {
    let some = |most: usize| subsequence(CHANNELS.to_vec(), 0..=most);
    let kinds = ["appointment", "notification", "marketing", "survey", "document", "general"];
    (
        proptest::option::of(proptest::sample::select(kinds.to_vec())),
        proptest::sample::select(vec!["low", "normal", "high", "urgent"]),
        (some(4), some(2), some(1)),
        prop_oneof![0..400_usize, 159..163_usize, 305..310_usize, 455..465_usize],
        (any::<bool>(), proptest::bool::weighted(0.3), 0..24_u32, proptest::bool::weighted(0.2)),
    )
        .prop_map(|(kind, priority, (contacts, preferred, disabled), length, rest)| {
            let (html, attachment, hour, allow_sms) = rest;
            Case { kind, priority, contacts, preferred, disabled, length, html, attachment, hour, allow_sms }
        })
}

impl Case {
    fn request(&self) -> Value {
        let has = |channel: &str| self.contacts.contains(&channel);
        let mut context = json!({
            "tenantId": "acme", "prospectId": "p", "priority": { "level": self.priority },
            "preferences": {
                "preferredChannels": self.preferred, "disabledChannels": self.disabled,
                "allowSMSDuringQuietHours": self.allow_sms
            }
        });
        for (channel, field, address) in [
            ("sms", "prospectPhone", "+33612345678"),
            ("email", "prospectEmail", "client@example.com"),
            ("whatsapp", "prospectWhatsApp", "+33612345678"),
            ("telegram", "prospectTelegram", "123456"),
        ] {
            if has(channel) {
                context[field] = json!(address);
            }
        }
        if let Some(kind) = self.kind {
            context["messageType"] = json!(kind);
        }
        let mut content = json!({ "body": "a".repeat(self.length) });
        if self.html {
            content["html"] = json!("<p>x</p>");
        }
        if self.attachment {
            content["attachments"] = json!([{ "filename": "a.pdf", "content": "JVBERg==" }]);
        }
        let at = format!("2025-11-14T{:02}:30:00+01:00", self.hour);
        json!({ "context": context, "content": content, "at": at })
    }

    fn quiet(&self) -> bool {
        self.hour >= 22 || self.hour < 8
    }

    /// The table of points: (points, reason), in criterion order.
    fn table(&self, channel: &str) -> Vec<(f64, &'static str)> {
        let mut said = Vec::new();
        if self.preferred.contains(&channel) {
            said.push((30.0, "Preferred channel"));
        }
        match (self.priority, channel) {
            ("urgent", "sms") => said.push((25.0, "SMS best for urgent messages (98% open rate)")),
            ("urgent", "whatsapp") => said.push((20.0, "WhatsApp good for urgent messages")),
            ("urgent", "email") => said.push((5.0, "Email slower for urgent messages")),
            ("high", "sms") => said.push((15.0, "SMS fast for important messages")),
            ("high", "whatsapp") => said.push((10.0, "WhatsApp fast for important messages")),
            ("high", "email") => said.push((5.0, "Email fine for important messages")),
            ("low", "email") => said.push((25.0, "Email best for low priority (cost-effective)")),
            _ => {}
        }
        match channel {
            _ if !(self.html || self.attachment) => {}
            "email" => said.push((25.0, "Email supports rich content and attachments")),
            "whatsapp" => said.push((15.0, "WhatsApp supports rich media")),
            "sms" => said.push((-20.0, "SMS limited for rich content")),
            _ => {}
        }
        match channel {
            _ if self.length <= 160 => {}
            "email" => said.push((20.0, "Email better for long messages")),
            "sms" => said.push((-10.0, "SMS expensive for long messages")),
            _ => {}
        }
        match channel {
            "telegram" => said.push((20.0, "Telegram free")),
            "email" => said.push((15.0, "Email very cost-effective")),
            "whatsapp" => said.push((10.0, "WhatsApp affordable")),
            "sms" if self.priority == "low" => said.push((-10.0, "SMS costly for low priority")),
            _ => {}
        }
        match channel {
            _ if !self.quiet() => {}
            "sms" if self.priority != "urgent" && !self.allow_sms => {
                said.push((-30.0, "Quiet hours - SMS intrusive"));
            }
            "email" => said.push((10.0, "Email respectful during quiet hours")),
            _ => {}
        }
        match (self.kind, channel) {
            (Some("appointment"), "sms") => said.push((15.0, "SMS excellent for appointments")),
            (Some("marketing"), "email") => said.push((20.0, "Email ideal for marketing")),
            (Some("marketing"), "sms") => said.push((-15.0, "SMS intrusive for marketing")),
            (Some("notification"), "sms" | "whatsapp") => {
                said.push((15.0, "Instant channel good for notifications"));
            }
            (Some("survey"), "email") => said.push((15.0, "Email good for surveys")),
            _ => {}
        }
        said
    }

    fn segments(&self) -> usize {
        if self.length <= 160 { 1 } else { self.length.div_ceil(153) }
    }

    /// Micro-euros.
    fn cost(&self, channel: &str) -> i64 {
        match channel {
            "sms" => 50_000 * self.segments() as i64,
            "email" => 600,
            "whatsapp" => 10_000,
            _ => 0,
        }
    }

    fn delay(&self, channel: &str) -> u32 {
        match (channel, self.priority) {
            ("sms", _) => 10,
            ("whatsapp", _) => 30,
            ("telegram", _) => 5,
            (_, "urgent") => 300,
            (_, "low") => 120,
            _ => 60,
        }
    }

    fn usable(&self, channel: &str) -> bool {
        let limit = if self.priority == "urgent" { 300_000 } else { 100_000 };
        self.contacts.contains(&channel)
            && !self.disabled.contains(&channel)
            && (channel != "sms" || (!self.attachment && self.length > 0 && self.cost("sms") <= limit))
    }

    /// The usable channels, best first, with score and reasons.
    fn ranking(&self) -> Vec<(&'static str, f64, String)> {
        let mut ranked: Vec<_> = CHANNELS
            .into_iter()
            .filter(|c| self.usable(c))
            .map(|channel| {
                let said = self.table(channel);
                let reasons: Vec<&str> = said.iter().map(|(_, reason)| *reason).collect();
                (channel, said.iter().map(|(points, _)| points).sum::<f64>(), reasons.join("; "))
            })
            .collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1).then(self.cost(a.0).cmp(&self.cost(b.0))));
        ranked
    }
}

#[test]
fn random_requests_against_an_independent_table_of_points() {
    let bundle = bundle("");
    let config = Config { cases: 5_000, failure_persistence: None, ..Config::default() };
    let mut runner = proptest::test_runner::TestRunner::new_with_rng(
        config,
        proptest::test_runner::TestRng::deterministic_rng(proptest::test_runner::RngAlgorithm::ChaCha),
    );
    let outcome = runner.run(&cases(), |case| {
        let asked = request::parse_value(case.request(), Purpose::Explain).unwrap();
        let contacts = read_contacts(&asked.request.contacts, bundle.policy().region);
        let facts = Facts::default();
        let words = Words::plain(&asked.request.content);
        let input = DecisionInput {
            question: Question::of(&asked.request),
            reach: Reach::of(&contacts),
            words: &words,
            facts: &facts,
            at: asked.at.unwrap(),
            variant: None,
            generation: 0,
        };
        let decision = decide::decide(&bundle, &input);
        assert_the_short_form_agrees(&decide::choose(&bundle, &input), &decision);
        let expected = case.ranking();
        let got: Vec<_> = decision.channels.iter().filter(|c| c.eligible).collect();
        let order: Vec<&str> = got.iter().map(|c| c.channel.as_str()).collect();
        prop_assert_eq!(&order, &expected.iter().map(|(c, ..)| *c).collect::<Vec<_>>());
        for (decided, (channel, score, reasons)) in got.iter().zip(&expected) {
            prop_assert_eq!(decided.score, *score);
            let confidence = ((50.0 + score) / 100.0).clamp(0.0, 0.95);
            prop_assert!((decided.confidence - confidence).abs() < 1e-9);
            prop_assert_eq!(&decided.reason, reasons);
            prop_assert_eq!(decided.cost.0, case.cost(channel));
            prop_assert_eq!(decided.delivery_seconds, case.delay(channel));
            let rings = *channel != "email";
            let lets = case.priority == "urgent" || (*channel == "sms" && case.allow_sms);
            prop_assert_eq!(decided.held_until.is_some(), case.quiet() && rings && !lets);
        }
        prop_assert_eq!(decision.chosen.map(Channel::as_str), expected.first().map(|(c, ..)| *c));
        Ok(())
    });
    if let Err(failure) = outcome {
        panic!("{failure}");
    }
}

/// Each gate, tried on its own: what closes it, and in which words.
#[test]
fn every_gate_names_itself() {
    let plain = |extra: Value| {
        let mut request = json!({
            "context": {
                "tenantId": "acme", "prospectId": "p", "messageType": "notification",
                "prospectPhone": "06 12 34 56 78", "prospectEmail": "client@example.com",
                "prospectWhatsApp": "+33612345678"
            },
            "content": { "body": "Bonjour" }, "at": DAY
        });
        merge(&mut request, extra);
        request
    };
    let cases: Vec<(&str, Value, Channel, Gate, &str)> = vec![
        (
            "",
            json!({"context": {"prospectPhone": "06 12"}}),
            Channel::Sms,
            Gate::Address,
            "not a phone number: \"06 12\"",
        ),
        ("", json!({}), Channel::Telegram, Gate::Address, "Contact info not available"),
        (
            "",
            json!({"facts": {"drivers": {"sms": {"configured": false}}}}),
            Channel::Sms,
            Gate::Driver,
            "no driver",
        ),
        ("", json!({"facts": {"drivers": {"sms": {"healthy": false}}}}), Channel::Sms, Gate::Driver, "down"),
        ("[channels.sms]\nenabled = false", json!({}), Channel::Sms, Gate::Disabled, "switched off"),
        (
            "",
            json!({"context": {"preferences": {"disabledChannels": ["sms"]}}}),
            Channel::Sms,
            Gate::Disabled,
            "disabled by the recipient",
        ),
        (
            "",
            json!({"facts": {"suppressions": {"sms": "STOP on 2025-01-01"}}}),
            Channel::Sms,
            Gate::Suppressed,
            "STOP",
        ),
        (
            "[consent]\nmarketing_required = true",
            json!({"context": {"messageType": "marketing"}}),
            Channel::Email,
            Gate::Consent,
            "consent",
        ),
        (
            "",
            json!({"context": {"messageType": "marketing", "consent": false}}),
            Channel::Email,
            Gate::Consent,
            "did not agree",
        ),
        ("[consent]\nopt_in = \"recorded\"", json!({}), Channel::WhatsApp, Gate::OptIn, "opt-in"),
        (
            "",
            json!({"content": {"attachments": [{"filename": "a.pdf", "content": "JVBERg=="}]}}),
            Channel::Sms,
            Gate::Content,
            "no attachments",
        ),
        ("", json!({"content": {"body": "", "html": "<p>x</p>"}}), Channel::Sms, Gate::Content, "no text"),
        (
            "",
            json!({"content": {"body": "a".repeat(5000)}}),
            Channel::WhatsApp,
            Gate::Content,
            "at most 4096",
        ),
        (
            "",
            json!({"facts": {"inServiceWindow": {"whatsapp": false}}}),
            Channel::WhatsApp,
            Gate::ServiceWindow,
            "whatsapp then takes approved templates only",
        ),
        (
            "",
            json!({"content": {"body": "a".repeat(450)}}),
            Channel::Sms,
            Gate::Cost,
            "3 segments, 0.15 EUR, limit 0.10",
        ),
        ("[budget]\nenforce = true", json!({}), Channel::Sms, Gate::Cost, "above the target of 0.01"),
        (
            "[budget]\ndaily = 10.0",
            json!({"facts": {"spend": {"today": 9.98}}}),
            Channel::Sms,
            Gate::Budget,
            "daily budget used up: 9.98 of 10.00",
        ),
        (
            "[budget]\nmonthly = 10.0",
            json!({"facts": {"spend": {"thisMonth": 10.0}}}),
            Channel::Email,
            Gate::Budget,
            "monthly budget",
        ),
        (
            "[budget.origins.public]\ndaily = 1.0",
            json!({"context": {"origin": "public"}, "facts": {"spend": {"originToday": 1.0}}}),
            Channel::Sms,
            Gate::Budget,
            "daily budget of public",
        ),
        (
            "[budget]\ndaily = 10.0\non_limit = \"cheapest\"",
            json!({"facts": {"spend": {"today": 10.0}}}),
            Channel::Sms,
            Gate::Budget,
            "only the cheapest",
        ),
        (
            "",
            json!({"deadline": "2025-11-14T10:00:00Z"}),
            Channel::Sms,
            Gate::Deadline,
            "the deadline passed",
        ),
        (
            "",
            json!({"at": NIGHT, "context": {"priority": {"sendWithin": 30}}}),
            Channel::Sms,
            Gate::Deadline,
            "quiet hours until 08:00, after the deadline",
        ),
        (
            "[quiet_hours]\naction = \"skip\"",
            json!({"at": NIGHT}),
            Channel::Sms,
            Gate::QuietHours,
            "quiet hours",
        ),
        ("", json!({"context": {"tags": ["newsletter"]}}), Channel::Sms, Gate::Strategy, "allows email only"),
    ];
    for (toml, extra, channel, gate, words) in cases {
        let request = plain(extra);
        let (decision, _) = decide(&bundle(toml), &request);
        let decided = decision.channel(channel);
        let found = decided.gates.iter().find(|g| g.gate == gate);
        let reason = found.map(|g| g.reason.as_str()).unwrap_or_default();
        assert!(reason.contains(words), "{gate:?} {words:?} in {:?} for {request}", decided.gates);
        assert!(!decided.eligible);
        assert_ne!(decision.chosen, Some(channel));
    }
}

fn merge(into: &mut Value, from: Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from,
    }
}

#[test]
fn what_would_be_held_waits_and_what_cannot_wait_goes_elsewhere() {
    let night = |extra: Value| {
        let mut request = json!({
            "context": {
                "tenantId": "acme", "prospectId": "p", "messageType": "appointment",
                "prospectPhone": "+33612345678"
            },
            "content": { "body": "Bonjour" }, "at": NIGHT
        });
        merge(&mut request, extra);
        request
    };
    let bundle = bundle("");
    let (held, _) = decide(&bundle, &night(json!({})));
    assert_eq!(held.chosen, Some(Channel::Sms));
    assert_eq!(held.held_until.unwrap().to_rfc3339(), "2025-11-15T07:00:00+00:00");
    let (urgent, _) = decide(&bundle, &night(json!({"context": {"priority": {"level": "urgent"}}})));
    assert_eq!((urgent.chosen, urgent.held_until), (Some(Channel::Sms), None));
    let (let_through, _) =
        decide(&bundle, &night(json!({"context": {"preferences": {"allowSMSDuringQuietHours": true}}})));
    assert_eq!(let_through.held_until, None);
    let (elsewhere, _) = decide(
        &bundle,
        &night(json!({"context": {
            "priority": {"sendWithin": 60}, "prospectEmail": "client@example.com",
            "preferences": {"preferredChannels": ["sms"]}
        }})),
    );
    assert_eq!((elsewhere.chosen, elsewhere.held_until), (Some(Channel::Email), None));
    let (expired, _) = decide(&bundle, &night(json!({"context": {"priority": {"sendWithin": 60}}})));
    assert_eq!(expired.chosen, None);
}

#[test]
fn a_split_is_sticky_and_near_its_shares() {
    let bundle = bundle("[variants.frugal.weights]\ncost = 40\n[split]\ncontrol = 50\nfrugal = 50\n");
    let arm = |at: usize| {
        let recipient = channel_orchestrator::domain::ids::RecipientId::parse(&format!("p{at}")).unwrap();
        decide::assign_variant(&bundle, &recipient).unwrap().to_owned()
    };
    let frugal = (0..2_000).filter(|at| arm(*at) == "frugal").count();
    assert!((900..1_100).contains(&frugal), "{frugal}");
    assert_eq!(arm(7), arm(7));
}
