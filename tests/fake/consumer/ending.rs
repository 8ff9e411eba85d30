//! How waits end, and the consumer.

use std::time::Instant;

use kafka_blocking::testing::{Api, Fault, On};
use kafka_blocking::{ErrorKind, Start};

use super::*;

#[test]
fn close_ends_every_thread_at_once() {
    let _alone = alone();
    let cluster = three_brokers("t", 6);
    write(&cluster, 0, 0, 10);
    // A long poll, and a broker that stands still, hold nobody up.
    let mut consumer = consumer(&cluster).fetch_max_wait(BOUND).assign_topic("t", Start::Beginning).build().unwrap();
    let kept = take(&mut consumer, 10);
    cluster.pause(cluster.brokers()[0]);
    let names: Vec<_> = kafka_threads().into_iter().map(|(_, name)| name).collect();
    assert_eq!(names.iter().filter(|name| name.starts_with("kafka-fetcher")).count(), 3, "{names:?}");
    let begun = Instant::now();
    consumer.close_timeout(BOUND).unwrap();
    assert!(begun.elapsed() < AT_ONCE);
    assert_no_threads();
    assert_eq!(consumer.poll(BOUND).unwrap_err().kind(), ErrorKind::Closed);
    assert!(consumer.records().next().is_none());
    consumer.close().unwrap();
    // What the program has outlives it.
    drop(consumer);
    assert_eq!(number(kept[9].value()), 9);
    assert_no_panics();
}

#[test]
fn dropping_a_consumer_ends_its_threads() {
    let _alone = alone();
    let cluster = three_brokers("t", 6);
    write(&cluster, 0, 0, 10);
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    take(&mut consumer, 3);
    drop(consumer);
    assert_no_threads();
    assert_no_panics();
}

#[test]
fn a_wake_ends_one_wait_also_one_that_has_not_begun() {
    let _beside = beside();
    let cluster = one_topic("t", 1);
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    let handle = consumer.handle();
    handle.wake();
    let polled = consumer.poll(BOUND).unwrap();
    assert!(polled.was_woken() && polled.is_empty());
    let begun = Instant::now();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| consumer.records().next().is_none());
        handle.wake();
        assert!(waiting.join().unwrap());
    });
    assert!(begun.elapsed() < AT_ONCE);
    // It goes on.
    write(&cluster, 0, 0, 1);
    assert_eq!(offsets(&take(&mut consumer, 1)), [0]);
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
    assert!(fetchers.len() >= 5, "three fetchers, the router, the metadata");
    let sleeps = || fetchers.iter().map(|thread| voluntary_switches(*thread)).sum::<u64>();
    let (before, fetches) = (sleeps(), cluster.request_count(Api::Fetch));
    assert!(consumer.poll(ms(3000)).unwrap().is_empty());
    let (slept, asked) = (sleeps() - before, cluster.request_count(Api::Fetch) - fetches);
    // Six long polls of each broker, and one that was under way.
    assert!((9..=21).contains(&asked), "{asked} fetches");
    assert!(slept <= 4 * asked, "{slept} wake-ups for {asked} fetches");
    assert_no_panics();
}

#[test]
fn an_error_that_time_cannot_cure_is_told_once_and_ends_the_loop() {
    let _beside = beside();
    let cluster = one_topic("t", 2);
    write(&cluster, 0, 0, 3);
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    take(&mut consumer, 3);
    cluster.deny_topic("t", true);
    let mut errors = 0;
    for record in consumer.records() {
        let error = record.unwrap_err();
        assert_eq!(error.code(), Some(kafka_blocking::ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        errors += 1;
    }
    assert_eq!(errors, 2, "one for each partition, and then nothing can come");
    assert!(consumer.poll(ms(100)).unwrap().is_empty());
    // A seek begins anew.
    cluster.deny_topic("t", false);
    consumer.handle().seek(&partition(0), Start::Offset(1)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 2)), [1, 2]);
    assert_no_panics();
}

#[test]
fn a_broker_that_answers_at_once_and_brings_nothing_is_not_asked_without_a_pause() {
    let _beside = beside();
    let cluster = one_topic("t", 1);
    let throttled = cluster.inject(On::api(Api::Fetch).always(), Fault::Error(kafka_blocking::ErrorCode::NONE));
    let mut consumer = consumer(&cluster)
        .retry_backoff(ms(100))
        .retry_backoff_max(ms(100))
        .assign_topic("t", Start::Beginning)
        .build()
        .unwrap();
    assert!(consumer.poll(ms(2000)).unwrap().is_empty());
    let fired = throttled.fired();
    assert!((5..60).contains(&fired), "{fired} fetches in two seconds");
    throttled.cancel();
    write(&cluster, 0, 0, 1);
    assert_eq!(offsets(&take(&mut consumer, 1)), [0]);
    assert_no_panics();
}
