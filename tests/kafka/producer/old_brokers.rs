//! Brokers of older versions: 0.11, the first that can do all this client needs, 2.8 and 3.9.

use std::time::{Duration, Instant};

use kafka_blocking::testing::LoggedRecord;
use kafka_blocking::testing::internal_unstable::{Client, RawProducer};
use kafka_blocking::{
    Acks, Compression, Error, ErrorCode, ErrorKind, GroupMetadata, Producer, ProducerBuilder, Record, Recovery,
    Timeout, Timestamp, TimestampType, TopicPartition, Written,
};

use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::{dump, told_by_a_broker, wait_for};

const SOON: Duration = Duration::from_secs(60);

#[test]
fn a_broker_of_0_11() {
    let cluster = start(Version::V0_11);
    everything_that_it_knows(&cluster, false);
    transactions(&cluster);
    if cfg!(feature = "zstd") {
        zstd_is_refused(&cluster);
    }
}

#[test]
fn a_broker_of_2_8() {
    let cluster = start(Version::V2_8);
    everything_that_it_knows(&cluster, true);
    transactions(&cluster);
    too_few_replicas_are_retried_and_told_at_the_delivery_timeout(&cluster);
}

#[test]
fn a_broker_of_3_9() {
    let cluster = start(Version::V3_9);
    everything_that_it_knows(&cluster, true);
    transactions(&cluster);
}

/// A broker that keeps its leaderships although the machine stands still for a while.
fn start(version: Version) -> Cluster {
    let session = if version.uses_zookeeper() { "zookeeper.session.timeout.ms" } else { "broker.session.timeout.ms" };
    // ZooKeeper grants twenty of its ticks at most.
    Cluster::start(Options::single(version).auto_create().property(session, "10000"))
}

fn builder(cluster: &Cluster) -> ProducerBuilder {
    Producer::builder(cluster.bootstrap())
}

