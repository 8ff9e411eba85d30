//! The memory of a consumer: one bound over what is asked for, received, decompressed and handed out.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::Mutex;

/// Who is rung when something has changed that it waits for. It does not block.
pub(crate) trait Bell: Send + Sync {
    fn ring(&self);
}

/// So many bytes in all. *Lock order*: after a partition's lock; no other is taken under it.
pub(crate) struct Budget {
    total: usize,
    state: Mutex<State>,
    /// How much of it the program holds: batches that it has not dropped.
    handed_out: AtomicUsize,
}

#[derive(Default)]
struct State {
    used: usize,
    /// Who could not get what it wants to ask for.
    waiting: Vec<Arc<dyn Bell>>,
}

impl Budget {
    pub(crate) fn new(total: usize) -> Arc<Self> {
        Arc::new(Self { total, state: Mutex::default(), handed_out: AtomicUsize::new(0) })
    }

    /// Takes memory for an answer before it is asked for: `want` bytes, or what there is, but not less than `least`. When
    /// nothing at all is in use, whatever there is will do: so the largest batch gets through. `None`: `bell` is rung when
    /// there is more.
    pub(crate) fn reserve(self: &Arc<Self>, want: usize, least: usize, bell: &Arc<dyn Bell>) -> Option<Lease> {
        let mut state = self.state.lock();
        let free = self.total.saturating_sub(state.used);
        if free < least.min(want) && state.used > 0 {
            if !state.waiting.iter().any(|waiting| Arc::ptr_eq(waiting, bell)) {
                state.waiting.push(Arc::clone(bell));
            }
            return None;
        }
        let bytes = want.min(free);
        state.used += bytes;
        Some(Lease { budget: Arc::clone(self), bytes })
    }

    /// Takes memory that is in use already, however much there is: who has to wait for it here would hold what others
    /// wait for.
    pub(crate) fn overdraw(self: &Arc<Self>, bytes: usize) -> Lease {
        let mut lease = Lease { budget: Arc::clone(self), bytes: 0 };
        lease.resize(bytes);
        lease
    }

    /// How much is in use, of which the program holds so much.
    pub(crate) fn in_use(&self) -> (usize, usize) {
        (self.state.lock().used, self.handed_out.load(Ordering::Relaxed))
    }

    /// How much there is in all.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Whether somebody cannot fetch before memory comes back.
    pub(crate) fn is_short(&self) -> bool {
        !self.state.lock().waiting.is_empty()
    }

    /// The program has got so much.
    pub(crate) fn hand_out(&self, bytes: usize) {
        self.handed_out.fetch_add(bytes, Ordering::Relaxed);
    }

    /// The program has given so much back.
    pub(crate) fn take_back(&self, bytes: usize) {
        self.handed_out.fetch_sub(bytes, Ordering::Relaxed);
    }
}

/// A part of the budget, given back when it is dropped.
pub(crate) struct Lease {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Lease {
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Makes it this large: an answer is as long as it is.
    pub(crate) fn resize(&mut self, bytes: usize) {
        let mut state = self.budget.state.lock();
        state.used = state.used.saturating_sub(self.bytes).saturating_add(bytes);
        let is_less = bytes < self.bytes;
        self.bytes = bytes;
        let waiting = if is_less { std::mem::take(&mut state.waiting) } else { Vec::new() };
        drop(state);
        for bell in waiting {
            bell.ring();
        }
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.resize(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Default)]
    struct Counter(AtomicUsize);

    impl Bell for Counter {
        fn ring(&self) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn what_is_asked_for_is_reserved_and_who_cannot_have_it_is_rung() {
        let (budget, counter) = (Budget::new(100), Arc::new(Counter::default()));
        let bell: Arc<dyn Bell> = counter.clone();
        let mut first = budget.reserve(70, 10, &bell).unwrap();
        assert_eq!((first.bytes(), budget.in_use().0), (70, 70));
        let second = budget.reserve(70, 10, &bell).unwrap();
        assert_eq!(second.bytes(), 30, "there is no more");
        assert!(budget.reserve(70, 10, &bell).is_none() && budget.is_short());
        assert!(budget.reserve(5, 10, &bell).is_none(), "rung once");
        first.resize(90);
        assert_eq!((budget.in_use().0, counter.0.load(Ordering::Relaxed)), (120, 0), "an answer is as long as it is");
        first.resize(60);
        assert_eq!((counter.0.load(Ordering::Relaxed), budget.is_short()), (1, false));
        drop(second);
        assert_eq!(counter.0.load(Ordering::Relaxed), 1, "nobody waits");
        assert_eq!(budget.reserve(70, 10, &bell).unwrap().bytes(), 40);
    }

    #[test]
    fn the_largest_batch_gets_through_when_nothing_is_in_use() {
        let budget = Budget::new(100);
        let bell: Arc<dyn Bell> = Arc::new(Counter::default());
        let lease = budget.reserve(500, 300, &bell).unwrap();
        assert_eq!(lease.bytes(), 100);
        assert!(budget.reserve(500, 300, &bell).is_none());
        drop(lease);
        let over = budget.overdraw(300);
        assert_eq!(budget.in_use().0, 300);
        assert!(budget.reserve(1, 1, &bell).is_none());
        drop(over);
        assert_eq!(budget.in_use().0, 0);
    }
}
