//! Records, and the batches in which they travel: pure encoding and decoding, without sockets, threads or clocks.

#[cfg(any(test, feature = "testing"))]
pub(crate) mod aborted;
pub(crate) mod batch;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod broker;
pub(crate) mod compression;
mod headers;
#[cfg(any(test, feature = "testing"))]
mod legacy;
pub(crate) mod reader;
mod varint;

use std::borrow::Cow;
use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use self::compression::{Compression, GzipLevel, ZstdLevel};
pub use self::headers::{Header, Headers};

/// A record to send: a topic, a key and a value, and what else Kafka stores beside them.
///
/// It borrows or owns each part, so that sending data that lies elsewhere copies it once, into the batch, and
/// allocates nothing. A null value is not an empty one: [`Record::to`] begins with a null key and a null value, and
/// `.value("")` makes the value empty. In a compacted topic a null value deletes its key (a tombstone).
///
/// ```
/// use kafka_blocking::Record;
///
/// let payload = vec![1, 2, 3];
/// let record = Record::to("measurements").key("sensor-7").value(&payload).header("unit", "mm");
/// assert_eq!(record.value_bytes(), Some(&[1, 2, 3][..]));
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Record<'a> {
    pub(crate) topic: Cow<'a, str>,
    pub(crate) partition: Option<i32>,
    pub(crate) key: Option<Cow<'a, [u8]>>,
    pub(crate) value: Option<Cow<'a, [u8]>>,
    pub(crate) headers: Headers<'a>,
    pub(crate) timestamp: Option<i64>,
}

impl<'a> Record<'a> {
    /// A record for `topic` with neither key nor value.
    pub fn to(topic: impl Into<Cow<'a, str>>) -> Self {
        Self { topic: topic.into(), partition: None, key: None, value: None, headers: Headers::new(), timestamp: None }
    }

    /// Sets the key. Records of one key go to one partition, unless the partition is set.
    pub fn key(mut self, key: impl IntoBytes<'a>) -> Self {
        self.key = key.into_bytes();
        self
    }

    /// Sets the value.
    pub fn value(mut self, value: impl IntoBytes<'a>) -> Self {
        self.value = value.into_bytes();
        self
    }

    /// Sets the partition, an index from 0, which the partitioner would choose otherwise.
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the time that the record carries. Default: the time at which it is sent.
    ///
    /// A topic with `message.timestamp.type=LogAppendTime` replaces it with the broker's time.
    pub fn timestamp(self, time: SystemTime) -> Self {
        self.timestamp_ms(milliseconds_since_1970(time))
    }

    /// [`timestamp`](Self::timestamp) in milliseconds since 1970. A negative one is refused by `send`.
    pub fn timestamp_ms(mut self, milliseconds: i64) -> Self {
        self.timestamp = Some(milliseconds);
        self
    }

    /// Adds a header after those already there. Names may repeat, and the order is kept.
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, value: impl IntoBytes<'a>) -> Self {
        self.headers.push(name, value);
        self
    }

    /// The topic's name.
    pub fn topic_name(&self) -> &str {
        &self.topic
    }

    /// The key, or `None` if it is null.
    pub fn key_bytes(&self) -> Option<&[u8]> {
        self.key.as_deref()
    }

    /// The value, or `None` if it is null.
    pub fn value_bytes(&self) -> Option<&[u8]> {
        self.value.as_deref()
    }

    /// The partition that was set, if one was.
    pub fn partition_index(&self) -> Option<i32> {
        self.partition
    }

    /// The timestamp that was set, if one was, in milliseconds since 1970.
    pub fn timestamp_millis(&self) -> Option<i64> {
        self.timestamp
    }

    /// The headers.
    pub fn headers(&self) -> &Headers<'a> {
        &self.headers
    }

    /// The headers, to change them.
    pub fn headers_mut(&mut self) -> &mut Headers<'a> {
        &mut self.headers
    }

    /// Sends the record to another topic. For interceptors, as the four below.
    pub fn set_topic(&mut self, topic: impl Into<Cow<'a, str>>) {
        self.topic = topic.into();
    }

    /// Replaces the key.
    pub fn set_key(&mut self, key: impl IntoBytes<'a>) {
        self.key = key.into_bytes();
    }

    /// Replaces the value.
    pub fn set_value(&mut self, value: impl IntoBytes<'a>) {
        self.value = value.into_bytes();
    }

    /// Sets the partition, or leaves it to the partitioner.
    pub fn set_partition(&mut self, partition: Option<i32>) {
        self.partition = partition;
    }

    /// Sets the time in milliseconds since 1970, or leaves it to the producer's clock.
    pub fn set_timestamp_ms(&mut self, milliseconds: Option<i64>) {
        self.timestamp = milliseconds;
    }

    /// The same record without borrowed parts: what it borrows is copied.
    pub fn into_owned(self) -> Record<'static> {
        Record {
            topic: Cow::Owned(self.topic.into_owned()),
            partition: self.partition,
            key: self.key.map(|key| Cow::Owned(key.into_owned())),
            value: self.value.map(|value| Cow::Owned(value.into_owned())),
            headers: self.headers.into_owned(),
            timestamp: self.timestamp,
        }
    }
}

