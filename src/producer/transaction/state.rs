//! What a transactional producer is doing: one enum, moved by [`TransactionPhase::on`]. Pure: it sends nothing and reads no clock.
//! The thread `kafka-txn` asks it what to send, and tells it what was answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::offsets::TransactionOffsets;
use super::verdict::{StepFacts, StepVerdict, TransactionStep, denies_the_end, step_verdict};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Written};
use crate::producer::send::doubt::{Doubt, ends_the_producer};
use crate::producer::send::gate::{Begun, ProducerSession, Protocol};
use crate::producer::send::verdict::recovery;
use crate::topic::ProducerIdAndEpoch;

/// What does not change in the life of a producer.
#[derive(Clone, Debug)]
pub(crate) struct TransactionConfig {
    pub(crate) id: Arc<str>,
    /// After this the coordinator aborts a transaction.
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

/// A transaction that has no end yet.
#[derive(Clone, Debug)]
pub(crate) struct OpenTransaction {
    /// Counts the transactions of this producer, from 1.
    pub(crate) number: u64,
    pub(crate) session: ProducerSession,
    since: Instant,
    doubt: Doubt,
    /// Offsets to be committed with it, in their order.
    offsets: VecDeque<TransactionOffsets>,
    /// V1: the groups that were added.
    groups: Vec<Arc<str>>,
    end: EndTxn,
}

/// What is known of the requests to commit a transaction.
#[derive(Clone, Copy, Debug, Default)]
struct EndTxn {
    /// One is on its way.
    asked: bool,
    /// An earlier one was not answered, or by an error that it may have been done in spite of.
    lost: bool,
}

/// Named for what it waits for.
#[derive(Debug)]
pub(crate) enum TransactionPhase {
    /// `init_transactions`. The error is what the last one failed with.
    Uninitialized { refused: Option<Error> },
    /// The answer to InitProducerId of a new instance.
    Initializing,
    /// `begin`.
    Ready(ProducerSession),
    /// Records, offsets, and an end.
    Open(OpenTransaction),
    /// `commit` was called: the end of its batches. Nothing is decided yet.
    Flushing(OpenTransaction),
    /// The offsets, and then the answer to EndTxn, for a commit.
    Committing(OpenTransaction),
    /// `abort`, which is all that can be done.
    Abortable(OpenTransaction, Error),
    /// `abort` was called: the end of the batches in flight.
    Draining(OpenTransaction),
    /// The answer to an abort that may be on its way.
    Aborting(OpenTransaction),
    /// The answer to InitProducerId, for the next epoch after a transaction.
    Bumping(ProducerSession),
    /// `close`.
    Fatal(Error),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum TransactionResult {
    Committed,
    Aborted,
}

/// What happens to a producer.
#[derive(Debug)]
pub(crate) enum TransactionEvent {
    /// `init_transactions` was called.
    Init,
    /// `begin` was called. The number is the transaction's.
    Begin { number: u64 },
    /// `commit` was called.
    Commit,
    /// Every batch of the transaction has its result, and so have the callbacks.
    Flushed { begun: Begun },
    /// `abort` was called, or the producer closes.
    Abort,
    /// No batch is left.
    Drained { begun: Begun },
    /// `send_offsets` was called.
    SendOffsets(TransactionOffsets),
    /// Batches failed. The error is the one to be told; the doubt is the greatest of them.
    Failed { error: Error, doubt: Doubt },
    /// A record was refused before it was in a batch.
    RecordRefused(Error),
    /// InitProducerId was answered.
    Initialized(ProducerSession),
    /// AddOffsetsToTxn was answered.
    GroupAdded,
    /// TxnOffsetCommit was answered.
    OffsetsCommitted,
    /// EndTxn was answered. V2: with the identity of the next transaction. `protocol` is what is in force by now.
    Ended { next: Option<ProducerIdAndEpoch>, protocol: Protocol },
    /// What [`TransactionPhase::request`] says is about to be sent.
    Asked,
    /// A request was answered with an error, which has the code, or was not answered at all, or not even sent. `begun`:
    /// whether the coordinator knows of the transaction.
    Refused { step: TransactionStep, error: Error, sent: bool, begun: Begun },
}

/// What is to be done about batches.
#[derive(Debug)]
pub(crate) enum GateAction {
    /// Those of this identity may be sent.
    Open(ProducerSession),
    /// There are none.
    Shut,
    /// Those that are not in flight fail with this.
    Refuse(Error),
}

/// When a request is to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RetryDelay {
    /// After a back-off.
    Later,
    /// After a short one.
    Soon,
}

/// What follows from an event.
#[derive(Debug, Default)]
pub(crate) struct TransactionActions {
    /// The call is refused with this; nothing else follows.
    pub(crate) refused: Option<Error>,
    pub(crate) gate: Option<GateAction>,
    pub(crate) ended: Option<(u64, TransactionResult)>,
    /// The producer has ended before the end of this transaction was known. The error says whether it may be committed.
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

/// What is to be sent to a coordinator.
#[derive(Clone, Debug)]
pub(crate) enum CoordinatorRequest {
    Init { known: ProducerIdAndEpoch },
    AddOffsets { producer: ProducerIdAndEpoch, group: Arc<str> },
    CommitOffsets { session: ProducerSession, offsets: TransactionOffsets },
    End { session: ProducerSession, commit: bool },
}

impl TransactionPhase {
    /// What is to be sent now. Partitions to be added come on top of this, from those who have batches for them.
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

