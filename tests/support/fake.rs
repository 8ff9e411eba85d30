//! Producers on a fake cluster.

use std::time::Duration;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Producer, ProducerBuilder};

/// One broker with one topic.
pub(crate) fn cluster(topic: &str, partitions: usize) -> FakeCluster {
    FakeCluster::builder().topic(topic, partitions).start().unwrap()
}

pub(crate) fn builder(cluster: &FakeCluster) -> ProducerBuilder {
    Producer::builder(cluster.bootstrap())
}

/// Short limits, so that a record that cannot be delivered fails soon.
pub(crate) fn hasty(cluster: &FakeCluster) -> ProducerBuilder {
    builder(cluster)
        .linger(Duration::ZERO)
        .request_timeout(Duration::from_millis(500))
        .delivery_timeout(Duration::from_millis(1200))
}
