//! The gate between a transaction and the senders: it says whether a batch may be sent, and under which identity.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::batch_failure::{SequenceGap, ends_the_producer, sequence_gap};
use super::marker_delay::MarkerDelay;
use crate::error::Error;
use crate::obstacle::Obstacle;
use crate::producer::buffer::partition::{Partition, PartitionId};
use crate::topic::{ProducerIdAndEpoch, TopicPartition};

/// The last Produce version that does not add its partitions to a transaction by itself (KIP-890).
const LAST_PRODUCE_OF_V1: i16 = 11;

/// The identity that a sender may write into a batch now.
pub(crate) enum CurrentIdentity {
    /// None: the producer is not idempotent.
    Unneeded,
    /// There is none yet; it has been asked for.
    Awaited,
    /// This identity.
    Known(ProducerIdAndEpoch),
    /// There will never be one, for this reason.
    Refused(Error),
}

/// Which protocol of transactions the cluster uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Partitions and groups are added before they are written to, and the epoch stays.
    V1 {
        /// The coordinator gives a producer its next epoch when it is asked (KIP-360, Kafka 2.5).
        can_bump: bool,
    },
    /// Produce and TxnOffsetCommit add them, and the end of every transaction gives the producer its next epoch
    /// (KIP-890).
    V2,
}

/// What InitProducerId gives to a producer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerSession {
    pub(crate) producer: ProducerIdAndEpoch,
    pub(crate) protocol: Protocol,
}

/// Whether the coordinator knows of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Begun {
    /// No request was sent that begins the transaction.
    No,
    /// Such a request was sent, and may not have been carried out.
    Maybe,
    Yes,
}

/// Says to the senders which batches of a transaction may be sent. *Lock order*: only partitions' locks come after its
/// own.
pub(crate) struct TransactionGate {
    state: Mutex<GateState>,
    /// A hint that spares the senders the lock.
    refusing: AtomicBool,
    produce_limit: AtomicI16,
    /// The failure of batches, until the transaction takes it.
    failure: Mutex<Option<BatchFailure>>,
    /// Why the transaction's requests are not carried out now, if they are not.
    pub(crate) obstacle: Obstacle,
    wake_up: Sender<()>,
}

/// The failure of one or more batches.
#[derive(Debug)]
pub(crate) struct BatchFailure {
    /// The first error, or else one that ends the producer.
    pub(crate) error: Error,
    /// The worst one: a batch that was given up by an abort must not hide one that may be written.
    pub(crate) sequence_gap: SequenceGap,
}

struct GateState {
    mode: GateMode,
    /// Whether the coordinator knows of the transaction; kept until the next one.
    begun: Begun,
    marker_delay: MarkerDelay,
}

enum GateMode {
    /// No batch may be sent. There should be none.
    Shut,
    Open(OpenGate),
    /// Batches that are not in flight fail with this error.
    Refusing(Error),
}

struct OpenGate {
    producer: ProducerIdAndEpoch,
    /// V1.
    joining: Option<Joining>,
    /// V2: the state of the transaction's first batch.
    first: FirstBatch,
}

#[derive(Clone, Copy)]
enum FirstBatch {
    None,
    /// It is held until this time, because of the markers of the transaction before.
    Held(Instant),
    Sent(Instant),
}

#[derive(Default)]
struct Joining {
    /// The partitions that have batches, and whether each is part of the transaction. Searched for every partition of a
    /// request, of which there may be thousands.
    known: HashMap<PartitionId, bool, foldhash::fast::RandomState>,
    /// Those that are not yet.
    wanted: Vec<(PartitionId, TopicPartition)>,
}

impl TransactionGate {
    /// A gate, and the receiving end of its wake-ups: one comes when a sender wants a partition added, or a batch has
    /// failed.
    pub(crate) fn new() -> (Self, Receiver<()>) {
        let (wake_up, wake_ups) = bounded(1);
        let gate = Self {
            state: Mutex::new(GateState {
                mode: GateMode::Shut,
                begun: Begun::No,
                marker_delay: MarkerDelay::default(),
            }),
            refusing: AtomicBool::new(false),
            produce_limit: AtomicI16::new(i16::MAX),
            failure: Mutex::new(None),
            obstacle: Obstacle::default(),
            wake_up,
        };
        (gate, wake_ups)
    }

    /// Wakes `kafka-txn`.
    pub(crate) fn wake(&self) {
        // If a wake-up is waiting already, it is enough.
        self.wake_up.try_send(()).ok();
    }

    // ---- the senders' side ------------------------------------------------------------------------------------

