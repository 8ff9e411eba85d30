//! What the client knows of the cluster: an immutable value, replaced as a whole.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use crate::error::ErrorCode;
use crate::logging::{debug, info};
use crate::net::HostPort;
use crate::protocol::messages::MetadataResponse;
use crate::protocol::messages::metadata::{MetadataResponsePartition, MetadataResponseTopic};
use crate::protocol::wire::Uuid;
use crate::topic::BrokerId;

/// The first Metadata version whose leader epochs can be trusted (Kafka 2.4).
const RELIABLE_EPOCHS: i16 = 9;
/// The first Metadata version with topic ids (Kafka 2.8).
const TOPIC_IDS: i16 = 10;

/// The most brokers that an answer may list; a hostile one could fill memory otherwise.
const MAX_BROKERS: usize = 10_000;

/// The brokers, and the topics that the client has asked for.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    /// Grows with every change.
    pub(crate) version: u64,
    pub(crate) cluster_id: Option<String>,
    pub(crate) controller: Option<BrokerId>,
    pub(crate) brokers: BTreeMap<BrokerId, HostPort>,
    pub(crate) topics: HashMap<Arc<str>, Arc<TopicMetadata>>,
}

/// What the cluster says of one topic.
#[derive(Clone, Debug)]
pub(crate) struct TopicMetadata {
    pub(crate) name: Arc<str>,
    /// The last id that an answer named; zero before Kafka 2.8.
    pub(crate) id: Uuid,
    /// Why the cluster describes no partitions, or [`ErrorCode::NONE`].
    pub(crate) error: ErrorCode,
    /// In the order of their indices.
    pub(crate) partitions: Vec<PartitionMetadata>,
    /// The indices of all partitions, and of those with a leader, as partitioners take them.
    pub(crate) all: Vec<i32>,
    pub(crate) available: Vec<i32>,
}

/// What the cluster says of one partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PartitionMetadata {
    pub(crate) index: i32,
    pub(crate) leader: Option<BrokerId>,
    /// -1 where none is known: brokers before Kafka 2.4 tell none, and a topic that was deleted has none any more.
    pub(crate) leader_epoch: i32,
    pub(crate) error: ErrorCode,
    /// Shared, so that a topic of thousands of partitions is copied quickly when a few of its leaders change.
    pub(crate) replicas: Arc<[i32]>,
    pub(crate) in_sync: Arc<[i32]>,
}

/// What produce answers say of partitions' leaders (KIP-951).
#[derive(Debug, Default)]
pub(crate) struct LeaderHints {
    pub(crate) leaders: Vec<LeaderHint>,
    /// Where those leaders are, as far as the answers tell.
    pub(crate) addresses: HashMap<BrokerId, HostPort>,
}

/// What a produce answer says of one partition's leader.
#[derive(Debug)]
pub(crate) struct LeaderHint {
    pub(crate) topic: Arc<str>,
    /// The id of the topic that the records were sent to. The topic may have been deleted and created again since.
    pub(crate) topic_id: Uuid,
    pub(crate) partition: i32,
    pub(crate) leader: BrokerId,
    pub(crate) epoch: i32,
}

impl TopicMetadata {
    pub(crate) fn new(name: Arc<str>, id: Uuid, error: ErrorCode, mut partitions: Vec<PartitionMetadata>) -> Self {
        partitions.sort_unstable_by_key(|partition| partition.index);
        partitions.dedup_by_key(|partition| partition.index);
        let all = partitions.iter().map(|partition| partition.index).collect();
        let led = partitions.iter().filter(|partition| partition.leader.is_some());
        let available = led.map(|partition| partition.index).collect();
        Self { name, id, error, partitions, all, available }
    }

    /// The partition with this index.
    pub(crate) fn partition(&self, index: i32) -> Option<&PartitionMetadata> {
        self.partitions.get(self.position(index)?)
    }

    /// The position in `partitions` of the partition with this index.
    fn position(&self, index: i32) -> Option<usize> {
        // Kafka's partitions are 0 to n - 1, so the index is almost always the position.
        let at_place = usize::try_from(index).ok();
        at_place
            .filter(|place| self.partitions.get(*place).is_some_and(|partition| partition.index == index))
            .or_else(|| self.partitions.binary_search_by_key(&index, |partition| partition.index).ok())
    }

