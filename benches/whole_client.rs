//! From `send` to the acknowledgement, over loopback: a broker in this process acknowledges and keeps nothing.
//!
//! Client and broker share the processors, so these figures compare one state of this crate with another. What the
//! client alone costs is told by the bench `figures`, whose broker is another process.
//!
//! ```text
//! cargo bench --bench whole_client
//! cargo bench --bench whole_client -- --quick latency
//! ```

#![allow(clippy::unwrap_used, reason = "a bench may panic")]

use std::sync::Barrier;
use std::thread;
use std::time::{Duration, Instant};

use criterion::{BenchmarkId, Criterion, SamplingMode, Throughput};
use kafka_blocking::testing::FakeCluster;
use kafka_blocking::{Producer, Record};

const TOPIC: &str = "bench";
const PARTITIONS: usize = 6;
const BOUND: Duration = Duration::from_secs(60);

/// How many records an iteration sends without waiting, all threads together. So many that the end, where the last
/// batches are waited for, does not count.
const BURST: u32 = 20_000;

fn main() {
    let config = Criterion::default()
        .sample_size(20)
        .warm_up_time(Duration::from_secs(1))
        .measurement_time(Duration::from_secs(4));
    let mut criterion = config.configure_from_args();
    throughput(&mut criterion);
    latency(&mut criterion);
    criterion.final_summary();
}

/// Bursts of records whose handles are looked at; the clock stops when everything is acknowledged.
fn throughput(c: &mut Criterion) {
    let cluster = FakeCluster::builder().topic(TOPIC, PARTITIONS).sink().start().unwrap();
    let mut group = c.benchmark_group("throughput");
    group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(BURST.into()));
    for threads in [1, 4] {
        for (name, size) in [("100 B", 100), ("1 KiB", 1024)] {
            let producer = producer(&cluster);
            let value = vec![b'x'; size];
            group.bench_function(BenchmarkId::new(name, count(threads)), |b| {
                b.iter_custom(|bursts| {
                    let send = || {
                        let mut handles = Vec::new();
                        for _ in 0..bursts {
                            // Those of the last burst alone are kept: memory shall not grow with the bench.
                            handles.clear();
                            handles
                                .extend((0..BURST / threads).map(|_| producer.send(Record::to(TOPIC).value(&value))));
                        }
                        handles
                    };
                    let (took, last) = at_once(threads, send, || producer.flush_timeout(BOUND).unwrap());
                    assert!(last.iter().flatten().all(|handle| matches!(handle.try_wait(), Some(Ok(_)))));
                    took
                });
            });
            close(producer);
        }
    }
    group.finish();
}

/// `send(..).wait()`, as each of the threads sees it.
fn latency(c: &mut Criterion) {
    let cluster = FakeCluster::builder().topic(TOPIC, PARTITIONS).sink().start().unwrap();
    let mut group = c.benchmark_group("latency");
    for threads in [1, 16] {
        group.throughput(Throughput::Elements(threads.into()));
        let producer = producer(&cluster);
        let value = vec![b'x'; 100];
        group.bench_function(count(threads), |b| {
            b.iter_custom(|calls| {
                let send = || {
                    for _ in 0..calls {
                        producer.send(Record::to(TOPIC).value(&value)).wait().unwrap();
                    }
                };
                at_once(threads, send, || {}).0
            });
        });
        close(producer);
    }
    group.finish();
}

/// Runs `work` on so many threads at once, then `end`, and answers how long that took, without the threads' start.
fn at_once<T: Send>(threads: u32, work: impl Fn() -> T + Sync, end: impl FnOnce()) -> (Duration, Vec<T>) {
    let start = Barrier::new(threads as usize + 1);
    thread::scope(|scope| {
        let run = || {
            start.wait();
            work()
        };
        let running: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        start.wait();
        let clock = Instant::now();
        let results = running.into_iter().map(|thread| thread.join().unwrap()).collect();
        end();
        (clock.elapsed(), results)
    })
}

fn producer(cluster: &FakeCluster) -> Producer {
    let producer = Producer::builder(cluster.bootstrap()).build().unwrap();
    // Metadata, a producer id and the connection are there before the clock starts.
    producer.send(Record::to(TOPIC).value("first")).wait().unwrap();
    producer
}

fn close(producer: Producer) {
    assert_eq!(producer.metrics().records_failed, 0);
    producer.close_timeout(BOUND).unwrap();
}

fn count(threads: u32) -> String {
    if threads == 1 { "1 thread".to_owned() } else { format!("{threads} threads") }
}
