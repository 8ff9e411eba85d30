//! Buffer memory: the bytes that all batches of a producer may hold together.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

/// The bound on buffered bytes (`buffer_memory`). Reserved a batch at a time, never a record at a time.
///
/// Threads that wait are served strictly in the order in which they came. Each is woken only when its own bytes are
/// reserved, so that no thread wakes for nothing, and a large request does not wait for ever behind small ones.
pub(crate) struct Budget {
    total: usize,
    state: Mutex<BudgetState>,
    waiting: AtomicUsize,
    /// The largest buffer that is kept.
    largest: usize,
}

struct BudgetState {
    available: usize,
    waiters: VecDeque<Arc<Waiter>>,
    closed: bool,
    pool: Pool,
}

/// Buffers of finished batches, kept for the next batches, by size: [`BUFFER_STEP`] times a power of two, or the
/// largest size. They take no more than the available bytes, so that the buffers in use and the kept ones together stay
/// within the bound.
#[derive(Default)]
struct Pool {
    sizes: Vec<(usize, Vec<Vec<u8>>)>,
    bytes: usize,
}

/// The smallest size of a buffer.
const BUFFER_STEP: usize = 1024;

impl Pool {
    fn of_size(&mut self, bytes: usize) -> Option<&mut Vec<Vec<u8>>> {
        self.sizes.iter_mut().find(|(size, _)| *size == bytes).map(|(_, buffers)| buffers)
    }

    fn take(&mut self, bytes: usize) -> Option<Vec<u8>> {
        let buffer = self.of_size(bytes)?.pop()?;
        self.bytes -= bytes;
        Some(buffer)
    }

    fn put(&mut self, bytes: usize, buffer: Vec<u8>) {
        self.bytes += bytes;
        match self.of_size(bytes) {
            Some(buffers) => buffers.push(buffer),
            None => self.sizes.push((bytes, vec![buffer])),
        }
    }

    /// Drops buffers until the others take at most `bytes`.
    fn shrink_to(&mut self, bytes: usize) {
        while self.bytes > bytes {
            let Some((size, buffers)) = self.sizes.iter_mut().find(|(_, buffers)| !buffers.is_empty()) else { return };
            buffers.pop();
            self.bytes -= *size;
        }
    }
}

struct Waiter {
    bytes: usize,
    grant: Mutex<Grant>,
    granted: Condvar,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Grant {
    Waiting,
    Granted,
    Refused,
}

/// Bytes reserved for one batch; dropping it gives them back.
pub(crate) struct Charge {
    budget: Arc<Budget>,
    bytes: usize,
}

/// Why no bytes were reserved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ReserveError {
    /// Too few bytes were released before the deadline.
    TimedOut,
    /// The producer is closed.
    Closed,
}

impl Budget {
    /// A budget of `total` bytes, which keeps buffers of at most `largest`.
    pub(crate) fn new(total: usize, largest: usize) -> Arc<Self> {
        let pool = Pool::default();
        Arc::new(Self {
            total,
            state: Mutex::new(BudgetState { available: total, waiters: VecDeque::new(), closed: false, pool }),
            waiting: AtomicUsize::new(0),
            largest,
        })
    }

    /// Reserves `bytes` if that needs no waiting.
    pub(crate) fn try_reserve(self: &Arc<Self>, bytes: usize) -> Option<Charge> {
        let mut state = self.state.lock();
        if state.closed || !state.waiters.is_empty() || state.available < bytes {
            return None;
        }
        state.available -= bytes;
        Some(Charge { budget: Arc::clone(self), bytes })
    }

    /// Reserves `bytes`. Blocks behind earlier callers until so many are free, at most until `deadline`. `on_wait` runs
    /// once before the wait begins, with no lock held, so that the senders can be told to send open batches.
    pub(crate) fn reserve(
        self: &Arc<Self>,
        bytes: usize,
        deadline: Instant,
        on_wait: impl FnOnce(),
    ) -> Result<Charge, ReserveError> {
        let waiter = {
            let mut state = self.state.lock();
            if state.closed {
                return Err(ReserveError::Closed);
            }
            if state.waiters.is_empty() && state.available >= bytes {
                state.available -= bytes;
                return Ok(Charge { budget: Arc::clone(self), bytes });
            }
            let waiter = Arc::new(Waiter { bytes, grant: Mutex::new(Grant::Waiting), granted: Condvar::new() });
            state.waiters.push_back(Arc::clone(&waiter));
            self.waiting.store(state.waiters.len(), Ordering::SeqCst);
            waiter
        };
        on_wait();
        let mut grant = waiter.grant.lock();
        while *grant == Grant::Waiting {
            if waiter.granted.wait_until(&mut grant, deadline).timed_out() {
                break;
            }
        }
        drop(grant);
        // The bytes may be granted at the moment of the deadline. The state's lock decides: a waiter that was granted
        // its bytes is not in the queue any more.
        let mut state = self.state.lock();
        let grant = *waiter.grant.lock();
        match grant {
            Grant::Granted => Ok(Charge { budget: Arc::clone(self), bytes }),
            Grant::Refused => Err(ReserveError::Closed),
            Grant::Waiting => {
                state.waiters.retain(|other| !Arc::ptr_eq(other, &waiter));
                self.serve(&mut state);
                Err(ReserveError::TimedOut)
            }
        }
    }

