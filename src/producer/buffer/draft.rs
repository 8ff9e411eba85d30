//! Records that gather in a buffer, before they are a batch of a partition.

use super::budget::{Budget, Charge};
use crate::error::Result;
use crate::record::Headers;
use crate::record::batch::{BATCH_HEADER_BYTES, BatchWriter, record_size_upper_bound};

/// Records that gather in a buffer whose bytes are reserved in the budget.
pub(crate) struct Draft {
    pub(super) writer: BatchWriter,
    /// The number of bytes with which it is full.
    pub(super) full: usize,
    /// How many bytes it may take before its buffer has to grow.
    pub(super) room: usize,
    /// The number of records with which it is full.
    pub(super) most: u32,
    pub(super) charge: Charge,
}

impl Draft {
    /// A draft whose buffer is exactly as large as the bytes that are reserved for it. The usual size of batches may
    /// have grown since they were reserved, so that size is not looked at again.
    pub(super) fn new(budget: &Budget, charge: Charge, full: usize, most: u32) -> Self {
        let bytes = charge.bytes();
        Self { writer: BatchWriter::new(budget.buffer(bytes)), full, room: bytes.min(full), most, charge }
    }

    /// Whether it takes no further record, however small.
    #[inline]
    pub(super) fn is_full(&self) -> bool {
        self.len() >= self.full || self.count() >= self.most
    }

    /// Whether it has room for the record. If it must, the buffer grows, if it can. A buffer begins as large as recent
    /// batches were, and doubles, so that a partition with few records takes little memory.
    #[inline]
    pub(super) fn make_room(&mut self, record: &RecordParts<'_>, budget: &Budget) -> bool {
        // Most records fit by their upper bound; only the last ones in a buffer have to be measured exactly.
        let least = record.bound().saturating_sub(BATCH_HEADER_BYTES);
        self.len().saturating_add(least) <= self.room || self.grow(record, budget)
    }

    fn grow(&mut self, record: &RecordParts<'_>, budget: &Budget) -> bool {
        let needed = self.len().saturating_add(self.writer.encoded_size(record.timestamp, record.parts_size));
        if needed <= self.room {
            return true;
        }
        // If there is no memory for a larger buffer, the batch counts as full.
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

    /// Gives the buffer back to the pool, and its bytes back to the budget.
    pub(crate) fn discard(self, budget: &Budget) {
        // The buffer goes back before its bytes are released: the pool takes only buffers whose bytes are still
        // reserved.
        budget.recycle(self.writer.into_buffer());
    }
}

/// One record, as it is put into a batch.
pub(crate) struct RecordParts<'a> {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a Headers<'a>,
    /// How many bytes key, value and headers take.
    pub(crate) parts_size: usize,
    /// The only transaction that it may be part of; 0: whichever is open, if the producer is transactional.
    pub(crate) transaction: u64,
}

impl RecordParts<'_> {
    /// The largest size that a batch of this record alone can have.
    #[inline]
    pub(super) fn bound(&self) -> usize {
        record_size_upper_bound(self.parts_size)
    }
}
