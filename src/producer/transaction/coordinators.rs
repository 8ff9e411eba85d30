//! Sends the requests of a transaction to the coordinators of its id and of groups, and makes events of their answers.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use super::offsets::TransactionOffsets;
use super::state::{CoordinatorRequest, TransactionConfig, TransactionEvent};
use super::verdict::{CoordinatorType, StepFacts, StepVerdict, TransactionStep, step_verdict};
use crate::cluster::ClusterClient;
use crate::cluster::coordinator::{CallFailure, CoordinatorKey, CoordinatorLink};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Result};
use crate::net::{Connection, Hangup};
use crate::producer::buffer::partition::PartitionId;
use crate::producer::send::gate::{ProducerSession, Protocol};
use crate::protocol::messages::add_partitions_to_txn::{AddPartitionsToTxnPartitionResult, AddPartitionsToTxnTopic};
use crate::protocol::messages::find_coordinator::KeyType;
use crate::protocol::messages::txn_offset_commit::{
    TxnOffsetCommitRequestPartition, TxnOffsetCommitRequestTopic, TxnOffsetCommitResponsePartition,
};
use crate::protocol::messages::{
    AddOffsetsToTxnRequest, AddPartitionsToTxnRequest, EndTxnRequest, InitProducerIdRequest, TxnOffsetCommitRequest,
};
use crate::time::wire_ms;
use crate::topic::{ProducerIdAndEpoch, TopicPartition};

/// The last version of TxnOffsetCommit and of EndTxn before transactions V2 (KIP-890). To a broker a higher version
/// means V2, whatever protocol the cluster has finalized.
const LAST_OF_V1: i16 = 4;
/// The first InitProducerId that bumps an epoch (KIP-360).
const INIT_THAT_BUMPS: i16 = 3;
/// The first TxnOffsetCommit that names the member (KIP-447).
const COMMIT_THAT_NAMES_MEMBERS: i16 = 3;

/// Breaks off the calls of [`TransactionCoordinators`], which block on one of two sockets.
#[derive(Default)]
pub(crate) struct Hangups {
    transaction: Arc<Hangup>,
    group: Arc<Hangup>,
}

impl Hangups {
    pub(crate) fn hang_up(&self) {
        for hangup in [&self.transaction, &self.group] {
            hangup.hang_up();
        }
    }
}

/// *Thread*: kafka-txn.
pub(crate) struct TransactionCoordinators {
    cluster: Arc<ClusterClient>,
    hangups: Arc<Hangups>,
    config: TransactionConfig,
    transaction: CoordinatorLink,
    /// The coordinator of the group whose offsets were committed last.
    group: Option<CoordinatorLink>,
}

/// A request that failed, and why.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) step: TransactionStep,
    pub(crate) error: Error,
    /// Whether a broker may have received the request.
    pub(crate) sent: bool,
}

impl Refused {
    /// A broker has refused the request.
    fn answered(step: TransactionStep, error: Error) -> Self {
        Self { step, error, sent: true }
    }

    /// The request failed before it was sent.
    fn unsent(step: TransactionStep, error: Error) -> Self {
        Self { step, error, sent: false }
    }
}

impl TransactionCoordinators {
    pub(crate) fn new(cluster: Arc<ClusterClient>, hangups: Arc<Hangups>, config: TransactionConfig) -> Self {
        let key = CoordinatorKey { key_type: KeyType::Transaction, name: Arc::clone(&config.id) };
        let transaction = CoordinatorLink::new(Arc::clone(&cluster), key, Arc::clone(&hangups.transaction));
        Self { cluster, hangups, config, transaction, group: None }
    }

    /// Ends the connection to a coordinator. The next call finds the coordinator anew.
    pub(crate) fn forget(&mut self, step: TransactionStep) {
        match step.coordinator() {
            CoordinatorType::Transaction => self.transaction.forget(),
            CoordinatorType::Group => {
                if let Some(link) = &mut self.group {
                    link.forget();
                }
            }
        }
    }

    /// Sends one request, and returns its answer as an event.
    ///
    /// *Blocks* for at most the request timeout, or three times that if the coordinator is not known.
    pub(crate) fn ask(&mut self, request: &CoordinatorRequest) -> Result<TransactionEvent, Refused> {
        let answer = match request {
            CoordinatorRequest::Init { known } => self.init(*known),
            CoordinatorRequest::AddOffsets { producer, group } => self.add_offsets(*producer, group),
            CoordinatorRequest::CommitOffsets { session, offsets } => self.commit_offsets(*session, offsets),
            CoordinatorRequest::End { session, commit } => self.end(*session, *commit),
        };
        answer.map_err(|refused| self.at_coordinator(refused))
    }