    /// Whether a thread waits for memory, so that open batches should be sent before their linger ends.
    pub(crate) fn is_exhausted(&self) -> bool {
        self.waiting.load(Ordering::Relaxed) > 0
    }

    /// Bytes that are reserved now.
    pub(crate) fn used(&self) -> usize {
        self.total - self.state.lock().available
    }

    /// The bound.
    pub(crate) fn total(&self) -> usize {
        self.total
    }

    /// Threads that wait now.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Refuses all waiting and all later requests.
    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.closed = true;
        for waiter in state.waiters.drain(..) {
            *waiter.grant.lock() = Grant::Refused;
            waiter.granted.notify_one();
        }
        self.waiting.store(0, Ordering::SeqCst);
        state.pool.shrink_to(0);
    }

    /// The size of the buffer for a batch of `bytes`, at most `most` unless the batch is larger.
    pub(crate) fn buffer_size(bytes: usize, most: usize) -> usize {
        let steps = bytes.div_ceil(BUFFER_STEP).checked_next_power_of_two().unwrap_or(usize::MAX);
        steps.saturating_mul(BUFFER_STEP).min(most).max(bytes)
    }

    /// A buffer of `bytes`, which the caller has reserved: an emptied buffer from the pool if there is one of that
    /// size.
    pub(crate) fn buffer(&self, bytes: usize) -> Vec<u8> {
        {
            let mut state = self.state.lock();
            if let Some(buffer) = state.pool.take(bytes) {
                return buffer;
            }
            let available = state.available;
            state.pool.shrink_to(available);
        }
        Vec::with_capacity(bytes)
    }

    /// Takes a buffer back, whose bytes are still reserved. It is passed by value, so that it cannot change while a
    /// request is still being written from it (the fault behind CVE-2026-35554).
    pub(crate) fn recycle(&self, mut buffer: Vec<u8>) {
        let bytes = buffer.capacity();
        if bytes <= self.largest && Self::buffer_size(bytes, self.largest) == bytes {
            buffer.clear();
            let mut state = self.state.lock();
            if !state.closed && state.pool.bytes <= state.available {
                state.pool.put(bytes, buffer);
            }
        }
    }

    fn release(&self, bytes: usize) {
        if bytes == 0 {
            return;
        }
        let mut state = self.state.lock();
        state.available += bytes;
        self.serve(&mut state);
    }

    /// Grants the first waiter its bytes, then the next one, as long as there are enough.
    fn serve(&self, state: &mut BudgetState) {
        while let Some(front) = state.waiters.front() {
            if state.available < front.bytes {
                break;
            }
            state.available -= front.bytes;
            if let Some(waiter) = state.waiters.pop_front() {
                *waiter.grant.lock() = Grant::Granted;
                waiter.granted.notify_one();
            }
        }
        self.waiting.store(state.waiters.len(), Ordering::SeqCst);
    }
}

impl Charge {
    /// How many bytes are reserved.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Reserves more bytes if that needs no waiting; false if it does.
    pub(crate) fn grow(&mut self, bytes: usize) -> bool {
        match self.budget.try_reserve(bytes) {
            Some(mut more) => {
                self.bytes += std::mem::take(&mut more.bytes);
                true
            }
            None => false,
        }
    }

