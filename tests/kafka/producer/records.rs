//! What a record carries, and how records travel together: against a real Kafka, read back by Java's consumer and by
//! `kafka-dump-log`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use kafka_blocking::{Compression, Delivery, Producer, ProducerBuilder, Record, Timestamp, TimestampType, partitioner};

use crate::support::ledger::Ledger;
use crate::support::{dump, kafka, wait_for};

const SOON: Duration = Duration::from_secs(60);
/// Far longer than a machine stands still, and far shorter than [`LONG`].
const AT_ONCE: Duration = Duration::from_secs(25);
/// A linger that never ends by itself.
const LONG: Duration = Duration::from_secs(80);

fn builder() -> ProducerBuilder {
    Producer::builder(kafka::shared_single().bootstrap())
}

fn topic(name: &str, partitions: usize, settings: &[&str]) {
    kafka::shared_single().admin().create_topic(name, partitions, 1, settings);
}

fn read(topic: &str) -> Vec<crate::support::admin::Record> {
    kafka::shared_single().admin().read(topic)
}

fn now_ms() -> i64 {
    i64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

#[test]
fn headers_keep_their_order_repeat_and_may_be_null_or_empty() {
    topic("headers", 1, &[]);
    let producer = builder().build().unwrap();
    let record = Record::to("headers")
        .value("v")
        .header("a", "1")
        .header("b", None::<&str>)
        .header("a", "")
        .header("", "a name may be empty")
        .header("größe", [0, 255, 10, 9])
        .header("a", "1");
    producer.send(record).wait().unwrap();
    producer.send(Record::to("headers").value("none")).wait().unwrap();
    producer.close_timeout(SOON).unwrap();

    let records = read("headers");
    let headers: Vec<(&str, Option<&[u8]>)> =
        records[0].headers.iter().map(|(name, value)| (name.as_str(), value.as_deref())).collect();
    let expected: [(&str, Option<&[u8]>); 6] = [
        ("a", Some(b"1")),
        ("b", None),
        ("a", Some(b"")),
        ("", Some(b"a name may be empty")),
        ("größe", Some(&[0, 255, 10, 9])),
        ("a", Some(b"1")),
    ];
    assert_eq!(headers, expected);
    assert_eq!(records[1].headers, []);
}

#[test]
fn null_and_empty_keys_and_values_differ() {
    topic("null-and-empty", 1, &[]);
    let producer = builder().build().unwrap();
    let parts = [None, Some(""), Some("x")];
    for key in parts {
        for value in parts {
            producer.send(Record::to("null-and-empty").key(key).value(value)).wait().unwrap();
        }
    }
    producer.close_timeout(SOON).unwrap();
    let mut records = read("null-and-empty").into_iter();
    for key in parts {
        for value in parts {
            let record = records.next().unwrap();
            assert_eq!(record.key.as_deref(), key.map(str::as_bytes));
            assert_eq!(record.value.as_deref(), value.map(str::as_bytes));
        }
    }
    assert_eq!(records.next(), None);
}

#[test]
fn a_record_has_its_own_timestamp_or_the_clocks() {
    topic("timestamps", 1, &[]);
    let producer = builder().build().unwrap();
    // One batch with times in no order, so that the deltas of the format go both ways.
    let own = [1_700_000_000_000, 1_600_000_000_001, 0, 1_700_000_000_000 + 7_200_000];
    let before = now_ms();
    let mut sent: Vec<Delivery> = own
        .iter()
        .map(|ms| producer.send(Record::to("timestamps").value("own").timestamp(Timestamp::from_millis(*ms))))
        .collect();
    let time = UNIX_EPOCH + Duration::from_millis(1_234_567_890_123);
    sent.push(producer.send(Record::to("timestamps").value("system time").timestamp(time)));
    sent.push(producer.send(Record::to("timestamps").value("clock")));
    let sent: Vec<_> = sent.into_iter().map(|delivery| delivery.wait().unwrap()).collect();
    let after = now_ms();
    producer.close_timeout(SOON).unwrap();

    let records = read("timestamps");
    for (sent, record) in sent.iter().zip(&records) {
        assert_eq!(sent.timestamp().unwrap().timestamp_type(), TimestampType::CreateTime);
        assert_eq!((sent.offset().unwrap(), sent.timestamp().unwrap().millis()), (record.offset, record.timestamp_ms));
        assert_eq!(record.timestamp_type, 0);
    }
    let times: Vec<i64> = records.iter().map(|record| record.timestamp_ms).collect();
    assert_eq!(times[..4], own);
    assert_eq!(times[4], 1_234_567_890_123);
    assert!((before..=after).contains(&times[5]), "{before} {} {after}", times[5]);
}

#[test]
fn a_topic_with_log_append_time_says_the_brokers_time() {
    topic("append-time", 1, &["message.timestamp.type=LogAppendTime"]);
    let producer = builder().build().unwrap();
    let before = now_ms();
    let sent: Vec<_> = (0..3)
        .map(|_| producer.send(Record::to("append-time").value("v").timestamp(Timestamp::from_millis(1_000))))
        .collect::<Vec<_>>()
        .into_iter()
        .map(|delivery| delivery.wait().unwrap())
        .collect();
    let after = now_ms();
    producer.close_timeout(SOON).unwrap();
    let records = read("append-time");
    assert_eq!(records.len(), 3);
    for (sent, record) in sent.iter().zip(&records) {
        assert_eq!(sent.timestamp().unwrap().timestamp_type(), TimestampType::LogAppendTime);
        assert!((before..=after).contains(&sent.timestamp().unwrap().millis()), "{sent:?}");
        assert_eq!((sent.offset().unwrap(), sent.timestamp().unwrap().millis()), (record.offset, record.timestamp_ms));
        assert_eq!(record.timestamp_type, 1);
    }
    assert!(dump::batches(kafka::shared_single(), "append-time", 0)[0].log_append_time);
}

#[test]
fn large_records_arrive_whole() {
    topic("large", 1, &["max.message.bytes=9000000"]);
    // Larger than the socket's buffers and the default limits, with a small record on each side.
    let producer = builder().max_request_size(9_000_000).build().unwrap();
    let mut seed = 7_u64;
    let big: Vec<u8> = (0..8_000_000)
        .map(|_| {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        })
        .collect();
    let sent = [
        producer.send(Record::to("large").value("before")),
        producer.send(Record::to("large").key("big").value(&big)),
        producer.send(Record::to("large").value(&big[..1_000_000])),
        producer.send(Record::to("large").value("after")),
    ];
    for (offset, delivery) in (0..).zip(sent) {
        assert_eq!(delivery.wait().unwrap().offset().unwrap(), offset);
    }
    producer.close_timeout(SOON).unwrap();
    let records = read("large");
    assert_eq!(records[0].value.as_deref(), Some(&b"before"[..]));
    assert!(records[1].value.as_deref() == Some(&big[..]));
    assert!(records[2].value.as_deref() == Some(&big[..1_000_000]));
    assert_eq!(records[3].value.as_deref(), Some(&b"after"[..]));
}

#[test]
fn one_producer_writes_to_many_partitions_of_many_topics_and_one_request_carries_several() {
    const TOPICS: usize = 6;
    const PARTITIONS: i32 = 5;
    let names: Vec<String> = (0..TOPICS).map(|number| format!("many-{number}")).collect();
    for name in &names {
        topic(name, PARTITIONS as usize, &[]);
    }
    let ledger = Ledger::new(4);
    let producer = builder().linger(LONG).max_in_flight(1).build().unwrap();
    let all_sent = std::sync::Barrier::new(4);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (producer, ledger, names, all_sent) = (&producer, &ledger, &names, &all_sent);
            scope.spawn(move || {
                let mut sent = Vec::new();
                for _ in 0..20 {
                    for name in names {
                        for partition in 0..PARTITIONS {
                            let (ticket, value) = ledger.accept(thread, name, Some(partition), 60);
                            let record = Record::to(name).partition(partition).value(value);
                            sent.push((ticket, producer.send(record)));
                        }
                    }
                }
                all_sent.wait();
                // Waiting for one record at a time would cut one linger at a time.
                producer.flush_timeout(SOON).unwrap();
                for (ticket, delivery) in sent {
                    let metadata = delivery.wait().unwrap();
                    ledger.acked(ticket, metadata.partition(), Some(metadata.offset().unwrap()));
                }
            });
        }
    });
    let metrics = producer.metrics();
    producer.close_timeout(SOON).unwrap();
    assert!(metrics.requests_sent * 2 <= metrics.batches_sent, "requests carry several batches: {metrics:?}");
    assert_eq!(metrics.records_acknowledged, 4 * 20 * TOPICS as u64 * PARTITIONS as u64);
    judge(&ledger);
}

