//! Decisions per second in process: the shipped scripts beside the same rules written by hand in Rust, on the
//! same stream of requests.
//!
//!     cargo bench --bench decide
//!
//! The ratio of the two is the figure to quote: machines differ, and this one may be busy.

use std::hint::black_box;

use channel_orchestrator::{
    decide::{self, DecisionInput},
    domain::{
        address::{Contact, Reach, read_contacts},
        channel::{Channel, PerChannel},
        facts::Facts,
        message::{MessageKind, MessageRequest, Priority},
        question::Question,
    },
    policy::{bundle::Bundle, template::Words},
    request::{self, Purpose},
};
use chrono::{DateTime, Timelike, Utc};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use serde_json::json;

#[allow(dead_code)]
#[path = "../tests/it/support/mod.rs"]
mod support;

/// One request with all that deciding it takes, gathered beforehand.
struct Asked {
    request: MessageRequest,
    contacts: PerChannel<Contact>,
    words: Words,
    at: DateTime<Utc>,
}

const REQUESTS: usize = 2_000;

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
                at: asked.at.expect("given above"),
                request: asked.request,
            }
        })
        .collect()
}

/// What the hand-written rules answer.
struct Native {
    order: [(Channel, f64); 4],
    reasons: [Vec<&'static str>; 4],
}

/// The nine criteria under the shipped weights, written by hand.
fn native(asked: &Asked) -> Native {
    let local = asked.at.with_timezone(&chrono_tz::Europe::Paris);
    let quiet = local.hour() >= 22 || local.hour() < 8;
    let mut reasons: [Vec<&'static str>; 4] = Default::default();
    let mut order = Channel::ALL.map(|channel| {
        let mut sum = 0.0;
        let said = &mut reasons[channel.index()];
        let mut say = |points: f64, reason: &'static str| {
            sum += points;
            said.push(reason);
        };
        if asked.request.preferences.preferred.contains(&channel) {
            say(30.0, "Preferred channel");
        }
        if let Some((points, reason)) = urgency(asked.request.priority, channel) {
            say(points, reason);
        }
        if asked.words.message.has_html || asked.words.message.attachments > 0 {
            match channel {
                Channel::Email => say(25.0, "Email supports rich content and attachments"),
                Channel::WhatsApp => say(15.0, "WhatsApp supports rich media"),
                Channel::Sms => say(-20.0, "SMS limited for rich content"),
                Channel::Telegram => {}
            }
        }
        if asked.words.message.characters > 160 {
            match channel {
                Channel::Email => say(20.0, "Email better for long messages"),
                Channel::Sms => say(-10.0, "SMS expensive for long messages"),
                _ => {}
            }
        }
        match channel {
            Channel::Telegram => say(20.0, "Telegram free"),
            Channel::Email => say(15.0, "Email very cost-effective"),
            Channel::WhatsApp => say(10.0, "WhatsApp affordable"),
            Channel::Sms if asked.request.priority == Some(Priority::Low) => {
                say(-10.0, "SMS costly for low priority");
            }
            Channel::Sms => {}
        }
        if quiet {
            let spared = asked.request.priority == Some(Priority::Urgent)
                || asked.request.preferences.allow_sms_in_quiet_hours;
            match channel {
                Channel::Sms if !spared => say(-30.0, "Quiet hours - SMS intrusive"),
                Channel::Email => say(10.0, "Email respectful during quiet hours"),
                _ => {}
            }
        }
        if let Some((points, reason)) = kind(asked.request.kind, channel) {
            say(points, reason);
        }
        let usable = asked.contacts[channel].address().is_some()
            && !asked.request.preferences.disabled.contains(&channel);
        (channel, if usable { sum } else { f64::NEG_INFINITY })
    });
    order.sort_by(|a, b| b.1.total_cmp(&a.1));
    Native { order, reasons }
}

fn urgency(priority: Option<Priority>, channel: Channel) -> Option<(f64, &'static str)> {
    Some(match (priority?, channel) {
        (Priority::Urgent, Channel::Sms) => (25.0, "SMS best for urgent messages (98% open rate)"),
        (Priority::Urgent, Channel::WhatsApp) => (20.0, "WhatsApp good for urgent messages"),
        (Priority::Urgent, Channel::Email) => (5.0, "Email slower for urgent messages"),
        (Priority::High, Channel::Sms) => (15.0, "SMS fast for important messages"),
        (Priority::High, Channel::WhatsApp) => (10.0, "WhatsApp fast for important messages"),
        (Priority::High, Channel::Email) => (5.0, "Email fine for important messages"),
        (Priority::Low, Channel::Email) => (25.0, "Email best for low priority (cost-effective)"),
        _ => return None,
    })
}

fn kind(kind: Option<MessageKind>, channel: Channel) -> Option<(f64, &'static str)> {
    Some(match (kind?, channel) {
        (MessageKind::Appointment, Channel::Sms) => (15.0, "SMS excellent for appointments"),
        (MessageKind::Marketing, Channel::Email) => (20.0, "Email ideal for marketing"),
        (MessageKind::Marketing, Channel::Sms) => (-15.0, "SMS intrusive for marketing"),
        (MessageKind::Notification, Channel::Sms | Channel::WhatsApp) => {
            (15.0, "Instant channel good for notifications")
        }
        (MessageKind::Survey, Channel::Email) => (15.0, "Email good for surveys"),
        _ => return None,
    })
}

fn scripted(bundle: &Bundle, asked: &Asked, facts: &Facts) -> Option<Channel> {
    let input = DecisionInput {
        question: Question::of(&asked.request),
        reach: Reach::of(&asked.contacts),
        words: &asked.words,
        facts,
        at: asked.at,
        variant: None,
        generation: 1,
    };
    decide::decide(bundle, &input).chosen
}

fn benches(c: &mut Criterion) {
    let bundle = support::bundle("");
    let stream = stream(&bundle);
    let facts = Facts::default();
    // The two must agree where both may choose, or the comparison means nothing.
    let agree = stream.iter().filter(|asked| {
        let hand = native(asked).order[0];
        scripted(&bundle, asked, &facts).is_none_or(|chosen| chosen == hand.0 || hand.1.is_infinite())
    });
    assert!(agree.count() * 100 >= stream.len() * 95, "the hand-written rules differ from the scripts");

    let mut group = c.benchmark_group("decide");
    group.throughput(Throughput::Elements(1));
    let mut next = stream.iter().cycle();
    group.bench_function("hand-written Rust", |b| {
        b.iter(|| {
            let native = native(black_box(next.next().expect("endless")));
            black_box((native.order[0].0, native.reasons[0].len()))
        });
    });
    let mut next = stream.iter().cycle();
    group.bench_function("shipped scripts", |b| {
        b.iter(|| black_box(scripted(&bundle, next.next().expect("endless"), &facts)));
    });
    group.finish();
}

criterion_group!(group, benches);
criterion_main!(group);
