//! Lanes: each channel has places of its own, so that a provider that hangs until its time-out holds up its own channel
//! and no other.
//!
//! A message takes a place on the lane of the channel that was chosen for it first, from its claim to its step's end;
//! its fallbacks stay on that lane. Where its provider takes very long it stands aside and leaves its place to others, so
//! that who goes by the same channel through another provider is not held up either; how many may stand aside for one
//! credential is `breaker`'s affair. What is due on a lane without places is not claimed at all, so that it waits as what
//! it is and costs nothing. Counts are this process's own; nothing is decided about a message here.

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU32, Ordering},
};

use crate::{
    domain::channel::{Channel, PerChannel},
    store::Room,
};

/// The places that are taken on each lane.
#[derive(Debug, Default)]
pub struct Lanes {
    taken: PerChannel<AtomicU32>,
}

/// A place that is given back where it is dropped, however its task ended.
#[derive(Debug)]
pub struct Place {
    lanes: Arc<Lanes>,
    lane: Option<Channel>,
    is_left: AtomicBool,
}

impl Place {
    /// Leaves the place to others; its task goes on beside the lane.
    pub fn stand_aside(&self) {
        let left_before = self.is_left.swap(true, Ordering::SeqCst);
        if let Some(lane) = self.lane.filter(|_| !left_before) {
            self.lanes.taken[lane].fetch_sub(1, Ordering::SeqCst);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.stand_aside();
    }
}

impl Lanes {
    pub fn enter(self: &Arc<Self>, lane: Option<Channel>) -> Place {
        if let Some(lane) = lane {
            self.taken[lane].fetch_add(1, Ordering::SeqCst);
        }
        Place { lanes: Arc::clone(self), lane, is_left: AtomicBool::new(false) }
    }

    fn left(&self, places: u32) -> PerChannel<u32> {
        PerChannel::from_fn(|lane| places.saturating_sub(self.taken[lane].load(Ordering::SeqCst)))
    }

    /// Whether more than three quarters of some lane's places are taken.
    pub fn is_busy(&self, places: u32) -> bool {
        self.left(places).iter().any(|(_, left)| *left < places.div_ceil(4))
    }

    /// What may be claimed where each lane has so many places: none, where all of them are taken. While every lane has
    /// places to spare, one statement takes what is due in its order; else each lane is asked for what it has room for.
    pub fn room(&self, places: u32, most: u32) -> Option<Room> {
        let left = self.left(places);
        let (least, any) = left
            .iter()
            .fold((u32::MAX, false), |(least, any), (_, left)| (least.min(*left), any || *left > 0));
        if !any {
            return None;
        }
        Some(match self.is_busy(places) {
            false => Room::Shared(least.min(most)),
            true => Room::Lanes(PerChannel::from_fn(|lane| left[lane].min(most))),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_lane_is_passed_over_and_the_others_keep_all_their_places() {
        let lanes = Arc::new(Lanes::default());
        assert_eq!(lanes.room(8, 64), Some(Room::Shared(8)));
        let mut held: Vec<Place> = (0..6).map(|_| lanes.enter(Some(Channel::Sms))).collect();
        assert_eq!((lanes.room(8, 64), lanes.is_busy(8)), (Some(Room::Shared(2)), false));
        held.extend((0..2).map(|_| lanes.enter(Some(Channel::Sms))));
        let others = PerChannel::from_fn(|lane| if lane == Channel::Sms { 0 } else { 8 });
        assert_eq!((lanes.room(8, 64), lanes.is_busy(8)), (Some(Room::Lanes(others)), true));
        let few = PerChannel::from_fn(|lane| if lane == Channel::Sms { 0 } else { 3 });
        assert_eq!(lanes.room(8, 3), Some(Room::Lanes(few)));
        // A plan without hops takes nobody's place.
        held.push(lanes.enter(None));
        assert_eq!(lanes.room(8, 64), Some(Room::Lanes(others)));
        held.clear();
        assert_eq!(lanes.room(8, 64), Some(Room::Shared(8)));
        let all: Vec<Place> = Channel::ALL.into_iter().map(|lane| lanes.enter(Some(lane))).collect();
        assert_eq!(lanes.room(1, 64), None);
        drop(all);
        assert_eq!(lanes.room(1, 64), Some(Room::Shared(1)));
    }

    #[test]
    fn who_stands_aside_leaves_one_place_and_leaves_it_once() {
        let lanes = Arc::new(Lanes::default());
        let places: Vec<Place> = (0..8).map(|_| lanes.enter(Some(Channel::Sms))).collect();
        places[0].stand_aside();
        places[0].stand_aside();
        let one = PerChannel::from_fn(|lane| if lane == Channel::Sms { 1 } else { 8 });
        assert_eq!(lanes.room(8, 64), Some(Room::Lanes(one)));
        drop(places);
        assert_eq!(lanes.room(8, 64), Some(Room::Shared(8)));
    }

    #[test]
    fn a_task_that_panics_gives_its_place_back() {
        let lanes = Arc::new(Lanes::default());
        let place = lanes.enter(Some(Channel::Email));
        let ended = std::panic::catch_unwind(std::panic::AssertUnwindSafe(move || {
            let _place = place;
            panic!("as told");
        }));
        assert!(ended.is_err());
        assert_eq!(lanes.room(1, 1), Some(Room::Shared(1)));
    }
}
