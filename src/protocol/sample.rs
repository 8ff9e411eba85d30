//! Messages for tests, with a value in every field that is made from the field's name. `golden/Golden.java` makes the
//! same messages with Kafka's own classes.

use super::wire::{At, Records, Uuid};
use crate::bytes::SharedBytes;

/// What a sample value is made from.
#[derive(Clone, Copy)]
pub(crate) struct Seed {
    /// The field's name.
    name: &'static str,
    /// The index in the array that holds it.
    index: u8,
    depth: u8,
    /// Whether fields that can be null are null.
    nulls: bool,
}

impl Seed {
    pub(crate) fn new(nulls: bool) -> Self {
        Self { name: "", index: 0, depth: 0, nulls }
    }

    pub(crate) fn field(self, name: &'static str, nullable: bool) -> Self {
        Self { name, nulls: self.nulls && nullable, ..self }
    }

    fn item(self, index: u8) -> Self {
        Self { index, depth: self.depth + 1, ..self }
    }

    /// FNV-1a over the name and the index.
    fn hash(self) -> u64 {
        let bytes = self.name.bytes().chain([self.index]);
        bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
    }

    /// The lowest bytes of the hash.
    fn low<const N: usize>(self) -> [u8; N] {
        *self.hash().to_be_bytes().last_chunk().unwrap()
    }
}

/// A type of which tests can make values.
pub(crate) trait Sample: Sized {
    fn sample(seed: Seed, at: At) -> Self;
}

macro_rules! numbers {
    ($($number:ty),*) => {$(
        impl Sample for $number {
            fn sample(seed: Seed, _: At) -> Self {
                Self::from_be_bytes(seed.low())
            }
        }
    )*};
}

numbers!(i8, i16, i32, i64);

impl Sample for bool {
    fn sample(seed: Seed, _: At) -> Self {
        seed.hash() & 1 == 1
    }
}

impl Sample for Uuid {
    fn sample(seed: Seed, _: At) -> Self {
        let hash = u128::from(seed.hash());
        Self((hash << 64 | hash ^ u128::from(u64::MAX)).to_be_bytes())
    }
}

impl Sample for String {
    fn sample(seed: Seed, _: At) -> Self {
        format!("{}{}", seed.name, seed.index)
    }
}

impl Sample for SharedBytes {
    fn sample(seed: Seed, _: At) -> Self {
        seed.hash().to_be_bytes().to_vec().into()
    }
}

impl Sample for Records {
    fn sample(seed: Seed, at: At) -> Self {
        if seed.nulls { Self::Null } else { Self::Inline(SharedBytes::sample(seed, at)) }
    }
}

impl<T: Sample> Sample for Vec<T> {
    fn sample(seed: Seed, at: At) -> Self {
        let count = if seed.depth == 0 { 2 } else { 1 };
        (0..count).map(|index| T::sample(seed.item(index), at)).collect()
    }
}

impl<T: Sample> Sample for Option<T> {
    fn sample(seed: Seed, at: At) -> Self {
        if seed.nulls { None } else { Some(T::sample(seed, at)) }
    }
}
