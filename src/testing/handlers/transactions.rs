//! The requests to coordinators of transactions, and those to coordinators of groups about offsets: FindCoordinator,
//! InitProducerId, AddPartitionsToTxn, AddOffsetsToTxn, TxnOffsetCommit, EndTxn, OffsetFetch.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::{Call, HOST, Named, Reply, Serve};
use crate::error::ErrorCode;
use crate::protocol::api::Request;
use crate::protocol::messages::add_partitions_to_txn::{
    AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopic, AddPartitionsToTxnTopicResult,
};
use crate::protocol::messages::find_coordinator::Coordinator;
use crate::protocol::messages::offset_fetch::{
    OffsetFetchRequestGroup, OffsetFetchRequestTopic, OffsetFetchRequestTopics, OffsetFetchResponseGroup,
    OffsetFetchResponsePartition, OffsetFetchResponsePartitions, OffsetFetchResponseTopic, OffsetFetchResponseTopics,
};
use crate::protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponsePartition,
    TxnOffsetCommitResponseTopic,
};
use crate::protocol::messages::{
    AddOffsetsToTxnRequest, AddOffsetsToTxnResponse, AddPartitionsToTxnRequest, AddPartitionsToTxnResponse,
    EndTxnRequest, EndTxnResponse, FindCoordinatorRequest, FindCoordinatorResponse, InitProducerIdRequest,
    InitProducerIdResponse, OffsetFetchRequest, OffsetFetchResponse, TxnOffsetCommitRequest, TxnOffsetCommitResponse,
};
use crate::protocol::wire::Uuid;
use crate::testing::groups::{CommittedOffset, Committer, known_epoch};
use crate::testing::seen::SeenTransaction;
use crate::testing::state::{Coordinates, FakeState};
use crate::testing::transactions::{Addition, EndAnswer, TransactionVersion};
use crate::topic::{BrokerId, ProducerIdAndEpoch};

/// The last version of TxnOffsetCommit and of EndTxn before transactions V2.
const LAST_V1: i16 = 4;

/// Replaces PRODUCER_FENCED for versions before `first`, which do not know it (KIP-588).
fn known_since(first: i16, version: i16, code: ErrorCode) -> ErrorCode {
    match code {
        ErrorCode::PRODUCER_FENCED if version < first => ErrorCode::INVALID_PRODUCER_EPOCH,
        code => code,
    }
}

fn identity(producer_id: i64, epoch: i16) -> ProducerIdAndEpoch {
    ProducerIdAndEpoch { producer_id, epoch }
}

impl FakeState {
    /// Checks that a broker coordinates a transactional id, and that the client may use the id.
    fn coordinates_transaction(&self, broker: BrokerId, id: &str) -> Result<(), ErrorCode> {
        if self.denied_transactional_ids.contains(id) {
            return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        if self.coordinator(Coordinates::Transaction, id) != Some(broker) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        Ok(())
    }

    fn coordinates_group(&self, broker: BrokerId, id: &str) -> Result<(), ErrorCode> {
        if self.denied_groups.contains(id) {
            return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
        }
        if self.coordinator(Coordinates::Group, id) != Some(broker) {
            return Err(ErrorCode::NOT_COORDINATOR);
        }
        Ok(())
    }

    /// Why a partition cannot be part of a transaction, if it cannot.
    fn partition_fault(&self, topic: &str, partition: i32) -> Option<ErrorCode> {
        if self.denied_topics.contains(topic) {
            return Some(ErrorCode::TOPIC_AUTHORIZATION_FAILED);
        }
        let known = self.topics.get(topic).is_some_and(|topic| topic.partition(partition).is_some());
        (!known).then_some(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION)
    }

    /// Notes an answer that a correct producer never gets.
    fn note_fault<R: Request>(&mut self, version: i16, id: &str, code: ErrorCode) {
        if matches!(code, ErrorCode::INVALID_TXN_STATE | ErrorCode::INVALID_REQUEST | ErrorCode::TRANSACTION_ABORTABLE)
        {
            self.refuse(format!("{} {version} of {id:?}: {code}", R::NAME));
        }
    }

    /// Notes a version that the cluster's protocol of transactions does not allow, although a broker accepts it.
    pub(super) fn check_version<R: Request>(&mut self, version: i16, last_v1: i16) {
        if version > last_v1 && self.transactions.version < TransactionVersion::V2 {
            let version = format!("{} {version}", R::NAME);
            self.refuse(format!("{version} in a transaction, while transactions V2 are not in force"));
        }
    }
}

impl Serve for FindCoordinatorRequest {
    fn serve(&self, call: &mut Call<'_>) -> Reply<FindCoordinatorResponse> {
        let state = call.shared.state.lock();
        Reply::Answer(self.answer(call.version, |key| {
            let (of, denied, code) = match self.key_type {
                0 => (Coordinates::Group, &state.denied_groups, ErrorCode::GROUP_AUTHORIZATION_FAILED),
                1 => {
                    let code = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
                    (Coordinates::Transaction, &state.denied_transactional_ids, code)
                }
                _ => return Err(ErrorCode::INVALID_REQUEST),
            };
            if denied.contains(key) {
                return Err(code);
            }
            let broker = state.coordinator(of, key).ok_or(ErrorCode::COORDINATOR_NOT_AVAILABLE)?;
            Ok((broker, state.brokers.get(&broker).map_or(0, |broker| broker.port)))
        }))
    }

