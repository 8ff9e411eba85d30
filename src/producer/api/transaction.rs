//! The public interface of transactions.

use std::any::Any;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use super::delivery::Delivery;
use super::direct::{BatchDelivery, BatchNotSent, DirectBatch};
use super::in_transaction::InTransaction;
use super::not_sent::RecordNotSent;
use super::producer::{DROP_TIMEOUT, Producer};
use super::shared::{SendOptions, Shared};
use crate::error::{Error, Recovery, Result, Written};
use crate::offsets::{GroupMetadata, OffsetAndMetadata};
use crate::producer::record_metadata::{Callback, RecordMetadata};
use crate::producer::transaction::core::TransactionHandle;
use crate::producer::transaction::state::misuse;
use crate::producer::transaction::transactions::Transactions;
use crate::record::Record;
use crate::topic::TopicPartition;

impl Producer {
    /// Makes a transactional producer ready: it finds the coordinator of its
    /// [`transactional_id`](crate::ProducerBuilder::transactional_id), which fences the former producer of that id, and
    /// finishes or aborts its last transaction. To be called once, before everything else.
    ///
    /// *Blocks* until then, at most for `transaction_max_block`. *Errors*: `Timeout(Transaction)`: call it again; it
    /// goes on, or succeeds at once if it was done meanwhile. `Fix`, such as TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    /// call it again when the cause is removed; with INVALID_TRANSACTION_TIMEOUT it takes a producer with another
    /// `transaction_timeout`. `Misuse` where the producer is not transactional, or is initialised already; `Closed`.
    pub fn init_transactions(&self) -> Result<()> {
        self.0.0.transactions()?.init()
    }

    /// Begins a transaction. Every record that is sent from now on, by the [`Transaction`] or by the producer and its
    /// clones, is part of it; before, and after its end, records are refused.
    ///
    /// It sends no request. It first waits for the end of a commit that had timed out, or of an abort.
    ///
    /// *Blocks* only for that, at most for `transaction_max_block`. *Errors*: `Misuse` where `init_transactions` has
    /// not been called or a transaction is open; `Fenced`, `Timeout(Transaction)`, `Closed`.
    pub fn transaction(&self) -> Result<Transaction> {
        let handle = self.0.0.transactions()?.begin()?;
        Ok(Transaction { producer: self.clone(), handle, ended: false })
    }

    /// Runs `work` in a transaction: commits it where `work` succeeds, and aborts it where `work` or the commit fails,
    /// or panics.
    ///
    /// `work` may fail with any error that an [`Error`] of this crate can be turned into, so that the program's own
    /// errors abort the transaction as well. If the compiler cannot infer the error's type, name it in the closure:
    /// `|transaction| -> Result<(), OrderError>`.
    ///
    /// *Blocks* as `work`, and as [`Transaction::commit`]. *Errors*: those of `work`, `transaction` and `commit`, after
    /// the abort, so that the recovery of an [`Error`] says what to do next. An error of the program's own type is
    /// returned unchanged; an `Error` inside it may still say `AbortTransaction`, although the abort has been done, and its
    /// [`once_aborted`](Error::once_aborted) says what to do next.
    /// * [`written`](Error::written) is `No`: none of its records is visible, now or later. `Retry`: do the work again;
    ///   `Fix`: change something first.
    /// * `written` is `Maybe`: the commit has been asked for, and has no outcome yet. Do not do the work again. `Fix`
    ///   (`Timeout(Transaction)`): call [`commit_transaction`](Self::commit_transaction) until it returns the outcome.
    ///   `Fatal`: this producer cannot learn the outcome any more; a new one with the same id finishes the transaction,
    ///   and the topic's records show how.
    ///
    /// ```
    /// use kafka_blocking::{Error, Producer, Record};
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// #[derive(Debug)]
    /// enum OrderError {
    ///     SoldOut,
    ///     Kafka(Error),
    /// }
    ///
    /// impl From<Error> for OrderError {
    ///     fn from(error: Error) -> Self {
    ///         Self::Kafka(error)
    ///     }
    /// }
    ///
    /// fn order(producer: &Producer, stock: u32) -> Result<(), OrderError> {
    ///     producer.in_transaction(|transaction| {
    ///         transaction.send(Record::to("orders").value("one coffee"));
    ///         if stock == 0 {
    ///             return Err(OrderError::SoldOut);
    ///         }
    ///         transaction.send(Record::to("stock").value("beans -8 g"));
    ///         Ok(())
    ///     })
    /// }
    ///
    /// # fn main() -> Result<(), OrderError> {
    /// # let cluster = FakeCluster::builder().topic("orders", 1).topic("stock", 1).start()?;
    /// let producer = Producer::builder(cluster.bootstrap()).transactional_id("shop-1").build()?;
    /// producer.init_transactions()?;
    /// assert!(matches!(order(&producer, 0), Err(OrderError::SoldOut)));
    /// assert!(cluster.committed_records("orders", 0)?.is_empty());
    /// order(&producer, 1)?;
    /// assert_eq!(cluster.committed_records("orders", 0)?.len(), 1);
    /// # Ok(())
    /// # }
    /// ```
    pub fn in_transaction<T, E: From<Error> + 'static>(
        &self,
        work: impl FnOnce(&Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        // Where none was begun, none of its records is written.
        let transaction = self.transaction().map_err(Error::not_written_unless_said)?;
        match work(&transaction) {
            Ok(value) => match transaction.commit() {
                Ok(()) => Ok(value),
                Err(not_committed) => Err(Error::from(not_committed).into()),
            },
            Err(error) => Err(transaction.give_up_for(error)),
        }
    }

