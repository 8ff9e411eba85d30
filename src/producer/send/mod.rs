//! Sending batches: queues, sequence numbers, each broker's turn and link, and the threads that drive them.

pub(crate) mod batch_failure;
pub(crate) mod common;
pub(crate) mod gate;
pub(crate) mod identity;
pub(crate) mod identity_worker;
pub(crate) mod inbox;
pub(crate) mod link;
mod log_summary;
mod marker_delay;
mod parts;
pub(crate) mod queue;
pub(crate) mod sender;
pub(crate) mod senders;
pub(crate) mod sequence;
mod sync;
pub(crate) mod turn;
pub(crate) mod verdict;
mod wake_up;
mod wiring;
