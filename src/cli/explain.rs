//! An explanation for people: a row per criterion, a column per channel, and what would change the winner.
//!
//! It shows what `decide` said and adds nothing to it. The text carries colours; whoever prints it takes them out
//! where nobody could see them.

use std::fmt::Write as _;

use anstyle::{AnsiColor, Style};
use chrono::DateTime;

use super::layout::{fit, wrapped};
use crate::{
    decide::explanation::{ExplainedChannel, ExplainedCriterion, Explanation},
    domain::{channel::Channel, decision::Gate},
};

const STRONG: Style = Style::new().bold();
const FAINT: Style = Style::new().dimmed();
const GOOD: Style = AnsiColor::Green.on_default();
const BAD: Style = AnsiColor::Red.on_default();

/// A column narrower than this reads worse than a list.
const COLUMN_MIN: usize = 14;
const COLUMN_MAX: usize = 34;

/// What is shown beside the explanation itself.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    pub chosen: Option<Channel>,
    pub tenant: Option<&'a str>,
    /// What was done, or not: "nothing was sent".
    pub footer: &'a str,
    /// Characters in a line.
    pub width: usize,
    /// Whether to list the line of the script behind each cell.
    pub sources: bool,
}

/// The whole explanation, line by line.
pub fn render(explanation: &Explanation, view: &View<'_>) -> String {
    let mut out = String::new();
    headline(&mut out, explanation, view);
    let (shown, without_address): (Vec<_>, Vec<_>) = explanation.channels.iter().partition(|channel| {
        Some(channel.channel) == view.chosen || !channel.gates.iter().any(|gate| gate.gate == Gate::Address)
    });
    if !shown.is_empty() {
        let label = explanation.channels[0].criteria.iter().map(|c| c.criterion.len()).max().unwrap_or(0) + 6;
        let column = (view.width.saturating_sub(label) / shown.len()).saturating_sub(2).min(COLUMN_MAX);
        out.push('\n');
        if column >= COLUMN_MIN {
            table(&mut out, &shown, view, label, column);
        } else {
            list(&mut out, &shown, view);
        }
    }
    remarks(&mut out, explanation, &without_address, view);
    if view.sources {
        sources(&mut out, &shown);
    }
    out
}

fn headline(out: &mut String, explanation: &Explanation, view: &View<'_>) {
    let chosen = view.chosen.and_then(|name| explanation.channels.iter().find(|c| c.channel == name));
    match chosen {
        Some(channel) => {
            let name = channel.channel.as_str().to_uppercase();
            let _ = writeln!(
                out,
                "{STRONG}{name}{STRONG:#}  {} points, confidence {:.2}, {} EUR, about {}",
                points(channel.score).trim_start_matches('+'),
                channel.confidence,
                euros(channel.cost),
                seconds(channel.delivery_seconds)
            );
            if let Some(until) = &channel.held_until {
                let why = channel.held_reason.as_deref().unwrap_or("held");
                let _ = writeln!(out, "{BAD}held until {}{BAD:#} ({why})", moment(until));
            }
        }
        None => {
            let _ = writeln!(out, "{BAD}NO CHANNEL{BAD:#}  none may be used; the reasons are below");
        }
    }
    let version: String = explanation.policy_version.chars().take(12).collect();
    let parts = [
        view.tenant.map(str::to_owned),
        Some(format!("policy {version}")),
        Some(format!("variant {}", explanation.variant.as_deref().unwrap_or("none"))),
        Some(format!("strategy {}", explanation.strategy.as_deref().unwrap_or("none"))),
        Some(format!("{} {}", moment(&explanation.at), explanation.time_zone)),
        Some(format!("decided in {} us", explanation.took_micros)).filter(|_| explanation.took_micros > 0),
        Some(view.footer.to_owned()).filter(|footer| !footer.is_empty()),
    ];
    let line = parts.into_iter().flatten().collect::<Vec<_>>().join(" · ");
    for line in wrapped(&line, view.width) {
        let _ = writeln!(out, "{FAINT}{line}{FAINT:#}");
    }
}

/// One row of the table: its label, and each channel's lines with the style of the first.
struct Row {
    label: String,
    cells: Vec<(Style, Vec<String>)>,
}