fn judge(ledger: &Ledger) {
    let mut judge = ledger.judge();
    let topics = ledger.topics();
    let topics: Vec<&str> = topics.iter().map(String::as_str).collect();
    let isolation = crate::support::admin::Isolation::Uncommitted;
    kafka::shared_single().admin().read_with(&topics, isolation, Duration::from_secs(60), |record| {
        judge.record(&record.topic, record.partition, record.offset, record.value.as_deref().unwrap_or_default());
    });
    judge.finish().assert_safe();
}

#[test]
fn batch_records_seals_a_batch_and_its_records_are_compressed_together() {
    topic("ten", 2, &[]);
    let colours = ["red", "green", "blue", "yellow", "violet"];
    // Only a full batch goes: the linger is far longer than the test waits.
    let producer = builder().batch_records(10).linger(LONG).compression(Compression::gzip()).build().unwrap();
    let mut sent = Vec::new();
    for number in 0..60 {
        let value = format!("{{\"color\":\"{}\"}}", colours[number % colours.len()]);
        sent.push(producer.send(Record::to("ten").partition((number % 2) as i32).value(value)));
    }
    wait_for("60 records", SOON, || sent.iter().all(Delivery::is_done).then_some(()));
    assert_eq!(producer.metrics().records_acknowledged, 60);
    // Nine more do not fill a batch, and stay.
    for _ in 0..9 {
        sent.push(producer.send(Record::to("ten").partition(0).value("{\"color\":\"black\"}")));
    }
    assert!(!sent.last().unwrap().is_done());
    producer.close_timeout(SOON).unwrap();
    let both = dump::all_batches(kafka::shared_single(), &[("ten", 0), ("ten", 1)]);
    let counts: Vec<Vec<u32>> = both.iter().map(|batches| batches.iter().map(|batch| batch.count).collect()).collect();
    assert_eq!(counts, [vec![10, 10, 10, 9], vec![10, 10, 10]]);
    for batch in both.iter().flatten() {
        assert!(batch.valid && batch.codec == "gzip", "{batch:?}");
        assert_eq!(batch.records.len(), batch.count as usize);
        // Ten values of some 17 bytes, each with its own bytes of framing, would not fit if compressed one by one.
        assert!(batch.count < 10 || batch.size < 61 + 10 * 17, "{batch:?}");
    }
}

