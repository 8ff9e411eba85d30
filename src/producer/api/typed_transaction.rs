//! Typed messages as part of a transaction.

use std::fmt;
use std::sync::Arc;

use super::delivery::Delivery;
use super::in_transaction::InTransaction;
use super::not_sent::RecordNotSent;
use super::transaction::Transaction;
use super::typed::{TypedProducer, TypedRecord};
use crate::error::{Error, ErrorKind, Recovery, Result};
use crate::producer::record_metadata::{Callback, RecordMetadata};

/// Sends typed messages as part of a transaction: see [`Transaction::typed`].
pub struct TypedTransaction<'a, K: ?Sized, V: ?Sized> {
    transaction: &'a Transaction,
    producer: &'a TypedProducer<K, V>,
}

impl Transaction {
    /// Sends typed messages as part of this transaction, with the serializers, key maker, partitioner and interceptors
    /// of `producer`. There can be one of these for each type of messages at a time.
    ///
    /// `producer` must use the [`Producer`](crate::Producer) whose transaction this is; records of another one fail
    /// with `Misuse`.
    ///
    /// ```
    /// use kafka_blocking::serialization::java;
    /// use kafka_blocking::{Producer, TypedProducer};
    /// # use kafka_blocking::testing::FakeCluster;
    ///
    /// # fn main() -> kafka_blocking::Result<()> {
    /// # let cluster = FakeCluster::builder().topic("orders", 3).topic("paid", 3).start()?;
    /// let producer = Producer::builder(cluster.bootstrap()).transactional_id("shop-1").build()?;
    /// let orders: TypedProducer<str, str> = TypedProducer::new(producer.clone(), java(), java());
    /// let amounts: TypedProducer<str, f64> = TypedProducer::new(producer.clone(), java(), java());
    /// producer.init_transactions()?;
    ///
    /// let transaction = producer.transaction()?;
    /// transaction.typed(&orders).produce("orders", "one coffee");
    /// transaction.typed(&amounts).produce("paid", &2.5);
    /// transaction.commit()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn typed<'a, K: ?Sized + 'static, V: ?Sized + 'static>(
        &'a self,
        producer: &'a TypedProducer<K, V>,
    ) -> TypedTransaction<'a, K, V> {
        TypedTransaction { transaction: self, producer }
    }
}

impl<K: ?Sized + 'static, V: ?Sized + 'static> TypedTransaction<'_, K, V> {
    /// [`TypedProducer::produce`], as part of the transaction. The program need not wait for the handle, as with
    /// [`Transaction::send`]; a message that cannot be serialized makes `commit` fail, too.
    ///
    /// *Blocks* and *errors*: as `TypedProducer::produce`.
    pub fn produce(&self, topic: &str, message: &V) -> InTransaction<Delivery> {
        self.send(TypedRecord::to(topic).value(message))
    }

    /// [`TypedProducer::send`], as part of the transaction.
    ///
    /// *Blocks* and *errors*: as `TypedProducer::send`.
    pub fn send(&self, record: TypedRecord<'_, K, V>) -> InTransaction<Delivery> {
        InTransaction::new(self.put(record, None))
    }

    /// [`TypedProducer::send_with`], as part of the transaction. A success in the callback means that the record is
    /// written, not that it is committed.
    ///
    /// *Blocks* as `send` does. *Thread*: `kafka-callbacks`.
    pub fn send_with(
        &self,
        record: TypedRecord<'_, K, V>,
        callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static,
    ) {
        self.put(record, Some(Box::new(callback))).detach();
    }

    /// [`TypedProducer::try_send`], as part of the transaction. A record that is returned is not part of it, and
    /// `commit` succeeds without it.
    ///
    /// *Blocks* never.
    pub fn try_send<'r>(
        &self,
        record: TypedRecord<'r, K, V>,
    ) -> Result<InTransaction<Delivery>, RecordNotSent<TypedRecord<'r, K, V>>> {
        match self.check() {
            Ok(()) => self.producer.try_put(record, &self.transaction.options(false)).map(InTransaction::new),
            Err(error) => Err(RecordNotSent::new(error, record)),
        }
    }

    fn put(&self, record: TypedRecord<'_, K, V>, callback: Option<Callback>) -> Delivery {
        match self.check() {
            Ok(()) => self.producer.put(record, callback, &self.transaction.options(true)),
            Err(error) => self.transaction.shared().refuse(error, callback),
        }
    }

    /// The error if nothing can be sent as part of the transaction.
    fn check(&self) -> Result<()> {
        if !Arc::ptr_eq(self.transaction.shared(), &self.producer.producer().0.0) {
            let text = "the typed producer uses another producer than the one whose transaction this is";
            return Err(Error::new(ErrorKind::Misuse, Recovery::Fix, text));
        }
        self.transaction.check()
    }
}

impl<K: ?Sized, V: ?Sized> fmt::Debug for TypedTransaction<'_, K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TypedTransaction").field("transaction", &self.transaction).finish_non_exhaustive()
    }
}
