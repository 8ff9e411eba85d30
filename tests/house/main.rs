//! The house itself: its layers, its manual, its examples, and the harness of the tests.

// Tests may panic: that is how they fail.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![allow(clippy::cast_possible_truncation, clippy::cast_possible_wrap, clippy::cast_sign_loss)]

mod examples;
mod harness;
mod layering;
mod manual;
#[path = "../support/mod.rs"]
mod support;
