//! Produce.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Call, HOST, Injected, Named, Reply, Serve};
use crate::error::ErrorCode;
use crate::protocol::messages::produce::{
    BatchIndexAndErrorMessage, LeaderIdAndEpoch, NodeEndpoint, PartitionProduceData, PartitionProduceResponse,
    TopicProduceData, TopicProduceResponse,
};
use crate::protocol::messages::{ProduceRequest, ProduceResponse};
use crate::protocol::wire::{Records, Uuid};
use crate::record::batch::BatchHeader;
use crate::record::reader::DecodedBatch;
use crate::testing::log::{AppendRules, LogPosition};
use crate::testing::seen::{SeenBatch, SeenTransaction};
use crate::testing::state::{FakeState, FakeTopic, TopicRules};
use crate::testing::transactions::Addition;
use crate::testing::validate::{self, Checked, Refusal};
use crate::testing::versions::KafkaVersion;
use crate::time::wall_clock_ms;
use crate::topic::{BrokerId, ProducerIdAndEpoch};

/// The last version before transactions V2 (KIP-890).
const LAST_V1: i16 = 11;
/// The last version that does not know TRANSACTION_ABORTABLE.
const LAST_WITHOUT_ABORTABLE: i16 = 10;

impl ProduceRequest {
    /// The partitions, each with its topic's name. The name is empty if the topic's id is not known.
    fn partitions<'r>(&'r self, state: &FakeState) -> impl Iterator<Item = (Arc<str>, &'r PartitionProduceData)> {
        let named = |topic: &'r TopicProduceData| {
            let name = name_of(topic, state).unwrap_or_default();
            topic.partition_data.iter().map(move |partition| (Arc::clone(&name), partition))
        };
        self.topic_data.iter().flat_map(named)
    }

    fn respond(
        &self,
        mut answer: impl FnMut(&TopicProduceData, &PartitionProduceData) -> PartitionProduceResponse,
    ) -> ProduceResponse {
        let responses = self.topic_data.iter().map(|topic| TopicProduceResponse {
            name: topic.name.clone(),
            topic_id: topic.topic_id,
            partition_responses: topic.partition_data.iter().map(|partition| answer(topic, partition)).collect(),
        });
        ProduceResponse { responses: responses.collect(), ..Default::default() }
    }

    /// Appends without checks.
    fn swallow(&self, call: &Call<'_>) -> ProduceResponse {
        let mut state = call.shared.state.lock();
        let response = self.respond(|topic, partition| {
            let written = name_of(topic, &state).ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION).and_then(|name| {
                let known = state.topics.get_mut(&name).and_then(|topic| topic.partition_mut(partition.index));
                let known = known.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
                if known.leader != Some(call.broker) {
                    return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER);
                }
                let (_, header) = validate::frame(&partition.records).map_err(|refusal| refusal.code)?;
                let appended = known.log.swallow(&header);
                if let (Some(id), true) = (&self.transactional_id, header.attributes.is_transactional()) {
                    join(&mut state, id, call.version, header.identity, (name, partition.index))?;
                }
                Ok(appended)
            });
            match written {
                Ok(appended) => accepted(partition.index, appended, 0),
                Err(code) => refused(partition.index, code.into()),
            }
        });
        drop(state);
        call.shared.watch_transactions();
        response
    }

    /// Why a request with transactional batches is refused as a whole (`KafkaApis.handleProduceRequest`,
    /// `ReplicaManager.handleProduceAppend`).
    fn transaction_fault(&self, state: &FakeState, batches: &[Result<Checked<'_>, Refusal>]) -> Option<ErrorCode> {
        let transactional = |batch: &Checked<'_>| batch.header.attributes.is_transactional();
        let mut producers = batches.iter().flatten().filter(|batch| transactional(batch)).map(|b| b.header.identity);
        let first = producers.next()?;
        let is_allowed = |id: &String| !state.denied_transactional_ids.contains(id);
        if !self.transactional_id.as_ref().is_some_and(is_allowed) {
            return Some(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        producers.any(|other| other != first).then_some(ErrorCode::INVALID_PRODUCER_ID_MAPPING)
    }

    fn write(&self, call: &mut Call<'_>) -> ProduceResponse {
        // Batches are decoded before the lock is taken, because that takes long.
        let mut checked: Vec<Result<Checked<'_>, Refusal>> = Vec::new();
        for partition in self.topic_data.iter().flat_map(|topic| &topic.partition_data) {
            checked.push(validate::check(&partition.records, call.version, call.decompressor));
        }
        let now = wall_clock_ms();
        let (injected, version, broker) = (call.injected.take(), call.version, call.broker);
        let kafka = call.settings().version;
        let mut seen = BTreeSet::new();
        let response = call.change(|state| {
            if let Some(code) = self.transaction_fault(state, &checked) {
                if self.transactional_id.as_ref().is_none_or(|id| !state.denied_transactional_ids.contains(id)) {
                    state.refuse(format!("Produce {version}, transactional: {code}"));
                }
                return self.respond(|_, partition| refused(partition.index, code.into()));
            }
            if self.transactional_id.is_some() {
                state.check_version::<Self>(version, LAST_V1);
            }
            let mut checked = checked.into_iter();
            let mut leaders = BTreeSet::new();
            let mut refusals = Vec::new();
            let mut response = self.respond(|topic, partition| {
                let batch = checked.next().unwrap_or_else(|| Err(ErrorCode::UNKNOWN_SERVER_ERROR.into()));
                let name = name_of(topic, state);
                let injected = injected
                    .as_ref()
                    .filter(|injected| injected.on.names(name.as_deref().unwrap_or_default(), Some(partition.index)));
                let written = match injected {
                    Some(Injected { code, applied: false, .. }) => {
                        // A leader that fails to append has already noted the producer that wants to begin a
                        // transaction.
                        let known = name.as_ref().and_then(|name| state.topics.get_mut(name));
                        let known = known.and_then(|topic| topic.partition_mut(partition.index));
                        if let (Some(known), Ok(batch), false) = (known, &batch, code.refreshes_metadata())
                            && batch.header.attributes.is_transactional()
                        {
                            known.log.begin_transaction(&batch.header);
                        }
                        Err((*code).into())
                    }
                    _ if !seen.insert((topic.name.clone(), topic.topic_id, partition.index)) => {
                        Err(Refusal::new(ErrorCode::INVALID_REQUEST, "the partition is in the request twice"))
                    }
                    _ => {
                        let transactional_id = self.transactional_id.as_deref();
                        let (acks, index) = (self.acks, partition.index);
                        let target = ProduceTarget { broker, acks, kafka, now, index, transactional_id, version };
                        let written = target.append(state, topic, batch);
                        if let Err(refusal) = &written {
                            // A correct transactional producer may be fenced.
                            let is_fenced = refusal.code == ErrorCode::INVALID_PRODUCER_EPOCH;
                            if !(is_fenced && transactional_id.is_some()) {
                                note(&mut refusals, topic, partition.index, version, refusal);
                            }
                        }
                        match injected {
                            Some(injected) => written.and(Err(injected.code.into())),
                            None => written,
                        }
                    }
                };
                match written {
                    Ok((appended, start_offset)) => accepted(partition.index, appended, start_offset),
                    Err(refusal) => {
                        let moved = refusal.code == ErrorCode::NOT_LEADER_OR_FOLLOWER;
                        let mut answer = refused(partition.index, refusal);
                        let known = name.and_then(|name| state.topics.get(&name)?.partition(partition.index));
                        if let (true, 10.., Some(known)) = (moved, version, known) {
                            answer.current_leader =
                                LeaderIdAndEpoch { leader_id: known.leader_id(), leader_epoch: known.leader_epoch };
                            leaders.extend(known.leader);
                        }
                        answer
                    }
                }
            });
            refusals.into_iter().for_each(|text| state.refuse(text));
            response.node_endpoints = endpoints(state, &leaders);
            response
        });
        if self.transactional_id.is_some() {
            call.shared.watch_transactions();
        }
        response
    }
}

impl Serve for ProduceRequest {
    const ANSWERS_BY_PARTITION: bool = true;

    fn named(&self, state: &FakeState) -> Vec<Named> {
        self.partitions(state).map(|(topic, partition)| (topic, Some(partition.index))).collect()
    }

    fn batches(&self, state: &FakeState) -> Vec<SeenBatch> {
        let seen = |(topic, partition): (Arc<str>, &PartitionProduceData)| match &partition.records {
            Records::Inline(bytes) => SeenBatch::new(topic, partition.index, bytes),
            _ => None,
        };
        self.partitions(state).filter_map(seen).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<ProduceResponse> {
        let mut partitions = self.topic_data.iter().flat_map(|topic| &topic.partition_data);
        if partitions.any(|partition| partition.records == Records::Null) {
            call.change(|state| state.refuse("Produce: a partition's records are null".into()));
            return Reply::Close;
        }
        let response = if !matches!(self.acks, -1..=1) {
            let message = format!("acks {}", self.acks);
            call.change(|state| state.refuse(message));
            self.refuse(call, ErrorCode::INVALID_REQUIRED_ACKS)
        } else if call.settings().sink && call.injected.is_none() {
            self.swallow(call)
        } else {
            self.write(call)
        };
        if self.acks != 0 {
            return Reply::Answer(response);
        }
        // Only by closing the connection can a broker tell a client that does not wait for answers.
        let partitions = response.responses.iter().flat_map(|topic| &topic.partition_responses);
        let failed = partitions.into_iter().any(|partition| partition.error_code != 0);
        if failed { Reply::Close } else { Reply::Silence }
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> ProduceResponse {
        self.respond(|_, partition| refused(partition.index, code.into()))
    }

    fn throttle(response: &mut ProduceResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn transaction(&self) -> Option<SeenTransaction> {
        let transactional_id = Some(self.transactional_id.clone()?);
        Some(SeenTransaction { transactional_id, ..Default::default() })
    }
}

/// A partition that a request writes to, and the request's fields that matter for it.
struct ProduceTarget<'r> {
    transactional_id: Option<&'r str>,
    version: i16,
    broker: BrokerId,
    acks: i16,
    kafka: KafkaVersion,
    now: i64,
    index: i32,
}

impl ProduceTarget<'_> {
    /// The broker's checks, in the broker's order (`KafkaApis.handleProduceRequest`, `ReplicaManager.appendRecords`,
    /// `UnifiedLog.append`), and the append. Returns also the log's start offset.
    fn append(
        &self,
        state: &mut FakeState,
        topic: &TopicProduceData,
        batch: Result<Checked<'_>, Refusal>,
    ) -> Result<(LogPosition, i64), Refusal> {
        let name = name_of(topic, state).ok_or(ErrorCode::UNKNOWN_TOPIC_ID)?;
        if state.denied_topics.contains(&*name) {
            return Err(ErrorCode::TOPIC_AUTHORIZATION_FAILED.into());
        }
        if state.topics.get(&name).is_none_or(|topic| topic.partition(self.index).is_none()) {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
        }
        let batch = batch?;
        // Before KIP-679 a producer needed a separate permission to be idempotent.
        if state.cluster_denied && self.kafka < KafkaVersion::V2_8 && batch.header.identity.is_some() {
            return Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED.into());
        }
        self.begin_transaction(state, &name, &batch.header)?;
        let alive: BTreeSet<BrokerId> = state.alive().map(|(id, _)| id).collect();
        let Some(FakeTopic { partitions, rules, min_in_sync_unmet, .. }) = state.topics.get_mut(&name) else {
            return Err(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION.into());
        };
        let partition = usize::try_from(self.index).ok().and_then(|index| partitions.get_mut(index));
        let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if partition.leader != Some(self.broker) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER.into());
        }
        let in_sync = partition.replicas.iter().filter(|replica| alive.contains(replica)).count();
        if self.acks == -1 && (*min_in_sync_unmet || in_sync < rules.min_in_sync) {
            let message = format!("{in_sync} replicas are in sync, {} must be", rules.min_in_sync);
            return Err(Refusal::new(ErrorCode::NOT_ENOUGH_REPLICAS, message));
        }
        let size = batch.bytes.len();
        if size > rules.max_message_bytes {
            let message = format!("the batch has {size} bytes, the limit is {}", rules.max_message_bytes);
            return Err(Refusal::new(ErrorCode::MESSAGE_TOO_LARGE, message));
        }
        let log_start_offset = partition.log.start_offset;
        let in_log = |refusal: Refusal| match refusal.code {
            ErrorCode::CORRUPT_MESSAGE => refusal,
            _ => Refusal { log_start_offset, ..refusal },
        };
        let content = batch.content.map_err(in_log)?;
        check_records(&content, rules, self.now).map_err(in_log)?;
        let append_rules = AppendRules {
            leader_epoch: partition.leader_epoch,
            log_append_time: rules.log_append_time.then_some(self.now),
            unknown_producer_starts_at_zero: self.kafka < KafkaVersion::V2_8,
            transaction_starts_at_zero: self.version > LAST_V1,
        };
        let appended = partition.log.append(batch.bytes, &batch.header, append_rules).map_err(in_log)?;
        Ok((appended, log_start_offset))
    }
}

