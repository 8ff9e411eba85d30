//! What of a transaction the senders see: whether a batch may be sent, and under which identity.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::doubt::{Doubt, doubt, ends_the_producer};
use super::marker_delay::MarkerDelay;
use crate::error::Error;
use crate::obstacle::Obstacle;
use crate::producer::buffer::partition::{Partition, PartitionId};
use crate::topic::{ProducerIdAndEpoch, TopicPartition};

/// The last Produce version that does not add its partitions to a transaction by itself (KIP-890).
const LAST_PRODUCE_OF_V1: i16 = 11;

/// What a sender may stamp on a batch now.
pub(crate) enum CurrentIdentity {
    /// Nothing: the producer is not idempotent.
    Unneeded,
    /// Nothing yet; it has been asked for.
    Awaited,
    /// This.
    Known(ProducerIdAndEpoch),
    /// Nothing, ever.
    Refused(Error),
}

/// How the cluster wants transactions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Protocol {
    /// Partitions and groups are added before they are written to, and the epoch stays.
    V1 {
        /// The coordinator gives a producer its next epoch when it is asked (KIP-360, Kafka 2.5).
        can_bump: bool,
    },
    /// They are added on the way, and every end gives the next epoch (KIP-890).
    V2,
}

/// What a producer has once it is initialised.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProducerSession {
    pub(crate) producer: ProducerIdAndEpoch,
    pub(crate) protocol: Protocol,
}

/// Whether the coordinator knows of the transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Begun {
    /// Nothing was sent that begins it.
    No,
    /// Something was sent, and perhaps not done.
    Maybe,
    Yes,
}

/// Between the senders and the transaction. *Lock order*: only partitions' locks come after its own.
pub(crate) struct TransactionGate {
    inner: Mutex<GateState>,
    /// A hint that spares the senders the lock.
    refusing: AtomicBool,
    produce_limit: AtomicI16,
    /// The batches that failed, until the transaction is told of them.
    failure: Mutex<Option<BatchFailure>>,
    /// Why the transaction's requests are not done now, if they are not.
    pub(crate) obstacle: Obstacle,
    wake_up: Sender<()>,
}

/// What batches have failed with.
#[derive(Debug)]
pub(crate) struct BatchFailure {
    /// The first error, or one that ends the producer.
    pub(crate) error: Error,
    /// The greatest one: a batch that is given up in silence must not hide one that may be written.
    pub(crate) doubt: Doubt,
}

struct GateState {
    state: GateMode,
    /// Whether the coordinator knows of the transaction; kept until the next one.
    begun: Begun,
    marker_delay: MarkerDelay,
}

enum GateMode {
    /// No batch may be sent, and there should be none.
    Shut,
    Open(OpenGate),
    /// What is not in flight fails.
    Refusing(Error),
}

struct OpenGate {
    producer: ProducerIdAndEpoch,
    /// V1.
    joining: Option<Joining>,
    /// V2: what has become of its first batch.
    first: First,
}

#[derive(Clone, Copy)]
enum First {
    None,
    /// It waits for the delay after the transaction before it.
    Held(Instant),
    Sent(Instant),
}

#[derive(Default)]
struct Joining {
    /// The partitions that have batches, and whether each is part of the transaction. Looked at for every partition of
    /// a request, of which there may be thousands.
    known: HashMap<PartitionId, bool, foldhash::fast::RandomState>,
    /// Those that are not.
    wanted: Vec<(PartitionId, TopicPartition)>,
}

