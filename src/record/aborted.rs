//! The records that `isolation.level=read_committed` leaves out.

use std::collections::BTreeSet;

use super::reader::ControlRecord;
#[cfg(any(test, feature = "testing"))]
use super::reader::DecodedBatch;
#[cfg(any(test, feature = "testing"))]
use crate::error::Result;

/// Tells the batches of aborted transactions from the others, as Java's consumer does (`CompletedFetch`).
///
/// An answer to Fetch lists the aborted transactions that have records in it, by producer and first offset. A marker
/// among the batches says where each one ends. A transaction that reaches over several answers is listed in each of
/// them. So each answer has its own value of this type, which must see all batches of the answer in their order.
#[derive(Debug, Default)]
pub(crate) struct AbortedTransactions {
    /// First offset and producer id of the transactions that begin later, in descending order.
    later: Vec<(i64, i64)>,
    /// The producers that have an aborted transaction at this point of the log.
    producers: BTreeSet<i64>,
}

impl AbortedTransactions {
    /// `transactions`: first offset and producer id of each aborted transaction, in any order. If there are none,
    /// nothing is left out; for `read_uncommitted` brokers list none.
    pub(crate) fn new(transactions: impl IntoIterator<Item = (i64, i64)>) -> Self {
        let mut later: Vec<_> = transactions.into_iter().collect();
        later.sort_unstable_by(|a, b| b.cmp(a));
        Self { later, producers: BTreeSet::new() }
    }

