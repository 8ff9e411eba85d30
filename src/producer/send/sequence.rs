//! A partition's sequence numbers: pure bookkeeping of what the broker expects next (KIP-98, KIP-360).

use crate::producer::buffer::stamp::{Stamp, advance};
use crate::topic::ProducerIdAndEpoch;

/// How many numbers `to` comes after `from`.
fn distance(from: i32, to: i32) -> i64 {
    (i64::from(to) - i64::from(from)).rem_euclid(i64::from(i32::MAX) + 1)
}

/// The sequence numbers of one partition. *Thread*: the one that drives the link of the sender that has the queue.
#[derive(Debug)]
pub(crate) struct Sequences {
    identity: ProducerIdAndEpoch,
    next: i32,
    /// The last sequence that the broker acknowledged under this identity.
    acknowledged: Option<i32>,
    /// A batch under this identity failed for good or was refused out of order: when nothing is in flight, the numbers
    /// must be resolved before a new one is assigned.
    unresolved: bool,
    /// The first number of the latest such batch that may be in the log. Its numbers must never be given to other
    /// records.
    lost: Option<i32>,
    /// The broker no longer knows the numbers that it acknowledged.
    forgotten: bool,
    log: LogHistory,
}

/// Whether the partition's log is the one that acknowledged the numbers so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum LogHistory {
    /// It is the same log.
    Same,
    /// The topic was created anew. Batches in flight may be for the old log.
    Replaced,
    /// The topic was created anew, and the new log has acknowledged nothing yet.
    New,
}

/// What is to be done about the numbers when nothing is in flight.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Resolution {
    /// Nothing.
    Resolved,
    /// The failed batches are not in the log: the waiting batches get their numbers, from this one on.
    Renumber(i32),
    /// Change from this identity to its next epoch.
    Bump(ProducerIdAndEpoch),
}

impl Sequences {
    pub(crate) fn new() -> Self {
        Self {
            identity: ProducerIdAndEpoch::NONE,
            next: 0,
            acknowledged: None,
            unresolved: false,
            lost: None,
            forgotten: false,
            log: LogHistory::Same,
        }
    }

    /// The topic was deleted, and perhaps created anew. The numbers are not reset: the new log accepts any first
    /// number, and recognises a repeated batch only if no number is used twice.
    pub(crate) fn meet_another_log(&mut self) {
        self.log = LogHistory::Replaced;
    }

    pub(crate) fn identity(&self) -> ProducerIdAndEpoch {
        self.identity
    }

    /// Begins again at 0 under another identity. To be called only while nothing is in flight.
    pub(crate) fn switch(&mut self, identity: ProducerIdAndEpoch) {
        *self = Self { identity, ..Self::new() };
    }

    /// Gives the next numbers to a batch of `count` records.
    pub(crate) fn assign(&mut self, count: u32) -> Stamp {
        let base = self.next;
        self.next = advance(base, count);
        Stamp { identity: self.identity, base }
    }

    /// Sets the next number, after waiting batches got new numbers.
    pub(crate) fn resume_at(&mut self, next: i32) {
        self.next = next;
    }

    /// Whether a second batch may follow while the first is in flight. A broker that does not know the producer accepts
    /// *any* first number, so until a batch is acknowledged a later one could overtake an earlier one. That is also so
    /// in the log of a topic that was created anew.
    pub(crate) fn may_pipeline(&self) -> bool {
        self.acknowledged.is_some() && !self.unresolved && self.log == LogHistory::Same
    }

    /// Whether the broker has everything that comes before the batch.
    pub(crate) fn is_due(&self, stamp: Stamp) -> bool {
        stamp.identity == self.identity && (stamp.base == self.expected() || self.is_acknowledged(stamp.base))
    }

    /// Whether a batch that may be written must be sent again before the numbers are resolved. A later batch was
    /// acknowledged, so this one is in the log, and the broker recognises it by its numbers.
    pub(crate) fn is_to_be_recognised(&self, stamp: Stamp) -> bool {
        !self.forgotten && stamp.identity == self.identity && self.is_acknowledged(stamp.base)
    }

    fn expected(&self) -> i32 {
        self.acknowledged.map_or(0, |last| advance(last, 1))
    }

    /// Whether `sequence`, which was assigned under this identity, is at or before one that was acknowledged. The
    /// broker accepts no gaps, so its record is in the log.
    fn is_acknowledged(&self, sequence: i32) -> bool {
        self.acknowledged.is_some_and(|last| distance(last, self.next) <= distance(sequence, self.next))
    }

    /// Notes what the broker has in its log.
    pub(crate) fn acknowledge(&mut self, stamp: Stamp, count: u32) {
        if self.log == LogHistory::New {
            self.log = LogHistory::Same;
        }
        let last = stamp.last(count);
        // A batch that is sent again may be recognised after its successors were acknowledged.
        if stamp.identity == self.identity && !self.is_acknowledged(last) {
            self.acknowledged = Some(last);
        }
    }

