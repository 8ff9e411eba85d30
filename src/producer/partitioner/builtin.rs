//! The partitioners that need only a hash, a counter or a random number.

use std::cell::RefCell;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};

use parking_lot::RwLock;

use super::{Choice, PartitionRequest, Partitioner, PartitionerError, hash, hash_ring};
use crate::serialization::{Java, java};
use crate::time;

/// [`java()`] without regard to keys: every record goes to the sticky partition. Property: `partitioner.ignore.keys`.
pub fn java_ignoring_keys() -> JavaIgnoringKeys {
    JavaIgnoringKeys(())
}

/// A random partition for every record, whatever its key: kiel's default. It chooses among those that have a leader, or
/// among all if none has. Its batches are small; [`java_ignoring_keys()`] spreads records as evenly with larger ones.
pub fn random() -> Random {
    Random(())
}

/// The topic's partitions one after the other, whatever the key: those that have a leader, or all where none has.
/// Each topic has a counter of its own. Java: `RoundRobinPartitioner`.
pub fn round_robin() -> RoundRobin {
    RoundRobin { counters: RwLock::default() }
}

/// A numeric key modulo the number of partitions: consecutive numbers are spread evenly over all partitions.
///
/// The key is a whole number of any length in decimal digits, with `-` before a negative one: how a Rust integer's
/// `to_string()` and kiel write it. The remainder is never negative (-1 of three partitions is the last). For the
/// integers of Java's serializers see [`modulo_big_endian()`]; four digits are also four bytes, so that one partitioner
/// cannot distinguish the two.
///
/// Errors: a record without a key, or with one that is not such a number.
pub fn modulo() -> Modulo {
    Modulo { encoding: NumericKey::Decimal }
}

/// [`modulo()`] for keys that are signed big-endian integers of 2, 4 or 8 bytes, as Java's `ShortSerializer`,
/// `IntegerSerializer` and `LongSerializer` write them.
///
/// Errors: a record without a key, or with one of another length.
pub fn modulo_big_endian() -> Modulo {
    Modulo { encoding: NumericKey::BigEndian }
}

/// CRC-32 of the key over all partitions; records without a key or with an empty one all go to the first partition.
/// librdkafka: `consistent`.
pub fn consistent() -> Consistent {
    Consistent(())
}

/// CRC-32 of the key over all partitions; records without a key *or with an empty one* are spread by the sticky
/// partition. librdkafka: `consistent_random`, its default.
pub fn consistent_random() -> ConsistentRandom {
    ConsistentRandom(())
}

/// murmur2 of the key over all partitions; records without a key go where an empty key goes. librdkafka: `murmur2`.
pub fn murmur2() -> Murmur2 {
    Murmur2(())
}

/// murmur2 of the key over all partitions, an empty one included; records without a key are spread by the sticky
/// partition. librdkafka: `murmur2_random`. The same as [`java()`].
pub fn murmur2_random() -> Java {
    java()
}

/// The absolute value of FNV-1a of the key over all partitions; records without a key go where an empty key goes.
/// librdkafka: `fnv1a`; Sarama: `NewHashPartitioner` for records with keys.
pub fn fnv1a() -> Fnv1a {
    Fnv1a(())
}

/// The absolute value of FNV-1a of the key over all partitions, an empty one included; records without a key are
/// spread by the sticky partition. librdkafka: `fnv1a_random`.
pub fn fnv1a_random() -> Fnv1aRandom {
    Fnv1aRandom(())
}

/// Partition `partition` for every record.
pub fn explicit(partition: i32) -> Explicit {
    Explicit { partition }
}

/// The partitioner of this name: librdkafka's names (`consistent_random`, `murmur2` ...), this module's functions
/// without arguments (`java`, `hash_ring` ...), and the class names of Java's partitioners, with or without package.
///
/// Property: `partitioner.class` (Java), `partitioner` (librdkafka).
pub fn by_name(name: &str) -> Option<Box<dyn Partitioner>> {
    const PACKAGES: [&str; 2] = ["org.apache.kafka.clients.producer.internals.", "org.apache.kafka.clients.producer."];
    let short = PACKAGES.iter().find_map(|package| name.strip_prefix(package)).unwrap_or(name);
    Some(match short {
        "java" | "DefaultPartitioner" => Box::new(java()),
        "java_ignoring_keys" | "UniformStickyPartitioner" => Box::new(java_ignoring_keys()),
        "round_robin" | "RoundRobinPartitioner" => Box::new(round_robin()),
        "random" => Box::new(random()),
        "modulo" => Box::new(modulo()),
        "modulo_big_endian" => Box::new(modulo_big_endian()),
        "hash_ring" => Box::new(hash_ring()),
        "consistent" => Box::new(consistent()),
        "consistent_random" => Box::new(consistent_random()),
        "murmur2" => Box::new(murmur2()),
        "murmur2_random" => Box::new(murmur2_random()),
        "fnv1a" => Box::new(fnv1a()),
        "fnv1a_random" => Box::new(fnv1a_random()),
        _ => return None,
    })
}

/// The Java client's partitioner and this crate's default: a record with a key, even an empty one, goes where
/// murmur2 of the key says, over all partitions; one without goes to the [sticky](Choice::Sticky) partition.
impl Partitioner for Java {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        match request.key {
            Some(key) => request.by_hash(hash::murmur2(key) & 0x7fff_ffff),
            None => Ok(Choice::Sticky),
        }
    }

    fn is_sticky_without_key(&self) -> bool {
        true
    }
}

/// See [`java_ignoring_keys()`].
#[derive(Clone, Debug)]
pub struct JavaIgnoringKeys(());

impl Partitioner for JavaIgnoringKeys {
    fn partition(&self, _: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        Ok(Choice::Sticky)
    }

