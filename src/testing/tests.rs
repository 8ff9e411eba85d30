use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;

use super::internal_unstable::{Client, RawProducer};
use super::*;
use crate::protocol::api::{Request, VersionTable};
use crate::protocol::frame::FrameWriter;
use crate::protocol::header::{decode_api_versions, decode_response, encode_request};
use crate::protocol::messages::add_partitions_to_txn::AddPartitionsToTxnTopic;
use crate::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use crate::protocol::messages::delete_topics::DeleteTopicState;
use crate::protocol::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use crate::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use crate::protocol::messages::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use crate::protocol::messages::txn_offset_commit::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use crate::protocol::messages::*;
use crate::protocol::wire::{Records, Uuid};
use crate::record::aborted::AbortedTransactions;
use crate::record::batch::BatchWriter;
use crate::record::compression::{Compression, Compressor};
use crate::record::{Headers, Timestamp, TimestampType};
use crate::time::wall_clock_ms;
use crate::topic::ProducerIdAndEpoch;

/// Longer than anything in these tests takes.
const LONG: Duration = Duration::from_secs(60);

/// A client that sends exactly the requests that a test gives it.
struct Raw {
    stream: TcpStream,
    writer: FrameWriter,
    next: i32,
}

impl Raw {
    fn new(cluster: &FakeCluster, broker: i32) -> Self {
        let stream = TcpStream::connect(cluster.address(BrokerId(broker))).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, writer: FrameWriter::new(), next: 0 }
    }

    fn send<R: Request>(&mut self, request: &R, version: i16) -> i32 {
        let correlation = self.next;
        self.next += 1;
        encode_request(&mut self.writer, request, version, correlation, Some("raw")).unwrap();
        self.stream.write_all(self.writer.bytes()).unwrap();
        correlation
    }

    /// The next frame; `None` where the broker has closed the connection.
    fn frame(&mut self) -> Option<SharedBytes> {
        let mut length = [0; 4];
        self.stream.read_exact(&mut length).ok()?;
        let mut frame = vec![0; u32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).ok()?;
        Some(frame.into())
    }

    fn receive<R: Request>(&mut self, version: i16) -> Option<(i32, R::Response)> {
        Some(decode_response::<R>(self.frame()?, version).unwrap())
    }

    fn call<R: Request>(&mut self, request: &R, version: i16) -> R::Response {
        let correlation = self.send(request, version);
        let (answered, response) = self.receive::<R>(version).expect("an answer");
        assert_eq!(answered, correlation);
        response
    }

    fn is_closed(&mut self) -> bool {
        // A timeout is not an end.
        match self.stream.read(&mut [0; 1]) {
            Ok(read) => read == 0,
            Err(error) => matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::ConnectionAborted),
        }
    }

    fn produce(&mut self, topic: &str, partition: i32, batch: &[u8]) -> PartitionProduceResponse {
        let response = self.call(&produce(topic, partition, batch), 12);
        one(&response)
    }
}

fn one(response: &ProduceResponse) -> PartitionProduceResponse {
    response.responses[0].partition_responses[0].clone()
}

fn produce(topic: &str, partition: i32, batch: &[u8]) -> ProduceRequest {
    produce_records(topic, partition, Records::Inline(batch.to_vec().into()))
}

