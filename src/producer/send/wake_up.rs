//! When a notice wakes a sleeping sender.
//!
//! `tests/interleavings/handover.rs` tries every interleaving of this file, so its locks and atomics come from
//! `super::sync`.

use super::sync::{AtomicBool, AtomicU64, Ordering, Receiver, Sender, fence};

/// Which batches wake a driver that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeOn {
    Never,
    /// No batch, before the hold ends.
    Held,
    /// Full batches; the others only when the hold has ended.
    Full,
    /// Batches that are due before the driver wakes by itself.
    Due,
}

/// The notices for a sender, and whether a new notice has to wake it. Times are in nanoseconds after the inbox's
/// origin, and at least 1.
pub(crate) struct WakeUp<N> {
    notices: Sender<N>,
    /// When the sleeping sender will wake by itself; [`AWAKE`] while it runs or does not want to be woken by notices.
    ///
    /// The sender stores it *before* it looks for notices a last time, and an application thread reads it *after* it
    /// has left one, all in one total order. So either the sender sees the notice, or the thread sees that the sender
    /// sleeps.
    sleeps_until: AtomicU64,
    /// Until when new batches are held and need not be looked at. A batch that is due before this time counts as due at
    /// this time.
    held_until: AtomicU64,
    /// Whether full batches are held, too.
    full_is_held: AtomicBool,
}

const AWAKE: u64 = 0;

impl<N> WakeUp<N> {
    pub(crate) fn new(notices: Sender<N>) -> Self {
        Self {
            notices,
            sleeps_until: AtomicU64::new(AWAKE),
            held_until: AtomicU64::new(0),
            full_is_held: AtomicBool::new(false),
        }
    }

    /// Leaves a notice of a batch that is due at `due`, and is full or not. True if the caller has to wake the sender.
    #[must_use]
    pub(crate) fn notice(&self, notice: N, due: u64, full: bool) -> bool {
        // If the sender has ended, another sender has its partitions.
        drop(self.notices.send(notice));
        fence(Ordering::SeqCst);
        let sleeps_until = self.sleeps_until.load(Ordering::SeqCst);
        let is_held = !full || self.full_is_held.load(Ordering::SeqCst);
        let due = if is_held { due.max(self.held_until.load(Ordering::SeqCst)) } else { due };
        sleeps_until != AWAKE
            && due < sleeps_until
            // Only the thread that wins the exchange wakes it.
            && self.sleeps_until.compare_exchange(sleeps_until, AWAKE, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// Sets which notices wake the sender: those of batches that are due before `until`, when the sender wakes by
    /// itself (`None`: never), and that `wake_on` allows. A hold, if there is one, ends at `held_until`. False if there
    /// are notices now that might have to wake it; the sender then counts as awake. *Thread*: the one that holds the
    /// baton.
    pub(crate) fn arm(&self, until: Option<u64>, wake_on: WakeOn, held_until: u64, notices: &Receiver<N>) -> bool {
        let until = if wake_on == WakeOn::Never { AWAKE } else { until.unwrap_or(u64::MAX) };
        let held_until = if wake_on == WakeOn::Due { 0 } else { held_until };
        self.held_until.store(held_until, Ordering::SeqCst);
        self.full_is_held.store(wake_on == WakeOn::Held, Ordering::SeqCst);
        self.sleeps_until.store(until, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        if wake_on != WakeOn::Never && !notices.is_empty() {
            self.set_awake();
            return false;
        }
        true
    }

    /// The sender is awake, so no notice has to wake it.
    pub(crate) fn set_awake(&self) {
        self.sleeps_until.store(AWAKE, Ordering::SeqCst);
    }

    /// Wakes the sender by `wake`, whatever it sleeps for.
    pub(crate) fn wake(&self, wake: impl FnOnce()) {
        // In this order: once woken, the sender may call `arm` again, and that must not be overwritten.
        self.set_awake();
        wake();
    }
}

/// A request to the sender to look at something. It is in the inbox at most once, however often it is made.
pub(crate) struct RequestFlag(AtomicBool);

impl RequestFlag {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Makes the request, after the thing to be looked at has changed. True if the caller has to put an event into the
    /// inbox.
    #[must_use]
    pub(crate) fn ask(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    /// The sender has taken the event out of the inbox, and is about to look. *Thread*: sender.
    pub(crate) fn begin(&self) {
        // A swap, not a store: it reads the flag that a thread has set after its change, so that the sender sees this
        // change.
        self.0.swap(false, Ordering::SeqCst);
    }
}
