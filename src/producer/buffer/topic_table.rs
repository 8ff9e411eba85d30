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
    /// Tells this producer's table from others' in what a thread remembers.
    id: u64,
    /// Grows when the table is replaced, after that.
    version: AtomicU64,
    /// Records are not taken: the producer is closed, or it is transactional and no transaction is open. A hint that spares
    /// a record's way a look at the reason.
    refusing: AtomicBool,
    table: RwLock<Arc<Table>>,
    /// Partitions outlive the table: a queue and its sequence numbers must survive a topic that is gone for a moment.
    partitions: Mutex<Partitions>,
}

/// Looked at for every record, hence the quick hash; the names are the program's own.
type Table = HashMap<Arc<str>, Arc<Topic>, foldhash::fast::RandomState>;

#[derive(Default)]
struct Partitions {
    by_name: HashMap<TopicPartition, Arc<Partition>>,
    next_id: u32,
    /// Why partitions take no records, those to come included.
    refusal: Option<Error>,
    /// Whose records they take otherwise.
    transaction: u64,
}

/// A topic that can be sent to.
pub(crate) struct Topic {
    pub(crate) metadata: Arc<TopicMetadata>,
    /// In the order of the metadata's partitions. Shared while those stay the same: most snapshots only move leaders.
    partitions: Arc<[Arc<Partition>]>,
    /// Partitions that the topic had and the metadata does not list now. Kafka never takes one away, so a broker that
    /// does not list it lags behind: what is sent there by name waits as for a partition without a leader.
    vanished: Vec<Arc<Partition>>,
    pub(crate) sticky: Arc<Sticky>,
    pub(crate) missed: Arc<Missed>,
    /// Keeps the topic's metadata up to date.
    usage: Arc<Usage>,
}

/// A topic that a thread has looked up. It is valid for as long as the table's version stays.
pub(crate) struct Recent {
    topic_table: u64,
    version: u64,
    pub(crate) topic: Arc<Topic>,
}

/// The place where a thread remembers a topic.
pub(crate) type Memory = Cell<Option<Box<Recent>>>;

/// How many topics a thread remembers.
const PLACES: usize = 4;

thread_local! {
    static MEMORY: [Memory; PLACES] = const { [const { Cell::new(None) }; PLACES] };
}

/// Runs `with` on the place where the calling thread remembers a topic of this name. Whatever it runs may come here
/// again: then the place is empty.
#[inline]
pub(crate) fn with_memory<T>(name: &str, mut with: impl FnMut(&Memory) -> T) -> T {
    let place = name.len().wrapping_add(name.bytes().last().map_or(0, usize::from)) % PLACES;
    let done = MEMORY.try_with(|memory| memory.get(place).map(&mut with));
    // A thread that is ending remembers nothing.
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

    /// Whether records are not taken, as far as [`set_refusing`](Self::set_refusing) was told.
    #[inline]
    pub(crate) fn is_refusing(&self) -> bool {
        self.refusing.load(Ordering::Acquire)
    }

    /// Notes whether records are not taken.
    pub(crate) fn set_refusing(&self, refusing: bool) {
        self.refusing.store(refusing, Ordering::Release);
    }

    pub(crate) fn topic(&self, name: &str) -> Option<Arc<Topic>> {
        self.table.read().get(name).cloned()
    }

    /// [`topic`](Self::topic) as the calling thread remembers it in `memory`, or from the table. Put it back there when
    /// it has served: the next look then writes to no memory that threads share.
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

    /// Takes over a new snapshot, as far as its topics are wanted: others are known because other clients of the cluster
    /// want them. *Thread*: kafka-metadata, or a sender with a leader hint.
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
                    missed: known.map_or_else(Arc::default, |known| Arc::clone(&known.missed)),
                    usage,
                }),
            };
            table.insert(Arc::clone(name), topic);
        }
        *self.table.write() = Arc::new(table);
        self.version.fetch_add(1, Ordering::Release);
    }

    /// Every partition that there has ever been.
    pub(crate) fn partitions(&self) -> Vec<Arc<Partition>> {
        self.partitions.lock().by_name.values().cloned().collect()
    }

    /// Has every partition refuse records, those to come too.
    pub(crate) fn refuse(&self, error: &Error) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.lock();
        partitions.refusal = Some(error.clone());
        partitions.by_name.values().inspect(|partition| partition.refuse(error.clone())).cloned().collect()
    }

    /// Has every partition take records again: those of this transaction, if it has a number.
    pub(crate) fn allow(&self, transaction: u64) {
        let mut partitions = self.partitions.lock();
        partitions.refusal = None;
        partitions.transaction = transaction;
        partitions.by_name.values().for_each(|partition| partition.allow(transaction));
    }
}

impl TopicTable {
    /// Closes every partition and fails what is open: no sender will take it.
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
    /// The partition with this index, if the topic has it, or had it and lacks it for a moment.
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
        let place = usize::try_from(index).ok()?;
        match self.partitions.get(place) {
            Some(partition) if partition.name().index == index => Some(partition),
            // Indices with gaps, which Kafka does not have.
            _ => self.partitions.iter().find(|partition| partition.name().index == index),
        }
    }

    /// Those of its partitions that newer metadata of the same topic does not list.
    fn vanished_in(&self, metadata: &TopicMetadata) -> Vec<Arc<Partition>> {
        let (old, new) = (self.metadata.id, metadata.id);
        // Without an id, as before Kafka 2.8, nobody can tell another topic of that name from the same one.
        if old != new && !old.is_zero() && !new.is_zero() {
            return Vec::new();
        }
        let known = self.partitions.iter().chain(&self.vanished);
        known.filter(|partition| metadata.partition(partition.name().index).is_none()).cloned().collect()
    }

    /// Marks the topic as used. One that was forgotten is asked for again; until the answer comes, what was known of
    /// it is good enough to send by.
    pub(crate) fn touch(&self, cluster: &ClusterClient) {
        if self.usage.mark() {
            cluster.remember(&self.metadata.name, &self.usage);
        }
    }
}

/// For how long a partition that the topic has never had is asked for before it counts as a wrong number: brokers lag
/// behind whoever has just added it.
pub(crate) const ADDED_LATELY: Duration = Duration::from_secs(2);

/// After this a partition that was missed before is missed anew.
const MISSED_ANEW: Duration = Duration::from_secs(60);

/// How many missed partitions of a topic are remembered.
const MISSED_PLACES: usize = 16;

/// Since when partitions have been named that a topic has never had: so a wrong number costs [`ADDED_LATELY`] once, and
/// one fresh look after that.
#[derive(Default)]
pub(crate) struct Missed(Mutex<Vec<(i32, Instant)>>);

impl Missed {
    pub(crate) fn since(&self, index: i32, now: Instant) -> Instant {
        let mut missed = self.0.lock();
        missed.retain(|(_, since)| now.saturating_duration_since(*since) < MISSED_ANEW);
        if let Some((_, since)) = missed.iter().find(|(other, _)| *other == index) {
            return *since;
        }
        if missed.len() >= MISSED_PLACES {
            missed.remove(0);
        }
        missed.push((index, now));
        now
    }
}
