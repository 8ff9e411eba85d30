//! What a transactional producer is doing: one enum, moved by [`State::on`]. Pure: it sends nothing and reads no clock.
//! The thread `kafka-txn` asks it what to send, and tells it what was answered.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::offsets::Offsets;
use super::verdict::{Facts, Step, Verdict, denies_the_end, verdict};
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Written};
use crate::producer::send::doubt::{Doubt, ends_the_producer};
use crate::producer::send::gate::{Begun, Protocol, Standing};
use crate::producer::send::outcome::recovery;
use crate::topic::ProducerIdAndEpoch;

/// What does not change in the life of a producer.
#[derive(Clone, Debug)]
pub(crate) struct Terms {
    pub(crate) id: Arc<str>,
    /// After this the coordinator aborts a transaction.
    pub(crate) timeout: Duration,
}

impl Protocol {
    pub(crate) fn facts(self) -> Facts {
        match self {
            Self::V1 { can_bump } => Facts { v2: false, can_bump },
            Self::V2 => Facts { v2: true, can_bump: true },
        }
    }
}

/// A transaction that has no end yet.
#[derive(Clone, Debug)]
pub(crate) struct Open {
    /// Counts the transactions of this producer, from 1.
    pub(crate) number: u64,
    pub(crate) standing: Standing,
    since: Instant,
    doubt: Doubt,
    /// Offsets to be committed with it, in their order.
    offsets: VecDeque<Offsets>,
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
pub(crate) enum State {
    /// `init_transactions`. The error is what the last one failed with.
    Uninitialized { refused: Option<Error> },
    /// The answer to InitProducerId of a new instance.
    Initializing,
    /// `begin`.
    Ready(Standing),
    /// Records, offsets, and an end.
    Open(Open),
    /// `commit` was called: the end of its batches. Nothing is decided yet.
    Flushing(Open),
    /// The offsets, and then the answer to EndTxn, for a commit.
    Committing(Open),
    /// `abort`, which is all that can be done.
    Abortable(Open, Error),
    /// `abort` was called: the end of the batches in flight.
    Draining(Open),
    /// The answer to an abort that may be on its way.
    Aborting(Open),
    /// The answer to InitProducerId, for the next epoch after a transaction.
    Bumping(Standing),
    /// `close`.
    Fatal(Error),
}

/// How a transaction ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ended {
    Committed,
    Aborted,
}

/// What happens to a producer.
#[derive(Debug)]
pub(crate) enum Event {
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
    SendOffsets(Offsets),
    /// Batches failed. The error is the one to be told; the doubt is the greatest of them.
    Failed { error: Error, doubt: Doubt },
    /// A record was refused before it was in a batch.
    RecordRefused(Error),
    /// InitProducerId was answered.
    Initialized(Standing),
    /// AddOffsetsToTxn was answered.
    GroupAdded,
    /// TxnOffsetCommit was answered.
    OffsetsCommitted,
    /// EndTxn was answered. V2: with the identity of the next transaction. `protocol` is what is in force by now.
    Ended { next: Option<ProducerIdAndEpoch>, protocol: Protocol },
    /// What [`State::request`] says is about to be sent.
    Asked,
    /// A request was answered with an error, which has the code, or was not answered at all, or not even sent. `begun`:
    /// whether the coordinator knows of the transaction.
    Refused { step: Step, error: Error, sent: bool, begun: Begun },
}

/// What is to be done about batches.
#[derive(Debug)]
pub(crate) enum Gate {
    /// Those of this identity may be sent.
    Open(Standing),
    /// There are none.
    Shut,
    /// Those that are not in flight fail with this.
    Refuse(Error),
}

/// When a request is to be sent again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// After a back-off.
    Later,
    /// After a short one.
    Soon,
}

/// What follows from an event.
#[derive(Debug, Default)]
pub(crate) struct Actions {
    /// The call is refused with this; nothing else follows.
    pub(crate) refused: Option<Error>,
    pub(crate) gate: Option<Gate>,
    pub(crate) ended: Option<(u64, Ended)>,
    /// The producer has ended before the end of this transaction was known. The error says whether it may be committed.
    pub(crate) lost: Option<(u64, Error)>,
    /// The offsets of this number are committed with the transaction.
    pub(crate) offsets_done: Option<u64>,
    /// The request is to be sent again.
    pub(crate) again: Option<Pace>,
    /// Its coordinator is to be found anew.
    pub(crate) find: bool,
}

impl Actions {
    fn refuse(error: Error) -> Self {
        Self { refused: Some(error), ..Self::default() }
    }

    fn gate(gate: Gate) -> Self {
        Self { gate: Some(gate), ..Self::default() }
    }
}

