//! What measures its process on a fake cluster: memory, threads, descriptors, the processor's time, or who stands still.
//!
//! One test at a time runs, and none of another program beside it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "so a test fails")]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod broken_answers;
#[path = "../../fake/common.rs"]
#[allow(dead_code, reason = "most of it is for the tests of the program `fake`")]
mod common;
mod consumer;
mod ending;
mod load;
mod many;
mod quiet;
mod sharing;
#[path = "../../support/mod.rs"]
mod support;

use std::alloc::System;
use std::sync::{Mutex, MutexGuard, PoisonError};

use common::{kafka_threads, until, watch_for_panics};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};
use support::logger;

/// Counts what is allocated.
#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

static PROCESS: Mutex<()> = Mutex::new(());

/// The right to have the process to itself.
#[must_use]
struct Alone {
    _lock: MutexGuard<'static, ()>,
}

impl Drop for Alone {
    /// The test that runs next has no logger of this one.
    fn drop(&mut self) {
        logger::silence();
    }
}

fn alone() -> Alone {
    watch_for_panics();
    let lock = PROCESS.lock().unwrap_or_else(PoisonError::into_inner);
    // What tests before this one have dropped may still be ending.
    until("the threads of other tests end", || kafka_threads().is_empty());
    Alone { _lock: lock }
}

/// The client's threads have ended. A thread that was joined is still listed for a moment, while the kernel clears up.
#[track_caller]
pub(crate) fn assert_no_threads() {
    until("the threads end", || kafka_threads().is_empty());
}

/// How often a thread has gone to sleep.
pub(crate) fn voluntary_switches(thread: u64) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/self/task/{thread}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:")).unwrap();
    line.trim().parse().unwrap()
}

pub(crate) fn open_descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}
