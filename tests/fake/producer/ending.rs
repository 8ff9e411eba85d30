//! Close, drop and what is left.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread;
use std::time::Instant;

use kafka_blocking::testing::{FakeCluster, Fault, On};
use kafka_blocking::{BrokerId, Delivery, ErrorKind, Record, Timeout, TopicPartition, Written};

use crate::common::*;

const BROKER: BrokerId = BrokerId(1);

#[test]
fn close_with_a_broker_that_hangs_returns_in_time_and_tells_what_is_lost_by_partition() {
    watch_for_panics();
    let cluster = one_topic("t", 3);
    let producer = quick(&cluster).batch_records(10).build().unwrap();
    for partition in 0..3 {
        succeed(&send_all(&producer, "t", partition, 0, 5));
    }
    cluster.pause(BROKER);
    let requests = producer.metrics().requests_sent;
    let sent = [send_all(&producer, "t", 0, 5, 205), send_all(&producer, "t", 1, 5, 8)];
    until("some are in flight", || producer.metrics().requests_sent > requests);
    let started = Instant::now();
    let undelivered = producer.close_timeout(ms(300)).unwrap_err();
    let took = started.elapsed();
    assert!((ms(290)..AT_ONCE).contains(&took), "{took:?}");
    let lost = |partition| {
        undelivered.partitions().get(&TopicPartition { topic: "t".into(), index: partition }).copied().unwrap_or(0)
    };
    assert_eq!((lost(0), lost(1), lost(2)), (200, 3, 0), "{undelivered}");
    assert_eq!(undelivered.records(), 203);
    let mut unwritten = Vec::new();
    for (delivery, number) in sent[0].iter().zip(5..) {
        let error = delivery.try_wait().expect("everything has its result when close returns").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
        if error.written() == Some(Written::No) {
            unwritten.push(number);
        }
    }
    assert!(sent[1].iter().all(Delivery::is_done));
    assert!((150..200).contains(&unwritten.len()), "{} of 200 are certainly not written", unwritten.len());
    assert_eq!(producer.metrics().buffer_bytes_used, 0);
    assert_eq!(failure(&send(&producer, "t", 0, 0)).kind(), ErrorKind::Closed);
    cluster.resume(BROKER);
    until("the connections are gone", || cluster.connection_count(BROKER) == 0);
    let found = numbers(&cluster, "t", 0);
    assert_eq!(repeated(&found), 0);
    assert!(found.iter().all(|number| !unwritten.contains(number)), "{found:?}");
    assert_no_panics();
}

#[test]
fn close_of_nothing_is_quick_whatever_the_cluster_does() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let unused = quick(&cluster).build().unwrap();
    let used = quick(&cluster).build().unwrap();
    succeed(&send_all(&used, "t", 0, 0, 5));
    cluster.pause(BROKER);
    let asking = quick(&cluster).build().unwrap();
    assert_eq!(asking.try_send(Record::to("t").value("x")).unwrap_err().error().kind(), ErrorKind::WouldBlock);
    for producer in [unused, used, asking] {
        let started = Instant::now();
        close(&producer);
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    }
}

#[test]
fn two_closes_at_once_both_wait_for_the_end() {
    watch_for_panics();
    for _ in 0..20 {
        let cluster = one_topic("t", 1);
        let producer = quick(&cluster).linger(ms(30)).build().unwrap();
        let sent = send_all(&producer, "t", 0, 0, 100);
        let start = Barrier::new(2);
        thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    start.wait();
                    producer.close_timeout(BOUND).unwrap();
                    assert!(sent.iter().all(Delivery::is_done));
                });
            }
        });
        succeed(&sent);
        assert_once_in_order(&cluster, "t", 0, 100);
        assert_no_refusals(&cluster);
        close(&producer);
    }
}

#[test]
fn a_send_that_races_close_is_accepted_and_resolved_or_refused() {
    // The rounds mostly wait, for threads that begin and end.
    const LANES: usize = 8;
    watch_for_panics();
    let (acknowledged, refused) = (AtomicUsize::new(0), AtomicUsize::new(0));
    // The race has both ends: on some machines one of them is rare.
    let begun = Instant::now();
    let has_both = || acknowledged.load(Ordering::Relaxed) > 0 && refused.load(Ordering::Relaxed) > 0;
    at_once(0..LANES, |_| {
        let cluster = one_topic("t", 1);
        let mut written = Vec::new();
        let mut rounds = 0..;
        while rounds.start < (2000 / LANES) as u64 || (!has_both() && begun.elapsed() < BOUND) {
            let (acknowledges, refuses) = race_a_send_with_close(&cluster, rounds.next().unwrap());
            acknowledged.fetch_add(acknowledges.len(), Ordering::Relaxed);
            refused.fetch_add(refuses, Ordering::Relaxed);
            written.extend(acknowledges);
        }
        assert_eq!(numbers(&cluster, "t", 0), written, "what was acknowledged is there, and nothing else");
        assert_no_refusals(&cluster);
    });
    assert!(has_both(), "{acknowledged:?} to {refused:?}");
    assert_no_panics();
}