    /// The identity that may be written into a batch of the partition now. *Thread*: the one that drives a broker's
    /// link.
    pub(crate) fn current(&self, partition: &Partition) -> CurrentIdentity {
        let mut state = self.state.lock();
        let GateState { mode, begun, marker_delay } = &mut *state;
        match mode {
            GateMode::Shut => CurrentIdentity::Awaited,
            GateMode::Refusing(error) => CurrentIdentity::Refused(error.clone()),
            GateMode::Open(open) => match &mut open.joining {
                None => {
                    match open.first {
                        FirstBatch::Sent(_) => {}
                        FirstBatch::Held(_) => return CurrentIdentity::Awaited,
                        FirstBatch::None => {
                            let now = Instant::now();
                            if let Some(until) = marker_delay.until(now) {
                                open.first = FirstBatch::Held(until);
                                self.wake();
                                return CurrentIdentity::Awaited;
                            }
                            open.first = FirstBatch::Sent(now);
                        }
                    }
                    // In V2 the Produce request begins the transaction.
                    *begun = Begun::Maybe.max(*begun);
                    CurrentIdentity::Known(open.producer)
                }
                Some(Joining { known, wanted }) => match known.entry(partition.id()) {
                    Entry::Occupied(joined) if *joined.get() => CurrentIdentity::Known(open.producer),
                    Entry::Occupied(_) => CurrentIdentity::Awaited,
                    Entry::Vacant(vacant) => {
                        vacant.insert(false);
                        wanted.push((partition.id(), partition.name().clone()));
                        self.wake();
                        CurrentIdentity::Awaited
                    }
                },
            },
        }
    }

    /// Whether all batches that are not in flight are to fail. A hint.
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// Calls `take` if batches are to fail, so that it takes them out of the queues, and returns what it took, with the
    /// error for them. No transaction begins meanwhile. `take` may lock partitions, and nothing else.
    pub(crate) fn while_refusing<T>(&self, take: impl FnOnce() -> T) -> Option<(Error, T)> {
        let state = self.state.lock();
        match &state.mode {
            GateMode::Refusing(error) => Some((error.clone(), take())),
            GateMode::Shut | GateMode::Open(_) => None,
        }
    }

    /// The highest Produce version that may be used.
    pub(crate) fn produce_limit(&self) -> i16 {
        self.produce_limit.load(Ordering::Relaxed)
    }

    /// The producer has ended.
    pub(crate) fn kill(&self, error: Error) {
        self.note_failure(&error);
        self.refuse(error);
    }

    /// A batch has failed. *Thread*: any that finishes a batch.
    pub(crate) fn note_failure(&self, error: &Error) {
        let of_batch = sequence_gap(error);
        let mut failure = self.failure.lock();
        match &mut *failure {
            None => *failure = Some(BatchFailure { error: error.clone(), sequence_gap: of_batch }),
            Some(known) => {
                known.sequence_gap = known.sequence_gap.max(of_batch);
                if ends_the_producer(error) {
                    known.error = error.clone();
                }
            }
        }
        drop(failure);
        self.wake();
    }

    // ---- the transaction's side -------------------------------------------------------------------------------

    /// The failure since the last call, if there was one.
    pub(crate) fn take_failure(&self) -> Option<BatchFailure> {
        self.failure.lock().take()
    }

    pub(crate) fn open(&self, session: ProducerSession) {
        let joining = match session.protocol {
            Protocol::V1 { .. } => Some(Joining::default()),
            Protocol::V2 => None,
        };
        let limit = if joining.is_some() { LAST_PRODUCE_OF_V1 } else { i16::MAX };
        self.produce_limit.store(limit, Ordering::Relaxed);
        self.set(
            GateMode::Open(OpenGate { producer: session.producer, joining, first: FirstBatch::None }),
            Some(Begun::No),
        );
    }

    pub(crate) fn shut(&self) {
        self.set(GateMode::Shut, None);
    }

    pub(crate) fn refuse(&self, error: Error) {
        self.set(GateMode::Refusing(error), None);
    }

    fn set(&self, next: GateMode, begun: Option<Begun>) {
        let refusing = matches!(next, GateMode::Refusing(_));
        let mut state = self.state.lock();
        state.mode = next;
        state.begun = begun.unwrap_or(state.begun);
        self.refusing.store(refusing, Ordering::Release);
    }

    /// The coordinator has decided a transaction.
    pub(crate) fn decided(&self) {
        self.state.lock().marker_delay.end(Instant::now());
    }

    /// Until when the first batch is held, if it is.
    pub(crate) fn held(&self) -> Option<Instant> {
        match &self.state.lock().mode {
            GateMode::Open(OpenGate { first: FirstBatch::Held(until), .. }) => Some(*until),
            _ => None,
        }
    }

