//! Records as a program reads them: a view, one that is kept, one that is copied. All three have the same accessors.

use std::fmt;
use std::sync::Arc;

use super::batch::Inner;
use crate::record::{Header, Headers, Timestamp, TimestampType, reader};
use crate::topic::TopicPartition;

/// A record of a [`Batch`](crate::Batch), as a view: it copies nothing, and may be copied itself.
#[derive(Clone, Copy)]
pub struct RecordView<'b> {
    batch: &'b Arc<Inner>,
    view: reader::RecordView<'b>,
    timestamp_type: TimestampType,
    leader_epoch: i32,
}

impl<'b> RecordView<'b> {
    #[inline]
    pub(super) fn new(
        batch: &'b Arc<Inner>,
        view: reader::RecordView<'b>,
        timestamp_type: TimestampType,
        leader_epoch: i32,
    ) -> Self {
        Self { batch, view, timestamp_type, leader_epoch }
    }

    /// The topic's name.
    pub fn topic(&self) -> &'b str {
        &self.batch.name().topic
    }

    /// The partition's index.
    pub fn partition(&self) -> i32 {
        self.batch.name().index
    }

    /// The topic and the partition.
    pub fn topic_partition(&self) -> &'b TopicPartition {
        self.batch.name()
    }

    /// The record's offset.
    pub fn offset(&self) -> i64 {
        self.view.offset
    }

    /// The key, or `None` if it is null.
    pub fn key(&self) -> Option<&'b [u8]> {
        self.view.key
    }

    /// The value, or `None` if it is null: in a compacted topic that deletes the key (a tombstone).
    pub fn value(&self) -> Option<&'b [u8]> {
        self.view.value
    }

    /// The headers.
    pub fn headers(&self) -> HeadersView<'b> {
        HeadersView(self.view.headers)
    }

    /// The record's time, and whose clock it is from; `None` where it has none, as those of format 0.
    pub fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::from_wire(self.view.timestamp, self.timestamp_type)
    }

    /// The epoch of the leader that wrote the record, where it is known: formats before 2 have none.
    pub fn leader_epoch(&self) -> Option<i32> {
        known_epoch(self.leader_epoch)
    }

    /// The record without a borrow: it copies no bytes, and holds the whole batch in memory.
    #[inline]
    pub fn keep(self) -> KeptRecord {
        let data = self.batch.data();
        KeptRecord {
            batch: Arc::clone(self.batch),
            offset: self.view.offset,
            timestamp: self.view.timestamp,
            timestamp_type: self.timestamp_type,
            leader_epoch: self.leader_epoch,
            key: Part::of(self.view.key, data),
            value: Part::of(self.view.value, data),
            headers: Part::of(Some(self.view.headers.bytes()), data),
            header_count: self.view.headers.len(),
        }
    }

    /// A copy of the record, which holds nothing else in memory.
    pub fn to_owned(self) -> OwnedRecord {
        OwnedRecord {
            name: self.batch.name().clone(),
            offset: self.view.offset,
            timestamp: self.view.timestamp,
            timestamp_type: self.timestamp_type,
            leader_epoch: self.leader_epoch,
            key: self.view.key.map(Into::into),
            value: self.view.value.map(Into::into),
            headers: self.view.headers.to_headers().into_owned(),
        }
    }
}

fn known_epoch(epoch: i32) -> Option<i32> {
    (epoch >= 0).then_some(epoch)
}

/// Shows sizes instead of payloads, which may be secret.
impl fmt::Debug for RecordView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordView")
            .field("partition", self.topic_partition())
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .field("key_len", &self.key().map(<[u8]>::len))
            .field("value_len", &self.value().map(<[u8]>::len))
            .field("headers", &self.headers().len())
            .finish()
    }
}

/// The headers of a record that was read, in order. Names may repeat.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct HeadersView<'b>(reader::HeadersView<'b>);

impl<'b> HeadersView<'b> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All headers, in order. What is not UTF-8 in a name is replaced, as Java does.
    pub fn iter(&self) -> impl Iterator<Item = Header<'b>> + use<'b> {
        self.0.iter().map(|(name, value)| Header::read(name, value))
    }

    /// The first header of this name.
    pub fn first(&self, name: &str) -> Option<Header<'b>> {
        self.iter().find(|header| header.name() == name)
    }

    /// The last header of this name, which is the one that counts where a name repeats (Java's `lastHeader`).
    pub fn last(&self, name: &str) -> Option<Header<'b>> {
        self.iter().filter(|header| header.name() == name).last()
    }

    /// The same headers as a list that borrows its parts.
    pub fn to_headers(&self) -> Headers<'b> {
        self.0.to_headers()
    }
}

/// Shows the values' sizes instead of the values, which may be secret.
impl fmt::Debug for HeadersView<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self.iter()).finish()
    }
}

