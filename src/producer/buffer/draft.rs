//! Records that gather in a buffer, before they are a batch of a partition.

use super::budget::{Budget, Charge};
use crate::error::Result;
use crate::record::Headers;
use crate::record::batch::{BATCH_HEADER_BYTES, BatchWriter, record_size_upper_bound};

/// Records that gather in a buffer whose bytes are set aside.
pub(crate) struct Draft {
    pub(super) writer: BatchWriter,
    /// With so many bytes it is full.
    pub(super) full: usize,
    /// How many bytes it may take before its buffer has to grow.
    pub(super) room: usize,
    /// With so many records it is full.
    pub(super) most: u32,
    pub(super) charge: Charge,
}

impl Draft {
    /// A draft with a buffer as large as what is set aside for it, and no larger: batches may have grown since the
    /// bytes were asked for.
    pub(super) fn new(budget: &Budget, charge: Charge, full: usize, most: u32) -> Self {
        let bytes = charge.bytes();
        Self { writer: BatchWriter::new(budget.buffer(bytes)), full, room: bytes.min(full), most, charge }
    }

    /// Whether it takes no further record, however small.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.full || self.count() >= self.most
    }

    /// Whether it has room for the record, after its buffer has grown if it must and can. A buffer begins as
    /// large as batches of late were, and doubles: a partition that gets little takes little memory.
    #[inline]
    pub(super) fn make_room(&mut self, record: &RecordParts<'_>, budget: &Budget) -> bool {
        // Most records fit by their bound, and only the last of a buffer are measured.
        let least = record.bound().saturating_sub(BATCH_HEADER_BYTES);
        self.len().saturating_add(least) <= self.room || self.grow(record, budget)
    }

    fn grow(&mut self, record: &RecordParts<'_>, budget: &Budget) -> bool {
        let needed = self.len().saturating_add(self.writer.encoded_size(record.timestamp, record.parts_size));
        if needed <= self.room {
            return true;
        }
        // Where memory is scarce the batch is full as it is.
        let larger = Budget::buffer_size(needed, self.full);
        if needed > self.full || !self.charge.grow(larger.saturating_sub(self.room)) {
            return false;
        }
        budget.recycle(self.writer.move_to(budget.buffer(larger)));
        self.room = larger;
        true
    }

    #[inline]
    pub(super) fn append(&mut self, record: &RecordParts<'_>) -> Result<u32> {
        let RecordParts { timestamp, key, value, headers, parts_size, .. } = *record;
        self.writer.append_sized(timestamp, key, value, headers, parts_size)
    }

    /// How many records it has.
    #[inline]
    pub(crate) fn count(&self) -> u32 {
        self.writer.count()
    }

    /// Its size before compression, with the batch's header.
    #[inline]
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
pub(crate) struct RecordParts<'a> {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a Headers<'a>,
    /// What key, value and headers take.
    pub(crate) parts_size: usize,
    /// The transaction that it is to be part of, and of no other; 0: the one that is open, if the producer has any.
    pub(crate) transaction: u64,
}

impl RecordParts<'_> {
    /// At most how large a batch of this record alone would be.
    #[inline]
    pub(super) fn bound(&self) -> usize {
        record_size_upper_bound(self.parts_size)
    }
}
