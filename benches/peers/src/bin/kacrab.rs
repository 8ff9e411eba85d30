//! kacrab: `send` in all modes, the futures awaited later or at once.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::Bytes;
use kacrab::producer::{Producer, ProducerRecord, SendFuture};
use kafka_blocking_peers::{Args, Measured, Mode, Records, Window, tasks, version_of};

/// For how many bytes of values futures are kept. `send` never waits for memory, of which there are 32 MiB: it refuses
/// what does not fit, so the sender has to hold itself back.
const UNFINISHED: usize = 8 << 20;

fn main() {
    let args = Args::parse(&[tasks::WORKERS]);
    let runtime = tasks::runtime(&args);
    tasks::run(&runtime, measure(args));
}

/// What a record is made of; its bytes are shared, not copied.
struct Source {
    topic: Arc<str>,
    records: Records,
    values: Vec<Bytes>,
}

impl Source {
    fn record(&self, number: u64) -> ProducerRecord {
        let value = self.values[number as usize % self.values.len()].clone();
        let record = ProducerRecord::topic_value(self.topic.clone(), value);
        match self.records.key(number) {
            Some(key) => record.key(Bytes::copy_from_slice(key)),
            None => record,
        }
    }
}

async fn measure(args: Args) {
    let measured = Measured::new(&args, tasks::name(&args, "kacrab"), version_of("kacrab"), "idempotent");
    let mut builder = Producer::builder()
        .set("bootstrap.servers", &*args.bootstrap)
        .set("acks", "all")
        .set("enable.idempotence", "true")
        .set("linger.ms", args.linger_ms.to_string())
        .set("compression.type", &*args.compression);
    if let Some(bytes) = args.batch_size {
        builder = builder.set("batch.size", bytes.to_string());
    }
    let producer = Arc::new(builder.build().await.unwrap());
    let records = Records::new(args.size, args.keys);
    let values = (0..64).map(|number| Bytes::copy_from_slice(records.value(number))).collect();
    let source = Arc::new(Source { topic: args.topic.as_str().into(), records, values });
    let caller = |_| {
        let (producer, source) = (producer.clone(), source.clone());
        move |number| {
            let sent = producer.send(source.record(number)).unwrap();
            async move { drop(sent.await.unwrap()) }
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
}

async fn throughput(args: &Args, producer: &Arc<Producer>, source: &Arc<Source>, total: u64) -> u64 {
    let tasks: Vec<_> = (0..args.threads)
        .map(|index| {
            let (producer, source) = (producer.clone(), source.clone());
            let count = args.share(total, index);
            let futures = (UNFINISHED / args.size / args.threads).max(2);
            tokio::spawn(async move {
                let (mut sent, mut acknowledged) = (VecDeque::<SendFuture>::with_capacity(futures), 0);
                for number in 0..count {
                    if sent.len() == futures {
                        for delivery in sent.drain(..futures / 2) {
                            delivery.await.unwrap();
                            acknowledged += 1;
                        }
                    }
                    sent.push_back(producer.send(source.record(number)).unwrap());
                }
                producer.flush().await.unwrap();
                for delivery in sent {
                    delivery.await.unwrap();
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