fn produce_records(topic: &str, partition: i32, records: Records) -> ProduceRequest {
    ProduceRequest {
        acks: -1,
        timeout_ms: 1000,
        topic_data: vec![TopicProduceData {
            name: topic.into(),
            partition_data: vec![PartitionProduceData { index: partition, records }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn identity(producer_id: i64, epoch: i16) -> ProducerIdAndEpoch {
    ProducerIdAndEpoch { producer_id, epoch }
}

fn batch_of(values: &[&str], compression: Compression, producer: ProducerIdAndEpoch, sequence: i32) -> Vec<u8> {
    let mut writer = BatchWriter::new(Vec::new());
    let headers: Headers<'_> = [("h", Some("x"))].into_iter().collect();
    for value in values {
        writer.append(wall_clock_ms(), Some(b"k"), Some(value.as_bytes()), &headers).unwrap();
    }
    let mut sealed = writer.seal(&mut Compressor::new(compression)).unwrap();
    sealed.stamp(producer, sequence, false);
    sealed.as_slice().to_vec()
}

fn plain(values: &[&str]) -> Vec<u8> {
    batch_of(values, Compression::None, ProducerIdAndEpoch::NONE, -1)
}

fn idempotent(values: &[&str], epoch: i16, sequence: i32) -> Vec<u8> {
    batch_of(values, Compression::None, identity(7, epoch), sequence)
}

/// Sets bytes of a batch and makes the CRC right again.
fn patched(mut batch: Vec<u8>, at: usize, bytes: &[u8]) -> Vec<u8> {
    batch[at..at + bytes.len()].copy_from_slice(bytes);
    let crc = crc32c::crc32c(&batch[21..]);
    batch[17..21].copy_from_slice(&crc.to_be_bytes());
    batch
}

fn code(answer: &PartitionProduceResponse) -> ErrorCode {
    ErrorCode(answer.error_code)
}

fn topic_of(response: &MetadataResponse) -> &MetadataResponseTopic {
    &response.topics[0]
}

#[test]
fn what_is_produced_is_in_the_log() {
    let cluster = FakeCluster::builder().topic("t", 2).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let compressions =
        [Compression::None, Compression::gzip(), Compression::Snappy, Compression::Lz4, Compression::Snappy];
    for (index, compression) in (0..).zip(compressions) {
        let batch = batch_of(&["a", "b"], compression, ProducerIdAndEpoch::NONE, -1);
        let answer = raw.produce("t", 1, &batch);
        assert_eq!((answer.error_code, answer.base_offset, answer.log_append_time_ms), (0, 2 * index, -1));
    }
    let records = cluster.records("t", 1).unwrap();
    assert_eq!(records.iter().map(|r| r.offset()).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    let record = &records[9];
    assert_eq!((record.key_text(), record.value_text(), record.partition()), ("k".into(), "b".into(), 1));
    assert_eq!(record.headers(), &[("h", "x")].into_iter().collect::<Headers<'_>>());
    assert_eq!((record.batch_base_offset(), record.compression()), (8, Compression::Snappy));
    assert_eq!(record.timestamp().unwrap().timestamp_type(), TimestampType::CreateTime);
    assert_eq!((record.producer(), record.sequence()), (None, None));
    assert_eq!(cluster.log_len("t", 0).unwrap(), 0);
    assert_eq!(cluster.record_count("t"), 10);
    assert!(cluster.refusals().is_empty());
}

#[test]
fn the_batches_sequence_is_checked_as_kafka_checks_it() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let mut send = |epoch, sequence, values: &[&str]| {
        let answer = raw.produce("t", 0, &idempotent(values, epoch, sequence));
        (code(&answer), answer.base_offset)
    };
    let ok = ErrorCode::NONE;
    let out_of_order = (ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER, -1);
    // A producer that the partition does not know may begin anywhere.
    assert_eq!(send(3, 10, &["a", "b"]), (ok, 0));
    assert_eq!(send(3, 12, &["c"]), (ok, 2));
    // A gap, and a batch that overlaps.
    assert_eq!(send(3, 14, &["d"]), out_of_order);
    assert_eq!(send(3, 11, &["d"]), out_of_order);
    for (offset, sequence) in (3..).zip(13..17) {
        assert_eq!(send(3, sequence, &["e"]), (ok, offset));
    }
    // Of six batches five are remembered: the second is answered as a duplicate, the first is not known any more.
    assert_eq!(send(3, 12, &["c"]), (ok, 2));
    assert_eq!(send(3, 10, &["a", "b"]), out_of_order);
    assert_eq!(cluster.log_len("t", 0).unwrap(), 7);
    // Epochs.
    assert_eq!(send(2, 17, &["f"]), (ErrorCode::INVALID_PRODUCER_EPOCH, -1));
    assert_eq!(send(4, 17, &["f"]), out_of_order);
    assert_eq!(send(4, 0, &["f"]), (ok, 7));
    assert_eq!(send(3, 17, &["f"]), (ErrorCode::INVALID_PRODUCER_EPOCH, -1));
    let last = cluster.records("t", 0).unwrap().pop().unwrap();
    assert_eq!((last.producer().unwrap(), last.sequence().unwrap()), (identity(7, 4), 0));
    assert!(!cluster.refusals().is_empty());
}

#[test]
fn sequences_wrap_to_zero() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    // Three records: 2147483646, 2147483647, 0.
    let first = idempotent(&["a", "b", "c"], 0, i32::MAX - 1);
    assert_eq!(raw.produce("t", 0, &first).error_code, 0);
    assert_eq!(raw.produce("t", 0, &first).base_offset, 0);
    assert_eq!(raw.produce("t", 0, &idempotent(&["d"], 0, 1)).base_offset, 3);
    let sequences: Vec<_> = cluster.records("t", 0).unwrap().iter().map(|record| record.sequence().unwrap()).collect();
    assert_eq!(sequences, [i32::MAX - 1, i32::MAX, 0, 1]);
}

#[test]
fn bad_batches_are_refused_as_kafka_refuses_them() {
    let cluster = FakeCluster::builder().topic("t", 1).max_message_bytes(300).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let good = plain(&["a", "b"]);
    let mut bad_crc = good.clone();
    *bad_crc.last_mut().unwrap() ^= 1;
    let mut old_format = good.clone();
    old_format[16] = 1;
    let mut base_offset = good.clone();
    base_offset[7] = 1;
    let cases = [
        ("a bad CRC", bad_crc, ErrorCode::CORRUPT_MESSAGE),
        ("an old format", old_format, ErrorCode::INVALID_RECORD),
        ("a base offset", base_offset, ErrorCode::INVALID_RECORD),
        ("two batches", [good.clone(), good.clone()].concat(), ErrorCode::INVALID_RECORD),
        ("half a batch", good[..good.len() - 1].to_vec(), ErrorCode::INVALID_RECORD),
        ("no batch", Vec::new(), ErrorCode::INVALID_RECORD),
        (
            "a last offset delta that is not count - 1",
            patched(good.clone(), 23, &[0, 0, 0, 5]),
            ErrorCode::INVALID_RECORD,
        ),
        ("a wrong count", patched(good.clone(), 57, &[0, 0, 0, 9]), ErrorCode::INVALID_RECORD),
        ("an unknown codec", patched(good.clone(), 22, &[7]), ErrorCode::UNKNOWN_SERVER_ERROR),
        ("gzip that is none", patched(good.clone(), 22, &[1]), ErrorCode::UNKNOWN_SERVER_ERROR),
        ("a control batch", patched(good.clone(), 22, &[0x20]), ErrorCode::INVALID_RECORD),
        ("no sequence", batch_of(&["a"], Compression::None, identity(7, 0), -1), ErrorCode::INVALID_RECORD),
        ("records that cannot be read", patched(good.clone(), 61, &[0x7f]), ErrorCode::INVALID_RECORD),
        ("too large", plain(&["x".repeat(300).as_str()]), ErrorCode::MESSAGE_TOO_LARGE),
    ];
    for (what, batch, expected) in cases {
        let answer = raw.produce("t", 0, &batch);
        assert_eq!((code(&answer), answer.base_offset), (expected, -1), "{what}");
    }
    assert_eq!(cluster.record_count("t"), 0);
    // A batch that is too large does not count as a refusal.
    assert_eq!(cluster.refusals().len(), 13);
    assert_eq!(raw.produce("t", 0, &good).error_code, 0);
    raw.send(&produce_records("t", 0, Records::Null), 12);
    assert!(raw.is_closed());
}

#[cfg(feature = "zstd")]
#[test]
fn zstd_needs_produce_7() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let request = produce("t", 0, &batch_of(&["a"], Compression::zstd(), ProducerIdAndEpoch::NONE, -1));
    assert_eq!(code(&one(&raw.call(&request, 6))), ErrorCode::UNSUPPORTED_COMPRESSION_TYPE);
    assert_eq!(code(&one(&raw.call(&request, 7))), ErrorCode::NONE);
    assert_eq!(cluster.records("t", 0).unwrap()[0].compression(), Compression::zstd());
}

#[test]
fn every_version_of_produce_is_answered() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let metadata = raw.call(&MetadataRequest::named(["t"], false), 13);
    let topic_id = topic_of(&metadata).topic_id;
    assert!(!topic_id.is_zero());
    for version in ProduceRequest::VERSIONS {
        let mut request = produce("t", 0, &plain(&["a"]));
        if version >= 13 {
            request.topic_data[0] = TopicProduceData { name: String::new(), topic_id, ..request.topic_data[0].clone() };
        }
        let answer = raw.call(&request, version);
        assert_eq!((one(&answer).error_code, one(&answer).base_offset), (0, i64::from(version) - 3), "{version}");
    }
    let mut request = produce("", 0, &plain(&["a"]));
    request.topic_data[0].topic_id = Uuid([9; 16]);
    assert_eq!(code(&one(&raw.call(&request, 13))), ErrorCode::UNKNOWN_TOPIC_ID);
}

#[test]
fn unknown_topics_and_denied_ones_are_refused() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    assert_eq!(code(&raw.produce("u", 0, &plain(&["a"]))), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(&raw.produce("t", 1, &plain(&["a"]))), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert_eq!(code(&raw.produce("t", -1, &plain(&["a"]))), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    cluster.deny_topic("t");
    assert_eq!(code(&raw.produce("t", 0, &plain(&["a"]))), ErrorCode::TOPIC_AUTHORIZATION_FAILED);
    let metadata = raw.call(&MetadataRequest::named(["t"], true), 12);
    assert_eq!(topic_of(&metadata).error_code, ErrorCode::TOPIC_AUTHORIZATION_FAILED.0);
    assert!(raw.call(&MetadataRequest::all(), 12).topics.is_empty());
    cluster.allow_topic("t");
    assert_eq!(code(&raw.produce("t", 0, &plain(&["a"]))), ErrorCode::NONE);
    let mut request = produce("t", 0, &plain(&["a"]));
    request.acks = 2;
    assert_eq!(code(&one(&raw.call(&request, 12))), ErrorCode::INVALID_REQUIRED_ACKS);
    cluster.deny_cluster();
    let denied = raw.call(&InitProducerIdRequest::default(), 4);
    assert_eq!((denied.error_code, denied.producer_id), (ErrorCode::CLUSTER_AUTHORIZATION_FAILED.0, -1));
}

#[test]
fn acks_0_is_not_answered_and_an_error_closes_the_connection() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let mut request = produce("t", 0, &plain(&["a"]));
    request.acks = 0;
    raw.send(&request, 12);
    // The next answer is that of the next request.
    raw.call(&MetadataRequest::all(), 12);
    assert_eq!(cluster.log_len("t", 0).unwrap(), 1);
    let mut request = produce("u", 0, &plain(&["a"]));
    request.acks = 0;
    raw.send(&request, 12);
    assert!(raw.is_closed());
}

#[test]
fn compacted_topics_and_far_timestamps_name_the_bad_records() {
    let cluster = FakeCluster::builder()
        .topic_with("compacted", 1, [("cleanup.policy", "compact")])
        .topic("t", 1)
        .start()
        .unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let batch = |records: &[(i64, Option<&[u8]>)]| {
        let mut writer = BatchWriter::new(Vec::new());
        for (timestamp, key) in records {
            writer.append(*timestamp, *key, Some(b"v"), &Headers::new()).unwrap();
        }
        let mut sealed = writer.seal(&mut Compressor::new(Compression::None)).unwrap();
        sealed.stamp(ProducerIdAndEpoch::NONE, -1, false);
        sealed.as_slice().to_vec()
    };
    let now = wall_clock_ms();
    let answer = raw.produce("compacted", 0, &batch(&[(now, Some(b"k")), (now, None)]));
    assert_eq!(code(&answer), ErrorCode::INVALID_RECORD);
    assert_eq!(answer.record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [1]);
    let far = now + 7_200_000;
    let answer = raw.produce("t", 0, &batch(&[(far, None), (now, None), (far, None)]));
    assert_eq!(code(&answer), ErrorCode::INVALID_TIMESTAMP);
    assert_eq!(answer.record_errors.iter().map(|e| e.batch_index).collect::<Vec<_>>(), [0, 2]);
    assert_eq!(cluster.record_count("t"), 0);
}

#[test]
fn log_append_time_is_the_brokers() {
    let cluster =
        FakeCluster::builder().topic_with("t", 1, [("message.timestamp.type", "LogAppendTime")]).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let before = wall_clock_ms();
    let answer = raw.produce("t", 0, &batch_of(&["a", "b"], Compression::gzip(), identity(7, 0), 0));
    assert!(answer.log_append_time_ms >= before);
    for record in cluster.records("t", 0).unwrap() {
        assert_eq!(record.timestamp(), Some(Timestamp::new(answer.log_append_time_ms, TimestampType::LogAppendTime)));
    }
}

#[test]
fn requests_of_a_connection_are_answered_in_order() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let sent: Vec<i32> = (0..50).map(|n| raw.send(&produce("t", 0, &idempotent(&["a"], 0, n)), 12)).collect();
    for (offset, correlation) in (0..).zip(sent) {
        let (answered, response) = raw.receive::<ProduceRequest>(12).unwrap();
        assert_eq!((answered, one(&response).error_code, one(&response).base_offset), (correlation, 0, offset));
    }
    let seen = cluster.requests();
    assert_eq!(seen.len(), 50);
    assert_eq!((seen[9].api, seen[9].version, seen[9].client_id.as_deref()), (Api::Produce, 12, Some("raw")));
    let batch = &seen[9].batches[0];
    assert_eq!((&*batch.topic, batch.partition, batch.records, batch.base_sequence), ("t", 0, 1, Some(9)));
    assert_eq!(batch.producer, Some(identity(7, 0)));
    assert_eq!(cluster.request_count(Api::Produce), 50);
}

#[test]
fn profiles_offer_what_their_release_offers() {
    let expected: [(KafkaVersion, RangeInclusive<i16>, bool); 4] = [
        (KafkaVersion::V0_11, 0..=3, false),
        (KafkaVersion::V2_8, 0..=9, true),
        (KafkaVersion::V3_9, 0..=11, true),
        (KafkaVersion::V4_3, 0..=13, true),
    ];
    for (version, produce_range, has_describe) in expected {
        let cluster = FakeCluster::builder().version(version).topic("t", 1).start().unwrap();
        let mut raw = Raw::new(&cluster, 1);
        let response = raw.call(&ApiVersionsRequest::default(), 0);
        let table = VersionTable::new(&response);
        let produce_versions = table.offered(0).unwrap();
        assert_eq!((produce_versions.min, produce_versions.max), (*produce_range.start(), *produce_range.end()));
        assert_eq!(table.offered(60).is_some(), has_describe);
        // The newest version that both know works, a newer one closes the connection.
        let newest = table.choose::<ProduceRequest>().unwrap();
        if newest < 13 {
            assert_eq!(one(&raw.call(&produce("t", 0, &plain(&["a"])), newest)).error_code, 0);
            raw.send(&produce("t", 0, &plain(&["a"])), newest + 1);
            assert!(raw.is_closed());
            assert_eq!(cluster.refusals().len(), 1);
        }
        let metadata = table.choose::<MetadataRequest>().unwrap();
        let response = Raw::new(&cluster, 1).call(&MetadataRequest::named(["t"], false), metadata);
        assert_eq!(topic_of(&response).partitions.len(), 1);
    }
}

#[test]
fn an_unknown_version_of_api_versions_is_answered_at_version_0() {
    for (version, too_new) in [(KafkaVersion::V0_11, 3), (KafkaVersion::V2_8, 4)] {
        let cluster = FakeCluster::builder().version(version).start().unwrap();
        let mut raw = Raw::new(&cluster, 1);
        let named = ApiVersionsRequest { client_software_name: "raw".into(), client_software_version: "1".into() };
        raw.send(&named, too_new);
        let (_, response) = decode_api_versions(raw.frame().unwrap(), too_new).unwrap();
        assert_eq!(response.error_code, ErrorCode::UNSUPPORTED_VERSION.0);
        assert_eq!(raw.call(&ApiVersionsRequest::default(), 0).error_code, 0);
    }
    let cluster = FakeCluster::start(1).unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let response = raw
        .call(&ApiVersionsRequest { client_software_name: "bad name".into(), client_software_version: "1".into() }, 4);
    assert_eq!(response.error_code, ErrorCode::INVALID_REQUEST.0);
}

#[test]
fn an_offer_can_be_narrowed() {
    let cluster = FakeCluster::builder().offer(Api::Produce, 3..=8).withdraw(Api::InitProducerId).start().unwrap();
    let table = VersionTable::new(&Raw::new(&cluster, 1).call(&ApiVersionsRequest::default(), 0));
    assert_eq!(table.choose::<ProduceRequest>().unwrap(), 8);
    assert!(table.choose::<InitProducerIdRequest>().is_err());
}

#[test]
fn frames_that_cannot_be_read_close_the_connection() {
    let cluster = FakeCluster::start(1).unwrap();
    let mut header = Vec::new();
    for part in [&3i16.to_be_bytes()[..], &12i16.to_be_bytes(), &1i32.to_be_bytes(), &(-1i16).to_be_bytes(), &[0, 9, 9]]
    {
        header.extend_from_slice(part);
    }
    let framed = |body: &[u8]| [&u32::try_from(body.len()).unwrap().to_be_bytes()[..], body].concat();
    let cases = [
        (-1i32).to_be_bytes().to_vec(),
        i32::MAX.to_be_bytes().to_vec(),
        framed(&[0, 3]),
        framed(&header),
        framed(&[0x7f; 20]),
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
    ];
    for (index, bytes) in cases.iter().enumerate() {
        let mut raw = Raw::new(&cluster, 1);
        raw.stream.write_all(bytes).unwrap();
        assert!(raw.is_closed(), "{index}");
    }
    assert_eq!(cluster.refusals().len(), cases.len(), "{:?}", cluster.refusals());
}

#[test]
fn topics_are_created_when_a_client_asks_and_may() {
    let cluster = FakeCluster::builder().auto_create(3).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let unknown = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.0;
    assert_eq!(topic_of(&raw.call(&MetadataRequest::named(["t"], false), 12)).error_code, unknown);
    assert!(raw.call(&MetadataRequest::all(), 12).topics.is_empty());
    // The first answer says that the creation is under way.
    assert_eq!(topic_of(&raw.call(&MetadataRequest::named(["t"], true), 12)).error_code, unknown);
    let response = raw.call(&MetadataRequest::named(["t"], true), 12);
    assert_eq!((topic_of(&response).error_code, topic_of(&response).partitions.len()), (0, 3));
    let bad = raw.call(&MetadataRequest::named(["a b"], true), 12);
    assert_eq!(topic_of(&bad).error_code, ErrorCode::INVALID_TOPIC_EXCEPTION.0);

    let by_id = |topic_id| MetadataRequest {
        topics: Some(vec![MetadataRequestTopic { topic_id, name: None }]),
        ..Default::default()
    };
    let found = raw.call(&by_id(topic_of(&response).topic_id), 12);
    assert_eq!(topic_of(&found).name.as_deref(), Some("t"));
    assert_eq!(topic_of(&raw.call(&by_id(Uuid([1; 16])), 12)).error_code, ErrorCode::UNKNOWN_TOPIC_ID.0);

    let none = FakeCluster::start(1).unwrap();
    let response = Raw::new(&none, 1).call(&MetadataRequest::named(["t"], true), 12);
    assert_eq!(topic_of(&response).error_code, unknown);
}

#[test]
fn topics_are_created_and_deleted_by_request() {
    let cluster = FakeCluster::builder().brokers(2).version(KafkaVersion::V2_8).start().unwrap();
    let topic = |name: &str, num_partitions, replication_factor| CreatableTopic {
        name: name.into(),
        num_partitions,
        replication_factor,
        configs: vec![CreatableTopicConfig { name: "max.message.bytes".into(), value: Some("100".into()) }],
        ..Default::default()
    };
    let create = CreateTopicsRequest {
        topics: vec![topic("a", 2, 2), topic("b", 0, 1), topic("c", 1, 3), topic("d/", 1, 1), topic("e", -1, -1)],
        ..Default::default()
    };
    let codes =
        |response: CreateTopicsResponse| response.topics.iter().map(|t| ErrorCode(t.error_code)).collect::<Vec<_>>();
    let elsewhere = Raw::new(&cluster, 2).call(&create, 7);
    assert_eq!(codes(elsewhere), [ErrorCode::NOT_CONTROLLER; 5]);
    let mut raw = Raw::new(&cluster, 1);
    let expected = [
        ErrorCode::NONE,
        ErrorCode::INVALID_PARTITIONS,
        ErrorCode::INVALID_REPLICATION_FACTOR,
        ErrorCode::INVALID_TOPIC_EXCEPTION,
        ErrorCode::NONE,
    ];
    assert_eq!(codes(raw.call(&create, 7)), expected);
    assert_eq!(codes(raw.call(&create, 2))[0], ErrorCode::TOPIC_ALREADY_EXISTS);
    assert_eq!(cluster.partition_count("a").unwrap(), 2);
    assert_eq!(
        code(&one(&raw.call(&produce("a", 0, &plain(&["x".repeat(99).as_str()])), 9))),
        ErrorCode::MESSAGE_TOO_LARGE
    );

    let described = raw.call(
        &DescribeConfigsRequest {
            resources: vec![describe_configs::DescribeConfigsResource {
                resource_type: 2,
                resource_name: "a".into(),
                configuration_keys: None,
            }],
            ..Default::default()
        },
        4,
    );
    let limit = described.results[0].configs.iter().find(|config| config.name == "max.message.bytes").unwrap();
    assert_eq!((limit.value.as_deref(), limit.config_source), (Some("100"), 1));

    let delete = DeleteTopicsRequest {
        topics: vec![
            DeleteTopicState { name: Some("a".into()), ..Default::default() },
            DeleteTopicState { name: Some("z".into()), ..Default::default() },
        ],
        ..Default::default()
    };
    let response = raw.call(&delete, 6);
    let codes: Vec<_> = response.responses.iter().map(|t| ErrorCode(t.error_code)).collect();
    assert_eq!(codes, [ErrorCode::NONE, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION]);
    assert!(cluster.partition_count("a").is_err());
}

#[test]
fn producers_get_ids_and_epochs() {
    let cluster = FakeCluster::start(1).unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let mut init = |request: &InitProducerIdRequest| {
        let response = raw.call(request, 4);
        (response.error_code, response.producer_id, response.producer_epoch)
    };
    let fresh = InitProducerIdRequest::default();
    let (_, first, epoch) = init(&fresh);
    assert_eq!(epoch, 0);
    assert_eq!(init(&fresh), (0, first + 1, 0));
    // A producer that is not transactional gets another id, and bumps its epoch itself if it wants to keep its own.
    let known = InitProducerIdRequest { producer_id: first, producer_epoch: 3, ..Default::default() };
    assert_eq!(init(&known), (0, first + 2, 0));
    assert_eq!(init(&InitProducerIdRequest { producer_epoch: -1, ..known }).0, ErrorCode::INVALID_REQUEST.0);
    let mut transactional = InitProducerIdRequest { transactional_id: Some("x".into()), ..Default::default() };
    assert_eq!(init(&transactional).0, ErrorCode::INVALID_TRANSACTION_TIMEOUT.0);
    transactional.transaction_timeout_ms = 60_000;
    assert_eq!(init(&transactional), (0, first + 3, 0));
    assert_eq!(init(&transactional), (0, first + 3, 1));
}

fn fetch(topic: &str, offset: i64, max_wait_ms: i32, max_bytes: i32) -> FetchRequest {
    FetchRequest {
        max_wait_ms,
        min_bytes: 1,
        max_bytes,
        topics: vec![FetchTopic {
            topic: topic.into(),
            partitions: vec![FetchPartition {
                fetch_offset: offset,
                last_fetched_epoch: -1,
                partition_max_bytes: max_bytes,
                ..Default::default()
            }],
            ..Default::default()
        }],
        ..Default::default()
    }
}

fn fetched(response: &FetchResponse) -> &PartitionData {
    &response.responses[0].partitions[0]
}

fn values(data: &PartitionData, from: i64) -> Vec<String> {
    let Records::Inline(bytes) = &data.records else { panic!("no records") };
    let mut values = Vec::new();
    decode_records(bytes, 0, from, AbortedTransactions::default(), &mut |record| values.push(record.value_text()))
        .unwrap();
    values
}

#[test]
fn fetch_reads_what_was_produced() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    for value in ["a", "b", "c"] {
        assert_eq!(raw.produce("t", 0, &plain(&[value, "+"])).error_code, 0);
    }
    let topic_id = topic_of(&raw.call(&MetadataRequest::named(["t"], false), 12)).topic_id;
    for version in FetchRequest::VERSIONS {
        let mut request = fetch("t", 3, 0, 1 << 20);
        if version >= 13 {
            request.topics[0] = FetchTopic { topic: String::new(), topic_id, ..request.topics[0].clone() };
        }
        let response = raw.call(&request, version);
        let data = fetched(&response);
        assert_eq!((data.error_code, data.high_watermark, response.session_id), (0, 6, 0), "{version}");
        assert_eq!(values(data, 3), ["+", "c", "+"], "{version}");
    }
    // At least one batch comes, however little is asked for.
    let response = raw.call(&fetch("t", 0, 0, 1), 12);
    assert_eq!(values(fetched(&response), 0), ["a", "+"]);
    let response = raw.call(&fetch("t", 7, 0, 1), 12);
    assert_eq!(fetched(&response).error_code, ErrorCode::OFFSET_OUT_OF_RANGE.0);
    let mut old_epoch = fetch("t", 0, 0, 1);
    old_epoch.topics[0].partitions[0].current_leader_epoch = 1;
    assert_eq!(fetched(&raw.call(&old_epoch, 12)).error_code, ErrorCode::UNKNOWN_LEADER_EPOCH.0);
}

#[test]
fn fetch_waits_for_records_and_no_longer_than_asked() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut reader = Raw::new(&cluster, 1);
    let start = Instant::now();
    assert!(values(fetched(&reader.call(&fetch("t", 0, 50, 1 << 20), 12)), 0).is_empty());
    assert!(start.elapsed() >= Duration::from_millis(50));
    reader.send(&fetch("t", 0, 60_000, 1 << 20), 12);
    assert!(cluster.wait_for_requests(Api::Fetch, 2, LONG));
    assert_eq!(Raw::new(&cluster, 1).produce("t", 0, &plain(&["a"])).error_code, 0);
    let (_, response) = reader.receive::<FetchRequest>(12).unwrap();
    assert_eq!(values(fetched(&response), 0), ["a"]);
}

