//! The consumer: partitions in, batches of records out.
//!
//! Its rooms, each of which names only those after it: `api`, `fetch`, `buffer`; then the leaves. The architecture page
//! has what is in each.

mod api;
mod buffer;
mod config;
mod fetch;
mod start;

pub use self::api::consumer::{Batches, Consumer, KeptRecords};
pub use self::api::handle::ConsumerHandle;
pub use self::api::polled::Polled;
pub use self::buffer::batch::{Batch, Records};
pub use self::buffer::record::{HeadersView, KeptRecord, OwnedRecord, RecordView};
pub use self::config::ConsumerBuilder;
pub use self::start::{OutOfRange, Start};
