//! A connection that carries several requests at a time: the writing half, and the reading of answers in their
//! order.

use std::io::{self, IoSlice, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver;

use super::frames::{FrameInput, lost};
use super::transport::{break_off, is_time_out};
use crate::error::{Error, Result};
use crate::protocol::frame::SharedBytes;

/// How long a write may block before its caller looks at its deadlines.
const PATIENCE: Duration = Duration::from_millis(200);
/// How many pieces go into one system call (`IOV_MAX`).
const MAX_PIECES: usize = 1024;

/// The writing half. *Thread*: one at a time, whoever drives the broker's link.
pub(crate) struct WriteHalf {
    stream: Arc<TcpStream>,
}

/// How far a write has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Written {
    All,
    /// The other side takes nothing at the moment, or little.
    Stalled,
}

impl WriteHalf {
    pub(crate) fn new(stream: Arc<TcpStream>) -> Result<Self> {
        stream.set_write_timeout(Some(PATIENCE)).map_err(lost)?;
        Ok(Self { stream })
    }

    /// Writes `parts` as one sequence of bytes, of which `done` are written already and counted.
    ///
    /// *Blocks* until all is written, or for a moment: a side that takes a little now and then must not keep the caller
    /// from its deadlines.
    pub(crate) fn write(&self, parts: &[&[u8]], done: &mut usize) -> Result<Written> {
        let (begun, before) = (Instant::now(), *done);
        loop {
            let mut skip = *done;
            let mut pieces = Vec::with_capacity(parts.len().min(MAX_PIECES));
            for part in parts {
                match part.get(skip..) {
                    Some([]) => skip = 0,
                    Some(rest) => {
                        skip = 0;
                        pieces.push(IoSlice::new(rest));
                        if pieces.len() == MAX_PIECES {
                            break;
                        }
                    }
                    None => skip -= part.len(),
                }
            }
            if pieces.is_empty() {
                return Ok(Written::All);
            }
            if *done > before && begun.elapsed() >= PATIENCE {
                return Ok(Written::Stalled);
            }
            match (&*self.stream).write_vectored(&pieces) {
                Ok(0) => return Err(Error::network("the connection takes no more bytes")),
                Ok(written) => *done += written,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_time_out(&error) => return Ok(Written::Stalled),
                Err(error) => return Err(lost(error)),
            }
        }
    }

    /// The stream.
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.stream
    }
}

impl Drop for WriteHalf {
    fn drop(&mut self) {
        // The reader may be blocked on the other half.
        break_off(&self.stream);
    }
}

/// Reads one answer for every deadline that comes, in their order, and gives it to `deliver`. Ends when no more can
/// come, after an error, or when `deliver` says so.
///
/// *Thread*: `kafka-reader-{broker}`.
pub(crate) fn read_answers(
    mut input: FrameInput,
    expected: &Receiver<Instant>,
    mut deliver: impl FnMut(Result<SharedBytes>) -> bool,
) {
    for deadline in expected {
        let answer = input.next(deadline);
        let failed = answer.is_err();
        if !deliver(answer) || failed {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Read;
    use std::net::TcpListener;

    #[test]
    fn a_write_goes_on_where_it_stalled() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let half = WriteHalf::new(Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap())).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let parts: Vec<Vec<u8>> = (0..3000_u32).map(|n| vec![n.to_le_bytes()[0]; (n as usize * 7) % 9000]).collect();
        let slices: Vec<&[u8]> = parts.iter().map(Vec::as_slice).collect();
        let whole: Vec<u8> = parts.concat();
        let mut done = 0;
        assert_eq!(half.write(&slices, &mut done).unwrap(), Written::Stalled, "nobody reads 13 MB");
        assert!(done > 0 && done < whole.len());
        let total = whole.len();
        let reader = std::thread::spawn(move || {
            let mut read = vec![0; total];
            peer.read_exact(&mut read).unwrap();
            read
        });
        while half.write(&slices, &mut done).unwrap() == Written::Stalled {}
        assert_eq!(done, total);
        assert!(reader.join().unwrap() == whole);
    }

    #[test]
    fn a_side_that_takes_a_little_now_and_then_does_not_hold_the_writer() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let half = WriteHalf::new(Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap())).unwrap();
        let (mut peer, _) = listener.accept().unwrap();
        let reader = std::thread::spawn(move || {
            // Ends with the writing half.
            while peer.read(&mut vec![0; 1 << 18]).is_ok_and(|read| read > 0) {
                std::thread::sleep(PATIENCE / 4);
            }
        });
        let part = vec![7; 1 << 26];
        let begun = Instant::now();
        let (mut done, mut looks) = (0, 0);
        while begun.elapsed() < 5 * PATIENCE {
            assert_eq!(half.write(&[&part], &mut done).unwrap(), Written::Stalled);
            looks += 1;
        }
        assert!(looks >= 2 && done > 0, "{looks} looks");
        drop(half);
        reader.join().unwrap();
    }

    #[test]
    fn dropping_the_writing_half_ends_the_reader() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let stream = Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap());
        let input = FrameInput::new(Arc::clone(&stream), 1000);
        let half = WriteHalf::new(stream).unwrap();
        let (expect, expected) = crossbeam_channel::unbounded();
        expect.send(Instant::now() + Duration::from_secs(60)).unwrap();
        let reader = std::thread::spawn(move || {
            let mut ended = None;
            read_answers(input, &expected, |answer| {
                ended = Some(answer.is_err());
                true
            });
            ended
        });
        drop(half);
        assert_eq!(reader.join().unwrap(), Some(true));
    }
}