    /// The transaction that has no end yet.
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

    /// Why records and offsets are not taken, where they are not.
    pub(crate) fn refusal(&self) -> Option<Error> {
        match self {
            Self::Open(_) => None,
            Self::Abortable(_, error) | Self::Fatal(error) => Some(error.clone()),
            Self::Uninitialized { refused: Some(error) } => Some(error.clone()),
            Self::Uninitialized { refused: None } | Self::Initializing => Some(misuse(
                "the producer is transactional, and init_transactions has not been called, or has not ended",
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
            TransactionEvent::Failed { error, doubt } => self.failed(config, now, error, doubt),
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
                    doubt: Doubt::None,
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
            // The coordinator knows nothing, so there is nothing to tell (and it would refuse).
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
        doubt: Doubt,
    ) -> (Self, TransactionActions) {
        if ends_the_producer(&error) && !matches!(self, Self::Fatal(_)) {
            return self.fatal(config, now, error);
        }
        if let Some(open) = self.open_mut() {
            open.doubt = open.doubt.max(doubt);
        }
        match self {
            Self::Open(open) | Self::Flushing(open) => open.must_be_aborted(config, now, error),
            // A commit that may be done has no batch any more that could fail.
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

    /// Takes down whether a commit that was asked for may be done although it is not known to be.
    fn answered(mut self, sent: bool, error: &Error) -> Self {
        if let Some(open) = self.open_mut() {
            let asked = std::mem::take(&mut open.end.asked);
            if asked && error.code() == Some(ErrorCode::INVALID_TXN_STATE) {
                // So says a coordinator that has aborted it, also of a request that it had been sent before.
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
            // The epoch of V1 ends with it; V2 begins with sequences from 0.
            (Protocol::V1 { .. }, Protocol::V2) => Self::Bumping(session),
            (Protocol::V1 { .. }, Protocol::V1 { can_bump }) => match open.doubt {
                Doubt::None => Self::Ready(session),
                Doubt::Refused | Doubt::Lost if can_bump => Self::Bumping(session),
                Doubt::Refused => Self::Ready(session),
                Doubt::Lost => {
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
            // Without the member they could be committed.
            ErrorKind::UnsupportedVersion if step == TransactionStep::CommitOffsets => (StepVerdict::Abort, error),
            // A connection is of no use any more once a call on it has failed.
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
            // Nothing of it reached the coordinator: there was nothing to abort.
            StepVerdict::Fatal
                if step == (TransactionStep::End { commit: false })
                    && begun != Begun::Yes
                    && error.code() == Some(ErrorCode::INVALID_TXN_STATE) =>
            {
                let protocol = protocol.unwrap_or(Protocol::V2);
                self.ended(None, protocol)
            }
            // Other settings may help another producer, such as a shorter transaction_timeout.
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
        // Of the transaction, that is; what comes later is about something else.
        let maybe = open.is_some_and(OpenTransaction::may_be_committed);
        let written = if maybe { Written::Maybe } else { Written::No };
        let lost = open.map(|open| (open.number, error.clone().with_written(written)));
        let error = error.as_cause();
        (Self::Fatal(error.clone()), TransactionActions { lost, ..TransactionActions::gate(GateAction::Refuse(error)) })
    }
}

impl OpenTransaction {
    /// Whether the coordinator may have been asked to commit it, and may have done so.
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

    /// Why it cannot be committed, in words that say what to do.
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

/// A call that does not fit the state.
pub(crate) fn misuse(text: &'static str) -> Error {
    Error::new(ErrorKind::Misuse, Recovery::Fix, text)
}

#[cfg(test)]
mod tests;
