//! Bytes that are not what they should be.

use kafka_blocking::{Compression, Error, ErrorKind, Start};

use super::*;

const CRC: std::ops::Range<usize> = 17..21;

/// Reads until an error comes; how many records came before.
#[track_caller]
fn until_error(consumer: &mut Consumer) -> (usize, Error) {
    let mut count = 0;
    for record in consumer.records() {
        match record {
            Ok(_) => count += 1,
            Err(error) => return (count, error),
        }
    }
    panic!("no error came after {count} records");
}

#[test]
fn a_damaged_batch_is_one_error_and_can_be_skipped() {
    watch_for_panics();
    for compression in [Compression::None, Compression::Lz4] {
        let cluster = one_topic("t", 2);
        for from in [0, 10, 20] {
            write_compressed(&cluster, 0, from, from + 10, compression);
        }
        let batch = cluster.batches("t", 0).unwrap().into_iter().find(|batch| batch.last_offset >= 12).unwrap();
        cluster.damage_batch("t", 0, 12, |bytes| bytes[CRC.start] ^= 1).unwrap();
        let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
        let (count, error) = until_error(&mut consumer);
        assert_eq!(count as i64, batch.base_offset, "{error}");
        assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
        let context = error.context();
        assert_eq!((context.topic.as_deref(), context.partition), (Some("t"), Some(0)));
        assert_eq!((context.offset, context.next_offset), (Some(batch.base_offset), Some(batch.last_offset + 1)));
        // It is told once, nothing of the partition comes behind it, and the other one goes on.
        write(&cluster, 1, 0, 1);
        assert_eq!(take(&mut consumer, 1)[0].partition(), 1);
        assert!(consumer.poll(ms(300)).unwrap().is_empty());
        let handle = consumer.handle();
        assert_eq!(handle.position(&partition(0)).unwrap(), Some(batch.base_offset));
        assert!(handle.skip(&partition(0)).unwrap());
        let rest: Vec<_> = (batch.last_offset + 1..30).collect();
        assert_eq!(offsets(&take(&mut consumer, rest.len())), rest);
        assert!(!handle.skip(&partition(0)).unwrap());
        assert_no_panics();
    }
}

#[test]
fn a_batch_that_another_thread_finds_damaged_stops_its_partition() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    for from in [0, 10, 20] {
        write_compressed(&cluster, 0, from, from + 10, Compression::Lz4);
    }
    cluster.damage_batch("t", 0, 0, |bytes| bytes[CRC.start] ^= 1).unwrap();
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    let batch = consumer.batches().next().unwrap().unwrap();
    let worker = std::thread::spawn(move || batch.records().next().unwrap().unwrap_err());
    assert_eq!(worker.join().unwrap().context().offset, Some(0));
    assert!(consumer.batches().next().is_none(), "nothing can come any more");
    assert!(consumer.poll(ms(100)).unwrap().is_empty());
    assert!(consumer.handle().skip(&partition(0)).unwrap());
    assert!(take(&mut consumer, 1)[0].offset() > 0);
    assert_no_panics();
}

#[test]
fn records_over_the_limit_are_one_error_and_can_be_skipped() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    let producer =
        kafka_blocking::Producer::builder(cluster.bootstrap()).compression(Compression::Lz4).build().unwrap();
    for size in [10, 200_000, 10] {
        producer.send(kafka_blocking::Record::to("t").value(vec![0; size])).wait().unwrap();
    }
    close(&producer);
    let limit = 100_000;
    let builder = consumer(&cluster).max_decompressed_bytes(limit);
    let mut consumer = builder.assign_topic("t", Start::Beginning).build().unwrap();
    let (count, error) = until_error(&mut consumer);
    assert_eq!((count, error.kind()), (1, ErrorKind::Compression), "{error}");
    assert_eq!(error.context().limit, Some(("max_decompressed_bytes", limit as u64)));
    assert_eq!((error.context().offset, error.context().next_offset), (Some(1), Some(2)));
    assert!(consumer.handle().skip(&partition(0)).unwrap());
    assert_eq!(offsets(&take(&mut consumer, 1)), [2]);
    assert_no_panics();
}

/// What each change of a batch's bytes leads to is an error of its partition with an offset, or it is not noticed; never a
/// panic, a hang, or a loop.
#[test]
fn whatever_a_batch_is_changed_to_ends_in_an_error_with_an_offset() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    write(&cluster, 0, 0, 5);
    write(&cluster, 0, 5, 10);
    let mut original = Vec::new();
    cluster.damage_batch("t", 0, 5, |bytes| original.clone_from(bytes)).unwrap();
    type Change = (&'static str, fn(&mut Vec<u8>));
    let changes: &[Change] = &[
        ("a length of nothing", |bytes| bytes[8..12].copy_from_slice(&0_i32.to_be_bytes())),
        ("a negative length", |bytes| bytes[8..12].copy_from_slice(&(-1_i32).to_be_bytes())),
        ("a length that is too short", |bytes| bytes[8..12].copy_from_slice(&20_i32.to_be_bytes())),
        ("format 3", |bytes| bytes[16] = 3),
        ("format 0", |bytes| bytes[16] = 0),
        ("format 1", |bytes| bytes[16] = 1),
        ("codec 7", |bytes| bytes[22] |= 7),
        ("an offset that went backwards", |bytes| bytes[0..8].copy_from_slice(&1_i64.to_be_bytes())),
        ("a negative offset", |bytes| bytes[0..8].copy_from_slice(&(-5_i64).to_be_bytes())),
        ("the last offset there is", |bytes| bytes[0..8].copy_from_slice(&i64::MAX.to_be_bytes())),
        ("a negative last offset", |bytes| bytes[23..27].copy_from_slice(&(-1_i32).to_be_bytes())),
        ("2147483647 records", |bytes| bytes[57..61].copy_from_slice(&i32::MAX.to_be_bytes())),
        ("a negative number of records", |bytes| bytes[57..61].copy_from_slice(&(-1_i32).to_be_bytes())),
        ("no records", |bytes| bytes[57..61].copy_from_slice(&0_i32.to_be_bytes())),
        ("a control batch", |bytes| bytes[22] |= 0x20),
    ];
    for (what, change) in changes {
        cluster
            .damage_batch("t", 0, 5, |bytes| {
                bytes.clone_from(&original);
                change(bytes);
            })
            .unwrap();
        let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
        let before = cluster.request_count(kafka_blocking::testing::Api::Fetch);
        let (count, error) = until_error(&mut consumer);
        assert_eq!(count, 5, "{what}: {error}");
        assert!(matches!(error.kind(), ErrorKind::BrokerMisbehaved | ErrorKind::Compression), "{what}: {error}");
        assert_eq!(error.context().partition, Some(0), "{what}");
        assert!(error.context().offset.is_some_and(|offset| offset >= 0), "{what}: {error}");
        assert!(consumer.poll(ms(50)).unwrap().is_empty(), "{what}");
        assert!(cluster.request_count(kafka_blocking::testing::Api::Fetch) - before < 10, "{what}: a loop of fetches");
        consumer.handle().seek(&partition(0), Start::Offset(3)).unwrap();
        assert_eq!(offsets(&take(&mut consumer, 2)), [3, 4], "{what}");
        consumer.close().unwrap();
    }
    assert_no_panics();
}
