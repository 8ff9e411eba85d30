//! `Batch`: records that the program holds.

use std::cell::RefCell;
use std::fmt;
use std::ops::{Range, RangeInclusive};
use std::sync::{Arc, OnceLock};

use super::budget::Lease;
use super::partition::Partition;
use super::record::{KeptRecord, RecordView};
use super::share::{Damage, Run};
use crate::error::{Error, Result};
use crate::record::compression::Decompressor;
use crate::record::reader::{Batches, Cursor, DecodedBatch, RawBatch};
use crate::topic::TopicPartition;

/// How batches are read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// At most how many bytes the records of a batch may take when they are decompressed.
    pub(crate) max_decompressed: usize,
}

thread_local! {
    /// The codecs of this thread, and the memory that was decompressed into last.
    static DECOMPRESSOR: RefCell<Option<(usize, Decompressor)>> = const { RefCell::new(None) };
}

/// Lends this thread's decompressor, of at most `limit` bytes a batch.
pub(crate) fn with_decompressor<T>(limit: usize, work: impl FnOnce(&mut Decompressor) -> T) -> T {
    let take = |slot: &RefCell<Option<(usize, Decompressor)>>| slot.borrow_mut().take();
    let kept = DECOMPRESSOR.try_with(take).ok().flatten().filter(|(known, _)| *known == limit);
    let mut decompressor = kept.map_or_else(|| Decompressor::new(limit), |(_, kept)| kept);
    let answer = work(&mut decompressor);
    // A thread that is ending keeps nothing.
    DECOMPRESSOR.try_with(|slot| *slot.borrow_mut() = Some((limit, decompressor))).ok();
    answer
}

/// Records of one partition, in order. It owns its memory together with the other batches of the same answer: it outlives
/// the consumer, may go to another thread, and its clones copy nothing.
///
/// Its memory counts towards the consumer's `buffer_memory` until the last clone, and the last record kept of it, is dropped.
///
/// Whoever reads it first checks the CRC and decompresses, on the own thread. What is damaged is an error among the records;
/// from then on the consumer hands out no further batch of the partition, until the program seeks or skips.
///
/// ```
/// # use kafka_blocking::{Consumer, Start, TopicPartition, testing::FakeCluster};
/// # fn main() -> kafka_blocking::Result<()> {
/// # let cluster = FakeCluster::builder().topic("readings", 1).start()?;
/// # let producer = kafka_blocking::Producer::builder(cluster.bootstrap()).build()?;
/// # producer.send(kafka_blocking::Record::to("readings").key("sensor-7").value("21.5")).wait()?;
/// let mut consumer = Consumer::builder(cluster.bootstrap()).assign_topic("readings", Start::Beginning).build()?;
/// for batch in consumer.batches() {
///     for record in &batch? {
///         let record = record?;
///         println!("{} {:?}", record.offset(), record.value());
///     }
/// #   break;
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Batch(Arc<Inner>);

pub(super) struct Inner {
    partition: Arc<Partition>,
    epoch: u64,
    run: Run,
    limits: Limits,
    /// The batch, where it is compressed, and the memory that it takes.
    decompressed: OnceLock<Result<(DecodedBatch, Lease)>>,
}

impl Batch {
    pub(super) fn new(partition: Arc<Partition>, epoch: u64, run: Run, limits: Limits) -> Self {
        partition.budget.hand_out(run.bytes.len());
        Self(Arc::new(Inner { partition, epoch, run, limits, decompressed: OnceLock::new() }))
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.0.partition.name.topic
    }

    /// The partition's index.
    pub fn partition(&self) -> i32 {
        self.0.partition.name.index
    }

    /// The topic and the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.0.partition.name
    }

    /// The offsets that it covers. Compaction and markers may have left fewer records than offsets, and in the formats
    /// before 2 the first one may be less than is said here.
    pub fn offsets(&self) -> RangeInclusive<i64> {
        self.0.run.first..=self.0.run.next.saturating_sub(1)
    }

    /// The offset behind it, from which the consumer reads on.
    pub fn next_offset(&self) -> i64 {
        self.0.run.next
    }

    /// How many bytes it has as it came.
    pub fn size_bytes(&self) -> usize {
        self.0.run.bytes.len()
    }

    /// The records, in order, as views of this batch. Ends after the first error.
    ///
    /// *Errors*: `BrokerMisbehaved` for damaged data, `Compression` for records over the limit `max_decompressed_bytes` and
    /// for a codec that is not built in; with topic, partition, and the offsets of the batch and behind it.
    ///
    /// *Thread*: this one checks and decompresses what nobody has read before.
    pub fn records(&self) -> Records<'_> {
        Records { inner: &self.0, steps: Steps::default() }
    }
}

impl<'b> IntoIterator for &'b Batch {
    type Item = Result<RecordView<'b>>;
    type IntoIter = Records<'b>;

    fn into_iter(self) -> Records<'b> {
        self.records()
    }
}

/// Shows where it is from; what is in it belongs to the program, and not into a log.
impl fmt::Debug for Batch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Batch")
            .field("partition", &self.0.partition.name)
            .field("offsets", &self.offsets())
            .field("size_bytes", &self.size_bytes())
            .finish()
    }
}

impl Inner {
    pub(super) fn name(&self) -> &TopicPartition {
        &self.partition.name
    }

    /// The bytes in which the records lie.
    #[inline]
    pub(super) fn data(&self) -> &[u8] {
        match self.decompressed.get() {
            Some(Ok((batch, _))) => batch.data(),
            _ => &self.run.bytes,
        }
    }

