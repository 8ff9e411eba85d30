//! Promises of other clients that this one keeps, as the manual's pages for those who come from them name them: what
//! has no test elsewhere, on the fake cluster.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use kafka_blocking::partitioner::{Choice, PartitionRequest, Partitioner, PartitionerError, partitioner_fn};
use kafka_blocking::testing::{Api, FakeCluster, Fault, On};
use kafka_blocking::{
    Acks, Delivery, ErrorCode, ErrorKind, Producer, ProducerBuilder, Record, Recovery, Timeout, Written,
};

use crate::common::{ms, until, watch_for_panics};
use crate::support::fake::{HASTE, builder, cluster, hasty};

const SOON: Duration = Duration::from_secs(60);

/// How late a call may be. One that missed its own limit would wait for a default one, which is 30 s or more.
const SLACK: Duration = Duration::from_secs(15);

/// The values of a partition's log, in its order.
fn values(cluster: &FakeCluster, topic: &str, partition: i32) -> Vec<String> {
    cluster.records(topic, partition).unwrap().iter().map(|record| record.value_text()).collect()
}

/// The Produce requests that have arrived.
fn produced(cluster: &FakeCluster) -> Vec<kafka_blocking::testing::SeenRequest> {
    cluster.requests().into_iter().filter(|request| request.api == Api::Produce).collect()
}

#[test]
fn a_producer_is_built_connected_used_and_closed() {
    watch_for_panics();
    let cluster = cluster("example.topic", 3);
    let producer = builder(&cluster).build().unwrap();
    producer.connect_timeout(SOON).unwrap();
    let sent = producer.send(Record::to("example.topic").value("{\"my\":\"message\"}")).wait().unwrap();
    assert_eq!((sent.topic(), sent.offset().unwrap()), ("example.topic", 0));
    producer.close_timeout(SOON).unwrap();
    assert_eq!(values(&cluster, "example.topic", sent.partition()), ["{\"my\":\"message\"}"]);
}

#[test]
fn the_key_goes_to_the_partitioner_and_into_the_log() {
    watch_for_panics();
    let cluster = cluster("activity", 3);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let seen_by_partitioner = Arc::clone(&seen);
    let partitioner = partitioner_fn(move |key, partitions| {
        seen_by_partitioner.lock().unwrap().push((key.map(<[u8]>::to_vec), partitions.to_vec()));
        partitions[key.map_or(0, <[u8]>::len) % partitions.len()]
    });
    let producer = builder(&cluster).partitioner(partitioner).build().unwrap();
    // The key is made from the message; a message that has none has a null key.
    let messages = [("login", Some("ann")), ("login", Some("robert")), ("tick", None), ("logout", Some("ab"))];
    for (event, user) in messages {
        let sent = producer.send(Record::to("activity").key(user).value(event)).wait().unwrap();
        assert_eq!(sent.partition(), user.map_or(0, str::len) as i32 % 3);
        let record = &cluster.records("activity", sent.partition()).unwrap()[sent.offset().unwrap() as usize];
        assert_eq!((record.key(), &*record.value_text()), (user.map(str::as_bytes), event));
    }
    let keys = messages.map(|(_, user)| (user.map(|user| user.as_bytes().to_vec()), vec![0, 1, 2]));
    assert_eq!(*seen.lock().unwrap(), keys);
    producer.close_timeout(SOON).unwrap();
}

/// Not to be asked.
struct Untouched;

impl Partitioner for Untouched {
    fn partition(&self, _: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        panic!("the record names its partition")
    }
}

