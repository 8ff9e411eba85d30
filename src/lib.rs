//! A Kafka client for ordinary threaded programs.

pub mod error;
mod producer;
mod protocol;
mod record;
mod time;
mod topic;

pub use error::{Context, Error, ErrorCode, ErrorKind, Recovery, Result, Timeout, Written};
pub use producer::partitioner;
pub use topic::{BrokerId, MAX_TOPIC_NAME_BYTES, ProducerIdAndEpoch, TopicPartition};
