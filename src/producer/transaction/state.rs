//! The state of a transactional producer: one enum, changed by [`TransactionPhase::on`]. Pure: it sends nothing and
//! reads no clock. The thread `kafka-txn` asks it for the next request, and passes it the answers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::offsets::TransactionOffsets;
use super::verdict::{StepFacts, StepVerdict, TransactionStep, denies_the_end, step_verdict};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Written};
use crate::producer::send::batch_failure::{SequenceGap, ends_the_producer};
use crate::producer::send::gate::{Begun, ProducerSession, Protocol};
use crate::producer::send::verdict::recovery;
use crate::topic::ProducerIdAndEpoch;

/// The settings of the transactions.
#[derive(Clone, Debug)]
pub(crate) struct TransactionConfig {
    pub(crate) id: Arc<str>,
    /// How long a transaction may take before the coordinator aborts it.
    pub(crate) timeout: Duration,
}

impl Protocol {
    pub(crate) fn facts(self) -> StepFacts {
        match self {
            Self::V1 { can_bump } => StepFacts { v2: false, can_bump },
            Self::V2 => StepFacts { v2: true, can_bump: true },
        }
    }
}

/// A transaction that has not ended yet.
#[derive(Clone, Debug)]
pub(crate) struct OpenTransaction {
    /// Counts the transactions of this producer, from 1.
    pub(crate) number: u64,
    pub(crate) session: ProducerSession,
    since: Instant,
    sequence_gap: SequenceGap,
    /// Offsets to be committed with it, in their order.
    offsets: VecDeque<TransactionOffsets>,
    /// V1: the groups that were added to the transaction.
    groups: Vec<Arc<str>>,
    end: EndTxn,
}

/// Whether requests to commit the transaction may have reached the coordinator.
#[derive(Clone, Copy, Debug, Default)]
struct EndTxn {
    /// One is on its way, and has no answer yet.
    asked: bool,
    /// An earlier one may have been carried out: it was not answered, or with an error that does not exclude it.
    lost: bool,
}

/// The state. Each variant says which call or event it waits for.
#[derive(Debug)]
pub(crate) enum TransactionPhase {
    /// Waits for the call `init_transactions`. `refused`: the error of the last one.
    Uninitialized { refused: Option<Error> },
    /// Waits for the answer to the InitProducerId of a new instance.
    Initializing,
    /// Waits for a transaction to begin.
    Ready(ProducerSession),
    /// Takes records and offsets, and waits for `commit` or `abort`.
    Open(OpenTransaction),
    /// `commit` was called: waits for the results of all batches. The coordinator has not been asked to commit yet.
    Flushing(OpenTransaction),
    /// Waits for the offsets to be committed, and then for the answer to EndTxn, for a commit.
    Committing(OpenTransaction),
    /// The transaction has failed: waits for `abort`, the only call that is possible.
    Abortable(OpenTransaction, Error),
    /// `abort` was called: waits until no batch is in flight.
    Draining(OpenTransaction),
    /// Waits for the answer to EndTxn, for an abort.
    Aborting(OpenTransaction),
    /// Waits for the answer to the InitProducerId that asks for the next epoch after a transaction.
    Bumping(ProducerSession),
    /// The producer has failed: only `close` is possible.
    Fatal(Error),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionResult {
    Committed,
    Aborted,
}

/// An event that may change the state.
#[derive(Debug)]
pub(crate) enum TransactionEvent {
    /// `init_transactions` was called.
    Init,
    /// A transaction is to begin. `number`: its number.
    Begin { number: u64 },
    /// `commit` was called.
    Commit,
    /// Every batch of the transaction has its result, and the callbacks have run.
    Flushed { begun: Begun },
    /// `abort` was called, or the producer closes.
    Abort,
    /// After an abort no batch is left.
    Drained { begun: Begun },
    /// `send_offsets` was called.
    SendOffsets(TransactionOffsets),
    /// Batches failed. `error`: the one for the program; `sequence_gap`: the worst that they left.
    Failed { error: Error, sequence_gap: SequenceGap },
    /// A record was refused before it was in a batch.
    RecordRefused(Error),
    /// InitProducerId was answered.
    Initialized(ProducerSession),
    /// AddOffsetsToTxn was answered.
    GroupAdded,
    /// TxnOffsetCommit was answered.
    OffsetsCommitted,
    /// EndTxn was answered. `next`: the producer's identity for the next transaction, in V2. `protocol`: the cluster's
    /// protocol from now on.
    Ended { next: Option<ProducerIdAndEpoch>, protocol: Protocol },
    /// The request that [`TransactionPhase::request`] returns is about to be sent.
    Asked,
    /// A request failed: the coordinator answered with an error code, or did not answer, or the request was not `sent`.
    /// `begun`: whether the coordinator knows of the transaction.
    Refused { step: TransactionStep, error: Error, sent: bool, begun: Begun },
}

/// What the transaction wants of the senders' gate.
#[derive(Debug)]
pub(crate) enum GateAction {
    /// Batches may be sent, under this identity.
    Open(ProducerSession),
    /// No batch may be sent. There are none.
    Shut,
    /// Batches that are not in flight fail with this error.
    Refuse(Error),
}

/// When a request is to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryDelay {
    /// After a back-off.
    Later,
    /// After a short back-off.
    Soon,
}

