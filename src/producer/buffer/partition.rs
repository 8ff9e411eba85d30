//! A partition as application threads see it: its open batch, and the way to its queue. The one thing that they share with
//! the senders.

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

/// A number of its own for every partition that a producer writes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct PartitionId(pub(crate) u32);

/// The application's side of a partition.
pub(crate) struct Partition {
    id: PartitionId,
    name: TopicPartition,
    /// Held for one append or one look, never while blocking. Order: a partition's lock comes before the budget's,
    /// the unfinished batches' and the senders' list.
    pub(super) open: Mutex<PartitionState>,
    /// How many batches wait in the queue, for those who choose a partition by its load.
    waiting: AtomicUsize,
    /// Larger batches, before compression, were refused as too large. `usize::MAX`: none was.
    limit: AtomicUsize,
    /// Of the bytes that were ever sealed, those that have left the queue. Written by the sender that has it.
    taken_bytes: AtomicU64,
    pub(super) callbacks: InOrder,
}

/// Guarded by the partition's lock.
pub(super) struct PartitionState {
    pub(super) batch: Option<OpenBatch>,
    /// The way of sealed batches into the queue; used under the lock, so that they keep their order.
    pub(super) sealed: Sender<Box<Batch>>,
    pub(super) owner: Ownership,
    /// The earliest due time that the sender has been told of and has not looked at since.
    pub(super) noticed: Option<Instant>,
    /// What records that may go anywhere have brought while this was the sticky partition.
    pub(super) given: Given,
    /// Bytes of all batches that were ever sealed.
    pub(super) sealed_bytes: u64,
    /// What batches of late have taken: the size of the next one's buffer.
    pub(super) usual: usize,
    /// Whose records are taken without a second look: [`REFUSED`], a transaction's number, or 0 without one.
    pub(super) takes: u64,
    /// Why records are not taken, if they are not: the producer is closed, or no transaction is open.
    pub(super) refusal: Option<Error>,
    /// Until when the partition's limit is not put to the test, if it has one.
    pub(super) limited_until: Option<Instant>,
}

/// How long a partition's batches stay as small as it has learnt. Then larger ones are tried: the topic's limit may have
/// been raised, or its records compress better. It costs a request at most.
const LIMITED_FOR: Duration = Duration::from_secs(300);

/// No transaction has this number.
const REFUSED: u64 = u64::MAX;

/// A batch is due.
#[derive(Clone, Copy)]
pub(crate) struct Due {
    pub(crate) at: Instant,
    /// The sender has been told before.
    pub(crate) known: bool,
}

/// Where the partition's queue is.
pub(super) enum Ownership {
    /// No sender has it yet; this is where its sealed batches come out.
    Unclaimed(Receiver<Box<Batch>>),
    /// There.
    OwnedBy(Arc<dyn QueueOwner>),
    /// Being handed over, only while the lock is held; or the producer has ended.
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
    /// Its number in the order of the partition's callbacks, once it has one.
    pub(super) callback_number: Option<u64>,
    pub(super) unfinished: UnfinishedBatch,
}

impl PartitionState {
    pub(super) fn take(&mut self) -> Option<OpenBatch> {
        let batch = self.batch.take()?;
        let bytes = batch.draft.len();
        // A smaller batch now and then does not make the next one begin small.
        self.usual = bytes.max(self.usual / 2);
        self.sealed_bytes = self.sealed_bytes.wrapping_add(bytes as u64);
        Some(batch)
    }

    /// Why a record of this transaction is not taken, if it is not. Without a number it belongs to whichever is open.
    #[inline]
    pub(super) fn admit(&self, transaction: u64) -> Result<()> {
        if self.takes == transaction { Ok(()) } else { self.look_again(transaction) }
    }

    fn look_again(&self, transaction: u64) -> Result<()> {
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

/// What a sender finds in the open place of a partition.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum OpenState {
    Empty,
    /// A batch whose linger ends at `due`, and whose delivery deadline is `deadline`.
    Lingers {
        due: Instant,
        deadline: Instant,
    },
}

/// Where a partition's queue is: a broker's link, whose sender has it.
pub(crate) trait QueueOwner: Send + Sync {
    /// Leaves word that `partition` has a batch which is due at `due`, and whether it is full.
    fn notice(&self, partition: Arc<Partition>, due: Instant, full: bool);
    /// Sends what `partition` has and waits for the answer on the calling thread, if nobody else needs the broker's
    /// link; otherwise leaves word that its batch is due, unless that is known.
    fn drive_or_notice(&self, partition: &Arc<Partition>, due: Due, until: Option<Instant>);
}

/// The owner of a queue; or the queue again, and why it found none.
pub(crate) type Placed = Result<Arc<dyn QueueOwner>, (Receiver<Box<Batch>>, Error)>;

/// Finds an owner for a partition's queue.
pub(crate) trait Placement {
    /// The owner of the queue, into which sealed batches come by `sealed`.
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

