//! Guards of the producer's speed that no busy machine can upset: nothing here is timed. They count what costs time:
//! allocations, system calls, wake-ups of threads, memory that is held.
//!
//! The cluster is a process of its own, so that all that is counted is the client's. A program without the test
//! harness, because the counts are of the whole process: the guards run one after the other on its main thread.
//! Arguments as of a test: parts of names, and `--list`. Each guard prints what it has counted.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a panic is how a guard fails")]
#![allow(clippy::cast_precision_loss, reason = "ratios for people")]

use std::alloc::System;
use std::fmt::Write as _;
use std::io::{BufRead, BufReader, Read};
use std::panic::catch_unwind;
use std::process::{Child, Command, ExitCode, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use kafka_blocking::bench::{Compressor, Decompressor, Fetched, OpenBatch, read_all, sends};
use kafka_blocking::testing::{FakeCluster, Fault, On};
use kafka_blocking::{Compression, Delivery, ErrorKind, Producer, ProducerMetrics, Record};
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

const TOPIC: &str = "guards";
const PARTITIONS: usize = 6;
const WIDE_PARTITIONS: usize = 10_000;
const VALUE: &[u8] = &[b'x'; 100];
/// Nothing takes so long; it is there so that a fault does not hang.
const BOUND: Duration = Duration::from_secs(60);

/// Counting per thread and per process needs `/proc`.
const NEEDS_PROC: bool = true;
const ANYWHERE: bool = false;

/// Its name, whether it needs `/proc`, and what it does; it answers what it has found.
type Guard = (&'static str, bool, fn() -> String);

const GUARDS: &[Guard] = &[
    ("records_cost_no_allocation", ANYWHERE, records_cost_no_allocation),
    ("keys_and_headers_cost_what_the_caller_builds", ANYWHERE, keys_and_headers_cost_what_the_caller_builds),
    ("callbacks_cost_their_box", ANYWHERE, callbacks_cost_their_box),
    ("a_wait_costs_a_few_allocations", ANYWHERE, a_wait_costs_a_few_allocations),
    ("batches_are_read_without_an_allocation", ANYWHERE, batches_are_read_without_an_allocation),
    ("many_threads_cost_no_allocation_per_record", ANYWHERE, many_threads_cost_no_allocation_per_record),
    ("a_request_is_one_system_call_for_many_batches", ANYWHERE, a_request_is_one_system_call_for_many_batches),
    ("full_speed_needs_few_wake_ups", NEEDS_PROC, full_speed_needs_few_wake_ups),
    ("a_waiting_thread_reads_its_answer_itself", NEEDS_PROC, a_waiting_thread_reads_its_answer_itself),
    ("waiting_threads_share_requests", ANYWHERE, waiting_threads_share_requests),
    ("an_idle_producer_sleeps", NEEDS_PROC, an_idle_producer_sleeps),
    ("a_hanging_broker_costs_buffer_memory_at_most", ANYWHERE, a_hanging_broker_costs_buffer_memory_at_most),
    ("a_slow_broker_costs_buffer_memory_at_most", ANYWHERE, a_slow_broker_costs_buffer_memory_at_most),
    ("idle_partitions_take_little_memory", ANYWHERE, idle_partitions_take_little_memory),
];

/// Options of the test harness, without effect here, that are followed by a value.
const WITH_VALUE: &[&str] = &["--test-threads", "--skip", "--format", "--color", "--logfile", "--shuffle-seed"];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if let Some(place) = arguments.iter().position(|argument| argument == "--cluster") {
        serve(&arguments[place + 1]);
        return ExitCode::SUCCESS;
    }
    let is_value = |place: usize| place > 0 && WITH_VALUE.contains(&&*arguments[place - 1]);
    let wanted: Vec<&String> = arguments
        .iter()
        .enumerate()
        .filter(|(place, argument)| !argument.starts_with('-') && !is_value(*place))
        .map(|(_, argument)| argument)
        .collect();
    let guards = GUARDS.iter().filter(|(name, ..)| wanted.is_empty() || wanted.iter().any(|part| name.contains(*part)));
    if arguments.iter().any(|argument| argument == "--list") {
        guards.for_each(|(name, ..)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    let mut failed = 0;
    for (name, needs_proc, guard) in guards {
        if *needs_proc && !cfg!(target_os = "linux") {
            println!("guard {name} ... skipped: it counts in /proc, which this system does not have");
            continue;
        }
        match catch_unwind(guard) {
            Ok(found) => println!("guard {name} ... ok: {found}"),
            // The reason stands on standard error.
            Err(_) => {
                println!("guard {name} ... FAILED");
                failed += 1;
            }
        }
    }
    if failed == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

// ---- allocations ------------------------------------------------------------------------------------------------

/// What sending may allocate.
struct Allowed {
    per_record: u64,
    /// The batch's box, its result, its ticket, and its part of a request and of the channels that batches pass through:
    /// 3 to 7 where requests are full or carry one batch; the rest is for buffers that grow.
    per_batch: u64,
    /// What threads, channels and reused vectors take on occasion, however many batches there are.
    besides: u64,
}

const PER_BATCH: u64 = 12;
const NO_RECORD: Allowed = Allowed { per_record: 0, per_batch: PER_BATCH, besides: 300 };
const ONE_A_RECORD: Allowed = Allowed { per_record: 1, ..NO_RECORD };

/// How often the producer's process allocated or reallocated while `send` ran, and the batches of it.
struct Counted {
    allocations: u64,
    records: u64,
    batches: u64,
    requests: u64,
}

impl Counted {
    /// Runs `load` once for warming up and once counted, on a producer of its own. `load` sends the number of records
    /// that it is told, and sees to it that they succeed.
    fn run(records: u64, load: impl Fn(&Producer, u64)) -> Self {
        let cluster = Cluster::start("sink");
        let producer = cluster.producer();
        load(&producer, 100_000.min(records));
        producer.flush_timeout(BOUND).unwrap();
        let before = producer.metrics();
        let allocations = allocations();
        load(&producer, records);
        producer.flush_timeout(BOUND).unwrap();
        let allocations = self::allocations() - allocations;
        let after = producer.metrics();
        let counted = Self {
            allocations,
            records,
            batches: after.batches_sent - before.batches_sent,
            requests: after.requests_sent - before.requests_sent,
        };
        assert_eq!(after.records_acknowledged - before.records_acknowledged, records);
        producer.close_timeout(BOUND).unwrap();
        counted
    }

    fn check(&self, allowed: &Allowed) -> String {
        let rest = self.allocations.saturating_sub(allowed.per_record * self.records);
        let text = format!(
            "{} records, {} batches, {} requests: {} allocations, {:.1} per batch besides {} per record",
            self.records,
            self.batches,
            self.requests,
            self.allocations,
            rest as f64 / self.batches as f64,
            allowed.per_record,
        );
        // So that a bound per batch is one far below any per record.
        assert!(self.batches * 3 * allowed.per_batch < self.records, "small batches: {text}");
        assert!(rest <= allowed.per_batch * self.batches + allowed.besides, "{text}");
        text
    }
}

fn records_cost_no_allocation() -> String {
    let dropped = Counted::run(300_000, |producer, records| {
        for _ in 0..records {
            drop(producer.send(Record::to(TOPIC).value(VALUE)));
        }
    });
    let handles = std::sync::Mutex::new(Vec::with_capacity(300_000));
    let kept = Counted::run(300_000, |producer, records| {
        let mut handles = handles.lock().unwrap();
        handles.clear();
        handles.extend((0..records).map(|_| producer.send(Record::to(TOPIC).value(VALUE))));
        producer.flush_timeout(BOUND).unwrap();
        assert!(handles.iter().all(succeeded));
    });
    format!("handles dropped: {}; kept: {}", dropped.check(&NO_RECORD), kept.check(&NO_RECORD))
}

fn keys_and_headers_cost_what_the_caller_builds() -> String {
    let keys = Counted::run(100_000, |producer, records| {
        for number in 0..records {
            producer.send(Record::to(TOPIC).key(&number.to_be_bytes()[..]).value(VALUE)).detach();
        }
    });
    let headers = Counted::run(100_000, |producer, records| {
        for number in 0..records {
            producer
                .send(Record::to(TOPIC).key(&number.to_be_bytes()[..]).value(VALUE).header("trace", &b"1"[..]))
                .detach();
        }
    });
    // A record's headers are a vector, which the caller's thread builds before `send`.
    format!("key: {}; key and header: {}", keys.check(&NO_RECORD), headers.check(&ONE_A_RECORD))
}

fn callbacks_cost_their_box() -> String {
    let ran = Arc::new(AtomicU64::new(0));
    let counted = Counted::run(200_000, |producer, records| {
        for _ in 0..records {
            let ran = Arc::clone(&ran);
            producer.send_with(Record::to(TOPIC).value(VALUE), move |result| {
                result.unwrap();
                ran.fetch_add(1, Ordering::Relaxed);
            });
        }
    });
    assert_eq!(ran.load(Ordering::Relaxed), 300_000);
    // The batch's vector of callbacks doubles until it holds all of them, and its place in their order is a node or two.
    counted.check(&Allowed { per_batch: 30, ..ONE_A_RECORD })
}

fn a_wait_costs_a_few_allocations() -> String {
    const WAITS: u64 = 5_000;
    const PER_WAIT: u64 = 10;
    let counted = Counted::run(WAITS, |producer, records| {
        for _ in 0..records {
            producer.send(Record::to(TOPIC).value(VALUE)).wait().unwrap();
        }
    });
    let text = format!("{:.2} allocations per send().wait()", counted.allocations as f64 / WAITS as f64);
    assert!(counted.allocations <= PER_WAIT * WAITS + NO_RECORD.besides, "{text}");
    text
}

fn batches_are_read_without_an_allocation() -> String {
    let mut found = String::new();
    for codec in [Compression::None, Compression::Snappy, Compression::Lz4, Compression::gzip()] {
        let mut compressor = Compressor::new(codec);
        let mut share = Vec::new();
        for _ in 0..100 {
            let mut batch = OpenBatch::with_capacity(2 * 1024);
            for _ in 0..10 {
                batch.append(&Record::to(TOPIC).value(VALUE)).unwrap();
            }
            let mut sealed = batch.seal(&mut compressor).unwrap();
            sealed.stamp(0);
            share.extend_from_slice(sealed.bytes());
        }
        let share = Fetched::from(share);
        let mut decompressor = Decompressor::default();
        // Takes the codec's own memory, and the buffer that every batch is decompressed into.
        read_all(&share, &mut decompressor).unwrap();
        let before = allocations();
        assert_eq!(read_all(&share, &mut decompressor).unwrap().0, 1000);
        let allocations = allocations() - before;
        write!(found, "{codec}: 100 batches, {allocations} allocations; ").unwrap();
        assert_eq!(allocations, 0, "{found}");
    }
    found
}

fn many_threads_cost_no_allocation_per_record() -> String {
    let mut texts = String::new();
    for threads in [16_u64, 64] {
        let counted = Counted::run(64 * 4_000, |producer, records| {
            thread::scope(|scope| {
                for _ in 0..threads {
                    scope.spawn(|| {
                        for _ in 0..records / threads {
                            drop(producer.send(Record::to(TOPIC).value(VALUE)));
                        }
                    });
                }
                // What is left over of the division.
                for _ in 0..records % threads {
                    drop(producer.send(Record::to(TOPIC).value(VALUE)));
                }
            });
        });
        // A thread is some allocations, before it sends.
        let allowed = Allowed { besides: NO_RECORD.besides + 10 * threads, ..NO_RECORD };
        write!(texts, "{threads} threads: {}; ", counted.check(&allowed)).unwrap();
    }
    texts
}

// ---- system calls and wake-ups ----------------------------------------------------------------------------------

fn a_request_is_one_system_call_for_many_batches() -> String {
    const FLUSHES: u64 = 50;
    let cluster = Cluster::start("sink");
    let producer = cluster.producer();
    let flush = || {
        for partition in 0..i32::try_from(PARTITIONS).unwrap() {
            drop(producer.send(Record::to(TOPIC).partition(partition).value(VALUE)));
        }
        producer.flush_timeout(BOUND).unwrap();
    };
    for _ in 0..20 {
        flush();
    }
    // Small requests, which the socket takes at once. A flush hurries what is open; if it is interrupted at a bad
    // moment the batches go in two requests, hence the best of some rounds.
    let mut best = f64::INFINITY;
    for _ in 0..8 {
        let (before, writes) = (producer.metrics(), sends());
        for _ in 0..FLUSHES {
            flush();
        }
        let (after, writes) = (producer.metrics(), sends() - writes);
        let requests = after.requests_sent - before.requests_sent;
        let text = format!("{writes} writes for {requests} requests");
        assert_eq!(after.batches_sent - before.batches_sent, FLUSHES * PARTITIONS as u64);
        assert!(requests <= writes, "the writes are not counted: {text}");
        // The metadata may be asked for meanwhile.
        assert!(writes <= requests + 3, "{text}");
        best = best.min(requests as f64 / FLUSHES as f64);
    }
    producer.close_timeout(BOUND).unwrap();
    let text = format!("one write per request, {best:.2} requests per flush of {PARTITIONS} batches");
    assert!(best <= 3.0, "{text}");
    text
}

fn full_speed_needs_few_wake_ups() -> String {
    const RECORDS: u64 = 100_000;
    let cluster = Cluster::start("sink");
    let producer = cluster.producer();
    let load = || {
        for _ in 0..RECORDS {
            drop(producer.send(Record::to(TOPIC).value(VALUE)));
        }
        producer.flush_timeout(BOUND).unwrap();
    };
    load();
    let rounds = (0..4).map(|_| {
        let (before, switches) = (producer.metrics(), switches(OURS));
        load();
        let (after, switches) = (producer.metrics(), self::switches(OURS) - switches);
        (switches, after.requests_sent - before.requests_sent)
    });
    let (switches, requests) = rounds.min().unwrap();
    producer.close_timeout(BOUND).unwrap();
    let text =
        format!("per 1,000 records {} wake-ups, {} requests", per_1000(switches, RECORDS), per_1000(requests, RECORDS));
    assert!(switches <= RECORDS / 100 && requests <= RECORDS / 200, "{text}");
    text
}

fn a_waiting_thread_reads_its_answer_itself() -> String {
    const WAITS: u64 = 50;
    let cluster = Cluster::start("sink");
    let producer = cluster.producer();
    let (mut readers, mut senders) = (Vec::new(), Vec::new());
    for round in 0..31 {
        // Where something else has the processors, an answer may come too late for the thread that waits, and be left
        // to the reader. A pause lets all threads go to sleep again; what is asked for is the rule, not every round.
        thread::sleep(Duration::from_millis(10));
        let (before, reader, sender) = (producer.metrics(), switches("kafka-reader"), switches("kafka-sender"));
        for _ in 0..WAITS {
            producer.send(Record::to(TOPIC).value(VALUE)).wait().unwrap();
        }
        let (reader, sender) = (switches("kafka-reader") - reader, switches("kafka-sender") - sender);
        assert_eq!(producer.metrics().requests_sent - before.requests_sent, WAITS);
        // The first makes the connection.
        if round > 0 {
            readers.push(reader);
            senders.push(sender);
        }
    }
    producer.close_timeout(BOUND).unwrap();
    readers.sort_unstable();
    senders.sort_unstable();
    let text = format!("wake-ups per {WAITS} waits, rounds in order of size: reader {readers:?}, sender {senders:?}");
    assert!(readers[readers.len() / 2] <= WAITS / 4, "{text}");
    // A record may ring for the sender, which finds the batch gone. It is not rung again before that batch was due.
    assert!(senders[senders.len() / 2] <= WAITS / 2, "{text}");
    text
}

fn waiting_threads_share_requests() -> String {
    const THREADS: u64 = 16;
    const WAITS: u64 = 100;
    let cluster = Cluster::start("sink");
    let producer = cluster.producer();
    let load = || {
        thread::scope(|scope| {
            for _ in 0..THREADS {
                scope.spawn(|| {
                    for _ in 0..WAITS {
                        producer.send(Record::to(TOPIC).value(VALUE)).wait().unwrap();
                    }
                });
            }
        });
    };
    load();
    let mut rounds = Vec::new();
    for _ in 0..8 {
        let before = producer.metrics();
        load();
        let after = producer.metrics();
        assert_eq!(after.records_acknowledged - before.records_acknowledged, THREADS * WAITS);
        rounds.push((after.requests_sent - before.requests_sent, after.batches_sent - before.batches_sent));
    }
    producer.close_timeout(BOUND).unwrap();
    let (requests, batches) = *rounds.iter().min().unwrap();
    let text = format!("requests and batches for {} records, by round: {rounds:?}", THREADS * WAITS);
    assert!(requests * 2 <= THREADS * WAITS && batches * 10 <= THREADS * WAITS * 9, "{text}");
    text
}

fn an_idle_producer_sleeps() -> String {
    let cluster = Cluster::start("sink");
    let producer = cluster.producer();
    for _ in 0..10_000 {
        drop(producer.send(Record::to(TOPIC).value(VALUE)));
    }
    producer.flush_timeout(BOUND).unwrap();
    producer.send(Record::to(TOPIC).value(VALUE)).wait().unwrap();
    // What was to be done after the last answer. On a busy machine it may come later, hence some rounds; who wakes by a
    // clock is never quiet.
    thread::sleep(Duration::from_millis(100));
    let mut rounds = Vec::new();
    while rounds.len() < 20 && rounds.last().is_none_or(|woken| *woken > 5) {
        let before = switches(OURS);
        thread::sleep(Duration::from_millis(300));
        rounds.push(switches(OURS) - before);
    }
    producer.close_timeout(BOUND).unwrap();
    let text = format!("wake-ups in 300 ms, by round: {rounds:?}");
    assert!(rounds.last().is_some_and(|woken| *woken <= 5), "{text}");
    text
}

// ---- memory -----------------------------------------------------------------------------------------------------

const BUFFER_MEMORY: usize = 4 << 20;
const HALF: u64 = 2 << 20;
/// What a producer holds besides its buffer memory: the pool's slack, the request that is built, batches' boxes,
/// threads and channels.
const BESIDES: usize = 1 << 20;

/// The most that is held while records are sent.
#[derive(Default)]
struct Peak {
    live: usize,
    used: u64,
}

impl Peak {
    fn look(&mut self, metrics: &ProducerMetrics) {
        assert!(metrics.buffer_bytes_used <= metrics.buffer_bytes_total, "{metrics:?}");
        self.live = self.live.max(live_bytes());
        self.used = self.used.max(metrics.buffer_bytes_used);
    }

    fn check(&self, before: usize) -> String {
        let grown = self.live.saturating_sub(before);
        let text =
            format!("{BUFFER_MEMORY} bytes of buffer memory, {} used at most, the process grew by {grown}", self.used);
        assert!(self.used >= HALF, "the memory never ran out: {text}");
        assert!(grown <= BUFFER_MEMORY + BESIDES, "{text}");
        text
    }
}

fn a_hanging_broker_costs_buffer_memory_at_most() -> String {
    let cluster = Cluster::start("hanging");
    let before = live_bytes();
    let producer = Producer::builder([&cluster.address]).buffer_memory(BUFFER_MEMORY).build().unwrap();
    producer.partitions_for(TOPIC).unwrap();
    let (mut peak, mut accepted, mut refused) = (Peak::default(), 0, 0);
    for number in 0..150_000 {
        // What is refused costs nothing that stays either.
        match producer.try_send(Record::to(TOPIC).value(VALUE)) {
            Ok(delivery) => {
                delivery.detach();
                accepted += 1;
            }
            Err(not_sent) if not_sent.error().kind() == ErrorKind::WouldBlock => refused += 1,
            Err(other) => panic!("{other:?}"),
        }
        if number % 1000 == 0 {
            peak.look(&producer.metrics());
        }
    }
    peak.look(&producer.metrics());
    assert!(accepted > 10_000 && refused > 10_000, "{accepted} records accepted, {refused} refused");
    let undelivered = producer.close_timeout(Duration::ZERO).unwrap_err();
    assert_eq!(undelivered.records(), accepted);
    peak.check(before)
}

fn a_slow_broker_costs_buffer_memory_at_most() -> String {
    const RECORDS: u64 = 100_000;
    let cluster = Cluster::start("slow");
    let before = live_bytes();
    let producer = Producer::builder([&cluster.address]).buffer_memory(BUFFER_MEMORY).build().unwrap();
    let mut peak = Peak::default();
    let mut sent = 0;
    // On a busy machine it may take longer until the broker is behind.
    while sent < RECORDS || (peak.used < HALF && sent < 50 * RECORDS) {
        for _ in 0..500 {
            drop(producer.send(Record::to(TOPIC).value(VALUE)));
        }
        sent += 500;
        peak.look(&producer.metrics());
    }
    producer.flush_timeout(BOUND).unwrap();
    assert_eq!(producer.metrics().records_acknowledged, sent);
    producer.close_timeout(BOUND).unwrap();
    peak.check(before)
}

fn idle_partitions_take_little_memory() -> String {
    /// The partition in the snapshot, its topic-partition, its open place, its queue at the sender, its timers.
    const PER_PARTITION: usize = 2048;
    const BUFFER_MEMORY: usize = 16 << 20;
    let cluster = Cluster::start("wide");
    let producer = Producer::builder([&cluster.address]).buffer_memory(BUFFER_MEMORY).build().unwrap();
    let before = live_bytes();
    assert_eq!(producer.partitions_for(TOPIC).unwrap().len(), WIDE_PARTITIONS);
    let known = live_bytes().saturating_sub(before);
    let round = |flush_after: i32| {
        for partition in 0..i32::try_from(WIDE_PARTITIONS).unwrap() {
            drop(producer.send(Record::to(TOPIC).partition(partition).value(VALUE)));
            if (partition + 1) % flush_after == 0 {
                producer.flush_timeout(BOUND).unwrap();
            }
        }
        let metrics = producer.metrics();
        assert_eq!((metrics.records_failed, metrics.buffer_bytes_used), (0, 0), "{metrics:?}");
        metrics.records_acknowledged
    };
    // Few are open at a time, so the pool holds few buffers.
    assert_eq!(round(200), WIDE_PARTITIONS as u64);
    let idle = live_bytes().saturating_sub(before);
    // All are open at once: afterwards the pool holds a buffer for each, as far as buffer memory goes.
    assert_eq!(round(i32::try_from(WIDE_PARTITIONS).unwrap()), 2 * WIDE_PARTITIONS as u64);
    let pooled = live_bytes().saturating_sub(before);
    assert_eq!(round(i32::try_from(WIDE_PARTITIONS).unwrap()), 3 * WIDE_PARTITIONS as u64);
    let again = live_bytes().saturating_sub(before);
    let metrics = producer.metrics();
    producer.close_timeout(BOUND).unwrap();
    let text = format!(
        "{WIDE_PARTITIONS} partitions: {} bytes per known partition, {} per idle one that had a record; with the pool's buffers after a batch of each at \
         once {}, and once more {}; {} batches in {} requests",
        known / WIDE_PARTITIONS,
        idle / WIDE_PARTITIONS,
        pooled / WIDE_PARTITIONS,
        again / WIDE_PARTITIONS,
        metrics.batches_sent,
        metrics.requests_sent,
    );
    assert!(idle <= PER_PARTITION * WIDE_PARTITIONS, "{text}");
    assert!(pooled.max(again) <= PER_PARTITION * WIDE_PARTITIONS + BUFFER_MEMORY, "{text}");
    text
}

/// What the names of all the producer's threads begin with.
const OURS: &str = "kafka-";

// ---- counting ---------------------------------------------------------------------------------------------------

fn succeeded(handle: &Delivery) -> bool {
    matches!(handle.try_wait(), Some(Ok(_)))
}

fn per_1000(count: u64, of: u64) -> String {
    format!("{:.2}", count as f64 * 1000.0 / of as f64)
}

/// How often this process has allocated or reallocated.
fn allocations() -> u64 {
    let stats = ALLOCATOR.stats();
    (stats.allocations + stats.reallocations) as u64
}

/// The bytes that this process has allocated and not freed.
fn live_bytes() -> usize {
    let stats = ALLOCATOR.stats();
    stats.bytes_allocated - stats.bytes_deallocated
}

/// How often the threads whose names begin so have let a processor go, of their own will or not: a thread that sleeps does
/// neither. The second kind is counted because a thread that was woken yields for a while before it sleeps again.
fn switches(threads: &str) -> u64 {
    let all = std::fs::read_dir("/proc/self/task").unwrap();
    all.map(|thread| switches_of(threads, &thread.unwrap().path()).unwrap_or(0)).sum()
}

/// `None` for a thread with another name, and for one that has just ended.
fn switches_of(name: &str, thread: &std::path::Path) -> Option<u64> {
    let status = std::fs::read_to_string(thread.join("status")).ok()?;
    let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if !field("Name:")?.starts_with(name) {
        return None;
    }
    let count = |name| field(name)?.parse::<u64>().ok();
    Some(count("voluntary_ctxt_switches:")? + count("nonvoluntary_ctxt_switches:")?)
}

// ---- the cluster ------------------------------------------------------------------------------------------------

/// A process with a fake cluster that acknowledges and keeps nothing; it ends with this one.
struct Cluster {
    process: Child,
    address: String,
}

impl Cluster {
    fn start(kind: &str) -> Self {
        let mut process = Command::new(std::env::current_exe().unwrap())
            .args(["--cluster", kind])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut address = String::new();
        BufReader::new(process.stdout.take().unwrap()).read_line(&mut address).unwrap();
        Self { process, address: address.trim().to_owned() }
    }

    fn producer(&self) -> Producer {
        Producer::builder([&self.address]).build().unwrap()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        drop(self.process.wait());
    }
}

/// The other process.
fn serve(kind: &str) {
    let partitions = if kind == "wide" { WIDE_PARTITIONS } else { PARTITIONS };
    let cluster = FakeCluster::builder().topic(TOPIC, partitions).sink().start().unwrap();
    match kind {
        "hanging" => drop(cluster.inject(On::produce().always(), Fault::Hang)),
        "slow" => drop(cluster.inject(On::produce().always(), Fault::Delay(Duration::from_millis(20)))),
        _ => {}
    }
    println!("{}", cluster.bootstrap().join(","));
    // The end of standard input is the end of the process that wanted the cluster.
    drop(std::io::stdin().read_to_end(&mut Vec::new()));
}
