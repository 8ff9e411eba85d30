//! Transactions: records to several partitions, and a group's offsets, that become visible as a whole or not at all
//! (KIP-98, KIP-447, KIP-890).
//!
//! [`state`] says what a producer may do and what is to be sent, [`verdict`] what an answer means; [`core`] keeps what has come
//! of it until somebody is told. The thread `kafka-txn` ([`worker`]) sends what there is to send, through [`coordinators`]; the
//! callers wait in [`transactions`] for the state to change. Which batches may go, and from when on, the senders' gate says.

mod coordinators;
pub(crate) mod core;
pub(crate) mod offsets;
pub(crate) mod state;
pub(crate) mod transactions;
mod verdict;
pub(crate) mod worker;
