//! Records without transactions, sent by themselves and in batches of the program.

mod direct_batches;
mod sending;
