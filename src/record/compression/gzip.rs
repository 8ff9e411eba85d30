//! Gzip (RFC 1952) around deflate.

use byteorder::{ByteOrder, LittleEndian};
use flate2::{Compress, Decompress, FlushCompress, FlushDecompress, Status};

use super::{Codec, corrupt, failed, over_limit};
use crate::error::Result;

const NAME: &str = "gzip";
const WINDOW_BITS: u8 = 15;
/// More than header, trailer and deflate add to data that cannot be compressed; for the first guess of the output's
/// size.
const HEADER_AND_TRAILER_BYTES: usize = 64;
/// The least step by which the output grows.
const MIN_OUTPUT_STEP: usize = 4096;

/// Gzip at one level, with its state kept from batch to batch.
pub(super) struct Gzip {
    level: u32,
    deflate: Option<Compress>,
    /// It reads raw deflate, because only that can be reset without new memory; the header is read in this file.
    inflate: Option<Decompress>,
}

impl Gzip {
    pub(super) fn new(level: u32) -> Self {
        Self { level, deflate: None, inflate: None }
    }
}

impl Codec for Gzip {
    fn compress(&mut self, mut input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        let level = flate2::Compression::new(self.level);
        let deflate = self.deflate.get_or_insert_with(|| Compress::new_gzip(level, WINDOW_BITS));
        deflate.reset();
        output.reserve(input.len() + HEADER_AND_TRAILER_BYTES);
        loop {
            let before = deflate.total_in();
            let status = deflate.compress_vec(input, output, FlushCompress::Finish);
            input = advance(input, before, deflate.total_in())?;
            match status {
                Ok(Status::StreamEnd) => return Ok(()),
                Ok(Status::Ok | Status::BufError) => output.reserve(input.len() + HEADER_AND_TRAILER_BYTES),
                Err(error) => return Err(failed(NAME, error)),
            }
        }
    }

    fn decompress(&mut self, mut input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<()> {
        let inflate = self.inflate.get_or_insert_with(|| Decompress::new(false));
        let start = output.len();
        loop {
            input = skip_header(input).ok_or_else(|| corrupt(NAME, "bad header"))?;
            let member = output.len();
            inflate.reset(false);
            inflate_member(inflate, &mut input, output, start, limit)?;

            let (trailer, rest) = input.split_first_chunk::<8>().ok_or_else(|| corrupt(NAME, "cut short"))?;
            let content = output.get(member..).unwrap_or_default();
            if LittleEndian::read_u32(&trailer[..4]) != crc32fast::hash(content) {
                return Err(corrupt(NAME, "checksum mismatch"));
            }
            // The format has the length modulo 2^32; content of 4 GiB is refused.
            if Ok(LittleEndian::read_u32(&trailer[4..])) != u32::try_from(content.len()) {
                return Err(corrupt(NAME, "length mismatch"));
            }
            // Several members may follow each other; the content is all of theirs.
            if rest.is_empty() {
                return Ok(());
            }
            input = rest;
        }
    }
}

/// Inflates one stream and removes it from `input`. `start` is where the output of all members begins.
fn inflate_member(
    inflate: &mut Decompress,
    input: &mut &[u8],
    output: &mut Vec<u8>,
    start: usize,
    limit: usize,
) -> Result<()> {
    // With one byte of room over the limit, too much output can be told from just enough.
    let room = limit.saturating_add(1);
    loop {
        let produced = output.len() - start;
        if produced > limit {
            return Err(over_limit(NAME, limit));
        }
        if output.capacity() == output.len() {
            let step = produced.max(input.len().saturating_mul(3)).max(MIN_OUTPUT_STEP);
            output.reserve_exact(step.min(room - produced));
        }
        let (length, before) = (output.len(), inflate.total_in());
        let status = inflate.decompress_vec(input, output, FlushDecompress::Finish);
        let progressed = output.len() > length || inflate.total_in() > before;
        *input = advance(input, before, inflate.total_in())?;
        match status {
            Ok(Status::StreamEnd) if output.len() - start > limit => return Err(over_limit(NAME, limit)),
            Ok(Status::StreamEnd) => return Ok(()),
            Ok(Status::Ok | Status::BufError) if progressed => {}
            Ok(_) => return Err(corrupt(NAME, "cut short")),
            Err(error) => return Err(corrupt(NAME, "bad data").with_source(error)),
        }
    }
}

/// The rest of `input`, from the codec's counts of consumed bytes before and after.
fn advance(input: &[u8], before: u64, after: u64) -> Result<&[u8]> {
    let rest = usize::try_from(after - before).ok().and_then(|consumed| input.get(consumed..));
    rest.ok_or_else(|| corrupt(NAME, "more consumed than there was"))
}

/// The input after the member's header (RFC 1952, 2.3), or `None` if the header is damaged.
fn skip_header(input: &[u8]) -> Option<&[u8]> {
    const HEADER_CRC: u8 = 0x02;
    const EXTRA: u8 = 0x04;
    const NAME: u8 = 0x08;
    const COMMENT: u8 = 0x10;
    const RESERVED: u8 = 0xe0;

    let ([0x1f, 0x8b, 8, flags, ..], mut rest) = input.split_first_chunk::<10>()? else {
        return None;
    };
    if flags & RESERVED != 0 {
        return None;
    }
    if flags & EXTRA != 0 {
        let (length, after) = rest.split_first_chunk::<2>()?;
        rest = after.get(usize::from(LittleEndian::read_u16(length))..)?;
    }
    for text in [NAME, COMMENT] {
        if flags & text != 0 {
            let end = rest.iter().position(|&byte| byte == 0)?;
            rest = rest.get(end + 1..)?;
        }
    }
    if flags & HEADER_CRC != 0 {
        rest = rest.get(2..)?;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_with_every_optional_field_are_read_as_one() {
        let mut compressed = Vec::new();
        Gzip::new(6).compress(b"one", &mut compressed).unwrap();
        let body = compressed.split_off(10);
        let mut input = [0x1f, 0x8b, 8, 0x1e, 0, 0, 0, 0, 0, 3].to_vec();
        input.extend_from_slice(b"\x03\0abcname\0comment\0\xff\xff");
        input.extend_from_slice(&body);
        Gzip::new(1).compress(b" two", &mut input).unwrap();

        let mut output = b">".to_vec();
        Gzip::new(6).decompress(&input, &mut output, 7).unwrap();
        assert_eq!(output, b">one two");
    }

    #[test]
    fn a_wrong_checksum_or_length_is_found() {
        let mut good = Vec::new();
        Gzip::new(6).compress(b"content", &mut good).unwrap();
        for at in good.len() - 8..good.len() {
            let mut bad = good.clone();
            bad[at] ^= 0x10;
            Gzip::new(6).decompress(&bad, &mut Vec::new(), 7).unwrap_err();
        }
    }
}
