//! A partition's queue of sealed batches. It belongs to one sender at a time, and moves to another only when
//! nothing of it is in flight.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::gate::Current;
use super::identity::Identity;
use super::sequence::{Sequences, Settlement};
use crate::cluster::Snapshot;
use crate::error::{Error, ErrorCode, ErrorKind, Recovery, Written};
use crate::outage::Outage;
use crate::producer::buffer::batch::Batch;
use crate::producer::buffer::partition::{OpenState, Partition, PartitionId};
use crate::producer::buffer::stamp::{Stamp, advance};
use crate::producer::metrics::Failed;
use crate::protocol::wire::Uuid;
use crate::topic::BrokerId;

/// *Thread*: the sender that has it.
pub(crate) struct PartitionQueue {
    pub(crate) partition: Arc<Partition>,
    sealed: Receiver<Box<Batch>>,
    /// Batches to be sent: those to be sent again first, in their order.
    waiting: VecDeque<Box<Batch>>,
    /// The earliest delivery deadline of what waits, or an earlier time. It need not be the first batch's: one whose
    /// thread had to wait for memory has an earlier deadline than those that were opened meanwhile.
    waiting_deadline: Option<Instant>,
    /// What has failed since the sender last counted it.
    pub(crate) failed: Failed,
    pub(crate) in_flight: usize,
    /// Whether a batch that was sent before is in flight, which goes alone.
    pub(crate) sent_again: bool,
    pub(crate) leader: Option<BrokerId>,
    pub(crate) leader_epoch: i32,
    pub(crate) topic_id: Uuid,
    pub(crate) sequences: Sequences,
    next_serial: u64,
    /// Why nothing can be sent, for the error of batches that expire meanwhile.
    pub(crate) obstacle: Option<Error>,
    /// What the last batch that is to be sent again was told, until one is acknowledged: the reason why those behind
    /// it wait.
    pub(crate) setback: Option<Error>,
    /// Which setbacks are worth a warning.
    pub(crate) outage: Outage,
    /// Whether the producer's obstacles name the partition.
    pub(crate) hindered: bool,
    /// When the sender is to look at it next; what stands in its list of timers.
    pub(crate) timer: Option<Instant>,
    /// Whether it stands in the sender's list of partitions to look at.
    pub(crate) listed: bool,
    /// The earliest delivery deadline of what is in flight, or an earlier time.
    pub(crate) in_flight_deadline: Option<Instant>,
}

/// How a producer's batches may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// Several batches of a partition in flight; sequence numbers keep their order.
    Sequenced,
    /// One at a time: without sequence numbers a batch that is sent again would come after its successor. That holds
    /// without retries, too, for a batch may have to be split.
    Single,
    /// Several, since none is ever sent again.
    Free,
}

/// What can be done with a queue now.
pub(crate) enum Readiness {
    /// A batch can be taken.
    Ready,
    /// Not before this.
    At(Instant),
    /// Not before something happens: an answer, an identity, a leader.
    Blocked,
    /// There is nothing.
    Empty,
    /// Another broker leads the partition.
    Move(BrokerId),
    /// Nobody leads the partition, as far as is known.
    Leaderless,
    /// Nothing will ever be sent again.
    Refused(Error),
    /// What comes next has been purged.
    Purged,
}

