//! The handles that the guard of a transaction returns.

use std::fmt;
use std::ops::Deref;

use super::delivery::Delivery;
use super::direct::{BatchDelivery, BatchMetadata};
use crate::error::Result;
use crate::producer::record_metadata::RecordMetadata;

/// The handle of a record or a batch that was sent by a [`Transaction`](crate::Transaction). `H` is [`Delivery`] or
/// [`BatchDelivery`], whose methods it has.
///
/// Unlike those it may be dropped without `detach`: the `commit` fails if the record has failed.
pub struct InTransaction<H>(H);

impl<H> InTransaction<H> {
    pub(crate) fn new(handle: H) -> Self {
        Self(handle)
    }

    /// The handle itself, as [`Producer::send`](crate::Producer::send) gives it.
    pub fn into_inner(self) -> H {
        self.0
    }
}

impl InTransaction<Delivery> {
    /// [`Delivery::wait`]. That the record is written does not mean that it is committed.
    ///
    /// *Blocks* and *Errors*: as `Delivery::wait`.
    pub fn wait(self) -> Result<RecordMetadata> {
        self.0.wait()
    }

    /// [`Delivery::on_complete`].
    ///
    /// *Thread*: `kafka-callbacks`.
    pub fn on_complete(self, callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static) {
        self.0.on_complete(callback);
    }
}

impl InTransaction<BatchDelivery> {
    /// [`BatchDelivery::wait`]. That the batch is written does not mean that it is committed.
    ///
    /// *Blocks* and *Errors*: as `BatchDelivery::wait`.
    pub fn wait(self) -> Result<BatchMetadata> {
        self.0.wait()
    }

    /// [`BatchDelivery::on_complete`].
    ///
    /// *Thread*: `kafka-callbacks`.
    pub fn on_complete(self, callback: impl FnOnce(Result<BatchMetadata>) + Send + 'static) {
        self.0.on_complete(callback);
    }
}

impl<H> Deref for InTransaction<H> {
    type Target = H;

    fn deref(&self) -> &H {
        &self.0
    }
}

impl<H: fmt::Debug> fmt::Debug for InTransaction<H> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
