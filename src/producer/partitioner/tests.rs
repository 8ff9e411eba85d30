//! The partitioners through the trait, against the answers of the clients that they come from.

use std::collections::HashSet;

use super::*;

fn ask(partitioner: &dyn Partitioner, key: Option<&[u8]>, partitions: &[i32]) -> Choice {
    partitioner.partition(&PartitionRequest::new("t", key, None, partitions, partitions)).unwrap()
}

fn ids(count: i32) -> Vec<i32> {
    (0..count).collect()
}

/// librdkafka's keys: none, empty, and three others; and the hashes its tests expect, `None` for its random choice.
#[test]
fn librdkafkas_partitioners_give_librdkafkas_answers() {
    let keys: [Option<&[u8]>; 5] = [
        None,
        Some(b""),
        Some(b"23456"),
        Some(b"this is another string with more length to it perhaps"),
        Some(b"hejsan"),
    ];
    let crc = [0xb1b4_51d7, 0xb015_0df7, 0xd077_037e].map(Some);
    let murmur = [0x058d_780f, 0x4f77_03da, 0x5ec1_9395].map(Some);
    let fnv = [0x27e6_f469, 0x155e_3e5f, 0x17b1_e27a].map(Some);
    // For the first two keys, and for the others.
    type Hashes = ([Option<u32>; 2], [Option<u32>; 3]);
    let cases: [(&str, Hashes); 6] = [
        ("consistent", ([Some(0), Some(0)], crc)),
        ("consistent_random", ([None, None], crc)),
        ("murmur2", ([Some(0x106e_08d9), Some(0x106e_08d9)], murmur)),
        ("murmur2_random", ([None, Some(0x106e_08d9)], murmur)),
        ("fnv1a", ([Some(0x7ee3_623b), Some(0x7ee3_623b)], fnv)),
        ("fnv1a_random", ([None, Some(0x7ee3_623b)], fnv)),
    ];
    for (name, (first, others)) in cases {
        let partitioner = by_name(name).unwrap();
        for count in [7i32, 17] {
            for (key, hash) in keys.iter().zip(first.iter().chain(&others)) {
                let expected = match hash {
                    Some(hash) => Choice::Partition(i32::try_from(hash % count.cast_unsigned()).unwrap()),
                    None => Choice::Sticky,
                };
                assert_eq!(ask(&partitioner, *key, &ids(count)), expected, "{name} {count} {key:?}");
            }
        }
    }
}

#[test]
fn java_hashes_keys_over_all_partitions_and_an_empty_key_is_a_key() {
    let all = ids(1000);
    for (key, partition) in [("", 681), ("a", 524), ("ab", 434), ("abc", 107), ("123456789", 566)] {
        let request = PartitionRequest::new("t", Some(key.as_bytes()), None, &all, &[3]);
        assert_eq!(java().partition(&request).unwrap(), Choice::Partition(partition), "{key:?}");
    }
    assert_eq!(ask(&java(), None, &all), Choice::Sticky);
    assert_eq!(ask(&java_ignoring_keys(), Some(b"a"), &all), Choice::Sticky);
}

#[test]
fn a_closure_or_function_of_key_and_partitions_is_a_partitioner() {
    fn first(_: Option<&[u8]>, partitions: &[i32]) -> i32 {
        partitions[0]
    }
    assert_eq!(ask(&partitioner_fn(first), None, &ids(3)), Choice::Partition(0));
    let by_length = partitioner_fn(|key, partitions| partitions[key.map_or(0, <[u8]>::len) % partitions.len()]);
    assert_eq!(ask(&by_length, Some(b"four!"), &ids(3)), Choice::Partition(2));
}

#[test]
fn a_closure_may_fail_or_leave_the_record_to_the_producer() {
    let choosy = partitioner_fn(|key, partitions| match key {
        None => Err("no key"),
        Some(b"any") => Ok(Choice::Sticky),
        Some(_) => Ok(Choice::Partition(partitions[0])),
    });
    assert_eq!(ask(&choosy, Some(b"any"), &ids(3)), Choice::Sticky);
    assert_eq!(ask(&choosy, Some(b"k"), &ids(3)), Choice::Partition(0));
    let refused = choosy.partition(&PartitionRequest::new("t", None, None, &[0], &[0])).unwrap_err();
    assert_eq!(refused.to_string(), "no key");
}

