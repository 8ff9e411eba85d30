//! What `flush` waits for: the batches that were opened before it was called.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::Instant;

use parking_lot::{Condvar, Mutex};

use crate::error::{Error, ErrorKind};
use crate::topic::TopicPartition;

/// Counts unfinished batches by the flush that they came before. Touched once when a batch is opened and once
/// when it is finished.
#[derive(Default)]
pub(crate) struct UnfinishedBatches {
    state: Mutex<BatchCounts>,
    finished: Condvar,
    /// Told of every batch that fails, before anybody who waits for it.
    watch: OnceLock<Watch>,
    /// Told of the records that fail while the producer is being closed.
    losses: OnceLock<WatchLosses>,
    /// Batches of the eras before this one have been purged: those that were opened before the last purge.
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

/// An unfinished batch; dropping it says that the batch is finished.
pub(crate) struct UnfinishedBatch {
    unfinished: Arc<UnfinishedBatches>,
    era: u64,
}

impl UnfinishedBatches {
    /// Has `watch` told of every batch that fails. It may take no lock but the last ones.
    pub(crate) fn on_failure(&self, watch: impl Fn(&Error) + Send + Sync + 'static) {
        // There is one at most.
        drop(self.watch.set(Box::new(watch)));
    }

    /// Has `watch` told from now on how many records fail, of which partition and why. It may take no lock but the last ones.
    pub(crate) fn watch_losses(&self, watch: impl Fn(&TopicPartition, u64, &Error) + Send + Sync + 'static) {
        // A producer is closed once.
        drop(self.losses.set(Box::new(watch)));
    }

    /// Enters a batch.
    pub(crate) fn add(self: &Arc<Self>) -> UnfinishedBatch {
        let mut state = self.state.lock();
        let era = state.era;
        *state.unfinished.entry(era).or_insert(0) += 1;
        UnfinishedBatch { unfinished: Arc::clone(self), era }
    }

    /// Draws the line of a flush: batches opened from here on do not belong to it.
    pub(crate) fn draw_line(&self) -> u64 {
        let mut state = self.state.lock();
        let line = state.era;
        state.era += 1;
        line
    }

    /// Purges the batches that have been opened so far: their [entries](UnfinishedBatch) say so from now on. Answers by which number
    /// they know this purge.
    pub(crate) fn purge(&self) -> u64 {
        let purge = self.draw_line() + 1;
        // Of two purges the later one counts, whoever is here first.
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
    /// Which purge the batch has to do with: the last one, if the batch was opened before it.
    pub(crate) fn purge(&self) -> Option<u64> {
        let purged = self.unfinished.purged.load(Ordering::Acquire);
        (self.era < purged).then_some(purged)
    }

    /// Whether the batch was opened before this purge.
    pub(crate) fn came_before(&self, purge: u64) -> bool {
        self.era < purge
    }

    /// The batch has failed. Answers whether somebody watches, for it is part of a transaction.
    pub(crate) fn failed(&self, error: &Error) -> bool {
        let watch = self.unfinished.watch.get();
        if let Some(watch) = watch {
            watch(error);
        }
        watch.is_some()
    }

    /// The batch's records have failed. What the close itself gives up it counts by itself; what is aborted or purged is given
    /// up on purpose.
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

    /// A further batch of the same era: a part of this one that was split.
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
                // The common era is the current one, for which nobody waits.
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
    fn a_flush_waits_for_what_came_before_it_only() {
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
