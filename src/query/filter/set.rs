//! Values to look for.

use std::hash::Hash;

use hashbrown::{Equivalent, HashSet};

/// Lists up to this long are searched one by one, which is faster than hashing.
pub(super) const FEW: usize = 8;

/// Values to look for.
#[derive(Clone, Debug)]
pub(super) enum Set<T> {
    Few(Vec<T>),
    Many(HashSet<T>),
}

impl<T: Eq + Hash> Set<T> {
    pub(super) fn contains<Q: Equivalent<T> + Hash + ?Sized>(&self, value: &Q) -> bool {
        match self {
            Set::Few(list) => list.iter().any(|x| value.equivalent(x)),
            Set::Many(set) => set.contains(value),
        }
    }
}

impl<T> Set<T> {
    /// How many values.
    pub(super) fn len(&self) -> usize {
        match self {
            Set::Few(list) => list.len(),
            Set::Many(set) => set.len(),
        }
    }

    /// The values, in no particular order.
    pub(super) fn iter(&self) -> impl Iterator<Item = &T> {
        let (few, many) = match self {
            Set::Few(list) => (Some(list), None),
            Set::Many(set) => (None, Some(set)),
        };
        few.into_iter().flatten().chain(many.into_iter().flatten())
    }
}

impl<T: Eq + Hash> FromIterator<T> for Set<T> {
    fn from_iter<I: IntoIterator<Item = T>>(values: I) -> Self {
        let set: HashSet<T> = values.into_iter().collect();
        match set.len() <= FEW {
            true => Set::Few(set.into_iter().collect()),
            false => Set::Many(set),
        }
    }
}