    /// Whether records can be produced to the topic, as far as is known.
    pub(crate) fn is_known(&self) -> bool {
        !self.partitions.is_empty()
    }
}

impl Snapshot {
    pub(crate) fn topic(&self, name: &str) -> Option<&Arc<TopicMetadata>> {
        self.topics.get(name)
    }

    pub(crate) fn partition(&self, topic: &str, index: i32) -> Option<&PartitionMetadata> {
        self.topic(topic)?.partition(index)
    }

    /// This snapshot after an answer of the cluster, given in this version of Metadata. Topics that the answer does not
    /// name stay as they are, and so do the partitions of one that is unknown for a moment: their sequence numbers must
    /// outlive it.
    ///
    /// A leader epoch that is older than the known one comes from a stale broker. It is ignored where epochs can be
    /// trusted. But a topic that was deleted and created again begins with epoch 0, so the known epochs are forgotten
    /// when the topic gets another id, and, where topics have no ids, when the cluster says that there is no such
    /// topic. An answer without ids leaves the known id as it is, and so does the answer that there is no such topic:
    /// it may come from a broker that lags behind, and the epochs count again when the topic is back.
    pub(crate) fn merge(&self, response: MetadataResponse, version: i16) -> Self {
        let mut next = self.clone();
        next.version += 1;
        next.cluster_id = response.cluster_id.or(next.cluster_id);
        next.controller = (response.controller_id >= 0).then_some(BrokerId(response.controller_id));
        next.brokers = response
            .brokers
            .into_iter()
            .take(MAX_BROKERS)
            .filter_map(|broker| {
                let port = u16::try_from(broker.port).ok().filter(|port| *port != 0)?;
                (broker.node_id >= 0).then(|| (BrokerId(broker.node_id), HostPort::new(broker.host, port)))
            })
            .collect();
        for topic in response.topics {
            next.merge_topic(topic, version);
        }
        next
    }

    fn merge_topic(&mut self, topic: MetadataResponseTopic, version: i16) {
        let Some(name) = topic.name else { return };
        let error = ErrorCode(topic.error_code);
        let known = self.topics.get(name.as_str()).cloned();
        let name: Arc<str> = known.as_ref().map_or_else(|| Arc::from(name.as_str()), |known| Arc::clone(&known.name));
        let known_id = known.as_ref().map_or_else(Uuid::default, |known| known.id);
        let id = if topic.topic_id.is_zero() { known_id } else { topic.topic_id };
        if !error.is_none() && topic.partitions.is_empty() {
            debug!("topic {name}: {error}");
            // While a topic is being created, a broker answers that it has no leader.
            let is_gone = matches!(error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION | ErrorCode::LEADER_NOT_AVAILABLE);
            let forgets_epochs = is_gone && (version < TOPIC_IDS || id.is_zero());
            // The partitions stay known, without leaders, so that what is queued for them can wait or expire.
            let partitions = known.map_or_else(Vec::new, |known| known.partitions.clone());
            let partitions = partitions.into_iter().map(|partition| PartitionMetadata {
                leader: None,
                leader_epoch: if forgets_epochs { -1 } else { partition.leader_epoch },
                error,
                ..partition
            });
            let partitions = partitions.collect();
            self.topics.insert(Arc::clone(&name), Arc::new(TopicMetadata::new(name, id, error, partitions)));
            return;
        }
        if id != known_id && !known_id.is_zero() {
            info!("topic {name} was deleted and created again");
        }
        let same_topic = known.as_ref().filter(|known| known.id == id);
        let mut partitions: Vec<PartitionMetadata> = topic
            .partitions
            .iter()
            .filter(|partition| partition.partition_index >= 0)
            .map(|partition| {
                let new = read_partition(partition);
                let old = same_topic.and_then(|known| known.partition(partition.partition_index));
                // An answer without an epoch has nothing to compare.
                let comparable = version >= RELIABLE_EPOCHS && new.leader_epoch >= 0;
                match old {
                    Some(old) if comparable && new.leader_epoch < old.leader_epoch => {
                        debug!("partition {name}-{}: a stale leader epoch is ignored", new.index);
                        old.clone()
                    }
                    _ => new,
                }
            })
            .collect();
        // Kafka never removes a partition from a topic, so a broker that does not list one lags behind.
        if let Some(known) = same_topic.filter(|known| !known.id.is_zero()) {
            let listed: HashSet<i32> = partitions.iter().map(|partition| partition.index).collect();
            partitions.extend(known.partitions.iter().filter(|old| !listed.contains(&old.index)).cloned());
        }
        self.topics.insert(Arc::clone(&name), Arc::new(TopicMetadata::new(name, id, error, partitions)));
    }