/// The actions that follow from an event.
#[derive(Debug, Default)]
pub(crate) struct TransactionActions {
    /// The call is refused with this error; there are no other actions.
    pub(crate) refused: Option<Error>,
    pub(crate) gate: Option<GateAction>,
    pub(crate) ended: Option<(u64, TransactionResult)>,
    /// The producer has failed before the outcome of this transaction was known. The error says whether it may be
    /// committed.
    pub(crate) lost: Option<(u64, Error)>,
    /// The offsets of this number are committed with the transaction.
    pub(crate) offsets_done: Option<u64>,
    /// The request is to be sent again.
    pub(crate) again: Option<RetryDelay>,
    /// Its coordinator is to be found anew.
    pub(crate) find: bool,
}

impl TransactionActions {
    fn refuse(error: Error) -> Self {
        Self { refused: Some(error), ..Self::default() }
    }

    fn gate(gate: GateAction) -> Self {
        Self { gate: Some(gate), ..Self::default() }
    }
}

/// A request to a coordinator.
#[derive(Clone, Debug)]
pub(crate) enum CoordinatorRequest {
    Init { known: ProducerIdAndEpoch },
    AddOffsets { producer: ProducerIdAndEpoch, group: Arc<str> },
    CommitOffsets { session: ProducerSession, offsets: TransactionOffsets },
    End { session: ProducerSession, commit: bool },
}

impl TransactionPhase {
    /// The request that is to be sent now. Requests that add partitions are sent besides; the gate knows these
    /// partitions.
    pub(crate) fn request(&self) -> Option<CoordinatorRequest> {
        match self {
            Self::Initializing => Some(CoordinatorRequest::Init { known: ProducerIdAndEpoch::NONE }),
            Self::Bumping(session) => Some(CoordinatorRequest::Init { known: session.producer }),
            Self::Open(open) | Self::Flushing(open) => open.offsets_request(),
            Self::Committing(open) => {
                let end = CoordinatorRequest::End { session: open.session, commit: true };
                Some(open.offsets_request().unwrap_or(end))
            }
            Self::Aborting(open) => Some(CoordinatorRequest::End { session: open.session, commit: false }),
            Self::Uninitialized { .. } | Self::Ready(_) | Self::Abortable(..) | Self::Draining(_) | Self::Fatal(_) => {
                None
            }
        }
    }

    /// The transaction that has not ended yet.
    pub(crate) fn open(&self) -> Option<&OpenTransaction> {
        match self {
            Self::Open(open)
            | Self::Flushing(open)
            | Self::Committing(open)
            | Self::Abortable(open, _)
            | Self::Draining(open)
            | Self::Aborting(open) => Some(open),
            Self::Uninitialized { .. } | Self::Initializing | Self::Ready(_) | Self::Bumping(_) | Self::Fatal(_) => {
                None
            }
        }
    }

    /// The error with which records and offsets are refused, if they are.
    pub(crate) fn refusal(&self) -> Option<Error> {
        match self {
            Self::Open(_) => None,
            Self::Abortable(_, error) | Self::Fatal(error) => Some(error.clone()),
            Self::Uninitialized { refused: Some(error) } => Some(error.clone()),
            Self::Uninitialized { refused: None } | Self::Initializing => Some(misuse(
                "the producer is transactional, and init_transactions has not been called, or has not succeeded yet",
            )),
            Self::Ready(_) | Self::Bumping(_) => {
                Some(misuse("the producer is transactional, and no transaction is open; call begin_transaction first"))
            }
            Self::Flushing(_) | Self::Committing(_) => {
                Some(misuse("the transaction is being committed; its commit must be repeated until it has an outcome"))
            }
            Self::Draining(_) | Self::Aborting(_) => Some(misuse("the transaction is being aborted")),
        }
    }

