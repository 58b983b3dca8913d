//! Time: the clock that everything is handed, quiet hours, and the legal window of marketing SMS in France.
//!
//! The only file that reads the wall clock. Local hours are always of a zone that is named; daylight saving is
//! the zone's own rule: in the gap the next valid instant counts, in the fold both hours do.

use std::{
    cell::Cell,
    sync::Mutex,
    time::{SystemTime, UNIX_EPOCH},
};

use chrono::{
    DateTime, Datelike, Days, LocalResult, NaiveDate, NaiveDateTime, NaiveTime, TimeZone, Timelike, Utc,
    Weekday,
};
use chrono_tz::Tz;

/// What time it is. Handed in, so that tests set it by hand.
pub trait Clock: Send + Sync {
    fn now(&self) -> DateTime<Utc>;
}

/// The machine's clock, to the millisecond: what the database keeps.
#[derive(Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    fn now(&self) -> DateTime<Utc> {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        instant(hastened(i64::try_from(since.as_millis()).unwrap_or(i64::MAX)))
    }
}

/// So many milliseconds after the epoch. Most are of the same second as those before: its date is not reckoned again.
fn instant(millis: i64) -> DateTime<Utc> {
    thread_local! {
        static LAST: Cell<(i64, NaiveDateTime)> = const { Cell::new((0, DateTime::UNIX_EPOCH.naive_utc())) };
    }
    let (second, rest) = (millis.div_euclid(1000), millis.rem_euclid(1000));
    let (last, mut begins) = LAST.get();
    if last != second {
        begins = DateTime::from_timestamp(second, 0).unwrap_or(DateTime::UNIX_EPOCH).naive_utc();
        LAST.set((second, begins));
    }
    within(begins, rest as u32 * 1_000_000).and_utc()
}

/// As it is.
#[cfg(not(feature = "failpoints"))]
const fn hastened(millis: i64) -> i64 {
    millis
}

/// In a build for fault tests `ORCHESTRATOR_TEST_CLOCK=SPEED@MILLIS` lets the clock run SPEED times as fast from that
/// instant of the epoch on, so that five minutes of patience pass in five seconds. Every process that is told the same
/// sees the same time.
#[cfg(feature = "failpoints")]
fn hastened(millis: i64) -> i64 {
    static PACE: std::sync::LazyLock<Option<(i64, i64)>> = std::sync::LazyLock::new(|| {
        let text = std::env::var("ORCHESTRATOR_TEST_CLOCK").ok()?;
        let (speed, from) = text.split_once('@')?;
        Some((speed.parse().ok()?, from.parse().ok()?))
    });
    match *PACE {
        Some((speed, from)) if millis > from => from + (millis - from) * speed,
        _ => millis,
    }
}

/// A clock that stands until it is moved, for tests and for `--at`.
#[derive(Debug)]
pub struct ManualClock(Mutex<DateTime<Utc>>);

impl ManualClock {
    pub fn new(at: DateTime<Utc>) -> Self {
        Self(Mutex::new(at))
    }

    pub fn set(&self, at: DateTime<Utc>) {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = at;
    }

    pub fn advance(&self, by: chrono::TimeDelta) {
        let mut at = self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        *at += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }
}

/// `"22:00"`: hours and minutes of a day, 00:00 to 23:59.
pub fn parse_time_of_day(text: &str) -> Option<NaiveTime> {
    let shaped = text.len() == 5 && text.as_bytes()[2] == b':';
    shaped.then(|| NaiveTime::parse_from_str(text, "%H:%M").ok()).flatten()
}

/// The zone of an IANA name.
pub fn parse_time_zone(name: &str) -> Option<Tz> {
    name.parse().ok()
}

/// Local hours in which what rings waits: `start` inclusive, `end` exclusive, over midnight where start > end,
/// none where they are equal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct QuietHours {
    pub start: NaiveTime,
    pub end: NaiveTime,
}

impl QuietHours {
    /// Whether a local time of day is quiet.
    pub fn contains(&self, local: NaiveTime) -> bool {
        match self.start.cmp(&self.end) {
            std::cmp::Ordering::Equal => false,
            std::cmp::Ordering::Less => (self.start..self.end).contains(&local),
            std::cmp::Ordering::Greater => local >= self.start || local < self.end,
        }
    }

