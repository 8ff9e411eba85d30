//! A sealed batch: it belongs to exactly one thread until it is finished.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use super::budget::{Budget, Charge};
use super::completion::{BatchCompletion, Outcome};
use super::stamp::Stamp;
use super::unfinished::UnfinishedBatch;
use crate::error::{Error, ErrorKind, Recovery, Result, Timeout, Written};
use crate::logging::warn;
use crate::producer::record_metadata::Callback;
use crate::record::batch::{BatchWriter, SealedBytes, parts_size};
use crate::record::compression::{Compressor, Decompressor};
use crate::topic::{ProducerIdAndEpoch, TopicPartition};

/// A callback with the index and timestamp of its record.
pub(crate) type Registered = (u32, i64, Callback);

/// Records of one partition that are sent, retried and finished together. It lives in a box, because it is moved many
/// times.
///
/// It owns its bytes: the thread that writes them to a socket owns the batch, so the bytes cannot change during the
/// write. A batch that is dropped before it is finished fails, so that nobody waits for ever.
pub(crate) struct Batch {
    completion: Arc<BatchCompletion>,
    body: Body,
    count: u32,
    /// When its first record was accepted.
    created: Instant,
    /// The delivery deadline of its first record.
    deadline: Instant,
    callbacks: Vec<Registered>,
    /// The batch's number in the order of the partition's callbacks, if it has callbacks.
    callback_number: Option<u64>,
    /// The memory of the batch. It is kept until the bytes are dropped, even if the batch is finished earlier.
    charge: Charge,
    /// `None` once the batch is finished.
    unfinished: Option<UnfinishedBatch>,
    /// How often it was sent.
    pub(crate) attempts: u32,
    /// The batch is not sent again before this time, unless another broker has become the leader.
    pub(crate) not_before: Option<Instant>,
    /// The leader epoch at the last attempt (KIP-951).
    pub(crate) leader_epoch: i32,
    pub(crate) stamp: Option<Stamp>,
    /// The stamp that the sealed bytes contain; `None`: nothing was written there yet.
    stamped: Option<Option<Stamp>>,
    /// Its number among the batches of its partition, given when it first leaves the queue; 0 before.
    pub(crate) serial: u64,
    /// The index of its first record in the batch that was given the serial. Not 0 in a part of a batch that was split.
    first: u32,
    /// The size limit with which it was split from a larger batch; `usize::MAX`: it was not split.
    target: usize,
    /// An earlier attempt may have been written.
    pub(crate) maybe_written: bool,
    /// The last purge that spared the batch because it was in flight.
    spared: Option<u64>,
    pub(crate) last_error: Option<Error>,
}

enum Body {
    Open(BatchWriter),
    Sealed(SealedBytes),
    Gone,
}

/// The parts of an open batch, from which a sealed batch is made.
pub(crate) struct BatchParts {
    pub(crate) completion: Arc<BatchCompletion>,
    pub(crate) writer: BatchWriter,
    pub(crate) created: Instant,
    pub(crate) deadline: Instant,
    pub(crate) callbacks: Vec<Registered>,
    pub(crate) callback_number: Option<u64>,
    pub(crate) charge: Charge,
    pub(crate) unfinished: UnfinishedBatch,
}

impl Batch {
    pub(crate) fn new(parts: BatchParts) -> Box<Self> {
        Box::new(Self {
            completion: parts.completion,
            count: parts.writer.count(),
            body: Body::Open(parts.writer),
            created: parts.created,
            deadline: parts.deadline,
            callbacks: parts.callbacks,
            callback_number: parts.callback_number,
            charge: parts.charge,
            unfinished: Some(parts.unfinished),
            attempts: 0,
            not_before: None,
            leader_epoch: -1,
            stamp: None,
            stamped: None,
            serial: 0,
            first: 0,
            target: usize::MAX,
            maybe_written: false,
            spared: None,
            last_error: None,
        })
    }

    /// How many records it has.
    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// The order of the batches of a partition that have left the queue at least once.
    pub(crate) fn queue_order(&self) -> (u64, u32) {
        (self.serial, self.first)
    }

    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Whether its records have their result already, for example because the batch expired while it was in flight.
    pub(crate) fn is_finished(&self) -> bool {
        self.unfinished.is_none()
    }

    /// Whether a purge is to fail it, and it is not finished yet.
    pub(crate) fn is_purged(&self) -> bool {
        self.unfinished.as_ref().and_then(UnfinishedBatch::purge).is_some_and(|purge| Some(purge) > self.spared)
    }

