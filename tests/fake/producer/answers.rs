//! Answers that do not come, or are none.

use std::time::Instant;

use kafka_blocking::testing::{Api, FakeCluster, Fault, On};
use kafka_blocking::{Acks, Record};

use crate::common::*;

const PARTITIONS: i32 = 6;

/// Sends `total` records over all partitions, and drops many of the answers.
fn send_through_drops(cluster: &FakeCluster, idempotent: bool, total: u64) -> usize {
    let drops = cluster.inject(On::produce().topic("t").always().chance(0.06), Fault::DropAnswer);
    let builder = quick(cluster).batch_records(100);
    let builder = if idempotent { builder } else { builder.idempotence(false).acks(Acks::Leader) };
    let producer = builder.build().unwrap();
    let mut sent = Vec::new();
    for number in 0..total {
        let (partition, number) = ((number % PARTITIONS as u64) as i32, number / PARTITIONS as u64);
        sent.push(send(&producer, "t", partition, number));
    }
    succeed(&sent);
    drops.cancel();
    close(&producer);
    assert_no_refusals(cluster);
    drops.fired()
}

#[test]
fn lost_answers_write_nothing_twice_in_a_hundred_thousand_records() {
    watch_for_panics();
    let cluster = three_brokers("t", PARTITIONS as usize);
    let total = 100_000_u64.next_multiple_of(PARTITIONS as u64);
    let drops = send_through_drops(&cluster, true, total);
    assert!(drops >= 15, "only {drops} answers were dropped");
    for partition in 0..PARTITIONS {
        assert_once_in_order(&cluster, "t", partition, total / PARTITIONS as u64);
    }
}

#[test]
fn without_idempotence_lost_answers_write_twice_but_in_order() {
    watch_for_panics();
    let cluster = three_brokers("t", PARTITIONS as usize);
    let total = 30_000;
    let drops = send_through_drops(&cluster, false, total);
    assert!(drops >= 3, "only {drops} answers were dropped");
    let mut again = 0;
    for partition in 0..PARTITIONS {
        let mut found = numbers(&cluster, "t", partition);
        again += repeated(&found);
        found.sort_unstable();
        found.dedup();
        assert_eq!(found.len() as u64, total / PARTITIONS as u64, "no record is lost");
    }
    assert!(again > 0, "{drops} lost answers and no duplicate: the test above proves nothing");
}

#[test]
fn swapped_answers_end_the_connection_and_write_nothing_twice() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 4));
    let fault = cluster.inject(On::produce().topic("t").skip(2).times(3), Fault::SwapAnswers);
    succeed(&send_all(&producer, "t", 0, 4, 60));
    assert!(fault.fired() >= 1);
    assert!(producer.metrics().connections_lost >= 1);
    assert_once_in_order(&cluster, "t", 0, 60);
    assert_refused_behind(&cluster, 3);
    close(&producer);
}

#[test]
fn an_answer_that_hangs_is_given_up_after_the_request_timeout() {
    watch_for_panics();
    for timeout in [ms(500), ms(1500)] {
        let cluster = one_topic("t", 1);
        let producer = quick(&cluster).batch_records(1).request_timeout(timeout).build().unwrap();
        succeed(&send_all(&producer, "t", 0, 0, 4));
        let lost = producer.metrics().connections_lost;
        let fault = cluster.inject(On::produce().topic("t"), Fault::Hang);
        let started = Instant::now();
        let sent = send_all(&producer, "t", 0, 4, 30);
        until("the connection is given up", || producer.metrics().connections_lost > lost);
        let noticed = started.elapsed();
        assert!(noticed >= timeout, "given up after {noticed:?}");
        assert!(noticed < timeout + AT_ONCE, "given up after {noticed:?}");
        succeed(&sent);
        assert_eq!(fault.fired(), 1);
        assert_once_in_order(&cluster, "t", 0, 30);
        // A machine that stands still lets a good answer come too late as well.
        assert_refused_too_late(&cluster);
        close(&producer);
    }
}

