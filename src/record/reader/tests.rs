use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::*;
use crate::record::batch::{BatchWriter, SealedBytes, write_crc};
use crate::record::broker;
use crate::record::compression::{Compressor, DEFAULT_MAX_DECOMPRESSED_BYTES};

const KAFKAS: &str = include_str!("../golden/java.txt");
const NOW: i64 = 1_700_000_000_000;

fn codecs() -> Vec<Compression> {
    let all = [Compression::None, Compression::gzip(), Compression::Snappy, Compression::Lz4, Compression::zstd()];
    all.into_iter().filter(|codec| codec.check().is_ok()).collect()
}

fn decompressor() -> Decompressor {
    Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES)
}

/// A record as the tests write it.
type Sample<'a> = (i64, Option<&'a [u8]>, Option<&'a [u8]>, Headers<'a>);

fn seal(records: &[Sample<'_>], compression: Compression) -> SealedBytes {
    let mut writer = BatchWriter::new(Vec::new());
    for (index, (timestamp, key, value, headers)) in records.iter().enumerate() {
        assert_eq!(writer.append(*timestamp, *key, *value, headers).unwrap(), u32::try_from(index).unwrap());
    }
    let mut sealed = writer.seal(&mut Compressor::new(compression)).unwrap();
    sealed.stamp(ProducerIdAndEpoch::NONE, -1, false);
    sealed
}

/// The records of `Batches.java`.
fn samples() -> Vec<Sample<'static>> {
    let some: Headers<'_> =
        [("a", Some(&b"1"[..])), ("b", None), ("a", Some(b"")), ("", Some("ä".as_bytes()))].into_iter().collect();
    let null = [("b", None::<&str>)].into_iter().collect();
    vec![
        (NOW, None, None, Headers::new()),
        (NOW + 64, Some(b""), Some(b""), some),
        (NOW - 70_000, Some(b"key"), None, Headers::new()),
        (NOW + 1, None, Some(b"value"), null),
        (NOW + 100_000_000, Some(&[b'k'; 64]), Some(&[b'v'; 200]), Headers::new()),
    ]
}

fn shared(bytes: &[u8]) -> SharedBytes {
    bytes.to_vec().into()
}

fn one_batch(bytes: &[u8]) -> Result<DecodedBatch> {
    let bytes = shared(bytes);
    let mut batches = Batches::new(&bytes);
    let batch = batches.next().expect("a whole batch")?.decode(&mut decompressor())?;
    assert!(batches.next().is_none() && batches.rest().is_empty());
    Ok(batch)
}

/// All records of all batches, or the first error.
fn read_all(bytes: &[u8]) -> Result<Vec<(i64, i64)>> {
    let mut all = Vec::new();
    for batch in read_batches(&shared(bytes), &mut decompressor()) {
        for record in batch?.records() {
            let record = record?;
            all.push((record.offset, record.timestamp));
        }
    }
    Ok(all)
}

/// The same lines as `Batches.java` prints.
fn render(name: &str, bytes: &[u8]) -> String {
    let mut text = format!("set {name} {}\n", hex(bytes));
    for batch in read_batches(&shared(bytes), &mut decompressor()) {
        let batch = batch.unwrap();
        writeln!(
            text,
            "batch {} {batch} epoch {} {} {:?} max {} producer {} {} {} {} {} count {}",
            batch.magic,
            batch.leader_epoch,
            batch.compression,
            batch.timestamp_type,
            batch.max_timestamp,
            batch.identity.producer_id,
            batch.identity.epoch,
            batch.base_sequence,
            batch.is_transactional,
            batch.is_control,
            batch.records().count(),
        )
        .unwrap();
        assert_eq!(batch.records().count(), batch.count as usize);
        for record in batch.records() {
            let record = record.unwrap();
            let (key, value) = (shown(record.key), shown(record.value));
            write!(text, "record {} {} {key} {value}", record.offset, record.timestamp).unwrap();
            for (name, value) in record.headers.iter() {
                write!(text, " {}={}", shown(Some(name.as_bytes())), shown(value)).unwrap();
            }
            text.push('\n');
        }
    }
    text
}

