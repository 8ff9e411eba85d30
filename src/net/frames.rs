//! Reading frames from a socket, without trusting their lengths.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::stream::{Stream, is_time_out};
use crate::bytes::SharedBytes;
use crate::error::{Error, Result, Timeout};

/// How many bytes are read ahead: most answers are far smaller, so one system call brings one or several whole answers.
const READ_AHEAD: usize = 16 * 1024;
/// How many bytes of memory a frame gets before its bytes have come.
const FIRST_STEP: usize = 64 * 1024;
/// How much longer than its deadline a read may take, so that the socket's timeout need not be set for every read.
const SLACK: Duration = Duration::from_millis(250);

/// The read half of a connection. *Thread*: one at a time, the one that is to read the next answer.
pub(crate) struct FrameInput {
    stream: Arc<Stream>,
    /// Bytes that were read ahead are at `start..end`.
    ahead: Box<[u8]>,
    start: usize,
    end: usize,
    max_frame: usize,
    /// What has come of the next frame. When a read gives up, another thread may go on here.
    begun: FrameProgress,
    /// What the socket's read timeout is set to.
    timeout: Option<Duration>,
}

/// How much of a frame has come.
enum FrameProgress {
    Prefix { bytes: [u8; 4], filled: usize },
    Body { len: usize, frame: Vec<u8>, filled: usize },
    Whole(SharedBytes),
}

/// What one read of the socket has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Look {
    Nothing,
    /// Bytes, before the time was over; or so many that more may have come before that.
    InTime,
    /// Bytes, after the time was over, and no more were there.
    Late,
}

const NOTHING: FrameProgress = FrameProgress::Prefix { bytes: [0; 4], filled: 0 };

impl FrameInput {
    /// Reads frames of at most `max_frame` bytes.
    pub(super) fn new(stream: Arc<Stream>, max_frame: usize) -> Self {
        let ahead = vec![0; READ_AHEAD].into_boxed_slice();
        Self { stream, ahead, start: 0, end: 0, max_frame, begun: NOTHING, timeout: None }
    }

    /// The next frame, without its length.
    ///
    /// *Blocks* until it is there, at most until `deadline` and a quarter of a second.
    /// *Errors*: `Timeout(Request)`; `Network` when the connection ends; `BrokerMisbehaved` for a length that no
    /// answer can have. After an error the stream is of no use any more.
    pub(crate) fn next(&mut self, deadline: Instant) -> Result<SharedBytes> {
        self.next_before(deadline, SLACK)?
            .ok_or_else(|| Error::timeout(Timeout::Request, "the broker did not answer in time"))
    }

    /// The next frame if it comes before `until`, or at most `slack` later. If it does not, the next call goes on where
    /// this one gave up.
    ///
    /// *Blocks* until then. *Errors*: those of [`next`](Self::next) but for the timeout.
    pub(crate) fn next_before(&mut self, until: Instant, slack: Duration) -> Result<Option<SharedBytes>> {
        let mut out_of_time = false;
        loop {
            let whole = match &mut self.begun {
                FrameProgress::Whole(_) => true,
                FrameProgress::Prefix { bytes, filled } => {
                    let space = bytes.get_mut(*filled..).unwrap_or_default();
                    *filled += take_ahead(&self.ahead, &mut self.start, self.end, space);
                    if *filled == bytes.len() {
                        let len = check_length(*bytes, self.max_frame)?;
                        self.begun = FrameProgress::Body { len, frame: vec![0; len.min(FIRST_STEP)], filled: 0 };
                        continue;
                    }
                    false
                }
                FrameProgress::Body { len, frame, filled } => {
                    let space = frame.get_mut(*filled..).unwrap_or_default();
                    *filled += take_ahead(&self.ahead, &mut self.start, self.end, space);
                    if *filled < *len && *filled == frame.len() {
                        // A peer that has sent this much is trusted with as much memory again.
                        frame.resize((*len).min(filled.saturating_mul(2)), 0);
                        continue;
                    }
                    *filled == *len
                }
            };
            if whole {
                return Ok(match std::mem::replace(&mut self.begun, NOTHING) {
                    FrameProgress::Body { frame, .. } => Some(frame.into()),
                    FrameProgress::Whole(frame) => Some(frame),
                    FrameProgress::Prefix { .. } => None,
                });
            }
            if out_of_time {
                return Ok(None);
            }
            match self.read(until, slack)? {
                Look::Nothing => return Ok(None),
                Look::Late => out_of_time = true,
                Look::InTime => {}
            }
        }
    }

