//! A partition as application threads see it: its open batch, and how its batches get into its queue. Application
//! threads and senders share nothing else.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Mutex, MutexGuard};

use super::batch::{Batch, BatchParts, Registered};
use super::callbacks::InOrder;
use super::completion::BatchCompletion;
use super::draft::Draft;
use super::unfinished::UnfinishedBatch;
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::producer::partitioner::sticky::Given;
use crate::record::batch::BATCH_HEADER_BYTES;
use crate::time;
use crate::topic::TopicPartition;

/// The number of a partition, unique among the partitions that a producer writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartitionId(pub(crate) u32);

/// The application's side of a partition.
pub(crate) struct Partition {
    id: PartitionId,
    name: TopicPartition,
    /// Held for one append or one look, never while blocking. *Lock order*: a partition's lock comes before those of
    /// the budget, of the unfinished batches and of the list of senders.
    pub(super) open: Mutex<PartitionState>,
    /// How many batches wait in the queue. Read by the choice of a sticky partition by load.
    waiting: AtomicUsize,
    /// The size before compression above which the broker refused batches as too large. `usize::MAX`: it refused none.
    limit: AtomicUsize,
    /// How many of the bytes that were ever sealed have left the queue. Written by the sender that has the queue.
    taken_bytes: AtomicU64,
    pub(super) callbacks: InOrder,
}

/// Guarded by the partition's lock.
pub(super) struct PartitionState {
    pub(super) batch: Option<OpenBatch>,
    /// The channel by which sealed batches get into the queue. Used under the lock, so that they keep their order.
    pub(super) sealed: Sender<Box<Batch>>,
    pub(super) owner: Ownership,
    /// The earliest due time that the sender was told and has not looked at since.
    pub(super) noticed: Option<Instant>,
    /// How many bytes it was given as the sticky partition.
    pub(super) given: Given,
    /// Bytes of all batches that were ever sealed.
    pub(super) sealed_bytes: u64,
    /// The size of recent batches: the next batch's buffer begins with it.
    pub(super) usual: usize,
    /// The number of the transaction whose records are accepted, or 0 without transactions; [`REFUSED`]: no records
    /// are. Only a record with another number needs a look at `refusal`.
    pub(super) takes: u64,
    /// Why records are refused, if they are: the producer is closed, or no transaction is open.
    pub(super) refusal: Option<Error>,
    /// When larger batches are tried again, if the partition has a limit.
    pub(super) limited_until: Option<Instant>,
}

/// How long a partition keeps the batch limit that it learnt from a broker's refusal. Then larger batches are tried:
/// the topic's limit may have been raised, or its records may compress better. The attempt costs at most one request.
const LIMITED_FOR: Duration = Duration::from_secs(300);

/// No transaction has this number.
const REFUSED: u64 = u64::MAX;

/// When a batch is due.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    /// The sender was told before.
    pub(crate) known: bool,
}

/// Who has the partition's queue.
pub(super) enum Ownership {
    /// No sender has it yet; its sealed batches come out of this channel.
    Unclaimed(Receiver<Box<Batch>>),
    OwnedBy(Arc<dyn QueueOwner>),
    /// The queue is being handed over, which lasts only while the lock is held; or the producer has ended.
    Nobody,
}

pub(super) struct OpenBatch {
    pub(super) completion: Arc<BatchCompletion>,
    pub(super) draft: Draft,
    pub(super) created: Instant,
    pub(super) deadline: Instant,
    /// When its linger ends.
    pub(super) due: Instant,
    pub(super) callbacks: Vec<Registered>,
    /// The batch's number in the order of the partition's callbacks, once it has a callback.
    pub(super) callback_number: Option<u64>,
    pub(super) unfinished: UnfinishedBatch,
}

impl PartitionState {
    pub(super) fn take(&mut self) -> Option<OpenBatch> {
        let batch = self.batch.take()?;
        let bytes = batch.draft.len();
        // Halved at most, so that one small batch does not make the next buffer small.
        self.usual = bytes.max(self.usual / 2);
        self.sealed_bytes = self.sealed_bytes.wrapping_add(bytes as u64);
        Some(batch)
    }

    /// The error if a record of this transaction is refused. A record with the number 0 belongs to whichever
    /// transaction is open.
    #[inline]
    pub(super) fn admit(&self, transaction: u64) -> Result<()> {
        if self.takes == transaction { Ok(()) } else { self.refusal_for(transaction) }
    }

