//! What the tests share.

use std::collections::HashSet;
use std::sync::{Mutex, Once, PoisonError};
use std::time::{Duration, Instant};

use kafka_blocking::testing::{Api, FakeCluster, SeenRequest};
use kafka_blocking::{Cluster, Delivery, Error, ErrorKind, Producer, ProducerBuilder, Record, RecordMetadata, Written};

/// How long anything may take that takes moments: the machine may stand still for some of it.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// Within this comes what does not wait for something that takes a minute or more.
pub(crate) const AT_ONCE: Duration = Duration::from_secs(20);

pub(crate) const HOUR: Duration = Duration::from_secs(3600);

pub(crate) const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

static PANICS: Mutex<Vec<String>> = Mutex::new(Vec::new());
static HOOK: Once = Once::new();

/// Notes every panic on a thread of the client, from now on. Each test begins with it. Callbacks are the tests' own.
pub(crate) fn watch_for_panics() {
    HOOK.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let name = thread.name().unwrap_or_default();
            if name.starts_with("kafka-") && name != "kafka-callbacks" {
                PANICS.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{name}: {info}"));
            }
            if name != "kafka-callbacks" {
                before(info);
            }
        }));
    });
}

/// No thread of the client has panicked, in any test.
#[track_caller]
pub(crate) fn assert_no_panics() {
    let panics = PANICS.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(panics.is_empty(), "{panics:?}");
}

/// Polls until `condition` holds.
#[track_caller]
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + BOUND;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {BOUND:?} in vain until {what}");
        std::thread::sleep(ms(1));
    }
}

/// Does `test` with each case at the same time, because it waits.
pub(crate) fn at_once<C: Send>(cases: impl IntoIterator<Item = C>, test: impl Fn(C) + Sync) {
    let test = &test;
    std::thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || test(case));
        }
    });
}

/// A producer that wastes no time: short linger and back-offs.
pub(crate) fn quick(cluster: &FakeCluster) -> ProducerBuilder {
    Producer::builder(cluster.bootstrap())
        .linger(ms(1))
        .retry_backoff(ms(5))
        .retry_backoff_max(ms(40))
        .reconnect_backoff(ms(5))
        .reconnect_backoff_max(ms(40))
}

/// A producer whose batches are sent because somebody waits for them or they are full, or not at all.
pub(crate) fn patient(cluster: &FakeCluster) -> ProducerBuilder {
    quick(cluster).linger(HOUR).delivery_timeout(2 * HOUR)
}

pub(crate) fn one_topic(name: &str, partitions: usize) -> FakeCluster {
    FakeCluster::builder().topic(name, partitions).start().unwrap()
}

pub(crate) fn three_brokers(name: &str, partitions: usize) -> FakeCluster {
    FakeCluster::builder().brokers(3).topic(name, partitions).start().unwrap()
}

/// Sends a record with a number for its value.
pub(crate) fn send(producer: &Producer, topic: &str, partition: i32, number: u64) -> Delivery {
    producer.send(Record::to(topic).partition(partition).value(number.to_string()))
}

/// Sends the records `from..to`.
pub(crate) fn send_all(producer: &Producer, topic: &str, partition: i32, from: u64, to: u64) -> Vec<Delivery> {
    (from..to).map(|number| send(producer, topic, partition, number)).collect()
}

/// Waits for a result within the bound.
#[track_caller]
pub(crate) fn result(delivery: &Delivery) -> Result<RecordMetadata, Error> {
    delivery.wait_timeout(BOUND).unwrap_or_else(|| panic!("no result within {BOUND:?}"))
}

/// All records are acknowledged.
#[track_caller]
pub(crate) fn succeed(deliveries: &[Delivery]) -> Vec<RecordMetadata> {
    let results = deliveries.iter().enumerate().map(|(at, delivery)| match result(delivery) {
        Ok(metadata) => metadata,
        Err(error) => panic!("record {at} of {}: {error}; {:?}", deliveries.len(), error.code()),
    });
    results.collect()
}

/// All records are acknowledged, except a few whose outcome nobody can know after the cluster has lost a sequence;
/// answers the places of the acknowledged ones.
#[track_caller]
pub(crate) fn succeed_or_lose_sequence(deliveries: &[Delivery], at_most: usize) -> Vec<u64> {
    let mut acknowledged = Vec::new();
    for (delivery, place) in deliveries.iter().zip(0..) {
        match result(delivery) {
            Ok(_) => acknowledged.push(place),
            Err(error) => {
                let fate = (error.kind(), error.written());
                assert_eq!(fate, (ErrorKind::OutOfSequence, Some(Written::Maybe)), "record {place}: {error}");
            }
        }
    }
    let lost = deliveries.len() - acknowledged.len();
    assert!(lost <= at_most, "{lost} of {} records were lost with their sequence", deliveries.len());
    acknowledged
}

