//! Batches that the program fills by itself, on real Kafka and on the fake cluster.

use std::collections::BTreeMap;
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::testing::{Api, FakeCluster, Fault, On, SeenRequest};
use kafka_blocking::{
    Acks, Appended, AppendedRecord, BatchDelivery, Compression, DirectBatch, ErrorCode, ErrorKind, Headers,
    InterceptorError, Producer, ProducerBuilder, ProducerInterceptor, Record, RecordMetadata, Recovery, Result,
    Timeout, Timestamp, TimestampType, Written,
};

use crate::support::fake::{HASTE, builder, cluster, hasty};
use crate::support::target::{Target, on_each, values as values_of};
use crate::support::{dump, kafka, tools, wait_for};

const BOUND: Duration = Duration::from_secs(60);
/// How late a call may be. One that missed its own limit would wait for a default one, which is 30 s or more.
const SLACK: Duration = Duration::from_secs(15);

const fn ms(milliseconds: u64) -> Duration {
    Duration::from_millis(milliseconds)
}

on_each!(
    [on_the_fake_cluster, on_real_kafka]
    a_batch_is_in_no_queue_before_it_is_sent,
    a_record_that_does_not_fit_is_told_and_the_batch_is_as_it_was,
    a_closed_batch_takes_no_more_and_an_open_one_is_filled_by_send,
    a_batch_comes_back_when_its_topic_is_not_found_in_time_and_is_not_sent,
    a_batch_is_delivered_although_its_handle_is_dropped,
    any_number_of_batches_go_in_the_order_in_which_they_are_sent,
    the_offset_of_a_batch_is_that_of_its_first_record,
    every_part_of_a_record_in_a_batch_arrives,
    a_batch_for_a_partition_that_does_not_exist_comes_back_at_once,
    a_direct_batch_over_the_topics_limit_is_split_and_keeps_its_offsets,
    a_record_at_fault_is_told_as_the_batchs_error,
    a_batch_is_in_its_transaction,
    the_brokers_clock_is_told_for_every_record_of_a_batch,
    a_batch_without_acks_has_no_offset,
    a_compressed_batch_is_read_back,
);

/// What these tests have of a cluster besides.
trait Prepare {
    fn builder(&self) -> ProducerBuilder;
}

impl Prepare for Target {
    fn builder(&self) -> ProducerBuilder {
        Producer::builder(&self.bootstrap)
    }
}

/// Adds a record with this value, which must fit.
fn add(batch: &mut DirectBatch, value: &str) -> AppendedRecord {
    batch.append(None::<&str>, value).unwrap().record().unwrap()
}

fn batch_of<V: AsRef<str>>(producer: &Producer, values: impl IntoIterator<Item = V>) -> DirectBatch {
    let mut batch = producer.create_batch();
    for value in values {
        add(&mut batch, value.as_ref());
    }
    batch
}

fn strings<const N: usize>(values: [&str; N]) -> Vec<String> {
    values.map(str::to_owned).to_vec()
}

mod promises {
    use super::*;

