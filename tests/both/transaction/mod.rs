//! Transactions: the calls of the producer, and the protocol below them.

mod calls;
mod protocol;
