//! Exactly once on three brokers that are killed one after the other, while producers are replaced in the middle of their
//! transactions: every transaction is there as a whole or not at all.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a panic is how a test fails")]

mod support;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::{Client, RawProducer};
use kafka_blocking::{ErrorKind, GroupMetadata, NotCommitted, Producer, Record, Recovery, TopicPartition};
use support::jars::Version;
use support::kafka::{Cluster, Options};
use support::wait_for;

const TOPIC: &str = "whole";
const PARTITIONS: i32 = 3;
const RECORDS: i32 = 9;
const ROUNDS: usize = 3;
const LIMIT: Duration = Duration::from_secs(240);

/// What became of a transaction, as its producer knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    Committed,
    Aborted,
}

fn build(cluster: &Cluster, id: &str) -> Producer {
    let producer = Producer::builder(cluster.bootstrap())
        .transactional_id(id)
        .request_timeout(Duration::from_secs(5))
        .max_block(Duration::from_secs(10))
        .build()
        .unwrap();
    let deadline = Instant::now() + LIMIT;
    while let Err(error) = producer.init_transactions() {
        assert!(error.recovery() == Recovery::Retry && Instant::now() < deadline, "{id}: {error:?}");
    }
    producer
}

/// Runs transactions until it is told to stop: some are aborted, and now and then another instance takes over.
fn work(cluster: &Cluster, id: &str, stop: &AtomicBool, done: &AtomicU64) -> BTreeMap<u64, Fate> {
    let mut fates = BTreeMap::new();
    let mut producer = build(cluster, id);
    let deadline = Instant::now() + LIMIT;
    let mut number = 0_u64;
    while !stop.load(Ordering::Relaxed) {
        assert!(Instant::now() < deadline, "{id} does not come to an end");
        let transaction = match producer.begin_transaction() {
            Ok(transaction) => transaction,
            Err(error) if error.recovery() == Recovery::Retry => continue,
            Err(error) => panic!("{id}: {error:?}"),
        };
        number += 1;
        for i in 0..RECORDS {
            let value = format!("{id}:{number}:{i}");
            transaction.send(Record::to(TOPIC).partition(i % PARTITIONS).value(value));
        }
        let position = [(TopicPartition::new(TOPIC, 0), i64::try_from(number).unwrap())];
        let offsets = transaction.send_offsets(position, &GroupMetadata::new(id));
        let replaced = number.is_multiple_of(20);
        let next = replaced.then(|| build(cluster, id));
        let fate = if number.is_multiple_of(7) || offsets.is_err() && !replaced {
            let aborted = transaction.abort();
            // Nothing else can be the outcome, told or not.
            assert!(
                aborted.as_ref().err().is_none_or(|error| {
                    error.recovery() == Recovery::Retry || replaced && error.kind() == ErrorKind::Fenced
                }),
                "{id}: {aborted:?}"
            );
            Fate::Aborted
        } else {
            let mut outcome = transaction.commit();
            loop {
                match outcome {
                    Ok(()) => break Fate::Committed,
                    Err(late) if late.error().recovery() == Recovery::Retry && Instant::now() < deadline => {
                        outcome = late.into_transaction().commit();
                    }
                    Err(failed) => break give_up(id, failed, replaced),
                }
            }
        };
        assert!(!replaced || fate == Fate::Aborted, "{id}: a locked out producer has committed");
        fates.insert(number, fate);
        done.fetch_add(1, Ordering::Relaxed);
        if let Some(next) = next {
            drop(producer);
            producer = next;
        }
    }
    drop(producer.close(Duration::from_secs(30)));
    fates
}

fn give_up(id: &str, failed: NotCommitted, replaced: bool) -> Fate {
    let error = failed.error().clone();
    match error.recovery() {
        Recovery::AbortTransaction => drop(failed.into_transaction().abort()),
        Recovery::Fatal if replaced && error.kind() == ErrorKind::Fenced => {}
        _ => panic!("{id}: {failed:?}"),
    }
    Fate::Aborted
}

#[test]
fn every_transaction_is_there_as_a_whole_or_not_at_all_although_brokers_are_killed() {
    let cluster = Cluster::start(Options::three(Version::V4_3).property("broker.session.timeout.ms", "4000"));
    cluster.admin().create_topic(TOPIC, usize::try_from(PARTITIONS).unwrap(), 3, &["min.insync.replicas=2"]);
    let (stop, done) = (AtomicBool::new(false), AtomicU64::new(0));
    let ids = ["first", "second"];
    let fates: Vec<BTreeMap<u64, Fate>> = thread::scope(|scope| {
        let workers: Vec<_> = ids.iter().map(|id| scope.spawn(|| work(&cluster, id, &stop, &done))).collect();
        let progress = |by: u64| {
            let before = done.load(Ordering::Relaxed);
            wait_for("transactions", Duration::from_secs(120), || {
                (done.load(Ordering::Relaxed) >= before + by || workers.iter().any(|worker| worker.is_finished()))
                    .then_some(())
            });
        };
        progress(30);
        for node in 0..ROUNDS {
            cluster.kill(node % cluster.len());
            progress(10);
            cluster.restart(node % cluster.len());
            progress(10);
        }
        stop.store(true, Ordering::Relaxed);
        workers.into_iter().map(|worker| worker.join().unwrap()).collect()
    });

    let mut client = Client::connect(cluster.bootstrap()).unwrap();
    let mut found: BTreeMap<(String, u64), Vec<i32>> = BTreeMap::new();
    for partition in 0..PARTITIONS {
        let end = wait_for("the end of all transactions", Duration::from_secs(120), || {
            let end = client.end_offset(TOPIC, partition).ok()?;
            (client.stable_offset(TOPIC, partition).ok()? == end).then_some(end)
        });
        for record in client.read_committed(TOPIC, partition, 0..end).unwrap() {
            let value = record.value_text();
            let parts: Vec<&str> = value.split(':').collect();
            found.entry((parts[0].to_owned(), parts[1].parse().unwrap())).or_default().push(parts[2].parse().unwrap());
        }
    }
    let whole: Vec<i32> = (0..RECORDS).collect();
    let mut committed = 0;
    for (id, fates) in ids.iter().zip(&fates) {
        for (number, fate) in fates {
            let mut records = found.remove(&((*id).to_owned(), *number)).unwrap_or_default();
            records.sort_unstable();
            match fate {
                Fate::Committed => assert_eq!(records, whole, "{id}:{number}"),
                Fate::Aborted => assert_eq!(records, Vec::<i32>::new(), "{id}:{number}"),
            }
            committed += usize::from(*fate == Fate::Committed);
        }
        let last = fates.iter().rev().find(|(_, fate)| **fate == Fate::Committed).map(|(number, _)| *number).unwrap();
        let mut reader = RawProducer::connect(cluster.bootstrap(), "nobody").unwrap();
        let offset = reader.committed_offset(id, TOPIC, 0, true).unwrap().unwrap().offset;
        assert_eq!(u64::try_from(offset).unwrap(), last, "{id}: the offset of the last that was committed");
    }
    assert_eq!(found, BTreeMap::new(), "nobody knows of these");
    let all: usize = fates.iter().map(BTreeMap::len).sum();
    println!("{committed} of {all} transactions were committed");
    assert!(committed > 40, "{committed} of {all}");
}
