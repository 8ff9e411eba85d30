//! Transactions: records to several partitions, and a group's offsets, that become visible as a whole or not at all
//! (KIP-98, KIP-447, KIP-890).
//!
//! [`state`] decides what a producer may do and which request is sent, [`verdict`] what an answer means; [`core`] keeps
//! the outcomes until a call returns them. The thread `kafka-txn` ([`worker`]) sends the requests, through
//! [`coordinators`]; the callers wait in [`transactions`] for the state to change. The senders' gate decides which
//! batches may be sent, and when.

mod coordinators;
pub(crate) mod core;
pub(crate) mod offsets;
pub(crate) mod state;
pub(crate) mod transactions;
mod verdict;
pub(crate) mod worker;
