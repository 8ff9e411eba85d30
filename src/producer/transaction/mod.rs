//! Transactions: records to several partitions, and a group's offsets, that become visible as a whole or not at all
//! (KIP-98, KIP-447, KIP-890).
//!
//! [`state`] says what a producer may do and what is to be sent, [`verdict`] what an answer means, [`gate`] which batches
//! may go, and [`gap`] from when on; [`core`] keeps what has come of it until somebody is told. The thread `kafka-txn` ([`worker`]) sends what there is to send, through
//! [`coordinators`]; the callers wait for the state to change.

mod coordinators;
mod core;
mod gap;
mod gate;
mod offsets;
mod state;
mod verdict;
mod worker;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;
use parking_lot::{Condvar, Mutex, MutexGuard};

use self::coordinators::Hangups;
pub(crate) use self::core::gone;
use self::core::{Core, Fate};
use self::gate::Failure;
pub(crate) use self::gate::Gate;
use self::offsets::Offsets;
pub use self::offsets::{GroupMetadata, OffsetAndMetadata};
use self::state::{Actions, Ended, Event, Pace, State, Terms, misuse};
pub(crate) use self::verdict::as_told;
use super::api::direct::{BatchDelivery, BatchNotSent, DirectBatch};
use super::api::producer::{DROP_TIMEOUT, Manner, Producer, Shared};
use super::buffer::accumulator::closed;
use super::buffer::callbacks::Callback;
use super::buffer::delivery::{Delivery, RecordMetadata};
use super::metrics::{Stopwatch, add};
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout, Written};
use crate::logging::{Quiet, info, warn};
use crate::net::NetConfig;
use crate::record::Record;
use crate::time;
use crate::topic::TopicPartition;

/// The transactional part of a producer.
pub(crate) struct Transactions {
    pub(crate) gate: Arc<Gate>,
    terms: Terms,
    /// *Lock order*: before every other lock of the producer, but never while anything is waited for.
    core: Mutex<Core>,
    /// The number of the open transaction, 0 for none.
    number: AtomicU64,
    /// Told of every change.
    changed: Condvar,
    hangups: Arc<Hangups>,
}

impl Transactions {
    /// The bell that `kafka-txn` hears comes with it.
    pub(crate) fn new(id: Arc<str>, timeout: Duration) -> (Self, Receiver<()>) {
        let (gate, ear) = Gate::new();
        let transactions = Self {
            gate: Arc::new(gate),
            terms: Terms { id, timeout },
            core: Mutex::new(Core::new()),
            number: AtomicU64::new(0),
            changed: Condvar::new(),
            hangups: Arc::default(),
        };
        (transactions, ear)
    }
}

// ---- the public side ------------------------------------------------------------------------------------------------

impl Producer {
    /// Makes a transactional producer ready: it finds the coordinator of its
    /// [`transactional_id`](crate::ProducerBuilder::transactional_id), which locks the former producer of that id out and
    /// finishes or aborts what that has left. To be called once, before everything else.
    ///
    /// *Blocks* until then, at most for `max_block`. *Errors*: `Timeout(Transaction)`: calling again goes on with it, and
    /// says so if it was done meanwhile. `Fix`, such as TRANSACTIONAL_ID_AUTHORIZATION_FAILED: likewise, once that is put right; with
    /// INVALID_TRANSACTION_TIMEOUT it takes a producer with another `transaction_timeout`. `Misuse` where the producer is
    /// not transactional, or is initialised already; `Closed`.
    pub fn init_transactions(&self) -> Result<()> {
        self.0.0.init_transactions()
    }

    /// Begins a transaction. Every record that is sent from now on, by the [`Transaction`] or by the producer and its
    /// clones, is part of it; before, and after its end, records are refused.
    ///
    /// Nothing is sent for it. It first waits for the end of a commit that had timed out, or of an abort.
    ///
    /// *Blocks* only for that, at most for `max_block`. *Errors*: `Misuse` where `init_transactions` has not been called
    /// or a transaction is open; `Fenced`, `Timeout(Transaction)`, `Closed`.
    pub fn begin_transaction(&self) -> Result<Transaction> {
        let fate = self.0.0.begin()?;
        Ok(Transaction { producer: self.clone(), fate, settled: false })
    }

