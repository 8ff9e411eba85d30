//! A partition's queue of sealed batches. It belongs to one sender at a time, and moves to another only when
//! nothing of it is in flight.

mod numbers;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use crossbeam_channel::Receiver;

use super::common::Common;
use super::gate::CurrentIdentity;
use super::sequence::Sequences;
use crate::cluster::Snapshot;
use crate::error::{Error, ErrorCode};
use crate::logging::Level;
use crate::obstacle::Obstacles;
use crate::outage::{Outage, Over};
use crate::producer::buffer::batch::Batch;
use crate::producer::buffer::partition::{OpenState, Partition, PartitionId};
use crate::producer::metrics::{Counters, add};
use crate::protocol::wire::Uuid;
use crate::topic::{BrokerId, TopicPartition};

/// A partition's sealed batches and sequence numbers. A batch is in one of three states: it waits in the queue; it is
/// in flight; or the caller has it, who has just [taken](Self::take) it or got it [back](Self::came_back). From there
/// it goes into a request ([`sent`](Self::sent)), waits again ([`retry_at`](Self::retry_at),
/// [`wait_for_earlier`](Self::wait_for_earlier), [`split`](Self::split)) or ends ([`acknowledged`](Self::acknowledged),
/// [`fail`](Self::fail), [`give_up`](Self::give_up)).
///
/// What holds between any two calls:
///
/// 1. The waiting batches are in the order in which they are to be sent: first those that have left the queue before,
///    in their `queue_order`, then the others in the order in which they were sealed. Batches with sequence numbers
///    come before those without.
/// 2. `waiting_deadline` is no later than the delivery deadline of any waiting batch.
/// 3. The partition knows how many batches wait, and how many bytes they have.
/// 4. `in_flight` counts the batches that were [`sent`](Self::sent) and did not [come back](Self::came_back).
/// 5. `alone` holds only while something is in flight.
/// 6. The producer's obstacles name the partition if and only if `is_hindered`.
///
/// `assert_invariants` checks this in the tests, among others after every step of the random schedules.
///
/// *Thread*: the one that drives the link of the sender that has it.
pub(crate) struct PartitionQueue {
    partition: Arc<Partition>,
    sealed: Receiver<Box<Batch>>,
    /// The waiting batches: first those that were sent before, in their order.
    waiting: VecDeque<Box<Batch>>,
    /// The earliest delivery deadline of the waiting batches, or an earlier time. It need not be that of the first
    /// batch: a batch whose thread had to wait for memory has an earlier deadline than batches that were opened
    /// meanwhile.
    waiting_deadline: Option<Instant>,
    in_flight: usize,
    /// Nothing is sent until the batches in flight have come back: one of them was sent before, or has been purged.
    alone: bool,
    leader: Option<BrokerId>,
    leader_epoch: i32,
    topic_id: Uuid,
    sequences: Sequences,
    next_serial: u64,
    /// Why the partition has no leader. It becomes the cause for batches that expire meanwhile.
    obstacle: Option<Error>,
    /// The error with which a batch last came back to be sent again, until a batch is acknowledged: the reason why the
    /// batches behind it wait.
    setback: Option<Error>,
    /// Which setbacks are logged as warnings.
    outage: Outage,
    /// Whether the producer's obstacles name the partition.
    is_hindered: bool,
}

/// How a producer's batches may overlap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Overlap {
    /// Several batches of a partition in flight; sequence numbers keep their order.
    Sequenced,
    /// One at a time: without sequence numbers a batch that is sent again would come after its successor. That is so
    /// without retries, too, because a batch may have to be split.
    Single,
    /// Several: with `acks=0` no batch is ever sent again.
    Free,
}

/// What a queue can do now.
pub(crate) enum Readiness {
    /// A batch can be taken.
    Ready,
    /// No batch can be taken before this time.
    At(Instant),
    /// No batch can be taken before something happens: an answer comes, or an identity.
    Blocked,
    /// There is no batch.
    Empty,
    /// Another broker leads the partition.
    Move(BrokerId),
    /// Nobody leads the partition, as far as is known.
    Leaderless,
    /// Nothing can be sent any more, for this reason.
    Refused(Error),
    /// The next batch has been purged.
    Purged,
}