    /// Makes the next call return this frame, because the thread that read it could not pass it on.
    pub(crate) fn put_back(&mut self, frame: SharedBytes) {
        self.begun = FrameProgress::Whole(frame);
    }

    /// Reads what there is, at least a byte: straight into the frame if that has more space than the read-ahead
    /// buffer, else into that.
    fn read(&mut self, until: Instant, slack: Duration) -> Result<Look> {
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let fits = self.timeout.is_some_and(|timeout| timeout >= left && timeout <= left + slack);
            if !fits {
                // A socket's timeout cannot be zero.
                let timeout = (left + slack / 2).max(Duration::from_micros(1));
                self.stream.set_read_timeout(timeout).map_err(lost)?;
                self.timeout = Some(timeout);
            }
            let (space, direct) = match &mut self.begun {
                FrameProgress::Body { frame, filled, .. } if frame.len() - *filled >= self.ahead.len() => {
                    let from = *filled;
                    (frame.get_mut(from..).unwrap_or_default(), Some(filled))
                }
                _ => (&mut *self.ahead, None),
            };
            let len = space.len();
            match self.stream.read(space) {
                Ok(0) => return Err(Error::network("the broker closed the connection")),
                Ok(read) => {
                    // A peer that sends a few bytes now and then must not hold the caller for ever. But bytes that came
                    // before the deadline are read even if this thread is late.
                    let emptied = read < len;
                    match direct {
                        Some(filled) => *filled += read,
                        None => (self.start, self.end) = (0, read),
                    }
                    return Ok(if left.is_zero() && emptied { Look::Late } else { Look::InTime });
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if is_time_out(&error) => {
                    if Instant::now() >= until {
                        return Ok(Look::Nothing);
                    }
                }
                Err(error) => return Err(lost(error)),
            }
        }
    }
}