    /// The first batch need not wait any longer.
    pub(crate) fn release(&self) {
        if let GateMode::Open(open) = &mut self.state.lock().mode
            && let FirstBatch::Held(_) = open.first
        {
            open.first = FirstBatch::Sent(Instant::now());
        }
    }

    /// A commit was called at `asked`, and its last batch was answered at `now`.
    pub(crate) fn flushed(&self, asked: Instant, now: Instant) {
        let mut state = self.state.lock();
        if let GateMode::Open(OpenGate { first: FirstBatch::Sent(sent), .. }) = state.mode {
            state.marker_delay.learn(sent, asked, now);
        }
    }

    /// Whether the coordinator knows of the transaction.
    pub(crate) fn begun(&self) -> Begun {
        self.state.lock().begun
    }

    /// Notes that the coordinator knows, or may know, of the transaction.
    pub(crate) fn begin(&self, how: Begun) {
        let mut state = self.state.lock();
        state.begun = how.max(state.begun);
    }

    /// The partitions that have batches and are not part of the transaction yet.
    pub(crate) fn wanted(&self) -> Vec<(PartitionId, TopicPartition)> {
        match &self.state.lock().mode {
            GateMode::Open(OpenGate { joining: Some(joining), .. }) => joining.wanted.clone(),
            _ => Vec::new(),
        }
    }

    /// Notes that these partitions are part of the transaction now.
    pub(crate) fn joined(&self, partitions: &[(PartitionId, TopicPartition)]) {
        if let GateMode::Open(OpenGate { joining: Some(joining), .. }) = &mut self.state.lock().mode {
            joining.known.extend(partitions.iter().map(|(id, _)| (*id, true)));
            joining.wanted.retain(|(id, _)| joining.known.get(id) != Some(&true));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{ErrorCode, ErrorKind, Recovery, Written};
    use std::sync::Arc;
    use std::time::Duration;

    fn failure_of(errors: &[&Error]) -> BatchFailure {
        let (gate, _wake_ups) = TransactionGate::new();
        errors.iter().for_each(|error| gate.note_failure(error));
        gate.take_failure().unwrap()
    }

    #[test]
    fn of_several_failures_the_worst_gap_counts() {
        let aborted = Error::new(ErrorKind::Aborted, Recovery::Retry, "given up");
        let refused = Error::broker(ErrorCode::INVALID_RECORD, None);
        let lost = Error::network("cut").with_written(Written::Maybe);
        let fenced = Error::broker(ErrorCode::PRODUCER_FENCED, None);
        for errors in [[&aborted, &refused, &lost], [&lost, &refused, &aborted], [&aborted, &lost, &refused]] {
            let failure = failure_of(&errors);
            assert_eq!((failure.error.kind(), failure.sequence_gap), (errors[0].kind(), SequenceGap::Lost));
        }
        assert_eq!(failure_of(&[&aborted, &refused]).sequence_gap, SequenceGap::Reusable);
        assert_eq!(failure_of(&[&aborted, &aborted]).sequence_gap, SequenceGap::None);
        // An error that ends the producer is kept, and does not hide the worst gap.
        let failure = failure_of(&[&lost, &fenced, &aborted]);
        assert_eq!((failure.error.kind(), failure.sequence_gap), (fenced.kind(), SequenceGap::Lost));
    }

    /// A linear search for each partition would take minutes, and the senders would wait meanwhile.
    #[test]
    fn many_partitions_join_a_transaction_without_a_search_for_each() {
        const PARTITIONS: u32 = 200_000;
        let begun = Instant::now();
        let (gate, _wake_ups) = TransactionGate::new();
        let producer = ProducerIdAndEpoch { producer_id: 1, epoch: 0 };
        gate.open(ProducerSession { producer, protocol: Protocol::V1 { can_bump: true } });
        let topic: Arc<str> = "t".into();
        let partitions: Vec<Arc<Partition>> = (0..PARTITIONS)
            .map(|id| {
                let partition = i32::try_from(id).unwrap();
                Partition::new(PartitionId(id), TopicPartition { topic: Arc::clone(&topic), index: partition })
            })
            .collect();
        for _ in 0..2 {
            assert!(partitions.iter().all(|partition| matches!(gate.current(partition), CurrentIdentity::Awaited)));
        }
        // Each is asked for once, and until it has joined.
        let wanted = gate.wanted();
        assert_eq!(wanted.len(), partitions.len());
        let (first, rest) = wanted.split_at(10);
        gate.joined(first);
        assert!(gate.wanted() == rest);
        gate.joined(rest);
        assert!(gate.wanted().is_empty());
        assert!(
            partitions
                .iter()
                .all(|partition| matches!(gate.current(partition), CurrentIdentity::Known(known) if known == producer))
        );
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