#[test]
fn offsets_are_found_by_timestamp() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let mut writer = BatchWriter::new(Vec::new());
    for timestamp in [100, 300, 200] {
        writer.append(timestamp, None, None, &Headers::new()).unwrap();
    }
    let mut sealed = writer.seal(&mut Compressor::new(Compression::Lz4)).unwrap();
    sealed.stamp(ProducerIdAndEpoch::NONE, -1, false);
    assert_eq!(raw.produce("t", 0, sealed.as_slice()).error_code, 0);
    assert_eq!(raw.produce("t", 0, &plain(&["now"])).error_code, 0);
    let mut find = |timestamp| {
        let request = ListOffsetsRequest {
            topics: vec![ListOffsetsTopic {
                name: "t".into(),
                partitions: vec![ListOffsetsPartition { timestamp, ..Default::default() }],
            }],
            ..Default::default()
        };
        raw.call(&request, 7).topics[0].partitions[0].offset
    };
    assert_eq!([-2, -1, -3, 0, 100, 101, 301, i64::MAX].map(&mut find), [0, 4, 3, 0, 0, 1, 3, -1]);
    cluster.delete_records("t", 0, 2).unwrap();
    assert_eq!([-2, 0].map(&mut find), [2, 2]);
    assert_eq!(cluster.records("t", 0).unwrap().len(), 2);
}