fn table(out: &mut String, shown: &[&ExplainedChannel], view: &View<'_>, label: usize, column: usize) {
    let head = shown.iter().map(|c| (STRONG, vec![c.channel.to_string()])).collect();
    let mut rows = vec![Row { label: String::new(), cells: head }];
    for at in 0..shown[0].criteria.len() {
        let criterion = &shown[0].criteria[at];
        let name_width = label - 6;
        rows.push(Row {
            label: format!("{:name_width$} {:>4}", criterion.criterion, number(criterion.weight)),
            cells: shown.iter().map(|c| criterion_cell(&c.criteria[at], column)).collect(),
        });
    }
    rows.push(Row {
        label: "points".to_owned(),
        cells: shown.iter().map(|c| (STRONG, vec![points(c.score)])).collect(),
    });
    rows.push(Row {
        label: "confidence".to_owned(),
        cells: shown.iter().map(|c| (Style::new(), vec![format!("{:.2}", c.confidence)])).collect(),
    });
    rows.push(Row {
        label: "cost, time".to_owned(),
        cells: shown.iter().map(|c| (Style::new(), wrapped(&price(c), column))).collect(),
    });
    rows.push(Row {
        label: "so".to_owned(),
        cells: shown.iter().enumerate().map(|(at, c)| standing_cell(c, at, view, column)).collect(),
    });
    for row in &rows {
        write_row(out, row, label, column);
    }
}

fn write_row(out: &mut String, row: &Row, label: usize, column: usize) {
    let height = row.cells.iter().map(|(_, lines)| lines.len()).max().unwrap_or(1).max(1);
    for line in 0..height {
        let mut text = fit(if line == 0 { &row.label } else { "" }, label);
        for (style, lines) in &row.cells {
            let words = lines.get(line).map_or("", String::as_str);
            // Only a cell's first line is coloured: the reasons are read, not glanced at.
            let style = if line == 0 { *style } else { Style::new() };
            let padding = fit("", (column + 2).saturating_sub(words.chars().count()));
            let _ = write!(text, "{style}{words}{style:#}{padding}");
        }
        out.push_str(text.trim_end());
        out.push('\n');
    }
}

fn criterion_cell(criterion: &ExplainedCriterion, column: usize) -> (Style, Vec<String>) {
    let (style, first) = verdict(criterion);
    let reason = criterion.error.as_deref().map(|_| "see below").or(criterion.reason.as_deref());
    let mut lines = vec![first];
    if let Some(reason) = reason {
        lines.extend(wrapped(reason, column));
    }
    (style, lines)
}

fn verdict(criterion: &ExplainedCriterion) -> (Style, String) {
    if criterion.error.is_some() {
        return (BAD, "script failed".to_owned());
    }
    if criterion.veto {
        return (BAD, "veto".to_owned());
    }
    match criterion.points {
        p if p > 0.0 => (GOOD, points(p)),
        p if p < 0.0 => (BAD, points(p)),
        _ if criterion.reason.is_some() => (Style::new(), "0".to_owned()),
        _ => (FAINT, "·".to_owned()),
    }
}

/// What the points and the gates come to for one channel.
fn standing(channel: &ExplainedChannel, rank: usize, view: &View<'_>) -> (Style, String) {
    if !channel.eligible {
        let gates: Vec<String> = channel.gates.iter().map(|gate| gate.reason.clone()).collect();
        let why = if gates.is_empty() { "may not be used".to_owned() } else { gates.join("; ") };
        return (BAD, format!("out: {why}"));
    }
    let held = channel.held_until.as_deref().map(|until| {
        let why = channel.held_reason.as_deref().map(|why| format!(" ({why})")).unwrap_or_default();
        format!("{}{why}", moment(until))
    });
    match (Some(channel.channel) == view.chosen, held) {
        (true, None) => (GOOD, "chosen".to_owned()),
        (true, Some(until)) => (GOOD, format!("chosen, held until {until}")),
        (false, Some(until)) => (Style::new(), format!("would be held until {until}")),
        (false, None) if rank <= 2 => (Style::new(), "alternative".to_owned()),
        (false, None) => (Style::new(), "possible".to_owned()),
    }
}

fn standing_cell(
    channel: &ExplainedChannel,
    rank: usize,
    view: &View<'_>,
    column: usize,
) -> (Style, Vec<String>) {
    let (style, words) = standing(channel, rank, view);
    (style, wrapped(&words, column))
}

