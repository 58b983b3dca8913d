//! Quiet hours over daylight saving: no minute in which a message may go is a forbidden one on the recipient's wall
//! clock, whatever the clocks do (reliability.md F23), from 2026 to 2035.

use channel_orchestrator::domain::time::{QuietHours, hold_at, parse_time_of_day, parse_time_zone};
use chrono::{DateTime, Datelike, NaiveTime, TimeDelta, Timelike, Utc, Weekday};
use chrono_tz::{OffsetComponents, Tz};

/// Fold and gap at night, at midnight, by half an hour; on both sides of the date line; and none at all.
const ZONES: &[&str] = &[
    "Europe/Paris",
    "Europe/London",
    "Atlantic/Azores",
    "Africa/Casablanca",
    "Africa/Cairo",
    "America/New_York",
    "America/St_Johns",
    "America/Santiago",
    "America/Asuncion",
    "America/Havana",
    "America/Nuuk",
    "Asia/Beirut",
    "Asia/Kolkata",
    "Asia/Kathmandu",
    "Australia/Lord_Howe",
    "Australia/Adelaide",
    "Pacific/Auckland",
    "Pacific/Chatham",
    "Pacific/Kiritimati",
    "UTC",
];

/// Over midnight, across the usual hour of change, within it, at its edges; and nothing.
const NIGHTS: &[(&str, &str)] = &[
    ("22:00", "08:00"),
    ("02:30", "02:45"),
    ("22:00", "02:30"),
    ("02:00", "03:00"),
    ("01:59", "03:01"),
    ("23:30", "00:30"),
    ("00:00", "00:01"),
    ("08:00", "08:00"),
];

fn quiet((start, end): (&str, &str)) -> QuietHours {
    QuietHours { start: parse_time_of_day(start).unwrap(), end: parse_time_of_day(end).unwrap() }
}

/// Written anew, from the rule alone.
fn is_forbidden(local: NaiveTime, (start, end): (&str, &str)) -> bool {
    let minute = |text: &str| text[..2].parse::<u32>().unwrap() * 60 + text[3..].parse::<u32>().unwrap();
    let (start, end, now) = (minute(start), minute(end), local.hour() * 60 + local.minute());
    if start <= end { start <= now && now < end } else { now >= start || now < end }
}

/// A message that comes up at `at` goes in an allowed minute, not before, and nowhere near a day later than it could.
fn check(at: DateTime<Utc>, zone: Tz, night: (&str, &str)) {
    let goes = hold_at(at, zone, Some(quiet(night)), false).map_or(at, |hold| hold.until);
    let local = |at: DateTime<Utc>| at.with_timezone(&zone).time();
    assert!(!is_forbidden(local(goes), night), "{zone} {night:?}: {at} goes at {goes}, {}", local(goes));
    let waits = goes - at;
    assert!(
        waits >= TimeDelta::zero() && waits <= TimeDelta::hours(25),
        "{zone} {night:?}: {at} waits {waits}"
    );
    if !is_forbidden(local(at), night) {
        assert_eq!(goes, at, "{zone} {night:?}: it waits for nothing");
    }
}

fn instant(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

#[test]
fn no_message_goes_in_a_forbidden_minute_around_any_change_of_the_clocks() {
    let (first, last) = (instant("2026-01-01T00:00:00Z"), instant("2036-01-01T00:00:00Z"));
    for name in ZONES {
        let zone = parse_time_zone(name).unwrap();
        let offset = |at: DateTime<Utc>| {
            let there = at.with_timezone(&zone);
            there.offset().base_utc_offset() + there.offset().dst_offset()
        };
        let (mut at, mut changes) = (first, 0);
        while at < last {
            let next = at + TimeDelta::hours(6);
            if offset(at) != offset(next) {
                changes += 1;
                // Every minute of the day before and of the day after it, for two nights in turn.
                for minute in -1_440..1_800 {
                    let moment = at + TimeDelta::minutes(minute);
                    check(moment, zone, NIGHTS[changes % NIGHTS.len()]);
                    check(moment, zone, NIGHTS[0]);
                }
            }
            at = next;
        }
        let has_summer = !["Asia/Kolkata", "Asia/Kathmandu", "Pacific/Kiritimati", "UTC", "America/Asuncion"]
            .contains(name);
        assert!(!has_summer || changes >= 18, "{name}: {changes} changes in ten years");
    }
}

#[test]
fn no_message_goes_in_a_forbidden_minute_of_ten_years() {
    // Each minute of the day within thirteen days, in steps that share no factor with a day.
    for name in ZONES {
        let zone = parse_time_zone(name).unwrap();
        let mut at = instant("2026-01-01T00:00:00Z");
        while at < instant("2036-01-01T00:00:00Z") {
            for night in &NIGHTS[..3] {
                check(at, zone, *night);
            }
            at += TimeDelta::minutes(if zone == Tz::Europe__Paris { 13 } else { 331 });
        }
    }
}

#[test]
fn marketing_keeps_to_the_french_hours_of_ten_years() {
    let zone = Tz::Europe__Paris;
    let mut at = instant("2026-01-01T00:00:00Z");
    while at < instant("2036-01-01T00:00:00Z") {
        let goes = hold_at(at, zone, Some(quiet(("20:00", "09:00"))), true).map_or(at, |hold| hold.until);
        let local = goes.with_timezone(&zone);
        assert!((9..20).contains(&local.hour()) && local.weekday() != Weekday::Sun, "{at} goes at {local}");
        let feast = [(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)];
        assert!(!feast.contains(&(local.month(), local.day())), "{at} goes at {local}");
        at += TimeDelta::minutes(37);
    }
}
