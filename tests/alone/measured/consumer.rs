//! A consumer's threads: how they end, and that they sleep.

use std::time::Instant;

use kafka_blocking::testing::{Api, FakeCluster};
use kafka_blocking::{Consumer, ConsumerBuilder, ErrorKind, KeptRecord, Producer, Start};

use crate::common::*;
use crate::{alone, assert_no_threads, voluntary_switches};

fn consumer(cluster: &FakeCluster) -> ConsumerBuilder {
    Consumer::builder(cluster.bootstrap()).retry_backoff(ms(5)).reconnect_backoff(ms(5))
}

/// Writes ten numbers.
fn write(cluster: &FakeCluster) {
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 10));
    close(&producer);
}

fn take(consumer: &mut Consumer, count: usize) -> Vec<KeptRecord> {
    consumer.records().take(count).map(|record| record.unwrap()).collect()
}

#[test]
fn close_ends_every_thread_at_once() {
    let _alone = alone();
    let cluster = three_brokers("t", 6);
    write(&cluster);
    // A long poll, and a broker that stands still, hold nobody up.
    let mut consumer = consumer(&cluster).fetch_max_wait(BOUND).assign_topic("t", Start::Beginning).build().unwrap();
    let kept = take(&mut consumer, 10);
    cluster.pause(cluster.brokers()[0]);
    let names: Vec<_> = kafka_threads().into_iter().map(|(_, name)| name).collect();
    for kind in ["kafka-fetcher", "kafka-express"] {
        assert_eq!(names.iter().filter(|name| name.starts_with(kind)).count(), 3, "{names:?}");
    }
    let begun = Instant::now();
    consumer.close_timeout(BOUND).unwrap();
    assert!(begun.elapsed() < AT_ONCE);
    assert_no_threads();
    assert_eq!(consumer.poll(BOUND).unwrap_err().kind(), ErrorKind::Closed);
    assert!(consumer.records().next().is_none());
    consumer.close().unwrap();
    // What the program has outlives it.
    drop(consumer);
    assert_eq!(kept[9].value(), Some(&b"9"[..]));
    assert_no_panics();
}

#[test]
fn dropping_a_consumer_ends_its_threads() {
    let _alone = alone();
    let cluster = three_brokers("t", 6);
    write(&cluster);
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    take(&mut consumer, 3);
    drop(consumer);
    assert_no_threads();
    assert_no_panics();
}

#[test]
fn an_idle_consumer_sleeps() {
    let _alone = alone();
    let cluster = three_brokers("t", 300);
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    assert!(consumer.poll(ms(600)).unwrap().is_empty());
    let fetchers: Vec<_> =
        kafka_threads().into_iter().filter(|(_, name)| name.starts_with("kafka-")).map(|(id, _)| id).collect();
    assert!(fetchers.len() >= 8, "three fetchers with their expresses, the router, the metadata");
    let sleeps = || fetchers.iter().map(|thread| voluntary_switches(*thread)).sum::<u64>();
    let (before, fetches) = (sleeps(), cluster.request_count(Api::Fetch));
    assert!(consumer.poll(ms(3000)).unwrap().is_empty());
    let (slept, asked) = (sleeps() - before, cluster.request_count(Api::Fetch) - fetches);
    // Six long polls of each broker, and one that was under way.
    assert!((3..=21).contains(&asked), "{asked} fetches");
    assert!(slept <= 4 * asked, "{slept} wake-ups for {asked} fetches");
    assert_no_panics();
}