#[test]
fn the_cluster_describes_itself() {
    let cluster = FakeCluster::start(2).unwrap();
    let mut raw = Raw::new(&cluster, 2);
    for version in DescribeClusterRequest::VERSIONS {
        let response = raw.call(&DescribeClusterRequest::default(), version);
        assert_eq!((response.controller_id, response.brokers.len()), (1, 2));
    }
    let key = FindCoordinatorRequest { key: "g".into(), ..Default::default() };
    assert_eq!(Some(BrokerId(raw.call(&key, 1).node_id)), cluster.group_coordinator("g"));
    let keys = FindCoordinatorRequest { coordinator_keys: vec!["g".into(), "h".into()], ..Default::default() };
    assert_eq!(raw.call(&keys, 4).coordinators.len(), 2);
}

#[test]
fn a_dead_brokers_partitions_move_and_it_comes_back() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 2).start().unwrap();
    let leader = |partition| cluster.leader("t", partition).unwrap();
    assert_eq!([leader(0), leader(1)], [Some(BrokerId(1)), Some(BrokerId(2))]);
    let (mut first, mut second) = (Raw::new(&cluster, 1), Raw::new(&cluster, 2));
    let moved = second.call(&produce("t", 0, &plain(&["a"])), 10);
    assert_eq!(code(&one(&moved)), ErrorCode::NOT_LEADER_OR_FOLLOWER);
    let told = one(&moved).current_leader;
    assert_eq!((told.leader_id, told.leader_epoch), (1, 0));
    assert_eq!(moved.node_endpoints.len(), 1);
    assert!(second.call(&produce("t", 0, &plain(&["a"])), 9).node_endpoints.is_empty());

    first.call(&MetadataRequest::all(), 12);
    cluster.kill(BrokerId(1));
    assert!(first.is_closed());
    assert!(TcpStream::connect(cluster.address(BrokerId(1))).is_err());
    assert_eq!([leader(0), leader(1)], [Some(BrokerId(2)); 2]);
    let metadata = second.call(&MetadataRequest::named(["t"], false), 12);
    assert_eq!(metadata.brokers.iter().map(|b| b.node_id).collect::<Vec<_>>(), [2]);
    let partition = &topic_of(&metadata).partitions[0];
    assert_eq!((partition.leader_id, partition.leader_epoch), (2, 1));
    assert_eq!((&*partition.isr_nodes, &*partition.offline_replicas), (&[2][..], &[1][..]));
    assert_eq!(second.produce("t", 0, &plain(&["a"])).error_code, 0);

    let address = cluster.address(BrokerId(1));
    cluster.restart(BrokerId(1)).unwrap();
    assert_eq!(cluster.address(BrokerId(1)), address);
    assert_eq!(leader(0), Some(BrokerId(2)));
    cluster.kill(BrokerId(2));
    assert_eq!(leader(0), Some(BrokerId(1)));
    assert_eq!(Raw::new(&cluster, 1).produce("t", 0, &plain(&["b"])).base_offset, 1);
    assert_eq!(cluster.batches("t", 0).unwrap().iter().map(|b| b.leader_epoch).collect::<Vec<_>>(), [Some(1), Some(2)]);
    cluster.kill(BrokerId(1));
    assert_eq!(leader(0), None);
    cluster.kill(BrokerId(1));
    cluster.restart(BrokerId(2)).unwrap();
    assert_eq!(leader(0), Some(BrokerId(2)));
    assert!(cluster.restart(BrokerId(9)).is_err());
}

