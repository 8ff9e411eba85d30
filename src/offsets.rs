//! Offsets that a consumer group commits, and the member of the group that they come from.

use std::sync::Arc;

/// A position of a group in a partition: the offset of the record to be read next, which is the offset of the last
/// processed record plus one. An `i64` converts into one without leader epoch and metadata.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct OffsetAndMetadata {
    /// The offset of the record to be read next.
    pub offset: i64,
    /// The leader epoch of the last record processed, if it is known: with it a consumer finds out that the log was
    /// truncated.
    pub leader_epoch: Option<i32>,
    /// Any text, given back with the offset.
    pub metadata: String,
}

impl OffsetAndMetadata {
    /// The offset alone.
    pub fn new(offset: i64) -> Self {
        Self { offset, leader_epoch: None, metadata: String::new() }
    }

    /// With the leader epoch of the last record processed.
    #[must_use]
    pub fn leader_epoch(mut self, epoch: i32) -> Self {
        self.leader_epoch = Some(epoch);
        self
    }

    /// With a text.
    #[must_use]
    pub fn metadata(mut self, metadata: impl Into<String>) -> Self {
        self.metadata = metadata.into();
        self
    }
}

impl From<i64> for OffsetAndMetadata {
    fn from(offset: i64) -> Self {
        Self::new(offset)
    }
}

/// A consumer group, and the member of it that the offsets come from (KIP-447). With a generation and a member the
/// group's coordinator refuses offsets of a consumer that has lost its partitions to another; with the group's name
/// alone it takes offsets from anyone.
///
/// ```
/// use kafka_blocking::GroupMetadata;
///
/// let anybody = GroupMetadata::new("billing");
/// let member = GroupMetadata::new("billing").member(5, "consumer-1-0f3a").instance("billing-7");
/// # assert_ne!(anybody, member);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GroupMetadata {
    pub(crate) group_id: Arc<str>,
    pub(crate) generation: i32,
    pub(crate) member_id: String,
    pub(crate) instance_id: Option<String>,
}

impl GroupMetadata {
    /// The group's name alone.
    pub fn new(group_id: impl Into<Arc<str>>) -> Self {
        Self { group_id: group_id.into(), generation: -1, member_id: String::new(), instance_id: None }
    }

    /// With the member's id, and the group's generation; with the consumer protocol of KIP-848 that is the member's
    /// epoch.
    #[must_use]
    pub fn member(mut self, generation: i32, member_id: impl Into<String>) -> Self {
        self.generation = generation;
        self.member_id = member_id.into();
        self
    }

    /// With the id of a static member (`group.instance.id`, KIP-345).
    #[must_use]
    pub fn instance(mut self, instance_id: impl Into<String>) -> Self {
        self.instance_id = Some(instance_id.into());
        self
    }

    /// Whether it says more than the group's name, which needs TxnOffsetCommit 3 (Kafka 2.5).
    pub(crate) fn names_a_member(&self) -> bool {
        self.generation != -1 || !self.member_id.is_empty() || self.instance_id.is_some()
    }
}