    /// Ends the linger of the open batch if it is the one of `completion`, and has it sent, perhaps on this very
    /// thread. Called by whoever waits for it, until `until`.
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

    /// Looks at the open batch, and notes what the sender wants to be told next: anything that is due earlier than
    /// what it sees now. *Thread*: the sender that has the queue.
    pub(crate) fn rest(&self) -> OpenState {
        let mut open = self.open.lock();
        let state = open.state();
        open.noticed = match state {
            OpenState::Empty => None,
            OpenState::Lingers { due, .. } => Some(due),
        };
        state
    }

    /// Seals and takes the open batch. The caller has emptied the channel of sealed ones under no lock, so it is
    /// emptied into `earlier` once more under this one. *Thread*: the sender that has the queue.
    pub(crate) fn take(&self, earlier: impl FnOnce()) -> Option<Box<Batch>> {
        let mut open = self.open.lock();
        earlier();
        let batch = open.take()?;
        Some(batch.seal())
    }

    /// Seals the open batch into the queue's channel if it has been purged: what is sent from now on is not part of it.
    pub(crate) fn seal_purged(&self) {
        let mut open = self.open.lock();
        if open.batch.as_ref().is_some_and(|batch| batch.unfinished.purge().is_some())
            && let Some(batch) = open.take()
        {
            // Without its receiver the batch fails by its drop.
            drop(open.sealed.send(batch.seal()));
        }
    }

    /// Tells application threads where the queue has gone, which `adopt` says; under the lock, so that none of them
    /// tells the wrong sender. `adopt` must not look at the partition, whose lock is held. After an error the queue is
    /// where it was.
    pub(crate) fn change_owner<E>(&self, adopt: impl FnOnce() -> Result<Arc<dyn QueueOwner>, E>) -> Result<(), E> {
        let mut open = self.open.lock();
        open.owner = Ownership::OwnedBy(adopt()?);
        Ok(())
    }

    /// How much waits to be sent, the open batch included: in units of so many bytes, or in batches if they are more.
    pub(crate) fn queued(&self, unit: usize) -> usize {
        let open = self.open.lock();
        let batches = open.sealed.len() + usize::from(open.batch.is_some()) + self.waiting.load(Ordering::Relaxed);
        let sealed = open.sealed_bytes.wrapping_sub(self.taken_bytes.load(Ordering::Relaxed));
        // The sender may take some between the two looks.
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

    /// A batch of so many bytes before compression was refused as too large: from now on they are half as large. Answers
    /// how large they may be. *Thread*: the sender that has the queue.
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

    /// Lets batches be twice as large, to see whether they are refused still.
    #[cold]
    fn try_larger(&self, open: &mut PartitionState, limit: usize, now: Instant) -> usize {
        // A batch is smaller than that in any case.
        let larger = if limit > 1 << 30 { usize::MAX } else { limit * 2 };
        open.limited_until = (larger < usize::MAX).then(|| time::deadline(now, LIMITED_FOR));
        self.limit.store(larger, Ordering::Relaxed);
        larger
    }

    /// Refuses records from here on; what was accepted stays. Whoever has come before is done when this returns.
    pub(crate) fn refuse(&self, error: Error) {
        let mut open = self.open.lock();
        (open.takes, open.refusal) = (REFUSED, Some(error));
    }

    /// Takes records again: those of this transaction, if it has a number.
    pub(crate) fn allow(&self, transaction: u64) {
        let mut open = self.open.lock();
        (open.takes, open.refusal) = (transaction, None);
    }

    /// Fails the open batch, which no sender will take any more, and refuses records from here on. Answers how many
    /// records there were.
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

/// Tells the sender, after the lock is given back, that there is something to do at `due`.
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

/// Whom to tell that there is something to do at `due`, unless they have been told of something as early.
fn notice(open: &mut PartitionState, due: Instant) -> Option<(Arc<dyn QueueOwner>, Instant)> {
    if open.noticed.is_some_and(|noticed| noticed <= due) {
        return None;
    }
    let Ownership::OwnedBy(owner) = &open.owner else { return None };
    open.noticed = Some(due);
    Some((Arc::clone(owner), due))
}

/// The error of a record for a transaction that has been ended by others.
pub(crate) fn gone() -> Error {
    let text = "this transaction has ended: it was committed or aborted by the producer, or by another thread";
    Error::new(ErrorKind::Misuse, Recovery::Fix, text)
}