fn everything_that_it_knows(cluster: &Cluster, zstd: bool) {
    // A client that does not want topics to be made does not get them.
    let producer = builder(cluster).allow_auto_topic_creation(false).max_block(Duration::from_secs(5)).build().unwrap();
    if cluster.version() != Version::V0_11 {
        // Metadata v4 came with 0.11.
        let error = told_by_a_broker(|| {
            let error = producer.send(Record::to("unwanted").value("v")).wait().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata), "{error:?}");
            error
        });
        assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error:?}");
    }
    producer.close_timeout(SOON).unwrap();

    // The first use of a topic makes it.
    let mut codecs = vec![Compression::None, Compression::gzip(), Compression::Snappy, Compression::Lz4];
    if zstd && cfg!(feature = "zstd") {
        codecs.push(Compression::zstd());
    }
    let topics: Vec<String> = codecs.iter().map(|codec| format!("made-at-first-use-{codec}")).collect();
    let filler = "text that compresses ".repeat(50);
    for (compression, topic) in codecs.iter().zip(&topics) {
        let producer = builder(cluster).compression(*compression).linger(Duration::from_secs(60)).build().unwrap();
        let record = |number: usize| {
            Record::to(topic)
                .key((!number.is_multiple_of(3)).then(|| format!("k{number}")))
                .value((!number.is_multiple_of(5)).then(|| format!("{number} {filler}")))
                .header("n", number.to_string())
                .header("null", None::<&str>)
                .timestamp(Timestamp::from_millis(1_700_000_000_000 + number as i64))
        };
        let sent: Vec<_> = (0..100).map(|number| producer.send(record(number))).collect();
        for (number, delivery) in (0..).zip(sent) {
            let sent = delivery.wait().unwrap();
            assert_eq!((sent.partition(), sent.offset().unwrap()), (0, number), "{topic}");
            let time = (1_700_000_000_000 + number, TimestampType::CreateTime);
            assert_eq!((sent.timestamp().unwrap().millis(), sent.timestamp().unwrap().timestamp_type()), time);
        }
        producer.close_timeout(SOON).unwrap();
        let records = cluster.admin().read(topic);
        assert_eq!(records.len(), 100, "{topic}");
        for (number, found) in records.iter().enumerate() {
            let record = record(number);
            assert_eq!(
                (found.key.as_deref(), found.value.as_deref()),
                (record.key.as_deref(), record.value.as_deref())
            );
            let headers = [("n".to_owned(), Some(number.to_string().into_bytes())), ("null".to_owned(), None)];
            assert_eq!((&found.headers[..], found.timestamp_ms), (&headers[..], 1_700_000_000_000 + number as i64));
        }
    }
    let partitions: Vec<(&str, usize)> = topics.iter().map(|topic| (topic.as_str(), 0)).collect();
    for (compression, log) in codecs.iter().zip(dump::all_batches(cluster, &partitions)) {
        let mut next = 0;
        for batch in &log {
            assert!(batch.valid && batch.codec == compression.name(), "{batch:?}");
            assert!(batch.producer_id >= 0 && batch.producer_epoch == 0, "{batch:?}");
            assert_eq!((batch.base_sequence, batch.records.len()), (next, batch.count as usize));
            next += batch.count as i32;
        }
        assert_eq!(next, 100, "{compression}");
    }

    for (acks, topic) in [(Acks::All, "acks-all"), (Acks::Leader, "acks-1"), (Acks::None, "acks-0")] {
        // A leader that has just come into being may refuse the first record, which without acknowledgements is lost.
        let first = builder(cluster).build().unwrap();
        assert_eq!(first.send(Record::to(topic).value("v")).wait().unwrap().offset().unwrap(), 0);
        first.close_timeout(SOON).unwrap();
        let producer = builder(cluster).idempotence(false).acks(acks).build().unwrap();
        for number in 1..=10 {
            let sent = producer.send(Record::to(topic).value("v")).wait().unwrap();
            assert_eq!(sent.offset(), (acks != Acks::None).then_some(number));
        }
        producer.close_timeout(SOON).unwrap();
        wait_for("the records", SOON, || (cluster.admin().end_offsets(topic) == [11]).then_some(()));
    }
}

/// By the protocol of KIP-98, before that of KIP-890.
fn transactions(cluster: &Cluster) {
    cluster.admin().create_topic("whole", 2, 1, &["max.message.bytes=2000"]);
    let builder = || builder(cluster).transactional_id("shop");
    let producer = builder().build().unwrap();
    producer.init_transactions().unwrap();
    let group = GroupMetadata::new("group");
    let offset = |offset: i64| [(TopicPartition::new("whole", 0), offset)];
    for number in 0..6_i32 {
        let transaction = producer.transaction().unwrap();
        for partition in [0, 1, 0] {
            transaction.send(Record::to("whole").partition(partition).value(number.to_string()));
        }
        transaction.send_offsets(offset(i64::from(number)), &group).unwrap();
        match number {
            // Refused for good: it has used no sequence number.
            2 => {
                let large = transaction.send(Record::to("whole").partition(0).value("x".repeat(5000)));
                assert_eq!(large.wait().unwrap_err().code(), Some(ErrorCode::MESSAGE_TOO_LARGE));
                let error = transaction.commit().unwrap_err();
                assert_eq!(error.error().recovery(), Recovery::AbortTransaction);
                error.into_transaction().abort().unwrap();
            }
            3 => transaction.abort().unwrap(),
            _ => transaction.commit().unwrap(),
        }
    }
    let mut client = Client::connect(cluster.bootstrap()).unwrap();
    let mut committed = |partition| {
        let end = wait_for("the markers", SOON, || {
            let end = client.end_offset("whole", partition).unwrap();
            (client.stable_offset("whole", partition).unwrap() == end).then_some(end)
        });
        let records = client.read_committed("whole", partition, 0..end).unwrap();
        records.iter().map(LoggedRecord::value_text).collect::<Vec<_>>()
    };
    assert_eq!(committed(0), ["0", "0", "1", "1", "4", "4", "5", "5"]);
    assert_eq!(committed(1), ["0", "1", "4", "5"]);
    let mut reader = RawProducer::connect(cluster.bootstrap(), "nobody").unwrap();
    assert_eq!(reader.unstable_offset("group", "whole", 0).unwrap().unwrap().offset, 5);

    // Another instance.
    let transaction = producer.transaction().unwrap();
    transaction.send(Record::to("whole").partition(0).value("old")).wait().unwrap();
    let next = builder().build().unwrap();
    next.init_transactions().unwrap();
    let error = transaction.commit().unwrap_err();
    assert_eq!((error.error().kind(), error.error().recovery()), (ErrorKind::Fenced, Recovery::Fatal), "{error:?}");
    drop(error);
    next.in_transaction(|transaction| transaction.send(Record::to("whole").partition(1).value("new")).wait()).unwrap();
    assert_eq!(committed(0).len(), 8);
    assert_eq!(committed(1).last().unwrap(), "new");
    producer.close_timeout(SOON).unwrap();
    next.close_timeout(SOON).unwrap();
}