    /// Begins a transaction as Java's call of that name does: [`transaction`](Self::transaction) without the guard.
    /// Nothing but [`commit_transaction`](Self::commit_transaction) and [`abort_transaction`](Self::abort_transaction)
    /// ends it, or [`close`](Self::close).
    ///
    /// *Blocks* and *Errors*: as `transaction`.
    pub fn begin_transaction(&self) -> Result<()> {
        self.0.0.transactions()?.begin().map(|_| ())
    }

    /// Commits the open transaction: [`Transaction::commit`] for those who called
    /// [`begin_transaction`](Self::begin_transaction). After `Timeout(Transaction)` it goes on when it is called again,
    /// whenever that is: it returns the outcome of the last transaction, as long as no call has returned it and no
    /// other transaction was begun. The same holds after [`in_transaction`](Self::in_transaction).
    ///
    /// *Blocks* and *Errors*: as `Transaction::commit`; `Misuse` if there is no transaction without a known outcome.
    pub fn commit_transaction(&self) -> Result<()> {
        self.0.0.transactions()?.commit(None)
    }

    /// Aborts the open transaction: [`Transaction::abort`] for those who called
    /// [`begin_transaction`](Self::begin_transaction). After `Timeout(Transaction)` call it again for the outcome, as
    /// with `commit_transaction`.
    ///
    /// *Blocks* and *Errors*: as `Transaction::abort`.
    pub fn abort_transaction(&self) -> Result<()> {
        self.0.0.transactions()?.abort(None)
    }

    /// Commits a group's offsets with the open transaction: [`Transaction::send_offsets`] for those who called
    /// [`begin_transaction`](Self::begin_transaction).
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

/// An open transaction. It is ended by [`commit`](Self::commit) or [`abort`](Self::abort), each of which consumes it,
/// so that nothing can be sent or ended afterwards. If it is dropped without either, for example by a `?`, it aborts,
/// waits for that for five seconds at most, and logs the result.
///
/// It can be shared by threads.
///
/// ```compile_fail,E0382
/// # use kafka_blocking::{Producer, Record};
/// # fn twice(producer: Producer) -> kafka_blocking::Result<()> {
/// let transaction = producer.transaction()?;
/// transaction.commit()?;
/// transaction.send(Record::to("orders").value("too late")); // the compiler refuses this
/// # Ok(())
/// # }
/// ```
///
/// ```compile_fail,E0382
/// # use kafka_blocking::{Producer, Record};
/// # fn twice(producer: Producer) -> kafka_blocking::Result<()> {
/// let transaction = producer.transaction()?;
/// transaction.commit()?;
/// transaction.commit()?; // and this
/// # Ok(())
/// # }
/// ```
#[must_use = "a transaction that is dropped is aborted"]
pub struct Transaction {
    producer: Producer,
    handle: Arc<TransactionHandle>,
    /// Whether it was committed or aborted, or is left to another call.
    ended: bool,
}

impl Transaction {
    /// [`Producer::send`], as part of this transaction.
    ///
    /// Nobody need wait for the handle: a record that fails, or is refused, makes `commit` fail, and its error's
    /// recovery is `AbortTransaction`.
    pub fn send(&self, record: Record<'_>) -> InTransaction<Delivery> {
        InTransaction::new(self.put(record, None))
    }

