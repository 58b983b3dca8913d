//! What is counted, and what the counts come to: rates, averages, percentiles.
//!
//! What a channel cannot tell is none, never 0; a rate over nothing is none as well. How counts are kept is the
//! store's affair.

use std::collections::BTreeMap;

use super::channel::Channel;

/// What is counted at most once for a message on a channel. Its place is a bit that is stored: only add.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Mark {
    /// A provider took it.
    Sent,
    /// It arrived.
    Delivered,
    /// A person opened it.
    Opened,
    /// A person followed a link.
    Clicked,
    Replied,
    Converted,
    /// It failed on this channel, whatever another channel did then.
    Failed,
    Unsubscribed,
    /// A prefetcher or a scanner opened it.
    MachineOpened,
    MachineClicked,
    Expired,
    /// A gate or a suppression kept it from being sent.
    Skipped,
}

impl Mark {
    pub const ALL: [Mark; 12] = [
        Mark::Sent,
        Mark::Delivered,
        Mark::Opened,
        Mark::Clicked,
        Mark::Replied,
        Mark::Converted,
        Mark::Failed,
        Mark::Unsubscribed,
        Mark::MachineOpened,
        Mark::MachineClicked,
        Mark::Expired,
        Mark::Skipped,
    ];

    /// The counter's name.
    pub const fn as_str(self) -> &'static str {
        match self {
            Mark::Sent => "sent",
            Mark::Delivered => "delivered",
            Mark::Opened => "opened",
            Mark::Clicked => "clicked",
            Mark::Replied => "replied",
            Mark::Converted => "converted",
            Mark::Failed => "failed",
            Mark::Unsubscribed => "unsubscribed",
            Mark::MachineOpened => "machine_opened",
            Mark::MachineClicked => "machine_clicked",
            Mark::Expired => "expired",
            Mark::Skipped => "skipped",
        }
    }

    /// The mark of what a person, or a machine, did with a message; the caller's own events have none.
    pub fn of_deed(name: &str, machine: bool) -> Option<Self> {
        match (name, machine) {
            ("opened", false) => Some(Mark::Opened),
            ("clicked", false) => Some(Mark::Clicked),
            ("replied", false) => Some(Mark::Replied),
            ("converted", false) => Some(Mark::Converted),
            ("unsubscribed", false) => Some(Mark::Unsubscribed),
            ("opened", true) => Some(Mark::MachineOpened),
            ("clicked", true) => Some(Mark::MachineClicked),
            _ => None,
        }
    }

    /// What must be so where this is, of what the channel can tell.
    pub fn implied(self, channel: Option<Channel>) -> Option<Mark> {
        let tells = |mark: Mark| channel.is_some_and(|channel| channel_tells(channel, mark));
        match self {
            Mark::Delivered => Some(Mark::Sent),
            Mark::Clicked if tells(Mark::Opened) => Some(Mark::Opened),
            Mark::Opened | Mark::Clicked if tells(Mark::Delivered) => Some(Mark::Delivered),
            Mark::Opened | Mark::Clicked => Some(Mark::Sent),
            _ => None,
        }
    }

    /// Its bit for a channel, or for none; the sign is never one.
    pub const fn bit(self, channel: Option<Channel>) -> i64 {
        let group = match channel {
            Some(channel) => channel.index(),
            None => 4,
        };
        1 << (self as usize + 12 * group)
    }
}

/// Counters that are sums and no marks.
pub const ACCEPTED: &str = "accepted";
/// Accepted, and this channel was chosen.
pub const DECIDED: &str = "decided";
/// Attempts that a provider refused.
pub const REFUSED: &str = "refused";
/// Micro-euros, corrections included: the sum of the attempts' costs.
pub const COST: &str = "cost";
/// Micro-euros that the messages sent would have cost by SMS, estimated when they were accepted.
pub const ALWAYS_SMS: &str = "always_sms";
/// Of what was sent by SMS.
pub const SEGMENTS: &str = "segments";
/// Milliseconds from handing off to delivery, and of how many messages they are known.
pub const DELIVERY_MILLIS: &str = "delivery_millis";
pub const DELIVERY_TIMED: &str = "delivery_timed";

/// How many buckets delivery times are counted in: half octaves from a quarter of a second to eight days.
pub const BUCKETS: usize = 45;

/// The longest delivery time of a bucket, in milliseconds; the last one has none.
pub fn bucket_end(bucket: usize) -> i64 {
    let octave = 250_i64 << (bucket / 2);
    if bucket.is_multiple_of(2) { octave } else { octave * 14_142 / 10_000 }
}

/// The counter of a bucket of delivery times.
pub fn bucket_name(bucket: usize) -> String {
    format!("delivery_within_{bucket:02}")
}

/// The bucket of a delivery time.
pub fn bucket_of(millis: i64) -> usize {
    (0..BUCKETS - 1).find(|bucket| millis <= bucket_end(*bucket)).unwrap_or(BUCKETS - 1)
}

/// Whether a channel by itself tells such a thing (of what only some tell).
///
/// SMS: carriers report delivery and nobody reports opening. Email: a relay says that it took the message, not
/// that it arrived; opens and clicks are seen by the pixel and the redirect. WhatsApp reports both. Telegram's
/// bots are told nothing of either. Clicks are seen wherever a link goes through the redirect; replies and
/// conversions come in, or are told by `POST /v1/events`.
pub const fn channel_tells(channel: Channel, mark: Mark) -> bool {
    match mark {
        Mark::Delivered => matches!(channel, Channel::Sms | Channel::WhatsApp),
        Mark::Opened | Mark::MachineOpened => matches!(channel, Channel::Email | Channel::WhatsApp),
        _ => true,
    }
}