/// The same without columns, for narrow terminals.
fn list(out: &mut String, shown: &[&ExplainedChannel], view: &View<'_>) {
    const INDENT: usize = 9;
    let indented = |out: &mut String, text: &str| {
        for line in wrapped(text, view.width.saturating_sub(INDENT)) {
            let _ = writeln!(out, "{}{line}", " ".repeat(INDENT));
        }
    };
    for (rank, channel) in shown.iter().enumerate() {
        let (style, words) = standing(channel, rank, view);
        let sum = points(channel.score);
        let _ =
            writeln!(out, "{STRONG}{}{STRONG:#}: {sum} points, {:.2}", channel.channel, channel.confidence);
        for line in wrapped(&words, view.width) {
            let _ = writeln!(out, "{style}{line}{style:#}");
        }
        for criterion in channel.criteria.iter().filter(|c| c.reason.is_some() || c.error.is_some()) {
            let (style, first) = verdict(criterion);
            let (name, weight) = (&criterion.criterion, number(criterion.weight));
            let _ = writeln!(out, "  {style}{first:>6}{style:#} {name} {weight}");
            indented(out, criterion.error.as_deref().or(criterion.reason.as_deref()).unwrap_or_default());
        }
    }
}

fn remarks(
    out: &mut String,
    explanation: &Explanation,
    without_address: &[&ExplainedChannel],
    view: &View<'_>,
) {
    let mut lines = Vec::new();
    let mut reasons: Vec<(String, Vec<&str>)> = Vec::new();
    for channel in without_address {
        let why: Vec<&str> = channel
            .gates
            .iter()
            .filter(|gate| gate.gate != Gate::Veto)
            .map(|gate| gate.reason.as_str())
            .collect();
        let why = why.join("; ");
        match reasons.iter_mut().find(|(reason, _)| *reason == why) {
            Some((_, names)) => names.push(channel.channel.as_str()),
            None => reasons.push((why, vec![channel.channel.as_str()])),
        }
    }
    for (why, names) in reasons {
        lines.push(format!("{}: out ({why})", names.join(", ")));
    }
    let shown = |channel: &&ExplainedChannel| !without_address.iter().any(|w| w.channel == channel.channel);
    for channel in explanation.channels.iter().filter(shown) {
        lines.extend(channel.notes.iter().map(|note| format!("{}: {note}", channel.channel)));
        for criterion in &channel.criteria {
            if let Some(error) = &criterion.error {
                let place = criterion.source.as_deref().unwrap_or(&criterion.criterion);
                lines.push(format!("{}: {place} failed and counts as 0: {error}", channel.channel));
            }
        }
    }
    lines.extend(explanation.strategy_errors.iter().map(|e| format!("strategy passed over: {e}")));
    lines.push(explanation.flips_summary.clone());
    out.push('\n');
    for line in lines.iter().filter(|line| !line.is_empty()) {
        for part in line.lines().flat_map(|part| wrapped(part, view.width)) {
            let _ = writeln!(out, "{part}");
        }
    }
}

fn sources(out: &mut String, shown: &[&ExplainedChannel]) {
    out.push('\n');
    for channel in shown {
        for criterion in &channel.criteria {
            if let Some(source) = &criterion.source {
                let _ = writeln!(
                    out,
                    "{FAINT}{} {} {}: {source}{FAINT:#}",
                    fit(channel.channel.as_str(), 8),
                    fit(&criterion.criterion, 13),
                    points(criterion.points),
                );
            }
        }
    }
}

fn price(channel: &ExplainedChannel) -> String {
    format!("{} EUR, {}", euros(channel.cost), seconds(channel.delivery_seconds))
}

/// `+25`, `-30`, `+12.5`, `0`.
fn points(points: f64) -> String {
    let text = number(points);
    if points > 0.0 && text != "0" { format!("+{text}") } else { text }
}

/// At most two decimals, none where they say nothing.
fn number(number: f64) -> String {
    let text = format!("{number:.2}");
    let text = text.trim_end_matches('0').trim_end_matches('.');
    if text == "-0" { "0".to_owned() } else { text.to_owned() }
}

/// Two to six decimals.
fn euros(euros: f64) -> String {
    let text = format!("{euros:.6}");
    let kept = text.trim_end_matches('0');
    let decimals = kept.split('.').nth(1).map_or(0, str::len);
    format!("{euros:.*}", decimals.max(2))
}

fn seconds(seconds: u32) -> String {
    if seconds >= 120 && seconds.is_multiple_of(60) {
        format!("{} min", seconds / 60)
    } else {
        format!("{seconds} s")
    }
}

/// An RFC 3339 moment as people write it, in its own offset; as it stands where it is none.
fn moment(text: &str) -> String {
    DateTime::parse_from_rfc3339(text)
        .map_or_else(|_| text.to_owned(), |at| at.format("%a %-d %b %Y %H:%M").to_string())
}

#[cfg(test)]
#[path = "explain/tests.rs"]
mod tests;
