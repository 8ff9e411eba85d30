//! The producer's first figures: throughput, CPU, allocations and latency, on a sink that only acknowledges and on
//! real Kafka.
//!
//! ```text
//! cargo bench --bench figures                                  # a sink in a process of its own
//! cargo bench --bench figures -- --bootstrap 127.0.0.1:9092    # real Kafka; creates or uses the topic `figures`
//! ```
//!
//! Options: `--records N` (2,000,000), `--waits N` (20,000), `--size BYTES` (100), `--batch-size BYTES`, `--rounds N`
//! (3), `--only throughput|wait`. CPU is user and system time of this process, threads included.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a bench may panic")]
#![allow(clippy::cast_precision_loss, reason = "figures for people")]

use std::alloc::System;
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Producer, Record};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TOPIC: &str = "figures";
const BOUND: Duration = Duration::from_secs(120);

struct Options {
    bootstrap: Option<String>,
    records: u64,
    waits: u64,
    size: usize,
    batch_size: Option<usize>,
    rounds: u32,
    only: Option<String>,
}

fn options() -> Options {
    let mut options = Options {
        bootstrap: None,
        records: 2_000_000,
        waits: 20_000,
        size: 100,
        batch_size: None,
        rounds: 3,
        only: None,
    };
    let mut arguments = std::env::args().skip(1);
    while let Some(name) = arguments.next() {
        let mut value = || arguments.next().unwrap_or_else(|| panic!("{name} wants a value"));
        match &*name {
            "--bootstrap" => options.bootstrap = Some(value()),
            "--records" => options.records = value().parse().unwrap(),
            "--waits" => options.waits = value().parse().unwrap(),
            "--size" => options.size = value().parse().unwrap(),
            "--batch-size" => options.batch_size = Some(value().parse().unwrap()),
            "--rounds" => options.rounds = value().parse().unwrap(),
            "--only" => options.only = Some(value()),
            // What cargo adds.
            "--bench" => {}
            _ => panic!("{name} is not known"),
        }
    }
    options
}

fn main() {
    if std::env::args().nth(1).as_deref() == Some("--sink") {
        return sink();
    }
    // As a test it has nothing to say.
    if !std::env::args().any(|argument| argument == "--bench") {
        return;
    }
    let options = options();
    let sink = options.bootstrap.is_none().then(Sink::start);
    let bootstrap = sink.as_ref().map(|sink| sink.address.clone()).or(options.bootstrap.clone()).unwrap();
    let wanted = |name: &str| options.only.as_deref().is_none_or(|only| only == name);
    for round in 1..=options.rounds {
        if wanted("throughput") {
            throughput(round, &bootstrap, &options);
        }
        if wanted("wait") {
            waits(round, &bootstrap, &options);
        }
    }
}

fn producer(bootstrap: &str, options: &Options) -> Producer {
    let builder = Producer::builder([bootstrap]);
    match options.batch_size {
        Some(bytes) => builder.batch_size(bytes).build().unwrap(),
        None => builder.build().unwrap(),
    }
}

/// One thread sends without waiting, keeps each handle, and looks at all of them in the end.
fn throughput(round: u32, bootstrap: &str, options: &Options) {
    let producer = producer(bootstrap, options);
    let value = vec![b'x'; options.size];
    for _ in 0..200_000 {
        producer.send(Record::to(TOPIC).value(&value)).detach();
    }
    producer.flush_timeout(BOUND).unwrap();
    let mut handles = Vec::with_capacity(usize::try_from(options.records).unwrap());
    let before = producer.metrics();
    let allocations = Region::new(ALLOCATOR);
    let (clock, cpu) = (Instant::now(), cpu());
    for _ in 0..options.records {
        handles.push(producer.send(Record::to(TOPIC).value(&value)));
    }
    producer.flush_timeout(BOUND).unwrap();
    let (wall, cpu) = (clock.elapsed(), self::cpu() - cpu);
    let allocations = allocations.change();
    let failed = handles.iter().filter(|handle| !matches!(handle.try_wait(), Some(Ok(_)))).count();
    assert_eq!(failed, 0, "records failed");
    let metrics = producer.metrics();
    let records = options.records as f64;
    let batches = (metrics.batches_sent - before.batches_sent) as f64;
    println!(
        "throughput round {round}: {:.2} M records/s, client CPU {:.0} ns per record, {:.4} allocations per record, \
         {:.0} records per batch, {:.1} batches per request",
        records / wall.as_secs_f64() / 1e6,
        cpu.as_secs_f64() * 1e9 / records,
        allocations.allocations as f64 / records,
        records / batches,
        batches / (metrics.requests_sent - before.requests_sent) as f64,
    );
    producer.close_timeout(BOUND).unwrap();
}

/// One thread sends and waits, one record at a time.
fn waits(round: u32, bootstrap: &str, options: &Options) {
    let producer = producer(bootstrap, options);
    let value = vec![b'x'; options.size];
    for _ in 0..1000 {
        producer.send(Record::to(TOPIC).value(&value)).wait().unwrap();
    }
    let mut latencies = Vec::with_capacity(usize::try_from(options.waits).unwrap());
    let cpu = cpu();
    for _ in 0..options.waits {
        let clock = Instant::now();
        producer.send(Record::to(TOPIC).value(&value)).wait().unwrap();
        latencies.push(clock.elapsed());
    }
    let cpu = self::cpu() - cpu;
    latencies.sort_unstable();
    let at = |percent: usize| latencies[(latencies.len() - 1) * percent / 100];
    println!(
        "send().wait() round {round}: p50 {:.1} us, p90 {:.1} us, p99 {:.1} us, client CPU {:.1} us per record",
        micros(at(50)),
        micros(at(90)),
        micros(at(99)),
        micros(cpu) / options.waits as f64,
    );
    producer.close_timeout(BOUND).unwrap();
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

/// User and system time of this process, in the kernel's ticks of 10 ms.
fn cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit(')').next().unwrap().split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}

/// A process that acknowledges and keeps nothing; it ends with this one.
struct Sink {
    process: Child,
    address: String,
}

impl Sink {
    fn start() -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .arg("--sink")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().to_owned() }
    }
}

impl Drop for Sink {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

fn sink() {
    let cluster = FakeCluster::builder().topic(TOPIC, 6).sink().start().unwrap();
    println!("{}", cluster.bootstrap().join(","));
    // The end of standard input is the end of the process that wanted the sink.
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}
