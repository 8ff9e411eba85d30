//! Transactions, their coordinators, and what faults do to them.

mod faults;
mod guard;
mod outcomes;
mod sharing;

use std::time::Duration;

use kafka_blocking::testing::{FakeCluster, LoggedRecord, TransactionVersion};
use kafka_blocking::{Producer, ProducerBuilder, Record, TopicPartition};

use crate::common::at_once;

const MINUTE: Duration = Duration::from_secs(60);

/// `max_block` where a call is to give up: long enough for all the calls that are not to, on a machine that stands still for
/// two seconds.
const PATIENCE: Duration = Duration::from_millis(2500);

const BOTH: [TransactionVersion; 2] = [TransactionVersion::V1, TransactionVersion::V2];

fn start(version: TransactionVersion) -> FakeCluster {
    FakeCluster::builder().transactions(version).topic("t", 3).start().unwrap()
}

fn builder(cluster: &FakeCluster) -> ProducerBuilder {
    Producer::builder(cluster.bootstrap())
        .transactional_id("shop")
        .retry_backoff(Duration::from_millis(5))
        .retry_backoff_max(Duration::from_millis(20))
        .reconnect_backoff(Duration::from_millis(5))
        .reconnect_backoff_max(Duration::from_millis(20))
}

fn ready(builder: ProducerBuilder) -> Producer {
    let producer = builder.build().unwrap();
    producer.init_transactions().unwrap();
    producer
}

fn record(partition: i32, value: &str) -> Record<'_> {
    Record::to("t").partition(partition).value(value)
}

fn offsets(offset: i64) -> [(TopicPartition, i64); 1] {
    [(TopicPartition::new("t", 0), offset)]
}

fn committed(cluster: &FakeCluster) -> Vec<String> {
    cluster.committed_records("t", 0).unwrap().iter().map(LoggedRecord::value_text).collect()
}

/// Does `test` with both protocols at the same time, because it waits.
fn both_at_once(test: impl Fn(TransactionVersion) + Sync) {
    at_once(BOTH, test);
}