#[test]
fn leaders_move_by_order() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    cluster.move_leader("t", 0, BrokerId(2)).unwrap();
    let mut raw = Raw::new(&cluster, 2);
    assert_eq!(raw.produce("t", 0, &plain(&["a"])).error_code, 0);
    cluster.leaderless("t", 0).unwrap();
    let answer = raw.produce("t", 0, &plain(&["a"]));
    assert_eq!((code(&answer), answer.current_leader.leader_id), (ErrorCode::NOT_LEADER_OR_FOLLOWER, -1));
    let metadata = raw.call(&MetadataRequest::named(["t"], false), 12);
    let partition = &topic_of(&metadata).partitions[0];
    assert_eq!((partition.error_code, partition.leader_id), (ErrorCode::LEADER_NOT_AVAILABLE.0, -1));
    assert_eq!(partition.leader_epoch, 2);
    cluster.kill(BrokerId(1));
    assert!(cluster.move_leader("t", 0, BrokerId(1)).is_err());
    assert_eq!(cluster.leader("t", 0).unwrap(), None);
    cluster.move_leader("t", 0, BrokerId(2)).unwrap();
    assert_eq!(raw.produce("t", 0, &plain(&["a"])).error_code, 0);
    assert!(cluster.move_leader("t", 1, BrokerId(2)).is_err());
}

#[test]
fn too_few_replicas_refuse_acks_all_alone() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).min_in_sync(2).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let mut leader_alone = produce("t", 0, &plain(&["a"]));
    leader_alone.acks = 1;
    assert_eq!(raw.produce("t", 0, &plain(&["a"])).error_code, 0);
    cluster.kill(BrokerId(2));
    assert_eq!(code(&raw.produce("t", 0, &plain(&["a"]))), ErrorCode::NOT_ENOUGH_REPLICAS);
    assert_eq!(one(&raw.call(&leader_alone, 12)).error_code, 0);
    cluster.restart(BrokerId(2)).unwrap();
    assert_eq!(raw.produce("t", 0, &plain(&["a"])).error_code, 0);
    cluster.fall_below_min_in_sync("t").unwrap();
    assert_eq!(code(&raw.produce("t", 0, &plain(&["a"]))), ErrorCode::NOT_ENOUGH_REPLICAS);
    cluster.restore_min_in_sync("t").unwrap();
    assert_eq!(raw.produce("t", 0, &plain(&["a"])).error_code, 0);
}

#[test]
fn logs_and_topics_can_be_lost() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    for sequence in 0..4 {
        assert_eq!(raw.produce("t", 0, &idempotent(&["a"], 0, sequence)).error_code, 0);
    }
    // What was truncated is not known any more; the rest is.
    cluster.truncate_log("t", 0, 2).unwrap();
    assert_eq!(cluster.log_len("t", 0).unwrap(), 2);
    assert_eq!(code(&raw.produce("t", 0, &idempotent(&["a"], 0, 3))), ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER);
    assert_eq!(raw.produce("t", 0, &idempotent(&["a"], 0, 2)).base_offset, 2);
    cluster.lose_producer_state("t", 0).unwrap();
    assert_eq!(raw.produce("t", 0, &idempotent(&["a"], 0, 1000)).base_offset, 3);

    let id = topic_of(&raw.call(&MetadataRequest::named(["t"], false), 12)).topic_id;
    cluster.recreate_topic("t").unwrap();
    assert_ne!(topic_of(&raw.call(&MetadataRequest::named(["t"], false), 12)).topic_id, id);
    assert_eq!(cluster.log_len("t", 0).unwrap(), 0);
    cluster.add_partitions("t", 2).unwrap();
    assert_eq!(cluster.partition_count("t").unwrap(), 3);
    assert_eq!(raw.produce("t", 2, &plain(&["a"])).error_code, 0);
    cluster.delete_topic("t").unwrap();
    assert_eq!(code(&raw.produce("t", 0, &plain(&["a"]))), ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    assert!(cluster.delete_topic("t").is_err());
}

#[test]
fn before_2_5_an_unknown_producer_begins_at_0() {
    let cluster = FakeCluster::builder().version(KafkaVersion::V0_11).topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let response = raw.call(&produce("t", 0, &idempotent(&["a"], 0, 5)), 3);
    assert_eq!(code(&one(&response)), ErrorCode::UNKNOWN_PRODUCER_ID);
    assert_eq!(code(&one(&raw.call(&produce("t", 0, &idempotent(&["a"], 0, 0)), 3))), ErrorCode::NONE);
}

#[test]
fn errors_hit_the_partitions_that_they_are_for() {
    let cluster = FakeCluster::builder().topic("t", 2).topic("u", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let mut request = produce("t", 0, &plain(&["a"]));
    request.topic_data[0]
        .partition_data
        .push(PartitionProduceData { index: 1, records: Records::Inline(plain(&["b"]).into()) });
    request.topic_data.extend(produce("u", 0, &plain(&["c"])).topic_data);
    let codes = |response: ProduceResponse| {
        let partitions = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
        partitions.map(|partition| ErrorCode(partition.error_code)).collect::<Vec<_>>()
    };
    let (ok, failed) = (ErrorCode::NONE, ErrorCode::KAFKA_STORAGE_ERROR);
    let one = cluster.inject(On::produce().topic("t").partition(1).skip(1).times(2), Fault::Error(failed));
    assert_eq!(codes(raw.call(&request, 12)), [ok, ok, ok]);
    assert_eq!(codes(raw.call(&request, 12)), [ok, failed, ok]);
    assert_eq!(codes(raw.call(&request, 12)), [ok, failed, ok]);
    assert_eq!(codes(raw.call(&request, 12)), [ok, ok, ok]);
    assert_eq!(one.fired(), 2);
    let topic = cluster.fail_produce("t", failed, 1);
    assert_eq!(codes(raw.call(&request, 12)), [failed, failed, ok]);
    assert_eq!(topic.fired(), 1);
    let all = cluster.inject(On::produce().always(), Fault::Error(failed));
    assert_eq!(codes(raw.call(&request, 12)), [failed, failed, failed]);
    assert_eq!(codes(raw.call(&request, 12)), [failed, failed, failed]);
    all.cancel();
    assert_eq!(codes(raw.call(&request, 12)), [ok, ok, ok]);
    let lengths = [("t", 0), ("t", 1), ("u", 0)].map(|(topic, partition)| cluster.log_len(topic, partition).unwrap());
    assert_eq!(lengths, [5, 3, 6]);

    let after = cluster.inject(On::produce(), Fault::ErrorAfterApply(ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND));
    assert_eq!(codes(raw.call(&request, 12)), [ErrorCode::NOT_ENOUGH_REPLICAS_AFTER_APPEND; 3]);
    assert_eq!((after.fired(), cluster.log_len("t", 0).unwrap()), (1, 6));
    assert!(cluster.refusals().is_empty());
}

#[test]
fn every_request_can_be_failed() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let failed = ErrorCode::UNKNOWN_SERVER_ERROR;
    let fail = |api| cluster.inject(On::api(api), Fault::Error(failed));
    let handles = [Api::Metadata, Api::InitProducerId, Api::Fetch, Api::ApiVersions, Api::FindCoordinator].map(fail);
    assert_eq!(topic_of(&raw.call(&MetadataRequest::named(["t"], false), 12)).error_code, failed.0);
    assert_eq!(raw.call(&InitProducerIdRequest::default(), 4).error_code, failed.0);
    assert_eq!(fetched(&raw.call(&fetch("t", 0, 0, 1), 12)).error_code, failed.0);
    assert_eq!(raw.call(&ApiVersionsRequest::default(), 0).error_code, failed.0);
    assert_eq!(raw.call(&FindCoordinatorRequest::default(), 1).error_code, failed.0);
    assert_eq!(handles.map(|handle| handle.fired()), [1; 5]);
}

