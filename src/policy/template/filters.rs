//! What templates may do with a value: a short list, in English and in French, and its reference.
//!
//! Pure functions of their input, the text's language and the reader's zone. What is in words already ("15h",
//! "450 000 €") stays as it is.

use chrono::{DateTime, Datelike, NaiveDate, NaiveDateTime, NaiveTime, Timelike};
use chrono_tz::Tz;
use minijinja::{
    Environment, Error, ErrorKind, State,
    value::{Rest, Value, ValueKind},
};

use super::language::{ZONE, locale_of};

/// Name, another name, meaning.
pub const FILTERS: [(&str, &str, &str); 15] = [
    (
        "date",
        "",
        "a day: `2025-11-14` or an instant; `date(\"%d/%m/%Y\")` as written, else \"14 novembre 2025\"",
    ),
    ("day", "jour", "a day with its weekday: \"vendredi 14 novembre\""),
    (
        "time",
        "heure",
        "the hour of an instant in the reader's zone, or of \"15:30\" and \"15h30\": \"15h30\" in French, \"15:30\" in English",
    ),
    ("euros", "", "an amount: \"450 000 €\", \"12,50 €\""),
    ("number", "nombre", "a number with its groups of three: \"1 234,5\""),
    ("upper", "majuscules", "in capitals"),
    ("lower", "minuscules", "in small letters"),
    ("capitalize", "majuscule", "with a capital at the beginning"),
    ("trim", "", "without spaces around it"),
    ("truncate", "couper", "at most so many characters, \"...\" included: `truncate(60)`"),
    ("default", "sinon", "another text where it is missing or empty: `default(\"vous\")`"),
    ("length", "longueur", "how many characters, or how many items of a list"),
    ("first", "premier", "the first item of a list"),
    ("join", "liste", "the items of a list as one text: `join(\", \")`"),
    ("link", "lien", "a web address (https, http), mailto or tel: needed in href and src"),
];

/// Every name by which a filter is known.
pub fn names() -> impl Iterator<Item = &'static str> {
    FILTERS.iter().flat_map(|(name, other, _)| [*name, *other]).filter(|name| !name.is_empty())
}

/// The reference in the README.
pub fn reference_markdown() -> String {
    let mut out = "| filter | does |\n|---|---|\n".to_owned();
    for (name, other, about) in FILTERS {
        let other = if other.is_empty() { String::new() } else { format!(", `{other}`") };
        out.push_str(&format!("| `{name}`{other} | {about} |\n"));
    }
    out
}

pub fn register(environment: &mut Environment<'static>) {
    for name in names() {
        let meant = FILTERS.iter().find(|(one, other, _)| *one == name || *other == name);
        match meant.map_or("", |(one, ..)| one) {
            "date" => environment.add_filter(name, date),
            "day" => environment.add_filter(name, day),
            "time" => environment.add_filter(name, time),
            "euros" => environment.add_filter(name, euros),
            "number" => environment.add_filter(name, number),
            "upper" => environment.add_filter(name, |v: &Value| text_of(v).map(|t| t.to_uppercase())),
            "lower" => environment.add_filter(name, |v: &Value| text_of(v).map(|t| t.to_lowercase())),
            "capitalize" => environment.add_filter(name, |v: &Value| text_of(v).map(|t| capitalized(&t))),
            "trim" => environment.add_filter(name, |v: &Value| text_of(v).map(|t| t.trim().to_owned())),
            "truncate" => environment.add_filter(name, truncate),
            "default" => environment.add_filter(name, otherwise),
            "length" => environment.add_filter(name, length),
            "first" => environment.add_filter(name, first),
            "join" => environment.add_filter(name, join),
            _ => environment.add_filter(name, link),
        }
    }
}

fn refused(words: &'static str) -> Error {
    Error::new(ErrorKind::InvalidOperation, words)
}

/// What is missing is not worked with: `default` is for that.
fn text_of(value: &Value) -> Result<String, Error> {
    match value.kind() {
        ValueKind::String | ValueKind::Number => Ok(value.to_string()),
        ValueKind::Undefined | ValueKind::None => Err(missing()),
        _ => Err(refused("expected a text or a number")),
    }
}

fn missing() -> Error {
    Error::new(ErrorKind::UndefinedError, "it is optional, and is used where it may be missing")
}

fn french(state: &State) -> bool {
    locale_of(state.name()).starts_with("fr")
}

/// The space inside numbers: one that does not break, but in texts where it would cost a whole alphabet.
fn inner_space(state: &State) -> char {
    if state.name().contains(".sms.") { ' ' } else { '\u{a0}' }
}

