//! What the log is told of batches that are to be sent again.

use std::fmt;
use std::time::Instant;

use super::queue::PartitionQueue;
use crate::error::{Error, ErrorKind};
use crate::logging::{Level, warn};
use crate::obstacle::Obstacles;
use crate::outage::Over;
use crate::topic::TopicPartition;

impl PartitionQueue {
    /// Something keeps what it has from being acknowledged.
    pub(crate) fn meets(&mut self, error: &Error, obstacles: &Obstacles) {
        self.hindered = true;
        obstacles.meet(self.partition.name(), error);
    }

    /// Nothing does any more.
    fn is_rid_of(&mut self, obstacles: &Obstacles) {
        if std::mem::take(&mut self.hindered) {
            obstacles.forget(self.partition.name());
        }
    }

    /// It may have nothing left that is to be acknowledged: then what it has met is no reason for anything that comes later.
    pub(crate) fn may_forget(&mut self, obstacles: &Obstacles) {
        if (self.hindered || self.setback.is_some()) && self.is_idle() {
            self.is_rid_of(obstacles);
            self.setback = None;
            self.outage.abandon();
        }
    }
}

/// What one answer, or the end of one connection, has brought for the log: told in a few lines, however many partitions
/// it concerns. *Thread*: whoever drives the broker's link.
#[derive(Default)]
pub(super) struct News {
    setbacks: Vec<(TopicPartition, Error)>,
    recoveries: Vec<(TopicPartition, Over)>,
}

impl News {
    /// A batch of the partition is to be sent again because of `error`.
    pub(super) fn set_back(&mut self, queue: &mut PartitionQueue, error: &Error, obstacles: &Obstacles, now: Instant) {
        queue.setback = Some(error.as_cause());
        queue.meets(error, obstacles);
        if queue.outage.failed(now) == Level::Warn {
            self.setbacks.push((queue.partition.name().clone(), error.clone()));
        }
    }

    /// A batch of the partition was acknowledged.
    pub(super) fn acknowledge(&mut self, queue: &mut PartitionQueue, obstacles: &Obstacles, now: Instant) {
        queue.is_rid_of(obstacles);
        if queue.setback.take().is_some()
            && let Some(over) = queue.outage.ended(now)
        {
            self.recoveries.push((queue.partition.name().clone(), over));
        }
    }

    pub(super) fn tell(&mut self) {
        if self.setbacks.is_empty() && self.recoveries.is_empty() {
            return;
        }
        let setbacks = std::mem::take(&mut self.setbacks);
        let mut told: Vec<ErrorKind> = Vec::new();
        for (partition, error) in &setbacks {
            let kind = error.kind();
            if !told.contains(&kind) {
                let all = setbacks.iter().filter(|(_, other)| other.kind() == kind).count();
                warn!("{}: to be sent again: {error:#}", AndOthers(partition, all));
                told.push(kind);
            }
        }
        if let Some((partition, over)) = self.recoveries.first() {
            warn!("{}: acknowledged again {over}", AndOthers(partition, self.recoveries.len()));
            self.recoveries.clear();
        }
    }
}

/// A partition and the number of all.
struct AndOthers<'a>(&'a TopicPartition, usize);

impl fmt::Display for AndOthers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.saturating_sub(1) {
            0 => write!(f, "{}", self.0),
            others => write!(f, "{} and {others} more partitions", self.0),
        }
    }
}
