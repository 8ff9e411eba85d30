//! The cluster's state: brokers, topics, leaders, and the requests that it has seen.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::Instant;

use super::builder::Settings;
use super::fault::FaultRules;
use super::groups::Groups;
use super::log::PartitionLog;
use super::seen::SeenRequest;
use super::sessions::Sessions;
use super::transactions::FakeTransactions;
use super::versions::{Api, KafkaVersion};
use crate::error::{Error, ErrorCode, Result};
use crate::protocol::wire::Uuid;
use crate::time::{RandomNumbers, wall_clock_ms};
use crate::topic::{BrokerId, topic_name_fault};

/// How many requests the cluster keeps for [`FakeCluster::requests`](super::FakeCluster::requests).
const KEPT_REQUESTS: usize = 100_000;
/// How many refusals it keeps.
const KEPT_REFUSALS: usize = 1_000;

/// Everything behind the cluster's one lock.
#[derive(Debug)]
pub(super) struct FakeState {
    pub(super) brokers: BTreeMap<BrokerId, Broker>,
    pub(super) topics: BTreeMap<Arc<str>, FakeTopic>,
    pub(super) rules: FaultRules,
    pub(super) requests: VecDeque<SeenRequest>,
    pub(super) counts: BTreeMap<Api, u64>,
    pub(super) refusals: VecDeque<String>,
    pub(super) denied_topics: BTreeSet<String>,
    /// What was set for brokers, `None` for all of them. It has no effect.
    pub(super) broker_configs: BTreeMap<Option<BrokerId>, BTreeMap<String, String>>,
    pub(super) cluster_denied: bool,
    pub(super) next_connection: u64,
    pub(super) transactions: FakeTransactions,
    pub(super) groups: Groups,
    pub(super) sessions: Sessions,
    pub(super) denied_transactional_ids: BTreeSet<String>,
    pub(super) denied_groups: BTreeSet<String>,
    /// Whether ended transactions wait for their markers.
    pub(super) markers_held: bool,
    /// Whether the thread `fake-transactions` was started.
    pub(super) is_timed: bool,
    /// Until when that thread sleeps.
    pub(super) timer_sleeps_until: Option<Instant>,
    pub(super) is_stopped: bool,
    moved_coordinators: BTreeMap<(Coordinates, String), BrokerId>,
    sink: bool,
    /// The index of the broker that leads the next topic's first partition.
    next_placement: usize,
    random: RandomNumbers,
}

/// What a coordinator coordinates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Coordinates {
    Group,
    Transaction,
}

#[derive(Debug, Default)]
pub(super) struct Broker {
    pub(super) port: u16,
    pub(super) alive: bool,
    pub(super) paused: bool,
    /// The number of its present listener. The thread of an older one ends.
    pub(super) listener: u64,
    pub(super) connections: BTreeMap<u64, Arc<TcpStream>>,
}

#[derive(Debug)]
pub(super) struct FakeTopic {
    pub(super) id: Uuid,
    pub(super) configs: BTreeMap<String, String>,
    pub(super) rules: TopicRules,
    pub(super) partitions: Vec<FakePartition>,
    /// Whether writes with acks=all are refused, however many replicas are in sync.
    pub(super) min_in_sync_unmet: bool,
    /// How many of its partitions Metadata lists; `None`: all.
    pub(super) listed: Option<usize>,
}

/// A topic's configuration, as far as it matters for writes.
#[derive(Clone, Copy, Debug)]
pub(super) struct TopicRules {
    pub(super) max_message_bytes: usize,
    pub(super) min_in_sync: usize,
    pub(super) log_append_time: bool,
    pub(super) compacted: bool,
    pub(super) timestamp_before_max_ms: i64,
    pub(super) timestamp_after_max_ms: i64,
}