    /// Whether it was opened before this very purge, and is not finished yet. The sender may come to the purge when there are
    /// later ones already, which are told by themselves.
    pub(crate) fn came_before(&self, purge: u64) -> bool {
        self.unfinished.as_ref().is_some_and(|unfinished| unfinished.came_before(purge))
    }

    /// Whether it is this very purge that has yet to give it up.
    #[cfg(test)]
    pub(crate) fn is_purged_by(&self, purge: u64) -> bool {
        Some(purge) > self.spared && self.came_before(purge)
    }

    /// This purge does not fail the batch.
    pub(crate) fn spare(&mut self, purge: u64) {
        self.spared = self.spared.max(Some(purge));
    }

    /// A purge is meant for it that began before one that was not: threads that purge at the same time may tell the sender
    /// in another order than they began in.
    pub(crate) fn spare_no_more(&mut self) {
        self.spared = None;
    }

    /// Compresses the records and writes the batch's header. Does nothing when that is done. *Thread*: sender.
    pub(crate) fn seal(&mut self, compressor: &mut Compressor) -> Result<()> {
        match std::mem::replace(&mut self.body, Body::Gone) {
            Body::Open(writer) => self.body = Body::Sealed(writer.seal(compressor)?),
            sealed => self.body = sealed,
        }
        Ok(())
    }

    /// Writes producer id, epoch and sequence into the sealed bytes, and then the CRC, unless the bytes contain them
    /// already.
    pub(crate) fn write_stamp(&mut self, transactional: bool) {
        if self.stamped == Some(self.stamp) {
            return;
        }
        self.stamped = Some(self.stamp);
        let (identity, base) = self.stamp.map_or((ProducerIdAndEpoch::NONE, -1), |stamp| (stamp.identity, stamp.base));
        if let Body::Sealed(bytes) = &mut self.body {
            bytes.stamp(identity, base, transactional);
        }
    }

    /// The bytes for the wire; empty before they are sealed.
    pub(crate) fn bytes(&self) -> &[u8] {
        match &self.body {
            Body::Sealed(bytes) => bytes.as_slice(),
            Body::Open(_) | Body::Gone => &[],
        }
    }

    /// Its size in a request: exact once it is sealed, before compression until then.
    pub(crate) fn len(&self) -> usize {
        match &self.body {
            Body::Open(writer) => writer.len(),
            Body::Sealed(bytes) => bytes.as_slice().len(),
            Body::Gone => 0,
        }
    }

    /// Whether it is larger than `limit` and can be split into parts that are not. A batch that was sent before keeps
    /// its bytes, because the broker may recognise them.
    pub(crate) fn is_over(&self, limit: usize) -> bool {
        self.uncompressed_len() > limit
            && limit < self.target
            && self.count > 1
            && self.attempts == 0
            && self.stamp.is_none()
    }

    /// Its size before compression.
    pub(crate) fn uncompressed_len(&self) -> usize {
        match &self.body {
            Body::Open(writer) => writer.len(),
            Body::Sealed(bytes) => bytes.uncompressed_len(),
            Body::Gone => 0,
        }
    }

    /// The latest timestamp of its records; -1 before it is sealed.
    pub(crate) fn max_timestamp(&self) -> i64 {
        match &self.body {
            Body::Sealed(bytes) => bytes.max_timestamp(),
            Body::Open(_) | Body::Gone => -1,
        }
    }

    /// Finishes the batch: its records get their result. Its bytes and their memory stay until it is dropped or
    /// [released](Self::release).
    pub(crate) fn finish(&mut self, mut outcome: Outcome) {
        // `unfinished` is dropped last: when a flush wakes up, the records have their results, and their callbacks are
        // queued.
        if let Some(unfinished) = self.unfinished.take() {
            if let (Outcome::Failed { error, .. }, Some(partition)) = (&outcome, self.completion.partition_name()) {
                unfinished.lost(partition, self.count, error);
            }
            if let Outcome::Failed { error, records } = &mut outcome
                && unfinished.failed(error)
            {
                for error in records.iter_mut().map(|(_, error)| error).chain([error]) {
                    *error = as_told(error);
                }
            }
            let position = self.callback_number.map(|callback_number| (callback_number, self.first));
            let failure = match &outcome {
                Outcome::Failed { error, records } => self.completion.callbacks().failure(error, records, self.count),
                Outcome::Acknowledged { .. } | Outcome::Split(_) => None,
            };
            self.completion.complete(outcome, std::mem::take(&mut self.callbacks), position);
            self.completion.callbacks().post(failure.into_iter().collect());
        }
    }