fn shown(bytes: Option<&[u8]>) -> String {
    match bytes {
        None => "null".into(),
        Some(bytes) if bytes.len() <= 64 => format!("x{}", hex(bytes)),
        Some(bytes) => format!("{}*{:08x}", bytes.len(), crc32fast::hash(bytes)),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

fn kafkas_sets() -> BTreeMap<&'static str, Vec<u8>> {
    let sets = KAFKAS.lines().filter_map(|line| line.strip_prefix("set "));
    sets.map(|line| line.split_once(' ').unwrap()).map(|(name, bytes)| (name, from_hex(bytes))).collect()
}

/// A small generator of pseudo-random numbers (xorshift64), so that failures repeat.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, bound: usize) -> usize {
        usize::try_from(self.next() % bound as u64).unwrap()
    }

    fn bytes(&mut self, max: usize) -> Vec<u8> {
        let (length, alphabet) = (self.below(max + 1), 1 + self.below(255));
        (0..length).map(|_| u8::try_from(self.below(alphabet)).unwrap()).collect()
    }
}

#[test]
fn kafkas_batches_are_read_as_kafka_reads_them() {
    let sets = KAFKAS.split_inclusive('\n').fold(Vec::<String>::new(), |mut sets, line| {
        if line.starts_with("set ") {
            sets.push(String::new());
        }
        sets.last_mut().unwrap().push_str(line);
        sets
    });
    assert!(sets.len() > 40);
    for set in sets {
        let [_, name, bytes] = *set.lines().next().unwrap().split(' ').collect::<Vec<_>>() else { panic!("{set}") };
        if cfg!(feature = "zstd") || !name.contains("zstd") {
            assert_eq!(render(name, &from_hex(bytes)), set);
        }
    }
}

#[test]
fn batches_are_written_as_kafka_writes_them() {
    let mut ours = seal(&samples(), Compression::None);
    ours.stamp(ProducerIdAndEpoch { producer_id: 4000, epoch: 3 }, i32::MAX, false);
    let mut ours = ours.into_buffer();
    broker::assign_offset(&mut ours, 0, 6).unwrap();
    assert_eq!(hex(&ours), hex(&kafkas_sets()["idempotent"]));

    broker::set_log_append_time(&mut ours, NOW + 900).unwrap();
    let mut theirs = kafkas_sets()["v2-none-append-time"].clone();
    theirs[0..8].fill(0);
    theirs[43..57].copy_from_slice(&ours[43..57]);
    write_crc(&mut theirs);
    assert_eq!(hex(&ours), hex(&theirs));

    for (is_commit, name) in [(true, "marker-commit"), (false, "marker-abort")] {
        let identity = ProducerIdAndEpoch { producer_id: 4000, epoch: 3 };
        let mut ours = broker::end_transaction_marker(identity, is_commit, 12, NOW).unwrap().into_buffer();
        broker::assign_offset(&mut ours, 40, 6).unwrap();
        assert_eq!(hex(&ours), hex(&kafkas_sets()[name]));
    }
}

/// Writes our batches for the check in the other direction; see `golden/Batches.java`.
#[test]
fn ours_are_written_for_kafka_to_read() {
    let large = "0123456789abcdef-".repeat(8000);
    let mut random = Random(7);
    let noise: Vec<u8> = (0..200_000).map(|_| random.next().to_le_bytes()[3]).collect();
    let mut text = String::new();
    for codec in codecs() {
        let mut sealed = seal(&samples(), codec);
        sealed.stamp(ProducerIdAndEpoch { producer_id: 77, epoch: 1 }, 5, true);
        text += &render(&format!("ours-{codec}"), sealed.as_slice());
        if codec != Compression::None {
            let records = [(NOW, Some(large.as_bytes()), Some(&noise[..]), Headers::new())];
            text += &render(&format!("ours-{codec}-large"), seal(&records, codec).as_slice());
        }
    }
    if let Ok(path) = std::env::var("KAFKA_BLOCKING_GOLDEN") {
        std::fs::write(path, text).unwrap();
    }
}

