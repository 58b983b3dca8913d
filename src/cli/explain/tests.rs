//! The table as people see it.

use super::*;
use crate::decide::explanation::{ExplainedGate, Explanation};

fn criterion(name: &str, weight: f64, share: f64, reason: Option<&str>) -> ExplainedCriterion {
    ExplainedCriterion {
        criterion: name.to_owned(),
        share,
        weight,
        points: share * weight,
        veto: false,
        reason: reason.map(str::to_owned),
        source: reason.map(|_| format!("criteria/{name}.rhai:4:13")),
        error: None,
    }
}

fn channel(channel: Channel, score: f64, criteria: Vec<ExplainedCriterion>) -> ExplainedChannel {
    ExplainedChannel {
        channel,
        eligible: true,
        gates: Vec::new(),
        score,
        confidence: (50.0 + score) / 100.0,
        held_until: None,
        held_reason: None,
        cost: 0.05,
        delivery_seconds: 10,
        notes: Vec::new(),
        criteria,
    }
}

/// The brief's third example.
fn night() -> Explanation {
    let email = channel(
        Channel::Email,
        25.0,
        vec![
            criterion("cost", 20.0, 0.75, Some("Email very cost-effective")),
            criterion("quiet_hours", 30.0, 1.0 / 3.0, Some("Email respectful during quiet hours")),
        ],
    );
    let mut sms = channel(
        Channel::Sms,
        -30.0,
        vec![
            criterion("cost", 20.0, 0.0, None),
            criterion("quiet_hours", 30.0, -1.0, Some("Quiet hours - SMS intrusive")),
        ],
    );
    sms.held_until = Some("2025-11-15T08:00:00+01:00".to_owned());
    sms.held_reason = Some("quiet hours 22:00 to 08:00".to_owned());
    let mut telegram = channel(
        Channel::Telegram,
        0.0,
        vec![criterion("cost", 20.0, 1.0, Some("Telegram free")), criterion("quiet_hours", 30.0, 0.0, None)],
    );
    telegram.eligible = false;
    telegram.gates =
        vec![ExplainedGate { gate: Gate::Address, reason: "Contact info not available".to_owned() }];
    Explanation {
        policy_version: "3f9c21e4abcd0000".to_owned(),
        generation: 0,
        variant: Some("control".to_owned()),
        strategy: None,
        strategy_errors: Vec::new(),
        at: "2025-11-14T23:00:00+01:00".to_owned(),
        time_zone: "Europe/Paris".to_owned(),
        channels: vec![email, sms, telegram],
        flips: Vec::new(),
        flips_summary: "sms would win if weights.quiet_hours were 0 instead of 30.".to_owned(),
        took_micros: 41,
    }
}

fn shown(width: usize, sources: bool) -> String {
    let view = View {
        chosen: Some(Channel::Email),
        tenant: Some("tenant_123"),
        footer: "nothing was sent",
        width,
        sources,
    };
    anstream::adapter::strip_str(&render(&night(), &view)).to_string()
}

#[test]
fn a_row_per_criterion_a_column_per_channel() {
    let expected = "\
EMAIL  25 points, confidence 0.75, 0.05 EUR, about 10 s
tenant_123 · policy 3f9c21e4abcd · variant control · strategy none · Fri 14 Nov 2025 23:00 Europe/Paris ·
decided in 41 us · nothing was sent

                 email                               sms
cost          20 +15                                 ·
                 Email very cost-effective
quiet_hours   30 +10                                 -30
                 Email respectful during quiet       Quiet hours - SMS intrusive
                 hours
points           +25                                 -30
confidence       0.75                                0.20
cost, time       0.05 EUR, 10 s                      0.05 EUR, 10 s
so               chosen                              would be held until Sat 15 Nov
                                                     2025 08:00 (quiet hours 22:00 to
                                                     08:00)

telegram: out (Contact info not available)
sms would win if weights.quiet_hours were 0 instead of 30.
";
    assert_eq!(shown(106, false), expected);
}

#[test]
fn no_line_is_wider_than_the_terminal() {
    for width in [40, 60, 80, 100, 200] {
        for line in shown(width, false).lines().skip(1) {
            assert!(line.chars().count() <= width, "{width}: {line}");
        }
    }
}

#[test]
fn narrow_terminals_get_a_list() {
    let text = shown(40, false);
    assert!(
        text.contains(
            "email: +25 points, 0.75\nchosen\n     +15 cost 20\n         Email very cost-effective"
        ),
        "{text}"
    );
}

#[test]
fn sources_name_the_line_that_said_it() {
    assert!(shown(100, true).contains("email    quiet_hours   +10: criteria/quiet_hours.rhai:4:13"));
    assert!(!shown(100, false).contains(".rhai"));
}

#[test]
fn a_failed_script_and_no_channel_are_said_in_words() {
    let mut explanation = night();
    explanation.channels[0].criteria[0].error = Some("cost.rhai:3: there is no `channel.prise`".to_owned());
    let view = View { chosen: None, tenant: None, footer: "", width: 100, sources: false };
    let text = anstream::adapter::strip_str(&render(&explanation, &view)).to_string();
    assert!(text.starts_with("NO CHANNEL"), "{text}");
    assert!(text.contains("failed and counts as 0: cost.rhai:3"), "{text}");
}

#[test]
fn numbers_are_short_and_exact() {
    assert_eq!([25.0, -30.0, 12.5, 0.0, -0.0001].map(points), ["+25", "-30", "+12.5", "0", "0"]);
    assert_eq!([0.05, 0.0006, 0.15, 0.0, 1.0].map(euros), ["0.05", "0.0006", "0.15", "0.00", "1.00"]);
    assert_eq!([10, 60, 120, 300].map(seconds), ["10 s", "60 s", "2 min", "5 min"]);
}
