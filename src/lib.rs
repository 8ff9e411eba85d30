//! A Kafka client for ordinary threaded programs.

mod cluster;
pub mod error;
pub mod manual;
mod net;
mod producer;
#[allow(
    dead_code,
    unused_imports,
    reason = "every message is there in both directions; the producer needs half of them"
)]
mod protocol;
#[allow(dead_code, reason = "batches are there in both directions; the producer writes them")]
mod record;
#[cfg(feature = "testing")]
pub mod testing;
mod time;
mod topic;

pub use error::{Context, Error, ErrorCode, ErrorKind, Recovery, Result, Timeout, Written};
pub use producer::{
    Acks, Delivery, LatencyHistogram, MetadataRecovery, Metrics, PartitionInfo, Producer, ProducerBuilder,
    RecordMetadata, Undelivered, partitioner,
};
pub use record::{Compression, GzipLevel, Header, Headers, IntoBytes, Record, TimestampType, ZstdLevel};
pub use topic::{BrokerId, MAX_TOPIC_NAME_BYTES, ProducerIdAndEpoch, TopicPartition};