    /// [`Producer::try_send`], as part of this transaction. A record that is returned is not part of it, and `commit`
    /// succeeds without it.
    pub fn try_send<'r>(&self, record: Record<'r>) -> Result<InTransaction<Delivery>, RecordNotSent<Record<'r>>> {
        match self.check() {
            Ok(()) => self.shared().try_send(record, &self.options(false)).map(InTransaction::new),
            Err(error) => Err(RecordNotSent::new(error, record)),
        }
    }

    /// [`Producer::send_with`], as part of this transaction. A success in the callback means that the record is
    /// written, not that it is committed.
    pub fn send_with(&self, record: Record<'_>, callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static) {
        self.put(record, Some(Box::new(callback))).detach();
    }

    fn put(&self, mut record: Record<'_>, callback: Option<Callback>) -> Delivery {
        match self.check() {
            Ok(()) => self.shared().send(&mut record, callback, &self.options(true)),
            Err(error) => self.shared().refuse(error, callback),
        }
    }

    /// [`Producer::send_batch`], as part of this transaction. The batch may have been created and filled before it
    /// began.
    pub fn send_batch(
        &self,
        batch: DirectBatch,
        topic: &str,
        partition: i32,
    ) -> Result<InTransaction<BatchDelivery>, BatchNotSent> {
        self.put_batch(batch, topic, partition, true)
    }

    /// [`Producer::try_send_batch`], as part of this transaction. A batch that is returned is not part of it.
    pub fn try_send_batch(
        &self,
        batch: DirectBatch,
        topic: &str,
        partition: i32,
    ) -> Result<InTransaction<BatchDelivery>, BatchNotSent> {
        self.put_batch(batch, topic, partition, false)
    }

    fn put_batch(
        &self,
        batch: DirectBatch,
        topic: &str,
        partition: i32,
        may_block: bool,
    ) -> Result<InTransaction<BatchDelivery>, BatchNotSent> {
        match self.check() {
            Ok(()) => {
                self.shared().send_batch(batch, topic, partition, &self.options(may_block)).map(InTransaction::new)
            }
            Err(error) => Err(BatchNotSent::new(error, batch)),
        }
    }

    pub(super) fn shared(&self) -> &Arc<Shared> {
        &self.producer.0.0
    }

    pub(super) fn options(&self, may_block: bool) -> SendOptions<'_> {
        SendOptions { may_block, transaction: self.handle.number, ..SendOptions::BLOCKING }
    }

    /// Commits the offsets of a consumer group with this transaction (KIP-447): they become valid when it is committed,
    /// and are discarded when it is aborted. Give the offset of the record to be read *next* for each partition.
    ///
    /// *Blocks* until the group's coordinator has them, at most for `transaction_max_block`.
    ///
    /// *Errors*: `AbortTransaction` if the group has gone on without this member (UNKNOWN_MEMBER_ID,
    /// ILLEGAL_GENERATION, FENCED_INSTANCE_ID), may not be written, or the transaction took too long;
    /// `Timeout(Transaction)`, with the cause: the offsets are still on their way, and `commit` waits for them;
    /// `Fenced`; `InvalidInput` for an offset below 0.
    pub fn send_offsets<O: Into<OffsetAndMetadata>>(
        &self,
        offsets: impl IntoIterator<Item = (TopicPartition, O)>,
        group: &GroupMetadata,
    ) -> Result<()> {
        self.producer.0.0.transactions()?.send_offsets(Some(&self.handle), collect(offsets), group)
    }

    /// Delivers what was sent, and commits: all of it becomes visible to readers of committed records, at once.
    ///
    /// *Blocks* until the coordinator has decided, at most for `transaction_max_block`.
    ///
    /// *Errors*: [`NotCommitted`], which has the transaction. Its error's recovery says what to do:
    /// * `Retry` (`Timeout(Transaction)`, with the cause): it has no outcome yet. Commit again, now or later: that goes
    ///   on where this call has stopped, or returns the outcome. Where [`written`](Error::written) is `No`, the
    ///   coordinator has not been asked to commit, and `abort` is possible as well; if it is `Maybe`, `abort` is not
    ///   possible.
    /// * `AbortTransaction`: a record or an offset failed, the transaction took too long, or another thread has aborted
    ///   it. None of its records is visible; abort, and do the work again.
    /// * `Fatal`: `Fenced` and the like. Nothing more can be done with this producer. `written` is `Maybe` where the
    ///   answer to an earlier request was lost, so that the transaction may be committed all the same.
    pub fn commit(mut self) -> Result<(), NotCommitted> {
        let transactions = self.producer.0.0.transactions();
        match transactions.and_then(|transactions| transactions.commit(Some(&self.handle))) {
            Ok(()) => {
                self.ended = true;
                Ok(())
            }
            Err(error) => Err(NotCommitted { error, transaction: self }),
        }
    }

    /// Gives the transaction up: none of its records becomes visible. Records that are not on their way yet fail with
    /// `Aborted`, those that are in flight are waited for.
    ///
    /// *Blocks* until the coordinator knows, at most for `transaction_max_block`. *Errors*: `Timeout(Transaction)`: the
    /// abort goes on all the same, the next [`transaction`](Producer::transaction) waits for it, and
    /// [`Producer::abort_transaction`] returns when it is done; `Misuse` if a commit of it has timed out and may have
    /// been done; `Fenced` and others that are `Fatal`.
    pub fn abort(mut self) -> Result<()> {
        self.ended = true;
        self.producer.0.0.transactions()?.abort(Some(&self.handle))
    }

    /// [`give_up`](Self::give_up) for an error of any type. An error of the program's own type is not changed.
    ///
    /// *Blocks* until the transaction is aborted, at most for `transaction_max_block`.
    fn give_up_for<E: 'static>(mut self, mut error: E) -> E {
        let limit = self.shared().config.transaction_max_block();
        match (&mut error as &mut dyn Any).downcast_mut::<Error>() {
            Some(own) => *own = self.give_up(own.clone(), limit),
            None => {
                self.ended = true;
                // If another thread has asked to commit it, the log says so.
                self.leave(limit);
            }
        }
        error
    }

    /// Ends the transaction because of `error`, if that is possible. The returned error says what is to be done after
    /// that.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    fn give_up(mut self, error: Error, limit: Duration) -> Error {
        self.ended = true;
        if self.leave(limit) {
            return error.after_abort();
        }
        match error.recovery() {
            Recovery::Fatal => error.with_written(Written::Maybe),
            // Not `Retry`: the same call would do the work a second time.
            _ => error.with_recovery(Recovery::Fix).with_written(Written::Maybe),
        }
    }

    /// Aborts the transaction, which the program does not end any more. Returns whether it is certain that none of its
    /// records becomes visible.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    fn leave(&self, limit: Duration) -> bool {
        let shared = &self.producer.0.0;
        // In a forked process the transaction belongs to the other process, which ends it.
        shared
            .transactions()
            .map_or(true, |transactions| !shared.is_inherited() && transactions.leave(&self.handle, limit))
    }

    /// The error if nothing can be sent as part of it.
    pub(super) fn check(&self) -> Result<()> {
        self.producer.0.0.transactions()?.admit(&self.handle)
    }
}

impl fmt::Debug for Transaction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transaction").field("producer", &self.producer).field("number", &self.handle.number).finish()
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.ended {
            self.leave(DROP_TIMEOUT.min(self.shared().config.transaction_max_block()));
        }
    }
}

/// A commit that has failed, or has no outcome yet, with the transaction.
///
/// `?` turns it into its [`Error`], and drops the transaction, which aborts it if that is possible. The error then says
/// what is to be done after that, as the error of [`Producer::in_transaction`] does.
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

    /// Returns the transaction, so that it can be aborted, or committed again after `Timeout(Transaction)`.
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
        let limit = DROP_TIMEOUT.min(transaction.shared().config.transaction_max_block());
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
