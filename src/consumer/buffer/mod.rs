//! What was fetched and is not read yet, and what was handed out and is still held.

pub(crate) mod batch;
pub(crate) mod budget;
pub(crate) mod gate;
pub(crate) mod partition;
pub(crate) mod reading;
pub(crate) mod ready;
pub(crate) mod record;
pub(crate) mod share;
