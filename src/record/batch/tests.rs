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
            let (before, foretold) = (writer.len(), writer.encoded_size(timestamp, key, value, headers));
            writer.append(timestamp, key, value, headers).unwrap();
            assert_eq!(writer.len() - before, foretold);
            assert!(record_size_upper_bound(key, value, headers) >= BATCH_HEADER_BYTES + foretold);
        }
    }
}

#[test]
fn a_batch_within_its_capacity_allocates_nothing() {
    let mut writer = BatchWriter::new(Vec::with_capacity(BATCH_HEADER_BYTES + 1_000));
    let (capacity, address) = (writer.buffer.capacity(), writer.buffer.as_ptr());
    let headers: Headers<'_> = [("h", "v")].into_iter().collect();
    while writer.len() + writer.encoded_size(5, Some(b"key"), Some(b"value"), &headers) <= capacity {
        writer.append(5, Some(b"key"), Some(b"value"), &headers).unwrap();
    }
    assert!(writer.count() > 30);
    let sealed = writer.seal(&mut Compressor::new(Compression::None)).unwrap();
    assert_eq!((sealed.bytes.capacity(), sealed.bytes.as_ptr()), (capacity, address));
}
