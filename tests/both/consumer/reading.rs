//! What a consumer reads, from where, and in which order. On the real side Java is the judge of what is in the log, and
//! Kafka's own producer writes some of it.

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use kafka_blocking::testing::Marker;
use kafka_blocking::testing::internal_unstable::RawProducer;
use kafka_blocking::{
    Compression, Consumer, ConsumerBuilder, ErrorCode, ErrorKind, IsolationLevel, KeptRecord, OutOfRange, Producer,
    Record, Start, Timeout, Timestamp, TimestampType, TopicPartition,
};

use crate::support::target::{Target, on_each, settled};
use crate::support::{kafka, tools};

const MINUTE: Duration = Duration::from_secs(60);

on_each!(
    [on_the_fake_cluster, on_real_kafka]
    what_was_written_is_read_with_every_part,
    every_codec_is_read,
    reading_begins_where_it_is_told_to,
    reading_begins_at_a_time,
    records_that_come_later_are_read,
    the_position_steps_over_markers_and_aborted_records,
    committed_records_alone_are_read,
    a_record_larger_than_every_limit_is_read,
    a_position_that_the_log_does_not_have_is_told_and_a_seek_goes_on,
    a_position_that_the_log_does_not_have_is_replaced_where_that_is_wanted,
    the_brokers_clock_is_told,
    a_seek_is_followed_by_no_record_from_before,
    a_topic_that_does_not_exist_is_told_in_time,
    a_partition_that_does_not_exist_is_told,
);

/// What these tests have of a cluster besides.
trait Prepare {
    fn producer(&self) -> Producer;
    fn consumer(&self) -> ConsumerBuilder;
    fn partition(&self, partition: i32) -> TopicPartition;
    /// Writes these values, one after the other, to partition 0.
    fn write<V: ToString>(&self, values: impl IntoIterator<Item = V>);
}

impl Prepare for Target {
    fn producer(&self) -> Producer {
        Producer::builder(&self.bootstrap).build().unwrap()
    }

    fn consumer(&self) -> ConsumerBuilder {
        Consumer::builder(&self.bootstrap)
    }

    fn partition(&self, partition: i32) -> TopicPartition {
        TopicPartition::new(self.name, partition)
    }

    fn write<V: ToString>(&self, values: impl IntoIterator<Item = V>) {
        let producer = self.producer();
        let record = |value: V| producer.send(Record::to(self.name).partition(0).value(value.to_string()));
        let sent: Vec<_> = values.into_iter().map(record).collect();
        for delivery in sent {
            delivery.wait().unwrap();
        }
        producer.close().unwrap();
    }
}

/// The next so many records.
fn take(consumer: &mut Consumer, count: usize) -> Vec<KeptRecord> {
    let taken: Vec<_> = consumer.records().take(count).map(|record| record.unwrap()).collect();
    assert_eq!(taken.len(), count);
    taken
}

fn text(record: &KeptRecord) -> String {
    String::from_utf8(record.value().unwrap().to_vec()).unwrap()
}

fn texts(records: &[KeptRecord]) -> Vec<String> {
    records.iter().map(text).collect()
}

mod promises {
    use super::*;

