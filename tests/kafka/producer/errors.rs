//! Every way in which a real Kafka, or this client before it, refuses a record: typed, in time, and with its place.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_blocking::partitioner::{Choice, PartitionRequest, Partitioner, PartitionerError, partitioner_fn};
use kafka_blocking::{
    BrokerId, Compression, Delivery, Error, ErrorCode, ErrorKind, Producer, ProducerBuilder, Record, Recovery, Timeout,
    Timestamp, Written, partitioner,
};

use crate::support::jars::Version;
use crate::support::kafka::{Cluster, Options};
use crate::support::ledger::Ledger;
use crate::support::{told_by_a_broker, wait_for};

const SOON: Duration = Duration::from_secs(60);

/// How late a call may be. An error that needs no broker comes within this, too.
/// What waits wrongly does so for a minute.
const SLACK: Duration = Duration::from_secs(20);

fn cluster() -> &'static Cluster {
    static CLUSTER: OnceLock<Cluster> = OnceLock::new();
    CLUSTER.get_or_init(|| Cluster::shared(&Options::single(Version::V4_3).authorizer()))
}

fn builder() -> ProducerBuilder {
    Producer::builder(cluster().bootstrap())
}

fn topic(name: &str, partitions: usize, settings: &[&str]) {
    cluster().admin().create_topic(name, partitions, 1, settings);
}

/// The values of a topic as text.
fn values(topic: &str) -> Vec<String> {
    let text = |value: Option<Vec<u8>>| String::from_utf8(value.unwrap()).unwrap();
    cluster().admin().read(topic).into_iter().map(|record| text(record.value)).collect()
}

/// Sends a record that fails within [`SLACK`].
fn refused(producer: &Producer, record: Record<'_>) -> Error {
    let begin = Instant::now();
    let error = producer.send(record).wait().unwrap_err();
    assert!(begin.elapsed() < SLACK, "{:?}: {error}", begin.elapsed());
    error
}

fn causes(error: &Error) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(error) = cause {
        text = format!("{text}: {error}");
        cause = error.source();
    }
    text
}

#[test]
fn an_unknown_topic_is_a_timeout_with_the_brokers_word_as_its_cause() {
    let limit = Duration::from_secs(3);
    let producer = builder().max_block(limit).build().unwrap();
    let in_time = |call: &dyn Fn() -> Error| {
        let begin = Instant::now();
        let error = call();
        assert!((limit..limit + SLACK).contains(&begin.elapsed()), "{:?}", begin.elapsed());
        error
    };
    let send = || producer.send(Record::to("no-such-topic").value("v")).wait().unwrap_err();
    let error = told_by_a_broker(|| in_time(&send));
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Timeout(Timeout::Metadata), Recovery::Retry));
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION), "{error:?}");
    assert_eq!((error.context().topic.as_deref(), error.written()), (Some("no-such-topic"), Some(Written::No)));
    let error = told_by_a_broker(|| in_time(&|| producer.partitions_for("no-such-topic").unwrap_err()));
    assert_eq!(error.code(), Some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION));

    // A topic that comes while somebody waits for it is found.
    let producer = builder().build().unwrap();
    let waiting = std::thread::spawn(move || producer.send(Record::to("late-topic").value("v")).wait());
    topic("late-topic", 1, &[]);
    assert_eq!(waiting.join().unwrap().unwrap().offset().unwrap(), 0);
}