#[test]
fn a_record_that_names_its_partition_goes_there_unasked() {
    watch_for_panics();
    let cluster = cluster("chosen", 4);
    let producer = builder(&cluster).partitioner(Untouched).build().unwrap();
    for partition in [3, 0, 1, 3] {
        let sent = producer.send(Record::to("chosen").key("k").partition(partition).value("v")).wait().unwrap();
        assert_eq!(sent.partition(), partition);
    }
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn send_returns_before_anything_is_sent_and_the_handle_has_the_result() {
    watch_for_panics();
    let cluster = cluster("buffered", 2);
    let producer = builder(&cluster).build().unwrap();
    producer.partitions_for("buffered").unwrap();
    let broker = cluster.brokers()[0];
    cluster.pause(broker);
    let send = |number: i32| producer.send(Record::to("buffered").partition(1).value(number.to_string()));
    // One that waited for the broker would not come back before its record had failed.
    let sent: Vec<Delivery> = (0..100).map(send).collect();
    assert!(!sent.iter().any(Delivery::is_done));
    assert_eq!(cluster.record_count("buffered"), 0);
    cluster.resume(broker);
    for (offset, delivery) in (0..).zip(sent) {
        let sent = delivery.wait().unwrap();
        assert_eq!((sent.partition(), sent.offset().unwrap()), (1, offset));
    }
    producer.close_timeout(SOON).unwrap();
}

/// A relay in front of a fake broker that hands each frame of the client on to a test. The broker's address in the
/// cluster's answers becomes the relay's.
fn relay(cluster: &FakeCluster) -> (String, Receiver<Vec<u8>>) {
    let broker = cluster.address(cluster.brokers()[0]);
    let port = |address: &str| address.rsplit_once(':').unwrap().1.parse::<i32>().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let advertised: Arc<[u8]> = [&b"127.0.0.1"[..], &port(&broker).to_be_bytes()].concat().into();
    let instead: Arc<[u8]> = [&b"127.0.0.1"[..], &port(&address).to_be_bytes()].concat().into();
    let (tell, told) = channel();
    thread::spawn(move || {
        for client in listener.incoming() {
            let (mut client, mut server) = (client.unwrap(), TcpStream::connect(&broker).unwrap());
            let (mut to_client, mut from_server) = (client.try_clone().unwrap(), server.try_clone().unwrap());
            let tell: Sender<Vec<u8>> = tell.clone();
            let (advertised, instead) = (Arc::clone(&advertised), Arc::clone(&instead));
            thread::spawn(move || {
                while let Ok(frame) = read_frame(&mut client) {
                    let _ = tell.send(frame[4..].to_vec());
                    if server.write_all(&frame).is_err() {
                        break;
                    }
                }
            });
            thread::spawn(move || {
                while let Ok(mut frame) = read_frame(&mut from_server) {
                    if let Some(at) = frame.windows(advertised.len()).position(|window| *window == *advertised) {
                        frame[at..at + instead.len()].copy_from_slice(&instead);
                    }
                    if to_client.write_all(&frame).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, told)
}

fn read_frame(stream: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut frame = vec![0; 4];
    stream.read_exact(&mut frame)?;
    let length = u32::from_be_bytes([frame[0], frame[1], frame[2], frame[3]]) as usize;
    frame.resize(4 + length, 0);
    stream.read_exact(&mut frame[4..])?;
    Ok(frame)
}

#[test]
fn a_request_says_whose_acks_it_wants_and_how_long_the_broker_may_wait_for_them() {
    watch_for_panics();
    let cluster = cluster("acks", 1);
    for (acks, number, timeout) in [(Acks::All, -1, 17_654), (Acks::Leader, 1, 4_000), (Acks::None, 0, 30_000)] {
        let (address, frames) = relay(&cluster);
        let producer = Producer::builder([address])
            .acks(acks)
            .idempotence(false)
            .request_timeout(Duration::from_millis(timeout))
            .build()
            .unwrap();
        producer.send(Record::to("acks").value("v")).wait().unwrap();
        producer.close_timeout(SOON).unwrap();
        let frame = frames.iter().find(|frame| frame[..2] == [0, 0]).unwrap();
        // Number and version of the request, the correlation id, the client's id, tags; then the body, which begins
        // with the absent transactional id.
        let client_id = usize::from(u16::from_be_bytes([frame[8], frame[9]]));
        let body = &frame[10 + client_id + 1..];
        assert_eq!(body[0], 0, "no transactional id");
        assert_eq!(i16::from_be_bytes([body[1], body[2]]), number);
        // A little less than the client waits itself, for the answer has to come back.
        let brokers = u64::from(u32::from_be_bytes([body[3], body[4], body[5], body[6]]));
        assert_eq!(brokers, timeout - (timeout / 10).min(500));
    }
}

#[test]
fn acks_all_waits_for_enough_replicas_and_fails_as_that_and_acks_leader_does_not_care() {
    watch_for_panics();
    let cluster = cluster("replicas", 1);
    let producer = hasty(&cluster).build().unwrap();
    assert_eq!(producer.send(Record::to("replicas").value("enough")).wait().unwrap().offset().unwrap(), 0);
    cluster.fall_below_min_in_sync("replicas").unwrap();
    let before = cluster.request_count(Api::Produce);
    let begin = Instant::now();
    let error = producer.send(Record::to("replicas").value("all")).wait().unwrap_err();
    assert!((HASTE..HASTE + SLACK).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(error.kind(), ErrorKind::Broker(ErrorCode::NOT_ENOUGH_REPLICAS), "{error:?}");
    assert_eq!((error.recovery(), error.written()), (Recovery::Retry, Some(Written::No)));
    assert!(cluster.request_count(Api::Produce) > before + 1, "it was retried");
    assert_eq!(cluster.record_count("replicas"), 1);
    producer.close_timeout(SOON).unwrap();

    let leader = builder(&cluster).acks(Acks::Leader).idempotence(false).build().unwrap();
    assert_eq!(leader.send(Record::to("replicas").value("leader")).wait().unwrap().offset().unwrap(), 1);
    leader.close_timeout(SOON).unwrap();

    // A shortage that ends in time is only waited for.
    let patient = builder(&cluster).build().unwrap();
    let delivery = patient.send(Record::to("replicas").value("patient"));
    assert!(delivery.wait_timeout(ms(300)).is_none());
    cluster.restore_min_in_sync("replicas").unwrap();
    assert_eq!(delivery.wait().unwrap().offset().unwrap(), 2);
    patient.close_timeout(SOON).unwrap();

    // After the append the record is on the leader, and says so.
    let after = ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND;
    cluster.inject(On::produce().always(), Fault::ErrorAfterApply(after));
    let producer = builder(&cluster).retries(2).retry_backoff(ms(5)).build().unwrap();
    let error = producer.send(Record::to("replicas").value("after")).wait().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Broker(after), "{error:?}");
    assert_ne!(error.written(), Some(Written::No));
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn with_a_linger_of_zero_the_next_batch_follows_the_last_at_once() {
    watch_for_panics();
    let cluster = FakeCluster::builder().topic("before", 1).topic("follow", 1).start().unwrap();
    let producer = builder(&cluster).linger(Duration::ZERO).build().unwrap();
    producer.send(Record::to("before").value("connects")).wait().unwrap();
    producer.partitions_for("follow").unwrap();
    // The broker answers the first request when all the others are there.
    cluster.pause(cluster.brokers()[0]);
    let first = producer.send(Record::to("follow").value("0"));
    until("the first request is in flight", || producer.metrics().requests_in_flight == 1);
    // None of these fills a batch; they gather behind the first request, and no timer holds them back after it.
    let rest: Vec<Delivery> = (1..6).map(|n| producer.send(Record::to("follow").value(n.to_string()))).collect();
    let resumed = Instant::now();
    cluster.resume(cluster.brokers()[0]);
    until("all of them are done", || first.is_done() && rest.iter().all(Delivery::is_done));
    assert!(resumed.elapsed() < SLACK, "{:?}", resumed.elapsed());
    producer.close_timeout(SOON).unwrap();
    let sizes: Vec<i32> = produced(&cluster).iter().map(|request| request.batches[0].records).collect();
    assert_eq!(sizes[1..], [1, 5]);
    assert_eq!(values(&cluster, "follow", 0), ["0", "1", "2", "3", "4", "5"]);
}

#[test]
fn transient_errors_are_retried_after_the_back_off_as_often_as_allowed() {
    watch_for_panics();
    let cluster = cluster("retried", 1);
    let code = ErrorCode::NOT_ENOUGH_REPLICAS;
    // By default until the delivery timeout, unseen by the caller.
    let transient = cluster.fail_produce("retried", code, 3);
    let producer = builder(&cluster).build().unwrap();
    assert_eq!(producer.send(Record::to("retried").value("v")).wait().unwrap().offset().unwrap(), 0);
    assert_eq!(transient.fired(), 3);
    assert_eq!(producer.metrics().batches_retried, 3);
    producer.close_timeout(SOON).unwrap();

    let before = produced(&cluster).len();
    let lasting = cluster.inject(On::produce().always(), Fault::Error(code));
    let backoff = ms(200);
    let producer =
        builder(&cluster).idempotence(false).retries(2).retry_backoff(backoff).linger(Duration::ZERO).build().unwrap();
    let error = producer.send(Record::to("retried").value("w")).wait().unwrap_err();
    assert_eq!((error.kind(), error.written()), (ErrorKind::Broker(code), Some(Written::No)), "{error:?}");
    assert_eq!(lasting.fired(), 3, "the first attempt and two retries");
    let times: Vec<Instant> = produced(&cluster)[before..].iter().map(|request| request.at).collect();
    // It doubles, varied by a fifth.
    assert!(times[1] - times[0] >= backoff * 4 / 5, "{:?}", times[1] - times[0]);
    assert!(times[2] - times[1] >= 2 * backoff * 4 / 5, "{:?}", times[2] - times[1]);
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn a_request_without_an_answer_is_sent_again_after_the_request_timeout_and_written_once() {
    watch_for_panics();
    let cluster = cluster("again", 1);
    let timeout = ms(2000);
    let producer = builder(&cluster).request_timeout(timeout).linger(Duration::ZERO).build().unwrap();
    let hang = cluster.inject(On::produce(), Fault::Hang);
    let begin = Instant::now();
    assert_eq!(producer.send(Record::to("again").value("0")).wait().unwrap().offset().unwrap(), 0);
    assert!((timeout..timeout + SLACK).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(hang.fired(), 1);
    let lost = cluster.inject(On::produce(), Fault::DropAnswer);
    assert_eq!(producer.send(Record::to("again").value("1")).wait().unwrap().offset().unwrap(), 1);
    assert_eq!(lost.fired(), 1);
    producer.close_timeout(SOON).unwrap();
    assert_eq!(values(&cluster, "again", 0), ["0", "1"], "both were written by their first request");
}

#[test]
fn a_record_without_an_answer_until_the_end_expires_and_says_that_it_may_be_written() {
    watch_for_panics();
    let cluster = cluster("unknown", 1);
    let producer = hasty(&cluster).build().unwrap();
    producer.send(Record::to("unknown").value("known")).wait().unwrap();
    let hang = cluster.inject(On::produce().always(), Fault::Hang);
    let begin = Instant::now();
    let error = producer.send(Record::to("unknown").value("unknown")).wait().unwrap_err();
    assert!((HASTE..HASTE + SLACK).contains(&begin.elapsed()), "{:?}", begin.elapsed());
    assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Delivery), "{error:?}");
    assert_eq!((error.recovery(), error.written()), (Recovery::Retry, Some(Written::Maybe)));
    assert!(hang.fired() > 0);
    hang.cancel();
    // What is sent while that connection is not yet given up has an unknown outcome of its own.
    cluster.cut_connections(cluster.brokers()[0]);
    until("the connection ends", || producer.metrics().requests_in_flight == 0);
    // It was, indeed, and only once; and the producer goes on.
    producer.send(Record::to("unknown").value("later")).wait().unwrap();
    producer.close_timeout(SOON).unwrap();
    assert_eq!(values(&cluster, "unknown", 0), ["known", "unknown", "later"]);
}

#[test]
fn a_batch_that_the_broker_only_recognises_has_neither_offset_nor_time() {
    watch_for_panics();
    let cluster = cluster("recognised", 1);
    let producer = builder(&cluster).linger(SOON).build().unwrap();
    let fault = Fault::ErrorAfterApply(ErrorCode::DUPLICATE_SEQUENCE_NUMBER);
    let fault = cluster.inject(On::produce(), fault);
    let sent: Vec<Delivery> = (0..3).map(|_| producer.send(Record::to("recognised").value("v"))).collect();
    producer.flush_timeout(SOON).unwrap();
    for delivery in sent {
        let sent = delivery.wait().unwrap();
        assert_eq!((sent.partition(), sent.offset(), sent.timestamp()), (0, None, None));
    }
    assert_eq!(fault.fired(), 1);
    producer.close_timeout(SOON).unwrap();
    assert_eq!(cluster.record_count("recognised"), 3);
}

#[test]
fn idempotence_ends_with_the_producer() {
    watch_for_panics();
    let cluster = cluster("sessions", 1);
    for _ in 0..2 {
        let producer = builder(&cluster).build().unwrap();
        producer.send(Record::to("sessions").key("k").value("the same")).wait().unwrap();
        producer.close_timeout(SOON).unwrap();
    }
    let records = cluster.records("sessions", 0).unwrap();
    assert_eq!(records.len(), 2, "the second producer's record is another one to the broker");
    assert_ne!(records[0].producer().unwrap(), records[1].producer().unwrap());
    assert_eq!([records[0].sequence().unwrap(), records[1].sequence().unwrap()], [0, 0]);
}

#[test]
fn the_client_id_is_in_every_request() {
    watch_for_panics();
    let cluster = cluster("named", 1);
    let producer = builder(&cluster).client_id("billing-7").build().unwrap();
    producer.send(Record::to("named").value("v")).wait().unwrap();
    producer.close_timeout(SOON).unwrap();
    let requests = cluster.requests();
    let apis: BTreeSet<Api> = requests.iter().map(|request| request.api).collect();
    assert!(apis.is_superset(&[Api::Metadata, Api::InitProducerId, Api::Produce].into()), "{apis:?}");
    for request in requests {
        assert_eq!(request.client_id.as_deref(), Some("billing-7"), "{request:?}");
    }
}

#[test]
fn as_many_requests_are_unanswered_as_allowed_and_no_more() {
    watch_for_panics();
    for limit in [1, 3, 5] {
        let cluster = cluster("in-flight", 1);
        let producer = builder(&cluster).max_in_flight(limit).batch_size(0).linger(Duration::ZERO).build().unwrap();
        producer.send(Record::to("in-flight").value("first")).wait().unwrap();
        cluster.pause(cluster.brokers()[0]);
        let sent: Vec<Delivery> =
            (0..20).map(|n| producer.send(Record::to("in-flight").value(n.to_string()))).collect();
        until("the limit is reached", || producer.metrics().requests_in_flight == limit as u64);
        thread::sleep(ms(50));
        assert_eq!(producer.metrics().requests_in_flight, limit as u64);
        cluster.resume(cluster.brokers()[0]);
        for (offset, delivery) in (1..).zip(sent) {
            assert_eq!(delivery.wait().unwrap().offset().unwrap(), offset);
        }
        producer.close_timeout(SOON).unwrap();
    }
}

#[test]
fn a_batch_that_is_retried_is_not_overtaken() {
    watch_for_panics();
    for idempotence in [true, false] {
        let cluster = cluster("order", 1);
        let producer = builder(&cluster)
            .idempotence(idempotence)
            .max_in_flight(5)
            .batch_records(10)
            .linger(Duration::ZERO)
            .retry_backoff(ms(5))
            .build()
            .unwrap();
        producer.send(Record::to("order").value("0")).wait().unwrap();
        let fault = cluster.inject(On::produce().chance(0.3).times(10), Fault::Error(ErrorCode::NOT_ENOUGH_REPLICAS));
        for n in 1..2000 {
            drop(producer.send(Record::to("order").value(n.to_string())));
        }
        producer.close_timeout(SOON).unwrap();
        assert_eq!(fault.fired(), 10);
        let expected: Vec<String> = (0..2000).map(|n| n.to_string()).collect();
        assert!(values(&cluster, "order", 0) == expected, "idempotence {idempotence}");
    }
}

#[test]
fn a_request_has_no_more_bytes_than_max_request_size() {
    watch_for_panics();
    let cluster = cluster("sizes", 20);
    let limit = 20_000;
    let producer =
        builder(&cluster).max_request_size(limit).batch_size(4000).linger(SOON).max_in_flight(1).build().unwrap();
    producer.send(Record::to("sizes").partition(0).value("first")).wait().unwrap();
    for _ in 0..3 {
        for partition in 0..20 {
            drop(producer.send(Record::to("sizes").partition(partition).value([b'x'; 1200])));
        }
    }
    producer.close_timeout(SOON).unwrap();
    assert_eq!(cluster.record_count("sizes"), 61);
    let requests = produced(&cluster);
    for request in &requests {
        let bytes: usize = request.batches.iter().map(|batch| batch.size_bytes).sum();
        assert!(bytes <= limit, "{bytes}");
    }
    assert!(requests.iter().any(|request| request.batches.len() > 2), "a request holds several batches");
}

#[test]
fn a_key_waits_for_its_partition_and_records_without_one_go_where_there_is_a_leader() {
    watch_for_panics();
    let cluster = cluster("leaders", 3);
    cluster.leaderless("leaders", 1).unwrap();
    let producer = hasty(&cluster).build().unwrap();
    producer.partitions_for("leaders").unwrap();
    let place = |key: &str| kafka_blocking::partitioner::hash::murmur2(key.as_bytes()) & 0x7fff_ffff;
    let key = (0..).map(|n| format!("key-{n}")).find(|key| place(key) % 3 == 1).unwrap();
    let error = producer.send(Record::to("leaders").key(&key).value("v")).wait().unwrap_err();
    assert_eq!(error.written(), Some(Written::No));
    assert_eq!((error.context().topic.as_deref(), error.context().partition), (Some("leaders"), Some(1)));
    producer.close_timeout(SOON).unwrap();
    let producer = builder(&cluster).batch_size(0).build().unwrap();
    let mut partitions = BTreeSet::new();
    for _ in 0..40 {
        partitions.insert(producer.send(Record::to("leaders").value("v")).wait().unwrap().partition());
    }
    assert_eq!(partitions, [0, 2].into());
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn records_without_a_key_fill_a_batch_of_one_partition_before_they_move_on() {
    watch_for_panics();
    let cluster = cluster("sticky", 6);
    let producer = builder(&cluster).batch_size(2000).linger(SOON).build().unwrap();
    let sent: Vec<Delivery> = (0..300).map(|_| producer.send(Record::to("sticky").value([b'x'; 100]))).collect();
    producer.flush_timeout(SOON).unwrap();
    let places: Vec<i32> = sent.into_iter().map(|delivery| delivery.wait().unwrap().partition()).collect();
    let mut runs: Vec<&[i32]> = places.chunk_by(|a, b| a == b).collect();
    // The last may be short. A batch of 2000 bytes has room for some 18 of these records.
    runs.pop();
    assert!(runs.len() > 5 && runs.iter().all(|run| run.len() >= 17), "{places:?}");
    assert!(places.iter().collect::<BTreeSet<_>>().len() > 1);
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn a_key_keeps_its_partition_until_there_are_more_of_them() {
    watch_for_panics();
    let cluster = cluster("grows", 3);
    let producer = builder(&cluster).metadata_max_age(ms(50)).linger(Duration::ZERO).build().unwrap();
    let places = || -> BTreeMap<String, i32> {
        let keys = (0..60).map(|n| format!("key-{n}"));
        let sent: Vec<_> =
            keys.map(|key| (key.clone(), producer.send(Record::to("grows").key(key).value("v")))).collect();
        sent.into_iter().map(|(key, delivery)| (key, delivery.wait().unwrap().partition())).collect()
    };
    let before = places();
    assert_eq!(before, places());
    cluster.add_partitions("grows", 2).unwrap();
    until("the new partitions are known", || producer.partitions_for("grows").unwrap().len() == 5);
    let after = places();
    assert_ne!(before, after);
    assert_eq!(after.values().copied().collect::<BTreeSet<_>>(), (0..5).collect());
    assert_eq!(after, places());
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn the_properties_of_a_java_producer_make_a_producer() {
    watch_for_panics();
    let cluster = cluster("factory", 1);
    let text = format!(
        "bootstrap.servers={}\nacks=all\nretries=0\nenable.idempotence=false\n\
         key.serializer=org.apache.kafka.common.serialization.StringSerializer\n\
         value.serializer=org.apache.kafka.common.serialization.StringSerializer\n",
        cluster.bootstrap().join(",")
    );
    let producer = ProducerBuilder::from_properties_text(&text).build().unwrap();
    let sent = producer.send(Record::to("factory").key("Precision Products").value("France")).wait().unwrap();
    assert_eq!(sent.offset().unwrap(), 0);
    // Without retries the first transient error is the last.
    let fault = cluster.fail_produce("factory", ErrorCode::NOT_ENOUGH_REPLICAS, 1);
    let error = producer.send(Record::to("factory").value("v")).wait().unwrap_err();
    assert_eq!((error.code(), fault.fired()), (Some(ErrorCode::NOT_ENOUGH_REPLICAS), 1));
    producer.close_timeout(SOON).unwrap();
}

#[test]
fn no_dependency_is_built_from_c() {
    watch_for_panics();
    // What a program with every feature builds; the lock file also lists what other crates could need and do not.
    let tree = Command::new(env!("CARGO"))
        .args(["tree", "--locked", "--all-features", "--edges", "normal,build", "--prefix", "none", "--format", "{p}"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(tree.status.success(), "{}", String::from_utf8_lossy(&tree.stderr));
    let tree = String::from_utf8(tree.stdout).unwrap();
    let names: Vec<&str> = tree.lines().filter_map(|line| line.split(' ').next()).collect();
    assert!(names.contains(&"snap") && names.contains(&"flate2"));
    for name in names {
        let of_c = ["cc", "cmake", "pkg-config", "bindgen", "vcpkg"].contains(&name);
        // Bindings of the operating system, without code in C.
        let bindings = name.ends_with("-sys") && name != "windows-sys";
        assert!(!of_c && !bindings, "{name}");
    }
}
