//! The calls of a transactional producer: each changes the state, and waits for the result.

use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex, MutexGuard};

use super::coordinators::Hangups;
use super::core::{Core, TransactionHandle};
use super::offsets::TransactionOffsets;
use super::state::{
    self, RetryDelay, TransactionActions, TransactionConfig, TransactionEvent, TransactionPhase, TransactionResult,
};
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout};
use crate::logging::{Quiet, info, warn};
use crate::offsets::{GroupMetadata, OffsetAndMetadata};
use crate::producer::buffer::flush::Flush;
use crate::producer::buffer::partition::{closed, gone};
use crate::producer::metrics::{Counters, Stopwatch, add};
use crate::producer::send::gate::{BatchFailure, TransactionGate};
use crate::producer::send::senders::Senders;
use crate::time;
use crate::topic::TopicPartition;

/// The transactional part of a producer.
pub(crate) struct Transactions {
    pub(super) config: TransactionConfig,
    /// How long a call may wait.
    transaction_max_block: Duration,
    pub(super) gate: Arc<TransactionGate>,
    pub(super) senders: Arc<Senders>,
    pub(super) flush: Flush,
    counters: Arc<Counters>,
    /// *Lock order*: before every other lock of the producer. Never held while a thread waits.
    core: Mutex<Core>,
    /// The number of the open transaction, 0 for none.
    number: AtomicU64,
    /// Notified of every change of the state.
    changed: Condvar,
    pub(super) hangups: Arc<Hangups>,
}

impl Transactions {
    /// Makes the calls of a producer. Records are refused from now on, until a transaction is open.
    pub(crate) fn new(
        config: TransactionConfig,
        transaction_max_block: Duration,
        gate: Arc<TransactionGate>,
        senders: Arc<Senders>,
        flush: Flush,
        counters: Arc<Counters>,
    ) -> Arc<Self> {
        let transactions = Arc::new(Self {
            config,
            transaction_max_block,
            gate,
            senders,
            flush,
            counters,
            core: Mutex::new(Core::new()),
            number: AtomicU64::new(0),
            changed: Condvar::new(),
            hangups: Arc::default(),
        });
        transactions.flush.topic_table.set_refusing(true);
        transactions.flush.unfinished.on_failure({
            let transactions = Arc::downgrade(&transactions);
            move |error| {
                if let Some(transactions) = transactions.upgrade() {
                    // When the program learns of the failure, the transaction has failed already.
                    transactions.flush.topic_table.set_refusing(true);
                    transactions.gate.note_failure(error);
                }
            }
        });
        transactions
    }

    /// The error if records are refused although the producer is open. Called by `send` only after a hint that they may
    /// be.
    pub(crate) fn check(&self) -> Result<()> {
        self.lock().state.refusal().map_or(Ok(()), Err)
    }

