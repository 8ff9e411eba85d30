//! A Kafka client for ordinary threaded programs.

pub mod error;
#[allow(dead_code, unused_imports, reason = "the layers above are being built")]
mod protocol;
mod record;
mod time;
mod topic;

pub use error::{Context, Error, ErrorCode, ErrorKind, Recovery, Result, Timeout, Written};
pub use topic::{BrokerId, MAX_TOPIC_NAME_BYTES, ProducerIdAndEpoch, TopicPartition};