#[test]
fn random_records_survive_the_round_trip() {
    let mut random = Random(42);
    for round in 0..200 {
        let owned: Vec<_> = (0..1 + random.below(20))
            .map(|_| {
                let headers: Vec<_> = (0..random.below(4))
                    .map(|_| (format!("h{}", random.below(3)), (random.below(2) > 0).then(|| random.bytes(20))))
                    .collect();
                let timestamp = (random.next() >> (1 + random.below(62))).cast_signed();
                (timestamp, random.bytes(300), random.bytes(3000), headers, random.below(4))
            })
            .collect();
        let records: Vec<Sample<'_>> = owned
            .iter()
            .map(|(timestamp, key, value, headers, nulls)| {
                let headers = headers.iter().map(|(name, value)| (name, value.as_ref())).collect();
                (*timestamp, (nulls & 1 > 0).then_some(&key[..]), (nulls & 2 > 0).then_some(&value[..]), headers)
            })
            .collect();
        let codecs = codecs();
        let sealed = seal(&records, codecs[round % codecs.len()]);
        let batch = broker::decode_produced(&shared(sealed.as_slice()), &mut decompressor()).unwrap();
        let read: Vec<_> = batch
            .records()
            .map(Result::unwrap)
            .map(|record| (record.timestamp, record.key, record.value, record.headers.to_headers()))
            .collect();
        assert!(read == records, "round {round}");
        assert!(
            sealed
                .decode(&mut decompressor())
                .unwrap()
                .records()
                .map(Result::unwrap)
                .eq(batch.records().map(Result::unwrap))
        );
    }
}

#[test]
fn a_partial_batch_at_the_end_is_left_out() {
    for (name, set) in kafkas_sets() {
        if name.contains("large") || !cfg!(feature = "zstd") && name.contains("zstd") {
            continue;
        }
        let mut whole = seal(&samples(), Compression::None).into_buffer();
        let first = whole.len();
        whole.extend_from_slice(&set);
        let all = read_all(&whole).unwrap();
        for cut in first..whole.len() {
            let some = read_all(&whole[..cut]).unwrap();
            assert!(some.len() >= 5 && all.starts_with(&some), "{name} cut at {cut}");
            let cut_off = shared(&whole[..cut]);
            let mut batches = Batches::new(&cut_off);
            let complete: usize = batches.by_ref().map(|batch| batch.unwrap().bytes().len()).sum();
            assert_eq!(complete + batches.rest().len(), cut);
        }
    }
}

/// Every flip is found by the CRC, except where a field has its own check or none.
#[test]
fn no_flipped_bit_goes_unnoticed() {
    for set in ["v2-none-at-0", "v2-lz4-at-1000", "v1-none-at-0", "v0-gzip-at-1000"] {
        let good = &kafkas_sets()[set];
        let expected = read_all(good).unwrap();
        let first_length =
            BATCH_LENGTH_OVERHEAD + usize::try_from(i32::from_be_bytes(*good[8..].first_chunk().unwrap())).unwrap();
        for bit in 0..first_length * 8 {
            let mut bad = good.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            match (bit / 8, read_all(&bad)) {
                // The broker sets the offset and the leader epoch, which the CRC does not cover. A wrong length cuts
                // the batch short, or makes it partial.
                (0..12, _) => {}
                (12..16, Ok(records)) if set.starts_with("v2") => assert_eq!(records, expected),
                (at, Ok(records)) => panic!("{set}: byte {at}: {records:?}"),
                (_, Err(error)) => assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved),
            }
        }
    }
}

/// Damage as an attacker can do it who computes a new CRC.
#[test]
fn no_damage_under_a_good_crc_panics() {
    let mut random = Random(99);
    let sets = kafkas_sets();
    let (mut read, mut refused) = (0, 0);
    for (name, good) in &sets {
        if name.contains("large") {
            continue;
        }
        for _ in 0..400 {
            let mut bad = good.clone();
            for _ in 0..1 + random.below(4) {
                let at = MAGIC_AT + random.below(bad.len() - MAGIC_AT);
                match random.below(3) {
                    0 => bad[at] = [0, 1, 0x7f, 0x80, 0xff][random.below(5)],
                    1 => bad[at] = random.next().to_le_bytes()[0],
                    _ => bad[at] ^= 1 << random.below(8),
                }
            }
            fix_crc(&mut bad);
            match read_all(&bad) {
                Ok(_) => read += 1,
                Err(_) => refused += 1,
            }
            let _ = broker::decode_produced(&shared(&bad), &mut decompressor());
        }
    }
    assert!(read > 1000 && refused > 1000, "{read} {refused}");
}

