//! Snappy in the framing of the Java library snappy-java ("xerial"), which Kafka's clients write; bare blocks, which
//! some clients write instead, are read too.

use byteorder::{BigEndian, ByteOrder};

use super::{Codec, corrupt, failed, over_limit, tail};
use crate::error::Result;

const NAME: &str = "snappy";
/// The framing's magic, and the version 1 twice: as the version of the framing, and as the oldest version that can read
/// it.
const XERIAL_HEADER: [u8; 16] = [0x82, b'S', b'N', b'A', b'P', b'P', b'Y', 0, 0, 0, 0, 1, 0, 0, 0, 1];
const XERIAL_MAGIC_BYTES: usize = 8;
/// Java's block size.
const BLOCK_BYTES: usize = 32 * 1024;
/// The densest element of the format makes 64 bytes from 3, so a block that claims more than this ratio is damaged.
const MAX_RATIO: usize = 22;

/// Snappy, with its hash table kept from batch to batch.
pub(super) struct Snappy {
    encoder: snap::raw::Encoder,
    decoder: snap::raw::Decoder,
}

impl Snappy {
    pub(super) fn new() -> Self {
        Self { encoder: snap::raw::Encoder::new(), decoder: snap::raw::Decoder::new() }
    }

    fn decompress_block(&mut self, block: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<usize> {
        let claimed =
            snap::raw::decompress_len(block).map_err(|error| corrupt(NAME, "bad block").with_source(error))?;
        if claimed > block.len().saturating_mul(MAX_RATIO) {
            return Err(corrupt(NAME, "a block claims more than it can hold"));
        }
        if claimed > limit {
            return Err(over_limit(NAME, limit));
        }
        let start = output.len();
        let written = self.decoder.decompress(block, tail(output, claimed));
        let written = written.map_err(|error| corrupt(NAME, "bad block").with_source(error))?;
        output.truncate(start + written);
        Ok(written)
    }
}

impl Codec for Snappy {
    fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        output.extend_from_slice(&XERIAL_HEADER);
        for block in input.chunks(BLOCK_BYTES) {
            let length_at = output.len();
            output.extend_from_slice(&[0; 4]);
            let body_at = output.len();
            let written = self.encoder.compress(block, tail(output, snap::raw::max_compress_len(block.len())));
            let written = written.map_err(|error| failed(NAME, error))?;
            output.truncate(body_at + written);
            if let (Some(field), Ok(length)) = (output.get_mut(length_at..body_at), u32::try_from(written)) {
                BigEndian::write_u32(field, length);
            }
        }
        Ok(())
    }

    fn decompress(&mut self, input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<()> {
        // No bare block begins with the magic: after the length it would copy bytes from before its own start.
        if !input.starts_with(&XERIAL_HEADER[..XERIAL_MAGIC_BYTES]) {
            return self.decompress_block(input, output, limit).map(drop);
        }
        let mut rest = input.get(XERIAL_HEADER.len()..).ok_or_else(|| corrupt(NAME, "cut short"))?;
        let mut left = limit;
        while !rest.is_empty() {
            let (length, after) = rest.split_first_chunk::<4>().ok_or_else(|| corrupt(NAME, "cut short"))?;
            let block =
                usize::try_from(BigEndian::read_u32(length)).ok().and_then(|length| after.split_at_checked(length));
            let (block, after) = block.ok_or_else(|| corrupt(NAME, "cut short"))?;
            let written = self.decompress_block(block, output, left).map_err(|error| {
                // The limit is for the whole batch, so the error names the limit of the whole batch.
                if error.context().limit.is_some() { over_limit(NAME, limit) } else { error }
            })?;
            left -= written;
            rest = after;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_blocks_are_read() {
        let bare = snap::raw::Encoder::new().compress_vec(&[7; 1000]).unwrap();
        let mut output = Vec::new();
        Snappy::new().decompress(&bare, &mut output, 1000).unwrap();
        assert_eq!(output, [7; 1000]);
    }

    #[test]
    fn a_block_is_not_believed_in_what_it_claims() {
        // 6 bytes that claim 4 GiB.
        for limit in [1000, usize::MAX] {
            let mut output = Vec::new();
            Snappy::new().decompress(&[0xff, 0xff, 0xff, 0xff, 0x0f, 0], &mut output, limit).unwrap_err();
            assert_eq!(output.capacity(), 0);
        }
    }

    #[test]
    fn blocks_are_those_that_java_writes() {
        let mut output = Vec::new();
        Snappy::new().compress(&[1; BLOCK_BYTES + 1], &mut output).unwrap();
        assert_eq!(output[..16], XERIAL_HEADER);
        let first = usize::try_from(u32::from_be_bytes(*output[16..].first_chunk().unwrap())).unwrap();
        assert_eq!(snap::raw::decompress_len(&output[20..20 + first]).unwrap(), BLOCK_BYTES);
        assert_eq!(snap::raw::decompress_len(&output[24 + first..]).unwrap(), 1);
    }
}
