//! Threads that wait for their records drive the broker's link themselves while nobody else needs it. Whatever happens
//! then, nothing is lost, doubled or late.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::{Fault, On};
use kafka_blocking::{BrokerId, Delivery, ErrorKind, Producer, Timeout};

use crate::common::*;

const BROKER: BrokerId = BrokerId(1);

/// Sends `count` records to one partition, and waits for them in every way there is.
fn send_and_wait(producer: &Producer, partition: i32, count: u64) {
    let mut left = Vec::new();
    for number in 0..count {
        let delivery = send(producer, "t", partition, number);
        match number % 7 {
            // Left on its way; the next wait for this partition takes it along.
            0 | 1 => left.push(delivery),
            // A wait that may end at any place, with the answer half read or the link in others' hands.
            2 => match delivery.wait_timeout(Duration::from_micros(37 * (number % 61))) {
                Some(result) => drop(result.unwrap()),
                None => left.push(delivery),
            },
            _ => drop(succeed(&[delivery])),
        }
    }
    succeed(&left);
}

#[test]
fn waits_of_many_threads_lose_nothing_while_answers_are_lost_and_late_and_connections_cut() {
    const THREADS: i32 = 8;
    const COUNT: u64 = 700;
    watch_for_panics();
    let cluster = three_brokers("t", THREADS as usize);
    let producer = patient(&cluster).build().unwrap();
    let produce = || On::produce().topic("t").always();
    let faults = [
        cluster.inject(produce().chance(0.01), Fault::DropAnswer),
        cluster.inject(produce().chance(0.01), Fault::CutBefore),
        cluster.inject(produce().chance(0.005), Fault::Truncate(9)),
        cluster.inject(produce().chance(0.02), Fault::Delay(ms(3))),
    ];
    let waiting = AtomicBool::new(true);
    thread::scope(|scope| {
        scope.spawn(|| {
            // Leaders move, so that queues leave a link in the middle of a wait.
            let brokers = cluster.brokers();
            for round in 0.. {
                if !waiting.load(Ordering::Relaxed) {
                    break;
                }
                let partition = round % THREADS;
                cluster.move_leader("t", partition, brokers[(round / THREADS) as usize % brokers.len()]).unwrap();
                thread::sleep(ms(20));
            }
        });
        let producer = &producer;
        let threads: Vec<_> =
            (0..THREADS).map(|own| scope.spawn(move || send_and_wait(producer, own, COUNT))).collect();
        for thread in threads {
            thread.join().unwrap();
        }
        waiting.store(false, Ordering::Relaxed);
    });
    for fault in &faults {
        assert!(fault.fired() > 0);
        fault.cancel();
    }
    close(&producer);
    for partition in 0..THREADS {
        assert_once_in_order(&cluster, "t", partition, COUNT);
    }
    assert_no_refusals(&cluster);
}

#[test]
fn threads_that_wait_on_one_partition_share_its_batches() {
    const THREADS: u64 = 16;
    const COUNT: u64 = 300;
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    thread::scope(|scope| {
        for own in 0..THREADS {
            let producer = &producer;
            scope.spawn(move || {
                for number in 0..COUNT {
                    succeed(&[send(producer, "t", 0, own * COUNT + number)]);
                }
            });
        }
    });
    let mut found = numbers(&cluster, "t", 0);
    for own in 0..THREADS {
        assert!(
            found.iter().filter(|number| *number / COUNT == own).is_sorted(),
            "a thread's records keep their order"
        );
    }
    found.sort_unstable();
    assert!(found.into_iter().eq(0..THREADS * COUNT));
    let metrics = producer.metrics();
    assert!(metrics.requests_sent < THREADS * COUNT / 2, "{} requests", metrics.requests_sent);
    close(&producer);
    assert_no_refusals(&cluster);
}

