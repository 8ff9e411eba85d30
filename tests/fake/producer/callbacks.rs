//! Callbacks.

use std::sync::{Arc, Mutex, mpsc};
use std::thread;
use std::time::Instant;

use kafka_blocking::testing::{FakeCluster, Fault, On};
use kafka_blocking::{BrokerId, ErrorCode, ErrorKind, Record};

use crate::common::*;

type Told = Arc<Mutex<Vec<(i32, u64, bool)>>>;

fn tell(
    told: &Told,
    partition: i32,
    number: u64,
) -> impl FnOnce(kafka_blocking::Result<kafka_blocking::RecordMetadata>) + Send + 'static + use<> {
    let told = Arc::clone(told);
    move |result| told.lock().unwrap().push((partition, number, result.is_ok()))
}

#[test]
fn callbacks_keep_their_partitions_order_across_splits_and_retries() {
    watch_for_panics();
    let cluster =
        FakeCluster::builder().brokers(3).topic_with("t", 3, [("max.message.bytes", "1500")]).start().unwrap();
    let faults = [
        cluster.inject(On::produce().always().chance(0.05), Fault::DropAnswer),
        cluster.inject(On::produce().always().chance(0.05), Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS)),
        cluster.inject(On::produce().always().chance(0.05), Fault::CutBefore),
    ];
    let producer = quick(&cluster).linger(ms(3)).build().unwrap();
    let told = Told::default();
    for number in 0..3000 {
        for partition in 0..3 {
            // Fifteen of them are too large for a batch.
            let record = Record::to("t").partition(partition).value(format!("{number:0100}"));
            producer.send_with(record, tell(&told, partition, number));
        }
        if number % 100 == 0 {
            thread::sleep(ms(4));
        }
    }
    producer.flush_timeout(BOUND).unwrap();
    assert!(producer.metrics().batches_split > 0 && producer.metrics().batches_retried > 0);
    assert!(faults.iter().all(|fault| fault.fired() > 0), "{faults:?}");
    let told = told.lock().unwrap();
    for partition in 0..3 {
        let of_it: Vec<u64> = told.iter().filter(|(of, ..)| *of == partition).map(|(_, number, _)| *number).collect();
        assert!(of_it.iter().copied().eq(0..3000), "partition {partition}: {} callbacks", of_it.len());
        assert_once_in_order(&cluster, "t", partition, 3000);
    }
    assert!(told.iter().all(|(.., ok)| *ok));
    close(&producer);
}

#[test]
fn callbacks_keep_their_order_across_failures() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let fault = cluster.inject(On::produce().always().chance(0.2), Fault::Error(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    let producer = quick(&cluster).batch_records(5).max_in_flight(1).build().unwrap();
    let told = Told::default();
    for number in 0..1000 {
        producer.send_with(Record::to("t").partition(0).value(number.to_string()), tell(&told, 0, number));
    }
    producer.flush_timeout(BOUND).unwrap();
    assert!(fault.fired() > 5);
    let told = told.lock().unwrap();
    assert_eq!(told.len(), 1000);
    let order: Vec<u64> = told.iter().map(|(_, number, _)| *number).collect();
    let out_of_order = order.windows(2).find(|pair| pair[1] < pair[0]);
    assert_eq!(out_of_order, None);
    let acknowledged: Vec<u64> = told.iter().filter(|(.., ok)| *ok).map(|(_, number, _)| *number).collect();
    assert_eq!(numbers(&cluster, "t", 0), acknowledged);
    close(&producer);
}

#[test]
fn a_callback_that_panics_harms_nobody() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    let told = Told::default();
    for number in 0..100 {
        let record = Record::to("t").partition(0).value(number.to_string());
        if number % 10 == 3 {
            producer.send_with(record, |_| panic!("a callback's own panic"));
        } else {
            producer.send_with(record, tell(&told, 0, number));
        }
    }
    producer.flush_timeout(BOUND).unwrap();
    assert_eq!(cluster.log_len("t", 0).unwrap(), 100);
    let order: Vec<u64> = told.lock().unwrap().iter().map(|(_, number, _)| *number).collect();
    assert_eq!(order, (0..100).filter(|number| number % 10 != 3).collect::<Vec<_>>());
    assert_once_in_order(&cluster, "t", 0, 100);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn on_complete_runs_whenever_it_is_set() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    let (told, tell) = mpsc::channel();
    let complete = |delivery: kafka_blocking::Delivery, name: &'static str| {
        let told = told.clone();
        delivery.on_complete(move |result| {
            let thread = thread::current().name().unwrap_or_default().to_owned();
            told.send((name, result.map(|metadata| metadata.offset().unwrap()).map_err(|error| error.kind()), thread))
                .unwrap();
        });
    };
    let recv = || tell.recv_timeout(BOUND).unwrap();
    let done = send(&producer, "t", 0, 0);
    succeed(std::slice::from_ref(&done));
    complete(done, "done");
    assert_eq!(recv(), ("done", Ok(0), "kafka-callbacks".to_owned()));
    cluster.pause(BrokerId(1));
    let pending = send(&producer, "t", 0, 1);
    assert!(pending.wait_timeout(ms(50)).is_none());
    assert!(!pending.is_done() && pending.try_wait().is_none());
    complete(pending, "pending");
    cluster.resume(BrokerId(1));
    assert_eq!(recv(), ("pending", Ok(1), "kafka-callbacks".to_owned()));
    complete(producer.send(Record::to("t").partition(9).value("")), "refused");
    assert_eq!(recv(), ("refused", Err(ErrorKind::NoSuchPartition), "kafka-callbacks".to_owned()));
    close(&producer);
    assert_once_in_order(&cluster, "t", 0, 2);
    assert_no_refusals(&cluster);
}

