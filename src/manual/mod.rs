//! The manual: what is not about one item alone.

#[doc = include_str!("configuration.md")]
pub mod configuration {}