/// The record fails.
#[track_caller]
pub(crate) fn failure(delivery: &Delivery) -> Error {
    match result(delivery) {
        Ok(metadata) => panic!("a record was acknowledged that should fail: {metadata:?}"),
        Err(error) => error,
    }
}

/// The numbers in a partition's log.
pub(crate) fn numbers(cluster: &FakeCluster, topic: &str, partition: i32) -> Vec<u64> {
    let records = cluster.records(topic, partition).unwrap();
    records.iter().map(|record| record.value_text().parse().unwrap()).collect()
}

/// The partition has exactly the records `0..count`, in order.
#[track_caller]
pub(crate) fn assert_once_in_order(cluster: &FakeCluster, topic: &str, partition: i32, count: u64) {
    let found = numbers(cluster, topic, partition);
    let first_fault = found.iter().zip(0..).find(|(found, wanted)| *found != wanted);
    assert_eq!(first_fault, None, "{topic}-{partition}: the first record out of place, and its place");
    assert_eq!(found.len() as u64, count, "{topic}-{partition}");
}

/// First occurrences are in order; answers how many records are there again.
#[track_caller]
pub(crate) fn repeated(found: &[u64]) -> usize {
    let mut seen = HashSet::new();
    let firsts: Vec<u64> = found.iter().copied().filter(|number| seen.insert(*number)).collect();
    assert!(firsts.is_sorted(), "first occurrences out of order: {firsts:?}");
    found.len() - firsts.len()
}

/// The cluster refused nothing that no correct client sends.
#[track_caller]
pub(crate) fn assert_no_refusals(cluster: &FakeCluster) {
    assert!(cluster.refusals().is_empty(), "{:#?}", cluster.refusals());
}

/// The cluster refused nothing except for batches that were already on their way behind one that it had not taken;
/// not more of those than can be in flight behind so many faults.
#[track_caller]
pub(crate) fn assert_refused_behind(cluster: &FakeCluster, faults: usize) {
    let refusals = cluster.refusals();
    let other: Vec<_> = refusals.iter().filter(|text| !text.contains("OUT_OF_ORDER_SEQUENCE_NUMBER")).collect();
    assert!(other.is_empty(), "{other:#?}");
    assert!(refusals.len() <= 4 * faults, "{} refusals behind {faults} faults: {refusals:#?}", refusals.len());
}

/// The cluster refused nothing except for what a connection that was given up brought after its repetition on the next.
#[track_caller]
pub(crate) fn assert_refused_too_late(cluster: &FakeCluster) {
    for text in cluster.refusals() {
        let numbers = text.split_once(": sequence ").and_then(|(_, rest)| {
            let (came, rest) = rest.split_once(" came, ")?;
            let due = rest.strip_suffix(" was due")?;
            Some((came.parse::<i64>().ok()?, due.parse::<i64>().ok()?))
        });
        assert!(numbers.is_some_and(|(came, due)| came < due), "{text}");
    }
}

/// Ends the producer; everything was delivered, and its memory is free.
#[track_caller]
pub(crate) fn close(producer: &Producer) {
    producer.close_timeout(BOUND).unwrap();
    assert_eq!(producer.metrics().buffer_bytes_used, 0, "buffer memory is in use after the end");
    assert_no_panics();
}

pub(crate) fn metadata_requests(cluster: &FakeCluster) -> u64 {
    cluster.request_count(Api::Metadata)
}

/// The client's threads in this process: id and name.
pub(crate) fn kafka_threads() -> Vec<(u64, String)> {
    let mut threads = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
        // A thread may end between the two looks.
        let Ok(name) = std::fs::read_to_string(entry.path().join("comm")) else { continue };
        if name.starts_with("kafka-") {
            threads.push((entry.file_name().to_str().unwrap().parse().unwrap(), name.trim_end().to_owned()));
        }
    }
    threads
}

/// A cluster that wastes no time, for clients that share it.
pub(crate) fn shared(fake: &FakeCluster) -> Cluster {
    Cluster::builder(fake.bootstrap())
        .client_id("shared")
        .retry_backoff(ms(5))
        .retry_backoff_max(ms(40))
        .reconnect_backoff(ms(5))
        .reconnect_backoff_max(ms(40))
        .build()
        .unwrap()
}

/// A producer that shares the cluster.
pub(crate) fn on(cluster: &Cluster) -> ProducerBuilder {
    Producer::on(cluster).linger(ms(1))
}

/// The requests of this kind that the brokers have seen.
pub(crate) fn seen(fake: &FakeCluster, api: Api) -> Vec<SeenRequest> {
    fake.requests().into_iter().filter(|request| request.api == api).collect()
}
