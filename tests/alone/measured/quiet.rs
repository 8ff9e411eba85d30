//! Threads that have nothing to do sleep.

use std::collections::HashMap;
use std::thread;
use std::time::{Duration, Instant};

use crate::common::*;
use crate::{alone, voluntary_switches};

/// How often each thread has gone to sleep. All have their names: one that has had nothing to do may not have its yet.
fn switches(threads: usize) -> HashMap<String, u64> {
    until("all threads are there", || kafka_threads().len() == threads);
    kafka_threads().into_iter().map(|(thread, name)| (name, voluntary_switches(thread))).collect()
}

/// Has `threads` threads sleep for `time`, except for so many wake-ups. What was to be done before may still be done, and
/// a machine that stands still moves that into a later time, so a few are tried; who wakes by a clock is never quiet.
#[track_caller]
fn assert_sleep(threads: usize, time: Duration, wakes: u64, mut begin: impl FnMut()) {
    let mut seen = Vec::new();
    for _ in 0..6 {
        let before = switches(threads);
        begin();
        thread::sleep(time);
        let woken = switches(threads).into_iter().map(|(name, count)| (count - before[&name], name));
        let woken: Vec<_> = woken.filter(|(count, _)| *count > 0).collect();
        if woken.iter().map(|(count, _)| count).sum::<u64>() <= wakes {
            return;
        }
        seen.push(woken);
    }
    panic!("threads woke in each {time:?} with nothing to do: {seen:?}");
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
    assert_sleep(9, ms(3000), 2, || {});
    close(&producer);
}

#[test]
fn a_producer_that_waits_for_its_linger_sleeps() {
    let _alone = alone();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    thread::sleep(ms(100));
    let (mut sent, mut numbers) = (Vec::new(), 1..);
    assert_sleep(5, ms(1000), 3, || {
        succeed(&sent);
        thread::sleep(ms(100));
        sent = numbers.by_ref().take(100).map(|number| send(&producer, "t", 0, number)).collect();
    });
    assert!(sent.iter().all(|delivery| !delivery.is_done()));
    succeed(&sent);
    assert_once_in_order(&cluster, "t", 0, numbers.start);
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
    let (before, started) = (switches(5), Instant::now());
    let before_requests = producer.metrics().requests_sent;
    let requests = || producer.metrics().requests_sent - before_requests;
    let mut sent = Vec::new();
    for number in 1.. {
        sent.push(send(&producer, "t", 0, number));
        thread::sleep(ms(1));
        // On a machine that stands still a batch may take many.
        if number >= 1000 && requests() >= 20 {
            break;
        }
        assert!(started.elapsed() < BOUND, "{} requests for {number} records", requests());
    }
    let after = switches(5);
    let requests = requests();
    let windows = started.elapsed().as_millis() as u64 / linger.as_millis() as u64;
    succeed(&sent);
    let sender = after["kafka-sender-1"] - before["kafka-sender-1"];
    let reader = after["kafka-reader-1"] - before["kafka-reader-1"];
    assert!(requests <= windows + 5, "{requests} requests in {windows} windows");
    // A window's first record rings, its end is a deadline, its answer comes.
    assert!(sender <= 3 * windows + 20, "the sender went to sleep {sender} times in {windows} windows");
    assert!(reader <= 3 * windows + 20, "the reader went to sleep {reader} times in {windows} windows");
    assert_once_in_order(&cluster, "t", 0, sent.len() as u64 + 1);
    close(&producer);
}

#[test]
fn producers_that_wait_for_a_broker_that_hangs_sleep() {
    let _alone = alone();
    let cluster = one_topic("t", 1);
    // Nothing of it is given up meanwhile.
    let producer = quick(&cluster).request_timeout(HOUR).delivery_timeout(2 * HOUR).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    cluster.pause(kafka_blocking::BrokerId(1));
    let sent = send_all(&producer, "t", 0, 5, 200);
    thread::sleep(ms(100));
    assert_sleep(5, ms(1000), 3, || {});
    assert!(sent.iter().all(|delivery| !delivery.is_done()));
    cluster.resume(kafka_blocking::BrokerId(1));
    succeed(&sent);
    assert_once_in_order(&cluster, "t", 0, 200);
    close(&producer);
}