fn check_length(prefix: [u8; 4], max: usize) -> Result<usize> {
    let len = usize::try_from(i32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    // An answer holds at least a correlation id.
    if len >= 4 && len <= max {
        return Ok(len);
    }
    let guess = match prefix {
        [0x15 | 0x16, 3, ..] => "; that is how TLS begins: this port wants a TLS connection",
        [b'H', b'T', b'T', b'P'] => "; that is how HTTP begins: this is no Kafka port",
        _ => "",
    };
    let len = i32::from_be_bytes(prefix);
    Err(Error::misbehaved(format!("an answer announces {len} bytes{guess}"))
        .over_limit("max_response_bytes", max as u64))
}

/// Moves bytes that were read ahead into `space`, as many as fit.
fn take_ahead(ahead: &[u8], start: &mut usize, end: usize, space: &mut [u8]) -> usize {
    let there = ahead.get(*start..end).unwrap_or_default();
    let taken = there.len().min(space.len());
    if let (Some(from), Some(to)) = (there.get(..taken), space.get_mut(..taken)) {
        to.copy_from_slice(from);
    }
    *start += taken;
    taken
}

pub(crate) fn lost(error: io::Error) -> Error {
    Error::network("the connection broke").with_source(error)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;
    use std::io::Write;
    use std::net::TcpStream;

    fn pair() -> (FrameInput, TcpStream) {
        let (ours, theirs) = crate::net::stream::tests::pair();
        (FrameInput::new(ours, 1 << 20), theirs)
    }

    fn framed(body: &[u8]) -> Vec<u8> {
        let mut frame = u32::try_from(body.len()).unwrap().to_be_bytes().to_vec();
        frame.extend_from_slice(body);
        frame
    }

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(60)
    }

    #[test]
    fn frames_are_the_same_however_they_are_cut() {
        let bodies: Vec<Vec<u8>> =
            [4, 5, 100, 16_380, 16_384, 70_000, 300_000, 4].iter().map(|len| vec![7; *len]).collect();
        let stream: Vec<u8> = bodies.iter().flat_map(|body| framed(body)).collect();
        for chunk in [1_usize, 3, 1000, 1 << 20] {
            let (mut input, mut peer) = pair();
            let (stream, bodies) = (stream.clone(), bodies.clone());
            let writer = std::thread::spawn(move || {
                let stream = if chunk < 100 { stream[..40_000].to_vec() } else { stream };
                for part in stream.chunks(chunk) {
                    peer.write_all(part).unwrap();
                }
            });
            for body in bodies.iter().take(if chunk < 100 { 5 } else { 8 }) {
                assert_eq!(*input.next(far()).unwrap(), **body);
            }
            writer.join().unwrap();
        }
    }

    #[test]
    fn lengths_that_no_answer_can_have_are_refused_before_memory_is_taken() {
        for (prefix, word) in [
            (*b"HTTP", "HTTP"),
            ([0x15, 3, 1, 0], "TLS"),
            ([0xff; 4], "-1"),
            ([0, 0, 0, 3], "3 bytes"),
            ([0, 0x10, 0, 1], "1048577"),
        ] {
            let (mut input, mut peer) = pair();
            peer.write_all(&prefix).unwrap();
            let error = input.next(far()).unwrap_err();
            assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved);
            assert!(error.to_string().contains(word), "{error}");
        }
    }

    #[test]
    fn an_answer_that_does_not_come_ends_the_read_at_its_deadline() {
        let (mut input, mut peer) = pair();
        peer.write_all(&[0, 0, 0, 10, 1]).unwrap();
        let begun = Instant::now();
        let error = input.next(begun + Duration::from_millis(100)).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Request));
        assert!(begun.elapsed() >= Duration::from_millis(100));
        // The socket's own timeout ends in time, however late this thread runs again.
        let timeout = input.timeout.unwrap();
        assert!(timeout <= Duration::from_millis(100) + SLACK, "{timeout:?}");
    }

    #[test]
    fn a_side_that_sends_a_little_now_and_then_does_not_outlast_the_deadline() {
        let (mut input, mut peer) = pair();
        let writer = std::thread::spawn(move || {
            peer.write_all(&[0, 0, 1, 0]).unwrap();
            // Enough for ten seconds; it ends when the reading half is dropped.
            for sent in 0..255 {
                if peer.write_all(&[0]).is_err() {
                    return sent;
                }
                std::thread::sleep(Duration::from_millis(40));
            }
            255
        });
        let limit = Duration::from_millis(200);
        let error = input.next(Instant::now() + limit).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Timeout(Timeout::Request));
        drop(input);
        let sent = writer.join().unwrap();
        assert!((2..255).contains(&sent), "{sent}");
    }

    #[test]
    fn what_has_come_in_time_is_read_by_a_thread_that_is_late() {
        let (mut input, mut peer) = pair();
        peer.write_all(&framed(&[7; 100_000])).unwrap();
        drop(peer);
        let frame = input.next_before(Instant::now(), Duration::ZERO).unwrap();
        assert_eq!(*frame.unwrap(), [7; 100_000]);
    }

    #[test]
    fn a_read_that_gives_up_is_taken_up_where_it_ended() {
        for cut in [0, 2, 4, 5, 90_000] {
            let (mut input, mut peer) = pair();
            let stream = [framed(&[7; 100_000]), framed(&[8; 10])].concat();
            let (now, later) = stream.split_at(cut);
            peer.write_all(now).unwrap();
            let until = Instant::now() + Duration::from_millis(20);
            assert!(input.next_before(until, Duration::ZERO).unwrap().is_none());
            assert!(Instant::now() >= until);
            let timeout = input.timeout.unwrap();
            assert!(timeout <= Duration::from_millis(20), "{timeout:?}");
            peer.write_all(later).unwrap();
            let frame = input.next_before(far(), Duration::ZERO).unwrap().unwrap();
            assert_eq!(*frame, [7; 100_000]);
            // A thread that could not pass the frame on puts it back for the next one.
            input.put_back(frame);
            assert_eq!(*input.next(far()).unwrap(), [7; 100_000]);
            assert_eq!(*input.next(far()).unwrap(), [8; 10]);
        }
    }

    #[test]
    fn the_end_of_a_stream_is_told() {
        let (mut input, peer) = pair();
        drop(peer);
        assert_eq!(input.next(far()).unwrap_err().kind(), ErrorKind::Network);
    }
}
