//! What a set of receipts comes to, and how far it may move the message: both without any order.
//!
//! A join of sets: whatever comes first, twice or late, the same set says the same (reliability.md P8, I10). Nothing
//! here moves a message down: what was told to be delivered stays delivered, and a word to the contrary is flagged.

use chrono::{DateTime, Utc};

use super::ReceiptKind;
use crate::domain::delivery::{AttemptError, AttemptStatus, Status};

/// What the receipts of one attempt say together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// A bit for each kind that was told.
    kinds: u8,
    /// When it first arrived, by the provider's clock, where a receipt said when.
    delivered_at: Option<DateTime<Utc>>,
    /// The first of the reasons, by their words: any rule would do that knows no order of arrival.
    error: Option<AttemptError>,
}

const fn bit(kind: ReceiptKind) -> u8 {
    match kind {
        ReceiptKind::Accepted => 1,
        ReceiptKind::Sent => 1 << 1,
        ReceiptKind::Undelivered => 1 << 2,
        ReceiptKind::Delivered => 1 << 3,
        ReceiptKind::Read => 1 << 4,
        ReceiptKind::Delayed => 1 << 5,
    }
}

const ARRIVED: u8 = bit(ReceiptKind::Delivered) | bit(ReceiptKind::Read);

impl Told {
    /// One receipt.
    pub fn of(kind: ReceiptKind, at: Option<DateTime<Utc>>, error: Option<AttemptError>) -> Self {
        let arrived = bit(kind) & ARRIVED != 0;
        Self {
            kinds: bit(kind),
            delivered_at: at.filter(|_| arrived),
            error: error.filter(|_| kind == ReceiptKind::Undelivered),
        }
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        let words = |error: &AttemptError| (error.code.clone(), error.detail.clone());
        Self {
            kinds: self.kinds | other.kinds,
            delivered_at: self.delivered_at.into_iter().chain(other.delivered_at).min(),
            error: self.error.into_iter().chain(other.error).min_by_key(words),
        }
    }

    /// The furthest that was told: read, delivered, undelivered, delayed, sent, accepted; none without a receipt.
    pub fn state(&self) -> Option<ReceiptKind> {
        [
            ReceiptKind::Read,
            ReceiptKind::Delivered,
            ReceiptKind::Undelivered,
            ReceiptKind::Delayed,
            ReceiptKind::Sent,
            ReceiptKind::Accepted,
        ]
        .into_iter()
        .find(|kind| self.kinds & bit(*kind) != 0)
    }

    /// It arrived; read says so too, also where nothing else did.
    pub fn arrived(&self) -> bool {
        self.kinds & ARRIVED != 0
    }

    /// It did not arrive, and nothing says that it did.
    pub fn undelivered(&self) -> bool {
        self.state() == Some(ReceiptKind::Undelivered)
    }

    /// Told both to have arrived and not to.
    pub fn conflict(&self) -> bool {
        self.arrived() && self.kinds & bit(ReceiptKind::Undelivered) != 0
    }

    pub fn delivered_at(&self) -> Option<DateTime<Utc>> {
        self.delivered_at
    }

    /// Why it did not arrive, where that was told.
    pub fn error(&self) -> Option<&AttemptError> {
        self.error.as_ref()
    }
}

impl FromIterator<Told> for Told {
    fn from_iter<I: IntoIterator<Item = Told>>(all: I) -> Self {
        all.into_iter().fold(Told::default(), Told::and)
    }
}

/// Where a message and one of its attempts stand when receipts are looked at.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub status: Status,
    pub attempt: AttemptStatus,
    /// No attempt came after this one.
    pub latest: bool,
    /// Another attempt is on its way right now: its outcome comes first.
    pub busy: bool,
}

/// What receipts do to a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Move {
    Stay,
    /// The provider has it: an unknown outcome is settled.
    HandedOff,
    Delivered,
    /// The attempt that its hopes hang on did not arrive: what follows is `delivery`'s to say.
    Undelivered,
}

/// How far the receipts of an attempt move its message (reliability.md 5.1): up, or on to the next channel, and out of
/// an end only from `unresolved`, `failed` and `quarantined`.
pub fn movement(seen: Seen, told: &Told) -> Move {
    let Seen { status, attempt, latest, busy } = seen;
    if busy {
        return Move::Stay;
    }
    let under_way = matches!(
        status,
        Status::Unknown | Status::Queued | Status::Held | Status::Retrying | Status::Sending
    );
    let ended_early = matches!(status, Status::Failed | Status::Unresolved | Status::Quarantined);
    if told.arrived() {
        let may = under_way || ended_early || status == Status::Sent;
        return if may { Move::Delivered } else { Move::Stay };
    }
    let unsettled = latest && attempt == AttemptStatus::Unknown;
    if told.undelivered() {
        let hoped = latest && status == Status::Sent && attempt == AttemptStatus::Accepted;
        return if hoped || (unsettled && under_way) { Move::Undelivered } else { Move::Stay };
    }
    let given_up = matches!(status, Status::Unresolved | Status::Quarantined);
    let handed_off = told.state().is_some() && unsettled && (under_way || given_up);
    if handed_off { Move::HandedOff } else { Move::Stay }
}

#[cfg(test)]
mod tests;
