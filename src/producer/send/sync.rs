//! The locks, channels and atomics that the wake-up and the link use. `tests/interleavings/handover.rs` replaces this
//! module by one with loom's.

pub(super) use std::hint::spin_loop as spin;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

pub(super) use crossbeam_channel::{Receiver, Sender};
pub(super) use parking_lot::{Mutex, MutexGuard};

pub(super) use crate::logging::Quiet;
pub(super) use crate::net::reading::Half;

/// How often a waiting thread tries to get the baton; it takes some microseconds in all.
pub(super) const SPINS: u32 = 200;

pub(super) fn now() -> std::time::Instant {
    std::time::Instant::now()
}
