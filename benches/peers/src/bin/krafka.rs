//! krafka: `enqueue` for throughput, `send` in the synchronous modes.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use kafka_blocking_peers::{Args, Measured, Mode, OUTSTANDING, Records, Window, tasks, version_of};
use krafka::producer::{Acks, DeliveryHandle, Producer};
use krafka::{Compression, Kafka, Record};

fn main() {
    let args = Args::parse(&[tasks::WORKERS]);
    let runtime = tasks::runtime(&args);
    tasks::run(&runtime, measure(args));
}

/// What a record is made of; its bytes are shared, not copied.
struct Source {
    topic: String,
    records: Records,
    values: Vec<Bytes>,
}

impl Source {
    fn record(&self, number: u64) -> Record {
        let record = Record::new(&*self.topic, self.values[number as usize % self.values.len()].clone());
        match self.records.key(number) {
            Some(key) => record.key(Bytes::copy_from_slice(key)),
            None => record,
        }
    }
}

async fn measure(args: Args) {
    let measured = Measured::new(&args, tasks::name(&args, "krafka"), version_of("krafka"), "idempotent");
    let kafka = Kafka::builder(&*args.bootstrap).connect().await.unwrap();
    let mut builder =
        kafka.producer().acks(Acks::All).idempotent(true).linger(Duration::from_millis(args.linger_ms)).compression(
            match &*args.compression {
                "none" => Compression::None,
                "gzip" => Compression::Gzip,
                "snappy" => Compression::Snappy,
                "lz4" => Compression::Lz4,
                name => panic!("no codec {name}"),
            },
        );
    if let Some(bytes) = args.batch_size {
        builder = builder.batch_size(bytes);
    }
    let producer = Arc::new(builder.build().await.unwrap());
    let records = Records::new(args.size, args.keys);
    let values = (0..64).map(|number| Bytes::copy_from_slice(records.value(number))).collect();
    let source = Arc::new(Source { topic: args.topic.clone(), records, values });
    let caller = |_| {
        let (producer, source) = (producer.clone(), source.clone());
        move |number| {
            let (producer, record) = (producer.clone(), source.record(number));
            async move { drop(producer.send(record).await.unwrap()) }
        }
    };
    match args.mode {
        Mode::Throughput => {
            throughput(&args, &producer, &source, args.warmup).await;
            let window = Window::open();
            let acknowledged = throughput(&args, &producer, &source, args.records).await;
            measured.report(&window.close(), acknowledged, Vec::new());
        }
        Mode::Sync => tasks::sync(&args, &measured, caller(0)).await,
        Mode::SyncThreads => tasks::sync_tasks(&args, &measured, caller).await,
        Mode::Transactions => panic!("transactions are not measured"),
    }
    producer.close().await.unwrap();
}

async fn throughput(args: &Args, producer: &Arc<Producer>, source: &Arc<Source>, total: u64) -> u64 {
    let tasks: Vec<_> = (0..args.threads)
        .map(|index| {
            let (producer, source) = (producer.clone(), source.clone());
            let count = args.share(total, index);
            tokio::spawn(async move {
                let (mut sent, mut acknowledged) =
                    (VecDeque::<DeliveryHandle>::with_capacity(OUTSTANDING.min(count as usize)), 0);
                for number in 0..count {
                    if sent.len() == OUTSTANDING {
                        for delivery in sent.drain(..OUTSTANDING / 2) {
                            drop(delivery.await.unwrap());
                            acknowledged += 1;
                        }
                    }
                    sent.push_back(producer.enqueue(source.record(number)).await.unwrap());
                }
                producer.flush().await.unwrap();
                for delivery in sent {
                    drop(delivery.await.unwrap());
                    acknowledged += 1;
                }
                acknowledged
            })
        })
        .collect();
    let mut acknowledged = 0;
    for task in tasks {
        acknowledged += task.await.unwrap();
    }
    acknowledged
}
