//! A connection that carries several requests at a time: its two halves, which different threads may use.

use std::io::{self, IoSlice};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::frames::lost;
use super::stream::{Stream, is_time_out};
use crate::error::Result;

/// How long a write may block while other threads may be waiting for the baton.
const MOMENT: Duration = Duration::from_millis(20);
/// How long a write may block, without the baton, before its caller looks at its deadlines.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many bytes are copied for a write without the baton.
const PIECE: usize = 64 * 1024;
/// How many pieces go into one system call (`IOV_MAX`).
const MAX_PIECES: usize = 1024;
/// How many pieces are written without an allocation.
const FEW_PIECES: usize = 16;

/// The writing half. *Thread*: one at a time, the one that drives the broker's link.
pub(crate) struct WriteHalf {
    stream: Arc<Stream>,
}

/// How far a write has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum WriteProgress {
    /// All was taken, and the stream is flushed.
    All,
    /// The peer takes nothing at the moment, or little.
    Stalled,
}

impl WriteHalf {
    pub(super) fn new(stream: Arc<Stream>) -> Result<Self> {
        stream.set_write_timeout(MOMENT).map_err(lost)?;
        Ok(Self { stream })
    }

    /// Writes `parts`, `total` bytes, as one sequence. The stream has taken `done` of them already; `done` grows by
    /// what it takes.
    ///
    /// *Blocks* until all is written, or for twenty milliseconds: a peer that takes a few bytes now and then must not
    /// keep the caller from its deadlines.
    pub(crate) fn write<'a>(
        &self,
        parts: impl Iterator<Item = &'a [u8]> + Clone,
        total: usize,
        done: &mut usize,
    ) -> Result<WriteProgress> {
        // The clock is not read as long as the socket takes all at once.
        let mut begun = None;
        while self.how_far(total, *done) != WriteProgress::All {
            match self.write_some(parts.clone(), *done) {
                Ok(taken) => {
                    *done += taken;
                    if self.how_far(total, *done) != WriteProgress::All
                        && begun.get_or_insert_with(Instant::now).elapsed() >= MOMENT
                    {
                        return Ok(WriteProgress::Stalled);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_time_out(&error) => return Ok(WriteProgress::Stalled),
                Err(error) => return Err(lost(error)),
            }
        }
        Ok(WriteProgress::All)
    }

    fn how_far(&self, total: usize, done: usize) -> WriteProgress {
        if done >= total && self.stream.is_flushed() { WriteProgress::All } else { WriteProgress::Stalled }
    }

    /// Writes what comes after the first `skip` bytes, with one system call, and returns how many bytes the stream
    /// took.
    fn write_some<'a>(&self, parts: impl Iterator<Item = &'a [u8]>, mut skip: usize) -> io::Result<usize> {
        let (mut few, mut taken, mut more) = ([IoSlice::new(&[]); FEW_PIECES], 0, Vec::new());
        parts.for_each(|part| {
            let skipped = skip.min(part.len());
            skip -= skipped;
            let Some(rest) = part.get(skipped..).filter(|rest| !rest.is_empty()) else { return };
            match few.get_mut(taken) {
                Some(slot) => *slot = IoSlice::new(rest),
                None if taken < MAX_PIECES => more.push(IoSlice::new(rest)),
                None => return,
            }
            taken += 1;
        });
        let few = few.get(..taken.min(FEW_PIECES)).unwrap_or_default();
        if more.is_empty() {
            return self.stream.write(few);
        }
        more.splice(..0, few.iter().copied());
        self.stream.write(&more)
    }

    /// Copies a piece of `parts` into `piece`, from the byte `from` on.
    pub(crate) fn copy<'a>(parts: impl Iterator<Item = &'a [u8]>, mut from: usize, piece: &mut Vec<u8>) {
        piece.clear();
        for part in parts {
            let skipped = from.min(part.len());
            from -= skipped;
            let rest = part.get(skipped..).unwrap_or_default();
            piece.extend_from_slice(rest.get(..PIECE - piece.len()).unwrap_or(rest));
            if piece.len() >= PIECE {
                break;
            }
        }
    }

    /// Writes what it can of `piece`, which comes after the first `done` of `total` bytes; `done` grows by what the
    /// stream takes. The piece is empty where the stream has taken all bytes but is not flushed.
    ///
    /// *Blocks* until all is written, or for a fifth of a second if the peer takes nothing.
    pub(crate) fn push(&self, piece: &[u8], total: usize, done: &mut usize) -> Result<WriteProgress> {
        self.stream.set_write_timeout(PATIENCE).map_err(lost)?;
        match self.write_some(std::iter::once(piece), 0) {
            Ok(taken) => *done += taken,
            Err(error) if error.kind() == io::ErrorKind::Interrupted || is_time_out(&error) => {}
            Err(error) => return Err(lost(error)),
        }
        self.stream.set_write_timeout(MOMENT).map_err(lost)?;
        Ok(self.how_far(total, *done))
    }

    /// Whether the peer has closed the connection. No thread reads from it meanwhile.
    pub(crate) fn is_stale(&self) -> bool {
        self.stream.is_stale()
    }

    /// Ends the connection. A thread that reads from it or writes to it returns.
    pub(crate) fn break_off(&self) {
        self.stream.break_off();
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // The reader may be blocked on the other half.
        self.break_off();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use crate::net::frames::FrameInput;
    use crate::net::reading::Half;
    use crate::net::stream::tests::pair;
    use std::io::Read;

    #[test]
    fn a_write_goes_on_where_it_stalled() {
        let (stream, mut peer) = pair();
        let half = WriteHalf::new(stream).unwrap();
        let parts: Vec<Vec<u8>> = (0..3000_u32).map(|n| vec![n.to_le_bytes()[0]; (n as usize * 7) % 9000]).collect();
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let whole: Vec<u8> = parts.concat();
        let mut done = 0;
        assert_eq!(
            half.write(slices.iter().copied(), whole.len(), &mut done).unwrap(),
            WriteProgress::Stalled,
            "nobody reads 13 MB"
        );
        let total = whole.len();
        assert!(done > 0 && done < total);
        let reader = std::thread::spawn(move || {
            let mut read = vec![0; total];
            peer.read_exact(&mut read).unwrap();
            read
        });
        // Some of it with `push`, as the sender does it, the rest with `write`.
        let mut piece = Vec::new();
        for _ in 0..20 {
            WriteHalf::copy(slices.iter().copied(), done, &mut piece);
            assert_eq!(piece.len(), PIECE);
            assert_eq!(half.push(&piece, total, &mut done).unwrap(), WriteProgress::Stalled);
        }
        while half.write(slices.iter().copied(), total, &mut done).unwrap() == WriteProgress::Stalled {}
        assert_eq!(done, total);
        WriteHalf::copy(slices.iter().copied(), total - 3, &mut piece);
        assert_eq!(piece, whole[total - 3..]);
        assert!(reader.join().unwrap() == whole);
    }

    #[test]
    fn a_side_that_takes_a_little_now_and_then_does_not_hold_the_writer() {
        let (stream, mut peer) = pair();
        let half = WriteHalf::new(stream).unwrap();
        let reader = std::thread::spawn(move || {
            // It ends when the writing half is dropped.
            while peer.read(&mut vec![0; 1 << 18]).is_ok_and(|read| read > 0) {
                std::thread::sleep(PATIENCE / 4);
            }
        });
        let part = vec![7; 1 << 26];
        let mut done = 0;
        for _ in 0..5 {
            assert_eq!(half.write(std::iter::once(&*part), part.len(), &mut done).unwrap(), WriteProgress::Stalled);
        }
        assert!(done > 0);
        drop(half);
        reader.join().unwrap();
    }

    #[test]
    fn a_push_that_nothing_is_taken_of_ends_in_time_and_counts_nothing() {
        let (stream, peer) = pair();
        let half = WriteHalf::new(stream).unwrap();
        let piece = vec![7; PIECE];
        let (mut done, mut before) = (0, None);
        while before != Some(done) {
            before = Some(done);
            assert_eq!(half.push(&piece, usize::MAX, &mut done).unwrap(), WriteProgress::Stalled);
        }
        drop(peer);
        // The first pushes may still find space.
        while half.push(&piece, usize::MAX, &mut done).is_ok() {}
    }

    #[test]
    fn dropping_the_writing_half_ends_a_read() {
        let (stream, _peer) = pair();
        let mut input = FrameInput::new(Arc::clone(&stream), 1000);
        let half = WriteHalf::new(stream).unwrap();
        let reader =
            std::thread::spawn(move || input.next(Instant::now() + Duration::from_secs(600)).unwrap_err().kind());
        drop(half);
        assert_eq!(reader.join().unwrap(), ErrorKind::Network);
    }

    #[test]
    fn the_reading_half_goes_to_who_waits_for_what_is_due() {
        let (stream, _peer) = pair();
        let half = Arc::new(Half::new(FrameInput::new(stream, 1000)));
        let deadlines: Vec<Instant> = (1..4).map(|n| Instant::now() + Duration::from_secs(n)).collect();
        let waiter = {
            let half = Arc::clone(&half);
            std::thread::spawn(move || {
                let mut seen = Vec::new();
                while let Some((input, deadline)) = half.await_owed() {
                    seen.push(deadline);
                    half.give(input, None);
                }
                seen
            })
        };
        let taken = |half: &Half<FrameInput>| loop {
            // The waiting thread may have the half for a moment.
            if let Some(input) = half.take() {
                break input;
            }
        };
        half.owe(deadlines[0]);
        let input = taken(&half);
        // No other thread can take the half while it is taken.
        half.owe(deadlines[1]);
        assert!(half.take().is_none());
        half.give(input, Some(deadlines[1]));
        let input = taken(&half);
        half.close();
        half.give(input, Some(deadlines[2]));
        assert_eq!(waiter.join().unwrap(), deadlines[..2]);
        assert!(half.take().is_none());
    }
}