#[test]
fn what_cannot_be_sent_is_refused_at_once() {
    topic("refusals", 2, &[]);
    let producer = builder().build().unwrap();
    for name in ["", ".", "..", "a b", "a/b", "ünder", &"x".repeat(250)] {
        let error = refused(&producer, Record::to(name).value("v"));
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::InvalidInput, Recovery::Fix), "{name}");
        assert_eq!((error.context().topic.as_deref(), error.written()), (Some(name), Some(Written::No)));
    }
    let longest = "x".repeat(249);
    topic(&longest, 1, &[]);
    assert_eq!(producer.send(Record::to(&longest).value("v")).wait().unwrap().offset().unwrap(), 0);

    producer.send(Record::to("refusals").partition(1).value("v")).wait().unwrap();
    let error = refused(&producer, Record::to("refusals").partition(-1).value("v"));
    assert_eq!((error.kind(), error.context().topic.as_deref()), (ErrorKind::InvalidInput, Some("refusals")));
    for absent in [2, 3, i32::MAX] {
        let error = refused(&producer, Record::to("refusals").partition(absent).value("v"));
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::NoSuchPartition, Recovery::Fix), "{error:?}");
        assert_eq!((error.context().topic.as_deref(), error.context().partition), (Some("refusals"), Some(absent)));
    }
    for timestamp in [-1, i64::MIN] {
        let error = refused(&producer, Record::to("refusals").timestamp(Timestamp::from_millis(timestamp)).value("v"));
        assert_eq!((error.kind(), error.written()), (ErrorKind::InvalidInput, Some(Written::No)));
        assert!(error.to_string().contains(&timestamp.to_string()), "{error}");
    }
    let error = refused(&producer, Record::to("refusals").value(vec![0; 1024 * 1024]));
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::RecordTooLarge, Recovery::Fix));
    assert_eq!(error.context().limit, Some(("max_request_size", 1024 * 1024)));
    assert!(error.to_string().contains("max_request_size"), "{error}");
    producer.close_timeout(SOON).unwrap();
    assert_eq!(cluster().admin().end_offsets("refusals"), [0, 1], "nothing of it was sent");

    let producer = builder().buffer_memory(20_000).build().unwrap();
    let error = refused(&producer, Record::to("refusals").value(vec![0; 30_000]));
    assert_eq!((error.kind(), error.context().limit), (ErrorKind::RecordTooLarge, Some(("buffer_memory", 20_000))));
}

#[test]
fn a_timestamp_out_of_range_fails_its_record_with_the_brokers_word_and_its_neighbours_may_be_sent_again() {
    topic("times", 1, &["message.timestamp.after.max.ms=3600000"]);
    let producer = builder().linger(Duration::from_secs(60)).build().unwrap();
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as i64;
    let tomorrow = now + 24 * 3_600_000;
    let record = |number: usize| {
        let time = if number == 2 || number == 5 { tomorrow } else { now };
        Record::to("times").value(number.to_string()).timestamp(Timestamp::from_millis(time))
    };
    let sent: Vec<Delivery> = (0..7).map(|number| producer.send(record(number))).collect();
    producer.flush_timeout(SOON).unwrap();
    let mut again = Vec::new();
    for (number, delivery) in sent.into_iter().enumerate() {
        let error = delivery.wait().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::INVALID_TIMESTAMP), "{error:?}");
        assert_eq!((error.context().topic.as_deref(), error.context().partition), (Some("times"), Some(0)));
        assert_eq!((error.context().broker, error.written()), (Some(BrokerId(1)), Some(Written::No)));
        if error.recovery() == Recovery::Retry {
            assert!(error.to_string().contains("another record"), "{error}");
            again.push(number);
        } else {
            assert_eq!(error.recovery(), Recovery::Fix);
            assert!(error.to_string().contains(&tomorrow.to_string()), "the broker names the time: {error}");
        }
    }
    assert_eq!(again, [0, 1, 3, 4, 6]);
    let sent: Vec<Delivery> = again.iter().map(|number| producer.send(record(*number))).collect();
    for (offset, delivery) in (0..).zip(sent) {
        assert_eq!(delivery.wait().unwrap().offset().unwrap(), offset);
    }
    producer.close_timeout(SOON).unwrap();
    assert_eq!(values("times"), ["0", "1", "3", "4", "6"]);
}

#[test]
fn a_record_larger_than_its_topic_takes_fails_with_its_place() {
    topic("small-topic", 2, &["max.message.bytes=10000"]);
    let producer = builder().build().unwrap();
    let error = producer.send(Record::to("small-topic").partition(1).value(vec![b'x'; 20_000])).wait().unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Broker(ErrorCode::MESSAGE_TOO_LARGE), Recovery::Fix));
    let context = error.context();
    assert_eq!((context.topic.as_deref(), context.partition), (Some("small-topic"), Some(1)));
    assert_eq!((context.broker, error.written()), (Some(BrokerId(1)), Some(Written::No)));
    assert!(error.to_string().contains("max.message.bytes"), "{error}");
    // The partition's sequence goes on after it.
    for offset in 0..3 {
        assert_eq!(
            producer.send(Record::to("small-topic").partition(1).value("v")).wait().unwrap().offset().unwrap(),
            offset
        );
    }
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn a_batch_larger_than_its_topic_takes_is_split_and_arrives_in_order() {
    // Digits compress to half at best, so the compressed batch is too large as well.
    let value = |number: u64| {
        let mut seed = number;
        let mut digits = String::new();
        while digits.len() < 400 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            digits += &format!("{:08x}", seed >> 32);
        }
        format!("{number} {digits}")
    };
    for (name, compression) in [("split", Compression::None), ("split-gzip", Compression::gzip())] {
        topic(name, 1, &["max.message.bytes=5000"]);
        let told = Arc::new(Mutex::new(Vec::new()));
        let producer =
            builder().batch_size(100_000).linger(Duration::from_secs(60)).compression(compression).build().unwrap();
        for number in 0..200 {
            let told = Arc::clone(&told);
            let record = Record::to(name).value(value(number));
            producer.send_with(record, move |result| told.lock().unwrap().push(result.unwrap().offset().unwrap()));
        }
        // The next one waits for the parts.
        producer.flush_timeout(SOON).unwrap();
        let last = producer.send(Record::to(name).value(value(200)));
        assert_eq!(last.wait().unwrap().offset().unwrap(), 200);
        let metrics = producer.metrics();
        assert!(metrics.batches_split > 0, "{metrics:?}");
        producer.close_timeout(SOON).unwrap();
        assert_eq!(*told.lock().unwrap(), (0..200).collect::<Vec<_>>());
        assert!(values(name) == (0..=200).map(value).collect::<Vec<_>>());
    }
}