    /// The next state, and what follows.
    pub(crate) fn on(
        self,
        config: &TransactionConfig,
        now: Instant,
        event: TransactionEvent,
    ) -> (Self, TransactionActions) {
        match event {
            TransactionEvent::Init => self.init(),
            TransactionEvent::Begin { number } => self.begin(now, number),
            TransactionEvent::Commit => self.commit(),
            TransactionEvent::Flushed { begun } => self.flushed(begun),
            TransactionEvent::Abort => self.abort(),
            TransactionEvent::Drained { begun } => self.drained(begun),
            TransactionEvent::SendOffsets(offsets) => self.commit_offsets(offsets),
            TransactionEvent::Failed { error, sequence_gap } => self.failed(config, now, error, sequence_gap),
            TransactionEvent::RecordRefused(error) => match self {
                Self::Open(open) | Self::Flushing(open) => open.must_be_aborted(config, now, error),
                other => (other, TransactionActions::default()),
            },
            TransactionEvent::Initialized(session) => match self {
                Self::Initializing | Self::Bumping(_) => (Self::Ready(session), TransactionActions::default()),
                other => (other, TransactionActions::default()),
            },
            TransactionEvent::GroupAdded => (self.group_added(), TransactionActions::default()),
            TransactionEvent::OffsetsCommitted => self.offsets_committed(),
            TransactionEvent::Ended { next, protocol } => self.ended(next, protocol),
            TransactionEvent::Asked => (self.asked(), TransactionActions::default()),
            TransactionEvent::Refused { step, error, sent, begun } => {
                self.answered(sent, &error).refused(config, now, step, error, begun)
            }
        }
    }

    fn init(self) -> (Self, TransactionActions) {
        match self {
            Self::Uninitialized { .. } | Self::Initializing => (Self::Initializing, TransactionActions::default()),
            Self::Fatal(error) => (Self::Fatal(error.clone()), TransactionActions::refuse(error)),
            other => {
                (other, TransactionActions::refuse(misuse("init_transactions has been called before, once is enough")))
            }
        }
    }

    fn begin(self, now: Instant, number: u64) -> (Self, TransactionActions) {
        match self {
            Self::Ready(session) => {
                let open = OpenTransaction {
                    number,
                    session,
                    since: now,
                    sequence_gap: SequenceGap::None,
                    offsets: VecDeque::new(),
                    groups: Vec::new(),
                    end: EndTxn::default(),
                };
                (Self::Open(open), TransactionActions::gate(GateAction::Open(session)))
            }
            Self::Open(_) => (
                self,
                TransactionActions::refuse(misuse("a transaction is open already; a producer has one at a time")),
            ),
            other => {
                let error = other.refusal().unwrap_or_else(|| misuse("no transaction can begin now"));
                (other, TransactionActions::refuse(error))
            }
        }
    }

    fn commit(self) -> (Self, TransactionActions) {
        match self {
            Self::Open(open) | Self::Flushing(open) => (Self::Flushing(open), TransactionActions::default()),
            Self::Committing(_) => (self, TransactionActions::default()),
            other => {
                let error = other.refusal().unwrap_or_else(|| misuse("there is nothing to commit"));
                (other, TransactionActions::refuse(error))
            }
        }
    }

    fn flushed(self, begun: Begun) -> (Self, TransactionActions) {
        match self {
            // The coordinator does not know of the transaction, so no EndTxn is needed, and it would refuse one.
            Self::Flushing(open) if begun == Begun::No && open.offsets.is_empty() => {
                let actions = TransactionActions {
                    ended: Some((open.number, TransactionResult::Committed)),
                    ..TransactionActions::gate(GateAction::Shut)
                };
                (Self::Ready(open.session), actions)
            }
            Self::Flushing(open) => (Self::Committing(open), TransactionActions::gate(GateAction::Shut)),
            other => (other, TransactionActions::default()),
        }
    }