#[test]
fn batch_size_bounds_a_batch_in_bytes_and_zero_gives_each_record_its_own() {
    topic("batch-size", 1, &[]);
    topic("batch-size-0", 1, &[]);
    let producer = builder().batch_size(1000).linger(LONG).build().unwrap();
    for _ in 0..100 {
        drop(producer.send(Record::to("batch-size").value([b'x'; 90])));
    }
    drop(producer.send(Record::to("batch-size").value([b'y'; 5000])));
    producer.close_timeout(SOON).unwrap();
    let producer = builder().batch_size(0).build().unwrap();
    for _ in 0..20 {
        drop(producer.send(Record::to("batch-size-0").value("x")));
    }
    producer.close_timeout(SOON).unwrap();

    let both = dump::all_batches(kafka::shared_single(), &[("batch-size", 0), ("batch-size-0", 0)]);
    let (large, small) = both[0].split_last().unwrap();
    assert_eq!(small.iter().map(|batch| batch.count).sum::<u32>(), 100);
    for batch in small {
        assert!(batch.size <= 1000, "{batch:?}");
    }
    // A record more would have fitted into none but the last.
    for batch in &small[..small.len() - 1] {
        assert!(batch.size > 1000 - 100, "{batch:?}");
    }
    assert_eq!(large.count, 1, "a record over the limit is alone");
    assert_eq!(both[1].iter().map(|batch| batch.count).collect::<Vec<_>>(), [1; 20]);
}

