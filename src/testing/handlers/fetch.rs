//! Fetch and ListOffsets.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Call, HOST, Named, Reply, Serve};
use crate::bytes::SharedBytes;
use crate::error::ErrorCode;
use crate::protocol::messages::fetch::{
    AbortedTransaction, EpochEndOffset, FetchPartition, FetchTopic, FetchableTopicResponse, LeaderIdAndEpoch,
    NodeEndpoint, PartitionData,
};
use crate::protocol::messages::list_offsets::{
    ListOffsetsPartition, ListOffsetsPartitionResponse, ListOffsetsTopicResponse,
};
use crate::protocol::messages::{FetchRequest, FetchResponse, ListOffsetsRequest, ListOffsetsResponse};
use crate::protocol::wire::{Records, Uuid};
use crate::record::compression::{DEFAULT_MAX_DECOMPRESSED_BYTES, Decompressor};
use crate::record::reader::read_batches;
use crate::testing::log::PartitionLog;
use crate::testing::sessions::Meaning;
use crate::testing::state::{FakePartition, FakeState};
use crate::time;
use crate::topic::BrokerId;

/// The first Fetch version with sessions.
const SESSIONS: i16 = 7;
/// The isolation level that sees only committed records.
const READ_COMMITTED: i8 = 1;

/// What a fetch found, before the batches are put together.
struct Found {
    bytes: usize,
    failed: bool,
    has_diverged: bool,
    topics: Vec<(FetchTopic, Vec<FoundPartition>)>,
    endpoints: Vec<NodeEndpoint>,
}

struct FoundPartition {
    data: PartitionData,
    batches: Vec<SharedBytes>,
}

impl FetchRequest {
    /// What there is of these topics.
    fn look(&self, topics: &[FetchTopic], state: &FakeState, broker: BrokerId, version: i16) -> Found {
        let mut found =
            Found { bytes: 0, failed: false, has_diverged: false, topics: Vec::new(), endpoints: Vec::new() };
        let mut leaders = BTreeSet::new();
        let mut left = usize::try_from(self.max_bytes).unwrap_or(0);
        for topic in topics {
            let name = name_of(topic, state);
            let mut partitions = Vec::new();
            for wanted in &topic.partitions {
                let mut data = PartitionData { partition_index: wanted.partition, ..Default::default() };
                data.high_watermark = -1;
                let mut batches = Vec::new();
                match leads(state, name.as_ref(), wanted.partition, wanted.current_leader_epoch, broker) {
                    Ok(partition) => {
                        let log = &partition.log;
                        if let Some(diverging) = diverges(log, wanted) {
                            data.high_watermark = log.end_offset;
                            data.diverging_epoch = diverging;
                            found.has_diverged = true;
                        } else if (log.start_offset..=log.end_offset).contains(&wanted.fetch_offset) {
                            data.high_watermark = log.end_offset;
                            data.last_stable_offset = log.stable_offset();
                            data.log_start_offset = log.start_offset;
                            // The first batch of the answer may be larger than the limits, because otherwise no client
                            // could read it.
                            let committed = self.isolation_level == READ_COMMITTED;
                            let end = if committed { data.last_stable_offset } else { log.end_offset };
                            let room = Room { left, first: found.bytes == 0, end };
                            let (taken, next) = collect(log, wanted, room, &mut batches);
                            data.aborted_transactions = committed.then(|| {
                                let aborted = log.aborted(wanted.fetch_offset, next);
                                let aborted = aborted.map(|transaction| AbortedTransaction {
                                    producer_id: transaction.producer_id,
                                    first_offset: transaction.first_offset,
                                });
                                aborted.collect()
                            });
                            found.bytes = found.bytes.saturating_add(taken);
                            left = left.saturating_sub(taken);
                        } else {
                            data.error_code = ErrorCode::OFFSET_OUT_OF_RANGE.0;
                        }
                    }
                    Err((code, known)) => {
                        data.error_code = code.0;
                        if let (Some(known), 12..) = (known, version) {
                            data.current_leader =
                                LeaderIdAndEpoch { leader_id: known.leader_id(), leader_epoch: known.leader_epoch };
                            leaders.extend(known.leader);
                        }
                    }
                }
                found.failed |= data.error_code != 0;
                partitions.push(FoundPartition { data, batches });
            }
            let named = FetchTopic { topic: topic.topic.clone(), topic_id: topic.topic_id, partitions: Vec::new() };
            found.topics.push((named, partitions));
        }
        if version >= 16 {
            let chosen = state.alive().filter(|(id, _)| leaders.contains(id));
            let endpoint = |(id, port): (BrokerId, u16)| NodeEndpoint {
                node_id: id.0,
                host: HOST.into(),
                port: port.into(),
                rack: None,
            };
            found.endpoints = chosen.map(|(id, broker)| endpoint((id, broker.port))).collect();
        }
        found
    }
}

