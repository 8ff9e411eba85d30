//! One partition's share of an answer: batches in a row, of which the headers are read and nothing else. Pure.

use std::sync::Arc;

use super::budget::Lease;
use crate::bytes::SharedBytes;
use crate::error::{Error, Result};
use crate::record::aborted::AbortedTransactions;
use crate::record::compression::Decompressor;
use crate::record::reader::{Batches, ControlRecord, RawBatch};

/// What came of a partition in one answer, from `from` on, as far as it was not handed out.
pub(crate) struct Share {
    /// The reading epoch that it was asked for in.
    pub(crate) epoch: u64,
    /// Complete batches.
    bytes: SharedBytes,
    /// Where in them the next batch begins.
    at: usize,
    /// Records before this offset do not count.
    from: i64,
    /// `None`: records of all transactions are seen.
    aborted: Option<AbortedTransactions>,
    /// The memory of the whole answer.
    frame: Arc<Lease>,
}

/// Batches that are handed out as one: either not compressed, or one alone, so that what is decompressed at a time is
/// bounded.
pub(crate) struct Run {
    pub(crate) bytes: SharedBytes,
    /// Records before this offset do not count.
    pub(crate) first: i64,
    /// The offset from which to read on.
    pub(crate) next: i64,
    pub(crate) is_compressed: bool,
    /// Gives the memory back with the last batch of the answer.
    pub(crate) _frame: Arc<Lease>,
}

/// Bytes that are no batch, or a wrong one.
#[derive(Debug)]
pub(crate) struct Damage {
    pub(crate) error: Error,
    pub(crate) offset: i64,
    /// The offset behind it, where it is known.
    pub(crate) next: Option<i64>,
}

/// What a look at a share's headers tells.
#[derive(Debug)]
pub(crate) struct Measure {
    /// How many bytes are complete batches, one behind the other.
    pub(crate) complete: usize,
    /// The offset from which to fetch on.
    pub(crate) next: i64,
    /// The epoch of the leader that wrote the last batch, or -1 if it is not known.
    pub(crate) last_epoch: i32,
    /// The size of the largest batch, also of one that was cut off by a limit, as its header says.
    pub(crate) largest: usize,
    pub(crate) damage: Option<Damage>,
}

/// Looks at the headers of what came for a fetch from `from` on.
pub(crate) fn measure(bytes: &SharedBytes, from: i64) -> Measure {
    let mut measure = Measure { complete: 0, next: from, last_epoch: -1, largest: 0, damage: None };
    let mut batches = Batches::new(bytes);
    let mut is_first = true;
    for raw in batches.by_ref() {
        let place = raw.and_then(|raw| {
            let (offset, next) = place(&raw)?;
            // The first one may begin before what was asked for. Those of old formats say where they end alone.
            let overlaps = raw.magic() == 2 && offset < measure.next && !is_first;
            if overlaps || next <= measure.next {
                let text =
                    format!("a batch of the offsets {offset} to {} came where {} was due", next - 1, measure.next);
                return Err(Error::misbehaved(text));
            }
            let epoch = raw.header().map_or(-1, |header| header.leader_epoch);
            Ok((next, epoch, raw.bytes().len()))
        });
        match place {
            Ok((next, epoch, len)) => {
                measure.complete += len;
                (measure.next, measure.last_epoch) = (next, epoch);
                measure.largest = measure.largest.max(len);
            }
            Err(error) => {
                measure.damage = Some(Damage { error, offset: measure.next, next: None });
                return measure;
            }
        }
        is_first = false;
    }
    if let Some(header) = batches.rest().first_chunk::<12>() {
        let length = u32::from_be_bytes([header[8], header[9], header[10], header[11]]);
        measure.largest = measure.largest.max(usize::try_from(length).unwrap_or(0).saturating_add(12));
    }
    measure
}

/// The offset of a batch, and the one behind it.
fn place(raw: &RawBatch<'_>) -> Result<(i64, i64)> {
    let place = raw.offset().zip(raw.next_offset()).filter(|(offset, _)| *offset >= 0);
    place.ok_or_else(|| Error::misbehaved(format!("a batch of {} bytes has no offsets", raw.bytes().len())))
}