    fn refusal_for(&self, transaction: u64) -> Result<()> {
        match &self.refusal {
            Some(error) => Err(error.clone()),
            None if transaction == 0 => Ok(()),
            None => Err(gone()),
        }
    }

    fn state(&self) -> OpenState {
        self.batch
            .as_ref()
            .map_or(OpenState::Empty, |batch| OpenState::Lingers { due: batch.due, deadline: batch.deadline })
    }
}

impl OpenBatch {
    pub(super) fn seal(self) -> Box<Batch> {
        Batch::new(BatchParts {
            completion: self.completion,
            writer: self.draft.writer,
            created: self.created,
            deadline: self.deadline,
            callbacks: self.callbacks,
            callback_number: self.callback_number,
            charge: self.draft.charge,
            unfinished: self.unfinished,
        })
    }
}

/// What a sender finds when it looks for a partition's open batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenState {
    Empty,
    /// A batch whose linger ends at `due`, and whose delivery deadline is `deadline`.
    Lingers {
        due: Instant,
        deadline: Instant,
    },
}

/// The owner of a partition's queue: a broker's link, whose sender has the queue.
pub(crate) trait QueueOwner: Send + Sync {
    /// Leaves the notice that `partition` has a batch which is due at `due`, and whether it is full.
    fn notice(&self, partition: Arc<Partition>, due: Instant, full: bool);
    /// Sends what `partition` has and waits for the answer on the calling thread, if no other thread needs the broker's
    /// link. Otherwise leaves a notice that the batch is due, unless the sender knows.
    fn drive_or_notice(&self, partition: &Arc<Partition>, due: Due, until: Option<Instant>);
}

/// The owner of a queue; or the queue again, and why it has no owner.
pub(crate) type Placed = Result<Arc<dyn QueueOwner>, (Receiver<Box<Batch>>, Error)>;

/// Finds an owner for a partition's queue.
pub(crate) trait Placement {
    /// Finds the owner of the queue that gets its sealed batches from `sealed`.
    fn place(&self, partition: &Arc<Partition>, sealed: Receiver<Box<Batch>>) -> Placed;
    /// Asks every sender to send what is open, because a thread waits for memory.
    fn hurry_all(&self);
}

impl Partition {
    pub(crate) fn new(id: PartitionId, name: TopicPartition) -> Arc<Self> {
        let (sealed, queue) = crossbeam_channel::unbounded();
        let owner = Ownership::Unclaimed(queue);
        let open = PartitionState {
            batch: None,
            sealed,
            owner,
            noticed: None,
            given: Given::default(),
            sealed_bytes: 0,
            usual: 0,
            takes: 0,
            refusal: None,
            limited_until: None,
        };
        Arc::new(Self {
            id,
            name,
            open: Mutex::new(open),
            waiting: AtomicUsize::new(0),
            limit: AtomicUsize::new(usize::MAX),
            taken_bytes: AtomicU64::new(0),
            callbacks: InOrder::default(),
        })
    }

    pub(crate) fn id(&self) -> PartitionId {
        self.id
    }

    pub(crate) fn name(&self) -> &TopicPartition {
        &self.name
    }

    /// The order of the partition's callbacks.
    pub(crate) fn callbacks(&self) -> &InOrder {
        &self.callbacks
    }

    /// Ends the linger of the open batch if `completion` is its completion, and has the batch sent, perhaps by the
    /// calling thread, which waits for it until `until`.
    ///
    /// *Blocks* until `until` at most.
    pub(crate) fn hurry(self: &Arc<Self>, completion: &BatchCompletion, until: Option<Instant>) {
        let which = |batch: &OpenBatch| std::ptr::eq(Arc::as_ptr(&batch.completion), completion);
        if let Some((owner, due)) = self.end_linger(which) {
            owner.drive_or_notice(self, due, until);
        }
    }

    /// Ends the linger of the open batch.
    pub(crate) fn hurry_open(self: &Arc<Self>) {
        if let Some((owner, due)) = self.end_linger(|_| true)
            && !due.known
        {
            owner.notice(Arc::clone(self), due.at, false);
        }
    }

