//! The first k of many.

use std::cmp::Ordering;

/// Keeps the first `k` of the items it is offered, by `order`, which is total.
///
/// Items gather until there are twice as many as needed; selecting the better half then takes
/// constant time per item, and leaves a bound that most later items fail with one comparison.
pub(super) struct Top<T, F> {
    k: usize,
    items: Vec<T>,
    bound: Option<T>,
    order: F,
}

impl<T: Copy, F: Fn(&T, &T) -> Ordering> Top<T, F> {
    pub fn new(k: usize, order: F) -> Self {
        Self {
            k,
            items: Vec::new(),
            bound: None,
            order,
        }
    }

    pub fn offer(&mut self, item: T) {
        if self.k == 0 || self.bound.as_ref().is_some_and(|b| (self.order)(&item, b).is_ge()) {
            return;
        }
        self.items.push(item);
        if self.items.len() >= (2 * self.k).max(64) {
            let (_, kth, _) = self.items.select_nth_unstable_by(self.k - 1, &self.order);
            self.bound = Some(*kth);
            self.items.truncate(self.k);
        }
    }

    /// The first `k`, in order.
    pub fn into_sorted(mut self) -> Vec<T> {
        self.items.sort_unstable_by(&self.order);
        self.items.truncate(self.k);
        self.items
    }
}