    pub(super) fn a_batch_is_in_no_queue_before_it_is_sent(target: &Target) {
        let mut reader = target.client(2);
        let producer = target.builder().build().unwrap();
        let first = batch_of(&producer, ["a", "b", "c"]);
        let second = batch_of(&producer, ["d"]);
        let dropped = batch_of(&producer, ["never"]);
        assert_eq!((first.record_count(), second.record_count()), (3, 1));
        // Nothing waits for them: neither a flush nor, below, a close.
        producer.flush_timeout(BOUND).unwrap();
        assert_eq!(producer.metrics().batches_unfinished, 0);
        assert_eq!(reader.end_offset(target.name, 1).unwrap(), 0);
        drop(dropped);
        let sent = producer.send_batch(first, target.name, 1).unwrap().wait().unwrap();
        assert_eq!((sent.topic(), sent.partition()), (target.name, 1));
        assert_eq!((sent.base_offset().unwrap(), sent.record_count()), (0, 3));
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(values_of(&reader.read_all(target.name, 1).unwrap()), ["a", "b", "c"]);
        assert_eq!(reader.end_offset(target.name, 0).unwrap(), 0);
        // What is left is of no use any more, and says so.
        let refused = producer.send_batch(second, target.name, 1).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::Closed);
        let mut second = refused.into_batch();
        let error = second.append("k", "v").unwrap_err();
        assert_eq!((error.kind(), second.record_count()), (ErrorKind::Closed, 1));
    }

    pub(super) fn a_record_that_does_not_fit_is_told_and_the_batch_is_as_it_was(target: &Target) {
        let mut reader = target.client(1);
        let producer = target.builder().batch_size(1000).build().unwrap();
        let (mut batch, value) = (producer.create_batch(), "x".repeat(90));
        assert_eq!((batch.is_empty(), batch.size_bytes()), (true, 61));
        let mut records = Vec::new();
        while let Appended::Added(record) =
            batch.append_with("key", &value, &Headers::new(), Some(Timestamp::from_millis(1000))).unwrap()
        {
            records.push(record);
        }
        let size = batch.size_bytes();
        assert!(size <= 1000 && size + records[0].size_bytes() > 1000, "{size}");
        assert_eq!(batch.record_count() as usize, records.len());
        assert_eq!(size, 61 + records.iter().map(|record| record.size_bytes()).sum::<usize>());
        for (index, record) in records.iter().enumerate() {
            assert_eq!((record.index() as usize, record.timestamp().millis()), (index, 1000));
        }
        // Again, and what is small enough.
        assert!(batch.append("key", &value).unwrap().is_full());
        assert_eq!((batch.record_count() as usize, batch.size_bytes()), (records.len(), size));
        let small = batch.append(None::<&str>, None::<&str>).unwrap().record();
        let small = small.map(|record| record.index() as usize);
        assert_eq!(small, Some(records.len()));
        // A record over the limit has a batch to itself, as with `send`; it does not fit behind another one.
        let mut large = producer.create_batch();
        assert_eq!(large.append("k", [7; 3000]).unwrap().record().unwrap().index(), 0);
        assert!(large.append("k", "v").unwrap().is_full());
        let sent = [batch, large].map(|batch| producer.send_batch(batch, target.name, 0).unwrap());
        let offsets = sent.map(|delivery| delivery.wait().unwrap().base_offset().unwrap());
        assert_eq!(offsets, [0, records.len() as i64 + 1]);
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(reader.end_offset(target.name, 0).unwrap(), records.len() as i64 + 2);
    }

    pub(super) fn a_closed_batch_takes_no_more_and_an_open_one_is_filled_by_send(target: &Target) {
        let mut reader = target.client(1);
        let producer = target.builder().linger(4 * BOUND).delivery_timeout(8 * BOUND).build().unwrap();
        producer.partitions_for(target.name).unwrap();
        let send = |value: &'static str| producer.send(Record::to(target.name).value(value));

        // Closed: it goes at once, without linger, and what is sent after it goes apart.
        let mut closed = batch_of(&producer, ["0", "1"]);
        closed.close();
        assert!(closed.is_closed());
        assert!(closed.append(None::<&str>, "no").unwrap().is_full());
        assert_eq!(closed.record_count(), 2);
        let closed = producer.send_batch(closed, target.name, 0).unwrap();
        wait_for("the closed batch", BOUND, || closed.is_done().then_some(()));
        let apart = send("2");
        assert_eq!(closed.wait().unwrap().base_offset().unwrap(), 0);

        // Left open: it waits as any batch does, `send` fills it, and its result is of its own records.
        let open = producer.send_batch(batch_of(&producer, ["3", "4"]), target.name, 0).unwrap();
        let inside = [send("5"), send("6")];
        wait_for("the batch before", BOUND, || apart.is_done().then_some(()));
        thread::sleep(ms(50));
        assert!(!open.is_done() && open.try_wait().is_none());
        let sent = open.wait().unwrap();
        assert_eq!((sent.base_offset().unwrap(), sent.record_count(), sent.offset_of(2)), (3, 2, None));
        assert_eq!(apart.wait().unwrap().offset().unwrap(), 2);
        assert_eq!(inside.map(|delivery| delivery.wait().unwrap().offset().unwrap()), [5, 6]);
        producer.close_timeout(BOUND).unwrap();
        let records = reader.read_all(target.name, 0).unwrap();
        assert_eq!(values_of(&records), ["0", "1", "2", "3", "4", "5", "6"]);
        let batches: Vec<i64> = records.iter().map(|record| record.batch_base_offset()).collect();
        assert_eq!(batches, [0, 0, 2, 3, 3, 3, 3], "which record went in which batch");
    }

    pub(super) fn a_batch_comes_back_when_its_topic_is_not_found_in_time_and_is_not_sent(target: &Target) {
        let producer = target.builder().max_block(ms(700)).build().unwrap();
        let batch = batch_of(&producer, ["a", "b"]);
        let refused = producer.try_send_batch(batch, target.name, 0).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::WouldBlock);
        let begun = Instant::now();
        let refused = producer.send_batch(refused.into_batch(), target.name, 0).unwrap_err();
        let took = begun.elapsed();
        assert!((ms(700)..ms(700) + SLACK).contains(&took), "{took:?}");
        let error = refused.error();
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Timeout(Timeout::Metadata), Recovery::Retry));
        assert_eq!((error.written(), error.context().topic.as_deref()), (Some(Written::No), Some(target.name)));
        // It is the very batch: it can be filled further, and sent once the topic is there.
        let mut batch = refused.into_batch();
        assert_eq!(add(&mut batch, "c").index(), 2);
        let mut reader = target.client(1);
        thread::sleep(ms(300));
        assert_eq!(reader.end_offset(target.name, 0).unwrap(), 0, "a batch that timed out is never sent");
        let sent = wait_for("the topic to be seen", BOUND, {
            let mut batch = Some(batch);
            let producer = &producer;
            move || match producer.send_batch(batch.take()?, target.name, 0) {
                Ok(delivery) => Some(delivery),
                Err(refused) => {
                    batch = Some(refused.into_batch());
                    None
                }
            }
        });
        assert_eq!(sent.wait().unwrap().record_count(), 3);
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(values_of(&reader.read_all(target.name, 0).unwrap()), ["a", "b", "c"]);
    }

    pub(super) fn a_batch_is_delivered_although_its_handle_is_dropped(target: &Target) {
        let mut reader = target.client(1);
        let producer = target.builder().build().unwrap();
        for n in 0..10 {
            let batch = batch_of(&producer, (0..10).map(|m| (10 * n + m).to_string()));
            drop(producer.send_batch(batch, target.name, 0).unwrap());
        }
        producer.close_timeout(BOUND).unwrap();
        let wanted: Vec<String> = (0..100).map(|n| n.to_string()).collect();
        assert_eq!(values_of(&reader.read_all(target.name, 0).unwrap()), wanted);
    }

    pub(super) fn any_number_of_batches_go_in_the_order_in_which_they_are_sent(target: &Target) {
        let mut reader = target.client(2);
        let producer = target.builder().batch_size(4096).build().unwrap();
        // Made in one order, sent in another, to two partitions, and between records that are sent one by one.
        let mut batches: Vec<DirectBatch> = Vec::new();
        for n in 0..60 {
            let mut batch = batch_of(&producer, (0..7).map(|m| format!("{n} {m}")));
            if n % 3 == 0 {
                batch.close();
            }
            batches.push(batch);
        }
        let (mut wanted, mut sent, mut single) = ([Vec::new(), Vec::new()], Vec::new(), Vec::new());
        for (place, batch) in batches.into_iter().enumerate().rev() {
            let partition = place % 2;
            sent.push((partition, wanted[partition].len(), producer.send_batch(batch, target.name, partition as i32)));
            wanted[partition].extend((0..7).map(|m| format!("{place} {m}")));
            for m in 0..place % 4 {
                let (value, offset) = (format!("single {place} {m}"), wanted[partition].len());
                let record = Record::to(target.name).partition(partition as i32).value(&value);
                single.push((offset, producer.send(record)));
                wanted[partition].push(value);
            }
        }
        for (partition, offset, delivery) in sent {
            let sent = delivery.unwrap().wait().unwrap();
            assert_eq!((sent.partition() as usize, sent.base_offset().unwrap()), (partition, offset as i64));
        }
        for (offset, delivery) in single {
            assert_eq!(delivery.wait().unwrap().offset().unwrap(), offset as i64);
        }
        producer.close_timeout(BOUND).unwrap();
        for (partition, wanted) in wanted.into_iter().enumerate() {
            assert_eq!(values_of(&reader.read_all(target.name, partition as i32).unwrap()), wanted);
        }
    }

    pub(super) fn the_offset_of_a_batch_is_that_of_its_first_record(target: &Target) {
        target.client(1);
        let producer = target.builder().build().unwrap();
        for n in 0..5 {
            let mut batch = producer.create_batch();
            let records: Vec<AppendedRecord> = (0..4)
                .map(|m| {
                    batch
                        .append_with("k", "v", &Headers::new(), Some(Timestamp::from_millis(1_700_000_000_000 + m)))
                        .unwrap()
                        .record()
                        .unwrap()
                })
                .collect();
            let delivery = producer.send_batch(batch, target.name, 0).unwrap();
            let handles: Vec<_> = records.iter().map(|record| delivery.record(record)).collect();
            let sent = delivery.wait().unwrap();
            assert_eq!(
                (sent.base_offset(), sent.timestamp()),
                (Some(4 * n), Some(Timestamp::from_millis(1_700_000_000_000)))
            );
            let offsets: Vec<_> = (0..5).map(|index| sent.offset_of(index)).collect();
            assert_eq!(offsets, [Some(4 * n), Some(4 * n + 1), Some(4 * n + 2), Some(4 * n + 3), None]);
            // Each record has its own offset and its own time.
            for (m, handle) in (0..).zip(handles) {
                let sent = handle.wait().unwrap();
                assert_eq!(
                    (sent.offset().unwrap(), sent.timestamp().unwrap().millis()),
                    (4 * n + m, 1_700_000_000_000 + m)
                );
            }
        }
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn every_part_of_a_record_in_a_batch_arrives(target: &Target) {
        let mut reader = target.client(1);
        let producer = target.builder().build().unwrap();
        let mut batch = producer.create_batch();
        let mut headers = Headers::new();
        headers.push("a", "1");
        headers.push("a", "2");
        headers.push("b", None::<&str>);
        headers.push("", "");
        let none = Headers::new();
        let before = now_ms();
        let added = [
            batch.append_with(None::<&str>, None::<&str>, &none, None).unwrap(),
            batch.append_with("", "", &none, Some(Timestamp::from_millis(0))).unwrap(),
            batch
                .append_with("key", vec![0_u8, 255, 10], &headers, Some(Timestamp::from_millis(1_700_000_000_123)))
                .unwrap(),
            batch.append_with(b"bytes", String::from("owned"), &none, Some(Timestamp::from_millis(5))).unwrap(),
        ];
        let after = now_ms();
        let times = added.map(|added| added.record().unwrap().timestamp().millis());
        assert!((before..=after).contains(&times[0]), "a record without a time has the clock's: {times:?}");
        assert_eq!(times[1..], [0, 1_700_000_000_123, 5]);
        let error = batch.append_with("k", "v", &none, Some(Timestamp::from_millis(-1))).unwrap_err();
        assert_eq!((error.kind(), batch.record_count()), (ErrorKind::InvalidInput, 4));
        producer.send_batch(batch, target.name, 0).unwrap().wait().unwrap();
        producer.close_timeout(BOUND).unwrap();
        let found = reader.read_all(target.name, 0).unwrap();
        let parts: Vec<_> = found.iter().map(|record| (record.key(), record.value())).collect();
        let wanted = [
            (None, None),
            (Some(&b""[..]), Some(&b""[..])),
            (Some(b"key"), Some(&[0, 255, 10])),
            (Some(b"bytes"), Some(b"owned")),
        ];
        assert_eq!(parts, wanted);
        assert_eq!(found[2].headers(), &headers);
        assert!(found.iter().zip(times).all(|(record, time)| record.timestamp().unwrap().millis() == time));
    }

    pub(super) fn a_batch_for_a_partition_that_does_not_exist_comes_back_at_once(target: &Target) {
        let mut reader = target.client(2);
        let producer = target.builder().build().unwrap();
        let mut batch = batch_of(&producer, ["a"]);
        let begun = Instant::now();
        for (partition, kind) in [(2, ErrorKind::NoSuchPartition), (-1, ErrorKind::InvalidInput)] {
            let refused = producer.send_batch(batch, target.name, partition).unwrap_err();
            let error = refused.error();
            assert_eq!((error.kind(), error.recovery()), (kind, Recovery::Fix));
            let text = error.to_string();
            assert!(text.contains(target.name) && text.contains(&partition.to_string()), "{text}");
            batch = refused.into_batch();
        }
        assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
        let refused = producer.send_batch(batch, "no such topic", 0).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::InvalidInput);
        // `?` makes the error of it, and lets the batch go.
        let error: kafka_blocking::Error = refused.into();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert_eq!(producer.metrics().buffer_bytes_used, 0);
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(reader.end_offset(target.name, 1).unwrap(), 0);
    }

    pub(super) fn a_direct_batch_over_the_topics_limit_is_split_and_keeps_its_offsets(target: &Target) {
        let mut reader = target.client_with(1, [("max.message.bytes", "3000")]);
        let producer = target.builder().linger(Duration::from_secs(5)).build().unwrap();
        producer.send(Record::to(target.name).value("before")).wait().unwrap();
        let mut batch = producer.create_batch();
        let value = "x".repeat(200);
        let records: Vec<AppendedRecord> = (0..100_i64)
            .map(|n| {
                batch
                    .append_with(n.to_string(), &value, &Headers::new(), Some(Timestamp::from_millis(n)))
                    .unwrap()
                    .record()
                    .unwrap()
            })
            .collect();
        let delivery = producer.send_batch(batch, target.name, 0).unwrap();
        let (tell, told) = channel();
        let handles: Vec<_> = records.iter().map(|record| delivery.record(record)).collect();
        let behind = producer.send(Record::to(target.name).value("behind"));
        delivery.on_complete(move |result| tell.send(result).unwrap());
        producer.flush_timeout(BOUND).unwrap();
        let sent = told.try_recv().expect("a flush waits for the callback").unwrap();
        assert_eq!((sent.base_offset().unwrap(), sent.record_count()), (1, 100));
        assert!((0..100).all(|index| sent.offset_of(index) == Some(i64::from(index) + 1)));
        for (n, handle) in (0..).zip(handles) {
            let sent = handle.wait().unwrap();
            assert_eq!((sent.offset().unwrap(), sent.timestamp().unwrap().millis()), (n + 1, n));
        }
        assert_eq!(behind.wait().unwrap().offset().unwrap(), 101);
        assert!(producer.metrics().batches_split > 1, "{:?}", producer.metrics());

        // A record that is over the limit even alone: the others are written, and the batch says that some may be. The
        // producer does not know the limit yet.
        producer.close_timeout(BOUND).unwrap();
        let producer = target.builder().build().unwrap();
        let mut batch = producer.create_batch();
        let first = add(&mut batch, "first");
        let large = add(&mut batch, &"y".repeat(4000));
        let last = add(&mut batch, "last");
        let delivery = producer.send_batch(batch, target.name, 0).unwrap();
        let [first, large, last] = [first, large, last].map(|record| delivery.record(&record).wait());
        let error = delivery.wait().unwrap_err();
        assert_eq!((error.code(), error.written()), (Some(ErrorCode::MESSAGE_TOO_LARGE), Some(Written::Maybe)));
        assert_eq!(large.unwrap_err().written(), Some(Written::No));
        assert_eq!([first.unwrap().offset().unwrap(), last.unwrap().offset().unwrap()], [102, 103]);
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(reader.end_offset(target.name, 0).unwrap(), 104);
    }

    pub(super) fn a_record_at_fault_is_told_as_the_batchs_error(target: &Target) {
        target.client_with(1, [("cleanup.policy", "compact")]);
        let producer = target.builder().build().unwrap();
        let mut batch = producer.create_batch();
        let keyed = batch.append("k", "v").unwrap().record().unwrap();
        let bare = add(&mut batch, "a compacted topic takes no record without a key");
        let delivery = producer.send_batch(batch, target.name, 0).unwrap();
        let (keyed, bare) = (delivery.record(&keyed), delivery.record(&bare));
        let error = delivery.wait().unwrap_err();
        assert_eq!((error.code(), error.recovery()), (Some(ErrorCode::INVALID_RECORD), Recovery::Fix), "{error}");
        assert_eq!(error.written(), Some(Written::No));
        assert_eq!(bare.wait().unwrap_err().recovery(), Recovery::Fix);
        assert_eq!(keyed.wait().unwrap_err().recovery(), Recovery::Retry, "nothing is wrong with it");
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn a_batch_is_in_its_transaction(target: &Target) {
        let mut reader = target.client(1);
        let producer = target.builder().transactional_id(target.name).build().unwrap();
        producer.init_transactions().unwrap();
        // Made and filled before; sent only inside.
        let refused = producer.send_batch(batch_of(&producer, ["a", "b"]), target.name, 0).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::Misuse);
        let transaction = producer.transaction().unwrap();
        let sent = transaction.send_batch(refused.into_batch(), target.name, 0).unwrap();
        transaction.send(Record::to(target.name).value("c"));
        assert_eq!(sent.wait().unwrap().base_offset().unwrap(), 0);
        let end = reader.end_offset(target.name, 0).unwrap();
        assert!(end >= 2 && reader.stable_offset(target.name, 0).unwrap() == 0, "not visible yet");
        transaction.commit().unwrap();
        assert_eq!(values_of(&reader.read_committed(target.name, 0, 0..3).unwrap()), ["a", "b", "c"]);

        let transaction = producer.transaction().unwrap();
        let aborted = transaction.send_batch(batch_of(&producer, ["x", "y"]), target.name, 0).unwrap();
        assert_eq!(aborted.wait().unwrap().base_offset().unwrap(), 4);
        transaction.abort().unwrap();
        // By Java's calls, and without a wait for the handle.
        producer.begin_transaction().unwrap();
        drop(producer.send_batch(batch_of(&producer, ["d"]), target.name, 0).unwrap());
        producer.commit_transaction().unwrap();
        let end = reader.end_offset(target.name, 0).unwrap();
        assert_eq!(values_of(&reader.read_committed(target.name, 0, 0..end).unwrap()), ["a", "b", "c", "d"]);
        // A guard that has outlived its transaction gives the batch back.
        let transaction = producer.transaction().unwrap();
        producer.abort_transaction().unwrap();
        let refused = transaction.send_batch(batch_of(&producer, ["z"]), target.name, 0).unwrap_err();
        assert_eq!((refused.error().kind(), refused.into_batch().record_count()), (ErrorKind::Misuse, 1));
        drop(transaction);
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn the_brokers_clock_is_told_for_every_record_of_a_batch(target: &Target) {
        let mut reader = target.client_with(1, [("message.timestamp.type", "LogAppendTime")]);
        let producer = target.builder().build().unwrap();
        let mut batch = producer.create_batch();
        let records = [0, 1, 2].map(|n| {
            batch.append_with("k", "v", &Headers::new(), Some(Timestamp::from_millis(n))).unwrap().record().unwrap()
        });
        let delivery = producer.send_batch(batch, target.name, 0).unwrap();
        let times = records.map(|record| delivery.record(&record).wait().unwrap());
        let sent = delivery.wait().unwrap();
        assert_eq!(sent.timestamp().unwrap().timestamp_type(), TimestampType::LogAppendTime);
        let found = reader.read_all(target.name, 0).unwrap();
        for (time, found) in times.iter().zip(found) {
            assert_eq!(time.timestamp(), sent.timestamp());
            assert_eq!(found.timestamp().unwrap().millis(), sent.timestamp().unwrap().millis());
        }
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn a_batch_without_acks_has_no_offset(target: &Target) {
        let mut reader = target.client(1);
        let producer = target.builder().acks(Acks::None).idempotence(false).build().unwrap();
        let sent = producer.send_batch(batch_of(&producer, ["a", "b"]), target.name, 0).unwrap().wait().unwrap();
        assert_eq!((sent.base_offset(), sent.offset_of(1), sent.record_count()), (None, None, 2));
        assert!(sent.timestamp().unwrap().millis() > 0, "the record's own timestamp is known");
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(values_of(&reader.read(target.name, 0, 0..2).unwrap()), ["a", "b"]);
    }

    pub(super) fn a_compressed_batch_is_read_back(target: &Target) {
        let mut reader = target.client(1);
        let producer = target.builder().compression(Compression::gzip()).build().unwrap();
        let values: Vec<String> = (0..500).map(|n| format!("{n} {}", "abc".repeat(n % 40))).collect();
        producer.send_batch(batch_of(&producer, &values), target.name, 0).unwrap().wait().unwrap();
        producer.close_timeout(BOUND).unwrap();
        let found = reader.read_all(target.name, 0).unwrap();
        assert_eq!(values_of(&found), values);
        assert!(found.iter().all(|record| matches!(record.compression(), Compression::Gzip(_))));
    }
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}

// ---- on real Kafka alone ------------------------------------------------------------------------------------------

#[test]
fn kafkas_own_tools_read_direct_batches() {
    let cluster = kafka::shared_single();
    cluster.admin().create_topic("direct.tools", 1, 1, &[]);
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    for n in 0..3 {
        let mut batch = producer.create_batch();
        let headers: Headers<'_> = [("unit", "mm"), ("batch", "direct")].into_iter().collect();
        let key = format!("key {n}");
        assert!(
            !batch
                .append_with(&key, "first", &headers, Some(Timestamp::from_millis(1_700_000_000_000 + n)))
                .unwrap()
                .is_full()
        );
        assert!(
            !batch
                .append_with(None::<&str>, "second", &Headers::new(), Some(Timestamp::from_millis(5)))
                .unwrap()
                .is_full()
        );
        assert!(
            !batch
                .append_with("gone", None::<&str>, &Headers::new(), Some(Timestamp::from_millis(6)))
                .unwrap()
                .is_full()
        );
        batch.close();
        drop(producer.send_batch(batch, "direct.tools", 0).unwrap());
    }
    producer.close_timeout(BOUND).unwrap();
    let read = tools::console_consumer(cluster, "direct.tools", 9, &[]);
    for (place, record) in read.iter().enumerate() {
        let n = place / 3;
        let (time, headers, key, value) = match place % 3 {
            0 => (1_700_000_000_000 + n, "unit:mm,batch:direct", format!("key {n}"), "first"),
            1 => (5, "NO_HEADERS", "null".to_owned(), "second"),
            _ => (6, "NO_HEADERS", "gone".to_owned(), "null"),
        };
        assert_eq!((record.offset, &record.timestamp), (place as i64, &format!("CreateTime:{time}")));
        assert_eq!((&*record.headers, &record.key, &*record.value), (headers, &key, value));
    }
    // One batch each, with the producer's id and gapless sequences.
    let batches = dump::batches(cluster, "direct.tools", 0);
    let seen: Vec<_> = batches.iter().map(|batch| (batch.count, batch.base_sequence, batch.valid)).collect();
    assert_eq!(seen, [(3, 0, true), (3, 3, true), (3, 6, true)]);
    assert!(batches.iter().all(|batch| batch.producer_id >= 0 && batch.producer_id == batches[0].producer_id));
}

// ---- on the fake cluster alone ------------------------------------------------------------------------------------

fn produced(cluster: &FakeCluster) -> Vec<SeenRequest> {
    cluster.requests().into_iter().filter(|request| request.api == Api::Produce).collect()
}

fn values(cluster: &FakeCluster, topic: &str, partition: i32) -> Vec<String> {
    values_of(&cluster.records(topic, partition).unwrap())
}

#[test]
fn a_record_that_no_batch_can_take_is_an_error_with_its_size_and_the_limit() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).max_request_size(10_000).batch_size(1000).build().unwrap();
    let small = builder(&cluster).buffer_memory(5000).batch_size(1000).build().unwrap();
    for (producer, limit, bytes) in [(&producer, "max_request_size", 10_000), (&small, "buffer_memory", 5000)] {
        let mut batch = batch_of(producer, ["kept"]);
        let error = batch.append("k", vec![0; 20_000]).unwrap_err();
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::RecordTooLarge, Recovery::Fix));
        assert_eq!(error.context().limit, Some((limit, bytes)));
        assert!(error.to_string().contains("20"), "{error}");
        assert_eq!(batch.record_count(), 1);
        assert_eq!(producer.send_batch(batch, "t", 0).unwrap().wait().unwrap().record_count(), 1);
        // Nor does an empty batch.
        let mut batch = producer.create_batch();
        batch.append("k", vec![0; 20_000]).unwrap_err();
        assert!(batch.is_empty());
    }
    producer.close_timeout(BOUND).unwrap();
    small.close_timeout(BOUND).unwrap();
}