#[test]
fn batches_that_are_split_while_five_are_in_flight_arrive_once_and_in_order() {
    topic("split-in-flight", 1, &["max.message.bytes=5000"]);
    let ledger = Ledger::new(1);
    let producer = builder().batch_size(16_000).linger(Duration::from_millis(50)).build().unwrap();
    let sent: Vec<_> = (0..3000)
        .map(|_| {
            let (ticket, value) = ledger.accept(0, "split-in-flight", Some(0), 300);
            (ticket, producer.send(Record::to("split-in-flight").value(value)))
        })
        .collect();
    for (ticket, delivery) in sent {
        let metadata = delivery.wait().unwrap();
        ledger.acked(ticket, metadata.partition(), Some(metadata.offset().unwrap()));
    }
    let metrics = producer.metrics();
    assert!(metrics.batches_split > 10, "{metrics:?}");
    producer.close_timeout(SOON).unwrap();
    judge("split-in-flight", &ledger);
}

#[test]
fn a_batch_refused_while_five_are_in_flight_costs_its_own_records_alone() {
    topic("poisoned", 1, &["message.timestamp.after.max.ms=3600000"]);
    let ledger = Ledger::new(1);
    let producer = builder().batch_records(10).linger(Duration::ZERO).build().unwrap();
    let tomorrow = SystemTime::now() + Duration::from_secs(24 * 3600);
    let mut sent = Vec::new();
    for number in 0..5000 {
        let (ticket, value) = ledger.accept(0, "poisoned", Some(0), 100);
        let record = Record::to("poisoned").value(value);
        let poisoned = number % 500 == 250;
        sent.push((ticket, poisoned, producer.send(if poisoned { record.timestamp(tomorrow) } else { record })));
    }
    let mut failed = 0;
    for (ticket, poisoned, delivery) in sent {
        match delivery.wait() {
            Ok(metadata) => {
                assert!(!poisoned);
                ledger.acked(ticket, metadata.partition(), Some(metadata.offset().unwrap()));
            }
            Err(error) => {
                assert_eq!((error.code(), error.written()), (Some(ErrorCode::INVALID_TIMESTAMP), Some(Written::No)));
                assert_eq!(error.recovery(), if poisoned { Recovery::Fix } else { Recovery::Retry });
                ledger.failed(ticket);
                failed += 1;
            }
        }
    }
    assert!((10..=100).contains(&failed), "{failed} records failed; 10 batches of at most 10 were poisoned");
    producer.close_timeout(SOON).unwrap();
    judge("poisoned", &ledger);
}

fn judge(topic: &str, ledger: &Ledger) {
    let records = cluster().admin().read(topic);
    let value = |record: &crate::support::admin::Record| record.value.clone().unwrap();
    let all = records.iter().map(|record| (&*record.topic, record.partition, record.offset, value(record)));
    ledger.judge_all(all).assert_safe();
}

#[test]
fn a_record_that_the_topic_does_not_take_fails_with_the_brokers_text() {
    topic("compacted", 1, &["cleanup.policy=compact"]);
    let producer = builder().linger(Duration::from_secs(60)).build().unwrap();
    let keyed = producer.send(Record::to("compacted").key("k").value("kept"));
    let unkeyed = producer.send(Record::to("compacted").value("without a key"));
    let error = unkeyed.wait().unwrap_err();
    assert_eq!((error.kind(), error.recovery()), (ErrorKind::Broker(ErrorCode::INVALID_RECORD), Recovery::Fix));
    assert!(error.to_string().contains("without key"), "{error}");
    assert_eq!((error.context().topic.as_deref(), error.context().partition), (Some("compacted"), Some(0)));
    let error = keyed.wait().unwrap_err();
    assert_eq!((error.recovery(), error.written()), (Recovery::Retry, Some(Written::No)), "{error}");
    producer.send(Record::to("compacted").key("k").value("kept")).wait().unwrap();
    producer.close_timeout(SOON).unwrap();
    assert_eq!(values("compacted"), ["kept"]);
}

