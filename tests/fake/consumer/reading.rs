//! What a consumer reads, from where, and in which order.

use kafka_blocking::testing::{FakeCluster, KafkaVersion};
use kafka_blocking::{Compression, ErrorKind, Start};

use super::*;

#[test]
fn every_record_of_every_partition_is_read_once_and_in_order() {
    watch_for_panics();
    for version in KafkaVersion::ALL {
        let cluster = FakeCluster::builder().brokers(3).version(version).topic("t", 7).start().unwrap();
        for partition in 0..7 {
            let compression = if partition % 2 == 0 { Compression::None } else { Compression::Lz4 };
            write_compressed(&cluster, partition, 0, 1000, compression);
        }
        let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
        let mut next = [0_u64; 7];
        for record in consumer.records() {
            let record = record.unwrap();
            let place = record.partition() as usize;
            assert_eq!((number(record.value()), record.offset() as u64), (next[place], next[place]));
            next[place] += 1;
            if next == [1000; 7] {
                break;
            }
        }
        assert_eq!(next, [1000; 7], "{version:?}");
        // And what comes behind the records that were read.
        write(&cluster, 3, 1000, 1001);
        assert_eq!(offsets(&take(&mut consumer, 1)), [1000], "{version:?}");
        consumer.close().unwrap();
        assert_no_refusals(&cluster);
    }
    assert_no_panics();
}

#[test]
fn partitions_that_are_added_are_read_from_their_beginning() {
    watch_for_panics();
    let cluster = one_topic("t", 1);
    write(&cluster, 0, 0, 3);
    let builder = consumer(&cluster).metadata_max_age(ms(50));
    let mut consumer = builder.assign_topic("t", Start::End).build().unwrap();
    let handle = consumer.handle();
    until("the end is found", || {
        assert!(consumer.poll(ms(5)).unwrap().is_empty());
        handle.position(&partition(0)).unwrap() == Some(3)
    });
    cluster.add_partitions("t", 1).unwrap();
    write(&cluster, 1, 0, 3);
    let read = take(&mut consumer, 3);
    assert!(read.iter().all(|record| record.partition() == 1));
    assert_eq!(offsets(&read), [0, 1, 2]);
    assert_eq!(handle.assignment(), [partition(0), partition(1)]);
    assert_no_panics();
}

#[test]
fn a_pause_keeps_what_was_read_ahead() {
    watch_for_panics();
    let cluster = one_topic("t", 2);
    write(&cluster, 0, 0, 10);
    let mut consumer = consumer(&cluster).assign_topic("t", Start::Beginning).build().unwrap();
    let handle = consumer.handle();
    handle.pause(&partition(0)).unwrap();
    write(&cluster, 1, 0, 10);
    // Nothing of the paused one is returned, by any way to read.
    assert!(take(&mut consumer, 10).iter().all(|record| record.partition() == 1));
    assert!(consumer.poll(ms(300)).unwrap().is_empty());
    assert!(handle.is_paused(&partition(0)).unwrap());
    handle.resume(&partition(0)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 10)), (0..10).collect::<Vec<_>>());
    // What has come before a pause comes after it, and a seek in between counts.
    write(&cluster, 0, 10, 20);
    until("the next records are there", || handle.lag(&partition(0)).unwrap() == Some(10));
    handle.pause(&partition(0)).unwrap();
    assert!(consumer.poll(ms(50)).unwrap().is_empty());
    cluster.pause(cluster.brokers()[0]);
    handle.resume(&partition(0)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 10)), (10..20).collect::<Vec<_>>(), "without the broker");
    cluster.resume(cluster.brokers()[0]);
    handle.resume(&partition(0)).unwrap();
    handle.pause(&partition(0)).unwrap();
    handle.seek(&partition(0), Start::Offset(4)).unwrap();
    assert!(consumer.poll(ms(50)).unwrap().is_empty());
    handle.resume(&partition(0)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 2)), [4, 5]);
    assert_no_panics();
}