/// A program may share one with several producers, or lend it.
#[test]
fn what_points_to_a_partitioner_is_one() {
    fn is_javas(partitioner: impl Partitioner) {
        assert!(partitioner.is_sticky_without_key());
        let request = PartitionRequest::new("t", Some(b"abc"), None, &[0, 1, 2], &[0, 1, 2]);
        assert_eq!(partitioner.partition(&request).unwrap(), java().partition(&request).unwrap());
    }
    is_javas(java());
    let lent: &dyn Partitioner = &java();
    is_javas(lent);
    is_javas(std::sync::Arc::new(java()));
    is_javas(std::sync::Arc::new(java()) as std::sync::Arc<dyn Partitioner>);
    is_javas(Box::new(java()) as Box<dyn Partitioner>);
}

#[test]
fn random_reaches_every_available_partition_evenly_whatever_the_key() {
    let partitioner = random();
    let mut counts = [0u32; 4];
    for _ in 0..40_000 {
        let request = PartitionRequest::new("t", Some(b"same key"), None, &[0, 1, 2, 3, 4], &[0, 1, 2, 3]);
        let Choice::Partition(partition) = partitioner.partition(&request).unwrap() else { panic!("sticky") };
        counts[usize::try_from(partition).unwrap()] += 1;
    }
    assert!(counts.iter().all(|count| (9_400..10_600).contains(count)), "{counts:?}");
    let none_available = PartitionRequest::new("t", None, None, &[5], &[]);
    assert_eq!(partitioner.partition(&none_available).unwrap(), Choice::Partition(5));
}

#[test]
fn round_robin_takes_turns_per_topic_among_the_available() {
    let partitioner = round_robin();
    let turn = |topic: &str, available: &[i32]| {
        let request = PartitionRequest::new(topic, None, None, &[0, 1, 2, 3], available);
        match partitioner.partition(&request).unwrap() {
            Choice::Partition(partition) => partition,
            Choice::Sticky => -1,
        }
    };
    assert_eq!([turn("a", &[0, 2]), turn("a", &[0, 2]), turn("a", &[0, 2])], [0, 2, 0]);
    assert_eq!([turn("b", &[1, 3]), turn("a", &[0, 2]), turn("b", &[1, 3])], [1, 2, 3]);
    assert_eq!([0; 4].map(|_| turn("c", &[])), [0, 1, 2, 3]);
}

#[test]
fn modulo_spreads_counting_keys_evenly() {
    let mut counts = [0; 3];
    for counter in 0..300 {
        let key = counter.to_string();
        match ask(&modulo(), Some(key.as_bytes()), &ids(3)) {
            Choice::Partition(partition) => counts[usize::try_from(partition).unwrap()] += 1,
            Choice::Sticky => panic!("sticky"),
        }
    }
    assert_eq!(counts, [100; 3]);
}

#[test]
fn modulo_reads_whole_numbers_in_the_form_it_was_told_and_no_others() {
    let decimal: [(&[u8], i32); 6] =
        [(b"7", 1), (b"007", 1), (b"-1", 2), (b"-3", 0), (b"340282366920938463463374607431768211457", 2), (b"1234", 1)];
    for (key, partition) in decimal {
        assert_eq!(ask(&modulo(), Some(key), &ids(3)), Choice::Partition(partition), "{key:?}");
    }
    for key in [&7i16.to_be_bytes()[..], &7i32.to_be_bytes(), &7i64.to_be_bytes(), &(-2i64).to_be_bytes()] {
        assert_eq!(ask(&modulo_big_endian(), Some(key), &ids(3)), Choice::Partition(1), "{key:?}");
    }
    assert_eq!(ask(&modulo_big_endian(), Some(b"1234"), &ids(3)), Choice::Partition(0x3132_3334 % 3));
    let refuses = |partitioner: &dyn Partitioner, key: Option<&[u8]>| {
        partitioner.partition(&PartitionRequest::new("t", key, None, &[0, 1], &[0, 1])).is_err()
    };
    for key in [None, Some(&b""[..]), Some(b"-"), Some(b"+1"), Some(b" 1"), Some(b"1.5"), Some(b"x")] {
        assert!(refuses(&modulo(), key), "{key:?}");
    }
    for key in [None, Some(&b""[..]), Some(b"1"), Some(b"123"), Some(b"123456789")] {
        assert!(refuses(&modulo_big_endian(), key), "{key:?}");
    }
}

