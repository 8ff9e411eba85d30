//! What the client computes, without sockets and threads: batches, checksums, codecs, partitioners, metadata, messages.
//!
//! ```text
//! cargo bench --bench pure_parts                               # everything
//! cargo bench --bench pure_parts -- --quick codec/lz4          # what has this in its name, in little time
//! ```

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::hint::black_box;
use std::io::Write;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput};
use kafka_blocking::bench::{
    Age, Compressor, Decompressor, Fetched, Message, Metadata, OpenBatch, SealedBatch, read_all,
};
use kafka_blocking::partitioner::{self, PartitionRequest, Partitioner};
use kafka_blocking::{Compression, Record};

const KIB: usize = 1024;

/// Java's `batch.size` and this crate's: 16 KiB.
const BATCH_SIZE: usize = 16 * KIB;

fn main() {
    let config = Criterion::default().warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(2));
    let mut criterion = config.configure_from_args();
    for bench in [append, seal, crc32c, codecs, decode, partitioners, metadata, messages] {
        bench(&mut criterion);
    }
    criterion.final_summary();
}

/// A record into an open batch. A full batch is emptied, once in 16 to 150 records.
fn append(c: &mut Criterion) {
    let (small, large) = (text(100), text(KIB));
    let records = [
        ("100 B", Record::to("t").value(&small)),
        ("1 KiB with a key", Record::to("t").key("user-1234567").value(&large)),
        (
            "100 B with a key and 3 headers",
            Record::to("t")
                .key("user-1234567")
                .value(&small)
                .header("trace-id", "4bf92f3577b34da6a3ce929d0e0e4736")
                .header("content-type", "application/json")
                .header("attempt", "1"),
        ),
    ];
    let mut group = c.benchmark_group("append");
    group.throughput(Throughput::Elements(1));
    for (name, record) in &records {
        let mut batch = OpenBatch::with_capacity(BATCH_SIZE + 2 * KIB);
        group.bench_function(*name, |b| {
            b.iter(|| {
                if batch.len() >= BATCH_SIZE {
                    batch.clear();
                }
                batch.append(black_box(record)).unwrap()
            });
        });
    }
    group.finish();
}

/// The header; then the producer's identity, the sequence, and the CRC over everything behind it.
fn seal(c: &mut Criterion) {
    let mut group = c.benchmark_group("seal");
    for size in [KIB, BATCH_SIZE, 256 * KIB] {
        group.throughput(Throughput::Bytes(size as u64));
        let records = records(size);
        let mut compressor = Compressor::new(Compression::None);
        group.bench_with_input(BenchmarkId::new("seal and stamp", bytes(size)), &records, |b, records| {
            let seal = |batch: OpenBatch| {
                let mut sealed = batch.seal(&mut compressor).unwrap();
                sealed.stamp(1);
                sealed
            };
            b.iter_batched(|| open(records), seal, BatchSize::NumIterations(8));
        });
        let mut sealed = open(&records).seal(&mut compressor).unwrap();
        group.bench_function(BenchmarkId::new("stamp again", bytes(size)), |b| {
            b.iter(|| sealed.stamp(black_box(1)));
        });
    }
    group.finish();
}

/// The checksum of batches v2 alone.
fn crc32c(c: &mut Criterion) {
    let mut group = c.benchmark_group("crc32c");
    for size in [KIB, 16 * KIB, 256 * KIB] {
        let data = text(size);
        group.throughput(Throughput::Bytes(size as u64));
        group.bench_function(bytes(size), |b| b.iter(|| crc32c::crc32c(black_box(data.as_bytes()))));
    }
    group.finish();
}

