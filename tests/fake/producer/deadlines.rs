//! Time limits and memory limits.

use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::{FakeCluster, Fault, On};
use kafka_blocking::{BrokerId, Delivery, Error, ErrorCode, ErrorKind, Producer, Record, Timeout, Written};

use crate::common::*;

const BROKER: BrokerId = BrokerId(1);

/// Times that end in a test, and yet are long enough for what shall succeed on a machine that stands still for a while.
const REQUEST: Duration = ms(2000);
const DELIVERY: Duration = ms(3000);
/// A delivery has its result from the one to the other.
const EARLIEST: Duration = ms(2980);
const LATEST: Duration = ms(3000 + 20_000);

/// A producer with one record a batch, and short times.
fn hasty(cluster: &FakeCluster) -> Producer {
    quick(cluster).batch_records(1).request_timeout(REQUEST).delivery_timeout(DELIVERY).build().unwrap()
}

#[test]
fn every_record_to_a_broker_that_hangs_has_its_result_by_its_deadline() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = hasty(&cluster);
    succeed(&send_all(&producer, "t", 0, 0, 5));
    cluster.pause(BROKER);
    let sent: Vec<(Instant, Delivery)> =
        (5..205).map(|number| (Instant::now(), send(&producer, "t", 0, number))).collect();
    let mut maybe = 0;
    for (at, (started, delivery)) in sent.iter().enumerate() {
        let error = failure(delivery);
        let took = started.elapsed();
        assert!(took < LATEST, "record {at} took {took:?}");
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Delivery), "{error}");
        assert_eq!(error.context().partition, Some(0));
        // What was in flight may be written; what never left is certainly not.
        match error.written() {
            Some(Written::Maybe) => {
                assert_eq!(maybe, at, "what was sent is what came first");
                maybe += 1;
            }
            other => assert_eq!(other, Some(Written::No)),
        }
    }
    assert!(sent[0].0.elapsed() >= EARLIEST);
    assert_eq!(maybe, 5, "as many as may be in flight");
    until("the memory is free", || producer.metrics().buffer_bytes_used == 0);
    assert_eq!(producer.metrics().records_failed, 200);
    // By now the client tries to connect, in vain.
    let started = Instant::now();
    for delivery in &send_all(&producer, "t", 0, 1000, 1003) {
        let error = failure(delivery);
        assert_eq!(
            (error.kind(), error.written()),
            (ErrorKind::Timeout(Timeout::Delivery), Some(Written::No)),
            "{error}"
        );
    }
    assert!(started.elapsed() < LATEST, "{:?}", started.elapsed());
    cluster.resume(BROKER);
    succeed(&send_all(&producer, "t", 0, 205, 210));
    let found = numbers(&cluster, "t", 0);
    assert_eq!(repeated(&found), 0);
    let of_the_lost: Vec<u64> = found.iter().copied().filter(|number| (5..205).contains(number)).collect();
    assert!(of_the_lost.iter().all(|number| *number < 10), "a record that is certainly not written is: {found:?}");
    assert!(found.ends_with(&[205, 206, 207, 208, 209]), "{found:?}");
    close(&producer);
}

#[test]
fn a_broker_that_hangs_for_less_than_the_deadline_costs_no_record() {
    watch_for_panics();
    let cluster = three_brokers("t", 3);
    let producer =
        quick(&cluster).batch_records(2).request_timeout(ms(300)).delivery_timeout(3 * BOUND).build().unwrap();
    let mut sent = Vec::new();
    for number in 0..1500 {
        let hangs = number % 750 == 375;
        let mut lost = 0;
        if hangs {
            // The connection is there, and a request will be on it.
            succeed(&sent);
            lost = producer.metrics().connections_lost;
            cluster.pause(BROKER);
        }
        sent.extend((0..3).map(|partition| send(&producer, "t", partition, number)));
        if hangs {
            until("the request timeout passes", || producer.metrics().connections_lost > lost);
            // And that of the next attempts.
            thread::sleep(ms(700));
            cluster.resume(BROKER);
        }
    }
    succeed(&sent);
    for partition in 0..3 {
        assert_once_in_order(&cluster, "t", partition, 1500);
    }
    assert_refused_too_late(&cluster);
    close(&producer);
}