    /// Whom to tell that the batch is due.
    fn end_linger(&self, which: impl FnOnce(&OpenBatch) -> bool) -> Option<(Arc<dyn QueueOwner>, Due)> {
        let mut open = self.open.lock();
        let batch = open.batch.as_mut().filter(|batch| which(batch))?;
        let at = Instant::now();
        batch.due = batch.due.min(at);
        let Ownership::OwnedBy(owner) = &open.owner else { return None };
        let owner = Arc::clone(owner);
        let known = notice(&mut open, at).is_none();
        Some((owner, Due { at, known }))
    }

    /// Looks at the open batch.
    pub(crate) fn peek(&self) -> OpenState {
        self.open.lock().state()
    }

    /// The size of the open batch before compression, 0 if there is none.
    pub(crate) fn open_len(&self) -> usize {
        self.open.lock().batch.as_ref().map_or(0, |batch| batch.draft.len())
    }

    /// Looks at the open batch, and notes that the sender wants to be told only of batches that are due earlier than
    /// this one. *Thread*: the sender that has the queue.
    pub(crate) fn rest(&self) -> OpenState {
        let mut open = self.open.lock();
        let state = open.state();
        open.noticed = match state {
            OpenState::Empty => None,
            OpenState::Lingers { due, .. } => Some(due),
        };
        state
    }

    /// Seals and takes the open batch. `earlier` must empty the channel of sealed batches: the caller did so without
    /// the lock, and another batch may have come since. *Thread*: the sender that has the queue.
    pub(crate) fn take(&self, earlier: impl FnOnce()) -> Option<Box<Batch>> {
        let mut open = self.open.lock();
        earlier();
        let batch = open.take()?;
        Some(batch.seal())
    }

    /// Seals the open batch into the queue's channel if it has been purged, so that records which are sent from now on
    /// are not in it.
    pub(crate) fn seal_purged(&self) {
        let mut open = self.open.lock();
        if open.batch.as_ref().is_some_and(|batch| batch.unfinished.purge().is_some())
            && let Some(batch) = open.take()
        {
            // If the channel has no receiver any more, the batch is dropped, and fails by that.
            drop(open.sealed.send(batch.seal()));
        }
    }

    /// Gives the queue a new owner, which `adopt` returns. It runs under the partition's lock, so that no application
    /// thread notifies the wrong sender; `adopt` must therefore not use the partition. After an error the owner is the
    /// old one.
    pub(crate) fn change_owner<E>(&self, adopt: impl FnOnce() -> Result<Arc<dyn QueueOwner>, E>) -> Result<(), E> {
        let mut open = self.open.lock();
        open.owner = Ownership::OwnedBy(adopt()?);
        Ok(())
    }

    /// How much waits to be sent, the open batch included: the number of units of `unit` bytes, or the number of
    /// batches if that is greater.
    pub(crate) fn queued(&self, unit: usize) -> usize {
        let open = self.open.lock();
        let batches = open.sealed.len() + usize::from(open.batch.is_some()) + self.waiting.load(Ordering::Relaxed);
        let sealed = open.sealed_bytes.wrapping_sub(self.taken_bytes.load(Ordering::Relaxed));
        // The sender may take a batch between the two reads, so that the difference may be below 0.
        let sealed = i64::try_from(sealed).ok().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        let bytes = sealed.saturating_add(open.batch.as_ref().map_or(0, |batch| batch.draft.len()));
        batches.max(bytes.div_ceil(unit.max(1)))
    }

