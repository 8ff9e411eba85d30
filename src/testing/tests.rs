use std::io::{Read, Write};
use std::net::TcpStream;
use std::ops::RangeInclusive;

use super::*;
use crate::protocol::api::{Request, VersionTable};
use crate::protocol::frame::FrameWriter;
use crate::protocol::header::{decode_api_versions, decode_response, encode_request};
use crate::protocol::messages::create_topics::{CreatableTopic, CreatableTopicConfig};
use crate::protocol::messages::delete_topics::DeleteTopicState;
use crate::protocol::messages::fetch::{FetchPartition, FetchTopic, PartitionData};
use crate::protocol::messages::list_offsets::{ListOffsetsPartition, ListOffsetsTopic};
use crate::protocol::messages::metadata::{MetadataRequestTopic, MetadataResponseTopic};
use crate::protocol::messages::produce::{PartitionProduceData, PartitionProduceResponse, TopicProduceData};
use crate::protocol::messages::*;
use crate::protocol::wire::{Records, Uuid};
use crate::record::batch::BatchWriter;
use crate::record::compression::{Compression, Compressor};
use crate::record::{Headers, TimestampType};
use crate::time::wall_clock_ms;
use crate::topic::ProducerIdAndEpoch;

/// More than anything here takes.
const LONG: Duration = Duration::from_secs(20);

/// A client that sends what it is told to.
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
        matches!(self.stream.read(&mut [0; 1]), Ok(0) | Err(_))
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
        [Compression::None, Compression::gzip(), Compression::Snappy, Compression::Lz4, Compression::zstd()];
    for (index, compression) in (0..).zip(compressions) {
        let batch = batch_of(&["a", "b"], compression, ProducerIdAndEpoch::NONE, -1);
        let answer = raw.produce("t", 1, &batch);
        assert_eq!((answer.error_code, answer.base_offset, answer.log_append_time_ms), (0, 2 * index, -1));
    }
    let records = cluster.records("t", 1).unwrap();
    assert_eq!(records.iter().map(|r| r.offset).collect::<Vec<_>>(), (0..10).collect::<Vec<_>>());
    let record = &records[9];
    assert_eq!((record.key_text(), record.value_text(), record.partition), ("k".into(), "b".into(), 1));
    assert_eq!(record.headers, [("h".to_owned(), Some(b"x".to_vec()))]);
    assert_eq!((record.batch_base_offset, record.compression), (8, Compression::zstd()));
    assert_eq!(record.timestamp_type, TimestampType::CreateTime);
    assert_eq!((record.producer, record.sequence), (ProducerIdAndEpoch::NONE, -1));
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
    for (n, sequence) in (13..17).enumerate() {
        assert_eq!(send(3, sequence, &["e"]), (ok, 3 + n as i64));
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
    assert_eq!((last.producer, last.sequence), (identity(7, 4), 0));
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
    let sequences: Vec<_> = cluster.records("t", 0).unwrap().iter().map(|record| record.sequence).collect();
    assert_eq!(sequences, [i32::MAX - 1, i32::MAX, 0, 1]);
}
