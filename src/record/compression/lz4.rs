//! Lz4 in its frame format, as Kafka's Java client writes it: independent blocks of 64 KiB, no checksums.
//!
//! The frame is written and read here, on top of the block codec, so that the output grows by what the blocks really
//! hold, and never by what a header claims. Checksums are not verified on reading: the batch's CRC covers every byte
//! and was checked first, and messages of format v0 carry a header checksum that Kafka's old clients computed wrongly
//! (KAFKA-3160).

use byteorder::{ByteOrder, LittleEndian};
use lz4_flex::block::{
    CompressTable, DecompressError, compress_into_with_table, decompress_into, decompress_into_with_dict,
    get_maximum_output_size,
};

use super::{Codec, corrupt, failed, over_limit, tail};
use crate::error::Result;

const NAME: &str = "lz4";
const FRAME_MAGIC: [u8; 4] = [0x04, 0x22, 0x4d, 0x18];
/// The magic; version 1 and independent blocks; blocks of 64 KiB; the checksum of these two.
const FRAME_HEADER: [u8; 7] = [0x04, 0x22, 0x4d, 0x18, 0x60, 0x40, 0x82];
const END_MARK: [u8; 4] = [0; 4];
const BLOCK_BYTES: usize = 64 * 1024;
/// The bit in a block's length which says that the block is not compressed.
const STORED: u32 = 0x8000_0000;
/// One byte of a block stands for at most 255 bytes of output.
const MAX_RATIO: usize = 255;
/// How far back linked blocks may refer.
const WINDOW_BYTES: usize = 64 * 1024;

/// Lz4, with its hash table kept from batch to batch.
pub(super) struct Lz4 {
    table: CompressTable,
}

impl Lz4 {
    pub(super) fn new() -> Self {
        // Blocks of 64 KiB are one byte too large for the small table.
        Self { table: CompressTable::large() }
    }
}

impl Codec for Lz4 {
    fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        output.extend_from_slice(&FRAME_HEADER);
        for block in input.chunks(BLOCK_BYTES) {
            let length_at = output.len();
            output.extend_from_slice(&[0; 4]);
            let body_at = output.len();
            let room = tail(output, get_maximum_output_size(block.len()));
            let written = compress_into_with_table(block, room, &mut self.table);
            let mut written = written.map_err(|error| failed(NAME, error))?;
            output.truncate(body_at + written);
            let mut flag = 0;
            if written >= block.len() {
                output.truncate(body_at);
                output.extend_from_slice(block);
                (written, flag) = (block.len(), STORED);
            }
            if let (Some(field), Ok(length)) = (output.get_mut(length_at..body_at), u32::try_from(written)) {
                LittleEndian::write_u32(field, length | flag);
            }
        }
        output.extend_from_slice(&END_MARK);
        Ok(())
    }

    fn decompress(&mut self, mut input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<()> {
        let mut left = limit;
        // Frames may follow each other.
        loop {
            let frame = Frame::read(&mut input)?;
            let frame_start = output.len();
            loop {
                let length = LittleEndian::read_u32(take_chunk::<4>(&mut input)?);
                if length == 0 {
                    break;
                }
                let block = take(&mut input, usize::try_from(length & !STORED).unwrap_or(usize::MAX))?;
                if frame.has_block_checksums {
                    take(&mut input, 4)?;
                }
                let window = if frame.has_linked_blocks { frame_start } else { output.len() };
                let written = if length & STORED == 0 {
                    decompress_block(block, output, window, frame.max_block_bytes, left)
                } else {
                    copy_block(block, output, frame.max_block_bytes, left)
                };
                left -= written?.ok_or_else(|| over_limit(NAME, limit))?;
            }
            if frame.has_content_checksum {
                take(&mut input, 4)?;
            }
            if input.is_empty() {
                return Ok(());
            }
        }
    }
}

/// The fields of a frame's header that are needed here.
struct Frame {
    has_linked_blocks: bool,
    has_block_checksums: bool,
    has_content_checksum: bool,
    max_block_bytes: usize,
}

impl Frame {
    fn read(input: &mut &[u8]) -> Result<Self> {
        let [magic @ .., flags, block_descriptor] = *take_chunk::<6>(input)?;
        // The version, which is 1, and a reserved bit.
        if magic != FRAME_MAGIC || flags & 0xc2 != 0x40 {
            return Err(corrupt(NAME, "not a frame"));
        }
        if flags & 0x01 != 0 {
            return Err(corrupt(NAME, "a frame that needs a dictionary"));
        }
        let max_block_bytes = match block_descriptor >> 4 {
            4 => 64 << 10,
            5 => 256 << 10,
            6 => 1 << 20,
            7 => 4 << 20,
            _ => return Err(corrupt(NAME, "bad block size")),
        };
        if flags & 0x08 != 0 {
            take(input, 8)?; // The content's size, a mere hint.
        }
        take(input, 1)?; // The header's checksum.
        Ok(Self {
            has_linked_blocks: flags & 0x20 == 0,
            has_block_checksums: flags & 0x10 != 0,
            has_content_checksum: flags & 0x04 != 0,
            max_block_bytes,
        })
    }
}

