//! Every codec that this client writes, as a real Kafka checks it: `kafka-dump-log` finds checksum and codec right, and
//! Java's consumer reads exactly what was sent.

use std::time::Duration;

use kafka_blocking::{Compression, ErrorKind, Producer, Record, Timestamp};

use crate::support::{dump, kafka};

fn codecs() -> Vec<(&'static str, Compression)> {
    let gzip = |level| Compression::gzip_level(level);
    let mut codecs = vec![
        ("none", Compression::None),
        ("gzip", Compression::gzip()),
        ("gzip-1", gzip(1)),
        ("gzip-9", gzip(9)),
        ("snappy", Compression::Snappy),
        ("lz4", Compression::Lz4),
    ];
    if cfg!(feature = "zstd") {
        let zstd = |level| Compression::zstd_level(level);
        codecs.extend([("zstd", Compression::zstd()), ("zstd-1", zstd(1)), ("zstd-19", zstd(19))]);
        codecs.push(("zstd--5", zstd(-5)));
    }
    codecs
}

/// A key and a value.
type Content = (Option<Vec<u8>>, Option<Vec<u8>>);

/// Values that compress well, badly and not at all; one is longer than every codec's block.
fn contents() -> Vec<Content> {
    let mut seed = 1_u64;
    let mut noise = |length: usize| -> Vec<u8> {
        let mut next = || {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            (seed >> 56) as u8
        };
        (0..length).map(|_| next()).collect()
    };
    let mut contents = vec![(None, None), (Some(Vec::new()), Some(Vec::new()))];
    for number in 0..200_usize {
        let text = format!("{{\"user\":{number},\"event\":\"clicked\",\"page\":\"/articles/{}\"}}", number % 7);
        contents.push((Some(format!("user-{}", number % 20).into_bytes()), Some(text.into_bytes())));
    }
    for length in [1, 2, 100, 4096, 65_536] {
        contents.push((None, Some(noise(length))));
        contents.push((None, Some(vec![b'a'; length])));
    }
    contents.push((None, Some("the same again and again ".repeat(20_000).into_bytes())));
    contents
}

#[test]
fn every_codec_is_valid_in_the_log_and_read_exactly_by_javas_consumer() {
    let cluster = kafka::shared_single();
    let contents = contents();
    let plain: usize = contents.iter().flat_map(|(key, value)| [key, value]).flatten().map(Vec::len).sum();
    let topics: Vec<String> = codecs().iter().map(|(name, _)| format!("codec-{name}")).collect();
    for ((_, compression), topic) in codecs().into_iter().zip(&topics) {
        cluster.admin().create_topic(topic, 1, 1, &[]);
        // All records are one batch: it is large enough, and only the flush sends it.
        let producer = Producer::builder(cluster.bootstrap())
            .compression(compression)
            .batch_size(1_000_000)
            .linger(Duration::from_secs(60))
            .build()
            .unwrap();
        let sent: Vec<_> = contents
            .iter()
            .map(|(key, value)| {
                let record = Record::to(topic)
                    .key(key.as_ref())
                    .value(value.as_ref())
                    .timestamp(Timestamp::from_millis(1_700_000_000_000));
                producer.send(record.header("codec", topic.as_str()))
            })
            .collect();
        for (offset, delivery) in (0..).zip(sent) {
            assert_eq!(delivery.wait().unwrap().offset().unwrap(), offset, "{topic}");
        }
        let metrics = producer.metrics();
        assert_eq!(metrics.batches_sent, 1, "{topic}");
        assert!(metrics.uncompressed_bytes_acknowledged > plain as u64, "{metrics:?}");
        assert_eq!(
            metrics.bytes_acknowledged < metrics.uncompressed_bytes_acknowledged,
            compression != Compression::None,
            "{metrics:?}"
        );
        producer.close_timeout(Duration::from_secs(60)).unwrap();

        let records = cluster.admin().read(topic);
        assert_eq!(records.len(), contents.len(), "{topic}");
        for (record, (key, value)) in records.iter().zip(&contents) {
            assert!(record.key == *key && record.value == *value, "{topic} offset {}", record.offset);
            assert_eq!(record.timestamp_ms, 1_700_000_000_000);
            assert_eq!(record.headers, [("codec".to_owned(), Some(topic.clone().into_bytes()))]);
        }
    }
    let partitions: Vec<(&str, usize)> = topics.iter().map(|topic| (topic.as_str(), 0)).collect();
    let logs = dump::all_batches(cluster, &partitions);
    for (((_, compression), topic), log) in codecs().into_iter().zip(&topics).zip(&logs) {
        let [batch] = &log[..] else { panic!("{topic} has {} batches", log.len()) };
        assert!(batch.valid, "{topic}");
        assert_eq!((batch.codec.as_str(), batch.count as usize), (compression.name(), contents.len()), "{topic}");
        assert_eq!(batch.records.len(), contents.len(), "{topic}: decompressed by Java");
        let limit = if compression == Compression::None { usize::MAX } else { plain / 2 };
        assert!(batch.size < limit, "{topic}: {} of {plain}", batch.size);
    }
    let size = |name: &str| logs[codecs().iter().position(|(codec, _)| *codec == name).unwrap()][0].size;
    assert!(size("gzip-9") < size("gzip-1"), "a level is more than a name");
    if cfg!(feature = "zstd") {
        assert!(size("zstd-19") < size("zstd--5"), "a level is more than a name");
    }
}

#[test]
fn a_codec_that_is_not_built_in_is_refused_by_build_and_named() {
    let built = Producer::builder(["localhost:1"]).compression(Compression::zstd()).build();
    if cfg!(feature = "zstd") {
        built.unwrap().close_timeout(Duration::from_secs(60)).unwrap();
    } else {
        let error = built.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Config);
        assert!(error.to_string().contains("feature \"zstd\""), "{error}");
    }
}
