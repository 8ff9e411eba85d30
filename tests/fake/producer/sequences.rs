//! Brokers that forget producers or lose records: nothing that is acknowledged afterwards is lost.

use std::thread;
use std::time::Duration;

use kafka_blocking::testing::{Api, FakeCluster, Fault, KafkaVersion, On};
use kafka_blocking::{BrokerId, ErrorCode, ErrorKind, Written};

use crate::common::*;

#[test]
fn a_broker_that_forgets_the_producer_costs_no_record() {
    watch_for_panics();
    for version in KafkaVersion::ALL {
        let cluster = FakeCluster::builder().version(version).topic("t", 1).start().unwrap();
        let producer = quick(&cluster).batch_records(5).build().unwrap();
        let mut number = 0;
        for _ in 0..10 {
            succeed(&send_all(&producer, "t", 0, number, number + 30));
            number += 30;
            cluster.lose_producer_state("t", 0).unwrap();
        }
        succeed(&send_all(&producer, "t", 0, number, number + 30));
        assert_once_in_order(&cluster, "t", 0, number + 30);
        // Brokers before 2.5 want a producer that they do not know to begin with 0.
        let bumps = if version < KafkaVersion::V2_8 { 10 } else { 0 };
        assert_eq!(producer.metrics().epoch_bumps, bumps, "{version:?}");
        assert_refused_behind(&cluster, 10);
        close(&producer);
    }
}

#[test]
fn a_broker_that_forgets_the_producer_under_load_costs_no_record() {
    watch_for_panics();
    for version in [KafkaVersion::V0_11, KafkaVersion::V4_3] {
        let cluster = FakeCluster::builder().version(version).topic("t", 1).start().unwrap();
        let producer = quick(&cluster).batch_records(5).build().unwrap();
        let mut sent = Vec::new();
        for number in 0..3000 {
            sent.push(send(&producer, "t", 0, number));
            if number % 300 == 150 {
                cluster.lose_producer_state("t", 0).unwrap();
            }
            if number % 20 == 0 {
                thread::sleep(Duration::from_micros(500));
            }
        }
        succeed(&sent);
        assert_once_in_order(&cluster, "t", 0, 3000);
        assert!(cluster.request_count(Api::Produce) < 2000, "{}", cluster.request_count(Api::Produce));
        assert_refused_behind(&cluster, 10);
        close(&producer);
    }
}

#[test]
fn a_log_that_was_cut_short_keeps_what_is_acknowledged_afterwards() {
    watch_for_panics();
    for version in KafkaVersion::ALL {
        // How much is cut: nothing of the producer is left, or its last batches are gone.
        for kept in [0, 10] {
            let cluster = FakeCluster::builder().version(version).topic("t", 1).start().unwrap();
            let producer = quick(&cluster).batch_records(5).max_in_flight(1).build().unwrap();
            succeed(&send_all(&producer, "t", 0, 0, 20));
            cluster.truncate_log("t", 0, kept).unwrap();
            let lost = cluster.log_len("t", 0).unwrap();
            assert_eq!(lost, kept);
            let requests = cluster.request_count(Api::Produce);
            succeed(&send_all(&producer, "t", 0, 100, 140));
            let wanted: Vec<u64> = (0..kept as u64).chain(100..140).collect();
            assert_eq!(numbers(&cluster, "t", 0), wanted, "{version:?}");
            let spent = cluster.request_count(Api::Produce) - requests;
            assert!(spent <= 44, "{spent} requests for 40 records");
            assert!(cluster.refusals().len() <= 2, "{:#?}", cluster.refusals());
            close(&producer);
        }
    }
}

#[test]
fn an_unclean_election_under_load_loses_nothing_that_is_acknowledged_afterwards() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    let producer = quick(&cluster).batch_records(5).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 200));
    let mut sent = Vec::new();
    for number in 200..1200 {
        sent.push(send(&producer, "t", 0, number));
        if number == 700 {
            let leader = cluster.leader("t", 0).unwrap().unwrap();
            // Nobody writes while it is cut.
            cluster.leaderless("t", 0).unwrap();
            let length = cluster.log_len("t", 0).unwrap();
            cluster.truncate_log("t", 0, length - 20).unwrap();
            cluster.move_leader("t", 0, BrokerId(leader.0 % 3 + 1)).unwrap();
        }
        if number % 20 == 0 {
            thread::sleep(Duration::from_micros(500));
        }
    }
    // What is in flight meets the election twice: the old leader's refusal leaves open whether it was written, and the
    // new leader does not know the sequence. That is five batches at most.
    let acknowledged = succeed_or_lose_sequence(&sent, 25);
    let found = numbers(&cluster, "t", 0);
    assert_eq!(repeated(&found), 0);
    let told: Vec<u64> = (0..200).chain(acknowledged.iter().map(|place| place + 200)).collect();
    let missing: Vec<u64> = told.iter().copied().filter(|number| !found.contains(number)).collect();
    assert!((20..=25).contains(&missing.len()), "what was cut off, by whole batches, and no more: {missing:?}");
    assert!(missing.iter().all(|number| *number <= 700), "{missing:?}");
    assert!(cluster.refusals().len() <= 10, "{:#?}", cluster.refusals());
    close(&producer);
}