/// Shows sizes instead of payloads, which may be secret.
impl fmt::Debug for Record<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Record")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("key_len", &self.key.as_ref().map(|key| key.len()))
            .field("value_len", &self.value.as_ref().map(|value| value.len()))
            .field("headers", &self.headers)
            .field("timestamp", &self.timestamp)
            .finish()
    }
}

/// What can be a key, a value or a header's value: strings and bytes, borrowed or owned, and `Option`s of them,
/// where `None` is null.
pub trait IntoBytes<'a> {
    /// The bytes, or `None` for null.
    fn into_bytes(self) -> Option<Cow<'a, [u8]>>;
}

impl<'a> IntoBytes<'a> for &'a [u8] {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a, const N: usize> IntoBytes<'a> for &'a [u8; N] {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a, const N: usize> IntoBytes<'a> for [u8; N] {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Owned(self.to_vec()))
    }
}

impl<'a> IntoBytes<'a> for &'a Vec<u8> {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Borrowed(self))
    }
}

impl<'a> IntoBytes<'a> for Vec<u8> {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Owned(self))
    }
}

impl<'a> IntoBytes<'a> for Box<[u8]> {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Owned(self.into_vec()))
    }
}

impl<'a> IntoBytes<'a> for Cow<'a, [u8]> {
    fn into_bytes(self) -> Option<Self> {
        Some(self)
    }
}

impl<'a> IntoBytes<'a> for &'a str {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Borrowed(self.as_bytes()))
    }
}

impl<'a> IntoBytes<'a> for &'a String {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Borrowed(self.as_bytes()))
    }
}

impl<'a> IntoBytes<'a> for String {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(Cow::Owned(Self::into_bytes(self)))
    }
}

impl<'a> IntoBytes<'a> for Cow<'a, str> {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        Some(match self {
            Cow::Borrowed(text) => Cow::Borrowed(text.as_bytes()),
            Cow::Owned(text) => Cow::Owned(text.into_bytes()),
        })
    }
}

impl<'a, T: IntoBytes<'a>> IntoBytes<'a> for Option<T> {
    fn into_bytes(self) -> Option<Cow<'a, [u8]>> {
        self.and_then(IntoBytes::into_bytes)
    }
}

/// Which clock a record's timestamp is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TimestampType {
    /// The producer's: set by its caller, or when the record was sent.
    CreateTime,
    /// The broker's: when the record was appended to the log (`message.timestamp.type=LogAppendTime`).
    LogAppendTime,
}

/// Milliseconds since 1970, negative before that, and at the ends of the range where it does not fit.
pub(crate) fn milliseconds_since_1970(time: SystemTime) -> i64 {
    let milliseconds = |duration: Duration| i64::try_from(duration.as_millis()).unwrap_or(i64::MAX);
    match time.duration_since(UNIX_EPOCH) {
        Ok(after) => milliseconds(after),
        Err(before) => -milliseconds(before.duration()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_not_empty() {
        let record = Record::to("t");
        assert_eq!((record.key_bytes(), record.value_bytes()), (None, None));
        let record = record.key("").value(Some(b""));
        assert_eq!((record.key_bytes(), record.value_bytes()), (Some(&[][..]), Some(&[][..])));
        let record = record.key(None::<String>).value(Vec::new()).header("h", None::<&str>);
        assert_eq!((record.key_bytes(), record.value_bytes()), (None, Some(&[][..])));
        assert_eq!(record.headers().last("h").map(|header| header.value()), Some(None));
    }

    #[test]
    fn borrowed_parts_are_not_copied() {
        let (topic, value) = (String::from("t"), vec![7; 9]);
        let record = Record::to(&topic).value(&value).key(&topic);
        assert!(matches!(record.topic, Cow::Borrowed(_)));
        assert!(matches!(record.key, Some(Cow::Borrowed(_))));
        assert!(matches!(record.value, Some(Cow::Borrowed(_))));
        let owned: Record<'static> = record.clone().into_owned();
        assert_eq!(owned, record);
    }

    #[test]
    fn times_before_1970_are_negative() {
        assert_eq!(milliseconds_since_1970(UNIX_EPOCH + Duration::from_micros(1_999)), 1);
        assert_eq!(milliseconds_since_1970(UNIX_EPOCH - Duration::from_millis(2)), -2);
    }

    #[test]
    fn debug_does_not_show_payloads() {
        let text = format!("{:?}", Record::to("t").key("secret").value("secret").header("h", "secret"));
        assert!(!text.contains("secret"), "{text}");
    }
}