#[derive(Debug)]
pub(super) struct FakePartition {
    pub(super) log: PartitionLog,
    pub(super) replicas: Vec<BrokerId>,
    pub(super) leader: Option<BrokerId>,
    pub(super) leader_epoch: i32,
    /// Whether no leader is elected.
    pub(super) leaderless: bool,
}

impl FakeState {
    pub(super) fn new(settings: &Settings) -> Self {
        let ids = (1..).take(settings.brokers).map(BrokerId);
        Self {
            brokers: ids.map(|id| (id, Broker::default())).collect(),
            topics: BTreeMap::new(),
            rules: FaultRules::new(settings.seed),
            requests: VecDeque::new(),
            counts: BTreeMap::new(),
            refusals: VecDeque::new(),
            denied_topics: BTreeSet::new(),
            broker_configs: BTreeMap::new(),
            cluster_denied: false,
            next_connection: 0,
            transactions: FakeTransactions::new(settings.transactions),
            groups: Groups::default(),
            sessions: Sessions::new(settings.fetch_sessions),
            denied_transactional_ids: BTreeSet::new(),
            denied_groups: BTreeSet::new(),
            markers_held: false,
            is_timed: false,
            timer_sleeps_until: None,
            is_stopped: false,
            moved_coordinators: BTreeMap::new(),
            sink: settings.sink,
            next_placement: 0,
            random: RandomNumbers::seeded(settings.seed.wrapping_add(1)),
        }
    }

    /// Whether a connection is open and is not going to be closed.
    pub(super) fn is_open(&self, broker: BrokerId, connection: u64) -> bool {
        self.brokers.get(&broker).is_some_and(|broker| broker.connections.contains_key(&connection))
    }

    pub(super) fn alive(&self) -> impl Iterator<Item = (BrokerId, &Broker)> {
        self.brokers.iter().filter(|(_, broker)| broker.alive).map(|(id, broker)| (*id, broker))
    }

    pub(super) fn is_alive(&self, broker: BrokerId) -> bool {
        self.brokers.get(&broker).is_some_and(|broker| broker.alive)
    }

    /// The controller: the first broker that is alive.
    pub(super) fn controller(&self) -> Option<BrokerId> {
        self.alive().next().map(|(id, _)| id)
    }

    pub(super) fn note(&mut self, seen: SeenRequest) {
        *self.counts.entry(seen.api).or_default() += 1;
        if self.requests.len() == KEPT_REQUESTS {
            self.requests.pop_front();
        }
        self.requests.push_back(seen);
    }

    pub(super) fn refuse(&mut self, text: String) {
        if self.refusals.len() == KEPT_REFUSALS {
            self.refusals.pop_front();
        }
        self.refusals.push_back(text);
    }

    pub(super) fn topic(&mut self, name: &str) -> Result<&mut FakeTopic> {
        self.topics.get_mut(name).ok_or_else(|| Error::invalid("there is no such topic").at_topic(name))
    }

    pub(super) fn partition(&mut self, topic: &str, partition: i32) -> Result<&mut FakePartition> {
        let missing = || {
            Error::invalid("there is no such partition")
                .at_topic(topic)
                .in_context(|context| context.partition = Some(partition))
        };
        self.topics.get_mut(topic).and_then(|topic| topic.partition_mut(partition)).ok_or_else(missing)
    }

    /// The name of the topic with this id.
    pub(super) fn name_of(&self, id: Uuid) -> Option<&Arc<str>> {
        self.topics.iter().find(|(_, topic)| topic.id == id).map(|(name, _)| name)
    }

