//! Open batches: the one thing that application threads share with the senders.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crossbeam_channel::{Receiver, Sender};
use parking_lot::{Mutex, MutexGuard};

use super::batch::{Batch, Parts, Registered};
use super::budget::{Budget, Charge, Refusal};
use super::callbacks::{Callback, Callbacks, InOrder};
use super::delivery::{BatchCompletion, Delivery};
use super::pending::{Pending, Ticket};
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout};
use crate::logging;
use crate::producer::partitioner::sticky::Given;
use crate::producer::send::mailbox::Mailbox;
use crate::producer::send::troubles::Troubles;
use crate::producer::transaction::gone;
use crate::record::Headers;
use crate::record::batch::{BATCH_HEADER_BYTES, BatchWriter, record_size_upper_bound};
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
    /// the pending count's and the senders' list.
    open: Mutex<Open>,
    /// How many batches wait in the queue, for those who choose a partition by its load.
    waiting: AtomicUsize,
    /// Larger batches, before compression, were refused as too large. `usize::MAX`: none was.
    limit: AtomicUsize,
    /// Of the bytes that were ever sealed, those that have left the queue. Written by the sender that has it.
    taken_bytes: AtomicU64,
    callbacks: InOrder,
}

/// Guarded by the partition's lock.
struct Open {
    batch: Option<OpenBatch>,
    /// The way of sealed batches into the queue; used under the lock, so that they keep their order.
    sealed: Sender<Box<Batch>>,
    home: Home,
    /// The earliest due time that the sender has been told of and has not looked at since.
    noticed: Option<Instant>,
    /// What records that may go anywhere have brought while this was the sticky partition.
    given: Given,
    /// Bytes of all batches that were ever sealed.
    sealed_bytes: u64,
    /// What batches of late have taken: the size of the next one's buffer.
    usual: usize,
    /// Whose records are taken without a second look: [`REFUSED`], a transaction's number, or 0 without one.
    takes: u64,
    /// Why records are not taken, if they are not: the producer is closed, or no transaction is open.
    refusal: Option<Error>,
    /// Until when the partition's limit is not put to the test, if it has one.
    limited_until: Option<Instant>,
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
enum Home {
    /// No sender has it yet; this is where its sealed batches come out.
    Unclaimed(Receiver<Box<Batch>>),
    /// The sender with this mailbox has it.
    At(Arc<Mailbox>),
    /// Being handed over, only while the lock is held; or the producer has ended.
    Nowhere,
}

struct OpenBatch {
    completion: Arc<BatchCompletion>,
    draft: Draft,
    created: Instant,
    deadline: Instant,
    /// When its linger ends.
    due: Instant,
    callbacks: Vec<Registered>,
    /// Its number in the order of the partition's callbacks, once it has one.
    turn: Option<u64>,
    ticket: Ticket,
}

/// Records that gather in a buffer whose bytes are set aside.
pub(crate) struct Draft {
    writer: BatchWriter,
    /// With so many bytes it is full.
    full: usize,
    /// How many bytes it may take before its buffer has to grow.
    room: usize,
    charge: Charge,
}

impl Draft {
    #[inline]
    fn append(&mut self, entry: &Entry<'_>) -> Result<u32> {
        let Entry { timestamp, key, value, headers, parts_size, .. } = *entry;
        self.writer.append_sized(timestamp, key, value, headers, parts_size)
    }

    /// How many records it has.
    pub(crate) fn count(&self) -> u32 {
        self.writer.count()
    }

    /// Its size before compression, with the batch's header.
    pub(crate) fn len(&self) -> usize {
        self.writer.len()
    }

    /// The first record's timestamp.
    pub(crate) fn base_timestamp(&self) -> Option<i64> {
        self.writer.base_timestamp()
    }

    /// Gives buffer and bytes back.
    pub(crate) fn discard(self, budget: &Budget) {
        // While its bytes are set aside.
        budget.recycle(self.writer.into_buffer());
    }
}

impl Open {
    fn take(&mut self) -> Option<OpenBatch> {
        let batch = self.batch.take()?;
        let bytes = batch.draft.len();
        // A smaller batch now and then does not make the next one begin small.
        self.usual = bytes.max(self.usual / 2);
        self.sealed_bytes = self.sealed_bytes.wrapping_add(bytes as u64);
        Some(batch)
    }