    /// Whether the next batch is part of an aborted transaction, and so is left out.
    ///
    /// Errors: `BrokerMisbehaved` for a marker that cannot be read.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn contain(&mut self, batch: &DecodedBatch) -> Result<bool> {
        let control = batch.control_record()?;
        Ok(self.pass(batch.last_offset, batch.identity.producer_id, batch.is_transactional, control))
    }

    /// [`contain`](Self::contain) for a batch whose header alone was read, and its record if it is a control batch. What it
    /// says of a batch does not change when it is asked again before the next one.
    pub(crate) fn pass(
        &mut self,
        last_offset: i64,
        producer: i64,
        is_transactional: bool,
        control: Option<ControlRecord>,
    ) -> bool {
        while let Some((_, producer)) = self.later.pop_if(|(first, _)| *first <= last_offset) {
            self.producers.insert(producer);
        }
        if control == Some(ControlRecord::Abort) {
            self.producers.remove(&producer);
        }
        is_transactional && self.producers.contains(&producer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::SharedBytes;
    use crate::error::ErrorKind;
    use crate::record::Headers;
    use crate::record::batch::{BatchWriter, write_crc};
    use crate::record::broker::{assign_offset, end_transaction_marker};
    use crate::record::compression::{Compression, Compressor, DEFAULT_MAX_DECOMPRESSED_BYTES, Decompressor};
    use crate::record::reader::read_batches;
    use crate::topic::ProducerIdAndEpoch;

    const COMMITTED: bool = true;
    const ABORTED: bool = false;

    fn identity(producer_id: i64) -> ProducerIdAndEpoch {
        ProducerIdAndEpoch { producer_id, epoch: 0 }
    }

    /// A log under construction.
    #[derive(Default)]
    struct Log {
        bytes: Vec<u8>,
        end: i64,
    }

    impl Log {
        /// Adds a batch of `count` records, which is part of a transaction if `transactional` is true.
        fn batch(mut self, producer: i64, transactional: bool, count: i64) -> Self {
            let mut writer = BatchWriter::new(Vec::new());
            for _ in 0..count {
                writer.append(0, None, None, &Headers::new()).unwrap();
            }
            let mut sealed = writer.seal(&mut Compressor::new(Compression::None)).unwrap();
            sealed.stamp(identity(producer), 0, transactional);
            self.add(sealed.into_buffer(), count);
            self
        }

        /// Adds two records of a transaction.
        fn data(self, producer: i64) -> Self {
            self.batch(producer, true, 2)
        }

        fn marker(mut self, producer: i64, is_commit: bool) -> Self {
            let marker = end_transaction_marker(identity(producer), is_commit, 0, 0).unwrap();
            self.add(marker.into_buffer(), 1);
            self
        }

        /// Adds a marker whose record compaction has removed: its header alone is left.
        fn emptied_marker(mut self, producer: i64) -> Self {
            let mut marker = end_transaction_marker(identity(producer), ABORTED, 0, 0).unwrap().into_buffer();
            marker.truncate(61);
            marker[8..12].copy_from_slice(&49_i32.to_be_bytes());
            marker[57..61].fill(0);
            write_crc(&mut marker);
            self.add(marker, 1);
            self
        }

        fn add(&mut self, mut batch: Vec<u8>, offsets: i64) {
            assign_offset(&mut batch, self.end, 0).unwrap();
            self.bytes.extend_from_slice(&batch);
            self.end += offsets;
        }

        /// The first offsets of the batches that are left in, without markers.
        fn read(self, aborted: &[(i64, i64)]) -> Vec<i64> {
            read(&self.bytes.into(), AbortedTransactions::new(aborted.iter().copied()))
        }
    }

    fn read(bytes: &SharedBytes, mut aborted: AbortedTransactions) -> Vec<i64> {
        let mut seen = Vec::new();
        for batch in read_batches(bytes, &mut Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES)) {
            let batch = batch.unwrap();
            if !aborted.contain(&batch).unwrap() && !batch.is_control {
                seen.push(batch.base_offset);
            }
        }
        seen
    }

    #[test]
    fn the_records_of_aborted_transactions_are_left_out_and_no_others() {
        // Offsets 0 and 2: an aborted transaction; 4: no transaction; 6: a committed transaction among them; then the
        // markers.
        let log = || Log::default().data(1).data(1).batch(9, false, 2).data(2);
        let log = || log().marker(1, ABORTED).marker(2, COMMITTED).data(1).marker(1, COMMITTED);
        assert_eq!(log().read(&[(0, 1)]), [4, 6, 10]);
        assert_eq!(log().read(&[(0, 1), (6, 2)]), [4, 10]);
    }

    #[test]
    fn records_without_a_transaction_are_never_left_out() {
        let log = Log::default().data(1).batch(1, false, 2).marker(1, ABORTED);
        assert_eq!(log.read(&[(0, 1)]), [2]);
    }

    #[test]
    fn without_a_list_nothing_is_left_out() {
        let log = Log::default().data(1).marker(1, ABORTED).data(2).marker(2, COMMITTED).data(1).marker(1, ABORTED);
        assert_eq!(log.read(&[]), [0, 3, 6]);
    }

    #[test]
    fn the_list_may_have_any_order() {
        let log = || Log::default().data(1).marker(1, ABORTED).data(2).data(1).marker(2, ABORTED).marker(1, COMMITTED);
        let log = || log().data(1).marker(1, ABORTED);
        for list in [[(0, 1), (3, 2), (9, 1)], [(9, 1), (3, 2), (0, 1)], [(3, 2), (9, 1), (0, 1)]] {
            assert_eq!(log().read(&list), [5], "{list:?}");
        }
    }

    #[test]
    fn a_marker_ends_the_transaction_of_its_own_producer_alone() {
        let log = Log::default().data(1).data(2).marker(1, ABORTED).data(2).data(1).marker(2, ABORTED).data(2);
        // 5 is still in the second producer's transaction, 7 is the first one's next.
        assert_eq!(log.read(&[(0, 1), (2, 2)]), [7, 10]);
    }

    #[test]
    fn a_commit_ends_no_entry_of_the_list() {
        // The first transaction is committed, the second one aborted: the list has its entry already when the first one
        // is read.
        let log = Log::default().data(1).marker(1, COMMITTED).data(1).marker(1, ABORTED).data(1);
        assert_eq!(log.read(&[(3, 1)]), [0, 6]);
        // The commit of another producer, in the middle of an aborted transaction.
        let log = Log::default().data(1).marker(2, COMMITTED).data(1).marker(1, ABORTED).data(1);
        assert_eq!(log.read(&[(0, 1)]), [6]);
        // A commit of the same producer that does not belong there: the list counts.
        let log = Log::default().data(1).marker(1, COMMITTED).data(1).marker(1, ABORTED);
        assert_eq!(log.read(&[(0, 1)]), Vec::<i64>::new());
    }

    #[test]
    fn a_marker_without_records_before_it_changes_nothing() {
        let log = Log::default().marker(1, ABORTED).data(1).marker(1, ABORTED).marker(2, ABORTED).data(1);
        assert_eq!(log.read(&[(1, 1)]), [5]);
    }

    #[test]
    fn a_marker_that_compaction_emptied_ends_nothing() {
        let log = Log::default().data(1).emptied_marker(1).data(1).marker(1, ABORTED).data(1);
        assert_eq!(log.read(&[(0, 1)]), [6]);
    }

    #[test]
    fn a_transaction_may_reach_over_several_answers() {
        let first = Log::default().data(1).data(2);
        let (end, first) = (first.end, SharedBytes::from(first.bytes));
        let second = Log { bytes: Vec::new(), end }.data(1).data(2).marker(1, ABORTED).data(1).marker(2, COMMITTED);
        // The second answer lists the transaction again, with an offset that lies before it.
        let entry = [(0, 1)];
        assert_eq!(read(&first, AbortedTransactions::new(entry)), [2]);
        assert_eq!(second.read(&entry), [6, 9]);
    }

    #[test]
    fn a_marker_that_cannot_be_read_is_an_error() {
        let mut marker = Log::default().marker(1, ABORTED).bytes;
        // The key of the marker becomes one of two bytes.
        let at = marker.windows(5).position(|window| window == [8, 0, 0, 0, 0]).unwrap();
        marker[at] = 4;
        write_crc(&mut marker);
        let bytes = SharedBytes::from(marker);
        let mut decompressor = Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES);
        let batch = read_batches(&bytes, &mut decompressor).next().unwrap().unwrap();
        let error = AbortedTransactions::default().contain(&batch).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
    }
}
