//! The promises of the producer under faults: the real client, its threads and sockets, against the fake cluster.
//!
//! Each test is named by its promise, and checks that its fault happened. A test that measures the process, its
//! threads, descriptors or memory, has it to itself.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, reason = "tests may panic")]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_sign_loss,
    reason = "small numbers"
)]

mod answers;
mod callbacks;
mod codes;
mod common;
mod deadlines;
mod ending;
mod leaders;
mod many;
mod purge;
mod quiet;
mod reaching;
mod sequences;
mod slow;
#[path = "../support/slow_log.rs"]
mod slow_log;
mod stalls;
mod waiting;
