//! Frames: a writer that leaves gaps for record batches, and a reader that never trusts a length.

use byteorder::{BigEndian, ByteOrder};

use crate::bytes::SharedBytes;
use crate::error::{Error, Result};

/// A frame being written. Reusable: [`clear`](Self::clear) keeps the buffer.
///
/// Record batches are not copied into it. The writer remembers a *splice* where a batch belongs, and the sender of the
/// frame interleaves [`segments`](Self::segments) with the batches in one vectored write.
#[derive(Debug, Default)]
pub(crate) struct FrameWriter {
    bytes: Vec<u8>,
    splices: Vec<Splice>,
}

/// A position in a frame at which bytes from elsewhere belong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Splice {
    /// How many of the writer's own bytes come before it.
    pub(crate) position: usize,
    /// How many bytes belong there.
    pub(crate) len: usize,
}

impl FrameWriter {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Forgets the content and keeps the memory.
    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.splices.clear();
    }

    /// The bytes written, without what is spliced in.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// The places of the spliced bytes, in order.
    pub(crate) fn splices(&self) -> &[Splice] {
        &self.splices
    }

    /// The written bytes around the splices: one segment more than there are splices.
    pub(crate) fn segments(&self) -> impl Iterator<Item = &[u8]> + Clone {
        let starts = std::iter::once(0).chain(self.splices.iter().map(|splice| splice.position));
        let ends = self.splices.iter().map(|splice| splice.position).chain(std::iter::once(self.bytes.len()));
        starts.zip(ends).map(|(start, end)| self.bytes.get(start..end).unwrap_or_default())
    }

    /// How many bytes the whole frame has, including the spliced ones and the length at its start.
    pub(crate) fn total_len(&self) -> usize {
        self.splices.iter().fold(self.bytes.len(), |sum, splice| sum.saturating_add(splice.len))
    }

    /// Clears the writer and begins a frame; its length is filled in by [`finish`](Self::finish).
    pub(crate) fn begin(&mut self) {
        self.clear();
        self.put(&[0; 4]);
    }

    /// Fills in the length of the frame that [`begin`](Self::begin) began.
    pub(crate) fn finish(&mut self) -> Result<()> {
        let len = self.total_len().saturating_sub(4);
        let prefix = i32::try_from(len).map_err(|_| too_long("a frame", len))?;
        match self.bytes.first_chunk_mut::<4>() {
            Some(place) => BigEndian::write_i32(place, prefix),
            None => return Err(Error::bug("a frame was finished that was never begun")),
        }
        Ok(())
    }

    #[inline]
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        self.bytes.extend_from_slice(bytes);
    }

    /// An unsigned varint: seven bits a byte, the lowest first.
    #[inline]
    pub(crate) fn put_uvarint(&mut self, mut value: u32) {
        while value >= 0x80 {
            self.bytes.push(value.to_le_bytes()[0] | 0x80);
            value >>= 7;
        }
        self.bytes.push(value.to_le_bytes()[0]);
    }

    /// Leaves a gap of `len` bytes here, which the sender of the frame fills.
    pub(crate) fn splice(&mut self, len: usize) {
        self.splices.push(Splice { position: self.bytes.len(), len });
    }
}

#[cold]
pub(crate) fn too_long(what: &str, len: usize) -> Error {
    Error::invalid(format!("{what} of {len} bytes or items is longer than the protocol allows"))
}

/// How much memory the structures of a message may take, as a multiple of its bytes: tiny items take far more bytes in
/// memory than in the frame. For what brokers send the factor stays below 6.
pub(crate) const MEMORY_PER_BYTE: usize = 8;
/// The memory that even a short message may take.
const LEAST_MEMORY: usize = 64 * 1024;

/// A position in a received frame. Before anything is allocated, each length is checked against the bytes that are
/// left, and the memory against the size of the frame.
#[derive(Clone, Debug)]
pub(crate) struct FrameReader<'a> {
    frame: &'a SharedBytes,
    /// The frame, up to the end of this reader's part.
    bytes: &'a [u8],
    position: usize,
    /// How many bytes of memory the structures that are still to be read may take.
    memory: usize,
}

impl<'a> FrameReader<'a> {
    pub(crate) fn new(frame: &'a SharedBytes) -> Self {
        let memory = frame.len().saturating_mul(MEMORY_PER_BYTE).max(LEAST_MEMORY);
        Self { frame, bytes: frame, position: 0, memory }
    }

