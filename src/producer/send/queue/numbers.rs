//! Resolving sequence numbers when no batch of the partition is in flight: after failures the waiting batches get new
//! numbers, or a new epoch.

use std::sync::Arc;

use super::PartitionQueue;
use crate::error::{Error, ErrorKind, Recovery, Written};
use crate::producer::buffer::stamp::{Stamp, advance};
use crate::producer::metrics::add;
use crate::producer::send::common::Common;
use crate::producer::send::identity::Identity;
use crate::producer::send::sequence::Resolution;

impl PartitionQueue {
    pub(super) fn resolve_sequences(&mut self, common: &Common) {
        let first = self.waiting.front().filter(|batch| batch.maybe_written).and_then(|batch| batch.stamp);
        if first.is_some_and(|stamp| self.sequences.is_to_be_recognised(stamp)) {
            return;
        }
        match self.sequences.resolve() {
            Resolution::Resolved => {}
            Resolution::Renumber(from) => self.renumber(from, &common.identity),
            Resolution::Bump(from) => {
                common.identity.bump(from);
                let partition = Arc::clone(&self.partition);
                self.waiting.retain_mut(|batch| {
                    if batch.stamp.is_none() || !batch.maybe_written {
                        batch.stamp = None;
                        return true;
                    }
                    // Under another epoch the broker could not recognise it, and might write it twice.
                    let text = "the sequence of the partition was lost while this batch's outcome was unknown";
                    let error = Error::new(ErrorKind::OutOfSequence, Recovery::Retry, text);
                    let error = error.because(batch.last_error.clone());
                    add(&common.counters.records_failed, u64::from(batch.count()));
                    partition.leaves(batch.len());
                    batch.fail(partition.name(), error.with_written(Written::Maybe));
                    false
                });
                self.partition.set_waiting(self.waiting.len());
            }
        }
    }

    /// Closes the gap in the numbers that failed batches have left. They are not in the log, and so no batch behind the
    /// gap is either.
    fn renumber(&mut self, from: i32, identity: &Identity) {
        let mut next = from;
        let (mut gap, mut maybe_under_way) = (None, false);
        for (position, batch) in self.waiting.iter().enumerate() {
            let Some(stamp) = batch.stamp else { break };
            if gap.is_none() && stamp.base != next {
                gap = Some(position);
            }
            if gap.is_none() {
                next = advance(next, batch.count());
            } else {
                maybe_under_way |= batch.maybe_written;
            }
        }
        match gap {
            // A request on a connection that has ended may still reach the broker, which would accept its old numbers
            // once the gap is closed. Under a new epoch it is refused.
            Some(0) if maybe_under_way => {
                identity.bump(self.sequences.identity());
                self.waiting.iter_mut().for_each(|batch| batch.stamp = None);
            }
            // The batches before the gap keep their numbers, and are sent first.
            Some(_) if maybe_under_way => self.sequences.resolve_later(),
            gap => {
                for batch in self.waiting.iter_mut().skip(gap.unwrap_or(usize::MAX)) {
                    let Some(stamp) = batch.stamp else { break };
                    batch.stamp = Some(Stamp { base: next, ..stamp });
                    next = advance(next, batch.count());
                }
                self.sequences.resume_at(next);
            }
        }
    }
}