#[test]
fn a_topic_deleted_under_way_fails_in_time_and_works_again_once_it_is_made_anew() {
    // What succeeds here has this long as well.
    let limit = Duration::from_secs(12);
    topic("deleted", 1, &[]);
    let producer = builder()
        .linger(Duration::ZERO)
        .request_timeout(Duration::from_secs(6))
        .delivery_timeout(limit)
        .max_block(limit)
        .build()
        .unwrap();
    for offset in 0..3 {
        assert_eq!(producer.send(Record::to("deleted").value("old")).wait().unwrap().offset().unwrap(), offset);
    }
    cluster().admin().delete_topic("deleted");
    wait_for("the deletion", SOON, || (!cluster().admin().topics().contains(&"deleted".to_owned())).then_some(()));
    let error = told_by_a_broker(|| {
        let begin = Instant::now();
        let error = producer.send(Record::to("deleted").value("lost")).wait().unwrap_err();
        assert!((limit..limit + SLACK).contains(&begin.elapsed()), "{:?}: {error}", begin.elapsed());
        error
    });
    let code = error.code().unwrap();
    assert!([ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::UNKNOWN_TOPIC_ID].contains(&code), "{error:?}");
    assert_eq!(error.context().topic.as_deref(), Some("deleted"));
    assert!(causes(&error).contains(code.name()), "{}", causes(&error));

    topic("deleted", 2, &[]);
    for offset in 0..3 {
        let sent = producer.send(Record::to("deleted").partition(0).value("new")).wait().unwrap();
        assert_eq!(sent.offset().unwrap(), offset);
    }
    assert_eq!(producer.send(Record::to("deleted").partition(1).value("new")).wait().unwrap().offset().unwrap(), 0);
    producer.close_timeout(SOON).unwrap();
    assert_eq!(values("deleted"), ["new"; 4]);
}

#[test]
fn a_topic_that_may_not_be_written_fails_alone() {
    topic("denied", 1, &[]);
    topic("hidden", 1, &[]);
    topic("allowed", 1, &[]);
    let admin = cluster().admin();
    let anyone = "User:ANONYMOUS";
    admin.add_acl("denied", anyone, "All", true);
    admin.add_acl("denied", anyone, "Write", false);
    admin.add_acl("hidden", anyone, "Describe", false);
    let producer = builder().linger(Duration::from_millis(100)).build().unwrap();
    // Known before, so that the records of both topics travel in one request.
    producer.partitions_for("allowed").unwrap();
    producer.partitions_for("denied").unwrap();
    let denied = producer.send(Record::to("denied").value("v"));
    let allowed: Vec<Delivery> = (0..3).map(|_| producer.send(Record::to("allowed").value("v"))).collect();
    let error = denied.wait().unwrap_err();
    let kind = ErrorKind::Broker(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    assert_eq!((error.kind(), error.recovery(), error.written()), (kind, Recovery::Fix, Some(Written::No)));
    assert_eq!((error.context().topic.as_deref(), error.context().partition), (Some("denied"), Some(0)));
    for (offset, delivery) in (0..).zip(allowed) {
        assert_eq!(delivery.wait().unwrap().offset().unwrap(), offset);
    }
    let error = refused(&producer, Record::to("hidden").value("v"));
    assert_eq!((error.kind(), error.context().topic.as_deref()), (kind, Some("hidden")));
    // A right that is given later is found.
    admin.remove_acl("denied", anyone, "Write", false);
    wait_for("the right", SOON, || producer.send(Record::to("denied").value("later")).wait().ok());
    producer.close_timeout(SOON).unwrap();
    assert_eq!(values("denied"), ["later"]);
}

/// Skewed by key, as in the book on Kafka: null keys are refused, one key has the last partition to itself.
struct Skewed;

impl Partitioner for Skewed {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        let Some(key) = request.key else {
            return Err("all records are expected to have a key".into());
        };
        let (last, others) = request.partitions.split_last().ok_or("no partitions")?;
        if key == b"VeryCommonKey" {
            return Ok(Choice::Partition(*last));
        }
        let place = partitioner::hash::murmur2(key) as usize % others.len();
        Ok(Choice::Partition(others[place]))
    }
}