    fn abort(self) -> (Self, TransactionActions) {
        match self {
            Self::Committing(open) if open.may_be_committed() => {
                let error = misuse("the transaction may be committed already; its commit must be repeated");
                (Self::Committing(open), TransactionActions::refuse(error.with_written(Written::Maybe)))
            }
            Self::Open(open) | Self::Flushing(open) | Self::Committing(open) | Self::Abortable(open, _) => {
                let text = "the transaction was aborted before the record was acknowledged";
                let error = Error::new(ErrorKind::Aborted, Recovery::Retry, text);
                (Self::Draining(open), TransactionActions::gate(GateAction::Refuse(error)))
            }
            Self::Draining(_) | Self::Aborting(_) => (self, TransactionActions::default()),
            other => {
                let error = other.refusal().unwrap_or_else(|| misuse("there is nothing to abort"));
                (other, TransactionActions::refuse(error))
            }
        }
    }

    fn drained(self, begun: Begun) -> (Self, TransactionActions) {
        match self {
            Self::Draining(open) if begun == Begun::No => {
                let actions = TransactionActions {
                    ended: Some((open.number, TransactionResult::Aborted)),
                    ..TransactionActions::gate(GateAction::Shut)
                };
                (Self::Ready(open.session), actions)
            }
            Self::Draining(open) => (Self::Aborting(open), TransactionActions::default()),
            other => (other, TransactionActions::default()),
        }
    }

    fn commit_offsets(self, offsets: TransactionOffsets) -> (Self, TransactionActions) {
        match self {
            Self::Open(mut open) => {
                open.offsets.push_back(offsets);
                (Self::Open(open), TransactionActions::default())
            }
            other => {
                let error = other.refusal().unwrap_or_else(|| misuse("no offsets can be committed now"));
                (other, TransactionActions::refuse(error))
            }
        }
    }

    fn failed(
        mut self,
        config: &TransactionConfig,
        now: Instant,
        error: Error,
        sequence_gap: SequenceGap,
    ) -> (Self, TransactionActions) {
        if ends_the_producer(&error) && !matches!(self, Self::Fatal(_)) {
            return self.fatal(config, now, error);
        }
        if let Some(open) = self.open_mut() {
            open.sequence_gap = open.sequence_gap.max(sequence_gap);
        }
        match self {
            Self::Open(open) | Self::Flushing(open) => open.must_be_aborted(config, now, error),
            // If the commit may have been sent, no batch is left that could fail.
            Self::Committing(open) if !open.may_be_committed() => open.must_be_aborted(config, now, error),
            other => (other, TransactionActions::default()),
        }
    }

    fn open_mut(&mut self) -> Option<&mut OpenTransaction> {
        match self {
            Self::Open(open)
            | Self::Flushing(open)
            | Self::Committing(open)
            | Self::Abortable(open, _)
            | Self::Draining(open)
            | Self::Aborting(open) => Some(open),
            Self::Uninitialized { .. } | Self::Initializing | Self::Ready(_) | Self::Bumping(_) | Self::Fatal(_) => {
                None
            }
        }
    }

    fn asked(mut self) -> Self {
        if let Self::Committing(open) = &mut self
            && open.offsets.is_empty()
        {
            open.end.asked = true;
        }
        self
    }

    /// Notes whether a commit whose request failed may have been carried out all the same.
    fn answered(mut self, sent: bool, error: &Error) -> Self {
        if let Some(open) = self.open_mut() {
            let asked = std::mem::take(&mut open.end.asked);
            if asked && error.code() == Some(ErrorCode::INVALID_TXN_STATE) {
                // The coordinator has aborted the transaction, so no earlier request to commit it was carried out
                // either.
                open.end.lost = false;
            } else if asked && sent && !denies_the_end(error) {
                open.end.lost = true;
            }
        }
        self
    }

    fn group_added(mut self) -> Self {
        if let Self::Open(open) | Self::Flushing(open) | Self::Committing(open) = &mut self
            && let Some(offsets) = open.offsets.front()
        {
            open.groups.push(Arc::clone(&offsets.group.group_id));
        }
        self
    }

    fn offsets_committed(mut self) -> (Self, TransactionActions) {
        let mut actions = TransactionActions::default();
        if let Self::Open(open) | Self::Flushing(open) | Self::Committing(open) = &mut self {
            actions.offsets_done = open.offsets.pop_front().map(|offsets| offsets.number);
        }
        (self, actions)
    }

