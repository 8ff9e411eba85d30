//! Bytes that several owners share.

use std::fmt;
use std::ops::{Deref, Range};
use std::sync::Arc;

/// A part of a reference-counted buffer. Cloning and slicing copy no bytes and allocate nothing; the buffer lives as
/// long as its last part.
#[derive(Clone, Default)]
pub(crate) struct SharedBytes {
    buffer: Arc<Buffer>,
    /// Which bytes of the buffer are this part. A buffer may be longer than what is used of it.
    range: Range<usize>,
}

/// What all parts of a buffer share. It is dropped with the last part.
#[derive(Default)]
struct Buffer {
    bytes: Vec<u8>,
}

impl SharedBytes {
    /// The part `range` of this part, or `None` where it reaches beyond it.
    pub(crate) fn slice(&self, range: Range<usize>) -> Option<Self> {
        if range.start > range.end || range.end > self.range.len() {
            return None;
        }
        // Neither overflows: no sum is beyond this part's end.
        let range = self.range.start + range.start..self.range.start + range.end;
        Some(Self { buffer: Arc::clone(&self.buffer), range })
    }

    /// The whole buffer for another use, if no other part of it exists.
    #[cfg(any(test, feature = "testing"))]
    pub(crate) fn into_buffer(self) -> Option<Vec<u8>> {
        Arc::try_unwrap(self.buffer).ok().map(|buffer| buffer.bytes)
    }

    /// How many bytes the whole buffer can hold without an allocation, when it is [rewritten](Self::rewritten): none
    /// where another part of it exists.
    pub(crate) fn spare_capacity(&self) -> usize {
        if Arc::strong_count(&self.buffer) == 1 { self.buffer.bytes.capacity() } else { 0 }
    }

    /// New bytes in the same memory: `write` gets the whole buffer, emptied, or a new one where another part of it
    /// exists.
    pub(crate) fn rewritten<E>(self, write: impl FnOnce(&mut Vec<u8>) -> Result<(), E>) -> Result<Self, E> {
        let mut buffer = self.buffer;
        let Some(Buffer { bytes }) = Arc::get_mut(&mut buffer) else {
            let mut bytes = Vec::new();
            write(&mut bytes)?;
            return Ok(bytes.into());
        };
        bytes.clear();
        write(bytes)?;
        let range = 0..bytes.len();
        Ok(Self { buffer, range })
    }
}

impl From<Vec<u8>> for SharedBytes {
    fn from(bytes: Vec<u8>) -> Self {
        let range = 0..bytes.len();
        Self { buffer: Arc::new(Buffer { bytes }), range }
    }
}

impl Deref for SharedBytes {
    type Target = [u8];

    #[inline]
    fn deref(&self) -> &[u8] {
        self.buffer.bytes.get(self.range.clone()).unwrap_or_default()
    }
}

impl PartialEq for SharedBytes {
    fn eq(&self, other: &Self) -> bool {
        **self == **other
    }
}

impl Eq for SharedBytes {}

impl fmt::Debug for SharedBytes {
    /// Only the length: the bytes are the user's data, and do not belong into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{} bytes]", self.range.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_share_the_buffer_and_keep_it_alive() {
        let whole = SharedBytes::from((0..10).collect::<Vec<u8>>());
        let part = whole.slice(2..8).unwrap();
        let smaller = part.slice(1..3).unwrap();
        assert_eq!((&*part, &*smaller), (&[2, 3, 4, 5, 6, 7][..], &[3, 4][..]));
        assert_eq!(smaller.as_ptr(), whole[3..].as_ptr());
        assert!(part.slice(0..6).is_some() && part.slice(6..6).is_some());
        // Beyond the end of the part, though not of the buffer.
        assert!(part.slice(0..7).is_none() && part.slice(7..7).is_none());
        assert!(part.slice(1..usize::MAX).is_none() && part.slice(Range { start: 3, end: 2 }).is_none());
        assert!(whole.into_buffer().is_none(), "others hold parts of it");
        drop(part);
        assert_eq!(smaller.into_buffer().unwrap(), (0..10).collect::<Vec<u8>>());
    }

    #[test]
    fn memory_is_used_again_only_when_nobody_else_holds_a_part_of_it() {
        let fill = |byte: u8, count: usize| {
            move |buffer: &mut Vec<u8>| {
                assert!(buffer.is_empty());
                buffer.resize(count, byte);
                Ok::<_, ()>(())
            }
        };
        let first = SharedBytes::from(vec![1; 100]);
        let memory = first.as_ptr();
        let second = first.rewritten(fill(2, 50)).unwrap();
        assert_eq!((&*second, second.as_ptr()), (&[2; 50][..], memory));
        let held = second.slice(10..20).unwrap();
        assert_eq!(second.spare_capacity(), 0);
        let third = second.rewritten(fill(3, 60)).unwrap();
        assert_eq!((&*held, &*third), (&[2; 10][..], &[3; 60][..]));
        assert_eq!(held.spare_capacity(), 100);
        assert_eq!(held.rewritten(fill(4, 100)).unwrap().as_ptr(), memory);
        assert_eq!(third.rewritten(|_| Err("no")), Err("no"));
    }

    #[test]
    fn debug_does_not_show_the_bytes() {
        assert_eq!(format!("{:?}", SharedBytes::from(b"secret".to_vec())), "[6 bytes]");
    }
}
