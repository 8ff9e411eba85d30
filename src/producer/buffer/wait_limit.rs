//! How long a call may wait, and waiting for buffer memory.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::budget::{Budget, Charge, ReserveError};
use super::draft::RecordParts;
use super::partition::{Placement, closed};
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout};
use crate::logging;
use crate::obstacle::Obstacles;
use crate::time;

/// How long a call may wait, and since when it has been waiting.
#[derive(Clone, Copy)]
pub(crate) struct WaitLimit {
    /// When the call began, if it had to wait before.
    pub(crate) started: Option<Instant>,
    /// How long it may wait in all; `None`: not at all (`try_send`).
    pub(crate) limit: Option<Duration>,
}

impl WaitLimit {
    /// Reserves `bytes` for a batch that begins with the record.
    ///
    /// *Blocks* for buffer memory.
    pub(super) fn reserve(
        &mut self,
        bytes: usize,
        record: &RecordParts<'_>,
        budget: &Arc<Budget>,
        obstacles: &Obstacles,
        placement: &impl Placement,
    ) -> Result<Charge> {
        // A record that the program's logger sends never waits: the thread that logs may be the one that would free
        // memory.
        let Some(limit) = self.limit.filter(|_| !logging::is_inside()) else {
            return match budget.try_reserve(bytes) {
                Some(charge) => Ok(charge),
                None => Err(Error::new(ErrorKind::WouldBlock, Recovery::Retry, no_room(bytes, record, budget))
                    .over_limit("buffer_memory", budget.total() as u64)),
            };
        };
        let started = *self.started.get_or_insert_with(Instant::now);
        let deadline = time::deadline(started, limit);
        let charge = budget.reserve(bytes, deadline, || placement.hurry_all());
        charge.map_err(|refusal| match refusal {
            ReserveError::Closed => closed(),
            ReserveError::TimedOut => {
                let text = format!("{} within the max_block of {limit:?}", no_room(bytes, record, budget));
                let error =
                    Error::timeout(Timeout::BufferMemory, text).over_limit("buffer_memory", budget.total() as u64);
                // Memory is released when records are acknowledged, so the cause is what hinders that.
                error.because(obstacles.first())
            }
        })
    }
}

fn no_room(bytes: usize, record: &RecordParts<'_>, budget: &Budget) -> String {
    let (size, used) = (record.bound(), budget.used());
    format!(
        "a record of up to {size} bytes found no room in the buffer memory, of which {used} bytes are in use and a \
         batch for the record takes {bytes}"
    )
}