    fn ended(self, next: Option<ProducerIdAndEpoch>, protocol: Protocol) -> (Self, TransactionActions) {
        let (open, how) = match self {
            Self::Committing(open) => (open, TransactionResult::Committed),
            Self::Aborting(open) => (open, TransactionResult::Aborted),
            other => return (other, TransactionActions::default()),
        };
        let actions =
            TransactionActions { ended: Some((open.number, how)), ..TransactionActions::gate(GateAction::Shut) };
        let former = open.session;
        let session = ProducerSession { producer: next.unwrap_or(former.producer), protocol };
        let state = match (former.protocol, protocol) {
            (Protocol::V2, _) => Self::Ready(session),
            // V2 needs a new epoch, in which sequence numbers begin at 0.
            (Protocol::V1 { .. }, Protocol::V2) => Self::Bumping(session),
            (Protocol::V1 { .. }, Protocol::V1 { can_bump }) => match open.sequence_gap {
                SequenceGap::None => Self::Ready(session),
                SequenceGap::Reusable | SequenceGap::Lost if can_bump => Self::Bumping(session),
                SequenceGap::Reusable => Self::Ready(session),
                SequenceGap::Lost => {
                    let text = "the transaction was aborted, but sequence numbers were lost with it, and the coordinator \
                                is too old to give the producer another epoch (KIP-360, Kafka 2.5); build a new one";
                    let error = Error::new(ErrorKind::OutOfSequence, Recovery::Fatal, text);
                    return (
                        Self::Fatal(error.clone()),
                        TransactionActions { gate: Some(GateAction::Refuse(error)), ..actions },
                    );
                }
            },
        };
        (state, actions)
    }

    fn refused(
        self,
        config: &TransactionConfig,
        now: Instant,
        step: TransactionStep,
        error: Error,
        begun: Begun,
    ) -> (Self, TransactionActions) {
        let protocol = self.open().map(|open| open.session.protocol);
        let facts = protocol.unwrap_or(Protocol::V1 { can_bump: true }).facts();
        let (verdict, error) = match error.kind() {
            ErrorKind::Broker(code) => (step_verdict(step, code, facts), error.with_recovery(recovery(code))),
            // An older version does not name the group member. The offsets must not be committed without that check.
            ErrorKind::UnsupportedVersion if step == TransactionStep::CommitOffsets => (StepVerdict::Abort, error),
            // After a failed call the connection cannot be used any more.
            _ if error.recovery() == Recovery::Retry => (StepVerdict::Find, error),
            _ => (StepVerdict::Fatal, error),
        };
        match verdict {
            StepVerdict::Again => {
                (self, TransactionActions { again: Some(RetryDelay::Later), ..TransactionActions::default() })
            }
            StepVerdict::Soon => {
                (self, TransactionActions { again: Some(RetryDelay::Soon), ..TransactionActions::default() })
            }
            StepVerdict::Find => (
                self,
                TransactionActions { again: Some(RetryDelay::Later), find: true, ..TransactionActions::default() },
            ),
            StepVerdict::Refuse => match self {
                Self::Initializing => (
                    Self::Uninitialized { refused: Some(error.with_recovery(Recovery::Fix)) },
                    TransactionActions::default(),
                ),
                other => other.fatal(config, now, error),
            },
            StepVerdict::Abort => match self {
                Self::Open(open) | Self::Flushing(open) | Self::Committing(open) => {
                    open.must_be_aborted(config, now, error)
                }
                Self::Abortable(..) | Self::Draining(_) => (self, TransactionActions::default()),
                Self::Aborting(_) if step != (TransactionStep::End { commit: false }) => {
                    (self, TransactionActions::default())
                }
                other => other.fatal(config, now, error),
            },
            // No request of the transaction had reached the coordinator, so there was nothing to abort.
            StepVerdict::Fatal
                if step == (TransactionStep::End { commit: false })
                    && begun != Begun::Yes
                    && error.code() == Some(ErrorCode::INVALID_TXN_STATE) =>
            {
                let protocol = protocol.unwrap_or(Protocol::V2);
                self.ended(None, protocol)
            }
            // The recovery stays `Fix`: a new producer with other settings may succeed, such as a shorter
            // transaction_timeout.
            StepVerdict::Fatal if matches!(self, Self::Initializing) && error.recovery() == Recovery::Fix => {
                (Self::Fatal(error.clone()), TransactionActions::gate(GateAction::Refuse(error)))
            }
            StepVerdict::Fenced | StepVerdict::Fatal => self.fatal(config, now, error),
        }
    }

