//! Internals for this crate's own benches, behind the feature `bench-internals`: thin wrappers, so that the internals
//! stay private. Not part of the interface; anything here may change with any release.

use std::sync::atomic::Ordering;

use crate::bytes::SharedBytes;
use crate::cluster::Snapshot;
use crate::error::{Error, Result};
use crate::net::SENDS;
use crate::protocol::api::Request;
use crate::protocol::frame::FrameWriter;
use crate::protocol::header;
use crate::protocol::messages::fetch::{FetchableTopicResponse, PartitionData};
use crate::protocol::messages::metadata::{MetadataResponseBroker, MetadataResponsePartition, MetadataResponseTopic};
use crate::protocol::messages::produce::{
    PartitionProduceData, PartitionProduceResponse, TopicProduceData, TopicProduceResponse,
};
use crate::protocol::messages::{FetchRequest, FetchResponse, MetadataResponse, ProduceRequest, ProduceResponse};
use crate::protocol::wire::{Records, Uuid};
use crate::record::Record;
use crate::record::batch::{BatchWriter, SealedBytes};
use crate::record::compression::{self, Compression, DEFAULT_MAX_DECOMPRESSED_BYTES};
use crate::record::reader::Batches;
use crate::topic::ProducerIdAndEpoch;

/// When every record here was made, in milliseconds since 1970.
const NOW: i64 = 1_700_000_000_000;

/// How many system calls have written to connections of this process's clients.
pub fn sends() -> u64 {
    SENDS.load(Ordering::Relaxed)
}

/// An open batch, as a partition has one.
pub struct OpenBatch(BatchWriter);

impl OpenBatch {
    /// An empty batch with room for `capacity` bytes.
    pub fn with_capacity(capacity: usize) -> Self {
        Self(BatchWriter::new(Vec::with_capacity(capacity)))
    }

    /// Encodes a record into the batch.
    pub fn append(&mut self, record: &Record<'_>) -> Result<u32> {
        self.0.append(NOW, record.key.as_deref(), record.value.as_deref(), &record.headers)
    }

    /// Its size in bytes.
    #[expect(clippy::len_without_is_empty, reason = "no bench asks")]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Empties it and keeps its memory.
    pub fn clear(&mut self) {
        let writer = std::mem::replace(&mut self.0, BatchWriter::new(Vec::new()));
        self.0 = BatchWriter::new(writer.into_buffer());
    }

    /// Compresses the records and writes the header, without the CRC, which belongs to the stamp.
    pub fn seal(self, compressor: &mut Compressor) -> Result<SealedBatch> {
        self.0.seal(&mut compressor.0).map(SealedBatch)
    }
}

/// A batch as a sender has it.
pub struct SealedBatch(SealedBytes);

impl SealedBatch {
    /// Writes a producer's identity and a sequence, then the CRC over all of it.
    pub fn stamp(&mut self, base_sequence: i32) {
        self.0.stamp(ProducerIdAndEpoch { producer_id: 1000, epoch: 0 }, base_sequence, false);
    }

    /// What goes over the wire.
    pub fn bytes(&self) -> &[u8] {
        self.0.as_slice()
    }

    /// Decompresses the records, without checking the CRC or any record. Returns how many records there are.
    pub fn decompress(&self, decompressor: &mut Decompressor) -> Result<u32> {
        let batch = self.0.decode(&mut decompressor.0)?;
        let count = batch.count;
        batch.recycle(&mut decompressor.0);
        Ok(count)
    }
}

/// A sender's compressor.
pub struct Compressor(compression::Compressor);

impl Compressor {
    /// A compressor with this setting.
    pub fn new(compression: Compression) -> Self {
        Self(compression::Compressor::new(compression))
    }
}

/// A reader's decompressor.
pub struct Decompressor(compression::Decompressor);

impl Default for Decompressor {
    fn default() -> Self {
        Self(compression::Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES))
    }
}

/// The record batches of one partition in an answer to Fetch.
pub struct Fetched(SharedBytes);

impl From<Vec<u8>> for Fetched {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes.into())
    }
}

/// Decodes all records of all batches. Returns how many they are, and how many bytes their keys and values have.
pub fn read_all(fetched: &Fetched, decompressor: &mut Decompressor) -> Result<(usize, usize)> {
    let (mut records, mut content) = (0, 0);
    for raw in Batches::new(&fetched.0) {
        let batch = raw?.decode(&mut decompressor.0)?;
        for record in batch.records() {
            let record = record?;
            records += 1;
            content += record.key.map_or(0, <[u8]>::len) + record.value.map_or(0, <[u8]>::len);
        }
        batch.recycle(&mut decompressor.0);
    }
    Ok((records, content))
}

/// What a client knows of a cluster.
pub struct Metadata(Snapshot);

impl Metadata {
    /// Three brokers that lead `partitions` partitions of each of these topics.
    pub fn new(topics: &[String], partitions: i32) -> Self {
        let broker = |node_id| MetadataResponseBroker {
            node_id,
            host: "127.0.0.1".to_owned(),
            port: 9092,
            ..MetadataResponseBroker::default()
        };
        let partition = |index| MetadataResponsePartition {
            partition_index: index,
            leader_id: index % 3,
            leader_epoch: 1,
            replica_nodes: vec![0, 1, 2],
            isr_nodes: vec![0, 1, 2],
            ..MetadataResponsePartition::default()
        };
        let topic = |name: &String| MetadataResponseTopic {
            name: Some(name.clone()),
            topic_id: topic_id(),
            partitions: (0..partitions).map(partition).collect(),
            ..MetadataResponseTopic::default()
        };
        let response = MetadataResponse {
            brokers: (0..3).map(broker).collect(),
            topics: topics.iter().map(topic).collect(),
            ..MetadataResponse::default()
        };
        Self(Snapshot::default().merge(response, 12))
    }

