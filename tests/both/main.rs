//! One suite of promises, kept on real Kafka and on the fake cluster alike: the fake cannot drift from what it stands
//! for.

// Tests may panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod admin;
mod consumer;
mod producer;
#[path = "../support/mod.rs"]
mod support;
mod transaction;