#[test]
fn hash_ring_keeps_a_key_in_its_place_and_moves_few_when_partitions_are_added() {
    let ring = hash_ring();
    let keys: Vec<String> = (0..20_000).map(|n| format!("user-{n}")).collect();
    let places = |count: i32| -> Vec<i32> {
        let partitions = ids(count);
        keys.iter()
            .map(|key| match ask(&ring, Some(key.as_bytes()), &partitions) {
                Choice::Partition(partition) => partition,
                Choice::Sticky => -1,
            })
            .collect()
    };
    let ten = places(10);
    assert_eq!(ten, places(10));
    let eleven = places(11);
    let moved: Vec<(&i32, &i32)> = ten.iter().zip(&eleven).filter(|(before, after)| before != after).collect();
    assert!(moved.iter().all(|(_, after)| **after == 10), "a key moves to the new partition or not at all");
    assert!((keys.len() / 22..keys.len() / 7).contains(&moved.len()), "{} of {} moved", moved.len(), keys.len());
    for partition in 0..10 {
        let share = ten.iter().filter(|place| **place == partition).count();
        assert!((1_300..2_800).contains(&share), "partition {partition} has {share} of 20,000");
    }
    assert_eq!(ask(&ring, None, &ids(3)), Choice::Sticky);
    assert!(matches!(ask(&ring, Some(b""), &ids(3)), Choice::Partition(_)));
    let request = PartitionRequest::new("t", Some(b"k"), None, &[], &[]);
    assert!(ring.partition(&request).is_err());
}

#[test]
fn hash_ring_does_not_mix_up_lists_of_one_length() {
    let ring = hash_ring();
    let low: HashSet<i32> = ring_places(&ring, &[0, 1]);
    let high: HashSet<i32> = ring_places(&ring, &[6, 7]);
    assert_eq!((low, high), (HashSet::from([0, 1]), HashSet::from([6, 7])));
}

fn ring_places(ring: &HashRing, partitions: &[i32]) -> HashSet<i32> {
    (0..100)
        .filter_map(|n: u32| match ask(ring, Some(&n.to_be_bytes()), partitions) {
            Choice::Partition(partition) => Some(partition),
            Choice::Sticky => None,
        })
        .collect()
}

#[test]
fn explicit_names_its_partition_even_one_that_does_not_exist() {
    assert_eq!(ask(&explicit(9), Some(b"k"), &ids(3)), Choice::Partition(9));
}

#[test]
fn partitioners_are_found_by_the_names_of_java_and_librdkafka() {
    for name in [
        "org.apache.kafka.clients.producer.RoundRobinPartitioner",
        "org.apache.kafka.clients.producer.internals.DefaultPartitioner",
        "org.apache.kafka.clients.producer.UniformStickyPartitioner",
        "random",
        "hash_ring",
        "modulo",
    ] {
        assert!(by_name(name).is_some(), "{name}");
    }
    assert!(by_name("com.example.SkewPartitioner").is_none());
}

/// A partitioner of the kind that Java users write: one very common key has the last partition to itself.
struct SkewPartitioner;

#[derive(Debug, PartialEq)]
struct KeyExpected;

impl fmt::Display for KeyExpected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("All messages are expected to have key")
    }
}

impl std::error::Error for KeyExpected {}

impl Partitioner for SkewPartitioner {
    fn partition(&self, request: &PartitionRequest<'_>) -> Result<Choice, PartitionerError> {
        let key = request.key.ok_or(KeyExpected)?;
        std::str::from_utf8(key).map_err(|_| KeyExpected)?;
        let (last, others) = request.partitions.split_last().ok_or("no partitions")?;
        if key == b"VeryCommonKey" {
            return Ok(Choice::Partition(*last));
        }
        PartitionRequest::new(request.topic, request.key, request.value, others, request.available)
            .by_hash(hash::murmur2(key).cast_signed().unsigned_abs())
    }
}

#[test]
fn a_skew_partitioner_sets_the_common_key_apart_and_refuses_records_without_one() {
    assert_eq!(ask(&SkewPartitioner, Some(b"VeryCommonKey"), &ids(4)), Choice::Partition(3));
    let mut others = HashSet::new();
    for n in 0..200 {
        let key = format!("customer-{n}");
        let expected = hash::murmur2(key.as_bytes()).cast_signed().unsigned_abs() % 3;
        let choice = ask(&SkewPartitioner, Some(key.as_bytes()), &ids(4));
        assert_eq!(choice, Choice::Partition(expected.cast_signed()));
        others.insert(choice);
    }
    assert_eq!(others.len(), 3, "all but the last");
    for key in [None, Some(&b"\xff\xfe"[..])] {
        let error = SkewPartitioner.partition(&PartitionRequest::new("t", key, None, &[0, 1], &[0, 1])).unwrap_err();
        assert_eq!(error.downcast_ref::<KeyExpected>(), Some(&KeyExpected));
    }
}
