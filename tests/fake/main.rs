//! What needs the fake cluster alone: the real client, its threads and sockets, and no Java.
//!
//! Each test is named by its promise, checks that its fault happened, and begins with `watch_for_panics()`. What measures
//! the process, its threads, descriptors or memory, is in `tests/alone/measured`.

// Tests may panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod admin;
mod common;
mod consumer;
mod producer;
#[path = "../support/mod.rs"]
mod support;
mod transaction;