    /// The id of the broker that leads a partition.
    pub fn leader(&self, topic: &str, partition: i32) -> Option<i32> {
        self.0.partition(topic, partition)?.leader.map(|broker| broker.0)
    }
}

/// A message of the protocol at one version, as a structure and as a frame.
pub struct Message {
    message: Structure,
    version: i16,
    /// Without its length.
    frame: SharedBytes,
    writer: FrameWriter,
}

enum Structure {
    ProduceRequest(ProduceRequest),
    ProduceResponse(ProduceResponse),
    FetchResponse(FetchResponse),
}

impl Message {
    /// A request that writes a batch of `batch` bytes to each partition of each topic. Like the producer's, it leaves
    /// gaps for the batches when it is encoded; the frame that is decoded holds the batches.
    pub fn produce_request(age: Age, topics: usize, partitions: i32, batch: usize) -> Result<Self> {
        let request = |records: &Records| {
            let partition = |index| PartitionProduceData { index, records: records.clone() };
            let topic = TopicProduceData {
                name: "a.topic.with.a.name".to_owned(),
                topic_id: topic_id(),
                partition_data: (0..partitions).map(partition).collect(),
            };
            ProduceRequest {
                acks: -1,
                timeout_ms: 30_000,
                topic_data: vec![topic; topics],
                ..ProduceRequest::default()
            }
        };
        let version = age.version::<ProduceRequest>();
        let whole = Structure::ProduceRequest(request(&records(batch)));
        let gaps = Structure::ProduceRequest(request(&Records::Spliced(batch)));
        Ok(Self { message: gaps, ..Self::new(whole, version)? })
    }

    /// The answer to such a request.
    pub fn produce_response(age: Age, topics: usize, partitions: i32) -> Result<Self> {
        let partition = |index| PartitionProduceResponse {
            index,
            base_offset: 1_000_000,
            log_start_offset: 0,
            ..PartitionProduceResponse::default()
        };
        let topic = TopicProduceResponse {
            name: "a.topic.with.a.name".to_owned(),
            topic_id: topic_id(),
            partition_responses: (0..partitions).map(partition).collect(),
        };
        let response = ProduceResponse { responses: vec![topic; topics], ..ProduceResponse::default() };
        Self::new(Structure::ProduceResponse(response), age.version::<ProduceRequest>())
    }

    /// An answer that brings a batch of `batch` bytes from each partition of each topic.
    pub fn fetch_response(age: Age, topics: usize, partitions: i32, batch: usize) -> Result<Self> {
        let partition = |partition_index| PartitionData {
            partition_index,
            high_watermark: 1_000_000,
            last_stable_offset: 1_000_000,
            log_start_offset: 0,
            records: records(batch),
            ..PartitionData::default()
        };
        let topic = FetchableTopicResponse {
            topic: "a.topic.with.a.name".to_owned(),
            topic_id: topic_id(),
            partitions: (0..partitions).map(partition).collect(),
        };
        let response = FetchResponse { responses: vec![topic; topics], ..FetchResponse::default() };
        Self::new(Structure::FetchResponse(response), age.version::<FetchRequest>())
    }

    fn new(message: Structure, version: i16) -> Result<Self> {
        let mut new = Self { message, version, frame: SharedBytes::default(), writer: FrameWriter::new() };
        new.encode()?;
        let frame = new.writer.bytes().get(4..).ok_or_else(|| Error::bug("a frame without its length"))?;
        new.frame = frame.to_vec().into();
        Ok(new)
    }

    /// Encodes the message into a frame and returns the frame's size, gaps included.
    pub fn encode(&mut self) -> Result<usize> {
        let (w, version) = (&mut self.writer, self.version);
        match &self.message {
            Structure::ProduceRequest(request) => header::encode_request(w, request, version, 7, Some("bench"))?,
            Structure::ProduceResponse(response) => header::encode_response::<ProduceRequest>(w, response, version, 7)?,
            Structure::FetchResponse(response) => header::encode_response::<FetchRequest>(w, response, version, 7)?,
        }
        Ok(w.total_len())
    }

    /// Decodes the message from its frame and returns how many topics it names. Batches are not copied.
    pub fn decode(&self) -> Result<usize> {
        Ok(match &self.message {
            Structure::ProduceRequest(_) => {
                let (_, reader) = header::decode_request_header(&self.frame)?;
                header::decode_request::<ProduceRequest>(reader, self.version)?.topic_data.len()
            }
            Structure::ProduceResponse(_) => {
                header::decode_response::<ProduceRequest>(self.frame.clone(), self.version)?.1.responses.len()
            }
            Structure::FetchResponse(_) => {
                header::decode_response::<FetchRequest>(self.frame.clone(), self.version)?.1.responses.len()
            }
        })
    }

    /// The version.
    pub fn version(&self) -> i16 {
        self.version
    }
}

/// Which version of a message to use.
#[derive(Clone, Copy, Debug)]
pub enum Age {
    /// The first that this client speaks.
    Oldest,
    /// The last one.
    Newest,
}

impl Age {
    fn version<R: Request>(self) -> i16 {
        match self {
            Self::Oldest => *R::VERSIONS.start(),
            Self::Newest => *R::VERSIONS.end(),
        }
    }
}

fn topic_id() -> Uuid {
    Uuid([7; 16])
}

fn records(size: usize) -> Records {
    Records::Inline(vec![0; size].into())
}