impl TransactionGate {
    /// A gate, and the receiving end of its wake-ups: one comes when a sender wants a partition added, or a batch has failed.
    pub(crate) fn new() -> (Self, Receiver<()>) {
        let (wake_up, wake_ups) = bounded(1);
        let gate = Self {
            inner: Mutex::new(GateState {
                state: GateMode::Shut,
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
        // One wake-up that waits already is enough.
        self.wake_up.try_send(()).ok();
    }

    // ---- the senders' side ------------------------------------------------------------------------------------

    /// What may be stamped on a batch of the partition now. *Thread*: who drives a broker's link.
    pub(crate) fn current(&self, partition: &Partition) -> CurrentIdentity {
        let mut inner = self.inner.lock();
        let GateState { state, begun, marker_delay } = &mut *inner;
        match state {
            GateMode::Shut => CurrentIdentity::Awaited,
            GateMode::Refusing(error) => CurrentIdentity::Refused(error.clone()),
            GateMode::Open(open) => match &mut open.joining {
                None => {
                    match open.first {
                        First::Sent(_) => {}
                        First::Held(_) => return CurrentIdentity::Awaited,
                        First::None => {
                            let now = Instant::now();
                            if let Some(until) = marker_delay.until(now) {
                                open.first = First::Held(until);
                                self.wake();
                                return CurrentIdentity::Awaited;
                            }
                            open.first = First::Sent(now);
                        }
                    }
                    // Produce begins the transaction.
                    *begun = Begun::Maybe.max(*begun);
                    CurrentIdentity::Known(open.producer)
                }
                Some(Joining { known, wanted }) => match known.entry(partition.id()) {
                    Entry::Occupied(joined) if *joined.get() => CurrentIdentity::Known(open.producer),
                    Entry::Occupied(_) => CurrentIdentity::Awaited,
                    Entry::Vacant(place) => {
                        place.insert(false);
                        wanted.push((partition.id(), partition.name().clone()));
                        self.wake();
                        CurrentIdentity::Awaited
                    }
                },
            },
        }
    }

    /// Whether everything that is not in flight is to fail. A hint.
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// Has `take` take what is to fail, if something is, with the error that it is to fail with. No transaction begins
    /// meanwhile. `take` may take a partition's lock, and no other.
    pub(crate) fn while_refusing<T>(&self, take: impl FnOnce() -> T) -> Option<(Error, T)> {
        let inner = self.inner.lock();
        match &inner.state {
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
        let of_batch = doubt(error);
        let mut failure = self.failure.lock();
        match &mut *failure {
            None => *failure = Some(BatchFailure { error: error.clone(), doubt: of_batch }),
            Some(known) => {
                known.doubt = known.doubt.max(of_batch);
                if ends_the_producer(error) {
                    known.error = error.clone();
                }
            }
        }
        drop(failure);
        self.wake();
    }

    // ---- the transaction's side -------------------------------------------------------------------------------

    /// What has failed since this was last asked.
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
        self.set(GateMode::Open(OpenGate { producer: session.producer, joining, first: First::None }), Some(Begun::No));
    }

    pub(crate) fn shut(&self) {
        self.set(GateMode::Shut, None);
    }

    pub(crate) fn refuse(&self, error: Error) {
        self.set(GateMode::Refusing(error), None);
    }

    fn set(&self, next: GateMode, begun: Option<Begun>) {
        let refusing = matches!(next, GateMode::Refusing(_));
        let mut inner = self.inner.lock();
        inner.state = next;
        inner.begun = begun.unwrap_or(inner.begun);
        self.refusing.store(refusing, Ordering::Release);
    }

    /// The coordinator has decided a transaction.
    pub(crate) fn decided(&self) {
        self.inner.lock().marker_delay.end(Instant::now());
    }

    /// Until when the first batch is held, if it is.
    pub(crate) fn held(&self) -> Option<Instant> {
        match &self.inner.lock().state {
            GateMode::Open(OpenGate { first: First::Held(until), .. }) => Some(*until),
            _ => None,
        }
    }

    /// The first batch need not wait any longer.
    pub(crate) fn release(&self) {
        if let GateMode::Open(open) = &mut self.inner.lock().state
            && let First::Held(_) = open.first
        {
            open.first = First::Sent(Instant::now());
        }
    }

    /// A commit was called at `asked`, and has been waiting for the batches until `now`.
    pub(crate) fn flushed(&self, asked: Instant, now: Instant) {
        let mut inner = self.inner.lock();
        if let GateMode::Open(OpenGate { first: First::Sent(sent), .. }) = inner.state {
            inner.marker_delay.learn(sent, asked, now);
        }
    }

    /// Whether the coordinator knows of the transaction.
    pub(crate) fn begun(&self) -> Begun {
        self.inner.lock().begun
    }

    /// Notes that the coordinator is, or may be, told of the transaction.
    pub(crate) fn begin(&self, how: Begun) {
        let mut inner = self.inner.lock();
        inner.begun = how.max(inner.begun);
    }

    /// The partitions that have batches and are not part of the transaction yet.
    pub(crate) fn wanted(&self) -> Vec<(PartitionId, TopicPartition)> {
        match &self.inner.lock().state {
            GateMode::Open(OpenGate { joining: Some(joining), .. }) => joining.wanted.clone(),
            _ => Vec::new(),
        }
    }

    /// These partitions are part of the transaction now.
    pub(crate) fn joined(&self, partitions: &[(PartitionId, TopicPartition)]) {
        if let GateMode::Open(OpenGate { joining: Some(joining), .. }) = &mut self.inner.lock().state {
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

    fn told(errors: &[&Error]) -> BatchFailure {
        let (gate, _ear) = TransactionGate::new();
        errors.iter().for_each(|error| gate.note_failure(error));
        gate.take_failure().unwrap()
    }

    #[test]
    fn of_several_failures_the_greatest_doubt_counts() {
        let aborted = Error::new(ErrorKind::Aborted, Recovery::Retry, "given up");
        let refused = Error::broker(ErrorCode::INVALID_RECORD, None);
        let lost = Error::network("cut").with_written(Written::Maybe);
        let fenced = Error::broker(ErrorCode::PRODUCER_FENCED, None);
        for errors in [[&aborted, &refused, &lost], [&lost, &refused, &aborted], [&aborted, &lost, &refused]] {
            let failure = told(&errors);
            assert_eq!((failure.error.kind(), failure.doubt), (errors[0].kind(), Doubt::Lost));
        }
        assert_eq!(told(&[&aborted, &refused]).doubt, Doubt::Refused);
        assert_eq!(told(&[&aborted, &aborted]).doubt, Doubt::None);
        // One that ends the producer is the error, and hides no doubt.
        let failure = told(&[&lost, &fenced, &aborted]);
        assert_eq!((failure.error.kind(), failure.doubt), (fenced.kind(), Doubt::Lost));
    }

    /// Searched through one by one, so many would take minutes, and the senders wait meanwhile.
    #[test]
    fn many_partitions_join_a_transaction_without_a_search_for_each() {
        const PARTITIONS: u32 = 200_000;
        let begun = Instant::now();
        let (gate, _ear) = TransactionGate::new();
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
