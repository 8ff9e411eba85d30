//! What of a transaction the senders see: whether a batch may be sent, and under which identity.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicBool, AtomicI16, Ordering};
use std::time::Instant;

use crossbeam_channel::{Receiver, Sender, bounded};
use parking_lot::Mutex;

use super::doubt::{Doubt, doubt, ends_the_producer};
use super::gap::Gap;
use crate::error::Error;
use crate::obstacle::Obstacle;
use crate::producer::buffer::partition::{Partition, PartitionId};
use crate::topic::{ProducerIdAndEpoch, TopicPartition};

/// The last Produce version that does not add its partitions to a transaction by itself (KIP-890).
const LAST_PRODUCE_OF_V1: i16 = 11;

/// What a sender may stamp on a batch now.
pub(crate) enum Current {
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
pub(crate) struct Standing {
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
pub(crate) struct Gate {
    inner: Mutex<Inner>,
    /// A hint that spares the senders the lock.
    refusing: AtomicBool,
    produce_limit: AtomicI16,
    /// The batches that failed, until the transaction is told of them.
    failure: Mutex<Option<Failure>>,
    /// Why the transaction's requests are not done now, if they are not.
    pub(crate) obstacle: Obstacle,
    bell: Sender<()>,
}

/// What batches have failed with.
#[derive(Debug)]
pub(crate) struct Failure {
    /// The first error, or one that ends the producer.
    pub(crate) error: Error,
    /// The greatest one: a batch that is given up in silence must not hide one that may be written.
    pub(crate) doubt: Doubt,
}

struct Inner {
    state: State,
    /// Whether the coordinator knows of the transaction; kept until the next one.
    begun: Begun,
    gap: Gap,
}

enum State {
    /// No batch may be sent, and there should be none.
    Shut,
    Open(Open),
    /// What is not in flight fails.
    Refusing(Error),
}

struct Open {
    producer: ProducerIdAndEpoch,
    /// V1.
    joining: Option<Joining>,
    /// V2: what has become of its first batch.
    first: First,
}

#[derive(Clone, Copy)]
enum First {
    None,
    /// It waits for the gap after the transaction before it.
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

impl Gate {
    /// A gate, and the other end of its bell: it rings when a sender wants a partition added, or a batch has failed.
    pub(crate) fn new() -> (Self, Receiver<()>) {
        let (bell, ear) = bounded(1);
        let gate = Self {
            inner: Mutex::new(Inner { state: State::Shut, begun: Begun::No, gap: Gap::default() }),
            refusing: AtomicBool::new(false),
            produce_limit: AtomicI16::new(i16::MAX),
            failure: Mutex::new(None),
            obstacle: Obstacle::default(),
            bell,
        };
        (gate, ear)
    }

    /// Wakes `kafka-txn`.
    pub(crate) fn ring(&self) {
        // A bell that rings already is enough.
        self.bell.try_send(()).ok();
    }

    // ---- the senders' side ------------------------------------------------------------------------------------

