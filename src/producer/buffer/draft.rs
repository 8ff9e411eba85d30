//! Records that gather in a buffer, before they are a batch of a partition.

use super::budget::{Budget, Charge};
use crate::error::Result;
use crate::record::Headers;
use crate::record::batch::{BatchWriter, record_size_upper_bound};

/// Records that gather in a buffer whose bytes are set aside.
pub(crate) struct Draft {
    pub(super) writer: BatchWriter,
    /// With so many bytes it is full.
    pub(super) full: usize,
    /// How many bytes it may take before its buffer has to grow.
    pub(super) room: usize,
    pub(super) charge: Charge,
}

impl Draft {
    #[inline]
    pub(super) fn append(&mut self, entry: &Entry<'_>) -> Result<u32> {
        let Entry { timestamp, key, value, headers, parts_size, .. } = *entry;
        self.writer.append_sized(timestamp, key, value, headers, parts_size)
    }

    /// How many records it has.
    pub(crate) fn count(&self) -> u32 {
        self.writer.count()
    }

    /// Its size before compression, with the batch's header.
    pub(crate) fn len(&self) -> usize {
        self.writer.len()
    }

    /// The first record's timestamp.
    pub(crate) fn base_timestamp(&self) -> Option<i64> {
        self.writer.base_timestamp()
    }

    /// Gives buffer and bytes back.
    pub(crate) fn discard(self, budget: &Budget) {
        // While its bytes are set aside.
        budget.recycle(self.writer.into_buffer());
    }
}

/// The record as it goes into a batch.
pub(crate) struct Entry<'a> {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a Headers<'a>,
    /// What key, value and headers take.
    pub(crate) parts_size: usize,
    /// The transaction that it is to be part of, and of no other; 0: the one that is open, if the producer has any.
    pub(crate) transaction: u64,
}

impl Entry<'_> {
    /// At most how large a batch of this record alone would be.
    pub(super) fn bound(&self) -> usize {
        record_size_upper_bound(self.parts_size)
    }
}