    /// Counts the memory of `count` items of `size` bytes each, before it is allocated. An error if that is too much.
    #[inline]
    pub(crate) fn claim(&mut self, count: usize, size: usize) -> Result<()> {
        match count.checked_mul(size).and_then(|bytes| self.memory.checked_sub(bytes)) {
            Some(left) => {
                self.memory = left;
                Ok(())
            }
            None => Err(too_much(count, self.frame.len())),
        }
    }

    /// How many bytes are left.
    #[inline]
    pub(crate) fn remaining(&self) -> usize {
        self.bytes.len().saturating_sub(self.position)
    }

    /// The next `len` bytes.
    #[inline]
    pub(crate) fn take(&mut self, len: usize) -> Result<&'a [u8]> {
        let end = self.position.saturating_add(len);
        match self.bytes.get(self.position..end) {
            Some(taken) => {
                self.position = end;
                Ok(taken)
            }
            None => Err(self.short(len)),
        }
    }

    /// The next `N` bytes.
    #[inline]
    pub(crate) fn take_array<const N: usize>(&mut self) -> Result<[u8; N]> {
        match self.bytes.get(self.position..).and_then(<[u8]>::first_chunk) {
            Some(taken) => {
                self.position += N;
                Ok(*taken)
            }
            None => Err(self.short(N)),
        }
    }

    /// The next `len` bytes as a part of the frame, without copying them.
    pub(crate) fn take_shared(&mut self, len: usize) -> Result<SharedBytes> {
        let start = self.position;
        self.take(len)?;
        self.frame.slice(start..self.position).ok_or_else(|| Error::bug("a reader left its frame"))
    }

    /// A reader of the next `len` bytes only; this reader goes on after them.
    pub(crate) fn take_reader(&mut self, len: usize) -> Result<Self> {
        let position = self.position;
        self.take(len)?;
        let bytes = self.bytes.get(..self.position).unwrap_or_default();
        // The new reader's share of the memory is taken from this reader's.
        let memory = len.saturating_mul(MEMORY_PER_BYTE).min(self.memory);
        self.memory -= memory;
        Ok(Self { frame: self.frame, bytes, position, memory })
    }

    /// An unsigned varint of at most five bytes and 32 bits.
    #[inline]
    pub(crate) fn take_uvarint(&mut self) -> Result<u32> {
        let mut value = 0;
        for shift in [0, 7, 14, 21, 28] {
            let [byte] = self.take_array()?;
            let bits = u32::from(byte & 0x7f);
            if shift == 28 && byte > 0x0f {
                break;
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                return Ok(value);
            }
        }
        Err(Error::misbehaved("a varint is longer than 32 bits"))
    }

    /// Skips the tagged fields at the end of a structure that knows none (KIP-482).
    #[inline]
    pub(crate) fn skip_tags(&mut self) -> Result<()> {
        for _ in 0..self.take_uvarint()? {
            self.take_tag()?;
        }
        Ok(())
    }

    /// The number of the next tagged field, and a reader of its value.
    pub(crate) fn take_tag(&mut self) -> Result<(u32, Self)> {
        let tag = self.take_uvarint()?;
        let len = self.take_uvarint()?;
        // A size that does not fit a usize is larger than any frame.
        Ok((tag, self.take_reader(usize::try_from(len).unwrap_or(usize::MAX))?))
    }

    /// Refuses bytes after the end of what was read: they show that the two sides understand the message differently.
    #[inline]
    pub(crate) fn expect_end(&self) -> Result<()> {
        match self.remaining() {
            0 => Ok(()),
            left => Err(trailing(left)),
        }
    }

    #[cold]
    fn short(&self, len: usize) -> Error {
        Error::misbehaved(format!("{len} bytes are needed, {} are left", self.remaining()))
    }
}

#[cold]
fn too_much(count: usize, frame: usize) -> Error {
    let text = format!(
        "with {count} items more the message would take over {MEMORY_PER_BYTE} times as much memory as the frame's {frame} bytes"
    );
    Error::misbehaved(text)
}

#[cold]
fn trailing(left: usize) -> Error {
    Error::misbehaved(format!("{left} bytes are left after the end"))
}