    fn refuse(&self, call: &mut Call<'_>, code: ErrorCode) -> FindCoordinatorResponse {
        self.answer(call.version, |_| Err(code))
    }

    fn throttle(response: &mut FindCoordinatorResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn transaction(&self) -> Option<SeenTransaction> {
        let key = self.coordinator_keys.first().unwrap_or(&self.key);
        match self.key_type {
            0 => Some(SeenTransaction { group: Some(key.clone()), ..Default::default() }),
            1 => Some(SeenTransaction { transactional_id: Some(key.clone()), ..Default::default() }),
            _ => None,
        }
    }
}

impl FindCoordinatorRequest {
    fn answer(
        &self,
        version: i16,
        find: impl Fn(&str) -> Result<(BrokerId, u16), ErrorCode>,
    ) -> FindCoordinatorResponse {
        let coordinator = |key: &String| {
            let found = find(key);
            let (node_id, host, port) = match found {
                Ok((id, port)) => (id.0, HOST.to_owned(), i32::from(port)),
                Err(_) => (-1, String::new(), -1),
            };
            let error_code = found.err().unwrap_or(ErrorCode::NONE).0;
            Coordinator { key: key.clone(), node_id, host, port, error_code, error_message: None }
        };
        if version < 4 {
            let Coordinator { node_id, host, port, error_code, .. } = coordinator(&self.key);
            return FindCoordinatorResponse { error_code, node_id, host, port, ..Default::default() };
        }
        let coordinators = self.coordinator_keys.iter().map(coordinator).collect();
        FindCoordinatorResponse { coordinators, ..Default::default() }
    }
}

impl Serve for InitProducerIdRequest {
    fn serve(&self, call: &mut Call<'_>) -> Reply<InitProducerIdResponse> {
        let known = identity(self.producer_id, self.producer_epoch);
        let id = self.transactional_id.as_deref();
        let broker = call.broker;
        let given = call.change(|state| {
            if let Some(id) = id {
                state.coordinates_transaction(broker, id)?;
            } else if state.cluster_denied {
                return Err(ErrorCode::CLUSTER_AUTHORIZATION_FAILED);
            }
            if known.is_some() != (known.epoch >= 0) {
                return Err(ErrorCode::INVALID_REQUEST);
            }
            // Without a transactional id the client always gets a new producer id, whatever id it sends.
            let Some(id) = id else {
                return Ok(identity(state.transactions.new_producer_id(), 0));
            };
            let given = state.transactions.init(id, self.transaction_timeout_ms, known.is_some().then_some(known));
            state.write_markers();
            given
        });
        match given {
            Ok(ProducerIdAndEpoch { producer_id, epoch }) => {
                Reply::Answer(InitProducerIdResponse { producer_id, producer_epoch: epoch, ..Default::default() })
            }
            Err(code) => {
                let code = known_since(4, call.version, code);
                Reply::Answer(self.refuse(call, code))
            }
        }
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> InitProducerIdResponse {
        InitProducerIdResponse { error_code: code.0, producer_id: -1, producer_epoch: -1, ..Default::default() }
    }

    fn throttle(response: &mut InitProducerIdResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn transaction(&self) -> Option<SeenTransaction> {
        self.transactional_id.as_ref().map(|id| SeenTransaction {
            transactional_id: Some(id.clone()),
            producer: identity(self.producer_id, self.producer_epoch).known(),
            ..Default::default()
        })
    }
}

impl AddPartitionsToTxnRequest {
    fn partitions(&self) -> impl Iterator<Item = (Arc<str>, i32)> + '_ {
        let of_topic = |topic: &'_ AddPartitionsToTxnTopic| {
            let name: Arc<str> = topic.name.as_str().into();
            topic.partitions.iter().map(move |index| (Arc::clone(&name), *index)).collect::<Vec<_>>()
        };
        self.v3_and_below_topics.iter().flat_map(of_topic)
    }