/// Cuts the content of the batch, and makes length and CRC right again.
#[test]
fn a_batch_cut_inside_is_refused_at_every_byte() {
    for (name, good) in kafkas_sets() {
        let is_v2 = name.starts_with("v2") || name == "idempotent";
        if name.contains("large") || !is_v2 || !cfg!(feature = "zstd") && name.contains("zstd") {
            continue;
        }
        for length in BATCH_HEADER_BYTES..good.len() {
            let mut bad = good[..length].to_vec();
            bad[8..12].copy_from_slice(&i32::try_from(length - BATCH_LENGTH_OVERHEAD).unwrap().to_be_bytes());
            fix_crc(&mut bad);
            read_all(&bad).expect_err(name);
        }
    }
}

/// Computes the CRC of the first batch again, in the way of its format.
fn fix_crc(batch: &mut [u8]) {
    if batch[MAGIC_AT] >= 2 {
        return write_crc(batch);
    }
    let length = usize::try_from(i32::from_be_bytes(*batch[8..].first_chunk().unwrap())).unwrap_or(usize::MAX);
    let end = length.saturating_add(BATCH_LENGTH_OVERHEAD).min(batch.len());
    let crc = crc32fast::hash(&batch[MAGIC_AT..end]);
    batch[12..16].copy_from_slice(&crc.to_be_bytes());
}

/// A batch of one record, whose encoded bytes after the length are `body`.
fn batch_of(body: &[u8]) -> Vec<u8> {
    let mut bytes = seal(&samples()[..1], Compression::None).into_buffer();
    bytes.truncate(BATCH_HEADER_BYTES);
    assert!(body.len() < 64);
    bytes.push(u8::try_from(body.len() * 2).unwrap());
    bytes.extend_from_slice(body);
    resized(bytes)
}

fn resized(mut bytes: Vec<u8>) -> Vec<u8> {
    let length = i32::try_from(bytes.len() - BATCH_LENGTH_OVERHEAD).unwrap();
    bytes[8..12].copy_from_slice(&length.to_be_bytes());
    write_crc(&mut bytes);
    bytes
}

#[test]
fn records_that_lie_about_their_content_are_refused() {
    assert_eq!(read_all(&batch_of(&[0, 0, 0, 1, 1, 0])).unwrap(), [(0, NOW)]);
    for (body, fault) in [
        (&[0, 0, 0, 1, 1][..], "no count of headers"),
        (&[0, 0, 0, 1, 1, 0, 0], "a byte too many"),
        (&[0, 0, 0, 1, 1, 2], "a header that is not there"),
        (&[0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f], "two billion headers"),
        (&[0, 0, 0, 1, 1, 1], "-1 headers"),
        (&[0, 0, 0, 1, 1, 2, 1, 1], "a header without a name"),
        (&[0, 0, 0, 1, 1, 2, 0, 3], "a header's value of length -2"),
        (&[0, 0, 0, 3, 1, 0], "a key of length -2"),
        (&[0, 0, 0, 4, 1, 0], "a key that goes on behind the record"),
        (&[0, 0, 0, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f, 0], "a value of two gigabytes"),
        (&[0, 0, 0, 0x80, 0x80, 0x80, 0x80, 0x80, 1, 0], "a varint of six bytes"),
        (&[0, 0, 2, 1, 1, 0], "an offset behind the batch's last"),
        (&[0, 0, 1, 1, 1, 0], "an offset before the batch's first"),
    ] {
        let error = read_all(&batch_of(body)).expect_err(fault);
        assert_eq!(error.kind(), ErrorKind::BrokerMisbehaved, "{fault}");
    }
}