impl ProduceTarget<'_> {
    /// Before the first batch of a transaction: adds the partition to the transaction, or checks that it was added.
    /// Brokers before 3.6 do not check, and a client that does not add the partition leaves a transaction open for
    /// ever; here it is refused in any case.
    fn begin_transaction(&self, state: &mut FakeState, name: &Arc<str>, header: &BatchHeader) -> Result<(), Refusal> {
        let (Some(id), true) = (self.transactional_id, header.attributes.is_transactional()) else {
            return Ok(());
        };
        let partition = state.topics.get_mut(name).and_then(|topic| topic.partition_mut(self.index));
        let partition = partition.ok_or(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)?;
        if partition.leader != Some(self.broker) {
            return Err(ErrorCode::NOT_LEADER_OR_FOLLOWER.into());
        }
        if partition.log.has_transaction(header.identity) {
            return Ok(());
        }
        partition.log.begin_transaction(header);
        let joined = join(state, id, self.version, header.identity, (Arc::clone(name), self.index));
        joined.map_err(|code| match code {
            ErrorCode::INVALID_TXN_STATE => Refusal::new(code, "Partition was not added to the transaction"),
            code => code.into(),
        })
    }
}

/// Asks the coordinator, and turns its errors into those that a producer gets (`AddPartitionsToTxnManager`).
fn join(
    state: &mut FakeState,
    id: &str,
    version: i16,
    producer: ProducerIdAndEpoch,
    partition: (Arc<str>, i32),
) -> Result<(), ErrorCode> {
    let addition = Addition::Partitions(BTreeSet::from([partition]));
    let joined = match version {
        ..=LAST_V1 => state.transactions.verify(id, producer, &addition),
        _ => state.transactions.add(id, producer, addition),
    };
    joined.map_err(|code| match code {
        ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::TRANSACTION_ABORTABLE if version <= LAST_WITHOUT_ABORTABLE => ErrorCode::INVALID_TXN_STATE,
        // Older clients would not retry after it.
        ErrorCode::CONCURRENT_TRANSACTIONS if version <= LAST_V1 => ErrorCode::NOT_ENOUGH_REPLICAS,
        code => code,
    })
}

