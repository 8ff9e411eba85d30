//! The producer: records in, acknowledgements out.
//!
//! Its rooms, each of which names only those after it: `api`, `transaction`, `send`, `buffer`; then the leaves. The
//! architecture page says what is in each.

mod api;
mod buffer;
mod config;
mod interceptor;
mod metrics;
pub mod partitioner;
mod record_metadata;
mod send;
mod transaction;

pub use self::api::delivery::Delivery;
pub use self::api::direct::{Appended, AppendedRecord, BatchDelivery, BatchMetadata, BatchNotSent, DirectBatch};
pub use self::api::in_transaction::InTransaction;
pub use self::api::not_sent::RecordNotSent;
pub use self::api::producer::{PartitionInfo, Producer, Purge};
pub use self::api::transaction::{NotCommitted, Transaction};
pub use self::api::typed::{Held, TypedProducer, TypedRecord};
pub use self::api::typed_transaction::TypedTransaction;
pub use self::api::undelivered::Undelivered;
pub use self::config::{Acks, ProducerBuilder};
pub use self::interceptor::{InterceptorError, ProducerInterceptor};
pub use self::metrics::{LatencyHistogram, ProducerMetrics, TransactionMetrics};
pub use self::record_metadata::RecordMetadata;