#[test]
fn headers_that_lie_about_their_batch_are_refused() {
    let good = seal(&samples(), Compression::None).into_buffer();
    let changed = |at: usize, field: &[u8]| {
        let mut bytes = good.clone();
        bytes[at..at + field.len()].copy_from_slice(field);
        write_crc(&mut bytes);
        read_all(&bytes)
    };
    assert_eq!(changed(57, &5_i32.to_be_bytes()).unwrap().len(), 5);
    for (at, field, fault) in [
        (57, &4_i32.to_be_bytes()[..], "a record too many"),
        (57, &6_i32.to_be_bytes(), "a record too few"),
        (57, &(-1_i32).to_be_bytes(), "-1 records"),
        (57, &i32::MAX.to_be_bytes(), "two billion records"),
        (23, &3_i32.to_be_bytes(), "a last offset before the last record"),
        (23, &(-1_i32).to_be_bytes(), "a last offset before the first"),
        (0, &(-1_i64).to_be_bytes(), "a negative offset"),
        (0, &i64::MAX.to_be_bytes(), "offsets that overflow"),
        (22, &[5], "an unknown codec"),
        (22, &[1], "a codec that the records are not compressed with"),
        (16, &[3], "an unknown format"),
        (8, &[0, 0, 0, 13], "a length under every format's least"),
        (8, &[0xff; 4], "a negative length"),
    ] {
        changed(at, field).expect_err(fault);
    }
    let mut garbage = good.clone();
    garbage.push(0);
    let error = read_all(&resized(garbage)).expect_err("garbage");
    assert!(error.to_string().contains("1 bytes after the last record"), "{error}");
    // A batch that is nothing but a header too short.
    read_all(&[&good[..8], &[0, 0, 0, 20], &good[12..32]].concat()).expect_err("too short");
}

#[test]
fn offsets_must_increase_and_may_have_gaps() {
    let mut bytes = seal(&samples()[..1], Compression::None).into_buffer();
    bytes.truncate(BATCH_HEADER_BYTES);
    bytes[23..27].copy_from_slice(&9_i32.to_be_bytes());
    bytes[57..61].copy_from_slice(&2_i32.to_be_bytes());
    for (deltas, are_good) in [([0, 9], true), ([3, 4], true), ([4, 4], false), ([4, 3], false), ([4, 10], false)] {
        let records = deltas.map(|delta: u8| [12, 0, 0, delta * 2, 1, 1, 0]).concat();
        let bytes = resized([&bytes[..], &records].concat());
        assert_eq!(read_all(&bytes).is_ok(), are_good, "{deltas:?}");
        assert_eq!(Batches::new(&shared(&bytes)).next().unwrap().unwrap().next_offset(), Some(10));
    }
}

#[test]
fn nothing_follows_an_error() {
    let mut bytes = kafkas_sets()["v2-none-at-0"].clone();
    let good = bytes.clone();
    bytes[70] ^= 1;
    bytes.extend_from_slice(&good);
    let bytes = SharedBytes::from(bytes);
    let mut decompressor = decompressor();
    let mut batches = read_batches(&bytes, &mut decompressor);
    let error = batches.next().unwrap().err().unwrap();
    assert!(error.to_string().starts_with("batch at offset 0, next offset 5: the CRC is "), "{error}");
    assert!(batches.next().is_none());
    // A reader that wants to go on knows from where.
    let damaged = Batches::new(&bytes).next().unwrap().unwrap();
    assert_eq!(damaged.next_offset(), Some(5));
    assert_eq!(Batches::new(&bytes).filter(|batch| batch.is_ok()).count(), 2);

    let mut bytes = batch_of(&[0, 0, 0, 1, 1, 2]);
    bytes[60] = 1;
    let batch = one_batch(&bytes).unwrap();
    let mut records = batch.records();
    assert!(records.next().unwrap().is_err());
    assert!(records.next().is_none());
}

#[test]
fn reading_can_stop_and_go_on() {
    let sealed = seal(&samples(), Compression::Lz4);
    let batch = one_batch(sealed.as_slice()).unwrap();
    let mut cursor = Cursor::default();
    let mut offsets = Vec::new();
    while let Some(record) = batch.read(&mut cursor) {
        offsets.push(record.unwrap().offset);
    }
    assert_eq!(offsets, [0, 1, 2, 3, 4]);
    assert!(batch.read(&mut cursor).is_none());
    assert_eq!(batch.next_offset(), 5);
}

