//! What is said of topics: those to be made, and those that there are.

use std::collections::BTreeMap;
use std::fmt;

use super::routes::check_topic;
use crate::error::{Error, Result};
use crate::protocol::messages::create_topics::{CreatableReplicaAssignment, CreatableTopic, CreatableTopicConfig};
use crate::protocol::wire::Uuid;
use crate::topic::{BrokerId, TopicPartition};

/// The longest text that every version of a request can carry.
const LONGEST_TEXT: usize = 32_767;

/// A topic's id, which no other topic ever has, not even one of the same name that is made later (KIP-516, Kafka 2.8).
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct TopicId(pub [u8; 16]);

impl TopicId {
    /// `None` for the id that stands for none.
    pub(super) fn of(id: Uuid) -> Option<Self> {
        (!id.is_zero()).then_some(Self(id.0))
    }
}

/// As Kafka's tools show it: base 64 in the alphabet for URLs, 22 letters.
impl fmt::Display for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        // Four bits of nothing at the end make 22 groups of six bits.
        let bits = u128::from_be_bytes(self.0);
        (0..22).try_for_each(|place: u32| {
            let group = if place == 21 { bits << 4 } else { bits >> (122 - 6 * place) } & 0x3f;
            let letter = usize::try_from(group).ok().and_then(|group| ALPHABET.get(group));
            write!(f, "{}", letter.copied().map_or('?', char::from))
        })
    }
}

impl fmt::Debug for TopicId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A topic to be created. Without further calls it has as many partitions and replicas as the brokers give topics by default,
/// which brokers before Kafka 2.4 must be told. Java: `NewTopic`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "it is created by Admin::create_topics"]
pub struct NewTopic {
    pub(super) name: String,
    pub(super) partitions: Option<i32>,
    pub(super) replication: Option<i16>,
    pub(super) assignments: BTreeMap<i32, Vec<BrokerId>>,
    pub(super) configs: BTreeMap<String, String>,
}

impl NewTopic {
    /// A topic of this name.
    pub fn new(name: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            partitions: None,
            replication: None,
            assignments: BTreeMap::new(),
            configs: BTreeMap::new(),
        }
    }

    /// How many partitions it has. Default: the brokers' `num.partitions`.
    pub fn partitions(mut self, count: i32) -> Self {
        self.partitions = Some(count);
        self
    }

    /// How many replicas each partition has. Default: the brokers' `default.replication.factor`.
    pub fn replication(mut self, replicas: i16) -> Self {
        self.replication = Some(replicas);
        self
    }

    /// Puts a partition on these brokers, of which the first one is the preferred leader. Then every partition must be put
    /// somewhere, from 0 on, and neither [`partitions`](Self::partitions) nor [`replication`](Self::replication) be set.
    pub fn assign(mut self, partition: i32, replicas: impl IntoIterator<Item = BrokerId>) -> Self {
        self.assignments.insert(partition, replicas.into_iter().collect());
        self
    }

    /// Gives the topic a setting, such as `retention.ms`.
    pub fn config(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.configs.insert(name.into(), value.into());
        self
    }

    pub(super) fn check(&self) -> Result<()> {
        check_topic(&self.name)?;
        let invalid = |text: String| Err(Error::invalid(text).at_topic(&self.name));
        if !self.assignments.is_empty() && (self.partitions.is_some() || self.replication.is_some()) {
            return invalid("a topic with assignments takes neither a number of partitions nor one of replicas".into());
        }
        if self.partitions.is_some_and(|count| count < 1) {
            return invalid(format!("a topic cannot have {} partitions", self.partitions.unwrap_or_default()));
        }
        if self.replication.is_some_and(|count| count < 1) {
            return invalid(format!("a partition cannot have {} replicas", self.replication.unwrap_or_default()));
        }
        for (name, value) in &self.configs {
            check_text("a setting's name", name).or_else(&invalid)?;
            check_text(&format!("the value of {name}"), value).or_else(&invalid)?;
        }
        Ok(())
    }

    pub(super) fn to_wire(&self) -> CreatableTopic {
        let assigned = |(partition, brokers): (&i32, &Vec<BrokerId>)| CreatableReplicaAssignment {
            partition_index: *partition,
            broker_ids: brokers.iter().map(|broker| broker.0).collect(),
        };
        let config =
            |(name, value): (&String, &String)| CreatableTopicConfig { name: name.clone(), value: Some(value.clone()) };
        CreatableTopic {
            name: self.name.clone(),
            num_partitions: self.partitions.unwrap_or(-1),
            replication_factor: self.replication.unwrap_or(-1),
            assignments: self.assignments.iter().map(assigned).collect(),
            configs: self.configs.iter().map(config).collect(),
        }
    }

    /// Whether a topic that is there is what this one would be, as far as its partitions tell.
    pub(super) fn is(&self, there: &TopicDescription) -> bool {
        let count = |wanted: usize| wanted == there.partitions.len();
        if !self.assignments.is_empty() {
            return count(self.assignments.len())
                && there.partitions.iter().all(|partition| {
                    self.assignments.get(&partition.partition.index).is_some_and(|wanted| *wanted == partition.replicas)
                });
        }
        let replicas = |wanted: i16| {
            there.partitions.iter().all(|partition| i16::try_from(partition.replicas.len()) == Ok(wanted))
        };
        self.partitions.is_none_or(|wanted| usize::try_from(wanted).is_ok_and(count))
            && self.replication.is_none_or(replicas)
    }
}

