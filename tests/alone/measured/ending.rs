//! Whatever a producer is closed in, its threads and sockets end.

use std::thread;
use std::time::Instant;

use kafka_blocking::testing::{FakeCluster, Fault, On};
use kafka_blocking::{BrokerId, Delivery, ErrorKind, Producer, Record, Written};

use crate::common::*;
use crate::support::logger::stand_still_at;
use crate::{alone, assert_no_threads, open_descriptors};

const BROKER: BrokerId = BrokerId(1);

#[test]
fn threads_and_sockets_are_back_to_the_start_after_close_again_and_again() {
    let _alone = alone();
    let cluster = three_brokers("t", 3);
    let settled = |wanted: usize| {
        until("the descriptors are closed", || {
            cluster.brokers().into_iter().all(|broker| cluster.connection_count(broker) == 0)
                && open_descriptors() <= wanted
        });
    };
    let descriptors = open_descriptors();
    for round in 0..50 {
        let producer = quick(&cluster).build().unwrap();
        for partition in 0..3 {
            succeed(&send_all(&producer, "t", partition, 5 * round, 5 * round + 5));
        }
        // A thread that has had nothing to do may not have its name yet.
        until("all threads are there", || kafka_threads().len() >= 9);
        match round % 3 {
            0 => close(&producer),
            1 => drop(producer),
            _ => {
                for broker in cluster.brokers() {
                    cluster.cut_connections(broker);
                }
                close(&producer);
            }
        }
        assert_no_threads();
        settled(descriptors);
    }
    for partition in 0..3 {
        assert_once_in_order(&cluster, "t", partition, 250);
    }
    assert_no_refusals(&cluster);
}

#[test]
fn threads_are_gone_after_a_close_that_could_not_deliver() {
    let _alone = alone();
    for _ in 0..5 {
        let cluster = one_topic("t", 1);
        let producer = quick(&cluster).build().unwrap();
        succeed(&send_all(&producer, "t", 0, 0, 5));
        cluster.pause(BROKER);
        let sent = send_all(&producer, "t", 0, 5, 50);
        thread::sleep(ms(20));
        producer.close_timeout(ms(50)).unwrap_err();
        assert_no_threads();
        assert!(sent.iter().all(Delivery::is_done));
    }
}

#[test]
fn close_tells_what_is_lost_though_a_thread_of_the_producer_stands_still() {
    let _alone = alone();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    cluster.pause(BROKER);
    let requests = producer.metrics().requests_sent;
    let lost = send(&producer, "t", 0, 1);
    until("it is in flight", || producer.metrics().requests_sent > requests);
    let late = stand_still_at("the connection ended");
    cluster.cut_connections(BROKER);
    late.recv_timeout(BOUND).unwrap();
    let undelivered = producer.close_timeout(ms(50));
    log::set_max_level(log::LevelFilter::Off);
    assert_eq!(undelivered.unwrap_err().records(), 1);
    let error = lost.try_wait().expect("everything has its result when close returns").unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Closed, "{error}");
    assert_no_threads();
}

#[test]
fn closing_tells_what_is_lost_although_a_sender_is_late() {
    let _alone = alone();
    // No other test here has as many brokers.
    let late = stand_still_at("broker 9: the sender starts");
    let cluster = FakeCluster::builder().brokers(9).topic("late", 9).start().unwrap();
    // Full batches are the sender's.
    let producer = Producer::builder(cluster.bootstrap()).batch_records(1).build().unwrap();
    producer.partitions_for("late").unwrap();
    let leader = cluster.leader("late", 8).unwrap();
    assert_eq!(leader.map(|broker| broker.to_string()).as_deref(), Some("9"));
    let lost: Vec<Delivery> = (0..3).map(|_| producer.send(Record::to("late").partition(8).value("v"))).collect();
    late.recv_timeout(BOUND).unwrap();
    let undelivered = producer.close_timeout(ms(100)).unwrap_err();
    assert_eq!(undelivered.records(), 3, "{undelivered}");
    for delivery in lost {
        let error = delivery.try_wait().unwrap().unwrap_err();
        assert_eq!((error.kind(), error.written()), (ErrorKind::Closed, Some(Written::No)));
    }
    assert_eq!(cluster.record_count("late"), 0);
}

#[test]
fn a_close_ends_a_wait_that_reads_the_answer_itself() {
    let _alone = alone();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    let hang = cluster.inject(On::produce().topic("t"), Fault::Hang);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| failure(&send(&producer, "t", 0, 1)));
        assert!(hang.wait_fired(1, BOUND));
        let begun = Instant::now();
        let undelivered = producer.close_timeout(ms(100)).unwrap_err();
        assert_eq!(undelivered.records(), 1);
        assert_eq!(waiter.join().unwrap().kind(), ErrorKind::Closed);
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
    });
    assert_no_threads();
    assert_no_panics();
}
