//! Every order of a few receipts, the laws of the fold, and the table of movements.

use chrono::TimeDelta;
use proptest::prelude::*;

use super::*;
use crate::domain::delivery::ErrorClass;

fn at(seconds: i64) -> DateTime<Utc> {
    "2025-11-15T09:00:00Z".parse::<DateTime<Utc>>().unwrap() + TimeDelta::seconds(seconds)
}

fn told(kind: ReceiptKind, second: i64) -> Told {
    let error = (kind == ReceiptKind::Undelivered).then(|| AttemptError {
        class: ErrorClass::Permanent,
        code: Some(format!("3000{second}")),
        detail: "unreachable".into(),
    });
    Told::of(kind, Some(at(second)), error)
}

/// Every order of these, one after the other (Heap's algorithm).
fn permutations(events: &[Told], each: &mut impl FnMut(&[Told])) {
    fn heap(k: usize, events: &mut Vec<Told>, each: &mut impl FnMut(&[Told])) {
        if k <= 1 {
            return each(events);
        }
        for i in 0..k {
            heap(k - 1, events, each);
            events.swap(if k.is_multiple_of(2) { i } else { 0 }, k - 1);
        }
    }
    heap(events.len(), &mut events.to_vec(), each);
}

/// Every multiset of up to `most` kinds, smallest first.
fn multisets(most: usize) -> Vec<Vec<ReceiptKind>> {
    let mut all: Vec<Vec<ReceiptKind>> = vec![vec![]];
    let mut last = all.clone();
    for _ in 0..most {
        last = last
            .iter()
            .flat_map(|set| {
                let from = set.last().copied();
                ReceiptKind::ALL.into_iter().filter(move |kind| from.is_none_or(|f| *kind >= f)).map(|kind| {
                    let mut more = set.clone();
                    more.push(kind);
                    more
                })
            })
            .collect();
        all.extend(last.iter().cloned());
    }
    all
}

#[test]
fn every_permutation_of_up_to_six_receipts_says_the_same() {
    let mut orders = 0_u64;
    for kinds in multisets(6) {
        // Twins share their second now and then: the very same receipt, told twice.
        let events: Vec<Told> =
            kinds.iter().enumerate().map(|(n, kind)| told(*kind, (n / 2) as i64)).collect();
        let once: Told = events.iter().cloned().collect();
        permutations(&events, &mut |order| {
            orders += 1;
            assert_eq!(order.iter().cloned().collect::<Told>(), once, "{kinds:?}");
        });
        let doubled: Told = events.iter().chain(&events).cloned().collect();
        assert_eq!(doubled, once, "{kinds:?} told twice");
    }
    assert!(orders > 330_000, "{orders} orders: 462 sets of six with 720 orders each, and the smaller ones");
}

proptest! {
    #[test]
    fn the_fold_is_commutative_associative_and_idempotent(
        sets in prop::array::uniform3(prop::collection::vec((0..6_usize, 0..9_i64), 0..8))
    ) {
        let [a, b, c] = sets.map(|set| {
            set.into_iter().map(|(kind, second)| told(ReceiptKind::ALL[kind], second)).collect::<Told>()
        });
        prop_assert_eq!(a.clone().and(b.clone()), b.clone().and(a.clone()));
        prop_assert_eq!(a.clone().and(b.clone()).and(c.clone()), a.clone().and(b.clone().and(c)));
        prop_assert_eq!(a.clone().and(a.clone()), a.clone());
        prop_assert_eq!(a.clone().and(Told::default()), a);
    }
}

