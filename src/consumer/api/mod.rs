//! What programs name.

pub(crate) mod consumer;
pub(crate) mod handle;
pub(crate) mod polled;