#[test]
fn records_of_a_broker_that_cannot_be_reached_fail_unwritten_with_the_cause() {
    watch_for_panics();
    let cluster = FakeCluster::builder().brokers(2).replication(1).topic("t", 2).start().unwrap();
    let producer = hasty(&cluster);
    for partition in 0..2 {
        succeed(&send_all(&producer, "t", partition, 0, 5));
    }
    let dead = cluster.leader("t", 0).unwrap().unwrap();
    cluster.kill(dead);
    let started = Instant::now();
    let sent = send_all(&producer, "t", 0, 5, 40);
    succeed(&send_all(&producer, "t", 1, 5, 10));
    let mut maybe = 0;
    for delivery in &sent {
        let error = failure(delivery);
        assert!(started.elapsed() < LATEST, "{:?}", started.elapsed());
        assert!(error.code().is_some() || std::error::Error::source(&error).is_some(), "no cause: {error}");
        // One request may have gone out before the end of the connection was seen.
        maybe += usize::from(error.written() == Some(Written::Maybe));
    }
    assert!(maybe <= 5, "{maybe}");
    until("the memory is free", || producer.metrics().buffer_bytes_used == 0);
    cluster.restart(dead).unwrap();
    succeed(&send_all(&producer, "t", 0, 5, 10));
    assert_once_in_order(&cluster, "t", 0, 10);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn too_few_replicas_until_the_deadline_is_told_as_that_very_error() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    // With this back-off no second attempt is near the deadline.
    let once = quick(&cluster).retry_backoff(2 * DELIVERY).retry_backoff_max(2 * DELIVERY);
    let producer = once.batch_records(1).request_timeout(REQUEST).delivery_timeout(DELIVERY).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 3));
    cluster.fall_below_min_in_sync("t").unwrap();
    let started = Instant::now();
    for (place, delivery) in send_all(&producer, "t", 0, 3, 20).iter().enumerate() {
        let error = failure(delivery);
        // The number of one that has failed is free for the next, which may be on its way at its own deadline.
        if place > 0 && error.written() == Some(Written::Maybe) {
            assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Delivery), "{error}");
            continue;
        }
        assert_eq!(error.code(), Some(ErrorCode::NOT_ENOUGH_REPLICAS), "{error:#}");
        assert_eq!(error.written(), Some(Written::No), "{error:#}");
        // Those behind the one that was told so have it as their cause.
        if place == 0 {
            assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::NOT_ENOUGH_REPLICAS), "{error:#}");
        } else if error.context().attempts == Some(0) {
            assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Delivery), "{error:#}");
        }
    }
    assert!((EARLIEST..LATEST).contains(&started.elapsed()), "{:?}", started.elapsed());
    cluster.restore_min_in_sync("t").unwrap();
    succeed(&send_all(&producer, "t", 0, 3, 10));
    assert_once_in_order(&cluster, "t", 0, 10);
    assert_refused_behind(&cluster, 100);
    close(&producer);
}

#[test]
fn too_few_replicas_for_a_while_is_only_waited_for() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).batch_records(1).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 3));
    cluster.fall_below_min_in_sync("t").unwrap();
    let started = Instant::now();
    let sent = send_all(&producer, "t", 0, 3, 30);
    until("they are sent again", || producer.metrics().batches_retried > 0);
    thread::sleep(ms(300));
    assert!(sent.iter().all(|delivery| !delivery.is_done()));
    let (attempts, time) = (producer.metrics().batches_retried, started.elapsed());
    // Five are in flight at a time. The first pauses are shorter.
    let limit = 5 * (time.as_millis() as u64 / 30 + 8);
    assert!(attempts <= limit, "{attempts} attempts in {time:?}, the back-off is 5 to 40 ms");
    cluster.restore_min_in_sync("t").unwrap();
    succeed(&sent);
    assert_once_in_order(&cluster, "t", 0, 30);
    close(&producer);
}

