//! A transactional producer whose requests a test sends one by one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use super::client::{Client, PAUSE, REQUEST_TIMEOUT, missing};
use super::groups::{CommittedOffset, known_epoch};
use super::seen::Marker;
use super::transactions::TransactionVersion;
use crate::cluster::coordinator::CoordinatorKey;
use crate::error::{Error, ErrorCode, Result};
use crate::protocol::api::Request;
use crate::protocol::messages::add_partitions_to_txn::AddPartitionsToTxnTopic;
use crate::protocol::messages::find_coordinator::KeyType;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics,
};
use crate::protocol::messages::produce::{PartitionProduceData, TopicProduceData};
use crate::protocol::messages::txn_offset_commit::{TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic};
use crate::protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, OffsetFetchRequest,
    ProduceRequest, TxnOffsetCommitRequest,
};
use crate::protocol::wire::Records;
use crate::record::Headers;
use crate::record::batch::BatchWriter;
use crate::record::compression::{Compression, Compressor};
use crate::time::{self, wall_clock_ms, wire_ms};
use crate::topic::{BrokerId, ProducerIdAndEpoch};

/// From version 13 on Produce names topics by id, from 10 on OffsetFetch does.
const PRODUCE_BY_NAME: i16 = 12;
const OFFSET_FETCH_BY_NAME: i16 = 9;

/// A transactional producer that sends a request only when a test says so, whether the request is right or wrong. It is
/// for tests of clusters, and plays the other instance in tests of producers: the one that fences, or the zombie.
///
/// It finds coordinators and leaders, and repeats a request that is answered with a retriable error until its time is
/// over, unless [`retries`](Self::retries) says otherwise. Every other error is `Broker`, with the cluster's code.
///
/// *Thread*: one at a time; it has no threads of its own.
///
/// ```
/// use std::time::Duration;
///
/// use kafka_blocking::ErrorCode;
/// use kafka_blocking::testing::{FakeCluster, Marker};
/// use kafka_blocking::testing::internal_unstable::RawProducer;
///
/// # fn main() -> kafka_blocking::Result<()> {
/// let cluster = FakeCluster::builder().topic("orders", 1).start()?;
/// let mut former = RawProducer::connect(cluster.bootstrap(), "shop")?;
/// former.init(Duration::from_secs(60))?;
/// former.send("orders", 0, &["one coffee"])?;
///
/// // Another instance: the former one's transaction is aborted, and the former one is fenced.
/// let mut latter = RawProducer::connect(cluster.bootstrap(), "shop")?;
/// latter.init(Duration::from_secs(60))?;
/// assert_eq!(former.end(Marker::Commit).unwrap_err().code(), Some(ErrorCode::PRODUCER_FENCED));
/// assert!(cluster.committed_records("orders", 0)?.is_empty());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct RawProducer {
    client: Client,
    id: String,
    version: Option<TransactionVersion>,
    retries: bool,
    /// The identity in its requests: the last one from the cluster, unless a test sets another.
    pub producer: ProducerIdAndEpoch,
    /// The next sequence of each partition.
    sequences: BTreeMap<(String, i32), i32>,
    generation: (i32, String),
}

impl RawProducer {
    /// Finds a cluster by the addresses of some of its brokers.
    ///
    /// *Blocks* at most a minute. *Errors*: `Config` for a bad address, `Timeout(Wait)`.
    pub fn connect<S: AsRef<str>>(
        bootstrap: impl IntoIterator<Item = S>,
        transactional_id: impl Into<String>,
    ) -> Result<Self> {
        Ok(Self {
            client: Client::connect(bootstrap)?,
            id: transactional_id.into(),
            version: None,
            retries: true,
            producer: ProducerIdAndEpoch::NONE,
            sequences: BTreeMap::new(),
            generation: (-1, String::new()),
        })
    }

    /// Which protocol it follows, whatever the cluster says. Default: what the cluster has finalized.
    pub fn version(mut self, version: TransactionVersion) -> Self {
        self.version = Some(version);
        self
    }

