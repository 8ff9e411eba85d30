//! The stream of a connection: what the bytes of frames go through.
//!
//! Three rules hold for every stream, whatever stands between the frames and the socket:
//!
//! * [`write`](Stream::write) counts the bytes of frames that it *takes*. A stream that encrypts may keep what it made
//!   of them, so all is written only when [`is_flushed`](Stream::is_flushed) says so as well.
//! * [`read`](Stream::read) never writes, because a reader must not wait for a socket that takes nothing. If a stream
//!   has something to send after a read, it keeps that: it is not flushed then, and the next thread that drives the
//!   link writes this before anything else.
//! * Only the stream can tell whether it [is stale](Stream::is_stale), because bytes on the socket need not be bytes of
//!   frames.
//!
//! One thread at a time reads, and one at a time writes. No other file of the library names the socket's type, except
//! for those of the fake cluster, which is no client. `tests/house/layering.rs` checks that.

use std::ffi::c_int;
use std::io::{self, IoSlice, Read};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;

/// A connection's stream, which its reading and its writing half share.
#[derive(Debug)]
pub(super) enum Stream {
    /// The bytes of frames go over the socket unchanged.
    Plain(TcpStream),
}

impl Stream {
    /// Reads what there is, at least one byte, and returns how many; 0 at the end of the stream. If these are fewer
    /// than `space` holds, no more had come.
    ///
    /// *Blocks* at most for the read timeout. *Thread*: the one that has the reading half. *Errors*: those of the
    /// socket.
    pub(super) fn read(&self, space: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => (&mut &*socket).read(space),
        }
    }

    /// Takes some of `parts` and returns how many bytes of them. What was taken before and is not flushed is written
    /// first; in that case `parts` may be empty.
    ///
    /// *Blocks* at most for the write timeout. *Thread*: the one that has the writing half. *Errors*: those of the
    /// socket.
    pub(super) fn write(&self, parts: &[IoSlice<'_>]) -> io::Result<usize> {
        match self {
            Self::Plain(socket) => match send(socket, parts) {
                Ok(0) => Err(io::Error::new(io::ErrorKind::WriteZero, "the connection takes no more bytes")),
                sent => sent,
            },
        }
    }

    /// Whether everything that was taken, and everything that has to be sent because of a read, has gone to the socket.
    /// *Thread*: the one that has the writing half.
    pub(super) fn is_flushed(&self) -> bool {
        match self {
            // The socket itself takes the bytes.
            Self::Plain(_) => true,
        }
    }

    /// Writes all of `bytes`.
    ///
    /// *Blocks* until then, at most until `deadline`, however little the peer takes at a time. *Errors*: `TimedOut`,
    /// and those of the socket.
    pub(super) fn write_all(&self, mut bytes: &[u8], deadline: Instant) -> io::Result<()> {
        while !bytes.is_empty() || !self.is_flushed() {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            self.set_write_timeout(left)?;
            match self.write(&[IoSlice::new(bytes)]) {
                Ok(taken) => bytes = bytes.get(taken..).unwrap_or_default(),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the peer has closed the connection while it was idle, or has sent bytes of frames that were not asked
    /// for. *Thread*: one that has the connection to itself, while no answer is due.
    pub(super) fn is_stale(&self) -> bool {
        match self {
            Self::Plain(socket) => {
                if socket.set_nonblocking(true).is_err() {
                    return true;
                }
                let peeked = socket.peek(&mut [0; 1]);
                let restored = socket.set_nonblocking(false);
                restored.is_err() || !matches!(peeked, Err(error) if error.kind() == io::ErrorKind::WouldBlock)
            }
        }
    }

    /// Ends the stream in both directions. A thread that blocks on it returns. It may have ended before. *Thread*: any.
    pub(super) fn break_off(&self) {
        drop(self.socket().shutdown(Shutdown::Both));
    }

    /// How long a read may block; not zero.
    pub(super) fn set_read_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket().set_read_timeout(Some(timeout))
    }

    /// How long a write may block; not zero.
    pub(super) fn set_write_timeout(&self, timeout: Duration) -> io::Result<()> {
        self.socket().set_write_timeout(Some(timeout))
    }

    fn socket(&self) -> &TcpStream {
        match self {
            Self::Plain(socket) => socket,
        }
    }
}

/// Makes a write to a connection that the peer has closed fail instead of raising SIGPIPE: by default that signal ends
/// the process, and a program that uses this library need not ignore it.
#[cfg(all(unix, not(target_vendor = "apple")))]
const NO_SIGNAL: c_int = libc::MSG_NOSIGNAL;
/// Elsewhere there is no such signal, or the socket was made with `SO_NOSIGPIPE`.
#[cfg(not(all(unix, not(target_vendor = "apple"))))]
const NO_SIGNAL: c_int = 0;

/// Sends some of `parts`, at least one byte, with one system call. All bytes to a socket go through this function: the
/// standard library's `write` suppresses SIGPIPE as well, but its `write_vectored` does not.
///
/// *Blocks* for at most the socket's write timeout. *Errors*: those of the socket.
fn send(socket: &TcpStream, parts: &[IoSlice<'_>]) -> io::Result<usize> {
    #[cfg(feature = "bench-internals")]
    SENDS.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    SockRef::from(socket).send_vectored_with_flags(parts, NO_SIGNAL)
}

/// How often [`send`] was called, for the guard that counts the system calls of requests.
#[cfg(feature = "bench-internals")]
pub(crate) static SENDS: std::sync::atomic::AtomicU64 = std::sync::atomic::AtomicU64::new(0);

/// Whether an I/O error says that a time limit has passed: sockets report `WouldBlock` for that, too.
pub(super) fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::TimedOut | io::ErrorKind::WouldBlock)
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use std::io::Write as _;
    use std::net::TcpListener;
    use std::sync::Arc;

    /// A stream, and the other side's socket.
    pub(crate) fn pair() -> (Arc<Stream>, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (theirs, _) = listener.accept().unwrap();
        (Arc::new(Stream::Plain(ours)), theirs)
    }

    #[test]
    fn a_side_that_takes_a_little_now_and_then_does_not_outlast_the_deadline() {
        // On a machine so busy that the other side takes nothing within the limit, a longer limit is tried.
        let shows_it = [400, 800, 1600, 3200].map(Duration::from_millis).into_iter().any(|limit| {
            let (ours, mut peer) = pair();
            let (taken, seen) = std::sync::mpsc::channel();
            let reader = std::thread::spawn(move || {
                // It ends when the stream is dropped. Each read makes room for a further write.
                while let Ok(read) = peer.read(&mut vec![0; 1 << 18]) {
                    if read == 0 || taken.send(read).is_err() {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(20));
                }
            });
            let begun = Instant::now();
            // At this pace all of it would take more than five seconds.
            let error = ours.write_all(&vec![7; 1 << 26], begun + limit).unwrap_err();
            assert!(is_time_out(&error), "{error}");
            assert!(begun.elapsed() >= limit);
            let count = seen.try_iter().count();
            drop(ours);
            reader.join().unwrap();
            count > 1
        });
        assert!(shows_it, "the other side took nothing");
    }

    #[test]
    fn a_stream_is_stale_when_the_other_side_has_closed_it_or_sent_what_nobody_asked_for() {
        let soon = Instant::now() + Duration::from_secs(60);
        let until_stale = |stream: &Stream| {
            while !stream.is_stale() {
                assert!(Instant::now() < soon, "the other side's doing is not seen");
                std::thread::yield_now();
            }
        };
        let (stream, peer) = pair();
        assert!(!stream.is_stale());
        drop(peer);
        until_stale(&stream);
        let (stream, mut peer) = pair();
        peer.write_all(&[7]).unwrap();
        until_stale(&stream);
        // `is_stale` takes no bytes, and the next read blocks again.
        let mut space = [0; 2];
        assert_eq!(stream.read(&mut space).unwrap(), 1);
        assert!(!stream.is_stale());
        stream.set_read_timeout(Duration::from_millis(20)).unwrap();
        let begun = Instant::now();
        assert!(is_time_out(&stream.read(&mut space).unwrap_err()));
        assert!(begun.elapsed() >= Duration::from_millis(10), "the socket blocks");
    }
}