/// Answers which records were acknowledged, and how many were refused.
fn race_a_send_with_close(cluster: &FakeCluster, round: u64) -> (Vec<u64>, usize) {
    let producer = quick(cluster).build().unwrap();
    if round.is_multiple_of(2) {
        // Half of them race over a known topic.
        producer.partitions_for("t").unwrap();
    }
    let start = Barrier::new(2);
    let sent = thread::scope(|scope| {
        let sender = scope.spawn(|| {
            start.wait();
            send_all(&producer, "t", 0, 4 * round, 4 * round + 4)
        });
        start.wait();
        if round % 4 < 2 {
            thread::yield_now();
        }
        producer.close_timeout(BOUND).unwrap();
        sender.join().unwrap()
    });
    let (mut acknowledged, mut refused) = (Vec::new(), 0);
    for (delivery, number) in sent.iter().zip(4 * round..) {
        match delivery.try_wait() {
            None => panic!("record {number} has no result after close"),
            Some(Ok(_)) => acknowledged.push(number),
            Some(Err(error)) => {
                assert_eq!((error.kind(), error.written()), (ErrorKind::Closed, Some(Written::No)), "{error}");
                refused += 1;
            }
        }
    }
    assert_eq!(producer.metrics().buffer_bytes_used, 0);
    (acknowledged, refused)
}

#[test]
fn dropping_the_last_handle_delivers_what_was_sent() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    let clone = producer.clone();
    let sent = send_all(&producer, "t", 0, 0, 100);
    drop(producer);
    assert!(!sent[0].is_done(), "a clone is left, and the linger is long");
    let started = Instant::now();
    drop(clone);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    succeed(&sent);
    assert_once_in_order(&cluster, "t", 0, 100);
    assert_no_refusals(&cluster);
}

#[test]
fn handles_outlive_the_producer() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    let mut sent = send_all(&producer, "t", 0, 1, 10);
    let fault = cluster.inject(On::produce().topic("t").always(), Fault::CutBefore);
    let lost = send(&producer, "t", 0, 10);
    assert!(fault.wait_fired(1, BOUND));
    producer.close_timeout(ms(200)).unwrap_err();
    drop(producer);
    drop(cluster);
    // Some of the first may have met the fault, too.
    assert!(sent.iter().all(Delivery::is_done));
    let (told, tell) = mpsc::channel();
    lost.on_complete(move |result| told.send(result).unwrap());
    assert_eq!(tell.recv_timeout(BOUND).unwrap().unwrap_err().kind(), ErrorKind::Closed);
    let (told, tell) = mpsc::channel();
    sent.remove(0).on_complete(move |result| told.send(result.is_ok()).unwrap());
    tell.recv_timeout(BOUND).unwrap();
    assert!(sent.remove(0).wait_timeout(BOUND).is_some());
    drop(sent.remove(0).wait());
}

#[test]
fn a_callback_may_close_the_producer() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    let (told, tell) = mpsc::channel();
    let inner = producer.clone();
    producer.send_with(kafka_blocking::Record::to("t").partition(0).value("1"), move |result| {
        let started = Instant::now();
        let closed = inner.close_timeout(BOUND).is_ok();
        told.send((result.is_ok(), closed, started.elapsed())).unwrap();
    });
    let (delivered, closed, took) = tell.recv_timeout(BOUND).unwrap();
    assert!(delivered && closed);
    assert!(took < AT_ONCE, "{took:?}");
    assert_eq!(failure(&send(&producer, "t", 0, 2)).kind(), ErrorKind::Closed);
    close(&producer);
    assert_once_in_order(&cluster, "t", 0, 2);
    assert_no_refusals(&cluster);
}

#[test]
fn a_callback_and_another_thread_may_close_at_once() {
    watch_for_panics();
    for _ in 0..50 {
        let cluster = one_topic("t", 1);
        let producer = quick(&cluster).build().unwrap();
        producer.partitions_for("t").unwrap();
        let inner = producer.clone();
        producer.send_with(kafka_blocking::Record::to("t").partition(0).value("0"), move |_| {
            inner.close_timeout(BOUND).unwrap();
        });
        let started = Instant::now();
        producer.close_timeout(BOUND).unwrap();
        assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
        assert_once_in_order(&cluster, "t", 0, 1);
    }
    assert_no_panics();
}

