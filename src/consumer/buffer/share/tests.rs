use super::*;
use crate::consumer::buffer::budget::Budget;
use crate::record::Headers;
use crate::record::batch::{BatchWriter, write_crc};
use crate::record::broker::{assign_offset, end_transaction_marker};
use crate::record::compression::{Compression, Compressor, DEFAULT_MAX_DECOMPRESSED_BYTES};
use crate::topic::ProducerIdAndEpoch;

/// A batch of so many records from an offset on.
fn batch(offset: i64, count: i64, compression: Compression, transaction: Option<i64>) -> Vec<u8> {
    let mut writer = BatchWriter::new(Vec::new());
    for _ in 0..count {
        writer.append(0, None, Some(b"value"), &Headers::new()).unwrap();
    }
    let mut sealed = writer.seal(&mut Compressor::new(compression)).unwrap();
    let producer_id = transaction.unwrap_or(-1);
    sealed.stamp(ProducerIdAndEpoch { producer_id, epoch: 0 }, 0, transaction.is_some());
    placed(sealed.into_buffer(), offset)
}

fn placed(mut bytes: Vec<u8>, offset: i64) -> Vec<u8> {
    assign_offset(&mut bytes, offset, 3).unwrap();
    write_crc(&mut bytes);
    bytes
}

fn plain(offset: i64, count: i64) -> Vec<u8> {
    batch(offset, count, Compression::None, None)
}

fn marker(offset: i64, producer: i64, commits: bool) -> Vec<u8> {
    let producer = ProducerIdAndEpoch { producer_id: producer, epoch: 0 };
    placed(end_transaction_marker(producer, commits, 0, 0).unwrap().into_buffer(), offset)
}

/// A batch whose records compaction has removed.
fn emptied(offset: i64, count: i64) -> Vec<u8> {
    let mut bytes = plain(offset, count);
    bytes.truncate(61);
    bytes[8..12].copy_from_slice(&49_i32.to_be_bytes());
    bytes[57..61].fill(0);
    write_crc(&mut bytes);
    bytes
}

fn share(parts: &[Vec<u8>], from: i64, aborted: Option<&[(i64, i64)]>) -> Share {
    let bytes = SharedBytes::from(parts.concat());
    let measure = measure(&bytes, from);
    assert!(measure.damage.is_none(), "{measure:?}");
    let complete = bytes.slice(0..measure.complete).unwrap();
    let aborted = aborted.map(|listed| AbortedTransactions::new(listed.iter().copied()));
    Share::new(0, complete, from, aborted, Arc::new(Budget::new(100).overdraw(0)))
}

/// The offsets of each run: first, and behind the last; and the position at the end.
fn runs(mut share: Share, limit: usize) -> (Vec<(i64, i64)>, i64) {
    let mut decompressor = Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES);
    let mut found = Vec::new();
    while let Some(run) = share.next(limit, &mut decompressor) {
        let run = run.unwrap();
        found.push((run.first, run.next));
    }
    assert_eq!(share.len(), 0);
    (found, share.position())
}

#[test]
fn batches_that_are_not_compressed_are_one_run_and_others_one_each() {
    let lz4 = |offset| batch(offset, 2, Compression::Lz4, None);
    let parts = [plain(0, 2), plain(2, 1), lz4(3), lz4(5), plain(7, 2)];
    assert_eq!(runs(share(&parts, 0, None), 1 << 20), (vec![(0, 3), (3, 5), (5, 7), (7, 9)], 9));
    // The limit cuts between batches, and never before the first.
    assert_eq!(runs(share(&parts, 0, None), 1), (vec![(0, 2), (2, 3), (3, 5), (5, 7), (7, 9)], 9));
}

#[test]
fn records_before_the_one_that_was_asked_for_do_not_count() {
    let parts = [plain(0, 5), plain(5, 5)];
    assert_eq!(runs(share(&parts, 3, None), 1 << 20), (vec![(3, 10)], 10));
}

#[test]
fn what_compaction_emptied_and_markers_move_the_position_without_a_run() {
    let parts = [emptied(0, 5), plain(5, 1), marker(6, 1, true), emptied(7, 3)];
    assert_eq!(runs(share(&parts, 0, None), 1 << 20), (vec![(5, 6)], 10));
    assert_eq!(runs(share(&[emptied(0, 100)], 0, None), 1 << 20), (vec![], 100));
    assert_eq!(runs(share(&[marker(0, 1, false)], 0, Some(&[])), 1 << 20), (vec![], 1));
}

