//! The types that every layer names: topics, partitions, brokers, producer identities.

use std::fmt;
use std::sync::Arc;

/// The longest topic name that Kafka accepts, in bytes (`Topic.MAX_NAME_LENGTH`).
pub const MAX_TOPIC_NAME_BYTES: usize = 249;

/// A topic and the index of one of its partitions. Cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicPartition {
    /// The topic's name.
    pub topic: Arc<str>,
    /// The partition's index, from 0.
    pub index: i32,
}

impl TopicPartition {
    /// Names the partition of `topic` with this index.
    pub fn new(topic: impl Into<Arc<str>>, index: i32) -> Self {
        Self { topic: topic.into(), index }
    }
}

impl fmt::Display for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.topic, self.index)
    }
}

impl fmt::Debug for TopicPartition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Which records of transactions are seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum IsolationLevel {
    /// All, also those of transactions that are open or were aborted (`read_uncommitted`).
    #[default]
    Uncommitted,
    /// Those of committed transactions, and those without one; nothing from the first open transaction on
    /// (`read_committed`).
    Committed,
}

impl IsolationLevel {
    /// As requests say it.
    pub(crate) fn wire(self) -> i8 {
        match self {
            Self::Uncommitted => 0,
            Self::Committed => 1,
        }
    }
}

/// A broker's id in its cluster (`broker.id`, `node.id`).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct BrokerId(pub i32);

impl fmt::Display for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

impl fmt::Debug for BrokerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "broker {}", self.0)
    }
}

/// The identity under which an idempotent producer writes (KIP-98): the id that the cluster gave it, and the epoch that
/// tells apart the producers that have had this id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct ProducerIdAndEpoch {
    /// The producer id.
    pub producer_id: i64,
    /// The epoch.
    pub epoch: i16,
}

impl ProducerIdAndEpoch {
    /// What a batch of a producer without idempotence carries.
    pub(crate) const NONE: Self = Self { producer_id: -1, epoch: -1 };

    /// Whether this is a real identity.
    pub(crate) fn is_some(self) -> bool {
        self.producer_id >= 0
    }

    /// The identity, if it is a real one.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn known(self) -> Option<Self> {
        self.is_some().then_some(self)
    }
}

impl fmt::Display for ProducerIdAndEpoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "producer {} epoch {}", self.producer_id, self.epoch)
    }
}

/// Why a topic's name is refused, or `None` where Kafka would accept it: 1 to 249 bytes of `[a-zA-Z0-9._-]`,
/// and neither `.` nor `..`.
pub(crate) fn topic_name_fault(name: &str) -> Option<String> {
    if name.is_empty() {
        return Some("the topic's name is empty".into());
    }
    if name.len() > MAX_TOPIC_NAME_BYTES {
        return Some(format!("the topic's name has {} bytes, the limit is {MAX_TOPIC_NAME_BYTES}", name.len()));
    }
    if name == "." || name == ".." {
        return Some(format!("a topic cannot be named {name:?}"));
    }
    let bad = name.chars().find(|c| !(c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-')))?;
    Some(format!("the topic's name {name:?} has the character {bad:?}; allowed are a-z A-Z 0-9 . _ -"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn topic_names_are_checked_as_kafka_checks_them() {
        for good in ["a", "example.topic", "A_b-9", &"x".repeat(249)] {
            assert_eq!(topic_name_fault(good), None, "{good}");
        }
        for bad in ["", ".", "..", "a b", "a/b", "ä", &"x".repeat(250)] {
            assert!(topic_name_fault(bad).is_some(), "{bad:?}");
        }
    }
}