#[test]
fn batches_are_limited_in_records_too() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).batch_records(3).linger(4 * BOUND).delivery_timeout(8 * BOUND).build().unwrap();
    let mut batch = batch_of(&producer, ["0", "1", "2"]);
    assert!(batch.append("k", "v").unwrap().is_full());
    // A full one goes at once although nobody has closed it.
    let full = producer.send_batch(batch, "t", 0).unwrap();
    wait_for("the full batch", BOUND, || full.is_done().then_some(()));
    // One that `send` fills goes, too.
    let filled = producer.send_batch(batch_of(&producer, ["3", "4"]), "t", 0).unwrap();
    let last = producer.send(Record::to("t").value("5"));
    wait_for("the filled batch", BOUND, || (filled.is_done() && last.is_done()).then_some(()));
    assert_eq!((full.wait().unwrap().base_offset().unwrap(), filled.wait().unwrap().base_offset().unwrap()), (0, 3));
    producer.close_timeout(BOUND).unwrap();
    let sizes: Vec<i32> = produced(&cluster).iter().map(|request| request.batches[0].records).collect();
    assert_eq!(sizes, [3, 3]);
}

#[test]
fn an_empty_batch_and_one_of_another_producer_are_refused() {
    let cluster = cluster("t", 1);
    let [ours, theirs] = [(); 2].map(|()| builder(&cluster).build().unwrap());
    let refused = ours.send_batch(ours.create_batch(), "t", 0).unwrap_err();
    assert_eq!((refused.error().kind(), refused.error().recovery()), (ErrorKind::InvalidInput, Recovery::Fix));
    assert!(refused.error().to_string().contains("no records"), "{refused}");
    let refused = ours.send_batch(batch_of(&theirs, ["a"]), "t", 0).unwrap_err();
    assert_eq!((refused.error().kind(), refused.error().recovery()), (ErrorKind::Misuse, Recovery::Fix));
    assert!(refused.to_string().contains("another producer"), "{refused}");
    // A clone is the same producer.
    let batch = refused.into_batch();
    assert_eq!(theirs.clone().send_batch(batch, "t", 0).unwrap().wait().unwrap().base_offset().unwrap(), 0);
    // A record is asked for by the handle of its own batch.
    let (mut one, mut other) = (ours.create_batch(), ours.create_batch());
    let (record, _) = (add(&mut one, "1"), add(&mut other, "2"));
    let [one, other] = [one, other].map(|batch| ours.send_batch(batch, "t", 0).unwrap());
    assert_eq!(other.record(&record).wait().unwrap_err().kind(), ErrorKind::Misuse);
    assert_eq!(one.record(&record).wait().unwrap().offset().unwrap(), 1);
    for producer in [ours, theirs] {
        producer.close_timeout(BOUND).unwrap();
    }
}