    /// Finds the coordinator of the transaction, and connects to it, if that is necessary.
    ///
    /// *Blocks* for at most the request timeout and the connection's.
    pub(crate) fn reach(&mut self, step: TransactionStep) -> Result<(), Refused> {
        self.call_transaction(step, |_, _| Ok(()))
    }

    /// Adds to a coordinator's own answer which broker gave it. The connection still exists after an answer.
    fn at_coordinator(&self, refused: Refused) -> Refused {
        let link = match refused.step.coordinator() {
            CoordinatorType::Transaction => Some(&self.transaction),
            CoordinatorType::Group => self.group.as_ref(),
        };
        match link {
            Some(link) if refused.sent => Refused { error: link.at_coordinator(refused.error), ..refused },
            _ => refused,
        }
    }

    fn init(&mut self, known: ProducerIdAndEpoch) -> Result<TransactionEvent, Refused> {
        let step = if known.is_some() { TransactionStep::Bump } else { TransactionStep::Init };
        let request = InitProducerIdRequest {
            transactional_id: Some(self.config.id.to_string()),
            transaction_timeout_ms: wire_ms(self.config.timeout),
            producer_id: known.producer_id,
            producer_epoch: known.epoch,
        };
        let (response, protocol) = self.call_transaction(step, |connection, until| {
            let response = connection.call(&request, until)?;
            Ok((response, protocol(connection)))
        })?;
        checked(step, response.error_code)?;
        let producer = ProducerIdAndEpoch { producer_id: response.producer_id, epoch: response.producer_epoch };
        if producer.producer_id < 0 || producer.epoch < 0 {
            let error = Error::misbehaved("the coordinator answered with a producer id below 0");
            return Err(Refused::answered(step, error));
        }
        Ok(TransactionEvent::Initialized(ProducerSession { producer, protocol }))
    }

    /// AddPartitionsToTxn, V1.
    pub(crate) fn add_partitions(
        &mut self,
        session: ProducerSession,
        partitions: &[(PartitionId, TopicPartition)],
    ) -> Result<(), Refused> {
        let step = TransactionStep::AddPartitions;
        let mut topics: Vec<AddPartitionsToTxnTopic> = Vec::new();
        for (_, partition) in partitions {
            match topics.iter_mut().find(|topic| *topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(partition.index),
                None => topics.push(AddPartitionsToTxnTopic {
                    name: partition.topic.to_string(),
                    partitions: vec![partition.index],
                }),
            }
        }
        let request = AddPartitionsToTxnRequest {
            v3_and_below_transactional_id: self.config.id.to_string(),
            v3_and_below_producer_id: session.producer.producer_id,
            v3_and_below_producer_epoch: session.producer.epoch,
            v3_and_below_topics: topics,
        };
        let response = self.call_transaction(step, |connection, until| connection.call(&request, until))?;
        // The coordinator adds all partitions or none.
        let answers = response.results_by_topic_v3_and_below.into_iter().flat_map(|topic| {
            let of = move |result: AddPartitionsToTxnPartitionResult| {
                (TopicPartition::new(topic.name.as_str(), result.partition_index), result.partition_error_code)
            };
            topic.results_by_partition.into_iter().map(of).collect::<Vec<_>>()
        });
        let asked = partitions.iter().map(|(_, partition)| partition);
        worst_answer(step, StepFacts { v2: false, can_bump: true }, asked, answers)
            .map_err(|refused| self.at_coordinator(refused))
    }

    fn add_offsets(&mut self, producer: ProducerIdAndEpoch, group: &Arc<str>) -> Result<TransactionEvent, Refused> {
        let request = AddOffsetsToTxnRequest {
            transactional_id: self.config.id.to_string(),
            producer_id: producer.producer_id,
            producer_epoch: producer.epoch,
            group_id: group.to_string(),
        };
        let response =
            self.call_transaction(TransactionStep::AddOffsets, |connection, until| connection.call(&request, until))?;
        checked(TransactionStep::AddOffsets, response.error_code)?;
        Ok(TransactionEvent::GroupAdded)
    }

