//! The shipped policy written by hand in Rust, its constants in the code: what an engineer would write who never has to
//! change it. The limit that the compiled scripts are measured against.

use std::borrow::Cow;

use channel_orchestrator::{
    decide::{DecisionInput, Standing},
    domain::{
        address::Reach,
        channel::Channel,
        message::{MessageKind, Priority},
        money::MicroEuros,
    },
};
use chrono::{DateTime, Days, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Europe::Paris;

pub struct Native {
    pub chosen: Option<Channel>,
    pub held_until: Option<DateTime<Utc>>,
    pub ranking: [Ranked; 4],
}

pub struct Ranked {
    pub standing: Standing,
    pub reasons: Vec<Reason>,
}

/// Decides as the shipped default.toml and criteria do, for a request without template and tags.
pub fn choose(input: &DecisionInput<'_>) -> Native {
    let question = &input.question;
    let priority = question.priority.unwrap_or(Priority::Normal);
    let zone = question.time_zone.unwrap_or(Paris);
    let goes_at = question.send_at.map_or(input.at, |send_at| send_at.max(input.at));
    let local = goes_at.with_timezone(&zone).naive_local();
    let start = question.quiet_start.unwrap_or(hour(22));
    let end = question.quiet_end.unwrap_or(hour(8));
    let quiet = local.time() >= start || local.time() < end;
    let marketing = question.kind == Some(MessageKind::Marketing);
    let own = question.deadline.unwrap_or(goes_at + TimeDelta::hours(if marketing { 72 } else { 24 }));
    let deadline =
        question.send_within.map_or(own, |minutes| own.min(goes_at + TimeDelta::minutes(i64::from(minutes))));
    let quiet_end = quiet.then(|| {
        let over_midnight = local.time() >= start;
        let day = if over_midnight { local.date() + Days::new(1) } else { local.date() };
        zone.from_local_datetime(&day.and_time(end)).earliest().map(|at| at.with_timezone(&Utc))
    });
    let quiet_end = quiet_end.flatten();

    let mut ranking = Channel::ALL.map(|channel| {
        let (points, reasons) = points(input, channel, priority, quiet);
        let disabled = question.disabled.contains(&channel);
        let vetoed = disabled || input.reach[channel] != Reach::Known;
        let cost = cost(input, channel);
        let rings = channel != Channel::Email
            && priority != Priority::Urgent
            && !(channel == Channel::Sms && question.allow_sms_in_quiet_hours);
        let hold = quiet_end.filter(|_| rings);
        let open = !vetoed
            && input.facts.suppressed[channel].is_none()
            && input.facts.drivers[channel].configured
            && input.facts.drivers[channel].healthy
            && carries(input, channel)
            && cost <= if priority == Priority::Urgent { MicroEuros(300_000) } else { MicroEuros(100_000) }
            && consents(input, marketing)
            && goes_at <= deadline
            && hold.is_none_or(|until| until <= deadline);
        let score = if vetoed { 0.0 } else { rounded(points) };
        let standing = Standing {
            channel,
            eligible: open,
            score,
            confidence: if vetoed { 0.0 } else { rounded(((50.0 + score) / 100.0).clamp(0.0, 0.95)) },
            held_until: hold.filter(|_| open),
            cost,
            delivery_seconds: seconds(channel, priority),
        };
        Ranked { standing, reasons }
    });
    ranking.sort_by(|a, b| {
        let (a, b) = (&a.standing, &b.standing);
        b.eligible
            .cmp(&a.eligible)
            .then(b.score.total_cmp(&a.score))
            .then(a.cost.cmp(&b.cost))
            .then(a.channel.index().cmp(&b.channel.index()))
    });
    let best = &ranking[0].standing;
    let chosen = best.eligible.then_some(best.channel);
    let later = question.send_at.filter(|send_at| *send_at > input.at);
    let held_until = if best.eligible { best.held_until.or(later) } else { None };
    Native { chosen, held_until, ranking }
}

fn hour(of_day: u32) -> NaiveTime {
    NaiveTime::from_hms_opt(of_day, 0, 0).expect("an hour of the day")
}

fn rounded(value: f64) -> f64 {
    (value * 1e6).round() / 1e6 + 0.0
}

fn cost(input: &DecisionInput<'_>, channel: Channel) -> MicroEuros {
    match channel {
        Channel::Sms => MicroEuros(50_000 * i64::from(input.words.channels[Channel::Sms].segments.max(1))),
        Channel::Email => MicroEuros(600),
        Channel::WhatsApp => MicroEuros(10_000),
        Channel::Telegram => MicroEuros(0),
    }
}

fn seconds(channel: Channel, priority: Priority) -> u32 {
    match (channel, priority) {
        (Channel::Sms, _) => 10,
        (Channel::WhatsApp, _) => 30,
        (Channel::Telegram, _) => 5,
        (Channel::Email, Priority::Urgent) => 300,
        (Channel::Email, Priority::Low) => 120,
        (Channel::Email, _) => 60,
    }
}

fn carries(input: &DecisionInput<'_>, channel: Channel) -> bool {
    let profile = &input.words.channels[channel];
    match channel {
        Channel::Sms => profile.attachments == 0 && profile.characters > 0,
        Channel::Email => profile.attachment_bytes <= 10_000_000,
        Channel::WhatsApp => profile.attachment_bytes <= 16_000_000 && profile.characters <= 4096,
        Channel::Telegram => profile.attachment_bytes <= 50_000_000 && profile.characters <= 4096,
    }
}

fn consents(input: &DecisionInput<'_>, marketing: bool) -> bool {
    !(marketing && input.question.consent == Some(false))
}

type Reason = Cow<'static, str>;

/// The nine criteria under the shipped weights.
fn points(
    input: &DecisionInput<'_>,
    channel: Channel,
    priority: Priority,
    quiet: bool,
) -> (f64, Vec<Reason>) {
    let (question, message) = (&input.question, &input.words.message);
    let (mut sum, mut reasons) = (0.0, Vec::new());
    let mut say = |points: f64, reason: &'static str| {
        sum += points;
        reasons.push(Cow::Borrowed(reason));
    };
    if question.preferred.contains(&channel) && !question.disabled.contains(&channel) {
        say(30.0, "Preferred channel");
    }
    if let Some((points, reason)) = urgency(priority, channel) {
        say(points, reason);
    }
    if message.has_html || message.attachments > 0 {
        match channel {
            Channel::Email => say(25.0, "Email supports rich content and attachments"),
            Channel::WhatsApp => say(15.0, "WhatsApp supports rich media"),
            Channel::Sms => say(-20.0, "SMS limited for rich content"),
            Channel::Telegram => {}
        }
    }
    if message.characters > 160 {
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
        Channel::Sms if priority == Priority::Low => say(-10.0, "SMS costly for low priority"),
        Channel::Sms => {}
    }
    if quiet {
        match channel {
            Channel::Sms if priority != Priority::Urgent && !question.allow_sms_in_quiet_hours => {
                say(-30.0, "Quiet hours - SMS intrusive");
            }
            Channel::Email => say(10.0, "Email respectful during quiet hours"),
            _ => {}
        }
    }
    if let Some((points, reason)) = kind(question.kind, channel) {
        say(points, reason);
    }
    if let Some((points, reason)) = history(input, channel) {
        sum += points;
        if rounded(points) != 0.0 {
            reasons.push(Cow::Owned(reason));
        }
    }
    (sum, reasons)
}

fn urgency(priority: Priority, channel: Channel) -> Option<(f64, &'static str)> {
    Some(match (priority, channel) {
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

fn history(input: &DecisionInput<'_>, channel: Channel) -> Option<(f64, String)> {
    let past = input.facts.history[channel].filter(|past| past.received >= 3)?;
    let (received, engaged, average) = (past.received, past.engaged, past.average);
    let rate = (f64::from(engaged) + 4.0 * average) / (f64::from(received) + 4.0);
    let (did, what) = match channel {
        Channel::Email => ("opened", "emails"),
        Channel::WhatsApp => ("read", "WhatsApp messages"),
        Channel::Telegram => ("answered", "Telegram messages"),
        Channel::Sms => ("answered", "SMS"),
    };
    let share = if rate < average {
        -(average - rate) / average
    } else if rate > average {
        (rate - average) / (1.0 - average)
    } else {
        return None;
    };
    let percent = (average * 100.0).round();
    Some((share * 20.0, format!("{did} {engaged} of {received} {what} (average {percent}%)")))
}