#[test]
fn an_answer_can_be_lost_after_the_append() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let lost = cluster.inject(On::produce(), Fault::DropAnswer);
    let batch = idempotent(&["a"], 0, 0);
    let mut raw = Raw::new(&cluster, 1);
    raw.send(&produce("t", 0, &batch), 12);
    assert!(raw.is_closed());
    assert!(lost.wait_fired(1, LONG));
    assert_eq!(cluster.log_len("t", 0).unwrap(), 1);
    assert_eq!(Raw::new(&cluster, 1).produce("t", 0, &batch).base_offset, 0);

    let cut = cluster.inject(On::produce(), Fault::CutBefore);
    let mut raw = Raw::new(&cluster, 1);
    raw.send(&produce("t", 0, &idempotent(&["b"], 0, 1)), 12);
    assert!(raw.is_closed());
    assert_eq!((cut.fired(), cluster.log_len("t", 0).unwrap()), (1, 1));
}

#[test]
fn answers_can_be_damaged() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let request = produce("t", 0, &plain(&["a"]));

    cluster.inject(On::produce(), Fault::WrongCorrelation);
    let mut raw = Raw::new(&cluster, 1);
    let sent = raw.send(&request, 12);
    assert_ne!(raw.receive::<ProduceRequest>(12).unwrap().0, sent);

    cluster.inject(On::produce(), Fault::Garbage(vec![1, 2, 3]));
    raw.send(&request, 12);
    let mut garbage = [0; 3];
    raw.stream.read_exact(&mut garbage).unwrap();
    assert_eq!(garbage, [1, 2, 3]);

    cluster.inject(On::produce(), Fault::Truncate(7));
    raw.send(&request, 12);
    let mut rest = Vec::new();
    raw.stream.read_to_end(&mut rest).unwrap();
    assert_eq!(rest.len(), 7);

    cluster.inject(On::produce(), Fault::SwapAnswers);
    let mut raw = Raw::new(&cluster, 1);
    let (first, second) = (raw.send(&request, 12), raw.send(&request, 12));
    let answered = [(); 2].map(|()| raw.receive::<ProduceRequest>(12).unwrap().0);
    assert_eq!(answered, [second, first]);

    cluster.inject(On::produce(), Fault::RepeatAnswer);
    let sent = raw.send(&request, 12);
    let answered = [(); 2].map(|()| raw.receive::<ProduceRequest>(12).unwrap().0);
    assert_eq!(answered, [sent, sent]);

    cluster.inject(On::produce(), Fault::Throttle(250));
    assert_eq!(raw.call(&request, 12).throttle_time_ms, 250);
    // All but the one that was answered with garbage.
    assert_eq!(cluster.log_len("t", 0).unwrap(), 6);
}

#[test]
fn answers_can_be_late_or_never_come() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    cluster.inject(On::produce(), Fault::Delay(Duration::from_millis(60)));
    let start = Instant::now();
    assert_eq!(raw.produce("t", 0, &plain(&["a"])).error_code, 0);
    assert!(start.elapsed() >= Duration::from_millis(60));

    let hang = cluster.inject(On::produce(), Fault::Hang);
    raw.send(&produce("t", 0, &plain(&["b"])), 12);
    raw.send(&produce("t", 0, &plain(&["c"])), 12);
    assert!(cluster.wait_for_records("t", 2, LONG));
    assert_eq!(hang.fired(), 1);
    raw.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
    assert!(raw.frame().is_none());
    assert_eq!(Raw::new(&cluster, 1).produce("t", 0, &plain(&["d"])).base_offset, 2);
    cluster.cut_connections(BrokerId(1));
    assert_eq!(raw.stream.read(&mut [0; 1]).unwrap_or(0), 0);

    // A delay ends with its connection.
    let delay = cluster.inject(On::produce(), Fault::Delay(Duration::from_secs(3600)));
    let mut raw = Raw::new(&cluster, 1);
    raw.send(&produce("t", 0, &plain(&["e"])), 12);
    assert!(delay.wait_fired(1, LONG));
    cluster.cut_connections(BrokerId(1));
    assert!(raw.is_closed());
}

#[test]
fn an_answer_that_is_held_back_comes_when_its_fault_is_cancelled() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    for clear in [false, true] {
        let before = cluster.log_len("t", 0).unwrap();
        let hold = cluster.inject(On::produce(), Fault::Hold);
        raw.send(&produce("t", 0, &plain(&["a"])), 12);
        raw.send(&produce("t", 0, &plain(&["b"])), 12);
        // The request has its effect, and later requests wait.
        assert!(hold.wait_fired(1, LONG));
        raw.stream.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        assert!(raw.frame().is_none());
        raw.stream.set_read_timeout(Some(LONG)).unwrap();
        assert_eq!(cluster.log_len("t", 0).unwrap(), before + 1);
        // Another connection is not held back.
        assert_eq!(Raw::new(&cluster, 1).produce("t", 0, &plain(&["c"])).base_offset, before + 1);
        if clear {
            cluster.clear_faults()
        } else {
            hold.cancel()
        }
        assert!(raw.frame().is_some() && raw.frame().is_some());
        assert_eq!((hold.fired(), cluster.log_len("t", 0).unwrap()), (1, before + 3));
    }

    // It ends with its connection.
    let hold = cluster.inject(On::produce(), Fault::Hold);
    raw.send(&produce("t", 0, &plain(&["d"])), 12);
    assert!(hold.wait_fired(1, LONG));
    cluster.cut_connections(BrokerId(1));
    assert!(raw.is_closed());
}

#[test]
fn a_broker_that_stalls_answers_and_takes_nothing_more() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let times = (Duration::from_millis(60), Duration::from_millis(100));
    cluster.inject(On::produce(), Fault::Stall { answer: times.0, pause: times.1 });
    let start = Instant::now();
    raw.send(&produce("t", 0, &plain(&["a"])), 12);
    raw.send(&produce("t", 0, &plain(&["b"])), 12);
    assert!(raw.frame().is_some());
    assert!(start.elapsed() >= times.0);
    assert!(raw.frame().is_some());
    assert!(start.elapsed() >= times.0 + times.1);

    // It ends with its connection.
    let stall = cluster.inject(On::produce(), Fault::Stall { answer: Duration::ZERO, pause: LONG * 60 });
    raw.send(&produce("t", 0, &plain(&["c"])), 12);
    raw.send(&produce("t", 0, &plain(&["d"])), 12);
    assert!(raw.frame().is_some());
    assert_eq!((stall.fired(), cluster.log_len("t", 0).unwrap()), (1, 3));
    cluster.cut_connections(BrokerId(1));
    assert!(raw.is_closed());
}

#[test]
fn a_paused_broker_does_nothing_until_it_resumes() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut before = Raw::new(&cluster, 1);
    before.call(&MetadataRequest::all(), 12);
    cluster.pause(BrokerId(1));
    let mut after = Raw::new(&cluster, 1);
    for raw in [&mut before, &mut after] {
        raw.send(&produce("t", 0, &plain(&["a"])), 12);
        raw.stream.set_read_timeout(Some(Duration::from_millis(30))).unwrap();
        assert!(raw.frame().is_none());
    }
    assert_eq!(cluster.log_len("t", 0).unwrap(), 0);
    cluster.resume(BrokerId(1));
    for raw in [&mut before, &mut after] {
        raw.stream.set_read_timeout(Some(LONG)).unwrap();
        assert!(raw.receive::<ProduceRequest>(12).is_some());
    }
    assert_eq!(cluster.log_len("t", 0).unwrap(), 2);
}

#[test]
fn chance_follows_the_seed() {
    let run = |seed| {
        let cluster = FakeCluster::builder().topic("t", 1).seed(seed).start().unwrap();
        let handle = cluster.inject(On::produce().chance(0.5).always(), Fault::Error(ErrorCode::NOT_CONTROLLER));
        let mut raw = Raw::new(&cluster, 1);
        let codes: Vec<i16> = (0..40).map(|_| raw.produce("t", 0, &plain(&["a"])).error_code).collect();
        assert!((5..35).contains(&handle.fired()));
        codes
    };
    assert_eq!(run(1), run(1));
    assert_ne!(run(1), run(2));
}