    /// Runs `work` in a transaction: commits it where `work` succeeds, and aborts it where `work` or the commit fails,
    /// or panics.
    ///
    /// *Blocks* as `work`, and as [`Transaction::commit`]. *Errors*: those of `work`, `begin_transaction` and `commit`, after
    /// the abort, so that their recovery says what comes next:
    /// * [`written`](Error::written) is `No`: nothing of it is visible, now or later. `Retry`: do the work again; `Fix`: not as
    ///   it is.
    /// * `written` is `Maybe`: the commit has been asked for, and has no outcome yet. Do not do the work again. `Fix`
    ///   (`Timeout(Transaction)`): call [`commit_transaction`](Self::commit_transaction) until it says what has come of it.
    ///   `Fatal`: this producer cannot learn it any more; a new one of the same id finishes the transaction, and the topic's
    ///   records tell how.
    ///
    /// ```no_run
    /// use kafka_blocking::{Producer, Record};
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// let producer = Producer::builder(["kafka01:9092"]).transactional_id("shop-1").build()?;
    /// producer.init_transactions()?;
    /// producer.in_transaction(|transaction| {
    ///     transaction.send(Record::to("orders").value("one coffee"));
    ///     transaction.send(Record::to("stock").value("beans -8 g"));
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_transaction<T>(&self, work: impl FnOnce(&Transaction) -> Result<T>) -> Result<T> {
        let transaction = self.begin_transaction()?;
        match work(&transaction) {
            Ok(value) => {
                transaction.commit()?;
                Ok(value)
            }
            Err(error) => Err(transaction.give_up(error, self.0.0.config.max_block)),
        }
    }

    /// [`begin_transaction`](Self::begin_transaction) without the guard, for code that has been written for Java's
    /// client: nothing but [`commit_transaction`](Self::commit_transaction) and
    /// [`abort_transaction`](Self::abort_transaction) ends it, or [`close`](Self::close).
    ///
    /// *Blocks* and *Errors*: as `begin_transaction`.
    pub fn begin(&self) -> Result<()> {
        self.0.0.begin().map(|_| ())
    }

    /// Commits the open transaction: [`Transaction::commit`] for those who called [`begin`](Self::begin). After
    /// `Timeout(Transaction)` it goes on when it is called again, whenever that is: it tells the outcome of the last
    /// transaction as long as no call has told it, and no other one was begun. So it does after
    /// [`in_transaction`](Self::in_transaction).
    ///
    /// *Blocks* and *Errors*: as `Transaction::commit`; `Misuse` where nothing is to be told.
    pub fn commit_transaction(&self) -> Result<()> {
        self.0.0.commit(None)
    }

    /// Aborts the open transaction: [`Transaction::abort`] for those who called [`begin`](Self::begin). After
    /// `Timeout(Transaction)` it tells the outcome when it is called again, as `commit_transaction` does.
    ///
    /// *Blocks* and *Errors*: as `Transaction::abort`.
    pub fn abort_transaction(&self) -> Result<()> {
        self.0.0.abort(None)
    }

    /// Commits a group's offsets with the open transaction: [`Transaction::send_offsets`] for those who called
    /// [`begin`](Self::begin).
    ///
    /// *Blocks* and *Errors*: as `Transaction::send_offsets`.
    pub fn send_offsets_to_transaction<O: Into<OffsetAndMetadata>>(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
        group: &GroupMetadata,
    ) -> Result<()> {
        self.0.0.send_offsets(None, collect(offsets), group)
    }
}

/// An open transaction. It is ended by [`commit`](Self::commit) or [`abort`](Self::abort), each of which consumes it, so
/// that nothing can be sent or ended afterwards. Dropped without either, for example by a `?`, it aborts, waits for that
/// for five seconds at most, and logs what came of it.
///
/// It can be shared by threads.
///
/// ```compile_fail,E0382
/// # use kafka_blocking::{Producer, Record};
/// # fn twice(producer: Producer) -> kafka_blocking::Result<()> {
/// let transaction = producer.begin_transaction()?;
/// transaction.commit()?;
/// transaction.send(Record::to("orders").value("too late")); // the compiler refuses this
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail,E0382
/// # use kafka_blocking::{Producer, Record};
/// # fn twice(producer: Producer) -> kafka_blocking::Result<()> {
/// let transaction = producer.begin_transaction()?;
/// transaction.commit()?;
/// transaction.commit()?; // and this
/// # Ok(())
/// # }
/// ```
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction {
    producer: Producer,
    fate: Arc<Fate>,
    /// It has an end, or somebody else sees to it.
    settled: bool,
}

