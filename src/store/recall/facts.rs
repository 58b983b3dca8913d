//! The values that are kept, as far as decisions ask for them, and how each is asked and corrected.
//!
//! Each answers what its query would have answered; where it cannot, it says so. Pure.

use crate::domain::{
    channel::{Channel, PerChannel},
    facts::{EngagementHistory, SentLately, Spend},
    message::{MessageKind, Origin},
    money::MicroEuros,
};

/// A message to a person, as caps and history see it.
#[derive(Clone, Copy, Debug)]
pub(in crate::store) struct Sent {
    /// When it was accepted, in milliseconds.
    pub(in crate::store) at: i64,
    pub(in crate::store) kind: Option<MessageKind>,
    /// It was sent or is on its way: caps count it.
    pub(in crate::store) counts: bool,
    /// The channel that took it.
    pub(in crate::store) via: Option<Channel>,
    pub(in crate::store) engaged: bool,
}

/// What was sent to a person from some moment on.
#[derive(Clone, Debug)]
pub(in crate::store) struct Person {
    since: i64,
    sent: Box<[Sent]>,
}

impl Person {
    /// All that was accepted later than `since`.
    pub(in crate::store) fn new(since: i64, sent: Vec<Sent>) -> Self {
        Self { since, sent: sent.into() }
    }

    /// Who was never written to.
    pub(super) fn nobody() -> Self {
        Self { since: i64::MIN, sent: Box::default() }
    }

    pub(super) fn weight(&self) -> usize {
        self.sent.len()
    }

    /// By channel, what was received and engaged with; the averages are the tenant's. None: not known that far back.
    pub(in crate::store) fn history(&self, since: i64) -> Option<PerChannel<Option<EngagementHistory>>> {
        if since < self.since {
            return None;
        }
        let mut found: PerChannel<Option<EngagementHistory>> = PerChannel::default();
        for one in self.sent.iter().filter(|one| one.at > since) {
            let Some(channel) = one.via else { continue };
            let known = found[channel].get_or_insert_default();
            known.received += 1;
            known.engaged += u32::from(one.engaged);
        }
        Some(found)
    }

    /// What caps count. None: not known that far back.
    pub(in crate::store) fn lately(
        &self,
        kind: Option<MessageKind>,
        day: i64,
        week: i64,
    ) -> Option<SentLately> {
        if week < self.since {
            return None;
        }
        let mut sent = SentLately::default();
        for one in self.sent.iter().filter(|one| one.counts && one.at > week) {
            let (today, same) = (u32::from(one.at > day), u32::from(one.kind == kind));
            sent.week += 1;
            sent.day += today;
            sent.type_week += same;
            sent.type_day += same * today;
        }
        Some(sent)
    }
}

/// A month of some year, as the days of its rows begin (`YYYY-MM`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(in crate::store) struct YearMonth([u8; 7]);

impl YearMonth {
    /// The month of a day `YYYY-MM-DD`.
    pub(in crate::store) fn of_day(day: &str) -> Self {
        let mut month = [0; 7];
        month.iter_mut().zip(day.bytes()).for_each(|(place, byte)| *place = byte);
        Self(month)
    }

    /// Its first day and its last, or later, as texts that compare as days do.
    pub(in crate::store) fn days(self) -> (String, String) {
        let month = String::from_utf8_lossy(&self.0);
        (format!("{month}-01"), format!("{month}-31"))
    }
}

/// A tenant's money of one month, by day, channel and origin.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Month(Vec<(String, Channel, Origin, i64)>);

impl Month {
    pub(in crate::store) fn add(&mut self, day: &str, channel: Channel, origin: Origin, by: i64) {
        let same =
            |row: &&mut (String, Channel, Origin, i64)| row.0 == day && row.1 == channel && row.2 == origin;
        match self.0.iter_mut().rev().find(same) {
            Some(row) => row.3 += by,
            None => self.0.push((day.to_owned(), channel, origin, by)),
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.0.len()
    }

    pub(in crate::store) fn spend(&self, today: &str, of: Origin) -> Spend {
        let mut spend = Spend::default();
        for (day, channel, origin, amount) in &self.0 {
            let amount = MicroEuros(*amount);
            spend.this_month = spend.this_month + amount;
            if *origin == of {
                spend.origin_this_month = spend.origin_this_month + amount;
            }
            if day == today {
                spend.today = spend.today + amount;
                spend.channels_today[*channel] = spend.channels_today[*channel] + amount;
                if *origin == of {
                    spend.origin_today = spend.origin_today + amount;
                }
            }
        }
        spend
    }
}

/// How a tenant's recipients answer, by channel and month (`YYYY-MM`): received and engaged with.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct Rates(Vec<(Channel, String, i64, i64)>);

impl Rates {
    pub(in crate::store) fn add(&mut self, channel: Channel, month: &str, by: (i64, i64)) {
        match self.0.iter_mut().rev().find(|row| row.0 == channel && row.1 == month) {
            Some(row) => (row.2, row.3) = (row.2 + by.0, row.3 + by.1),
            None => self.0.push((channel, month.to_owned(), by.0, by.1)),
        }
    }

    pub(super) fn weight(&self) -> usize {
        self.0.len()
    }

    /// The share that was engaged with since that month.
    pub(in crate::store) fn average(&self, channel: Channel, since: &str) -> f64 {
        let (mut received, mut engaged) = (0, 0);
        for (_, _, r, e) in self.0.iter().filter(|row| row.0 == channel && row.1.as_str() >= since) {
            (received, engaged) = (received + r, engaged + e);
        }
        (engaged.max(0) as f64 / received.max(1) as f64).min(1.0)
    }
}
