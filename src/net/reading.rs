//! Which thread reads from a connection that several threads share.
//!
//! `tests/interleavings/handover.rs` tries every interleaving of this file; hence what it is built on comes from
//! `super::sync`.

use std::time::Instant;

use super::sync::{Condvar, Mutex};

/// The reading half of a connection: its input, and whether a thread has taken it. Answers come in the order of their
/// requests, so one thread reads at a time. When it gives the half back, it says whether an answer is still due.
pub(crate) struct Half<T> {
    state: Mutex<Reading<T>>,
    owed: Condvar,
}

enum Reading<T> {
    /// No answer is due.
    Idle(T),
    /// An answer is due by this time, and no thread reads it yet.
    Owed(T, Instant),
    /// A thread has the input, and reads.
    Taken,
    /// The connection has ended.
    Closed,
}

impl<T> Half<T> {
    pub(crate) fn new(input: T) -> Self {
        Self { state: Mutex::new(Reading::Idle(input)), owed: Condvar::new() }
    }

    /// Says that an answer is due by `deadline`: the thread that waits in [`await_owed`](Self::await_owed) is to read
    /// it. If a thread reads now, nothing is noted: that thread says what is due when it gives the half back.
    pub(crate) fn owe(&self, deadline: Instant) {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, Reading::Taken) {
            Reading::Idle(input) => {
                *state = Reading::Owed(input, deadline);
                self.owed.notify_one();
            }
            other => *state = other,
        }
    }

    /// Takes the half if no answer is due and no thread reads.
    pub(crate) fn take(&self) -> Option<T> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, Reading::Taken) {
            Reading::Idle(input) => Some(input),
            other => {
                *state = other;
                None
            }
        }
    }

    /// Takes the half as soon as an answer is due that no thread reads. `None` when the connection has ended.
    ///
    /// *Blocks* until then. *Thread*: `kafka-reader-{broker}`.
    pub(crate) fn await_owed(&self) -> Option<(T, Instant)> {
        let mut state = self.state.lock();
        loop {
            match std::mem::replace(&mut *state, Reading::Taken) {
                Reading::Owed(input, deadline) => return Some((input, deadline)),
                Reading::Closed => {
                    *state = Reading::Closed;
                    return None;
                }
                other => *state = other,
            }
            self.owed.wait(&mut state);
        }
    }

    /// Gives the half back; `due`: by when the next answer is due, if one is.
    pub(crate) fn give(&self, input: T, due: Option<Instant>) {
        let mut state = self.state.lock();
        if matches!(*state, Reading::Closed) {
            return;
        }
        *state = match due {
            Some(deadline) => {
                self.owed.notify_one();
                Reading::Owed(input, deadline)
            }
            None => Reading::Idle(input),
        };
    }

    /// Says that the connection has ended. The thread that waits is woken; a read that is under way ends with the
    /// stream.
    pub(crate) fn close(&self) {
        *self.state.lock() = Reading::Closed;
        self.owed.notify_all();
    }
}
