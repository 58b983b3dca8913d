//! Clicks that wait a few seconds, so that a scanner that follows every link is known for one.
//!
//! The visitor never waits: only what is told of the click does. A crash loses the clicks of the last seconds and
//! nothing else. It writes nothing itself.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    sync::{Mutex, MutexGuard, PoisonError},
};

use chrono::{DateTime, TimeDelta, Utc};

use crate::{
    domain::{channel::Channel, ids::MessageId, receipt::EngagementEvent},
    tracking::robots::{BURST_MS, is_burst},
};

/// Messages whose clicks wait at one moment; of any beyond, the oldest are judged early.
const MESSAGES_MAX: usize = 10_000;
/// Clicks of one burst that are told apart.
const CLICKS_MAX: usize = 64;
/// Events that wait for the database.
const RIPE_MAX: usize = 100_000;

/// One followed link.
#[derive(Clone, Copy, Debug)]
pub(super) struct Click {
    pub message: MessageId,
    pub link: u16,
    /// How many links the message has.
    pub of: usize,
    pub at: DateTime<Utc>,
    /// What the request alone says.
    pub machine: bool,
}

#[derive(Debug, Default)]
pub(super) struct ClickDesk(Mutex<Desk>);

#[derive(Debug, Default)]
struct Desk {
    /// By the message's first click, so that the oldest comes first.
    bursts: BTreeMap<MessageId, Vec<Click>>,
    ripe: VecDeque<EngagementEvent>,
}

impl ClickDesk {
    fn lock(&self) -> MutexGuard<'_, Desk> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take(&self, click: Click) {
        let mut desk = self.lock();
        if !desk.bursts.contains_key(&click.message) && desk.bursts.len() >= MESSAGES_MAX {
            desk.ripen_oldest();
        }
        let burst = desk.bursts.entry(click.message).or_default();
        if burst.len() < CLICKS_MAX {
            burst.push(click);
        }
    }

    /// Judges the bursts that are over at `now`; with `all`, every one.
    pub(super) fn ripen(&self, now: DateTime<Utc>, all: bool) {
        let mut desk = self.lock();
        let over = |burst: &Vec<Click>| {
            all || burst.first().is_none_or(|first| now - first.at >= TimeDelta::milliseconds(BURST_MS))
        };
        let done: Vec<MessageId> =
            desk.bursts.iter().filter(|(_, burst)| over(burst)).map(|(id, _)| *id).collect();
        for message in done {
            if let Some(burst) = desk.bursts.remove(&message) {
                desk.tell(burst);
            }
        }
    }

    /// The next event to hand on.
    pub(super) fn next(&self) -> Option<EngagementEvent> {
        self.lock().ripe.pop_front()
    }

    /// One that could not be handed on now.
    pub(super) fn give_back(&self, event: EngagementEvent) {
        self.lock().push(event);
    }
}

impl Desk {
    fn ripen_oldest(&mut self) {
        let first = |burst: &Vec<Click>| burst.first().map(|click| click.at);
        let oldest = self.bursts.iter().min_by_key(|(_, burst)| first(burst)).map(|(id, _)| *id);
        if let Some(burst) = oldest.and_then(|id| self.bursts.remove(&id)) {
            self.tell(burst);
        }
    }

    fn tell(&mut self, burst: Vec<Click>) {
        let links: BTreeSet<u16> = burst.iter().map(|click| click.link).collect();
        let too_quick = burst.first().is_some_and(|first| is_burst(links.len(), first.of));
        for click in burst {
            let machine = click.machine || too_quick;
            self.push(engagement("clicked", click.message, click.at, machine, Some(click.link)));
        }
    }

    fn push(&mut self, event: EngagementEvent) {
        if self.ripe.len() < RIPE_MAX {
            self.ripe.push_back(event);
        } else {
            tracing::error!("an engagement is dropped: the database takes none and too many wait");
        }
    }
}

/// An event of an email. A person's first counts, and a machine's first: the same again tells nothing new.
pub(super) fn engagement(
    name: &str,
    message: MessageId,
    at: DateTime<Utc>,
    machine: bool,
    link: Option<u16>,
) -> EngagementEvent {
    let by = if machine { "machine" } else { "person" };
    let which = link.map(|link| format!(":{link}")).unwrap_or_default();
    EngagementEvent {
        message,
        name: name.to_owned(),
        at,
        machine,
        channel: Some(Channel::Email),
        link,
        dedup: Some(format!("{message}:{name}{which}:{by}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_763_000_000_000 + ms).unwrap()
    }

    /// Clicks on (link, ms) of one message with `of` links, judged at the end: whether each is a machine's.
    fn judged(clicks: &[(u16, i64)], of: usize) -> Vec<(u16, bool)> {
        let desk = ClickDesk::default();
        let message = MessageId::new();
        for (link, ms) in clicks {
            desk.ripen(at(*ms), false);
            desk.take(Click { message, link: *link, of, at: at(*ms), machine: false });
        }
        desk.ripen(at(0), true);
        std::iter::from_fn(|| desk.next()).map(|e| (e.link.unwrap(), e.machine)).collect()
    }

    #[test]
    fn all_links_within_seconds_are_a_machine_from_the_first_on() {
        assert_eq!(judged(&[(0, 0), (1, 100), (2, 200)], 3), [(0, true), (1, true), (2, true)]);
        assert_eq!(judged(&[(0, 0), (1, 100)], 3), [(0, false), (1, false)]);
        assert_eq!(judged(&[(0, 0), (0, 100)], 1), [(0, false), (0, false)]);
        let many: Vec<(u16, i64)> = (0..5).map(|link| (link, 10)).collect();
        assert!(judged(&many, 40).iter().all(|(_, machine)| *machine));
        // The same links with time to read in between.
        assert_eq!(judged(&[(0, 0), (1, 6_000)], 2), [(0, false), (1, false)]);
    }

    #[test]
    fn an_event_that_could_not_be_written_waits_and_a_message_beyond_the_limit_does_not() {
        let desk = ClickDesk::default();
        for n in 0..=MESSAGES_MAX {
            let ms = i64::try_from(n).unwrap();
            desk.take(Click { message: MessageId::new(), link: 0, of: 1, at: at(ms), machine: false });
        }
        let first = desk.next().expect("the oldest made room");
        assert_eq!((first.at, desk.next()), (at(0), None));
        desk.give_back(first.clone());
        assert_eq!(desk.next(), Some(first));
    }
}
