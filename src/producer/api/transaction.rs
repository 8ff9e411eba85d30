//! Transactions as programs see them.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::delivery::Delivery;
use super::direct::{BatchDelivery, BatchNotSent, DirectBatch};
use super::producer::{DROP_TIMEOUT, Producer};
use super::shared::{Manner, Shared};
use crate::error::{Error, Recovery, Result, Written};
use crate::offsets::{GroupMetadata, OffsetAndMetadata};
use crate::producer::record_metadata::{Callback, RecordMetadata};
use crate::producer::transaction::core::Fate;
use crate::producer::transaction::state::misuse;
use crate::producer::transaction::transactions::Transactions;
use crate::record::Record;
use crate::topic::TopicPartition;

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
        self.0.0.transactions()?.init()
    }

    /// Begins a transaction. Every record that is sent from now on, by the [`Transaction`] or by the producer and its
    /// clones, is part of it; before, and after its end, records are refused.
    ///
    /// Nothing is sent for it. It first waits for the end of a commit that had timed out, or of an abort.
    ///
    /// *Blocks* only for that, at most for `max_block`. *Errors*: `Misuse` where `init_transactions` has not been called
    /// or a transaction is open; `Fenced`, `Timeout(Transaction)`, `Closed`.
    pub fn begin_transaction(&self) -> Result<Transaction> {
        let fate = self.0.0.transactions()?.begin()?;
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
        self.0.0.transactions()?.begin().map(|_| ())
    }

    /// Commits the open transaction: [`Transaction::commit`] for those who called [`begin`](Self::begin). After
    /// `Timeout(Transaction)` it goes on when it is called again, whenever that is: it tells the outcome of the last
    /// transaction as long as no call has told it, and no other one was begun. So it does after
    /// [`in_transaction`](Self::in_transaction).
    ///
    /// *Blocks* and *Errors*: as `Transaction::commit`; `Misuse` where nothing is to be told.
    pub fn commit_transaction(&self) -> Result<()> {
        self.0.0.transactions()?.commit(None)
    }

    /// Aborts the open transaction: [`Transaction::abort`] for those who called [`begin`](Self::begin). After
    /// `Timeout(Transaction)` it tells the outcome when it is called again, as `commit_transaction` does.
    ///
    /// *Blocks* and *Errors*: as `Transaction::abort`.
    pub fn abort_transaction(&self) -> Result<()> {
        self.0.0.transactions()?.abort(None)
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
        self.0.0.transactions()?.send_offsets(None, collect(offsets), group)
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
        self.producer.0.0.transactions()?.send_offsets(Some(&self.fate), collect(offsets), group)
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
        let transactions = self.producer.0.0.transactions();
        match transactions.and_then(|transactions| transactions.commit(Some(&self.fate))) {
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
        self.producer.0.0.transactions()?.abort(Some(&self.fate))
    }

    /// Ends the transaction because of `error`, if that is possible, and says what is to be done then.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    fn give_up(mut self, error: Error, limit: Duration) -> Error {
        self.settled = true;
        if self.leave(limit) {
            return error.once_aborted();
        }
        match error.recovery() {
            Recovery::Fatal => error.with_written(Written::Maybe),
            // The same call would do the work a second time.
            _ => error.with_recovery(Recovery::Fix).with_written(Written::Maybe),
        }
    }

    /// Ends the transaction, which nobody ends any more. Answers whether it is certain that nothing of it becomes visible.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    fn leave(&self, limit: Duration) -> bool {
        let shared = &self.producer.0.0;
        // In a process that was forked off the transaction is the other process's, and so is its end.
        shared
            .transactions()
            .map_or(true, |transactions| !shared.is_inherited() && transactions.leave(&self.fate, limit))
    }

    /// Why nothing can be sent as part of it, if so.
    fn check(&self) -> Result<()> {
        self.producer.0.0.transactions()?.admit(&self.fate)
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
            self.leave(DROP_TIMEOUT.min(self.producer.0.0.config.max_block));
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

impl Shared {
    fn transactions(&self) -> Result<&Transactions> {
        self.transactions
            .as_deref()
            .ok_or_else(|| misuse("the producer is not transactional; build it with a transactional_id"))
    }
}
