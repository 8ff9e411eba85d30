//! What programs name: the producer and what it hands out.

pub(crate) mod direct;
pub(crate) mod producer;
pub(crate) mod typed;
