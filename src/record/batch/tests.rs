use super::*;

#[test]
fn the_size_of_a_record_is_foretold() {
    let mut writer = BatchWriter::new(Vec::new());
    let headers: Headers<'_> = [("name", Some("value")), ("null", None)].into_iter().collect();
    for (timestamp, key, value) in [
        (1_000, None, None),
        (1_063, Some(&b""[..]), Some(&b""[..])),
        (2_000, Some(&[1; 63]), Some(&[1; 64])),
        (0, None, Some(&[1; 8192])),
        (i64::MAX, Some(&[1; 10_000]), None),
    ] {
        for headers in [&Headers::new(), &headers] {
            let (before, foretold) = (writer.len(), writer.encoded_size(timestamp, parts_size(key, value, headers)));
            writer.append(timestamp, key, value, headers).unwrap();
            assert_eq!(writer.len() - before, foretold);
            assert!(record_size_upper_bound(parts_size(key, value, headers)) >= BATCH_HEADER_BYTES + foretold);
        }
    }
}

#[test]
fn a_batch_within_its_capacity_allocates_nothing() {
    let mut writer = BatchWriter::new(Vec::with_capacity(BATCH_HEADER_BYTES + 1_000));
    let (capacity, address) = (writer.buffer.capacity(), writer.buffer.as_ptr());
    let headers: Headers<'_> = [("h", "v")].into_iter().collect();
    while writer.len() + writer.encoded_size(5, parts_size(Some(b"key"), Some(b"value"), &headers)) <= capacity {
        writer.append(5, Some(b"key"), Some(b"value"), &headers).unwrap();
    }
    assert!(writer.count() > 30);
    let sealed = writer.seal(&mut Compressor::new(Compression::None)).unwrap();
    assert_eq!((sealed.bytes.capacity(), sealed.bytes.as_ptr()), (capacity, address));
}

#[test]
fn a_batch_can_be_stamped_again() {
    let mut writer = BatchWriter::new(vec![9; 500]);
    assert!(writer.is_empty() && writer.base_timestamp().is_none());
    writer.append(1000, None, Some(b"a"), &Headers::new()).unwrap();
    assert_eq!(writer.append(900, None, Some(b"b"), &Headers::new()).unwrap(), 1);
    assert_eq!((writer.base_timestamp(), writer.max_timestamp), (Some(1000), 1000));
    let mut sealed = writer.seal(&mut Compressor::new(Compression::None)).unwrap();
    let mut seen = Vec::new();
    for (epoch, sequence, transactional) in [(0, 7, true), (1, 0, false), (0, 7, true)] {
        let identity = ProducerIdAndEpoch { producer_id: 1 << 40, epoch };
        sealed.stamp(identity, sequence, transactional);
        let header = BatchHeader::read(sealed.as_slice()).unwrap();
        assert_eq!((header.identity, header.base_sequence), (identity, sequence));
        assert_eq!(header.attributes.is_transactional(), transactional);
        assert_eq!(header.crc, crc32c::crc32c(&sealed.as_slice()[21..]));
        assert_eq!((header.base_offset, header.leader_epoch, header.count, header.last_offset_delta), (0, -1, 2, 1));
        assert_eq!(usize::try_from(header.batch_length).unwrap() + BATCH_LENGTH_OVERHEAD, sealed.as_slice().len());
        seen.push(sealed.as_slice().to_vec());
    }
    assert!(seen[0] == seen[2] && seen[0] != seen[1]);
}

#[test]
fn the_size_before_compression_is_kept() {
    let mut writer = BatchWriter::new(Vec::new());
    writer.append(1, None, Some(&[b'x'; 5000]), &Headers::new()).unwrap();
    let before = writer.len();
    let sealed = writer.seal(&mut Compressor::new(Compression::Lz4)).unwrap();
    assert_eq!((sealed.uncompressed_len(), BatchHeader::read(sealed.as_slice()).unwrap().count), (before, 1));
    assert!(sealed.as_slice().len() < 200);
}

#[test]
fn an_empty_batch_is_not_sealed() {
    let sealed = BatchWriter::new(Vec::new()).seal(&mut Compressor::new(Compression::None));
    assert_eq!(sealed.err().unwrap().kind(), ErrorKind::Bug);
}
