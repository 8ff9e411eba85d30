use super::*;

fn codecs() -> Vec<Compression> {
    let all = [Compression::gzip(), Compression::Snappy, Compression::Lz4, Compression::zstd()];
    all.into_iter().filter(|codec| codec.check().is_ok()).collect()
}

fn compressed(compression: Compression, input: &[u8]) -> Vec<u8> {
    let mut output = Vec::new();
    codec(compression).unwrap().compress(input, &mut output).unwrap();
    output
}

fn noise(length: usize) -> Vec<u8> {
    let mut state = 1_u64;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_le_bytes()[2]
    };
    std::iter::repeat_with(next).take(length).collect()
}

#[test]
fn every_size_survives_the_round_trip_after_other_content() {
    let noise = noise(300_000);
    for compression in codecs() {
        let mut codec = codec(compression).unwrap();
        for size in [0, 1, 17, 1000, 32_768, 32_769, 65_535, 65_536, 65_537, 131_073, 300_000] {
            for content in [&noise[..size], &vec![b'x'; size]] {
                let (mut packed, mut unpacked) = (b"before".to_vec(), b"earlier".to_vec());
                codec.compress(content, &mut packed).unwrap();
                codec.decompress(&packed[6..], &mut unpacked, size).unwrap();
                assert!(packed.starts_with(b"before") && unpacked.starts_with(b"earlier"));
                assert!(unpacked[7..] == *content, "{compression} {size}");
                if size > 0 {
                    let error = codec.decompress(&packed[6..], &mut Vec::new(), size - 1).unwrap_err();
                    assert_eq!(
                        error.context().limit,
                        Some(("max_decompressed_bytes", size as u64 - 1)),
                        "{compression}"
                    );
                }
            }
        }
    }
}

#[test]
fn a_bomb_is_stopped_at_the_limit() {
    const LIMIT: usize = 1 << 20;
    let zeroes = vec![0; 8 << 20];
    for compression in codecs() {
        let bomb = compressed(compression, &zeroes);
        let mut output = Vec::new();
        let error = codec(compression).unwrap().decompress(&bomb, &mut output, LIMIT).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Compression, "{compression}");
        // The output doubles at most, and one block may go beyond.
        assert!(output.capacity() <= 3 * LIMIT, "{compression}: {}", output.capacity());
    }
}

#[cfg(feature = "zstd")]
#[test]
fn a_zstd_header_is_not_believed_in_what_it_claims() {
    // One segment of 100 MiB, of which one raw block of one byte follows.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xa0];
    frame.extend_from_slice(&(100_u32 << 20).to_le_bytes());
    frame.extend_from_slice(&[0x09, 0, 0, b'x']);
    let mut output = Vec::new();
    codec(Compression::zstd()).unwrap().decompress(&frame, &mut output, usize::MAX).unwrap_err();
    assert!(output.capacity() < 1 << 20, "{}", output.capacity());
}

#[test]
fn damaged_data_is_refused_and_never_panics() {
    let content: Vec<u8> = (0..3000_u32).flat_map(|n| (n / 7).to_le_bytes()).collect();
    let noise = noise(5_000);
    for compression in codecs() {
        let good = compressed(compression, &content);
        let mut codec = codec(compression).unwrap();
        let mut refused = 0;
        for cut in 0..good.len() {
            let is_refused = codec.decompress(&good[..cut], &mut Vec::new(), 1 << 20).is_err();
            // Snappy data that is cut after its header, or between two blocks, is complete in itself.
            assert!(is_refused || compression == Compression::Snappy, "{compression} cut at {cut}");
        }
        for (round, pair) in noise.chunks_exact(2).enumerate() {
            let mut bad = good.clone();
            let at = (round * 31 + usize::from(pair[0])) % bad.len();
            bad[at] = pair[1];
            let mut output = Vec::new();
            refused += usize::from(codec.decompress(&bad, &mut output, 1 << 16).is_err());
            assert!(output.capacity() <= 1 << 18, "{compression}: {}", output.capacity());
        }
        assert!(refused > 100, "{compression}: {refused}");
        // The codec still works afterwards.
        let mut output = Vec::new();
        codec.decompress(&good, &mut output, content.len()).unwrap();
        assert!(output == content);
    }
}

#[test]
fn buffers_are_used_again() {
    for compression in codecs() {
        let mut compressor = Compressor::new(compression);
        let mut buffer = Vec::with_capacity(16_384);
        let mut seen = Vec::new();
        for _ in 0..6 {
            buffer.clear();
            buffer.resize(16_000, b'r');
            buffer = compressor.compress_batch(buffer).unwrap();
            seen.push((buffer.as_ptr(), buffer.capacity()));
        }
        // Two buffers take turns, and neither grows any more.
        assert!(seen[2..4] == seen[4..6], "{compression}: {seen:?}");

        let packed = compressed(compression, &[1; 5000]);
        let mut decompressor = Decompressor::new(usize::MAX);
        let output = decompressor.decompress(compression, &packed).unwrap();
        let address = output.as_ptr();
        decompressor.recycle(output);
        let output = decompressor.decompress(compression, &packed).unwrap();
        assert_eq!(output.as_ptr(), address, "{compression}");
    }
}

#[test]
fn javas_names_are_understood() {
    for name in ["none", "gzip", "snappy", "lz4", "zstd"] {
        let compression: Compression = name.parse().unwrap();
        assert_eq!(compression.name(), name);
        assert_eq!(Compression::from_id(compression.id()), Some(compression));
    }
    for name in ["", "GZIP", "lz4hc"] {
        assert_eq!(name.parse::<Compression>().unwrap_err().kind(), ErrorKind::Config);
    }
    assert_eq!(Compression::from_id(5), None);
}

#[test]
fn levels_are_those_of_java() {
    assert_eq!(Compression::gzip_level(-1), Compression::gzip());
    assert_eq!(Compression::zstd_level(0), Compression::zstd());
    for level in [-1, 1, 9] {
        assert_eq!(Compression::gzip_level(level).fault(), None);
    }
    for level in [-2, 0, 10, i32::MIN, i32::MAX] {
        let fault = Compression::gzip_level(level).fault().unwrap();
        assert_eq!(fault, format!("is gzip at level {level}, it must be -1 or 1 to 9"));
    }
    for level in [-131_072, -1, 22] {
        let compression = Compression::zstd_level(level);
        assert_eq!(compression.fault(), None);
        if cfg!(feature = "zstd") && level < 22 {
            compressed(compression, b"content");
        }
    }
    for level in [-131_073, 23] {
        let fault = Compression::zstd_level(level).fault().unwrap();
        assert_eq!(fault, format!("is zstd at level {level}, it must be -131072 to 22"));
    }
    let text = b"the quick brown fox ".repeat(500);
    assert!(compressed(Compression::gzip_level(9), &text) != compressed(Compression::gzip_level(1), &text));
}

#[cfg(not(feature = "zstd"))]
#[test]
fn without_zstd_the_error_names_the_feature() {
    let error = Compression::zstd().check().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Compression);
    assert!(error.to_string().contains("feature \"zstd\""), "{error}");
}