impl Transaction {
    /// [`Producer::send`], as part of this transaction.
    ///
    /// Nobody need wait for the handle: a record that fails, or is refused, makes `commit` fail, and its error's recovery is
    /// `AbortTransaction`.
    pub fn send(&self, record: Record<'_>) -> Delivery {
        self.put(record, None, true)
    }

    /// [`Producer::try_send`], as part of this transaction. A record that is refused with `WouldBlock` is not part of it,
    /// and `commit` succeeds without it.
    pub fn try_send(&self, record: Record<'_>) -> Delivery {
        self.put(record, None, false)
    }

    /// [`Producer::send_with`], as part of this transaction. The callback tells that the record is written, not that it is
    /// committed.
    pub fn send_with(
        &self,
        record: Record<'_>,
        callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static,
    ) -> Delivery {
        self.put(record, Some(Box::new(callback)), true)
    }

    fn put(&self, mut record: Record<'_>, callback: Option<Callback>, patient: bool) -> Delivery {
        let shared = &self.producer.0.0;
        match self.check() {
            Ok(()) => shared.send(&mut record, callback, &self.manner(patient)),
            Err(error) => shared.refuse(error, callback),
        }
    }

    /// [`Producer::send_batch`], as part of this transaction. The batch may have been created and filled before it began.
    pub fn send_batch(&self, batch: DirectBatch, topic: &str, partition: i32) -> Result<BatchDelivery, BatchNotSent> {
        match self.check() {
            Ok(()) => self.producer.0.0.send_batch(batch, topic, partition, &self.manner(true)),
            Err(error) => Err(BatchNotSent::new(error, batch)),
        }
    }

    fn manner(&self, patient: bool) -> Manner<'_> {
        Manner { patient, transaction: self.fate.number, ..Manner::PATIENT }
    }

    /// Commits the offsets of a consumer group with this transaction (KIP-447): they count when it is committed, and are
    /// forgotten when it is aborted. Give the offset of the record to be read *next* for each partition.
    ///
    /// *Blocks* until the group's coordinator has them, at most for `max_block`.
    ///
    /// *Errors*: `AbortTransaction` where the group has gone on without this member (UNKNOWN_MEMBER_ID,
    /// ILLEGAL_GENERATION, FENCED_INSTANCE_ID), may not be written, or the transaction took too long;
    /// `Timeout(Transaction)`, with the cause: the offsets are on their way still, and `commit` waits for them; `Fenced`;
    /// `InvalidInput` for an offset below 0.
    pub fn send_offsets<O: Into<OffsetAndMetadata>>(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
        group: &GroupMetadata,
    ) -> Result<()> {
        self.producer.0.0.send_offsets(Some(&self.fate), collect(offsets), group)
    }

    /// Delivers what was sent, and commits: all of it becomes visible to readers of committed records, at once.
    ///
    /// *Blocks* until the coordinator has decided, at most for `max_block`.
    ///
    /// *Errors*: [`NotCommitted`], which has the transaction. Its error's recovery says what to do:
    /// * `Retry` (`Timeout(Transaction)`, with the cause): it has no outcome yet. Commit again, now or later, which goes on
    ///   where this has stopped, or tells what has come of it. Where [`written`](Error::written) is `No`, the coordinator has
    ///   not been asked to commit, and `abort` is possible as well; where it is `Maybe`, it is not.
    /// * `AbortTransaction`: a record or an offset failed, the transaction took too long, or another thread has aborted it.
    ///   Nothing is visible; abort, and do the work again.
    /// * `Fatal`: `Fenced` and the like. Nothing more can be done with this producer. `written` is `Maybe` where the answer to
    ///   an earlier request was lost, so that the transaction may be committed all the same.
    pub fn commit(mut self) -> Result<(), NotCommitted> {
        match self.producer.0.0.commit(Some(&self.fate)) {
            Ok(()) => {
                self.settled = true;
                Ok(())
            }
            Err(error) => Err(NotCommitted { error, transaction: self }),
        }
    }

    /// Gives the transaction up: nothing of it becomes visible. Records that are not on their way yet fail with `Aborted`,
    /// those that are in flight are waited for.
    ///
    /// *Blocks* until the coordinator knows, at most for `max_block`. *Errors*: `Timeout(Transaction)`: it is being aborted
    /// all the same, `begin_transaction` waits for it, and [`Producer::abort_transaction`] tells when it is done; `Misuse` where
    /// a commit of it had timed out that may have been done; `Fenced` and others that are `Fatal`.
    pub fn abort(mut self) -> Result<()> {
        self.settled = true;
        self.producer.0.0.abort(Some(&self.fate))
    }

    /// Ends the transaction because of `error`, if that is possible, and says what is to be done then.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    fn give_up(mut self, error: Error, limit: Duration) -> Error {
        self.settled = true;
        let shared = &self.producer.0.0;
        if shared.leave(&self.fate, limit) {
            return error.once_aborted();
        }
        match error.recovery() {
            Recovery::Fatal => error.with_written(Written::Maybe),
            // The same call would do the work a second time.
            _ => error.with_recovery(Recovery::Fix).with_written(Written::Maybe),
        }
    }

    /// A guard that outlives its transaction, because others ended it by the producer, must not send to the next one.
    fn check(&self) -> Result<()> {
        let transactions = self.producer.0.0.transactions()?;
        if transactions.number.load(Ordering::Acquire) == self.fate.number {
            return Ok(());
        }
        self.producer.0.0.check_transaction()?;
        Err(gone())
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("producer", &self.producer).field("number", &self.fate.number).finish()
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.settled {
            let shared = &self.producer.0.0;
            shared.leave(&self.fate, DROP_TIMEOUT.min(shared.config.max_block));
        }
    }
}

