//! What `flush` waits for: the batches that were opened before it was called.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind};
use crate::topic::TopicPartition;

/// Counts unfinished batches by the flush that they came before. Its lock is taken once when a batch is opened and once
/// when it is finished, never for each record.
#[derive(Default)]
pub(crate) struct UnfinishedBatches {
    state: Mutex<BatchCounts>,
    finished: Condvar,
    /// Called for every batch that fails, before the threads that wait for its records are woken.
    watch: OnceLock<Watch>,
    /// Called for the records that fail while the producer is being closed.
    losses: OnceLock<WatchLosses>,
    /// Batches of the eras before this number have been purged: those that were opened before the last purge.
    purged: AtomicU64,
}

type Watch = Box<dyn Fn(&Error) + Send + Sync>;
type WatchLosses = Box<dyn Fn(&TopicPartition, u64, &Error) + Send + Sync>;

#[derive(Default)]
struct BatchCounts {
    /// How many flushes have begun; a batch belongs to the flush that comes next.
    era: u64,
    /// Unfinished batches by era. Eras without any are absent.
    unfinished: BTreeMap<u64, usize>,
}

/// Stands for an unfinished batch; dropping it means that the batch is finished.
pub(crate) struct UnfinishedBatch {
    unfinished: Arc<UnfinishedBatches>,
    era: u64,
}

impl UnfinishedBatches {
    /// Has `watch` called for every batch that fails. `watch` may only take locks that come last in the lock order.
    pub(crate) fn on_failure(&self, watch: impl Fn(&Error) + Send + Sync + 'static) {
        // A producer sets it at most once.
        drop(self.watch.set(Box::new(watch)));
    }

    /// Has `watch` called from now on for the records that fail: partition, number and error. `watch` may only take
    /// locks that come last in the lock order.
    pub(crate) fn watch_losses(&self, watch: impl Fn(&TopicPartition, u64, &Error) + Send + Sync + 'static) {
        // A producer is closed once.
        drop(self.losses.set(Box::new(watch)));
    }

    /// Counts a new batch.
    pub(crate) fn add(self: &Arc<Self>) -> UnfinishedBatch {
        let mut state = self.state.lock();
        let era = state.era;
        *state.unfinished.entry(era).or_insert(0) += 1;
        UnfinishedBatch { unfinished: Arc::clone(self), era }
    }

    /// Begins a flush: batches that are opened from now on do not belong to it. Returns the era of the last batches
    /// that do.
    pub(crate) fn draw_line(&self) -> u64 {
        let mut state = self.state.lock();
        let line = state.era;
        state.era += 1;
        line
    }

    /// Purges the batches that have been opened so far: their [`UnfinishedBatch`] says so from now on. Returns the
    /// number of this purge.
    pub(crate) fn purge(&self) -> u64 {
        let purge = self.draw_line() + 1;
        // Of two purges at the same time the later one counts, whichever thread comes first.
        self.purged.fetch_max(purge, Ordering::AcqRel);
        purge
    }

    /// Blocks until every batch before `line` is finished, at most until `deadline`. False when time ran out.
    pub(crate) fn wait(&self, line: u64, deadline: Instant) -> bool {
        let mut state = self.state.lock();
        loop {
            match state.unfinished.first_key_value() {
                Some((&era, _)) if era <= line => {}
                _ => return true,
            }
            if self.finished.wait_until(&mut state, deadline).timed_out() {
                return !matches!(state.unfinished.first_key_value(), Some((&era, _)) if era <= line);
            }
        }
    }

    /// How many batches before `line` are unfinished.
    pub(crate) fn count_before(&self, line: u64) -> usize {
        self.state.lock().unfinished.range(..=line).map(|(_, count)| count).sum()
    }

    /// How many batches are unfinished.
    pub(crate) fn count(&self) -> usize {
        self.state.lock().unfinished.values().sum()
    }
}

impl UnfinishedBatch {
    /// The last purge, if the batch was opened before it.
    pub(crate) fn purge(&self) -> Option<u64> {
        let purged = self.unfinished.purged.load(Ordering::Acquire);
        (self.era < purged).then_some(purged)
    }

    /// Whether the batch was opened before this purge.
    pub(crate) fn came_before(&self, purge: u64) -> bool {
        self.era < purge
    }

    /// The batch has failed. Returns whether failures are watched, which means that the batch is part of a transaction.
    pub(crate) fn failed(&self, error: &Error) -> bool {
        let watch = self.unfinished.watch.get();
        if let Some(watch) = watch {
            watch(error);
        }
        watch.is_some()
    }

    /// The batch's records have failed while the producer was being closed. Not reported are: records that the close
    /// gives up, which it counts itself; records that are aborted or purged, which are given up on purpose; and records
    /// of a transaction, whose commit reports them.
    pub(crate) fn lost(&self, partition: &TopicPartition, records: u32, error: &Error) {
        if !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Aborted | ErrorKind::Purged) {
            self.count_lost(partition, records, error);
        }
    }

    /// The batch's records have failed, and nobody else counts them. Of a transaction's records its commit tells.
    pub(crate) fn count_lost(&self, partition: &TopicPartition, records: u32, error: &Error) {
        if let Some(watch) = self.unfinished.losses.get().filter(|_| self.unfinished.watch.get().is_none()) {
            watch(partition, u64::from(records), error);
        }
    }

    /// Counts one more batch of the same era: a part of this batch, which is split.
    pub(crate) fn sibling(&self) -> Self {
        *self.unfinished.state.lock().unfinished.entry(self.era).or_insert(0) += 1;
        Self { unfinished: Arc::clone(&self.unfinished), era: self.era }
    }
}

impl Drop for UnfinishedBatch {
    fn drop(&mut self) {
        let mut state = self.unfinished.state.lock();
        if let Some(count) = state.unfinished.get_mut(&self.era) {
            *count -= 1;
            if *count == 0 {
                state.unfinished.remove(&self.era);
                // In most cases it is the current era, for which no flush waits.
                if self.era < state.era {
                    self.unfinished.finished.notify_all();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_flush_waits_only_for_batches_that_were_opened_before_it() {
        let unfinished = Arc::new(UnfinishedBatches::default());
        let before = unfinished.add();
        let line = unfinished.draw_line();
        let after = unfinished.add();
        assert!(!unfinished.wait(line, Instant::now()));
        let part = before.sibling();
        drop(before);
        assert!(!unfinished.wait(line, Instant::now()), "a split batch is finished with its last part");
        let waiter = {
            let unfinished = Arc::clone(&unfinished);
            std::thread::spawn(move || unfinished.wait(line, Instant::now() + Duration::from_secs(60)))
        };
        drop(part);
        assert!(waiter.join().unwrap());
        assert_eq!(unfinished.count(), 1);
        drop(after);
        assert_eq!(unfinished.count(), 0);
    }
}