impl Serve for FetchRequest {
    fn named(&self, state: &FakeState) -> Vec<Named> {
        let partitions = |topic: &FetchTopic| {
            let name = name_of(topic, state).unwrap_or_default();
            let named = |partition: &FetchPartition| (Arc::clone(&name), Some(partition.partition));
            topic.partitions.iter().map(named).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(partitions).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<FetchResponse> {
        let wait = Duration::from_millis(u64::try_from(self.max_wait_ms).unwrap_or(0));
        let deadline = time::deadline(Instant::now(), wait);
        let enough = usize::try_from(self.min_bytes).unwrap_or(0);
        let mut state = call.shared.state.lock();
        let meaning = if call.version >= SESSIONS {
            state.sessions.begin(call.broker, self)
        } else {
            Meaning::Full(self.topics.clone(), 0)
        };
        let (topics, session_id, is_incremental) = match meaning {
            Meaning::Full(topics, id) => (topics, id, false),
            Meaning::Incremental(topics, id) => (topics, id, true),
            Meaning::Refused(code) => {
                return Reply::Answer(FetchResponse { error_code: code.0, ..Default::default() });
            }
        };
        let found = loop {
            if !state.is_open(call.broker, call.connection) {
                return Reply::Close;
            }
            let found = self.look(&topics, &state, call.broker, call.version);
            let due = found.failed || found.has_diverged || found.bytes >= enough || topics.is_empty();
            if due {
                break found;
            }
            if call.shared.changed.wait_until(&mut state, deadline).timed_out() {
                break self.look(&topics, &state, call.broker, call.version);
            }
        };
        drop(state);
        let responses = found.topics.into_iter().map(|(topic, partitions)| FetchableTopicResponse {
            topic: topic.topic,
            topic_id: topic.topic_id,
            partitions: partitions.into_iter().map(FoundPartition::finish).collect(),
        });
        let responses: Vec<_> = responses.collect();
        let responses = call.shared.state.lock().sessions.end(call.broker, session_id, is_incremental, responses);
        Reply::Answer(FetchResponse { session_id, responses, node_endpoints: found.endpoints, ..Default::default() })
    }

    fn refuse(&self, call: &mut Call<'_>, code: ErrorCode) -> FetchResponse {
        let refused = |partition: &FetchPartition| PartitionData {
            partition_index: partition.partition,
            error_code: code.0,
            high_watermark: -1,
            records: Records::Inline(SharedBytes::default()),
            ..Default::default()
        };
        let responses = self.topics.iter().map(|topic| FetchableTopicResponse {
            topic: topic.topic.clone(),
            topic_id: topic.topic_id,
            partitions: topic.partitions.iter().map(refused).collect(),
        });
        let is_of_the_session = matches!(
            code,
            ErrorCode::FETCH_SESSION_ID_NOT_FOUND
                | ErrorCode::INVALID_FETCH_SESSION_EPOCH
                | ErrorCode::FETCH_SESSION_TOPIC_ID_ERROR
        );
        if call.version >= SESSIONS && (self.topics.is_empty() || is_of_the_session) {
            let session_id = if code.is_none() { self.session_id } else { 0 };
            return FetchResponse { error_code: code.0, session_id, ..Default::default() };
        }
        let responses = responses.collect();
        // The session goes on, as far as there is one.
        let session_id = match call.shared.state.lock().sessions.begin(call.broker, self) {
            Meaning::Incremental(_, id) => id,
            Meaning::Full(..) | Meaning::Refused(_) => 0,
        };
        FetchResponse { session_id, responses, ..Default::default() }
    }

    fn throttle(response: &mut FetchResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

impl FoundPartition {
    fn finish(self) -> PartitionData {
        let mut bytes = Vec::with_capacity(self.batches.iter().map(|batch| batch.len()).sum());
        for batch in &self.batches {
            bytes.extend_from_slice(batch);
        }
        PartitionData { records: Records::Inline(bytes.into()), ..self.data }
    }
}

/// Where the log is another one than the client has read (KIP-320). Versions before 12 do not tell what it has read.
fn diverges(log: &PartitionLog, wanted: &FetchPartition) -> Option<EpochEndOffset> {
    if wanted.last_fetched_epoch < 0 {
        return None;
    }
    let (epoch, end_offset) = log.end_of_epoch(wanted.last_fetched_epoch);
    let diverges = epoch >= 0 && (epoch < wanted.last_fetched_epoch || end_offset < wanted.fetch_offset);
    diverges.then_some(EpochEndOffset { epoch, end_offset })
}

/// What space that is left in an answer.
#[derive(Clone, Copy)]
struct Room {
    left: usize,
    /// Whether one batch is taken whatever its size.
    first: bool,
    /// The offset of the first record that the client must not see.
    end: i64,
}

/// Takes whole batches as long as there is room. Returns their size, and the offset after them.
fn collect(log: &PartitionLog, wanted: &FetchPartition, room: Room, batches: &mut Vec<SharedBytes>) -> (usize, i64) {
    let limit = usize::try_from(wanted.partition_max_bytes).unwrap_or(0).min(room.left);
    let (mut taken, mut next) = (0usize, wanted.fetch_offset);
    for batch in log.batches_from(wanted.fetch_offset).iter().take_while(|batch| batch.last_offset < room.end) {
        let total = taken.saturating_add(batch.bytes.len());
        if total > limit && !(room.first && batches.is_empty()) {
            break;
        }
        taken = total;
        next = batch.last_offset.saturating_add(1);
        batches.push(batch.bytes.clone());
    }
    (taken, next)
}

/// The name of a topic that the request names; `None` for an unknown id.
fn name_of(topic: &FetchTopic, state: &FakeState) -> Option<Arc<str>> {
    if topic.topic_id == Uuid::default() {
        return Some(topic.topic.as_str().into());
    }
    state.name_of(topic.topic_id).cloned()
}

/// The partition, if the broker leads it in the epoch that the client knows. An error comes with the partition if its
/// leader has changed.
pub(super) fn leads<'s>(
    state: &'s FakeState,
    name: Option<&Arc<str>>,
    index: i32,
    epoch: i32,
    broker: BrokerId,
) -> Result<&'s FakePartition, (ErrorCode, Option<&'s FakePartition>)> {
    let name = name.ok_or((ErrorCode::UNKNOWN_TOPIC_ID, None))?;
    if state.denied_topics.contains(&**name) {
        return Err((ErrorCode::TOPIC_AUTHORIZATION_FAILED, None));
    }
    let partition = state.topics.get(name).and_then(|topic| topic.partition(index));
    let partition = partition.ok_or((ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None))?;
    if epoch >= 0 && epoch < partition.leader_epoch {
        return Err((ErrorCode::FENCED_LEADER_EPOCH, Some(partition)));
    }
    if epoch > partition.leader_epoch {
        return Err((ErrorCode::UNKNOWN_LEADER_EPOCH, None));
    }
    if partition.leader != Some(broker) {
        return Err((ErrorCode::NOT_LEADER_OR_FOLLOWER, Some(partition)));
    }
    Ok(partition)
}

impl ListOffsetsRequest {
    fn respond(
        &self,
        mut answer: impl FnMut(&str, &ListOffsetsPartition) -> ListOffsetsPartitionResponse,
    ) -> ListOffsetsResponse {
        let topics = self.topics.iter().map(|topic| ListOffsetsTopicResponse {
            name: topic.name.clone(),
            partitions: topic.partitions.iter().map(|partition| answer(&topic.name, partition)).collect(),
        });
        ListOffsetsResponse { topics: topics.collect(), ..Default::default() }
    }
}

impl Serve for ListOffsetsRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        let mut named = Vec::new();
        for topic in &self.topics {
            let name: Arc<str> = topic.name.as_str().into();
            named.extend(topic.partitions.iter().map(|p| (Arc::clone(&name), Some(p.partition_index))));
        }
        named
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<ListOffsetsResponse> {
        let state = call.shared.state.lock();
        let committed = self.isolation_level == READ_COMMITTED;
        Reply::Answer(self.respond(|topic, wanted| {
            let mut answer =
                ListOffsetsPartitionResponse { partition_index: wanted.partition_index, ..Default::default() };
            let name: Arc<str> = topic.into();
            let found = leads(&state, Some(&name), wanted.partition_index, wanted.current_leader_epoch, call.broker);
            match found {
                Ok(partition) => match offset_for(&partition.log, wanted.timestamp, call.version) {
                    // For READ_COMMITTED the end is the last stable offset, and records after it are not found.
                    Ok(_) if committed && wanted.timestamp == -1 => answer.offset = partition.log.stable_offset(),
                    Ok((offset, _))
                        if committed && wanted.timestamp >= 0 && offset >= partition.log.stable_offset() => {}
                    Ok((offset, timestamp)) => {
                        (answer.offset, answer.timestamp) = (offset, timestamp);
                    }
                    Err(code) => answer.error_code = code.0,
                },
                Err((code, _)) => answer.error_code = code.0,
            }
            if let (Ok(partition), 4.., 0..) = (found, call.version, answer.offset) {
                answer.leader_epoch = partition.leader_epoch;
            }
            answer
        }))
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> ListOffsetsResponse {
        self.respond(|_, wanted| ListOffsetsPartitionResponse {
            partition_index: wanted.partition_index,
            error_code: code.0,
            ..Default::default()
        })
    }

    fn throttle(response: &mut ListOffsetsResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }
}

/// The offset for a timestamp or one of its special values, and the timestamp found there.
fn offset_for(log: &PartitionLog, timestamp: i64, version: i16) -> Result<(i64, i64), ErrorCode> {
    match timestamp {
        -3 if version < 7 => Err(ErrorCode::UNSUPPORTED_VERSION),
        -4 if version < 8 => Err(ErrorCode::UNSUPPORTED_VERSION),
        -5 if version < 9 => Err(ErrorCode::UNSUPPORTED_VERSION),
        -6 if version < 11 => Err(ErrorCode::UNSUPPORTED_VERSION),
        ..-6 => Err(ErrorCode::UNSUPPORTED_VERSION),
        -1 => Ok((log.end_offset, -1)),
        // There is no tiered storage: the local log is the whole log.
        -2 | -4 => Ok((log.start_offset, -1)),
        -3 => {
            let largest = log.batches().iter().map(|batch| batch.max_timestamp).max();
            largest.map_or(Ok((-1, -1)), |largest| first_from(log, largest))
        }
        0.. => first_from(log, timestamp),
        _ => Ok((-1, -1)),
    }
}

fn first_from(log: &PartitionLog, timestamp: i64) -> Result<(i64, i64), ErrorCode> {
    let mut decompressor = Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES);
    for stored in log.batches().iter().filter(|batch| batch.max_timestamp >= timestamp) {
        for batch in read_batches(&stored.bytes, &mut decompressor) {
            let batch = batch.map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
            for record in batch.records() {
                let record = record.map_err(|_| ErrorCode::UNKNOWN_SERVER_ERROR)?;
                if record.timestamp >= timestamp && record.offset >= log.start_offset {
                    return Ok((record.offset, record.timestamp));
                }
            }
        }
    }
    Ok((-1, -1))
}
