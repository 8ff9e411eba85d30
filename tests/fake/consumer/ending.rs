//! How waits and loops end.

use std::time::Instant;

use kafka_blocking::Start;
use kafka_blocking::testing::{Api, Fault, On};

use super::*;

#[test]
fn a_wake_ends_one_wait_also_one_that_has_not_begun() {
    watch_for_panics();
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
fn an_error_that_time_cannot_cure_is_told_once_and_ends_the_loop() {
    watch_for_panics();
    let cluster = one_topic("t", 2);
    write(&cluster, 0, 0, 3);
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    take(&mut consumer, 3);
    cluster.deny_topic("t");
    let mut errors = 0;
    for record in consumer.records() {
        let error = record.unwrap_err();
        assert_eq!(error.code(), Some(kafka_blocking::ErrorCode::TOPIC_AUTHORIZATION_FAILED));
        errors += 1;
    }
    assert_eq!(errors, 2, "one for each partition, and then nothing can come");
    assert!(consumer.poll(ms(100)).unwrap().is_empty());
    // A seek begins anew.
    cluster.allow_topic("t");
    consumer.handle().seek(&partition(0), Start::Offset(1)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 2)), [1, 2]);
    assert_no_panics();
}

#[test]
fn a_broker_that_answers_at_once_and_brings_nothing_is_not_asked_without_a_pause() {
    watch_for_panics();
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