/// `LogValidator.validateKey` and `validateTimestamp`.
fn check_records(batch: &DecodedBatch, rules: &TopicRules, now: i64) -> Result<(), Refusal> {
    let latest = now.saturating_add(rules.timestamp_after_max_ms);
    let earliest = now.saturating_sub(rules.timestamp_before_max_ms);
    let times_matter =
        !rules.log_append_time && (batch.max_timestamp > latest || rules.timestamp_before_max_ms != i64::MAX);
    if !rules.compacted && !times_matter {
        return Ok(());
    }
    let (mut errors, mut bad_time) = (Vec::new(), false);
    for (index, record) in (0..).zip(batch.records()) {
        let record = record.map_err(|error| Refusal::new(ErrorCode::INVALID_RECORD, error.to_string()))?;
        if rules.compacted && record.key.is_none() {
            errors.push((index, "Compacted topic cannot accept message without key.".to_owned()));
        } else if times_matter && !(earliest..=latest).contains(&record.timestamp) {
            bad_time = true;
            errors.push((index, format!("Timestamp {} is out of range [{earliest}, {latest}]", record.timestamp)));
        }
    }
    if errors.is_empty() {
        return Ok(());
    }
    let code = if bad_time { ErrorCode::INVALID_TIMESTAMP } else { ErrorCode::INVALID_RECORD };
    let message = "One or more records have been rejected".to_owned();
    Err(Refusal { message: Some(message), record_errors: errors, ..code.into() })
}

