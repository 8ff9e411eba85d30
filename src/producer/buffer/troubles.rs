//! What partitions have met that keeps their batches from being acknowledged: for those who wait.

use std::collections::HashMap;

use parking_lot::Mutex;

use super::partition::{Partition, PartitionId};
use crate::error::Error;
use crate::topic::TopicPartition;

/// What the partitions of a producer have met last whose batches are late: the cause of whatever ends meanwhile because
/// its time is over. Touched when something fails, and when a partition of which that was noted recovers.
#[derive(Default)]
pub(crate) struct Troubles(Mutex<HashMap<PartitionId, (TopicPartition, Error)>>);

impl Troubles {
    pub(crate) fn note(&self, partition: &Partition, error: &Error) {
        self.0.lock().insert(partition.id(), (partition.name().clone(), error.as_cause()));
    }

    pub(crate) fn forget(&self, partition: &Partition) {
        self.0.lock().remove(&partition.id());
    }

    #[cfg(test)]
    pub(crate) fn names(&self, partition: PartitionId) -> bool {
        self.0.lock().contains_key(&partition)
    }

    /// One of them, with its partition: the same one for as long as it lasts.
    pub(crate) fn first(&self) -> Option<Error> {
        let troubles = self.0.lock();
        let (partition, error) = troubles.values().min_by(|(one, _), (other, _)| one.cmp(other))?;
        Some(error.clone().at_partition(partition))
    }
}
