//! The trial run: a script over a small grid of messages and the four channels.
//!
//! Finds what only shows when lines run: a field that is missing, a division by zero, a share out of range. It
//! warns and refuses nothing: at run time a failure is neutral, too.

use std::sync::Arc;

use super::scan;
use crate::{
    domain::{
        channel::Channel,
        message::{MessageKind, Origin, Priority},
    },
    policy::{
        criterion::Criterion,
        diagnostic::Diagnostic,
        fields::{self, Field, Value},
        verdict::ScriptFailure,
        view::{ChannelView, HistoryView, MessageView},
    },
};

/// More would tell the author nothing new.
const FAILURES_TOLD_MAX: usize = 5;
/// A script that fails everywhere is not run to its limits over the whole grid.
const FAILURES_MAX: usize = 16;

/// Runs the script over the grid; each kind of failure once, with the values that it happened with.
pub(in crate::policy) fn run(criterion: &Criterion, source: &str) -> Vec<Diagnostic> {
    let source = source.strip_prefix('\u{feff}').unwrap_or(source);
    let mut seen: Vec<ScriptFailure> = Vec::new();
    let mut warnings = Vec::new();
    let mut failures = 0;
    for message in messages() {
        for channel in channels() {
            let Err(failure) = criterion.evaluate(&message, &channel) else { continue };
            failures += 1;
            if failures > FAILURES_MAX {
                return warnings;
            }
            if seen.iter().any(|known| known.position == failure.position) {
                continue;
            }
            warnings.push(warning(criterion, source, &failure, &message, &channel));
            seen.push(failure);
            if seen.len() == FAILURES_TOLD_MAX {
                return warnings;
            }
        }
    }
    warnings
}

fn warning(
    criterion: &Criterion,
    source: &str,
    failure: &ScriptFailure,
    message: &MessageView<'static>,
    channel: &ChannelView,
) -> Diagnostic {
    let file = criterion.file();
    let prefix = match failure.position {
        Some((line, column)) => format!("{file}:{line}:{column}: "),
        None => format!("{file}: "),
    };
    let words = failure.message.strip_prefix(&prefix).unwrap_or(&failure.message);
    let fault = Diagnostic::warning(
        "fails-on-trial",
        file,
        format!("the criterion {} fails in a trial run: {words}", criterion.name()),
    );
    let lexemes = scan::scan(source);
    let fault = match failure.position {
        Some((line, column)) => {
            let at = scan::at(&lexemes, (line, column));
            fault.at(source, line, column, at.map_or(1, |at| lexemes[at].chars(source)))
        }
        None => fault,
    };
    let read = |name: &str| lexemes.iter().any(|l| l.is(source, name));
    let mut values = vec![format!("channel.name {:?}", channel.channel.as_str())];
    values.extend(fields::MESSAGE.iter().filter(|f| read(f.name)).map(|f| shown("message", f, message)));
    let of_channel = fields::CHANNEL.iter().filter(|f| f.name != "name" && read(f.name));
    values.extend(of_channel.filter(|f| f.name != "history").map(|f| shown("channel", f, channel)));
    let of_history = fields::HISTORY.iter().filter(|f| read(f.name));
    values.extend(of_history.map(|f| shown("channel.history", f, &channel.history)));
    fault.hint(format!("it happened with {}", values.join(", ")))
}

fn shown<V>(object: &str, field: &Field<V>, view: &V) -> String {
    let value = match (field.read)(view) {
        Value::Text(text) => format!("{text:?}"),
        Value::Integer(number) => number.to_string(),
        Value::Float(number) => number.to_string(),
        Value::Bool(truth) => truth.to_string(),
        Value::Texts(texts) => format!("{texts:?}"),
        Value::History | Value::Missing => "()".to_owned(),
    };
    format!("{object}.{} {value}", field.name)
}

/// A plain message, and what can be otherwise about it.
pub(in crate::policy) fn messages() -> Vec<Arc<MessageView<'static>>> {
    let plain = MessageView {
        kind: None,
        priority: Priority::Normal,
        template: None,
        tags: Vec::new().into(),
        origin: Origin::Api,
        locale: "fr".into(),
        length: 80,
        segments: 1,
        has_html: false,
        has_attachments: false,
        attachment_bytes: 0,
        quiet: false,
        local_hour: 15,
        local_minute: 0,
        weekday: 3,
        minutes_to_event: None,
        send_within: None,
        allow_sms_in_quiet_hours: false,
    };
    let mut all = vec![plain.clone()];
    all.extend(MessageKind::ALL.iter().map(|kind| MessageView { kind: Some(*kind), ..plain.clone() }));
    all.extend(Priority::ALL.iter().map(|priority| MessageView { priority: *priority, ..plain.clone() }));
    all.push(MessageView {
        kind: Some(MessageKind::Appointment),
        template: Some("appointment_reminder".into()),
        tags: vec!["vip".to_owned(), "newsletter".to_owned()].into(),
        minutes_to_event: Some(120),
        send_within: Some(30),
        ..plain.clone()
    });
    all.push(MessageView {
        kind: Some(MessageKind::Marketing),
        priority: Priority::Low,
        origin: Origin::Campaign,
        length: 1_000,
        segments: 7,
        has_html: true,
        has_attachments: true,
        attachment_bytes: 1_000_000,
        ..plain.clone()
    });
    all.push(MessageView { quiet: true, local_hour: 23, weekday: 7, ..plain.clone() });
    all.push(MessageView {
        quiet: true,
        local_hour: 3,
        priority: Priority::Urgent,
        allow_sms_in_quiet_hours: true,
        minutes_to_event: Some(-5),
        ..plain.clone()
    });
    all.push(MessageView { length: 0, segments: 0, local_hour: 0, weekday: 1, ..plain });
    all.into_iter().map(Arc::new).collect()
}

/// Each channel: plain, with a history, and out of reach.
pub(in crate::policy) fn channels() -> Vec<Arc<ChannelView>> {
    let of = |channel: Channel| {
        let plain = ChannelView {
            channel,
            preferred: false,
            disabled: false,
            available: true,
            opted_in: true,
            healthy: true,
            cost: if channel == Channel::Telegram { 0.0 } else { 0.05 },
            delivery_seconds: 10,
            open_rate: 0.9,
            rich_media: channel != Channel::Sms,
            takes_attachments: channel != Channel::Sms,
            max_length: (channel != Channel::Email).then_some(1_600),
            history: HistoryView::default(),
        };
        let known = HistoryView { received: 6, engaged: 0, rate: 0.108, average: 0.27, known: true };
        let keen = HistoryView { received: 4, engaged: 4, rate: 0.5, average: 0.0, known: true };
        [
            ChannelView { history: known, ..plain },
            ChannelView { history: keen, preferred: true, ..plain },
            ChannelView { disabled: true, available: false, opted_in: false, healthy: false, ..plain },
            plain,
        ]
    };
    Channel::ALL.into_iter().flat_map(of).map(Arc::new).collect()
}