/// Where a part of a record lies in its batch's bytes.
#[derive(Clone, Copy)]
struct Part {
    start: usize,
    /// `usize::MAX` stands for null.
    len: usize,
}

impl Part {
    #[inline]
    fn of(part: Option<&[u8]>, data: &[u8]) -> Self {
        match part {
            // A view's parts lie in its batch's bytes; elsewhere they would be none of it, and empty when read.
            Some(part) => Self { start: part.as_ptr().addr().wrapping_sub(data.as_ptr().addr()), len: part.len() },
            None => Self { start: 0, len: usize::MAX },
        }
    }

    #[inline]
    fn get(self, data: &[u8]) -> Option<&[u8]> {
        if self.len == usize::MAX {
            return None;
        }
        Some(data.get(self.start..self.start.wrapping_add(self.len)).unwrap_or_default())
    }
}

/// A record that was kept: it lives on its own, and holds its whole batch in memory. See
/// [`OwnedRecord`] for one that does not.
#[derive(Clone)]
pub struct KeptRecord {
    batch: Arc<Inner>,
    offset: i64,
    timestamp: i64,
    timestamp_type: TimestampType,
    leader_epoch: i32,
    key: Part,
    value: Part,
    headers: Part,
    header_count: usize,
}

impl KeptRecord {
    /// The record as a view.
    pub fn view(&self) -> RecordView<'_> {
        let view = reader::RecordView {
            offset: self.offset,
            timestamp: self.timestamp,
            key: self.key.get(self.batch.data()),
            value: self.value.get(self.batch.data()),
            headers: self.headers_read(),
        };
        RecordView::new(&self.batch, view, self.timestamp_type, self.leader_epoch)
    }

    fn headers_read(&self) -> reader::HeadersView<'_> {
        reader::HeadersView::new(self.header_count, self.headers.get(self.batch.data()).unwrap_or_default())
    }

    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.batch.name().topic
    }

    /// The partition's index.
    pub fn partition(&self) -> i32 {
        self.batch.name().index
    }

    /// The topic and the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        self.batch.name()
    }

    /// The record's offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The key, or `None` if it is null.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.get(self.batch.data())
    }

    /// The value, or `None` if it is null.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.get(self.batch.data())
    }

    /// The headers.
    pub fn headers(&self) -> HeadersView<'_> {
        HeadersView(self.headers_read())
    }

    /// The record's time, and whose clock it is from; `None` where it has none, as those of format 0.
    pub fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::from_wire(self.timestamp, self.timestamp_type)
    }

    /// The epoch of the leader that wrote the record, where it is known.
    pub fn leader_epoch(&self) -> Option<i32> {
        known_epoch(self.leader_epoch)
    }

    /// A copy of the record, which holds nothing else in memory.
    pub fn to_owned(&self) -> OwnedRecord {
        self.view().to_owned()
    }
}

/// Shows sizes instead of payloads, which may be secret.
impl fmt::Debug for KeptRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.view(), f)
    }
}

/// A copy of a record that was read.
#[derive(Clone, PartialEq, Eq)]
pub struct OwnedRecord {
    name: TopicPartition,
    offset: i64,
    timestamp: i64,
    timestamp_type: TimestampType,
    leader_epoch: i32,
    key: Option<Box<[u8]>>,
    value: Option<Box<[u8]>>,
    headers: Headers<'static>,
}

impl OwnedRecord {
    /// The topic's name.
    pub fn topic(&self) -> &str {
        &self.name.topic
    }

    /// The partition's index.
    pub fn partition(&self) -> i32 {
        self.name.index
    }

    /// The topic and the partition.
    pub fn topic_partition(&self) -> &TopicPartition {
        &self.name
    }

    /// The record's offset.
    pub fn offset(&self) -> i64 {
        self.offset
    }

    /// The key, or `None` if it is null.
    pub fn key(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The value, or `None` if it is null.
    pub fn value(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// The headers.
    pub fn headers(&self) -> &Headers<'static> {
        &self.headers
    }

    /// The record's time, and whose clock it is from; `None` where it has none, as those of format 0.
    pub fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::from_wire(self.timestamp, self.timestamp_type)
    }

    /// The epoch of the leader that wrote the record, where it is known.
    pub fn leader_epoch(&self) -> Option<i32> {
        known_epoch(self.leader_epoch)
    }
}

/// Shows sizes instead of payloads, which may be secret.
impl fmt::Debug for OwnedRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OwnedRecord")
            .field("partition", &self.name)
            .field("offset", &self.offset)
            .field("timestamp", &self.timestamp())
            .field("key_len", &self.key.as_ref().map(|key| key.len()))
            .field("value_len", &self.value.as_ref().map(|value| value.len()))
            .field("headers", &self.headers)
            .finish()
    }
}
