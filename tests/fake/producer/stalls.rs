//! A broker that takes nothing for a while, and answers what it has taken.

use kafka_blocking::testing::{FakeCluster, Fault, On};
use kafka_blocking::{BrokerId, Delivery, Producer, ProducerBuilder, Record};

use crate::common::*;

const BROKER: BrokerId = BrokerId(1);

/// A producer that gives no request up.
fn patient_with_requests(cluster: &FakeCluster) -> ProducerBuilder {
    quick(cluster).send_buffer_bytes(32 * 1024).request_timeout(HOUR).delivery_timeout(2 * HOUR)
}

/// Sends a record of some hundred KiB, more than fits into the sockets between client and broker.
fn send_large(producer: &Producer, partition: i32) -> Delivery {
    producer.send(Record::to("t").partition(partition).value(vec![7; 900_000]))
}

/// Has broker 1 lead and know all partitions, so that more than one request may be in flight.
fn warm(cluster: &FakeCluster, producer: &Producer) {
    for partition in 0..3 {
        cluster.move_leader("t", partition, BROKER).unwrap();
        succeed(&[send(producer, "t", partition, 0)]);
    }
}

/// Has broker 1 answer a record of partition 0 a second after it came, and take nothing from then on, until the
/// connection is cut. Answers what was sent again before, and that record's handle.
fn stall(cluster: &FakeCluster, producer: &Producer) -> ((u64, u64), Delivery) {
    warm(cluster, producer);
    let fault = cluster.inject(On::produce().topic("t"), Fault::Stall { answer: ms(1000), pause: HOUR });
    let before = sent_again(producer);
    let delivery = send(producer, "t", 0, 1);
    assert!(fault.wait_fired(1, BOUND));
    (before, delivery)
}

/// How many batches were sent again, and how many connections have ended.
fn sent_again(producer: &Producer) -> (u64, u64) {
    let metrics = producer.metrics();
    (metrics.batches_retried, metrics.connections_lost)
}

#[test]
fn answers_are_taken_while_the_broker_takes_nothing() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer = patient_with_requests(&cluster).build().unwrap();
    let (before, answered) = stall(&cluster, &producer);
    let large: Vec<Delivery> = (0..3).map(|_| send_large(&producer, 1)).collect();
    succeed(&[answered]);
    // It was not sent again over another connection.
    assert_eq!(sent_again(&producer), before);
    assert!(large.iter().all(|delivery| !delivery.is_done()));
    cluster.cut_connections(BROKER);
    succeed(&large);
    assert_once_in_order(&cluster, "t", 0, 2);
    assert_eq!(cluster.records("t", 1).unwrap().len(), 4);
    close(&producer);
    assert_no_refusals(&cluster);
}

#[test]
fn partitions_leave_a_broker_that_takes_nothing() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer = patient_with_requests(&cluster).metadata_max_age(ms(100)).build().unwrap();
    let (before, answered) = stall(&cluster, &producer);
    let large = send_large(&producer, 1);
    succeed(&[answered]);
    cluster.move_leader("t", 2, BrokerId(2)).unwrap();
    succeed(&[send(&producer, "t", 2, 1)]);
    assert_eq!(sent_again(&producer), before);
    assert!(!large.is_done());
    cluster.cut_connections(BROKER);
    succeed(&[large]);
    assert_once_in_order(&cluster, "t", 2, 2);
    close(&producer);
    assert_no_refusals(&cluster);
}

#[test]
fn an_answer_is_taken_although_the_next_request_breaks_the_connection() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer = patient_with_requests(&cluster).build().unwrap();
    warm(&cluster, &producer);
    // The whole answer, and then the end of the connection, in the middle of the next request.
    let fault = cluster.inject(On::produce().topic("t"), Fault::Truncate(usize::MAX));
    cluster.pause(BROKER);
    let (before, requests) = (sent_again(&producer), producer.metrics().requests_sent);
    let answered = send(&producer, "t", 0, 1);
    until("the request is on its way", || producer.metrics().requests_sent == requests + 1);
    let large = send_large(&producer, 1);
    until("the next request is on its way", || producer.metrics().requests_in_flight == 2);
    cluster.resume(BROKER);
    succeed(&[answered, large]);
    assert_eq!(fault.fired(), 1);
    // That is the large one.
    assert_eq!(sent_again(&producer), (before.0 + 1, before.1 + 1));
    assert_once_in_order(&cluster, "t", 0, 2);
    close(&producer);
    assert_no_refusals(&cluster);
}
