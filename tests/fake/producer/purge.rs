//! What `purge` gives up, and what it leaves as it is.

use std::sync::mpsc::channel;

use kafka_blocking::testing::{Api, Fault, On};
use kafka_blocking::{Delivery, Error, ErrorCode, ErrorKind, Producer, Purge, Record, Recovery, Written};

use crate::common::*;

/// The record was given up.
#[track_caller]
fn assert_purged(delivery: &Delivery, written: Written) -> Error {
    let error = failure(delivery);
    assert_eq!((error.kind(), error.written()), (ErrorKind::Purged, Some(written)), "{error}");
    assert_eq!(error.context().topic.as_deref(), Some("t"));
    error
}

/// Records that are in flight while the broker says nothing.
fn in_flight(producer: &Producer, from: u64, to: u64) -> Vec<Delivery> {
    let requests = producer.metrics().requests_sent;
    let sent = send_all(producer, "t", 0, from, to);
    until("they are in flight", || producer.metrics().requests_sent > requests);
    // So that they are not joined by others.
    until("nothing is open", || sent.iter().all(|delivery| !delivery.is_done()));
    sent
}

#[test]
fn what_waits_is_given_up_and_what_is_in_flight_is_delivered() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).max_in_flight(1).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    cluster.pause(cluster.brokers()[0]);
    let kept = in_flight(&producer, 1, 3);
    let (told, tell) = channel();
    for number in 3..40 {
        let told = told.clone();
        let record = Record::to("t").partition(0).value(vec![b'x'; 20_000]);
        producer.send_with(record, move |result| told.send((number, result)).unwrap());
    }
    producer.purge(Purge::Queued);
    // They end although the broker answers nothing.
    for number in 3..40 {
        let (of, result) = tell.recv_timeout(BOUND).unwrap();
        let error = result.unwrap_err();
        assert_eq!((of, error.kind(), error.written()), (number, ErrorKind::Purged, Some(Written::No)), "{error}");
        assert_eq!((error.recovery(), error.context().topic.as_deref()), (Recovery::Retry, Some("t")));
    }
    until("the memory is free", || producer.metrics().buffer_bytes_used < 40_000);
    assert!(kept.iter().all(|delivery| !delivery.is_done()));
    // What comes afterwards is not touched.
    let later = send_all(&producer, "t", 0, 3, 50);
    cluster.resume(cluster.brokers()[0]);
    succeed(&kept);
    succeed(&later);
    assert_once_in_order(&cluster, "t", 0, 50);
    assert_eq!((producer.metrics().records_failed, producer.metrics().epoch_bumps), (37, 0));
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn an_open_batch_is_given_up_and_the_next_record_opens_another() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    for round in 0..50 {
        let purged = send_all(&producer, "t", 0, 1000, 1003);
        let mut direct = producer.create_batch();
        assert!(!direct.append("k", round.to_string()).unwrap().is_full());
        producer.purge(Purge::All);
        let kept = send(&producer, "t", 0, 2 * round);
        for delivery in purged {
            assert_purged(&delivery, Written::No);
        }
        assert_eq!(result(&kept).unwrap().offset().unwrap(), 2 * round as i64);
        // A batch that was not sent is the program's.
        let sent = producer.send_batch(direct, "t", 0).unwrap();
        assert_eq!(sent.wait_timeout(BOUND).unwrap().unwrap().base_offset().unwrap(), 2 * round as i64 + 1);
    }
    close(&producer);
}

#[test]
fn what_is_in_flight_is_given_up_and_the_next_records_go_under_a_new_epoch() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).request_timeout(ms(4000)).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    // It is written, and nobody is told.
    let hang = cluster.inject(On::produce(), Fault::Hang);
    let purged = in_flight(&producer, 1, 2);
    assert!(hang.wait_fired(1, BOUND));
    assert!(cluster.wait_for_records("t", 2, BOUND));
    producer.purge(Purge::All);
    for delivery in &purged {
        assert_purged(delivery, Written::Maybe);
    }
    // A flush has nothing to wait for.
    producer.flush_timeout(AT_ONCE).unwrap();
    let later = send_all(&producer, "t", 0, 2, 20);
    succeed(&later);
    assert_once_in_order(&cluster, "t", 0, 20);
    assert_eq!(producer.metrics().epoch_bumps, 1);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn what_is_to_be_sent_again_may_be_in_the_log() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).retry_backoff(HOUR).retry_backoff_max(HOUR).delivery_timeout(2 * HOUR);
    let producer = producer.build().unwrap();
    let fault = cluster.inject(On::produce(), Fault::ErrorAfterApply(ErrorCode::REQUEST_TIMED_OUT));
    let sent = send_all(&producer, "t", 0, 0, 1);
    until("it is refused", || producer.metrics().error_answers > 0);
    producer.purge(Purge::Queued);
    assert_purged(&sent[0], Written::Maybe);
    assert_eq!(fault.fired(), 1);
    succeed(&send_all(&producer, "t", 0, 1, 5));
    assert_once_in_order(&cluster, "t", 0, 5);
    close(&producer);
}