#[test]
fn a_partitioner_that_fails_panics_or_misses_fails_its_record_alone() {
    topic("skewed", 4, &[]);
    let producer = builder().partitioner(Skewed).build().unwrap();
    let error = refused(&producer, Record::to("skewed").value("v"));
    assert_eq!(
        (error.kind(), error.recovery(), error.written()),
        (ErrorKind::InvalidInput, Recovery::Fix, Some(Written::No))
    );
    assert!(causes(&error).contains("all records are expected to have a key"), "{}", causes(&error));
    assert_eq!(error.context().topic.as_deref(), Some("skewed"));
    let common = producer.send(Record::to("skewed").key("VeryCommonKey").value("v")).wait().unwrap();
    assert_eq!(common.partition(), 3);
    for number in 0..20 {
        let sent = producer.send(Record::to("skewed").key(format!("key-{number}")).value("v")).wait().unwrap();
        assert!((0..3).contains(&sent.partition()));
    }
    producer.close_timeout(SOON).unwrap();

    let calls = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&calls);
    let faulty = partitioner_fn(move |key, partitions| {
        counted.fetch_add(1, Ordering::Relaxed);
        match key {
            Some(b"panic") => panic!("a partitioner's panic, which is part of the test"),
            Some(b"over") => partitions.len() as i32,
            Some(b"under") => -1,
            _ => 0,
        }
    });
    let before: i64 = cluster().admin().end_offsets("skewed").iter().sum();
    let producer = builder().partitioner(faulty).build().unwrap();
    for (key, kind) in [
        ("panic", ErrorKind::Panicked),
        ("over", ErrorKind::NoSuchPartition),
        ("under", ErrorKind::NoSuchPartition),
        ("panic", ErrorKind::Panicked),
    ] {
        let error = refused(&producer, Record::to("skewed").key(key).value("v"));
        assert_eq!(
            (error.kind(), error.recovery(), error.written()),
            (kind, Recovery::Fix, Some(Written::No)),
            "{key}"
        );
        assert_eq!(error.context().topic.as_deref(), Some("skewed"));
    }
    producer.send(Record::to("skewed").key("good").value("v")).wait().unwrap();
    producer.close_timeout(SOON).unwrap();
    assert_eq!(calls.load(Ordering::Relaxed), 5);
    assert_eq!(cluster().admin().end_offsets("skewed").iter().sum::<i64>(), before + 1, "nothing else was sent");
}

#[test]
fn a_wrong_bootstrap_list_is_refused_by_build_entry_by_entry() {
    let build = |servers: &[&str]| Producer::builder(servers.iter().copied()).build().unwrap_err();
    for (servers, part) in [
        (&[][..], "none is given"),
        (&[""], "none is given"),
        (&["h:0"], "1 to 65535"),
        (&["h:65536"], "1 to 65535"),
        (&["h:port"], "not a number"),
        (&[":9092"], "no host"),
        (&["::1"], "in brackets"),
        (&["[::1"], "not closed"),
        (&["SSL://h:9092"], "scheme"),
        (&["http://h"], "scheme"),
        (&["h ost"], "' ' in its host"),
        (&["a:1", "b:1", "a:1"], "twice"),
        (&["a:1,,b:1"], "no host"),
    ] {
        let error = build(servers);
        assert_eq!((error.kind(), error.recovery()), (ErrorKind::Config, Recovery::Fix), "{servers:?}");
        assert!(error.to_string().contains(part), "{servers:?}: {error}");
    }
    let error = build(&["h:0", "good:9092", "[::1"]).to_string();
    assert!(error.contains("h:0") && error.contains("[::1") && error.starts_with("2 wrong settings"), "{error}");
    // Names that nobody knows and ports where nobody listens are no fault of the list; the first use tells.
    let nobody = crate::support::kafka::Port::reserve().address.to_string();
    for server in ["no-such-host.invalid:9092".to_owned(), nobody] {
        let limit = Duration::from_secs(1);
        let producer = Producer::builder([&server]).max_block(limit).build().unwrap();
        let (host, _) = server.split_once(':').unwrap();
        // To ask for a name may take longer.
        wait_for("a cause that names the address", SOON, || {
            let begin = Instant::now();
            let error = producer.send(Record::to("t").value("v")).wait().unwrap_err();
            assert!(begin.elapsed() < limit + SLACK, "{:?}", begin.elapsed());
            assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Metadata));
            causes(&error).contains(host).then_some(())
        });
    }
}