/// Each codec over the records of one batch. Bytes are those before compression.
fn codecs(c: &mut Criterion) {
    let codecs = [
        Compression::gzip(),
        Compression::Snappy,
        Compression::Lz4,
        #[cfg(feature = "zstd")]
        Compression::zstd(),
    ];
    for codec in codecs {
        let mut group = c.benchmark_group(format!("codec/{codec}"));
        for size in [16 * KIB, 256 * KIB] {
            group.throughput(Throughput::Bytes(size as u64));
            let records = records(size);
            let mut compressor = Compressor::new(codec);
            group.bench_with_input(BenchmarkId::new("compress", bytes(size)), &records, |b, records| {
                let compress = |batch: OpenBatch| batch.seal(&mut compressor).unwrap();
                b.iter_batched(|| open(records), compress, BatchSize::NumIterations(8));
            });
            let sealed = open(&records).seal(&mut compressor).unwrap();
            let mut decompressor = Decompressor::default();
            group.bench_function(BenchmarkId::new("decompress", bytes(size)), |b| {
                b.iter(|| black_box(&sealed).decompress(&mut decompressor).unwrap());
            });
        }
        group.finish();
    }
}

/// 16 KiB of records in every format, checksums checked, to keys and values.
fn decode(c: &mut Criterion) {
    let records = records(BATCH_SIZE);
    let batch = |codec| {
        let mut sealed: SealedBatch = open(&records).seal(&mut Compressor::new(codec)).unwrap();
        sealed.stamp(1);
        sealed.bytes().to_vec()
    };
    let inputs = [
        ("v2", batch(Compression::None)),
        ("v2 in lz4", batch(Compression::Lz4)),
        ("message set v0", message_set(0, &records)),
        ("message set v1", message_set(1, &records)),
        ("message set v1 in gzip", gzip_message_set(&records)),
    ];
    let mut group = c.benchmark_group("decode");
    group.throughput(Throughput::Elements(records.len() as u64));
    for (name, input) in &inputs {
        let mut decompressor = Decompressor::default();
        let input = &Fetched::from(input.clone());
        assert_eq!(read_all(input, &mut decompressor).unwrap().0, records.len(), "{name}");
        group.bench_function(*name, |b| b.iter(|| read_all(black_box(input), &mut decompressor).unwrap()));
    }
    group.finish();
}

/// Every partitioner that the crate has, with a key and without one, over 12 partitions of which all have leaders.
/// The modulo partitioners refuse a record without a key.
fn partitioners(c: &mut Criterion) {
    let partitioners: [(&str, Box<dyn Partitioner>); 14] = [
        ("java", Box::new(partitioner::java())),
        ("java_ignoring_keys", Box::new(partitioner::java_ignoring_keys())),
        ("round_robin", Box::new(partitioner::round_robin())),
        ("random", Box::new(partitioner::random())),
        ("modulo", Box::new(partitioner::modulo())),
        ("modulo_big_endian", Box::new(partitioner::modulo_big_endian())),
        ("hash_ring", Box::new(partitioner::hash_ring())),
        ("consistent", Box::new(partitioner::consistent())),
        ("consistent_random", Box::new(partitioner::consistent_random())),
        ("murmur2", Box::new(partitioner::murmur2())),
        ("murmur2_random", Box::new(partitioner::murmur2_random())),
        ("fnv1a", Box::new(partitioner::fnv1a())),
        ("fnv1a_random", Box::new(partitioner::fnv1a_random())),
        ("explicit", Box::new(partitioner::explicit(3))),
    ];
    let partitions: Vec<i32> = (0..12).collect();
    let mut group = c.benchmark_group("partitioner");
    for (name, partitioner) in &partitioners {
        // Eight digits are a number to both modulo partitioners.
        for (with, key) in [("a key", Some(&b"12345678"[..])), ("no key", None)] {
            let request = PartitionRequest::new("t", key, Some(b"value"), &partitions, &partitions);
            if partitioner.partition(&request).is_ok() {
                group.bench_function(BenchmarkId::new(*name, with), |b| {
                    b.iter(|| partitioner.partition(black_box(&request)).unwrap());
                });
            }
        }
    }
    group.finish();
}

/// From a topic's name and a partition to its leader.
fn metadata(c: &mut Criterion) {
    let mut group = c.benchmark_group("metadata");
    for (name, topics) in [("1 topic", 1), ("1000 topics", 1000)] {
        let names: Vec<String> = (0..topics).map(|number| format!("a.topic.with.a.name-{number}")).collect();
        let metadata = Metadata::new(&names, 12);
        let mut turn = names.iter().cycle().zip((0..12).cycle());
        group.bench_function(BenchmarkId::new("leader", name), |b| {
            b.iter(|| {
                let (topic, partition) = turn.next().unwrap();
                metadata.leader(black_box(topic), partition).unwrap()
            });
        });
    }
    group.finish();
}

