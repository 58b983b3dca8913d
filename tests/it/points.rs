//! The table of points: every cell of it, against the shipped scripts.
//!
//! The cases are data (`cases/points.toml`); weights here are the table's, not default.toml's, so that an
//! admin's change of a weight breaks no test of the scripts.

use std::{collections::BTreeMap, fs, path::Path, sync::Arc};

use channel_orchestrator::{
    domain::{
        channel::Channel,
        ids::CriterionName,
        message::{MessageKind, Origin, Priority},
    },
    policy::{
        criterion::Criterion,
        verdict::VerdictKind,
        view::{ChannelView, HistoryView, MessageView},
    },
};
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Cases {
    weights: BTreeMap<String, f64>,
    case: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    criterion: String,
    name: String,
    #[serde(default)]
    message: MessageChanges,
    #[serde(default)]
    channel: ChannelChanges,
    /// What every channel gets.
    all: Option<Cell>,
    sms: Option<Cell>,
    email: Option<Cell>,
    whatsapp: Option<Cell>,
    telegram: Option<Cell>,
}

#[derive(Clone, Deserialize)]
#[serde(deny_unknown_fields)]
struct Cell {
    #[serde(default)]
    points: f64,
    #[serde(default)]
    veto: bool,
    reason: String,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct MessageChanges {
    r#type: Option<MessageKind>,
    priority: Option<Priority>,
    length: Option<i64>,
    has_html: bool,
    has_attachments: bool,
    quiet: bool,
    allow_sms_in_quiet_hours: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields, default)]
struct ChannelChanges {
    preferred: bool,
    disabled: bool,
    available: bool,
    history: HistoryChanges,
}

impl Default for ChannelChanges {
    fn default() -> Self {
        Self { preferred: false, disabled: false, available: true, history: HistoryChanges::default() }
    }
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
struct HistoryChanges {
    received: i64,
    engaged: i64,
    average: f64,
    known: bool,
}

fn message(changes: &MessageChanges) -> Arc<MessageView<'static>> {
    Arc::new(MessageView {
        kind: changes.r#type,
        priority: changes.priority.unwrap_or(Priority::Normal),
        template: None,
        tags: Vec::new().into(),
        origin: Origin::Api,
        locale: "fr".into(),
        length: changes.length.unwrap_or(20),
        segments: 1,
        has_html: changes.has_html,
        has_attachments: changes.has_attachments,
        attachment_bytes: if changes.has_attachments { 1000 } else { 0 },
        quiet: changes.quiet,
        local_hour: if changes.quiet { 23 } else { 15 },
        local_minute: 0,
        weekday: 5,
        minutes_to_event: None,
        send_within: None,
        allow_sms_in_quiet_hours: changes.allow_sms_in_quiet_hours,
    })
}

fn channel(channel: Channel, changes: &ChannelChanges) -> Arc<ChannelView> {
    let HistoryChanges { received, engaged, average, known } = changes.history;
    Arc::new(ChannelView {
        channel,
        preferred: changes.preferred,
        disabled: changes.disabled,
        available: changes.available,
        opted_in: true,
        healthy: true,
        cost: 0.05,
        delivery_seconds: 10,
        open_rate: 0.98,
        rich_media: false,
        takes_attachments: false,
        max_length: None,
        history: HistoryView {
            received,
            engaged,
            rate: (engaged as f64 + 4.0 * average) / (received as f64 + 4.0),
            average,
            known,
        },
    })
}

fn shipped(name: &str) -> Criterion {
    let file = format!("criteria/{name}.rhai");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("policies").join(&file);
    let source = fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    Criterion::compile(CriterionName::parse(name).unwrap(), &file, &source)
        .unwrap_or_else(|faults| panic!("{faults:#?}"))
}

fn expected(case: &Case, channel: Channel) -> Option<Cell> {
    let own = match channel {
        Channel::Sms => &case.sms,
        Channel::Email => &case.email,
        Channel::WhatsApp => &case.whatsapp,
        Channel::Telegram => &case.telegram,
    };
    own.clone().or_else(|| case.all.clone())
}

/// What is wrong with one cell, if anything is.
fn compare(criterion: &Criterion, weight: f64, case: &Case, at: Channel) -> Option<String> {
    let place = format!("{} / {} / {at}", case.criterion, case.name);
    let verdict = match criterion.evaluate(&message(&case.message), &channel(at, &case.channel)) {
        Ok(verdict) => verdict,
        Err(failure) => return Some(format!("{place}: {failure}")),
    };
    let cell = expected(case, at);
    let as_expected = match (&cell, verdict.kind) {
        (None, VerdictKind::Neutral) => verdict.reason.is_empty() && verdict.position.is_none(),
        (Some(cell), VerdictKind::Veto) => cell.veto && *cell.reason == *verdict.reason,
        (Some(cell), VerdictKind::Share(share)) => {
            // A sum is rounded to 1e-6; one cell must be far closer than that.
            let near = (share * weight - cell.points).abs() < 1e-9;
            near && !cell.veto && *cell.reason == *verdict.reason
        }
        _ => false,
    };
    let reason_known = verdict.position.is_none_or(|(line, column)| {
        criterion.reasons().iter().any(|site| (site.line, site.column) == (line, column))
    });
    let wanted = cell.map_or("nothing".to_owned(), |c| format!("{} {:?}", c.points, c.reason));
    (!as_expected || !reason_known).then(|| format!("{place}: wanted {wanted}, got {verdict:?}"))
}

#[test]
fn every_cell_of_the_points_table_holds() {
    let cases: Cases = toml::from_str(include_str!("cases/points.toml")).unwrap();
    let criteria: BTreeMap<&str, Criterion> =
        CriterionName::SHIPPED.into_iter().map(|name| (name, shipped(name))).collect();
    let mut wrong = Vec::new();
    for case in &cases.case {
        let (criterion, weight) = (&criteria[case.criterion.as_str()], cases.weights[&case.criterion]);
        wrong.extend(Channel::ALL.into_iter().filter_map(|at| compare(criterion, weight, case, at)));
    }
    assert!(wrong.is_empty(), "{} cells are wrong:\n{}", wrong.len(), wrong.join("\n"));
    for name in CriterionName::SHIPPED {
        assert!(cases.case.iter().any(|case| case.criterion == name), "no case for {name}");
    }
}

#[test]
fn every_reason_of_the_shipped_scripts_is_in_the_table() {
    let cases: Cases = toml::from_str(include_str!("cases/points.toml")).unwrap();
    for name in CriterionName::SHIPPED {
        let criterion = shipped(name);
        assert!(!criterion.reasons().is_empty(), "{name} gives no reason");
        assert!(criterion.warnings().is_empty(), "{name}: {:?}", criterion.warnings());
        let mut unseen: Vec<_> = criterion.reasons().iter().collect();
        for case in cases.case.iter().filter(|case| case.criterion == name) {
            for at in Channel::ALL {
                let verdict =
                    criterion.evaluate(&message(&case.message), &channel(at, &case.channel)).unwrap();
                unseen.retain(|site| Some((site.line, site.column)) != verdict.position);
            }
        }
        assert!(unseen.is_empty(), "{name}: no case gives {unseen:?}");
    }
}
