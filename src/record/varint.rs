//! Variable-length integers as records carry them: zigzag, then 7 bits a byte, the lowest first.

/// The most bytes that a 32-bit integer takes.
pub(super) const MAX_VARINT_BYTES: usize = 5;
/// The most bytes that a 64-bit integer takes.
pub(super) const MAX_VARLONG_BYTES: usize = 10;

/// How many bytes `value` takes.
pub(super) fn varint_len(value: i32) -> usize {
    varlong_len(i64::from(value))
}

/// How many bytes `value` takes.
pub(super) fn varlong_len(value: i64) -> usize {
    // 7 bits a byte, and at least one byte: (bits * 9 + 64) / 64 is bits / 7 rounded up for 1..=64 bits.
    let bits = u64::BITS - (zigzag(value) | 1).leading_zeros();
    match usize::try_from((bits * 9 + 64) / 64) {
        Ok(len) => len,
        Err(_) => MAX_VARLONG_BYTES,
    }
}

/// The most bytes that one call of [`write_numbers`] writes.
pub(super) const MAX_NUMBERS: usize = 40;

/// Writes numbers to the end of `buffer`, at most [`MAX_NUMBERS`] bytes. What goes beyond is dropped.
#[inline]
pub(super) fn write_numbers(buffer: &mut Vec<u8>, write: impl FnOnce(&mut Numbers<'_>)) {
    let start = buffer.len();
    let mut aside = [0; MAX_NUMBERS];
    let roomy = buffer.capacity().saturating_sub(start) >= MAX_NUMBERS;
    if roomy {
        // The numbers are written straight to their place: bytes that were just written one by one are slow to copy in
        // larger pieces.
        buffer.extend_from_slice(&aside);
    }
    let place = buffer.get_mut(start..).and_then(<[u8]>::first_chunk_mut).unwrap_or(&mut aside);
    let len = Numbers::in_bytes(place, write);
    if roomy {
        buffer.truncate(start.saturating_add(len));
    } else {
        buffer.extend_from_slice(aside.get(..len).unwrap_or_default());
    }
}

/// Numbers that are being encoded.
pub(super) struct Numbers<'a> {
    bytes: &'a mut [u8; MAX_NUMBERS],
    len: usize,
}

impl<'a> Numbers<'a> {
    /// Returns how many bytes `write` has written.
    fn in_bytes(bytes: &'a mut [u8; MAX_NUMBERS], write: impl FnOnce(&mut Self)) -> usize {
        let mut numbers = Self { bytes, len: 0 };
        write(&mut numbers);
        numbers.len
    }

    pub(super) fn byte(&mut self, value: u8) {
        if let Some(slot) = self.bytes.get_mut(self.len) {
            *slot = value;
            self.len += 1;
        }
    }

    pub(super) fn varint(&mut self, value: i32) {
        self.varlong(i64::from(value));
    }

    pub(super) fn varlong(&mut self, value: i64) {
        let mut rest = zigzag(value);
        while rest > 0x7f {
            self.byte(low_seven_bits(rest) | 0x80);
            rest >>= 7;
        }
        self.byte(low_seven_bits(rest));
    }
}

/// Makes a small number from a small magnitude of either sign.
#[expect(clippy::cast_sign_loss, reason = "zigzag reinterprets the bits")]
fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)) as u64
}

#[expect(clippy::cast_possible_wrap, reason = "zigzag reinterprets the bits")]
fn unzigzag(value: u64) -> i64 {
    (value >> 1) as i64 ^ -((value & 1) as i64)
}

fn low_seven_bits(value: u64) -> u8 {
    let [low, ..] = value.to_le_bytes();
    low & 0x7f
}

/// Removes a 32-bit integer from the front of `input`. `None` if `input` ends before the integer does, or if the
/// integer has more than 5 bytes or more than 32 bits.
pub(super) fn read_varint(input: &mut &[u8]) -> Option<i32> {
    let value = read_unsigned(input, MAX_VARINT_BYTES)?;
    i32::try_from(unzigzag(value)).ok()
}

/// Removes a 64-bit integer from the front of `input`. `None` if `input` ends before the integer does, or if the
/// integer has more than 10 bytes or more than 64 bits.
pub(super) fn read_varlong(input: &mut &[u8]) -> Option<i64> {
    read_unsigned(input, MAX_VARLONG_BYTES).map(unzigzag)
}

fn read_unsigned(input: &mut &[u8], max_bytes: usize) -> Option<u64> {
    let mut value = 0_u64;
    let mut shift = 0_u32;
    for (index, &byte) in input.iter().take(max_bytes).enumerate() {
        let bits = u64::from(byte & 0x7f);
        let shifted = bits << shift;
        if shifted >> shift != bits {
            return None;
        }
        value |= shifted;
        if byte & 0x80 == 0 {
            *input = input.get(index + 1..)?;
            return Some(value);
        }
        shift += 7;
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(value: i64) -> Vec<u8> {
        let mut tight = Vec::new();
        write_numbers(&mut tight, |numbers| numbers.varlong(value));
        let mut roomy = Vec::with_capacity(100);
        write_numbers(&mut roomy, |numbers| numbers.varlong(value));
        assert_eq!(tight, roomy);
        tight
    }

    #[test]
    fn small_numbers_of_either_sign_take_one_byte() {
        assert_eq!(written(0), [0]);
        assert_eq!(written(-1), [1]);
        assert_eq!(written(1), [2]);
        assert_eq!(written(63), [126]);
        assert_eq!(written(-64), [127]);
        assert_eq!(written(64), [0x80, 1]);
    }

    #[test]
    fn every_length_survives_the_round_trip_and_is_foretold() {
        for shift in 0..64 {
            for value in [1_i64 << shift, (1_i64 << shift).wrapping_sub(1), (1_i64 << shift).wrapping_neg(), i64::MIN] {
                let bytes = written(value);
                assert_eq!(bytes.len(), varlong_len(value), "{value}");
                assert_eq!(read_varlong(&mut &bytes[..]), Some(value));
                assert_eq!(read_varint(&mut &bytes[..]), i32::try_from(value).ok(), "{value}");
                for cut in 0..bytes.len() {
                    assert_eq!(read_varlong(&mut &bytes[..cut]), None);
                }
            }
        }
    }

    #[test]
    fn too_long_and_too_wide_numbers_are_refused() {
        assert_eq!(read_varint(&mut &[0x80, 0x80, 0x80, 0x80, 0x80, 0][..]), None);
        assert_eq!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x1f][..]), None);
        assert_eq!(read_varint(&mut &[0xff, 0xff, 0xff, 0xff, 0x0f][..]), Some(i32::MIN));
        assert_eq!(read_varlong(&mut &[0xff; 11][..]), None);
        let mut widest = [0xff; 10];
        widest[9] = 2;
        assert_eq!(read_varlong(&mut &widest[..]), None);
        widest[9] = 1;
        assert_eq!(read_varlong(&mut &widest[..]), Some(i64::MIN));
    }
}
