//! What `poll` returns.

use std::fmt;

use crate::consumer::buffer::batch::Batch;
use crate::consumer::buffer::record::RecordView;
use crate::error::Result;

/// What a call of [`Consumer::poll`](crate::Consumer::poll) has brought: batches, or none where the time was over.
#[derive(Clone, Default)]
pub struct Polled {
    pub(super) batches: Vec<Batch>,
    pub(super) was_woken: bool,
}

impl Polled {
    /// The batches, those of one partition in their order.
    pub fn batches(&self) -> &[Batch] {
        &self.batches
    }

    /// The batches, to keep.
    pub fn into_batches(self) -> Vec<Batch> {
        self.batches
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.batches.is_empty()
    }

    /// Whether [`ConsumerHandle::wake`](crate::ConsumerHandle::wake) has ended the wait.
    pub fn was_woken(&self) -> bool {
        self.was_woken
    }

    /// The records of all batches. A batch that cannot be read is one error, and the next batch follows.
    pub fn records(&self) -> impl Iterator<Item = Result<RecordView<'_>>> {
        self.batches.iter().flat_map(Batch::records)
    }
}

impl fmt::Debug for Polled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Polled").field("batches", &self.batches).field("was_woken", &self.was_woken).finish()
    }
}
