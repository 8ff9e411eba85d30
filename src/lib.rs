//! A Kafka client for ordinary threaded programs.

pub mod error;
pub mod manual;
#[allow(dead_code, reason = "the connections that use it are built on top")]
mod net;
#[allow(dead_code, reason = "the producer is built on top")]
mod producer;
mod protocol;
#[allow(dead_code, reason = "the producer and the consumer that use it are built on top")]
mod record;
mod time;
mod topic;

pub use error::{Context, Error, ErrorCode, ErrorKind, Recovery, Result, Timeout, Written};
pub use producer::{Acks, MetadataRecovery, ProducerBuilder, partitioner};
pub use record::{Compression, GzipLevel, Header, Headers, IntoBytes, Record, TimestampType, ZstdLevel};
pub use topic::{BrokerId, MAX_TOPIC_NAME_BYTES, ProducerIdAndEpoch, TopicPartition};