#[test]
fn a_sink_counts_and_keeps_nothing() {
    let cluster = FakeCluster::builder().topic("t", 1).sink().start().unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let mut bad_crc = plain(&["a", "b"]);
    *bad_crc.last_mut().unwrap() ^= 1;
    assert_eq!(raw.produce("t", 0, &bad_crc).base_offset, 0);
    assert_eq!(raw.produce("t", 0, &plain(&["c"])).base_offset, 2);
    assert_eq!((cluster.log_len("t", 0).unwrap(), cluster.request_count(Api::Produce)), (3, 2));
    assert!(cluster.records("t", 0).unwrap().is_empty());
    let lost = cluster.inject(On::produce(), Fault::DropAnswer);
    raw.send(&produce("t", 0, &plain(&["d"])), 12);
    assert!(raw.is_closed());
    assert_eq!((lost.fired(), cluster.log_len("t", 0).unwrap()), (1, 4));
}

/// The names of this process's threads.
#[cfg(target_os = "linux")]
fn threads(name: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names = tasks.filter_map(|task| std::fs::read_to_string(task.unwrap().path().join("comm")).ok());
    names.filter(|comm| comm.trim() == name).count()
}

#[cfg(target_os = "linux")]
#[test]
fn dropping_the_cluster_leaves_no_thread_and_no_listener() {
    // Tests run at the same time: by its number this cluster's broker is told from those of others.
    const BROKERS: u8 = 23;
    let name = format!("fake-broker-{BROKERS}");
    let cluster = FakeCluster::builder().brokers(BROKERS.into()).topic("t", BROKERS.into()).start().unwrap();
    let broker = BrokerId(BROKERS.into());
    let mut idle = Raw::new(&cluster, broker.0);
    let mut polling = Raw::new(&cluster, broker.0);
    let mut delayed = Raw::new(&cluster, broker.0);
    let mut hanging = Raw::new(&cluster, broker.0);
    let delay = cluster.inject(On::api(Api::Metadata), Fault::Delay(Duration::from_secs(3600)));
    delayed.send(&MetadataRequest::all(), 12);
    assert!(delay.wait_fired(1, LONG));
    let hang = cluster.inject(On::api(Api::Metadata), Fault::Hang);
    hanging.send(&MetadataRequest::all(), 12);
    assert!(hang.wait_fired(1, LONG));
    let mut request = fetch("t", 0, 3_600_000, 1);
    request.topics[0].partitions[0].partition = broker.0 - 1;
    polling.send(&request, 12);
    assert!(cluster.wait_for_requests(Api::Fetch, 1, LONG));
    assert_eq!(cluster.connection_count(broker), 4);
    // The list may miss a thread while others of the process end, and the kernel removes one a moment after it was
    // joined.
    let comes_to = |count| {
        let deadline = Instant::now() + LONG;
        while threads(&name) != count && Instant::now() < deadline {
            std::thread::yield_now();
        }
        threads(&name)
    };
    assert_eq!(comes_to(5), 5);
    let address = cluster.address(broker);
    drop(cluster);
    assert_eq!(comes_to(0), 0);
    assert!(TcpStream::connect(address).is_err());
    for raw in [&mut idle, &mut polling, &mut delayed, &mut hanging] {
        assert!(raw.is_closed());
    }
}