/// Refuses what an old version of a request cannot say: it would fail for the other items, too.
pub(super) fn check_text(what: &str, text: &str) -> Result<(), String> {
    if text.len() <= LONGEST_TEXT {
        return Ok(());
    }
    Err(format!("{what} has {} bytes, the limit is {LONGEST_TEXT}", text.len()))
}

/// What a broker says of a topic that it has created.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct CreatedTopic {
    /// Its id, from Kafka 2.8 on. `None` where the cluster only checked.
    pub id: Option<TopicId>,
    /// How many partitions it has, from Kafka 2.4 on.
    pub partitions: Option<i32>,
    /// How many replicas each of them has, from Kafka 2.4 on.
    pub replication: Option<i16>,
}

/// How many partitions a topic shall have. Java: `NewPartitions`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use = "they are added by Admin::create_partitions"]
pub struct NewPartitions {
    pub(super) total: i32,
    pub(super) assignments: Option<Vec<Vec<BrokerId>>>,
}

impl NewPartitions {
    /// So many, with those that are there. There must be fewer now: partitions cannot be taken away.
    pub fn up_to(total: i32) -> Self {
        Self { total, assignments: None }
    }

    /// Puts each new partition on these brokers, of which the first one is the preferred leader. Default: the controller
    /// chooses.
    pub fn assign<B: IntoIterator<Item = BrokerId>>(mut self, replicas: impl IntoIterator<Item = B>) -> Self {
        self.assignments = Some(replicas.into_iter().map(|brokers| brokers.into_iter().collect()).collect());
        self
    }
}

/// What the cluster says of a topic. Java: `TopicDescription`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicDescription {
    /// Its name.
    pub name: String,
    /// Its id, from Kafka 2.8 on.
    pub id: Option<TopicId>,
    /// Whether it is Kafka's own, such as `__consumer_offsets`.
    pub is_internal: bool,
    /// Its partitions, in the order of their indices.
    pub partitions: Vec<PartitionDescription>,
}

/// What the cluster says of a partition. Java: `TopicPartitionInfo`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct PartitionDescription {
    /// Its topic and index.
    pub partition: TopicPartition,
    /// The broker that leads it; `None` while there is none.
    pub leader: Option<BrokerId>,
    /// The leader's epoch, from Kafka 2.1 on.
    pub leader_epoch: Option<i32>,
    /// The brokers that have a replica, the preferred leader first.
    pub replicas: Vec<BrokerId>,
    /// Those whose replica is in sync.
    pub in_sync_replicas: Vec<BrokerId>,
    /// Those whose replica is offline, from Kafka 1.0 on.
    pub offline_replicas: Vec<BrokerId>,
}

/// A topic that there is. Java: `TopicListing`.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TopicListing {
    /// Its name.
    pub name: String,
    /// Its id, from Kafka 2.8 on.
    pub id: Option<TopicId>,
    /// Whether it is Kafka's own, such as `__consumer_offsets`.
    pub is_internal: bool,
}