    /// When the quiet hours that `at` falls in end; `None` outside them.
    pub fn end_after(&self, at: Moment, zone: Tz) -> Option<Moment> {
        if !self.contains(at.local.time()) {
            return None;
        }
        let over_midnight = self.start > self.end && at.local.time() >= self.start;
        let day = if over_midnight { at.local.date() + Days::new(1) } else { at.local.date() };
        let end = first_instant(zone, day.and_time(self.end));
        // In an autumn fold the end's first instant may be past already: its second one is meant.
        if end.at > at.at {
            return Some(end);
        }
        let last = last_instant(zone, day.and_time(self.end));
        Some(if last.at > at.at { last } else { at })
    }
}

/// An instant with what the clocks of a zone show then: to look that up costs more than all that is reckoned with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moment {
    pub at: DateTime<Utc>,
    pub local: NaiveDateTime,
}

impl Moment {
    /// Most questions are about one zone and this very second, and the tables of centuries are not gone through again for
    /// them: within a second nothing changes.
    pub fn of(at: DateTime<Utc>, zone: Tz) -> Self {
        thread_local! {
            static LAST: Cell<Option<(Tz, NaiveDateTime, NaiveDateTime)>> = const { Cell::new(None) };
        }
        let utc = at.naive_utc();
        let second = within(utc, 0);
        let local = match LAST.get() {
            Some((last_zone, last, local)) if last == second && last_zone == zone => local,
            _ => {
                let local = zone.from_utc_datetime(&second).naive_local();
                LAST.set(Some((zone, second, local)));
                local
            }
        };
        Self { at, local: within(local, utc.nanosecond()) }
    }
}

/// That many nanoseconds into its second.
fn within(second: NaiveDateTime, nanoseconds: u32) -> NaiveDateTime {
    second.with_nanosecond(nanoseconds).unwrap_or(second)
}

/// Something that makes a message wait.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hold {
    pub until: DateTime<Utc>,
    /// In words: `quiet hours until 08:00`.
    pub reason: String,
}

/// A rule of the clock that makes a message wait, before anybody asks for it in words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    pub until: DateTime<Utc>,
    /// The rule that it waits for first.
    pub rule: &'static str,
}

impl Wait {
    /// `quiet hours until 08:00`, as somebody in that zone who waits from `at` on would say it.
    pub fn in_words(&self, at: DateTime<Utc>, zone: Tz) -> String {
        format!("{} until {}", self.rule, local_words(self.until, at, zone))
    }
}

/// When a message that rings may go, if not at `at`: after the quiet hours that bind it, and within France's
/// window for marketing SMS where that binds it too.
pub fn hold_at(at: DateTime<Utc>, zone: Tz, quiet: Option<QuietHours>, french_window: bool) -> Option<Hold> {
    let wait = wait_at(Moment::of(at, zone), zone, quiet, french_window)?;
    Some(Hold { until: wait.until, reason: wait.in_words(at, zone) })
}

/// The same, not put into words yet.
pub fn wait_at(at: Moment, zone: Tz, quiet: Option<QuietHours>, french_window: bool) -> Option<Wait> {
    let (mut free, mut why) = (at, None);
    // Each rule may end inside the other one. Each round moves forward, and a fortnight of rounds is more than
    // Sundays and holidays can make.
    for _ in 0..14 {
        let quiet_end = quiet.and_then(|hours| hours.end_after(free, zone)).map(|end| (end, "quiet hours"));
        let legal = french_window.then(|| french_marketing_sms_allowed_from(free, zone)).flatten();
        let legal = legal.map(|from| (from, "no marketing SMS in France"));
        match quiet_end.into_iter().chain(legal).max_by_key(|(end, _)| end.at) {
            Some((end, rule)) if end.at > free.at => (free, why) = (end, why.or(Some(rule))),
            _ => break,
        }
    }
    why.map(|rule| Wait { until: free.at, rule })
}

/// The first instant of the next local day, or of the next local month.
pub fn next_period(at: DateTime<Utc>, zone: Tz, month: bool) -> DateTime<Utc> {
    let today = Moment::of(at, zone).local.date();
    let next = if month {
        today.with_day(1).unwrap_or(today) + chrono::Months::new(1)
    } else {
        today + Days::new(1)
    };
    first_instant(zone, next.and_time(NaiveTime::MIN)).at
}