    /// A batch failed for good.
    pub(crate) fn fail(&mut self, stamp: Stamp, maybe_written: bool) {
        if stamp.identity == self.identity {
            self.unresolved = true;
            let is_later = |lost| distance(stamp.base, self.next) < distance(lost, self.next);
            if maybe_written && self.lost.is_none_or(is_later) {
                self.lost = Some(stamp.base);
            }
        }
    }

    /// A batch was refused out of order because an earlier one is missing.
    pub(crate) fn refuse(&mut self, stamp: Stamp) {
        if stamp.identity == self.identity {
            self.unresolved = true;
        }
    }

    /// The broker no longer knows the numbers that it acknowledged: only a new epoch helps.
    pub(crate) fn forget(&mut self, stamp: Stamp) {
        if stamp.identity == self.identity {
            self.unresolved = true;
            self.forgotten = true;
        }
    }

    /// Keeps the numbers unresolved until nothing is in flight again.
    pub(crate) fn resolve_later(&mut self) {
        self.unresolved = true;
    }

    /// Resolves the numbers when nothing is in flight.
    pub(crate) fn resolve(&mut self) -> Resolution {
        if self.log == LogHistory::Replaced {
            self.log = LogHistory::New;
        }
        if !self.unresolved {
            return Resolution::Resolved;
        }
        self.unresolved = false;
        if self.forgotten {
            return Resolution::Bump(self.identity);
        }
        // A later acknowledgement proves that the lost batch is in the log: the broker accepts no gaps.
        if self.lost.take().is_some_and(|lost| !self.is_acknowledged(lost)) {
            return Resolution::Bump(self.identity);
        }
        Resolution::Renumber(self.expected())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const P: ProducerIdAndEpoch = ProducerIdAndEpoch { producer_id: 1, epoch: 0 };

    fn begun() -> Sequences {
        let mut sequences = Sequences::new();
        sequences.switch(P);
        sequences
    }

    #[test]
    fn zero_follows_the_largest_number() {
        assert_eq!(advance(i32::MAX, 1), 0);
        assert_eq!(advance(i32::MAX - 1, 5), 3);
        assert_eq!(Stamp { identity: P, base: i32::MAX }.last(2), 0);
    }

    #[test]
    fn nothing_is_pipelined_before_the_first_acknowledgement() {
        let mut sequences = begun();
        let first = sequences.assign(10);
        assert!(!sequences.may_pipeline());
        sequences.acknowledge(first, 10);
        assert!(sequences.may_pipeline());
        let next = sequences.assign(1);
        assert!(sequences.is_due(next));
    }

    #[test]
    fn nothing_is_pipelined_before_the_first_acknowledgement_of_a_log_that_was_made_anew() {
        let mut sequences = begun();
        let first = sequences.assign(10);
        sequences.acknowledge(first, 10);
        let old = sequences.assign(1);
        sequences.meet_another_log();
        assert!(!sequences.may_pipeline());
        // The old log may have answered this one.
        sequences.acknowledge(old, 1);
        assert!(!sequences.may_pipeline());
        assert_eq!(sequences.resolve(), Resolution::Resolved);
        let next = sequences.assign(1);
        assert_eq!(next.base, 11, "the new log might recognise another batch by a number that is used twice");
        assert!(!sequences.may_pipeline());
        sequences.acknowledge(next, 1);
        assert!(sequences.may_pipeline());
    }

    #[test]
    fn numbers_of_a_refused_batch_are_used_again() {
        let mut sequences = begun();
        let first = sequences.assign(10);
        sequences.acknowledge(first, 10);
        let refused = sequences.assign(5);
        sequences.fail(refused, false);
        assert_eq!(sequences.resolve(), Resolution::Renumber(10));
        assert_eq!(sequences.resolve(), Resolution::Resolved);
    }

    #[test]
    fn numbers_of_a_batch_that_may_be_written_are_never_used_again() {
        let mut sequences = begun();
        let first = sequences.assign(10);
        sequences.acknowledge(first, 10);
        let lost = sequences.assign(5);
        sequences.fail(lost, true);
        assert_eq!(sequences.resolve(), Resolution::Bump(P));
    }

    #[test]
    fn a_later_acknowledgement_proves_a_lost_batch() {
        let mut sequences = begun();
        let first = sequences.assign(10);
        sequences.acknowledge(first, 10);
        let lost = sequences.assign(5);
        let later = sequences.assign(5);
        sequences.fail(lost, true);
        sequences.acknowledge(later, 5);
        assert_eq!(sequences.resolve(), Resolution::Renumber(20));
    }

    #[test]
    fn a_broker_that_forgot_forces_a_new_epoch() {
        let mut sequences = begun();
        let first = sequences.assign(10);
        sequences.acknowledge(first, 10);
        let next = sequences.assign(5);
        assert!(sequences.is_due(next));
        sequences.forget(next);
        assert_eq!(sequences.resolve(), Resolution::Bump(P));
    }
}
