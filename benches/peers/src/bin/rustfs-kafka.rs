//! rustfs-kafka: everything on the caller's thread. `send_all` of one batch for each partition for throughput, `send`
//! of one record in the synchronous modes, with many callers behind a mutex. It is not idempotent.

use std::sync::Mutex;
use std::time::Duration;

use kafka_blocking_peers::{Args, Measured, Mode, Records, Window, sync, sync_threads, version_of, wire};
use rustfs_kafka::client::Compression;
use rustfs_kafka::producer::{Producer, Record, RequiredAcks};

fn main() {
    let args = Args::parse(&[]);
    let measured = Measured::new(&args, "rustfs-kafka", version_of("rustfs-kafka"), "not idempotent");
    let records = Records::new(args.size, args.keys);
    let partitions = wire::partitions(&args.bootstrap, &args.topic) as u64;
    let mut producer = Producer::from_hosts(vec![args.bootstrap.clone()])
        .with_required_acks(RequiredAcks::All)
        .with_ack_timeout(Duration::from_secs(30))
        .with_compression(match &*args.compression {
            "none" => Compression::NONE,
            "gzip" => Compression::GZIP,
            "snappy" => Compression::SNAPPY,
            "lz4" => Compression::LZ4,
            name => panic!("no codec {name}"),
        })
        .create()
        .unwrap();
    let record = |number| {
        let (key, value) = (records.key(number).unwrap_or_default(), records.value(number));
        Record::from_key_value(&args.topic, key, value)
    };
    match args.mode {
        Mode::Throughput => {
            assert_eq!(args.threads, 1, "it is one caller's");
            let (batch, mut chunk) = (args.records_per_batch() as u64, Vec::new());
            let mut run = |count: u64| {
                let mut acknowledged = 0;
                while acknowledged < count {
                    let next = count.min(acknowledged + batch * partitions);
                    // Neighbours go to the same partition, which spares it work.
                    chunk.clear();
                    chunk.extend(
                        (acknowledged..next)
                            .map(|number| record(number).with_partition(((number - acknowledged) / batch) as i32)),
                    );
                    for confirm in producer.send_all(&chunk).unwrap() {
                        for partition in confirm.partition_confirms {
                            partition.offset.unwrap();
                        }
                    }
                    acknowledged = next;
                }
                acknowledged
            };
            run(args.warmup);
            let window = Window::open();
            let acknowledged = run(args.records);
            measured.report(&window.close(), acknowledged, Vec::new());
        }
        Mode::Sync => sync(&args, &measured, |number| producer.send(&record(number)).unwrap()),
        Mode::SyncThreads => {
            let producer = Mutex::new(producer);
            let call = |number| producer.lock().unwrap().send(&record(number)).unwrap();
            sync_threads(&args, &measured, |_| call);
        }
        Mode::Transactions => panic!("transactions are not measured"),
    }
}
