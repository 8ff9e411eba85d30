//! The sticky partition of a topic (KIP-794), for records that may go anywhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicI32, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

use super::partition::Partition;
use crate::cluster::TopicMetadata;
use crate::producer::partitioner::sticky::{PartitionLoad, StickyPartition};
use crate::time::RandomNumbers;
use crate::topic::BrokerId;

/// The shortest time between two looks at the partitions' queues, to choose a partition by its load.
const LOAD_PERIOD: Duration = Duration::from_millis(10);

/// How many bytes a sticky partition gets before another is chosen: Java's default `batch.size`. Batches may be larger,
/// but the records of a topic with little traffic are to be spread as evenly as Java spreads them.
const SHARE: usize = 16 * 1024;

/// Into how many units a share is divided when the lengths of queues are compared. Java counts batches, which cannot
/// grow while they wait, so that a slow broker has many of them. Here one batch can hold many records, and smaller
/// units show sooner that a queue is long.
const UNITS: usize = 8;

/// How many bytes a sticky partition gets at a time, with batches of at most `batch_size`. At least 1: with a share of
/// 0 every partition would have had its share before its first record, and none would ever take one.
pub(crate) fn sticky_share(batch_size: usize) -> usize {
    batch_size.clamp(1, SHARE)
}

/// The topic's sticky partition (KIP-794).
pub(crate) struct Sticky {
    /// The current partition, -1 for none. Read for every record without the lock, written under the lock.
    current: AtomicI32,
    /// Locked when a batch is opened, not for every record. *Lock order*: after a partition's lock.
    state: Mutex<StickyState>,
}

struct StickyState {
    partition: StickyPartition,
    random: RandomNumbers,
    loaded: Option<Instant>,
}

impl Default for Sticky {
    fn default() -> Self {
        let state =
            StickyState { partition: StickyPartition::default(), random: RandomNumbers::from_entropy(), loaded: None };
        Self { current: AtomicI32::new(-1), state: Mutex::new(state) }
    }
}

impl Sticky {
    /// The partition that was chosen last, unless it has been given up.
    #[inline]
    pub(super) fn current(&self) -> Option<i32> {
        let current = self.current.load(Ordering::Relaxed);
        (current >= 0).then_some(current)
    }

    /// Chooses a partition, or returns the one that another thread has chosen meanwhile.
    #[cold]
    pub(super) fn choose(
        &self,
        metadata: &TopicMetadata,
        partitions: &[Arc<Partition>],
        adaptive: Option<&Adaptive<'_>>,
    ) -> Option<i32> {
        // The loads are gathered before the lock is taken, because they need the partitions' locks, which come first.
        let load = adaptive.and_then(|adaptive| self.load_if_due(metadata, partitions, adaptive));
        let mut state = self.state.lock();
        let StickyState { partition, random, loaded } = &mut *state;
        if let Some((now, load)) = load {
            partition.set_load(load);
            *loaded = Some(now);
        }
        let chosen = partition.current(&metadata.all, &metadata.available, random)?;
        self.current.store(chosen, Ordering::Relaxed);
        Some(chosen)
    }

    /// Has another partition chosen for the next record. False if another thread has done so before.
    pub(crate) fn switch_partition(&self, partition: i32) -> bool {
        let mut state = self.state.lock();
        let given_up = state.partition.switch_partition(partition);
        if given_up {
            // Stored under the lock, so that it cannot overwrite what another thread has chosen meanwhile.
            self.current.store(-1, Ordering::Relaxed);
        }
        given_up
    }

    fn load_if_due(
        &self,
        metadata: &TopicMetadata,
        partitions: &[Arc<Partition>],
        adaptive: &Adaptive<'_>,
    ) -> Option<(Instant, Option<PartitionLoad>)> {
        let now = Instant::now();
        let due = self.state.lock().loaded.is_none_or(|loaded| now.saturating_duration_since(loaded) >= LOAD_PERIOD);
        if !due || partitions.len() < 2 {
            return None;
        }
        let mut queues = Vec::with_capacity(partitions.len());
        for (known, partition) in metadata.partitions.iter().zip(partitions) {
            let Some(leader) = known.leader else { continue };
            if !(adaptive.is_stalled)(leader, now) {
                queues.push((known.index, partition.queued(adaptive.share / UNITS)));
            }
        }
        Some((now, PartitionLoad::new(&queues, partitions.len())))
    }
}

/// What the choice by load depends on.
pub(crate) struct Adaptive<'a> {
    /// Whether the broker has not taken its waiting batches for a long time (KIP-794).
    pub(crate) is_stalled: &'a dyn Fn(BrokerId, Instant) -> bool,
    /// What [`sticky_share`] says.
    pub(crate) share: usize,
}

/// Whether a record is bound to its partition.
pub(crate) trait Binding {
    /// How many bytes the partition gets before another one is to be chosen; `None`: the record must go to this one.
    fn share(&self) -> Option<usize>;
    /// Has another partition chosen. False if another thread has done so before.
    fn switch_partition(&self) -> bool;
}

/// The record or the partitioner names the partition.
pub(crate) struct FixedPartition;

impl Binding for FixedPartition {
    fn share(&self) -> Option<usize> {
        None
    }

    fn switch_partition(&self) -> bool {
        false
    }
}

/// The record may go anywhere, and the partition is the sticky one.
pub(crate) struct StickyShare<'a> {
    pub(crate) sticky: &'a Sticky,
    /// Its index.
    pub(crate) partition: i32,
    pub(crate) share: usize,
}

impl Binding for StickyShare<'_> {
    fn share(&self) -> Option<usize> {
        Some(self.share)
    }

    fn switch_partition(&self) -> bool {
        self.sticky.switch_partition(self.partition)
    }
}