    /// Whether it repeats a request that is answered with a retriable error. Default: yes.
    pub fn retries(mut self, retries: bool) -> Self {
        self.retries = retries;
        self
    }

    /// The member and generation for which it commits offsets. Default: none.
    pub fn member(mut self, generation: i32, member: impl Into<String>) -> Self {
        self.generation = (generation, member.into());
        self
    }

    /// The client through which it finds brokers.
    pub fn client(&mut self) -> &mut Client {
        &mut self.client
    }

    /// InitProducerId of a new instance.
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn init(&mut self, timeout: Duration) -> Result<ProducerIdAndEpoch> {
        self.init_with(timeout, ProducerIdAndEpoch::NONE)
    }

    /// InitProducerId of an instance that says which identity it has (KIP-360).
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn init_with(&mut self, timeout: Duration, known: ProducerIdAndEpoch) -> Result<ProducerIdAndEpoch> {
        let request = InitProducerIdRequest {
            transactional_id: Some(self.id.clone()),
            transaction_timeout_ms: wire_ms(timeout),
            producer_id: known.producer_id,
            producer_epoch: known.epoch,
        };
        self.repeat(|this, deadline| {
            let response = this.call_coordinator(KeyType::Transaction, None, &request, i16::MAX, deadline)?;
            checked(response.error_code)?;
            let given = ProducerIdAndEpoch { producer_id: response.producer_id, epoch: response.producer_epoch };
            this.adopt(given);
            Ok(given)
        })
    }