    /// Fails all records with `error`, to which the batch adds what it knows: partition, attempts, sequence number.
    pub(crate) fn fail(&mut self, partition: &TopicPartition, error: Error) {
        self.fail_with_records(partition, error, Vec::new());
    }

    /// Fails all records: those named in `records` with their own error, the others with `error`.
    pub(crate) fn fail_with_records(&mut self, partition: &TopicPartition, error: Error, records: Vec<(u32, Error)>) {
        let error = self.describe(partition, error);
        let records: Vec<_> =
            records.into_iter().map(|(index, error)| (index, self.describe(partition, error))).collect();
        // Records that a close gives up are logged once, by the close; records that are aborted or purged are given up
        // on purpose.
        if !self.is_finished() && !matches!(error.kind(), ErrorKind::Closed | ErrorKind::Aborted | ErrorKind::Purged) {
            match records.first() {
                None => warn!("{} records failed: {error:#}", self.count),
                Some((index, own)) => {
                    let (count, refused) = (self.count, records.len());
                    warn!("{count} records failed, of which the broker refuses {refused}; record {index}: {own:#}");
                }
            }
        }
        self.finish(Outcome::Failed { error, records });
    }

    fn describe(&self, partition: &TopicPartition, error: Error) -> Error {
        let written = match error.written() {
            None | Some(Written::No) if self.maybe_written => Written::Maybe,
            written => written.unwrap_or(Written::No),
        };
        error.at_partition(partition).with_written(written).in_context(|context| {
            context.attempts = Some(self.attempts);
            context.sequence = self.stamp.map(|stamp| stamp.base);
        })
    }

    /// Fails all records because their delivery deadline has passed. `sent`: a request with them is in flight. `why`:
    /// the error of another batch or of the connection that this batch had to wait for, if one is known.
    pub(crate) fn expire(&mut self, partition: &TopicPartition, sent: bool, why: Option<&Error>) {
        let waited = self.deadline.saturating_duration_since(self.created);
        let what = if self.attempts == 0 { "not sent" } else { "not acknowledged" };
        let mut text = format!("{what} within the delivery timeout of {waited:?}");
        if self.count > 1 {
            let all = self.count;
            text += &format!(", which counts from the first of the {all} records of their batch: they fail together");
        }
        let written = if sent || self.maybe_written { Written::Maybe } else { Written::No };
        let error = match (&self.last_error, why) {
            (Some(last), _) => match last.kind() {
                // A broker's error such as NOT_ENOUGH_REPLICAS stays the kind of the error; the text names the
                // deadline.
                ErrorKind::Broker(code) => {
                    Error::new(last.kind(), last.recovery(), format!("{text}; the last answer was {code}"))
                }
                _ => Error::timeout(Timeout::Delivery, text),
            }
            .at_broker_of(last)
            .with_source(last.clone()),
            // `why` is not the batch's own error, so it becomes the cause, and not the kind.
            (None, Some(why)) => Error::timeout(Timeout::Delivery, text).at_broker_of(why).with_source(why.as_cause()),
            (None, None) => Error::timeout(Timeout::Delivery, text),
        };
        self.fail(partition, error.with_written(written));
    }

    /// Fails all records because the producer ends with `error`. Returns the cause: the last error of the batch, or
    /// else `why`.
    pub(crate) fn end(&mut self, partition: &TopicPartition, error: &Error, why: Option<&Error>) -> Option<Error> {
        let cause = self.last_error.as_ref().or(why).map(Error::as_cause);
        let error = match &cause {
            Some(cause) => error.clone().at_broker_of(cause).with_source(cause.clone()),
            None => error.clone(),
        };
        self.fail(partition, error);
        cause
    }