/// Appends what `block` decompresses to, and returns how many bytes that is, or `None` if it is more than `limit`. The
/// block may refer to the output from `window` on.
fn decompress_block(
    block: &[u8],
    output: &mut Vec<u8>,
    window: usize,
    max_block_bytes: usize,
    limit: usize,
) -> Result<Option<usize>> {
    let start = output.len();
    let room = max_block_bytes.min(block.len().saturating_mul(MAX_RATIO)).min(limit);
    tail(output, room);
    let (before, room_left) = output.split_at_mut(start);
    let dictionary = before.get(window.max(start.saturating_sub(WINDOW_BYTES))..).unwrap_or_default();
    let written = match dictionary {
        [] => decompress_into(block, room_left),
        _ => decompress_into_with_dict(block, room_left, dictionary),
    };
    match written {
        Ok(written) => {
            output.truncate(start + written);
            Ok(Some(written))
        }
        Err(DecompressError::OutputTooSmall { .. }) if room == limit => {
            output.truncate(start);
            Ok(None)
        }
        Err(error) => Err(corrupt(NAME, "bad block").with_source(error)),
    }
}

/// Appends a block that is not compressed.
fn copy_block(block: &[u8], output: &mut Vec<u8>, max_block_bytes: usize, limit: usize) -> Result<Option<usize>> {
    if block.len() > max_block_bytes {
        return Err(corrupt(NAME, "a block over the frame's block size"));
    }
    if block.len() > limit {
        return Ok(None);
    }
    output.extend_from_slice(block);
    Ok(Some(block.len()))
}

fn take<'b>(input: &mut &'b [u8], length: usize) -> Result<&'b [u8]> {
    let (taken, rest) = input.split_at_checked(length).ok_or_else(|| corrupt(NAME, "cut short"))?;
    *input = rest;
    Ok(taken)
}

fn take_chunk<'b, const N: usize>(input: &mut &'b [u8]) -> Result<&'b [u8; N]> {
    let (taken, rest) = input.split_first_chunk().ok_or_else(|| corrupt(NAME, "cut short"))?;
    *input = rest;
    Ok(taken)
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

    use super::*;

    fn text(size: usize) -> Vec<u8> {
        (0..).flat_map(|n: u32| format!("record {n}, ").into_bytes()).take(size).collect()
    }

    #[test]
    fn a_frame_is_what_java_writes() {
        let mut output = Vec::new();
        Lz4::new().compress(b"abc", &mut output).unwrap();
        assert_eq!(output, b"\x04\x22\x4d\x18\x60\x40\x82\x03\0\0\x80abc\0\0\0\0");
    }

    #[test]
    fn frames_of_every_kind_are_read() {
        let content = text(700_000);
        for (mode, size, checksums) in [
            (BlockMode::Linked, BlockSize::Max64KB, false),
            (BlockMode::Linked, BlockSize::Max256KB, true),
            (BlockMode::Independent, BlockSize::Max64KB, true),
            (BlockMode::Independent, BlockSize::Max4MB, false),
        ] {
            let info = FrameInfo::new()
                .block_mode(mode)
                .block_size(size)
                .block_checksums(checksums)
                .content_checksum(checksums)
                .content_size(checksums.then_some(700_000));
            let mut encoder = FrameEncoder::with_frame_info(info, Vec::new());
            encoder.write_all(&content).unwrap();
            let frame = encoder.finish().unwrap();

            let mut output = Vec::new();
            Lz4::new().decompress(&[frame.clone(), frame].concat(), &mut output, 1_400_000).unwrap();
            assert!(output == [content.clone(), content.clone()].concat(), "{mode:?} {size:?} {checksums}");
        }
    }

    #[test]
    fn a_wrong_header_checksum_is_tolerated() {
        let mut frame = Vec::new();
        Lz4::new().compress(b"abc", &mut frame).unwrap();
        frame[6] = 0x1a; // What messages of format v0 have there.
        let mut output = Vec::new();
        Lz4::new().decompress(&frame, &mut output, 3).unwrap();
        assert_eq!(output, b"abc");
    }
}
