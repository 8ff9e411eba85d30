//! What the wake-up and the link are built on. `tests/interleavings/handover.rs` puts loom's primitives in its place.

pub(super) use std::hint::spin_loop as spin;
pub(super) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};

pub(super) use crossbeam_channel::{Receiver, Sender};
pub(super) use parking_lot::{Mutex, MutexGuard};

pub(super) use crate::logging::Quiet;
pub(super) use crate::net::reading::Half;

/// How often a waiting thread looks whether it can have the baton: some microseconds in all.
pub(super) const SPINS: u32 = 200;

pub(super) fn now() -> std::time::Instant {
    std::time::Instant::now()
}