impl Share {
    /// `bytes` were [measured](measure), `aborted` are the aborted transactions that the answer lists, unless records of all
    /// are seen.
    pub(crate) fn new(
        epoch: u64,
        bytes: SharedBytes,
        from: i64,
        aborted: Option<AbortedTransactions>,
        frame: Arc<Lease>,
    ) -> Self {
        Self { epoch, bytes, at: 0, from, aborted, frame }
    }

    /// The records from this offset on are still to come.
    pub(crate) fn position(&self) -> i64 {
        self.from
    }

    /// How many bytes it has left.
    pub(crate) fn len(&self) -> usize {
        self.bytes.len().saturating_sub(self.at)
    }

    /// The next batches to hand out, of about `limit` bytes if they are not compressed, at least one. It steps over control
    /// batches, aborted ones, and those that compaction has emptied.
    pub(crate) fn next(&mut self, limit: usize, decompressor: &mut Decompressor) -> Option<Result<Run, Damage>> {
        let bytes = self.bytes.clone();
        let (mut skipped, mut taken, mut run) = (0, 0, None::<(i64, i64)>);
        let mut is_compressed = false;
        for raw in Batches::starting_at(&bytes, self.at) {
            let len = raw.as_ref().map_or(0, |raw| raw.bytes().len());
            match raw.and_then(|raw| self.judge(&raw, run.is_some(), decompressor)) {
                Ok(Verdict::Skip(next)) if run.is_none() => {
                    skipped += len;
                    self.from = self.from.max(next);
                }
                Ok(Verdict::Take(offset, next, compressed)) => {
                    if run.is_some() && (compressed || taken + len > limit) {
                        break;
                    }
                    taken += len;
                    run = Some((run.map_or(offset.max(self.from), |(first, _)| first), next));
                    is_compressed = compressed;
                    if compressed {
                        break;
                    }
                }
                // It is looked at again when what comes before it was handed out.
                Ok(Verdict::Skip(_)) => break,
                Err(_) if run.is_some() => break,
                Err(error) => {
                    self.at += skipped;
                    let damaged = Batches::starting_at(&bytes, self.at).next().and_then(Result::ok);
                    let place = damaged.and_then(|raw| place(&raw).ok());
                    let (offset, next) = place.map_or((self.from, None), |(offset, next)| (offset, Some(next)));
                    return Some(Err(Damage { error, offset: offset.max(self.from), next }));
                }
            }
        }
        let start = self.at + skipped;
        self.at = start + taken;
        let (first, next) = run?;
        let bytes = bytes.slice(start..self.at)?;
        let run = Run { bytes, first, next, is_compressed, _frame: Arc::clone(&self.frame) };
        self.from = next;
        Some(Ok(run))
    }

    /// Whether a batch is handed out. One that is not has a good CRC: nothing is skipped because of damaged bytes.
    fn judge(&mut self, raw: &RawBatch<'_>, is_in_run: bool, decompressor: &mut Decompressor) -> Result<Verdict> {
        let (offset, next) = place(raw)?;
        let take = Verdict::Take(offset, next, raw.is_compressed());
        let Some(header) = raw.header() else { return Ok(take) };
        let is_control = header.attributes.is_control();
        if is_in_run && (is_control || header.count == 0) {
            return Ok(Verdict::Skip(next));
        }
        let mut control: Option<ControlRecord> = None;
        if is_control {
            let batch = raw.decode(decompressor)?;
            control = batch.control_record()?;
        }
        let is_transactional = header.attributes.is_transactional();
        let last = next - 1;
        let is_aborted = self
            .aborted
            .as_mut()
            .is_some_and(|aborted| aborted.pass(last, header.identity.producer_id, is_transactional, control));
        if is_control {
            return Ok(Verdict::Skip(next));
        }
        if is_aborted || header.count == 0 {
            raw.check(decompressor)?;
            return Ok(Verdict::Skip(next));
        }
        Ok(take)
    }
}

enum Verdict {
    /// Nothing of it is seen; the offset behind it.
    Skip(i64),
    /// Its offset, the one behind it, and whether it is compressed.
    Take(i64, i64, bool),
}

#[cfg(test)]
mod tests;
