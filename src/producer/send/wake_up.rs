//! Who wakes a sleeping sender, and when.
//!
//! `tests/interleavings/handover.rs` tries every interleaving of this file; hence what it is built on comes from
//! `super::sync`.

use super::sync::{AtomicBool, AtomicU64, Ordering, Receiver, Sender, fence};

/// Which batches wake a driver that sleeps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WakeOn {
    Never,
    /// None before the hold ends.
    Held,
    /// Those that are full; the others not before the hold ends.
    Full,
    /// Those that are due before it wakes by itself.
    Due,
}

/// The notices for a sender, and whether one that is left now has to wake it. Times are in nanoseconds after the
/// inbox's origin, and at least 1.
pub(crate) struct WakeUp<N> {
    notices: Sender<N>,
    /// When the sleeping sender will wake by itself; [`AWAKE`] while it runs or does not want to be woken by notices.
    ///
    /// The sender stores it *before* it looks for notices a last time, and an application thread reads it *after*
    /// it left one, all in one total order: one of the two sees the other.
    sleeps_until: AtomicU64,
    /// Until when what comes is held, and need not be looked at. So whatever is due before that is due then.
    held_until: AtomicU64,
    /// Full batches are held, too.
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

    /// Leaves a notice of a batch which is due at `due`, and `full` or not. True if the caller has to wake the sender.
    #[must_use]
    pub(crate) fn notice(&self, notice: N, due: u64, full: bool) -> bool {
        // A sender that has ended has handed its partitions on before.
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

    /// Sets when a notice is to wake the sender: when its batch is due before `until`, at which the sender wakes by itself (for
    /// ever without one), and `wake_on` says that it matters. The hold, if there is one, ends at `held_until`. False if
    /// there are notices already that may; the sender then counts as awake. *Thread*: whoever has the baton.
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

    /// The sender is awake: nobody has to wake it.
    pub(crate) fn set_awake(&self) {
        self.sleeps_until.store(AWAKE, Ordering::SeqCst);
    }

    /// Has `wake` wake the sender, whatever it sleeps for.
    pub(crate) fn wake(&self, wake: impl FnOnce()) {
        // In this order: once woken, the sender may arm it anew, which must last.
        self.set_awake();
        wake();
    }
}

/// Something that the sender is asked to look at: it lies in its box once at most, however often it is asked for.
pub(crate) struct RequestFlag(AtomicBool);

impl RequestFlag {
    pub(crate) fn new() -> Self {
        Self(AtomicBool::new(false))
    }

    /// Asks, after what is to be looked at has changed. True if the caller has to put it into the box.
    #[must_use]
    pub(crate) fn ask(&self) -> bool {
        !self.0.swap(true, Ordering::SeqCst)
    }

    /// *Thread*: sender, which has taken it out of the box, before it looks.
    pub(crate) fn begin(&self) {
        // Not a store: who asked before, and left it at that, has made his change known with the mark that is read here.
        self.0.swap(false, Ordering::SeqCst);
    }
}