#[test]
fn a_wait_that_ends_early_leaves_its_record_on_its_way() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    cluster.pause(BROKER);
    let seen = producer.metrics().requests_sent;
    let begun = Instant::now();
    let delivery = send(&producer, "t", 0, 1);
    assert!(delivery.wait_timeout(ms(50)).is_none());
    let waited = begun.elapsed();
    assert!(waited >= ms(50) && waited < AT_ONCE, "{waited:?}");
    until("the request is written", || producer.metrics().requests_sent == seen + 1);
    assert!(!delivery.is_done());
    cluster.resume(BROKER);
    // Nobody waits for it any more.
    until("the answer is read", || delivery.is_done());
    succeed(&[delivery]);
    close(&producer);
    assert_once_in_order(&cluster, "t", 0, 2);
}

#[test]
fn behind_a_late_answer_of_a_quick_broker_nothing_waits_for_it() {
    watch_for_panics();
    let cluster = one_topic("t", 6);
    for batch_records in [1, 1000] {
        // Full batches, and such as are due without being full.
        let producer = quick(&cluster).linger(Duration::ZERO).batch_records(batch_records).build().unwrap();
        for partition in 0..6 {
            succeed(&[send(&producer, "t", partition, 0)]);
        }
        // There is a machine where none is. Then nothing waits anyway.
        let begun = Instant::now();
        let mut is_quick = false;
        while !is_quick && begun.elapsed() < AT_ONCE {
            let begun = Instant::now();
            succeed(&[send(&producer, "t", 0, 0)]);
            is_quick = begun.elapsed() < Duration::from_micros(450);
        }
        // The broker's answers are late until it goes on.
        cluster.pause(BROKER);
        let seen = producer.metrics().requests_sent;
        let mut sent = vec![send(&producer, "t", 0, 1)];
        until("the first request is written", || producer.metrics().requests_sent == seen + 1);
        for (partition, requests) in (1..5).zip(2..) {
            sent.push(send(&producer, "t", partition, 0));
            until("the next request is written", || producer.metrics().requests_sent == seen + requests);
        }
        assert!(!sent.iter().any(Delivery::is_done));
        // As many are in flight as may be. What comes now waits, and keeps nobody awake.
        sent.push(send(&producer, "t", 5, 0));
        assert_eq!(producer.metrics().requests_sent, seen + 5);
        cluster.resume(BROKER);
        succeed(&sent);
        close(&producer);
    }
    assert_no_refusals(&cluster);
}

#[test]
fn while_one_thread_reads_a_late_answer_others_send() {
    watch_for_panics();
    let cluster = one_topic("t", 2);
    let producer = patient(&cluster).build().unwrap();
    for partition in 0..2 {
        succeed(&[send(&producer, "t", partition, 0)]);
    }
    cluster.pause(BROKER);
    let seen = producer.metrics().requests_sent;
    thread::scope(|scope| {
        let first = scope.spawn(|| succeed(&[send(&producer, "t", 0, 1)]));
        until("the first request is written", || producer.metrics().requests_sent == seen + 1);
        let second = scope.spawn(|| succeed(&[send(&producer, "t", 1, 1)]));
        // The answer to the first is late, and so is the broker's look at the second. But it leaves the client.
        until("the second request is written", || producer.metrics().requests_sent == seen + 2);
        assert!(!first.is_finished());
        cluster.resume(BROKER);
        first.join().unwrap();
        second.join().unwrap();
    });
    close(&producer);
    assert_no_refusals(&cluster);
}

#[test]
fn a_record_expires_on_time_though_its_own_thread_reads_the_answer() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let builder = quick(&cluster).request_timeout(ms(2800)).delivery_timeout(ms(3000));
    let producer = builder.build().unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    let hang = cluster.inject(On::produce().topic("t").always(), Fault::Hang);
    let begun = Instant::now();
    let error = failure(&send(&producer, "t", 0, 1));
    let waited = begun.elapsed();
    assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Delivery), "{error}");
    assert!(waited >= ms(2950) && waited < AT_ONCE, "{waited:?}");
    assert!(hang.fired() >= 1);
    close(&producer);
}

#[test]
fn a_handle_that_outlives_its_producer_is_waited_for_in_peace() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    let delivery = send(&producer, "t", 0, 1);
    drop(producer);
    succeed(&[delivery]);
    assert_once_in_order(&cluster, "t", 0, 2);
}