    /// This snapshot with what produce answers say of partitions' leaders (KIP-951), or `None` where that is nothing
    /// new. One answer may tell of thousands of partitions, so each topic is copied at most once.
    pub(crate) fn hint(&self, hints: &LeaderHints) -> Option<Self> {
        let mut changed: HashMap<Arc<str>, Vec<PartitionMetadata>> = HashMap::new();
        let mut brokers = BTreeMap::new();
        for hint in &hints.leaders {
            let Some(known) = self.topic(&hint.topic).filter(|known| known.id == hint.topic_id) else { continue };
            let Some(place) = known.position(hint.partition) else { continue };
            let address = hints.addresses.get(&hint.leader);
            let reachable = address.is_some() || self.brokers.contains_key(&hint.leader);
            let is_newer = |partition: &PartitionMetadata| hint.epoch > partition.leader_epoch;
            if !reachable || !known.partitions.get(place).is_some_and(is_newer) {
                continue;
            }
            let partitions = changed.entry(Arc::clone(&known.name)).or_insert_with(|| known.partitions.clone());
            // Of two hints for one partition the newer one counts.
            let Some(partition) = partitions.get_mut(place).filter(|partition| is_newer(partition)) else { continue };
            partition.leader = Some(hint.leader);
            partition.leader_epoch = hint.epoch;
            partition.error = ErrorCode::NONE;
            if let Some(address) = address {
                brokers.insert(hint.leader, address.clone());
            }
        }
        if changed.is_empty() {
            return None;
        }
        let mut next = self.clone();
        next.version += 1;
        next.brokers.append(&mut brokers);
        for (name, partitions) in changed {
            let Some(known) = self.topic(&name) else { continue };
            let topic = TopicMetadata::new(Arc::clone(&known.name), known.id, known.error, partitions);
            next.topics.insert(name, Arc::new(topic));
        }
        Some(next)
    }
}