    fn is_sticky_without_key(&self) -> bool {
        true
    }
}

/// See [`random()`].
#[derive(Clone, Debug)]
pub struct Random(());

impl Partitioner for Random {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        // One generator per thread, so that threads that send do not share a cache line.
        thread_local! {
            static RANDOM: RefCell<time::RandomNumbers> = RefCell::new(time::RandomNumbers::from_entropy());
        }
        let candidates = request.candidates();
        let index = RANDOM.with_borrow_mut(|random| random.below(candidates.len()));
        nth(candidates, index)
    }
}

/// See [`round_robin()`].
#[derive(Debug)]
pub struct RoundRobin {
    /// The next number of each topic. Written only for a topic's first record.
    counters: RwLock<HashMap<Box<str>, AtomicUsize>>,
}

impl Partitioner for RoundRobin {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        let candidates = request.candidates();
        let counted = self.counters.read().get(request.topic).map(|counter| counter.fetch_add(1, Ordering::Relaxed));
        let count = match counted {
            Some(count) => count,
            None => self.counters.write().entry(request.topic.into()).or_default().fetch_add(1, Ordering::Relaxed),
        };
        nth(candidates, count.checked_rem(candidates.len()).unwrap_or(0))
    }
}

fn nth(partitions: &[i32], index: usize) -> Result<Choice, PartitionerError> {
    match partitions.get(index) {
        Some(partition) => Ok(Choice::Partition(*partition)),
        None => Err("the topic has no partitions".into()),
    }
}

/// See [`modulo()`] and [`modulo_big_endian()`].
#[derive(Clone, Debug)]
pub struct Modulo {
    encoding: NumericKey,
}

#[derive(Clone, Copy, Debug)]
enum NumericKey {
    Decimal,
    BigEndian,
}

impl Partitioner for Modulo {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        let key = request.key.ok_or("the modulo partitioner needs a numeric key, and the record has none")?;
        let count = u64::try_from(request.partitions.len())?;
        if count == 0 {
            return Err("the topic has no partitions".into());
        }
        let remainder = match self.encoding {
            NumericKey::Decimal => decimal_modulo(key, count),
            NumericKey::BigEndian => big_endian_modulo(key, count),
        };
        match remainder {
            Some(remainder) => nth(request.partitions, usize::try_from(remainder)?),
            None => Err(match self.encoding {
                NumericKey::Decimal => {
                    "the modulo partitioner needs a whole number in decimal digits as the key".into()
                }
                NumericKey::BigEndian => {
                    format!("the modulo partitioner needs a key of 2, 4 or 8 bytes, this one has {}", key.len()).into()
                }
            }),
        }
    }
}

/// A decimal number of any length modulo `count`, which is not 0; `None` where `key` is not a number.
fn decimal_modulo(key: &[u8], count: u64) -> Option<u64> {
    let (negative, digits) = match key.strip_prefix(b"-") {
        Some(digits) => (true, digits),
        None => (false, key),
    };
    if digits.is_empty() {
        return None;
    }
    let wide = u128::from(count);
    let mut remainder = 0u128;
    for digit in digits {
        let digit = digit.checked_sub(b'0').filter(|digit| *digit < 10)?;
        remainder = (remainder * 10 + u128::from(digit)).checked_rem(wide)?;
    }
    if negative && remainder != 0 {
        remainder = wide - remainder;
    }
    u64::try_from(remainder).ok()
}

/// A signed big-endian integer modulo `count`, which is not 0; `None` where `key` has no integer's length.
fn big_endian_modulo(key: &[u8], count: u64) -> Option<u64> {
    let number = match key.len() {
        2 => i64::from(i16::from_be_bytes(key.try_into().ok()?)),
        4 => i64::from(i32::from_be_bytes(key.try_into().ok()?)),
        8 => i64::from_be_bytes(key.try_into().ok()?),
        _ => return None,
    };
    u64::try_from(i128::from(number).checked_rem_euclid(i128::from(count))?).ok()
}

/// See [`consistent()`].
#[derive(Clone, Debug)]
pub struct Consistent(());

impl Partitioner for Consistent {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        request.by_hash(hash::crc32(request.key.unwrap_or_default()))
    }
}

/// See [`consistent_random()`].
#[derive(Clone, Debug)]
pub struct ConsistentRandom(());

impl Partitioner for ConsistentRandom {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        match request.key {
            Some(key) if !key.is_empty() => request.by_hash(hash::crc32(key)),
            _ => Ok(Choice::Sticky),
        }
    }

    fn is_sticky_without_key(&self) -> bool {
        true
    }
}

/// See [`murmur2()`].
#[derive(Clone, Debug)]
pub struct Murmur2(());

impl Partitioner for Murmur2 {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        request.by_hash(hash::murmur2(request.key.unwrap_or_default()) & 0x7fff_ffff)
    }
}

/// See [`fnv1a()`].
#[derive(Clone, Debug)]
pub struct Fnv1a(());

impl Partitioner for Fnv1a {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        request.by_hash(hash::fnv1a(request.key.unwrap_or_default()).cast_signed().unsigned_abs())
    }
}

/// See [`fnv1a_random()`].
#[derive(Clone, Debug)]
pub struct Fnv1aRandom(());

impl Partitioner for Fnv1aRandom {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        match request.key {
            Some(key) => request.by_hash(hash::fnv1a(key).cast_signed().unsigned_abs()),
            None => Ok(Choice::Sticky),
        }
    }

    fn is_sticky_without_key(&self) -> bool {
        true
    }
}

/// See [`explicit`].
#[derive(Clone, Debug)]
pub struct Explicit {
    partition: i32,
}

impl Partitioner for Explicit {
    fn partition(&self, _: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        Ok(Choice::Partition(self.partition))
    }
}
