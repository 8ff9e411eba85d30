//! What the measuring programs share: flags, records, the clock and the counters of the kernel, and the line of JSON.
//!
//! Every program does the same work with the same flags (see [`Args`]) and ends with one JSON object on the last line
//! of its standard output (see [`Measured`]).

mod args;
mod drive;
mod measure;
mod records;
#[cfg(feature = "tasks")]
pub mod tasks;
pub mod wire;

pub use args::{Args, Mode};
pub use drive::{sync, sync_threads, transactions_of};
pub use measure::{Measured, Usage, Window, version_of};
pub use records::Records;

/// How many deliveries a sender keeps at most before it looks at the oldest. It is larger than what 32 MiB of
/// 100-byte records are, so that the clients' own limit on memory is what holds a sender back.
pub const OUTSTANDING: usize = 1 << 18;
