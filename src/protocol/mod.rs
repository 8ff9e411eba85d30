//! Kafka's wire protocol, without sockets, threads and clocks.
//!
//! Each API is a table under [`messages`]: one row per field, with its type and the versions that have it. [`schema`]
//! turns a table into structs that write themselves to the frames of [`frame`] and read themselves from them, with the
//! types of [`wire`]. [`header`] puts a message and its header together into a whole frame, [`api`] chooses the
//! version.

pub(crate) mod api;
pub(crate) mod frame;
pub(crate) mod header;
pub(crate) mod messages;
#[cfg(test)]
pub(crate) mod sample;
pub(crate) mod schema;
pub(crate) mod wire;

#[cfg(test)]
mod tests;