fn read_partition(partition: &MetadataResponsePartition) -> PartitionMetadata {
    PartitionMetadata {
        index: partition.partition_index,
        leader: (partition.leader_id >= 0).then_some(BrokerId(partition.leader_id)),
        leader_epoch: partition.leader_epoch,
        error: ErrorCode(partition.error_code),
        replicas: partition.replica_nodes.as_slice().into(),
        in_sync: partition.isr_nodes.as_slice().into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::messages::metadata::MetadataResponseBroker;

    fn answer(topic_id: u8, error: ErrorCode, leaders: &[(i32, i32)]) -> MetadataResponse {
        let partitions = leaders.iter().zip(0..).map(|((leader, epoch), index)| MetadataResponsePartition {
            partition_index: index,
            leader_id: *leader,
            leader_epoch: *epoch,
            ..Default::default()
        });
        MetadataResponse {
            brokers: vec![MetadataResponseBroker { node_id: 1, host: "a".into(), port: 9092, ..Default::default() }],
            topics: vec![MetadataResponseTopic {
                name: Some("t".into()),
                topic_id: Uuid([topic_id; 16]),
                error_code: error.0,
                partitions: partitions.collect(),
                ..Default::default()
            }],
            ..Default::default()
        }
    }

    fn leader(snapshot: &Snapshot, index: i32) -> Option<i32> {
        snapshot.partition("t", index).unwrap().leader.map(|leader| leader.0)
    }

    const NEWEST: i16 = 13;

    #[test]
    fn a_stale_leader_epoch_is_ignored_unless_the_topic_is_another_one() {
        let first = Snapshot::default().merge(answer(1, ErrorCode::NONE, &[(1, 5)]), NEWEST);
        let stale = first.merge(answer(1, ErrorCode::NONE, &[(2, 4)]), NEWEST);
        assert_eq!(leader(&stale, 0), Some(1));
        assert_eq!(leader(&first.merge(answer(1, ErrorCode::NONE, &[(2, 4)]), RELIABLE_EPOCHS - 1), 0), Some(2));
        assert_eq!(leader(&first.merge(answer(1, ErrorCode::NONE, &[(2, -1)]), NEWEST), 0), Some(2));
        assert_eq!(leader(&first.merge(answer(2, ErrorCode::NONE, &[(2, 0)]), NEWEST), 0), Some(2));
    }

    #[test]
    fn a_partition_that_a_broker_does_not_list_stays_known_unless_the_topic_is_another_one() {
        let first = Snapshot::default().merge(answer(1, ErrorCode::NONE, &[(1, 5), (1, 6), (1, 7)]), NEWEST);
        let fewer = first.merge(answer(1, ErrorCode::NONE, &[(1, 5)]), NEWEST);
        assert_eq!(fewer.topic("t").unwrap().all, [0, 1, 2]);
        assert_eq!(leader(&fewer, 2), Some(1));
        let another = first.merge(answer(2, ErrorCode::NONE, &[(1, 0)]), NEWEST);
        assert_eq!(another.topic("t").unwrap().all, [0]);
        // Without ids it may be another topic.
        let old = Snapshot::default().merge(answer(0, ErrorCode::NONE, &[(1, 5), (1, 6)]), NEWEST);
        assert_eq!(old.merge(answer(0, ErrorCode::NONE, &[(1, 5)]), NEWEST).topic("t").unwrap().all, [0]);
    }

    #[test]
    fn a_topic_that_is_unknown_for_a_moment_keeps_its_partitions() {
        let first = Snapshot::default().merge(answer(1, ErrorCode::NONE, &[(1, 5), (1, 6)]), NEWEST);
        let gone = first.merge(answer(0, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION, &[]), NEWEST);
        let topic = gone.topic("t").unwrap();
        assert_eq!((topic.all.len(), topic.available.len()), (2, 0));
        assert_eq!(topic.error, ErrorCode::UNKNOWN_TOPIC_OR_PARTITION);
    }

    fn hints(leaders: &[(i32, i32, i32)], addresses: &[i32]) -> LeaderHints {
        let leaders = leaders.iter().map(|(partition, leader, epoch)| LeaderHint {
            topic: "t".into(),
            topic_id: Uuid([1; 16]),
            partition: *partition,
            leader: BrokerId(*leader),
            epoch: *epoch,
        });
        let addresses = addresses.iter().map(|broker| (BrokerId(*broker), HostPort::new("b", 1)));
        LeaderHints { leaders: leaders.collect(), addresses: addresses.collect() }
    }

    #[test]
    fn leader_epochs_are_forgotten_with_their_topic_and_not_before() {
        const UNKNOWN: ErrorCode = ErrorCode::UNKNOWN_TOPIC_OR_PARTITION;
        let old = RELIABLE_EPOCHS;
        let known = |id, version| Snapshot::default().merge(answer(id, ErrorCode::NONE, &[(1, 5)]), version);
        let gone = |id, version, code| known(id, version).merge(answer(0, code, &[]), version);
        let follows = |snapshot: &Snapshot, id, version| {
            leader(&snapshot.merge(answer(id, ErrorCode::NONE, &[(2, 0)]), version), 0) == Some(2)
        };
        // The ids decide, also after an answer that there is no such topic, which a broker that lags behind may give.
        assert!(follows(&gone(1, NEWEST, UNKNOWN), 2, NEWEST));
        assert!(!follows(&gone(1, NEWEST, UNKNOWN), 1, NEWEST));
        assert!(!follows(&gone(1, NEWEST, ErrorCode::TOPIC_AUTHORIZATION_FAILED), 1, NEWEST));
        // Where there are no ids, that answer decides.
        for code in [UNKNOWN, ErrorCode::LEADER_NOT_AVAILABLE] {
            assert!(follows(&gone(0, old, code), 0, old), "{code}");
            assert!(follows(&gone(0, NEWEST, code), 0, NEWEST), "{code}: a newer broker of a cluster without ids");
        }
        assert!(!follows(&gone(0, old, ErrorCode::TOPIC_AUTHORIZATION_FAILED), 0, old));
        assert!(!follows(&known(0, old), 0, old));
        // While a cluster is upgraded, some of its brokers know no ids: that does not make it another topic.
        assert!(!follows(&known(1, NEWEST), 0, old));
        let answered_by_old = known(1, NEWEST).merge(answer(0, ErrorCode::NONE, &[(1, 6)]), old);
        assert_eq!(answered_by_old.topic("t").unwrap().id, Uuid([1; 16]));
        assert!(!follows(&answered_by_old, 1, NEWEST));
        assert!(follows(&known(1, NEWEST).merge(answer(0, UNKNOWN, &[]), old), 0, old));
        // A topic whose id was not known may have been created again before its id was told.
        assert!(follows(&known(0, old), 1, NEWEST));
    }

    #[test]
    fn a_leader_hint_counts_only_if_it_is_newer() {
        let first = Snapshot::default().merge(answer(1, ErrorCode::NONE, &[(1, 5)]), NEWEST);
        assert!(first.hint(&hints(&[(0, 2, 5)], &[2])).is_none());
        assert!(first.hint(&hints(&[(0, 2, 6)], &[])).is_none(), "nobody knows where broker 2 is");
        assert!(first.hint(&hints(&[(7, 2, 6)], &[2])).is_none(), "there is no partition 7");
        let hinted = first.hint(&hints(&[(0, 2, 6)], &[2, 3])).unwrap();
        assert_eq!(leader(&hinted, 0), Some(2));
        assert!(hinted.brokers.contains_key(&BrokerId(2)) && !hinted.brokers.contains_key(&BrokerId(3)));
    }

    #[test]
    fn a_leader_hint_for_a_topic_that_was_made_anew_meanwhile_is_no_hint() {
        let told = hints(&[(0, 2, 6)], &[2]);
        for id in [0, 2] {
            let other = Snapshot::default().merge(answer(id, ErrorCode::NONE, &[(1, 0)]), NEWEST);
            // The new topic's own epochs, which begin with 0, would be taken for stale ones.
            assert!(other.hint(&told).is_none(), "id {id}");
        }
    }

    #[test]
    fn all_hints_of_an_answer_make_one_snapshot() {
        let leaders: Vec<(i32, i32)> = (0..1000).map(|_| (1, 5)).collect();
        let first = Snapshot::default().merge(answer(1, ErrorCode::NONE, &leaders), NEWEST);
        let mut told: Vec<(i32, i32, i32)> = (0..1000).map(|index| (index, 2 + index % 2, 6)).collect();
        told.extend([(7, 3, 8), (7, 2, 7), (8, 3, 4)]);
        let hinted = first.hint(&hints(&told, &[2, 3])).unwrap();
        assert_eq!(hinted.version, first.version + 1);
        let wanted = |index: i32| Some(if index == 7 { 3 } else { 2 + index % 2 });
        assert!((0..1000).all(|index| leader(&hinted, index) == wanted(index)));
        assert!(hinted.hint(&hints(&told, &[2, 3])).is_none(), "it is nothing new any more");
    }

    #[test]
    fn brokers_with_impossible_addresses_are_left_out() {
        let mut response = answer(1, ErrorCode::NONE, &[]);
        for (node_id, port) in [(2, 0), (3, 70_000), (-1, 9092), (4, -5)] {
            response.brokers.push(MetadataResponseBroker { node_id, host: "x".into(), port, ..Default::default() });
        }
        assert_eq!(Snapshot::default().merge(response, NEWEST).brokers.len(), 1);
    }
}
