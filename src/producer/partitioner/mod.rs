//! Which partition a record goes to.
//!
//! A record that names its partition goes there. For any other the producer asks its [`Partitioner`], which is
//! either one of those below, a function of key and partitions ([`partitioner_fn`]), or a type of the user's:
//!
//! ```
//! use kafka_blocking::partitioner::{Choice, PartitionRequest, Partitioner, partitioner_fn};
//!
//! // The short form: a function from the key and the topic's partitions to one of them.
//! let last = partitioner_fn(|_key, partitions| partitions.last().copied().ok_or("no partitions"));
//! let request = PartitionRequest::new("events", Some(b"k"), None, &[0, 1, 2], &[0, 1, 2]);
//! assert_eq!(last.partition(&request).unwrap(), Choice::Partition(2));
//! ```
//!
//! | here | in other clients | a key | an empty key | no key |
//! |---|---|---|---|---|
//! | [`java()`], the default | Java's built-in partitioner | murmur2 | murmur2 | sticky |
//! | [`java_ignoring_keys()`] | Java: `partitioner.ignore.keys=true` | sticky | sticky | sticky |
//! | [`round_robin()`] | Java: `RoundRobinPartitioner` | next in turn | next in turn | next in turn |
//! | [`random()`] | kiel's default, librdkafka: `random` | random | random | random |
//! | [`modulo()`], [`modulo_big_endian()`] | kiel's modulo example | the number modulo | error | error |
//! | [`hash_ring()`] | kiel's `HashRing` example | consistent hash | consistent hash | sticky |
//! | [`consistent()`] | librdkafka: `consistent` | CRC-32 | first partition | first partition |
//! | [`consistent_random()`] | librdkafka: `consistent_random`, its default | CRC-32 | sticky | sticky |
//! | [`murmur2()`] | librdkafka: `murmur2` | murmur2 | murmur2 | as an empty key |
//! | [`murmur2_random()`] | librdkafka: `murmur2_random` | murmur2 | murmur2 | sticky |
//! | [`fnv1a()`] | librdkafka: `fnv1a`, Sarama's default | FNV-1a | FNV-1a | as an empty key |
//! | [`fnv1a_random()`] | librdkafka: `fnv1a_random` | FNV-1a | FNV-1a | sticky |
//! | [`explicit(n)`](explicit) | | partition n | partition n | partition n |
//! | [`partitioner_fn(f)`](partitioner_fn) | | what `f` says | what `f` says | what `f` says |
//!
//! *Sticky* leaves the choice to the producer, which fills a batch of one partition before it chooses another, and
//! prefers brokers with short queues ([`Choice::Sticky`], KIP-794). librdkafka's `*_random` partitioners are sticky for
//! records without a key too, unless `sticky.partitioning.linger.ms` is 0.
//!
//! A hash of the key is taken over *all* partitions, whether or not they have a leader now, so that a key keeps its
//! partition. It does so only as long as the number of partitions stays the same; when that changes, [`hash_ring()`]
//! moves few keys.

mod builtin;
pub mod hash;
mod ring;
pub(crate) mod sticky;

use std::fmt;
use std::sync::Arc;

pub use self::builtin::{
    Consistent, ConsistentRandom, Explicit, Fnv1a, Fnv1aRandom, JavaIgnoringKeys, Modulo, Murmur2, Random, RoundRobin,
    by_name, consistent, consistent_random, explicit, fnv1a, fnv1a_random, java_ignoring_keys, modulo,
    modulo_big_endian, murmur2, murmur2_random, random, round_robin,
};
pub use self::ring::{HashRing, hash_ring};
#[doc(no_inline)]
pub use crate::serialization::{Java, java};

/// The error of a partitioner. The record is not sent, and its error has this one as its source.
pub type PartitionerError = Box<dyn std::error::Error + Send + Sync>;

/// Chooses the partition of each record that does not name one.
///
/// Thread: the one that calls `send`, so several at once; it must not block. A panic fails that one record.
///
/// A function becomes one by [`partitioner_fn`]. A reference to a partitioner, a `Box` and an `Arc` of one are
/// partitioners, too, so that a program can share a partitioner with its producer.
pub trait Partitioner: Send + Sync {
    /// Chooses for one record.
    ///
    /// Errors: any, and the send fails with [`ErrorKind::InvalidInput`](crate::ErrorKind::InvalidInput) and this
    /// one as its source. A partition that the topic does not have fails it with
    /// [`ErrorKind::NoSuchPartition`](crate::ErrorKind::NoSuchPartition).
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError>;

    /// Whether the answer for every record without a key is [`Choice::Sticky`], so that the producer need not ask. It
    /// is called once, when the producer is built. Default: no.
    fn is_sticky_without_key(&self) -> bool {
        false
    }
}

