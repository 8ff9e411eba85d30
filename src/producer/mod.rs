//! The producer: records in, acknowledgements out.
//!
//! Its rooms, each of which names only those after it: `api`, `transaction`, `send`, `buffer`; then `config`, `interceptor`,
//! `metrics` and `partitioner`. The architecture page has what is in each.

mod api;
mod buffer;
mod config;
mod interceptor;
mod metrics;
pub mod partitioner;
mod send;
mod transaction;

pub use self::api::direct::{Appended, AppendedRecord, BatchDelivery, BatchMetadata, BatchNotSent, DirectBatch};
pub use self::api::producer::{PartitionInfo, Producer, Purge, Undelivered};
pub use self::api::typed::{TypedProducer, TypedRecord};
pub use self::buffer::delivery::{Delivery, RecordMetadata};
pub use self::config::{Acks, ProducerBuilder};
pub use self::interceptor::{Interceptor, InterceptorError};
pub use self::metrics::{LatencyHistogram, Metrics, TransactionMetrics};
pub use self::transaction::{GroupMetadata, NotCommitted, OffsetAndMetadata, Transaction};