#[test]
fn a_callback_may_hold_the_last_handle() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    let (told, tell) = mpsc::channel();
    let gate = Arc::new(Barrier::new(2));
    let (inner, inside) = (producer.clone(), Arc::clone(&gate));
    producer.send_with(kafka_blocking::Record::to("t").partition(0).value("0"), move |result| {
        inside.wait();
        // Sent by the handle that is dropped right after.
        let last = send(&inner, "t", 0, 1);
        let started = Instant::now();
        drop(inner);
        told.send((result.is_ok(), last, started.elapsed())).unwrap();
    });
    until("it is written", || cluster.log_len("t", 0).unwrap() == 1);
    drop(producer);
    gate.wait();
    let (delivered, last, took) = tell.recv_timeout(BOUND).unwrap();
    assert!(delivered);
    assert!(took < AT_ONCE, "{took:?}");
    succeed(&[last]);
    assert_once_in_order(&cluster, "t", 0, 2);
    assert_no_refusals(&cluster);
    assert_no_panics();
}

#[test]
fn a_callback_may_flush() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    let (told, tell) = mpsc::channel();
    let inner = producer.clone();
    producer.send_with(kafka_blocking::Record::to("t").partition(0).value("0"), move |_| {
        let later = send(&inner, "t", 0, 1);
        let flushed = inner.flush_timeout(BOUND).is_ok();
        told.send((flushed, later.is_done())).unwrap();
    });
    producer.flush_timeout(BOUND).unwrap();
    assert_eq!(tell.recv_timeout(BOUND).unwrap(), (true, true));
    assert_once_in_order(&cluster, "t", 0, 2);
    close(&producer);
}

#[test]
fn flush_waits_for_every_record_and_its_callback() {
    watch_for_panics();
    let cluster = three_brokers("t", 6);
    let producer = patient(&cluster).build().unwrap();
    let fault = cluster.inject(On::produce().topic("t").times(3), Fault::DropAnswer);
    let told = Arc::new(std::sync::atomic::AtomicU64::new(0));
    for number in 0..600 {
        let told = Arc::clone(&told);
        let record = kafka_blocking::Record::to("t").partition(number % 6).value((number / 6).to_string());
        producer.send_with(record, move |_| {
            told.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        });
    }
    producer.flush_timeout(BOUND).unwrap();
    assert_eq!(producer.metrics().records_acknowledged, 600);
    assert_eq!(told.load(std::sync::atomic::Ordering::Relaxed), 600);
    assert_eq!(fault.fired(), 3);
    for partition in 0..6 {
        assert_once_in_order(&cluster, "t", partition, 100);
    }
    cluster.pause(BROKER);
    let late = send(&producer, "t", 0, 100);
    let other: Vec<_> = (1..6).map(|partition| send(&producer, "t", partition, 100)).collect();
    let started = Instant::now();
    let error = producer.flush_timeout(ms(200)).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(kafka_blocking::Timeout::Flush), "{error}");
    assert!((ms(190)..AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    cluster.resume(BROKER);
    succeed(&[late]);
    succeed(&other);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn only_what_is_about_a_record_says_whether_it_is_written() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).max_request_size(1000).build().unwrap();
    // About records: refused at once, of a batch that is not sent, and of one that takes no more.
    let refused = failure(&producer.send(Record::to("t").value("x".repeat(2000))));
    assert_eq!((refused.kind(), refused.written()), (ErrorKind::RecordTooLarge, Some(Written::No)));
    let mut batch = producer.create_batch();
    let too_large = batch.append("k", "x".repeat(2000)).unwrap_err();
    assert_eq!((too_large.kind(), too_large.written()), (ErrorKind::RecordTooLarge, Some(Written::No)));
    let empty = producer.send_batch(batch, "t", 0).unwrap_err();
    assert_eq!((empty.error().kind(), empty.error().written()), (ErrorKind::InvalidInput, Some(Written::No)));
    // About other things.
    let unnamed = producer.partitions_for("no such name!").unwrap_err();
    assert_eq!((unnamed.kind(), unnamed.written()), (ErrorKind::InvalidInput, None));
    let unbuilt = quick(&cluster).max_request_size(0).build().unwrap_err();
    assert_eq!((unbuilt.kind(), unbuilt.written()), (ErrorKind::Config, None));
    let outside = producer.init_transactions().unwrap_err();
    assert_eq!((outside.kind(), outside.written()), (ErrorKind::Misuse, None));
    producer.partitions_for("t").unwrap();
    cluster.pause(BROKER);
    let late = send(&producer, "t", 0, 0);
    let unflushed = producer.flush_timeout(ms(20)).unwrap_err();
    assert_eq!((unflushed.kind(), unflushed.written()), (ErrorKind::Timeout(Timeout::Flush), None));
    cluster.resume(BROKER);
    succeed(&[late]);
    close(&producer);
}