/// What a partitioner gets: the record and the partitions of its topic.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct PartitionRequest<'a> {
    /// The topic's name.
    pub topic: &'a str,
    /// The record's key; an empty key is not the same as no key.
    pub key: Option<&'a [u8]>,
    /// The record's value.
    pub value: Option<&'a [u8]>,
    /// The ids of all the topic's partitions, ascending; never empty when the producer asks.
    pub partitions: &'a [i32],
    /// The ids of those that have a leader at present, ascending; may be empty.
    pub available: &'a [i32],
}

impl<'a> PartitionRequest<'a> {
    /// A request as the producer makes it; `partitions` and `available` are ascending.
    pub fn new(
        topic: &'a str,
        key: Option<&'a [u8]>,
        value: Option<&'a [u8]>,
        partitions: &'a [i32],
        available: &'a [i32],
    ) -> Self {
        Self { topic, key, value, partitions, available }
    }

    /// The partition of a hash: `hash` modulo the number of all partitions, as an index into them. The hash is used
    /// unchanged: for Java's partition of a key pass `murmur2(key) & 0x7fff_ffff`.
    ///
    /// Errors: the topic has no partitions.
    pub fn by_hash(&self, hash: u32) -> Result<Choice, PartitionerError> {
        let hash = usize::try_from(hash).unwrap_or(usize::MAX);
        let index = hash.checked_rem(self.partitions.len());
        match index.and_then(|index| self.partitions.get(index)) {
            Some(partition) => Ok(Choice::Partition(*partition)),
            None => Err("the topic has no partitions".into()),
        }
    }

    /// The partitions with a leader, or all if none has one.
    pub fn candidates(&self) -> &'a [i32] {
        if self.available.is_empty() { self.partitions } else { self.available }
    }
}

/// A partitioner's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Choice {
    /// This partition.
    Partition(i32),
    /// Any partition: the producer keeps one partition until a batch is full, then chooses another at random, more
    /// often one with a short queue (KIP-794).
    Sticky,
}

/// What a function for [`partitioner_fn`] or
/// [`TypedProducer::partitioner_by_key`](crate::TypedProducer::partitioner_by_key) may return: a partition's id, a
/// [`Choice`], which may leave the record to the producer, or a `Result` with one of both.
pub trait IntoChoice {
    /// The choice.
    fn into_choice(self) -> Result<Choice, PartitionerError>;
}

impl IntoChoice for i32 {
    fn into_choice(self) -> Result<Choice, PartitionerError> {
        Ok(Choice::Partition(self))
    }
}

impl IntoChoice for Choice {
    fn into_choice(self) -> Result<Choice, PartitionerError> {
        Ok(self)
    }
}

impl<C: IntoChoice, E: Into<PartitionerError>> IntoChoice for Result<C, E> {
    fn into_choice(self) -> Result<Choice, PartitionerError> {
        self.map_err(Into::into)?.into_choice()
    }
}

/// Makes a partitioner of a function. It gets the key and the ids of the topic's partitions, ascending, and returns one
/// of those ids, or another type with [`IntoChoice`]. The function may fail, and it may leave the record to the
/// producer with [`Choice::Sticky`].
///
/// ```
/// use kafka_blocking::Producer;
/// use kafka_blocking::partitioner::{Choice, partitioner_fn};
///
/// let builder = Producer::builder("kafka01:9092").partitioner(partitioner_fn(|key, partitions| match key {
///     // One of several thousand customers sends half of everything.
///     Some(b"VeryCommonKey") => partitions.last().copied().map(Choice::Partition).ok_or("there are no partitions"),
///     Some(_) => Ok(Choice::Sticky),
///     None => Err("every event has a key"),
/// }));
/// ```
pub fn partitioner_fn<F, R>(function: F) -> PartitionerFn<F>
where
    F: Fn(Option<&[u8]>, &[i32]) -> R + Send + Sync,
    R: IntoChoice,
{
    PartitionerFn(function)
}

/// See [`partitioner_fn`].
#[derive(Clone, Copy)]
pub struct PartitionerFn<F>(F);

impl<F, R> Partitioner for PartitionerFn<F>
where
    F: Fn(Option<&[u8]>, &[i32]) -> R + Send + Sync,
    R: IntoChoice,
{
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        (self.0)(request.key, request.partitions).into_choice()
    }
}

impl<F> fmt::Debug for PartitionerFn<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PartitionerFn")
    }
}

/// Each of these is a partitioner as what it points to.
macro_rules! by_pointer {
    ($($pointer:ty),*) => {
        $(impl<P: Partitioner + ?Sized> Partitioner for $pointer {
            fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
                (**self).partition(request)
            }

            fn is_sticky_without_key(&self) -> bool {
                (**self).is_sticky_without_key()
            }
        })*
    };
}

by_pointer!(&P, Box<P>, Arc<P>);

/// The type of a partitioner would tell the reader little, so only the trait is named.
impl fmt::Debug for dyn Partitioner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Partitioner")
    }
}

#[cfg(test)]
mod tests;
