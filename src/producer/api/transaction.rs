//! Transactions as programs see them.

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
    /// [`transactional_id`](crate::ProducerBuilder::transactional_id), which locks the former producer of that id out
    /// and finishes or aborts what that has left. To be called once, before everything else.
    ///
    /// *Blocks* until then, at most for `transaction_max_block`. *Errors*: `Timeout(Transaction)`: calling again goes
    /// on with it, and says so if it was done meanwhile. `Fix`, such as TRANSACTIONAL_ID_AUTHORIZATION_FAILED:
    /// likewise, once that is put right; with INVALID_TRANSACTION_TIMEOUT it takes a producer with another
    /// `transaction_timeout`. `Misuse` where the producer is not transactional, or is initialised already; `Closed`.
    pub fn init_transactions(&self) -> Result<()> {
        self.0.0.transactions()?.init()
    }

    /// Begins a transaction. Every record that is sent from now on, by the [`Transaction`] or by the producer and its
    /// clones, is part of it; before, and after its end, records are refused.
    ///
    /// Nothing is sent for it. It first waits for the end of a commit that had timed out, or of an abort.
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
    /// reasons abort the transaction as well. Where the compiler cannot tell which error is meant, the closure says it:
    /// `|transaction| -> Result<(), OrderError>`.
    ///
    /// *Blocks* as `work`, and as [`Transaction::commit`]. *Errors*: those of `work`, `transaction` and `commit`, after
    /// the abort, so that the recovery of an [`Error`] says what comes next. An error of the program's own comes back
    /// as it is; an `Error` inside it still says `AbortTransaction` where it did, which has been done.
    /// * [`written`](Error::written) is `No`: nothing of it is visible, now or later. `Retry`: do the work again;
    ///   `Fix`: not as it is.
    /// * `written` is `Maybe`: the commit has been asked for, and has no outcome yet. Do not do the work again. `Fix`
    ///   (`Timeout(Transaction)`): call [`commit_transaction`](Self::commit_transaction) until it says what has come of
    ///   it. `Fatal`: this producer cannot learn it any more; a new one of the same id finishes the transaction, and
    ///   the topic's records tell how.
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
        let transaction = self.transaction()?;
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
    /// whenever that is: it tells the outcome of the last transaction as long as no call has told it, and no other one
    /// was begun. So it does after [`in_transaction`](Self::in_transaction).
    ///
    /// *Blocks* and *Errors*: as `Transaction::commit`; `Misuse` where nothing is to be told.
    pub fn commit_transaction(&self) -> Result<()> {
        self.0.0.transactions()?.commit(None)
    }

    /// Aborts the open transaction: [`Transaction::abort`] for those who called
    /// [`begin_transaction`](Self::begin_transaction). After `Timeout(Transaction)` it tells the outcome when it is
    /// called again, as `commit_transaction` does.
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
/// so that nothing can be sent or ended afterwards. Dropped without either, for example by a `?`, it aborts, waits for
/// that for five seconds at most, and logs what came of it.
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
    /// It has an end, or somebody else sees to it.
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

    /// [`Producer::try_send`], as part of this transaction. A record that comes back is not part of it, and `commit`
    /// succeeds without it.
    pub fn try_send<'r>(&self, record: Record<'r>) -> Result<InTransaction<Delivery>, RecordNotSent<Record<'r>>> {
        match self.check() {
            Ok(()) => self.shared().try_send(record, &self.options(false)).map(InTransaction::new),
            Err(error) => Err(RecordNotSent::new(error, record)),
        }
    }

    /// [`Producer::send_with`], as part of this transaction. The callback tells that the record is written, not that it
    /// is committed.
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

    /// [`Producer::try_send_batch`], as part of this transaction. A batch that comes back is not part of it.
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

    /// Commits the offsets of a consumer group with this transaction (KIP-447): they count when it is committed, and
    /// are forgotten when it is aborted. Give the offset of the record to be read *next* for each partition.
    ///
    /// *Blocks* until the group's coordinator has them, at most for `transaction_max_block`.
    ///
    /// *Errors*: `AbortTransaction` where the group has gone on without this member (UNKNOWN_MEMBER_ID,
    /// ILLEGAL_GENERATION, FENCED_INSTANCE_ID), may not be written, or the transaction took too long;
    /// `Timeout(Transaction)`, with the cause: the offsets are on their way still, and `commit` waits for them;
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
    /// * `Retry` (`Timeout(Transaction)`, with the cause): it has no outcome yet. Commit again, now or later, which
    ///   goes on where this has stopped, or tells what has come of it. Where [`written`](Error::written) is `No`, the
    ///   coordinator has not been asked to commit, and `abort` is possible as well; where it is `Maybe`, it is not.
    /// * `AbortTransaction`: a record or an offset failed, the transaction took too long, or another thread has aborted
    ///   it. Nothing is visible; abort, and do the work again.
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

    /// Gives the transaction up: nothing of it becomes visible. Records that are not on their way yet fail with
    /// `Aborted`, those that are in flight are waited for.
    ///
    /// *Blocks* until the coordinator knows, at most for `transaction_max_block`. *Errors*: `Timeout(Transaction)`: it
    /// is being aborted all the same, the next [`transaction`](Producer::transaction) waits for it, and
    /// [`Producer::abort_transaction`] tells when it is done; `Misuse` where a commit of it had timed out that may have
    /// been done; `Fenced` and others that are `Fatal`.
    pub fn abort(mut self) -> Result<()> {
        self.ended = true;
        self.producer.0.0.transactions()?.abort(Some(&self.handle))
    }

    /// [`give_up`](Self::give_up) for an error of any type. The program's own says what it says.
    ///
    /// *Blocks* until the transaction is aborted, at most for `transaction_max_block`.
    fn give_up_for<E: 'static>(mut self, mut error: E) -> E {
        let limit = self.shared().config.transaction_max_block();
        match (&mut error as &mut dyn Any).downcast_mut::<Error>() {
            Some(own) => *own = self.give_up(own.clone(), limit),
            None => {
                self.ended = true;
                // Where somebody else has asked to commit it, the log says so.
                self.leave(limit);
            }
        }
        error
    }

    /// Ends the transaction because of `error`, if that is possible, and says what is to be done then.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    fn give_up(mut self, error: Error, limit: Duration) -> Error {
        self.ended = true;
        if self.leave(limit) {
            return error.once_aborted();
        }
        match error.recovery() {
            Recovery::Fatal => error.with_written(Written::Maybe),
            // The same call would do the work a second time.
            _ => error.with_recovery(Recovery::Fix).with_written(Written::Maybe),
        }
    }

    /// Ends the transaction, which nobody ends any more. Answers whether it is certain that nothing of it becomes
    /// visible.
    ///
    /// *Blocks* until it is aborted, at most for `limit`.
    fn leave(&self, limit: Duration) -> bool {
        let shared = &self.producer.0.0;
        // In a process that was forked off the transaction is the other process's, and so is its end.
        shared
            .transactions()
            .map_or(true, |transactions| !shared.is_inherited() && transactions.leave(&self.handle, limit))
    }

    /// Why nothing can be sent as part of it, if so.
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
/// what is to be done after that, as the one of [`Producer::in_transaction`] does.
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
