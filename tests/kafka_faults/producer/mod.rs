//! The producer on real Kafka while brokers die, stop and move, and connections break.
//!
//! What is under load is sent by a ledger, read back with Java's consumer and judged by the ledger; some tests prove
//! that the judge would have noticed.

mod blocking;
mod brokers;
mod deadlines;
mod load;
mod network;
mod sharing;
mod topics;
