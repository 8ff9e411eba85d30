//! A batch's sequence numbers (KIP-98).

use crate::topic::ProducerIdAndEpoch;

/// The producer id, epoch and first sequence number that a batch's bytes contain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) identity: ProducerIdAndEpoch,
    pub(crate) base: i32,
}

impl Stamp {
    /// The stamp of the next batch, after the `count` records of this one.
    pub(crate) fn after(self, count: u32) -> Self {
        Self { base: advance(self.base, count), ..self }
    }

    /// The sequence of the batch's last record.
    pub(crate) fn last(self, count: u32) -> i32 {
        advance(self.base, count.saturating_sub(1))
    }
}

/// `sequence` moved on by `count`: 0 follows 2147483647.
pub(crate) fn advance(sequence: i32, count: u32) -> i32 {
    let sum = i64::from(sequence) + i64::from(count);
    i32::try_from(sum % (i64::from(i32::MAX) + 1)).unwrap_or(0)
}