    fn commit_offsets(
        &mut self,
        session: ProducerSession,
        offsets: &TransactionOffsets,
    ) -> Result<TransactionEvent, Refused> {
        let step = TransactionStep::CommitOffsets;
        let group = &offsets.group;
        let mut topics: Vec<TxnOffsetCommitRequestTopic> = Vec::new();
        for (partition, offset) in &*offsets.offsets {
            let partition_offset = TxnOffsetCommitRequestPartition {
                partition_index: partition.index,
                committed_offset: offset.offset,
                committed_leader_epoch: offset.leader_epoch.unwrap_or(-1),
                committed_metadata: Some(offset.metadata.clone()),
            };
            match topics.iter_mut().find(|topic| *topic.name == *partition.topic) {
                Some(topic) => topic.partitions.push(partition_offset),
                None => topics.push(TxnOffsetCommitRequestTopic {
                    name: partition.topic.to_string(),
                    partitions: vec![partition_offset],
                }),
            }
        }
        let request = TxnOffsetCommitRequest {
            transactional_id: self.config.id.to_string(),
            group_id: group.group_id.to_string(),
            producer_id: session.producer.producer_id,
            producer_epoch: session.producer.epoch,
            generation_id: group.generation,
            member_id: group.member_id.clone(),
            group_instance_id: group.instance_id.clone(),
            topics,
        };
        let response = self.call_group(&group.group_id, |connection, until| {
            let version = connection.versions().choose_at_most::<TxnOffsetCommitRequest>(limit(session.protocol))?;
            if version < COMMIT_THAT_NAMES_MEMBERS && group.names_a_member() {
                let text = "the broker is too old for offsets of a certain group member (KIP-447, Kafka 2.5); give the \
                            group's name alone";
                return Err(Error::new(ErrorKind::UnsupportedVersion, Recovery::Fix, text));
            }
            connection.call_at(&request, version, until)
        })?;
        let answers = response.topics.into_iter().flat_map(|topic| {
            let of = move |answer: TxnOffsetCommitResponsePartition| {
                (TopicPartition::new(topic.name.as_str(), answer.partition_index), answer.error_code)
            };
            topic.partitions.into_iter().map(of).collect::<Vec<_>>()
        });
        let asked = offsets.offsets.iter().map(|(partition, _)| partition);
        worst_answer(step, session.protocol.facts(), asked, answers)?;
        Ok(TransactionEvent::OffsetsCommitted)
    }

    fn end(&mut self, session: ProducerSession, commit: bool) -> Result<TransactionEvent, Refused> {
        let step = TransactionStep::End { commit };
        let request = EndTxnRequest {
            transactional_id: self.config.id.to_string(),
            producer_id: session.producer.producer_id,
            producer_epoch: session.producer.epoch,
            committed: commit,
        };
        let (response, protocol) = self.call_transaction(step, |connection, until| {
            let version = connection.versions().choose_at_most::<EndTxnRequest>(limit(session.protocol))?;
            let response = connection.call_at(&request, version, until)?;
            Ok((response, protocol(connection)))
        })?;
        checked(step, response.error_code)?;
        let next = ProducerIdAndEpoch { producer_id: response.producer_id, epoch: response.producer_epoch };
        Ok(TransactionEvent::Ended { next: next.is_some().then_some(next), protocol })
    }

    fn call_transaction<T>(
        &mut self,
        step: TransactionStep,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T>,
    ) -> Result<T, Refused> {
        let timeout = self.cluster.net().request_timeout;
        self.transaction.call(timeout, call).map_err(|failed| refused(step, failed))
    }

    fn call_group<T>(
        &mut self,
        group: &Arc<str>,
        call: impl FnOnce(&mut Connection, Instant) -> Result<T>,
    ) -> Result<T, Refused> {
        let timeout = self.cluster.net().request_timeout;
        let link = match self.group.take() {
            Some(link) if link.key().name == *group => link,
            _ => {
                let key = CoordinatorKey { key_type: KeyType::Group, name: Arc::clone(group) };
                CoordinatorLink::new(Arc::clone(&self.cluster), key, Arc::clone(&self.hangups.group))
            }
        };
        self.group.insert(link).call(timeout, call).map_err(|failed| refused(TransactionStep::CommitOffsets, failed))
    }
}

/// The failure of a call to a coordinator, as that of its request.
fn refused(step: TransactionStep, failed: CallFailure) -> Refused {
    match failed {
        CallFailure::Find(error) => Refused::unsent(TransactionStep::Find(step.coordinator()), error),
        CallFailure::Connect(error) => Refused::unsent(step, error),
        CallFailure::Call(error) => {
            // Without a common version nothing is sent; after any other failure the request may have been received.
            let sent = error.kind() != ErrorKind::UnsupportedVersion;
            Refused { step, error, sent }
        }
    }
}

fn limit(protocol: Protocol) -> i16 {
    match protocol {
        Protocol::V1 { .. } => LAST_OF_V1,
        Protocol::V2 => i16::MAX,
    }
}

/// The cluster's protocol of transactions, as far as this broker knows.
fn protocol(connection: &Connection) -> Protocol {
    let versions = connection.versions();
    if versions.has_transactions_v2() {
        return Protocol::V2;
    }
    let init = versions.choose::<InitProducerIdRequest>();
    Protocol::V1 { can_bump: init.is_ok_and(|version| version >= INIT_THAT_BUMPS) }
}