#[test]
fn try_send_never_waits() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).buffer_memory(40_000).batch_size(2000).build().unwrap();
    let refused = producer.try_send(Record::to("t").partition(0).value("0")).unwrap_err();
    let error = refused.error();
    assert_eq!((error.kind(), error.written()), (ErrorKind::WouldBlock, Some(Written::No)), "{error}");
    // It has been asked for meanwhile.
    until("the topic is known", || {
        producer.try_send(Record::to("t").partition(0).value("1")).map(Delivery::detach).is_ok()
    });
    until("the first record is written", || cluster.log_len("t", 0).unwrap() == 1);
    cluster.pause(BROKER);
    let value = vec![b'x'; 1000];
    let mut accepted = Vec::new();
    let mut longest = ms(0);
    let error = loop {
        let started = Instant::now();
        let delivery = producer.try_send(Record::to("t").partition(0).value(&value));
        longest = longest.max(started.elapsed());
        match delivery {
            Err(refused) => break Error::from(refused),
            Ok(delivery) => accepted.push(delivery),
        }
        assert!(accepted.len() < 100, "the memory has no end");
    };
    assert_eq!((error.kind(), error.written()), (ErrorKind::WouldBlock, Some(Written::No)), "{error}");
    // It could wait for a minute.
    assert!(longest < AT_ONCE, "{longest:?}");
    assert!(accepted.len() >= 10, "{}", accepted.len());
    cluster.resume(BROKER);
    succeed(&accepted);
    assert_eq!(cluster.log_len("t", 0).unwrap(), 1 + accepted.len() as i64);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn memory_that_is_used_up_holds_senders_back_for_max_block_at_most() {
    watch_for_panics();
    const THREADS: usize = 32;
    let cluster = one_topic("t", 4);
    // Batches are full: what waits for its linger would take all the memory of its batch.
    let producer = patient(&cluster).buffer_memory(100_000).batch_size(4000).max_block(ms(400)).build().unwrap();
    until("the topic is known", || producer.partitions_for("t").is_ok());
    succeed(&send_all(&producer, "t", 0, 0, 1));
    cluster.pause(BROKER);
    let value = |thread: usize, number: usize| format!("{thread} {number} {:1$}", "", 500);
    let accepted: Vec<Vec<(String, Delivery)>> = thread::scope(|scope| {
        let senders: Vec<_> = (0..THREADS)
            .map(|thread| {
                let producer = &producer;
                scope.spawn(move || {
                    let mut accepted = Vec::new();
                    for number in 0.. {
                        let value = value(thread, number);
                        let started = Instant::now();
                        let delivery = producer.send(Record::to("t").partition(thread as i32 % 4).value(value.clone()));
                        let took = started.elapsed();
                        assert!(took < AT_ONCE, "send took {took:?}");
                        match delivery.try_wait() {
                            None => accepted.push((value, delivery)),
                            Some(result) => {
                                let error = result.unwrap_err();
                                assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::BufferMemory), "{error}");
                                assert_eq!(error.written(), Some(Written::No));
                                assert!(took >= ms(390), "refused after {took:?}");
                                break;
                            }
                        }
                    }
                    accepted
                })
            })
            .collect();
        senders.into_iter().map(|sender| sender.join().unwrap()).collect()
    });
    let metrics = producer.metrics();
    assert!(metrics.buffer_bytes_used <= metrics.buffer_bytes_total);
    assert_eq!(metrics.threads_waiting_for_memory, 0);
    cluster.resume(BROKER);
    let mut wanted = Vec::new();
    for (value, delivery) in accepted.into_iter().flatten() {
        result(&delivery).unwrap();
        wanted.push(value);
    }
    assert!(wanted.len() >= 100);
    let mut found: Vec<String> = cluster
        .all_records("t")
        .unwrap()
        .iter()
        .map(|record| record.value_text())
        .filter(|text| text.len() > 5)
        .collect();
    wanted.sort();
    found.sort();
    assert_eq!(found, wanted, "what was refused is not there, and all else is");
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn senders_that_wait_for_memory_go_on_when_there_is_some() {
    watch_for_panics();
    let cluster = one_topic("t", 8);
    let producer = quick(&cluster).buffer_memory(60_000).batch_size(4000).build().unwrap();
    let fault = cluster.inject(On::produce().always().chance(0.05), Fault::Delay(ms(10)));
    thread::scope(|scope| {
        for partition in 0..8 {
            let producer = &producer;
            scope.spawn(move || {
                let sent: Vec<Delivery> = (0..300)
                    .map(|number| {
                        let value = format!("{number:<500}");
                        producer.send(Record::to("t").partition(partition).value(value))
                    })
                    .collect();
                succeed(&sent);
            });
        }
    });
    assert!(fault.fired() > 0);
    for partition in 0..8 {
        let records = cluster.records("t", partition).unwrap();
        assert!(records.iter().map(|record| record.value_text().trim().parse::<u64>().unwrap()).eq(0..300));
    }
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn max_block_bounds_a_send_to_a_cluster_that_hangs() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    cluster.pause(BROKER);
    let producer = quick(&cluster).max_block(ms(300)).build().unwrap();
    let started = Instant::now();
    let error = failure(&send(&producer, "t", 0, 0));
    assert!((ms(290)..AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert_eq!((error.kind(), error.written()), (ErrorKind::Timeout(Timeout::Metadata), Some(Written::No)), "{error}");
    let started = Instant::now();
    close(&producer);
    assert!(started.elapsed() < AT_ONCE, "{:?}", started.elapsed());
    cluster.resume(BROKER);
    assert_eq!(cluster.record_count("t"), 0);
}

#[test]
fn the_delivery_timeout_covers_the_wait_for_a_producer_id() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let fault = cluster.inject(
        On::api(kafka_blocking::testing::Api::InitProducerId).always(),
        Fault::Error(ErrorCode::COORDINATOR_NOT_AVAILABLE),
    );
    let producer = hasty(&cluster);
    let started = Instant::now();
    for delivery in &send_all(&producer, "t", 0, 0, 20) {
        let error = failure(delivery);
        assert_eq!(error.written(), Some(Written::No), "{error}");
    }
    assert!((EARLIEST..LATEST).contains(&started.elapsed()), "{:?}", started.elapsed());
    assert!(fault.fired() >= 3);
    until("the memory is free", || producer.metrics().buffer_bytes_used == 0);
    fault.cancel();
    succeed(&send_all(&producer, "t", 0, 0, 5));
    assert_once_in_order(&cluster, "t", 0, 5);
    assert_no_refusals(&cluster);
    close(&producer);
}