    /// Why a topic of this name cannot be created.
    pub(super) fn creation_fault(
        &self,
        name: &str,
        partitions: usize,
        replication: usize,
    ) -> Option<(ErrorCode, String)> {
        if let Some(fault) = topic_name_fault(name) {
            return Some((ErrorCode::INVALID_TOPIC_EXCEPTION, fault));
        }
        if self.denied_topics.contains(name) {
            return Some((ErrorCode::TOPIC_AUTHORIZATION_FAILED, "Authorization failed.".into()));
        }
        if self.topics.contains_key(name) {
            return Some((ErrorCode::TOPIC_ALREADY_EXISTS, format!("Topic '{name}' already exists.")));
        }
        if partitions == 0 {
            return Some((ErrorCode::INVALID_PARTITIONS, "a topic needs a partition".into()));
        }
        if replication == 0 || replication > self.brokers.len() {
            let message = format!("{replication} replicas, and {} brokers", self.brokers.len());
            return Some((ErrorCode::INVALID_REPLICATION_FACTOR, message));
        }
        None
    }

    /// Creates a topic for which there is no [`creation_fault`](Self::creation_fault).
    pub(super) fn create(
        &mut self,
        name: &str,
        partitions: usize,
        replication: usize,
        configs: BTreeMap<String, String>,
        settings: &Settings,
    ) {
        let mut topic = FakeTopic {
            id: self.new_id(),
            rules: TopicRules::new(&configs, settings),
            configs,
            partitions: Vec::new(),
            min_in_sync_unmet: false,
            listed: None,
        };
        let first = self.next_placement;
        self.next_placement += 1;
        for index in 0..partitions {
            topic.partitions.push(self.place(first + index, replication));
        }
        self.topics.insert(name.into(), topic);
    }

    /// Why a partition cannot be put on these brokers.
    pub(super) fn assignment_fault(&self, brokers: &[i32]) -> Option<(ErrorCode, String)> {
        let is_there = |id: &i32| self.brokers.contains_key(&BrokerId(*id));
        let distinct: BTreeSet<i32> = brokers.iter().copied().collect();
        let is_right = !brokers.is_empty() && distinct.len() == brokers.len() && brokers.iter().all(is_there);
        (!is_right).then(|| (ErrorCode::INVALID_REPLICA_ASSIGNMENT, format!("{brokers:?} are not replicas")))
    }

    /// Puts a new partition on these brokers.
    pub(super) fn assign(&self, partition: &mut FakePartition, brokers: &[i32]) {
        partition.replicas = brokers.iter().copied().map(BrokerId).collect();
        partition.leader = partition.replicas.iter().copied().find(|id| self.is_alive(*id));
    }

    /// A new partition, whose first replica is on the `at`-th broker.
    pub(super) fn place(&self, at: usize, replication: usize) -> FakePartition {
        let count = self.brokers.len().max(1);
        let ids = self.brokers.keys().cycle().skip(at % count);
        let replicas: Vec<BrokerId> = ids.take(replication.min(count)).copied().collect();
        let leader = replicas.iter().copied().find(|id| self.is_alive(*id));
        FakePartition { log: PartitionLog::default(), replicas, leader, leader_epoch: 0, leaderless: false }
    }

    pub(super) fn new_id(&mut self) -> Uuid {
        let (high, low) = (self.random.next() | 1, self.random.next());
        Uuid(((u128::from(high) << 64) | u128::from(low)).to_be_bytes())
    }

    /// Makes the first replica that is alive the leader of each partition that has no living leader.
    pub(super) fn elect(&mut self) {
        let alive: BTreeSet<BrokerId> = self.alive().map(|(id, _)| id).collect();
        for partition in self.topics.values_mut().flat_map(|topic| &mut topic.partitions) {
            if partition.leader.is_some_and(|leader| alive.contains(&leader)) {
                continue;
            }
            let next = partition.replicas.iter().copied().find(|id| alive.contains(id));
            partition.lead(if partition.leaderless { None } else { next });
        }
    }