#[test]
fn hanging_metadata_and_producer_ids_are_given_up_too() {
    watch_for_panics();
    for api in [Api::Metadata, Api::InitProducerId] {
        let cluster = three_brokers("t", 1);
        let fault = cluster.inject(On::api(api), Fault::Hang);
        let producer = quick(&cluster).request_timeout(ms(500)).build().unwrap();
        let started = Instant::now();
        succeed(&send_all(&producer, "t", 0, 0, 3));
        assert!((ms(500)..AT_ONCE).contains(&started.elapsed()), "{api}: {:?}", started.elapsed());
        assert_eq!(fault.fired(), 1);
        assert_once_in_order(&cluster, "t", 0, 3);
        assert_no_refusals(&cluster);
        close(&producer);
    }
}

#[test]
fn a_late_answer_is_still_an_answer() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).build().unwrap();
    let fault = cluster.inject(On::produce().topic("t").skip(2).times(5), Fault::Delay(ms(60)));
    succeed(&send_all(&producer, "t", 0, 0, 30));
    assert_eq!(fault.fired(), 5);
    assert_eq!((producer.metrics().connections_lost, producer.metrics().batches_retried), (0, 0));
    assert_once_in_order(&cluster, "t", 0, 30);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn connections_that_are_cut_again_and_again_cost_nothing_but_time() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer = quick(&cluster).batch_records(10).build().unwrap();
    let (mut sent, mut numbers) = (Vec::new(), 0..);
    let mut send_next = || {
        let number = numbers.next().unwrap();
        sent.extend((0..3).map(|partition| send(&producer, "t", partition, number)));
        number
    };
    for _ in 0..30 {
        for _ in 0..100 {
            send_next();
        }
        let lost = producer.metrics().connections_lost;
        // A connection that is cut is missed when something is to be sent over it.
        until("a cut is noticed", || {
            cluster.brokers().into_iter().for_each(|broker| cluster.cut_connections(broker));
            send_next();
            producer.metrics().connections_lost > lost
        });
    }
    let count = send_next() + 1;
    succeed(&sent);
    for partition in 0..3 {
        assert_once_in_order(&cluster, "t", partition, count);
    }
    close(&producer);
}

#[test]
fn throttling_is_honoured() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).max_in_flight(1).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 3));
    let fault = cluster.inject(On::produce().topic("t"), Fault::Throttle(400));
    let sent = send_all(&producer, "t", 0, 3, 6);
    succeed(&sent);
    assert_eq!(fault.fired(), 1);
    assert_eq!(producer.metrics().throttled, ms(400));
    let seen: Vec<_> = cluster.requests().into_iter().filter(|request| request.api == Api::Produce).collect();
    let pause = seen[4].at - seen[3].at;
    assert!((ms(390)..AT_ONCE).contains(&pause), "paused for {pause:?}");
    assert_once_in_order(&cluster, "t", 0, 6);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn throttling_does_not_outlive_the_delivery_timeout() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster)
        .batch_records(1)
        .max_in_flight(1)
        .request_timeout(ms(2500))
        .delivery_timeout(ms(3000))
        .build()
        .unwrap();
    let fault = cluster.inject(On::produce().topic("t"), Fault::Throttle(i32::MAX));
    succeed(&send_all(&producer, "t", 0, 0, 1));
    let started = Instant::now();
    let error = failure(&producer.send(Record::to("t").partition(0).value("1")));
    assert!(started.elapsed() < ms(3000) + AT_ONCE, "{:?}", started.elapsed());
    assert_eq!(error.written(), Some(kafka_blocking::Written::No), "{error}");
    assert_eq!(fault.fired(), 1);
    assert_once_in_order(&cluster, "t", 0, 1);
    assert_no_refusals(&cluster);
    close(&producer);
}
