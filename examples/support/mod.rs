//! Where the examples find Kafka: at the address on the command line, or in this process.

use std::sync::OnceLock;

use kafka_blocking::Result;
use kafka_blocking::testing::FakeCluster;

/// The cluster in this process, which lives as long as the process.
static CLUSTER: OnceLock<FakeCluster> = OnceLock::new();

/// The bootstrap servers that the first argument names, such as `kafka01:9092,kafka02:9092`. Without an argument they are
/// those of a cluster in this process, with these topics, each with so many partitions.
pub(crate) fn servers(topics: &[(&str, usize)]) -> Result<Vec<String>> {
    if let Some(servers) = std::env::args().nth(1) {
        return Ok(vec![servers]);
    }
    let mut builder = FakeCluster::builder().brokers(3);
    for (name, partitions) in topics {
        builder = builder.topic(*name, *partitions);
    }
    let cluster = builder.start()?;
    Ok(CLUSTER.get_or_init(|| cluster).bootstrap())
}