    /// A record was refused. Its handle says so, but the program need not look at it, so the transaction fails, too.
    /// *Thread*: the one that sends, without a lock.
    ///
    /// Returns the error for the handle.
    pub(crate) fn fail(&self, error: Error) -> Error {
        // These errors say that the record is not part of an open transaction, or that the transaction has failed
        // already.
        let is_outside = matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Misuse | ErrorKind::Closed)
            || error.recovery() == Recovery::AbortTransaction;
        if is_outside {
            return error;
        }
        let mut core = self.lock();
        core.carry_out(TransactionEvent::RecordRefused(error.clone()));
        if let TransactionPhase::Abortable(..) = core.state { error.until_aborted() } else { error }
    }

    /// Locks the state, and takes over the failure of batches since it was last locked.
    pub(super) fn lock(&self) -> Locked<'_> {
        let mut core = self.look();
        core.take_batch_failure();
        core
    }

    /// [`lock`](Self::lock) without that, for a look that changes nothing.
    pub(super) fn look(&self) -> Locked<'_> {
        Locked { transactions: self, core: self.core.lock() }
    }

    fn enter(&self) -> Result<Locked<'_>> {
        let core = self.lock();
        if core.closed { Err(closed()) } else { Ok(core) }
    }

    fn call_deadline(&self) -> Instant {
        time::deadline(Instant::now(), self.transaction_max_block)
    }

    pub(crate) fn init(&self) -> Result<()> {
        let _time = Stopwatch::start(&self.counters.transactions.init_ns);
        let deadline = self.call_deadline();
        let mut core = self.enter()?;
        if !core.is_initialised_untold() {
            core.apply(TransactionEvent::Init)?;
        }
        loop {
            if let Some(outcome) = core.initialised() {
                return outcome;
            }
            core.await_change(deadline, "the coordinator has not initialised the producer")?;
        }
    }

    pub(crate) fn begin(&self) -> Result<Arc<TransactionHandle>> {
        let _time = Stopwatch::start(&self.counters.transactions.begin_ns);
        let deadline = self.call_deadline();
        let mut core = self.enter()?;
        while matches!(
            core.state,
            TransactionPhase::Committing(_)
                | TransactionPhase::Draining(_)
                | TransactionPhase::Aborting(_)
                | TransactionPhase::Bumping(_)
        ) {
            core.await_change(deadline, "the previous transaction has no outcome yet")?;
        }
        let number = core.next_number();
        core.apply(TransactionEvent::Begin { number })?;
        let handle = core.begun(number);
        add(&self.counters.transactions.begun, 1);
        self.flush.topic_table.allow(number);
        Ok(handle)
    }

    pub(crate) fn commit(&self, own: Option<&Arc<TransactionHandle>>) -> Result<()> {
        self.try_commit(own).map_err(of_the_transaction)
    }

    fn try_commit(&self, own: Option<&Arc<TransactionHandle>>) -> Result<()> {
        let counters = &self.counters.transactions;
        let time = Stopwatch::start(&counters.commit_ns);
        let deadline = self.call_deadline();
        let mut core = self.lock();
        let handle = core.transaction(own)?;
        match handle.outcome() {
            // It was aborted by the close.
            Some(Ok(TransactionResult::Aborted)) if core.closed => return Err(closed()),
            Some(outcome) => return handle.committed(outcome),
            None => {}
        }
        core.open(&handle)?;
        core.apply(TransactionEvent::Commit)?;
        core.refuse_records();
        drop(core);
        let asked = Instant::now();
        // From here on, what other threads were about to send is in a batch, or is refused.
        let flushed = self.flush.run(deadline, Timeout::Transaction);
        let mut core = self.lock();
        if let Err(error) = flushed {
            // The error of a record that has failed says more than a time-out.
            let outcome = core.outcome(&handle).map(|outcome| handle.committed(outcome));
            return outcome.unwrap_or_else(|| Err(core.undecided(&handle, error.because(self.gate.obstacle.last()))));
        }
        core.open(&handle)?;
        if core.number() == Some(handle.number) {
            self.gate.flushed(asked, Instant::now());
            let begun = self.gate.begun();
            core.apply(TransactionEvent::Flushed { begun })?;
        }
        let waiting = "the commit has no outcome yet; do not do its work again before another call of commit, or of \
                       commit_transaction, has returned the outcome";
        handle.committed(core.await_end(&handle, deadline, waiting))?;
        counters.last_commit_ns.store(time.elapsed_ns(), Ordering::Relaxed);
        Ok(())
    }

    pub(crate) fn abort(&self, own: Option<&Arc<TransactionHandle>>) -> Result<()> {
        self.abort_until(own, self.call_deadline()).map_err(of_the_transaction)
    }

    fn abort_until(&self, own: Option<&Arc<TransactionHandle>>, deadline: Instant) -> Result<()> {
        let _time = Stopwatch::start(&self.counters.transactions.abort_ns);
        let mut core = self.lock();
        let handle = core.transaction(own)?;
        if let Some(outcome) = handle.outcome() {
            return handle.aborted(outcome);
        }
        core.open(&handle)?;
        core.apply(TransactionEvent::Abort)?;
        core.refuse_records();
        let waiting = "the coordinator does not know of the abort yet";
        handle.aborted(core.await_end(&handle, deadline, waiting))
    }

    pub(crate) fn send_offsets(
        &self,
        own: Option<&Arc<TransactionHandle>>,
        offsets: Arc<[(TopicPartition, OffsetAndMetadata)]>,
        group: &GroupMetadata,
    ) -> Result<()> {
        let _time = Stopwatch::start(&self.counters.transactions.send_offsets_ns);
        let deadline = self.call_deadline();
        if let Some((partition, offset)) = offsets.iter().find(|(_, offset)| offset.offset < 0) {
            let text = format!("the offset to be committed is {}; offsets count from 0", offset.offset);
            return Err(Error::invalid(text).at_partition(partition));
        }
        let mut core = self.enter()?;
        let handle = core.transaction(own)?;
        if let Some(error) = core.state.refusal() {
            return Err(error);
        }
        if core.number() != Some(handle.number) {
            return Err(gone());
        }
        if offsets.is_empty() {
            return Ok(());
        }
        let number = core.next_offsets();
        core.apply(TransactionEvent::SendOffsets(TransactionOffsets { number, group: group.clone(), offsets }))?;
        core.offsets_begun(number);
        loop {
            if let Some(outcome) = core.offsets_outcome(&handle, number) {
                return outcome;
            }
            core.await_change(deadline, "the offsets are not committed yet")?;
        }
    }

    /// Ends a transaction whose guard was dropped. Returns whether it is certain that none of its records becomes
    /// visible.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    pub(crate) fn leave(&self, handle: &Arc<TransactionHandle>, limit: Duration) -> bool {
        {
            let _quiet = Quiet::begin();
            let core = self.look();
            if core.is_in_doubt(handle) {
                warn!(
                    "a transaction whose commit has no outcome yet was dropped; the commit goes on in the background"
                );
                return false;
            }
            if core.closed || core.number() != Some(handle.number) {
                return true;
            }
        }
        match self.abort_until(Some(handle), time::deadline(Instant::now(), limit)) {
            Ok(()) => info!("a transaction was dropped without commit or abort, and was aborted"),
            Err(error) => {
                warn!("a transaction was dropped without commit or abort, and was not aborted in time: {error:#}")
            }
        }
        // Another thread may have committed it meanwhile.
        !self.look().is_in_doubt(handle)
    }

    /// Aborts an open transaction, waits for one that is being committed or aborted, and lets none begin any more.
    /// Returns whether a commit has no outcome after that, so that it may have been done. *Blocks* until the
    /// transaction has an outcome, at most until `deadline`.
    pub(crate) fn close(&self, deadline: Instant) -> bool {
        let _quiet = Quiet::begin();
        let mut core = self.lock();
        if let TransactionPhase::Open(_) | TransactionPhase::Flushing(_) | TransactionPhase::Abortable(..) = core.state
        {
            warn!("the producer is closed while a transaction is open, which is aborted");
            if let Err(error) = core.apply(TransactionEvent::Abort) {
                warn!("{error:#}");
            }
            core.refuse_records();
        }
        while matches!(
            core.state,
            TransactionPhase::Committing(_) | TransactionPhase::Draining(_) | TransactionPhase::Aborting(_)
        ) {
            if core.wait_until(deadline) {
                warn!("the producer is closed before its transaction has an outcome");
                break;
            }
            core.take_batch_failure();
        }
        core.closed = true;
        let in_doubt = core.is_last_in_doubt();
        self.flush.topic_table.set_refusing(true);
        self.changed.notify_all();
        self.gate.wake();
        in_doubt
    }

    /// Breaks off the call that `kafka-txn` is making.
    pub(crate) fn hang_up(&self) {
        self.hangups.hang_up();
    }

    /// The error if a record of this transaction is refused. A guard may outlive its transaction, because the
    /// producer's own calls can end it; the guard must not send to the next one.
    pub(crate) fn admit(&self, handle: &TransactionHandle) -> Result<()> {
        if self.number.load(Ordering::Acquire) == handle.number {
            return Ok(());
        }
        self.check()?;
        Err(gone())
    }
}