#[test]
fn the_client_reads_through_leader_changes_and_restarts() {
    let cluster = FakeCluster::start(3).unwrap();
    let mut client = Client::connect(cluster.bootstrap()).unwrap().timeout(LONG);
    client.create_topic("t", 2, 3, [("max.message.bytes", "5000")]).unwrap();
    assert_eq!(client.create_topic("t", 2, 3, []).unwrap_err().code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
    assert_eq!(client.partitions("t").unwrap(), 2);
    let leader = client.leader("t", 1).unwrap();
    assert_eq!(Some(leader), cluster.leader("t", 1).unwrap());
    let mut raw = Raw::new(&cluster, leader.0);
    for n in 0..10 {
        assert_eq!(raw.produce("t", 1, &plain(&[&n.to_string(), "+"])).error_code, 0);
    }
    assert_eq!((client.start_offset("t", 1).unwrap(), client.end_offset("t", 1).unwrap()), (0, 20));
    assert_eq!(client.read("t", 1, 3..5).unwrap().iter().map(LoggedRecord::value_text).collect::<Vec<_>>(), ["+", "2"]);
    cluster.kill(leader);
    assert_eq!(client.read_all("t", 1).unwrap(), cluster.records("t", 1).unwrap());
    cluster.restart(leader).unwrap();
    cluster.move_leader("t", 1, leader).unwrap();
    let cut = cluster.inject(On::api(Api::Fetch), Fault::DropAnswer);
    assert_eq!(client.read_all("t", 1).unwrap().len(), 20);
    assert_eq!(cut.fired(), 1);
    client = client.timeout(Duration::from_millis(100));
    let late = client.read("t", 1, 0..21).unwrap_err();
    assert_eq!(late.kind(), crate::error::ErrorKind::Timeout(crate::error::Timeout::Wait));
    client = client.timeout(LONG);
    client.delete_topic("t").unwrap();
    assert!(cluster.partition_count("t").is_err());
    assert!(cluster.refusals().is_empty(), "{:?}", cluster.refusals());
}

#[test]
fn the_client_knows_its_own_topics_again_after_a_lost_answer() {
    let faults = [Fault::DropAnswer, Fault::CutBefore, Fault::ErrorAfterApply(ErrorCode::REQUEST_TIMED_OUT)];
    for fault in faults {
        let cluster = FakeCluster::start(1).unwrap();
        let mut client = Client::connect(cluster.bootstrap()).unwrap().timeout(LONG);
        let lost = [Api::CreateTopics, Api::DeleteTopics].map(|api| cluster.inject(On::api(api), fault.clone()));
        client.create_topic("t", 2, 1, []).unwrap();
        assert_eq!(cluster.partition_count("t").unwrap(), 2, "{fault:?}");
        assert_eq!(client.create_topic("t", 2, 1, []).unwrap_err().code(), Some(ErrorCode::TOPIC_ALREADY_EXISTS));
        client.delete_topic("t").unwrap();
        assert!(cluster.partition_count("t").is_err(), "{fault:?}");
        assert_eq!(lost.map(|lost| lost.fired()), [1, 1]);
    }
}

#[test]
fn batches_that_do_not_fit_the_transaction_are_refused() {
    let cluster = FakeCluster::builder().topic("t", 2).start().unwrap();
    let mut producer = RawProducer::connect(cluster.bootstrap(), "x").unwrap();
    let given = producer.init(LONG).unwrap();
    producer.send("t", 0, &["a"]).unwrap();
    let mut raw = Raw::new(&cluster, 1);
    let outside = batch_of(&["b"], Compression::None, given, 1);
    assert_eq!(code(&raw.produce("t", 0, &outside)), ErrorCode::INVALID_TXN_STATE);

    let transactional = |producer_id| {
        let mut writer = BatchWriter::new(Vec::new());
        writer.append(wall_clock_ms(), None, Some(b"c"), &Headers::new()).unwrap();
        let mut sealed = writer.seal(&mut Compressor::new(Compression::None)).unwrap();
        sealed.stamp(identity(producer_id, 0), 1, true);
        sealed.as_slice().to_vec()
    };
    let refused = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
    assert_eq!(code(&raw.produce("t", 0, &transactional(given.producer_id))), refused);
    let mut two = produce("t", 0, &transactional(given.producer_id));
    two.transactional_id = Some("x".into());
    let other = Records::Inline(transactional(given.producer_id + 1).into());
    two.topic_data[0].partition_data.push(PartitionProduceData { index: 1, records: other });
    let response = raw.call(&two, 12);
    for answer in &response.responses[0].partition_responses {
        assert_eq!(code(answer), ErrorCode::INVALID_PRODUCER_ID_MAPPING);
    }
    assert_eq!(cluster.refusals().len(), 3, "{:?}", cluster.refusals());
    producer.end(Marker::Commit).unwrap();
    assert_eq!(cluster.record_count("t"), 1);
}

#[test]
fn aborted_transactions_are_told_to_readers_of_committed_records() {
    let cluster = FakeCluster::builder().topic("t", 1).start().unwrap();
    let mut producer = RawProducer::connect(cluster.bootstrap(), "x").unwrap();
    let id = producer.init(LONG).unwrap().producer_id;
    for is_commit in [false, true, false] {
        producer.send("t", 0, &["a"]).unwrap();
        producer.end(if is_commit { Marker::Commit } else { Marker::Abort }).unwrap();
    }
    producer.send("t", 0, &["open"]).unwrap();
    let mut raw = Raw::new(&cluster, 1);
    for version in ListOffsetsRequest::VERSIONS.filter(|version| *version >= 2) {
        let mut offset = |isolation_level, timestamp| {
            let partition = ListOffsetsPartition { timestamp, ..Default::default() };
            let topic = ListOffsetsTopic { name: "t".into(), partitions: vec![partition] };
            let request = ListOffsetsRequest { isolation_level, topics: vec![topic], ..Default::default() };
            raw.call(&request, version).topics[0].partitions[0].offset
        };
        let last = cluster.batches("t", 0).unwrap()[6].max_timestamp.unwrap().millis();
        assert_eq!([offset(0, -1), offset(1, -1), offset(1, -2)], [7, 6, 0]);
        assert_eq!([offset(0, last + 1), offset(1, last + 1)], [-1, -1]);
        assert!(offset(0, last) >= 0);
        assert!(offset(1, last) < 6);
    }
    for version in FetchRequest::VERSIONS.filter(|version| *version < 13) {
        let mut read = |offset, isolation_level, max_bytes| {
            let request = FetchRequest { isolation_level, ..fetch("t", offset, 0, max_bytes) };
            raw.call(&request, version).responses[0].partitions[0].clone()
        };
        let all = read(0, 0, i32::MAX);
        assert_eq!((all.high_watermark, all.last_stable_offset), (7, 6));
        assert!(all.aborted_transactions.is_none());
        assert_eq!(values(&all, 0), ["a", "a", "a", "open"]);
        let told = |data: &PartitionData| {
            let aborted = data.aborted_transactions.iter().flatten();
            aborted.map(|transaction| (transaction.producer_id, transaction.first_offset)).collect::<Vec<_>>()
        };
        let committed = read(0, 1, i32::MAX);
        assert_eq!(told(&committed), [(id, 0), (id, 4)]);
        assert_eq!(values(&committed, 0), ["a", "a", "a"]);
        // Only the transactions of the answer's batches are listed.
        assert_eq!(told(&read(0, 1, 1)), [(id, 0)]);
        assert_eq!(told(&read(2, 1, i32::MAX)), [(id, 4)]);
        assert!(told(&read(6, 1, i32::MAX)).is_empty());
        assert_eq!(read(6, 1, i32::MAX).error_code, 0);
    }
}

#[test]
fn the_finalized_features_say_which_transactions_are_in_force() {
    for release in KafkaVersion::ALL {
        let cluster = FakeCluster::builder().version(release).start().unwrap();
        let version = cluster.shared.settings.offered[&Api::ApiVersions].clone().max().unwrap();
        let request = ApiVersionsRequest { client_software_name: "raw".into(), client_software_version: "1".into() };
        let response = Raw::new(&cluster, 1).call(&request, version);
        assert_eq!(VersionTable::new(&response).has_transactions_v2(), release >= KafkaVersion::V4_3);
    }
    let cluster = FakeCluster::builder().transactions(TransactionVersion::V1).start().unwrap();
    let mut producer = RawProducer::connect(cluster.bootstrap(), "x").unwrap();
    producer.init(LONG).unwrap();
    assert_eq!(producer.end(Marker::Abort).unwrap_err().code(), Some(ErrorCode::INVALID_TXN_STATE));
}

#[test]
fn a_broker_that_does_not_coordinate_says_so_at_every_version() {
    let cluster = FakeCluster::builder().brokers(2).topic("t", 1).start().unwrap();
    let other = |coordinator: Option<BrokerId>| 3 - coordinator.unwrap().0;
    let mut raw = Raw::new(&cluster, other(cluster.transaction_coordinator("x")));
    let refused = ErrorCode::NOT_COORDINATOR.0;
    let id = || "x".to_owned();
    for version in InitProducerIdRequest::VERSIONS {
        let init = InitProducerIdRequest { transactional_id: Some(id()), ..Default::default() };
        assert_eq!(raw.call(&init, version).error_code, refused);
    }
    for version in AddPartitionsToTxnRequest::VERSIONS {
        let topic = AddPartitionsToTxnTopic { name: "t".into(), partitions: vec![0] };
        let add = AddPartitionsToTxnRequest { v3_and_below_topics: vec![topic], ..Default::default() };
        let add = AddPartitionsToTxnRequest { v3_and_below_transactional_id: id(), ..add };
        let response = raw.call(&add, version);
        let result = &response.results_by_topic_v3_and_below[0].results_by_partition[0];
        assert_eq!(result.partition_error_code, refused);
    }
    for version in AddOffsetsToTxnRequest::VERSIONS {
        let add = AddOffsetsToTxnRequest { transactional_id: id(), ..Default::default() };
        assert_eq!(raw.call(&add, version).error_code, refused);
    }
    for version in EndTxnRequest::VERSIONS {
        let end = EndTxnRequest { transactional_id: id(), ..Default::default() };
        assert_eq!(raw.call(&end, version).error_code, refused);
    }
    let mut raw = Raw::new(&cluster, other(cluster.group_coordinator("g")));
    for version in TxnOffsetCommitRequest::VERSIONS {
        let partition = TxnOffsetCommitRequestPartition::default();
        let topic = TxnOffsetCommitRequestTopic { name: "t".into(), partitions: vec![partition] };
        let commit = TxnOffsetCommitRequest { group_id: "g".into(), topics: vec![topic], ..Default::default() };
        assert_eq!(raw.call(&commit, version).topics[0].partitions[0].error_code, refused);
    }
    for version in OffsetFetchRequest::VERSIONS {
        let topic = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0] };
        let fetch = match version {
            ..8 => OffsetFetchRequest { group_id: "g".into(), topics: Some(vec![topic]), ..Default::default() },
            8.. => OffsetFetchRequest {
                groups: vec![OffsetFetchRequestGroup { group_id: "g".into(), ..Default::default() }],
                ..Default::default()
            },
        };
        let response = raw.call(&fetch, version);
        let code = match version {
            ..2 => response.topics[0].partitions[0].error_code,
            2..8 => response.error_code,
            8.. => response.groups[0].error_code,
        };
        assert_eq!(code, refused, "version {version}");
    }
}

#[test]
fn committed_offsets_are_answered_at_every_version() {
    let cluster = FakeCluster::builder().topic("t", 2).topic("u", 1).start().unwrap();
    let mut producer = RawProducer::connect(cluster.bootstrap(), "x").unwrap();
    producer.init(LONG).unwrap();
    for (topic, offset) in [("t", 3), ("u", 4)] {
        producer.commit_offset("g", topic, 0, offset).unwrap();
    }
    producer.end(Marker::Commit).unwrap();
    let topic_id = cluster.shared.state.lock().topics["t"].id;
    let mut raw = Raw::new(&cluster, 1);
    for version in OffsetFetchRequest::VERSIONS {
        for all in [false, true] {
            let all = all && version >= 2;
            let older = OffsetFetchRequestTopic { name: "t".into(), partition_indexes: vec![0, 1] };
            let newer = OffsetFetchRequestTopics { name: "t".into(), topic_id, partition_indexes: vec![0, 1] };
            let group = OffsetFetchRequestGroup {
                group_id: "g".into(),
                topics: (!all).then(|| vec![newer]),
                ..Default::default()
            };
            let request = match version {
                ..8 => OffsetFetchRequest {
                    group_id: "g".into(),
                    topics: (!all).then(|| vec![older]),
                    ..Default::default()
                },
                8.. => OffsetFetchRequest { groups: vec![group], ..Default::default() },
            };
            let response = raw.call(&request, version);
            let mut found: Vec<(i32, i64)> = Vec::new();
            for topic in response.topics {
                found.extend(topic.partitions.iter().map(|p| (p.partition_index, p.committed_offset)));
            }
            for topic in response.groups.into_iter().flat_map(|group| group.topics) {
                found.extend(topic.partitions.iter().map(|p| (p.partition_index, p.committed_offset)));
            }
            let expected = if all { [(0, 3), (0, 4)] } else { [(0, 3), (1, -1)] };
            assert_eq!(found, expected, "version {version}");
        }
    }
    let unknown =
        OffsetFetchRequestTopics { topic_id: Uuid([9; 16]), partition_indexes: vec![0], ..Default::default() };
    let group = OffsetFetchRequestGroup { group_id: "g".into(), topics: Some(vec![unknown]), ..Default::default() };
    let response = raw.call(&OffsetFetchRequest { groups: vec![group], ..Default::default() }, 10);
    assert_eq!(response.groups[0].topics[0].partitions[0].error_code, ErrorCode::UNKNOWN_TOPIC_ID.0);
}