    /// The broker that coordinates a group or a transactional id, if any is alive.
    pub(super) fn coordinator(&self, of: Coordinates, key: &str) -> Option<BrokerId> {
        let moved = self.moved_coordinators.get(&(of, key.to_owned())).copied();
        if let Some(moved) = moved.filter(|broker| self.is_alive(*broker)) {
            return Some(moved);
        }
        let alive: Vec<BrokerId> = self.alive().map(|(id, _)| id).collect();
        // Like Kafka, by the hash of the key.
        let hash = key.bytes().fold(0usize, |hash, byte| hash.wrapping_mul(31).wrapping_add(usize::from(byte)));
        alive.get(hash.checked_rem(alive.len())?).copied()
    }

    pub(super) fn move_coordinator(&mut self, of: Coordinates, key: &str, to: BrokerId) -> Result<()> {
        if !self.is_alive(to) {
            return Err(Error::invalid("the broker is not alive").at_broker(to));
        }
        self.moved_coordinators.insert((of, key.to_owned()), to);
        Ok(())
    }

    /// Writes the markers of the transactions that have ended, unless they are held back.
    pub(super) fn write_markers(&mut self) {
        if self.markers_held {
            return;
        }
        let now = wall_clock_ms();
        for markers in self.transactions.complete() {
            for (topic, index) in &markers.partitions {
                let Some(partition) = self.topics.get_mut(topic).and_then(|topic| topic.partition_mut(*index)) else {
                    continue; // Deleted meanwhile.
                };
                if self.sink {
                    partition.log.swallow_end(markers.producer, markers.is_commit);
                    continue;
                }
                let epoch = partition.leader_epoch;
                if let Err(error) = partition.log.end_transaction(markers.producer, markers.is_commit, epoch, now) {
                    log::warn!("fake cluster: no marker for {topic}-{index}: {error}");
                }
            }
            for group in &markers.groups {
                self.groups.end(group, markers.producer.producer_id, markers.is_commit);
            }
        }
    }
}

impl FakeTopic {
    pub(super) fn partition(&self, index: i32) -> Option<&FakePartition> {
        self.partitions.get(usize::try_from(index).ok()?)
    }

    pub(super) fn partition_mut(&mut self, index: i32) -> Option<&mut FakePartition> {
        self.partitions.get_mut(usize::try_from(index).ok()?)
    }

    pub(super) fn record_count(&self) -> i64 {
        self.partitions.iter().map(|partition| partition.log.record_count()).sum()
    }
}

impl FakePartition {
    /// Makes `leader` the leader, in a new epoch if another one, or none, has led so far.
    pub(super) fn lead(&mut self, leader: Option<BrokerId>) {
        if self.leader == leader {
            return;
        }
        self.leader = leader;
        self.leader_epoch = self.leader_epoch.saturating_add(1);
    }

    /// The leader's id as the protocol has it: -1 for none.
    pub(super) fn leader_id(&self) -> i32 {
        self.leader.map_or(-1, |leader| leader.0)
    }
}

impl TopicRules {
    pub(super) fn new(configs: &BTreeMap<String, String>, settings: &Settings) -> Self {
        let text = |name: &str| configs.get(name).map(String::as_str);
        let number = |name: &str| text(name).and_then(|value| value.parse::<i64>().ok());
        let size = |name: &str| text(name).and_then(|value| value.parse::<usize>().ok());
        // Brokers accept any timestamp before 3.6 (KIP-937).
        let after = if settings.version >= KafkaVersion::V3_9 { 3_600_000 } else { i64::MAX };
        Self {
            max_message_bytes: size("max.message.bytes").unwrap_or(settings.max_message_bytes),
            min_in_sync: size("min.insync.replicas").unwrap_or(settings.min_in_sync),
            log_append_time: text("message.timestamp.type") == Some("LogAppendTime"),
            compacted: text("cleanup.policy").is_some_and(|policy| policy.split(',').any(|p| p.trim() == "compact")),
            timestamp_before_max_ms: number("message.timestamp.before.max.ms").unwrap_or(i64::MAX),
            timestamp_after_max_ms: number("message.timestamp.after.max.ms").unwrap_or(after),
        }
    }
}