/// `08:00`, with the day where it is not within a day of `from`.
fn local_words(at: DateTime<Utc>, from: DateTime<Utc>, zone: Tz) -> String {
    let local = at.with_timezone(&zone);
    let near = at - from < chrono::TimeDelta::hours(24);
    local.format(if near { "%H:%M" } else { "%Y-%m-%d %H:%M" }).to_string()
}

/// The first instant that a local clock shows `local`, or the first after the gap that swallows it.
fn first_instant(zone: Tz, local: NaiveDateTime) -> Moment {
    resolve(zone, local, |first, _| first)
}

fn last_instant(zone: Tz, local: NaiveDateTime) -> Moment {
    resolve(zone, local, |_, last| last)
}

fn resolve(zone: Tz, local: NaiveDateTime, pick: fn(DateTime<Tz>, DateTime<Tz>) -> DateTime<Tz>) -> Moment {
    let mut local = local;
    // No zone has a gap of more than a day (Samoa skipped one, 30 December 2011).
    for _ in 0..=25 * 60 {
        match zone.from_local_datetime(&local) {
            LocalResult::Single(at) => return Moment { at: at.with_timezone(&Utc), local },
            LocalResult::Ambiguous(first, last) => {
                return Moment { at: pick(first, last).with_timezone(&Utc), local };
            }
            LocalResult::None => local += chrono::TimeDelta::minutes(1),
        }
    }
    Moment::of(zone.from_utc_datetime(&local).with_timezone(&Utc), zone)
}

/// Marketing SMS in France: not from 22:00 to 08:00, on Sundays or on public holidays (reliability.md section
/// 1, "France"). Returns when it is next allowed; `None` when it is allowed now.
pub fn french_marketing_sms_allowed_from(at: Moment, zone: Tz) -> Option<Moment> {
    let (opens, closes) = (NaiveTime::from_hms_opt(8, 0, 0)?, NaiveTime::from_hms_opt(22, 0, 0)?);
    let local = at.local;
    let free = |day: NaiveDate| day.weekday() != Weekday::Sun && !is_french_holiday(day);
    if free(local.date()) && (opens..closes).contains(&local.time()) {
        return None;
    }
    let first = if local.time() < opens { local.date() } else { local.date() + Days::new(1) };
    // At most three forbidden days follow each other (a Sunday beside holidays); ten leaves room.
    let day = first.iter_days().take(10).find(|day| free(*day))?;
    Some(first_instant(zone, day.and_time(opens)))
}

/// The eleven public holidays of Code du travail L3133-1.
pub fn is_french_holiday(day: NaiveDate) -> bool {
    const FIXED: [(u32, u32); 8] = [(1, 1), (5, 1), (5, 8), (7, 14), (8, 15), (11, 1), (11, 11), (12, 25)];
    let after_easter = day.signed_duration_since(easter(day.year())).num_days();
    FIXED.contains(&(day.month(), day.day())) || [1, 39, 50].contains(&after_easter)
}