#[test]
fn aborted_batches_are_left_out_where_committed_records_alone_are_seen() {
    let data = |offset, producer| batch(offset, 2, Compression::Lz4, Some(producer));
    let parts = [
        data(0, 1),
        data(2, 2),
        data(4, 1),
        marker(6, 2, false),
        marker(7, 1, true),
        data(8, 2),
        marker(10, 2, true),
        plain(11, 1),
    ];
    // The list is in any order, and names a producer's transaction that begins later, too.
    let listed = [(2, 2)];
    let wanted = vec![(0, 2), (4, 6), (8, 10), (11, 12)];
    assert_eq!(runs(share(&parts, 0, Some(&listed)), 1 << 20), (wanted, 12));
    let all = vec![(0, 2), (2, 4), (4, 6), (8, 10), (11, 12)];
    assert_eq!(runs(share(&parts, 0, None), 1 << 20), (all, 12), "all are seen where that is wanted");
}

#[test]
fn what_would_be_skipped_and_is_damaged_is_an_error_with_its_place() {
    let damaged = |mut bytes: Vec<u8>| {
        bytes[17] ^= 1;
        bytes
    };
    let listed = [(2, 2)];
    for part in [damaged(marker(2, 2, true)), damaged(emptied(2, 1)), damaged(batch(2, 1, Compression::None, Some(2)))]
    {
        let mut share = share(&[plain(0, 2), part, plain(3, 1)], 0, Some(&listed));
        let mut decompressor = Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES);
        assert!(share.next(1 << 20, &mut decompressor).unwrap().is_ok());
        let damage = share.next(1 << 20, &mut decompressor).unwrap().err().unwrap();
        assert_eq!((damage.offset, damage.next), (2, Some(3)), "{}", damage.error);
    }
}

#[test]
fn a_measure_ends_where_the_batches_do_not_follow_one_another() {
    let measured = |parts: &[Vec<u8>], from| measure(&SharedBytes::from(parts.concat()), from);
    let good = measured(&[plain(0, 5), plain(7, 1)], 3);
    assert_eq!((good.next, good.last_epoch, good.damage.is_none()), (8, 3, true));
    for (parts, from, place) in [
        (vec![plain(0, 5), plain(4, 3)], 0, 5),
        (vec![plain(0, 5), plain(0, 5)], 0, 5),
        (vec![plain(0, 5)], 5, 5),
        (vec![plain(5, 5), vec![0; 30]], 5, 10),
    ] {
        let measure = measured(&parts, from);
        assert_eq!((measure.damage.as_ref().map(|damage| damage.offset), measure.next), (Some(place), place));
    }
}

#[test]
fn a_batch_that_was_cut_says_how_large_it_is() {
    let (first, second) = (plain(0, 1), plain(1, 50));
    let whole = [first.clone(), second.clone()].concat();
    for end in 0..=whole.len() {
        let cut = measure(&SharedBytes::from(whole[..end].to_vec()), 0);
        assert!(cut.damage.is_none(), "{end}");
        let complete = if end == whole.len() {
            end
        } else if end >= first.len() {
            first.len()
        } else {
            0
        };
        assert_eq!(cut.complete, complete, "{end}");
        if end >= first.len() + 12 {
            assert_eq!(cut.largest, second.len(), "{end}");
        }
    }
}

/// Whatever single byte is changed, nothing panics, and every run that there is lies in the share.
#[test]
fn no_changed_byte_does_harm() {
    let parts = [plain(0, 2), batch(2, 2, Compression::Lz4, Some(1)), marker(4, 1, false), plain(5, 1)];
    let whole = parts.concat();
    for at in 0..whole.len() {
        for change in [0x01, 0x80, 0xff] {
            let mut bytes = whole.clone();
            bytes[at] ^= change;
            let bytes = SharedBytes::from(bytes);
            let measure = measure(&bytes, 0);
            assert!(measure.complete <= bytes.len() && measure.next >= 0);
            let complete = bytes.slice(0..measure.complete).unwrap();
            let aborted = Some(AbortedTransactions::new([(2, 1)]));
            let mut share = Share::new(0, complete, 0, aborted, Arc::new(Budget::new(100).overdraw(0)));
            let mut decompressor = Decompressor::new(DEFAULT_MAX_DECOMPRESSED_BYTES);
            let mut last = 0;
            while let Some(Ok(run)) = share.next(1 << 20, &mut decompressor) {
                assert!(run.first >= last && run.next > run.first, "{at}");
                last = run.next;
            }
        }
    }
}
