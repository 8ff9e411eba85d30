//! Threads that have nothing to do sleep.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::Record;

use crate::common::*;

fn switches() -> HashMap<String, u64> {
    kafka_threads().into_iter().map(|(thread, name)| (name, voluntary_switches(thread))).collect()
}

#[test]
fn an_idle_producer_sleeps() {
    let _alone = alone();
    let cluster = three_brokers("t", 6);
    let producer = quick(&cluster).build().unwrap();
    for partition in 0..6 {
        succeed(&send_all(&producer, "t", partition, 0, 50));
    }
    // What the last answers have set going.
    thread::sleep(ms(200));
    let before = switches();
    assert!(before.len() >= 9, "{before:?}");
    thread::sleep(ms(3000));
    let after = switches();
    let woken: Vec<_> =
        after.iter().map(|(name, count)| (name, count - before[name])).filter(|(_, count)| *count > 0).collect();
    let total: u64 = woken.iter().map(|(_, count)| count).sum();
    assert!(total <= 2, "threads woke {total} times in 3 s with nothing to do: {woken:?}");
    close(&producer);
}

#[test]
fn a_producer_that_waits_for_its_linger_sleeps() {
    let _alone = alone();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).linger(ms(1500)).build().unwrap();
    let first = send(&producer, "t", 0, 0);
    succeed(&[first]);
    thread::sleep(ms(100));
    let before = switches();
    let sent = send_all(&producer, "t", 0, 1, 100);
    thread::sleep(ms(1000));
    assert!(!sent[0].is_done());
    let woken: u64 = switches().iter().map(|(name, count)| count - before[name]).sum();
    assert!(woken <= 3, "threads woke {woken} times for an open batch");
    assert!(sent.iter().all(|delivery| !delivery.is_done()));
    until("the linger is over", || sent.iter().all(|delivery| delivery.is_done()));
    succeed(&sent);
    assert_once_in_order(&cluster, "t", 0, 100);
    close(&producer);
}

#[test]
fn a_steady_trickle_wakes_the_sender_a_few_times_a_linger() {
    let _alone = alone();
    let cluster = one_topic("t", 1);
    let linger = ms(5);
    let producer = quick(&cluster).linger(linger).build().unwrap();
    let first = send(&producer, "t", 0, 0);
    succeed(&[first]);
    thread::sleep(ms(50));
    let (before, started) = (switches(), Instant::now());
    let requests = producer.metrics().requests_sent;
    let mut sent = Vec::new();
    for number in 1..1001 {
        sent.push(producer.send(Record::to("t").partition(0).value(number.to_string())));
        let due = started + Duration::from_millis(number);
        thread::sleep(due.saturating_duration_since(Instant::now()));
    }
    let after = switches();
    let windows = started.elapsed().as_millis() as u64 / linger.as_millis() as u64;
    let requests = producer.metrics().requests_sent - requests;
    succeed(&sent);
    let sender = after["kafka-sender-1"] - before["kafka-sender-1"];
    let reader = after["kafka-reader-1"] - before["kafka-reader-1"];
    assert!(requests <= windows + 5, "{requests} requests in {windows} windows");
    // A machine that is busy makes windows longer.
    assert!(requests >= windows / 20, "{requests} requests in {windows} windows");
    // A window's first record rings, its end is a deadline, its answer comes.
    assert!(sender <= 3 * windows + 20, "the sender went to sleep {sender} times in {windows} windows");
    assert!(reader <= 3 * windows + 20, "the reader went to sleep {reader} times in {windows} windows");
    assert_once_in_order(&cluster, "t", 0, 1001);
    close(&producer);
}

#[test]
fn producers_that_wait_for_a_broker_that_hangs_sleep() {
    let _alone = alone();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    cluster.pause(kafka_blocking::BrokerId(1));
    let sent = send_all(&producer, "t", 0, 5, 200);
    thread::sleep(ms(100));
    let before = switches();
    thread::sleep(ms(1000));
    let woken: u64 = switches().iter().map(|(name, count)| count - before[name]).sum();
    assert!(woken <= 3, "threads woke {woken} times in a second of waiting");
    cluster.resume(kafka_blocking::BrokerId(1));
    succeed(&sent);
    assert_once_in_order(&cluster, "t", 0, 200);
    close(&producer);
}
