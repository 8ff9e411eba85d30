//! The handle that `send` returns.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::error::{Error, ErrorKind, Recovery, Result, Written};
use crate::logging;
use crate::producer::buffer::callbacks::Callbacks;
use crate::producer::buffer::completion::{BatchCompletion, FAR};
use crate::producer::record_metadata::RecordMetadata;
use crate::time;

/// The handle of a record that was sent. Every failure comes out of it, also one that is known at once, such as that
/// the record is too large.
///
/// Dropping it discards the answer, not the record; the compiler warns of that, and [`detach`](Self::detach) says that
/// it is intended. A program that wants all failures in one place uses
/// [`ProducerBuilder::on_failure`](crate::ProducerBuilder::on_failure).
///
/// ```compile_fail
/// #![deny(unused_must_use)]
/// # use kafka_blocking::{Producer, Record};
/// # fn forget(producer: &Producer) {
/// producer.send(Record::to("clicks").value("click 1")); // nobody would see that it failed
/// # }
/// ```
///
/// ```
/// #![deny(unused_must_use)]
/// # use kafka_blocking::{Producer, Record, Transaction};
/// # fn forget(producer: &Producer, transaction: &Transaction) {
/// producer.send(Record::to("clicks").value("click 1")).detach();
/// transaction.send(Record::to("clicks").value("click 1")); // its commit tells
/// # }
/// ```
#[must_use = "only the handle tells whether the record was delivered: wait for it, or say with `detach` that nobody will look"]
// Two machine words, so that it is passed in registers.
pub struct Delivery {
    completion: Arc<BatchCompletion>,
    mark: Mark,
}

/// A record's index in its batch, and its timestamp in milliseconds after the completion's first; or [`FAR`].
#[derive(Clone, Copy)]
struct Mark(u64);

impl Mark {
    fn new(index: u32, delta: i32) -> Self {
        Self(u64::from(index) << 32 | u64::from(delta.cast_unsigned()))
    }

    fn index(self) -> u32 {
        let [.., a, b, c, d] = self.0.to_le_bytes();
        u32::from_le_bytes([a, b, c, d])
    }

    fn delta(self) -> i32 {
        let [a, b, c, d, ..] = self.0.to_le_bytes();
        i32::from_le_bytes([a, b, c, d])
    }
}

impl Delivery {
    #[inline]
    pub(crate) fn accepted(completion: Arc<BatchCompletion>, index: u32, timestamp: i64) -> Self {
        let delta = timestamp.checked_sub(completion.first_timestamp).and_then(|delta| i32::try_from(delta).ok());
        let delta = delta.filter(|delta| *delta != FAR).unwrap_or_else(|| completion.keep_far(index, timestamp));
        Self { completion, mark: Mark::new(index, delta) }
    }

    pub(crate) fn refused(error: Error, callbacks: Callbacks) -> Self {
        Self { completion: BatchCompletion::refused(error, callbacks), mark: Mark::new(0, 0) }
    }

    fn timestamp(&self) -> i64 {
        match self.mark.delta() {
            FAR => self.completion.far(self.mark.index()),
            delta => self.completion.first_timestamp.saturating_add(i64::from(delta)),
        }
    }

    /// Waits for the record's result.
    ///
    /// *Blocks* until the record is acknowledged or has failed, at most for the producer's `delivery_timeout`. It ends
    /// the linger of the record's batch, so that the thread does not wait for a timer.
    ///
    /// *Thread*: while no other thread needs the broker's connection, the calling thread itself writes the request and
    /// reads the answer.
    ///
    /// *Errors*: every reason for which a record is not acknowledged; [`Error::written`] says whether it may be in the
    /// log all the same. `Misuse` if the program's logger calls this while the producer is logging, and would have to
    /// wait.
    pub fn wait(self) -> Result<RecordMetadata> {
        if logging::is_inside() && !self.is_done() {
            return Err(no_wait_in_a_logger());
        }
        loop {
            if let Some(result) = self.completion.wait(self.mark.index(), self.timestamp(), None) {
                return result;
            }
        }
    }

    /// Waits for the record's result; `None` means that it is still on its way. Like [`wait`](Self::wait) it ends the
    /// linger.
    ///
    /// *Blocks* until there is a result, at most for `timeout`, or a moment longer if the connection takes no bytes.
    /// *Errors*: those of `wait`.
    pub fn wait_timeout(&self, timeout: Duration) -> Option<Result<RecordMetadata>> {
        if logging::is_inside() {
            return self.try_wait();
        }
        self.completion.wait(self.mark.index(), self.timestamp(), Some(time::deadline(Instant::now(), timeout)))
    }

    /// The record's result, if there is one yet. Never blocks.
    pub fn try_wait(&self) -> Option<Result<RecordMetadata>> {
        self.completion.result(self.mark.index(), self.timestamp())
    }

    /// Whether the record has a result. Never blocks.
    pub fn is_done(&self) -> bool {
        self.completion.is_done(self.mark.index())
    }

    /// Drops the handle: the record is delivered or fails, and nobody waits for it. A failure is still reported by
    /// [`ProducerBuilder::on_failure`](crate::ProducerBuilder::on_failure), in the log, and in the metrics.
    pub fn detach(self) {}

    /// Has `callback` run with the record's result, on the thread `kafka-callbacks`.
    ///
    /// Callbacks given to [`Producer::send_with`](crate::Producer::send_with) run in the order of their records; one
    /// that is added here runs as soon as the record has a result, at once if it has one.
    ///
    /// *Thread*: `kafka-callbacks`; after [`Producer::close`](crate::Producer::close) the calling one.
    pub fn on_complete(self, callback: impl FnOnce(Result<RecordMetadata>) + Send + 'static) {
        self.completion.call_back(self.mark.index(), self.timestamp(), Box::new(callback));
    }
}

/// The error when the program's logger waits for a record while the producer is logging, perhaps on the thread that
/// would send it.
#[cold]
pub(crate) fn no_wait_in_a_logger() -> Error {
    let text = "a logger cannot wait for a record while the producer logs: it may be on the thread that sends it";
    Error::new(ErrorKind::Misuse, Recovery::Fix, text).with_written(Written::Maybe)
}

impl fmt::Debug for Delivery {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Delivery").field("result", &self.try_wait()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::producer::buffer::partition::{Partition, PartitionId};
    use crate::topic::TopicPartition;

    #[test]
    fn a_timestamp_is_told_as_it_was_given_however_far_it_is_from_the_first() {
        let partition = Partition::new(PartitionId(0), TopicPartition { topic: "t".into(), index: 0 });
        for first in [0, 1000, i64::MAX] {
            let completion = BatchCompletion::new(Arc::clone(&partition), Callbacks::start().unwrap().0, first);
            let near = [first, first - 1, first.saturating_add(1), first - i64::from(i32::MAX)];
            let far = [first - (1 << 31), first.saturating_add(1 << 31), first.saturating_sub(1 << 40), 0, i64::MAX];
            let times: Vec<i64> = near.into_iter().chain(far).collect();
            let sent: Vec<Delivery> = times
                .iter()
                .zip(0..)
                .map(|(time, index)| Delivery::accepted(Arc::clone(&completion), index, *time))
                .collect();
            assert_eq!(sent.iter().map(Delivery::timestamp).collect::<Vec<_>>(), times);
            assert_eq!(sent.iter().map(|sent| sent.mark.index()).collect::<Vec<_>>(), (0..9).collect::<Vec<_>>());
        }
        assert_eq!(size_of::<Delivery>(), 16);
    }
}