#[test]
fn what_is_in_flight_during_a_purge_of_what_waits_is_sent_again_all_the_same() {
    watch_for_panics();
    let cluster = three_brokers("t", 1);
    let producer = quick(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 1));
    let leader = cluster.leader("t", 0).unwrap().unwrap();
    cluster.pause(leader);
    let kept = in_flight(&producer, 1, 2);
    let waits = send(&producer, "t", 0, 1000);
    // The purge is done when what waits has failed; then the batch is lost with its connection, and its queue moves.
    producer.purge(Purge::Queued);
    assert_purged(&waits, Written::No);
    let other = cluster.brokers().into_iter().find(|broker| *broker != leader).unwrap();
    cluster.move_leader("t", 0, other).unwrap();
    cluster.resume(leader);
    cluster.cut_connections(leader);
    succeed(&kept);
    assert_once_in_order(&cluster, "t", 0, 2);
    close(&producer);
}

#[test]
fn a_purge_fails_the_transaction() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).transactional_id("tx").build().unwrap();
    producer.init_transactions().unwrap();
    for (what, flushed) in [(Purge::Queued, false), (Purge::All, true)] {
        let transaction = producer.transaction().unwrap();
        let hang = flushed.then(|| cluster.inject(On::produce(), Fault::Hang));
        let sent = transaction.send(Record::to("t").partition(0).value("0"));
        if let Some(hang) = hang {
            assert!(producer.flush_timeout(ms(1)).is_err());
            assert!(hang.wait_fired(1, BOUND));
        }
        producer.purge(what);
        let error = assert_purged(&sent, if flushed { Written::Maybe } else { Written::No });
        assert_eq!(error.recovery(), Recovery::AbortTransaction);
        if flushed {
            // The abort waits for what is in flight, as long as there is a connection.
            cluster.cut_connections(cluster.brokers()[0]);
        }
        let not_committed = transaction.commit().unwrap_err();
        assert_eq!(not_committed.error().recovery(), Recovery::AbortTransaction, "{not_committed}");
        not_committed.into_transaction().abort().unwrap();
    }
    producer
        .in_transaction(|transaction| -> kafka_blocking::Result<()> {
            transaction.send(Record::to("t").partition(0).value("1"));
            Ok(())
        })
        .unwrap();
    let committed = cluster.committed_records("t", 0).unwrap();
    assert_eq!(committed.iter().map(|record| record.value_text()).collect::<Vec<_>>(), ["1"]);
    assert!(cluster.request_count(Api::EndTxn) > 0);
    close(&producer);
}

/// Each record is acknowledged or purged, whatever moves meanwhile; what was purged before it was sent is in no log.
#[test]
fn purges_beside_moving_leaders_leave_no_record_without_a_result() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer = quick(&cluster).batch_records(3).build().unwrap();
    let brokers = cluster.brokers();
    let mut sent = Vec::new();
    for round in 0..60 {
        let number = |n: u64| 1000 * round + n;
        for n in 0..30 {
            sent.push((number(n), send(&producer, "t", (n % 3) as i32, number(n))));
        }
        match round % 3 {
            0 => cluster.move_leader("t", (round % 9 / 3) as i32, brokers[(round % 7 % 3) as usize]).unwrap(),
            1 => cluster.cut_connections(brokers[(round % 2) as usize]),
            _ => {}
        }
        producer.purge(if round % 2 == 0 { Purge::Queued } else { Purge::All });
    }
    let (mut acknowledged, mut purged, mut never) = (0, 0, Vec::new());
    for (number, delivery) in &sent {
        match result(delivery) {
            Ok(_) => acknowledged += 1,
            Err(error) => {
                assert!(matches!(error.kind(), ErrorKind::Purged | ErrorKind::OutOfSequence), "{error}");
                purged += 1;
                if error.written() == Some(Written::No) {
                    never.push(*number);
                }
            }
        }
    }
    assert!(purged > 0, "nothing was purged");
    producer.flush_timeout(BOUND).unwrap();
    // It goes on as if nothing had been.
    for partition in 0..3 {
        succeed(&send_all(&producer, "t", partition, 100_000, 100_010));
        let found = numbers(&cluster, "t", partition);
        assert_eq!(repeated(&found), 0);
        assert!(found.iter().all(|number| !never.contains(number)));
    }
    eprintln!("{acknowledged} acknowledged, {purged} purged, {} of them never sent", never.len());
    close(&producer);
}
