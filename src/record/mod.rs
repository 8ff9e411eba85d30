//! Records, and the batches in which they travel: pure encoding and decoding, without sockets, threads or clocks.

pub(crate) mod aborted;
pub(crate) mod batch;
#[cfg(any(test, feature = "testing"))]
pub(crate) mod broker;
pub(crate) mod compression;
mod headers;
mod legacy;
pub(crate) mod reader;
mod timestamp;
mod varint;

use std::borrow::Cow;
use std::fmt;

pub use self::compression::{Compression, GzipLevel, ZstdLevel};
pub use self::headers::{Header, Headers};
pub use self::timestamp::{Timestamp, TimestampType};

/// A record to send: a topic, a key and a value, and what else Kafka stores beside them.
///
/// It borrows or owns each part. Borrowed data is copied once when it is sent, into the batch, and nothing is
/// allocated. A null value is not an empty one: [`Record::to`] begins with a null key and a null value, and
/// `.value("")` makes the value empty. In a compacted topic a null value deletes its key (a tombstone).
///
/// ```
/// use kafka_blocking::Record;
///
/// let payload = vec![1, 2, 3];
/// let record = Record::to("measurements").key("sensor-7").value(&payload).header("unit", "mm");
/// assert_eq!(record.value.as_deref(), Some(&[1, 2, 3][..]));
/// ```
///
/// # What the parts are called
///
/// A part of a record has one name wherever it occurs: `topic`, `partition`, `key`, `value`, `headers`, `timestamp`, and
/// `offset` once there is one.
///
/// * A record that is *built*, this one or a [`TypedRecord`](crate::TypedRecord), is plain data. Each part is a field,
///   which interceptors read and change; the method of the same name sets it and returns the record. (`header` adds to
///   `headers`.)
/// * A record that is *read*, and what the cluster says of one ([`RecordMetadata`](crate::RecordMetadata)), have a
///   method for each part that returns it: `key()`, `offset()`. Nothing can be set there.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Record<'a> {
    /// The topic's name.
    pub topic: Cow<'a, str>,
    /// The partition, an index from 0; `None` leaves it to the partitioner.
    pub partition: Option<i32>,
    /// The key; `None` is null.
    pub key: Option<Cow<'a, [u8]>>,
    /// The value; `None` is null.
    pub value: Option<Cow<'a, [u8]>>,
    /// The headers, in order.
    pub headers: Headers<'a>,
    /// The time that the record carries; `None` is the time at which it is sent. Of a [`Timestamp`] only the
    /// milliseconds are sent, not the type: for the log the time is always set by the producer.
    pub timestamp: Option<Timestamp>,
}

impl<'a> Record<'a> {
    /// A record for `topic` with neither key nor value.
    pub fn to(topic: impl Into<Cow<'a, str>>) -> Self {
        Self { topic: topic.into(), partition: None, key: None, value: None, headers: Headers::new(), timestamp: None }
    }

    /// Sets the key. Records of one key go to one partition, unless the partition is set.
    #[must_use = "it changes the record that it returns"]
    pub fn key(mut self, key: impl IntoBytes<'a>) -> Self {
        self.key = key.into_bytes();
        self
    }

    /// Sets the value.
    #[must_use = "it changes the record that it returns"]
    pub fn value(mut self, value: impl IntoBytes<'a>) -> Self {
        self.value = value.into_bytes();
        self
    }

    /// Sets the partition, an index from 0. Without it the partitioner chooses one.
    #[must_use = "it changes the record that it returns"]
    pub fn partition(mut self, partition: i32) -> Self {
        self.partition = Some(partition);
        self
    }

    /// Sets the time that the record carries: a [`SystemTime`](std::time::SystemTime), or a [`Timestamp`], which can be
    /// made from milliseconds. Default: the time at which it is sent. One before 1970 is refused by `send`.
    ///
    /// A topic with `message.timestamp.type=LogAppendTime` replaces it with the broker's time.
    #[must_use = "it changes the record that it returns"]
    pub fn timestamp(mut self, time: impl Into<Timestamp>) -> Self {
        self.timestamp = Some(time.into());
        self
    }

    /// Adds a header after the existing ones. Names may repeat, and the order is kept.
    #[must_use = "it changes the record that it returns"]
    pub fn header(mut self, name: impl Into<Cow<'a, str>>, value: impl IntoBytes<'a>) -> Self {
        self.headers.push(name, value);
        self
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

/// Shows the sizes of key and value, not their bytes, which may be secret.
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

/// Types that can be a key, a value or a header's value: strings and bytes, borrowed or owned, and `Option`s of them,
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn null_is_not_empty() {
        let record = Record::to("t");
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (None, None));
        let record = record.key("").value(Some(b""));
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (Some(&[][..]), Some(&[][..])));
        let record = record.key(None::<String>).value(Vec::new()).header("h", None::<&str>);
        assert_eq!((record.key.as_deref(), record.value.as_deref()), (None, Some(&[][..])));
        assert_eq!(record.headers.last("h").map(|header| header.value()), Some(None));
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
    fn debug_does_not_show_payloads() {
        let text = format!("{:?}", Record::to("t").key("secret").value("secret").header("h", "secret"));
        assert!(!text.contains("secret"), "{text}");
    }
}
