//! What other threads may do with a consumer.

use std::fmt;
use std::sync::Arc;

use crate::consumer::fetch::engine::Shared;
use crate::consumer::start::Start;
use crate::error::Result;
use crate::topic::TopicPartition;

/// Everything of a [`Consumer`](crate::Consumer) but reading, for other threads and for the inside of a loop over its batches.
/// Cheap to clone.
#[derive(Clone)]
pub struct ConsumerHandle(pub(super) Arc<Shared>);

impl ConsumerHandle {
    /// Ends the wait of the thread that polls, or else the next one: `poll` returns, an iterator ends. It can be used again.
    pub fn wake(&self) {
        self.0.ready.wake();
    }

    /// Goes on with another record of a partition. Nothing that was fetched before is returned any more; batches that were
    /// handed out before stay as they are. A partition that had stopped after an error goes on, too.
    ///
    /// *Errors*: `InvalidInput` if the partition is not assigned, or the offset is negative.
    pub fn seek(&self, partition: &TopicPartition, to: Start) -> Result<()> {
        to.check().map_err(|error| error.at_partition(partition))?;
        self.0.partition(partition)?.seek(to);
        Ok(())
    }

    /// Goes on behind the batch that could not be read, at which a partition has stopped. False if it has not stopped at one.
    ///
    /// *Errors*: `InvalidInput` if the partition is not assigned.
    pub fn skip(&self, partition: &TopicPartition) -> Result<bool> {
        Ok(self.0.partition(partition)?.skip())
    }

    /// Hands out and fetches no more of a partition until [`resume`](Self::resume). What was read ahead stays.
    ///
    /// *Errors*: `InvalidInput` if the partition is not assigned.
    pub fn pause(&self, partition: &TopicPartition) -> Result<()> {
        self.0.partition(partition)?.pause(true);
        Ok(())
    }

    /// Ends a pause. Nothing happens where there is none.
    ///
    /// *Errors*: `InvalidInput` if the partition is not assigned.
    pub fn resume(&self, partition: &TopicPartition) -> Result<()> {
        self.0.partition(partition)?.pause(false);
        Ok(())
    }

    /// Whether a partition is paused. *Errors*: `InvalidInput` if it is not assigned.
    pub fn is_paused(&self, partition: &TopicPartition) -> Result<bool> {
        Ok(self.0.partition(partition)?.is_paused())
    }

    /// The offset of the next record of a partition that is to be handed out, counted by batches: behind the batch that was
    /// handed out last. `None` until its leader was asked where that is.
    ///
    /// *Errors*: `InvalidInput` if the partition is not assigned.
    pub fn position(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        Ok(self.0.partition(partition)?.position())
    }

    /// How many offsets lie between the position of a partition and its end, as its leader has told that last: where the
    /// newest record is, or for [`IsolationLevel::Committed`](crate::IsolationLevel::Committed) where the oldest open
    /// transaction begins. `None` until both are known.
    ///
    /// *Errors*: `InvalidInput` if the partition is not assigned.
    pub fn lag(&self, partition: &TopicPartition) -> Result<Option<i64>> {
        let partition = self.0.partition(partition)?;
        let end = partition.end(self.0.config.isolation_level);
        Ok(end.zip(partition.position()).map(|(end, position)| end.saturating_sub(position).max(0)))
    }

    /// The partitions that are assigned, in order.
    pub fn assignment(&self) -> Vec<TopicPartition> {
        self.0.assignment().keys().cloned().collect()
    }

    /// How many bytes of `buffer_memory` are in use, and how many of them the program holds.
    pub fn buffer_bytes(&self) -> (usize, usize) {
        self.0.budget.in_use()
    }
}

impl fmt::Debug for ConsumerHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ConsumerHandle").field("client_id", &self.0.client.client_id).finish_non_exhaustive()
    }
}