/// A commit that has failed, or has no outcome yet, with the transaction.
///
/// `?` turns it into its [`Error`], and drops the transaction, which aborts it if that is possible. The error then says what
/// is to be done after that, as the one of [`Producer::in_transaction`] does.
#[derive(Debug)]
pub struct NotCommitted {
    error: Error,
    transaction: Transaction,
}

impl NotCommitted {
    /// Why.
    pub fn error(&self) -> &Error {
        &self.error
    }

    /// The transaction, to be aborted, or committed again after `Timeout(Transaction)`.
    pub fn into_transaction(self) -> Transaction {
        self.transaction
    }
}

impl fmt::Display for NotCommitted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.error, f)
    }
}

impl std::error::Error for NotCommitted {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.error.source()
    }
}

impl From<NotCommitted> for Error {
    fn from(not_committed: NotCommitted) -> Self {
        let NotCommitted { error, transaction } = not_committed;
        let limit = DROP_TIMEOUT.min(transaction.producer.0.0.config.max_block);
        transaction.give_up(error, limit)
    }
}

fn collect<O: Into<OffsetAndMetadata>>(
    offsets: impl IntoIterator<Item = (TopicPartition, O)>,
) -> Arc<[(TopicPartition, OffsetAndMetadata)]> {
    offsets.into_iter().map(|(partition, offset)| (partition, offset.into())).collect()
}

// ---- behind it ------------------------------------------------------------------------------------------------------

impl Shared {
    /// Starts `kafka-txn`.
    pub(crate) fn start_transactions(
        self: &Arc<Self>,
        ear: Receiver<()>,
        net: Arc<NetConfig>,
    ) -> Result<JoinHandle<()>> {
        // Not yet, until a transaction is open.
        self.barred.store(true, Ordering::Release);
        self.accumulator.pending.watch({
            let shared = Arc::downgrade(self);
            move |error| {
                if let Some(shared) = shared.upgrade()
                    && let Some(transactions) = &shared.transactions
                {
                    // Whoever is told of the failure finds the transaction failed.
                    shared.barred.store(true, Ordering::Release);
                    transactions.gate.note_failure(error);
                }
            }
        });
        worker::start(Arc::clone(self), ear, net)
    }

    fn transactions(&self) -> Result<&Transactions> {
        self.transactions
            .as_ref()
            .ok_or_else(|| misuse("the producer is not transactional; build it with a transactional_id"))
    }

    /// Why a record is refused although the producer is open, if it is. The slow way of `send`.
    pub(crate) fn check_transaction(&self) -> Result<()> {
        let Some(transactions) = &self.transactions else { return Ok(()) };
        let mut core = transactions.core.lock();
        self.absorb(transactions, &mut core);
        core.state.refusal().map_or(Ok(()), Err)
    }