#[test]
fn a_transactions_markers_are_told_apart() {
    for (name, expected) in [("marker-commit", ControlRecord::Commit), ("marker-abort", ControlRecord::Abort)] {
        let bytes = &kafkas_sets()[name];
        let batch = one_batch(bytes).unwrap();
        assert!(batch.is_control && batch.is_transactional);
        let record = batch.records().next().unwrap().unwrap();
        assert_eq!(ControlRecord::from_key(record.key).unwrap(), expected);
    }
    assert_eq!(ControlRecord::from_key(Some(&[0, 9, 0, 2, 7])).unwrap(), ControlRecord::Other(2));
    ControlRecord::from_key(None).unwrap_err();
    ControlRecord::from_key(Some(&[0, 0, 0])).unwrap_err();
}

#[test]
fn a_producers_batch_must_be_as_java_writes_it() {
    let identity = ProducerIdAndEpoch { producer_id: 9, epoch: 0 };
    let mut sealed = seal(&samples(), Compression::Snappy);
    sealed.stamp(identity, 0, true);
    let good = sealed.into_buffer();
    broker::decode_produced(&shared(&good), &mut decompressor()).unwrap();
    for (at, field, fault) in [
        (0, &1_i64.to_be_bytes()[..], "the base offset is not 0"),
        (23, &5_i32.to_be_bytes(), "count and last offset delta differ"),
        (22, &[0x32], "a control batch"),
        (22, &[0x1a], "log append time"),
        (43, &(-1_i64).to_be_bytes(), "a transaction without a producer id"),
        (53, &(-1_i32).to_be_bytes(), "a base sequence that does not fit"),
        (35, &NOW.to_be_bytes(), "timestamps"),
    ] {
        let mut bad = good.clone();
        bad[at..at + field.len()].copy_from_slice(field);
        write_crc(&mut bad);
        let error = broker::decode_produced(&shared(&bad), &mut decompressor()).err().unwrap();
        assert!(error.to_string().contains(fault), "{error}");
    }
    broker::decode_produced(&[&good[..], &good].concat().into(), &mut decompressor()).err().unwrap();
    broker::decode_produced(&shared(&kafkas_sets()["v1-gzip-at-0"]), &mut decompressor()).err().unwrap();
}

/// A message of an old format, with a good CRC.
fn message(magic: u8, attributes: u8, offset: i64, value: &[u8]) -> Vec<u8> {
    let mut body = vec![magic, attributes];
    if magic == 1 {
        body.extend_from_slice(&NOW.to_be_bytes());
    }
    body.extend_from_slice(&(-1_i32).to_be_bytes());
    body.extend_from_slice(&i32::try_from(value.len()).unwrap().to_be_bytes());
    body.extend_from_slice(value);
    let length = i32::try_from(body.len() + 4).unwrap();
    [&offset.to_be_bytes()[..], &length.to_be_bytes(), &crc32fast::hash(&body).to_be_bytes(), &body].concat()
}

/// A message that wraps `set`, compressed by snappy in its bare form.
fn wrapper(magic: u8, offset: i64, set: &[u8]) -> Vec<u8> {
    message(magic, 2, offset, &snap::raw::Encoder::new().compress_vec(set).unwrap())
}

#[test]
fn a_wrappers_offset_is_that_of_its_last_message() {
    let set = [message(1, 0, 0, b"a"), message(1, 0, 2, b"b")].concat();
    assert_eq!(read_all(&wrapper(1, 12, &set)).unwrap(), [(10, NOW), (12, NOW)]);
    // A wrapper without an offset: the offsets in it are taken as they are.
    assert_eq!(read_all(&wrapper(1, 0, &set)).unwrap(), [(0, NOW), (2, NOW)]);
    read_all(&wrapper(1, 1, &set)).expect_err("a last message behind the wrapper");
    let set = [message(0, 0, 10, b"a"), message(0, 0, 12, b"b")].concat();
    assert_eq!(read_all(&wrapper(0, 12, &set)).unwrap(), [(10, -1), (12, -1)]);
    // A set cut at a size by an old producer.
    assert_eq!(read_all(&wrapper(0, 12, &set[..set.len() - 1])).unwrap(), [(10, -1)]);
}

