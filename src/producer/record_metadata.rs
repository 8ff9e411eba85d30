//! The result of a record, and the callbacks that get it.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::record::{Timestamp, TimestampType};

/// What the cluster says of a record that it has accepted.
///
/// It is displayed as in Java: `topic-partition@offset`, without the offset if that is not known.
///
/// ```
/// # use kafka_blocking::testing::FakeCluster;
/// # use kafka_blocking::{Producer, Record};
/// # fn main() -> kafka_blocking::Result<()> {
/// # let cluster = FakeCluster::builder().topic("readings", 1).start()?;
/// # let producer = Producer::builder(cluster.bootstrap()).build()?;
/// let sent = producer.send(Record::to("readings").value("20.5")).wait()?;
/// assert_eq!((sent.topic(), sent.partition(), sent.offset()), ("readings", 0, Some(0)));
/// assert_eq!(sent.to_string(), "readings-0@0");
/// # Ok(())
/// # }
/// ```
// The numbers are as on the wire, so that the metadata of a record is only five machine words.
#[derive(Clone, PartialEq, Eq)]
pub struct RecordMetadata {
    topic: Arc<str>,
    partition: i32,
    timestamp_type: TimestampType,
    offset: i64,
    timestamp: i64,
}

impl RecordMetadata {
    /// `offset` and `timestamp` are -1 where they are not known.
    #[inline]
    pub(crate) fn new(
        topic: Arc<str>,
        partition: i32,
        offset: i64,
        timestamp: i64,
        timestamp_type: TimestampType,
    ) -> Self {
        Self { topic, partition, timestamp_type, offset, timestamp }
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// The partition's index, from 0.
    pub fn partition(&self) -> i32 {
        self.partition
    }

    /// The record's offset in the partition. `None` where it is not known: with `Acks::None`, and when the broker
    /// recognised a batch as written before without remembering where (KIP-98).
    pub fn offset(&self) -> Option<i64> {
        known(self.offset)
    }

    /// The record's timestamp in the log: its own, or the broker's if the topic is configured with
    /// `message.timestamp.type=LogAppendTime`. `None` if the broker acknowledged the record without its offset.
    pub fn timestamp(&self) -> Option<Timestamp> {
        Timestamp::from_wire(self.timestamp, self.timestamp_type)
    }
}

/// An offset as the wire has it: -1 where it is not known.
fn known(offset: i64) -> Option<i64> {
    (offset >= 0).then_some(offset)
}

impl fmt::Display for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.partition)?;
        self.offset().map_or(Ok(()), |offset| write!(f, "@{offset}"))
    }
}

impl fmt::Debug for RecordMetadata {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RecordMetadata")
            .field("topic", &self.topic)
            .field("partition", &self.partition)
            .field("offset", &self.offset())
            .field("timestamp", &self.timestamp())
            .finish()
    }
}

/// The program's callback for the result of a record.
pub(crate) type Callback = Box<dyn FnOnce(Result<RecordMetadata>) + Send>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_known_is_none_and_is_not_shown() {
        let told = RecordMetadata::new("t".into(), 3, 7, 9, TimestampType::LogAppendTime);
        assert_eq!((told.offset(), told.timestamp()), (Some(7), Some(Timestamp::new(9, TimestampType::LogAppendTime))));
        assert_eq!(told.to_string(), "t-3@7");
        let untold = RecordMetadata::new("t".into(), 3, -1, -1, TimestampType::CreateTime);
        assert_eq!((untold.offset(), untold.timestamp(), &*untold.to_string()), (None, None, "t-3"));
        assert!(!format!("{untold:?}").contains("-1"), "{untold:?}");
    }

    #[test]
    fn what_is_told_of_each_record_stays_small() {
        assert_eq!((size_of::<RecordMetadata>(), size_of::<Result<RecordMetadata>>()), (40, 40));
    }
}

/// The program's function for every record that fails.
#[derive(Clone)]
pub(crate) struct OnFailure(pub(crate) Arc<dyn Fn(&Error) + Send + Sync>);

impl fmt::Debug for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnFailure")
    }
}