#[test]
fn batches_in_hand_count_as_buffer_memory_until_they_are_dropped_or_delivered() {
    let cluster = cluster("t", 1);
    let small = || builder(&cluster).buffer_memory(8192).batch_size(4096).linger(Duration::ZERO);
    let producer = small().max_block(4 * BOUND).build().unwrap();
    producer.partitions_for("t").unwrap();
    let used = || producer.metrics().buffer_bytes_used;
    let mut first = producer.create_batch();
    assert_eq!(used(), 0, "a batch takes memory with its first record");
    add(&mut first, "a");
    assert_eq!(used(), 1024, "and more as it grows");
    let value = "x".repeat(100);
    while !first.append("k", &value).unwrap().is_full() {}
    assert_eq!(used(), 4096);
    let second = batch_of(&producer, [&"y".repeat(3000)]);
    assert_eq!(used(), 8192);

    // Nothing is left: the next batch's first record waits for max_block, and so does `send`.
    let hurried = small().max_block(ms(300)).build().unwrap();
    let taken = [batch_of(&hurried, ["x".repeat(3000)]), batch_of(&hurried, ["y".repeat(3000)])];
    assert_eq!(hurried.metrics().buffer_bytes_used, 8192);
    let mut third = hurried.create_batch();
    let begun = Instant::now();
    let error = third.append("k", "v").unwrap_err();
    assert!((ms(300)..ms(300) + SLACK).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!((error.kind(), error.written()), (ErrorKind::Timeout(Timeout::BufferMemory), Some(Written::No)));
    assert!(third.is_empty());
    wait_for("the topic", BOUND, || hurried.partitions_for("t").ok());
    let error = hurried.send(Record::to("t").value("v")).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::BufferMemory));
    drop(taken);
    hurried.close_timeout(BOUND).unwrap();

    // A batch that is dropped gives its memory back to whoever waits.
    let mut third = producer.create_batch();
    thread::scope(|scope| {
        let producer = &producer;
        let waiting = scope.spawn(move || add(&mut third, "v").index());
        wait_for("the thread to wait", BOUND, || (producer.metrics().threads_waiting_for_memory == 1).then_some(()));
        drop(second);
        assert_eq!(waiting.join().unwrap(), 0);
    });
    assert_eq!(used(), 4096);
    // So does one that is delivered, and one whose sending is refused and whose error alone is kept.
    producer.send_batch(first, "t", 0).unwrap().wait().unwrap();
    assert_eq!(used(), 0);
    let error: kafka_blocking::Error = producer.send_batch(batch_of(&producer, ["v"]), "t", 9).unwrap_err().into();
    assert_eq!((error.kind(), used()), (ErrorKind::NoSuchPartition, 0));

    // Where memory is scarce a batch is full as it is, rather than waiting for memory that its own thread may hold.
    let others = [batch_of(&producer, ["x".repeat(4000)]), batch_of(&producer, ["y".repeat(1500)])];
    let mut scarce = batch_of(&producer, ["a"]);
    assert_eq!(used(), 4096 + 2048 + 1024);
    let begun = Instant::now();
    while !scarce.append("k", &value).unwrap().is_full() {}
    assert!(begun.elapsed() < SLACK, "{:?}", begun.elapsed());
    assert!((1900..=2048).contains(&scarce.size_bytes()), "{}", scarce.size_bytes());
    assert_eq!(used(), 8192);
    drop(others);
    while !scarce.append("k", &value).unwrap().is_full() {}
    assert!((3900..=4096).contains(&scarce.size_bytes()), "{}", scarce.size_bytes());
    drop(scarce);
    assert_eq!(used(), 0);
    producer.close_timeout(BOUND).unwrap();
}