#[test]
fn old_messages_that_lie_are_refused() {
    let inner = message(1, 0, 0, b"a");
    let mut flipped = inner.clone();
    *flipped.last_mut().unwrap() ^= 1;
    for (bytes, fault) in [
        (wrapper(1, 5, &wrapper(1, 0, &inner)), "a wrapper in a wrapper"),
        (wrapper(1, 5, &flipped), "a wrong CRC within"),
        (wrapper(0, 5, &inner), "another format within"),
        (wrapper(1, 5, &inner[..20]), "no whole message within"),
        (wrapper(1, 5, &[]), "nothing within"),
        (message(1, 4, 5, b"zstd"), "zstd in an old format"),
        (message(1, 5, 5, b""), "an unknown codec"),
        (message(1, 0, -5, b""), "a negative offset"),
        (wrapper(1, 5, &[message(1, 0, 1, b"a"), message(1, 0, 1, b"b")].concat()), "an offset twice"),
    ] {
        read_all(&bytes).expect_err(fault);
    }
    let mut long = message(1, 0, 5, b"abc");
    long[30..34].copy_from_slice(&i32::MAX.to_be_bytes());
    fix_crc(&mut long);
    read_all(&long).expect_err("a value of two gigabytes");
}

#[test]
fn an_uncompressed_batch_is_a_view_of_the_bytes_in_which_it_came() {
    let first = seal(&samples(), Compression::None);
    let set = message(1, 0, 7, b"old");
    let answer = SharedBytes::from([b"before", first.as_slice(), &set, first.as_slice()].concat());
    let share = answer.slice(6..answer.len()).unwrap();
    let within = answer.as_ptr_range();
    let batches: Vec<_> = read_batches(&share, &mut decompressor()).map(Result::unwrap).collect();
    assert_eq!(batches.iter().map(|batch| batch.count).collect::<Vec<_>>(), [5, 1, 5]);
    // From here on only the batches keep the answer alive.
    drop((answer, share));
    for batch in &batches {
        for record in batch.records().map(Result::unwrap) {
            let value = record.value.unwrap_or_default().as_ptr_range();
            assert!(record.value.is_none() || within.start <= value.start && value.end <= within.end);
        }
    }
    let held = batches[2].clone();
    drop(batches);
    let values: Vec<_> = held.records().map(|record| record.unwrap().value).collect();
    assert_eq!(values, samples().iter().map(|sample| sample.2).collect::<Vec<_>>());
}

#[test]
fn the_memory_of_a_decompressed_batch_serves_the_next_one() {
    for codec in codecs().into_iter().filter(|codec| *codec != Compression::None) {
        let bytes = shared(seal(&samples(), codec).as_slice());
        let mut decompressor = decompressor();
        let mut decode = || Batches::new(&bytes).next().unwrap().unwrap().decode(&mut decompressor).unwrap();
        let (first, second) = (decode(), decode());
        let memory = |batch: &DecodedBatch| batch.data.as_ptr();
        assert_ne!(memory(&first), memory(&second), "{codec}: both are there");
        let (address, kept) = (memory(&first), second.clone());
        first.recycle(&mut decompressor);
        // A clone of this one exists, so its memory must not be written.
        second.recycle(&mut decompressor);
        let mut decode = || Batches::new(&bytes).next().unwrap().unwrap().decode(&mut decompressor).unwrap();
        let (third, fourth) = (decode(), decode());
        assert_eq!(memory(&third), address, "{codec}");
        for other in [&third, &fourth] {
            assert_ne!(memory(other), memory(&kept), "{codec}");
        }
        assert!(kept.records().map(Result::unwrap).eq(fourth.records().map(Result::unwrap)));
    }
}

#[test]
fn the_bytes_in_which_a_batch_came_are_never_taken_for_another() {
    let emptied = {
        let mut bytes = seal(&samples(), Compression::Lz4).into_buffer();
        bytes.truncate(BATCH_HEADER_BYTES);
        bytes[57..61].fill(0);
        resized(bytes)
    };
    for bytes in [seal(&samples(), Compression::None).into_buffer(), message(0, 0, 1, b"old"), emptied] {
        let mut decompressor = decompressor();
        let bytes = SharedBytes::from(bytes);
        let batch = Batches::new(&bytes).next().unwrap().unwrap().decode(&mut decompressor).unwrap();
        drop(bytes);
        assert_ne!(batch.data.spare_capacity(), 0, "the batch alone holds them now");
        batch.recycle(&mut decompressor);
        assert_eq!(decompressor.spare, None);
    }
}