fn zone(state: &State) -> Tz {
    let named = state.lookup(ZONE).and_then(|zone| zone.as_str().and_then(|name| name.parse().ok()));
    named.unwrap_or(chrono_tz::UTC)
}

/// A day, with the hour where it has one, as people at the reader's place say it.
fn local(state: &State, text: &str) -> Option<(NaiveDate, Option<NaiveTime>)> {
    let text = text.trim();
    if let Ok(instant) = DateTime::parse_from_rfc3339(text) {
        let there = instant.with_timezone(&zone(state)).naive_local();
        return Some((there.date(), Some(there.time())));
    }
    for format in ["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M"] {
        if let Ok(there) = NaiveDateTime::parse_from_str(text, format) {
            return Some((there.date(), Some(there.time())));
        }
    }
    NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().map(|day| (day, None))
}

const MONTHS: [(&str, &str); 12] = [
    ("janvier", "January"),
    ("février", "February"),
    ("mars", "March"),
    ("avril", "April"),
    ("mai", "May"),
    ("juin", "June"),
    ("juillet", "July"),
    ("août", "August"),
    ("septembre", "September"),
    ("octobre", "October"),
    ("novembre", "November"),
    ("décembre", "December"),
];
const DAYS: [(&str, &str); 7] = [
    ("lundi", "Monday"),
    ("mardi", "Tuesday"),
    ("mercredi", "Wednesday"),
    ("jeudi", "Thursday"),
    ("vendredi", "Friday"),
    ("samedi", "Saturday"),
    ("dimanche", "Sunday"),
];

fn spoken(state: &State, pair: (&'static str, &'static str)) -> &'static str {
    if french(state) { pair.0 } else { pair.1 }
}

/// "14 novembre", with "1er" for the first in French; an SMS writes months without û (it is not GSM-7).
fn day_and_month(state: &State, day: NaiveDate) -> String {
    let month = spoken(state, MONTHS[day.month0() as usize]);
    let month = if state.name().contains(".sms.") { month.replace('û', "u") } else { month.to_owned() };
    let number = if french(state) && day.day() == 1 { "1er".to_owned() } else { day.day().to_string() };
    format!("{number} {month}")
}

fn date(state: &State, value: &Value, format: Rest<String>) -> Result<String, Error> {
    let text = text_of(value)?;
    let Some((day, hour)) = local(state, &text) else { return Ok(text) };
    match format.first() {
        None => Ok(format!("{} {}", day_and_month(state, day), day.year())),
        Some(format) => written(day, hour.unwrap_or_default(), format),
    }
}

/// Digits only: names of days and months have filters of their own, which know the language.
fn written(day: NaiveDate, hour: NaiveTime, format: &str) -> Result<String, Error> {
    let mut out = String::new();
    let mut chars = format.chars().take(100);
    while let Some(c) = chars.next() {
        if c != '%' {
            out.push(c);
            continue;
        }
        out.push_str(&match chars.next() {
            Some('d') => format!("{:02}", day.day()),
            Some('m') => format!("{:02}", day.month()),
            Some('Y') => day.year().to_string(),
            Some('y') => format!("{:02}", day.year().rem_euclid(100)),
            Some('H') => format!("{:02}", hour.hour()),
            Some('M') => format!("{:02}", hour.minute()),
            _ => return Err(refused("expected %d, %m, %Y, %y, %H and %M in the format")),
        });
    }
    Ok(out)
}

fn day(state: &State, value: &Value) -> Result<String, Error> {
    let text = text_of(value)?;
    let Some((day, _)) = local(state, &text) else { return Ok(text) };
    let weekday = spoken(state, DAYS[day.weekday().num_days_from_monday() as usize]);
    Ok(format!("{weekday} {}", day_and_month(state, day)))
}

fn time(state: &State, value: &Value) -> Result<String, Error> {
    let text = text_of(value)?;
    let clock = clock(text.trim());
    let Some(hour) = local(state, &text).and_then(|(_, hour)| hour).or(clock) else { return Ok(text) };
    Ok(match (french(state), hour.minute()) {
        (true, 0) => format!("{}h", hour.hour()),
        (true, minute) => format!("{}h{minute:02}", hour.hour()),
        (false, minute) => format!("{}:{minute:02}", hour.hour()),
    })
}