    pub(super) fn what_was_written_is_read_with_every_part(target: &Target) {
        target.client(1);
        let producer = target.producer();
        let time = 1_700_000_000_123;
        let records = [
            Record::to(target.name),
            Record::to(target.name).key("").value(""),
            Record::to(target.name).key("k").value("v").timestamp(Timestamp::from_millis(time)),
            Record::to(target.name)
                .value("h")
                .header("a", "1")
                .header("a", "2")
                .header("b", None::<&str>)
                .header("", ""),
            Record::to(target.name).value(vec![0_u8, 255, 10]).timestamp(Timestamp::from_millis(0)),
        ];
        let sent: Vec<_> = records.iter().map(|record| producer.send(record.clone())).collect();
        let sent: Vec<_> = sent.into_iter().map(|delivery| delivery.wait().unwrap()).collect();
        producer.close().unwrap();
        let mut consumer = target.consumer().assign(target.partition(0), Start::Beginning).build().unwrap();
        let kept = take(&mut consumer, records.len());
        drop(consumer);
        for (place, ((record, sent), kept)) in records.iter().zip(&sent).zip(&kept).enumerate() {
            // What is kept outlives the consumer, and its copy outlives it.
            let (view, owned) = (kept.view(), kept.to_owned());
            let headers: Vec<_> =
                record.headers.iter().map(|h| (h.name().to_owned(), h.value().map(<[u8]>::to_vec))).collect();
            let of = |headers: Vec<kafka_blocking::Header<'_>>| -> Vec<_> {
                headers.iter().map(|h| (h.name().to_owned(), h.value().map(<[u8]>::to_vec))).collect()
            };
            assert_eq!((view.offset(), kept.offset(), owned.offset()), (place as i64, place as i64, place as i64));
            let key = record.key.as_deref();
            assert_eq!((view.key(), kept.key(), owned.key()), (key, key, key), "{place}");
            let value = record.value.as_deref();
            assert_eq!((view.value(), kept.value(), owned.value()), (value, value, value), "{place}");
            assert_eq!(of(view.headers().iter().collect()), headers, "{place}");
            assert_eq!(of(kept.headers().iter().collect()), headers, "{place}");
            assert_eq!(of(owned.headers().iter().cloned().collect()), headers, "{place}");
            let time = sent.timestamp();
            assert_eq!((view.timestamp(), kept.timestamp(), owned.timestamp()), (time, time, time));
            assert_eq!(time.unwrap().timestamp_type(), TimestampType::CreateTime);
            assert_eq!((view.topic(), kept.topic(), owned.topic()), (target.name, target.name, target.name));
            assert_eq!((view.partition(), kept.partition(), owned.partition()), (0, 0, 0));
            assert!(view.leader_epoch().is_some_and(|epoch| epoch >= 0));
        }
        let last = kept[3].headers();
        assert_eq!((last.len(), last.first("a").unwrap().value()), (4, Some(&b"1"[..])));
        assert_eq!((last.last("a").unwrap().value(), last.last("c")), (Some(&b"2"[..]), None));
    }

    pub(super) fn every_codec_is_read(target: &Target) {
        target.client(1);
        let codecs =
            [Compression::None, Compression::gzip(), Compression::Snappy, Compression::Lz4, Compression::zstd()];
        let mut written = Vec::new();
        for compression in codecs {
            let producer = Producer::builder(&target.bootstrap).compression(compression).build().unwrap();
            let values: Vec<_> =
                (0..2000).map(|n| format!("{} {n} {}", compression.name(), "x".repeat(n % 90))).collect();
            let sent = values.iter().map(|value| producer.send(Record::to(target.name).value(value)));
            for delivery in sent.collect::<Vec<_>>() {
                delivery.wait().unwrap();
            }
            producer.close().unwrap();
            written.extend(values);
        }
        let mut consumer = target.consumer().assign_topic(target.name, Start::Beginning).build().unwrap();
        let kept = take(&mut consumer, written.len());
        assert!(kept.iter().zip(0..).all(|(record, offset)| record.offset() == offset));
        assert!(texts(&kept) == written);
    }

    pub(super) fn reading_begins_where_it_is_told_to(target: &Target) {
        target.client(4);
        let producer = target.producer();
        for partition in 0..4 {
            for n in 0..10 {
                producer.send(Record::to(target.name).partition(partition).value(n.to_string())).detach();
            }
        }
        producer.flush().unwrap();
        let starts = [Start::Beginning, Start::Offset(7), Start::End, Start::Offset(10)];
        let builder = starts
            .iter()
            .zip(0..)
            .fold(target.consumer(), |builder, (start, partition)| builder.assign(target.partition(partition), *start));
        let mut consumer = builder.build().unwrap();
        let mut found: BTreeMap<i32, Vec<i64>> = BTreeMap::new();
        for record in take(&mut consumer, 13) {
            found.entry(record.partition()).or_default().push(record.offset());
        }
        assert_eq!(found, [(0, (0..10).collect()), (1, (7..10).collect())].into());
        // The end was found before the others' records came, or is found now.
        let handle = consumer.handle();
        while handle.position(&target.partition(2)).unwrap().is_none() {
            assert!(consumer.poll(Duration::from_millis(10)).unwrap().is_empty());
        }
        for partition in 2..4 {
            producer.send(Record::to(target.name).partition(partition).value("late")).wait().unwrap();
        }
        let late = take(&mut consumer, 2);
        assert!(late.iter().all(|record| record.offset() == 10 && text(record) == "late"), "{late:?}");
        producer.close().unwrap();
    }

    pub(super) fn reading_begins_at_a_time(target: &Target) {
        target.client(1);
        let producer = target.producer();
        let at = |second: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000 + second);
        for second in 0..10 {
            let record = Record::to(target.name).value(second.to_string()).timestamp(at(second));
            producer.send(record).wait().unwrap();
        }
        let first = |start| {
            let mut consumer = target.consumer().assign(target.partition(0), start).build().unwrap();
            take(&mut consumer, 1)[0].offset()
        };
        assert_eq!(first(Start::Time(at(4))), 4);
        assert_eq!(first(Start::Time(at(4) + Duration::from_millis(1))), 5);
        assert_eq!(first(Start::Ago(Duration::from_secs(100 * 365 * 24 * 3600))), 0);
        // Nothing is as late as that, so it begins at the end.
        let mut consumer = target.consumer().assign(target.partition(0), Start::Time(at(1000))).build().unwrap();
        let handle = consumer.handle();
        while handle.position(&target.partition(0)).unwrap().is_none() {
            assert!(consumer.poll(Duration::from_millis(10)).unwrap().is_empty());
        }
        producer.send(Record::to(target.name).value("late")).wait().unwrap();
        assert_eq!(take(&mut consumer, 1)[0].offset(), 10);
        producer.close().unwrap();
    }

    pub(super) fn records_that_come_later_are_read(target: &Target) {
        target.client(1);
        let mut consumer = target.consumer().assign_topic(target.name, Start::Beginning).build().unwrap();
        assert!(consumer.poll(Duration::from_millis(1200)).unwrap().is_empty());
        for round in 0..5 {
            target.write([round]);
            assert_eq!(texts(&take(&mut consumer, 1)), [round.to_string()]);
        }
    }

    pub(super) fn the_position_steps_over_markers_and_aborted_records(target: &Target) {
        let mut client = target.client(1);
        let mut raw = RawProducer::connect(&target.bootstrap, target.name).unwrap();
        raw.init(MINUTE).unwrap();
        for round in 0..3 {
            raw.send(target.name, 0, &["a", "b"]).unwrap();
            raw.end(if round == 0 { Marker::Commit } else { Marker::Abort }).unwrap();
        }
        let end = settled(&mut client, target.name, 0);
        assert_eq!(end, 9, "two records and a marker in each transaction");
        let builder = target.consumer().isolation_level(IsolationLevel::Committed);
        let mut consumer = builder.assign(target.partition(0), Start::Beginning).build().unwrap();
        let handle = consumer.handle();
        let mut read = Vec::new();
        while handle.position(&target.partition(0)).unwrap() != Some(end) {
            let polled = consumer.poll(Duration::from_millis(10)).unwrap();
            read.extend(polled.records().map(|record| record.unwrap().offset()));
        }
        assert_eq!(read, [0, 1]);
    }

    pub(super) fn committed_records_alone_are_read(target: &Target) {
        target.client(1);
        let names = ["one", "two", "three"].map(|name| format!("{}.{name}", target.name));
        let mut raw: Vec<_> = names.iter().map(|name| RawProducer::connect(&target.bootstrap, name).unwrap()).collect();
        for producer in &mut raw {
            producer.init(MINUTE).unwrap();
        }
        let mut wanted = Vec::new();
        let (mut open, mut order) = ([const { Vec::new() }; 3], 0);
        // A mixture of transactions that reach over one another, and over many answers.
        let mut random = 7_u32;
        let mut next = |bound: u32| {
            random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (random >> 16) % bound
        };
        for step in 0..150 {
            let place = next(3) as usize;
            if next(4) == 0 && !open[place].is_empty() {
                let commits = next(2) == 0;
                raw[place].end(if commits { Marker::Commit } else { Marker::Abort }).unwrap();
                let written = std::mem::take(&mut open[place]);
                if commits {
                    wanted.extend(written);
                }
            } else {
                let value = format!("{step}");
                raw[place].send(target.name, 0, &[&value]).unwrap();
                open[place].push((order, value));
                order += 1;
            }
        }
        // One transaction stays open, so that nothing behind its first record is seen.
        let first_open = open.iter().flatten().map(|(order, _)| *order).min();
        wanted.sort();
        let seen: Vec<_> =
            wanted.into_iter().filter(|(order, _)| first_open.is_none_or(|first| *order < first)).collect();
        let seen: Vec<String> = seen.into_iter().map(|(_, value)| value).collect();
        assert!(seen.len() > 5 && first_open.is_some(), "the mixture shows nothing");
        for fetch_bytes in [1 << 20, 1024] {
            let builder =
                target.consumer().isolation_level(IsolationLevel::Committed).max_partition_fetch_bytes(fetch_bytes);
            let mut consumer = builder.assign(target.partition(0), Start::Beginning).build().unwrap();
            assert_eq!(texts(&take(&mut consumer, seen.len())), seen, "{fetch_bytes}");
            assert!(consumer.poll(Duration::from_millis(700)).unwrap().is_empty());
        }
        let mut consumer = target.consumer().assign(target.partition(0), Start::Beginning).build().unwrap();
        assert_eq!(take(&mut consumer, order).len(), order, "all are read where nothing else is wanted");
    }

    pub(super) fn a_record_larger_than_every_limit_is_read(target: &Target) {
        target.client_with(2, [("max.message.bytes", "4000000")]);
        let producer = Producer::builder(&target.bootstrap).max_request_size(4_000_000).build().unwrap();
        let sizes = [10, 700_000, 10, 2_000_000, 10, 10];
        for partition in 0..2 {
            for size in sizes {
                producer.send(Record::to(target.name).partition(partition).value(vec![7; size])).wait().unwrap();
            }
        }
        producer.close().unwrap();
        let builder = target.consumer().fetch_max_bytes(2000).max_partition_fetch_bytes(1024).buffer_memory(128 * 1024);
        let mut consumer = builder.assign_topic(target.name, Start::Beginning).build().unwrap();
        let mut found = [const { Vec::new() }; 2];
        while found.iter().any(|found| found.len() < sizes.len()) {
            for record in consumer.poll(MINUTE).unwrap().records() {
                let record = record.unwrap();
                found[record.partition() as usize].push(record.value().unwrap().len());
            }
        }
        assert_eq!(found, [sizes; 2]);
        assert_eq!(consumer.handle().buffer_bytes().1, 0);
    }

    pub(super) fn a_position_that_the_log_does_not_have_is_told_and_a_seek_goes_on(target: &Target) {
        target.client(2);
        target.write(0..5);
        let builder = target.consumer().assign(target.partition(0), Start::Offset(6));
        let mut consumer = builder.assign(target.partition(1), Start::Beginning).build().unwrap();
        let error = consumer.poll(MINUTE).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::OFFSET_OUT_OF_RANGE));
        let context = error.context();
        assert_eq!((context.topic.as_deref(), context.partition), (Some(target.name), Some(0)));
        assert_eq!(context.offset, Some(6));
        // It is told once, and the other partition goes on.
        let producer = target.producer();
        producer.send(Record::to(target.name).partition(1).value("other")).wait().unwrap();
        producer.send(Record::to(target.name).partition(0).value("5")).wait().unwrap();
        assert_eq!(texts(&take(&mut consumer, 1)), ["other"]);
        consumer.handle().seek(&target.partition(0), Start::Offset(3)).unwrap();
        assert_eq!(texts(&take(&mut consumer, 3)), ["3", "4", "5"]);
        producer.close().unwrap();
    }

    pub(super) fn a_position_that_the_log_does_not_have_is_replaced_where_that_is_wanted(target: &Target) {
        target.client(1);
        target.write(0..5);
        let out_of_range = |then| {
            let builder = target.consumer().out_of_range(then);
            builder.assign(target.partition(0), Start::Offset(100)).build().unwrap()
        };
        let mut beginning = out_of_range(OutOfRange::Beginning);
        assert_eq!(texts(&take(&mut beginning, 5)), ["0", "1", "2", "3", "4"]);
        let mut end = out_of_range(OutOfRange::End);
        let handle = end.handle();
        while handle.position(&target.partition(0)).unwrap() != Some(5) {
            assert!(end.poll(Duration::from_millis(10)).unwrap().is_empty());
        }
        target.write([5]);
        assert_eq!(texts(&take(&mut end, 1)), ["5"]);
    }

    pub(super) fn the_brokers_clock_is_told(target: &Target) {
        target.client_with(1, [("message.timestamp.type", "LogAppendTime")]);
        let producer = target.producer();
        let sent =
            producer.send(Record::to(target.name).value("v").timestamp(Timestamp::from_millis(1000))).wait().unwrap();
        producer.close().unwrap();
        let mut consumer = target.consumer().assign_topic(target.name, Start::Beginning).build().unwrap();
        let record = &take(&mut consumer, 1)[0];
        assert_eq!(record.timestamp().unwrap().timestamp_type(), TimestampType::LogAppendTime);
        assert_eq!(record.timestamp(), sent.timestamp());
    }

    pub(super) fn a_seek_is_followed_by_no_record_from_before(target: &Target) {
        target.client(1);
        target.write(0..3000);
        let builder = target.consumer().max_partition_fetch_bytes(4096).max_poll_bytes(1);
        let mut consumer = builder.assign(target.partition(0), Start::Beginning).build().unwrap();
        let handle = consumer.handle();
        let partition = target.partition(0);
        for n in 0..300_i64 {
            let to = n * 7919 % 3000;
            handle.seek(&partition, Start::Offset(to)).unwrap();
            if n % 3 == 0 {
                handle.pause(&partition).unwrap();
                handle.resume(&partition).unwrap();
            }
            let first = take(&mut consumer, 1).remove(0);
            assert_eq!((first.offset(), text(&first)), (to, to.to_string()), "seek {n}");
        }
    }

    pub(super) fn a_topic_that_does_not_exist_is_told_in_time(target: &Target) {
        let limit = Duration::from_secs(4);
        let begun = std::time::Instant::now();
        let builder = target.consumer().max_block(limit);
        let error = builder.assign(target.partition(0), Start::Beginning).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata), "{error}");
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        assert!(begun.elapsed() >= limit && begun.elapsed() < limit + Duration::from_secs(20));
    }

    pub(super) fn a_partition_that_does_not_exist_is_told(target: &Target) {
        target.client(2);
        let error = target.consumer().assign(target.partition(2), Start::Beginning).build().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NoSuchPartition, "{error}");
        assert_eq!(error.context().partition, Some(2));
    }
}

