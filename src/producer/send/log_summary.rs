//! Log lines about batches that are to be sent again.

use std::fmt;

use crate::error::{Error, ErrorKind};
use crate::logging::{Level, warn};
use crate::outage::Over;
use crate::topic::TopicPartition;

/// Collects what one answer, or the end of one connection, means for the log, and logs it in a few lines, however many
/// partitions are concerned. *Thread*: the one that drives the broker's link.
#[derive(Default)]
pub(super) struct LogSummary {
    setbacks: Vec<(TopicPartition, Error)>,
    recoveries: Vec<(TopicPartition, Over)>,
}

impl LogSummary {
    /// A batch of the partition is to be sent again because of `error`, which is to be logged at this level.
    pub(super) fn set_back(&mut self, partition: &TopicPartition, error: &Error, level: Level) {
        if level == Level::Warn {
            self.setbacks.push((partition.clone(), error.clone()));
        }
    }

    /// A batch of the partition was acknowledged, which ended this outage.
    pub(super) fn recovered(&mut self, partition: &TopicPartition, over: Over) {
        self.recoveries.push((partition.clone(), over));
    }

    pub(super) fn log(&mut self) {
        if self.setbacks.is_empty() && self.recoveries.is_empty() {
            return;
        }
        let setbacks = std::mem::take(&mut self.setbacks);
        let mut logged: Vec<ErrorKind> = Vec::new();
        for (partition, error) in &setbacks {
            let kind = error.kind();
            if !logged.contains(&kind) {
                let all = setbacks.iter().filter(|(_, other)| other.kind() == kind).count();
                warn!("{}: to be sent again: {error:#}", AndOthers(partition, all));
                logged.push(kind);
            }
        }
        if let Some((partition, over)) = self.recoveries.first() {
            warn!("{}: acknowledged again {over}", AndOthers(partition, self.recoveries.len()));
            self.recoveries.clear();
        }
    }
}

/// A partition, and how many partitions there are with it.
struct AndOthers<'a>(&'a TopicPartition, usize);

impl fmt::Display for AndOthers<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.1.saturating_sub(1) {
            0 => write!(f, "{}", self.0),
            others => write!(f, "{} and {others} more partitions", self.0),
        }
    }
}