    fn respond(&self, code: impl Fn(&str, i32) -> ErrorCode) -> AddPartitionsToTxnResponse {
        let results = self.v3_and_below_topics.iter().map(|topic| {
            let result = |index: &i32| AddPartitionsToTxnPartitionResult {
                partition_index: *index,
                partition_error_code: code(&topic.name, *index).0,
            };
            AddPartitionsToTxnTopicResult {
                name: topic.name.clone(),
                results_by_partition: topic.partitions.iter().map(result).collect(),
            }
        });
        AddPartitionsToTxnResponse { results_by_topic_v3_and_below: results.collect(), ..Default::default() }
    }
}

impl Serve for AddPartitionsToTxnRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        self.partitions().map(|(topic, index)| (topic, Some(index))).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<AddPartitionsToTxnResponse> {
        let (broker, version) = (call.broker, call.version);
        let id = &*self.v3_and_below_transactional_id;
        let producer = identity(self.v3_and_below_producer_id, self.v3_and_below_producer_epoch);
        let response = call.change(|state| {
            if let Err(code @ ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED) =
                state.coordinates_transaction(broker, id)
            {
                return self.respond(|_, _| code);
            }
            // Either all partitions are added or none.
            if self.partitions().any(|(topic, index)| state.partition_fault(&topic, index).is_some()) {
                return self.respond(|topic, index| {
                    state.partition_fault(topic, index).unwrap_or(ErrorCode::OPERATION_NOT_ATTEMPTED)
                });
            }
            let added = state.coordinates_transaction(broker, id).and_then(|()| {
                let partitions: BTreeSet<_> = self.partitions().collect();
                state.transactions.add(id, producer, Addition::Partitions(partitions))
            });
            let code = known_since(2, version, added.err().unwrap_or(ErrorCode::NONE));
            state.note_fault::<Self>(version, id, code);
            self.respond(|_, _| code)
        });
        call.shared.watch_transactions();
        Reply::Answer(response)
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> AddPartitionsToTxnResponse {
        self.respond(|_, _| code)
    }

