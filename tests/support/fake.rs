//! Producers on a fake cluster.

use std::time::Duration;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Producer, ProducerBuilder};

/// One broker with one topic.
pub fn cluster(topic: &str, partitions: usize) -> FakeCluster {
    FakeCluster::builder().topic(topic, partitions).start().unwrap()
}

pub fn builder(cluster: &FakeCluster) -> ProducerBuilder {
    Producer::builder(cluster.bootstrap())
}

/// How long a [`hasty`] producer tries: soon over, and far longer than a busy machine stands still.
pub const HASTE: Duration = Duration::from_millis(6500);

/// A short delivery timeout, so that a record that cannot be delivered fails soon. Of a record that is refused again and
/// again nothing is in flight at that time: the third attempt is made after 2.9 to 4.3 s, the fourth would be after 6.7.
pub fn hasty(cluster: &FakeCluster) -> ProducerBuilder {
    builder(cluster)
        .linger(Duration::ZERO)
        .request_timeout(HASTE)
        .delivery_timeout(HASTE)
        .retry_backoff(Duration::from_millis(1200))
        .retry_backoff_max(Duration::from_secs(60))
}
