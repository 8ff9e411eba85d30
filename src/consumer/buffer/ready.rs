//! Which partitions have something for the program, and what ends a wait for it.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use super::partition::Partition;
use crate::error::Error;

/// The partitions with something to read, in turn. *Lock order*: after a partition's lock; no other is taken under it.
#[derive(Default)]
pub(crate) struct Ready {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    partitions: VecDeque<Arc<Partition>>,
    woken: bool,
    /// Something has changed that has no place in the list.
    changed: bool,
    end: Option<End>,
}

enum End {
    /// Why, if it was not told yet.
    Failed(Option<Error>),
    Closed,
}

/// What a wait has brought.
pub(crate) enum Next {
    Partition(Arc<Partition>),
    Woken,
    /// What a wait is for may have become vain.
    Changed,
    Failed(Error),
    /// There is nothing more to come.
    Ended,
    TimedOut,
}

impl Ready {
    pub(crate) fn push(&self, partition: Arc<Partition>) {
        let mut state = self.state.lock();
        if !matches!(state.end, Some(End::Closed)) {
            state.partitions.push_back(partition);
            drop(state);
            self.changed.notify_all();
        }
    }

    /// Ends the wait that there is, or else the next one.
    pub(crate) fn wake(&self) {
        self.state.lock().woken = true;
        self.changed.notify_all();
    }

    /// Nothing more comes, for this reason. What has come before is read first.
    pub(crate) fn fail(&self, error: Error) {
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some(End::Failed(Some(error)));
        }
        drop(state);
        self.changed.notify_all();
    }

    pub(crate) fn close(&self) {
        let mut state = self.state.lock();
        state.end = Some(End::Closed);
        let partitions = std::mem::take(&mut state.partitions);
        drop(state);
        drop(partitions);
        self.changed.notify_all();
    }

    /// Has who waits look whether it does so in vain.
    pub(crate) fn look(&self) {
        self.state.lock().changed = true;
        self.changed.notify_all();
    }

    /// The next partition with something to read.
    ///
    /// *Blocks* until then, or until something else has happened, at most until `deadline`.
    pub(crate) fn next(&self, deadline: Instant) -> Next {
        let mut state = self.state.lock();
        loop {
            if std::mem::take(&mut state.woken) {
                return Next::Woken;
            }
            if let Some(partition) = state.partitions.pop_front() {
                return Next::Partition(partition);
            }
            match &mut state.end {
                Some(End::Failed(error)) => return error.take().map_or(Next::Ended, Next::Failed),
                Some(End::Closed) => return Next::Ended,
                None => {}
            }
            if std::mem::take(&mut state.changed) {
                return Next::Changed;
            }
            if self.changed.wait_until(&mut state, deadline).timed_out() {
                return match state.partitions.pop_front() {
                    Some(partition) => Next::Partition(partition),
                    None => Next::TimedOut,
                };
            }
        }
    }
}