/// What is to be sent to a coordinator.
#[derive(Clone, Debug)]
pub(crate) enum Request {
    Init { known: ProducerIdAndEpoch },
    AddOffsets { producer: ProducerIdAndEpoch, group: Arc<str> },
    CommitOffsets { standing: Standing, offsets: Offsets },
    End { standing: Standing, commit: bool },
}

impl State {
    /// What is to be sent now. Partitions to be added come on top of this, from those who have batches for them.
    pub(crate) fn request(&self) -> Option<Request> {
        match self {
            Self::Initializing => Some(Request::Init { known: ProducerIdAndEpoch::NONE }),
            Self::Bumping(standing) => Some(Request::Init { known: standing.producer }),
            Self::Open(open) | Self::Flushing(open) => open.offsets_request(),
            Self::Committing(open) => {
                let end = Request::End { standing: open.standing, commit: true };
                Some(open.offsets_request().unwrap_or(end))
            }
            Self::Aborting(open) => Some(Request::End { standing: open.standing, commit: false }),
            Self::Uninitialized { .. } | Self::Ready(_) | Self::Abortable(..) | Self::Draining(_) | Self::Fatal(_) => {
                None
            }
        }
    }

    /// The transaction that has no end yet.
    pub(crate) fn open(&self) -> Option<&Open> {
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
    pub(crate) fn on(self, terms: &Terms, now: Instant, event: Event) -> (Self, Actions) {
        match event {
            Event::Init => self.init(),
            Event::Begin { number } => self.begin(now, number),
            Event::Commit => self.commit(),
            Event::Flushed { begun } => self.flushed(begun),
            Event::Abort => self.abort(),
            Event::Drained { begun } => self.drained(begun),
            Event::SendOffsets(offsets) => self.commit_offsets(offsets),
            Event::Failed { error, doubt } => self.failed(terms, now, error, doubt),
            Event::RecordRefused(error) => match self {
                Self::Open(open) | Self::Flushing(open) => open.must_be_aborted(terms, now, error),
                other => (other, Actions::default()),
            },
            Event::Initialized(standing) => match self {
                Self::Initializing | Self::Bumping(_) => (Self::Ready(standing), Actions::default()),
                other => (other, Actions::default()),
            },
            Event::GroupAdded => (self.group_added(), Actions::default()),
            Event::OffsetsCommitted => self.offsets_committed(),
            Event::Ended { next, protocol } => self.ended(next, protocol),
            Event::Asked => (self.asked(), Actions::default()),
            Event::Refused { step, error, sent, begun } => {
                self.answered(sent, &error).refused(terms, now, step, error, begun)
            }
        }
    }

    fn init(self) -> (Self, Actions) {
        match self {
            Self::Uninitialized { .. } | Self::Initializing => (Self::Initializing, Actions::default()),
            Self::Fatal(error) => (Self::Fatal(error.clone()), Actions::refuse(error)),
            other => (other, Actions::refuse(misuse("init_transactions has been called before, once is enough"))),
        }
    }

    fn begin(self, now: Instant, number: u64) -> (Self, Actions) {
        match self {
            Self::Ready(standing) => {
                let open = Open {
                    number,
                    standing,
                    since: now,
                    doubt: Doubt::None,
                    offsets: VecDeque::new(),
                    groups: Vec::new(),
                    end: EndTxn::default(),
                };
                (Self::Open(open), Actions::gate(Gate::Open(standing)))
            }
            Self::Open(_) => {
                (self, Actions::refuse(misuse("a transaction is open already; a producer has one at a time")))
            }
            other => {
                let error = other.refusal().unwrap_or_else(|| misuse("no transaction can begin now"));
                (other, Actions::refuse(error))
            }
        }
    }

    fn commit(self) -> (Self, Actions) {
        match self {
            Self::Open(open) | Self::Flushing(open) => (Self::Flushing(open), Actions::default()),
            Self::Committing(_) => (self, Actions::default()),
            other => {
                let error = other.refusal().unwrap_or_else(|| misuse("there is nothing to commit"));
                (other, Actions::refuse(error))
            }
        }
    }

    fn flushed(self, begun: Begun) -> (Self, Actions) {
        match self {
            // The coordinator knows nothing, so there is nothing to tell (and it would refuse).
            Self::Flushing(open) if begun == Begun::No && open.offsets.is_empty() => {
                let actions = Actions { ended: Some((open.number, Ended::Committed)), ..Actions::gate(Gate::Shut) };
                (Self::Ready(open.standing), actions)
            }
            Self::Flushing(open) => (Self::Committing(open), Actions::gate(Gate::Shut)),
            other => (other, Actions::default()),
        }
    }

    fn abort(self) -> (Self, Actions) {
        match self {
            Self::Committing(open) if open.may_be_committed() => {
                let error = misuse("the transaction may be committed already; its commit must be repeated");
                (Self::Committing(open), Actions::refuse(error.with_written(Written::Maybe)))
            }
            Self::Open(open) | Self::Flushing(open) | Self::Committing(open) | Self::Abortable(open, _) => {
                let text = "the transaction was aborted before the record was acknowledged";
                let error = Error::new(ErrorKind::Aborted, Recovery::Retry, text);
                (Self::Draining(open), Actions::gate(Gate::Refuse(error)))
            }
            Self::Draining(_) | Self::Aborting(_) => (self, Actions::default()),
            other => {
                let error = other.refusal().unwrap_or_else(|| misuse("there is nothing to abort"));
                (other, Actions::refuse(error))
            }
        }
    }

    fn drained(self, begun: Begun) -> (Self, Actions) {
        match self {
            Self::Draining(open) if begun == Begun::No => {
                let actions = Actions { ended: Some((open.number, Ended::Aborted)), ..Actions::gate(Gate::Shut) };
                (Self::Ready(open.standing), actions)
            }
            Self::Draining(open) => (Self::Aborting(open), Actions::default()),
            other => (other, Actions::default()),
        }
    }

    fn commit_offsets(self, offsets: Offsets) -> (Self, Actions) {
        match self {
            Self::Open(mut open) => {
                open.offsets.push_back(offsets);
                (Self::Open(open), Actions::default())
            }
            other => {
                let error = other.refusal().unwrap_or_else(|| misuse("no offsets can be committed now"));
                (other, Actions::refuse(error))
            }
        }
    }

    fn failed(mut self, terms: &Terms, now: Instant, error: Error, doubt: Doubt) -> (Self, Actions) {
        if ends_the_producer(&error) && !matches!(self, Self::Fatal(_)) {
            return self.fatal(terms, now, error);
        }
        if let Some(open) = self.open_mut() {
            open.doubt = open.doubt.max(doubt);
        }
        match self {
            Self::Open(open) | Self::Flushing(open) => open.must_be_aborted(terms, now, error),
            // A commit that may be done has no batch any more that could fail.
            Self::Committing(open) if !open.may_be_committed() => open.must_be_aborted(terms, now, error),
            other => (other, Actions::default()),
        }
    }

    fn open_mut(&mut self) -> Option<&mut Open> {
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

    fn offsets_committed(mut self) -> (Self, Actions) {
        let mut actions = Actions::default();
        if let Self::Open(open) | Self::Flushing(open) | Self::Committing(open) = &mut self {
            actions.offsets_done = open.offsets.pop_front().map(|offsets| offsets.number);
        }
        (self, actions)
    }

    fn ended(self, next: Option<ProducerIdAndEpoch>, protocol: Protocol) -> (Self, Actions) {
        let (open, how) = match self {
            Self::Committing(open) => (open, Ended::Committed),
            Self::Aborting(open) => (open, Ended::Aborted),
            other => return (other, Actions::default()),
        };
        let actions = Actions { ended: Some((open.number, how)), ..Actions::gate(Gate::Shut) };
        let former = open.standing;
        let standing = Standing { producer: next.unwrap_or(former.producer), protocol };
        let state = match (former.protocol, protocol) {
            (Protocol::V2, _) => Self::Ready(standing),
            // The epoch of V1 ends with it; V2 begins with sequences from 0.
            (Protocol::V1 { .. }, Protocol::V2) => Self::Bumping(standing),
            (Protocol::V1 { .. }, Protocol::V1 { can_bump }) => match open.doubt {
                Doubt::None => Self::Ready(standing),
                Doubt::Refused | Doubt::Lost if can_bump => Self::Bumping(standing),
                Doubt::Refused => Self::Ready(standing),
                Doubt::Lost => {
                    let text = "the transaction was aborted, but sequence numbers were lost with it, and the coordinator \
                                is too old to give the producer another epoch (KIP-360, Kafka 2.5); build a new one";
                    let error = Error::new(ErrorKind::OutOfSequence, Recovery::Fatal, text);
                    return (Self::Fatal(error.clone()), Actions { gate: Some(Gate::Refuse(error)), ..actions });
                }
            },
        };
        (state, actions)
    }

    fn refused(self, terms: &Terms, now: Instant, step: Step, error: Error, begun: Begun) -> (Self, Actions) {
        let protocol = self.open().map(|open| open.standing.protocol);
        let facts = protocol.unwrap_or(Protocol::V1 { can_bump: true }).facts();
        let (verdict, error) = match error.kind() {
            ErrorKind::Broker(code) => (verdict(step, code, facts), error.with_recovery(recovery(code))),
            // Without the member they could be committed.
            ErrorKind::UnsupportedVersion if step == Step::CommitOffsets => (Verdict::Abort, error),
            // A connection is of no use any more once a call on it has failed.
            _ if error.recovery() == Recovery::Retry => (Verdict::Find, error),
            _ => (Verdict::Fatal, error),
        };
        match verdict {
            Verdict::Again => (self, Actions { again: Some(Pace::Later), ..Actions::default() }),
            Verdict::Soon => (self, Actions { again: Some(Pace::Soon), ..Actions::default() }),
            Verdict::Find => (self, Actions { again: Some(Pace::Later), find: true, ..Actions::default() }),
            Verdict::Refuse => match self {
                Self::Initializing => {
                    (Self::Uninitialized { refused: Some(error.with_recovery(Recovery::Fix)) }, Actions::default())
                }
                other => other.fatal(terms, now, error),
            },
            Verdict::Abort => match self {
                Self::Open(open) | Self::Flushing(open) | Self::Committing(open) => {
                    open.must_be_aborted(terms, now, error)
                }
                Self::Abortable(..) | Self::Draining(_) => (self, Actions::default()),
                Self::Aborting(_) if step != (Step::End { commit: false }) => (self, Actions::default()),
                other => other.fatal(terms, now, error),
            },
            // Nothing of it reached the coordinator: there was nothing to abort.
            Verdict::Fatal
                if step == (Step::End { commit: false })
                    && begun != Begun::Yes
                    && error.code() == Some(ErrorCode::INVALID_TXN_STATE) =>
            {
                let protocol = protocol.unwrap_or(Protocol::V2);
                self.ended(None, protocol)
            }
            // Other settings may help another producer, such as a shorter transaction_timeout.
            Verdict::Fatal if matches!(self, Self::Initializing) && error.recovery() == Recovery::Fix => {
                (Self::Fatal(error.clone()), Actions::gate(Gate::Refuse(error)))
            }
            Verdict::Fenced | Verdict::Fatal => self.fatal(terms, now, error),
        }
    }

    fn fatal(self, terms: &Terms, now: Instant, error: Error) -> (Self, Actions) {
        let open = self.open();
        let error = match error.code() {
            Some(ErrorCode::PRODUCER_FENCED | ErrorCode::INVALID_PRODUCER_EPOCH) => {
                let mut text =
                    format!("another producer has taken the transactional id {:?}; close this one", terms.id);
                if let Some(taken) = open.map(|open| now.saturating_duration_since(open.since))
                    && taken >= terms.timeout
                {
                    text = format!(
                        "{text}. Or there is none, and the transaction was aborted because it took {taken:.1?}, longer \
                         than transaction_timeout, {:?}: before transactions V2 (KIP-890) the two look the same",
                        terms.timeout
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
                    terms.id
                );
                Error::new(error.kind(), Recovery::Fatal, text)
                    .in_context(|context| *context = error.context().clone())
                    .with_source(error)
            }
            _ => error.with_recovery(Recovery::Fatal),
        };
        // Of the transaction, that is; what comes later is about something else.
        let maybe = open.is_some_and(Open::may_be_committed);
        let written = if maybe { Written::Maybe } else { Written::No };
        let lost = open.map(|open| (open.number, error.clone().with_written(written)));
        let error = error.as_cause();
        (Self::Fatal(error.clone()), Actions { lost, ..Actions::gate(Gate::Refuse(error)) })
    }
}

impl Open {
    /// Whether the coordinator may have been asked to commit it, and may have done so.
    pub(crate) fn may_be_committed(&self) -> bool {
        self.end.asked || self.end.lost
    }

    fn offsets_request(&self) -> Option<Request> {
        let offsets = self.offsets.front()?;
        let standing = self.standing;
        let group = &offsets.group.group_id;
        Some(match standing.protocol {
            Protocol::V1 { .. } if !self.groups.contains(group) => {
                Request::AddOffsets { producer: standing.producer, group: Arc::clone(group) }
            }
            _ => Request::CommitOffsets { standing, offsets: offsets.clone() },
        })
    }

    /// Why it cannot be committed, in words that say what to do.
    fn must_be_aborted(self, terms: &Terms, now: Instant, cause: Error) -> (State, Actions) {
        let taken = now.saturating_duration_since(self.since);
        let locked_out = matches!(
            cause.code(),
            Some(ErrorCode::INVALID_PRODUCER_EPOCH | ErrorCode::INVALID_TXN_STATE | ErrorCode::TRANSACTION_ABORTABLE)
        );
        let text = if locked_out && taken >= terms.timeout {
            format!(
                "the transaction took {taken:.1?}, longer than transaction_timeout, {:?}, so the coordinator has aborted \
                 it: abort it here too, and the next one can begin",
                terms.timeout
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
        (State::Abortable(self, error), Actions::gate(Gate::Refuse(refused)))
    }
}

/// A call that does not fit the state.
pub(crate) fn misuse(text: &'static str) -> Error {
    Error::new(ErrorKind::Misuse, Recovery::Fix, text)
}

#[cfg(test)]
mod tests;
