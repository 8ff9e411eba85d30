//! One suite of promises, kept on real Kafka and on the fake cluster alike: the fake cannot drift from what it stands
//! for.

use std::time::{Duration, Instant};

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{
    Acks, Cluster, Compression, ErrorCode, ErrorKind, Headers, Producer, ProducerBuilder, Purge, Record, Recovery,
    Timeout, Timestamp, TimestampType, Written,
};

use crate::support::kafka;

/// What the suite needs of a cluster.
trait Target {
    fn bootstrap(&self) -> Vec<String>;
    fn create(&self, topic: &str, partitions: usize, settings: &[(&str, &str)]);
    fn delete(&self, topic: &str);
    fn read(&self, topic: &str) -> Vec<Found>;
    /// What is added to topic names, because a real cluster is shared.
    fn prefix(&self) -> String;

    fn builder(&self) -> ProducerBuilder {
        Producer::builder(self.bootstrap())
    }
}

/// A record that was found in a topic.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Found {
    partition: i32,
    offset: i64,
    timestamp: i64,
    key: Option<Vec<u8>>,
    value: Option<Vec<u8>>,
    headers: Vec<(String, Option<Vec<u8>>)>,
}

struct Real(&'static kafka::Cluster);

impl Target for Real {
    fn bootstrap(&self) -> Vec<String> {
        self.0.bootstrap()
    }

    fn create(&self, topic: &str, partitions: usize, settings: &[(&str, &str)]) {
        let settings: Vec<String> = settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let settings: Vec<&str> = settings.iter().map(String::as_str).collect();
        self.0.admin().create_topic(topic, partitions, 1, &settings);
    }

    fn delete(&self, topic: &str) {
        self.0.admin().delete_topic(topic);
    }

    fn read(&self, topic: &str) -> Vec<Found> {
        let records = self.0.admin().read(topic);
        let found = records.into_iter().map(|record| Found {
            partition: record.partition,
            offset: record.offset,
            timestamp: record.timestamp_ms,
            key: record.key,
            value: record.value,
            headers: record.headers,
        });
        sorted(found.collect())
    }

    fn prefix(&self) -> String {
        "both.".into()
    }
}

fn owned(headers: &Headers<'_>) -> Vec<(String, Option<Vec<u8>>)> {
    headers.iter().map(|header| (header.name().to_owned(), header.value().map(<[u8]>::to_vec))).collect()
}

struct Fake(FakeCluster);

impl Target for Fake {
    fn bootstrap(&self) -> Vec<String> {
        self.0.bootstrap()
    }

    fn create(&self, topic: &str, partitions: usize, settings: &[(&str, &str)]) {
        self.0.create_topic_with(topic, partitions, settings.iter().copied()).unwrap();
    }

    fn delete(&self, topic: &str) {
        self.0.delete_topic(topic).unwrap();
    }

    fn read(&self, topic: &str) -> Vec<Found> {
        let records = self.0.all_records(topic).unwrap();
        let found = records.into_iter().map(|record| Found {
            partition: record.partition(),
            offset: record.offset(),
            timestamp: record.timestamp().unwrap().millis(),
            key: record.key().map(<[u8]>::to_vec),
            value: record.value().map(<[u8]>::to_vec),
            headers: owned(record.headers()),
        });
        sorted(found.collect())
    }

    fn prefix(&self) -> String {
        String::new()
    }
}

fn sorted(mut found: Vec<Found>) -> Vec<Found> {
    found.sort_by_key(|record| (record.partition, record.offset));
    found
}

const BOUND: Duration = Duration::from_secs(60);
/// Far longer than a machine stands still, and far shorter than the limits that count where nothing is said.
const AT_ONCE: Duration = Duration::from_secs(20);

macro_rules! on_both {
    ($($promise:ident),* $(,)?) => {
        $(mod $promise {
            use super::*;

            #[test]
            fn on_the_fake_cluster() {
                super::promises::$promise(&Fake(FakeCluster::start(1).unwrap()));
            }

            #[test]
            fn on_real_kafka() {
                super::promises::$promise(&Real(kafka::shared_single()));
            }
        })*
    };
}

on_both!(
    every_part_of_a_record_arrives,
    offsets_and_order_are_those_of_the_log,
    a_key_keeps_its_partition,
    the_brokers_clock_is_told_where_it_counts,
    a_topic_that_does_not_exist_is_told_within_max_block,
    a_topic_that_comes_while_a_send_waits_is_used,
    a_partition_that_does_not_exist_is_refused,
    a_record_over_the_topics_limit_fails_alone,
    a_batch_over_the_topics_limit_is_split,
    a_record_that_the_broker_refuses_is_named,
    a_timestamp_out_of_range_is_named,
    acks_none_knows_no_offset,
    acks_leader_is_acknowledged,
    every_codec_is_read_back,
    a_topic_deleted_under_way_is_told,
    a_topic_created_again_is_written_to,
    partitions_are_told,
    producers_on_one_cluster_each_keep_their_order_and_outlive_one_another,
    what_is_purged_is_in_no_log,
);

mod promises {
    use super::*;

    pub(super) fn what_is_purged_is_in_no_log(target: &dyn Target) {
        let topic = format!("{}purged", target.prefix());
        target.create(&topic, 1, &[]);
        let hour = Duration::from_secs(3600);
        let producer = target.builder().linger(hour).delivery_timeout(2 * hour).build().unwrap();
        let mut kept = Vec::new();
        for round in 0..5 {
            let purged: Vec<_> = (0..10).map(|_| producer.send(Record::to(&topic).value("purged"))).collect();
            producer.purge(Purge::All);
            kept.push(producer.send(Record::to(&topic).value(format!("{round}"))));
            for delivery in purged {
                let error = delivery.wait_timeout(BOUND).unwrap().unwrap_err();
                assert_eq!((error.kind(), error.written()), (ErrorKind::Purged, Some(Written::No)), "{error}");
            }
            producer.flush_timeout(BOUND).unwrap();
        }
        for (place, delivery) in kept.into_iter().enumerate() {
            assert_eq!(delivery.wait().unwrap().offset().unwrap(), place as i64);
        }
        // What may be in flight: sequence numbers stay right whether it was written or not.
        for _ in 0..20 {
            let sent: Vec<_> = (0..50).map(|_| producer.send(Record::to(&topic).value("perhaps"))).collect();
            assert!(producer.flush_timeout(Duration::ZERO).is_err() || sent.iter().all(|delivery| delivery.is_done()));
            producer.purge(Purge::All);
            let last = producer.send(Record::to(&topic).value("kept")).wait();
            assert!(last.is_ok(), "{last:?}");
        }
        producer.close_timeout(BOUND).unwrap();
        let found = target.read(&topic);
        let count =
            |value: &str| found.iter().filter(|record| record.value.as_deref() == Some(value.as_bytes())).count();
        assert_eq!((count("purged"), count("kept")), (0, 20));
        assert!(count("perhaps") <= 1000);
    }

    pub(super) fn producers_on_one_cluster_each_keep_their_order_and_outlive_one_another(target: &dyn Target) {
        let topic = format!("{}shared", target.prefix());
        target.create(&topic, 2, &[]);
        let cluster = Cluster::builder(target.bootstrap()).build().unwrap();
        let producers = [0, 1, 2].map(|_| Producer::on(&cluster).build().unwrap());
        let send = |producer: usize, from: u32, to: u32| {
            let of = &producers[producer];
            let record = |n: u32| Record::to(&topic).partition(n as i32 % 2).value(format!("{producer} {n:03}"));
            (from..to).map(|n| of.send(record(n))).collect::<Vec<_>>()
        };
        // Each ends while the next ones send.
        let mut sent = Vec::new();
        for round in 0..3_u32 {
            for producer in round as usize..3 {
                sent.extend(send(producer, 100 * round, 100 * round + 100));
            }
            producers[round as usize].close_timeout(BOUND).unwrap();
            assert_eq!(producers[round as usize].partitions_for(&topic).unwrap_err().kind(), ErrorKind::Closed);
        }
        assert_eq!(sent.len(), 600);
        for delivery in sent {
            delivery.wait().unwrap();
        }
        drop(cluster);
        let found = target.read(&topic);
        assert_eq!(found.len(), 600);
        for (producer, last) in [("0", 100), ("1", 200), ("2", 300)] {
            for partition in [0, 1] {
                let values = found.iter().filter(|record| record.partition == partition);
                let values = values.map(|record| String::from_utf8(record.value.clone().unwrap()).unwrap());
                let values: Vec<String> = values.filter(|value| value.starts_with(producer)).collect();
                let wanted = (0..last).filter(|n| n % 2 == partition).map(|n| format!("{producer} {n:03}"));
                assert!(wanted.eq(values.iter().cloned()), "{producer}, partition {partition}: {values:?}");
            }
        }
    }

    pub(super) fn every_part_of_a_record_arrives(target: &dyn Target) {
        let topic = format!("{}parts", target.prefix());
        target.create(&topic, 1, &[]);
        let producer = target.builder().build().unwrap();
        let time = 1_700_000_000_123;
        let records = [
            Record::to(&topic),
            Record::to(&topic).key("").value(""),
            Record::to(&topic).key("k").value("v").timestamp(Timestamp::from_millis(time)),
            Record::to(&topic).value("h").header("a", "1").header("a", "2").header("b", None::<&str>).header("", ""),
            Record::to(&topic).value(vec![0_u8, 255, 10]).timestamp(Timestamp::from_millis(0)),
        ];
        let before = now_ms();
        let sent: Vec<_> = records.iter().map(|record| producer.send(record.clone())).collect();
        let sent: Vec<_> = sent.into_iter().map(|delivery| delivery.wait().unwrap()).collect();
        let after = now_ms();
        producer.close_timeout(BOUND).unwrap();

        let found = target.read(&topic);
        assert_eq!(found.len(), records.len());
        for (place, ((record, sent), found)) in records.iter().zip(&sent).zip(&found).enumerate() {
            assert_eq!((found.offset, sent.offset().unwrap()), (place as i64, place as i64));
            assert_eq!(found.key.as_deref(), record.key.as_deref(), "{place}");
            assert_eq!(found.value.as_deref(), record.value.as_deref(), "{place}");
            assert_eq!(found.headers, owned(&record.headers), "{place}");
            assert_eq!(found.timestamp, sent.timestamp().unwrap().millis());
            assert_eq!(sent.timestamp().unwrap().timestamp_type(), TimestampType::CreateTime);
            match record.timestamp {
                Some(own) => assert_eq!(sent.timestamp(), Some(own)),
                None => assert!((before..=after).contains(&sent.timestamp().unwrap().millis())),
            }
        }
    }

    pub(super) fn offsets_and_order_are_those_of_the_log(target: &dyn Target) {
        let topic = format!("{}order", target.prefix());
        target.create(&topic, 3, &[]);
        let producer = target.builder().batch_size(1000).build().unwrap();
        std::thread::scope(|scope| {
            for thread in 0..4_i32 {
                let (producer, topic) = (&producer, &topic);
                scope.spawn(move || {
                    let sent: Vec<_> = (0..2000)
                        .map(|n| {
                            let partition = (thread + n) % 3;
                            let record = Record::to(topic).partition(partition).value(format!("{thread} {n}"));
                            (partition, producer.send(record))
                        })
                        .collect();
                    let mut last = [-1; 3];
                    for (partition, delivery) in sent {
                        let sent = delivery.wait().unwrap();
                        assert_eq!(sent.partition(), partition);
                        assert!(
                            sent.offset().unwrap() > last[partition as usize],
                            "a thread's records keep their order"
                        );
                        last[partition as usize] = sent.offset().unwrap();
                    }
                });
            }
        });
        let metrics = producer.metrics();
        assert!(metrics.requests_sent > 20, "many batches were on their way: {metrics:?}");
        producer.close_timeout(BOUND).unwrap();
        let found = target.read(&topic);
        assert_eq!(found.len(), 8000);
        let mut last = [[-1; 3]; 4];
        for record in found {
            let value = String::from_utf8(record.value.unwrap()).unwrap();
            let (thread, n) = value.split_once(' ').unwrap();
            let (thread, n): (usize, i32) = (thread.parse().unwrap(), n.parse().unwrap());
            let last = &mut last[thread][record.partition as usize];
            assert!(n > *last, "partition {}: {n} after {last}", record.partition);
            *last = n;
        }
    }

    pub(super) fn a_key_keeps_its_partition(target: &dyn Target) {
        let topic = format!("{}keys", target.prefix());
        target.create(&topic, 5, &[]);
        let producer = target.builder().build().unwrap();
        // What Java's producer chooses: murmur2, the sign bit off, modulo the number of partitions.
        for (key, hash) in [("21", -973_932_308_i32), ("foobar", -790_332_482), ("abc", 479_470_107)] {
            let sent = producer.send(Record::to(&topic).key(key).value("v")).wait().unwrap();
            assert_eq!(sent.partition(), (hash & i32::MAX) % 5, "{key}");
        }
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn the_brokers_clock_is_told_where_it_counts(target: &dyn Target) {
        let topic = format!("{}append.time", target.prefix());
        target.create(&topic, 1, &[("message.timestamp.type", "LogAppendTime")]);
        let producer = target.builder().build().unwrap();
        let before = now_ms();
        let sent = producer.send(Record::to(&topic).value("v").timestamp(Timestamp::from_millis(1000))).wait().unwrap();
        assert_eq!(sent.timestamp().unwrap().timestamp_type(), TimestampType::LogAppendTime);
        assert!(
            sent.timestamp().unwrap().millis() >= before - 1000
                && sent.timestamp().unwrap().millis() <= now_ms() + 1000
        );
        assert_eq!(target.read(&topic)[0].timestamp, sent.timestamp().unwrap().millis());
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn a_topic_that_does_not_exist_is_told_within_max_block(target: &dyn Target) {
        let topic = format!("{}missing", target.prefix());
        // The cluster has this long to say that there is no such topic.
        let max_block = Duration::from_secs(4);
        let producer = target.builder().max_block(max_block).build().unwrap();
        producer.connect_timeout(BOUND).unwrap();
        let error = crate::support::told_by_a_broker(|| {
            let begun = Instant::now();
            let error = producer.send(Record::to(&topic).value("v")).wait().unwrap_err();
            let took = begun.elapsed();
            assert!((max_block..max_block + AT_ONCE).contains(&took), "{took:?}");
            error
        });
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata));
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));
        assert_eq!((error.written(), error.context().topic.as_deref()), (Some(Written::No), Some(&*topic)));
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn a_topic_that_comes_while_a_send_waits_is_used(target: &dyn Target) {
        let topic = format!("{}late", target.prefix());
        let producer = target.builder().build().unwrap();
        let refused = producer.try_send(Record::to(&topic).value("v")).unwrap_err();
        assert_eq!(refused.error().kind(), ErrorKind::WouldBlock);
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| producer.send(Record::to(&topic).value("v")).wait());
            target.create(&topic, 1, &[]);
            assert_eq!(waiting.join().unwrap().unwrap().offset().unwrap(), 0);
        });
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn a_partition_that_does_not_exist_is_refused(target: &dyn Target) {
        let topic = format!("{}two", target.prefix());
        target.create(&topic, 2, &[]);
        let producer = target.builder().build().unwrap();
        let begun = Instant::now();
        let error = producer.send(Record::to(&topic).partition(2).value("v")).wait().unwrap_err();
        assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::NoSuchPartition, Recovery::Fix));
        assert!(error.to_string().contains("no partition 2; it has 2"), "{error}");
        let error = producer.send(Record::to(&topic).partition(-1).value("v")).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(target.read(&topic), []);
    }

    pub(super) fn a_record_over_the_topics_limit_fails_alone(target: &dyn Target) {
        let topic = format!("{}small", target.prefix());
        target.create(&topic, 1, &[("max.message.bytes", "2000")]);
        let producer = target.builder().build().unwrap();
        let large = vec![7_u8; 5000];
        producer.send(Record::to(&topic).value("first")).wait().unwrap();
        let error = producer.send(Record::to(&topic).value(&large)).wait().unwrap_err();
        assert_eq!(error.code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
        assert_eq!((error.recovery(), error.written()), (Recovery::Fix, Some(Written::No)));
        let context = error.context();
        assert_eq!((context.topic.as_deref(), context.partition), (Some(&*topic), Some(0)));
        assert!(context.broker.is_some() && error.to_string().contains("max.message.bytes"), "{error}");
        assert_eq!(producer.send(Record::to(&topic).value("last")).wait().unwrap().offset().unwrap(), 1);
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(target.read(&topic).len(), 2);
    }

    pub(super) fn a_batch_over_the_topics_limit_is_split(target: &dyn Target) {
        let topic = format!("{}split", target.prefix());
        target.create(&topic, 1, &[("max.message.bytes", "3000")]);
        let producer = target.builder().linger(BOUND).build().unwrap();
        let value = vec![b'x'; 200];
        let sent: Vec<_> =
            (0..200).map(|n| producer.send(Record::to(&topic).key(n.to_string()).value(&value))).collect();
        let too_large = producer.send(Record::to(&topic).key("large").value(vec![b'y'; 4000]));
        let after = producer.send(Record::to(&topic).key("after").value("v"));
        producer.flush_timeout(BOUND).unwrap();
        for (place, sent) in sent.into_iter().enumerate() {
            assert_eq!(sent.wait().unwrap().offset().unwrap(), place as i64);
        }
        assert_eq!(too_large.wait().unwrap_err().code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
        assert_eq!(after.wait().unwrap().offset().unwrap(), 200);
        assert!(producer.metrics().batches_split > 1, "{:?}", producer.metrics());
        producer.close_timeout(BOUND).unwrap();
        let keys: Vec<_> = target.read(&topic).into_iter().map(|record| record.key.unwrap()).collect();
        let wanted: Vec<_> = (0..200).map(|n| n.to_string()).chain(["after".into()]).map(String::into_bytes).collect();
        assert_eq!(keys, wanted);
    }

    pub(super) fn a_record_that_the_broker_refuses_is_named(target: &dyn Target) {
        let topic = format!("{}compacted", target.prefix());
        target.create(&topic, 1, &[("cleanup.policy", "compact")]);
        // Both records are in one batch.
        let producer = target.builder().linger(BOUND).build().unwrap();
        let keyed = producer.send(Record::to(&topic).key("k").value("v"));
        let bare = producer.send(Record::to(&topic).value("no key"));
        producer.flush_timeout(BOUND).unwrap();
        let error = bare.wait().unwrap_err();
        assert_eq!((error.code(), error.recovery()), (Some(ErrorCode::INVALID_RECORD), Recovery::Fix));
        assert!(error.to_string().to_lowercase().contains("key"), "the broker's own text: {error}");
        let beside = keyed.wait().unwrap_err();
        assert_eq!((beside.written(), beside.recovery()), (Some(Written::No), Recovery::Retry), "{beside}");
        assert_eq!(producer.send(Record::to(&topic).key("k").value("v")).wait().unwrap().offset().unwrap(), 0);
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn a_timestamp_out_of_range_is_named(target: &dyn Target) {
        let topic = format!("{}times", target.prefix());
        target.create(&topic, 1, &[("message.timestamp.after.max.ms", "60000")]);
        let producer = target.builder().build().unwrap();
        let late = now_ms() + 3_600_000;
        let error =
            producer.send(Record::to(&topic).value("v").timestamp(Timestamp::from_millis(late))).wait().unwrap_err();
        assert_eq!((error.code(), error.written()), (Some(ErrorCode::INVALID_TIMESTAMP), Some(Written::No)), "{error}");
        let error =
            producer.send(Record::to(&topic).value("v").timestamp(Timestamp::from_millis(-1))).wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(target.read(&topic), []);
    }

    pub(super) fn acks_none_knows_no_offset(target: &dyn Target) {
        let topic = format!("{}acks.none", target.prefix());
        target.create(&topic, 1, &[]);
        let producer = target.builder().acks(Acks::None).idempotence(false).build().unwrap();
        let sent: Vec<_> = (0..1000).map(|n| producer.send(Record::to(&topic).value(n.to_string()))).collect();
        for sent in sent {
            let sent = sent.wait().unwrap();
            assert_eq!(sent.offset(), None);
            assert!(sent.timestamp().unwrap().millis() > 0, "the record's own timestamp is known");
        }
        producer.close_timeout(BOUND).unwrap();
        crate::support::wait_for("all records", BOUND, || (target.read(&topic).len() == 1000).then_some(()));
    }

    pub(super) fn acks_leader_is_acknowledged(target: &dyn Target) {
        let topic = format!("{}acks.leader", target.prefix());
        target.create(&topic, 1, &[]);
        let producer = target.builder().acks(Acks::Leader).idempotence(false).batch_records(10).build().unwrap();
        let sent: Vec<_> = (0..1000).map(|n| producer.send(Record::to(&topic).value(n.to_string()))).collect();
        for (place, sent) in sent.into_iter().enumerate() {
            assert_eq!(sent.wait().unwrap().offset().unwrap(), place as i64);
        }
        let metrics = producer.metrics();
        assert!(metrics.batches_sent >= 100, "no batch has more than ten records: {metrics:?}");
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn every_codec_is_read_back(target: &dyn Target) {
        let topic = format!("{}codecs", target.prefix());
        target.create(&topic, 1, &[]);
        let mut codecs = vec![Compression::None, Compression::gzip(), Compression::Snappy, Compression::Lz4];
        if cfg!(feature = "zstd") {
            codecs.push(Compression::zstd());
        }
        let mut wanted = Vec::new();
        for compression in codecs {
            let producer = target.builder().compression(compression).linger(BOUND).build().unwrap();
            for n in 0..200 {
                let value = format!("{} {n} {}", compression.name(), "abc".repeat(n % 50));
                producer.send(Record::to(&topic).value(&value)).detach();
                wanted.push(value.into_bytes());
            }
            producer.close_timeout(BOUND).unwrap();
            let metrics = producer.metrics();
            let smaller = metrics.bytes_acknowledged < metrics.uncompressed_bytes_acknowledged / 2;
            assert_eq!(smaller, compression != Compression::None, "{metrics:?}");
        }
        let found: Vec<_> = target.read(&topic).into_iter().map(|record| record.value.unwrap()).collect();
        assert!(found == wanted);
    }

    pub(super) fn a_topic_deleted_under_way_is_told(target: &dyn Target) {
        let topic = format!("{}doomed", target.prefix());
        target.create(&topic, 1, &[]);
        let builder = target.builder().request_timeout(Duration::from_secs(2)).linger(Duration::ZERO);
        let producer = builder.delivery_timeout(Duration::from_secs(4)).build().unwrap();
        crate::support::wait_for("the first record", BOUND, || {
            producer.send(Record::to(&topic).value("v")).wait().ok()
        });
        target.delete(&topic);
        // A real broker answers for a moment longer, and one that stands still says nothing in time.
        let error = crate::support::wait_for("the end of the topic", BOUND, || {
            let begun = Instant::now();
            let result = producer.send(Record::to(&topic).value("v")).wait();
            assert!(begun.elapsed() < AT_ONCE, "{:?}", begun.elapsed());
            result.err().filter(|error| error.code().is_some())
        });
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error:?}");
        assert_eq!(error.context().topic.as_deref(), Some(&*topic));
        producer.close_timeout(BOUND).unwrap();
    }

    pub(super) fn a_topic_created_again_is_written_to(target: &dyn Target) {
        let topic = format!("{}again", target.prefix());
        target.create(&topic, 1, &[]);
        let producer = target.builder().build().unwrap();
        for n in 0..10 {
            assert_eq!(producer.send(Record::to(&topic).value("v")).wait().unwrap().offset().unwrap(), n);
        }
        target.delete(&topic);
        crate::support::wait_for("the topic's new life", BOUND, || {
            std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| target.create(&topic, 1, &[]))).ok()
        });
        for n in 0..10 {
            let sent = producer.send(Record::to(&topic).value("w")).wait().unwrap();
            assert_eq!(sent.offset().unwrap(), n, "a new log begins at 0");
        }
        producer.close_timeout(BOUND).unwrap();
        assert_eq!(target.read(&topic).len(), 10);
    }

    pub(super) fn partitions_are_told(target: &dyn Target) {
        let topic = format!("{}told", target.prefix());
        target.create(&topic, 4, &[]);
        let producer = target.builder().max_block(Duration::from_millis(500)).build().unwrap();
        producer.connect_timeout(BOUND).unwrap();
        let partitions = crate::support::wait_for("leaders", BOUND, || {
            let partitions = producer.partitions_for(&topic).ok()?;
            partitions.iter().all(|partition| partition.leader.is_some()).then_some(partitions)
        });
        assert_eq!(partitions.iter().map(|partition| partition.partition.index).collect::<Vec<_>>(), [0, 1, 2, 3]);
        let error = producer.partitions_for("no.such.topic").unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata));
        assert_eq!(producer.partitions_for("no such topic").unwrap_err().kind(), ErrorKind::InvalidInput);
        producer.close_timeout(BOUND).unwrap();
    }
}

fn now_ms() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis() as i64
}
