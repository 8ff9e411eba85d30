//! The producer.

mod config;
pub mod partitioner;
mod properties;

#[allow(unused_imports, reason = "the producer is built on top")]
pub(crate) use self::config::ProducerConfig;
pub use self::config::{Acks, MetadataRecovery, ProducerBuilder};