/// Counters and their values, of one channel and some period.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counts(pub BTreeMap<String, i64>);

impl Counts {
    /// A counter's value; 0 where nothing was counted.
    pub fn get(&self, counter: &str) -> i64 {
        self.0.get(counter).copied().unwrap_or(0)
    }

    pub fn of(&self, mark: Mark) -> i64 {
        self.get(mark.as_str())
    }

    pub fn add(&mut self, other: &Counts) {
        for (counter, value) in &other.0 {
            *self.0.entry(counter.clone()).or_default() += value;
        }
    }

    /// None where the channel does not tell it and nobody told it otherwise.
    pub fn told(&self, channel: Channel, mark: Mark, tracked: bool) -> Option<i64> {
        let count = self.of(mark);
        ((tracked && channel_tells(channel, mark)) || count > 0).then_some(count)
    }

    /// Mean seconds from handing off to delivery, where known.
    pub fn mean_seconds(&self) -> Option<f64> {
        let (sum, count) = (self.get(DELIVERY_MILLIS), self.get(DELIVERY_TIMED));
        (count > 0).then(|| sum as f64 / count as f64 / 1000.0)
    }

    /// The seconds within which that share (0 to 1) of what was delivered had arrived, to within its bucket.
    pub fn percentile_seconds(&self, share: f64) -> Option<f64> {
        let buckets: Vec<i64> = (0..BUCKETS).map(|b| self.get(&bucket_name(b)).max(0)).collect();
        let total: i64 = buckets.iter().sum();
        if total == 0 {
            return None;
        }
        let rank = share * total as f64;
        let mut below = 0;
        for (bucket, count) in buckets.into_iter().enumerate() {
            if count > 0 && (below + count) as f64 >= rank {
                let start = bucket.checked_sub(1).map_or(0, bucket_end) as f64;
                let end = if bucket + 1 == BUCKETS { start } else { bucket_end(bucket) as f64 };
                let within = ((rank - below as f64) / count as f64).clamp(0.0, 1.0);
                return Some((start + (end - start) * within) / 1000.0);
            }
            below += count;
        }
        None
    }
}

/// A share of a whole; none of nothing.
pub fn rate(part: i64, whole: i64) -> Option<f64> {
    (whole > 0).then(|| part as f64 / whole as f64)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn every_mark_has_a_bit_of_its_own_on_every_channel() {
        let channels = Channel::ALL.into_iter().map(Some).chain([None]);
        let all: Vec<i64> = channels.flat_map(|c| Mark::ALL.map(|m| m.bit(c))).collect();
        assert!(all.iter().all(|bit| *bit > 0), "none is the sign");
        assert_eq!(all.iter().collect::<BTreeSet<_>>().len(), all.len());
    }

    #[test]
    fn buckets_grow_and_hold_what_is_theirs() {
        assert!((1..BUCKETS - 1).all(|b| bucket_end(b) > bucket_end(b - 1)));
        for (millis, bucket) in [(0, 0), (250, 0), (251, 1), (353, 1), (354, 2), (500, 2), (1_000, 4)] {
            assert_eq!(bucket_of(millis), bucket, "{millis}");
        }
        assert_eq!(bucket_of(i64::MAX), BUCKETS - 1);
        assert!(bucket_end(BUCKETS - 2) > 6 * 86_400_000, "about a week is told apart");
    }

    #[test]
    fn percentiles_are_right_to_within_their_bucket() {
        let mut counts = Counts::default();
        for seconds in 1..=100 {
            *counts.0.entry(bucket_name(bucket_of(seconds * 1000))).or_default() += 1;
        }
        for (share, exact) in [(0.5, 50.0), (0.95, 95.0), (0.01, 1.0)] {
            let found = counts.percentile_seconds(share).unwrap();
            assert!((found / exact - 1.0_f64).abs() < 0.42, "{share}: {found} for {exact}");
        }
        assert_eq!(Counts::default().percentile_seconds(0.5), None);
        let late = Counts(BTreeMap::from([(bucket_name(BUCKETS - 1), 1)]));
        assert_eq!(late.percentile_seconds(0.5), Some(bucket_end(BUCKETS - 2) as f64 / 1000.0));
    }

    #[test]
    fn what_a_channel_cannot_tell_is_none_and_never_0() {
        let none = Counts::default();
        for (channel, delivered, opened) in [
            (Channel::Sms, Some(0), None),
            (Channel::Email, None, Some(0)),
            (Channel::WhatsApp, Some(0), Some(0)),
            (Channel::Telegram, None, None),
        ] {
            assert_eq!(none.told(channel, Mark::Delivered, true), delivered, "{channel}");
            assert_eq!(none.told(channel, Mark::Opened, true), opened, "{channel}");
            assert_eq!(none.told(channel, Mark::Opened, false), None, "{channel}, not tracked");
        }
        let told = Counts(BTreeMap::from([("opened".to_owned(), 2)]));
        assert_eq!(told.told(Channel::Sms, Mark::Opened, true), Some(2), "an event told it");
        assert_eq!(Mark::Clicked.implied(Some(Channel::Sms)), Some(Mark::Delivered));
        assert_eq!(Mark::Clicked.implied(Some(Channel::Telegram)), Some(Mark::Sent));
        assert_eq!(Mark::Opened.implied(Some(Channel::Email)), Some(Mark::Sent));
    }
}