#[test]
fn a_lone_record_goes_after_the_linger_and_at_once_if_somebody_waits() {
    topic("linger", 1, &[]);
    let linger = Duration::from_millis(700);
    let producer = builder().linger(linger).build().unwrap();
    producer.send(Record::to("linger").value("connects")).wait().unwrap();
    let begin = Instant::now();
    let delivery = producer.send(Record::to("linger").value("lone"));
    wait_for("the lone record", SOON, || delivery.is_done().then_some(()));
    let took = begin.elapsed();
    assert!((linger..linger + AT_ONCE).contains(&took), "{took:?}");
    assert!(delivery.wait().is_ok());
    producer.close_timeout(SOON).unwrap();

    let producer = builder().linger(LONG).build().unwrap();
    let begin = Instant::now();
    producer.send(Record::to("linger").value("waited for")).wait().unwrap();
    let delivery = producer.send(Record::to("linger").value("waited for, with a limit"));
    assert!(delivery.wait_timeout(SOON).unwrap().is_ok());
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn flush_and_close_cut_the_linger() {
    topic("flush", 3, &[]);
    let producer = builder().linger(LONG).build().unwrap();
    let begin = Instant::now();
    let send = |partition| producer.send(Record::to("flush").partition(partition).value("v"));
    let sent: Vec<Delivery> = (0..3).map(send).collect();
    assert!(!sent.iter().any(Delivery::is_done));
    producer.flush_timeout(SOON).unwrap();
    assert!(sent.iter().all(Delivery::is_done));
    let last = send(0);
    assert!(!last.is_done());
    producer.close_timeout(SOON).unwrap();
    assert_eq!(last.wait().unwrap().offset().unwrap(), 1);
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

#[test]
fn records_of_a_thread_keep_their_order_with_five_requests_in_flight() {
    topic("order", 1, &[]);
    let ledger = Ledger::new(4);
    let producer = builder().batch_size(600).linger(Duration::ZERO).max_in_flight(5).build().unwrap();
    let most = AtomicU64::new(0);
    thread::scope(|scope| {
        for thread in 0..4 {
            let (producer, ledger, most) = (&producer, &ledger, &most);
            scope.spawn(move || {
                let mut sent = Vec::new();
                for _ in 0..4000 {
                    let (ticket, value) = ledger.accept(thread, "order", Some(0), 80);
                    sent.push((ticket, producer.send(Record::to("order").value(value))));
                    most.fetch_max(producer.metrics().requests_in_flight, Ordering::Relaxed);
                }
                for (ticket, delivery) in sent {
                    // All may have been sent before there was a connection.
                    most.fetch_max(producer.metrics().requests_in_flight, Ordering::Relaxed);
                    let metadata = delivery.wait().unwrap();
                    ledger.acked(ticket, metadata.partition(), Some(metadata.offset().unwrap()));
                }
            });
        }
    });
    producer.close_timeout(SOON).unwrap();
    let most = most.into_inner();
    assert!((2..=5).contains(&most), "{most} requests were in flight at most");
    judge(&ledger);
}

#[test]
fn a_null_key_stays_with_one_partition_for_a_batch_and_a_key_with_one_for_ever() {
    topic("places", 4, &[]);
    let producer = builder().batch_records(5).build().unwrap();
    let mut by_key: BTreeMap<String, BTreeSet<i32>> = BTreeMap::new();
    for round in 0..3 {
        for number in 0..20 {
            let key = format!("key-{number}");
            let sent = producer.send(Record::to("places").key(&key).value(format!("{round}"))).wait().unwrap();
            by_key.entry(key).or_default().insert(sent.partition());
        }
    }
    assert!(by_key.values().all(|partitions| partitions.len() == 1), "{by_key:?}");
    assert!(by_key.values().flatten().collect::<BTreeSet<_>>().len() > 1);
    producer.close_timeout(SOON).unwrap();

    let producer = builder().partitioner(partitioner::round_robin()).build().unwrap();
    let places: Vec<i32> =
        (0..8).map(|_| producer.send(Record::to("places").value("v")).wait().unwrap().partition()).collect();
    assert_eq!(places[..4].iter().collect::<BTreeSet<_>>().len(), 4, "{places:?}");
    assert_eq!(places[..4], places[4..]);
    producer.close_timeout(SOON).unwrap();
}