    fn throttle(response: &mut AddPartitionsToTxnResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn transaction(&self) -> Option<SeenTransaction> {
        Some(SeenTransaction {
            transactional_id: Some(self.v3_and_below_transactional_id.clone()),
            producer: identity(self.v3_and_below_producer_id, self.v3_and_below_producer_epoch).known(),
            ..Default::default()
        })
    }
}

impl Serve for AddOffsetsToTxnRequest {
    fn serve(&self, call: &mut Call<'_>) -> Reply<AddOffsetsToTxnResponse> {
        let (broker, version, id) = (call.broker, call.version, &*self.transactional_id);
        let producer = identity(self.producer_id, self.producer_epoch);
        let code = call.change(|state| {
            let added = state.coordinates_transaction(broker, id).and_then(|()| {
                if state.denied_groups.contains(&self.group_id) {
                    return Err(ErrorCode::GROUP_AUTHORIZATION_FAILED);
                }
                state.transactions.add(id, producer, Addition::Group(&self.group_id))
            });
            let code = known_since(2, version, added.err().unwrap_or(ErrorCode::NONE));
            state.note_fault::<Self>(version, id, code);
            code
        });
        call.shared.watch_transactions();
        Reply::Answer(AddOffsetsToTxnResponse { error_code: code.0, ..Default::default() })
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> AddOffsetsToTxnResponse {
        AddOffsetsToTxnResponse { error_code: code.0, ..Default::default() }
    }

    fn throttle(response: &mut AddOffsetsToTxnResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn transaction(&self) -> Option<SeenTransaction> {
        Some(SeenTransaction {
            transactional_id: Some(self.transactional_id.clone()),
            producer: identity(self.producer_id, self.producer_epoch).known(),
            group: Some(self.group_id.clone()),
            ..Default::default()
        })
    }
}

impl TxnOffsetCommitRequest {
    fn respond(
        &self,
        mut code: impl FnMut(&TxnOffsetCommitRequestTopic, &TxnOffsetCommitRequestPartition) -> ErrorCode,
    ) -> TxnOffsetCommitResponse {
        let topics = self.topics.iter().map(|topic| {
            let answer = |partition: &TxnOffsetCommitRequestPartition| TxnOffsetCommitResponsePartition {
                partition_index: partition.partition_index,
                error_code: code(topic, partition).0,
            };
            TxnOffsetCommitResponseTopic {
                name: topic.name.clone(),
                partitions: topic.partitions.iter().map(answer).collect(),
            }
        });
        TxnOffsetCommitResponse { topics: topics.collect(), ..Default::default() }
    }

    /// Checks that the offsets may be committed in the transaction, and adds the group to it.
    fn join(&self, state: &mut FakeState, broker: BrokerId, version: i16) -> Result<(), ErrorCode> {
        if state.denied_transactional_ids.contains(&self.transactional_id) {
            return Err(ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED);
        }
        state.coordinates_group(broker, &self.group_id)?;
        state.check_version::<Self>(version, LAST_V1);
        let (id, producer) = (&*self.transactional_id, identity(self.producer_id, self.producer_epoch));
        let group = Addition::Group(&self.group_id);
        let joined = match version {
            ..=LAST_V1 => state.transactions.verify(id, producer, &group),
            _ => state.transactions.add(id, producer, group),
        };
        joined.map_err(|code| match code {
            ErrorCode::PRODUCER_FENCED => ErrorCode::INVALID_PRODUCER_EPOCH,
            ErrorCode::TRANSACTION_ABORTABLE if version < 4 => ErrorCode::INVALID_TXN_STATE,
            code => code,
        })?;
        let instance = self.group_instance_id.as_deref();
        let committer = Committer { generation: self.generation_id, member: &self.member_id, instance };
        state.groups.check(&self.group_id, committer)
    }
}

impl Serve for TxnOffsetCommitRequest {
    fn named(&self, _: &FakeState) -> Vec<Named> {
        let of_topic = |topic: &TxnOffsetCommitRequestTopic| {
            let name: Arc<str> = topic.name.as_str().into();
            let named =
                |partition: &TxnOffsetCommitRequestPartition| (Arc::clone(&name), Some(partition.partition_index));
            topic.partitions.iter().map(named).collect::<Vec<_>>()
        };
        self.topics.iter().flat_map(of_topic).collect()
    }

    fn serve(&self, call: &mut Call<'_>) -> Reply<TxnOffsetCommitResponse> {
        let (broker, version) = (call.broker, call.version);
        let response = call.change(|state| {
            if let Err(code) = self.join(state, broker, version) {
                state.note_fault::<Self>(version, &self.transactional_id, code);
                return self.respond(|_, _| code);
            }
            self.respond(|topic, partition| {
                if let Some(code) = state.partition_fault(&topic.name, partition.partition_index) {
                    return code;
                }
                let offset = CommittedOffset {
                    offset: partition.committed_offset,
                    leader_epoch: known_epoch(partition.committed_leader_epoch),
                    metadata: partition.committed_metadata.clone(),
                };
                let key = (topic.name.as_str().into(), partition.partition_index);
                state.groups.prepare(&self.group_id, self.producer_id, key, offset);
                ErrorCode::NONE
            })
        });
        call.shared.watch_transactions();
        Reply::Answer(response)
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> TxnOffsetCommitResponse {
        self.respond(|_, _| code)
    }

    fn throttle(response: &mut TxnOffsetCommitResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn transaction(&self) -> Option<SeenTransaction> {
        Some(SeenTransaction {
            transactional_id: Some(self.transactional_id.clone()),
            producer: identity(self.producer_id, self.producer_epoch).known(),
            group: Some(self.group_id.clone()),
            ..Default::default()
        })
    }
}

impl Serve for EndTxnRequest {
    fn serve(&self, call: &mut Call<'_>) -> Reply<EndTxnResponse> {
        let (broker, version, id) = (call.broker, call.version, &*self.transactional_id);
        let producer = identity(self.producer_id, self.producer_epoch);
        let protocol = if version > LAST_V1 { TransactionVersion::V2 } else { TransactionVersion::V1 };
        let ended = call.change(|state| {
            state.check_version::<Self>(version, LAST_V1);
            let ended = state
                .coordinates_transaction(broker, id)
                .and_then(|()| state.transactions.end(id, producer, self.committed, protocol));
            state.write_markers();
            if let Err(code) = ended {
                state.note_fault::<Self>(version, id, code);
            }
            ended
        });
        match ended {
            Ok(EndAnswer::Already(next) | EndAnswer::Now(next)) => Reply::Answer(EndTxnResponse {
                producer_id: next.producer_id,
                producer_epoch: next.epoch,
                ..Default::default()
            }),
            Err(code) => {
                let code = known_since(2, version, code);
                Reply::Answer(self.refuse(call, code))
            }
        }
    }

    fn refuse(&self, _: &mut Call<'_>, code: ErrorCode) -> EndTxnResponse {
        EndTxnResponse { error_code: code.0, ..Default::default() }
    }

    fn throttle(response: &mut EndTxnResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn transaction(&self) -> Option<SeenTransaction> {
        Some(SeenTransaction {
            transactional_id: Some(self.transactional_id.clone()),
            producer: identity(self.producer_id, self.producer_epoch).known(),
            is_commit: Some(self.committed),
            ..Default::default()
        })
    }
}

/// A topic of an OffsetFetch request of any version.
struct Wanted {
    name: Arc<str>,
    id: Uuid,
    partitions: Vec<i32>,
}

impl OffsetFetchRequest {
    fn group(
        &self,
        state: &FakeState,
        call: &Call<'_>,
        group: &str,
        topics: Option<Vec<Wanted>>,
    ) -> OffsetFetchResponseGroup {
        let group_id = group.to_owned();
        if let Err(code) = state.coordinates_group(call.broker, group) {
            return OffsetFetchResponseGroup { group_id, error_code: code.0, ..Default::default() };
        }
        let topics = topics.unwrap_or_else(|| {
            let mut all: Vec<Wanted> = Vec::new();
            for (name, partition) in state.groups.partitions(group) {
                match all.last_mut().filter(|topic| topic.name == name) {
                    Some(topic) => topic.partitions.push(partition),
                    None => {
                        let id = state.topics.get(&name).map(|topic| topic.id).unwrap_or_default();
                        all.push(Wanted { name, id, partitions: vec![partition] });
                    }
                }
            }
            all
        });
        let topics = topics.into_iter().map(|Wanted { name, id, partitions }| {
            let answer = |partition_index: i32| {
                let mut answer =
                    OffsetFetchResponsePartitions { partition_index, committed_offset: -1, ..Default::default() };
                let (offset, is_pending) = state.groups.offset(group, &name, partition_index);
                if name.is_empty() {
                    answer.error_code = ErrorCode::UNKNOWN_TOPIC_ID.0;
                } else if is_pending && self.require_stable {
                    answer.error_code = ErrorCode::UNSTABLE_OFFSET_COMMIT.0;
                } else if let Some(CommittedOffset { offset, leader_epoch, metadata }) = offset {
                    answer.committed_offset = offset;
                    answer.committed_leader_epoch = leader_epoch.unwrap_or(-1);
                    answer.metadata = Some(metadata.unwrap_or_default());
                } else {
                    answer.metadata = Some(String::new());
                }
                answer
            };
            OffsetFetchResponseTopics {
                name: name.as_ref().to_owned(),
                topic_id: id,
                partitions: partitions.into_iter().map(answer).collect(),
            }
        });
        OffsetFetchResponseGroup { group_id, topics: topics.collect(), error_code: 0 }
    }
}

impl Serve for OffsetFetchRequest {
    fn serve(&self, call: &mut Call<'_>) -> Reply<OffsetFetchResponse> {
        let state = call.shared.state.lock();
        if call.version < 8 {
            let wanted = |topic: &OffsetFetchRequestTopic| Wanted {
                name: topic.name.as_str().into(),
                id: Uuid::default(),
                partitions: topic.partition_indexes.clone(),
            };
            let topics = self.topics.as_ref().map(|topics| topics.iter().map(wanted).collect());
            let group = self.group(&state, call, &self.group_id, topics);
            let topic = |topic: OffsetFetchResponseTopics| OffsetFetchResponseTopic {
                name: topic.name,
                partitions: topic.partitions.into_iter().map(older).collect(),
            };
            let code = ErrorCode(group.error_code);
            if code != ErrorCode::NONE {
                drop(state);
                return Reply::Answer(self.refuse(call, code));
            }
            let topics = group.topics.into_iter().map(topic).collect();
            return Reply::Answer(OffsetFetchResponse { topics, ..Default::default() });
        }
        let groups = self.groups.iter().map(|group| {
            let wanted = |topic: &OffsetFetchRequestTopics| {
                let by_id = state.name_of(topic.topic_id).cloned().unwrap_or_default();
                let name = if call.version < 10 { topic.name.as_str().into() } else { by_id };
                Wanted { name, id: topic.topic_id, partitions: topic.partition_indexes.clone() }
            };
            let topics = group.topics.as_ref().map(|topics| topics.iter().map(wanted).collect());
            self.group(&state, call, &group.group_id, topics)
        });
        Reply::Answer(OffsetFetchResponse { groups: groups.collect(), ..Default::default() })
    }

    fn refuse(&self, call: &mut Call<'_>, code: ErrorCode) -> OffsetFetchResponse {
        let error_code = code.0;
        match call.version {
            // These versions have an error code only for each partition.
            ..2 => {
                let topics = self.topics.iter().flatten().map(|topic| OffsetFetchResponseTopic {
                    name: topic.name.clone(),
                    partitions: topic
                        .partition_indexes
                        .iter()
                        .map(|index| OffsetFetchResponsePartition {
                            partition_index: *index,
                            committed_offset: -1,
                            metadata: Some(String::new()),
                            error_code,
                            ..Default::default()
                        })
                        .collect(),
                });
                OffsetFetchResponse { topics: topics.collect(), ..Default::default() }
            }
            2..8 => OffsetFetchResponse { error_code, ..Default::default() },
            _ => {
                let refused = |group: &OffsetFetchRequestGroup| OffsetFetchResponseGroup {
                    group_id: group.group_id.clone(),
                    error_code,
                    ..Default::default()
                };
                OffsetFetchResponse { groups: self.groups.iter().map(refused).collect(), ..Default::default() }
            }
        }
    }

    fn throttle(response: &mut OffsetFetchResponse, ms: i32) {
        response.throttle_time_ms = ms;
    }

    fn transaction(&self) -> Option<SeenTransaction> {
        let group = self.groups.first().map_or(&self.group_id, |group| &group.group_id);
        Some(SeenTransaction { group: Some(group.clone()), ..Default::default() })
    }
}

fn older(partition: OffsetFetchResponsePartitions) -> OffsetFetchResponsePartition {
    OffsetFetchResponsePartition {
        partition_index: partition.partition_index,
        committed_offset: partition.committed_offset,
        committed_leader_epoch: partition.committed_leader_epoch,
        metadata: partition.metadata,
        error_code: partition.error_code,
    }
}