#[test]
fn ranks() {
    use ReceiptKind::{Accepted, Delayed, Delivered, Read, Sent, Undelivered};
    for (kinds, state, arrived, conflict) in [
        (&[][..], None, false, false),
        (&[Accepted], Some(Accepted), false, false),
        (&[Sent, Accepted], Some(Sent), false, false),
        (&[Undelivered, Sent], Some(Undelivered), false, false),
        (&[Delayed, Sent], Some(Delayed), false, false),
        (&[Delayed, Undelivered], Some(Undelivered), false, false),
        (&[Read], Some(Read), true, false),
        (&[Sent, Delivered], Some(Delivered), true, false),
        (&[Delivered, Undelivered], Some(Delivered), true, true),
        (&[Undelivered, Read], Some(Read), true, true),
    ] {
        let all: Told = kinds.iter().map(|kind| told(*kind, 1)).collect();
        assert_eq!((all.state(), all.arrived(), all.conflict()), (state, arrived, conflict), "{kinds:?}");
        assert_eq!(all.undelivered(), state == Some(Undelivered), "{kinds:?}");
    }
    let first: Told = [told(Read, 9), told(Delivered, 4), told(Sent, 1)].into_iter().collect();
    assert_eq!(first.delivered_at(), Some(at(4)));
    let why: Told = [told(Undelivered, 7), told(Undelivered, 3)].into_iter().collect();
    assert_eq!(why.error().unwrap().code.as_deref(), Some("30003"));
}

fn seen(status: Status, attempt: AttemptStatus) -> Seen {
    Seen { status, attempt, latest: true, busy: false }
}

#[test]
fn a_message_moves_up_only() {
    use AttemptStatus::{Accepted, RefusedPermanent, Unknown};
    use ReceiptKind as Kind;
    for (status, attempt, kind, expected) in [
        (Status::Sent, Accepted, Kind::Sent, Move::Stay),
        (Status::Sent, Accepted, Kind::Delivered, Move::Delivered),
        (Status::Sent, Accepted, Kind::Read, Move::Delivered),
        (Status::Sent, Accepted, Kind::Undelivered, Move::Undelivered),
        (Status::Delivered, Accepted, Kind::Undelivered, Move::Stay),
        (Status::Unknown, Unknown, Kind::Accepted, Move::HandedOff),
        (Status::Unknown, Unknown, Kind::Sent, Move::HandedOff),
        // Whoever goes on trying has it.
        (Status::Unknown, Unknown, Kind::Delayed, Move::HandedOff),
        (Status::Sent, Accepted, Kind::Delayed, Move::Stay),
        (Status::Unknown, Unknown, Kind::Delivered, Move::Delivered),
        (Status::Unknown, Unknown, Kind::Undelivered, Move::Undelivered),
        (Status::Retrying, Unknown, Kind::Sent, Move::HandedOff),
        (Status::Retrying, Accepted, Kind::Delivered, Move::Delivered),
        (Status::Unresolved, Unknown, Kind::Sent, Move::HandedOff),
        (Status::Unresolved, Unknown, Kind::Delivered, Move::Delivered),
        (Status::Unresolved, Unknown, Kind::Undelivered, Move::Stay),
        (Status::Failed, Accepted, Kind::Delivered, Move::Delivered),
        (Status::Failed, RefusedPermanent, Kind::Delivered, Move::Delivered),
        (Status::Failed, Accepted, Kind::Sent, Move::Stay),
        (Status::Cancelled, Accepted, Kind::Delivered, Move::Stay),
        (Status::Expired, Accepted, Kind::Delivered, Move::Stay),
        (Status::Skipped, Accepted, Kind::Undelivered, Move::Stay),
        // Three crashes set it aside, and what they interrupted had been taken.
        (Status::Quarantined, Unknown, Kind::Sent, Move::HandedOff),
        (Status::Quarantined, Unknown, Kind::Delivered, Move::Delivered),
        (Status::Quarantined, Accepted, Kind::Delivered, Move::Delivered),
        (Status::Quarantined, Accepted, Kind::Sent, Move::Stay),
        (Status::Quarantined, Unknown, Kind::Undelivered, Move::Stay),
    ] {
        let receipts = told(kind, 1);
        assert_eq!(movement(seen(status, attempt), &receipts), expected, "{status} {attempt:?} {kind:?}");
        let busy = Seen { busy: true, ..seen(status, attempt) };
        assert_eq!(
            movement(busy, &receipts),
            Move::Stay,
            "{status} {attempt:?} {kind:?} while another is out"
        );
        let earlier = Seen { latest: false, ..seen(status, attempt) };
        let moved = movement(earlier, &receipts);
        assert!(
            matches!(moved, Move::Stay | Move::Delivered),
            "an earlier attempt only tells of its arrival"
        );
    }
    let nothing = Told::default();
    assert_eq!(movement(seen(Status::Unknown, Unknown), &nothing), Move::Stay);
}
