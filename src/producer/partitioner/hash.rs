//! The hash functions of Kafka's clients, for partitioners of one's own.

/// The 32-bit murmur2 with which the Java client places keys (`Utils.murmur2`). Java takes
/// `(hash & 0x7fff_ffff) % partitions`.
///
/// ```
/// use kafka_blocking::partitioner::hash::murmur2;
/// assert_eq!(murmur2(b"abc"), 479_470_107);
/// ```
pub fn murmur2(data: &[u8]) -> u32 {
    const SEED: u32 = 0x9747_b28c;
    const M: u32 = 0x5bd1_e995;
    // Java's lengths are 32 bits wide; a key cannot be longer.
    let mut hash = SEED ^ u32::try_from(data.len()).unwrap_or(u32::MAX);
    let (words, tail) = data.as_chunks::<4>();
    for word in words {
        let mut k = u32::from_le_bytes(*word).wrapping_mul(M);
        k ^= k >> 24;
        hash = hash.wrapping_mul(M) ^ k.wrapping_mul(M);
    }
    if !tail.is_empty() {
        for (byte, shift) in tail.iter().zip([0, 8, 16]) {
            hash ^= u32::from(*byte) << shift;
        }
        hash = hash.wrapping_mul(M);
    }
    hash ^= hash >> 13;
    hash = hash.wrapping_mul(M);
    hash ^ (hash >> 15)
}

/// The 32-bit FNV-1a. Sarama and librdkafka take the absolute value of it as a signed number, modulo the number
/// of partitions: `fnv1a(key).cast_signed().unsigned_abs() % partitions`.
///
/// ```
/// use kafka_blocking::partitioner::hash::fnv1a;
/// assert_eq!(fnv1a(b"kafka"), 0x0d33_c4e1);
/// ```
pub fn fnv1a(data: &[u8]) -> u32 {
    data.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// The CRC-32 (IEEE) with which librdkafka's `consistent` partitioners place keys.
///
/// ```
/// use kafka_blocking::partitioner::hash::crc32;
/// assert_eq!(crc32(b"hejsan"), 0xd077_037e);
/// ```
pub fn crc32(data: &[u8]) -> u32 {
    crc32fast::hash(data)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn murmur2_gives_what_java_gives() {
        let long = "lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8";
        for (text, hash) in [
            ("21", -973_932_308),
            ("foobar", -790_332_482),
            ("a-little-bit-long-string", -985_981_536),
            ("a-little-bit-longer-string", -1_486_304_829),
            (long, -58_897_971),
            ("abc", 479_470_107),
            ("", 275_646_681),
        ] {
            assert_eq!(murmur2(text.as_bytes()).cast_signed(), hash, "{text}");
        }
        for (text, hash) in [("a", 2_731_586_172), ("VeryCommonKey", 3_505_675_471), ("Precision Products", 37_184_711)]
        {
            assert_eq!(murmur2(text.as_bytes()), hash, "{text}");
        }
    }

    #[test]
    fn murmur2_gives_what_librdkafka_gives() {
        for (text, hash) in [("kafka", 1_348_980_580), ("amqp", 767_747_138), ("giberish123456789", 257_239_820)] {
            assert_eq!(murmur2(text.as_bytes()) & 0x7fff_ffff, hash & 0x7fff_ffff, "{text}");
        }
    }

    #[test]
    fn murmur2_gives_what_aiokafka_gives() {
        let keys: [(&[u8], u32); 6] =
            [(b"", 681), (b"a", 524), (b"ab", 434), (b"abc", 107), (b"123456789", 566), (b"\x00 ", 742)];
        for (key, place) in keys {
            assert_eq!((murmur2(key) & 0x7fff_ffff) % 1000, place, "{key:?}");
        }
    }

    #[test]
    fn fnv1a_gives_what_sarama_and_librdkafka_give() {
        let short = "1234";
        let long = "PreAmbleWillBeRemoved,ThePrePartThatIs";
        for (text, hash) in [
            ("kafka", 0x0d33_c4e1),
            ("giberish123456789", 0x77a5_8295),
            (short, 0x023b_dd03),
            (&short[1..], 0x2dea_3cd2),
            (&short[2..], 0x740f_a83e),
            (&short[3..], 0x310c_a263),
            (long, 0x65cb_d69c),
            (&long[1..], 0x6e49_c79a),
            (&long[2..], 0x69ee_d356),
            (&long[3..], 0x6abc_c023),
            ("", 0x7ee3_623b),
        ] {
            assert_eq!(fnv1a(text.as_bytes()).cast_signed().unsigned_abs(), hash, "{text}");
        }
    }

    #[test]
    fn crc32_gives_what_librdkafka_gives() {
        for (text, hash) in [
            ("", 0),
            ("23456", 0xb1b4_51d7),
            ("this is another string with more length to it perhaps", 0xb015_0df7),
            ("hejsan", 0xd077_037e),
        ] {
            assert_eq!(crc32(text.as_bytes()), hash, "{text}");
        }
    }
}