#[test]
fn a_poll_is_bounded_in_bytes_and_partitions_take_turns() {
    watch_for_panics();
    let cluster = one_topic("t", 3);
    for partition in 0..3 {
        write(&cluster, partition, 0, 20_000);
    }
    let builder = consumer(&cluster).assign_topic("t", Start::Beginning).max_poll_bytes(10_000);
    let mut consumer = builder.build().unwrap();
    let handle = consumer.handle();
    until("all is read ahead", || handle.buffer_bytes().0 > 3 * 20_000 * 10);
    let mut read = 0;
    while read < 60_000 {
        let polled = consumer.poll(BOUND).unwrap();
        let bytes: usize = polled.batches().iter().map(kafka_blocking::Batch::size_bytes).sum();
        let largest = polled.batches().iter().map(kafka_blocking::Batch::size_bytes).max().unwrap();
        assert!(bytes <= 10_000 + largest, "{bytes}");
        read += polled.records().filter(Result::is_ok).count();
    }
    assert_eq!(read, 60_000);
    assert_no_panics();
}

#[test]
fn what_is_not_assigned_is_refused() {
    watch_for_panics();
    let cluster = one_topic("t", 2);
    let mut consumer = consumer(&cluster).assign(partition(0), Start::Beginning).build().unwrap();
    let handle = consumer.handle();
    let kinds = [
        handle.seek(&partition(1), Start::End).unwrap_err().kind(),
        handle.pause(&partition(1)).unwrap_err().kind(),
        handle.position(&partition(1)).unwrap_err().kind(),
        handle.seek(&partition(0), Start::Offset(-1)).unwrap_err().kind(),
    ];
    assert_eq!(kinds, [ErrorKind::InvalidInput; 4]);
    assert!(!handle.skip(&partition(0)).unwrap(), "there is nothing to skip");
    consumer.close().unwrap();
}

/// The answer to a long poll is not waited for: neither after a seek, nor where a gate opens, nor after a resume.
#[test]
fn what_begins_while_a_long_poll_is_under_way_comes_at_once() {
    watch_for_panics();
    let cluster = one_topic("t", 2);
    for n in 0..20 {
        write(&cluster, 0, 10 * n, 10 * (n + 1));
    }
    // A long poll lasts far longer than the test may.
    let builder = consumer(&cluster).fetch_max_wait(HOUR).request_timeout(HOUR).max_partition_fetch_bytes(1024);
    let mut consumer = builder.buffer_memory(64 * 1024).assign_topic("t", Start::Beginning).build().unwrap();
    let handle = consumer.handle();
    assert_eq!(offsets(&take(&mut consumer, 200)), (0..200).collect::<Vec<_>>());
    for to in [50, 199, 0] {
        handle.seek(&partition(0), Start::Offset(to)).unwrap();
        assert_eq!(offsets(&take(&mut consumer, 1)), [to]);
    }
    handle.seek(&partition(0), Start::Beginning).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 200)), (0..200).collect::<Vec<_>>(), "to the end");
    handle.pause(&partition(0)).unwrap();
    assert!(consumer.poll(ms(50)).unwrap().is_empty());
    handle.seek(&partition(0), Start::Offset(150)).unwrap();
    handle.resume(&partition(0)).unwrap();
    assert_eq!(offsets(&take(&mut consumer, 50)), (150..200).collect::<Vec<_>>());
    // And what is written later comes by the long poll.
    write(&cluster, 0, 200, 201);
    assert_eq!(offsets(&take(&mut consumer, 1)), [200]);
    assert_no_panics();
}

#[test]
fn consumers_and_producers_share_a_cluster_and_leave_it_one_by_one() {
    watch_for_panics();
    let fake = one_topic("t", 1);
    let cluster = kafka_blocking::Cluster::builder(fake.bootstrap()).build().unwrap();
    let on = || Consumer::on(&cluster).assign_topic("t", Start::Beginning);
    let (mut one, mut other) = (on().client_id("one").build().unwrap(), on().client_id("other").build().unwrap());
    let producer = Producer::on(&cluster).build().unwrap();
    succeed(&send_all(&producer, "t", 0, 0, 10));
    assert_eq!((take(&mut one, 10).len(), take(&mut other, 10).len()), (10, 10));
    one.close().unwrap();
    drop(cluster);
    succeed(&send_all(&producer, "t", 0, 10, 20));
    assert_eq!(take(&mut other, 10).len(), 10);
    close(&producer);
    let client_ids = fake.requests().into_iter().filter_map(|request| request.client_id);
    assert!(["one", "other"].iter().all(|id| client_ids.clone().any(|client_id| client_id == *id)));
    assert_no_panics();
}