/// Kafka's own producer writes, Java's consumer and this one read the same.
#[test]
fn what_kafkas_own_producer_wrote_is_what_javas_consumer_reads() {
    let cluster = kafka::shared_single();
    let topic = "what.kafkas.own.producer.wrote";
    cluster.admin().create_topic(topic, 3, 1, &[]);
    let config = format!("bootstrap.servers={}", cluster.internal_bootstrap());
    for codec in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let codec = format!("compression.type={codec}");
        let all = ["--topic", topic, "--num-records", "20000", "--record-size", "100", "--throughput", "-1"];
        let properties = ["--producer-props", &config, &codec, "batch.size=8000"];
        let output = tools::run(
            cluster,
            "org.apache.kafka.tools.ProducerPerformance",
            &[&all[..], &properties].concat(),
            Duration::from_secs(240),
        );
        assert!(output.success, "{}{}", output.stdout, output.stderr);
    }
    let judge = cluster.admin().read(topic);
    assert_eq!(judge.len(), 100_000);
    let mut consumer = Consumer::builder(cluster.bootstrap()).assign_topic(topic, Start::Beginning).build().unwrap();
    let mut read = Vec::new();
    for batch in consumer.batches() {
        for record in &batch.unwrap() {
            let record = record.unwrap();
            let key = record.key().map(<[u8]>::to_vec);
            read.push((
                record.partition(),
                record.offset(),
                record.timestamp().map(Timestamp::millis),
                key,
                record.value().map(<[u8]>::to_vec),
            ));
        }
        if read.len() >= judge.len() {
            break;
        }
    }
    read.sort_by_key(|record| (record.0, record.1));
    let judged = judge.into_iter().map(|r| (r.partition, r.offset, Some(r.timestamp_ms), r.key, r.value));
    assert!(read.into_iter().eq(judged));
    consumer.close().unwrap();
}
