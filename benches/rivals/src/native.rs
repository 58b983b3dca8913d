//! The limit: the nine criteria, the weights and the ranking written by hand in Rust, with no engine at all.
//!
//! Timed: from the facts to scores, order, alternatives and the reasons of all four channels. A reason is a constant
//! text, or says where its numbers are (`Reason::History`); texts are put together when they are shown, by the
//! compiled form as well, and that is not timed. No table is made by hand: this is what a good programmer writes.

use std::hint::black_box;

use channel_orchestrator::{
    domain::{
        channel::{Channel, PerChannel},
        message::{MessageKind, Priority},
    },
    policy::view::{ChannelView, HistoryView, MessageView},
};

use crate::{
    engine::Engine,
    outcome::{Outcome, Points, Ranking, Tally, WEIGHTS, rank, spell},
    stream::Case,
};

pub struct Native;

/// Why a channel won or lost points.
#[derive(Clone, Copy)]
enum Reason {
    Said(&'static str),
    /// What this recipient did before; the numbers are in the facts.
    History,
}

/// At most one for each criterion, in their order; no heap.
#[derive(Clone, Copy)]
struct Reasons {
    said: [Reason; 9],
    count: usize,
}

pub struct Decision {
    points: PerChannel<Points>,
    reasons: PerChannel<Reasons>,
    ranking: Ranking,
}

impl Engine for Native {
    type Said = Decision;

    fn score(&mut self, case: &Case) -> Decision {
        // As if message and channels came from elsewhere.
        decide(black_box(&case.message), black_box(&case.channels))
    }