impl PartitionQueue {
    pub(crate) fn new(partition: Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Self {
        Self {
            partition,
            sealed,
            waiting: VecDeque::new(),
            waiting_deadline: None,
            in_flight: 0,
            alone: false,
            leader: None,
            leader_epoch: -1,
            topic_id: Uuid::default(),
            sequences: Sequences::new(),
            next_serial: 0,
            obstacle: None,
            setback: None,
            outage: Outage::default(),
            is_hindered: false,
        }
    }

    /// The channel of sealed batches, to make another queue.
    pub(crate) fn into_sealed(self) -> Receiver<Box<Batch>> {
        self.sealed
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.partition.id()
    }

    pub(crate) fn name(&self) -> &TopicPartition {
        self.partition.name()
    }

    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    pub(crate) fn topic_id(&self) -> Uuid {
        self.topic_id
    }

    pub(crate) fn leader(&self) -> Option<BrokerId> {
        self.leader
    }

    /// The broker to which the queue is to move from `broker`: the partition's leader, if that is another one. The
    /// queue stays while batches are in flight, because their answers change its sequence numbers.
    pub(crate) fn moves_from(&self, broker: BrokerId) -> Option<BrokerId> {
        self.leader.filter(|leader| *leader != broker && self.in_flight == 0)
    }

    /// The error with which a batch last came back to be sent again, until a batch is acknowledged.
    pub(crate) fn setback(&self) -> Option<&Error> {
        self.setback.as_ref()
    }

    /// Takes over what the metadata says about the partition. True if something has changed.
    pub(crate) fn on_metadata(&mut self, snapshot: &Snapshot) -> bool {
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
        match topic.and_then(|topic| topic.partition(name.index)) {
            Some(partition) => {
                self.leader = partition.leader;
                self.leader_epoch = partition.leader_epoch;
                self.obstacle = match partition.leader {
                    Some(_) => None,
                    None if partition.error.is_none() => Some(Error::broker(ErrorCode::LEADER_NOT_AVAILABLE, None)),
                    None => Some(Error::broker(partition.error, None)),
                };
            }
            // The metadata no longer has a topic that was not used for a while. That says nothing about its leader.
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

    /// Resolves sequence numbers if necessary, and says what can be done now. `hurry`: open batches do not linger.
    pub(crate) fn readiness(
        &mut self,
        now: Instant,
        broker: BrokerId,
        overlap: Overlap,
        hurry: bool,
        common: &Common,
    ) -> Readiness {
        self.drain_sealed();
        if self.in_flight == 0 {
            self.resolve_sequences(common);
        }
        // The sender has not handled the purge yet; another thread drives the link.
        if self.waiting.front().is_some_and(|batch| batch.is_purged()) {
            return Readiness::Purged;
        }
        let open = self.partition.peek();
        if self.waiting.is_empty() && open == OpenState::Empty && self.comes_to_rest() {
            return self.moves_from(broker).map_or(Readiness::Empty, Readiness::Move);
        }
        match self.leader {
            Some(leader) if leader == broker => {}
            _ if self.in_flight > 0 => return Readiness::Blocked,
            Some(leader) => return Readiness::Move(leader),
            None => return Readiness::Leaderless,
        }
        let numbered = self.waiting.front().is_some_and(|batch| batch.stamp.is_some());
        let current = match common.identity.for_partition(&self.partition) {
            CurrentIdentity::Unneeded => None,
            CurrentIdentity::Known(current) => Some(current),
            CurrentIdentity::Awaited if numbered => None,
            CurrentIdentity::Awaited => return Readiness::Blocked,
            CurrentIdentity::Refused(error) => return Readiness::Refused(error),
        };
        if let Some(current) = current
            && !numbered
            && self.sequences.identity() != current
        {
            // The batches of the old epoch must have come back first.
            if self.in_flight > 0 {
                return Readiness::Blocked;
            }
            self.sequences.switch(current);
        }
        let alone = match overlap {
            Overlap::Free => false,
            Overlap::Single => true,
            // A batch that is sent again is the only one in flight: later batches must not overtake it, and a broker
            // remembers only the last five batches, so that it would not recognise this batch if it were sent once more
            // after five others.
            Overlap::Sequenced => numbered || self.alone || !self.sequences.may_pipeline(),
        };
        if alone && self.in_flight > 0 {
            return Readiness::Blocked;
        }
        match (self.waiting.front(), open) {
            (Some(batch), _) => match batch.not_before {
                // With a new leader the batch need not wait for its back-off (KIP-951).
                Some(then) if then > now && batch.leader_epoch >= self.leader_epoch => Readiness::At(then),
                _ => Readiness::Ready,
            },
            (None, OpenState::Lingers { due, .. }) if due > now && !hurry => {
                let open = self.partition.rest();
                self.drain_sealed();
                match open {
                    // Between the two looks its linger may have been ended, or it may have been sealed, so that this is
                    // the next batch.
                    OpenState::Lingers { due, .. } if due > now && self.waiting.is_empty() => Readiness::At(due),
                    _ => Readiness::Ready,
                }
            }
            (None, _) => Readiness::Ready,
        }
    }

    /// Marks the partition as empty, so that application threads give notice of the next batch. Returns whether it is
    /// still empty after that.
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
            // A batch that was sealed since `readiness` looked comes first.
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

    /// A batch that was [taken](Self::take) and sealed goes into a request: it gets its sequence numbers, if the
    /// producer has an identity and the batch none yet.
    pub(crate) fn sent(&mut self, batch: &mut Batch, transactional: bool, counters: &Counters) {
        if batch.stamp.is_some() {
            self.alone = true;
        } else if self.sequences.identity().is_some() {
            batch.stamp = Some(self.sequences.assign(batch.count()));
        }
        batch.write_stamp(transactional);
        batch.attempts += 1;
        batch.not_before = None;
        batch.leader_epoch = self.leader_epoch;
        self.in_flight += 1;
        add(&counters.batches_sent, 1);
        if batch.attempts > 1 {
            add(&counters.batches_retried, 1);
        }
    }

    /// A batch that was [sent](Self::sent) is no longer in flight.
    pub(crate) fn came_back(&mut self) {
        debug_assert!(self.in_flight > 0, "more comes back than was sent");
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            self.alone = false;
        }
    }

    /// Whether the broker has everything that comes before the batch, as far as sequence numbers say.
    pub(crate) fn is_due(&self, batch: &Batch) -> bool {
        batch.stamp.is_some_and(|stamp| self.sequences.is_due(stamp))
    }

    /// The broker has acknowledged the batch, which came back. Returns the outage that this ends, for the log.
    pub(crate) fn acknowledged(&mut self, batch: &Batch, obstacles: &Obstacles, now: Instant) -> Option<Over> {
        if let Some(stamp) = batch.stamp {
            self.sequences.acknowledge(stamp, batch.count());
        }
        self.clear_error(obstacles);
        self.setback.take().and_then(|_| self.outage.ended(now))
    }

    /// The batch, which came back with `error`, is to be sent again, not before `then`. Returns the level at which that
    /// is to be logged.
    pub(crate) fn retry_at(
        &mut self,
        mut batch: Box<Batch>,
        then: Instant,
        error: &Error,
        obstacles: &Obstacles,
        now: Instant,
    ) -> Level {
        batch.not_before = Some(then);
        self.put_back(batch);
        self.setback = Some(error.as_cause());
        self.note_error(error, obstacles);
        self.outage.failed(now)
    }

    /// The broker has refused the batch because an earlier one is missing: it waits until the earlier ones have their
    /// results.
    pub(crate) fn wait_for_earlier(&mut self, batch: Box<Batch>) {
        if let Some(stamp) = batch.stamp {
            self.sequences.refuse(stamp);
        }
        self.put_back(batch);
    }

    /// The broker no longer knows the numbers that it acknowledged before the batch's: only a new epoch helps.
    pub(crate) fn numbers_are_forgotten(&mut self, batch: &Batch) {
        if let Some(stamp) = batch.stamp {
            self.sequences.forget(stamp);
        }
    }

    /// How large batches may be before compression, if this one is larger and can be [split](Self::split): it was made
    /// before the partition knew its limit.
    pub(crate) fn is_over(&self, batch: &Batch) -> Option<usize> {
        Some(self.partition.limit()).filter(|limit| batch.is_over(*limit))
    }

    /// The broker has refused the batch as too large. Returns how large the partition's batches may be from now on, and
    /// whether that is less than before.
    pub(crate) fn learn_limit(&self, refused: &Batch, now: Instant) -> (usize, bool) {
        let known = self.partition.limit();
        let limit = self.partition.learn_limit(refused.uncompressed_len(), now);
        (limit, limit < known)
    }

    /// Splits the batch into parts that are not larger than `limit`, which wait in its place.
    pub(crate) fn split(&mut self, batch: Box<Batch>, limit: usize, common: &Common) {
        add(&common.counters.batches_split, 1);
        match batch.split(self.partition.name(), &common.budget, limit) {
            Ok(parts) => parts.into_iter().rev().for_each(|part| self.put_back(part)),
            Err((batch, error)) => self.fail(batch, error, common),
        }
    }

    /// Fails a batch that is not waiting.
    pub(crate) fn fail(&mut self, batch: Box<Batch>, error: Error, common: &Common) {
        self.fail_with_records(batch, error, Vec::new(), common);
    }

    /// [`fail`](Self::fail), with own errors for some `records`.
    pub(crate) fn fail_with_records(
        &mut self,
        mut batch: Box<Batch>,
        error: Error,
        records: Vec<(u32, Error)>,
        common: &Common,
    ) {
        add(&common.counters.records_failed, u64::from(batch.count()));
        batch.fail_with_records(self.partition.name(), error, records);
        self.give_up(&batch, &common.obstacles);
    }

    /// A batch that is not waiting ends without being acknowledged. Its records have their result.
    pub(crate) fn give_up(&mut self, batch: &Batch, obstacles: &Obstacles) {
        self.lose_numbers(batch);
        self.forget_if_idle(obstacles);
    }

    fn lose_numbers(&mut self, batch: &Batch) {
        if let Some(stamp) = batch.stamp {
            self.sequences.fail(stamp, batch.maybe_written);
        }
    }

    /// Fails the records of a batch in flight that has been purged. Its sequence numbers are resolved when it comes
    /// back.
    pub(crate) fn purge_in_flight(&mut self, batch: &mut Batch, error: Error, counters: &Counters) {
        // Nothing is sent until it has come back. If it gets no answer, a new epoch follows, under which a batch that
        // may be written cannot be sent again; so later batches in flight would fail with it.
        self.alone = true;
        add(&counters.records_failed, u64::from(batch.count()));
        batch.maybe_written = true;
        batch.fail(self.partition.name(), error);
    }

    /// Fails the records of a batch in flight whose delivery deadline has passed. `silence`: the error that says for
    /// how long its request has had no answer.
    pub(crate) fn expire_in_flight(&mut self, batch: &mut Batch, silence: &Error, counters: &Counters) {
        add(&counters.records_failed, u64::from(batch.count()));
        add(&counters.batches_expired, 1);
        batch.maybe_written = true;
        batch.expire(self.partition.name(), true, Some(silence));
    }

    /// Puts a batch back to be sent again, at its position in the order of batches.
    fn put_back(&mut self, batch: Box<Batch>) {
        self.note_deadline(batch.deadline());
        self.partition.returns(batch.len());
        let position =
            self.waiting.iter().position(|other| other.serial == 0 || other.queue_order() >= batch.queue_order());
        self.waiting.insert(position.unwrap_or(self.waiting.len()), batch);
        self.partition.set_waiting(self.waiting.len());
    }

    /// Takes the batches whose delivery deadline has passed, except those in flight.
    pub(crate) fn take_expired(&mut self, now: Instant) -> VecDeque<Box<Batch>> {
        self.drain_sealed();
        if let OpenState::Lingers { deadline, .. } = self.partition.peek()
            && deadline <= now
        {
            self.seal_open();
            // The sender will not look at the partition for this batch any more, so the next batch must give notice.
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

    /// Fails the batches that were [taken](Self::take_expired). `why`: why the broker cannot be sent anything, if that
    /// is known.
    pub(crate) fn fail_expired(&mut self, expired: VecDeque<Box<Batch>>, why: Option<&Error>, common: &Common) {
        for mut batch in expired {
            self.partition.leaves(batch.len());
            add(&common.counters.records_failed, u64::from(batch.count()));
            add(&common.counters.batches_expired, 1);
            self.note_obstacle(&mut batch);
            batch.expire(self.partition.name(), false, self.setback.as_ref().or(why));
            self.lose_numbers(&batch);
        }
        self.forget_if_idle(&common.obstacles);
    }

    /// The present reason says more than the error of an earlier attempt, and becomes the last error.
    fn note_obstacle(&self, batch: &mut Batch) {
        if let Some(obstacle) = &self.obstacle {
            batch.last_error = Some(obstacle.clone().because(batch.last_error.take()));
        }
    }

    /// Fails everything that is not in flight, because the producer ends with `error`. Returns how many records failed,
    /// and the cause of the last failure, if it is known.
    pub(crate) fn end(&mut self, error: &Error, why: Option<&Error>, counters: &Counters) -> (u64, Option<Error>) {
        let (mut records, mut cause) = (0, None);
        for mut batch in self.take_all() {
            records += u64::from(batch.count());
            add(&counters.records_failed, u64::from(batch.count()));
            self.partition.leaves(batch.len());
            self.note_obstacle(&mut batch);
            cause = batch.end(self.partition.name(), error, self.setback.as_ref().or(why)).or(cause);
            self.lose_numbers(&batch);
        }
        (records, cause)
    }

    /// Fails everything that is not in flight. True if more batches have come meanwhile, which are to fail, too;
    /// otherwise later batches give notice.
    pub(crate) fn fail_all(&mut self, error: &Error, common: &Common) -> bool {
        let batches = self.take_all();
        self.fail_taken(batches, error, common)
    }

    /// Has this purge give up what was in flight when another one came that was not meant for that.
    pub(crate) fn spare_no_more(&mut self, purge: u64) {
        self.waiting.iter_mut().filter(|batch| batch.came_before(purge)).for_each(|batch| batch.spare_no_more());
    }

    /// Whether a batch that is not in flight has been purged.
    pub(crate) fn has_purged(&mut self) -> bool {
        self.drain_sealed();
        self.waiting.iter().any(|batch| batch.is_purged())
    }

    /// Fails the purged batches that are not in flight.
    pub(crate) fn purge(&mut self, error: &Error, common: &Common) {
        let (purged, kept) = std::mem::take(&mut self.waiting).into_iter().partition(|batch| batch.is_purged());
        self.waiting = kept;
        self.waiting_deadline = self.waiting.iter().map(|batch| batch.deadline()).min();
        self.partition.set_waiting(self.waiting.len());
        self.fail_taken(purged, error, common);
    }

    /// Takes everything that is not in flight.
    pub(crate) fn take_all(&mut self) -> VecDeque<Box<Batch>> {
        self.seal_open();
        self.drain_sealed();
        self.waiting_deadline = None;
        self.partition.set_waiting(0);
        std::mem::take(&mut self.waiting)
    }

    /// Fails the batches that were [taken](Self::take_all). Returns the same as [`fail_all`](Self::fail_all).
    pub(crate) fn fail_taken(&mut self, batches: VecDeque<Box<Batch>>, error: &Error, common: &Common) -> bool {
        for mut batch in batches {
            self.partition.leaves(batch.len());
            add(&common.counters.records_failed, u64::from(batch.count()));
            batch.fail(self.partition.name(), error.clone());
            self.lose_numbers(&batch);
        }
        self.forget_if_idle(&common.obstacles);
        !self.comes_to_rest()
    }

    /// When the first batch expires, those in flight excepted.
    pub(crate) fn earliest_deadline(&mut self) -> Option<Instant> {
        self.drain_sealed();
        match self.partition.peek() {
            OpenState::Lingers { deadline, .. } => {
                Some(self.waiting_deadline.map_or(deadline, |other| other.min(deadline)))
            }
            OpenState::Empty => self.waiting_deadline,
        }
    }

    // ---- obstacles: why batches are not acknowledged, for the errors of threads that wait -------------------------

    /// Notes why the partition's batches are not acknowledged.
    pub(crate) fn note_error(&mut self, error: &Error, obstacles: &Obstacles) {
        self.is_hindered = true;
        obstacles.meet(self.partition.name(), error);
    }

    /// Notes that the partition has no leader.
    pub(crate) fn meets_obstacle(&mut self, obstacles: &Obstacles) {
        if let Some(obstacle) = self.obstacle.clone() {
            self.note_error(&obstacle, obstacles);
        }
    }

    /// Notes that nothing hinders the partition's batches any more.
    fn clear_error(&mut self, obstacles: &Obstacles) {
        if std::mem::take(&mut self.is_hindered) {
            obstacles.forget(self.partition.name());
        }
    }

    /// Forgets obstacle and setback if no batch is left: they are no reason for the failure of later batches.
    fn forget_if_idle(&mut self, obstacles: &Obstacles) {
        if (self.is_hindered || self.setback.is_some()) && self.is_idle() {
            self.clear_error(obstacles);
            self.setback = None;
            self.outage.abandon();
        }
    }
}

#[cfg(test)]
mod tests;