fn zstd_is_refused(cluster: &Cluster) {
    let producer = builder(cluster).compression(Compression::zstd()).build().unwrap();
    let begin = Instant::now();
    let error: Error = producer.send(Record::to("zstd").value("v")).wait().unwrap_err();
    // Not the delivery timeout.
    assert!(begin.elapsed() < Duration::from_secs(60), "{:?}", begin.elapsed());
    assert_eq!((error.kind(), error.written()), (ErrorKind::UnsupportedVersion, Some(Written::No)), "{error:?}");
    assert!(error.to_string().contains("zstd"), "{error}");
    assert_eq!((error.context().topic.as_deref(), error.context().partition), (Some("zstd"), Some(0)));
    producer.close_timeout(SOON).unwrap();
    assert_eq!(cluster.admin().end_offsets("zstd"), [0]);
}

/// Brokers of this age take `min.insync.replicas` at its word also where a topic has fewer replicas.
fn too_few_replicas_are_retried_and_told_at_the_delivery_timeout(cluster: &Cluster) {
    let limit = Duration::from_secs(10);
    cluster.admin().create_topic("too-few", 1, 1, &["min.insync.replicas=2"]);
    let producer = builder(cluster).delivery_timeout(limit).request_timeout(Duration::from_secs(5)).build().unwrap();
    // A request that a busy machine keeps without an answer at the deadline may be written, as far as anybody knows.
    let error = wait_for("a record that is not in flight at its deadline", 12 * limit, || {
        let begin = Instant::now();
        let error = producer.send(Record::to("too-few").value("v")).wait().unwrap_err();
        assert!((limit..3 * limit).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        (error.written() != Some(Written::Maybe)).then_some(error)
    });
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::NOT_ENOUGH_REPLICAS), "{error:?}");
    assert!(error.context().attempts >= Some(3), "{error}");
    assert!(producer.metrics().batches_retried >= 2);
    assert_eq!((error.context().topic.as_deref(), error.written()), (Some("too-few"), Some(Written::No)));
    producer.close_timeout(SOON).unwrap();
    assert!(error.to_string().contains("delivery timeout of 10s"), "{error}");

    // It is retried, so it succeeds if a replica comes in time: here the demand goes.
    let producer = builder(cluster).build().unwrap();
    let delivery = producer.send(Record::to("too-few").value("second"));
    wait_for("a refusal", SOON, || (producer.metrics().error_answers > 0).then_some(()));
    cluster.admin().configure_topic("too-few", &["min.insync.replicas=1"]);
    assert_eq!(delivery.wait().unwrap().offset().unwrap(), 0);
    producer.close_timeout(SOON).unwrap();
}
