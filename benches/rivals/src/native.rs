//! The limit: the nine criteria, the weights and the ranking written by hand in Rust, with no engine at all.
//!
//! Timed: from the facts to scores, order, alternatives and the reasons of all four channels. A reason is
//! a byte (`reason::Reason`): its text is looked up or put together when it is shown, and that is not timed. No heap.
//! No table is made by hand: this is what a good programmer writes who wants it fast.

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
    reason::Reason,
    stream::Case,
};

pub struct Native;

/// At most one for each criterion, in their order; no heap.
#[derive(Clone, Copy)]
struct Reasons {
    said: [Reason; 9],
    count: u8,
}

impl Reasons {
    const NONE: Self = Self { said: [Reason::History; 9], count: 0 };

    fn push(&mut self, reason: Reason) {
        self.said[usize::from(self.count)] = reason;
        self.count += 1;
    }
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
            let Reasons { said, count } = &said.reasons[channel];
            said[..usize::from(*count)].iter().map(|reason| reason.text(&case.channels[channel])).collect()
        })
    }
}

fn decide(message: &MessageView<'_>, channels: &PerChannel<ChannelView>) -> Decision {
    // One after the other, so that the compiler makes each channel's own code.
    let (sms, sms_reasons) = score(Channel::Sms, message, &channels[Channel::Sms]);
    let (email, email_reasons) = score(Channel::Email, message, &channels[Channel::Email]);
    let (whatsapp, whatsapp_reasons) = score(Channel::WhatsApp, message, &channels[Channel::WhatsApp]);
    let (telegram, telegram_reasons) = score(Channel::Telegram, message, &channels[Channel::Telegram]);
    let points = PerChannel::new([sms, email, whatsapp, telegram]);
    let reasons = PerChannel::new([sms_reasons, email_reasons, whatsapp_reasons, telegram_reasons]);
    Decision { points, reasons, ranking: rank(&points) }
}

#[inline(always)]
fn score(name: Channel, message: &MessageView<'_>, channel: &ChannelView) -> (Points, Reasons) {
    let mut tally = Tally::default();
    let mut reasons = Reasons::NONE;
    let mut say = |said: Option<(f64, Reason)>, weight: f64| {
        if let Some((share, reason)) = said {
            tally.add(share, weight);
            reasons.push(reason);
        }
    };
    say(preferences(channel), WEIGHTS[0]);
    say(urgency(name, message), WEIGHTS[1]);
    say(content(name, message), WEIGHTS[2]);
    say(length(name, message), WEIGHTS[3]);
    say(cost(name, message), WEIGHTS[4]);
    say(quiet_hours(name, message), WEIGHTS[5]);
    say(message_type(name, message), WEIGHTS[6]);
    say(history(&channel.history), WEIGHTS[7]);
    say((!channel.available).then_some((0.0, Reason::ContactInfoNotAvailable)), WEIGHTS[8]);
    if channel.disabled || !channel.available {
        tally.close();
    }
    (tally.points(channel.cost), reasons)
}

#[inline]
fn preferences(channel: &ChannelView) -> Option<(f64, Reason)> {
    if channel.disabled {
        Some((0.0, Reason::ChannelDisabledByTheRecipient))
    } else {
        channel.preferred.then_some((1.0, Reason::PreferredChannel))
    }
}

#[inline]
fn urgency(name: Channel, message: &MessageView<'_>) -> Option<(f64, Reason)> {
    Some(match (message.priority, name) {
        (Priority::Urgent, Channel::Sms) => (1.0, Reason::SmsBestForUrgentMessages),
        (Priority::Urgent, Channel::WhatsApp) => (20.0 / 25.0, Reason::WhatsAppGoodForUrgentMessages),
        (Priority::Urgent, Channel::Email) => (5.0 / 25.0, Reason::EmailSlowerForUrgentMessages),
        (Priority::High, Channel::Sms) => (15.0 / 25.0, Reason::SmsFastForImportantMessages),
        (Priority::High, Channel::WhatsApp) => (10.0 / 25.0, Reason::WhatsAppFastForImportantMessages),
        (Priority::High, Channel::Email) => (5.0 / 25.0, Reason::EmailFineForImportantMessages),
        (Priority::Low, Channel::Email) => (1.0, Reason::EmailBestForLowPriority),
        _ => return None,
    })
}

