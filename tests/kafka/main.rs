//! What only a real Kafka and Java's own programs can judge. The servers here are sound: a test that stops them, or
//! breaks their connections for long, is one of `kafka_faults`.

// Tests may panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod admin;
mod producer;
#[cfg(feature = "avro")]
mod registry;
#[path = "../support/mod.rs"]
mod support;