    /// AddPartitionsToTxn, which only [`TransactionVersion::V1`] needs.
    ///
    /// *Errors*: `Broker` with the first code of a partition, `Timeout(Wait)`.
    pub fn add_partitions(&mut self, topic: &str, partitions: &[i32]) -> Result<()> {
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.id.clone(),
            v3_and_below_producer_id: self.producer.producer_id,
            v3_and_below_producer_epoch: self.producer.epoch,
            v3_and_below_topics: vec![AddPartitionsToTxnTopic { name: topic.into(), partitions: partitions.to_vec() }],
        };
        self.repeat(|this, deadline| {
            let response = this.call_coordinator(KeyType::Transaction, None, &request, i16::MAX, deadline)?;
            let topics = response.results_by_topic_v3_and_below.iter();
            let results = topics.flat_map(|topic| &topic.results_by_partition);
            results.map(|result| result.partition_error_code).try_for_each(checked)
        })
    }

    /// Writes a batch in the transaction, with the partition's next sequence, and returns its offset.
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn send(&mut self, topic: &str, partition: i32, values: &[&str]) -> Result<i64> {
        let key = (topic.to_owned(), partition);
        let sequence = self.sequences.get(&key).copied().unwrap_or(0);
        let offset = self.send_at(topic, partition, sequence, values)?;
        let count = i32::try_from(values.len()).map_err(|_| Error::invalid("too many records"))?;
        self.sequences.insert(key, sequence.wrapping_add(count) & i32::MAX);
        Ok(offset)
    }

    /// [`send`](Self::send) with any sequence.
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn send_at(&mut self, topic: &str, partition: i32, sequence: i32, values: &[&str]) -> Result<i64> {
        let mut writer = BatchWriter::new(Vec::new());
        for value in values {
            writer.append(wall_clock_ms(), None, Some(value.as_bytes()), &Headers::new())?;
        }
        let mut sealed = writer.seal(&mut Compressor::new(Compression::None))?;
        sealed.stamp(self.producer, sequence, true);
        let records = Records::Inline(sealed.as_slice().to_vec().into());
        let request = ProduceRequest {
            transactional_id: Some(self.id.clone()),
            acks: -1,
            timeout_ms: wire_ms(REQUEST_TIMEOUT),
            topic_data: vec![TopicProduceData {
                name: topic.into(),
                partition_data: vec![PartitionProduceData { index: partition, records }],
                ..Default::default()
            }],
        };
        self.repeat(|this, deadline| {
            let limit = if this.is_v2(deadline)? { PRODUCE_BY_NAME } else { 11 };
            let leader = this.client.leader_for(topic, partition, deadline)?;
            let response = this.call(leader, &request, limit, deadline)?;
            let answers = response.responses.into_iter().flat_map(|topic| topic.partition_responses);
            let answer = answers.into_iter().next().ok_or_else(|| missing("Produce"))?;
            this.client.checked_by_leader(answer.error_code, topic, partition)?;
            Ok(answer.base_offset)
        })
    }

    /// AddOffsetsToTxn, which only [`TransactionVersion::V1`] needs.
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn add_offsets(&mut self, group: &str) -> Result<()> {
        let request = AddOffsetsToTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.producer.producer_id,
            producer_epoch: self.producer.epoch,
            group_id: group.into(),
        };
        self.repeat(|this, deadline| {
            let response = this.call_coordinator(KeyType::Transaction, None, &request, i16::MAX, deadline)?;
            checked(response.error_code)
        })
    }

    /// TxnOffsetCommit of one offset.
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn commit_offset(&mut self, group: &str, topic: &str, partition: i32, offset: i64) -> Result<()> {
        let (generation_id, member_id) = self.generation.clone();
        let request = TxnOffsetCommitRequest {
            transactional_id: self.id.clone(),
            group_id: group.into(),
            producer_id: self.producer.producer_id,
            producer_epoch: self.producer.epoch,
            generation_id,
            member_id,
            group_instance_id: None,
            topics: vec![TxnOffsetCommitRequestTopic {
                name: topic.into(),
                partitions: vec![TxnOffsetCommitRequestPartition {
                    partition_index: partition,
                    committed_offset: offset,
                    committed_metadata: Some(String::new()),
                    ..Default::default()
                }],
            }],
        };
        self.repeat(|this, deadline| {
            let limit = if this.is_v2(deadline)? { i16::MAX } else { 4 };
            let response = this.call_coordinator(KeyType::Group, Some(group), &request, limit, deadline)?;
            let topics = response.topics.iter().flat_map(|topic| &topic.partitions);
            let answer = topics.into_iter().next().ok_or_else(|| missing("TxnOffsetCommit"))?;
            checked(answer.error_code)
        })
    }

    /// EndTxn. In [`TransactionVersion::V2`] the producer then has the identity of the next transaction.
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn end(&mut self, how: Marker) -> Result<()> {
        let request = EndTxnRequest {
            transactional_id: self.id.clone(),
            producer_id: self.producer.producer_id,
            producer_epoch: self.producer.epoch,
            committed: how == Marker::Commit,
        };
        self.repeat(|this, deadline| {
            let limit = if this.is_v2(deadline)? { i16::MAX } else { 4 };
            let response = this.call_coordinator(KeyType::Transaction, None, &request, limit, deadline)?;
            checked(response.error_code)?;
            let next = ProducerIdAndEpoch { producer_id: response.producer_id, epoch: response.producer_epoch };
            if next.is_some() {
                this.adopt(next);
            }
            Ok(())
        })
    }

    /// OffsetFetch of one partition, which waits for the end of transactions that may replace the offset.
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn committed_offset(&mut self, group: &str, topic: &str, partition: i32) -> Result<Option<CommittedOffset>> {
        self.fetch_offset(group, topic, partition, true)
    }

    /// OffsetFetch of one partition, without waiting for open transactions that may replace the offset.
    ///
    /// *Errors*: `Broker`, `Timeout(Wait)`.
    pub fn unstable_offset(&mut self, group: &str, topic: &str, partition: i32) -> Result<Option<CommittedOffset>> {
        self.fetch_offset(group, topic, partition, false)
    }

    fn fetch_offset(
        &mut self,
        group: &str,
        topic: &str,
        partition: i32,
        stable: bool,
    ) -> Result<Option<CommittedOffset>> {
        self.repeat(|this, deadline| {
            let broker = this.coordinator(KeyType::Group, group, deadline)?;
            let connection = this.client.connection(broker, deadline)?;
            let version = connection.versions().choose_at_most::<OffsetFetchRequest>(OFFSET_FETCH_BY_NAME)?;
            let (name, partition_indexes) = (topic.to_owned(), vec![partition]);
            let request = if version < 8 {
                OffsetFetchRequest {
                    group_id: group.into(),
                    topics: Some(vec![OffsetFetchRequestTopic { name, partition_indexes }]),
                    require_stable: stable && version >= 7,
                    ..Default::default()
                }
            } else {
                let topic = OffsetFetchRequestTopics { name, partition_indexes, ..Default::default() };
                let topics = Some(vec![topic]);
                OffsetFetchRequest {
                    groups: vec![OffsetFetchRequestGroup { group_id: group.into(), topics, ..Default::default() }],
                    require_stable: stable,
                    ..Default::default()
                }
            };
            let response = this.client.call_at(broker, &request, version, deadline)?;
            checked(response.error_code)?;
            let older = response.topics.into_iter().flat_map(|topic| topic.partitions);
            let older = older.map(|p| (p.error_code, p.committed_offset, p.committed_leader_epoch, p.metadata));
            for group in &response.groups {
                checked(group.error_code)?;
            }
            let topics = response.groups.into_iter().flat_map(|group| group.topics);
            let newer = topics.flat_map(|topic| topic.partitions);
            let newer = newer.map(|p| (p.error_code, p.committed_offset, p.committed_leader_epoch, p.metadata));
            let (code, offset, leader_epoch, metadata) =
                older.chain(newer).next().ok_or_else(|| missing("OffsetFetch"))?;
            checked(code)?;
            Ok((offset >= 0).then_some(CommittedOffset { offset, leader_epoch: known_epoch(leader_epoch), metadata }))
        })
    }

    fn adopt(&mut self, producer: ProducerIdAndEpoch) {
        self.producer = producer;
        self.sequences.clear();
    }

    fn is_v2(&mut self, deadline: Instant) -> Result<bool> {
        match self.version {
            Some(version) => Ok(version >= TransactionVersion::V2),
            None => {
                let broker = self.coordinator(KeyType::Transaction, &self.id.clone(), deadline)?;
                Ok(self.client.connection(broker, deadline)?.versions().has_transactions_v2())
            }
        }
    }

    fn coordinator(&mut self, key_type: KeyType, name: &str, deadline: Instant) -> Result<BrokerId> {
        let key = CoordinatorKey { key_type, name: name.into() };
        self.client.coordinator(&key, deadline)
    }

    fn call_coordinator<R: Request>(
        &mut self,
        key_type: KeyType,
        group: Option<&str>,
        request: &R,
        limit: i16,
        deadline: Instant,
    ) -> Result<R::Response> {
        let key = group.map_or_else(|| self.id.clone(), str::to_owned);
        let broker = self.coordinator(key_type, &key, deadline)?;
        self.call(broker, request, limit, deadline)
    }

    fn call<R: Request>(
        &mut self,
        broker: BrokerId,
        request: &R,
        limit: i16,
        deadline: Instant,
    ) -> Result<R::Response> {
        let version = self.client.connection(broker, deadline)?.versions().choose_at_most::<R>(limit)?;
        self.client.call_at(broker, request, version, deadline)
    }

    fn repeat<T>(&mut self, mut call: impl FnMut(&mut Self, Instant) -> Result<T>) -> Result<T> {
        let deadline = time::deadline(Instant::now(), self.client.timeout);
        loop {
            match call(self, deadline) {
                Err(error) if self.retries && is_retriable(&error) && Instant::now() + PAUSE < deadline => {
                    log::debug!("another attempt after: {error}");
                    std::thread::sleep(PAUSE);
                }
                result => return result,
            }
        }
    }
}

fn is_retriable(error: &Error) -> bool {
    // For some codes the user may repeat the call although the request itself is not retriable.
    error.code().is_some_and(ErrorCode::is_retriable)
}

fn checked(code: i16) -> Result<()> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(Error::broker(code, None)),
    }
}