#[test]
fn a_batch_has_the_delivery_timeout_from_the_moment_at_which_it_is_sent() {
    let cluster = cluster("t", 1);
    let producer = hasty(&cluster).build().unwrap();
    producer.send(Record::to("t").value("before")).wait().unwrap();
    let batch = batch_of(&producer, ["a", "b"]);
    thread::sleep(ms(600));
    let lasting = cluster.inject(On::produce().always(), Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
    let begun = Instant::now();
    let error = producer.send_batch(batch, "t", 0).unwrap().wait().unwrap_err();
    assert!((HASTE..HASTE + SLACK).contains(&begun.elapsed()), "{:?}", begun.elapsed());
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::NOT_ENOUGH_REPLICAS), "{error:?}");
    assert_eq!((error.context().topic.as_deref(), error.context().partition), (Some("t"), Some(0)));
    assert!(lasting.fired() > 1);
    lasting.cancel();
    producer.send(Record::to("t").value("between")).wait().unwrap();
    let hang = cluster.inject(On::produce().always(), Fault::Hang);
    let delivery = producer.send_batch(batch_of(&producer, ["c"]), "t", 0).unwrap();
    assert!(delivery.wait_timeout(ms(100)).is_none());
    let error = delivery.wait().unwrap_err();
    assert_eq!(
        (error.kind(), error.written()),
        (ErrorKind::Timeout(Timeout::Delivery), Some(Written::Maybe)),
        "{error:?}"
    );
    assert!(hang.fired() > 0);
    // The bytes that a request was made of live as long as that does.
    wait_for("the memory", BOUND, || (producer.metrics().buffer_bytes_used == 0).then_some(()));
    producer.close_timeout(BOUND).unwrap();
}

