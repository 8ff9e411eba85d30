//! Where records go: an immutable table of topics and partitions, replaced as a whole when the cluster changes.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use parking_lot::{Mutex, RwLock};

use super::partition::{Partition, PartitionId, closed};
use super::sticky::{Adaptive, Sticky};
use crate::cluster::{ClusterClient, Snapshot, TopicMetadata, Usage};
use crate::error::Error;
use crate::topic::TopicPartition;

/// The topics of a producer, and every partition that it has ever known.
pub(crate) struct TopicTable {
    /// Distinguishes this producer's table from those of other producers, in what a thread remembers.
    id: u64,
    /// Incremented after the table was replaced.
    version: AtomicU64,
    /// Records are refused: the producer is closed, or it is transactional and no transaction is open. A hint, so that
    /// `send` looks for the reason only if there is one.
    refusing: AtomicBool,
    table: RwLock<Arc<Table>>,
    /// Partitions are kept when they leave the table: a queue and its sequence numbers must outlast a topic that is
    /// missing from the metadata for a moment.
    partitions: Mutex<Partitions>,
}

/// It is searched for every record, so it has a fast hash; the names are the program's own, so nobody attacks it with
/// collisions.
type Table = HashMap<Arc<str>, Arc<Topic>, foldhash::fast::RandomState>;

#[derive(Default)]
struct Partitions {
    by_name: HashMap<TopicPartition, Arc<Partition>>,
    next_id: u32,
    /// Why all partitions refuse records, if they do; new partitions do so, too.
    refusal: Option<Error>,
    /// The transaction whose records they accept otherwise.
    transaction: u64,
}

/// A topic that can be sent to.
pub(crate) struct Topic {
    pub(crate) metadata: Arc<TopicMetadata>,
    /// In the order of the metadata's partitions. Most snapshots only change leaders; then the list is shared with the
    /// table before.
    partitions: Arc<[Arc<Partition>]>,
    /// Partitions that the topic had and the metadata does not list now. Kafka never removes a partition, so a broker
    /// that does not list it has old metadata: a record for this partition waits as for a partition without a leader.
    vanished: Vec<Arc<Partition>>,
    pub(crate) sticky: Arc<Sticky>,
    pub(crate) unknown: Arc<UnknownPartitions>,
    /// Keeps the topic's metadata up to date.
    usage: Arc<Usage>,
}

/// A topic that a thread has looked up. It is valid for as long as the table's version stays.
pub(crate) struct Recent {
    topic_table: u64,
    version: u64,
    pub(crate) topic: Arc<Topic>,
}

/// A slot in which a thread remembers a topic.
pub(crate) type Memory = Cell<Option<Box<Recent>>>;

/// How many topics a thread remembers.
const SLOTS: usize = 4;

thread_local! {
    static MEMORY: [Memory; SLOTS] = const { [const { Cell::new(None) }; SLOTS] };
}

/// Runs `with` on the slot in which the calling thread remembers a topic of this name. If `with` calls this function
/// again, that call finds the slot empty.
#[inline]
pub(crate) fn with_memory<T>(name: &str, mut with: impl FnMut(&Memory) -> T) -> T {
    let slot = name.len().wrapping_add(name.bytes().last().map_or(0, usize::from)) % SLOTS;
    let done = MEMORY.try_with(|memory| memory.get(slot).map(&mut with));
    // A thread that is ending has no thread-local memory any more.
    done.ok().flatten().unwrap_or_else(|| with(&Cell::new(None)))
}

impl TopicTable {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            version: AtomicU64::new(0),
            refusing: AtomicBool::new(false),
            table: RwLock::default(),
            partitions: Mutex::default(),
        }
    }

    /// Whether records are refused, as noted by [`set_refusing`](Self::set_refusing).
    #[inline]
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// Notes whether records are refused.
    pub(crate) fn set_refusing(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::Release);
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.table.read().get(name).cloned()
    }

    /// [`topic`](Self::topic) as the calling thread remembers it in `memory`, or from the table. The caller puts it
    /// back into `memory` after use, so that the next look writes to no memory that threads share.
    pub(crate) fn recent(&self, name: &str, memory: &Memory) -> Option<Box<Recent>> {
        let version = self.version.load(Ordering::Acquire);
        if let Some(recent) = memory.take()
            && recent.topic_table == self.id
            && recent.version == version
            && *recent.topic.metadata.name == *name
        {
            return Some(recent);
        }
        Some(Box::new(Recent { topic_table: self.id, version, topic: self.topic(name)? }))
    }

    /// Takes over those topics of a new snapshot that this producer uses. The snapshot also has topics of the cluster's
    /// other clients. *Thread*: kafka-metadata, or a sender with a leader hint.
    pub(crate) fn on_metadata(&self, snapshot: &Snapshot, cluster: &ClusterClient) {
        let mut all = self.partitions.lock();
        let old = Arc::clone(&self.table.read());
        let mut table = Table::with_capacity_and_hasher(snapshot.topics.len(), foldhash::fast::RandomState::default());
        for (name, metadata) in snapshot.topics.iter().filter(|(_, topic)| topic.is_known()) {
            let known = old.get(name);
            let usage = known.map(|known| Arc::clone(&known.usage)).or_else(|| cluster.usage(name));
            let Some(usage) = usage else { continue };
            let topic = match known {
                Some(known) if Arc::ptr_eq(&known.metadata, metadata) => Arc::clone(known),
                _ => Arc::new(Topic {
                    metadata: Arc::clone(metadata),
                    partitions: match known {
                        Some(known) if known.metadata.all == metadata.all => Arc::clone(&known.partitions),
                        _ => metadata.all.iter().map(|index| all.partition(name, *index)).collect(),
                    },
                    vanished: known.map_or_else(Vec::new, |known| known.vanished_in(metadata)),
                    sticky: known.map_or_else(Arc::default, |known| Arc::clone(&known.sticky)),
                    unknown: known.map_or_else(Arc::default, |known| Arc::clone(&known.unknown)),
                    usage,
                }),
            };
            table.insert(Arc::clone(name), topic);
        }
        *self.table.write() = Arc::new(table);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Every partition that the producer has ever known.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.lock().by_name.values().cloned().collect()
    }

    /// Has every partition refuse records, also partitions that are added later. Returns the present ones.
    pub(crate) fn refuse(&self, error: &Error) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.lock();
        partitions.refusal = Some(error.clone());
        partitions.by_name.values().inspect(|partition| partition.refuse(error.clone())).cloned().collect()
    }

    /// Has every partition accept records again: only those of this transaction, unless `transaction` is 0.
    pub(crate) fn allow(&self, transaction: u64) {
        let mut partitions = self.partitions.lock();
        partitions.refusal = None;
        partitions.transaction = transaction;
        partitions.by_name.values().for_each(|partition| partition.allow(transaction));
    }
}