#[test]
fn wait_timeout_tells_nothing_before_and_everything_after() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = patient(&cluster).build().unwrap();
    succeed(&[send(&producer, "t", 0, 0)]);
    cluster.pause(BrokerId(1));
    let requests = producer.metrics().requests_sent;
    let delivery = send(&producer, "t", 0, 1);
    let started = Instant::now();
    // It cuts the linger, and times out before the answer.
    assert!(delivery.wait_timeout(ms(100)).is_none());
    assert!((ms(95)..AT_ONCE).contains(&started.elapsed()), "{:?}", started.elapsed());
    until("the record is on its way", || producer.metrics().requests_sent == requests + 1);
    assert!(delivery.wait_timeout(ms(0)).is_none());
    cluster.resume(BrokerId(1));
    for _ in 0..3 {
        assert_eq!(delivery.wait_timeout(BOUND).unwrap().unwrap().offset().unwrap(), 1);
    }
    assert_eq!(delivery.wait_timeout(ms(0)).unwrap().unwrap().offset().unwrap(), 1);
    assert_eq!(delivery.wait().unwrap().offset().unwrap(), 1);
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn many_threads_that_wait_for_one_batch_all_wake() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).linger(ms(20)).build().unwrap();
    producer.partitions_for("t").unwrap();
    thread::scope(|scope| {
        for number in 0..64 {
            let producer = &producer;
            scope.spawn(move || send(producer, "t", 0, number).wait().unwrap());
        }
    });
    let mut found = numbers(&cluster, "t", 0);
    found.sort_unstable();
    assert!(found.into_iter().eq(0..64));
    assert_no_refusals(&cluster);
    close(&producer);
}

#[test]
fn a_callback_whose_panic_panics_again_when_it_is_dropped_stops_no_other() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("a payload that panics when it is dropped");
        }
    }
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer = quick(&cluster).build().unwrap();
    let record = |number: u64| Record::to("t").partition(0).value(number.to_string());
    producer.send_with(record(0), |_| std::panic::panic_any(Bomb));
    producer.flush_timeout(BOUND).unwrap();
    assert_eq!(cluster.log_len("t", 0).unwrap(), 1);
    let (told, tell) = std::sync::mpsc::channel();
    producer.send_with(record(1), move |result| told.send(result.is_ok()).unwrap());
    producer.flush_timeout(BOUND).unwrap();
    assert_eq!(tell.try_recv(), Ok(true), "flush has waited for the callback");
    close(&producer);
    assert_once_in_order(&cluster, "t", 0, 2);
}