#[test]
fn a_retriable_error_is_not_the_end_of_a_batch_and_a_final_one_is() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).retry_backoff(ms(5)).build().unwrap();
    let transient = cluster.fail_produce("t", ErrorCode::NOT_ENOUGH_REPLICAS, 3);
    let sent = producer.send_batch(batch_of(&producer, ["a", "b"]), "t", 0).unwrap().wait().unwrap();
    assert_eq!((sent.base_offset().unwrap(), transient.fired()), (0, 3));
    let lasting = cluster.fail_produce("t", ErrorCode::TOPIC_AUTHORIZATION_FAILED, 1);
    let mut batch = producer.create_batch();
    let records = ["c", "d"].map(|value| add(&mut batch, value));
    let delivery = producer.send_batch(batch, "t", 0).unwrap();
    let records = records.map(|record| delivery.record(&record));
    let error = delivery.wait().unwrap_err();
    assert_eq!((error.code(), error.written()), (Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED), Some(Written::No)));
    for record in records {
        assert_eq!(record.wait().unwrap_err().code(), Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED));
    }
    assert_eq!(lasting.fired(), 1);
    producer.close_timeout(BOUND).unwrap();
    assert_eq!(values(&cluster, "t", 0), ["a", "b"]);
}

#[test]
fn a_batch_that_the_broker_only_recognises_has_no_offsets() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).build().unwrap();
    let fault = Fault::ErrorAfterApply(ErrorCode::DUPLICATE_SEQUENCE_NUMBER);
    let fault = cluster.inject(On::produce(), fault);
    let sent = producer.send_batch(batch_of(&producer, ["a", "b"]), "t", 0).unwrap().wait().unwrap();
    assert_eq!((sent.base_offset(), sent.timestamp(), fault.fired()), (None, None, 1));
    assert_eq!([0, 1, 2].map(|index| sent.offset_of(index)), [None; 3]);
    producer.close_timeout(BOUND).unwrap();
}

