//! A Kafka client for ordinary threaded programs.

#[allow(dead_code, reason = "the layers above are being built")]
mod cluster;
pub mod error;
#[allow(dead_code, reason = "the layers above are being built")]
mod net;
#[allow(dead_code, reason = "the layers above are being built")]
mod producer;
#[allow(dead_code, reason = "the layers above are being built")]
mod protocol;
#[allow(dead_code, reason = "the layers above are being built")]
mod record;
mod time;
mod topic;

pub use error::{Context, Error, ErrorCode, ErrorKind, Recovery, Result, Timeout, Written};
pub use producer::partitioner;
pub use record::{Compression, GzipLevel, Header, Headers, IntoBytes, Record, TimestampType, ZstdLevel};
pub use topic::{BrokerId, MAX_TOPIC_NAME_BYTES, ProducerIdAndEpoch, TopicPartition};
