//! Queues of many tenants, emptied by turns: who has a thousand things waiting does not stand before who has one.

use std::collections::{HashMap, VecDeque};

use super::Tenant;

/// Things that wait, by tenant. Each turn takes one thing of the tenant that waited longest for a turn; the things
/// of one tenant keep their order. All operations take constant time.
pub struct Turns<T> {
    waiting: HashMap<Tenant, VecDeque<T>>,
    /// Every tenant of `waiting` once; the next turn first.
    order: VecDeque<Tenant>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            order: VecDeque::new(),
        }
    }
}

impl<T> Turns<T> {
    /// Adds something at the end of a tenant's queue.
    pub fn push(&mut self, tenant: Tenant, thing: T) {
        let queue = self.waiting.entry(tenant).or_default();
        if queue.is_empty() {
            self.order.push_back(tenant);
        }
        queue.push_back(thing);
    }

    /// Takes what comes next.
    pub fn pop(&mut self) -> Option<T> {
        self.pop_if(|_| true)
    }

    /// Takes the first thing that comes next for any tenant and is `fit`. Those passed over keep their turns. Looks at
    /// one thing per tenant.
    pub fn pop_if(&mut self, mut fit: impl FnMut(&T) -> bool) -> Option<T> {
        let first = |tenant: &Tenant| self.waiting.get(tenant).and_then(VecDeque::front);
        let at = self
            .order
            .iter()
            .position(|tenant| first(tenant).is_some_and(&mut fit))?;
        let tenant = self.order.remove(at)?;
        let queue = self.waiting.get_mut(&tenant)?;
        let thing = queue.pop_front();
        match queue.is_empty() {
            true => drop(self.waiting.remove(&tenant)),
            false => self.order.push_back(tenant),
        }
        thing
    }

    /// Whether nothing waits.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// Forgets what is not wanted any more.
    pub fn retain(&mut self, mut wanted: impl FnMut(&T) -> bool) {
        self.waiting.retain(|_, queue| {
            queue.retain(&mut wanted);
            !queue.is_empty()
        });
        self.order.retain(|tenant| self.waiting.contains_key(tenant));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tenants_take_turns_and_keep_their_own_order() {
        let (a, b, c) = (Tenant::named("a"), Tenant::named("b"), Tenant::named("c"));
        let mut turns = Turns::default();
        for i in 0..4 {
            turns.push(a, ("a", i));
        }
        turns.push(b, ("b", 0));
        assert_eq!(turns.pop(), Some(("a", 0)));
        turns.push(c, ("c", 0));
        turns.push(b, ("b", 1));
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(rest, [("b", 0), ("a", 1), ("c", 0), ("b", 1), ("a", 2), ("a", 3)]);
        assert!(turns.is_empty() && turns.waiting.is_empty());
        for (tenant, thing) in [(a, ("a", 0)), (a, ("a", 1)), (b, ("b", 0)), (c, ("c", 0))] {
            turns.push(tenant, thing);
        }
        assert_eq!(
            turns.pop_if(|t| t.0 != "a"),
            Some(("b", 0)),
            "what is passed over keeps its turn"
        );
        assert_eq!(turns.pop_if(|t| t.1 == 1), None, "only what comes next for a tenant");
        let rest: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(rest, [("a", 0), ("c", 0), ("a", 1)]);
        turns.push(a, ("a", 4));
        turns.push(b, ("b", 2));
        turns.push(b, ("b", 3));
        turns.retain(|(tenant, i)| (*tenant, *i) == ("b", 3));
        assert_eq!((turns.pop(), turns.pop()), (Some(("b", 3)), None));
    }
}