/// "15:30", and as the French write it: "15h30", "15h".
fn clock(text: &str) -> Option<NaiveTime> {
    let (hour, minute) = text.split_once([':', 'h', 'H'])?;
    let digits = |part: &str| part.len() <= 2 && part.bytes().all(|b| b.is_ascii_digit());
    if hour.is_empty() || !digits(hour) || !digits(minute) {
        return None;
    }
    let minute = if minute.is_empty() { "0" } else { minute };
    NaiveTime::from_hms_opt(hour.parse().ok()?, minute.parse().ok()?, 0)
}

fn euros(state: &State, value: &Value) -> Result<String, Error> {
    let Some((cents, _)) = amount(value)? else { return text_of(value) };
    let fraction = if cents % 100 == 0 { None } else { Some(format!("{:02}", cents.unsigned_abs() % 100)) };
    let grouped = grouped(state, cents / 100, cents < 0, fraction.as_deref());
    Ok(if french(state) { format!("{grouped}{}€", inner_space(state)) } else { format!("€{grouped}") })
}

fn number(state: &State, value: &Value) -> Result<String, Error> {
    let Some((_, number)) = amount(value)? else { return text_of(value) };
    let shown = format!("{:.2}", number.abs());
    let (_, fraction) = shown.split_once('.').unwrap_or((&shown, ""));
    let fraction = fraction.trim_end_matches('0');
    Ok(grouped(state, number.trunc() as i64, number < 0.0, Some(fraction).filter(|f| !f.is_empty())))
}

/// Hundredths, and the number itself; none where it is words.
fn amount(value: &Value) -> Result<Option<(i64, f64)>, Error> {
    let text = text_of(value)?;
    let Ok(number) = text.trim().parse::<f64>() else { return Ok(None) };
    // Beyond this a f64 no longer counts in hundredths.
    if !number.is_finite() || number.abs() > 1e13 {
        return Err(refused("expected a number below 10,000,000,000,000"));
    }
    let number = (number * 100.0).round() / 100.0;
    Ok(Some(((number * 100.0).round() as i64, number)))
}

fn grouped(state: &State, whole: i64, negative: bool, fraction: Option<&str>) -> String {
    let digits = whole.unsigned_abs().to_string();
    let separator = if french(state) { inner_space(state) } else { ',' };
    let mut out = if negative { "-".to_owned() } else { String::new() };
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(separator);
        }
        out.push(digit);
    }
    if let Some(fraction) = fraction {
        out.push(if french(state) { ',' } else { '.' });
        out.push_str(fraction);
    }
    out
}

fn capitalized(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_uppercase().chain(chars).collect())
}

fn truncate(value: &Value, most: usize) -> Result<String, Error> {
    let text = text_of(value)?;
    if text.chars().count() <= most {
        return Ok(text);
    }
    let kept: String = text.chars().take(most.saturating_sub(3)).collect();
    Ok(format!("{}...", kept.trim_end()))
}

/// The one filter that takes what is missing.
fn otherwise(value: &Value, other: &Value) -> Value {
    let empty = matches!(value.kind(), ValueKind::Undefined | ValueKind::None) || value.as_str() == Some("");
    if empty { other.clone() } else { value.clone() }
}

fn length(value: &Value) -> Result<usize, Error> {
    match value.kind() {
        ValueKind::Undefined | ValueKind::None => Err(missing()),
        _ => value.len().ok_or_else(|| refused("expected a text or a list")),
    }
}

fn first(value: &Value) -> Result<Value, Error> {
    items(value)?.next().ok_or_else(|| refused("expected a list that is not empty"))
}

fn join(value: &Value, between: Rest<String>) -> Result<String, Error> {
    let texts = items(value)?.map(|item| text_of(&item)).collect::<Result<Vec<_>, _>>()?;
    Ok(texts.join(between.first().map_or(", ", String::as_str)))
}

fn items(value: &Value) -> Result<impl Iterator<Item = Value> + use<>, Error> {
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => value.try_iter().map_err(|_| refused("expected a list")),
        ValueKind::Undefined | ValueKind::None => Err(missing()),
        _ => Err(refused("expected a list")),
    }
}

/// A link that can do nothing but lead somewhere: `javascript:` and the like are refused (reliability.md T31).
fn link(value: &Value) -> Result<String, Error> {
    let text = text_of(value)?.trim().to_owned();
    let lower = text.to_ascii_lowercase();
    let leads = ["https://", "http://", "mailto:", "tel:"].iter().any(|scheme| lower.starts_with(scheme));
    if !leads || text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(refused("the link must begin with https://, http://, mailto: or tel:, without spaces"));
    }
    Ok(text)
}
