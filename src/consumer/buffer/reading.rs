//! Where a partition is read: what its next fetch asks for, and what of an answer still counts. Pure.

use super::gate::{Gate, Marks};
use crate::consumer::start::Start;

/// One partition's reading.
///
/// Each seek begins a new reading epoch. What was fetched for an older one, or for another place than the one that is
/// wanted, never counts: so an answer that comes late, or twice, changes nothing.
#[derive(Clone, Debug)]
pub(crate) struct Reading {
    epoch: u64,
    phase: Phase,
    /// The offset of the next record that the program gets; `None` until it is known.
    position: Option<i64>,
    is_paused: bool,
    pub(crate) gate: Gate,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// The leader is to be asked where that is.
    Lookup(Start),
    Fetch(Place),
    /// Nothing more until the program seeks; where it has stopped, and where it may go on, if that is known.
    Stopped(Option<(i64, Option<i64>)>),
}

/// Where to fetch from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(crate) offset: i64,
    /// The epoch of the leader that wrote what lies before it, or -1 where nobody knows: by that the leader notices that its
    /// log is another one (KIP-320).
    pub(crate) last_epoch: i32,
}

impl Place {
    pub(crate) fn at(offset: i64) -> Self {
        Self { offset, last_epoch: -1 }
    }
}

/// What a partition wants of its leader.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    Nothing,
    Lookup(Start),
    Fetch(Place),
}

/// For which epoch, and from which offset, something was asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) epoch: u64,
    pub(crate) offset: i64,
}

impl Reading {
    /// From this place on.
    pub(crate) fn new(start: Start, marks: Marks) -> Self {
        let mut reading =
            Self { epoch: 0, phase: Phase::Stopped(None), position: None, is_paused: false, gate: Gate::new(marks) };
        reading.begin(start);
        reading
    }

    fn begin(&mut self, start: Start) {
        self.position = start.offset();
        self.phase = self.position.map_or(Phase::Lookup(start), |offset| Phase::Fetch(Place::at(offset)));
    }

    pub(crate) fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The offset of the next record that the program gets, once it is known.
    pub(crate) fn position(&self) -> Option<i64> {
        self.position
    }