#[test]
fn the_parts_of_a_batch_may_lie_apart_and_its_result_waits_for_the_last() {
    let cluster = FakeCluster::builder().topic_with("t", 1, [("max.message.bytes", "3000")]).start().unwrap();
    let producer = builder(&cluster).client_id("parts").retry_backoff(ms(20)).build().unwrap();
    let mut batch = producer.create_batch();
    let records: Vec<_> = (0..20).map(|n| add(&mut batch, &format!("{n:0200}"))).collect();
    // The whole of it is too large, the first part is written, the second one has to wait.
    let on = On::produce().client_id("parts").skip(2).always();
    let later = cluster.inject(on, Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
    let delivery = producer.send_batch(batch, "t", 0).unwrap();
    let (tell, told) = channel();
    let [first, last] = [0, 19].map(|index| delivery.record(&records[index]));
    let early = producer.send_batch(batch_of(&producer, ["behind"]), "t", 0).unwrap();
    assert!(later.wait_fired(1, BOUND));
    wait_for("the first part", BOUND, || first.is_done().then_some(()));
    assert!(!delivery.is_done() && delivery.try_wait().is_none());
    // Another producer writes meanwhile.
    let other = builder(&cluster).build().unwrap();
    let between = other.send(Record::to("t").value("between")).wait().unwrap().offset().unwrap();
    other.close_timeout(BOUND).unwrap();
    assert!(!last.is_done() && !delivery.is_done());
    later.cancel();
    let sent = delivery.wait_timeout(BOUND).unwrap().unwrap();
    delivery.on_complete(move |result| tell.send(result.unwrap()).unwrap());
    producer.close_timeout(BOUND).unwrap();
    let log = values(&cluster, "t", 0);
    for index in 0..20 {
        let offset = sent.offset_of(index).unwrap();
        assert_eq!(log[offset as usize], format!("{index:0200}"));
    }
    assert_eq!((first.wait().unwrap().offset().unwrap(), last.wait().unwrap().offset().unwrap()), (0, 20));
    assert_eq!((sent.base_offset().unwrap(), early.wait().unwrap().base_offset().unwrap()), (0, 21));
    assert!((1..20).contains(&between) && log[between as usize] == "between");
    assert_eq!(told.recv_timeout(BOUND).unwrap(), sent);
}

#[test]
fn several_batches_of_a_partition_are_in_flight_and_keep_their_order() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).linger(Duration::ZERO).max_in_flight(3).build().unwrap();
    producer.send(Record::to("t").value("first")).wait().unwrap();
    cluster.pause(cluster.brokers()[0]);
    let sent: Vec<BatchDelivery> = (0..10)
        .map(|n| {
            let mut batch = batch_of(&producer, [format!("{n} a"), format!("{n} b")]);
            batch.close();
            producer.send_batch(batch, "t", 0).unwrap()
        })
        .collect();
    // As for any other batch, the limit is the producer's.
    wait_for("the limit", BOUND, || (producer.metrics().requests_in_flight == 3).then_some(()));
    assert_eq!(producer.metrics().batches_unfinished, 10);
    cluster.resume(cluster.brokers()[0]);
    for (n, delivery) in (0..).zip(sent) {
        assert_eq!(delivery.wait().unwrap().base_offset().unwrap(), 1 + 2 * n);
    }
    producer.close_timeout(BOUND).unwrap();
    let sequences: Vec<i32> =
        produced(&cluster).iter().map(|request| request.batches[0].base_sequence.unwrap()).collect();
    assert_eq!(sequences, [0, 1, 3, 5, 7, 9, 11, 13, 15, 17, 19]);
}

/// Direct batches and records that are sent one by one, from several threads to the same partitions, while answers are
/// lost, requests fail and leaders move: all are there once, and each thread's in its order.
#[test]
fn every_record_is_written_once_and_in_order_whatever_fails() {
    const THREADS: usize = 4;
    const ROUNDS: usize = 150;
    for idempotent in [true, false] {
        let cluster = FakeCluster::builder().brokers(3).topic("t", 2).seed(7).start().unwrap();
        let producer = builder(&cluster)
            .idempotence(idempotent)
            .batch_records(20)
            .linger(ms(1))
            .retry_backoff(ms(3))
            .retry_backoff_max(ms(20))
            .reconnect_backoff(ms(3))
            .reconnect_backoff_max(ms(20))
            .build()
            .unwrap();
        producer.partitions_for("t").unwrap();
        // Without idempotence an answer that is lost would write a batch twice.
        let faults: &[Fault] = if idempotent {
            &[Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS), Fault::DropAnswer, Fault::CutBefore]
        } else {
            &[Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS)]
        };
        let faults: Vec<_> =
            faults.iter().map(|fault| cluster.inject(On::produce().chance(0.1).times(15), fault.clone())).collect();
        let deliveries = Mutex::new(BTreeMap::new());
        thread::scope(|scope| {
            let (producer, deliveries) = (&producer, &deliveries);
            for thread in 0..THREADS {
                scope.spawn(move || {
                    let mut numbers = [0; 2];
                    for round in 0..ROUNDS {
                        let partition = (thread + round) % 2;
                        let mut next = || {
                            numbers[partition] += 1;
                            format!("{thread} {}", numbers[partition])
                        };
                        if round % 3 == 0 {
                            let value = next();
                            let record = Record::to("t").partition(partition as i32).value(&value);
                            deliveries.lock().unwrap().insert((partition, value.clone()), producer.send(record));
                            continue;
                        }
                        let (mut batch, mut added) = (producer.create_batch(), Vec::new());
                        for _ in 0..1 + round % 20 {
                            let value = next();
                            added.push((add(&mut batch, &value), value));
                        }
                        if round % 2 == 0 {
                            batch.close();
                        }
                        let delivery = producer.send_batch(batch, "t", partition as i32).unwrap();
                        let mut deliveries = deliveries.lock().unwrap();
                        for (record, value) in added {
                            deliveries.insert((partition, value), delivery.record(&record));
                        }
                    }
                });
            }
            let cluster = &cluster;
            scope.spawn(move || {
                for turn in 0..12 {
                    thread::sleep(ms(15));
                    cluster.move_leader("t", turn % 2, cluster.brokers()[turn as usize % 3]).unwrap();
                }
            });
        });
        producer.close_timeout(BOUND).unwrap();
        let fired: usize = faults.iter().map(kafka_blocking::testing::FaultHandle::fired).sum();
        assert!(fired >= 10, "{fired} faults happened");
        let mut deliveries = deliveries.into_inner().unwrap();
        for partition in 0..2 {
            let mut last = [0; THREADS];
            for record in cluster.records("t", partition).unwrap() {
                let value = record.value_text();
                let (thread, number) = value.split_once(' ').unwrap();
                let (thread, number): (usize, usize) = (thread.parse().unwrap(), number.parse().unwrap());
                assert_eq!(number, last[thread] + 1, "thread {thread}, partition {partition}, {idempotent}");
                last[thread] = number;
                let delivery = deliveries.remove(&(partition as usize, value)).expect("it was sent once");
                assert_eq!(delivery.wait().unwrap().offset().unwrap(), record.offset());
            }
        }
        assert!(deliveries.is_empty(), "{} records are lost", deliveries.len());
    }
}

