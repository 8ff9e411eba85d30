//! Consistent hashing: when partitions are added, few keys move.

use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

use parking_lot::RwLock;

use super::{Choice, PartitionRequest, Partitioner, PartitionerError, hash};

/// Consistent hashing over the ids of all partitions. The same key goes to the same partition as long as the topic
/// has the same partitions; when one is added to n, about one key in n + 1 moves, and only to the new partition.
/// A record without a key goes to the [sticky](Choice::Sticky) partition.
///
/// Each partition has 160 points on a ring of 2^32, at murmur2 of its id and the point's number (two big-endian
/// 32-bit integers); a key, at murmur2 of its bytes, belongs to the next point at or after it. (Python's `hash_ring`
/// works the same way with MD5, so keys lie elsewhere there.) The busiest partition gets about a fifth more than
/// the mean; where that matters more than keys that stay, use [`java()`](super::java).
pub fn hash_ring() -> HashRing {
    HashRing { rings: RwLock::default() }
}

/// See [`hash_ring()`].
pub struct HashRing {
    /// The rings in use, by partitions; topics with the same partitions share one.
    rings: RwLock<HashMap<usize, Arc<Ring>>>,
}

const POINTS_PER_PARTITION: u32 = 160;

/// How many rings are kept: as many as a producer is likely to need at once. Beyond that all are dropped, so that
/// topics which grow again and again do not use more and more memory.
const MAX_RINGS: usize = 64;

struct Ring {
    partitions: Box<[i32]>,
    /// (point, partition), ascending.
    points: Box<[(u32, i32)]>,
}

impl Ring {
    fn new(partitions: &[i32]) -> Self {
        let mut points = Vec::new();
        for partition in partitions {
            for number in 0..POINTS_PER_PARTITION {
                let mut bytes = [0; 8];
                for (to, from) in bytes.iter_mut().zip(partition.to_be_bytes().into_iter().chain(number.to_be_bytes()))
                {
                    *to = from;
                }
                points.push((hash::murmur2(&bytes), *partition));
            }
        }
        points.sort_unstable();
        Self { partitions: partitions.into(), points: points.into() }
    }

    fn partition(&self, key: &[u8]) -> Option<i32> {
        let hash = hash::murmur2(key);
        let index = self.points.partition_point(|(point, _)| *point < hash);
        self.points.get(index).or_else(|| self.points.first()).map(|(_, partition)| *partition)
    }
}

impl HashRing {
    fn ring(&self, partitions: &[i32]) -> Arc<Ring> {
        if let Some(ring) = self.rings.read().get(&partitions.len())
            && *ring.partitions == *partitions
        {
            return Arc::clone(ring);
        }
        let ring = Arc::new(Ring::new(partitions));
        let mut rings = self.rings.write();
        if rings.len() >= MAX_RINGS {
            rings.clear();
        }
        rings.insert(partitions.len(), Arc::clone(&ring));
        ring
    }
}

impl Partitioner for HashRing {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        let Some(key) = request.key else { return Ok(Choice::Sticky) };
        match self.ring(request.partitions).partition(key) {
            Some(partition) => Ok(Choice::Partition(partition)),
            None => Err("the topic has no partitions".into()),
        }
    }
}

impl fmt::Debug for HashRing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HashRing").field("rings", &self.rings.read().len()).finish()
    }
}
