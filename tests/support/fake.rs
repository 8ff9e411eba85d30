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

/// How long a [`hasty`] producer tries: short for a test, but far longer than a thread stands still on a busy machine.
pub const HASTE: Duration = Duration::from_millis(4050);

/// A short delivery timeout, so that a record that cannot be delivered fails soon. Of a record that is refused again and
/// again nothing is in flight at that time: the second attempt is made after 1.36 to 2.04 s, the third would be after 4.08.
pub fn hasty(cluster: &FakeCluster) -> ProducerBuilder {
    builder(cluster)
        .linger(Duration::ZERO)
        .request_timeout(HASTE)
        .delivery_timeout(HASTE)
        .retry_backoff(Duration::from_millis(1700))
        .retry_backoff_max(Duration::from_secs(60))
}