#[test]
fn a_batch_waits_for_its_linger_unless_somebody_waits_for_it() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).linger(ms(300)).build().unwrap();
    let batch = batch_of(&producer, ["a"]);
    thread::sleep(ms(350));
    let begun = Instant::now();
    let lone = producer.send_batch(batch, "t", 0).unwrap();
    wait_for("the linger", BOUND, || lone.is_done().then_some(()));
    assert!((ms(290)..ms(290) + SLACK).contains(&begun.elapsed()), "from the hand-over: {:?}", begun.elapsed());
    producer.close_timeout(BOUND).unwrap();

    let producer = builder(&cluster).linger(4 * BOUND).delivery_timeout(8 * BOUND).build().unwrap();
    let begun = Instant::now();
    producer.send_batch(batch_of(&producer, ["b"]), "t", 0).unwrap().wait().unwrap();
    let (tell, told) = channel();
    let delivery = producer.send_batch(batch_of(&producer, ["c"]), "t", 0).unwrap();
    delivery.on_complete(move |result| tell.send((result, thread::current().name().map(str::to_owned))).unwrap());
    producer.flush_timeout(BOUND).unwrap();
    assert!(begun.elapsed() < BOUND, "{:?}", begun.elapsed());
    let (result, thread) = told.try_recv().expect("a flush waits for callbacks");
    assert_eq!((result.unwrap().base_offset().unwrap(), thread.as_deref()), (2, Some("kafka-callbacks")));
    producer.close_timeout(BOUND).unwrap();
}

#[test]
fn callbacks_are_told_early_and_late_results_once() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).build().unwrap();
    let (tell, told) = channel();
    // Done before the callback is there.
    let delivery = producer.send_batch(batch_of(&producer, ["a"]), "t", 0).unwrap();
    producer.flush_timeout(BOUND).unwrap();
    assert!(delivery.is_done() && format!("{delivery:?}").contains("base_offset: Some(0)"), "{delivery:?}");
    let own = tell.clone();
    delivery.on_complete(move |result| own.send(result.map(|sent| sent.base_offset().unwrap())).unwrap());
    assert_eq!(told.recv_timeout(BOUND).unwrap().unwrap(), 0);
    // Failed, and by the end of the producer.
    let hang = cluster.inject(On::produce().always(), Fault::Hang);
    let delivery = producer.send_batch(batch_of(&producer, ["b"]), "t", 0).unwrap();
    delivery.on_complete(move |result| tell.send(result.map(|sent| sent.base_offset().unwrap())).unwrap());
    assert!(hang.wait_fired(1, BOUND));
    let undelivered = producer.close_timeout(ms(300)).unwrap_err();
    assert_eq!((undelivered.records(), hang.fired()), (1, 1));
    assert_eq!(told.recv_timeout(BOUND).unwrap().unwrap_err().kind(), ErrorKind::Closed);
    assert!(told.try_recv().is_err());
}

#[test]
fn closing_the_producer_delivers_what_was_sent_and_forgets_what_is_in_hand() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).linger(4 * BOUND).delivery_timeout(8 * BOUND).build().unwrap();
    // Connected, because a producer that is dropped delivers for some seconds only.
    producer.send(Record::to("t").value("before")).wait().unwrap();
    let mut kept = batch_of(&producer, ["kept"]);
    let sent = producer.send_batch(batch_of(&producer, ["sent"]), "t", 0).unwrap();
    // A batch does not keep its producer: this is the last handle.
    drop(producer);
    assert_eq!(sent.try_wait().unwrap().unwrap().base_offset().unwrap(), 1);
    assert_eq!(kept.append("k", "v").unwrap_err().kind(), ErrorKind::Closed);
    drop(kept);
    assert_eq!(values(&cluster, "t", 0), ["before", "sent"]);
}

struct Sees(Arc<Mutex<Vec<String>>>);

impl ProducerInterceptor<Record<'_>> for Sees {
    fn on_send(&self, record: &mut Record<'_>) -> Result<(), InterceptorError> {
        let value = record.value.as_deref().unwrap();
        self.0.lock().unwrap().push(String::from_utf8_lossy(value).into_owned());
        Ok(())
    }

    fn on_acknowledgement(&self, result: &Result<RecordMetadata>) {
        self.0.lock().unwrap().push(result.as_ref().unwrap().offset().unwrap().to_string());
    }
}

#[test]
fn interceptors_see_the_records_of_send_alone() {
    let cluster = cluster("t", 1);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let producer = builder(&cluster).interceptor(Sees(Arc::clone(&seen))).build().unwrap();
    let batch = producer.send_batch(batch_of(&producer, ["direct"]), "t", 0).unwrap();
    producer.send(Record::to("t").value("single")).detach();
    producer.flush_timeout(BOUND).unwrap();
    assert_eq!(batch.wait().unwrap().base_offset().unwrap(), 0);
    assert_eq!(*seen.lock().unwrap(), strings(["single", "1"]));
    producer.close_timeout(BOUND).unwrap();
}

#[test]
fn a_batch_of_a_transaction_that_is_aborted_before_it_goes_is_given_up() {
    let cluster = cluster("t", 1);
    let builder = builder(&cluster).linger(4 * BOUND).delivery_timeout(8 * BOUND);
    let producer = builder.transactional_id("shop").build().unwrap();
    producer.init_transactions().unwrap();
    let transaction = producer.transaction().unwrap();
    let given_up = transaction.send_batch(batch_of(&producer, ["a", "b"]), "t", 0).unwrap();
    transaction.abort().unwrap();
    let error = given_up.wait().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Aborted, Some(Written::No)));
    wait_for("the memory", BOUND, || (producer.metrics().buffer_bytes_used == 0).then_some(()));
    assert_eq!(cluster.record_count("t"), 0);
    producer.close_timeout(BOUND).unwrap();
}

#[test]
fn a_batch_that_fails_makes_its_transaction_abortable() {
    let cluster = cluster("t", 1);
    let producer = builder(&cluster).transactional_id("shop").build().unwrap();
    producer.init_transactions().unwrap();
    let refused = cluster.fail_produce("t", ErrorCode::TOPIC_AUTHORIZATION_FAILED, 1);
    let transaction = producer.transaction().unwrap();
    drop(transaction.send_batch(batch_of(&producer, ["a", "b"]), "t", 0).unwrap());
    let not_committed = transaction.commit().unwrap_err();
    assert_eq!(not_committed.error().recovery(), Recovery::AbortTransaction, "{not_committed}");
    assert_eq!(refused.fired(), 1);
    not_committed.into_transaction().abort().unwrap();
    producer
        .in_transaction(|transaction| -> kafka_blocking::Result<()> {
            transaction.send_batch(batch_of(&producer, ["c"]), "t", 0)?;
            Ok(())
        })
        .unwrap();
    assert_eq!(values_of(&cluster.committed_records("t", 0).unwrap()), ["c"]);
    producer.close_timeout(BOUND).unwrap();
}
