//! Zstandard frames.

use mzstd::{Compressor, DecodeError, DecodeLimits, DecoderConfig, Decompressor, EncoderConfig, Level};

use super::{Codec, corrupt, failed, over_limit};
use crate::error::Result;

const NAME: &str = "zstd";

/// Zstd at one level, with its contexts kept from batch to batch.
pub(super) struct Zstd {
    level: i32,
    encoder: Option<Compressor>,
    decoder: Option<Decompressor>,
}

impl Zstd {
    pub(super) fn new(level: i32) -> Self {
        Self { level, encoder: None, decoder: None }
    }
}

impl Codec for Zstd {
    fn compress(&mut self, input: &[u8], output: &mut Vec<u8>) -> Result<()> {
        let encoder = match &mut self.encoder {
            Some(encoder) => encoder,
            none => {
                let level = Level::try_from(self.level).map_err(|error| failed(NAME, error))?;
                let config = EncoderConfig::default().with_level(level);
                none.insert(Compressor::new(config).map_err(|error| failed(NAME, error))?)
            }
        };
        encoder.compress_into(input, output).map(drop).map_err(|error| failed(NAME, error))
    }

    fn decompress(&mut self, input: &[u8], output: &mut Vec<u8>, limit: usize) -> Result<()> {
        let decoder = self.decoder.get_or_insert_default();
        decoder.reconfigure(config(limit));
        match decoder.decompress_into(input, output) {
            Ok(_) => Ok(()),
            Err(error @ (DecodeError::OutputLimitExceeded { .. } | DecodeError::WindowLimitExceeded { .. })) => {
                Err(over_limit(NAME, limit).with_source(error))
            }
            Err(error) => Err(corrupt(NAME, "bad data").with_source(error)),
        }
    }
}

fn config(limit: usize) -> DecoderConfig {
    let limits = DecodeLimits::DEFAULT.with_max_output_bytes(u64::try_from(limit).ok());
    // A frame in one segment has a window as large as its content, so a limit above the default window size raises the
    // window limit, too.
    let window_log = (usize::BITS - limit.leading_zeros()).clamp(27, 31);
    let window_log = u8::try_from(window_log).unwrap_or(DecodeLimits::DEFAULT_WINDOW_LOG);
    DecoderConfig::DEFAULT.with_limits(limits.with_max_window_log(window_log).unwrap_or(limits))
}