#[test]
fn lost_answers_and_moves_together_write_nothing_twice() {
    watch_for_panics();
    for version in [KafkaVersion::V4_3, KafkaVersion::V2_8] {
        let cluster = FakeCluster::builder().brokers(3).version(version).topic("t", 2).seed(7).start().unwrap();
        let faults: Vec<_> = [
            Fault::DropAnswer,
            Fault::CutBefore,
            Fault::ErrorAfterApply(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND),
            Fault::ErrorAfterApply(ErrorCode::REQUEST_TIMED_OUT),
            Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS),
            Fault::Error(ErrorCode::KAFKA_STORAGE_ERROR),
            Fault::WrongCorrelation,
            Fault::RepeatAnswer,
        ]
        .into_iter()
        .map(|fault| cluster.inject(On::produce().topic("t").always().chance(0.03), fault))
        .collect();
        let producer = quick(&cluster).batch_records(5).build().unwrap();
        let mut sent = Vec::new();
        for number in 0..4000 {
            sent.push(send(&producer, "t", (number % 2) as i32, number / 2));
            if number % 500 == 250 {
                let leader = cluster.leader("t", 0).unwrap().unwrap();
                cluster.move_leader("t", 0, BrokerId(leader.0 % 3 + 1)).unwrap();
            }
            if number % 20 == 0 {
                thread::sleep(Duration::from_micros(200));
            }
        }
        succeed(&sent);
        let fired: usize = faults.iter().map(|fault| fault.fired()).sum();
        assert!(fired >= 40, "only {fired} faults");
        for partition in 0..2 {
            assert_once_in_order(&cluster, "t", partition, 2000);
        }
        assert_eq!(producer.metrics().records_failed, 0);
        close(&producer);
    }
}

#[test]
fn numbers_of_an_unknown_outcome_are_never_given_to_other_records() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster)
        .batch_records(1)
        .max_in_flight(1)
        .request_timeout(ms(2000))
        .delivery_timeout(ms(3000))
        .build()
        .unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 3));
    // Written, and never answered until its time is up: each attempt hangs.
    let fault = cluster.inject(On::produce().topic("t").times(3), Fault::Hang);
    let error = failure(&send(&producer, "t", 0, 3));
    assert_eq!(error.written(), Some(Written::Maybe), "{error}");
    cluster.clear_faults();
    // The request that hangs is not waited for to its end, which could take the next records' time.
    cluster.cut_connections(BrokerId(1));
    succeed(&send_all(&producer, "t", 0, 4, 10));
    assert!(fault.fired() >= 1);
    // Under the old numbers the broker would have taken record 4 for record 3, and dropped it.
    assert_once_in_order(&cluster, "t", 0, 10);
    let epochs: Vec<i16> = cluster.batches("t", 0).unwrap().iter().map(|batch| batch.producer.unwrap().epoch).collect();
    assert_eq!((epochs[3], epochs[4]), (0, 1), "{epochs:?}");
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn a_fatal_answer_of_unknown_outcome_is_not_followed_by_its_numbers() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).max_in_flight(1).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 3));
    let fault = cluster.inject(On::produce().topic("t"), Fault::ErrorAfterApply(ErrorCode::UNKNOWN_SERVER_ERROR));
    let sent = send_all(&producer, "t", 0, 3, 8);
    let error = failure(&sent[0]);
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::UNKNOWN_SERVER_ERROR));
    assert_eq!(error.written(), Some(Written::Maybe));
    succeed(&sent[1..]);
    assert_eq!(fault.fired(), 1);
    assert_once_in_order(&cluster, "t", 0, 8);
    assert_no_refusals(&cluster);
    close(&producer);
}