    fn spell(&self, case: &Case, said: Decision) -> Outcome {
        spell(&said.ranking, &said.points, |channel| {
            let reasons = &said.reasons[channel];
            let text = |reason: &Reason| match reason {
                Reason::Said(text) => (*text).to_owned(),
                Reason::History => history_text(&case.channels[channel]),
            };
            reasons.said[..reasons.count].iter().map(text).collect()
        })
    }
}

fn decide(message: &MessageView, channels: &PerChannel<std::sync::Arc<ChannelView>>) -> Decision {
    let mut points = PerChannel::<Points>::default();
    let silent = Reasons { said: [Reason::History; 9], count: 0 };
    let mut reasons = PerChannel { sms: silent, email: silent, whatsapp: silent, telegram: silent };
    for channel in Channel::ALL {
        let facts = &*channels[channel];
        points[channel] = score(message, facts, &mut reasons[channel]).points(facts.cost);
    }
    Decision { points, reasons, ranking: rank(&points) }
}

fn score(message: &MessageView, channel: &ChannelView, reasons: &mut Reasons) -> Tally {
    let mut tally = Tally::default();
    let mut say = |tally: &mut Tally, said: Option<(f64, Reason)>, weight: f64| {
        if let Some((share, reason)) = said {
            tally.add(share, weight);
            reasons.said[reasons.count] = reason;
            reasons.count += 1;
        }
    };
    if channel.disabled {
        tally.close();
        say(&mut tally, Some((0.0, Reason::Said("Channel disabled by the recipient"))), WEIGHTS[0]);
    } else if channel.preferred {
        say(&mut tally, Some((1.0, Reason::Said("Preferred channel"))), WEIGHTS[0]);
    }
    let text = |said: Option<(f64, &'static str)>| said.map(|(share, text)| (share, Reason::Said(text)));
    say(&mut tally, text(urgency(message, channel)), WEIGHTS[1]);
    say(&mut tally, text(content(message, channel)), WEIGHTS[2]);
    say(&mut tally, text(length(message, channel)), WEIGHTS[3]);
    say(&mut tally, text(cost(message, channel)), WEIGHTS[4]);
    say(&mut tally, text(quiet_hours(message, channel)), WEIGHTS[5]);
    say(&mut tally, text(message_type(message, channel)), WEIGHTS[6]);
    say(&mut tally, history(&channel.history).map(|share| (share, Reason::History)), WEIGHTS[7]);
    if !channel.available {
        tally.close();
        say(&mut tally, Some((0.0, Reason::Said("Contact info not available"))), WEIGHTS[8]);
    }
    tally
}

fn urgency(message: &MessageView, channel: &ChannelView) -> Option<(f64, &'static str)> {
    Some(match (message.priority, channel.channel) {
        (Priority::Urgent, Channel::Sms) => (1.0, "SMS best for urgent messages (98% open rate)"),
        (Priority::Urgent, Channel::WhatsApp) => (20.0 / 25.0, "WhatsApp good for urgent messages"),
        (Priority::Urgent, Channel::Email) => (5.0 / 25.0, "Email slower for urgent messages"),
        (Priority::High, Channel::Sms) => (15.0 / 25.0, "SMS fast for important messages"),
        (Priority::High, Channel::WhatsApp) => (10.0 / 25.0, "WhatsApp fast for important messages"),
        (Priority::High, Channel::Email) => (5.0 / 25.0, "Email fine for important messages"),
        (Priority::Low, Channel::Email) => (1.0, "Email best for low priority (cost-effective)"),
        _ => return None,
    })
}

fn content(message: &MessageView, channel: &ChannelView) -> Option<(f64, &'static str)> {
    if !message.has_html && !message.has_attachments {
        return None;
    }
    match channel.channel {
        Channel::Email => Some((1.0, "Email supports rich content and attachments")),
        Channel::WhatsApp => Some((15.0 / 25.0, "WhatsApp supports rich media")),
        Channel::Sms => Some((-20.0 / 25.0, "SMS limited for rich content")),
        Channel::Telegram => None,
    }
}

fn length(message: &MessageView, channel: &ChannelView) -> Option<(f64, &'static str)> {
    match channel.channel {
        Channel::Email if message.length > 160 => Some((1.0, "Email better for long messages")),
        Channel::Sms if message.length > 160 => Some((-10.0 / 20.0, "SMS expensive for long messages")),
        _ => None,
    }
}

fn cost(message: &MessageView, channel: &ChannelView) -> Option<(f64, &'static str)> {
    match channel.channel {
        Channel::Telegram => Some((1.0, "Telegram free")),
        Channel::Email => Some((15.0 / 20.0, "Email very cost-effective")),
        Channel::WhatsApp => Some((10.0 / 20.0, "WhatsApp affordable")),
        Channel::Sms if message.priority == Priority::Low => {
            Some((-10.0 / 20.0, "SMS costly for low priority"))
        }
        Channel::Sms => None,
    }
}

fn quiet_hours(message: &MessageView, channel: &ChannelView) -> Option<(f64, &'static str)> {
    if !message.quiet {
        return None;
    }
    match channel.channel {
        Channel::Sms if message.priority != Priority::Urgent && !message.allow_sms_in_quiet_hours => {
            Some((-1.0, "Quiet hours - SMS intrusive"))
        }
        Channel::Email => Some((10.0 / 30.0, "Email respectful during quiet hours")),
        _ => None,
    }
}

fn message_type(message: &MessageView, channel: &ChannelView) -> Option<(f64, &'static str)> {
    Some(match (message.kind?, channel.channel) {
        (MessageKind::Appointment, Channel::Sms) => (15.0 / 20.0, "SMS excellent for appointments"),
        (MessageKind::Marketing, Channel::Email) => (1.0, "Email ideal for marketing"),
        (MessageKind::Marketing, Channel::Sms) => (-15.0 / 20.0, "SMS intrusive for marketing"),
        (MessageKind::Notification, Channel::Sms | Channel::WhatsApp) => {
            (15.0 / 20.0, "Instant channel good for notifications")
        }
        (MessageKind::Survey, Channel::Email) => (15.0 / 20.0, "Email good for surveys"),
        _ => return None,
    })
}

/// Scripts compare numbers up to their last bit, so that 23.8 / 34 is no more than 0.7.
fn alike(a: f64, b: f64) -> bool {
    (a - b).abs() <= f64::EPSILON * a.max(b)
}

fn history(past: &HistoryView) -> Option<f64> {
    if !past.known || alike(past.rate, past.average) {
        None
    } else if past.rate < past.average {
        Some(-((past.average - past.rate) / past.average))
    } else {
        Some((past.rate - past.average) / (1.0 - past.average))
    }
}

fn history_text(channel: &ChannelView) -> String {
    let (did, what) = match channel.channel {
        Channel::Sms => ("answered", "SMS"),
        Channel::Email => ("opened", "emails"),
        Channel::WhatsApp => ("read", "WhatsApp messages"),
        Channel::Telegram => ("answered", "Telegram messages"),
    };
    let past = &channel.history;
    let average = (past.average * 100.0).round();
    format!("{did} {} of {} {what} (average {average}%)", past.engaged, past.received)
}