    /// A record was refused. Its handle says so, but nobody need look at that, so the transaction has failed with it.
    /// *Thread*: the one that sends, without a lock.
    ///
    /// Answers with the error as the handle is to tell it.
    pub(crate) fn fail_transaction(&self, error: Error) -> Error {
        let Some(transactions) = &self.transactions else { return error };
        // Those say of themselves that the record is not part of an open transaction, or of one that has failed already.
        let is_outside = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Misuse | ErrorKind::Closed)
            || error.recovery() == Recovery::AbortTransaction;
        if is_outside {
            return error;
        }
        let mut core = transactions.core.lock();
        self.absorb(transactions, &mut core);
        self.carry_out(transactions, &mut core, Event::RecordRefused(error.clone()));
        if let State::Abortable(..) = core.state { error.until_aborted() } else { error }
    }

    /// Takes over what has failed meanwhile.
    fn absorb(&self, transactions: &Transactions, core: &mut Core) {
        while let Some(Failure { error, doubt }) = transactions.gate.take_failure() {
            self.carry_out(transactions, core, Event::Failed { error, doubt });
        }
    }

    /// Moves the state, and does what follows. An error means that the call does not fit the state.
    fn apply(&self, transactions: &Transactions, core: &mut Core, event: Event) -> Result<Option<Pace>> {
        self.absorb(transactions, core);
        let actions = self.carry_out(transactions, core, event);
        match actions.refused {
            Some(error) => Err(error),
            None => Ok(actions.again),
        }
    }

    fn carry_out(&self, transactions: &Transactions, core: &mut Core, event: Event) -> Actions {
        let number = core.number();
        let mut actions = core.on(&transactions.terms, Instant::now(), event);
        self.count(core, number, actions.ended);
        if let Some(gate) = actions.gate.take() {
            match gate {
                state::Gate::Open(standing) => transactions.gate.open(standing),
                state::Gate::Shut => transactions.gate.shut(),
                state::Gate::Refuse(error) => {
                    transactions.gate.refuse(error);
                    self.senders.look_at_all();
                }
            }
        }
        transactions.number.store(core.number().unwrap_or(0), Ordering::Release);
        self.barred.store(core.closed || core.state.refusal().is_some(), Ordering::Release);
        transactions.changed.notify_all();
        transactions.gate.ring();
        actions
    }

    /// Counts what has come of the transaction that was open before an event.
    fn count(&self, core: &mut Core, number: Option<u64>, ended: Option<(u64, Ended)>) {
        let counters = &self.counters.transactions;
        match ended {
            Some((_, Ended::Committed)) => add(&counters.committed, 1),
            Some((_, Ended::Aborted)) => add(&counters.aborted, 1),
            None => {}
        }
        if let State::Abortable(..) | State::Fatal(_) = core.state
            && let Some(number) = number.filter(|number| *number != core.last_failed)
        {
            core.last_failed = number;
            add(&counters.failed, 1);
        }
    }

    fn enter<'a>(&self, transactions: &'a Transactions) -> Result<MutexGuard<'a, Core>> {
        let mut core = transactions.core.lock();
        if core.closed {
            return Err(closed());
        }
        self.absorb(transactions, &mut core);
        Ok(core)
    }

    fn patience(&self) -> Instant {
        time::deadline(Instant::now(), self.config.max_block)
    }

    fn init_transactions(&self) -> Result<()> {
        let transactions = self.transactions()?;
        let _time = Stopwatch::start(&self.counters.transactions.init_ns);
        let deadline = self.patience();
        let mut core = self.enter(transactions)?;
        if !core.is_initialised_untold() {
            self.apply(transactions, &mut core, Event::Init)?;
        }
        loop {
            if let Some(outcome) = core.initialised() {
                return outcome;
            }
            self.await_change(transactions, &mut core, deadline, "the coordinator has not initialised the producer")?;
        }
    }

    fn begin(&self) -> Result<Arc<Fate>> {
        let transactions = self.transactions()?;
        let _time = Stopwatch::start(&self.counters.transactions.begin_ns);
        let deadline = self.patience();
        let mut core = self.enter(transactions)?;
        while matches!(core.state, State::Committing(_) | State::Draining(_) | State::Aborting(_) | State::Bumping(_)) {
            self.await_change(transactions, &mut core, deadline, "the previous transaction has no outcome yet")?;
        }
        let number = core.next_number();
        self.apply(transactions, &mut core, Event::Begin { number })?;
        let fate = core.begun(number);
        add(&self.counters.transactions.begun, 1);
        self.routes.welcome(number);
        Ok(fate)
    }

    fn commit(&self, own: Option<&Arc<Fate>>) -> Result<()> {
        let transactions = self.transactions()?;
        let counters = &self.counters.transactions;
        let time = Stopwatch::start(&counters.commit_ns);
        let deadline = self.patience();
        let mut core = transactions.core.lock();
        self.absorb(transactions, &mut core);
        let fate = core.transaction(own)?;
        match fate.outcome() {
            // By the close.
            Some(Ok(Ended::Aborted)) if core.closed => return Err(closed()),
            Some(outcome) => return fate.committed(outcome),
            None => {}
        }
        self.open(&core, &fate)?;
        self.apply(transactions, &mut core, Event::Commit)?;
        self.bar(&core);
        drop(core);
        let asked = Instant::now();
        // What others were about to send is in its batch, or will be refused.
        let flushed = self.flush(deadline, Timeout::Transaction);
        let mut core = transactions.core.lock();
        self.absorb(transactions, &mut core);
        if let Err(error) = flushed {
            // A record that has failed says more than those that are late.
            let outcome = core.outcome(&fate).map(|outcome| fate.committed(outcome));
            return outcome.unwrap_or_else(|| Err(core.undecided(&fate, hindered(transactions, error))));
        }
        self.open(&core, &fate)?;
        if core.number() == Some(fate.number) {
            transactions.gate.flushed(asked, Instant::now());
            let begun = transactions.gate.begun();
            self.apply(transactions, &mut core, Event::Flushed { begun })?;
        }
        let waiting = "the commit has no outcome yet; its work must not be done again before commit_transaction, or commit \
                       again, has told it";
        fate.committed(self.await_end(transactions, &mut core, &fate, deadline, waiting))?;
        counters.last_commit_ns.store(time.elapsed_ns(), Ordering::Relaxed);
        Ok(())
    }

    fn abort(&self, own: Option<&Arc<Fate>>) -> Result<()> {
        let transactions = self.transactions()?;
        self.abort_until(transactions, own, self.patience())
    }

    fn abort_until(&self, transactions: &Transactions, own: Option<&Arc<Fate>>, deadline: Instant) -> Result<()> {
        let _time = Stopwatch::start(&self.counters.transactions.abort_ns);
        let mut core = transactions.core.lock();
        self.absorb(transactions, &mut core);
        let fate = core.transaction(own)?;
        if let Some(outcome) = fate.outcome() {
            return fate.aborted(outcome);
        }
        self.open(&core, &fate)?;
        self.apply(transactions, &mut core, Event::Abort)?;
        self.bar(&core);
        let waiting = "the coordinator does not know of the abort yet";
        fate.aborted(self.await_end(transactions, &mut core, &fate, deadline, waiting))
    }

    fn send_offsets(
        &self,
        own: Option<&Arc<Fate>>,
        offsets: Arc<[(TopicPartition, OffsetAndMetadata)]>,
        group: &GroupMetadata,
    ) -> Result<()> {
        let transactions = self.transactions()?;
        let _time = Stopwatch::start(&self.counters.transactions.send_offsets_ns);
        let deadline = self.patience();
        if let Some((partition, offset)) = offsets.iter().find(|(_, offset)| offset.offset < 0) {
            let text = format!("the offset to be committed is {}; offsets count from 0", offset.offset);
            return Err(Error::invalid(text).at_partition(partition));
        }
        let mut core = self.enter(transactions)?;
        let fate = core.transaction(own)?;
        if let Some(error) = core.state.refusal() {
            return Err(error);
        }
        if core.number() != Some(fate.number) {
            return Err(gone());
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let number = core.next_offsets();
        self.apply(transactions, &mut core, Event::SendOffsets(Offsets { number, group: group.clone(), offsets }))?;
        core.offsets_begun(number);
        loop {
            if let Some(outcome) = core.offsets_outcome(&fate, number) {
                return outcome;
            }
            self.await_change(transactions, &mut core, deadline, "the offsets are not committed yet")?;
        }
    }

    /// The producer is open; else the error of a call about the transaction.
    fn open(&self, core: &Core, fate: &Fate) -> Result<()> {
        if core.closed { Err(core.undecided(fate, closed())) } else { Ok(()) }
    }

    /// Has partitions refuse records. Whatever was about to be appended is, when this returns.
    fn bar(&self, core: &Core) {
        if let Some(error) = core.state.refusal() {
            self.routes.refuse(&error);
        }
    }

    fn await_end(
        &self,
        transactions: &Transactions,
        core: &mut MutexGuard<'_, Core>,
        fate: &Fate,
        deadline: Instant,
        waiting: &'static str,
    ) -> Result<Ended> {
        loop {
            if let Some(outcome) = core.outcome(fate) {
                return outcome;
            }
            if let Err(error) = self.await_change(transactions, core, deadline, waiting) {
                // It may have come at the last moment.
                return core.outcome(fate).unwrap_or_else(|| Err(core.undecided(fate, error)));
            }
        }
    }

    fn await_change(
        &self,
        transactions: &Transactions,
        core: &mut MutexGuard<'_, Core>,
        deadline: Instant,
        waiting: &'static str,
    ) -> Result<()> {
        if core.closed {
            return Err(closed());
        }
        let timed_out = transactions.changed.wait_until(core, deadline).timed_out();
        self.absorb(transactions, core);
        if timed_out {
            let text = format!("{waiting}, after max_block, {:?}", self.config.max_block);
            return Err(hindered(transactions, Error::timeout(Timeout::Transaction, text)));
        }
        Ok(())
    }

    /// Ends a transaction that nobody ends any more. Answers whether it is certain that nothing of it becomes visible.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    fn leave(&self, fate: &Arc<Fate>, limit: Duration) -> bool {
        let Ok(transactions) = self.transactions() else { return true };
        if self.is_inherited() {
            // The transaction is the other process's, and so is its end.
            return false;
        }
        {
            let _quiet = Quiet::begin();
            let core = transactions.core.lock();
            if core.is_in_doubt(fate) {
                warn!("a transaction whose commit has no outcome yet was left; it goes on by itself");
                return false;
            }
            if core.closed || core.number() != Some(fate.number) {
                return true;
            }
        }
        match self.abort_until(transactions, Some(fate), time::deadline(Instant::now(), limit)) {
            Ok(()) => info!("a transaction was left without an end, and aborted"),
            Err(error) => warn!("a transaction was left without an end, and not aborted in time: {error}"),
        }
        // Somebody else may have committed it meanwhile.
        !transactions.core.lock().is_in_doubt(fate)
    }

    /// Aborts what is open, waits for what is being ended, and lets nothing begin any more. Answers whether a commit has no
    /// outcome then, and may be done. *Blocks* until then, at most until `deadline`.
    pub(crate) fn close_transactions(&self, deadline: Instant) -> bool {
        let Some(transactions) = &self.transactions else { return false };
        let _quiet = Quiet::begin();
        let mut core = transactions.core.lock();
        self.absorb(transactions, &mut core);
        if let State::Open(_) | State::Flushing(_) | State::Abortable(..) = core.state {
            warn!("the producer is closed while a transaction is open, which is aborted");
            if let Err(error) = self.apply(transactions, &mut core, Event::Abort) {
                warn!("{error}");
            }
            self.bar(&core);
        }
        while matches!(core.state, State::Committing(_) | State::Draining(_) | State::Aborting(_)) {
            if transactions.changed.wait_until(&mut core, deadline).timed_out() {
                warn!("the producer is closed before its transaction has an outcome");
                break;
            }
            self.absorb(transactions, &mut core);
        }
        core.closed = true;
        let in_doubt = matches!(&core.state, State::Committing(open) if open.may_be_committed());
        self.barred.store(true, Ordering::Release);
        transactions.changed.notify_all();
        transactions.gate.ring();
        in_doubt
    }

    /// Breaks off what `kafka-txn` is doing.
    pub(crate) fn hang_up_transactions(&self) {
        if let Some(transactions) = &self.transactions {
            transactions.hangups.hang_up();
        }
    }
}

/// A call's timeout, with what has stood in its way.
fn hindered(transactions: &Transactions, error: Error) -> Error {
    match transactions.gate.obstacle() {
        Some(obstacle) => error.with_source(obstacle),
        None => error,
    }
}
