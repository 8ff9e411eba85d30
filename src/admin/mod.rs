//! An admin client: topics, their partitions and settings, offsets, and what the cluster is.
//!
//! An [`Admin`] has blocking calls. Each has a result by [`api_timeout`](AdminBuilder::api_timeout) at the latest, and those that
//! are about many items give each item a result of its own, [`Results`]. [`manual::admin`](crate::manual::admin) tells which call
//! needs what of the brokers, and Java's names beside these.

mod brokers;
mod builder;
mod client;
mod cluster;
mod configs;
mod items;
mod offsets;
mod results;
mod routes;
mod topic_values;
mod topics;

pub use self::builder::AdminBuilder;
pub use self::client::{Admin, ValidateOnly};
pub use self::cluster::{BrokerDescription, ClusterDescription};
pub use self::configs::{AlterConfig, ConfigEntry, ConfigResource, ConfigSource};
pub use self::offsets::{DeleteRecords, FoundOffset, OffsetSpec};
pub use self::results::Results;
pub use self::topic_values::{
    CreatedTopic, NewPartitions, NewTopic, PartitionDescription, TopicDescription, TopicId, TopicListing,
};