    /// Splits a batch that the broker finds too large into parts of at most `target` bytes before compression, if its
    /// records allow that. The parts keep the order of the records, and take over sequence numbers, deadline and
    /// callbacks. With an error the batch is returned unchanged.
    pub(crate) fn split(
        mut self: Box<Self>,
        partition: &TopicPartition,
        budget: &Arc<Budget>,
        target: usize,
    ) -> Result<VecDeque<Box<Self>>, (Box<Self>, Error)> {
        let parts = match self.divide(budget, target) {
            Ok(parts) => parts,
            Err(error) => return Err((self, error.at_partition(partition))),
        };
        let completions = {
            let mut first = 0_u32;
            let mut list = Vec::with_capacity(parts.len());
            for part in &parts {
                list.push((first, Arc::clone(&part.completion)));
                first = first.saturating_add(part.count);
            }
            list
        };
        if let Some(callback_number) = self.callback_number.take() {
            self.completion.divide((callback_number, self.first), parts.iter().map(|part| part.first));
        }
        self.finish(Outcome::Split(completions));
        Ok(parts)
    }

    fn divide(&mut self, budget: &Arc<Budget>, target: usize) -> Result<VecDeque<Box<Self>>> {
        let Some(unfinished) = &self.unfinished else {
            return Err(Error::bug("a finished batch cannot be split"));
        };
        let Body::Sealed(sealed) = &self.body else {
            return Err(Error::bug("an unsealed batch cannot be split"));
        };
        // These are the producer's own bytes, so their decompressed size needs no bound.
        let mut decompressor = Decompressor::new(usize::MAX);
        let batch = sealed.decode(&mut decompressor)?;
        let space = target.min(sealed.uncompressed_len());
        let new_writer = || BatchWriter::new(Vec::with_capacity(space));
        let mut writers = Vec::new();
        let mut writer = new_writer();
        for record in batch.records() {
            let record = record?;
            let headers = record.headers.to_headers();
            let size = writer.encoded_size(record.timestamp, parts_size(record.key, record.value, &headers));
            if !writer.is_empty() && writer.len() + size > target {
                writers.push(std::mem::replace(&mut writer, new_writer()));
            }
            writer.append(record.timestamp, record.key, record.value, &headers)?;
        }
        if !writer.is_empty() {
            writers.push(writer);
        }
        let mut parts: VecDeque<Box<Self>> = VecDeque::with_capacity(writers.len());
        let (mut stamp, mut first) = (self.stamp, self.first);
        for writer in writers {
            let part = BatchParts {
                completion: self.completion.sibling(),
                writer,
                created: self.created,
                deadline: self.deadline,
                callbacks: Vec::new(),
                callback_number: self.callback_number,
                charge: Charge::none(budget),
                unfinished: unfinished.sibling(),
            };
            let mut part = Self::new(part);
            part.stamp = stamp;
            part.serial = self.serial;
            part.first = first;
            part.target = target;
            first = first.saturating_add(part.count);
            stamp = stamp.map(|stamp| stamp.after(part.count));
            part.last_error = self.last_error.clone();
            // An earlier attempt may have written the whole batch, and the broker would not recognise its parts.
            part.maybe_written = self.maybe_written;
            part.spared = self.spared;
            parts.push_back(part);
        }
        // The memory of the batch is reserved once; the last part keeps it, until all parts are done.
        if let Some(last) = parts.back_mut() {
            std::mem::swap(&mut last.charge, &mut self.charge);
        }
        Ok(parts)
    }

    /// Gives the batch's buffer back to the pool and its memory back to the budget. The bytes are not written any more.
    pub(crate) fn release(&mut self, budget: &Arc<Budget>) {
        match std::mem::replace(&mut self.body, Body::Gone) {
            Body::Sealed(bytes) => budget.recycle(bytes.into_buffer()),
            Body::Open(_) | Body::Gone => {}
        }
        self.charge = Charge::none(budget);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        if let Some(unfinished) = &self.unfinished {
            let written = if self.attempts > 0 { Written::Maybe } else { Written::No };
            let error =
                Error::new(ErrorKind::Closed, Recovery::Fatal, "the producer ended before the record was delivered");
            let error = error.with_written(written);
            let error = match self.completion.partition_name() {
                Some(name) => self.describe(name, error),
                None => error,
            };
            let error = error.because(self.last_error.clone());
            if let Some(name) = self.completion.partition_name() {
                // It is not one of those that a close gives up: whoever had it has panicked.
                unfinished.count_lost(name, self.count, &error);
            }
            self.finish(Outcome::Failed { error, records: Vec::new() });
        }
    }
}

/// The error that the handle of a failed record returns in a transaction: only an abort helps the transaction.
fn as_told(error: &Error) -> Error {
    let error = error.clone();
    match error.kind() {
        // The transaction is aborted already.
        ErrorKind::Aborted => error,
        _ if error.recovery() == Recovery::Fatal => error,
        _ => error.until_aborted(),
    }
}