    fn decompressed(&self, raw: &RawBatch<'_>) -> Result<&DecodedBatch> {
        let decoded = self.decompressed.get_or_init(|| {
            with_decompressor(self.limits.max_decompressed, |decompressor| raw.decode(decompressor)).map(|batch| {
                let bytes = batch.own_bytes();
                self.partition.budget.hand_out(bytes);
                let lease = self.partition.budget.overdraw(bytes);
                (batch, lease)
            })
        });
        match decoded {
            Ok((batch, _)) => Ok(batch),
            Err(error) => Err(error.clone()),
        }
    }

    /// An error of the batch `raw`, after which the partition stands still.
    fn fail(&self, error: Error, place: Option<(i64, Option<i64>)>) -> Error {
        let (offset, next) = place.unwrap_or((self.run.first, Some(self.run.next)));
        self.partition.stop_at(self.epoch, Damage { error, offset: offset.max(self.run.first), next })
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        let mut bytes = self.run.bytes.len();
        if let Some(Ok((batch, lease))) = self.decompressed.take() {
            bytes += lease.bytes();
            with_decompressor(self.limits.max_decompressed, |decompressor| batch.recycle(decompressor));
        }
        self.partition.budget.take_back(bytes);
        self.partition.release(self.run.bytes.len());
    }
}

/// The records of a [`Batch`], in order.
pub struct Records<'b> {
    inner: &'b Arc<Inner>,
    steps: Steps,
}

impl<'b> Iterator for Records<'b> {
    type Item = Result<RecordView<'b>>;

    #[inline]
    fn next(&mut self) -> Option<Self::Item> {
        self.steps.next(self.inner)
    }
}

impl fmt::Debug for Records<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Records").field("partition", &self.inner.partition.name).finish_non_exhaustive()
    }
}

/// A [`Batch`] with a place among its records, from which to go on.
pub(crate) struct Walk {
    batch: Batch,
    steps: Steps,
}

impl Walk {
    pub(crate) fn new(batch: Batch) -> Self {
        Self { batch, steps: Steps::default() }
    }

    /// The next record, kept. `None` at the end, and after a seek.
    #[inline]
    pub(crate) fn next(&mut self) -> Option<Result<KeptRecord>> {
        if !self.batch.0.partition.is_read_in(self.batch.0.epoch) {
            return None;
        }
        Some(self.steps.next(&self.batch.0)?.map(RecordView::keep))
    }
}

/// A place among a batch's records.
#[derive(Default)]
struct Steps {
    /// Where in the bytes the next batch begins.
    at: usize,
    current: Option<Current>,
}

/// The batch that is being read.
struct Current {
    /// `None`: the one that was decompressed.
    batch: Option<DecodedBatch>,
    /// Where its records lie, unless they were decompressed.
    range: Range<usize>,
    cursor: Cursor,
    /// Its offset and the one behind it, for an error.
    place: Option<(i64, Option<i64>)>,
}

impl Steps {
    #[inline]
    fn next<'b>(&mut self, inner: &'b Arc<Inner>) -> Option<Result<RecordView<'b>>> {
        loop {
            let Some(current) = &mut self.current else {
                match self.advance(inner)? {
                    Ok(()) => continue,
                    Err(error) => return Some(Err(error)),
                }
            };
            let (batch, data) = match (&current.batch, inner.decompressed.get()) {
                (Some(batch), _) => (batch, inner.run.bytes.get(current.range.clone()).unwrap_or_default()),
                (None, Some(Ok((batch, _)))) => (batch, batch.data()),
                (None, _) => return None,
            };
            match batch.read_in(data, &mut current.cursor) {
                None => self.current = None,
                Some(Ok(record)) if record.offset < inner.run.first => {}
                Some(Ok(record)) => {
                    let (kind, epoch) = (batch.timestamp_type, batch.leader_epoch);
                    return Some(Ok(RecordView::new(inner, record, kind, epoch)));
                }
                Some(Err(error)) => {
                    let place = current.place;
                    return Some(Err(self.fail(inner, error, place)));
                }
            }
        }
    }

    /// Goes to the next batch that there is. `None` at the end.
    fn advance(&mut self, inner: &Inner) -> Option<Result<()>> {
        let raw = match Batches::starting_at(&inner.run.bytes, self.at).next()? {
            Ok(raw) => raw,
            Err(error) => return Some(Err(self.fail(inner, error, None))),
        };
        let end = self.at + raw.bytes().len();
        let range = end - raw.body().len()..end;
        let place = raw.offset().map(|offset| (offset, raw.next_offset()));
        self.at = end;
        let decoded = if inner.run.is_compressed {
            inner.decompressed(&raw).map(|_| None)
        } else {
            // Its records lie in the bytes in which it came, so nothing is made that would have to be kept.
            with_decompressor(inner.limits.max_decompressed, |decompressor| raw.decode(decompressor)).map(Some)
        };
        match decoded {
            Ok(batch) => {
                self.current = Some(Current { batch, range, cursor: Cursor::default(), place });
                Some(Ok(()))
            }
            Err(error) => Some(Err(self.fail(inner, error, place))),
        }
    }

    #[cold]
    fn fail(&mut self, inner: &Inner, error: Error, place: Option<(i64, Option<i64>)>) -> Error {
        self.current = None;
        self.at = inner.run.bytes.len();
        inner.fail(error, place)
    }
}