    pub(crate) fn is_paused(&self) -> bool {
        self.is_paused
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.phase, Phase::Stopped(_))
    }

    /// Where the reading has stopped, and where it may go on, if it has stopped at a batch.
    pub(crate) fn stopped_at(&self) -> Option<(i64, Option<i64>)> {
        match self.phase {
            Phase::Stopped(place) => place,
            _ => None,
        }
    }

    /// What to ask the leader for now.
    pub(crate) fn wants(&self) -> Want {
        match self.phase {
            _ if self.is_paused => Want::Nothing,
            Phase::Lookup(start) => Want::Lookup(start),
            Phase::Fetch(place) if self.gate.is_open() => Want::Fetch(place),
            Phase::Fetch(_) | Phase::Stopped(_) => Want::Nothing,
        }
    }

    /// Goes to another place, whatever has been.
    pub(crate) fn seek(&mut self, start: Start) {
        self.epoch += 1;
        self.begin(start);
    }

    pub(crate) fn pause(&mut self, is_paused: bool) {
        self.is_paused = is_paused;
    }

    /// The leader has said where the place is that was looked for in this epoch. True if that still counts.
    pub(crate) fn found(&mut self, epoch: u64, offset: i64) -> bool {
        let counts = epoch == self.epoch && matches!(self.phase, Phase::Lookup(_));
        if counts {
            // After a jump what was received before is read first.
            self.position = self.position.or(Some(offset));
            self.phase = Phase::Fetch(Place::at(offset));
        }
        counts
    }

    /// There is no such place: another one is looked for instead.
    pub(crate) fn look_elsewhere(&mut self, epoch: u64, start: Start) {
        if epoch == self.epoch && matches!(self.phase, Phase::Lookup(_)) {
            self.phase = Phase::Lookup(start);
        }
    }

    /// So many bytes have come, up to `next`. True if they still count.
    pub(crate) fn received(&mut self, stamp: Stamp, next: Place, bytes: usize) -> bool {
        let counts = self.is_current(stamp);
        if counts {
            self.phase = Phase::Fetch(next);
            self.gate.add(bytes);
        }
        counts
    }

    /// Whether an answer to what was asked for still counts.
    pub(crate) fn is_current(&self, stamp: Stamp) -> bool {
        stamp.epoch == self.epoch && matches!(self.phase, Phase::Fetch(place) if place.offset == stamp.offset)
    }

    /// The leader does not have the offset. `start`: the place to look for instead; `None`: stop. True if it still counts.
    pub(crate) fn out_of_range(&mut self, stamp: Stamp, start: Option<Start>) -> bool {
        let counts = self.is_current(stamp);
        if counts {
            // In the same epoch: what was received before is read, and then it goes on there.
            self.phase = start.map_or(Phase::Stopped(None), Phase::Lookup);
        }
        counts
    }

    /// The leader's log is another one from this offset on. True if the program has got none of what is lost: it goes on from
    /// where it is, and what was read ahead does not count. False if it has, or the answer does not count.
    pub(crate) fn truncated(&mut self, stamp: Stamp, diverging: i64) -> bool {
        let start = self.position.filter(|position| *position <= diverging && self.is_current(stamp));
        if let Some(position) = start {
            self.seek(Start::Offset(position));
        }
        start.is_some()
    }

    /// The program has got all before this offset.
    pub(crate) fn handed_out(&mut self, epoch: u64, next: i64) {
        if epoch == self.epoch {
            self.position = Some(next);
        }
    }

    /// No more of this epoch; `place`: where a batch could not be read, and what is behind it. True if that is news.
    pub(crate) fn stop(&mut self, epoch: u64, place: Option<(i64, Option<i64>)>) -> bool {
        let counts = epoch == self.epoch && self.stopped_at().is_none();
        if counts {
            if let Some((offset, _)) = place {
                self.position = Some(offset);
            }
            self.phase = Phase::Stopped(place);
        }
        counts
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(start: Start) -> Reading {
        Reading::new(start, Marks { unread: 100, held: 1000 })
    }

    fn stamp(epoch: u64, offset: i64) -> Stamp {
        Stamp { epoch, offset }
    }

    #[test]
    fn a_place_is_looked_up_then_fetched_from() {
        let mut reading = reading(Start::Beginning);
        assert_eq!((reading.wants(), reading.position()), (Want::Lookup(Start::Beginning), None));
        reading.look_elsewhere(0, Start::End);
        assert_eq!(reading.wants(), Want::Lookup(Start::End));
        assert!(!reading.found(1, 7), "another epoch");
        assert!(reading.found(0, 7) && !reading.found(0, 8), "an answer counts once");
        assert_eq!((reading.wants(), reading.position()), (Want::Fetch(Place::at(7)), Some(7)));
        assert!(reading.received(stamp(0, 7), Place { offset: 12, last_epoch: 3 }, 60));
        assert_eq!(
            (reading.wants(), reading.position()),
            (Want::Fetch(Place { offset: 12, last_epoch: 3 }), Some(7)),
            "read ahead is not handed out"
        );
        assert!(reading.received(stamp(0, 12), Place::at(15), 60));
        assert_eq!(reading.wants(), Want::Nothing, "the gate is closed");
        assert!(reading.gate.hand_out(70));
        assert_eq!(reading.wants(), Want::Fetch(Place::at(15)));
    }

    #[test]
    fn what_was_asked_for_before_a_seek_does_not_count() {
        let mut reading = reading(Start::Offset(7));
        assert_eq!(reading.wants(), Want::Fetch(Place::at(7)));
        reading.seek(Start::Offset(7));
        assert!(!reading.received(stamp(0, 7), Place::at(9), 1), "the same offset, and another epoch");
        reading.handed_out(0, 9);
        assert!(!reading.stop(0, None) && !reading.is_stopped());
        assert_eq!(reading.position(), Some(7));
        assert!(reading.received(stamp(1, 7), Place::at(9), 1));
        assert!(!reading.received(stamp(1, 7), Place::at(9), 1), "an answer that comes twice");
        reading.seek(Start::End);
        assert!(!reading.found(1, 3));
        assert_eq!(reading.wants(), Want::Lookup(Start::End));
    }

    #[test]
    fn pause_keeps_the_place() {
        let mut reading = reading(Start::Offset(7));
        reading.pause(true);
        assert_eq!(reading.wants(), Want::Nothing);
        assert!(reading.received(stamp(0, 7), Place::at(9), 1), "what was on its way when it was paused");
        reading.seek(Start::Offset(3));
        assert_eq!(reading.wants(), Want::Nothing, "a seek does not end the pause");
        reading.pause(false);
        assert_eq!(reading.wants(), Want::Fetch(Place::at(3)));
    }

    #[test]
    fn what_stopped_goes_on_after_a_seek_alone() {
        let mut reading = reading(Start::Offset(7));
        assert!(reading.out_of_range(stamp(0, 7), None) && reading.is_stopped());
        assert_eq!((reading.wants(), reading.stopped_at()), (Want::Nothing, None));
        // A batch before the end of the range turns out to be damaged.
        assert!(reading.stop(0, Some((5, Some(6)))));
        assert!(!reading.stop(0, Some((6, None))), "it is told once");
        assert_eq!((reading.position(), reading.stopped_at()), (Some(5), Some((5, Some(6)))));
        assert!(!reading.found(0, 1));
        reading.seek(Start::Offset(6));
        assert_eq!((reading.wants(), reading.is_stopped()), (Want::Fetch(Place::at(6)), false));
        assert!(reading.out_of_range(stamp(1, 6), Some(Start::Beginning)));
        assert_eq!(reading.wants(), Want::Lookup(Start::Beginning));
    }

    #[test]
    fn a_log_that_was_cut_behind_the_program_is_read_again_and_before_it_is_not() {
        let mut reading = reading(Start::Offset(7));
        assert!(reading.received(stamp(0, 7), Place::at(20), 60));
        assert!(!reading.truncated(stamp(0, 7), 12), "an answer that does not count");
        assert!(reading.truncated(stamp(0, 20), 12));
        assert_eq!((reading.wants(), reading.epoch()), (Want::Fetch(Place::at(7)), 1));
        assert!(reading.received(stamp(1, 7), Place::at(20), 60));
        reading.handed_out(1, 13);
        assert!(!reading.truncated(stamp(1, 20), 12), "the program has got a record that is lost");
        assert_eq!(reading.epoch(), 1);
    }
}