impl PartitionQueue {
    pub(crate) fn new(partition: Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Self {
        Self {
            partition,
            sealed,
            waiting: VecDeque::new(),
            waiting_deadline: None,
            failed: Failed::default(),
            in_flight: 0,
            sent_again: false,
            leader: None,
            leader_epoch: -1,
            topic_id: Uuid::default(),
            sequences: Sequences::new(),
            next_serial: 0,
            obstacle: None,
            setback: None,
            outage: Outage::default(),
            hindered: false,
            timer: None,
            listed: false,
            in_flight_deadline: None,
        }
    }

    /// The way out of sealed batches, for another queue.
    pub(crate) fn into_sealed(self) -> Receiver<Box<Batch>> {
        self.sealed
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.partition.id()
    }

    /// Takes over what the cluster says of the partition. True if that is something new.
    pub(crate) fn see(&mut self, snapshot: &Snapshot) -> bool {
        let before = (self.leader, self.leader_epoch, self.topic_id);
        let name = self.partition.name();
        let topic = snapshot.topic(&name.topic);
        if let Some(topic) = topic {
            let has_another_id = topic.id != self.topic_id && !self.topic_id.is_zero();
            if has_another_id || topic.error == ErrorCode::UNKNOWN_TOPIC_OR_PARTITION {
                self.sequences.meet_another_log();
            }
            self.topic_id = topic.id;
        }
        match topic.and_then(|topic| topic.partition(name.partition)) {
            Some(partition) => {
                self.leader = partition.leader;
                self.leader_epoch = partition.leader_epoch;
                self.obstacle = match partition.leader {
                    Some(_) => None,
                    None if partition.error.is_none() => Some(Error::broker(ErrorCode::LEADER_NOT_AVAILABLE, None)),
                    None => Some(Error::broker(partition.error, None)),
                };
            }
            // A topic that nobody has used for a while is no longer asked about, which says nothing of its leader.
            None if topic.is_none() => {}
            None => {
                self.leader = None;
                self.obstacle = Some(Error::broker(ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, None));
            }
        }
        before != (self.leader, self.leader_epoch, self.topic_id)
    }

    fn drain_sealed(&mut self) {
        if self.sealed.is_empty() {
            return;
        }
        while let Ok(batch) = self.sealed.try_recv() {
            self.note_deadline(batch.deadline());
            self.waiting.push_back(batch);
        }
        self.partition.set_waiting(self.waiting.len());
    }

    fn note_deadline(&mut self, deadline: Instant) {
        self.waiting_deadline = Some(self.waiting_deadline.map_or(deadline, |other| other.min(deadline)));
    }

    /// Whether it has no batch, open or sealed, and nothing in flight.
    pub(crate) fn is_idle(&mut self) -> bool {
        self.drain_sealed();
        self.waiting.is_empty() && self.in_flight == 0 && self.comes_to_rest()
    }

    /// Settles sequence numbers where that is due, and says what can be done now. `hurry`: open batches do not
    /// linger.
    pub(crate) fn readiness(
        &mut self,
        now: Instant,
        broker: BrokerId,
        overlap: Overlap,
        hurry: bool,
        identity: &Identity,
    ) -> Readiness {
        self.drain_sealed();
        if self.in_flight == 0 {
            self.settle(identity);
        }
        // The sender has not been told yet, and another thread drives the link.
        if self.waiting.front().is_some_and(|batch| batch.is_purged()) {
            return Readiness::Purged;
        }
        let open = self.partition.peek();
        if self.waiting.is_empty() && open == OpenState::Empty && self.comes_to_rest() {
            return match self.leader {
                Some(leader) if leader != broker && self.in_flight == 0 => Readiness::Move(leader),
                _ => Readiness::Empty,
            };
        }
        match self.leader {
            Some(leader) if leader == broker => {}
            _ if self.in_flight > 0 => return Readiness::Blocked,
            Some(leader) => return Readiness::Move(leader),
            None => return Readiness::Leaderless,
        }
        let numbered = self.waiting.front().is_some_and(|batch| batch.stamp.is_some());
        let current = match identity.for_partition(&self.partition) {
            Current::Unneeded => None,
            Current::Known(current) => Some(current),
            Current::Awaited if numbered => None,
            Current::Awaited => return Readiness::Blocked,
            Current::Refused(error) => return Readiness::Refused(error),
        };
        if let Some(current) = current
            && !numbered
            && self.sequences.identity() != current
        {
            // The old epoch's batches come to their end first.
            if self.in_flight > 0 {
                return Readiness::Blocked;
            }
            self.sequences.switch(current);
        }
        let alone = match overlap {
            Overlap::Free => false,
            Overlap::Single => true,
            // A batch that is sent again goes alone: its successors must not pass it, and a broker remembers only the
            // last five batches, so that it would not recognise one that is sent yet again after five others.
            Overlap::Sequenced => numbered || self.sent_again || !self.sequences.may_pipeline(),
        };
        if alone && self.in_flight > 0 {
            return Readiness::Blocked;
        }
        match (self.waiting.front(), open) {
            (Some(batch), _) => match batch.not_before {
                // A new leader is no reason to wait (KIP-951).
                Some(then) if then > now && batch.leader_epoch >= self.leader_epoch => Readiness::At(then),
                _ => Readiness::Ready,
            },
            (None, OpenState::Lingers { due, .. }) if due > now && !hurry => {
                let open = self.partition.rest();
                self.drain_sealed();
                match open {
                    // Its linger may have been ended between the two looks, or it was sealed and this is the next one.
                    OpenState::Lingers { due, .. } if due > now && self.waiting.is_empty() => Readiness::At(due),
                    _ => Readiness::Ready,
                }
            }
            (None, _) => Readiness::Ready,
        }
    }

    /// Whether there is nothing still when application threads are told that there is nothing.
    pub(crate) fn comes_to_rest(&mut self) -> bool {
        let empty = self.partition.rest() == OpenState::Empty;
        self.drain_sealed();
        empty && self.waiting.is_empty()
    }

    /// Whether a sealed batch waits: a full one, or one that was sent before.
    pub(crate) fn has_sealed(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The size of the next batch: exact once it is sealed, before compression until then.
    pub(crate) fn head_len(&self) -> usize {
        self.waiting.front().map_or_else(|| self.partition.open_len(), |batch| batch.len())
    }

    /// Takes the next batch, after [`readiness`](Self::readiness) has found one.
    pub(crate) fn take(&mut self) -> Option<Box<Batch>> {
        if self.waiting.is_empty() {
            // A batch that was sealed between the two looks comes first.
            self.seal_open();
        }
        let mut batch = self.waiting.pop_front()?;
        self.partition.leaves(batch.len());
        if self.waiting.is_empty() {
            self.waiting_deadline = None;
        }
        self.partition.set_waiting(self.waiting.len());
        if batch.serial == 0 {
            self.next_serial += 1;
            batch.serial = self.next_serial;
        }
        Some(batch)
    }

    /// Seals the open batch and puts it behind all others.
    fn seal_open(&mut self) {
        let partition = Arc::clone(&self.partition);
        if let Some(open) = partition.take(|| self.drain_sealed()) {
            self.note_deadline(open.deadline());
            self.waiting.push_back(open);
            self.partition.set_waiting(self.waiting.len());
        }
    }

    /// Gives the batch its sequence numbers, if the producer has an identity and the batch none yet.
    pub(crate) fn number(&mut self, batch: &mut Batch) {
        if batch.stamp.is_none() && self.sequences.identity().is_some() {
            batch.stamp = Some(self.sequences.assign(batch.count()));
        }
    }

    /// Puts a batch back to be sent again, among the others by its place.
    pub(crate) fn put_back(&mut self, batch: Box<Batch>) {
        self.note_deadline(batch.deadline());
        self.partition.returns(batch.len());
        let place = self.waiting.iter().position(|other| other.serial == 0 || other.place() >= batch.place());
        self.waiting.insert(place.unwrap_or(self.waiting.len()), batch);
        self.partition.set_waiting(self.waiting.len());
    }

    /// Puts the parts of a split batch back, in their order.
    pub(crate) fn put_back_parts(&mut self, parts: VecDeque<Box<Batch>>) {
        for part in parts.into_iter().rev() {
            self.put_back(part);
        }
    }

    /// Takes the batches whose delivery deadline has passed, except those in flight.
    pub(crate) fn take_expired(&mut self, now: Instant) -> VecDeque<Box<Batch>> {
        self.drain_sealed();
        if let OpenState::Lingers { deadline, .. } = self.partition.peek()
            && deadline <= now
        {
            self.seal_open();
            // Nobody looks at the partition for its sake any more, so the next one must be told of.
            self.partition.rest();
            self.drain_sealed();
        }
        let mut expired = VecDeque::new();
        if self.waiting_deadline.is_none_or(|deadline| deadline > now) {
            return expired;
        }
        for batch in std::mem::take(&mut self.waiting) {
            if batch.deadline() <= now { expired.push_back(batch) } else { self.waiting.push_back(batch) }
        }
        self.waiting_deadline = self.waiting.iter().map(|batch| batch.deadline()).min();
        self.partition.set_waiting(self.waiting.len());
        expired
    }

    /// Fails what was [taken](Self::take_expired). `why`: what stands in the way of all that the broker leads.
    pub(crate) fn fail_expired(&mut self, expired: VecDeque<Box<Batch>>, why: Option<&Error>) {
        for mut batch in expired {
            self.partition.leaves(batch.len());
            self.failed.records += u64::from(batch.count());
            self.failed.expired_batches += 1;
            self.note_obstacle(&mut batch);
            batch.expire(self.partition.name(), false, self.setback.as_ref().or(why));
            self.give_up(&batch);
        }
    }

    /// What stands in the way of the partition now says more than what an earlier attempt was told.
    fn note_obstacle(&self, batch: &mut Batch) {
        if let Some(obstacle) = &self.obstacle {
            batch.last_error = Some(obstacle.clone().because(batch.last_error.take()));
        }
    }

    /// Fails everything that is not in flight, because the producer ends with `error`. Answers how many records there
    /// were, and what has kept the last of them, if it is known.
    pub(crate) fn end(&mut self, error: &Error, why: Option<&Error>) -> (u64, Option<Error>) {
        let (mut records, mut cause) = (0, None);
        for mut batch in self.take_all() {
            records += u64::from(batch.count());
            self.note_obstacle(&mut batch);
            cause = batch.end(self.partition.name(), error, self.setback.as_ref().or(why)).or(cause);
            self.give_up(&batch);
        }
        (records, cause)
    }

    /// Notes that a batch with sequence numbers has ended without being acknowledged.
    pub(crate) fn give_up(&mut self, batch: &Batch) {
        if let Some(stamp) = batch.stamp {
            self.sequences.fail(stamp, batch.maybe_written);
        }
    }

    /// Fails everything that is not in flight.
    pub(crate) fn fail_all(&mut self, error: &Error) -> u64 {
        let batches = self.take_all();
        self.fail_taken(batches, error)
    }

    /// Whether something that is not in flight has been purged.
    pub(crate) fn has_purged(&mut self) -> bool {
        self.drain_sealed();
        self.waiting.iter().any(|batch| batch.is_purged())
    }

    /// Fails what has been purged and is not in flight. Answers how many records there were.
    pub(crate) fn purge(&mut self, error: &Error) -> u64 {
        let (purged, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|batch| batch.is_purged());
        self.waiting = kept;
        self.waiting_deadline = self.waiting.iter().map(|batch| batch.deadline()).min();
        self.partition.set_waiting(self.waiting.len());
        self.fail_taken(purged, error)
    }

    /// Takes everything that is not in flight.
    pub(crate) fn take_all(&mut self) -> VecDeque<Box<Batch>> {
        self.seal_open();
        self.drain_sealed();
        self.waiting_deadline = None;
        self.partition.set_waiting(0);
        std::mem::take(&mut self.waiting)
    }

    /// Fails what was [taken](Self::take_all). Answers how many records there were.
    pub(crate) fn fail_taken(&mut self, batches: VecDeque<Box<Batch>>, error: &Error) -> u64 {
        let mut records = 0;
        for mut batch in batches {
            records += u64::from(batch.count());
            self.partition.leaves(batch.len());
            batch.fail(self.partition.name(), error.clone());
            self.give_up(&batch);
        }
        records
    }

    /// When the earliest batch expires, in flight or not.
    pub(crate) fn earliest_deadline(&mut self) -> Option<Instant> {
        self.drain_sealed();
        let open = match self.partition.peek() {
            OpenState::Lingers { deadline, .. } => Some(deadline),
            OpenState::Empty => None,
        };
        [self.waiting_deadline, open, self.in_flight_deadline].into_iter().flatten().min()
    }

    fn settle(&mut self, identity: &Identity) {
        let first = self.waiting.front().filter(|batch| batch.maybe_written).and_then(|batch| batch.stamp);
        if first.is_some_and(|stamp| self.sequences.is_to_be_recognised(stamp)) {
            return;
        }
        match self.sequences.settle() {
            Settlement::Settled => {}
            Settlement::Renumber(from) => self.renumber(from, identity),
            Settlement::Bump(from) => {
                identity.bump(from);
                let (partition, failed) = (Arc::clone(&self.partition), &mut self.failed);
                self.waiting.retain_mut(|batch| {
                    if batch.stamp.is_none() || !batch.maybe_written {
                        batch.stamp = None;
                        return true;
                    }
                    // Under another epoch the broker could not recognise it, and might write it twice.
                    let text = "the sequence of the partition was lost while this batch's outcome was unknown";
                    let error = Error::new(ErrorKind::OutOfSequence, Recovery::Retry, text);
                    let error = error.because(batch.last_error.clone());
                    failed.records += u64::from(batch.count());
                    partition.leaves(batch.len());
                    batch.fail(partition.name(), error.with_written(Written::Maybe));
                    false
                });
                self.partition.set_waiting(self.waiting.len());
            }
        }
    }

    /// Closes the gap that batches have left which are not in the log. What comes behind the gap is not there either.
    fn renumber(&mut self, from: i32, identity: &Identity) {
        let mut next = from;
        let (mut gap, mut maybe_alive) = (None, false);
        for (place, batch) in self.waiting.iter().enumerate() {
            let Some(stamp) = batch.stamp else { break };
            if gap.is_none() && stamp.base != next {
                gap = Some(place);
            }
            if gap.is_none() {
                next = advance(next, batch.count());
            } else {
                maybe_alive |= batch.maybe_written;
            }
        }
        match gap {
            // A request of a connection that is gone may still come to the broker, and would fit once the gap is
            // closed. Under a new epoch it is refused.
            Some(0) if maybe_alive => {
                identity.bump(self.sequences.identity());
                self.waiting.iter_mut().for_each(|batch| batch.stamp = None);
            }
            // What comes before the gap keeps its numbers, so it goes first.
            Some(_) if maybe_alive => self.sequences.settle_later(),
            gap => {
                for batch in self.waiting.iter_mut().skip(gap.unwrap_or(usize::MAX)) {
                    let Some(stamp) = batch.stamp else { break };
                    batch.stamp = Some(Stamp { base: next, ..stamp });
                    next = advance(next, batch.count());
                }
                self.sequences.resume_at(next);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::buffer::accumulator::{Accumulator, Named, Patience};
    use crate::producer::buffer::budget::Budget;
    use crate::producer::buffer::callbacks::Callbacks;
    use crate::producer::buffer::draft::Entry;
    use crate::producer::buffer::partition::{Due, Housed, Housing, QueueHome};
    use crate::record::Headers;
    use crate::topic::TopicPartition;
    use crossbeam_channel::{Sender, unbounded};
    use std::time::Duration;

    /// Gives the queue away while the partition's lock is held, and keeps it held for a while.
    struct Slow(Sender<PartitionQueue>);

    /// Takes no notice.
    struct Nobody;

    impl QueueHome for Nobody {
        fn notice(&self, _: Arc<Partition>, _: Instant, _: bool) {}
        fn lead_or_notice(&self, _: &Arc<Partition>, _: Due, _: Option<Instant>) {}
    }

    impl Housing for Slow {
        fn house(&self, partition: &Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Housed {
            self.0.send(PartitionQueue::new(Arc::clone(partition), sealed)).unwrap();
            std::thread::sleep(Duration::from_millis(100));
            Ok(Arc::new(Nobody))
        }

        fn hurry_all(&self) {}
    }

    #[test]
    fn a_batch_that_is_sealed_between_the_two_looks_keeps_its_queue_from_resting() {
        let (callbacks, _) = Callbacks::start().unwrap();
        let (give, given) = unbounded();
        let partition = Partition::new(PartitionId(0), TopicPartition::new("t", 0));
        let application = std::thread::spawn(move || {
            let accumulator = Accumulator {
                batch_size: 100,
                batch_records: 1,
                linger: Duration::ZERO,
                delivery_timeout: Duration::from_secs(100),
                budget: Budget::new(1000, 100),
                pending: Arc::default(),
                callbacks,
                obstacles: Arc::default(),
            };
            let headers = Headers::new();
            let entry =
                Entry { timestamp: 0, key: None, value: None, headers: &headers, parts_size: 3, transaction: 0 };
            let mut patience = Patience { started: None, limit: None };
            let append = accumulator.append(&partition, &entry, &mut None, &mut patience, &Slow(give), Named);
            assert!(append.is_ok());
        });
        let mut queue = given.recv().unwrap();
        // The first look finds nothing; the second waits for the lock, under which the batch is opened and sealed.
        assert!(!queue.is_idle());
        application.join().unwrap();
    }
}
