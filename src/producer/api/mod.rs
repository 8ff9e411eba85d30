//! What programs name: the producer and what it hands out.

pub(crate) mod delivery;
pub(crate) mod direct;
pub(crate) mod in_transaction;
pub(crate) mod not_sent;
pub(crate) mod producer;
mod shared;
pub(crate) mod transaction;
pub(crate) mod typed;
pub(crate) mod typed_transaction;
pub(crate) mod undelivered;