/// Notes a refusal that a correct client does not cause.
fn note(refusals: &mut Vec<String>, topic: &TopicProduceData, index: i32, version: i16, refusal: &Refusal) {
    let suspicious = [
        ErrorCode::CORRUPT_MESSAGE,
        ErrorCode::INVALID_RECORD,
        ErrorCode::INVALID_REQUEST,
        ErrorCode::OUT_OF_ORDER_SEQUENCE_NUMBER,
        ErrorCode::INVALID_PRODUCER_EPOCH,
        ErrorCode::INVALID_TXN_STATE,
        ErrorCode::TRANSACTION_ABORTABLE,
        ErrorCode::UNSUPPORTED_COMPRESSION_TYPE,
        ErrorCode::UNKNOWN_SERVER_ERROR,
    ];
    if suspicious.contains(&refusal.code) {
        let topic = if topic.name.is_empty() { format!("{:?}", topic.topic_id) } else { topic.name.clone() };
        let message = refusal.message.as_deref().unwrap_or_default();
        refusals.push(format!("Produce {version} to {topic}-{index}: {}: {message}", refusal.code));
    }
}

/// The name of a topic that the request names, which may be unknown to the cluster; `None` for an unknown id.
fn name_of(topic: &TopicProduceData, state: &FakeState) -> Option<Arc<str>> {
    if topic.topic_id == Uuid::default() {
        return Some(topic.name.as_str().into());
    }
    state.name_of(topic.topic_id).cloned()
}

fn endpoints(state: &FakeState, brokers: &BTreeSet<BrokerId>) -> Vec<NodeEndpoint> {
    let chosen = state.alive().filter(|(id, _)| brokers.contains(id));
    chosen
        .map(|(id, broker)| NodeEndpoint { node_id: id.0, host: HOST.into(), port: broker.port.into(), rack: None })
        .collect()
}

fn accepted(index: i32, appended: LogPosition, log_start_offset: i64) -> PartitionProduceResponse {
    PartitionProduceResponse {
        index,
        base_offset: appended.base_offset,
        log_append_time_ms: appended.log_append_time,
        log_start_offset,
        ..Default::default()
    }
}

fn refused(index: i32, refusal: Refusal) -> PartitionProduceResponse {
    let record_error =
        |(batch_index, message)| BatchIndexAndErrorMessage { batch_index, batch_index_error_message: Some(message) };
    PartitionProduceResponse {
        index,
        error_code: refusal.code.0,
        base_offset: -1,
        log_start_offset: refusal.log_start_offset,
        record_errors: refusal.record_errors.into_iter().map(record_error).collect(),
        error_message: refusal.message,
        ..Default::default()
    }
}
