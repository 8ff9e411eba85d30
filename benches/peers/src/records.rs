//! The records that every program sends.

use std::fmt::Write as _;

/// How many different values there are: few enough to stay in the cache, for no client is measured by its misses.
const VALUES: usize = 64;

/// Values and keys to choose from. The values are text that compresses about as log lines do.
pub struct Records {
    values: Vec<Vec<u8>>,
    keys: Vec<Vec<u8>>,
}

impl Records {
    /// Values of `size` bytes and `keys` different keys of 16 bytes.
    pub fn new(size: usize, keys: usize) -> Self {
        let mut random = 0x2545_f491_4f6c_dd1d_u64;
        let mut next = move || {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            random
        };
        let value = |number: usize| {
            let mut text = format!("{{\"id\":{number}");
            while text.len() < size {
                let _ = write!(text, ",\"user\":\"user-{}\",\"amount\":{}", next() % 10_000, next() % 1_000_000);
            }
            let mut value = text.into_bytes();
            value.truncate(size);
            value
        };
        Self {
            values: (0..VALUES).map(value).collect(),
            keys: (0..keys).map(|key| format!("key-{key:012}").into_bytes()).collect(),
        }
    }

    /// The value of record `number`.
    pub fn value(&self, number: u64) -> &[u8] {
        &self.values[number as usize % VALUES]
    }

    /// The key of record `number`, if records have keys.
    pub fn key(&self, number: u64) -> Option<&[u8]> {
        if self.keys.is_empty() { None } else { Some(&self.keys[number as usize % self.keys.len()]) }
    }
}
