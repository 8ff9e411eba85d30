//! The one bound over all bytes.

use kafka_blocking::{Batch, ErrorKind, Producer, Record, Start};

use super::*;

const MEGABYTE: usize = 1 << 20;

/// Writes so many records of 100,000 bytes.
fn write_large(cluster: &kafka_blocking::testing::FakeCluster, partition: i32, count: usize) {
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    let record = |_| producer.send(Record::to("t").partition(partition).value(vec![7; 100_000]));
    let sent: Vec<_> = (0..count).map(record).collect();
    succeed(&sent);
    close(&producer);
}

#[test]
fn a_program_that_sleeps_keeps_the_memory_within_its_bound() {
    watch_for_panics();
    let cluster = three_brokers("t", 6);
    for partition in 0..6 {
        write_large(&cluster, partition, 50);
    }
    let builder = consumer(&cluster).buffer_memory(4 * MEGABYTE).max_partition_fetch_bytes(300_000);
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    let handle = consumer.handle();
    let used = || handle.buffer_bytes().0;
    until("much is read ahead", || used() > MEGABYTE);
    let mut most = 0;
    for _ in 0..500 {
        most = most.max(used());
        std::thread::sleep(ms(1));
    }
    // One batch for each leader may come above it.
    assert!(most <= 4 * MEGABYTE + 3 * 400_000, "{most}");
    let read: usize = (0..300).map(|_| take(&mut consumer, 1).len()).sum();
    assert_eq!(read, 300);
    // The batch that the last record is of is held until something else is read.
    assert!(consumer.poll(ms(1)).unwrap().is_empty());
    assert_eq!(handle.buffer_bytes().1, 0);
    assert_no_panics();
}

#[test]
fn a_program_that_holds_all_memory_is_told_so() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    write_large(&cluster, 0, 50);
    let builder = consumer(&cluster).buffer_memory(MEGABYTE).max_partition_fetch_bytes(300_000);
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    let handle = consumer.handle();
    let mut held: Vec<Batch> = Vec::new();
    let error = loop {
        match consumer.poll(ms(500)) {
            Ok(polled) => held.extend(polled.into_batches()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::BudgetHeld, "{error}");
    assert_eq!(error.context().limit, Some(("buffer_memory", MEGABYTE as u64)));
    let (used, by_program) = handle.buffer_bytes();
    assert!(by_program > MEGABYTE / 2 && by_program <= used, "{used} {by_program}");
    assert!(held.len() < 50);
    // A clone, and a record that was kept, hold as much as the batch.
    let count: usize = held.iter().map(|batch| batch.records().count()).sum();
    let kept: Vec<KeptRecord> = held.iter().map(|batch| batch.records().next().unwrap().unwrap().keep()).collect();
    drop(held);
    assert_eq!(handle.buffer_bytes().1, by_program);
    drop(kept);
    assert_eq!(handle.buffer_bytes().1, 0);
    assert_eq!((count..50).map(|_| take(&mut consumer, 1).len()).sum::<usize>(), 50 - count);
    assert_no_panics();
}

#[test]
fn a_partition_whose_batches_are_held_does_not_stop_the_others() {
    watch_for_panics();
    let cluster = one_topic("t", 3);
    for partition in 0..3 {
        write_large(&cluster, partition, 60);
    }
    let builder = consumer(&cluster).buffer_memory(4 * MEGABYTE).max_partition_fetch_bytes(200_000);
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    let (mut held, mut read) = (Vec::new(), [0; 3]);
    while read[1] < 60 || read[2] < 60 {
        let batch = consumer.batches().next().unwrap().unwrap();
        read[batch.partition() as usize] += batch.records().count();
        if batch.partition() == 0 {
            held.push(batch);
        }
    }
    assert!(read[0] < 60 && !held.is_empty(), "{read:?}");
    held.clear();
    while read[0] < 60 {
        read[0] += consumer.batches().next().unwrap().unwrap().records().count();
    }
    assert_eq!(read, [60; 3]);
    assert_no_panics();
}

#[test]
fn batches_go_to_other_threads_and_outlive_the_consumer() {
    watch_for_panics();
    let cluster = one_topic("t", 4);
    for partition in 0..4 {
        write_compressed(&cluster, partition, 0, 1000, kafka_blocking::Compression::Lz4);
    }
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    let handle = consumer.handle();
    let (give, given) = std::sync::mpsc::channel::<Batch>();
    let worker = std::thread::spawn(move || {
        let batches: Vec<Batch> = given.iter().collect();
        let count = |batch: &Batch| batch.records().filter(|record| record.as_ref().unwrap().value().is_some()).count();
        let clones = batches.clone();
        (batches.iter().map(count).sum::<usize>(), clones.iter().map(count).sum::<usize>())
    });
    let mut next = [0; 4];
    while next != [1000; 4] {
        let batch = consumer.batches().next().unwrap().unwrap();
        next[batch.partition() as usize] = batch.next_offset();
        assert!(batch.offsets().contains(&(batch.next_offset() - 1)));
        give.send(batch).unwrap();
    }
    drop(consumer);
    drop(give);
    assert_eq!(worker.join().unwrap(), (4000, 4000));
    assert_eq!(handle.buffer_bytes().1, 0);
    assert_no_panics();
}

/// Each partition may have its part, and all parts together are more than the memory.
#[test]
fn a_program_that_holds_a_little_of_many_partitions_is_told_so() {
    watch_for_panics();
    let cluster = one_topic("t", 8);
    for partition in 0..8 {
        write_large(&cluster, partition, 4);
    }
    let builder = consumer(&cluster).buffer_memory(MEGABYTE).max_partition_fetch_bytes(500_000);
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    let mut held: Vec<Batch> = Vec::new();
    let error = loop {
        match consumer.poll(ms(500)) {
            Ok(polled) => held.extend(polled.into_batches()),
            Err(error) => break error,
        }
    };
    assert_eq!(error.kind(), ErrorKind::BudgetHeld, "{error}");
    let mut read: usize = held.drain(..).map(|batch| batch.records().count()).sum();
    while read < 32 {
        read += take(&mut consumer, 1).len();
    }
    assert_no_panics();
}
