//! Waiting for everything that was sent before.

use std::sync::Arc;
use std::time::Instant;

use super::callbacks::Callbacks;
use super::topic_table::TopicTable;
use super::unfinished::UnfinishedBatches;
use crate::error::{Error, Result, Timeout};
use crate::obstacle::Obstacles;

/// What a flush needs. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Flush {
    pub(crate) topic_table: Arc<TopicTable>,
    pub(crate) unfinished: Arc<UnfinishedBatches>,
    pub(crate) callbacks: Callbacks,
    pub(crate) obstacles: Arc<Obstacles>,
}

impl Flush {
    /// Ends the linger of open batches, and waits until all records that were sent before have their results and their
    /// callbacks have run.
    ///
    /// *Blocks* until then, at most until `deadline`.
    pub(crate) fn run(&self, deadline: Instant, which: Timeout) -> Result<()> {
        let line = self.unfinished.draw_line();
        for partition in self.topic_table.partitions() {
            partition.hurry_open();
        }
        if self.unfinished.wait(line, deadline) && self.callbacks.wait(deadline) {
            return Ok(());
        }
        let error = match self.unfinished.count_before(line) {
            0 => Error::timeout(which, "all batches had their results, but not all of their callbacks had run in time"),
            unfinished => Error::timeout(which, format!("{unfinished} batches were not acknowledged in time")),
        };
        Err(error.because(self.obstacles.first()))
    }
}