    /// Notes that a batch of so many bytes has left the queue. *Thread*: the sender that has it.
    pub(crate) fn leaves(&self, bytes: usize) {
        self.taken_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// Notes that a batch of so many bytes is back in the queue. *Thread*: the sender that has it.
    pub(crate) fn returns(&self, bytes: usize) {
        self.taken_bytes.fetch_sub(bytes as u64, Ordering::Relaxed);
    }

    /// Notes how many batches wait in the queue. *Thread*: the sender that has it.
    pub(crate) fn set_waiting(&self, batches: usize) {
        self.waiting.store(batches, Ordering::Relaxed);
    }

    /// A batch of `refused` bytes before compression was refused as too large: from now on batches are at most half as
    /// large. Returns the limit. *Thread*: the sender that has the queue.
    pub(crate) fn learn_limit(&self, refused: usize, now: Instant) -> usize {
        let half = refused.saturating_sub(BATCH_HEADER_BYTES) / 2 + BATCH_HEADER_BYTES;
        let mut open = self.open.lock();
        open.limited_until = Some(time::deadline(now, LIMITED_FOR));
        self.limit.fetch_min(half, Ordering::Relaxed).min(half)
    }

    /// How large batches may be before compression, as far as is known.
    pub(crate) fn limit(&self) -> usize {
        self.limit.load(Ordering::Relaxed)
    }

    /// How large a batch may be that is opened now.
    pub(super) fn limit_of_new(&self, open: &mut PartitionState) -> usize {
        let limit = self.limit();
        if limit < usize::MAX && open.limited_until.is_some_and(|until| until <= Instant::now()) {
            self.try_larger(open, limit, Instant::now())
        } else {
            limit
        }
    }

    /// Doubles the limit, to see whether larger batches are still refused.
    #[cold]
    fn try_larger(&self, open: &mut PartitionState, limit: usize, now: Instant) -> usize {
        // No batch is larger than 1 GiB, so a higher limit is none.
        let larger = if limit > 1 << 30 { usize::MAX } else { limit * 2 };
        open.limited_until = (larger < usize::MAX).then(|| time::deadline(now, LIMITED_FOR));
        self.limit.store(larger, Ordering::Relaxed);
        larger
    }

    /// Refuses records from now on; accepted ones stay. When this returns, every append that began before has ended.
    pub(crate) fn refuse(&self, error: Error) {
        let mut open = self.open.lock();
        (open.takes, open.refusal) = (REFUSED, Some(error));
    }

    /// Accepts records again: only those of this transaction, unless `transaction` is 0.
    pub(crate) fn allow(&self, transaction: u64) {
        let mut open = self.open.lock();
        (open.takes, open.refusal) = (transaction, None);
    }

    /// Fails the open batch, which no sender will take any more, and refuses records from now on. Returns how many
    /// records failed.
    pub(crate) fn abandon(&self, error: &Error) -> u64 {
        let batch = {
            let mut open = self.open.lock();
            (open.takes, open.refusal) = (REFUSED, Some(closed()));
            open.owner = Ownership::Nobody;
            open.batch.take()
        };
        let Some(mut batch) = batch.map(OpenBatch::seal) else { return 0 };
        batch.fail(&self.name, error.clone());
        u64::from(batch.count())
    }
}

/// The error of a call on a closed producer.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, Recovery::Fatal, "the producer is closed")
}

/// Gives an unclaimed queue to a sender.
pub(super) fn ensure_owner(
    open: &mut PartitionState,
    partition: &Arc<Partition>,
    placement: &impl Placement,
) -> Result<()> {
    match std::mem::replace(&mut open.owner, Ownership::Nobody) {
        Ownership::Unclaimed(sealed) => match placement.place(partition, sealed) {
            Ok(owner) => open.owner = Ownership::OwnedBy(owner),
            Err((sealed, error)) => {
                open.owner = Ownership::Unclaimed(sealed);
                return Err(error);
            }
        },
        owner => open.owner = owner,
    }
    Ok(())
}

/// Releases the lock, then tells the sender that there is something to do at `due`.
#[inline]
pub(super) fn unlock_and_notice(
    open: MutexGuard<'_, PartitionState>,
    partition: &Arc<Partition>,
    due: Option<Instant>,
) {
    let Some(due) = due else { return };
    unlock_and_tell(open, partition, due);
}

fn unlock_and_tell(mut open: MutexGuard<'_, PartitionState>, partition: &Arc<Partition>, due: Instant) {
    let told = notice(&mut open, due);
    let full = !open.sealed.is_empty();
    drop(open);
    if let Some((owner, due)) = told {
        owner.notice(Arc::clone(partition), due, full);
    }
}

/// The owner that is to be told that there is something to do at `due`; `None` if it was told an equal or earlier time
/// before.
fn notice(open: &mut PartitionState, due: Instant) -> Option<(Arc<dyn QueueOwner>, Instant)> {
    if open.noticed.is_some_and(|noticed| noticed <= due) {
        return None;
    }
    let Ownership::OwnedBy(owner) = &open.owner else { return None };
    open.noticed = Some(due);
    Some((Arc::clone(owner), due))
}

/// The error of a record whose transaction was ended by another thread or handle.
pub(crate) fn gone() -> Error {
    let text = "this transaction has ended: it was committed or aborted by the producer, or by another thread";
    Error::new(ErrorKind::Misuse, Recovery::Fix, text)
}
