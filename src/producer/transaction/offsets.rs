//! The offsets of a consumer group, committed as part of a transaction.

use std::sync::Arc;

use crate::offsets::{GroupMetadata, OffsetAndMetadata};
use crate::topic::TopicPartition;

/// What one call of `send_offsets` commits.
#[derive(Clone, Debug)]
pub(crate) struct TransactionOffsets {
    /// The number of the call, from 1.
    pub(crate) number: u64,
    pub(crate) group: GroupMetadata,
    pub(crate) offsets: Arc<[(TopicPartition, OffsetAndMetadata)]>,
}
