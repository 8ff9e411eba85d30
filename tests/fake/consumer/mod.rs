//! Records that are read: what is promised of them, and what faults do to them.

mod ending;
mod faults;
mod hostile;
mod memory;
mod reading;
mod sessions;

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Compression, Consumer, ConsumerBuilder, KeptRecord, Producer, TopicPartition};

use crate::common::*;

/// A consumer that wastes no time.
fn consumer(cluster: &FakeCluster) -> ConsumerBuilder {
    Consumer::builder(cluster.bootstrap())
        .retry_backoff(ms(5))
        .retry_backoff_max(ms(40))
        .reconnect_backoff(ms(5))
        .reconnect_backoff_max(ms(40))
}

fn partition(index: i32) -> TopicPartition {
    TopicPartition::new("t", index)
}

/// Writes the numbers `from..to` to a partition of the topic t.
fn write(cluster: &FakeCluster, partition: i32, from: u64, to: u64) {
    write_compressed(cluster, partition, from, to, Compression::None);
}

fn write_compressed(cluster: &FakeCluster, partition: i32, from: u64, to: u64, compression: Compression) {
    let producer = Producer::builder(cluster.bootstrap()).compression(compression).linger(ms(1)).build().unwrap();
    succeed(&send_all(&producer, "t", partition, from, to));
    close(&producer);
}

/// The next so many records.
#[track_caller]
fn take(consumer: &mut Consumer, count: usize) -> Vec<KeptRecord> {
    let taken: Vec<_> = consumer.records().take(count).map(|record| record.unwrap()).collect();
    assert_eq!(taken.len(), count);
    taken
}

fn offsets(records: &[KeptRecord]) -> Vec<i64> {
    records.iter().map(KeptRecord::offset).collect()
}

fn number(value: Option<&[u8]>) -> u64 {
    std::str::from_utf8(value.unwrap()).unwrap().parse().unwrap()
}