    /// What may be stamped on a batch of the partition now. *Thread*: who drives a broker's link.
    pub(crate) fn current(&self, partition: &Partition) -> Current {
        let mut inner = self.inner.lock();
        let Inner { state, begun, gap } = &mut *inner;
        match state {
            State::Shut => Current::Awaited,
            State::Refusing(error) => Current::Refused(error.clone()),
            State::Open(open) => match &mut open.joining {
                None => {
                    match open.first {
                        First::Sent(_) => {}
                        First::Held(_) => return Current::Awaited,
                        First::None => {
                            let now = Instant::now();
                            if let Some(until) = gap.until(now) {
                                open.first = First::Held(until);
                                self.ring();
                                return Current::Awaited;
                            }
                            open.first = First::Sent(now);
                        }
                    }
                    // Produce begins the transaction.
                    *begun = Begun::Maybe.max(*begun);
                    Current::Known(open.producer)
                }
                Some(Joining { known, wanted }) => match known.entry(partition.id()) {
                    Entry::Occupied(joined) if *joined.get() => Current::Known(open.producer),
                    Entry::Occupied(_) => Current::Awaited,
                    Entry::Vacant(place) => {
                        place.insert(false);
                        wanted.push((partition.id(), partition.name().clone()));
                        self.ring();
                        Current::Awaited
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
            State::Refusing(error) => Some((error.clone(), take())),
            State::Shut | State::Open(_) => None,
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
            None => *failure = Some(Failure { error: error.clone(), doubt: of_batch }),
            Some(known) => {
                known.doubt = known.doubt.max(of_batch);
                if ends_the_producer(error) {
                    known.error = error.clone();
                }
            }
        }
        drop(failure);
        self.ring();
    }

    // ---- the transaction's side -------------------------------------------------------------------------------

    /// What has failed since this was last asked.
    pub(crate) fn take_failure(&self) -> Option<Failure> {
        self.failure.lock().take()
    }

    pub(crate) fn open(&self, standing: Standing) {
        let joining = match standing.protocol {
            Protocol::V1 { .. } => Some(Joining::default()),
            Protocol::V2 => None,
        };
        let limit = if joining.is_some() { LAST_PRODUCE_OF_V1 } else { i16::MAX };
        self.produce_limit.store(limit, Ordering::Relaxed);
        self.set(State::Open(Open { producer: standing.producer, joining, first: First::None }), Some(Begun::No));
    }

    pub(crate) fn shut(&self) {
        self.set(State::Shut, None);
    }

    pub(crate) fn refuse(&self, error: Error) {
        self.set(State::Refusing(error), None);
    }

    fn set(&self, next: State, begun: Option<Begun>) {
        let refusing = matches!(next, State::Refusing(_));
        let mut inner = self.inner.lock();
        inner.state = next;
        inner.begun = begun.unwrap_or(inner.begun);
        self.refusing.store(refusing, Ordering::Release);
    }

    /// The coordinator has decided a transaction.
    pub(crate) fn decided(&self) {
        self.inner.lock().gap.end(Instant::now());
    }

    /// Until when the first batch is held, if it is.
    pub(crate) fn held(&self) -> Option<Instant> {
        match &self.inner.lock().state {
            State::Open(Open { first: First::Held(until), .. }) => Some(*until),
            _ => None,
        }
    }

    /// The first batch need not wait any longer.
    pub(crate) fn release(&self) {
        if let State::Open(open) = &mut self.inner.lock().state
            && let First::Held(_) = open.first
        {
            open.first = First::Sent(Instant::now());
        }
    }

    /// A commit was called at `asked`, and has been waiting for the batches until `now`.
    pub(crate) fn flushed(&self, asked: Instant, now: Instant) {
        let mut inner = self.inner.lock();
        if let State::Open(Open { first: First::Sent(sent), .. }) = inner.state {
            inner.gap.learn(sent, asked, now);
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
            State::Open(Open { joining: Some(joining), .. }) => joining.wanted.clone(),
            _ => Vec::new(),
        }
    }

    /// These partitions are part of the transaction now.
    pub(crate) fn joined(&self, partitions: &[(PartitionId, TopicPartition)]) {
        if let State::Open(Open { joining: Some(joining), .. }) = &mut self.inner.lock().state {
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

    fn told(errors: &[&Error]) -> Failure {
        let (gate, _ear) = Gate::new();
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
        let (gate, _ear) = Gate::new();
        let producer = ProducerIdAndEpoch { producer_id: 1, epoch: 0 };
        gate.open(Standing { producer, protocol: Protocol::V1 { can_bump: true } });
        let topic: Arc<str> = "t".into();
        let partitions: Vec<Arc<Partition>> = (0..PARTITIONS)
            .map(|id| {
                let partition = i32::try_from(id).unwrap();
                Partition::new(PartitionId(id), TopicPartition { topic: Arc::clone(&topic), index: partition })
            })
            .collect();
        for _ in 0..2 {
            assert!(partitions.iter().all(|partition| matches!(gate.current(partition), Current::Awaited)));
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
                .all(|partition| matches!(gate.current(partition), Current::Known(known) if known == producer))
        );
        assert!(begun.elapsed() < Duration::from_secs(60));
    }
}