fn checked(step: TransactionStep, code: i16) -> Result<(), Refused> {
    match ErrorCode(code) {
        ErrorCode::NONE => Ok(()),
        code => Err(Refused::answered(step, Error::broker(code, None))),
    }
}

/// The result of an answer that has a code for each partition: the worst one. A code that ends the producer is worse
/// than one after which only an abort is possible, and that is worse than one after which the request is repeated; of
/// equal ones the first counts. OPERATION_NOT_ATTEMPTED counts least, because another partition is its cause. A
/// partition without an answer is an error, too.
fn worst_answer<'a>(
    step: TransactionStep,
    facts: StepFacts,
    asked: impl Iterator<Item = &'a TopicPartition>,
    answers: impl Iterator<Item = (TopicPartition, i16)>,
) -> Result<(), Refused> {
    let mut missing: HashSet<&TopicPartition> = asked.collect();
    let mut worst: Option<(u8, Error)> = None;
    for (partition, code) in answers {
        missing.remove(&partition);
        let code = ErrorCode(code);
        if code.is_none() {
            continue;
        }
        let weight = match step_verdict(step, code, facts) {
            StepVerdict::Abort if code == ErrorCode::OPERATION_NOT_ATTEMPTED => 0,
            StepVerdict::Again | StepVerdict::Soon => 1,
            StepVerdict::Find => 2,
            StepVerdict::Abort => 3,
            StepVerdict::Refuse | StepVerdict::Fenced | StepVerdict::Fatal => 4,
        };
        if worst.as_ref().is_none_or(|(other, _)| *other < weight) {
            worst = Some((weight, Error::broker(code, None).at_partition(&partition)));
        }
    }
    match (worst, missing.into_iter().next()) {
        (Some((_, error)), _) => Err(Refused::answered(step, error)),
        (None, Some(partition)) => {
            let error = Error::misbehaved("the answer does not name the partition").at_partition(partition);
            Err(Refused::answered(step, error))
        }
        (None, None) => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: StepFacts = StepFacts { v2: true, can_bump: true };

    /// The code, if any, with which offsets of the partitions 0 and 1 are refused that are answered so.
    fn refused(step: TransactionStep, answers: &[(i32, ErrorCode)]) -> Option<(ErrorKind, Option<i32>)> {
        let asked = [0, 1].map(|index| TopicPartition::new("t", index));
        let answers = answers.iter().map(|(index, code)| (TopicPartition::new("t", *index), code.0));
        let error = worst_answer(step, V2, asked.iter(), answers).err()?.error;
        Some((error.kind(), error.context().partition))
    }

    #[test]
    fn what_is_not_named_in_the_answer_is_not_done() {
        for step in [TransactionStep::CommitOffsets, TransactionStep::AddPartitions] {
            let missing = |index| Some((ErrorKind::BrokerMisbehaved, Some(index)));
            assert_eq!(refused(step, &[(1, ErrorCode::NONE), (0, ErrorCode::NONE)]), None);
            assert!(matches!(refused(step, &[]), Some((ErrorKind::BrokerMisbehaved, _))));
            assert_eq!(refused(step, &[(0, ErrorCode::NONE)]), missing(1));
            // As many answers, but not to what was asked.
            assert_eq!(refused(step, &[(0, ErrorCode::NONE), (0, ErrorCode::NONE)]), missing(1));
            assert_eq!(refused(step, &[(7, ErrorCode::NONE), (1, ErrorCode::NONE)]), missing(0));
        }
    }

    #[test]
    fn the_gravest_of_several_codes_is_the_answer() {
        let (again, gone) = (ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, ErrorCode::ILLEGAL_GENERATION);
        let fatal = ErrorCode::TRANSACTIONAL_ID_AUTHORIZATION_FAILED;
        for (first, second, wanted) in
            [(again, gone, gone), (gone, again, gone), (gone, fatal, fatal), (fatal, again, fatal)]
        {
            let partition = if wanted == first { 0 } else { 1 };
            let found = refused(TransactionStep::CommitOffsets, &[(0, first), (1, second)]);
            assert_eq!(found, Some((ErrorKind::Broker(wanted), Some(partition))));
        }
        // Those that were not looked at say nothing.
        let (skipped, unknown) = (ErrorCode::OPERATION_NOT_ATTEMPTED, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
        let found = refused(TransactionStep::AddPartitions, &[(0, skipped), (1, unknown)]);
        assert_eq!(found, Some((ErrorKind::Broker(unknown), Some(1))));
    }
}
