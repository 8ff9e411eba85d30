//! Batches on their way: queues, sequence numbers, each broker's turn and link, and the threads around them.

mod bell;
pub(crate) mod common;
pub(crate) mod doubt;
mod gap;
pub(crate) mod gate;
pub(crate) mod identity;
pub(crate) mod identity_worker;
pub(crate) mod link;
pub(crate) mod mailbox;
mod news;
pub(crate) mod outcome;
mod parts;
pub(crate) mod queue;
pub(crate) mod sender;
pub(crate) mod senders;
pub(crate) mod sequence;
mod sync;
pub(crate) mod turn;
mod wiring;