impl TopicTable {
    /// Closes every partition and fails the open batches, which no sender will take.
    pub(crate) fn fail(&self, error: &Error) {
        for partition in self.refuse(&closed()) {
            partition.abandon(error);
        }
    }
}

impl Partitions {
    fn partition(&mut self, topic: &Arc<str>, index: i32) -> Arc<Partition> {
        let name = TopicPartition { topic: Arc::clone(topic), index };
        if let Some(partition) = self.by_name.get(&name) {
            return Arc::clone(partition);
        }
        let partition = Partition::new(PartitionId(self.next_id), name.clone());
        self.next_id = self.next_id.wrapping_add(1);
        match &self.refusal {
            Some(error) => partition.refuse(error.clone()),
            None => partition.allow(self.transaction),
        }
        self.by_name.insert(name, Arc::clone(&partition));
        partition
    }
}

impl Topic {
    /// The partition with this index, if the topic has it, or had it before.
    pub(crate) fn partition(&self, index: i32) -> Option<&Arc<Partition>> {
        self.listed(index).or_else(|| self.vanished.iter().find(|partition| partition.name().index == index))
    }

    /// The sticky partition, for records that may go anywhere. `None` only for a topic without partitions.
    #[inline]
    pub(crate) fn sticky_partition(&self, adaptive: Option<&Adaptive<'_>>) -> Option<&Arc<Partition>> {
        let current = self.sticky.current().and_then(|index| self.listed(index));
        current.or_else(|| self.listed(self.sticky.choose(&self.metadata, &self.partitions, adaptive)?))
    }

    /// The partition with this index, if the metadata lists it.
    fn listed(&self, index: i32) -> Option<&Arc<Partition>> {
        let position = usize::try_from(index).ok()?;
        match self.partitions.get(position) {
            Some(partition) if partition.name().index == index => Some(partition),
            // Kafka's partition indices have no gaps; this would be the case if they had.
            _ => self.partitions.iter().find(|partition| partition.name().index == index),
        }
    }

    /// Those of its partitions that newer metadata of the same topic does not list.
    fn vanished_in(&self, metadata: &TopicMetadata) -> Vec<Arc<Partition>> {
        let (old, new) = (self.metadata.id, metadata.id);
        // Before Kafka 2.8 topics have no id, so that a new topic of the same name cannot be distinguished from the old
        // one.
        if old != new && !old.is_zero() && !new.is_zero() {
            return Vec::new();
        }
        let known = self.partitions.iter().chain(&self.vanished);
        known.filter(|partition| metadata.partition(partition.name().index).is_none()).cloned().collect()
    }

    /// Marks the topic as used. If the cluster client has forgotten it, its metadata is asked for again; until the
    /// answer comes, records are sent by the old metadata.
    pub(crate) fn touch(&self, cluster: &ClusterClient) {
        if self.usage.mark() {
            cluster.remember(&self.metadata.name, &self.usage);
        }
    }
}

/// How long metadata is asked for a partition that the topic never had, before its index counts as wrong: brokers know
/// of a partition only some time after it was added.
pub(crate) const ADDED_LATELY: Duration = Duration::from_secs(2);

/// After this time an unknown partition is forgotten, and counts as named for the first time.
const UNKNOWN_EXPIRY: Duration = Duration::from_secs(60);

/// How many unknown partitions of a topic are remembered at most.
const UNKNOWN_KEPT: usize = 16;

/// The partitions that records named and the topic never had, and when each was named first. So a wrong index waits for
/// [`ADDED_LATELY`] once; after that one new look at the metadata is enough.
#[derive(Default)]
pub(crate) struct UnknownPartitions(Mutex<Vec<(i32, Instant)>>);

impl UnknownPartitions {
    /// When the partition was named first.
    pub(crate) fn since(&self, index: i32, now: Instant) -> Instant {
        let mut unknown = self.0.lock();
        unknown.retain(|(_, since)| now.saturating_duration_since(*since) < UNKNOWN_EXPIRY);
        if let Some((_, since)) = unknown.iter().find(|(other, _)| *other == index) {
            return *since;
        }
        if unknown.len() >= UNKNOWN_KEPT {
            unknown.remove(0);
        }
        unknown.push((index, now));
        now
    }
}
