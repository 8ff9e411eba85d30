//! rskafka. `--client` says which way:
//!
//! | client | throughput | sync, syncthreads |
//! |---|---|---|
//! | `batches` | the caller builds full batches; a task for each partition sends one and awaits it | `produce` of one record |
//! | `producer` | record by record through a `BatchProducer` for each partition | the same |
//!
//! It is not idempotent, and the caller chooses the partitions.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use chrono::Utc;
use kafka_blocking_peers::{Args, Measured, Mode, Records, Window, tasks, version_of, wire};
use rskafka::client::ClientBuilder;
use rskafka::client::partition::{Compression, PartitionClient, UnknownTopicHandling};
use rskafka::client::producer::aggregator::RecordAggregator;
use rskafka::client::producer::{BatchProducer, BatchProducerBuilder};
use rskafka::record::Record;

const CLIENT: &str = "--client";
/// It writes a request's length alone and leaves Nagle's delay on. So the rest of a request that is larger than its
/// buffer of 8 KiB and smaller than a segment (64 KiB on loopback) waits 40 ms for the receiver's timer. Batches are the
/// caller's to choose: these are larger than a segment.
const BATCH_SIZE: usize = 128 << 10;
/// How many calls of `BatchProducer::produce` are outstanding: some batches' worth.
const CALLS: usize = 10_000;

fn main() {
    let mut args = Args::parse(&[CLIENT, tasks::WORKERS]);
    assert_ne!(args.mode, Mode::Transactions, "it has no transactions");
    if args.extra(CLIENT) != Some("producer") && args.mode == Mode::Throughput {
        args.batch_size.get_or_insert(BATCH_SIZE);
    }
    let runtime = tasks::runtime(&args);
    let partitions = wire::partitions(&args.bootstrap, &args.topic);
    tasks::run(&runtime, measure(args, partitions));
}

async fn measure(args: Args, partitions: usize) {
    let way = args.extra(CLIENT).unwrap_or("batches");
    let name = tasks::name(&args, &format!("rskafka {way}"));
    let measured = Measured::new(&args, name, version_of("rskafka"), "not idempotent");
    let records = Arc::new(Records::new(args.size, args.keys));
    let client = ClientBuilder::new(vec![args.bootstrap.clone()]).build().await.unwrap();
    let mut clients = Vec::new();
    for partition in 0..partitions as i32 {
        let client = client.partition_client(&args.topic, partition, UnknownTopicHandling::Retry).await.unwrap();
        clients.push(Arc::new(client));
    }
    match (args.mode, way) {
        (Mode::Throughput, "batches") => {
            batches(&args, &records, &clients, args.warmup).await;
            let window = Window::open();
            let acknowledged = batches(&args, &records, &clients, args.records).await;
            measured.report(&window.close(), acknowledged, Vec::new());
        }
        (Mode::Throughput, _) => {
            let producers = producers(&args, &clients);
            record_by_record(&records, &producers, args.warmup).await;
            let window = Window::open();
            let acknowledged = record_by_record(&records, &producers, args.records).await;
            measured.report(&window.close(), acknowledged, Vec::new());
        }
        (mode, "batches") => {
            let compression = compression(&args);
            let caller = |index: usize| {
                let (records, client) = (records.clone(), clients[index % clients.len()].clone());
                move |number| {
                    let (client, records) = (client.clone(), vec![record(&records, number)]);
                    async move { drop(client.produce(records, compression).await.unwrap()) }
                }
            };
            match mode {
                Mode::Sync => tasks::sync(&args, &measured, caller(0)).await,
                _ => tasks::sync_tasks(&args, &measured, caller).await,
            }
        }
        (mode, _) => {
            let producers = producers(&args, &clients);
            let caller = |index: usize| {
                let (records, producer) = (records.clone(), producers[index % producers.len()].clone());
                move |number| {
                    let (producer, record) = (producer.clone(), record(&records, number));
                    async move {
                        producer.produce(record).await.unwrap();
                    }
                }
            };
            match mode {
                Mode::Sync => tasks::sync(&args, &measured, caller(0)).await,
                _ => tasks::sync_tasks(&args, &measured, caller).await,
            }
        }
    }
}

fn compression(args: &Args) -> Compression {
    match &*args.compression {
        "none" => Compression::NoCompression,
        "gzip" => Compression::Gzip,
        "snappy" => Compression::Snappy,
        "lz4" => Compression::Lz4,
        name => panic!("no codec {name}"),
    }
}

fn record(records: &Records, number: u64) -> Record {
    Record {
        key: records.key(number).map(<[u8]>::to_vec),
        value: Some(records.value(number).to_vec()),
        headers: BTreeMap::new(),
        timestamp: Utc::now(),
    }
}

/// A task for each partition builds a batch, sends it and awaits the answer, again and again.
async fn batches(args: &Args, records: &Arc<Records>, clients: &[Arc<PartitionClient>], count: u64) -> u64 {
    let (batch, partitions) = (args.records_per_batch() as u64, clients.len() as u64);
    let compression = compression(args);
    let tasks: Vec<_> = (0..partitions)
        .zip(clients)
        .map(|(index, client)| {
            let (client, records) = (client.clone(), records.clone());
            let share = count / partitions + u64::from(index < count % partitions);
            tokio::spawn(async move {
                let mut acknowledged = 0;
                while acknowledged < share {
                    let numbers = acknowledged..share.min(acknowledged + batch);
                    let batch = numbers.map(|number| record(&records, number)).collect();
                    acknowledged += client.produce(batch, compression).await.unwrap().len() as u64;
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

type Producer = BatchProducer<RecordAggregator>;

fn producers(args: &Args, clients: &[Arc<PartitionClient>]) -> Vec<Arc<Producer>> {
    clients
        .iter()
        .map(|client| {
            let producer = BatchProducerBuilder::new(client.clone())
                .with_linger(Duration::from_millis(args.linger_ms))
                .with_compression(compression(args))
                .build(RecordAggregator::new(args.batch_size.unwrap_or(16 << 10)));
            Arc::new(producer)
        })
        .collect()
}

async fn record_by_record(records: &Arc<Records>, producers: &[Arc<Producer>], count: u64) -> u64 {
    let (mut calls, mut acknowledged) = (VecDeque::with_capacity(CALLS), 0);
    for number in 0..count {
        if calls.len() == CALLS {
            let oldest: tokio::task::JoinHandle<i64> = calls.pop_front().unwrap();
            oldest.await.unwrap();
            acknowledged += 1;
        }
        let producer = producers[number as usize % producers.len()].clone();
        let record = record(records, number);
        calls.push_back(tokio::spawn(async move { producer.produce(record).await.unwrap() }));
    }
    for producer in producers {
        producer.flush().await.unwrap();
    }
    for call in calls {
        call.await.unwrap();
        acknowledged += 1;
    }
    acknowledged
}