/// The table codec, header included: 4 topics of 3 partitions, a batch of 1 KiB in each.
fn messages(c: &mut Criterion) {
    let mut group = c.benchmark_group("message");
    for age in [Age::Oldest, Age::Newest] {
        let messages = [
            ("Produce request", Message::produce_request(age, 4, 3, KIB).unwrap()),
            ("Produce response", Message::produce_response(age, 4, 3).unwrap()),
            ("Fetch response", Message::fetch_response(age, 4, 3, KIB).unwrap()),
        ];
        for (name, mut message) in messages {
            let version = message.version();
            assert_eq!(message.decode().unwrap(), 4, "{name}");
            group.bench_function(BenchmarkId::new("encode", format!("{name} v{version}")), |b| {
                b.iter(|| message.encode().unwrap());
            });
            group.bench_function(BenchmarkId::new("decode", format!("{name} v{version}")), |b| {
                b.iter(|| message.decode().unwrap());
            });
        }
    }
    group.finish();
}

/// As one writes sizes.
fn bytes(size: usize) -> String {
    format!("{} KiB", size / KIB)
}

/// Values like those of a log, of 100 to 150 bytes, `size` bytes in all, the last one cut.
fn records(size: usize) -> Vec<String> {
    let mut records = Vec::new();
    let (mut left, mut number) = (size, 0);
    while left > 0 {
        let mut record = line(number);
        record.truncate(left);
        left -= record.len();
        records.push(record);
        number += 1;
    }
    records
}

/// The same as one piece.
fn text(size: usize) -> String {
    records(size).concat()
}

/// A line of JSON, of ASCII characters alone. Equal for equal numbers.
fn line(number: u64) -> String {
    // SplitMix64: the codecs shall not find the numbers easy.
    let mut z = (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^= z >> 31;
    let level = ["INFO", "INFO", "DEBUG", "WARN"].iter().cycle().nth((z % 4) as usize).unwrap();
    let path = ["/", "/orders", "/orders/items", "/login"].iter().cycle().nth((z >> 2 & 3) as usize).unwrap();
    format!(
        r#"{{"time":{},"level":"{level}","path":"{path}","user":{},"status":200,"took_us":{},"id":"{z:016x}"}}"#,
        1_700_000_000_000 + number * 7,
        z >> 8 & 0xffff,
        z >> 24 & 0x3fff,
    )
}

fn open(records: &[String]) -> OpenBatch {
    let size: usize = records.iter().map(|record| record.len() + 16).sum();
    let mut batch = OpenBatch::with_capacity(size + 64);
    for record in records {
        batch.append(&Record::to("t").value(record)).unwrap();
    }
    batch
}

/// The formats from before Kafka 0.11, which the crate reads and does not write.
fn message_set(magic: u8, values: &[String]) -> Vec<u8> {
    let mut set = Vec::new();
    for (offset, value) in values.iter().enumerate() {
        message(&mut set, offset, magic, 0, value.as_bytes());
    }
    set
}

/// A message that wraps a compressed set.
fn gzip_message_set(values: &[String]) -> Vec<u8> {
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
    gzip.write_all(&message_set(1, values)).unwrap();
    let mut set = Vec::new();
    message(&mut set, values.len() - 1, 1, 1, &gzip.finish().unwrap());
    set
}

fn message(set: &mut Vec<u8>, offset: usize, magic: u8, attributes: u8, value: &[u8]) {
    let mut body = vec![magic, attributes];
    if magic == 1 {
        body.extend(1_700_000_000_000_i64.to_be_bytes());
    }
    body.extend((-1_i32).to_be_bytes());
    body.extend(u32::try_from(value.len()).unwrap().to_be_bytes());
    body.extend(value);
    set.extend((offset as u64).to_be_bytes());
    set.extend(u32::try_from(body.len() + 4).unwrap().to_be_bytes());
    set.extend(crc32fast::hash(&body).to_be_bytes());
    set.extend(body);
}
