//! What is told of a record that is done, and to whom.

use std::fmt;
use std::sync::Arc;

use crate::error::{Error, Result};
use crate::record::TimestampType;

/// What the cluster says of a record that it has accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct RecordMetadata {
    /// The topic.
    pub topic: Arc<str>,
    /// The partition.
    pub partition: i32,
    /// The record's offset in the partition, or -1 where it is not known: with `Acks::None`, and when the broker
    /// recognised a batch as written before without remembering where (KIP-98).
    pub offset: i64,
    /// The record's timestamp in the log, in milliseconds since 1970: its own, or the broker's clock where the
    /// topic is configured with `message.timestamp.type=LogAppendTime`. -1 where the offset is -1 although the
    /// broker acknowledged.
    pub timestamp: i64,
    /// Whose clock the timestamp is.
    pub timestamp_type: TimestampType,
}

/// What a caller wants to be told when its record is done.
pub(crate) type Callback = Box<dyn FnOnce(Result<RecordMetadata>) + Send>;

/// Whom every record that fails is told to.
#[derive(Clone)]
pub(crate) struct OnFailure(pub(crate) Arc<dyn Fn(&Error) + Send + Sync>);

impl fmt::Debug for OnFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("OnFailure")
    }
}