#[inline]
fn content(name: Channel, message: &MessageView<'_>) -> Option<(f64, Reason)> {
    if !message.has_html && !message.has_attachments {
        return None;
    }
    match name {
        Channel::Email => Some((1.0, Reason::EmailSupportsRichContentAndAttachments)),
        Channel::WhatsApp => Some((15.0 / 25.0, Reason::WhatsAppSupportsRichMedia)),
        Channel::Sms => Some((-20.0 / 25.0, Reason::SmsLimitedForRichContent)),
        Channel::Telegram => None,
    }
}

#[inline]
fn length(name: Channel, message: &MessageView<'_>) -> Option<(f64, Reason)> {
    match name {
        Channel::Email if message.length > 160 => Some((1.0, Reason::EmailBetterForLongMessages)),
        Channel::Sms if message.length > 160 => Some((-10.0 / 20.0, Reason::SmsExpensiveForLongMessages)),
        _ => None,
    }
}

#[inline]
fn cost(name: Channel, message: &MessageView<'_>) -> Option<(f64, Reason)> {
    match name {
        Channel::Telegram => Some((1.0, Reason::TelegramFree)),
        Channel::Email => Some((15.0 / 20.0, Reason::EmailVeryCostEffective)),
        Channel::WhatsApp => Some((10.0 / 20.0, Reason::WhatsAppAffordable)),
        Channel::Sms if message.priority == Priority::Low => {
            Some((-10.0 / 20.0, Reason::SmsCostlyForLowPriority))
        }
        Channel::Sms => None,
    }
}

#[inline]
fn quiet_hours(name: Channel, message: &MessageView<'_>) -> Option<(f64, Reason)> {
    if !message.quiet {
        return None;
    }
    match name {
        Channel::Sms if message.priority != Priority::Urgent && !message.allow_sms_in_quiet_hours => {
            Some((-1.0, Reason::QuietHoursSmsIntrusive))
        }
        Channel::Email => Some((10.0 / 30.0, Reason::EmailRespectfulDuringQuietHours)),
        _ => None,
    }
}

#[inline]
fn message_type(name: Channel, message: &MessageView<'_>) -> Option<(f64, Reason)> {
    Some(match (message.kind?, name) {
        (MessageKind::Appointment, Channel::Sms) => (15.0 / 20.0, Reason::SmsExcellentForAppointments),
        (MessageKind::Marketing, Channel::Email) => (1.0, Reason::EmailIdealForMarketing),
        (MessageKind::Marketing, Channel::Sms) => (-15.0 / 20.0, Reason::SmsIntrusiveForMarketing),
        (MessageKind::Notification, Channel::Sms | Channel::WhatsApp) => {
            (15.0 / 20.0, Reason::InstantChannelGoodForNotifications)
        }
        (MessageKind::Survey, Channel::Email) => (15.0 / 20.0, Reason::EmailGoodForSurveys),
        _ => return None,
    })
}

/// Scripts compare numbers up to their last bit, so that 23.8 / 34 is no more than 0.7.
fn alike(a: f64, b: f64) -> bool {
    (a - b).abs() <= f64::EPSILON * a.max(b)
}

#[inline]
fn history(past: &HistoryView) -> Option<(f64, Reason)> {
    if !past.known || alike(past.rate, past.average) {
        None
    } else if past.rate < past.average {
        Some((-((past.average - past.rate) / past.average), Reason::History))
    } else {
        Some(((past.rate - past.average) / (1.0 - past.average), Reason::History))
    }
}
