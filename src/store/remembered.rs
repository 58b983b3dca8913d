//! Everything that a decision is told, out of memory alone: what most decisions are made from.
//!
//! It answers what `Knowledge`, `Engagement`, `Caps` and `Contacts` would, from the same values, or nothing at all. It
//! reads no table, waits for nobody and keeps nothing: whoever is told nothing asks them, and they keep what they read.

use chrono::{DateTime, Datelike, NaiveDate, TimeDelta, Utc};

use super::{
    caps::{DAY, WEEK},
    engagement::{HISTORY_DAYS, month, put_averages},
    recall::{Known, Person, Rates, Recall, YearMonth},
};
use crate::domain::{
    channel::{Channel, PerChannel},
    facts::{EngagementHistory, SentLately, Spend},
    ids::{RecipientId, TenantId},
    message::{MessageKind, Origin},
};

/// Whom and what a decision is to be told about.
#[derive(Clone, Copy, Debug)]
pub struct Asking<'a> {
    pub tenant: &'a TenantId,
    pub recipient: &'a RecipientId,
    pub addresses: PerChannel<Option<&'a str>>,
    pub kind: Option<MessageKind>,
    pub origin: Origin,
    pub at: DateTime<Utc>,
    /// The same moment, in the tenant's own calendar.
    pub day: NaiveDate,
    /// Whether what was sent lately counts (caps), and opt-ins on record.
    pub sent_lately: bool,
    pub opt_ins: bool,
    /// Where drivers take free text only within 24 hours of the person's last message, with the sender.
    pub windows: PerChannel<Option<Option<&'a str>>>,
    /// When the message would go: then the window has to be open.
    pub goes_at: DateTime<Utc>,
}

/// Everything that the store tells a decision, of somebody who refused nothing.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Remembered {
    pub spend: Spend,
    pub history: PerChannel<Option<EngagementHistory>>,
    pub sent_lately: SentLately,
    pub opted_in: PerChannel<Option<bool>>,
    pub in_service_window: PerChannel<Option<bool>>,
}

/// All that is asked for; none where a table has to be looked at for any of it.
pub(super) fn all(recall: &Recall, asked: &Asking<'_>) -> Option<Remembered> {
    let refused = |(channel, address): (Channel, &Option<&str>)| {
        address.is_some_and(|address| !recall.never_refused(channel, address))
    };
    if asked.addresses.iter().any(refused) {
        return None;
    }
    let spend = spend(recall, asked)?;
    let (history, sent_lately) = person(recall, asked)?;
    let opted_in = if asked.opt_ins { opt_ins(recall, asked)? } else { PerChannel::default() };
    let in_service_window = windows(recall, asked)?;
    Some(Remembered { spend, history, sent_lately, opted_in, in_service_window })
}

fn spend(recall: &Recall, asked: &Asking<'_>) -> Option<Spend> {
    let day = DayText::of(asked.day)?;
    let key = (asked.tenant.clone(), YearMonth::of_day(day.as_str()));
    yes(recall.month(&key, |month| month.spend(day.as_str(), asked.origin)))
}

type Own = (PerChannel<Option<EngagementHistory>>, SentLately);

/// What this person did, beside what all of the tenant's do, and how much they got lately.
fn person(recall: &Recall, asked: &Asking<'_>) -> Option<Own> {
    if recall.never_written_to(asked.tenant, asked.recipient.as_str()) {
        return Some(Own::default());
    }
    let since = asked.at - TimeDelta::days(HISTORY_DAYS);
    let millis = |at: DateTime<Utc>| at.timestamp_millis();
    let (day, week) = (millis(asked.at - DAY), millis(asked.at - WEEK));
    let who = (asked.tenant.clone(), asked.recipient.as_str().to_owned());
    let own = |who: &Person| {
        let lately =
            if asked.sent_lately { who.lately(asked.kind, day, week)? } else { SentLately::default() };
        Some((who.history(millis(since))?, lately))
    };
    let (mut history, lately) = yes(recall.person(&who, own))?;
    if history.iter().any(|(_, known)| known.is_some()) {
        let since = month(since);
        let averages = |rates: &Rates| PerChannel::from_fn(|channel| rates.average(channel, &since));
        let averages = yes(recall.rates(asked.tenant, averages))?;
        put_averages(&mut history, &averages);
    }
    Some((history, lately))
}

fn opt_ins(recall: &Recall, asked: &Asking<'_>) -> Option<PerChannel<Option<bool>>> {
    let mut found = PerChannel::default();
    for (channel, address) in asked.addresses.iter() {
        let Some(address) = address else { continue };
        let key = (asked.tenant.clone(), channel, (*address).to_owned());
        found[channel] = yes(recall.opt_in(&key))?.then_some(true);
    }
    Some(found)
}

fn windows(recall: &Recall, asked: &Asking<'_>) -> Option<PerChannel<Option<bool>>> {
    let mut found = PerChannel::default();
    for (channel, sender) in asked.windows.iter() {
        let (Some(sender), Some(address)) = (sender, asked.addresses[channel]) else { continue };
        let key = (asked.tenant.clone(), channel, address.to_owned());
        found[channel] = Some(yes(recall.written(&key, |w| w.lately(channel, *sender, asked.goes_at)))?);
    }
    Some(found)
}

fn yes<R>(known: Known<R>) -> Option<R> {
    match known {
        Known::Yes(answer) => Some(answer),
        Known::Ask(_) | Known::No => None,
    }
}

/// `YYYY-MM-DD`, as tables have it, and without an allocation.
struct DayText([u8; 10]);

impl DayText {
    /// None outside of the years 0 to 9999, which have more digits.
    fn of(day: NaiveDate) -> Option<Self> {
        let year = u32::try_from(day.year()).ok().filter(|year| *year <= 9999)?;
        let digit = |number: u32, unit: u32| b'0' + (number / unit % 10) as u8;
        let (month, of_month) = (day.month(), day.day());
        Some(Self([
            digit(year, 1000),
            digit(year, 100),
            digit(year, 10),
            digit(year, 1),
            b'-',
            digit(month, 10),
            digit(month, 1),
            b'-',
            digit(of_month, 10),
            digit(of_month, 1),
        ]))
    }

    fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_reads_as_chrono_writes_it() {
        let first = NaiveDate::from_ymd_opt(1999, 11, 1).unwrap();
        for day in first.iter_days().take(3_000).chain([NaiveDate::from_ymd_opt(7, 1, 2).unwrap()]) {
            assert_eq!(DayText::of(day).unwrap().as_str(), day.format("%Y-%m-%d").to_string());
        }
        assert!(DayText::of(NaiveDate::MAX).is_none() && DayText::of(NaiveDate::MIN).is_none());
    }
}