/// Easter Sunday of the Gregorian calendar (the Meeus/Jones/Butcher algorithm).
fn easter(year: i32) -> NaiveDate {
    let (a, b, c) = (year % 19, year / 100, year % 100);
    let (d, e) = (b / 4, b % 4);
    let g = (8 * b + 13) / 25;
    let h = (19 * a + b - d - g + 15) % 30;
    let (i, k) = (c / 4, c % 4);
    let l = (32 + 2 * e + 2 * i - h - k) % 7;
    let m = (a + 11 * h + 19 * l) / 433;
    let month = (h + l - 7 * m + 90) / 25;
    let day = (h + l - 7 * m + 33 * month + 19) % 32;
    NaiveDate::from_ymd_opt(year, month as u32, day as u32)
        .expect("the algorithm gives a day of March or April")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse::<DateTime<chrono::FixedOffset>>().unwrap().with_timezone(&Utc)
    }

    #[test]
    fn an_instant_is_its_milliseconds_whatever_was_asked_before() {
        let seconds = [0, -1, 1, 1_763_197_200, 1_763_197_201, 1_763_197_200, 253_402_300_799];
        for millis in seconds.into_iter().flat_map(|second| [0, 1, 999].map(|rest| second * 1000 + rest)) {
            assert_eq!(instant(millis), DateTime::from_timestamp_millis(millis).unwrap());
        }
    }

    #[test]
    fn what_clocks_show_is_told_of_each_second_and_zone_for_itself() {
        let zones = [chrono_tz::Europe::Paris, chrono_tz::America::New_York, chrono_tz::UTC];
        for text in ["2027-03-28T02:00:00+01:00", "2027-10-31T02:59:59+02:00"] {
            for millis in (-3_000..3_000).step_by(250) {
                let instant = at(text) + chrono::TimeDelta::milliseconds(millis);
                for zone in zones {
                    assert_eq!(Moment::of(instant, zone).local, instant.with_timezone(&zone).naive_local());
                }
            }
        }
    }

    /// In Paris; that its local time is the zone's is held by comparing with it.
    fn moment(text: &str) -> Moment {
        Moment::of(at(text), chrono_tz::Europe::Paris)
    }
    fn quiet(start: &str, end: &str) -> QuietHours {
        QuietHours { start: parse_time_of_day(start).unwrap(), end: parse_time_of_day(end).unwrap() }
    }

    #[test]
    fn quiet_hours_start_inclusive_end_exclusive_over_midnight() {
        let night = quiet("22:00", "08:00");
        for (local, expected) in
            [("21:59", false), ("22:00", true), ("00:00", true), ("07:59", true), ("08:00", false)]
        {
            assert_eq!(night.contains(parse_time_of_day(local).unwrap()), expected, "{local}");
        }
        assert!(!quiet("08:00", "08:00").contains(parse_time_of_day("08:00").unwrap()));
        assert!(quiet("12:00", "14:00").contains(parse_time_of_day("13:00").unwrap()));
        assert!(!quiet("12:00", "14:00").contains(parse_time_of_day("14:00").unwrap()));
    }

    #[test]
    fn quiet_hours_end_in_the_zone_of_the_recipient_daylight_saving_included() {
        let night = quiet("22:00", "08:00");
        for (now, end) in [
            ("2025-11-14T23:00:00+01:00", Some("2025-11-15T08:00:00+01:00")),
            ("2025-11-15T03:00:00+01:00", Some("2025-11-15T08:00:00+01:00")),
            ("2025-11-15T08:00:00+01:00", None),
            // The night of the spring gap is an hour shorter, that of the autumn fold an hour longer.
            ("2027-03-27T23:00:00+01:00", Some("2027-03-28T08:00:00+02:00")),
            ("2027-10-30T23:00:00+02:00", Some("2027-10-31T08:00:00+01:00")),
        ] {
            assert_eq!(night.end_after(moment(now), chrono_tz::Europe::Paris), end.map(moment), "{now}");
        }
        // An end inside the gap is the first valid instant; one inside the fold is over when both are.
        let gap = quiet("22:00", "02:30");
        let end = gap.end_after(moment("2027-03-28T01:00:00+01:00"), chrono_tz::Europe::Paris);
        assert_eq!(end, Some(moment("2027-03-28T03:00:00+02:00")));
        let fold =
            quiet("02:15", "02:45").end_after(moment("2027-10-31T02:20:00+01:00"), chrono_tz::Europe::Paris);
        assert_eq!(fold, Some(moment("2027-10-31T02:45:00+01:00")));
    }

    #[test]
    fn french_holidays() {
        for day in
            ["2025-04-21", "2025-05-29", "2025-06-09", "2026-04-06", "2027-05-17", "2025-12-25", "2025-07-14"]
        {
            assert!(is_french_holiday(day.parse().unwrap()), "{day}");
        }
        for day in ["2025-04-20", "2025-04-22", "2025-12-26"] {
            assert!(!is_french_holiday(day.parse().unwrap()), "{day}");
        }
    }

    #[test]
    fn marketing_sms_waits_for_the_next_legal_moment() {
        let paris = chrono_tz::Europe::Paris;
        for (now, allowed) in [
            ("2025-11-14T15:00:00+01:00", None),
            ("2025-11-14T22:00:00+01:00", Some("2025-11-15T08:00:00+01:00")),
            ("2025-11-15T22:30:00+01:00", Some("2025-11-17T08:00:00+01:00")),
            ("2025-11-16T12:00:00+01:00", Some("2025-11-17T08:00:00+01:00")),
            ("2025-11-11T12:00:00+01:00", Some("2025-11-12T08:00:00+01:00")),
            // Easter Saturday evening: Sunday and Monday are both forbidden.
            ("2025-04-19T23:00:00+02:00", Some("2025-04-22T08:00:00+02:00")),
        ] {
            assert_eq!(french_marketing_sms_allowed_from(moment(now), paris), allowed.map(moment), "{now}");
        }
    }
}