    /// Why a record of this transaction is not taken, if it is not. Without a number it belongs to whichever is open.
    #[inline]
    fn admit(&self, transaction: u64) -> Result<()> {
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
    fn seal(self) -> Box<Batch> {
        Batch::new(Parts {
            completion: self.completion,
            writer: self.draft.writer,
            created: self.created,
            deadline: self.deadline,
            callbacks: self.callbacks,
            turn: self.turn,
            charge: self.draft.charge,
            ticket: self.ticket,
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

/// Finds a home for a partition's queue.
pub(crate) trait Housing {
    /// The mailbox of the sender that has taken the queue, into which sealed batches come by `sealed`.
    fn house(
        &self,
        partition: &Arc<Partition>,
        sealed: Receiver<Box<Batch>>,
    ) -> Result<Arc<Mailbox>, (Receiver<Box<Batch>>, Error)>;
    /// Asks every sender to send what is open, because a thread waits for memory.
    fn hurry_all(&self);
}

impl Partition {
    pub(crate) fn new(id: PartitionId, name: TopicPartition) -> Arc<Self> {
        let (sealed, queue) = crossbeam_channel::unbounded();
        let home = Home::Unclaimed(queue);
        let open = Open {
            batch: None,
            sealed,
            home,
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
        if let Some((mailbox, due)) = self.end_linger(which) {
            mailbox.lead_or_notice(self, due, until);
        }
    }

    /// Ends the linger of the open batch.
    pub(crate) fn hurry_open(self: &Arc<Self>) {
        if let Some((mailbox, due)) = self.end_linger(|_| true)
            && !due.known
        {
            mailbox.notice(Arc::clone(self), due.at, false);
        }
    }

    /// Whom to tell that the batch is due.
    fn end_linger(&self, which: impl FnOnce(&OpenBatch) -> bool) -> Option<(Arc<Mailbox>, Due)> {
        let mut open = self.open.lock();
        let batch = open.batch.as_mut().filter(|batch| which(batch))?;
        let at = Instant::now();
        batch.due = batch.due.min(at);
        let Home::At(mailbox) = &open.home else { return None };
        let mailbox = Arc::clone(mailbox);
        let known = notice(&mut open, at).is_none();
        Some((mailbox, Due { at, known }))
    }

    /// Looks at the open batch.
    pub(crate) fn peek(&self) -> OpenState {
        self.open.lock().state()
    }

    /// The size of the open batch before compression, 0 if there is none.
    pub(crate) fn open_len(&self) -> usize {
        self.open.lock().batch.as_ref().map_or(0, |batch| batch.draft.len())
    }

    /// Looks at the open batch, and settles what the sender wants to be told next: anything that is due earlier than
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
        if open.batch.as_ref().is_some_and(|batch| batch.ticket.purge().is_some())
            && let Some(batch) = open.take()
        {
            // Without its receiver the batch fails by its drop.
            drop(open.sealed.send(batch.seal()));
        }
    }

    /// Tells application threads where the queue has gone, which `adopt` says; under the lock, so that none of them
    /// tells the wrong sender. `adopt` must not look at the partition, whose lock is held. After an error the queue is
    /// where it was.
    pub(crate) fn rehouse<E>(&self, adopt: impl FnOnce() -> Result<Arc<Mailbox>, E>) -> Result<(), E> {
        let mut open = self.open.lock();
        open.home = Home::At(adopt()?);
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
    fn limit_of_new(&self, open: &mut Open) -> usize {
        let limit = self.limit();
        if limit < usize::MAX && open.limited_until.is_some_and(|until| until <= Instant::now()) {
            self.try_larger(open, limit, Instant::now())
        } else {
            limit
        }
    }

    /// Lets batches be twice as large, to see whether they are refused still.
    #[cold]
    fn try_larger(&self, open: &mut Open, limit: usize, now: Instant) -> usize {
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
    pub(crate) fn welcome(&self, transaction: u64) {
        let mut open = self.open.lock();
        (open.takes, open.refusal) = (transaction, None);
    }

    /// Fails the open batch, which no sender will take any more, and refuses records from here on. Answers how many
    /// records there were.
    pub(crate) fn abandon(&self, error: &Error) -> u64 {
        let batch = {
            let mut open = self.open.lock();
            (open.takes, open.refusal) = (REFUSED, Some(closed()));
            open.home = Home::Nowhere;
            open.batch.take()
        };
        let Some(mut batch) = batch.map(OpenBatch::seal) else { return 0 };
        batch.fail(&self.name, error.clone());
        u64::from(batch.count())
    }
}

/// The record as it goes into a batch.
pub(crate) struct Entry<'a> {
    pub(crate) timestamp: i64,
    pub(crate) key: Option<&'a [u8]>,
    pub(crate) value: Option<&'a [u8]>,
    pub(crate) headers: &'a Headers<'a>,
    /// What key, value and headers take.
    pub(crate) parts_size: usize,
    /// The transaction that it is to be part of, and of no other; 0: the one that is open, if the producer has any.
    pub(crate) transaction: u64,
}

impl Entry<'_> {
    /// At most how large a batch of this record alone would be.
    fn bound(&self) -> usize {
        record_size_upper_bound(self.parts_size)
    }
}

/// How long a call may wait, and since when it has.
#[derive(Clone, Copy)]
pub(crate) struct Patience {
    /// When the call began, if it had to wait before.
    pub(crate) started: Option<Instant>,
    /// For how long it may wait in all; `None`: not at all (`try_send`).
    pub(crate) limit: Option<Duration>,
}

/// Whether a record is bound to its partition.
pub(crate) trait Bond {
    /// What the partition gets before another is to be chosen; `None`: the record is for this one.
    fn share(&self) -> Option<usize>;
    /// Has another partition chosen. False if another thread has done so before.
    fn give_up(&self) -> bool;
}

/// The record or the partitioner names the partition.
pub(crate) struct Named;

impl Bond for Named {
    fn share(&self) -> Option<usize> {
        None
    }

    fn give_up(&self) -> bool {
        false
    }
}

/// The record may go anywhere, and the partition is the sticky one.
pub(crate) struct Sticking<F> {
    pub(crate) share: usize,
    pub(crate) give_up: F,
}

impl<F: Fn() -> bool> Bond for Sticking<F> {
    fn share(&self) -> Option<usize> {
        Some(self.share)
    }

    fn give_up(&self) -> bool {
        (self.give_up)()
    }
}

/// How a draft is handed over.
pub(crate) struct Way {
    /// No record may be added.
    pub(crate) closed: bool,
    /// What its deadline counts from, if the call had to wait.
    pub(crate) started: Option<Instant>,
    /// As [`Entry::transaction`].
    pub(crate) transaction: u64,
}

/// Why an append did nothing.
pub(crate) enum Unsent {
    /// The sticky partition has had its share: ask for another one.
    Elsewhere,
    Failed(Error),
}

impl From<Error> for Unsent {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

/// What application threads need to append.
pub(crate) struct Accumulator {
    pub(crate) batch_size: usize,
    pub(crate) batch_records: u32,
    pub(crate) linger: Duration,
    pub(crate) delivery_timeout: Duration,
    pub(crate) budget: Arc<Budget>,
    pub(crate) pending: Arc<Pending>,
    pub(crate) callbacks: Callbacks,
    pub(crate) troubles: Arc<Troubles>,
}

impl Accumulator {
    /// Encodes the record into the partition's open batch, after opening one where needed, unless its `bond` to the
    /// partition says that it has had its share. The callback is taken with the record.
    ///
    /// *Blocks* for buffer memory as long as `patience` says.
    pub(crate) fn append(
        &self,
        partition: &Arc<Partition>,
        entry: &Entry<'_>,
        callback: &mut Option<Callback>,
        patience: &mut Patience,
        housing: &impl Housing,
        bond: impl Bond,
    ) -> Result<Delivery, Unsent> {
        let mut spare: Option<Charge> = None;
        loop {
            let mut open = partition.open.lock();
            open.admit(entry.transaction)?;
            let room = open.batch.as_mut().is_some_and(|batch| self.make_room(&mut batch.draft, entry));
            // When there is something to do for the sender, if there is.
            let mut due = None;
            if !room {
                // What does not fit any more would have made the share full.
                let mut more = 0;
                if self.seal(&mut open) {
                    due = Some(Instant::now());
                    more = entry.bound();
                }
                if let Some(share) = bond.share().filter(|share| open.given.is_share(more, *share))
                    && bond.give_up()
                {
                    open.given.carry_over(share);
                    unlock_and_notice(open, partition, due);
                    return Err(Unsent::Elsewhere);
                }
                let full = self.batch_size.min(partition.limit_of_new(&mut open));
                let bytes = Budget::buffer_size(open.usual.min(full).max(entry.bound()), full);
                let Some(charge) = spare.take().or_else(|| self.budget.try_reserve(bytes)) else {
                    unlock_and_notice(open, partition, due);
                    spare = Some(self.wait_for_memory(bytes, entry, patience, housing)?);
                    continue;
                };
                settle_home(&mut open, partition, housing)?;
                let batch = self.open_batch(partition, patience.started, entry.timestamp, self.draft(charge, full));
                due = due.or(Some(batch.due));
                open.batch = Some(batch);
            }
            let Open { batch: Some(batch), given, .. } = &mut *open else {
                return Err(Error::bug("the batch that was just opened is gone").into());
            };
            let before = batch.draft.len();
            let index = match batch.draft.append(entry) {
                Ok(index) => index,
                Err(error) => {
                    // A batch that was opened for this record alone goes with it.
                    if batch.draft.count() == 0 {
                        open.batch = None;
                    }
                    return Err(error.into());
                }
            };
            if let Some(callback) = callback.take() {
                batch.turn.get_or_insert_with(|| partition.callbacks.enter());
                batch.callbacks.push((index, entry.timestamp, callback));
            }
            let completion = Arc::clone(&batch.completion);
            if let Some(share) = bond.share()
                && given.count(batch.draft.len() - before, share)
                && bond.give_up()
            {
                given.carry_over(share);
            }
            if self.is_full(&batch.draft) {
                self.seal(&mut open);
                due = Some(Instant::now());
            }
            unlock_and_notice(open, partition, due);
            return Ok(Delivery::accepted(completion, index, entry.timestamp));
        }
    }

    /// Encodes the record into a draft that the caller has to itself, and begins one where there is none. `None`: it has
    /// no room for the record, and is as it was.
    ///
    /// *Blocks* for the buffer memory of a new draft as long as `patience` says.
    pub(crate) fn add(
        &self,
        draft: &mut Option<Draft>,
        entry: &Entry<'_>,
        patience: &mut Patience,
        housing: &impl Housing,
    ) -> Result<Option<u32>> {
        if let Some(draft) = draft {
            let room = !self.is_full(draft) && self.make_room(draft, entry);
            return if room { draft.append(entry).map(Some) } else { Ok(None) };
        }
        let bytes = Budget::buffer_size(entry.bound(), self.batch_size);
        let mut new = self.draft(self.wait_for_memory(bytes, entry, patience, housing)?, self.batch_size);
        let index = new.append(entry)?;
        *draft = Some(new);
        Ok(Some(index))
    }

    /// Puts a draft of a record or more into the partition's queue, behind all that has been sent there. Where it has
    /// room and is not `closed`, it becomes the partition's open batch, to which [`append`](Self::append) adds. With an error
    /// the draft comes back.
    pub(crate) fn hand_over(
        &self,
        partition: &Arc<Partition>,
        mut draft: Draft,
        Way { closed, started, transaction }: Way,
        housing: &impl Housing,
    ) -> Result<Arc<BatchCompletion>, (Draft, Error)> {
        let mut open = partition.open.lock();
        draft.full = draft.full.min(partition.limit_of_new(&mut open));
        if let Err(error) = open.admit(transaction) {
            return Err((draft, error));
        }
        if let Err(error) = settle_home(&mut open, partition, housing) {
            return Err((draft, error));
        }
        let closed = closed || self.is_full(&draft);
        // What came before goes before.
        let before = self.seal(&mut open);
        let first_timestamp = draft.base_timestamp().unwrap_or(-1);
        let batch = self.open_batch(partition, started, first_timestamp, draft);
        let (completion, mut due) = (Arc::clone(&batch.completion), batch.due);
        open.batch = Some(batch);
        if closed {
            self.seal(&mut open);
        }
        if closed || before {
            due = Instant::now();
        }
        unlock_and_notice(open, partition, Some(due));
        Ok(completion)
    }

    /// A draft with a buffer as large as what is set aside for it, and no larger: batches may have grown since the
    /// bytes were asked for.
    fn draft(&self, charge: Charge, full: usize) -> Draft {
        let bytes = charge.bytes();
        let writer = BatchWriter::new(self.budget.buffer(bytes));
        Draft { writer, full, room: bytes.min(full), charge }
    }

    fn open_batch(
        &self,
        partition: &Arc<Partition>,
        started: Option<Instant>,
        first_timestamp: i64,
        draft: Draft,
    ) -> OpenBatch {
        let now = Instant::now();
        let created = started.unwrap_or(now);
        OpenBatch {
            completion: BatchCompletion::new(Arc::clone(partition), self.callbacks.clone(), first_timestamp),
            draft,
            created,
            deadline: time::deadline(created, self.delivery_timeout),
            due: time::deadline(now, self.linger),
            callbacks: Vec::new(),
            turn: None,
            ticket: self.pending.open(),
        }
    }

    /// Whether it takes no further record, however small.
    #[inline]
    fn is_full(&self, draft: &Draft) -> bool {
        draft.len() >= draft.full || draft.count() >= self.batch_records
    }

    /// Whether the batch has room for the record, after its buffer has grown if it must and can. A buffer begins as
    /// large as batches of late were, and doubles: a partition that gets little takes little memory.
    fn make_room(&self, draft: &mut Draft, entry: &Entry<'_>) -> bool {
        // Most records fit by their bound, and only the last of a buffer are measured.
        let len = draft.len();
        if len.saturating_add(entry.bound().saturating_sub(BATCH_HEADER_BYTES)) <= draft.room {
            return true;
        }
        let needed = len.saturating_add(draft.writer.encoded_size(entry.timestamp, entry.parts_size));
        if needed <= draft.room {
            return true;
        }
        // Where memory is scarce the batch is full as it is.
        let larger = Budget::buffer_size(needed, draft.full);
        if needed > draft.full || !draft.charge.grow(larger.saturating_sub(draft.room)) {
            return false;
        }
        self.budget.recycle(draft.writer.move_to(self.budget.buffer(larger)));
        draft.room = larger;
        true
    }

    /// Seals the open batch, if there is one, into the queue's channel: it is full, or a direct batch comes behind it.
    fn seal(&self, open: &mut Open) -> bool {
        let Some(batch) = open.take() else { return false };
        // The receiver lives in the queue for as long as the partition does; without it the batch fails by its drop.
        drop(open.sealed.send(batch.seal()));
        true
    }

    fn wait_for_memory(
        &self,
        bytes: usize,
        entry: &Entry<'_>,
        patience: &mut Patience,
        housing: &impl Housing,
    ) -> Result<Charge> {
        // What a logger sends is never waited for: the thread may be the very one that would make room.
        let Some(limit) = patience.limit.filter(|_| !logging::is_inside()) else {
            return match self.budget.try_reserve(bytes) {
                Some(charge) => Ok(charge),
                None => Err(Error::new(ErrorKind::WouldBlock, Recovery::Retry, self.no_room(bytes, entry))
                    .over_limit("buffer_memory", self.budget.total() as u64)),
            };
        };
        let started = *patience.started.get_or_insert_with(Instant::now);
        let deadline = time::deadline(started, limit);
        let charge = self.budget.reserve(bytes, deadline, || housing.hurry_all());
        charge.map_err(|refusal| match refusal {
            Refusal::Closed => closed(),
            Refusal::TimedOut => {
                let text = format!("{} within the max_block of {limit:?}", self.no_room(bytes, entry));
                let error =
                    Error::timeout(Timeout::BufferMemory, text).over_limit("buffer_memory", self.budget.total() as u64);
                // Memory comes free when records are acknowledged.
                match self.troubles.first() {
                    Some(cause) => error.with_source(cause),
                    None => error,
                }
            }
        })
    }

    fn no_room(&self, bytes: usize, entry: &Entry<'_>) -> String {
        let (size, used) = (entry.bound(), self.budget.used());
        format!(
            "a record of up to {size} bytes found no room in the buffer memory, of which {used} bytes are in use and a \
             batch for the record takes {bytes}"
        )
    }
}

/// The error of a call on a closed producer.
pub(crate) fn closed() -> Error {
    Error::new(ErrorKind::Closed, Recovery::Fatal, "the producer is closed")
}

/// Gives an unclaimed queue to a sender.
fn settle_home(open: &mut Open, partition: &Arc<Partition>, housing: &impl Housing) -> Result<()> {
    match std::mem::replace(&mut open.home, Home::Nowhere) {
        Home::Unclaimed(sealed) => match housing.house(partition, sealed) {
            Ok(mailbox) => open.home = Home::At(mailbox),
            Err((sealed, error)) => {
                open.home = Home::Unclaimed(sealed);
                return Err(error);
            }
        },
        home => open.home = home,
    }
    Ok(())
}

/// Tells the sender, after the lock is given back, that there is something to do at `due`.
#[inline]
fn unlock_and_notice(open: MutexGuard<'_, Open>, partition: &Arc<Partition>, due: Option<Instant>) {
    let Some(due) = due else { return };
    unlock_and_tell(open, partition, due);
}

fn unlock_and_tell(mut open: MutexGuard<'_, Open>, partition: &Arc<Partition>, due: Instant) {
    let told = notice(&mut open, due);
    let full = !open.sealed.is_empty();
    drop(open);
    if let Some((mailbox, due)) = told {
        mailbox.notice(Arc::clone(partition), due, full);
    }
}

/// Whom to tell that there is something to do at `due`, unless they have been told of something as early.
fn notice(open: &mut Open, due: Instant) -> Option<(Arc<Mailbox>, Instant)> {
    if open.noticed.is_some_and(|noticed| noticed <= due) {
        return None;
    }
    let Home::At(mailbox) = &open.home else { return None };
    open.noticed = Some(due);
    Some((Arc::clone(mailbox), due))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Releases the memory that a thread waits for, after the partition's batches have become large.
    struct Grown {
        partition: Arc<Partition>,
        held: Mutex<Option<Charge>>,
    }

    impl Housing for Grown {
        fn house(
            &self,
            _: &Arc<Partition>,
            sealed: Receiver<Box<Batch>>,
        ) -> Result<Arc<Mailbox>, (Receiver<Box<Batch>>, Error)> {
            // Kept for the length of the test.
            Box::leak(Box::new(sealed));
            Ok(Mailbox::new().0)
        }

        fn hurry_all(&self) {
            self.partition.open.lock().usual = 50_000;
            drop(self.held.lock().take());
        }
    }

    #[test]
    fn a_batch_takes_no_more_memory_than_was_set_aside_for_it() {
        let budget = Budget::new(100_000, 100_000);
        let partition = Partition::new(PartitionId(0), TopicPartition::new("t", 0));
        let accumulator = Accumulator {
            batch_size: 100_000,
            batch_records: u32::MAX,
            linger: Duration::from_secs(100),
            delivery_timeout: Duration::from_secs(100),
            budget: Arc::clone(&budget),
            pending: Arc::default(),
            callbacks: Callbacks::start().unwrap().0,
            troubles: Arc::default(),
        };
        let housing =
            Grown { partition: Arc::clone(&partition), held: Mutex::new(Some(budget.try_reserve(100_000).unwrap())) };
        let headers = Headers::new();
        let entry = Entry { timestamp: 0, key: None, value: None, headers: &headers, parts_size: 3, transaction: 0 };
        let mut patience = Patience { started: None, limit: Some(Duration::from_secs(60)) };
        let sent = accumulator.append(&partition, &entry, &mut None, &mut patience, &housing, Named);
        assert!(sent.is_ok());
        assert!(housing.held.lock().is_none(), "nobody waited");
        let batch = partition.open.lock().take().unwrap();
        assert_eq!((batch.draft.room, batch.draft.charge.bytes()), (1024, 1024));
        assert_eq!(batch.draft.writer.into_buffer().capacity(), 1024);
        assert_eq!(budget.used(), 1024);
    }
}
