//! One value for some of the words of a closed set, found without a search: a map with four places.

use std::marker::PhantomData;

use super::message::{Origin, Priority};

/// A closed set of at most four words.
pub trait Word: Copy + 'static {
    const ALL: &'static [Self];
    /// Its place in `ALL`.
    fn place(self) -> usize;
}

impl Word for Priority {
    const ALL: &'static [Self] = Priority::ALL;
    fn place(self) -> usize {
        self as usize
    }
}

impl Word for Origin {
    const ALL: &'static [Self] = Origin::ALL;
    fn place(self) -> usize {
        self as usize
    }
}

/// Values by word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ByWord<W, T> {
    values: [Option<T>; 4],
    words: PhantomData<W>,
}

impl<W: Word, T> ByWord<W, T> {
    #[inline]
    pub fn get(&self, word: W) -> Option<&T> {
        self.values[word.place()].as_ref()
    }

    pub fn insert(&mut self, word: W, value: T) {
        self.values[word.place()] = Some(value);
    }

    pub fn remove(&mut self, word: W) {
        self.values[word.place()] = None;
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.values.iter_mut().flatten()
    }

    pub fn iter(&self) -> impl Iterator<Item = (W, &T)> {
        W::ALL.iter().filter_map(|word| Some((*word, self.get(*word)?)))
    }
}

impl<W, T> Default for ByWord<W, T> {
    fn default() -> Self {
        Self { values: [const { None }; 4], words: PhantomData }
    }
}

impl<W: Word, T> FromIterator<(W, T)> for ByWord<W, T> {
    fn from_iter<I: IntoIterator<Item = (W, T)>>(pairs: I) -> Self {
        let mut map = Self::default();
        for (word, value) in pairs {
            map.insert(word, value);
        }
        map
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_put_in_is_found_under_its_word_alone() {
        let map: ByWord<Priority, u8> = [(Priority::Urgent, 3), (Priority::Low, 1)].into_iter().collect();
        assert_eq!((map.get(Priority::Urgent), map.get(Priority::High)), (Some(&3), None));
        assert_eq!(map.iter().map(|(_, value)| *value).collect::<Vec<_>>(), [1, 3]);
    }
}