    fn fatal(self, config: &TransactionConfig, now: Instant, error: Error) -> (Self, TransactionActions) {
        let open = self.open();
        let error = match error.code() {
            Some(ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH) => {
                let mut text =
                    format!("another producer has taken the transactional id {:?}; close this one", config.id);
                if let Some(taken) = open.map(|open| now.saturating_duration_since(open.since))
                    && taken >= config.timeout
                {
                    text = format!(
                        "{text}. Or there is none, and the transaction was aborted because it took {taken:.1?}, longer \
                         than transaction_timeout, {:?}: before transactions V2 (KIP-890) the two look the same",
                        config.timeout
                    );
                }
                Error::new(ErrorKind::Fenced, Recovery::Fatal, text)
                    .in_context(|context| *context = error.context().clone())
                    .with_source(error)
            }
            Some(ErrorCode::INVALID_PRODUCER_ID_MAPPING) => {
                let text = format!(
                    "the coordinator no longer knows the producer id of the transactional id {:?}: it forgets one that has \
                     been idle for transactional.id.expiration.ms, a setting of the brokers, 7 days by default; close this \
                     producer and build a new one",
                    config.id
                );
                Error::new(error.kind(), Recovery::Fatal, text)
                    .in_context(|context| *context = error.context().clone())
                    .with_source(error)
            }
            _ => error.with_recovery(Recovery::Fatal),
        };
        // Only the error of this transaction says whether it may be written; later calls are about others.
        let maybe = open.is_some_and(OpenTransaction::may_be_committed);
        let written = if maybe { Written::Maybe } else { Written::No };
        let lost = open.map(|open| (open.number, error.clone().with_written(written)));
        let error = error.as_cause();
        (Self::Fatal(error.clone()), TransactionActions { lost, ..TransactionActions::gate(GateAction::Refuse(error)) })
    }
}

impl OpenTransaction {
    /// Whether the coordinator may have been asked to commit the transaction, and may have done so.
    pub(crate) fn may_be_committed(&self) -> bool {
        self.end.asked || self.end.lost
    }

    fn offsets_request(&self) -> Option<CoordinatorRequest> {
        let offsets = self.offsets.front()?;
        let session = self.session;
        let group = &offsets.group.group_id;
        Some(match session.protocol {
            Protocol::V1 { .. } if !self.groups.contains(group) => {
                CoordinatorRequest::AddOffsets { producer: session.producer, group: Arc::clone(group) }
            }
            _ => CoordinatorRequest::CommitOffsets { session, offsets: offsets.clone() },
        })
    }

    /// The transaction has failed and can only be aborted. The error says so, with the cause.
    fn must_be_aborted(
        self,
        config: &TransactionConfig,
        now: Instant,
        cause: Error,
    ) -> (TransactionPhase, TransactionActions) {
        let taken = now.saturating_duration_since(self.since);
        let locked_out = matches!(
            cause.code(),
            Some(ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::INVALID_TXN_STATE | ErrorCode::TRANSACTION_ABORTABLE)
        );
        let text = if locked_out && taken >= config.timeout {
            format!(
                "the transaction took {taken:.1?}, longer than transaction_timeout, {:?}, so the coordinator has aborted \
                 it: abort it here too, and the next one can begin",
                config.timeout
            )
        } else {
            format!("the transaction cannot be committed, only aborted: {}", cause.message())
        };
        let written = if self.may_be_committed() { Written::Maybe } else { Written::No };
        let error = Error::new(cause.kind(), cause.recovery(), text)
            .until_aborted()
            .in_context(|context| *context = cause.context().clone())
            .with_written(written)
            .with_source(cause);
        let refused = Error::new(ErrorKind::Aborted, Recovery::Retry, "the transaction has failed; abort it")
            .until_aborted()
            .with_source(error.clone());
        (TransactionPhase::Abortable(self, error), TransactionActions::gate(GateAction::Refuse(refused)))
    }
}

/// The error of a call that does not fit the state.
pub(crate) fn misuse(text: &'static str) -> Error {
    Error::new(ErrorKind::Misuse, Recovery::Fix, text)
}

#[cfg(test)]
mod tests;