    /// A charge of 0 bytes: for a part of a batch whose memory is reserved by another part.
    pub(crate) fn none(budget: &Arc<Budget>) -> Self {
        Self { budget: Arc::clone(budget), bytes: 0 }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.budget.release(self.bytes);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(20)
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn bytes_return_when_the_charge_is_dropped() {
        let budget = Budget::new(100, 10);
        let charge = budget.try_reserve(80).unwrap();
        assert!(budget.try_reserve(30).is_none());
        assert_eq!(budget.used(), 80);
        drop(charge);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_wait_ends_at_its_deadline_and_takes_nothing() {
        let budget = Budget::new(100, 10);
        let _all = budget.try_reserve(100).unwrap();
        let mut told = false;
        assert_eq!(budget.reserve(1, soon(), || told = true).err(), Some(ReserveError::TimedOut));
        assert!(told);
        assert!(!budget.is_exhausted());
        assert_eq!(budget.used(), 100);
    }

    #[test]
    fn waiters_are_served_in_order_and_a_small_one_does_not_overtake() {
        let budget = Budget::new(100, 10);
        let all = budget.try_reserve(100).unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let mut threads = Vec::new();
        for (name, bytes) in [("large", 90), ("small", 20)] {
            let (queued, when_queued) = crossbeam_channel::bounded(1);
            let (budget, order) = (Arc::clone(&budget), Arc::clone(&order));
            threads.push(std::thread::spawn(move || {
                let charge = budget.reserve(bytes, far(), || queued.send(()).unwrap()).unwrap();
                order.lock().push(name);
                drop(charge);
            }));
            when_queued.recv().unwrap();
        }
        assert!(budget.try_reserve(1).is_none(), "nobody overtakes those who wait");
        drop(all);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*order.lock(), ["large", "small"]);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn a_waiter_that_gives_up_lets_the_next_one_through() {
        let budget = Budget::new(100, 10);
        let most = budget.try_reserve(90).unwrap();
        let (queued, when_queued) = crossbeam_channel::bounded(2);
        let small = {
            let (budget, when_queued) = (Arc::clone(&budget), when_queued.clone());
            std::thread::spawn(move || {
                when_queued.recv().unwrap();
                budget.reserve(5, far(), || ()).is_ok()
            })
        };
        assert!(budget.reserve(50, soon(), || queued.send(()).unwrap()).is_err());
        assert!(small.join().unwrap());
        drop(most);
        assert_eq!(budget.used(), 0);
    }

    #[test]
    fn closing_refuses_those_who_wait_and_those_who_come() {
        let budget = Budget::new(10, 10);
        let all = budget.try_reserve(10).unwrap();
        let (queued, when_queued) = crossbeam_channel::bounded(1);
        let waiter = {
            let budget = Arc::clone(&budget);
            std::thread::spawn(move || budget.reserve(1, far(), || queued.send(()).unwrap()).err())
        };
        when_queued.recv().unwrap();
        budget.close();
        assert_eq!(waiter.join().unwrap(), Some(ReserveError::Closed));
        drop(all);
        assert_eq!(budget.reserve(1, far(), || ()).err(), Some(ReserveError::Closed));
    }

    #[test]
    fn a_hundred_threads_never_hold_more_than_the_bound() {
        let budget = Budget::new(1000, 100);
        std::thread::scope(|scope| {
            for thread in 0..32 {
                let budget = &budget;
                scope.spawn(move || {
                    for round in 0..200 {
                        let bytes = 1 + (thread * 37 + round * 11) % 300;
                        let charge = budget.reserve(bytes, far(), || ()).unwrap();
                        assert!(budget.used() <= 1000);
                        drop(charge);
                    }
                });
            }
        });
        assert_eq!(budget.used(), 0);
        assert!(!budget.is_exhausted());
    }

    #[test]
    fn usual_buffers_are_used_again() {
        let budget = Budget::new(10_000, 5000);
        for bytes in [1024, 2048, 5000] {
            let charge = budget.try_reserve(bytes).unwrap();
            let mut buffer = budget.buffer(bytes);
            buffer.extend_from_slice(b"x");
            let place = buffer.as_ptr();
            budget.recycle(buffer);
            let again = budget.buffer(bytes);
            assert!(again.is_empty() && again.as_ptr() == place);
            budget.recycle(again);
            drop(charge);
        }
        budget.recycle(Vec::with_capacity(5001));
        budget.recycle(Vec::with_capacity(1500));
        let kept = |budget: &Budget| budget.state.lock().pool.bytes;
        assert_eq!(kept(&budget), 1024 + 2048 + 5000, "no unusual sizes");
        // The kept buffers and those in use together stay within the bound.
        let _most = budget.try_reserve(6000).unwrap();
        let _buffer = budget.buffer(4096);
        assert!(kept(&budget) <= 4000, "{}", kept(&budget));
        budget.recycle(Vec::with_capacity(5000));
        assert!(kept(&budget) <= 4000 + 5000);
        budget.close();
        assert_eq!(kept(&budget), 0);
    }

    #[test]
    fn sizes_of_buffers_are_powers_of_two_up_to_the_largest() {
        let sizes: Vec<usize> =
            [1, 1024, 1025, 5000, 60_000, 70_000, 90_000].map(|bytes| Budget::buffer_size(bytes, 70_000)).into();
        assert_eq!(sizes, [1024, 1024, 2048, 8192, 65_536, 70_000, 90_000]);
    }

    #[test]
    fn a_charge_grows_where_that_needs_no_waiting() {
        let budget = Budget::new(100, 10);
        let mut charge = budget.try_reserve(60).unwrap();
        assert!(charge.grow(30));
        assert!(!charge.grow(20));
        assert_eq!(budget.used(), 90);
        drop(charge);
        assert_eq!(budget.used(), 0);
    }
}