/// The locked state of the transactions. The lock is released only while the thread waits. The thread that has it
/// changes the state, and carries out the actions that follow.
pub(super) struct Locked<'a> {
    transactions: &'a Transactions,
    core: MutexGuard<'a, Core>,
}

impl Deref for Locked<'_> {
    type Target = Core;

    fn deref(&self) -> &Core {
        &self.core
    }
}

impl DerefMut for Locked<'_> {
    fn deref_mut(&mut self) -> &mut Core {
        &mut self.core
    }
}

impl Locked<'_> {
    /// Takes over the failure of batches since the last call.
    fn take_batch_failure(&mut self) {
        while let Some(BatchFailure { error, sequence_gap }) = self.transactions.gate.take_failure() {
            self.carry_out(TransactionEvent::Failed { error, sequence_gap });
        }
    }

    /// Changes the state by an event, and carries out the actions. An error means that the call does not fit the state.
    pub(super) fn apply(&mut self, event: TransactionEvent) -> Result<Option<RetryDelay>> {
        self.take_batch_failure();
        let actions = self.carry_out(event);
        match actions.refused {
            Some(error) => Err(error),
            None => Ok(actions.again),
        }
    }

    pub(super) fn carry_out(&mut self, event: TransactionEvent) -> TransactionActions {
        let transactions = self.transactions;
        let number = self.number();
        let mut actions = self.core.on(&transactions.config, Instant::now(), event);
        self.count(number, actions.ended);
        if let Some(gate) = actions.gate.take() {
            match gate {
                state::GateAction::Open(session) => transactions.gate.open(session),
                state::GateAction::Shut => transactions.gate.shut(),
                state::GateAction::Refuse(error) => {
                    transactions.gate.refuse(error);
                    transactions.senders.look_at_all();
                }
            }
        }
        transactions.number.store(self.number().unwrap_or(0), Ordering::Release);
        transactions.flush.topic_table.set_refusing(self.closed || self.state.refusal().is_some());
        transactions.changed.notify_all();
        transactions.gate.wake();
        actions
    }

    /// Counts, for the metrics, the outcome of the transaction `number`, which was open before the event.
    fn count(&mut self, number: Option<u64>, ended: Option<(u64, TransactionResult)>) {
        let counters = &self.transactions.counters.transactions;
        match ended {
            Some((_, TransactionResult::Committed)) => add(&counters.committed, 1),
            Some((_, TransactionResult::Aborted)) => add(&counters.aborted, 1),
            None => {}
        }
        if let TransactionPhase::Abortable(..) | TransactionPhase::Fatal(_) = self.core.state
            && let Some(number) = number.filter(|number| *number != self.core.last_failed)
        {
            self.core.last_failed = number;
            add(&counters.failed, 1);
        }
    }

    /// The error of a call about the transaction if the producer is closed.
    fn open(&self, handle: &TransactionHandle) -> Result<()> {
        if self.closed { Err(self.undecided(handle, closed())) } else { Ok(()) }
    }

    /// Has all partitions refuse records. When this returns, every append that began before has ended.
    fn refuse_records(&self) {
        if let Some(error) = self.state.refusal() {
            self.transactions.flush.topic_table.refuse(&error);
        }
    }

    /// *Blocks* until the transaction has an outcome, at most until `deadline`.
    fn await_end(
        &mut self,
        handle: &TransactionHandle,
        deadline: Instant,
        waiting: &'static str,
    ) -> Result<TransactionResult> {
        loop {
            if let Some(outcome) = self.outcome(handle) {
                return outcome;
            }
            if let Err(error) = self.await_change(deadline, waiting) {
                // The outcome may have come at the last moment.
                return self.outcome(handle).unwrap_or_else(|| Err(self.undecided(handle, error)));
            }
        }
    }

    /// *Blocks* until the state has changed, at most until `deadline`.
    fn await_change(&mut self, deadline: Instant, waiting: &'static str) -> Result<()> {
        if self.closed {
            return Err(closed());
        }
        let timed_out = self.wait_until(deadline);
        self.take_batch_failure();
        if timed_out {
            let text = format!("after transaction_max_block, {:?}, {waiting}", self.transactions.transaction_max_block);
            let error = Error::timeout(Timeout::Transaction, text);
            return Err(error.because(self.transactions.gate.obstacle.last()));
        }
        Ok(())
    }

    /// True when `deadline` has passed.
    fn wait_until(&mut self, deadline: Instant) -> bool {
        self.transactions.changed.wait_until(&mut self.core, deadline).timed_out()
    }
}

/// The error of a call that ends a transaction: the transaction is certainly not committed, unless the error says
/// otherwise. `Misuse` is left as it is: the call fits no transaction, and the one that was meant may have been
/// committed by another thread.
fn of_the_transaction(error: Error) -> Error {
    if error.kind() == ErrorKind::Misuse { error } else { error.not_written_unless_said() }
}
